//! The containers that run, as the engine tells, and the ports that they publish.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use http::Method;
use overside_docker_api::{Container, Mounted, Wanted, bound_volumes};
use overside_io::BoxedStream;
use overside_model::{
    EnvironmentId, ErrorCode, PortStatus, Problem, Protocol, Publication, Settings,
    agent::{DYNAMIC_PORTS, LaptopPorts, MAX_ADDRESSES, Operation},
};
use overside_ports::{Forwards, Held, Reach, Target};
use overside_tunnel::Link;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    bindings::Bindings,
    docker,
    environment::Environment,
    gate::{self, UnderWay},
    hub::Hub,
    listeners::Hosts,
    mounts::Files,
};

/// Inspections that are under way at a time.
const AT_ONCE: usize = 8;

/// The way of a connection to a published port: it counts as activity, and resumes an environment that is suspended.
struct Way {
    hub: Weak<Hub>,
    id: EnvironmentId,
    /// All connections at a time are one activity: status need not name hundreds.
    shared: Mutex<Weak<UnderWay>>,
}

impl Way {
    async fn enter(&self, hub: &Arc<Hub>) -> Result<(Arc<UnderWay>, Arc<Environment>), Problem> {
        let shared = || self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let present = shared().upgrade().filter(|_| hub.is_open());
        if let (Some(under_way), Some(environment)) = (present, hub.environment()) {
            return Ok((under_way, environment));
        }
        let (under_way, environment) = gate::enter(hub, "connection", "to published ports").await?;
        let under_way = Arc::new(under_way);
        *shared() = Arc::downgrade(&under_way);
        Ok((under_way, environment))
    }
}

#[async_trait]
impl Reach for Way {
    async fn open(&self, publication: Publication) -> Result<(BoxedStream, Held), Problem> {
        let ending = || Problem::new(ErrorCode::Cancelled, "the Overside daemon is ending", "");
        let hub = self.hub.upgrade().ok_or_else(ending)?;
        let (under_way, environment) = self.enter(&hub).await?;
        if environment.id != self.id {
            return Err(Problem::new(ErrorCode::EnvironmentLost, "the port's environment is gone", ""));
        }
        let stream = environment.link.open_port(publication).await?;
        Ok((Box::new(stream), Box::new(under_way)))
    }
}

/// What is known of one environment's containers.
#[derive(Debug)]
pub(crate) struct Containers {
    hub: Weak<Hub>,
    id: EnvironmentId,
    /// Held while one is read, so that an older reading never comes after a newer one.
    known: tokio::sync::Mutex<Known>,
    forwards: Arc<Forwards>,
    /// Those that have files of the laptop.
    pub(crate) bindings: Arc<Bindings>,
    hosts: watch::Sender<Arc<Hosts>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that run, by identifier.
    running: BTreeMap<String, Container>,
    /// What those listen on that have the environment's own network.
    listeners: BTreeMap<Publication, Target>,
    /// Names that the session was told.
    told: Option<Vec<String>>,
}

impl Known {
    /// The one that a client means by a name, an identifier or the beginning of one.
    fn find(&self, name: &str) -> Option<&Container> {
        let by_name = self.running.values().find(|container| container.id == name || container.name == name);
        by_name.or_else(|| self.running.values().find(|container| container.id.starts_with(name)))
    }

    fn take(&mut self, container: Container) {
        if container.running {
            self.running.insert(container.id.clone(), container);
        } else {
            self.running.remove(&container.id);
        }
    }
}

pub(crate) async fn inspect(link: &Link, name: &str) -> Result<Option<Container>, Problem> {
    match docker::get_json(link, &format!("/containers/{}/json", docker::escaped(name))).await {
        Ok(inspection) => Ok(Some(Container::of(&inspection))),
        Err(problem) if problem.code == ErrorCode::UnknownName => Ok(None),
        Err(problem) => Err(problem),
    }
}

impl Containers {
    pub(crate) fn new(hub: &Arc<Hub>, id: EnvironmentId, files: Arc<dyn Files>) -> Self {
        let way = Way { hub: Arc::downgrade(hub), id: id.clone(), shared: Mutex::default() };
        let forwards = Arc::new(Forwards::new(Arc::new(way), hub.settings().ports_on_loopback));
        let bindings = Arc::new(Bindings::new(Arc::downgrade(hub), files));
        let weak = Arc::downgrade(hub);
        // Ends with the forwards.
        tokio::spawn(Forwards::mend(Arc::downgrade(&forwards), move || {
            weak.upgrade().iter().for_each(|hub| hub.show());
        }));
        let (known, hosts) = (tokio::sync::Mutex::default(), watch::Sender::default());
        Self { hub: Arc::downgrade(hub), id, known, forwards, bindings, hosts }
    }

    /// The containers whose listeners belong on this machine.
    pub(crate) fn hosts(&self) -> watch::Receiver<Arc<Hosts>> {
        self.hosts.subscribe()
    }

