//! Making an environment, and undoing everything if that fails.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
    sync::Arc,
    time::Duration,
};

use fs_err as fs;
use overside_model::{
    ErrorCode, Problem,
    agent::{EnvironmentFacts, EnvironmentSpec, Isolation, Limits},
};
use russh::keys::{PrivateKey, PublicKey};
use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    pipe::{PipeFlags, pipe_with},
    process::geteuid,
};
use tokio::{net::UnixListener, signal::unix::Signal, sync::mpsc, time::timeout};

use super::{
    environment::{Deletion, Environment},
    log, owner,
    report::Reporter,
};
use crate::{
    cgroup::{self, Cgroups, Machine},
    engine::EngineSocket,
    environment::rootlesskit,
    link::{Events, Link},
    names,
    network::{self, Network},
    parts::Parts,
    problem::{During, engine_failed, internal, unsuitable},
    process::Identity,
    programs::{Programs, major},
    record::Record,
    rootless,
    sole::Claim,
    spec, ssh,
    subordinate::{self, IdRange},
    tail::Tail,
    wire::{self, Command, Event, Plan},
};

/// How long the namespaces may take.
const NAMESPACES: Duration = Duration::from_secs(20);
/// How long dockerd may take to answer; on a slow disk its first start takes a while.
const ENGINE: Duration = Duration::from_secs(90);

/// An environment whose namespaces exist.
#[derive(Debug)]
pub(super) struct Preparation {
    parts: Parts,
    wire: OwnedFd,
    log: OwnedFd,
    slirp4netns: PathBuf,
    limits: Limits,
    notes: Vec<String>,
}

/// An environment whose engine answers.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) parts: Parts,
    pub(super) environment: Arc<Environment>,
    pub(super) deletions: mpsc::Receiver<Deletion>,
    pub(super) events: Events,
    pub(super) listener: UnixListener,
    pub(super) server: ssh::Server,
    /// Where another computer of the user's takes over, and what it is answered.
    pub(super) owner: (UnixListener, EnvironmentFacts),
    pub(super) engine_log: Tail,
    /// Listened to without a gap from the start on: one that comes between is not lost.
    pub(super) terminated: Signal,
}

impl Preparation {
    /// Checks the machine and starts the environment's first process, up to where it has its ids. Blocks.
    pub(super) fn make(spec: &EnvironmentSpec, reporter: &mut Reporter) -> Result<Self, Problem> {
        reporter.step("check", "Looking for dockerd and what it needs");
        let isolation = if geteuid().is_root() { Isolation::Namespaces } else { Isolation::Rootless };
        let engine_path = spec.engine_path.as_deref();
        let mut programs = Programs::find(engine_path)?;
        let slirp4netns = network::find(engine_path)?;
        let user_ids = match isolation {
            Isolation::Namespaces => None,
            Isolation::Rootless => Some(rootless::UserIds::find()?),
        };
        let (limits, mut notes) = match isolation {
            Isolation::Namespaces => cgroup::lower(spec.limits, Machine::look()),
            Isolation::Rootless => (
                Machine::look().all(),
                vec!["CPU, memory and processes of the environment are not limited: the agent is not root.".to_owned()],
            ),
        };
        programs.binds.retain(|target, _| !target.starts_with("/etc/docker"));

        reporter.step("namespaces", "Making the environment's namespaces");
        let claim = match (&spec.owner, spec.directory.parent()) {
            (Some(owner), Some(environments)) => Some(Claim::take(environments, owner)?),
            _ => None,
        };
        make_directory(&spec.directory)?;
        if let Some(user) = spec.socket_user {
            let_pass(&spec.directory, user)?;
        }
        let agent = Identity::of(std::process::id()).ok_or_else(|| internal("/proc does not know this process"))?;
        let owner = spec.owner.clone();
        let record = Record { agent, owner, isolation, cgroups: None, processes: Vec::new() };
        let mut parts = Parts::new(spec.directory.clone(), record);
        let recorded = parts.save();
        drop(claim);
        let begun = recorded.and_then(|()| begin(spec, &mut parts, user_ids, programs, limits, &mut notes));
        match begun {
            Ok((wire, log)) => Ok(Self { parts, wire, log, slirp4netns, limits, notes }),
            Err(problem) => {
                parts.undo();
                Err(problem)
            }
        }
    }

    /// Removes everything again. Blocks.
    pub(super) fn undo(mut self) {
        self.parts.undo();
    }
}

