//! The daemon as a whole: sockets, start, end.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use overside_config::{Home, RunnersFile};
use overside_control::Command;
use overside_io::local::{BindError, Listener};
use overside_model::{
    Answer, ErrorCode, Hop, KeepOrder, MountDecision, Problem, Question, RunnerEntry, RunnerStatus, SessionQuery,
    State, Status, UsageDays, UsageReport, UsageSessions, Work, settings::TABLE,
};
use overside_runner::{MakeProvider, Provider, Suggest};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    effects,
    gate::{Doorkeeper, enter},
    hub::Hub,
    keep,
    runners::Runners,
};

/// What a daemon is made of.
pub struct Wiring {
    /// Its directories. The caller holds the lock on them.
    pub home: Home,
    /// The runners of this machine, which are always there.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Makes the providers of runners that are added.
    pub make_provider: MakeProvider,
    /// Addresses that a person may want to add.
    pub suggest: Suggest,
    /// The organisation's policy, which need not exist.
    pub policy: PathBuf,
}

/// A daemon that listens on its sockets.
pub struct Daemon {
    hub: Arc<Hub>,
    shutdown: CancellationToken,
    docker: Listener,
    control: Listener,
}

impl Daemon {
    /// Binds the sockets, takes over what an earlier daemon left or removes it, and turns on if the settings say so.
    ///
    /// # Errors
    /// [`ErrorCode::SocketPath`] and others where a socket cannot be bound. An unusable settings file is no error: the daemon
    /// then runs, and tells everybody.
    pub async fn start(wiring: Wiring) -> Result<Self, Problem> {
        let control = bind(&wiring.home.control_socket())?;
        let docker = bind(&wiring.home.docker_socket())?;
        let identity = wiring.home.identity()?;
        let runners_file = RunnersFile::new(wiring.home.runners_file());
        let runners = Runners::new(runners_file, wiring.providers, wiring.make_provider, wiring.suggest);
        let hub = Hub::new(wiring.home, identity, runners, wiring.policy);
        hub.expect_facts().await;
        hub.begin();
        take_over(&hub).await;
        Ok(Self { hub, shutdown: CancellationToken::new(), docker, control })
    }

    /// Ends the daemon when cancelled, as [`Command::Shutdown`] does; the environment is deleted first.
    pub fn stopper(&self) -> Stopper {
        Stopper { hub: self.hub.clone(), shutdown: self.shutdown.clone() }
    }

    /// Serves until it is shut down.
    pub async fn run(self) {
        let Self { hub, shutdown, docker, control } = self;
        let deadlines = tokio::spawn(hub.clone().keep_deadlines());
        let gate = Arc::new(Doorkeeper { hub: hub.clone(), last_answers: Arc::default() });
        let controlled = Arc::new(Stopper { hub, shutdown: shutdown.clone() });
        tokio::join!(
            overside_proxy::serve(docker, gate, shutdown.clone()),
            overside_control::serve(control, controlled, shutdown),
        );
        deadlines.abort();
    }
}

/// The daemon as the control API and signals see it.
#[derive(Clone)]
pub struct Stopper {
    hub: Arc<Hub>,
    shutdown: CancellationToken,
}

impl Stopper {
    /// Deletes the environment, restores the Docker context and ends the daemon.
    pub async fn stop(&self) {
        // It stays turned on in the settings: the user did not turn it off.
        if let Err(problem) = self.hub.disable(true) {
            tracing::warn!(%problem, "cannot turn off");
        }
        self.until(|state| state == State::Stopped).await;
        self.shutdown.cancel();
    }

    async fn until(&self, reached: impl Fn(State) -> bool) {
        // The sender lives as long as `hub`.
        let _ = self.hub.status().wait_for(|status| reached(status.state)).await;
    }
}

#[async_trait]
impl overside_control::Daemon for Stopper {
    fn status(&self) -> watch::Receiver<Status> {
        self.hub.status()
    }

    fn status_now(&self) -> Status {
        self.hub.status_now()
    }

    async fn command(&self, command: Command) -> Result<(), Problem> {
        match command {
            Command::Enable => self.hub.enable(),
            Command::Disable { force } => {
                let work = if force { Vec::new() } else { self.hub.work().await };
                if !work.is_empty() {
                    return Err(lost(&work));
                }
                if force {
                    self.hub.give_up_files(true);
                } else if let Some(environment) = self.hub.environment() {
                    environment.bring_back().await.map_err(unforced)?;
                }
                let result = self.hub.disable(false);
                self.until(|state| state == State::Stopped).await;
                result
            }
            Command::TakeOver => {
                self.hub.take_over_next()?;
                // After a failure this starts at once: somebody asks.
                self.hub.enable()?;
                enter(&self.hub, "call", "overside start --take-over").await.map(drop)
            }
            Command::Idle => {
                // So that the status names it as soon as this returns.
                if let Some(environment) = self.hub.environment() {
                    let work = self.hub.work().await;
                    self.hub.handle_work(&environment.id, work);
                }
                self.hub.idle_now()?;
                self.until(|state| state != State::Running).await;
                Ok(())
            }
            Command::Resume => {
                self.hub.resume()?;
                self.until(|state| state != State::Suspended).await;
                Ok(())
            }
            Command::Later => {
                self.hub.later();
                Ok(())
            }
            Command::Retry => {
                self.hub.retry();
                Ok(())
            }
            Command::Shutdown => {
                self.stop().await;
                Ok(())
            }
        }
    }

    fn runners(&self) -> Vec<RunnerStatus> {
        self.hub.runners()
    }

    async fn test_runner(&self, name: &str) -> Result<Vec<Hop>, Problem> {
        Ok(self.hub.runners.get(name)?.test().await)
    }

