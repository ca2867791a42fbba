//! A Debian that has nothing but its package manager, in namespaces of its own.
//!
//! `cargo xtask test package` says where things are: `OVERSIDE_TEST_DEBIAN` is a directory with the packed root and what apt
//! has fetched before, `OVERSIDE_TEST_PACKAGES` the one with the packages.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use overside_testkit::{LIMIT, Outcome, Running, run};
use tempfile::TempDir;

/// What apt may take, which fetches a few hundred packages the first time.
pub const INSTALLING: Duration = Duration::from_secs(600);

/// The machine, and how to do something on it. Dropped, its processes and mounts are gone, and its files.
pub struct CleanDebian {
    // In the order in which they are dropped: nothing must run in the root, or be mounted, when it is deleted.
    holder: Running,
    root: TempDir,
}

/// The first process, which outlives every other one, so that the namespaces stay. `$1`: the root, `$2`: what apt fetched.
const HOLDER: &str = "mount -t proc proc \"$1/proc\" && mount --rbind /dev \"$1/dev\" && \
    mount --bind \"$2\" \"$1/var/cache/apt/archives\" && echo ready && exec sleep infinity";

impl CleanDebian {
    /// Unpacks it. Needs root.
    ///
    /// # Errors
    /// The packed root is missing, or there may be no such namespaces.
    pub fn new() -> Result<Self> {
        let debian = place("OVERSIDE_TEST_DEBIAN")?;
        let root = tempfile::tempdir()?;
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(debian.join("root.tar")).arg("--directory").arg(root.path());
        run(&mut tar, LIMIT)?.success()?;
        // apt finds its mirror as this machine does.
        for file in ["etc/resolv.conf", "etc/hosts"] {
            fs_err::copy(Path::new("/").join(file), root.path().join(file))?;
        }
        let archives = debian.join("archives");
        fs_err::create_dir_all(archives.join("partial"))?;
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        holder.args(["sh", "-c", HOLDER, "sh"]).arg(root.path()).arg(archives);
        let holder = Running::spawn(&mut holder)?;
        holder.wait_for("ready", LIMIT)?;
        Ok(Self { holder, root })
    }

    /// A path on the machine, as it is seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// A program on the machine, as its administrator runs it.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.inside()?;
        command.arg("chroot").arg(self.root.path()).args(["env", "-i", "-C", "/"]);
        command.args([
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.arg(program);
        Ok(command)
    }

    /// Runs a script on the machine.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Outcome> {
        run(self.command("sh")?.args(["-euc", script]), limit)
    }

    /// Has apt do something: `install --no-install-recommends zsh`. What it fetches is every such machine's, so that another
    /// one may have to wait.
    ///
    /// # Errors
    /// It fails.
    pub fn apt(&self, command: &str) -> Result<Outcome> {
        let apt = "flock /var/cache/apt/archives/one-at-a-time apt-get --quiet --quiet --yes";
        self.run(&format!("{apt} {command}"), INSTALLING)?.success()
    }

    /// Shows a file of this machine on that one.
    ///
    /// # Errors
    /// There is no such file.
    pub fn lend(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.path(to);
        fs_err::write(&to, "")?;
        run(self.inside()?.args(["mount", "--bind"]).args([from, &to]), LIMIT)?.success()?;
        Ok(())
    }

    fn inside(&self) -> Result<Command> {
        let holder = self.holder.pid();
        let children = fs_err::read_to_string(format!("/proc/{holder}/task/{holder}/children"))?;
        let first = children.split_whitespace().next().context("the machine is gone")?;
        let mut command = Command::new("nsenter");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["--target", first, "--mount", "--pid", "--"]);
        Ok(command)
    }
}

/// The package with this ending.
///
/// # Errors
/// There is none, or more than one.
pub fn package(ending: &str) -> Result<PathBuf> {
    let directory = place("OVERSIDE_TEST_PACKAGES")?;
    let files = fs_err::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut packages = files.into_iter().filter(|path| path.extension().is_some_and(|found| found == ending));
    let package = packages.next().with_context(|| format!("no .{ending} in {}", directory.display()))?;
    anyhow::ensure!(packages.next().is_none(), "more than one .{ending} in {}", directory.display());
    Ok(package)
}

fn place(variable: &str) -> Result<PathBuf> {
    let place =
        env::var_os(variable).with_context(|| format!("{variable} is not set: run `cargo xtask test package`"))?;
    Ok(place.into())
}
