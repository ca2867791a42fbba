//! Which storage driver dockerd can use here: found out by trying, since kernels and file systems differ.

use std::{ffi::CString, path::Path};

use fs_err as fs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::programs::Programs;

/// The storage driver, and what a person should know of it.
pub(super) fn storage_driver(data: &Path, programs: &Programs) -> (&'static str, Option<&'static str>) {
    if overlay_works(data) {
        ("overlay2", None)
    } else if programs.has("fuse-overlayfs") && Path::new("/dev/fuse").exists() {
        (
            "fuse-overlayfs",
            Some(
                "Images are stored by fuse-overlayfs, which is slower: the runner's kernel or file system cannot mount overlays here.",
            ),
        )
    } else {
        (
            "vfs",
            Some(
                "Every image layer is stored as a full copy: the runner's kernel or file system cannot mount overlays here.",
            ),
        )
    }
}

fn overlay_works(data: &Path) -> bool {
    let probe = data.join(".overlay-probe");
    let works = try_overlay(&probe);
    if let Err(error) = &works {
        tracing::debug!(%error, "no overlay mounts");
    }
    let _ = fs::remove_dir_all(&probe);
    works.is_ok()
}

fn try_overlay(probe: &Path) -> std::io::Result<()> {
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(probe.join(directory))?;
    }
    let path = |name| probe.join(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={},userxattr", path("lower"), path("upper"), path("work"));
    let merged = probe.join("merged");
    mount("overlay", &merged, "overlay", MountFlags::empty(), CString::new(options)?.as_c_str())?;
    let written = fs::write(merged.join("file"), "");
    unmount(&merged, UnmountFlags::DETACH)?;
    written
}
