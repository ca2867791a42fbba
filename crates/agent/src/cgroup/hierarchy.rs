//! Which cgroup hierarchies this machine has, read from `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// The version of the cgroup interface that carries the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Version {
    /// One hierarchy a controller.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Version {
    /// Its name, as records and findings have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its controllers; `name=…` for a version 1 hierarchy without any.
    pub(crate) controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether the controller is in this hierarchy.
    pub(crate) fn controls(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// The name of its directory in `/sys/fs/cgroup`, as every tool expects it: `cpu,cpuacct`, `systemd`.
    pub(crate) fn directory(&self) -> String {
        self.controllers.join(",").trim_start_matches("name=").to_owned()
    }

    /// What `mount -o` takes to mount it again.
    pub(crate) fn mount_options(&self) -> String {
        let options = self.controllers.join(",");
        if options.starts_with("name=") { format!("none,{options}") } else { options }
    }
}

/// What the environment cannot do without; the order decides where slots are claimed, and is the same for every agent.
const CONTROLLERS: [&str; 12] = [
    "pids",
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "freezer",
    "devices",
    "blkio",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
];

/// The hierarchies to use: version 1 if it has the controllers (also on hybrid machines), else version 2.
pub(crate) fn detect(mountinfo: &str) -> Option<(Version, Vec<Hierarchy>)> {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4).map(unescape) else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next(), after.nth(1).unwrap_or_default());
        match kind {
            Some("cgroup") => {
                let known = |option: &&str| CONTROLLERS.contains(option) || option.starts_with("name=");
                let controllers: Vec<String> = options.split(',').filter(known).map(str::to_owned).collect();
                let seen = v1.iter().any(|hierarchy| hierarchy.controllers == controllers);
                if !controllers.is_empty() && !seen {
                    v1.push(Hierarchy { mount, controllers });
                }
            }
            Some("cgroup2") if v2.is_none() => v2 = Some(mount),
            _ => {}
        }
    }
    let rank = |hierarchy: &Hierarchy| {
        let ranks = hierarchy.controllers.iter().filter_map(|name| CONTROLLERS.iter().position(|known| known == name));
        ranks.min().unwrap_or(CONTROLLERS.len())
    };
    v1.sort_by_key(rank);
    if v1.first().is_some_and(|first| rank(first) < CONTROLLERS.len()) {
        return Some((Version::V1, v1));
    }
    let mount = v2?;
    let available = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let mut controllers: Vec<String> = available.split_whitespace().map(str::to_owned).collect();
    // The freezer of version 2 is part of the interface and no controller.
    controllers.push("freezer".to_owned());
    Some((Version::V2, vec![Hierarchy { mount, controllers }]))
}

/// Lets the children of a version 2 group have every controller that the group has. One at a time: a controller that cannot
/// be handed on must not keep the others from it. Limits that then cannot be set are reported where they are set.
pub(crate) fn hand_on_controllers(group: &Path) {
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        if let Err(error) = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::debug!(controller, %error, "a cgroup controller stays behind");
        }
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &str) -> PathBuf {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_used_where_it_has_the_controllers_and_slots_are_claimed_in_the_same_place_always() {
        let mountinfo = "\
            25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
            27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            28 25 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            30 20 0:25 / /somewhere\\040else rw - cgroup cgroup rw,pids\n";
        let (version, hierarchies) = detect(mountinfo).unwrap();
        assert_eq!(version, Version::V1);
        let names: Vec<String> = hierarchies.iter().map(Hierarchy::directory).collect();
        assert_eq!(names, ["pids", "cpu,cpuacct", "systemd"]);
        assert_eq!(hierarchies[2].mount_options(), "none,name=systemd");
        assert!(hierarchies[1].controls("cpuacct"));
    }

    #[test]
    fn version_2_is_used_where_version_1_only_names_processes() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let mountinfo = format!(
            "27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             29 25 0:26 / {} rw - cgroup2 cgroup2 rw,nsdelegate\n",
            home.path().display()
        );
        let (version, hierarchies) = detect(&mountinfo).unwrap();
        assert_eq!(version, Version::V2);
        assert_eq!(hierarchies[0].controllers, ["cpu", "memory", "pids", "freezer"]);
    }

    #[test]
    fn a_machine_without_cgroups_has_none() {
        assert_eq!(detect("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn mount_points_with_spaces_are_read() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape("/odd\\"), Path::new("/odd\\"));
    }
}
