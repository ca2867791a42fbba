//! What a client may do.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use overside_model::agent::{BUNDLE_PREFIX, ENGINE_SOCKET, FILES, LISTENERS, PORTS, STREAM_PREFIX, SUBSYSTEM};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Error, Pty,
    keys::{Algorithm, PublicKey},
    server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio::sync::watch;

use super::{
    forward::{self, destinations},
    listeners, paced, ports, subsystem,
};
use crate::serve::{Contact, Environment};

/// Another name of [`ENGINE_SOCKET`], the one that clients know.
const OLD_ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// Session channels that a client may open before it says what for.
const UNDECIDED: usize = 16;

/// One connection.
#[derive(Debug)]
pub(super) struct Handler {
    client_key: watch::Receiver<Arc<PublicKey>>,
    environment: Arc<Environment>,
    authenticated: watch::Sender<bool>,
    /// Counts for the lease from the login on.
    contact: Option<Contact>,
    undecided: HashMap<ChannelId, Channel<Msg>>,
}

impl Handler {
    pub(super) fn new(
        client_key: watch::Receiver<Arc<PublicKey>>,
        environment: Arc<Environment>,
        authenticated: watch::Sender<bool>,
    ) -> Self {
        Self { client_key, environment, authenticated, contact: None, undecided: HashMap::new() }
    }

    fn judge(&self, key: &PublicKey, algorithm: &Algorithm) -> Auth {
        let sha1 = matches!(algorithm, Algorithm::Rsa { hash: None });
        if key.key_data() == self.client_key.borrow().key_data() && !sha1 { Auth::Accept } else { Auth::reject() }
    }
}

impl russh::server::Handler for Handler {
    type Error = Error;

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        Ok(self.judge(offer.public_key, offer.algorithm))
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(self.judge(key.public_key, key.algorithm))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        self.environment.set_client(session.handle());
        self.contact = Some(self.environment.contact());
        self.authenticated.send_replace(true);
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let environment = Arc::clone(&self.environment);
        if socket_path.strip_prefix(BUNDLE_PREFIX) == Some(PORTS) {
            reply.accept().await;
            tokio::spawn(ports::serve(channel, environment));
            return Ok(());
        }
        let (paced, socket_path) = match socket_path.strip_prefix(STREAM_PREFIX) {
            Some(path) => (true, path),
            None => (false, socket_path),
        };
        let asks = |path| paced && socket_path == path;
        let (files, listened) = (asks(FILES), asks(LISTENERS));
        if !files && !listened && socket_path != ENGINE_SOCKET && socket_path != OLD_ENGINE_SOCKET {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        reply.accept().await;
        if files {
            tokio::spawn(paced::to_files(channel, environment));
        } else if listened {
            tokio::spawn(listeners::serve(paced::accept(channel), environment));
        } else if paced {
            tokio::spawn(paced::to_engine(channel, environment));
        } else {
            tokio::spawn(forward::to_engine(channel, environment));
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let addresses: Vec<SocketAddr> = destinations(host, port);
        if addresses.is_empty() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        // In a task of its own: other channels go on while the connection is made.
        tokio::spawn(forward::to_address(channel, addresses, reply, Arc::clone(&self.environment)));
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if self.undecided.len() >= UNDECIDED {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.undecided.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.undecided.remove(&channel);
        Ok(())
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        match self.undecided.remove(&channel) {
            Some(taken) if name == SUBSYSTEM => {
                session.channel_success(channel)?;
                tokio::spawn(subsystem::serve(taken, Arc::clone(&self.environment)));
                Ok(())
            }
            other => {
                self.undecided.extend(other.map(|other| (channel, other)));
                session.channel_failure(channel)
            }
        }
    }

    // Everything else is refused in words: russh's own defaults leave the client waiting.

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn exec_request(&mut self, channel: ChannelId, _command: &[u8], session: &mut Session) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<bool, Error> {
        session.channel_failure(channel)?;
        Ok(false)
    }
}
