//! A root on this machine, and the only ways to what lies below it: every directory on the way is opened by itself and
//! without following links, so that no path leads out of the root, whatever is changed meanwhile.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use overside_sync_core::{RelativePath, wire::Kind};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

/// How a directory is opened below a root.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// A directory or a single file, by its path.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    kind: Kind,
    /// Of a directory itself, of a file the directory that it lies in. None while it is not there.
    top: Option<OwnedFd>,
}

/// An entry's directory and its name there.
pub(crate) struct Spot<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
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
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.top = path.and_then(|path| openat(CWD, path, flags, Mode::empty()).ok());
    }

    /// Whether the path still leads to the directory that was opened.
    pub(crate) fn is_in_place(&self) -> bool {
        let at_path = rustix::fs::stat(&self.path).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let opened = self.top.as_ref().and_then(|top| fstat(top).ok()).map(|stat| (stat.st_dev, stat.st_ino));
        at_path.is_some() && at_path == opened
    }

    /// The directory that all paths begin at.
    pub(crate) fn top(&self) -> io::Result<BorrowedFd<'_>> {
        self.top.as_ref().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The name of a single file.
    pub(crate) fn file_name(&self) -> Option<&OsStr> {
        (self.kind == Kind::File).then(|| self.path.file_name()).flatten()
    }

    /// Opens a directory below.
    pub(crate) fn open_directory(&self, path: &RelativePath) -> io::Result<OwnedFd> {
        let mut directory = self.top()?.try_clone_to_owned()?;
        for name in path.names() {
            directory = open_directory(directory.as_fd(), OsStr::from_bytes(name))?;
        }
        Ok(directory)
    }
}

pub(crate) fn open_directory(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, DIRECTORY, Mode::empty())?)
}

/// Opens a regular file to be read; anything else is refused. Never waits, whatever it is.
pub(crate) fn open_file(spot: &Spot<'_>) -> io::Result<(std::fs::File, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(spot.directory, spot.name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((file.into(), stat))
}

/// What is there, links themselves; none if nothing.
pub(crate) fn look(spot: &Spot<'_>) -> io::Result<Option<Stat>> {
    match statat(spot.directory, spot.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
