//! The agent's end of the [`wire`].

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use overside_model::{Problem, Protocol, Publication, agent::Listener};
use rustix::io::{Errno, ioctl_fionbio};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixStream},
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{
    conntrack::ConnectionTracking,
    network,
    problem::During,
    wire::{self, Command, DESCRIPTORS, Event, SocketKind},
};

/// How long the environment's first process may take to make a socket. It does nothing else; only a frozen one is late.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a connection inside the environment may take.
const CONNECT: Duration = Duration::from_secs(20);

/// What the environment's first process tells by itself, each with the descriptor that came along.
pub(crate) type Events = mpsc::Receiver<(Event, Option<OwnedFd>)>;

/// Where containers reach the laptop, and ask for its names.
#[derive(Debug)]
pub(crate) struct ForLaptop {
    /// Connections to any of its ports.
    pub(crate) connections: TcpListener,
    /// Datagrams to any of its ports.
    pub(crate) datagrams: UdpSocket,
    /// Knows which port a datagram was sent to.
    pub(crate) conntrack: ConnectionTracking,
    /// Questions to its name server.
    pub(crate) questions: UdpSocket,
    /// The same over connections.
    pub(crate) long_questions: TcpListener,
}

/// What the environment's first process answers.
type Answer = (Vec<OwnedFd>, Vec<Listener>);

/// Sockets of the environment's for connections, made ahead of need and many at a time: asking for one costs more than the
/// connection itself.
#[derive(Debug, Default)]
struct Ahead {
    sockets: Vec<OwnedFd>,
    /// More were asked for.
    coming: bool,
}

/// Talks with the environment's first process.
#[derive(Debug)]
pub(crate) struct Link {
    /// A packet socket; tokio's type for streams only carries its readiness.
    socket: UnixStream,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    ahead: Mutex<Ahead>,
    signalled: Notify,
}

impl Link {
    /// Takes over the agent's end; returns the events of the environment as well, which end when it does.
    pub(crate) fn new(socket: OwnedFd) -> Result<(Arc<Self>, Events), Problem> {
        let doing = "talking to the environment";
        ioctl_fionbio(&socket, true).during(doing)?;
        let socket = UnixStream::from_std(socket.into()).during(doing)?;
        let link = Arc::new(Self {
            socket,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            ahead: Mutex::default(),
            signalled: Notify::new(),
        });
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(Arc::clone(&link).read(sender));
        Ok((link, receiver))
    }

    async fn read(self: Arc<Self>, events: mpsc::Sender<(Event, Option<OwnedFd>)>) {
        let mut text = Vec::new();
        loop {
            let received = || wire::receive_with::<Event>(&self.socket, &mut text);
            match self.socket.async_io(Interest::READABLE, received).await {
                Ok(Some((Event::Answer { id, listeners }, descriptors))) => {
                    if let Some(waiting) = self.waiting().remove(&id) {
                        let _ = waiting.send((descriptors, listeners));
                    }
                }
                Ok(Some((Event::Signalled, _))) => self.signalled.notify_one(),
                Ok(Some((event, descriptors))) => {
                    if events.send((event, descriptors.into_iter().next())).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the environment's first process makes no sense");
                    return;
                }
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command.
    pub(crate) async fn send(&self, command: &Command) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || wire::send(&self.socket, command, &[])).await
    }

    /// Stops or continues every process; returns when the signals are sent. Not to be called twice at a time.
    pub(crate) async fn signal(&self, command: &Command) -> Result<(), Problem> {
        self.send(command).await.during("talking to the environment")?;
        timeout(ANSWER, self.signalled.notified()).await.during("stopping the environment's processes")
    }

    /// A UDP socket in the environment's network that exchanges datagrams with one address.
    pub(crate) async fn exchange(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::from_std(std::net::UdpSocket::from(self.socket(address, true).await?))?;
        socket.connect(address).await?;
        Ok(socket)
    }

    /// Takes a port of the environment's on all addresses, so that nobody there gets it.
    pub(crate) async fn hold(&self, publication: Publication) -> io::Result<OwnedFd> {
        let socket = self.socket(publication.socket(), publication.protocol == Protocol::Udp).await?;
        if publication.address.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &publication.socket())?;
        Ok(socket)
    }