/// The environment's directory: new, and closed to everybody else.
fn make_directory(directory: &Path) -> Result<(), Problem> {
    let doing = format!("making {}", directory.display());
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).during(&doing)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(directory).during(&doing)?;
    let flags = statvfs(directory).during(&doing)?.f_flag;
    if flags.intersects(StatVfsMountFlags::NOEXEC | StatVfsMountFlags::RDONLY) {
        let _ = fs::remove_dir(directory);
        return Err(unsuitable(
            format!("no program can run from the file system of {}", directory.display()),
            "Keep the environments on a file system that is mounted without `noexec`",
        ));
    }
    Ok(())
}

/// Lets a user through to the socket in the environment's directory; every other file in it is closed. What lies above may
/// have been made just now, under whatever file mode mask root has.
fn let_pass(directory: &Path, user: u32) -> Result<(), Problem> {
    let doing = format!("opening {} to user {user}", directory.display());
    fs::set_permissions(directory, PermissionsExt::from_mode(0o711)).during(&doing)?;
    for above in directory.ancestors().skip(1).take(2) {
        let mode = fs::metadata(above).during(&doing)?.permissions().mode();
        if mode & 0o001 == 0 {
            fs::set_permissions(above, PermissionsExt::from_mode(mode & 0o7777 | 0o111)).during(&doing)?;
        }
    }
    Ok(())
}

/// Claims the resources and starts the first process. What was made is in `parts`, also on failure.
fn begin(
    spec: &EnvironmentSpec,
    parts: &mut Parts,
    user_ids: Option<rootless::UserIds>,
    programs: Programs,
    limits: Limits,
    notes: &mut Vec<String>,
) -> Result<(OwnedFd, OwnedFd), Problem> {
    let data = spec.directory.join("data");
    fs::create_dir(&data).during("making the engine's directory")?;
    fs::create_dir(spec.directory.join("root")).during("making the environment's root")?;
    let ids = match &user_ids {
        None => Some(claim(parts, limits, notes)?),
        Some(_) => None,
    };
    if let Some(ids) = ids {
        std::os::unix::fs::chown(&data, Some(ids.first), Some(ids.first))
            .during("handing over the engine's directory")?;
        fs::set_permissions(&data, PermissionsExt::from_mode(0o710)).during("handing over the engine's directory")?;
    }
    let rootlesskit = user_ids.is_some() && major(&programs.engine_version()?) >= rootlesskit::SINCE;
    let plan = Plan {
        privileged: user_ids.is_none(),
        rootlesskit,
        directory: spec.directory.clone(),
        name: spec.id.to_string(),
        programs,
        entrances: parts.record.cgroups.as_ref().map(Cgroups::entrances).unwrap_or_default(),
        cgroups: match &parts.record.cgroups {
            Some(cgroups) => Some(cgroups.hierarchies()),
            // runc insists on seeing cgroups, also where it may not make any.
            None => cgroup::detect(&mountinfo()?),
        },
    };
    let (wire, theirs) = wire::pair()?;
    let (log, log_write) = pipe_with(PipeFlags::CLOEXEC).during("making a pipe")?;
    let log_again = log_write.try_clone().during("making a pipe")?;
    let child = Program::new("/proc/self/exe")
        .arg("environment")
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(log_write))
        .stderr(Stdio::from(log_again))
        .spawn()
        .during("starting the environment's first process")?;
    let pid = child.id();
    parts.take_child(child)?;
    rustix::net::sockopt::set_socket_timeout(&wire, rustix::net::sockopt::Timeout::Recv, Some(NAMESPACES))
        .during("talking to the environment")?;
    wire::send(&wire, &Command::Plan(Box::new(plan)), &[]).during("talking to the environment")?;
    match wire::expect(&wire)? {
        Event::Unshared => {}
        Event::Failed(problem) => return Err(problem),
        other => return Err(internal(format!("the environment said {other:?} too early"))),
    }
    match (ids, user_ids) {
        (Some(ids), _) => {
            for map in ["gid_map", "uid_map"] {
                let line = format!("0 {} {}\n", ids.first, ids.count);
                fs::write(format!("/proc/{pid}/{map}"), line).during("giving the environment its ids")?;
            }
        }
        (None, Some(user_ids)) => user_ids.give(pid)?,
        (None, None) => return Err(internal("an environment without ids")),
    }
    if let Some(cgroups) = &parts.record.cgroups {
        cgroups.enter_leaf(pid)?;
    }
    wire::send(&wire, &Command::Mapped, &[]).during("talking to the environment")?;
    Ok((wire, log))
}

