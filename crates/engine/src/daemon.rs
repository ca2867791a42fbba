//! The daemon as a whole: sockets, start, end.

use std::sync::Arc;

use async_trait::async_trait;
use overside_config::Home;
use overside_control::Command;
use overside_io::local::{BindError, Listener};
use overside_model::{ErrorCode, Problem, State, Status, settings::TABLE};
use overside_runner::Provider;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{effects, gate::Doorkeeper, hub::Hub};

/// What a daemon is made of.
pub struct Wiring {
    /// Its directories. The caller holds the lock on them.
    pub home: Home,
    /// The runners that settings can name.
    pub providers: Vec<Arc<dyn Provider>>,
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
        let hub = Hub::new(wiring.home, wiring.providers);
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
        let gate = Arc::new(Doorkeeper(hub.clone()));
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
            Command::Disable { .. } => {
                let result = self.hub.disable(false);
                self.until(|state| state == State::Stopped).await;
                result
            }
            Command::Idle => {
                self.hub.idle_now()?;
                self.until(|state| state != State::Running).await;
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

    fn settings(&self) -> Map<String, Value> {
        let settings = self.hub.settings();
        let entry = |name: &str| settings.get(name).unwrap_or(Value::Null);
        TABLE
            .iter()
            .map(|setting| {
                let value =
                    json!({ "value": entry(setting.name), "expected": setting.expected, "purpose": setting.purpose });
                (setting.name.to_owned(), value)
            })
            .collect()
    }

    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        self.hub.set_setting(name, &value)
    }
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
        let provider = hub.providers.get(&record.runner).cloned();
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
    for provider in hub.providers.values() {
        let orphans = match provider.list().await {
            Ok(ids) => ids.into_iter().filter(|id| Some(id) != adopted.as_ref()),
            Err(problem) => {
                tracing::warn!(%problem, runner = provider.name(), "cannot look for orphans");
                continue;
            }
        };
        for id in orphans {
            tracing::info!(environment = %id, runner = provider.name(), "removing an orphan");
            if let Err(problem) = provider.destroy(&id).await {
                tracing::warn!(%problem, environment = %id, "an orphan cannot be removed");
            }
        }
    }
    if adopted.is_none()
        && let Err(problem) = hub.record_file.remove()
    {
        tracing::warn!(%problem, "an old session's state cannot be removed");
    }
}