    fn addresses(&self) -> Vec<String> {
        self.hub.runners.suggestions()
    }

    fn add_runner(&self, entry: RunnerEntry) -> Result<(), Problem> {
        self.hub.runners.add(entry)
    }

    async fn remove_runner(&self, name: &str) -> Result<Option<Problem>, Problem> {
        let provider = self.hub.remove_runner(name)?;
        // A runner that is out of reach is forgotten all the same.
        Ok(provider.forget().await.err())
    }

    async fn runner_question(&self, name: &str) -> Result<Option<Question>, Problem> {
        self.hub.runners.get(name)?.question().await
    }

    async fn answer_runner(&self, name: &str, answer: Answer) -> Result<Option<Problem>, Problem> {
        self.hub.runners.get(name)?.answer(answer).await
    }

    fn usage(&self) -> Result<UsageReport, Problem> {
        self.hub.usage()
    }

    fn usage_days(&self, days: u32) -> Result<UsageDays, Problem> {
        self.hub.usage_days(days)
    }

    fn usage_sessions(&self, query: &SessionQuery) -> Result<UsageSessions, Problem> {
        self.hub.usage_sessions(query)
    }

    fn usage_csv(&self) -> Result<String, Problem> {
        self.hub.usage_csv()
    }

    async fn keep(&self, order: KeepOrder) -> Result<Vec<Work>, Problem> {
        if self.hub.environment().is_none() {
            return Err(Problem::new(
                ErrorCode::KeepFailed,
                "there is no environment, and nothing to keep",
                "An environment is made by the first docker command.",
            ));
        }
        let (_under_way, environment) = enter(&self.hub, "call", "overside keep").await?;
        let kept = keep::keep(&environment.link, &order).await?;
        self.hub.handle_kept(&environment.id, &kept);
        Ok(kept)
    }

    async fn restore(&self, file: &str) -> Result<Vec<Work>, Problem> {
        let (_under_way, environment) = enter(&self.hub, "call", "overside restore").await?;
        keep::restore(&environment.link, file).await
    }

    fn decide_mount(&self, decision: MountDecision) -> Result<(), Problem> {
        let none = || Problem::new(ErrorCode::UnknownName, "there is no environment, and nothing is mounted", "");
        self.hub.environment().ok_or_else(none)?.files().decide(&decision)
    }

    fn settings(&self) -> Map<String, Value> {
        TABLE
            .iter()
            .map(|setting| {
                let (value, source, rule) = self.hub.setting(setting.name);
                let entry = json!({
                    "value": value,
                    "source": source.name(),
                    "rule": rule,
                    "expected": setting.expected,
                    "purpose": setting.purpose,
                });
                (setting.name.to_owned(), entry)
            })
            .collect()
    }

    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        self.hub.set_setting(name, &value)?;
        if let Some(environment) = self.hub.environment() {
            environment.containers.apply(&self.hub.settings()).await;
        }
        Ok(())
    }
}

/// With the way to stop all the same.
fn unforced(problem: Problem) -> Problem {
    let hint = format!("{} `overside stop -f` gives them up.", problem.hint);
    Problem { hint, ..problem }
}

/// Longest list in one sentence.
const NAMED: usize = 8;

/// That this work would be lost.
fn lost(work: &[Work]) -> Problem {
    let mut named: Vec<String> =
        work.iter().take(NAMED).map(|work| format!("{} {}", work.kind.name(), work.name)).collect();
    if work.len() > NAMED {
        named.push(format!("{} more", work.len() - NAMED));
    }
    Problem::new(
        ErrorCode::WorkWouldBeLost,
        format!("this would be lost with the environment: {}", named.join(", ")),
        "Save it with `overside keep`, or go on with `overside stop -f`.",
    )
    .about(work.to_vec())
}

fn bind(path: &std::path::Path) -> Result<Listener, Problem> {
    Listener::bind(path).map_err(|error| {
        let (code, hint) = match &error {
            BindError::PathTooLong { .. } => {
                (ErrorCode::SocketPath, "Set OVERSIDE_HOME to a directory with a shorter path.")
            }
            BindError::InUse { .. } => (ErrorCode::AlreadyRunning, "End the program that uses it first."),
            BindError::NotASocket { .. } => (ErrorCode::SocketPath, "Move that file away, then start again."),
            BindError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                (ErrorCode::DiskFull, "Make room on the disk, then start again.")
            }
            BindError::Io { .. } => (ErrorCode::SocketPath, "Check the directory's permissions, then start again."),
        };
        Problem::new(code, error.to_string(), hint)
    })
}

/// Adopts the environment of an earlier daemon if it still lives and Overside is turned on; removes every other.
async fn take_over(hub: &Arc<Hub>) {
    let mut adopted = None;
    if let Some((record, credentials)) = hub.record_file.load() {
        let provider = hub.runners.get(&record.runner).ok();
        let enabled = hub.status_now().state != State::Stopped;
        if let Some(provider) = provider.filter(|_| enabled) {
            match effects::adopt(hub, provider, &record, credentials).await {
                Ok(environment) => {
                    tracing::info!(environment = %record.environment, "adopted the environment of an earlier daemon");
                    adopted = Some(record.environment.clone());
                    hub.handle_adopted(record, environment);
                }
                Err(problem) => tracing::info!(%problem, "the environment of an earlier daemon is gone"),
            }
        }
    }
    // Other runners are looked at when they are used again: a daemon that starts reaches out to nobody.
    for provider in hub.runners.fixed() {
        effects::sweep(hub.clone(), provider, adopted.clone()).await;
    }
    if adopted.is_none()
        && let Err(problem) = hub.record_file.remove()
    {
        tracing::warn!(%problem, "an old session's state cannot be removed");
    }
}
