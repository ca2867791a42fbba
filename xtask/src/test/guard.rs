//! Tests leave nothing behind and write nowhere but into homes of their own; this proves it.
//!
//! They get a home directory that must stay untouched, a directory for temporary files that must be empty at the end, and
//! a look at the machine before and after: processes, control groups, mounts and network links.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// How long the last environment of a run may take to go away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Variables that would lead a test out of its home.
const FOREIGN: &[&str] = &[
    "DOCKER_BUILDKIT",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "OVERSIDE_AGENT",
    "OVERSIDE_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
];

/// What one test run may touch, and what was there before it.
pub(super) struct Guard {
    place: TempDir,
    before: BTreeSet<String>,
}

impl Guard {
    pub(super) fn new() -> Result<Self> {
        // Short: the tests' socket paths begin with it, and end at 104 bytes.
        let place = tempfile::Builder::new().prefix("ov").rand_bytes(4).tempdir()?;
        for directory in ["home", "t"] {
            fs_err::create_dir(place.path().join(directory))?;
        }
        let mut before = traces(place.path());
        // Also where somebody else's Overside runs now, which may have ended when it is looked again.
        before.extend(links());
        Ok(Self { place, before })
    }

    fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    fn temporary(&self) -> PathBuf {
        self.place.path().join("t")
    }

    /// Gives a test command its guarded home. Rust's own tools keep theirs.
    pub(super) fn apply(&self, command: &mut Command) {
        let home = env::home_dir().unwrap_or_default();
        let kept = |name: &str, default: &str| env::var_os(name).map_or_else(|| home.join(default), PathBuf::from);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .env("CARGO_HOME", kept("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", kept("RUSTUP_HOME", ".rustup"))
            .env("HOME", self.home())
            .env("TMPDIR", self.temporary());
    }

    /// Fails with everything that is there and should not be.
    pub(super) fn inspect(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut left: Vec<String>;
        loop {
            left = traces(self.place.path()).difference(&self.before).cloned().collect();
            if left.is_empty() || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        left.extend(entries(&self.temporary()).into_iter().map(|path| format!("temporary file {}", path.display())));
        left.extend(
            strangers(&self.home())?.into_iter().map(|path| format!("outside its own home: {}", path.display())),
        );
        if !left.is_empty() {
            bail!("the tests left behind:\n  {}", left.join("\n  "));
        }
        Ok(())
    }
}

/// Files in the guarded home that only Overside or docker would have written.
fn strangers(home: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![home.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs_err::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if name.contains("overside") || name == ".docker" {
                found.push(entry.path());
            } else if entry.file_type().context("cannot tell what a file is")?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// What these tests may have left on this machine, in words. What cannot be read is another user's and not ours, and what
/// belongs to an Overside that runs besides is left out: ours mentions the directory that the tests were given.
fn traces(place: &Path) -> BTreeSet<String> {
    let place = place.to_string_lossy();
    let mut traces = BTreeSet::new();
    let mut others = false;
    for process in entries(Path::new("/proc")) {
        let Ok(name) = fs_err::read_to_string(process.join("comm")) else { continue };
        // The kernel cuts names to 15 characters; a zombie has no command line and waits only for its parent.
        let alive = fs_err::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty());
        let known = ["overside", "overside-agent", "overside-deskto", "dockerd", "slirp4netns"].contains(&name.trim());
        if alive && mentions(&process, &place) {
            traces.insert(format!("process {} {}", process.file_name().unwrap_or_default().display(), name.trim()));
        } else if alive && known {
            others = true;
        }
    }
    for controller in entries(Path::new("/sys/fs/cgroup")) {
        // The hierarchies of version 1, or the top groups of version 2; environments lie below a group of ours.
        let group = if named_ours(&controller) { controller } else { controller.join("overside") };
        let groups = entries(&group).into_iter().filter(|path| path.is_dir());
        let ours = groups.filter(|group| !others || members(group).iter().any(|process| mentions(process, &place)));
        traces.extend(ours.map(|path| format!("cgroup {}", path.display())));
    }
    if let Ok(mounts) = fs_err::read_to_string("/proc/self/mounts") {
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.contains(&*place));
        traces.extend(points.map(|point| format!("mount {point}")));
    }
    if !others {
        traces.extend(links());
    }
    traces
}

/// The network links of this machine.
fn links() -> impl Iterator<Item = String> {
    let links = entries(Path::new("/sys/class/net")).into_iter();
    links.map(|link| format!("network link {}", link.file_name().unwrap_or_default().display()))
}

/// Whether a process was started with the tests' directory in its arguments or variables, or has mounted something of it.
fn mentions(process: &Path, place: &str) -> bool {
    ["cmdline", "environ", "mountinfo"].iter().any(|file| {
        let bytes = fs_err::read(process.join(file)).unwrap_or_default();
        bytes.windows(place.len()).any(|window| window == place.as_bytes())
    })
}

/// The processes of a control group and of those in it, as directories of /proc.
fn members(group: &Path) -> Vec<PathBuf> {
    let own = fs_err::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<PathBuf> = own.lines().map(|pid| Path::new("/proc").join(pid)).collect();
    found.extend(entries(group).into_iter().filter(|path| path.is_dir()).flat_map(|inner| members(&inner)));
    found
}

fn named_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains("overside"))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs_err::read_dir(directory)
        .map_or_else(|_| Vec::new(), |entries| entries.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ours_in_the_guarded_home_is_found_at_any_depth() {
        let guard = Guard::new().unwrap();
        fs_err::create_dir_all(guard.home().join(".config/Overside")).unwrap();
        fs_err::create_dir_all(guard.home().join(".cache/fontconfig")).unwrap();
        assert_eq!(strangers(&guard.home()).unwrap(), [guard.home().join(".config/Overside")]);
    }

    #[test]
    fn a_guarded_command_has_a_home_of_its_own_and_no_docker_of_the_developers() {
        let guard = Guard::new().unwrap();
        let mut command = Command::new("true");
        guard.apply(&mut command);
        let variables: Vec<_> = command.get_envs().collect();
        assert!(variables.contains(&("HOME".as_ref(), Some(guard.home().as_os_str()))));
        assert!(variables.contains(&("DOCKER_HOST".as_ref(), None)));
    }
}
