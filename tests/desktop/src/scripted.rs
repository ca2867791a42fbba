//! A daemon that is whatever a test says: for states that the real one reaches only with an engine, or never in a test.
//! Everything but the session behind it is real: the control API is the daemon's own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use overside_control::{Command, Daemon, serve};
use overside_io::local::Listener;
use overside_model::{ErrorCode, Problem, Settings, State, Status, Usage};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Desk;

/// Serves a desktop's control socket until it is dropped.
pub struct Scripted {
    status: watch::Sender<Status>,
    end: CancellationToken,
    server: Option<thread::JoinHandle<()>>,
}

struct Script {
    status: watch::Sender<Status>,
    settings: Mutex<Settings>,
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
        let (status, end) = (watch::Sender::new(status), CancellationToken::new());
        let script = Arc::new(Script { status: status.clone(), settings: Mutex::new(Settings::default()) });
        let ended = end.clone();
        let server = thread::spawn(move || runtime.block_on(serve(listener, script, ended)));
        Ok(Self { status, end, server: Some(server) })
    }

    /// Shows another status.
    pub fn show(&self, status: Status) {
        self.status.send_replace(status);
    }
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
            Command::Idle | Command::Later => return Ok(()),
        };
        self.status.send_replace(quiet(state));
        Ok(())
    }

    fn settings(&self) -> Map<String, Value> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        overside_model::settings::TABLE
            .iter()
            .map(|setting| {
                let value = settings.get(setting.name).unwrap_or_default();
                (
                    setting.name.to_owned(),
                    json!({"value": value, "expected": setting.expected, "purpose": setting.purpose}),
                )
            })
            .collect()
    }

    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        Ok(self.settings.lock().unwrap_or_else(PoisonError::into_inner).set(name, &value)?)
    }
}

/// A status with nothing but a state.
pub fn quiet(state: State) -> Status {
    Status {
        state,
        runner: "local".to_owned(),
        socket: "/run/user/1000/overside/docker.sock".to_owned(),
        session: None,
        progress: None,
        awake_because: Vec::new(),
        ignored_pollers: Vec::new(),
        idle_in_seconds: None,
        grace_remaining_seconds: None,
        prompt: None,
        usage: Usage { today_seconds: 0, limit_seconds: 8 * 3600 },
        ports: Vec::new(),
        mounts: Vec::new(),
        error: None,
    }
}