    /// Sets what these listen on.
    pub(crate) async fn set_listeners(&self, listeners: BTreeMap<Publication, Target>) {
        let mut known = self.known.lock().await;
        if known.listeners != listeners {
            known.listeners = listeners;
            self.tell(&mut known).await;
        }
    }

    /// Reads all of them anew.
    pub(crate) async fn read_all(&self, link: &Link) -> Result<(), Problem> {
        let mut known = self.known.lock().await;
        // Those that do not run may have files of the laptop as well.
        let list = docker::get_json(link, "/containers/json?all=1").await?;
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let id = |container: &Value| container["Id"].as_str().map(str::to_owned);
        let runs =
            |container: &&Value| matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"));
        let ids: Vec<String> = list.iter().filter(runs).filter_map(id).collect();
        let volumes = bound_volumes(&docker::get_json(link, "/volumes").await?);
        let mounted = list.iter().filter_map(|container| {
            let name = container["Names"][0].as_str().unwrap_or_default().trim_start_matches('/');
            Some((id(container)?, name.to_owned(), Mounted::of(container)))
        });
        self.bindings.read(volumes, mounted.collect()).await;
        let read: Vec<_> =
            stream::iter(ids).map(|id| async move { inspect(link, &id).await }).buffered(AT_ONCE).collect().await;
        known.running.clear();
        for container in read {
            container?.into_iter().for_each(|container| known.take(container));
        }
        self.tell(&mut known).await;
        Ok(())
    }

    /// Reads one anew, by its identifier or a name. Its ports are there, or not there any more, when this returns.
    pub(crate) async fn read(&self, link: &Link, name: &str) -> Result<Option<Container>, Problem> {
        let mut known = self.known.lock().await;
        let id = known.find(name).map(|container| container.id.clone());
        let container = inspect(link, id.as_deref().unwrap_or(name)).await?;
        match container.clone() {
            Some(container) => {
                self.bindings.learn(&container.id, &container.name, &container.mounted);
                known.take(container);
            }
            None => drop(id.and_then(|id| known.running.remove(&id))),
        }
        self.tell(&mut known).await;
        Ok(container)
    }

    /// Takes an event by which something is gone; false for any other.
    pub(crate) fn forgets(&self, event: &Value) -> bool {
        let gone = event["Action"].as_str() == Some("destroy");
        if let Some(id) = event["Actor"]["ID"].as_str().filter(|_| gone) {
            match event["Type"].as_str() {
                Some("container") => self.bindings.removed(id),
                Some("volume") => self.bindings.volume_removed(id),
                _ => {}
            }
        }
        gone
    }

    async fn tell(&self, known: &mut Known) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut hosts = Hosts::new();
        if hub.settings().ports_of_host_network {
            let of = |container: &Container| Some((container.host_process?, container.name.clone()));
            hosts.extend(known.running.values().filter_map(of));
        }
        if hosts.is_empty() {
            known.listeners.clear();
        }
        let published = known.running.values().flat_map(|container| {
            let target = |port| Target { container: container.name.clone(), container_port: port };
            container.published.iter().map(move |published| (published.at, target(published.container_port)))
        });
        let listened = known.listeners.iter().map(|(publication, target)| (*publication, target.clone()));
        self.forwards.apply(listened.chain(published).collect()).await;
        self.hosts.send_if_modified(|present| {
            let changed = **present != hosts;
            if changed {
                *present = Arc::new(hosts);
            }
            changed
        });
        let (names, images): (Vec<String>, Vec<String>) =
            known.running.values().map(|container| (container.name.clone(), container.image.clone())).unzip();
        // An engine without containers says so once only if there were some: the first report is no activity.
        if known.told.as_ref() == Some(&names) || known.told.is_none() && names.is_empty() {
            hub.show();
        } else {
            hub.handle_containers(&self.id, names.clone(), &images);
        }
        known.told = Some(names);
    }

    /// Follows the settings.
    pub(crate) async fn apply(&self, settings: &Settings) {
        self.forwards.set_on_loopback(settings.ports_on_loopback).await;
        self.tell(&mut *self.known.lock().await).await;
    }

    /// The ports, and what has gone through them.
    pub(crate) fn ports(&self) -> Vec<PortStatus> {
        self.forwards.status()
    }

    /// What the environment must know of this machine before a container with these ports starts.
    async fn laptop(&self, wanted: &[Wanted]) -> Option<LaptopPorts> {
        let is_other = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified();
        let mut addresses: Vec<IpAddr> =
            wanted.iter().flat_map(|wanted| wanted.addresses.iter().copied()).filter(is_other).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        let choice = |wanted: &Wanted| match wanted.ports.clone() {
            None => Some(DYNAMIC_PORTS),
            Some(ports) if ports.start() < ports.end() => Some(ports),
            Some(_) => None,
        };
        let choices = |protocol| -> Vec<RangeInclusive<u16>> {
            wanted.iter().filter(|wanted| wanted.protocol == protocol).filter_map(choice).collect()
        };
        let (tcp, udp) = (choices(Protocol::Tcp), choices(Protocol::Udp));
        if addresses.is_empty() && tcp.is_empty() && udp.is_empty() {
            return None;
        }
        let forwards = self.forwards.clone();
        let look = move || {
            let taken = |protocol, choices: Vec<RangeInclusive<u16>>| {
                let mut ports: Vec<u16> = choices.into_iter().flatten().collect();
                ports.sort_unstable();
                ports.dedup();
                forwards.taken(protocol, ports.into_iter())
            };
            LaptopPorts { addresses, taken_tcp: taken(Protocol::Tcp, tcp), taken_udp: taken(Protocol::Udp, udp) }
        };
        tokio::task::spawn_blocking(look).await.ok()
    }
}

