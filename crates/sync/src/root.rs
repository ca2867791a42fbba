//! A root on this machine, and the only ways to what lies below it: every directory on the way is opened by itself and
//! without following links, so that no path leads out of the root, whatever is changed meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use overside_sync_core::{RelativePath, wire::Kind};

use crate::files::{Directory, name_of};

/// How long a directory is taken for the one at its path.
const SAME: Duration = Duration::from_millis(20);

/// The directory below a root that was used last: most of what is done is done in the same one again.
#[derive(Debug, Default)]
pub(crate) struct Near(Option<(RelativePath, Directory, Instant)>);

impl Near {
    /// The directory at a path, opened by `open` unless it was a moment ago.
    pub(crate) fn get(
        &mut self,
        path: &RelativePath,
        open: impl FnOnce() -> io::Result<Directory>,
    ) -> io::Result<&Directory> {
        let last = self.0.take().filter(|(last, _, opened)| last == path && opened.elapsed() < SAME);
        let (_, directory, _) = self.0.insert(match last {
            Some(last) => last,
            None => (path.clone(), open()?, Instant::now()),
        });
        Ok(directory)
    }

    /// Lets it go.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// A directory or a single file, by its path.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    kind: Kind,
    /// Of a directory itself, of a file the directory that it lies in. None while it is not there.
    top: Option<Directory>,
}

impl Root {
    /// The path's own links are followed: it is the person's.
    pub(crate) fn new(path: PathBuf, kind: Kind) -> Self {
        let mut root = Self { path, kind, top: None };
        root.look_again();
        root
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Finds out what the path leads to now: the directory may have been replaced.
    pub(crate) fn look_again(&mut self) {
        let path = match self.kind {
            Kind::Directory => Some(self.path.as_path()),
            Kind::File => self.path.parent(),
        };
        self.top = path.and_then(|path| Directory::open(path).ok());
    }

    /// Whether the path still leads to the directory that was opened.
    pub(crate) fn is_in_place(&self) -> bool {
        self.top.as_ref().is_some_and(|top| top.is_at(&self.path))
    }

    /// The directory that all paths begin at.
    pub(crate) fn top(&self) -> io::Result<&Directory> {
        self.top.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The name of a single file.
    pub(crate) fn file_name(&self) -> Option<&[u8]> {
        (self.kind == Kind::File).then(|| self.path.file_name()).flatten().and_then(name_of)
    }

    /// Opens a directory below, to change what lies in it. All on the way stay what they are for as long as they are used.
    pub(crate) fn hold_directory(&self, path: &RelativePath) -> io::Result<Directory> {
        let mut directory = self.top()?.try_clone()?;
        for name in path.names() {
            directory = directory.hold_directory(name)?;
        }
        Ok(directory)
    }

    /// Opens a directory below, to read what lies in it.
    pub(crate) fn open_directory(&self, path: &RelativePath) -> io::Result<Directory> {
        let mut directory = self.top()?.try_clone()?;
        for name in path.names() {
            directory = directory.open_directory(name)?;
        }
        Ok(directory)
    }
}
