//! The agent's SSH server: the far end of the tunnel.
//!
//! One key may log in, and may open channels to the engine, to addresses in the environment's network, and the subsystem
//! of the agent. There is no shell, no program, no terminal and no forwarding of anything else.

mod forward;
mod handler;
pub(crate) mod laptop;
mod listeners;
mod paced;
mod ports;
mod stream;
mod subsystem;

use std::{borrow::Cow, sync::Arc, time::Duration};

use overside_model::Problem;
use russh::{
    MethodKind, MethodSet, Preferred, cipher, compression, kex,
    keys::{
        Algorithm, PrivateKey, PublicKey,
        ssh_key::private::{Ed25519Keypair, KeypairData},
    },
    mac, server,
};
use rustix::net::{Shutdown, shutdown};
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use self::{handler::Handler, stream::Impatient};
use crate::{
    problem::{During, internal},
    serve::Environment,
};

/// Bytes on their way in a channel; at 40 ms a round trip this is 800 MB/s.
const WINDOW: u32 = 32 << 20;
/// Largest packet of data. Fits SSH's 35,000-byte minimum by far; with its header it stays below russh's limit of 65,535.
const PACKET: u32 = 65_000;
/// Read at a time. russh asks for the four bytes of a packet's length, then for the packet: without a buffer that is two system
/// calls for each, however small.
const READ: usize = 64 * 1024;
/// Packets that a channel holds for a slow reader before the whole connection waits for it: russh opens its windows again
/// as data arrives, not as it is read, so that this is the bound on what the agent keeps in memory for one channel.
const CHANNEL_BUFFER: usize = 64;
/// Connections that may be logging in at a time.
const UNAUTHENTICATED: usize = 16;
/// How long logging in may take.
const LOGIN: Duration = Duration::from_secs(20);
/// Silence after which the client is asked for a sign of life, and how often in vain.
const KEEPALIVE: (Duration, usize) = (Duration::from_secs(15), 3);
/// How long a connection may stay after its session went to another computer.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which mostly means that the agent is out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Key exchanges with today's curves, the first of them safe against quantum computers, and without Terrapin's weakness.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// Authenticated ciphers only.
const CIPHERS: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];
/// Unused with those ciphers, but negotiated.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// A new host key, for the life of this environment.
pub(crate) fn make_host_key() -> Result<PrivateKey, Problem> {
    let mut seed = [0; 32];
    let count =
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).during("making the host key")?;
    if count != seed.len() {
        return Err(internal("the kernel gave too little randomness"));
    }
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "")
        .map_err(|error| internal(format!("making the host key failed: {error}")))
}

/// The server of one environment.
#[derive(Debug)]
pub(crate) struct Server {
    config: Arc<server::Config>,
    /// The one key that is let in. A change of it ends the connections of the key before.
    client_key: watch::Sender<Arc<PublicKey>>,
    environment: Arc<Environment>,
    logins: Arc<Semaphore>,
}

impl Server {
    /// A server that knows itself by `host_key` and lets `client_key` in.
    pub(crate) fn new(host_key: PrivateKey, client_key: PublicKey, environment: Arc<Environment>) -> Self {
        let (keepalive, keepalive_max) = KEEPALIVE;
        let config = server::Config {
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time: Duration::from_millis(100),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![host_key],
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            channel_buffer_size: CHANNEL_BUFFER,
            preferred: Preferred {
                kex: Cow::Borrowed(KEX),
                host_key_certificates: Cow::Borrowed(&[]),
                key: Cow::Borrowed(&[Algorithm::Ed25519]),
                cipher: Cow::Borrowed(CIPHERS),
                mac: Cow::Borrowed(MACS),
                compression: Cow::Borrowed(&[compression::NONE]),
            },
            max_auth_attempts: 6,
            inactivity_timeout: None,
            keepalive_interval: Some(keepalive),
            keepalive_max,
            ..server::Config::default()
        };
        Self {
            config: Arc::new(config),
            client_key: watch::Sender::new(Arc::new(client_key)),
            environment,
            logins: Arc::new(Semaphore::new(UNAUTHENTICATED)),
        }
    }

    /// Where another key takes the place of the one that is let in.
    pub(crate) fn keys(&self) -> watch::Sender<Arc<PublicKey>> {
        self.client_key.clone()
    }

    /// Serves every connection until it is dropped. Connections go on by themselves.
    pub(crate) async fn run(self, listener: UnixListener) {
        loop {
            // Whoever does not log in holds its place for a while only; others wait in the socket's queue meanwhile.
            let Ok(login) = Arc::clone(&self.logins).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.admit(stream, login),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn admit(&self, stream: UnixStream, login: OwnedSemaphorePermit) {
        let (authenticated, mut logged_in) = watch::channel(false);
        let handler = Handler::new(self.client_key.subscribe(), Arc::clone(&self.environment), authenticated);
        let mut keys = self.client_key.subscribe();
        let config = Arc::clone(&self.config);
        // A second hold on the socket, to cut off whoever does not log in: russh itself waits for ever.
        let Ok(cut) = rustix::io::fcntl_dupfd_cloexec(&stream, 0) else { return };
        tokio::spawn(async move {
            let limit = async move {
                let _ = logged_in.wait_for(|authenticated| *authenticated).await;
                // Only now may another connection log in in its place.
                drop(login);
            };
            let watchdog = tokio::spawn(async move {
                if timeout(LOGIN, limit).await.is_err() {
                    tracing::debug!("a client did not log in in time");
                } else {
                    if keys.changed().await.is_err() {
                        return;
                    }
                    // It is told, and goes by itself; one that does not hear is cut off.
                    sleep(FAREWELL).await;
                }
                let _ = shutdown(&cut, Shutdown::Both);
            });
            let result =
                match server::run_stream(config, BufReader::with_capacity(READ, Impatient::new(stream)), handler).await
                {
                    Ok(session) => session.await,
                    Err(error) => Err(error),
                };
            watchdog.abort();
            tracing::debug!(?result, "a connection has ended");
        });
    }
}
