//! The root file system of an environment: the few files of the machine that the engine needs, and nothing else of it.
//!
//! `docker run -v /:/host` shows this tree; that is all a container can get of the machine's files.

use std::{os::unix::fs::symlink, path::Path};

use fs_err as fs;
use overside_model::Problem;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_move};

use super::mount::{bind, directory, lock, memory};
use crate::{
    problem::{During, unsuitable},
    wire::Plan,
};

/// Where the finished tree is put: a directory that every system has and that the environment's root may pass through, as it
/// may not through the environment's own directory. Only a place in this mount namespace; the machine's is unchanged.
const PLACES: [&str; 5] = ["/mnt", "/media", "/srv", "/opt", "/tmp"];

/// Directories of the engine's own, mounted by [`super::init`] or below.
const DIRECTORIES: [&str; 10] = ["proc", "sys", "dev", "run", "tmp", "root", "opt", "etc/docker", "var/tmp", FILES];

const LINKS: [(&str, &str); 5] = [
    ("usr/bin", "bin"),
    ("usr/bin", "sbin"),
    ("bin", "usr/sbin"),
    ("/run", "var/run"),
    // Changes while the environment starts.
    (super::init::RESOLVER, "etc/resolv.conf"),
];

/// Where the laptop's files are, and those on their way: on the file system of the engine's data, but not in its directory.
pub(super) const FILES: &str = ".overside";

/// Builds the tree and puts it where [`place`] says.
pub(super) fn build(plan: &Plan) -> Result<(), Problem> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).during("separating the mounts")?;
    // Built where nothing of the machine is hidden by it, since every file of the machine may be a source; moved at the end.
    let root = plan.directory.join("root");
    memory(&root, 0o755, MountFlags::empty())?;
    for path in DIRECTORIES {
        directory(&root.join(path))?;
    }
    directory(&root.join("usr/bin"))?;
    for (target, link) in LINKS {
        symlink(target, root.join(link)).during(format_args!("making the link {link}"))?;
    }
    let data = root.join("var/lib/docker");
    bind(&plan.directory.join("data"), &data)?;
    write_configuration(&root, plan)?;
    for (link, target) in &plan.programs.links {
        let link = inside(&root, link);
        symlink(target, &link).during(format_args!("making the link {}", link.display()))?;
    }
    for (target, source) in &plan.programs.binds {
        let target = inside(&root, target);
        bind(source, &target)?;
        lock(&target)?;
    }
    lock(&root)?;
    let place = place()?;
    mount_move(&root, place).during(format_args!("moving the environment's tree to {}", place.display()))
}

/// Where the finished tree is.
pub(super) fn place() -> Result<&'static Path, Problem> {
    PLACES
        .iter()
        .map(Path::new)
        .find(|place| place.is_dir())
        .ok_or_else(|| unsuitable(format!("this machine has none of {}", PLACES.join(", ")), "Make the directory /mnt"))
}

/// A path of the environment as seen from outside.
pub(super) fn inside(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn write_configuration(root: &Path, plan: &Plan) -> Result<(), Problem> {
    let name = &plan.name;
    let files = [
        ("passwd", "root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_owned()),
        ("group", "root:x:0:\ndocker:x:999:\nnogroup:x:65534:\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("hosts", format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {name}\n")),
        ("hostname", format!("{name}\n")),
        // `docker info` and metrics read this one.
        ("os-release", "ID=overside\nNAME=Overside\nPRETTY_NAME=\"Overside environment\"\n".to_owned()),
    ];
    for (file, contents) in files {
        fs::write(root.join("etc").join(file), contents).during(format_args!("writing /etc/{file}"))?;
    }
    Ok(())
}
