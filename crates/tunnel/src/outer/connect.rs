//! From a name to a connection that is logged in, over as many hosts as lie between.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use overside_io::BoxedStream;
use overside_model::{ErrorCode, HostKey, Problem, Question};
use russh::{
    Preferred, cipher,
    client::{self, Handle},
    keys::{Algorithm, Certificate, PublicKey, PublicKeyOrCertificate, ssh_key::certificate::CertType},
};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Blocked, Host, Outer, Route, Strictness, Trail,
    known_hosts::{self, KnownHosts, Verdict, fingerprint},
    login,
};
use crate::carrier::Carrier;

/// Longest time for the key exchange on a stream that is already connected.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Longest time for the login: the SSH agent may ask the person at it.
const LOGIN: Duration = Duration::from_secs(60);
/// Silence after which the server is asked whether it is there; three unanswered questions end the connection.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Bytes under way on one channel that the server need not wait for.
const WINDOW: u32 = 32 << 20;
/// Largest SSH packet, as large as the protocol's implementations take.
const PACKET: u32 = 65_000;
/// Those first that today's processors have instructions for: what is inside is encrypted once more.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

pub(super) async fn connect(route: Route<'_>, trail: &mut Trail) -> Result<Outer, Blocked> {
    let mut jumps: Vec<Handle<Handler>> = Vec::new();
    let Some((destination, before)) = route.hosts.split_last() else {
        return Err(Problem::new(ErrorCode::Internal, "there is no host to connect to", "").into());
    };
    for host in before {
        let mut hops = Trail::default();
        match reach(route, host, jumps.last(), &mut hops).await {
            Ok((handle, _)) => {
                trail.passed("jump", format!("{}, logged in as {}", host.name, host.user));
                jumps.push(handle);
            }
            Err(blocked) => {
                let where_ = hops.into_hops(&[]).pop().map(|hop| hop.name).unwrap_or_default();
                let message = format!("jump host {} ({where_}): {}", host.name, blocked.problem.message);
                trail.failed("jump", &Problem { message, ..blocked.problem.clone() });
                return Err(blocked);
            }
        }
    }
    let (handle, ended) = reach(route, destination, jumps.last(), trail).await?;
    Ok(Outer { handle, _jumps: jumps, ended, name: destination.name.clone() })
}

/// Connects and logs in to one host, directly or through another.
async fn reach(
    route: Route<'_>,
    host: &Host,
    via: Option<&Handle<Handler>>,
    trail: &mut Trail,
) -> Result<(Handle<Handler>, CancellationToken), Blocked> {
    let stream: BoxedStream = match via {
        None => Box::new(tcp(host, trail).await?),
        Some(via) => {
            let opened = via.channel_open_direct_tcpip(&host.address, host.port.into(), "127.0.0.1", 0).await;
            match opened {
                Ok(channel) => {
                    trail.passed("tcp", format!("{}:{} through the jump host", host.address, host.port));
                    Box::new(channel.into_stream())
                }
                Err(error) => {
                    let problem = Problem::new(
                        ErrorCode::RunnerUnreachable,
                        format!("the jump host cannot reach {}:{}: {error}", host.address, host.port),
                        "Check the name and port as the jump host sees them, and that it allows TCP forwarding.",
                    );
                    trail.failed("tcp", &problem);
                    return Err(problem.into());
                }
            }
        }
    };
    let (mut handle, ended) = match shake_hands(route, host, stream).await {
        Ok((handle, ended, accepted)) => {
            match accepted {
                Some(shown) if host.strictness == Strictness::AcceptNew => trail.noted(
                    "host-key",
                    format!("{shown} was accepted: your SSH configuration accepts new keys"),
                    "Compare it with what the host's owner says.",
                ),
                Some(shown) => trail.passed("host-key", format!("{shown} is accepted")),
                None => trail.passed("host-key", "it is the known one"),
            }
            (handle, ended)
        }
        Err(blocked) => {
            trail.failed("host-key", &blocked.problem);
            return Err(blocked);
        }
    };
    let login = tokio::time::timeout(LOGIN, login::log_in(&mut handle, host, route.keys)).await;
    let login = login.unwrap_or_else(|_| {
        let message = format!("no login to {} within {} s", host.name, LOGIN.as_secs());
        Err(Problem::new(ErrorCode::RunnerRefused, message, "Your SSH agent may be waiting for you.").into())
    });
    match login {
        Ok(how) => trail.passed("login", format!("as {} {how}", host.user)),
        Err(blocked) => {
            trail.failed("login", &blocked.problem);
            return Err(blocked);
        }
    }
    Ok((handle, ended))
}

