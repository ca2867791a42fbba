//! Looking for what an environment may have left on the machine.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::environment::Running;
use fs_err as fs;

/// What there is of an environment while it lives, to be looked for after its end.
pub(crate) struct Traces {
    directory: PathBuf,
    /// With their inodes: another test's environment may take the slot at once.
    groups: Vec<(PathBuf, u64)>,
    processes: Vec<(u32, String)>,
    first_uid: Option<u32>,
}

impl Traces {
    /// Takes note of a living environment.
    pub(crate) fn of(running: &Running) -> Self {
        let record: serde_json::Value =
            serde_json::from_slice(&fs::read(running.directory.join("environment.json")).unwrap()).unwrap();
        let cgroups = &record["cgroups"];
        let mut groups = Vec::new();
        for hierarchy in cgroups["hierarchies"].as_array().into_iter().flatten() {
            let mount = Path::new(hierarchy["mount"].as_str().unwrap());
            let group = mount.join("overside").join(format!("env-{}", cgroups["slot"]));
            let inode = inode(&group).expect("a group on record");
            groups.push((group, inode));
        }
        let processes = record["processes"].as_array().unwrap();
        let pids = processes.iter().map(|process| u32::try_from(process["pid"].as_u64().unwrap()).unwrap());
        let processes: Vec<(u32, String)> =
            pids.map(|pid| (pid, start_of(pid).expect("a process on record"))).collect();
        assert!(processes.len() >= 3, "the namespaces' holder, the first process and slirp4netns are on record");
        let first_uid = uid_of(&running.directory.join("data"));
        Self { directory: running.directory.clone(), groups, processes, first_uid }
    }

    /// First of the environment's user ids.
    pub(crate) const fn first_uid(&self) -> Option<u32> {
        self.first_uid
    }

    /// The process ids in the environment, as the machine sees them.
    pub(crate) fn living(&self) -> Vec<u32> {
        let first = self.first_uid.unwrap();
        processes().into_iter().filter(|(_, uid)| (first..first + 65_536).contains(uid)).map(|(pid, _)| pid).collect()
    }

    /// Asserts that nothing of the environment is left. `kill -9` of the agent is followed by the kernel's own work, which
    /// is waited for.
    pub(crate) fn assert_gone(&self) {
        assert!(!self.directory.exists(), "{} is left", self.directory.display());
        let groups: Vec<_> = self.groups.iter().filter(|(group, known)| inode(group) == Some(*known)).collect();
        assert!(groups.is_empty(), "{groups:?} are left");
        let begun = Instant::now();
        loop {
            let known: Vec<_> =
                self.processes.iter().filter(|(pid, start)| start_of(*pid).as_ref() == Some(start)).collect();
            let taken = self.groups.iter().any(|(group, _)| group.exists());
            let others = self.first_uid.filter(|_| !taken).map(|_| self.living()).unwrap_or_default();
            if known.is_empty() && others.is_empty() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "processes are left: {known:?} {others:?}");
            std::thread::yield_now();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*self.directory.to_string_lossy()), "a mount is left");
        let links: Vec<_> = fs::read_dir("/sys/class/net").unwrap().map(|link| link.unwrap().file_name()).collect();
        let strange = links.iter().filter(|name| ["tap0", "docker0"].iter().any(|ours| name.as_os_str() == *ours));
        assert_eq!(strange.count(), 0, "a link is left: {links:?}");
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(fs::metadata(path).ok()?.ino())
}

/// Start time of a process that is not a zombie.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

fn uid_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let uid = fs::metadata(path).ok()?.uid();
    (uid >= 0x7000_0000).then_some(uid)
}

/// Process ids and user ids of everything that runs.
fn processes() -> Vec<(u32, u32)> {
    let process = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        if status.contains("State:\tZ") {
            return None;
        }
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        Some((pid, uid.split_whitespace().next()?.parse().ok()?))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(process).collect()
}
