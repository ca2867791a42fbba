//! Mounting, with the names of what was mounted in the errors.

use std::{ffi::CString, path::Path};

use fs_err as fs;
use overside_model::Problem;
use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    mount::{MountFlags, mount, mount_bind_recursive, mount_remount},
};

use crate::problem::{During, internal};

/// Mounts a file system of the kernel's, making the directory if need be.
pub(super) fn file_system(kind: &str, target: &Path, flags: MountFlags, options: &str) -> Result<(), Problem> {
    directory(target)?;
    let options = CString::new(options).map_err(|_| internal("a mount option with a zero byte"))?;
    mount(kind, target, kind, flags, options.as_c_str()).during(format_args!("mounting {kind} on {}", target.display()))
}

/// A memory file system. Its pages count as the environment's memory.
pub(super) fn memory(target: &Path, mode: u32, flags: MountFlags) -> Result<(), Problem> {
    file_system("tmpfs", target, flags, &format!("mode={mode:o}"))
}

/// Shows a file or directory elsewhere, making the place for it.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Problem> {
    let what = || format!("showing {} in the environment", source.display());
    if fs::metadata(source).during(what())?.is_dir() {
        directory(target)?;
    } else {
        if let Some(parent) = target.parent() {
            directory(parent)?;
        }
        fs::File::create(target).during(what())?;
    }
    mount_bind_recursive(source, target).during(what())
}

/// Makes one mount read-only. What its source forbids stays forbidden: in a user namespace the kernel refuses to lose such
/// a flag. Nothing more is forbidden, because runc loses the flags that it does not expect, and `docker run --init` fails;
/// nor is there need to: the set-user-id bit of a file whose owner has no id in the environment counts for nothing.
pub(super) fn lock(target: &Path) -> Result<(), Problem> {
    let doing = || format!("write-protecting {}", target.display());
    let forbidden = statvfs(target).during(doing())?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (present, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ] {
        flags.set(flag, forbidden.contains(present));
    }
    mount_remount(target, flags, "").during(doing())
}

/// Makes a directory with everything above it.
pub(super) fn directory(path: &Path) -> Result<(), Problem> {
    fs::create_dir_all(path).during(format_args!("making {}", path.display()))
}
