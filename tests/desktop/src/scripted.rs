//! A daemon that is whatever a test says: for states that the real one reaches only with an engine, or never in a test.
//! Everything but the session behind it is real: the control API is the daemon's own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_control::{Command, Daemon, serve};
use overside_io::local::Listener;
use overside_model::{
    Answer, ErrorCode, Hop, HostKey, KeepOrder, Problem, Question, RunnerEntry, RunnerStatus, Settings, State, Status,
    Work, WorkKind,
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Desk, SOON};

/// Serves a desktop's control socket until it is dropped.
pub struct Scripted {
    script: Arc<Script>,
    end: CancellationToken,
    server: Option<thread::JoinHandle<()>>,
}

struct Script {
    status: watch::Sender<Status>,
    settings: Mutex<Settings>,
    /// What the organisation's policy locks.
    locked: Mutex<Vec<&'static str>>,
    /// The commands, in their order.
    asked: Mutex<Vec<Command>>,
    /// The runners that were added.
    added: Mutex<Vec<RunnerEntry>>,
    /// What the host of each of them still wants to know, the next one last.
    questions: Mutex<Vec<Question>>,
}

impl Scripted {
    /// A daemon with a status.
    ///
    /// # Errors
    /// The desktop has a daemon already.
    pub fn start(desk: &Desk, status: Status) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = desk.home().control_socket();
        let listener = runtime.block_on(async { Listener::bind(&socket) }).context("cannot be the daemon")?;
        let script = Arc::new(Script {
            status: watch::Sender::new(Status::quiet(State::Stopped)),
            settings: Mutex::default(),
            locked: Mutex::default(),
            asked: Mutex::default(),
            added: Mutex::default(),
            questions: Mutex::new(vec![
                Question::Passphrase { key: "/home/ada/.ssh/id_ed25519".to_owned() },
                Question::HostKey(build_box()),
            ]),
        });
        script.tell(status);
        let end = CancellationToken::new();
        let (served, ended) = (script.clone(), end.clone());
        let server = thread::spawn(move || runtime.block_on(serve(listener, served, ended)));
        Ok(Self { script, end, server: Some(server) })
    }

    /// Locks a setting, as an organisation's policy does.
    ///
    /// # Errors
    /// There is no such setting, or it cannot have that value.
    pub fn lock(&self, name: &'static str, value: &Value) -> Result<()> {
        held(&self.script.settings).set(name, value)?;
        held(&self.script.locked).push(name);
        Ok(())
    }

    /// The commands so far, in their order.
    pub fn asked(&self) -> Vec<Command> {
        held(&self.script.asked).clone()
    }

    /// Waits until these are the commands so far.
    ///
    /// # Errors
    /// They are others.
    pub fn wait_until_asked(&self, commands: &[Command]) -> Result<()> {
        until(|| self.asked() == commands).with_context(|| format!("asked for {:?}, not {commands:?}", self.asked()))
    }

    /// Waits until so many shells follow its status.
    ///
    /// # Errors
    /// They do not come.
    pub fn wait_for_followers(&self, count: usize) -> Result<()> {
        until(|| self.script.status.receiver_count() >= count).context("nobody follows")
    }

    /// A setting's present value.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn setting(&self, name: &str) -> Result<Value> {
        Ok(held(&self.script.settings).get(name)?)
    }

    /// Shows another status.
    pub fn show(&self, status: Status) {
        self.script.tell(status);
    }
}

impl Script {
    /// With a socket where a user's is.
    fn tell(&self, status: Status) {
        self.status.send_replace(Status { socket: "/run/user/1000/overside/docker.sock".to_owned(), ..status });
    }
}

