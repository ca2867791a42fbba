//! One SSH connection to an agent.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use overside_io::{BoxedStream, Bundle, Paced, Receive, Role, Transmit};
use overside_model::{
    ErrorCode, Problem, Protocol, Publication,
    agent::{BUNDLE_PREFIX, ENGINE_SOCKET, LAPTOP, LAPTOP_DATAGRAMS, Operation, PORTS, STREAM_PREFIX},
};
use russh::{
    Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Disconnect, Preferred, cipher,
    client::{self, ChannelOpenHandle, Handle},
    compression, kex,
    keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Credentials, Laptop,
    carrier::Carrier,
    credentials::parse_host_key,
    operations::{Operations, PeerNews},
};

/// A name for the login; the agent knows one key, whatever the name.
const USER: &str = "overside";
/// Silence after which the peer is asked whether it is there; three unanswered questions end the connection. Middleboxes
/// drop connections that are silent for longer (the Docker client's own keepalive has the same 30 s at most).
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Bytes under way on one channel that the peer need not wait for: larger than the credit of the paced stream inside it.
const WINDOW: u32 = 32 << 20;
/// Largest SSH packet, as large as the protocol's implementations take.
const PACKET: u32 = 65_000;
/// Channels kept open ahead: as many calls as tools make at once without paying a round trip for opening.
const WARM: usize = 4;
/// Longest time for key exchange and login on a stream that is already connected.
const LOGIN: Duration = Duration::from_secs(30);

/// Why the tunnel failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TunnelError {
    /// The agent has another host key than the pinned one: somebody else answers.
    #[error("the agent's host key is {received}, and {pinned} was pinned when the environment was made")]
    HostKeyMismatch {
        /// Fingerprint of the key that was presented.
        received: String,
        /// Fingerprint of the pinned key.
        pinned: String,
    },
    /// The agent does not accept the session's key.
    #[error("the agent refused the session's key")]
    LoginRefused,
    /// The agent could not carry out an operation.
    #[error(transparent)]
    Operation(Problem),
    /// The connection broke or the peer broke the protocol.
    #[error("the tunnel broke: {0}")]
    Broken(String),
}

