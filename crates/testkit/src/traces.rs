//! What an Overside leaves on a machine besides its files: processes, control groups, mounts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::process::signal_process;

/// How often the machine is looked at while something shall go away: the kernel announces none of these.
const GLANCE: Duration = Duration::from_millis(20);

/// Longest time that a process may have no arguments while it becomes another program; it takes far below a millisecond
/// where there is a processor for it.
const EXEC: Duration = Duration::from_millis(500);

/// `PF_KTHREAD` among the flags of /proc/PID/stat.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// How long processes may take to end when a test is over.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything that is there, found by the home's path in what the kernel tells of each process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Processes, by number, with their command lines.
    pub processes: BTreeMap<u32, String>,
    /// Control groups.
    pub cgroups: BTreeSet<PathBuf>,
    /// Mount points.
    pub mounts: BTreeSet<PathBuf>,
}

impl Traces {
    /// Control groups of all environments on this machine, for a comparison later.
    pub(crate) fn now() -> Self {
        Self { cgroups: environments(), ..Self::default() }
    }

    /// What belongs to the home in a directory.
    pub(crate) fn of(home: &Path, before: &Self) -> Self {
        let home = home.to_string_lossy().into_owned();
        let mut processes = processes(&home);
        let mut cgroups = BTreeSet::new();
        for group in environments() {
            // Groups are named by number, so that their names tell nothing: a group is ours if something of ours is in it.
            // An empty one that was not there before is nobody's and should not be there.
            let members = members(&group);
            let ours = members.iter().any(|pid| mentions(*pid, &home, &["cmdline", "environ", "mountinfo"]));
            if ours || (members.is_empty() && !before.cgroups.contains(&group) && !in_use(&group)) {
                cgroups.insert(group);
                processes.extend(members.into_iter().map(|pid| (pid, command_line(pid))));
            }
        }
        let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&home));
        // A full disk is simulated with a small file system on the home itself, which the test made and unmounts.
        let mounts = points.filter(|point| *point != home).map(PathBuf::from).collect();
        Self { processes, cgroups, mounts }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.cgroups.is_empty() && self.mounts.is_empty()
    }

    /// Process ids of this home's agents, also of those that were brought to another host.
    pub fn agents(&self) -> Vec<u32> {
        let agents = self.named(|name| name == "overside-agent" || name.starts_with("overside-agent-"));
        // The program has other uses that last, such as joining pipes to an agent's socket.
        agents.into_iter().filter(|pid| self.processes[pid].ends_with(" serve")).collect()
    }

    /// Leaves out the processes whose program has this name.
    pub(crate) fn forget(&mut self, name: &str) {
        for pid in self.programs(name) {
            self.processes.remove(&pid);
        }
    }

    /// Process ids of this home's processes whose program has this name.
    pub fn programs(&self, name: &str) -> Vec<u32> {
        self.named(|file| file == name)
    }

    fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        let is_named = |line: &str| {
            let program = line.split(' ').next().unwrap_or_default();
            Path::new(program).file_name().and_then(|file| file.to_str()).is_some_and(&wanted)
        };
        self.processes.iter().filter(|(_, line)| is_named(line)).map(|(pid, _)| *pid).collect()
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pid, line) in &self.processes {
            writeln!(f, "process {pid}: {line}")?;
        }
        for path in &self.cgroups {
            writeln!(f, "control group {}", path.display())?;
        }
        for path in &self.mounts {
            writeln!(f, "mount {}", path.display())?;
        }
        Ok(())
    }
}

/// Waits until there are no traces.
pub(crate) fn wait_until_gone(look: impl Fn() -> Traces, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let traces = look();
        if traces.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("still there after {limit:?}:\n{traces}");
        }
        std::thread::sleep(GLANCE);
    }
}

/// Ends what still runs, first politely, and returns what had to be removed by force.
pub(crate) fn end(look: impl Fn() -> Traces) -> Traces {
    let deadline = Instant::now() + PATIENCE;
    let mut told = BTreeSet::new();
    let left = loop {
        let traces = look();
        if traces.is_empty() {
            return traces;
        }
        // In every look: what was being started in the last one may only now be a daemon.
        for pid in traces.programs("overside").into_iter().filter(|pid| told.insert(*pid)) {
            // It may have ended meanwhile.
            let _ = signal_process(pid, Signal::TERM);
        }
        if Instant::now() > deadline {
            break traces;
        }
        std::thread::sleep(GLANCE);
    };
    for _ in 0..3 {
        for pid in look().processes.keys() {
            let _ = signal_process(*pid, Signal::KILL);
        }
        std::thread::sleep(GLANCE);
    }
    for group in &left.cgroups {
        remove_group(group);
    }
    left
}

/// Groups go from the inside out; one that is still in use stays, and is told.
fn remove_group(group: &Path) {
    for inner in directories(group) {
        remove_group(&inner);
    }
    let _ = std::fs::remove_dir(group);
}

/// The control groups of environments: what lies in a group named `overside`, of any hierarchy, at any of the places
/// where an agent may make one.
fn environments() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((group, depth)) = open.pop() {
        if group.file_name().is_some_and(|name| name == "overside") {
            found.extend(directories(&group));
        } else if depth < 5 {
            open.extend(directories(&group).into_iter().map(|inner| (inner, depth + 1)));
        }
    }
    found
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn members(group: &Path) -> Vec<u32> {
    let own = fs_err::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    pids.extend(directories(group).iter().flat_map(|inner| members(inner)));
    pids
}

/// Whether the same environment has members in another hierarchy.
fn in_use(group: &Path) -> bool {
    let id = group.file_name();
    environments().iter().any(|other| other.file_name() == id && !members(other).is_empty())
}

/// Processes whose arguments or variables name a directory.
pub(crate) fn processes(home: &str) -> BTreeMap<u32, String> {
    let Ok(entries) = fs_err::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id() && settled(*pid))
        .filter(|pid| mentions(*pid, home, &["cmdline", "environ"]))
        .map(|pid| (pid, command_line(pid)))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// Waits until a process has arguments: between two programs, in the middle of exec, it has none for a moment, and whose it
/// is cannot be told. False for what never has any: the dead, and threads of the kernel's.
fn settled(pid: u32) -> bool {
    let deadline = Instant::now() + EXEC;
    loop {
        if !command_line(pid).is_empty() {
            return true;
        }
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may hold anything: state, parent, group, session, terminal, its group, flags.
        let fields: Vec<&str> = stat.rsplit_once(')').map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let dead = fields.get(1).is_none_or(|state| ["Z", "X"].contains(state));
        let flags = fields.get(7).and_then(|flags| flags.parse::<u32>().ok()).unwrap_or(KERNEL_THREAD);
        if dead || flags & KERNEL_THREAD != 0 || Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
}

/// Whether the home's path stands in one of the process's files in /proc.
fn mentions(pid: u32, home: &str, files: &[&str]) -> bool {
    files.iter().any(|file| {
        let bytes = fs_err::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(home.len()).any(|window| window == home.as_bytes())
    })
}

fn command_line(pid: u32) -> String {
    let bytes = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_seen_from_the_moment_that_it_is_started() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().to_string_lossy().into_owned();
        for attempt in 0..300 {
            // Returns in the middle of exec, when the old program's arguments are gone and the new one's not there yet.
            let mut child = Command::new("cat").arg("-").arg(&mark).stdin(Stdio::piped()).spawn().unwrap();
            let seen = processes(&mark);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(seen.contains_key(&child.id()), "attempt {attempt}: {seen:?}");
        }
    }
}
