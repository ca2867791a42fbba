//! Being told where something changes. What is told is only a hint: it says which directories to look at again.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod trees;

use std::collections::BTreeSet;

use overside_sync_core::RelativePath;

#[cfg(target_os = "linux")]
pub(crate) use linux::Watcher;
#[cfg(not(target_os = "linux"))]
pub(crate) use trees::Watcher;

/// Where something has changed since it was asked for last.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hints {
    /// Everything has to be looked at: some changes were not told.
    pub(crate) everywhere: bool,
    /// These directories.
    pub(crate) directories: BTreeSet<RelativePath>,
    /// What lies in directories of the above has become another directory, so that all below is to be looked at.
    pub(crate) replaced: BTreeSet<RelativePath>,
}

impl Hints {
    pub(crate) fn is_empty(&self) -> bool {
        !self.everywhere && self.directories.is_empty()
    }

    pub(crate) fn append(&mut self, mut more: Self) {
        self.everywhere |= more.everywhere;
        self.directories.append(&mut more.directories);
        self.replaced.append(&mut more.replaced);
    }
}