fn mountinfo() -> Result<String, Problem> {
    fs::read_to_string("/proc/self/mountinfo").during("looking for cgroups")
}

/// Claims a slot: its cgroups, and with them a range of ids.
fn claim(parts: &mut Parts, limits: Limits, notes: &mut Vec<String>) -> Result<IdRange, Problem> {
    let (version, hierarchies) = cgroup::detect(&mountinfo()?).ok_or_else(|| {
        unsuitable("no cgroups are mounted on this machine", "Mount them: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`")
    })?;
    let available = subordinate::parse_map(&fs::read_to_string("/proc/self/uid_map").during("looking for user ids")?);
    let mut taken = Vec::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        taken.extend(subordinate::parse_subordinate(&text).into_iter().map(|(_, range)| range));
    }
    let range = |slot| subordinate::range_of_slot(slot, &available, &taken);
    if (0..subordinate::SLOTS).all(|slot| range(slot).is_none()) {
        return Err(unsuitable(
            format!("this machine has no {} user ids left for an environment", subordinate::RANGE),
            "In a container, give it a larger id map (Incus: `security.idmap.size=1000000000`)",
        ));
    }
    let cgroups = Cgroups::claim(version, hierarchies, subordinate::SLOTS, |slot| range(slot).is_some())?;
    let ids = range(cgroups.slot());
    parts.record.cgroups = Some(cgroups.clone());
    parts.save()?;
    notes.extend(cgroups.limit(limits));
    let ids = ids.ok_or_else(|| internal("a slot without ids"))?;
    cgroups.delegate(ids.first)?;
    Ok(ids)
}

/// From the namespaces to an engine that answers. Everything is undone on failure.
pub(super) async fn run(
    prepared: Preparation,
    spec: &EnvironmentSpec,
    client_key: PublicKey,
    reporter: &mut Reporter,
) -> Result<Running, Problem> {
    let Preparation { mut parts, wire, log, slirp4netns, limits, notes } = prepared;
    let engine_log = Tail::default();
    let started = async {
        let mut terminated = super::keep::termination()?;
        engine_log.follow(log).during("reading the engine's log")?;
        let facts = Facts { limits, notes };
        let start = start(&mut parts, wire, spec, &slirp4netns, client_key, facts, &engine_log, reporter);
        let started = tokio::select! {
            started = start => started,
            _ = terminated.recv() => Err(Problem::new(ErrorCode::Cancelled, "the agent was told to end while it started", "")),
        };
        Ok((started?, terminated))
    }
    .await;
    match started {
        Ok(((environment, deletions, events, listener, server, owner), terminated)) => {
            Ok(Running { parts, environment, deletions, events, listener, server, owner, engine_log, terminated })
        }
        Err(problem) => {
            if let Err(left) = parts.end().await {
                tracing::error!(problem = %left, "the failed start left something behind");
            }
            Err(problem)
        }
    }
}

struct Facts {
    limits: Limits,
    notes: Vec<String>,
}

type Started =
    (Arc<Environment>, mpsc::Receiver<Deletion>, Events, UnixListener, ssh::Server, (UnixListener, EnvironmentFacts));

