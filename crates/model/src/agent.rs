//! The messages between a runner provider and the agent, and between the tunnel and the agent.
//!
//! A provider starts `overside-agent serve`, writes one [`EnvironmentSpec`] as a line of JSON to its standard input, and
//! reads [`Report`]s, one line of JSON each, from its standard output until `Ready` or `Failed`. From then on everything
//! goes through the agent's SSH server: `direct-streamlocal` to [`ENGINE_SOCKET`], `direct-tcpip` into the environment's
//! network, and the subsystem [`SUBSYSTEM`], on which each line is a [`Request`] one way and a [`Message`] the other.
//!
//! Both sides check [`PROTOCOL`]. Unknown fields are ignored, so that either side may be the newer one within a protocol.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, ErrorCode, Hop, Problem, Protocol, Publication};

/// Version of these messages; changed when an old agent would misunderstand a new client or the reverse.
pub const PROTOCOL: u32 = 2;

/// First field of the first report, so that a login banner is not mistaken for an agent.
pub const MAGIC: &str = "overside-agent";

/// Name of the SSH subsystem that carries [`Request`] and [`Message`].
pub const SUBSYSTEM: &str = "overside";

/// The path by which a `direct-streamlocal` channel asks for the engine. `/var/run/docker.sock` means the same.
pub const ENGINE_SOCKET: &str = "/run/docker.sock";

/// Put before a path in a `direct-streamlocal` request, it asks for a paced stream (`overside_io::Paced`) over the channel:
/// flow control per stream, which OpenSSH's client neither has nor needs.
pub const STREAM_PREFIX: &str = "paced:";

/// Put before a path in a `direct-streamlocal` request, it asks for a bundle of paced streams (`overside_io::Bundle`).
pub const BUNDLE_PREFIX: &str = "bundle:";

/// The path by which a bundled `direct-streamlocal` channel asks for ports in the environment's network: each stream is about
/// a [`crate::Publication`] in text, and carries the connection, or datagrams behind two bytes of length each
/// (`overside_io::datagrams`). A port that refuses resets its stream.
pub const PORTS: &str = "/ports";

/// The path by which a paced `direct-streamlocal` channel asks which ports containers listen on in the environment's own
/// network. The first line is a JSON array of process ids, as the engine tells them of those containers; then each line from
/// the agent is a JSON array of [`Listener`], one now and one whenever they have changed.
pub const LISTENERS: &str = "/listeners";

/// Longest line of such a stream from the agent, in bytes.
pub const MAX_LISTENERS_LINE: u64 = 256 * 1024;

/// The path by which a paced `direct-streamlocal` channel asks for what serves the laptop's files: one bind mount a channel.
pub const FILES: &str = "/files";

/// Numbers out of which an environment's engine chooses where it may choose: below those that laptops use for outgoing
/// connections (Linux from 32768, others from 49152), so that they are mostly free there.
pub const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 30_720..=32_767;

/// Most addresses of the laptop's that an environment knows.
pub const MAX_ADDRESSES: usize = 64;

/// The address of a `forwarded-tcpip` channel, which the agent opens when a container connects to the laptop. It carries a
/// paced stream, in which the client is the end that closes, as everywhere. A refused connection resets it.
pub const LAPTOP: &str = "laptop";

/// The same for what a container sends by UDP: the stream carries one sender's datagrams, as those of [`PORTS`] do.
pub const LAPTOP_DATAGRAMS: &str = "laptop-datagrams";

/// Where the laptop's files lie in an environment: a file of the laptop is at its own path below this one, with `/C/x` for
/// `C:\x`. So what an answer of the engine says of a place tells which file is meant, without anybody remembering it.
pub const LAPTOP_FILES: &str = "/.overside/laptop";

/// A port that a container listens on in the environment's own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where, in the environment.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The container's first process, if it is one that was asked for.
    pub container: Option<u32>,
}

impl Listener {
    /// Where it is on the laptop: on loopback only, since nobody has said that it be published. Addresses besides loopback
    /// are the environment's own and mean nothing there.
    pub fn on_laptop(&self) -> Vec<Publication> {
        let addresses = match self.address.to_canonical() {
            address if address.is_loopback() => vec![address],
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into()],
            // Such a socket mostly takes both families.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            _ => Vec::new(),
        };
        let at = |address| Publication { protocol: self.protocol, address, port: self.port };
        addresses.into_iter().map(at).collect()
    }
}

