//! The environment's first process: mounts, starts dockerd, buries the dead, and hands out sockets of its network.
//!
//! The environment's root can do to it whatever root can do to a process: the agent relies on it for service, never for
//! safety.

use std::{
    io::{self, Write as _},
    net::Ipv4Addr,
    ops::RangeInclusive,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixListener, process::ExitStatusExt},
    },
    path::Path,
    process::{Command as Program, ExitCode, ExitStatus, Stdio},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use overside_model::{Problem, agent::DYNAMIC_PORTS};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags, inotify, open},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, netlink::NETFILTER, socket_with},
    process::{Pid, WaitOptions, wait},
};

use super::{files, listeners::Listeners, mounts, netlink, overlay, rootlesskit};
use crate::{
    network::{LAPTOP, LAPTOP_PORT, NAME_SERVER, NAMES_PORT},
    problem::{During, internal},
    wire::{self, Command, Event, Plan, SocketKind},
};

/// What `/etc/resolv.conf` is. dockerd reads it anew for every container.
pub(super) const RESOLVER: &str = "/run/resolv.conf";

/// Where dockerd listens.
const SOCKET: &str = overside_model::agent::ENGINE_SOCKET;

/// Where the kernel keeps the numbers for outgoing connections, out of which dockerd also chooses ports.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The kernel's own choice for outgoing connections.
pub(super) const OUTGOING_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// How long, in seconds, the kernel knows a flow of datagrams in which one side is silent: for longer than the agent does, so
/// that answers find back. By itself it is 30 s until there was one.
const DATAGRAMS_KNOWN: &str = "120";
/// Where that stands.
const DATAGRAMS_KNOWN_BY: &str = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";

/// What every dockerd is told, besides the storage driver.
const ARGUMENTS: [&str; 4] = [
    "--host=unix:///run/docker.sock",
    "--data-root=/var/lib/docker",
    "--exec-root=/run/dk",
    "--pidfile=/run/dockerd.pid",
];

/// Runs until dockerd or the agent ends.
pub(super) fn run(wire: &OwnedFd, plan: &Plan) -> Result<ExitCode, Problem> {
    mounts::enter(plan)?;
    rustix::system::sethostname(plan.name.as_bytes()).during("naming the environment")?;
    netlink::raise_loopback()?;
    netlink::add_to_loopback(LAPTOP.into()).during("adding the laptop's address")?;
    ask_for_names_at(NAME_SERVER).during("writing /etc/resolv.conf")?;
    let note = choose_ports_from(DYNAMIC_PORTS).err().map(|error| {
        format!("ports that the engine chooses may be taken on the laptop: cannot write {PORT_RANGE}: {error}")
    });
    if let Some(note) = note {
        tell(wire, &Event::Note(note))?;
    }
    let (driver, note) = overlay::storage_driver(Path::new("/var/lib/docker"), &plan.programs);
    if let Some(note) = note {
        tell(wire, &Event::Note(note.to_owned()))?;
    }
    // Both before dockerd starts, so that neither its death nor its socket can be missed.
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    signals.thread_block().during("blocking signals")?;
    let signals =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).during("receiving signals")?;
    let watch =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).during("watching /run")?;
    inotify::add_watch(&watch, "/run", inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)
        .during("watching /run")?;
    let rootlesskit = if plan.rootlesskit { Some(rootlesskit::listen()?) } else { None };
    let engine = start_engine(plan, driver)?;
    tell(wire, &Event::Started)?;
    Init { wire, signals, watch: Some(watch), rootlesskit, engine, listeners: Listeners::default() }.run()
}

struct Init<'a> {
    wire: &'a OwnedFd,
    signals: SignalFd,
    /// Until the engine's socket has appeared.
    watch: Option<OwnedFd>,
    /// Where dockerd wants to hear rootlesskit.
    rootlesskit: Option<UnixListener>,
    engine: Pid,
    listeners: Listeners,
}