#[expect(clippy::too_many_arguments, reason = "the parts of one sequence, which nobody else calls")]
async fn start(
    parts: &mut Parts,
    wire: OwnedFd,
    spec: &EnvironmentSpec,
    slirp4netns: &Path,
    client_key: PublicKey,
    mut facts: Facts,
    engine_log: &Tail,
    reporter: &mut Reporter,
) -> Result<Started, Problem> {
    let (link, mut events) = Link::new(wire)?;
    let rootless = parts.record.isolation == Isolation::Rootless;
    reporter.step("network", "Connecting the environment's network");
    let pid = parts.child_pid();
    let cgroups = parts.record.cgroups.clone();
    let network =
        Network::start(network::Target { program: slirp4netns.to_owned(), pid, rootless, cgroups: cgroups.clone() });
    // dockerd starts at the same time and needs longer.
    let socket = first_socket(parts, &mut events, &mut facts.notes, engine_log);
    let (network, socket) = tokio::try_join!(network, async {
        timeout(ENGINE, socket)
            .await
            .unwrap_or_else(|_| Err(engine_failed("dockerd did not start in time", &engine_log.text())))
    })?;
    parts.take_network(network)?;

    reporter.step("engine", "Waiting for dockerd to answer");
    let engine = EngineSocket::new(socket)?;
    let answer = async {
        tokio::select! {
            answer = first_answer(&engine) => answer.map_err(|error| engine_failed(&format!("dockerd does not answer: {error}"), &engine_log.text())),
            problem = engine_end(&mut events, engine_log) => Err(problem),
        }
    };
    let engine_version = timeout(ENGINE, answer)
        .await
        .unwrap_or_else(|_| Err(engine_failed("dockerd did not answer in time", &engine_log.text())))?;

    link.send(&Command::PortsChosen).await.during("talking to the environment")?;
    let laptop = link.listen_for_laptop().await;
    let laptop =
        laptop.inspect_err(|error| facts.notes.push(format!("containers do not reach your computer: {error}"))).ok();

    let path = spec.directory.join(spec::SOCKET);
    let listener = UnixListener::bind(&path).during("listening for the tunnel")?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).during("listening for the tunnel")?;
    if let Some(user) = spec.socket_user {
        std::os::unix::fs::chown(&path, Some(user), None).during("handing over the agent's socket")?;
    }
    let owner = owner::listen(&spec.directory)?;
    let host_key = ssh::make_host_key()?;
    let facts = EnvironmentFacts {
        host_key: openssh(&host_key)?,
        socket: path,
        agent_pid: std::process::id(),
        limits: facts.limits,
        isolation: parts.record.isolation,
        notes: facts.notes,
        engine_version,
        timings: reporter.timings(),
    };
    let (environment, deletions) = Environment::new(engine, Arc::clone(&link), cgroups, spec.lease);
    if let Some(heard) = laptop {
        tokio::spawn(ssh::laptop::serve(heard.connections, Arc::clone(&environment)));
        tokio::spawn(ssh::laptop::serve_datagrams(heard.datagrams, heard.conntrack, Arc::clone(&environment)));
        tokio::spawn(names::serve(heard.questions, heard.long_questions, link));
    }
    let server = ssh::Server::new(host_key, client_key, Arc::clone(&environment));
    reporter.ready(facts.clone()).during("reporting to the provider")?;
    log::detach(&spec.directory)?;
    Ok((environment, deletions, events, listener, server, (owner, facts)))
}

fn openssh(key: &PrivateKey) -> Result<String, Problem> {
    key.public_key().to_openssh().map_err(|error| internal(format!("writing the host key failed: {error}")))
}

/// Follows the environment's first process until the engine's socket exists.
async fn first_socket(
    parts: &mut Parts,
    events: &mut Events,
    notes: &mut Vec<String>,
    engine_log: &Tail,
) -> Result<OwnedFd, Problem> {
    loop {
        match events.recv().await {
            Some((Event::Init(pid), _)) => parts.take_init(pid)?,
            Some((Event::Note(note), _)) => notes.push(note),
            Some((Event::Started, _)) => {}
            Some((Event::EngineSocket, Some(socket))) => return Ok(socket),
            Some((Event::Failed(problem), _)) => return Err(problem),
            Some((Event::EngineEnded(status), _)) => return Err(ended(&status, engine_log).await),
            Some((other, _)) => return Err(internal(format!("the environment said {other:?}"))),
            None => return Err(engine_failed("the environment's first process ended", &engine_log.text())),
        }
    }
}

/// How the engine ended before it answered.
async fn engine_end(events: &mut Events, engine_log: &Tail) -> Problem {
    loop {
        match events.recv().await {
            Some((Event::EngineEnded(status), _)) => return ended(&status, engine_log).await,
            Some((Event::Failed(problem), _)) => return problem,
            Some(_) => {}
            None => return engine_failed("the environment's first process ended", &engine_log.text()),
        }
    }
}

/// The last lines may still be in the pipe.
async fn ended(status: &str, engine_log: &Tail) -> Problem {
    tokio::time::sleep(Duration::from_millis(50)).await;
    engine_failed(&format!("dockerd ended ({status})"), &engine_log.text())
}

/// The first request waits in the socket's queue until dockerd serves; it may also be turned away once while dockerd
/// replaces the socket.
async fn first_answer(engine: &EngineSocket) -> io::Result<String> {
    engine.get("/_ping").await?;
    engine.version().await
}
