//! What the environment mounts for itself, as the owner of its namespaces, and the change into its tree.

use std::{os::unix::fs::symlink, path::Path};

use fs_err as fs;
use overside_model::Problem;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, unmount},
    process::{chdir, pivot_root},
};

use super::{
    mount::{bind, directory, file_system, memory},
    tree,
};
use crate::{
    cgroup::{Hierarchy, LEAF, Version},
    problem::During,
    wire::Plan,
};

/// Devices that every program may expect.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Devices that some containers want (`--device`).
const OPTIONAL_DEVICES: [&str; 2] = ["fuse", "net/tun"];

/// Mounts and moves in. The machine's file system is gone afterwards.
pub(super) fn enter(plan: &Plan) -> Result<(), Problem> {
    let root = tree::place()?;
    // The tree's own mounts are locked together with the machine's; only a mount made here can become the root.
    mount_bind_recursive(root, root).during("binding the environment's tree")?;
    // proc and sysfs can only be mounted while the machine's are still in sight.
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    file_system("proc", &root.join("proc"), plain, "")?;
    file_system("sysfs", &root.join("sys"), plain, "")?;
    devices(&root.join("dev"))?;
    for (path, mode) in [("run", 0o755), ("root", 0o700), ("opt", 0o755), ("etc/docker", 0o755)] {
        memory(&root.join(path), mode, MountFlags::NOSUID | MountFlags::NODEV)?;
    }
    for path in ["tmp", "var/tmp"] {
        memory(&root.join(path), 0o1777, MountFlags::NOSUID | MountFlags::NODEV)?;
    }
    let files = root.join("var/lib/docker/overside");
    directory(&files)?;
    bind(&files, &root.join(tree::FILES))?;
    if let Some((version, hierarchies)) = &plan.cgroups {
        cgroups(&root.join("sys/fs/cgroup"), *version, hierarchies, plan.privileged)?;
    }
    let doing = "changing into the environment's tree";
    chdir(root).during(doing)?;
    // The old root comes to lie on the new one, where it is taken off.
    pivot_root(".", ".").during(doing)?;
    unmount(".", UnmountFlags::DETACH).during("leaving the machine's file system")?;
    chdir("/").during(doing)?;
    // As on a machine with systemd; only now, since a shared root cannot be pivoted.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::SHARED).during("sharing the mounts")
}

/// Device nodes cannot be made in a user namespace; the machine's own are shown instead.
fn devices(dev: &Path) -> Result<(), Problem> {
    memory(dev, 0o755, MountFlags::NOSUID)?;
    let present = OPTIONAL_DEVICES.iter().filter(|device| Path::new("/dev").join(device).exists());
    for device in DEVICES.iter().chain(present) {
        bind(&Path::new("/dev").join(device), &dev.join(device))?;
    }
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC;
    file_system("devpts", &dev.join("pts"), plain, "newinstance,ptmxmode=0666,mode=0620")?;
    file_system("mqueue", &dev.join("mqueue"), plain | MountFlags::NODEV, "")?;
    memory(&dev.join("shm"), 0o1777, plain | MountFlags::NODEV)?;
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    links.iter().try_for_each(|(target, link)| symlink(target, dev.join(link))).during("making links in /dev")
}

/// The environment's part of each hierarchy: its cgroup namespace makes them look like whole ones. Where no part was
/// delegated there is nothing to be written.
fn cgroups(target: &Path, version: Version, hierarchies: &[Hierarchy], delegated: bool) -> Result<(), Problem> {
    let mut plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if version == Version::V2 {
        if delegated {
            file_system("cgroup2", target, plain, "")?;
            return hand_on_controllers(target);
        }
        return file_system("cgroup2", target, plain | MountFlags::RDONLY, "");
    }
    memory(target, 0o755, plain)?;
    if !delegated {
        plain |= MountFlags::RDONLY;
    }
    for hierarchy in hierarchies {
        let name = hierarchy.directory();
        file_system("cgroup", &target.join(&name), plain, &hierarchy.mount_options())?;
        for controller in hierarchy.controllers.iter().filter(|_| hierarchy.controllers.len() > 1) {
            let link = target.join(controller);
            symlink(&name, &link).during(format_args!("making the link {}", link.display()))?;
        }
    }
    Ok(())
}

/// Containers get their own limits from these. The agent has moved this process into its leaf before, since a group that
/// has processes cannot hand controllers on.
fn hand_on_controllers(root: &Path) -> Result<(), Problem> {
    directory(&root.join(LEAF))?;
    let available = fs::read_to_string(root.join("cgroup.controllers")).during("reading the cgroup controllers")?;
    let wanted: Vec<String> = available.split_whitespace().map(|controller| format!("+{controller}")).collect();
    fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")).during("handing on the cgroup controllers")
}
