//! Published ports on the laptop: listeners that pass connections and datagrams on to where the containers are.
//!
//! [`Forwards`] is told which ports are to be there, and sees to it that exactly those are. How a port is reached on the
//! other side is [`Reach`]'s.

mod bind;
mod counters;
#[cfg(unix)]
mod source;
mod tcp;
mod udp;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use overside_io::{BoxedStream, clock, flows};
use overside_model::{PortStatus, Problem, Protocol, Publication};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use bind::Bound;
use counters::Counters;

/// Most ports that are listened on at a time, so that an environment cannot use up the laptop's descriptors.
pub const MOST: usize = 4096;

/// Pauses before a port that is taken is tried again: the first, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Kept for as long as a connection or flow lasts.
pub type Held = Box<dyn Any + Send + Sync>;

/// Leads to published ports.
#[async_trait]
pub trait Reach: Send + Sync + 'static {
    /// A stream to the port, or of datagrams to it ([`overside_io::datagrams`]). May wait for the environment to be resumed.
    ///
    /// # Errors
    /// Why there is none; the connection is reset.
    async fn open(&self, publication: Publication) -> Result<(BoxedStream, Held), Problem>;
}

/// Whose port it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The container's name.
    pub container: String,
    /// Its own port.
    pub container_port: u16,
}

/// A port that cannot be listened on here.
#[derive(Debug)]
pub struct Unavailable {
    /// The port.
    pub publication: Publication,
    /// Why.
    pub error: io::Error,
}

/// In the engine's words, which Docker users know.
impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Publication { protocol, address, .. } = self.publication;
        let family = if address.is_ipv4() { 4 } else { 6 };
        let reason = match self.error.kind() {
            io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => self.error.to_string(),
        };
        write!(f, "listen {}{family} {}: bind: {reason}", protocol.name(), self.publication.socket())
    }
}

/// The listeners of one environment. They end with this; connections go on until their environment ends.
pub struct Forwards {
    reach: Arc<dyn Reach>,
    /// Held while listeners change: one that ends has ended before another begins in its place.
    changing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Whether something is not listened on that should be.
    incomplete: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    on_loopback: bool,
    /// What the engine has.
    desired: BTreeMap<Publication, Target>,
    /// What containers that are about to start will have, and whose it is.
    reserved: BTreeMap<Publication, String>,
    /// By where they listen.
    listeners: BTreeMap<Publication, Listener>,
    problems: BTreeMap<Publication, String>,
}

struct Listener {
    remote: Publication,
    /// Not served yet: connections wait.
    bound: Option<Bound>,
    task: Option<JoinHandle<()>>,
    stop: CancellationToken,
    counters: Arc<Counters>,
}

impl Listener {
    fn new(remote: Publication, bound: Bound) -> Self {
        let (stop, counters) = (CancellationToken::new(), Arc::default());
        Self { remote, bound: Some(bound), task: None, stop, counters }
    }

    /// Lets waiting and coming connections through.
    fn serve(mut self, reach: &Arc<dyn Reach>) -> Self {
        if let Some(bound) = self.bound.take() {
            let (remote, reach, counters) = (self.remote, reach.clone(), self.counters.clone());
            let stop = self.stop.clone();
            self.task = Some(match bound {
                Bound::Tcp(socket) => tokio::spawn(async move {
                    stop.run_until_cancelled(tcp::serve(socket, remote, reach, counters)).await;
                }),
                Bound::Udp(socket) => tokio::spawn(flows::serve(udp::Port::new(socket, remote, reach, counters), stop)),
            });
        }
        self
    }