    /// Listens where connections and datagrams to the laptop are led to, and those to its name server.
    pub(crate) async fn listen_for_laptop(&self) -> io::Result<ForLaptop> {
        let service = SocketAddr::from((network::LAPTOP, network::LAPTOP_PORT));
        let names = SocketAddr::from((network::LAPTOP, network::NAMES_PORT));
        let heard = ForLaptop {
            connections: self.listen(service).await?,
            datagrams: self.receive(service).await?,
            conntrack: ConnectionTracking::new(self.ask_for(SocketKind::ConnectionTracking).await?)?,
            questions: self.receive(names).await?,
            long_questions: self.listen(names).await?,
        };
        self.ask(|id| Command::Redirect { id }).await?;
        Ok(heard)
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(address, false).await?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 1024)?;
        TcpListener::from_std(socket.into())
    }

    async fn receive(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.socket(address, true).await?;
        rustix::net::bind(&socket, &address)?;
        UdpSocket::from_std(socket.into())
    }

    /// A stream to what serves the laptop's files.
    pub(crate) async fn files(&self) -> io::Result<UnixStream> {
        let (descriptors, _) = self.ask(|id| Command::Files { id }).await?;
        let stream = descriptors.into_iter().next().ok_or_else(|| io::Error::from(Errno::NOENT))?;
        ioctl_fionbio(&stream, true)?;
        UnixStream::from_std(stream.into())
    }

    /// Gives the environment addresses of the laptop's.
    pub(crate) async fn add_addresses(&self, addresses: Vec<IpAddr>) -> io::Result<()> {
        self.ask(|id| Command::Addresses { id, addresses }).await.map(drop)
    }

    /// What containers listen on in the environment's network.
    pub(crate) async fn listeners(&self, containers: Vec<u32>) -> io::Result<Vec<Listener>> {
        Ok(self.ask(|id| Command::Listeners { id, containers }).await?.1)
    }

    /// A socket in the environment's network, for the family of an address.
    async fn socket(&self, address: SocketAddr, datagrams: bool) -> io::Result<OwnedFd> {
        self.ask_for(SocketKind::Ip { v6: address.is_ipv6(), datagrams }).await
    }

    /// A socket in the environment's network.
    async fn ask_for(&self, kind: SocketKind) -> io::Result<OwnedFd> {
        let socket = self.ask_for_some(kind, 1).await?.pop();
        socket.ok_or_else(|| Errno::AFNOSUPPORT.into())
    }

    /// Sockets in the environment's network. They come out of the environment: were they others, using them fails.
    async fn ask_for_some(&self, kind: SocketKind, count: usize) -> io::Result<Vec<OwnedFd>> {
        let (sockets, _) = self.ask(|id| Command::Sockets { id, kind, count }).await?;
        for socket in &sockets {
            ioctl_fionbio(socket, true)?;
        }
        Ok(sockets)
    }

    /// A socket for a connection over IPv4.
    async fn socket_ahead(self: &Arc<Self>) -> io::Result<OwnedFd> {
        const KIND: SocketKind = SocketKind::Ip { v6: false, datagrams: false };
        let (socket, refill) = {
            let mut ahead = self.ahead();
            let socket = ahead.sockets.pop();
            let refill = ahead.sockets.len() < DESCRIPTORS && !ahead.coming;
            ahead.coming |= refill;
            (socket, refill)
        };
        if refill {
            let link = Arc::clone(self);
            tokio::spawn(async move {
                let made = link.ask_for_some(KIND, DESCRIPTORS).await;
                let mut ahead = link.ahead();
                ahead.coming = false;
                ahead.sockets.extend(made.into_iter().flatten());
            });
        }
        match socket {
            Some(socket) => Ok(socket),
            None => self.ask_for(KIND).await,
        }
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command that carries `id`, and waits for its answer.
    async fn ask(&self, command: impl FnOnce(u64) -> Command) -> io::Result<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(id, sender);
        let answer = async {
            self.send(&command(id)).await?;
            receiver.await.map_err(|_| io::Error::from(Errno::NOTCONN))
        };
        let answer = timeout(ANSWER, answer).await;
        self.waiting().remove(&id);
        answer?
    }

    /// A TCP connection in the environment's network.
    pub(crate) async fn connect(self: &Arc<Self>, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { self.socket_ahead().await? } else { self.socket(address, false).await? };
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        let stream = timeout(CONNECT, socket.connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
