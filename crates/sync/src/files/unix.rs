//! Linux and macOS.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, FileExt},
        },
    },
    path::{Path, PathBuf},
};

use overside_sync_core::{PERMISSIONS, RelativePath, Time};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, DirEntry, FileType, Gid, Mode, OFlags, RawMode, RenameFlags, Timespec, Timestamps,
        UTIME_NOW, Uid, chownat, fchmod, fchown, fstat, fstatvfs, futimens, linkat, mkdirat, openat, readlinkat,
        renameat, renameat_with, statat, symlinkat, unlinkat,
    },
    io::Errno,
};

use super::{Spot, Stat, Type};

/// Whether all that was written can be written to the disk at once.
pub(crate) const SYNCS_AT_ONCE: bool = true;

/// How a directory is opened below a root.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Whose files are, inside the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: Uid,
    pub(crate) group: Gid,
}

impl Owner {
    pub(crate) fn new(user: u32, group: u32) -> Self {
        Self { user: Uid::from_raw(user), group: Gid::from_raw(group) }
    }
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

/// What there is in one.
pub(crate) struct Entries(Dir);

/// One of these.
pub(crate) struct Found(DirEntry);

impl Iterator for Entries {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| Ok(Found(entry?)))
    }
}

impl Found {
    /// May be `.` or `..`, too.
    pub(crate) fn name(&self) -> &[u8] {
        self.0.file_name().to_bytes()
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Directory {
    /// The path's own links are followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Opens one that lies in it.
    pub(crate) fn open_directory(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, DIRECTORY, Mode::empty())?))
    }

    /// Opens what is there to be read.
    pub(super) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(openat(&self.0, name, flags, Mode::empty())?.into())
    }

    /// Opens one that lies in it, to change what lies there.
    pub(crate) fn hold_directory(&self, name: &[u8]) -> io::Result<Self> {
        self.open_directory(name)
    }

    /// Opens a file to be read and dressed.
    pub(crate) fn open_to_dress(&self, name: &[u8]) -> io::Result<File> {
        self.open_file(name)
    }

    /// Opens a file to be written, and makes it if there is none.
    pub(crate) fn open_to_write(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Opens a file so that what is written comes to its end.
    pub(crate) fn open_to_append(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(openat(&self.0, name, flags, Mode::empty())?.into())
    }

    /// Makes a file that nobody else may read yet, open to be written and read.
    pub(crate) fn create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Of the directory itself.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::from(&fstat(&self.0)?))
    }

    /// Whether a path leads to this directory.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let there = rustix::fs::stat(path).ok().map(identity);
        there.is_some() && there == fstat(&self.0).ok().map(identity)
    }

    /// Whether both are on one file system.
    pub(crate) fn shares_file_system(&self, other: &Self) -> bool {
        let device = |directory: &Self| fstat(&directory.0).ok().map(|stat| stat.st_dev);
        device(self).is_some() && device(self) == device(other)
    }

    pub(crate) fn entries(&self) -> io::Result<Entries> {
        Ok(Entries(Dir::read_from(&self.0)?))
    }

    /// What there is under the name of one of the entries now.
    pub(crate) fn look_at(&self, found: &Found) -> io::Result<Option<Stat>> {
        self.look(found.name())
    }

    /// Where a link points to; none if it is no link any more.
    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match readlinkat(&self.0, name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a link that is meant to lie in another directory.
    pub(crate) fn make_link(&self, name: &[u8], target: &[u8], _place: &Self) -> io::Result<()> {
        Ok(symlinkat(target, &self.0, name)?)
    }

    /// Makes a directory that only its owner may use.
    pub(crate) fn make_directory(&self, name: &[u8]) -> io::Result<()> {
        Ok(mkdirat(&self.0, name, Mode::RWXU)?)
    }

    /// Removes a directory that is empty.
    pub(crate) fn remove_directory(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes a file or a link.
    pub(crate) fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Moves something to a name that nothing has. Where the file system knows no such move a file gets a second name instead,
    /// and loses the first.
    pub(crate) fn rename_new(&self, name: &[u8], to: &Spot<'_>) -> io::Result<()> {
        let renamed = renameat_with(&self.0, name, &to.directory.0, to.name, RenameFlags::NOREPLACE);
        let Err(error) = renamed.map_err(io::Error::from) else { return Ok(()) };
        if !is_unsupported(&error) {
            return Err(error);
        }
        match linkat(&self.0, name, &to.directory.0, to.name, AtFlags::empty()) {
            Ok(()) => self.remove(name),
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            Err(_) => Err(error),
        }
    }

    /// Exchanges a file or a link with another one.
    pub(crate) fn exchange(&self, name: &[u8], with: &Spot<'_>) -> io::Result<()> {
        Ok(renameat_with(&self.0, name, &with.directory.0, with.name, RenameFlags::EXCHANGE)?)
    }

    /// Moves a file or a link, whatever is there.
    pub(crate) fn rename(&self, name: &[u8], to: &Spot<'_>) -> io::Result<()> {
        Ok(renameat(&self.0, name, &to.directory.0, to.name)?)
    }

    /// Sets its own permissions.
    pub(crate) fn set_mode(&self, mode: u16) -> io::Result<()> {
        Ok(fchmod(&self.0, Mode::from_raw_mode(RawMode::from(mode)))?)
    }

    /// Gives it to a user.
    pub(crate) fn give(&self, owner: Owner) -> io::Result<()> {
        Ok(fchown(&self.0, Some(owner.user), Some(owner.group))?)
    }

    /// Gives what lies in it to a user, a link itself.
    pub(crate) fn give_entry(&self, name: &[u8], owner: Owner) -> io::Result<()> {
        Ok(chownat(&self.0, name, Some(owner.user), Some(owner.group), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Room on its file system, in bytes.
    pub(crate) fn room(&self) -> Option<u64> {
        let status = fstatvfs(&self.0).ok()?;
        Some(status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Writes all to the disk that was changed on its file system.
    #[cfg(target_os = "linux")]
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    /// Writes all to the disk that was changed.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "here it is all file systems or none")]
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        rustix::fs::sync();
        Ok(())
    }
}

impl From<&rustix::fs::Stat> for Stat {
    #[expect(clippy::unnecessary_cast, reason = "of which type each part is depends on the system")]
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode as RawMode) {
                FileType::RegularFile => Type::File,
                FileType::Directory => Type::Directory,
                FileType::Symlink => Type::Link,
                _ => Type::Special,
            },
            size: stat.st_size as u64,
            modified: Time { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
            mode: (stat.st_mode as u16) & PERMISSIONS,
            changed: Time { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as u32 },
            number: stat.st_ino as u64,
        }
    }
}

/// Of an open file.
pub(crate) fn stat_of(file: &File) -> io::Result<Stat> {
    Ok(Stat::from(&fstat(file)?))
}

/// Gives an open file permissions and a time, and to a user before that.
pub(crate) fn dress(file: &File, owner: Option<Owner>, mode: u16, modified: Time) -> io::Result<()> {
    if let Some(owner) = owner {
        fchown(file, Some(owner.user), Some(owner.group))?;
    }
    fchmod(file, Mode::from_raw_mode(RawMode::from(mode)))?;
    let times = Timestamps {
        // Some programs that serve file systems set both times or none.
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanoseconds) },
    };
    Ok(futimens(file, &times)?)
}

/// Makes a directory that everybody may use, and those that it lies in.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Reads from a place in a file.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Where a path below all roots is.
pub(crate) fn path_of(roots: &Path, path: &RelativePath) -> PathBuf {
    roots.join(OsStr::from_bytes(path.as_bytes()))
}

/// A name of this machine as bytes, if it can be one elsewhere.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere names are no bytes")]
pub(crate) fn name_of(name: &OsStr) -> Option<&[u8]> {
    Some(name.as_bytes())
}

fn is(error: &io::Error, which: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|number| which.contains(&Errno::from_raw_os_error(number)))
}

/// Whether something else is there than was seen.
pub(crate) fn is_changed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || is(error, &[Errno::EXIST, Errno::NOTEMPTY, Errno::NOENT, Errno::NOTDIR, Errno::LOOP])
}

/// Whether a file is not there any more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    is(error, &[Errno::NOENT, Errno::LOOP])
}

/// Whether this process or machine has nothing left to open files with.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    is(error, &[Errno::MFILE, Errno::NFILE, Errno::NOMEM])
}

/// Whether a move was to another file system, or the file system has no such kind of move.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    is(error, &[Errno::XDEV, Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP])
}
