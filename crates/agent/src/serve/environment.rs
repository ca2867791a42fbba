//! The environment while it lives, as the SSH server and the lease see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use overside_model::{
    Problem, Protocol, Publication,
    agent::{DYNAMIC_PORTS, LaptopPorts, LeaseTerms, Listener, MAX_ADDRESSES},
};
use russh::server::Handle;
use tokio::{
    net::{TcpStream, UdpSocket, UnixStream},
    sync::{Mutex, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    cgroup::Cgroups,
    engine::EngineSocket,
    link::Link,
    problem::{During, internal},
    wire::Command,
};

/// How long the engine may take to say what runs in it, where there are no cgroups to look at.
const QUESTION: Duration = Duration::from_secs(5);

/// Most ports that are kept from the engine: every one that it may choose, for both protocols and families.
const MOST_HELD: usize = 4 * (*DYNAMIC_PORTS.end() - *DYNAMIC_PORTS.start() + 1) as usize;

/// Where the answer to a deletion goes.
pub(crate) type Deletion = oneshot::Sender<Result<(), Problem>>;

/// Whether its processes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    Running,
    Frozen,
    /// Being deleted: nothing may be frozen any more, or it would not die.
    Ending,
}

/// One living environment.
#[derive(Debug)]
pub(crate) struct Environment {
    engine: EngineSocket,
    link: Arc<Link>,
    cgroups: Option<Cgroups>,
    /// Held while freezing or thawing, so that the two never overlap.
    motion: Mutex<Motion>,
    contacts: watch::Sender<usize>,
    terms: watch::Sender<LeaseTerms>,
    ended: watch::Sender<Option<String>>,
    taken_over: watch::Sender<Option<String>>,
    deletions: mpsc::Sender<Deletion>,
    /// Ports that are taken on the laptop, and therefore here.
    held: Mutex<BTreeMap<Publication, OwnedFd>>,
    client: watch::Sender<Option<Handle>>,
}

/// One authenticated connection, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Contact(Arc<Environment>);