impl Init<'_> {
    fn run(mut self) -> Result<ExitCode, Problem> {
        loop {
            let [wire, signals, watch, rootlesskit] = self.wait()?;
            if watch {
                self.look_for_socket()?;
            }
            if rootlesskit && let Some(listener) = &self.rootlesskit {
                rootlesskit::answer(listener);
            }
            if signals && let Some(status) = self.handle_signals() {
                tell(self.wire, &Event::EngineEnded(status))?;
                return Ok(ExitCode::SUCCESS);
            }
            if wire && !self.handle_command()? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Waits until something has happened, and tells where.
    fn wait(&self) -> Result<[bool; 4], Problem> {
        let sources = [
            Some(self.wire.as_fd()),
            Some(self.signals.as_fd()),
            self.watch.as_ref().map(AsFd::as_fd),
            self.rootlesskit.as_ref().map(AsFd::as_fd),
        ];
        let present = sources.iter().flatten();
        let mut polled: Vec<PollFd<'_>> =
            present.map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok([false; 4]),
            Err(error) => return Err(error).during("waiting for events"),
        }
        let mut fired = polled.iter().map(|entry| !entry.revents().is_empty());
        Ok(sources.map(|source| source.is_some() && fired.next() == Some(true)))
    }

    fn look_for_socket(&mut self) -> Result<(), Problem> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let mut events = [0; 4096];
        while rustix::io::read(watch, &mut events).is_ok_and(|count| count > 0) {}
        if let Ok(socket) = open(SOCKET, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            wire::send(self.wire, &Event::EngineSocket, &[socket.as_fd()]).during("talking to the agent")?;
            self.watch = None;
        }
        Ok(())
    }

    /// Returns how dockerd ended, if it did.
    fn handle_signals(&self) -> Option<String> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if i32::try_from(signal.ssi_signo) == Ok(Signal::SIGTERM as i32) {
                let _ = rustix::process::kill_process(self.engine, rustix::process::Signal::TERM);
            }
        }
        let mut ended = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.engine {
                ended = Some(ExitStatus::from_raw(status.as_raw()).to_string());
            }
        }
        ended
    }

    /// Returns whether the agent is still there.
    fn handle_command(&mut self) -> Result<bool, Problem> {
        let Some((command, _)) = wire::receive::<Command>(self.wire).during("hearing from the agent")? else {
            return Ok(false);
        };
        match command {
            Command::Sockets { id, kind, count } => {
                let (family, kind, protocol) = match kind {
                    SocketKind::Ip { v6, datagrams } => (
                        if v6 { AddressFamily::INET6 } else { AddressFamily::INET },
                        if datagrams { SocketType::DGRAM } else { SocketType::STREAM },
                        None,
                    ),
                    SocketKind::ConnectionTracking => (AddressFamily::NETLINK, SocketType::RAW, Some(NETFILTER)),
                };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let made =
                    (0..count.min(wire::DESCRIPTORS)).map_while(|_| socket_with(family, kind, flags, protocol).ok());
                let sockets: Vec<OwnedFd> = made.collect();
                let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                wire::send(self.wire, &Event::Answer { id, listeners: Vec::new() }, &sockets)
                    .during("talking to the agent")?;
            }
            Command::Addresses { id, addresses } => {
                for address in addresses {
                    // The engine says best what it means that there is no such address.
                    let _ = netlink::add_to_loopback(address);
                }
                tell(self.wire, &Event::Answer { id, listeners: Vec::new() })?;
            }
            Command::Redirect { id } => {
                if let Err(error) = redirect() {
                    // To the engine's log. Connections to the laptop are refused then.
                    eprintln!("containers do not reach the laptop: {error}");
                }
                tell(self.wire, &Event::Answer { id, listeners: Vec::new() })?;
            }
            Command::Listeners { id, containers } => {
                let listeners = self.listeners.read(&containers);
                tell(self.wire, &Event::Answer { id, listeners })?;
            }
            Command::Files { id } => {
                let stream = files::start();
                let sent = stream.as_ref().map(AsFd::as_fd).into_iter().collect::<Vec<_>>();
                if let Err(error) = &stream {
                    // To the engine's log.
                    eprintln!("the laptop's files are not served: {error}");
                }
                wire::send(self.wire, &Event::Answer { id, listeners: Vec::new() }, &sent)
                    .during("talking to the agent")?;
            }
            Command::PortsChosen => {
                let _ = choose_ports_from(OUTGOING_PORTS);
            }
            Command::Stop => self.signal_all(Signal::SIGSTOP)?,
            Command::Continue => self.signal_all(Signal::SIGCONT)?,
            Command::Plan(_) | Command::Mapped => return Err(internal("a message of the start came late")),
        }
        Ok(true)
    }

    /// Every process but this one.
    fn signal_all(&self, signal: Signal) -> Result<(), Problem> {
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => tell(self.wire, &Event::Signalled),
            Err(error) => Err(error).during("stopping the environment's processes"),
        }
    }
}

