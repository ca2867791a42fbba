//! The environment of the session while it is connected.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use overside_io::BoxedStream;
use overside_model::{EnvironmentId, ErrorCode, Problem};
use overside_runner::Provider;
use overside_tunnel::{Credentials, Laptop, Link, LinkState};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    containers::{self, Containers},
    docker::Lines,
    hub::Hub,
    laptop::Here,
    listeners,
    mounts::Files,
    roots::Roots,
};

/// Events after which other containers run, or have other names or ports, and of those and of volumes that are gone:
/// `{"type":["container","network","volume"],"event":["start","die","rename","connect","disconnect","destroy"]}`.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%2C%22volume%22%5D%2C%22event%22\
    %3A%5B%22start%22%2C%22die%22%2C%22rename%22%2C%22connect%22%2C%22disconnect%22%2C%22destroy%22%5D%7D";

/// A connected environment. Its watchers end with it.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) id: EnvironmentId,
    pub(crate) link: Link,
    pub(crate) containers: Containers,
    /// All that containers wrote is on this machine, and they have not moved since.
    pub(crate) saved: AtomicBool,
    _watchers: DropGuard,
    stop: CancellationToken,
}

/// Streams to the agent come from the provider.
struct Streams {
    hub: Weak<Hub>,
    provider: Arc<dyn Provider>,
    id: EnvironmentId,
}

#[async_trait]
impl overside_tunnel::Dial for Streams {
    async fn dial(&self) -> Result<BoxedStream, Problem> {
        self.provider.open(&self.id).await
    }

    fn laptop(&self) -> Option<Arc<dyn Laptop>> {
        Some(Arc::new(Here::new(self.hub.clone())))
    }
}

impl Environment {
    /// Connects to an environment that the provider has made.
    pub(crate) async fn connect(
        hub: &Arc<Hub>,
        provider: Arc<dyn Provider>,
        id: EnvironmentId,
        credentials: Credentials,
        host_key: String,
    ) -> Result<Self, Problem> {
        let streams = Arc::new(Streams { hub: Arc::downgrade(hub), provider, id: id.clone() });
        let link = Link::establish(streams, credentials, host_key, hub.patience.subscribe()).await?;
        let files = Arc::new(Roots::new(hub, hub.home.session().join("mounts"), &link));
        let containers = Containers::new(hub, id.clone(), files);
        let stop = CancellationToken::new();
        Ok(Self { id, link, containers, saved: AtomicBool::new(false), _watchers: stop.clone().drop_guard(), stop })
    }

    /// Who brings the laptop's files.
    pub(crate) fn files(&self) -> Arc<dyn Files> {
        self.containers.bindings.files().clone()
    }

    /// Brings all that containers wrote to this machine.
    pub(crate) async fn bring_back(&self) -> Result<(), Problem> {
        if self.saved.load(Ordering::Relaxed) { Ok(()) } else { self.files().flush(&[]).await }
    }

    /// Begins to tell the hub which containers run, and when the environment is lost.
    pub(crate) fn watch(self: &Arc<Self>, hub: &Arc<Hub>) {
        let (link_state, weak) = (self.link.state(), Arc::downgrade(hub));
        let (id, stop) = (self.id.clone(), self.stop.clone());
        tokio::spawn(async move {
            let report = |problem: Option<Problem>, gone: bool| {
                if let Some(hub) = weak.upgrade() {
                    hub.handle_link(&id, problem, gone);
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow_link(link_state, report) => {}
            }
        });
        // Weak references: a watcher must not keep alive what ends it.
        let (environment, hosts, stop) = (Arc::downgrade(self), self.containers.hosts(), self.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(listeners::follow(&environment, hosts)).await });
        let (environment, stop) = (Arc::downgrade(self), self.stop.clone());
        tokio::spawn(async move {
            let follow = async {
                while let Some(state) = environment.upgrade().map(|environment| environment.link.state()) {
                    let mut state = state;
                    if let Err(problem) = follow_containers(&environment).await {
                        tracing::debug!(%problem, "cannot follow the engine's containers");
                    }
                    // The stream ends with the connection, or with the engine, which ends the environment.
                    if state.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow => {}
            }
        });
    }
}

async fn follow_link(mut state: watch::Receiver<LinkState>, report: impl Fn(Option<Problem>, bool)) {
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            LinkState::Up(_) => report(None, false),
            LinkState::Down { problem, .. } => report(Some(problem), false),
            LinkState::Gone(problem) => return report(Some(problem), true),
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps what is known of the containers up to date, until the stream of events ends. The stream is opened before they are
/// read, so that no change falls in between.
async fn follow_containers(environment: &Weak<Environment>) -> Result<(), Problem> {
    let gone = || Problem::new(ErrorCode::EnvironmentLost, "the environment is gone", "");
    let present = environment.upgrade().ok_or_else(gone)?;
    let mut events = Lines::open(&present.link, EVENTS).await?;
    present.containers.read_all(&present.link).await?;
    drop(present);
    while let Some(event) = events.next().await {
        let present = environment.upgrade().ok_or_else(gone)?;
        if present.containers.forgets(&event) {
            continue;
        }
        // One that cannot be inspected must not hide what happens to the others; the stream ends where the engine does.
        if let Some(id) = containers::concerned(&event)
            && let Err(problem) = present.containers.read(&present.link, id).await
        {
            tracing::warn!(%problem, id, "a container cannot be inspected");
        }
    }
    Ok(())
}