async fn tcp(host: &Host, trail: &mut Trail) -> Result<TcpStream, Problem> {
    let Host { address, port, name, .. } = host;
    let looked_up = tokio::time::timeout(host.connect_timeout, tokio::net::lookup_host((&**address, *port))).await;
    let addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        failed => {
            let reason = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => "no answer in time".to_owned(),
            };
            let problem = Problem::new(
                ErrorCode::RunnerUnreachable,
                format!("the name {address} of {name} has no address: {reason}"),
                "Check the name, and whether a VPN is needed for it.",
            );
            trail.failed("dns", &problem);
            return Err(problem);
        }
    };
    let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    trail.passed("dns", listed.join(", "));
    let mut reason = "it has no address".to_owned();
    let deadline = tokio::time::Instant::now() + host.connect_timeout;
    for address in addresses {
        match tokio::time::timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it every small packet waits for the last one's receipt.
                let _ = stream.set_nodelay(true);
                trail.passed("tcp", address.to_string());
                return Ok(stream);
            }
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no answer within {} s", host.connect_timeout.as_secs()),
        }
    }
    let problem = Problem::new(
        ErrorCode::RunnerUnreachable,
        format!("cannot connect to port {port} of {address}: {reason}"),
        "Check that the machine is on, that its sshd listens on this port, and that no firewall is between.",
    );
    trail.failed("tcp", &problem);
    Err(problem)
}

/// The key exchange. Also the key that was accepted just now, if one was.
async fn shake_hands(
    route: Route<'_>,
    host: &Host,
    stream: BoxedStream,
) -> Result<(Handle<Handler>, CancellationToken, Option<String>), Blocked> {
    let name = host.key_name();
    let without_port = host.key_alias.as_deref().unwrap_or(&host.address).to_lowercase();
    let mut files = vec![route.accepted.to_owned()];
    files.extend(host.known_hosts.iter().cloned());
    let known = KnownHosts::look_up(&name, &without_port, &files).map_err(|error| {
        let message = format!("the known host keys cannot be read: {error}");
        Problem::new(ErrorCode::RunnerUnreachable, message, "Make the file readable, then try again.")
    })?;
    let config = Arc::new(config(&known));
    let ended = CancellationToken::new();
    let news = Arc::default();
    let handler = Handler {
        judge: Judge {
            known,
            name,
            host: host.clone(),
            accept: route.accept.cloned(),
            accepted: route.accepted.to_owned(),
            news: Arc::clone(&news),
        },
        _ended: ended.clone().drop_guard(),
    };
    let connected = client::connect_stream(config, Carrier::new(stream), handler);
    let unusable = |reason: String| {
        Blocked::from(Problem::new(
            ErrorCode::RunnerUnreachable,
            format!("{} does not speak SSH on port {}: {reason}", host.name, host.port),
            "Check the port, and that an SSH server answers on it.",
        ))
    };
    match tokio::time::timeout(HANDSHAKE, connected).await {
        Ok(Ok(handle)) => {
            let accepted = news.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            Ok((handle, ended, accepted))
        }
        Ok(Err(Failure::Host(blocked))) => Err(*blocked),
        Ok(Err(Failure::Ssh(russh::Error::NoCommonAlgo { kind, theirs, .. }))) => Err(Problem::new(
            ErrorCode::RunnerUnsuitable,
            format!("{} offers no {kind:?} algorithm for SSH that Overside has (it has {theirs:?})", host.name),
            "Its SSH server is old or restricted: allow a current algorithm in its sshd_config.",
        )
        .into()),
        Ok(Err(Failure::Ssh(error))) => Err(unusable(error.to_string())),
        Err(_) => Err(unusable(format!("no answer within {} s", HANDSHAKE.as_secs()))),
    }
}

/// Why the key exchange came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    Host(Box<Blocked>),
    Ssh(russh::Error),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

/// Turns russh's callbacks into facts; the connection's end is the handler's.
pub(super) struct Handler {
    judge: Judge,
    _ended: DropGuard,
}

/// Decides about the key that a host shows.
struct Judge {
    known: KnownHosts,
    name: String,
    host: Host,
    accept: Option<HostKey>,
    accepted: std::path::PathBuf,
    /// The key that was accepted just now.
    news: Arc<std::sync::Mutex<Option<String>>>,
}

