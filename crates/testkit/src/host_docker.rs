//! The Docker of a host that one logs in to.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    Sshd, TempHome,
    direct::remove_groups,
    process::{LIMIT, Running, run},
};

/// A dockerd among the files of an [`Sshd`]'s host, where it listens on /var/run/docker.sock, which the host's processes see
/// and nobody else. It has a network of its own and reaches none. Dropped, it is gone with everything in it.
pub struct HostDocker {
    process: Option<Running>,
    place: PathBuf,
    sshd: u32,
    cgroup: String,
}

impl HostDocker {
    /// Starts it and waits until it answers. Whoever is in `group` of the host's may use it.
    ///
    /// # Errors
    /// It ended instead; says why. It needs root, and /run must be the host's own.
    pub fn start(home: &TempHome, sshd: &Sshd, group: &str) -> Result<Self> {
        let place = home.scratch().join("host-docker");
        fs_err::create_dir(&place)?;
        let cgroup = format!("host-{}", home.scratch().file_name().unwrap_or_default().to_string_lossy());
        let at = place.display();
        let script = format!(
            "ip link set lo up; export TMPDIR={at}; exec dockerd --host unix:///var/run/docker.sock --data-root {at}/data \
             --exec-root {at}/exec --pidfile {at}/pid --cgroup-parent /{cgroup} --group {group}"
        );
        let mut command = within(sshd.pid());
        let process = Running::spawn(command.args(["unshare", "--net", "sh", "-euc", &script]))?;
        process.wait_for_error("API listen on", LIMIT)?;
        Ok(Self { process: Some(process), place, sshd: sshd.pid(), cgroup })
    }

    /// Its containers, images and volumes, one a line.
    ///
    /// # Errors
    /// It does not answer.
    pub fn everything(&self) -> Result<String> {
        let mut found = String::new();
        for list in [&["ps", "--all"][..], &["image", "ls", "--all"], &["volume", "ls"]] {
            let mut docker = within(self.sshd);
            docker.args(["/usr/bin/docker", "--host", "unix:///var/run/docker.sock"]).args(list).arg("--quiet");
            found.push_str(&run(&mut docker, LIMIT)?.success()?.out());
        }
        Ok(found)
    }

    /// Waits until it has nothing any more.
    ///
    /// # Errors
    /// It still has something after `limit`; says what.
    pub fn wait_until_empty(&self, limit: Duration) -> Result<()> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let left = self.everything()?;
            if left.is_empty() {
                return Ok(());
            }
            if std::time::Instant::now() > deadline {
                bail!("the host's Docker still has {left}");
            }
        }
    }
}

impl Drop for HostDocker {
    fn drop(&mut self) {
        // It ends its containers, and what it has mounted.
        if let Some(process) = self.process.take() {
            let _ = process.signal(rustix::process::Signal::TERM);
            let _ = process.finish(LIMIT);
        }
        remove_groups(&self.cgroup);
        let _ = fs_err::remove_dir_all(&self.place);
    }
}

/// A command among the files that a process sees.
fn within(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount={}", Path::new("/proc").join(pid.to_string()).join("ns/mnt").display()));
    command
}