/// Longest line of JSON that either side accepts, in bytes. More than any honest message needs.
pub const MAX_LINE: usize = 64 * 1024;

/// What the agent makes: the one line on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// [`PROTOCOL`] of the provider.
    pub protocol: u32,
    /// The environment's identifier.
    pub id: EnvironmentId,
    /// The environment's own directory on the runner; the agent makes it (0700) and deletes it.
    pub directory: PathBuf,
    /// The session's only client key, in OpenSSH's one-line format.
    pub client_key: String,
    /// What the environment may use; lowered by the agent to what the runner has.
    pub limits: Limits,
    /// How long the environment survives its client.
    pub lease: LeaseTerms,
    /// Directories to look for dockerd and its helpers in, instead of the standard ones.
    #[serde(default)]
    pub engine_path: Option<Vec<PathBuf>>,
    /// Who has it made; kept readable in the environment's directory.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// The user who connects to the agent's socket, where that is not the agent's own: the user of sudo.
    #[serde(default)]
    pub socket_user: Option<u32>,
}

/// Who had an environment made, for the same user's other computers to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Identifier of the Overside home, random and for good: the same computer and user may have several.
    pub home: String,
    /// The computer's host name, for people.
    pub computer: String,
    /// RFC 3339, UTC, by the computer's clock.
    pub started_at: String,
}

/// An environment that exists on a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its identifier.
    pub id: EnvironmentId,
    /// Who had it made, where that is recorded.
    pub owner: Option<Owner>,
    /// Whether its agent lives. What has no agent any more is of use to nobody.
    pub alive: bool,
}

/// The one line on the standard input of `overside-agent take-over DIRECTORY`: the session goes on on another computer of
/// the same user's. The answer is a [`Report`], ready or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The only client key from now on, in OpenSSH's one-line format.
    pub client_key: String,
    /// Who has the environment from now on.
    pub owner: Owner,
}

/// Limits of one environment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPUs, in thousandths of one.
    pub milli_cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// The dead-man's switch: how long the environment lives without contact to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// Milliseconds, if no container and no build runs, or while it is frozen.
    pub grace_ms: u64,
    /// Milliseconds, if a container or a build runs.
    pub lost_contact_ms: u64,
}

/// One line of the agent's standard output while it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// The first line.
    Hello {
        /// [`MAGIC`].
        magic: String,
        /// [`PROTOCOL`] of the agent.
        protocol: u32,
        /// Version of the agent's package.
        version: String,
    },
    /// A step has begun.
    Step {
        /// A stable word: `check`, `namespaces`, `network`, `engine`.
        step: String,
        /// The step in words.
        detail: String,
    },
    /// The engine answers; the agent has left the provider's session and goes on by itself.
    Ready(EnvironmentFacts),
    /// The environment could not be made; everything that was begun is undone.
    Failed(Problem),
}

/// What there is to know of an environment once it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentFacts {
    /// The agent's host key, in OpenSSH's one-line format.
    pub host_key: String,
    /// Unix socket on the runner on which the agent speaks SSH.
    pub socket: PathBuf,
    /// Process id of the agent on the runner.
    pub agent_pid: u32,
    /// The limits that hold.
    pub limits: Limits,
    /// How the engine is isolated.
    pub isolation: Isolation,
    /// What a person should know, in sentences: lowered limits, missing features.
    pub notes: Vec<String>,
    /// Version that dockerd told.
    pub engine_version: String,
    /// Milliseconds that each step took, in order.
    pub timings: Vec<(String, u64)>,
}

/// How an engine is kept apart from its runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Root of its own user namespace, made by root.
    Namespaces,
    /// Made by an ordinary user, with subordinate ids.
    Rootless,
}

/// A line to the agent on the subsystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client; the answer carries it.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What the client asks of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub enum Operation {
    /// Nothing; tells that the agent is there and thinks.
    Ping,
    /// Freeze every process of the environment. Freezing a frozen one succeeds.
    Freeze,
    /// Thaw it. Thawing a thawed one succeeds.
    Thaw,
    /// New lease terms.
    Lease(LeaseTerms),
    /// What the environment's engine must know of the laptop before it publishes ports.
    Ports(LaptopPorts),
    /// Delete the environment. The answer comes when nothing of it is left but the agent, which then ends.
    Delete,
}

