//! The control groups of one environment, on version 1 and version 2.
//!
//! ```text
//! <hierarchy>/overside/env-<slot>          claimed by mkdir; the limits; frozen as a whole; out of the environment's reach
//! <hierarchy>/overside/env-<slot>/root     the root of the environment's cgroup namespace, owned by its root
//! <hierarchy>/overside/env-<slot>/network  slirp4netns, which is frozen and counted with the environment
//! ```

mod hierarchy;
mod limit;

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use overside_model::Problem;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    hierarchy::{Hierarchy, Version, detect},
    limit::{Machine, lower},
};
use crate::{
    problem::{During, internal, unsuitable},
    process,
};

/// Parent of every environment's group, shared by all agents of the machine.
const PARENT: &str = "overside";
/// The environment's own part.
const ROOT: &str = "root";
/// The group of slirp4netns.
const NETWORK: &str = "network";
/// On version 2 processes live in leaves only: dockerd's own leaf inside [`ROOT`].
pub(crate) const LEAF: &str = "init";

/// How long the kernel may take to freeze or to empty a group.
const PATIENCE: Duration = Duration::from_secs(5);

/// The groups of one environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    version: Version,
    hierarchies: Vec<Hierarchy>,
    slot: u32,
    /// Inode of the group in the first hierarchy. A slot is claimed anew as soon as it is free: whoever comes late to remove
    /// an environment must not take the next one for it. The kernel does not reuse the inodes of groups.
    inode: u64,
}

impl Cgroups {
    /// Claims the first free slot that `usable` accepts. The claim is the `mkdir` in the first hierarchy, which only one of
    /// several agents can succeed with, and which lasts until the group is removed, whoever dies.
    pub(crate) fn claim(
        version: Version,
        hierarchies: Vec<Hierarchy>,
        slots: u32,
        usable: impl Fn(u32) -> bool,
    ) -> Result<Self, Problem> {
        let Some(first) = hierarchies.first() else {
            return Err(internal("no cgroup hierarchy to claim a slot in"));
        };
        let parent = first.mount.join(PARENT);
        for slot in (0..slots).filter(|slot| usable(*slot)) {
            let group = parent.join(group_name(slot));
            loop {
                match fs::create_dir(&group) {
                    Ok(()) => {
                        let inode = fs::metadata(&group).during("claiming a slot")?.ino();
                        let claimed = Self { version, hierarchies, slot, inode };
                        return claimed.make().inspect_err(|_| claimed.remove_quietly()).map(|()| claimed);
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break,
                    // Nobody was here yet, or the last environment of another agent has just taken the parent with it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(&parent)?,
                    Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                        return Err(unsuitable(
                            format!("the cgroups of this machine are mounted read-only ({})", first.mount.display()),
                            "Mount /sys/fs/cgroup writable, or run the runner's container with its own cgroup namespace",
                        ));
                    }
                    Err(error) => return Err(error).during(format_args!("claiming {}", group.display())),
                }
            }
        }
        Err(unsuitable(
            format!("all {slots} places for environments are taken ({})", parent.display()),
            "Delete environments, or run `overside-agent cleanup DIRECTORY` for those whose agent was killed",
        ))
    }