/// A call that changes which containers run: its client finds the ports as they are to be when it is answered.
pub(crate) struct Publishing {
    pub(crate) environment: Arc<Environment>,
    /// As the client says it.
    pub(crate) name: String,
    /// The container is to run when the call is answered, and not to end.
    pub(crate) begins: bool,
    /// The identifier for which ports are reserved.
    pub(crate) reserved: Mutex<Option<String>>,
}

/// Removes a container that must not start, if it is one that removes itself: as the engine does when it cannot start it. A
/// client that waits for the removal would wait for ever.
pub(crate) async fn abandon(link: &Link, container: &Container) {
    if !container.removes_itself || container.running {
        return;
    }
    let path = format!("/containers/{}?v=1&force=1", docker::escaped(&container.id));
    if let Err(problem) = docker::send(link, Method::DELETE, &path, None, docker::nothing()).await {
        tracing::warn!(%problem, "a container that did not start is not removed");
    }
}

impl Publishing {
    async fn release(&self) {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = reserved {
            self.environment.containers.forwards.release(&id).await;
        }
    }
}

/// A client that went away under way.
impl Drop for Publishing {
    fn drop(&mut self) {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = reserved {
            let (environment, name) = (self.environment.clone(), self.name.clone());
            tokio::spawn(async move {
                // The engine may have started it all the same.
                let _ = environment.containers.read(&environment.link, &name).await;
                environment.containers.forwards.release(&id).await;
            });
        }
    }
}

/// As the engine says it when it cannot publish a port.
fn unavailable(container: &Container, reason: &str) -> Problem {
    let hint = if reason.ends_with("permission denied") {
        "On this machine only root may listen there; publish it on a port from 1024 on."
    } else {
        "Something on this machine has that port: end it, or publish another one."
    };
    let message = format!(
        "driver failed programming external connectivity on endpoint {}: Error starting userland proxy: {reason}",
        container.name
    );
    Problem::new(ErrorCode::PortUnavailable, message, hint)
}

impl Publishing {
    /// Before a container begins: its ports are reserved here, and the environment knows which it may choose.
    pub(crate) async fn before(&self, container: &Container) -> Result<(), Problem> {
        let (link, containers) = (&self.environment.link, &self.environment.containers);
        if container.wanted.is_empty() {
            return Ok(());
        }
        if let Some(laptop) = containers.laptop(&container.wanted).await {
            link.operate(Operation::Ports(laptop)).await?;
        }
        let fixed: Vec<Publication> = container.wanted.iter().flat_map(Wanted::fixed).collect();
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) = Some(container.id.clone());
        let reserved = containers.forwards.reserve(&container.id, &fixed).await;
        reserved.map_err(|refused| unavailable(container, &refused.to_string()))
    }

    /// After the engine has answered: the ports are as the client is to find them.
    pub(crate) async fn after(&self, succeeded: bool) -> Result<(), Problem> {
        let (link, containers) = (&self.environment.link, &self.environment.containers);
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        // Without ports the engine's event is early enough.
        let concerned =
            reserved || containers.known.lock().await.find(&self.name).is_some_and(|known| !known.published.is_empty());
        if !succeeded || !concerned {
            self.release().await;
            return Ok(());
        }
        let container = containers.read(link, &self.name).await?;
        self.release().await;
        let Some(container) = container.filter(|_| self.begins) else { return Ok(()) };
        let published = container.published.iter().map(|published| published.at);
        let Some(reason) = containers.forwards.problem(published) else { return Ok(()) };
        // Another program was quicker: what cannot be reached must not seem to be.
        let path = format!("/containers/{}/kill", docker::escaped(&container.id));
        if let Err(problem) = docker::send(link, Method::POST, &path, None, docker::nothing()).await {
            tracing::warn!(%problem, "a container without its ports goes on");
        }
        let _ = containers.read(link, &container.id).await;
        Err(unavailable(&container, &reason))
    }
}

/// The container that an event is about, if its ports may have changed.
pub(crate) fn concerned(event: &Value) -> Option<&str> {
    match event["Type"].as_str() {
        Some("network") => event["Actor"]["Attributes"]["container"].as_str(),
        _ => event["Actor"]["ID"].as_str(),
    }
}
