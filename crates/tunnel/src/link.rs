//! A connection that is kept: made again with backoff when it breaks, until that has become pointless.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use overside_io::{BoxedStream, Paced, clock};
use overside_model::{ErrorCode, Moment, Problem, Protocol, Publication, agent::Operation};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Connection, Credentials, TunnelError, operations::PeerNews};

/// First pause before connecting again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause: a network that is back is used within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Opens a byte stream to the environment's agent.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens one.
    ///
    /// # Errors
    /// [`ErrorCode::EnvironmentLost`] where the environment is known to be gone, so that trying again is pointless; any
    /// other where it may only be out of reach.
    async fn dial(&self) -> Result<BoxedStream, Problem>;

    /// Who serves the connections of containers to this machine; nobody, unless this says otherwise.
    fn laptop(&self) -> Option<Arc<dyn Laptop>> {
        None
    }
}

/// This machine, as containers reach it.
pub trait Laptop: Send + Sync + 'static {
    /// A container has connected to a port, or sent datagrams to it ([`overside_io::datagrams`]). Must not block; dropping
    /// the stream resets the connection, or ends the flow.
    fn connected(&self, protocol: Protocol, port: u16, stream: Paced);
}

/// How the link stands.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// Connected.
    Up(Connection),
    /// Broken; being made again.
    Down {
        /// The last attempt's failure.
        problem: Problem,
        /// Since when.
        since: Moment,
    },
    /// The environment is gone, or cannot be trusted. Final.
    Gone(Problem),
}

/// A kept connection. Dropping it ends the connection.
#[derive(Debug)]
pub struct Link {
    state: watch::Receiver<LinkState>,
    _stop: DropGuard,
}