/// Addresses and ports of the laptop, as far as they matter to an engine that publishes as if it were there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaptopPorts {
    /// Addresses besides loopback that containers are published on, at most [`MAX_ADDRESSES`]. The environment gets them,
    /// too, and keeps them.
    pub addresses: Vec<IpAddr>,
    /// Of [`DYNAMIC_PORTS`], what is taken on the laptop for TCP: the engine chooses others.
    pub taken_tcp: Vec<u16>,
    /// The same for UDP.
    pub taken_udp: Vec<u16>,
}

/// A line from the agent on the subsystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum Message {
    /// The request was carried out.
    Done {
        /// The request's id.
        id: u64,
    },
    /// The request failed.
    Failed {
        /// The request's id.
        id: u64,
        /// Why.
        problem: Problem,
    },
    /// The session goes on on another computer of the same user's; this connection ends.
    TakenOver {
        /// That computer's name.
        computer: String,
    },
    /// dockerd has ended by itself; the environment is of no more use and is being deleted.
    EngineEnded {
        /// Exit status or signal, in words, with the log's last lines.
        detail: String,
    },
}

/// What a machine can do: the answer of `overside-agent check`, one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// [`PROTOCOL`] of the agent.
    pub protocol: u32,
    /// Version of the agent's package.
    pub version: String,
    /// How an engine would be isolated.
    pub isolation: Isolation,
    /// Whether an environment can be made.
    pub suitable: bool,
    /// Version of the engine that environments get, where it is to be had.
    pub engine: Option<String>,
    /// What is missing, each with its remedy.
    pub missing: Vec<Problem>,
    /// Version of the cgroups that carry the limits: `v1` or `v2`.
    pub cgroups: Option<String>,
    /// What there is to be shared.
    pub machine: Limits,
}

impl Findings {
    /// The hops `agent`, `runner` and `engine` of a runner's test.
    pub fn hops(&self) -> Vec<Hop> {
        if self.protocol != PROTOCOL {
            let problem = Problem::new(
                ErrorCode::AgentIncompatible,
                format!("overside-agent {} speaks protocol {}, not {PROTOCOL}", self.version, self.protocol),
                "Install one version of both programs.",
            );
            return vec![Hop::failed("agent", problem), Hop::skipped("runner", ""), Hop::skipped("engine", "")];
        }
        let agent = Hop::passed("agent", format!("overside-agent {}", self.version));
        let (no_engine, missing): (Vec<_>, Vec<_>) =
            self.missing.iter().partition(|problem| problem.code == ErrorCode::EngineMissing);
        let failed = |name: &str, problems: &[&Problem]| {
            let all = |of: fn(&Problem) -> &str, between: &str| {
                let texts: Vec<&str> =
                    problems.iter().map(|problem| of(problem)).filter(|text| !text.is_empty()).collect();
                texts.join(between)
            };
            let code = problems.first().map_or(ErrorCode::RunnerUnsuitable, |problem| problem.code);
            Hop::failed(name, Problem::new(code, all(|it| &it.message, "; "), all(|it| &it.hint, " ")))
        };
        let runner = match &missing[..] {
            [] => {
                let means = match self.isolation {
                    Isolation::Namespaces => "as root, in namespaces of its own",
                    Isolation::Rootless => "as an ordinary user, rootless",
                };
                let cpus = self.machine.milli_cpus.div_ceil(1000);
                let memory = self.machine.memory_bytes as f64 / (1_u64 << 30) as f64;
                Hop::passed("runner", format!("{means}; {cpus} CPUs, {memory:.1} GiB"))
            }
            problems => failed("runner", problems),
        };
        let engine = match (&self.engine, &no_engine[..]) {
            (Some(version), []) => Hop::passed("engine", format!("dockerd {version}")),
            (None, []) => Hop::skipped("engine", ""),
            (_, problems) => failed("engine", problems),
        };
        vec![agent, runner, engine]
    }
}
