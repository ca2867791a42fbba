//! An ordinary engine of the machine's, to compare with.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::{
    DockerCli, TempHome,
    process::{LIMIT, Running, run},
    traces,
};

/// A dockerd with directories, network, mounts and process ids of its own, so that it touches neither the machine's
/// firewall nor another engine, and dies with everything in it when it is dropped. It reaches no network.
pub struct DirectEngine {
    place: TempDir,
    process: Option<Running>,
    cgroup: String,
}

impl DirectEngine {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// It ended instead; says why. It needs root, if need be through a sudo that asks no password.
    pub fn start() -> Result<Self> {
        let place = tempfile::Builder::new().prefix("d").rand_bytes(5).tempdir()?;
        let cgroup = format!("direct-{}", place.path().file_name().unwrap_or_default().to_string_lossy());
        let at = place.path().display();
        // A containerd that is ended in the middle of something writes where its threads are into the directory for
        // temporary files, which would outlive the engine.
        let script = format!(
            "ip link set lo up; mkdir {at}/exec; export TMPDIR={at}/exec; exec tini -s -- dockerd --host unix://{at}/docker.sock --data-root {at}/data \
             --exec-root {at}/exec --pidfile {at}/pid --cgroup-parent /{cgroup} --group {group}",
            group = rustix::process::getgid().as_raw()
        );
        let mut command = as_root("unshare");
        command
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["sh", "-euc", &script]);
        let process = Running::spawn(&mut command)?;
        let mut engine = Self { place, process: Some(process), cgroup };
        engine.wait_until_ready()?;
        Ok(engine)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut version = Command::new("/usr/bin/docker");
            version.arg("--host").arg(self.host()).args(["version", "--format", "{{.Server.Version}}"]);
            if self.socket().exists() && run(&mut version, LIMIT)?.status.success() {
                return Ok(());
            }
            if let Some(mut process) = self.process.take_if(|process| process.has_ended().unwrap_or(true)) {
                process.close_stdin();
                bail!("the engine to compare with ended at once: {:?}", process.finish(LIMIT)?);
            }
            if Instant::now() > deadline {
                bail!("the engine to compare with did not answer within {LIMIT:?}");
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("docker.sock")
    }

    /// Its address, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// `docker` with arguments against this engine, with a home's environment otherwise.
    ///
    /// # Errors
    /// As [`TempHome::docker`].
    pub fn docker(&self, home: &TempHome, cli: &DockerCli, arguments: &[&str]) -> Result<Command> {
        let mut command = home.docker(cli, arguments)?;
        command.env("DOCKER_HOST", self.host());
        Ok(command)
    }
}

impl Drop for DirectEngine {
    fn drop(&mut self) {
        // The first process of its process namespace ends, and the kernel ends all others. As another user's processes they
        // can be found, but only root can end them. What cannot be removed is told by the look for leftovers at the end of
        // the run.
        let processes = traces::processes(&self.place.path().to_string_lossy());
        let _ = as_root("kill").arg("-KILL").args(processes.keys().map(u32::to_string)).output();
        self.process = None;
        remove_groups(&self.cgroup);
        let _ =
            as_root("rm").arg("-rf").arg(self.place.path().join("data")).arg(self.place.path().join("exec")).output();
    }
}

/// Removes the control groups of an engine that has ended.
pub(crate) fn remove_groups(name: &str) {
    let _ = as_root("sh").args(["-c", REMOVE_GROUPS, "sh", &format!("*/{name}*")]).output();
}

/// Control groups can be removed only when the kernel has finished with their processes.
const REMOVE_GROUPS: &str = r#"
for _ in $(seq 100); do
    find /sys/fs/cgroup -depth -type d -path "$1" -exec rmdir {} + 2> /dev/null
    [ -n "$(find /sys/fs/cgroup -type d -path "$1")" ] || exit 0
    sleep 0.05
done
"#;

fn as_root(program: &str) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", program]);
        sudo
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new).map(Path::to_path_buf);
    if let Ok(path) = env::join_paths(system.into_iter().chain(env::split_paths(&path))) {
        command.env("PATH", path);
    }
    command
}