    /// Returns once its socket is closed.
    async fn end(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

fn begin(local: Publication, remote: Publication) -> Result<Option<Listener>, Unavailable> {
    let bound = bind::bind(local).map_err(|error| Unavailable { publication: local, error })?;
    Ok(bound.map(|bound| Listener::new(remote, bound)))
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl State {
    fn local(&self, publication: Publication) -> Publication {
        if self.on_loopback { publication.on_loopback() } else { publication }
    }

    /// Where there must be a listener, and what it leads to. Of several that would be at one place the first gets it.
    fn plan(&self) -> BTreeMap<Publication, Publication> {
        let mut plan = BTreeMap::new();
        for publication in self.desired.keys().chain(self.reserved.keys()).take(MOST) {
            plan.entry(self.local(*publication)).or_insert(*publication);
        }
        plan
    }
}

impl Forwards {
    /// None yet. `on_loopback` keeps them all on loopback, whatever address they are published on.
    pub fn new(reach: Arc<dyn Reach>, on_loopback: bool) -> Self {
        let state = State { on_loopback, ..State::default() };
        let (changing, incomplete) = (tokio::sync::Mutex::default(), watch::Sender::default());
        Self { reach, changing, state: Mutex::new(state), incomplete }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes ports for a container that is about to start, all or none. Connections to them wait. What another container
    /// has already is left to the engine to refuse.
    ///
    /// # Errors
    /// The first that cannot be listened on.
    pub async fn reserve(&self, owner: &str, publications: &[Publication]) -> Result<(), Unavailable> {
        let changing = self.changing.lock().await;
        let mut taken = Vec::new();
        let refused = publications.iter().find_map(|publication| {
            let mut state = self.lock();
            let local = state.local(*publication);
            if state.listeners.keys().any(|present| present.overlaps(local)) {
                // Kept through a restart, if it is the container's own.
                if state.listeners.contains_key(&local) && state.desired.contains_key(publication) {
                    state.reserved.entry(*publication).or_insert_with(|| owner.to_owned());
                }
                return None;
            }
            match begin(local, *publication) {
                Ok(listener) => {
                    state.listeners.extend(listener.map(|listener| (local, listener)));
                    state.reserved.insert(*publication, owner.to_owned());
                    taken.push(*publication);
                    None
                }
                Err(unavailable) => Some(unavailable),
            }
        });
        let Some(refused) = refused else { return Ok(()) };
        for publication in taken {
            self.lock().reserved.remove(&publication);
        }
        self.settle(&changing).await;
        Err(refused)
    }

    /// Gives up what is reserved for a container, unless it has it by now.
    pub async fn release(&self, owner: &str) {
        let changing = self.changing.lock().await;
        self.lock().reserved.retain(|_, reserved| reserved != owner);
        self.settle(&changing).await;
    }

    /// Makes exactly these ports exist, besides the reserved ones. Returns once they do.
    pub async fn apply(&self, desired: BTreeMap<Publication, Target>) {
        let changing = self.changing.lock().await;
        self.lock().desired = desired;
        self.settle(&changing).await;
    }

    /// Changes whether they are on loopback only.
    pub async fn set_on_loopback(&self, on_loopback: bool) {
        let changing = self.changing.lock().await;
        self.lock().on_loopback = on_loopback;
        self.settle(&changing).await;
    }

    /// Until the forwards are gone: tries again what could not be listened on, at growing intervals, as long as there is
    /// something; the system tells nobody that a port has become free. Calls `mended` whenever that has helped.
    pub async fn mend(forwards: Weak<Self>, mended: impl Fn()) {
        let Some(mut incomplete) = forwards.upgrade().map(|forwards| forwards.incomplete.subscribe()) else { return };
        while incomplete.wait_for(|incomplete| *incomplete).await.is_ok() {
            let mut pause = FIRST_PAUSE;
            while *incomplete.borrow() {
                clock::sleep_until(clock::now() + pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let Some(forwards) = forwards.upgrade() else { return };
                let changing = forwards.changing.lock().await;
                let before = forwards.lock().problems.len();
                forwards.settle(&changing).await;
                if forwards.lock().problems.len() < before {
                    mended();
                }
            }
        }
    }

    /// Of these ports, what cannot be listened on here, and is not listened on by this already.
    pub fn taken(&self, protocol: Protocol, ports: impl Iterator<Item = u16>) -> Vec<u16> {
        let (own, addresses) = {
            let state = self.lock();
            let own: BTreeSet<u16> =
                state.listeners.keys().filter(|local| local.protocol == protocol).map(|local| local.port).collect();
            let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            (own, all.map(|address| state.local(Publication { protocol, address, port: 0 }).address))
        };
        let free = |port| addresses.iter().all(|&address| bind::bind(Publication { protocol, address, port }).is_ok());
        ports.filter(|port| !own.contains(port) && !free(*port)).collect()
    }

    /// Of these, what is not listened on although it should be, and why.
    pub fn problem(&self, publications: impl Iterator<Item = Publication>) -> Option<String> {
        let state = self.lock();
        publications.filter_map(|publication| state.problems.get(&state.local(publication)).cloned()).next()
    }

    /// Every port and what has gone through it.
    pub fn status(&self) -> Vec<PortStatus> {
        let state = self.lock();
        let entry = |(publication, target): (&Publication, &Target)| {
            let local = state.local(*publication);
            let listener = state.listeners.get(&local);
            let elsewhere = listener.filter(|listener| listener.remote != *publication);
            let problem = match elsewhere {
                Some(other) => Some(format!("{} leads to {} already", local.socket(), other.remote.socket())),
                None => state.problems.get(&local).cloned(),
            };
            // An address family that this machine does not have is no loss to anybody.
            if listener.is_none() && problem.is_none() {
                return None;
            }
            let (connections, bytes_in, bytes_out) = listener
                .filter(|_| elsewhere.is_none())
                .map_or_else(Default::default, |listener| listener.counters.read());
            Some(PortStatus {
                protocol: publication.protocol,
                address: local.socket().to_string(),
                container: target.container.clone(),
                container_port: target.container_port,
                connections,
                bytes_in,
                bytes_out,
                problem,
            })
        };
        state.desired.iter().filter_map(entry).collect()
    }

    /// Makes the listeners what the plan says. Only to be called by who holds `changing`.
    async fn settle(&self, _changing: &tokio::sync::MutexGuard<'_, ()>) {
        let (plan, ended, before) = {
            let mut state = self.lock();
            let plan = state.plan();
            let stays = |local: &Publication, listener: &Listener| plan.get(local) == Some(&listener.remote);
            let listeners = std::mem::take(&mut state.listeners);
            let (kept, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
                listeners.into_iter().partition(|(local, listener)| stays(local, listener));
            state.listeners = kept;
            let before = std::mem::take(&mut state.problems);
            (plan, ended, before)
        };
        for listener in ended.into_values() {
            listener.end().await;
        }
        let mut state = self.lock();
        for (local, remote) in plan {
            let served = state.desired.contains_key(&remote);
            let listener =
                match state.listeners.remove(&local).map_or_else(|| begin(local, remote), |old| Ok(Some(old))) {
                    Ok(None) => continue,
                    Ok(Some(listener)) => listener,
                    Err(unavailable) => {
                        let problem = unavailable.to_string();
                        if !before.contains_key(&local) {
                            tracing::warn!(%remote, problem, "a published port is not on this machine");
                        }
                        state.problems.insert(local, problem);
                        continue;
                    }
                };
            state.listeners.insert(local, if served { listener.serve(&self.reach) } else { listener });
        }
        let incomplete = !state.problems.is_empty();
        drop(state);
        self.incomplete.send_if_modified(|present| std::mem::replace(present, incomplete) != incomplete);
    }
}

impl fmt::Debug for Forwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards").field("status", &self.status()).finish_non_exhaustive()
    }
}