    fn make(&self) -> Result<(), Problem> {
        for hierarchy in &self.hierarchies {
            let parent = hierarchy.mount.join(PARENT);
            let group = self.group(hierarchy);
            loop {
                make_directory(&parent)?;
                match fs::create_dir(&group) {
                    // The last environment of another agent has just taken the parent with it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error).during(format_args!("making {}", group.display()));
                    }
                    _ => break,
                }
            }
            // With a group in it the parent stays.
            self.prepare(hierarchy, &hierarchy.mount, &parent)?;
            self.prepare(hierarchy, &parent, &group)?;
            for child in [ROOT, NETWORK] {
                let child = group.join(child);
                make_directory(&child)?;
                if self.version == Version::V1 {
                    self.prepare(hierarchy, &group, &child)?;
                }
            }
        }
        Ok(())
    }

    /// Makes a fresh `child` of `parent` able to hold processes (v1) or to hand controllers on (v2).
    fn prepare(&self, hierarchy: &Hierarchy, parent: &Path, child: &Path) -> Result<(), Problem> {
        match self.version {
            // A new cpuset has no CPUs at all, and no process can enter it.
            Version::V1 if hierarchy.controls("cpuset") => {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let inherited = fs::read_to_string(parent.join(file)).during("reading a cpuset")?;
                    if fs::read_to_string(child.join(file)).during("reading a cpuset")?.trim().is_empty() {
                        write(&child.join(file), inherited.trim())?;
                    }
                }
            }
            Version::V1 if hierarchy.controls("memory") => {
                // Kernels before 5.11 count only the group itself unless told otherwise; newer ones refuse nothing here.
                let _ = fs::write(child.join("memory.use_hierarchy"), "1");
            }
            Version::V1 => {}
            Version::V2 => {
                hierarchy::hand_on_controllers(parent);
                if parent != hierarchy.mount {
                    hierarchy::hand_on_controllers(child);
                }
            }
        }
        Ok(())
    }

    /// The slot that was claimed.
    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }

    /// Version and hierarchies, for mounting them in the environment.
    pub(crate) fn hierarchies(&self) -> (Version, Vec<Hierarchy>) {
        (self.version, self.hierarchies.clone())
    }

    fn group(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(PARENT).join(group_name(self.slot))
    }

    fn groups(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|hierarchy| self.group(hierarchy))
    }

    fn group_with(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controls(controller)).map(|hierarchy| self.group(hierarchy))
    }

    /// Gives the environment's root its part. What limits it lies one level above and stays the machine's.
    pub(crate) fn delegate(&self, uid: u32) -> Result<(), Problem> {
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(uid), Some(uid));
        for group in self.groups() {
            let root = group.join(ROOT);
            own(&root).during(format_args!("handing over {}", root.display()))?;
            for file in ["cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control"] {
                match own(&root.join(file)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).during(format_args!("handing over {}", root.join(file).display()));
                    }
                    _ => {}
                }
            }
            if self.version == Version::V2 {
                let leaf = root.join(LEAF);
                make_directory(&leaf)?;
                own(&leaf).during("handing over a cgroup")?;
                own(&leaf.join("cgroup.procs")).during("handing over a cgroup")?;
            }
        }
        Ok(())
    }

    /// Files to write a process id into so that it enters the environment's part, before it unshares its namespaces.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.groups().map(|group| group.join(ROOT).join("cgroup.procs")).collect()
    }

    /// Moves the environment's first process into its leaf, once its cgroup namespace is rooted above: on version 2 a group
    /// with processes of its own cannot hand controllers on.
    pub(crate) fn enter_leaf(&self, pid: u32) -> Result<(), Problem> {
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => self
                .groups()
                .try_for_each(|group| write(&group.join(ROOT).join(LEAF).join("cgroup.procs"), &pid.to_string())),
        }
    }

    /// Counts the process with the environment without letting the environment reach it.
    pub(crate) fn enter_network(&self, pid: u32) -> Result<(), Problem> {
        self.groups().try_for_each(|group| write(&group.join(NETWORK).join("cgroup.procs"), &pid.to_string()))
    }

    /// Whether anything runs besides the engine itself: a container or a build step, which live in groups of their own.
    pub(crate) fn busy(&self) -> bool {
        let Some(root) = self.group_with("pids").or_else(|| self.groups().next()).map(|group| group.join(ROOT)) else {
            return false;
        };
        let engine = match self.version {
            Version::V1 => root.clone(),
            Version::V2 => root.join(LEAF),
        };
        descendants(&root).iter().any(|group| *group != engine && !members(group).is_empty())
    }

    /// Freezes every process; returns when all of them stand still. Blocks.
    pub(crate) fn freeze(&self) -> Result<(), Problem> {
        self.set_frozen(true).inspect_err(|_| {
            let _ = self.set_frozen(false);
        })
    }

    /// Thaws every process. Blocks.
    pub(crate) fn thaw(&self) -> Result<(), Problem> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Problem> {
        let (group, file, value) = match self.version {
            Version::V1 => (self.group_with("freezer"), "freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            Version::V2 => (self.groups().next(), "cgroup.freeze", if frozen { "1" } else { "0" }),
        };
        let Some(group) = group else {
            return Err(unsuitable("this machine has no freezer cgroup", "Enable the kernel's freezer cgroup"));
        };
        let begun = Instant::now();
        loop {
            // Version 1 may stay FREEZING when a process forks meanwhile; writing again is what moves it on.
            write(&group.join(file), value)?;
            let reached = match self.version {
                Version::V1 => fs::read_to_string(group.join(file)).during("reading the freezer")?.trim() == value,
                Version::V2 => {
                    let events = fs::read_to_string(group.join("cgroup.events")).during("reading the freezer")?;
                    events.lines().any(|line| line.strip_prefix("frozen ") == Some(value))
                }
            };
            if reached {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(internal(format!("{} did not become {value}", group.display())));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills whatever is left in the groups, thawing them first, and waits until they are empty. Blocks.
    pub(crate) fn kill(&self) -> Result<(), Problem> {
        if !self.ours() {
            return Ok(());
        }
        if let Err(problem) = self.thaw() {
            tracing::debug!(%problem, "thawing before the end");
        }
        let begun = Instant::now();
        loop {
            let left: Vec<(PathBuf, u32)> = self
                .groups()
                .flat_map(|group| descendants(&group))
                .flat_map(|group| members(&group).into_iter().map(move |pid| (group.clone(), pid)))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(internal(format!("{} processes of the environment do not end", left.len())));
            }
            for (group, pid) in &left {
                // Ids are reused: only a process that is still in the group while it is held is killed.
                process::kill_if(*pid, || members(group).contains(pid));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the groups, and their parent if this was the last environment. Nothing left is success. Blocks.
    pub(crate) fn remove(&self) -> Result<(), Problem> {
        if !self.ours() {
            return Ok(());
        }
        // The first hierarchy, where slots are claimed, comes last: until then nobody else makes groups of this name.
        for hierarchy in self.hierarchies.iter().rev() {
            for group in descendants(&self.group(hierarchy)) {
                remove_directory(&group)?;
            }
            // Another environment may live in there: it is only taken along when it is empty.
            let _ = fs::remove_dir(hierarchy.mount.join(PARENT));
        }
        Ok(())
    }

    fn remove_quietly(&self) {
        if let Err(problem) = self.remove() {
            tracing::warn!(%problem, "removing the cgroups of a failed start");
        }
    }

    /// The groups that still exist.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        if self.ours() { self.groups().filter(|group| group.exists()).collect() } else { Vec::new() }
    }

    /// Whether the claim still stands.
    fn ours(&self) -> bool {
        let group = self.groups().next().and_then(|group| fs::metadata(group).ok());
        group.is_some_and(|group| group.ino() == self.inode)
    }
}

fn group_name(slot: u32) -> String {
    format!("env-{slot}")
}

fn write(path: &Path, value: &str) -> Result<(), Problem> {
    fs::write(path, value).during(format_args!("writing {value} to {}", path.display()))
}

fn make_directory(path: &Path) -> Result<(), Problem> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).during(format_args!("making {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A group just emptied may be busy for a moment, while the kernel releases its last process.
fn remove_directory(path: &Path) -> Result<(), Problem> {
    let begun = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error).during(format_args!("removing {}", path.display())),
        }
    }
}

/// The process ids in one group; none if it is gone.
fn members(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The group and everything below it, deepest first. The environment's root can nest groups deeply, so that this does not
/// recurse; groups are no symbolic links, and what vanishes meanwhile is simply not there.
fn descendants(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = if group.is_dir() { vec![group.to_owned()] } else { Vec::new() };
    while let Some(directory) = open.pop() {
        if let Ok(entries) = fs::read_dir(&directory) {
            let children = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            open.extend(children.map(|entry| entry.path()));
        }
        found.push(directory);
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use overside_model::ErrorCode;

    use super::*;

    fn hierarchy(mount: &Path, controllers: &[&str]) -> Hierarchy {
        fs::create_dir_all(mount).unwrap();
        for controller in controllers.iter().filter(|controller| **controller == "cpuset") {
            fs::write(mount.join(format!("{controller}.cpus")), "0-3\n").unwrap();
        }
        Hierarchy { mount: mount.to_owned(), controllers: controllers.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn each_claim_gets_the_first_slot_that_is_free_in_the_first_hierarchy() {
        let home = tempfile::tempdir().unwrap();
        let claim = || {
            let hierarchies =
                vec![hierarchy(&home.path().join("pids"), &["pids"]), hierarchy(&home.path().join("cpu"), &["cpu"])];
            Cgroups::claim(Version::V1, hierarchies, 3, |slot| slot != 1)
        };
        let (first, second) = (claim().unwrap(), claim().unwrap());
        assert_eq!((first.slot(), second.slot()), (0, 2), "slot 1 is not usable");
        assert!(home.path().join("cpu/overside/env-2/root").is_dir());
        assert_eq!(claim().unwrap_err().code, ErrorCode::RunnerUnsuitable);
        first.remove().unwrap();
        assert!(first.left().is_empty());
        assert_eq!(claim().unwrap().slot(), 0);
        assert!(home.path().join("pids/overside/env-2").is_dir(), "the other environment is untouched");
    }

    #[test]
    fn the_last_removal_takes_the_shared_parent_along() {
        let home = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::claim(Version::V1, vec![hierarchy(home.path(), &["pids"])], 1, |_| true).unwrap();
        fs::create_dir_all(home.path().join("overside/env-0/root/docker/abc/deep")).unwrap();
        cgroups.remove().unwrap();
        assert!(!home.path().join("overside").exists());
        cgroups.remove().unwrap();
    }

    #[test]
    fn a_slot_that_somebody_else_has_claimed_since_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let claim = || Cgroups::claim(Version::V1, vec![hierarchy(home.path(), &["pids"])], 1, |_| true).unwrap();
        let old = Cgroups { inode: 0, ..claim() };
        old.kill().unwrap();
        old.remove().unwrap();
        assert!(old.left().is_empty());
        assert!(home.path().join("overside/env-0/root").is_dir());
    }

    #[test]
    fn something_runs_only_if_a_group_below_the_engines_own_has_members() {
        let home = tempfile::tempdir().unwrap();
        for (version, engine) in [(Version::V1, "root"), (Version::V2, "root/init")] {
            let mount = home.path().join(format!("{version:?}"));
            let cgroups = Cgroups::claim(version, vec![hierarchy(&mount, &["pids"])], 1, |_| true).unwrap();
            let group = mount.join("overside/env-0");
            fs::create_dir_all(group.join(engine)).unwrap();
            fs::write(group.join(engine).join("cgroup.procs"), "10\n11\n").unwrap();
            fs::write(group.join("network/cgroup.procs"), "12\n").unwrap();
            assert!(!cgroups.busy(), "{version:?}: only the engine and its network");
            fs::create_dir_all(group.join("root/docker/abc")).unwrap();
            assert!(!cgroups.busy(), "{version:?}: an empty group");
            fs::write(group.join("root/docker/abc/cgroup.procs"), "13\n").unwrap();
            assert!(cgroups.busy(), "{version:?}: a container");
        }
    }

    #[test]
    fn freezing_writes_what_each_version_understands() {
        let home = tempfile::tempdir().unwrap();
        let v1 =
            Cgroups::claim(Version::V1, vec![hierarchy(&home.path().join("1"), &["freezer"])], 1, |_| true).unwrap();
        v1.freeze().unwrap();
        let state = home.path().join("1/overside/env-0/freezer.state");
        assert_eq!(fs::read_to_string(&state).unwrap(), "FROZEN");
        v1.thaw().unwrap();
        assert_eq!(fs::read_to_string(&state).unwrap(), "THAWED");

        let v2 = Cgroups::claim(Version::V2, vec![hierarchy(&home.path().join("2"), &["pids"])], 1, |_| true).unwrap();
        let group = home.path().join("2/overside/env-0");
        fs::write(group.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        v2.freeze().unwrap();
        assert_eq!(fs::read_to_string(group.join("cgroup.freeze")).unwrap(), "1");
    }
}
