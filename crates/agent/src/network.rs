//! The environment's network: slirp4netns, a TCP/IP stack in user space. The machine's own links and firewall stay as they
//! are, and no privilege over them is needed.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use overside_model::Problem;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, process::Child, time::timeout};

use crate::{
    cgroup::Cgroups,
    problem::{During, internal, last_lines, unsuitable},
    tail::Tail,
};

/// How long slirp4netns may take to bring its interface up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where it is looked for, besides the directories of the engine.
const STANDARD_PATH: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/usr/local/sbin"];

/// The address that it gives to the environment.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);

/// The laptop's address for containers: one of the environment's own, so that whatever network they are in leads there.
pub(crate) const LAPTOP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 254);
/// Where connections and datagrams to it are taken in; the firewall leads all of them there. Both ports are ones that nobody
/// publishes: a container that publishes 53 could not start if the agent listened there.
pub(crate) const LAPTOP_PORT: u16 = 1;
/// Where questions for names are taken in that are sent to its port 53.
pub(crate) const NAMES_PORT: u16 = 2;

/// Where slirp4netns answers such questions, as the machine's own resolver does.
pub(crate) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Which network namespace to connect, and how.
#[derive(Debug)]
pub(crate) struct Target {
    /// slirp4netns.
    pub(crate) program: PathBuf,
    /// A process in the namespace.
    pub(crate) pid: u32,
    /// The namespace belongs to a user namespace that has to be entered first.
    pub(crate) rootless: bool,
    /// Where to count it.
    pub(crate) cgroups: Option<Cgroups>,
}

/// slirp4netns at work for one network namespace.
#[derive(Debug)]
pub(crate) struct Network {
    target: Target,
    child: Child,
    /// slirp4netns ends when the other end of this is gone, however the agent ends.
    _exit: OwnedFd,
}

/// Finds slirp4netns.
pub(crate) fn find(engine_path: Option<&[PathBuf]>) -> Result<PathBuf, Problem> {
    let standard = STANDARD_PATH.iter().map(PathBuf::from);
    let mut files =
        engine_path.unwrap_or_default().iter().cloned().chain(standard).map(|path| path.join("slirp4netns"));
    files
        .find(|file| file.is_file())
        .ok_or_else(|| unsuitable("no slirp4netns on this machine", "Install it: `apt-get install slirp4netns`"))
}

impl Network {
    /// Starts it, and returns when the environment is connected.
    pub(crate) async fn start(target: Target) -> Result<Self, Problem> {
        if !Path::new("/dev/net/tun").exists() {
            return Err(unsuitable("this machine has no /dev/net/tun", "Load the kernel module: `modprobe tun`"));
        }
        // Inherited by slirp4netns under their own numbers: its standard streams carry its messages. Nothing else is
        // started at this time that could inherit them too.
        let (ready, ready_write) = pipe_with(PipeFlags::empty()).during("making a pipe")?;
        let (exit_read, exit) = pipe_with(PipeFlags::empty()).during("making a pipe")?;
        for own in [&ready, &exit] {
            fcntl_setfd(own, FdFlags::CLOEXEC).during("keeping a pipe")?;
        }
        let mut command = tokio::process::Command::new(&target.program);
        command.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
        command
            .arg(format!("--ready-fd={}", ready_write.as_raw_fd()))
            .arg(format!("--exit-fd={}", exit_read.as_raw_fd()));
        command.arg("--enable-seccomp");
        let pid = target.pid;
        if target.rootless {
            // Its sandbox needs the environment's own root (`setegid(0)`), which it has lost by then: slirp4netns 1.2 as an
            // ordinary user fails with it, and rootlesskit turns it off too. The user's own rights are the limit instead.
            command.arg(format!("--userns-path=/proc/{pid}/ns/user"));
        } else {
            command.arg("--enable-sandbox");
        }
        command.arg("--netns-type=path").arg(format!("/proc/{pid}/ns/net")).arg("tap0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).env_clear().kill_on_drop(true);
        let mut child = command.spawn().during("starting slirp4netns")?;
        drop((ready_write, exit_read));
        if let (Some(cgroups), Some(pid)) = (&target.cgroups, child.id()) {
            cgroups.enter_network(pid)?;
        }
        let messages = Tail::default();
        if let Some(stderr) = child.stderr.take() {
            let stderr = stderr.into_owned_fd().during("reading slirp4netns")?;
            messages.follow(stderr).during("reading slirp4netns")?;
        }
        let mut ready = Receiver::from_owned_fd(ready).during("waiting for slirp4netns")?;
        match timeout(PATIENCE, ready.read_u8()).await {
            Ok(Ok(_)) => Ok(Self { target, child, _exit: exit }),
            Ok(Err(_)) => {
                let status = child.wait().await.during("waiting for slirp4netns")?;
                let messages = last_lines(&messages.text(), 5);
                Err(unsuitable(format!("slirp4netns could not connect the environment ({status}): {messages}"), ""))
            }
            Err(_) => Err(internal("slirp4netns did not connect the environment in time")),
        }
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Starts it again: connections are lost, and new ones work.
    pub(crate) async fn restart(mut self) -> Result<Self, Problem> {
        let _ = self.child.kill().await;
        Self::start(self.target).await
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}