impl From<russh::Error> for TunnelError {
    fn from(error: russh::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<TunnelError> for Problem {
    fn from(error: TunnelError) -> Self {
        let message = error.to_string();
        match error {
            TunnelError::HostKeyMismatch { .. } => Self::new(
                ErrorCode::HostKeyMismatch,
                message,
                "Do not use this environment: `overside stop`, then ask who answers there.",
            ),
            TunnelError::LoginRefused => Self::new(
                ErrorCode::LoginRefused,
                message,
                "`overside stop` and start again, for a new environment with a new key.",
            ),
            TunnelError::Operation(problem) => problem,
            TunnelError::Broken(_) => {
                Self::new(ErrorCode::TunnelLost, message, "Overside reconnects by itself; try again.")
            }
        }
    }
}

/// An SSH connection to an agent, logged in. Cheap to clone; ends with its last clone or [`Self::close`].
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle<Handler>,
    operations: Operations,
    engine: Mutex<Ahead>,
    ports: tokio::sync::Mutex<Option<Arc<Bundle>>>,
    ended: CancellationToken,
}

/// Channels to the engine that were opened ahead.
#[derive(Default)]
struct Ahead {
    open: VecDeque<Paced>,
    /// Those that are being opened.
    coming: usize,
}

impl Inner {
    fn ahead(&self) -> std::sync::MutexGuard<'_, Ahead> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("ended", &self.inner.ended.is_cancelled()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Speaks SSH over `stream`: checks the host key against `host_key` (one line, OpenSSH's format), logs in, opens the
    /// agent's subsystem and the first channels ahead.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn establish(
        stream: BoxedStream,
        credentials: &Credentials,
        host_key: &str,
        laptop: Option<Arc<dyn Laptop>>,
    ) -> Result<Self, TunnelError> {
        let pinned = parse_host_key(host_key).map_err(|error| TunnelError::Broken(error.to_string()))?;
        match tokio::time::timeout(LOGIN, Self::log_in(stream, credentials, pinned, laptop)).await {
            Ok(result) => result,
            Err(_) => Err(TunnelError::Broken(format!("no login within {} s", LOGIN.as_secs()))),
        }
    }

    async fn log_in(
        stream: BoxedStream,
        credentials: &Credentials,
        pinned: PublicKey,
        laptop: Option<Arc<dyn Laptop>>,
    ) -> Result<Self, TunnelError> {
        let ended = CancellationToken::new();
        let handler = Handler { pinned, laptop, _ended: ended.clone().drop_guard() };
        let mut handle = client::connect_stream(Arc::new(config()), Carrier::new(stream), handler).await?;
        let key = PrivateKeyWithHashAlg::new(credentials.key(), None);
        if !handle.authenticate_publickey(USER, key).await?.success() {
            return Err(TunnelError::LoginRefused);
        }
        let operations = Operations::open(&handle).await?;
        let (engine, ports) = (Mutex::default(), tokio::sync::Mutex::default());
        let connection = Self { inner: Arc::new(Inner { handle, operations, engine, ports, ended }) };
        connection.refill();
        let ahead = connection.clone();
        // The first connection to a port then need not wait for it. Why it failed is told to that one.
        tokio::spawn(async move { ahead.ports().await.map(drop) });
        Ok(connection)
    }

    /// A stream to the environment's engine: one that was opened ahead where there is one.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn open_engine(&self) -> Result<Paced, TunnelError> {
        let ahead = self.inner.ahead().open.pop_front();
        self.refill();
        match ahead {
            Some(stream) => Ok(stream),
            None => self.open(ENGINE_SOCKET).await,
        }
    }

    /// A stream to a port in the environment's network, or of datagrams to it ([`overside_io::datagrams`]). A port that
    /// refuses resets it. It costs no round trip.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn open_port(&self, publication: Publication) -> Result<Paced, TunnelError> {
        let opened = self.ports().await?.open(&publication.to_string());
        opened.map_err(|error| TunnelError::Broken(error.to_string()))
    }

    /// What carries the streams to ports: one channel for all of them.
    async fn ports(&self) -> Result<Arc<Bundle>, TunnelError> {
        let mut ports = self.inner.ports.lock().await;
        if let Some(bundle) = ports.as_ref().filter(|bundle| !bundle.is_broken()) {
            return Ok(bundle.clone());
        }
        let channel = self.inner.handle.channel_open_direct_streamlocal(format!("{BUNDLE_PREFIX}{PORTS}")).await?;
        let (reader, writer) = channel.split();
        Ok(ports.insert(Arc::new(Bundle::new(Reader(reader), Writer(writer)))).clone())
    }

    /// A stream to another path that the agent knows.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn open(&self, path: &str) -> Result<Paced, TunnelError> {
        let path = format!("{STREAM_PREFIX}{path}");
        let channel = self.inner.handle.channel_open_direct_streamlocal(path).await?;
        let (reader, writer) = channel.split();
        Ok(Paced::new(Reader(reader), Writer(writer), Role::Opener))
    }

    /// Has the agent carry out an operation, and waits until it has.
    ///
    /// # Errors
    /// [`TunnelError::Operation`] with the agent's reason; others when the connection broke.
    pub async fn operate(&self, operation: Operation) -> Result<(), TunnelError> {
        self.inner.operations.request(operation).await
    }

    /// What the agent tells by itself.
    pub fn news(&self) -> watch::Receiver<Option<PeerNews>> {
        self.inner.operations.news()
    }

    /// Waits until the connection has ended, for whatever reason.
    pub async fn ended(&self) {
        self.inner.ended.cancelled().await;
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.inner.ended.is_cancelled()
    }

    /// Ends the connection; every stream in it is reset.
    pub async fn close(&self) {
        // The peer may be gone already, which is as good.
        let _ = self.inner.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }

    /// Opens channels ahead in the background unless there are enough.
    fn refill(&self) {
        let missing = {
            let mut ahead = self.inner.ahead();
            let missing = WARM.saturating_sub(ahead.open.len() + ahead.coming);
            ahead.coming += missing;
            missing
        };
        for _ in 0..missing {
            let connection = self.clone();
            tokio::spawn(async move {
                let opened = connection.open(ENGINE_SOCKET).await;
                let mut ahead = connection.inner.ahead();
                ahead.coming -= 1;
                ahead.open.extend(opened);
            });
        }
    }
}

/// Turns russh's callbacks into facts; the connection's end is the handler's.
pub(crate) struct Handler {
    pinned: PublicKey,
    laptop: Option<Arc<dyn Laptop>>,
    _ended: tokio_util::sync::DropGuard,
}

impl client::Handler for Handler {
    type Error = TunnelError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, TunnelError> {
        let received = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.pinned.key_data() => {
                return Ok(true);
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256).to_string(),
            PublicKeyOrCertificate::Certificate(_) => "a certificate".to_owned(),
        };
        let pinned = self.pinned.fingerprint(HashAlg::Sha256).to_string();
        Err(TunnelError::HostKeyMismatch { received, pinned })
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), TunnelError> {
        let protocol = match connected_address {
            LAPTOP => Some(Protocol::Tcp),
            LAPTOP_DATAGRAMS => Some(Protocol::Udp),
            _ => None,
        };
        match (&self.laptop, protocol, u16::try_from(connected_port)) {
            (Some(laptop), Some(protocol), Ok(port)) => {
                reply.accept().await;
                let (reader, writer) = channel.split();
                laptop.connected(protocol, port, Paced::new(Reader(reader), Writer(writer), Role::Opener));
            }
            _ => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }
}

/// A channel as the carrier of a paced stream.
struct Reader(ChannelReadHalf);

impl Receive for Reader {
    async fn receive(&mut self) -> Option<Bytes> {
        loop {
            match self.0.wait().await? {
                ChannelMsg::Data { data } => return Some(data),
                ChannelMsg::Close => return None,
                // The paced stream has an end of its own.
                _ => {}
            }
        }
    }
}

struct Writer(ChannelWriteHalf<client::Msg>);

impl Transmit for Writer {
    async fn transmit(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.data_bytes(bytes).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
    async fn close(&mut self) {
        // A connection that is gone has closed it already.
        let _ = self.0.close().await;
    }
}

fn config() -> client::Config {
    client::Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        inactivity_timeout: None,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(&[
                kex::MLKEM768X25519_SHA256,
                kex::CURVE25519,
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]),
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            cipher: Cow::Borrowed(&[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305]),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}
