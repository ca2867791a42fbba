//! The environment of the session while it is connected.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use overside_io::BoxedStream;
use overside_model::{EnvironmentId, Problem};
use overside_runner::Provider;
use overside_tunnel::{Credentials, Link, LinkState};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    docker::{self, Lines},
    hub::Hub,
};

/// Container events after which another set of containers runs.
const EVENTS: &str =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22die%22%5D%7D";

/// A connected environment. Its watchers end with it.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) id: EnvironmentId,
    pub(crate) link: Link,
    _watchers: DropGuard,
    stop: CancellationToken,
}

/// Streams to the agent come from the provider.
struct Streams {
    provider: Arc<dyn Provider>,
    id: EnvironmentId,
}

#[async_trait]
impl overside_tunnel::Dial for Streams {
    async fn dial(&self) -> Result<BoxedStream, Problem> {
        self.provider.open(&self.id).await
    }
}

impl Environment {
    /// Connects to an environment that the provider has made.
    pub(crate) async fn connect(
        provider: Arc<dyn Provider>,
        id: EnvironmentId,
        credentials: Credentials,
        host_key: String,
        patience: watch::Receiver<Duration>,
    ) -> Result<Self, Problem> {
        let streams = Arc::new(Streams { provider, id: id.clone() });
        let link = Link::establish(streams, credentials, host_key, patience).await?;
        let stop = CancellationToken::new();
        Ok(Self { id, link, _watchers: stop.clone().drop_guard(), stop })
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
        // A weak reference: the watcher must not keep alive what ends it.
        let (environment, weak, stop) = (Arc::downgrade(self), Arc::downgrade(hub), self.stop.clone());
        tokio::spawn(async move {
            let follow = async {
                while let Some(environment) = environment.upgrade() {
                    let report = |names: Vec<String>, images: &[String]| {
                        if let Some(hub) = weak.upgrade() {
                            hub.handle_containers(&environment.id, names, images);
                        }
                    };
                    if let Err(problem) = follow_containers(&environment.link, report).await {
                        tracing::debug!(%problem, "cannot follow the engine's containers");
                    }
                    let mut state = environment.link.state();
                    drop(environment);
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

/// Tells the running containers, at first and after every change, until the stream of events ends. The stream is opened
/// before the list is read, so that no change falls in between.
async fn follow_containers(link: &Link, report: impl Fn(Vec<String>, &[String])) -> Result<(), Problem> {
    let mut events = Lines::open(link, EVENTS).await?;
    let list = docker::get_json(link, "/containers/json").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // By identifier: name and image.
    let mut running: BTreeMap<String, (String, String)> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            let name = text(&container["Names"][0]).trim_start_matches('/').to_owned();
            (text(&container["Id"]), (name, text(&container["Image"])))
        })
        .collect();
    let mut told = None;
    loop {
        let (names, images): (Vec<String>, Vec<String>) = running.values().cloned().unzip();
        // An engine without containers says so once only if there were some: the first report is no activity.
        if told.as_ref() != Some(&names) && !(told.is_none() && names.is_empty()) {
            report(names.clone(), &images);
        }
        told = Some(names);
        let Some(event) = events.next().await else { return Ok(()) };
        let id = text(&event["Actor"]["ID"]);
        match event["Action"].as_str() {
            Some("start") => {
                let attributes = &event["Actor"]["Attributes"];
                running.insert(id, (text(&attributes["name"]), text(&attributes["image"])));
            }
            Some("die") => {
                running.remove(&id);
            }
            _ => {}
        }
    }
}