fn until(holds: impl Fn() -> bool) -> Option<()> {
    let deadline = Instant::now() + SOON;
    while !holds() {
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Some(())
}

fn build_box() -> HostKey {
    HostKey {
        host: "build-box".to_owned(),
        algorithm: "ssh-ed25519".to_owned(),
        fingerprint: "SHA256:uNiVztksCsDhcc0u9e8BrCr9uQ3r1mB1XbfY1hVq5dE".to_owned(),
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(server) = self.server.take() {
            // A server that panicked has told so.
            let _ = server.join();
        }
    }
}

#[async_trait::async_trait]
impl Daemon for Script {
    fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Refuses to turn off what runs, as long as nobody insists.
    async fn command(&self, command: Command) -> Result<(), Problem> {
        held(&self.asked).push(command);
        let state = match command {
            Command::Disable { force: false } if self.status.borrow().state == State::Running => {
                return Err(Problem::new(
                    ErrorCode::RequestRefused,
                    "1 container is running and would be deleted: web",
                    "Stop it first, or turn off anyway.",
                ));
            }
            Command::Disable { .. } | Command::Shutdown => State::Stopped,
            Command::Enable => State::Idle,
            Command::Retry => State::Starting,
            Command::Resume | Command::TakeOver => State::Running,
            Command::Idle => {
                let status = Status { grace_remaining_seconds: Some(300), ..Status::quiet(State::Suspended) };
                self.tell(status);
                return Ok(());
            }
            Command::Later => {
                self.status.send_modify(|status| status.prompt = None);
                return Ok(());
            }
        };
        self.tell(Status::quiet(state));
        Ok(())
    }

    fn settings(&self) -> Map<String, Value> {
        let (settings, locked) = (held(&self.settings).clone(), held(&self.locked).clone());
        let entry = |setting: &overside_model::settings::Setting| {
            let name = setting.name;
            let locked = locked.contains(&name);
            let rule = locked.then(|| format!("your organisation's policy (/etc/overside/policy.json) sets {name}"));
            let entry = json!({
                "value": settings.get(name).unwrap_or_default(),
                "source": if locked { "locked" } else { "default" },
                "rule": rule,
                "expected": setting.expected,
                "purpose": setting.purpose,
            });
            (name.to_owned(), entry)
        };
        overside_model::settings::TABLE.iter().map(entry).collect()
    }

    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        Ok(held(&self.settings).set(name, &value)?)
    }

    fn runners(&self) -> Vec<RunnerStatus> {
        let chosen = held(&self.settings).runner.clone();
        let runner = |name: &str, provider: &str, address: Option<&str>| RunnerStatus {
            name: name.to_owned(),
            provider: provider.to_owned(),
            address: address.map(str::to_owned),
            selected: name == chosen,
            removable: address.is_some(),
        };
        let added = held(&self.added);
        let added = added.iter().map(|entry| runner(&entry.name, "ssh", Some(&entry.address)));
        let there = [runner("local", "local", None), runner("office", "ssh", Some("ssh://ada@office"))];
        there.into_iter().chain(added).collect()
    }

    fn addresses(&self) -> Vec<String> {
        ["ssh://build-box", "ssh://farm"].map(str::to_owned).to_vec()
    }

    fn add_runner(&self, entry: RunnerEntry) -> Result<(), Problem> {
        held(&self.added).push(entry);
        Ok(())
    }

    async fn remove_runner(&self, name: &str) -> Result<Option<Problem>, Problem> {
        held(&self.added).retain(|entry| entry.name != name);
        Ok(None)
    }

    async fn runner_question(&self, name: &str) -> Result<Option<Question>, Problem> {
        let added = held(&self.added).iter().any(|entry| entry.name == name);
        Ok(held(&self.questions).last().filter(|_| added).cloned())
    }

    /// Takes any answer to what was asked; the only passphrase that opens the key is "sesame", and there is no keyring for it.
    async fn answer_runner(&self, _name: &str, answer: Answer) -> Result<Option<Problem>, Problem> {
        match answer {
            Answer::Passphrase { passphrase, .. } if passphrase != "sesame" => {
                Err(Problem::new(ErrorCode::KeyLocked, "this passphrase does not open the key", ""))
            }
            answer => {
                held(&self.questions).pop();
                let is_to_be_kept = matches!(answer, Answer::Passphrase { remember: true, .. });
                Ok(is_to_be_kept.then(|| {
                    Problem::new(
                        ErrorCode::KeyringUnavailable,
                        "this desktop has no Secret Service: the passphrase is not kept",
                        "Add the key to your SSH agent with `ssh-add`.",
                    )
                }))
            }
        }
    }

    /// The one that is here and those that were added work, any other is not reached.
    async fn test_runner(&self, name: &str) -> Result<Vec<Hop>, Problem> {
        if name == "local" || held(&self.added).iter().any(|entry| entry.name == name) {
            return Ok(vec![Hop::passed("engine", "Docker 28.5")]);
        }
        Ok(vec![
            Hop::passed("dns", "192.0.2.7"),
            Hop::failed(
                "tcp",
                Problem::new(
                    ErrorCode::RunnerUnreachable,
                    "192.0.2.7 refuses connections on port 22",
                    "Start the SSH server there.",
                ),
            ),
            Hop::skipped("login", ""),
        ])
    }

    async fn keep(&self, order: KeepOrder) -> Result<Vec<Work>, Problem> {
        let kept = Work { kind: WorkKind::Volume, name: "data".to_owned(), kept_in: Some(order.file) };
        self.status.send_modify(|status| status.at_risk = vec![kept.clone()]);
        Ok(vec![kept])
    }
}