impl Link {
    /// Connects for the first time, and keeps the connection from then on. After `patience` without contact the environment
    /// is taken for gone: its lease has ended then.
    ///
    /// # Errors
    /// The first attempt's problem.
    pub async fn establish(
        dial: Arc<dyn Dial>,
        credentials: Credentials,
        host_key: String,
        patience: watch::Receiver<Duration>,
    ) -> Result<Self, Problem> {
        let connection = connect(&*dial, &credentials, &host_key).await?;
        let (sender, state) = watch::channel(LinkState::Up(connection.clone()));
        let stop = CancellationToken::new();
        let keeper = Keeper { dial, credentials, host_key, patience, state: sender };
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = keeper.keep(connection) => {}
            }
            let last = keeper.state.borrow().clone();
            if let LinkState::Up(connection) = last {
                connection.close().await;
            }
        });
        Ok(Self { state, _stop: stop.drop_guard() })
    }

    /// The state as it changes.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// A stream to the engine. While the link is down this waits for it to come back.
    ///
    /// # Errors
    /// The reason for which the environment is gone.
    pub async fn open_engine(&self) -> Result<Paced, Problem> {
        self.open_by(|connection| async move { connection.open_engine().await }).await
    }

    /// A stream to a port in the environment's network, as [`Connection::open_port`]. While the link is down this waits for
    /// it to come back.
    ///
    /// # Errors
    /// The reason for which the environment is gone.
    pub async fn open_port(&self, publication: Publication) -> Result<Paced, Problem> {
        self.open_by(|connection| async move { connection.open_port(publication).await }).await
    }

    /// A stream to another path that the agent knows, as [`Connection::open`]. While the link is down this waits for it to
    /// come back.
    ///
    /// # Errors
    /// The reason for which the environment is gone.
    pub async fn open(&self, path: &'static str) -> Result<Paced, Problem> {
        self.open_by(|connection| async move { connection.open(path).await }).await
    }

    async fn open_by<F>(&self, open: impl Fn(Connection) -> F) -> Result<Paced, Problem>
    where
        F: Future<Output = Result<Paced, TunnelError>>,
    {
        loop {
            let connection = self.connection().await?;
            match open(connection.clone()).await {
                Ok(stream) => return Ok(stream),
                // It broke under our hands, and the keeper is about to say so.
                Err(TunnelError::Broken(_)) if connection.is_ended() => connection.ended().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Has the agent carry out an operation. Not repeated when the connection breaks under way, since it may have been
    /// carried out.
    ///
    /// # Errors
    /// The agent's reason, or [`ErrorCode::TunnelLost`].
    pub async fn operate(&self, operation: Operation) -> Result<(), Problem> {
        Ok(self.connection().await?.operate(operation).await?)
    }

    async fn connection(&self) -> Result<Connection, Problem> {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|state| match state {
                LinkState::Up(connection) => !connection.is_ended(),
                LinkState::Down { .. } => false,
                LinkState::Gone(_) => true,
            })
            .await;
        match settled.as_deref() {
            Ok(LinkState::Up(connection)) => Ok(connection.clone()),
            Ok(LinkState::Gone(problem)) => Err(problem.clone()),
            Ok(LinkState::Down { problem, .. }) => Err(problem.clone()),
            Err(_) => Err(Problem::new(ErrorCode::TunnelLost, "the tunnel was closed", "")),
        }
    }
}

struct Keeper {
    dial: Arc<dyn Dial>,
    credentials: Credentials,
    host_key: String,
    patience: watch::Receiver<Duration>,
    state: watch::Sender<LinkState>,
}

impl Keeper {
    /// Returns once the environment is gone.
    async fn keep(&self, mut connection: Connection) {
        loop {
            let mut news = connection.news();
            tokio::select! {
                () = connection.ended() => {}
                // The channel of news ends with the connection, which the other branch is about to see.
                Ok(gone) = async { news.wait_for(Option::is_some).await.map(|news| news.clone()) } => {
                    match gone {
                        Some(PeerNews::EngineEnded { detail }) => return self.gone(Problem::new(
                            ErrorCode::EnvironmentLost,
                            format!("the engine ended by itself: {detail}"),
                            "The next docker command gets a new environment.",
                        )),
                        Some(PeerNews::TakenOver { computer }) => return self.gone(taken_over(&computer)),
                        None => {}
                    }
                }
            }
            tracing::info!("the tunnel broke; connecting again");
            match self.reconnect().await {
                Some(again) => connection = again,
                None => return,
            }
        }
    }

    async fn reconnect(&self) -> Option<Connection> {
        let since = clock::now();
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build();
        let lost = Problem::new(
            ErrorCode::TunnelLost,
            "the connection to the environment broke",
            "Overside is connecting again.",
        );
        self.state.send_replace(LinkState::Down { problem: lost, since });
        for pause in std::iter::once(Duration::ZERO).chain(pauses) {
            clock::sleep_until(clock::now() + pause).await;
            let problem = match connect(&*self.dial, &self.credentials, &self.host_key).await {
                Ok(connection) => {
                    tracing::info!(after = ?clock::now().since(since), "the tunnel is back");
                    self.state.send_replace(LinkState::Up(connection.clone()));
                    return Some(connection);
                }
                // The agent lets one key in, and only taking over makes it another one.
                Err(problem) if problem.code == ErrorCode::LoginRefused => taken_over("another computer"),
                Err(problem) => problem,
            };
            let hopeless = matches!(
                problem.code,
                ErrorCode::EnvironmentLost | ErrorCode::HostKeyMismatch | ErrorCode::SessionElsewhere
            );
            if hopeless {
                self.gone(problem);
                return None;
            }
            let patience = *self.patience.borrow();
            if clock::now().since(since) > patience {
                self.gone(Problem::new(
                    ErrorCode::EnvironmentLost,
                    format!(
                        "the environment was out of reach for longer than its lease of {} s: {problem}",
                        patience.as_secs()
                    ),
                    "The next docker command gets a new environment.",
                ));
                return None;
            }
            self.state.send_replace(LinkState::Down { problem, since });
        }
        None
    }

    fn gone(&self, problem: Problem) {
        tracing::warn!(code = ?problem.code, "the environment is gone: {problem}");
        self.state.send_replace(LinkState::Gone(problem));
    }
}

/// That the session is not ours any more. The name comes from the other computer by way of the runner: it is text, and short.
fn taken_over(computer: &str) -> Problem {
    let name: String = computer.chars().filter(|c| !c.is_control()).take(64).collect();
    Problem::new(
        ErrorCode::SessionElsewhere,
        format!("your session was taken over by {name} and goes on there"),
        "Bring it back with `overside start --take-over`.",
    )
}

async fn connect(dial: &dyn Dial, credentials: &Credentials, host_key: &str) -> Result<Connection, Problem> {
    let stream = dial.dial().await?;
    Ok(Connection::establish(stream, credentials, host_key, dial.laptop()).await?)
}