/// Of containers that come from the environment's bridges, and of those that have its own network.
fn redirect() -> io::Result<()> {
    // Absent where the kernel does not let this be set; answers that are late are lost then.
    let _ = fs_err::write(DATAGRAMS_KNOWN_BY, DATAGRAMS_KNOWN);
    // Each is put before the one above it, and all of them before the engine's own, which lead to published ports.
    let mut rules = String::from("*nat\n");
    for (port, to) in [("", LAPTOP_PORT), (" --dport 53", NAMES_PORT)] {
        for (chain, protocol) in [("PREROUTING", "tcp"), ("PREROUTING", "udp"), ("OUTPUT", "tcp"), ("OUTPUT", "udp")] {
            rules += &format!("-I {chain} -p {protocol} -d {LAPTOP}{port} -j DNAT --to-destination {LAPTOP}:{to}\n");
        }
    }
    rules += "COMMIT\n";
    let mut program = Program::new("/usr/sbin/iptables-restore");
    program.env_clear().env("PATH", "/usr/sbin:/usr/bin").args(["--noflush", "--wait"]).stdin(Stdio::piped());
    let mut child = program.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    if !child.wait()?.success() {
        return Err(io::Error::other("iptables-restore refuses the rules"));
    }
    ask_for_names_at(LAPTOP)
}

fn ask_for_names_at(server: Ipv4Addr) -> io::Result<()> {
    fs_err::write(RESOLVER, format!("nameserver {server}\n"))
}

/// dockerd reads the range once, while it starts.
fn choose_ports_from(range: RangeInclusive<u16>) -> io::Result<()> {
    fs_err::write(PORT_RANGE, format!("{} {}", range.start(), range.end()))
}

fn tell(wire: &OwnedFd, event: &Event) -> Result<(), Problem> {
    wire::send(wire, event, &[]).during("talking to the agent")
}

/// dockerd with nothing of the agent's environment. Its output goes where this process's goes: to the agent.
fn start_engine(plan: &Plan, driver: &str) -> Result<Pid, Problem> {
    let mut program = Program::new("/usr/bin/dockerd");
    program
        .args(ARGUMENTS)
        .arg(format!("--host-gateway-ip={LAPTOP}"))
        .arg(format!("--storage-driver={driver}"))
        .current_dir("/")
        .stdin(Stdio::null());
    program.env_clear().env("PATH", "/usr/sbin:/usr/bin").env("HOME", "/root");
    if !plan.privileged {
        // Without cgroups of its own dockerd starts in this mode only; it then wants to know where its files may be.
        program.arg("--rootless").env("XDG_RUNTIME_DIR", "/run");
    }
    if plan.rootlesskit {
        program.env("ROOTLESSKIT_STATE_DIR", rootlesskit::STATE);
    }
    if !plan.programs.library_path.is_empty() {
        let path: Vec<String> = plan.programs.library_path.iter().map(|path| path.display().to_string()).collect();
        program.env("LD_LIBRARY_PATH", path.join(":"));
    }
    let child = program.spawn().during("starting dockerd")?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| internal("dockerd has no process id"))
}