impl Drop for Contact {
    fn drop(&mut self) {
        self.0.contacts.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Environment {
    /// An environment whose engine answers; the receiver gets the clients' orders to delete it.
    pub(super) fn new(
        engine: EngineSocket,
        link: Arc<Link>,
        cgroups: Option<Cgroups>,
        terms: LeaseTerms,
    ) -> (Arc<Self>, mpsc::Receiver<Deletion>) {
        let (deletions, orders) = mpsc::channel(4);
        let environment = Self {
            engine,
            link,
            cgroups,
            motion: Mutex::new(Motion::Running),
            contacts: watch::Sender::new(0),
            terms: watch::Sender::new(terms),
            ended: watch::Sender::new(None),
            taken_over: watch::Sender::new(None),
            deletions,
            held: Mutex::default(),
            client: watch::Sender::new(None),
        };
        (Arc::new(environment), orders)
    }

    /// A connection to the engine.
    pub(crate) async fn connect_engine(&self) -> io::Result<UnixStream> {
        self.engine.connect().await
    }

    /// A connection inside the environment's network.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.link.connect(address).await
    }

    /// A UDP socket inside the environment's network.
    pub(crate) async fn exchange(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.link.exchange(address).await
    }

    /// A stream to what serves the laptop's files.
    pub(crate) async fn files(&self) -> io::Result<UnixStream> {
        self.link.files().await
    }

    /// The client to whose machine connections go from now on: the one that has come last.
    pub(crate) fn set_client(&self, client: Handle) {
        self.client.send_replace(Some(client));
    }

    /// That client.
    pub(crate) fn client(&self) -> Option<Handle> {
        self.client.borrow().clone()
    }

    /// What containers listen on in the environment's own network.
    pub(crate) async fn listeners(&self, containers: &[u32]) -> io::Result<Vec<Listener>> {
        if *self.motion.lock().await == Motion::Frozen {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.link.listeners(containers.to_vec()).await
    }

    /// Prepares the environment for an engine that publishes ports as if it were on the laptop.
    pub(crate) async fn set_laptop_ports(&self, laptop: LaptopPorts) -> Result<(), Problem> {
        let addresses: Vec<_> = laptop.addresses.into_iter().take(MAX_ADDRESSES).collect();
        if !addresses.is_empty() {
            self.link.add_addresses(addresses).await.during("adding the laptop's addresses")?;
        }
        let taken = |protocol, ports: Vec<u16>| {
            let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            let at = move |port| everywhere.map(|address| Publication { protocol, address, port });
            ports.into_iter().flat_map(at)
        };
        let wanted: BTreeSet<Publication> = taken(Protocol::Tcp, laptop.taken_tcp)
            .chain(taken(Protocol::Udp, laptop.taken_udp))
            .take(MOST_HELD)
            .collect();
        let mut held = self.held.lock().await;
        held.retain(|publication, _| wanted.contains(publication));
        for publication in wanted {
            if held.contains_key(&publication) {
                continue;
            }
            match self.link.hold(publication).await {
                Ok(socket) => drop(held.insert(publication, socket)),
                // A container has it: the engine does not choose it either.
                Err(error) => tracing::debug!(%error, %publication, "not held"),
            }
        }
        Ok(())
    }

    /// Counts an authenticated connection.
    pub(crate) fn contact(self: &Arc<Self>) -> Contact {
        self.contacts.send_modify(|count| *count += 1);
        Contact(Arc::clone(self))
    }

    /// The number of authenticated connections.
    pub(super) fn contacts(&self) -> watch::Receiver<usize> {
        self.contacts.subscribe()
    }

    /// The lease's terms.
    pub(super) fn terms(&self) -> watch::Receiver<LeaseTerms> {
        self.terms.subscribe()
    }

    /// Sets new terms; they hold from the present loss of contact on, if there is one.
    pub(crate) fn set_terms(&self, terms: LeaseTerms) {
        self.terms.send_replace(terms);
    }

    /// How the engine ended, once it has.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// Tells everybody that the engine has ended.
    pub(super) fn end(&self, detail: String) {
        self.ended.send_replace(Some(detail));
    }

    /// The computer that has taken over last. A connection looks at it from its own beginning on.
    pub(crate) fn taken_over(&self) -> watch::Receiver<Option<String>> {
        self.taken_over.subscribe()
    }

    /// Tells everybody that the session goes on on another computer.
    pub(super) fn hand_over(&self, computer: String) {
        self.taken_over.send_replace(Some(computer));
    }

    /// Deletes the environment; returns when nothing is left but the agent.
    pub(crate) async fn delete(&self) -> Result<(), Problem> {
        let (answer, answered) = oneshot::channel();
        let gone = || internal("the environment is already being deleted");
        self.deletions.send(answer).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Stops every process of the environment where it stands.
    pub(crate) async fn freeze(&self) -> Result<(), Problem> {
        self.move_to(Motion::Frozen).await
    }

    /// Lets them go on.
    pub(crate) async fn thaw(&self) -> Result<(), Problem> {
        self.move_to(Motion::Running).await
    }

    async fn move_to(&self, wanted: Motion) -> Result<(), Problem> {
        let mut motion = self.motion.lock().await;
        if *motion == Motion::Ending {
            return Err(internal("the environment is being deleted"));
        }
        if *motion == wanted {
            return Ok(());
        }
        let freeze = wanted == Motion::Frozen;
        match self.cgroups.clone() {
            Some(cgroups) => spawn_blocking(move || if freeze { cgroups.freeze() } else { cgroups.thaw() })
                .await
                .unwrap_or_else(|_| Err(internal("freezing was interrupted")))?,
            None => self.link.signal(&if freeze { Command::Stop } else { Command::Continue }).await?,
        }
        *motion = wanted;
        Ok(())
    }

    /// The end begins: what is being frozen right now is waited for, and nothing is frozen afterwards.
    pub(super) async fn begin_end(&self) {
        *self.motion.lock().await = Motion::Ending;
    }

    /// Whether a container or a build runs; what is frozen does not run.
    pub(super) async fn busy(&self) -> bool {
        if *self.motion.lock().await == Motion::Frozen {
            return false;
        }
        match &self.cgroups {
            Some(cgroups) => cgroups.busy(),
            // An engine too loaded to answer is at work; one that does not answer at all runs nothing that could be kept.
            None => timeout(QUESTION, self.engine.has_containers()).await.is_ok_and(|answer| answer.unwrap_or(false)),
        }
    }
}
