//! An SSH connection to an ordinary server: the way to a runner that one logs in to.
//!
//! One connection carries everything: commands as session channels, and the stream to an environment's agent as a
//! `direct-streamlocal` channel, which sshd's `MaxSessions` does not count. No terminal is ever asked for.

mod agent;
mod connect;
mod identity;
mod known_hosts;
mod login;
mod process;
mod trail;

use std::{path::PathBuf, time::Duration};

use overside_io::BoxedStream;
use overside_model::{ErrorCode, HostKey, Problem, Question};
use russh::{
    Channel, Disconnect,
    client::{Handle, Msg},
};
use tokio_util::sync::CancellationToken;

pub use self::known_hosts::wild_match;
pub use self::{
    agent::AgentPlace,
    identity::Keys,
    process::{Process, Ran},
    trail::Trail,
};
use connect::Handler;

/// Milliseconds to wait before each further attempt at a session. Another one of this connection's own may be about to end.
const SESSION_PAUSES: [u64; 7] = [10, 40, 150, 400, 700, 1000, 1000];

/// What to do about a host key that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Ask a person.
    Ask,
    /// Take it for the host's from now on, and tell: the user's configuration says so (`accept-new`, `no`).
    AcceptNew,
    /// Refuse without asking: the user's configuration says so (`yes`).
    Refuse,
}

/// A host to log in to, and how. What the user's configuration says is resolved already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What the user calls it.
    pub name: String,
    /// Host name or address to connect to.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// User to log in as.
    pub user: String,
    /// Name of its key in known_hosts, where that is not the address and port.
    pub key_alias: Option<String>,
    /// Files of known host keys; they need not exist.
    pub known_hosts: Vec<PathBuf>,
    /// What to do about a key that none of them has.
    pub strictness: Strictness,
    /// Private keys to log in with, in this order; they need not exist.
    pub identities: Vec<PathBuf>,
    /// Certificates for any of the keys, besides those that lie beside them.
    pub certificates: Vec<PathBuf>,
    /// Offer nothing of the SSH agent's but these keys.
    pub identities_only: bool,
    /// Where the SSH agent is.
    pub agent: AgentPlace,
    /// Longest time for the TCP connection.
    pub connect_timeout: Duration,
}

impl Host {
    /// The name under which known_hosts has its key.
    fn key_name(&self) -> String {
        let name = self.key_alias.as_deref().unwrap_or(&self.address).to_lowercase();
        // An alias stands for a host whatever the port.
        if self.port == 22 || self.key_alias.is_some() { name } else { format!("[{name}]:{}", self.port) }
    }
}

/// The way to a host: over others, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The hosts in order, the last one being the destination. Not empty.
    pub hosts: &'a [Host],
    /// Where accepted host keys are kept: a known_hosts file of Overside's own.
    pub accepted: &'a std::path::Path,
    /// Private keys that have been decrypted.
    pub keys: &'a Keys,
    /// A key that a person has just accepted.
    pub accept: Option<&'a HostKey>,
}

/// Why a host could not be logged in to.
#[derive(Debug, Clone)]
pub struct Blocked {
    /// What a person is told.
    pub problem: Problem,
    /// What only a person can decide, where that would help.
    pub question: Option<Box<Question>>,
}

impl From<Problem> for Blocked {
    fn from(problem: Problem) -> Self {
        Self { problem, question: None }
    }
}

/// A connection that is logged in. Ends when dropped.
pub struct Outer {
    handle: Handle<Handler>,
    /// What it goes through; it ends with each of them.
    _jumps: Vec<Handle<Handler>>,
    ended: CancellationToken,
    name: String,
}

impl std::fmt::Debug for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outer").field("name", &self.name).field("ended", &self.is_ended()).finish_non_exhaustive()
    }
}

impl Outer {
    /// Logs in, over every host of the route. Each hop is noted in `trail`, up to the one that fails.
    ///
    /// # Errors
    /// Why not, and whether a person can help.
    pub async fn connect(route: Route<'_>, trail: &mut Trail) -> Result<Self, Blocked> {
        connect::connect(route, trail).await
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.ended.is_cancelled() || self.handle.is_closed()
    }

    /// Starts a command in the user's login shell, without a terminal.
    ///
    /// # Errors
    /// [`ErrorCode::RunnerUnreachable`] where the connection broke or the host allows no further session.
    pub async fn start(&self, command: &str) -> Result<Process, Problem> {
        let channel = self.session().await?;
        channel.exec(true, command).await.map_err(|error| self.broken(&error))?;
        Ok(Process::of(channel))
    }

    /// A session channel. sshd counts one until it has tidied up after it, so that a refusal may hold for a moment only.
    async fn session(&self) -> Result<Channel<Msg>, Problem> {
        let mut pauses = SESSION_PAUSES.iter();
        loop {
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel),
                Err(russh::Error::ChannelOpenFailure(_)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(*pause)).await,
                    None => {
                        return Err(Problem::new(
                            ErrorCode::RunnerUnreachable,
                            format!("{} allows no further session on this connection", self.name),
                            "Raise MaxSessions in its sshd_config, or end what uses the connection.",
                        ));
                    }
                },
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// Runs a command to its end with `input` on its standard input.
    ///
    /// # Errors
    /// As [`Self::start`]. A command that fails is no error.
    pub async fn run(&self, command: &str, input: &[u8]) -> Result<Ran, Problem> {
        self.start(command).await?.finish(input).await.map_err(|error| self.broken(&error))
    }

    /// A stream to a Unix socket on the host. None where sshd opens none: it forwards no sockets, or nobody listens there.
    ///
    /// # Errors
    /// [`ErrorCode::RunnerUnreachable`] where the connection broke.
    pub async fn open_socket(&self, path: &str) -> Result<Option<BoxedStream>, Problem> {
        match self.handle.channel_open_direct_streamlocal(path).await {
            Ok(channel) => Ok(Some(Box::new(channel.into_stream()))),
            Err(russh::Error::ChannelOpenFailure(_)) => Ok(None),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Ends it.
    pub async fn close(&self) {
        // The peer may be gone already, which is as good.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Problem {
        Problem::new(
            ErrorCode::RunnerUnreachable,
            format!("the connection to {} broke: {error}", self.name),
            "Overside connects again by itself; try again.",
        )
    }
}