impl client::Handler for Handler {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let judged = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.judge.key(key),
            PublicKeyOrCertificate::Certificate(certificate) => self.judge.certificate(certificate),
        };
        judged.map(|()| true).map_err(|blocked| Failure::Host(Box::new(blocked)))
    }
}

impl Judge {
    fn key(&self, key: &PublicKey) -> Result<(), Blocked> {
        let (name, shown) = (&self.name, fingerprint(key));
        match self.known.judge(key) {
            Verdict::Known => Ok(()),
            Verdict::Changed { known, place } => Err(Problem::new(
                ErrorCode::HostKeyChanged,
                format!("{name} shows the key {shown}, but is known by {known} ({place})"),
                format!(
                    "Somebody else may be answering. Ask the host's owner; if its key has really changed, remove that \
                     line with `ssh-keygen -R {name} -f FILE`."
                ),
            )
            .into()),
            Verdict::Revoked => Err(Problem::new(
                ErrorCode::HostKeyChanged,
                format!("{name} shows the key {shown}, which is marked as revoked"),
                "Somebody else may be answering. Ask the host's owner.",
            )
            .into()),
            Verdict::Unknown => self.unknown(key, shown),
        }
    }

    fn unknown(&self, key: &PublicKey, shown: String) -> Result<(), Blocked> {
        let name = &self.name;
        let told = self.accept.as_ref().is_some_and(|key| key.host == *name && key.fingerprint == shown);
        if told || self.host.strictness == Strictness::AcceptNew {
            known_hosts::remember(&self.accepted, name, key).map_err(|error| {
                let message = format!("the key of {name} cannot be written down: {error}");
                Problem::new(ErrorCode::RunnerUnreachable, message, "Make the file writable, then try again.")
            })?;
            tracing::info!(host = name, key = shown, "a host key is accepted from now on");
            *self.news.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(shown);
            return Ok(());
        }
        let algorithm = key.algorithm().to_string();
        let message = format!("{name} shows the {algorithm} key {shown}, which nobody has accepted yet");
        if self.host.strictness == Strictness::Refuse {
            let hint =
                "Your SSH configuration says StrictHostKeyChecking yes: add the key to your known_hosts yourself.";
            return Err(Problem::new(ErrorCode::HostKeyUnknown, message, hint).into());
        }
        let hint = format!("If it is the right one: `overside runner test --accept-host-key {shown}`.");
        let asked = HostKey { host: name.clone(), algorithm, fingerprint: shown };
        Err(Blocked {
            problem: Problem::new(ErrorCode::HostKeyUnknown, message, hint),
            question: Some(Box::new(Question::HostKey(asked))),
        })
    }

    /// A certificate is only asked for where somebody is known who may sign one.
    fn certificate(&self, certificate: &Certificate) -> Result<(), Blocked> {
        let principals = certificate.valid_principals();
        let host = self.host.key_alias.as_deref().unwrap_or(&self.host.address);
        let refused = |reason: &str| {
            Blocked::from(Problem::new(
                ErrorCode::HostKeyChanged,
                format!("{} shows a host certificate that does not hold: {reason}", self.name),
                "Somebody else may be answering. Ask the host's owner.",
            ))
        };
        if certificate.cert_type() != CertType::Host {
            return Err(refused("it is a user's"));
        }
        if !principals.is_empty() && !principals.iter().any(|name| known_hosts::wild_match(name, host)) {
            return Err(refused("it names other hosts"));
        }
        certificate.validate(&self.known.authorities()).map_err(|error| refused(&error.to_string()))
    }
}

/// Kinds of keys that the host is known by are asked for first: a server has several, and the known one decides.
fn config(known: &KnownHosts) -> client::Config {
    let mut key = Preferred::DEFAULT.key.into_owned();
    let is_known = |algorithm: &Algorithm| {
        known.known_keys().any(|key| match (key.algorithm(), algorithm) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (one, other) => one == *other,
        })
    };
    // Stable: otherwise as before.
    key.sort_by_key(|algorithm| !is_known(algorithm));
    let certificates = if known.authorities().is_empty() { Vec::new() } else { key.clone() };
    client::Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        inactivity_timeout: None,
        nodelay: true,
        preferred: Preferred {
            key: Cow::Owned(key),
            host_key_certificates: Cow::Owned(certificates),
            cipher: Cow::Borrowed(CIPHERS),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}
