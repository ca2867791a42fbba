//! Windows. Entries are reached by paths. Where something is changed these stay what they are: every directory below the root
//! is held on the way, so that nobody can move or replace it meanwhile. Whoever only reads stands in nobody's way; what is read
//! then is a person's own doing, as is the root itself, which may be moved, too.

mod system;

use std::{
    ffi::OsStr,
    fs::{self, File, FileTimes, Metadata, OpenOptions},
    io,
    os::windows::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, symlink_dir, symlink_file},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use overside_sync_core::{RelativePath, Time};
use windows_sys::Win32::{
    Foundation::{
        ERROR_DELETE_PENDING, ERROR_DIRECTORY, ERROR_LOCK_VIOLATION, ERROR_NO_SYSTEM_RESOURCES,
        ERROR_NOT_A_REPARSE_POINT, ERROR_NOT_ENOUGH_MEMORY, ERROR_SHARING_VIOLATION, ERROR_TOO_MANY_OPEN_FILES,
        GENERIC_READ,
    },
    Storage::FileSystem::{
        FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES,
        FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_WRITE_ATTRIBUTES,
    },
};

use super::{Spot, Stat, Type};

/// No permission of a volume lets its caches be written out at once.
pub(crate) const SYNCS_AT_ONCE: bool = false;

/// Permissions of what the other side has never had; all others are the other side's. Everybody may execute: nothing here says
/// what is a program.
const EVERYTHING: u16 = 0o755;

/// From the beginning of the system's time, 1601-01-01 UTC, to 1970-01-01, in seconds.
const EPOCH: i64 = 11_644_473_600;
/// In a second.
const INTERVALS: i64 = 10_000_000;

/// Names of devices, whatever follows after a dot.
const DEVICES: &[&str] = &["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// The same with a digit after them.
const NUMBERED_DEVICES: &[&str] = &["COM", "LPT"];

/// Whose files are: nothing that there is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner;

impl Owner {
    pub(crate) const fn new(_user: u32, _group: u32) -> Self {
        Self
    }
}

/// An open directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    /// Absolute, in the form that means what it says (`\\?\C:\…`).
    path: PathBuf,
    handle: Arc<File>,
}

/// What there is in one.
pub(crate) struct Entries(Option<fs::ReadDir>);

/// One of these.
pub(crate) struct Found {
    name: String,
    entry: fs::DirEntry,
}

impl Iterator for Entries {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.as_mut()?.next()? {
                Ok(entry) => {
                    // One that is no Unicode has no form elsewhere.
                    if let Ok(name) = entry.file_name().into_string() {
                        return Some(Ok(Found { name, entry }));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Found {
    pub(crate) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

impl Directory {
    /// The path's own links are followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let handle = OpenOptions::new()
            .access_mode(FILE_LIST_DIRECTORY | FILE_READ_ATTRIBUTES)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(&path)?;
        Self::of(path, handle)
    }

    fn of(path: PathBuf, handle: File) -> io::Result<Self> {
        if handle.metadata()?.is_dir() {
            Ok(Self { path, handle: Arc::new(handle) })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    fn join(&self, name: &[u8]) -> io::Result<PathBuf> {
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| is_possible(name))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidFilename, "Windows has no such names"))?;
        Ok(self.path.join(name))
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it is another descriptor")]
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    /// Opens one that lies in it, to read what lies there.
    pub(crate) fn open_directory(&self, name: &[u8]) -> io::Result<Self> {
        self.open_shared(name, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
    }

    /// Opens one that lies in it, to change what lies there. It stays where it is until it is closed.
    pub(crate) fn hold_directory(&self, name: &[u8]) -> io::Result<Self> {
        self.open_shared(name, FILE_SHARE_READ | FILE_SHARE_WRITE)
    }

    fn open_shared(&self, name: &[u8], shared: u32) -> io::Result<Self> {
        let path = self.join(name)?;
        let handle = OpenOptions::new()
            .access_mode(FILE_LIST_DIRECTORY | FILE_READ_ATTRIBUTES)
            .share_mode(shared)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
            .open(&path)?;
        Self::of(path, handle)
    }

    /// Opens what is there to be read.
    pub(super) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
        OpenOptions::new().read(true).custom_flags(flags).open(self.join(name)?)
    }

    /// Opens a file to be read and dressed.
    pub(crate) fn open_to_dress(&self, name: &[u8]) -> io::Result<File> {
        OpenOptions::new()
            .access_mode(GENERIC_READ | FILE_WRITE_ATTRIBUTES)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(self.join(name)?)
    }

    /// Opens a file to be written, and makes it if there is none.
    pub(crate) fn open_to_write(&self, name: &[u8]) -> io::Result<File> {
        let path = self.join(name)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(path)
    }

    /// Opens a file so that what is written comes to its end.
    pub(crate) fn open_to_append(&self, name: &[u8]) -> io::Result<File> {
        OpenOptions::new().append(true).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(self.join(name)?)
    }

    /// Makes a file, open to be written and read.
    pub(crate) fn create(&self, name: &[u8]) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.join(name)?)
    }

    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match fs::symlink_metadata(self.join(name)?) {
            Ok(metadata) => Ok(Some(Stat::from(&metadata))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of the directory itself.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::from(&self.handle.metadata()?))
    }

    /// Whether a path leads to this directory.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let there = Self::open(path).and_then(|there| system::identity(&there.handle)).ok();
        there.is_some() && there == system::identity(&self.handle).ok()
    }

    /// Whether both are on one volume.
    pub(crate) fn shares_file_system(&self, other: &Self) -> bool {
        let volume = |directory: &Self| system::identity(&directory.handle).ok().map(|(volume, _)| volume);
        volume(self).is_some() && volume(self) == volume(other)
    }

    /// Nothing, if it was removed meanwhile: what it lies in tells that. Whoever has it for himself lets nobody read it, as wine
    /// has it also while it is being removed.
    pub(crate) fn entries(&self) -> io::Result<Entries> {
        match fs::read_dir(&self.path) {
            Ok(entries) => Ok(Entries(Some(entries))),
            Err(error) if is_gone(&error) => Ok(Entries(None)),
            Err(error) if is(&error, &[ERROR_SHARING_VIOLATION]) => Err(io::ErrorKind::PermissionDenied.into()),
            Err(error) => Err(error),
        }
    }

    /// What the directory tells of one of its entries, which costs nothing. Of a file that is being written the size and the
    /// time may be those of before.
    #[expect(clippy::unused_self, reason = "elsewhere the entry itself is asked")]
    pub(crate) fn look_at(&self, found: &Found) -> io::Result<Option<Stat>> {
        Ok(Some(Stat::from(&found.entry.metadata()?)))
    }

    /// Where a link points to; none if it is no link any more. One that names a volume is none that could be elsewhere.
    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let target = match fs::read_link(self.join(name)?) {
            Ok(target) => target,
            Err(error) if is_gone(&error) || is(&error, &[ERROR_NOT_A_REPARSE_POINT]) => return Ok(None),
            Err(error) => return Err(error),
        };
        let here = || io::Error::new(io::ErrorKind::Unsupported, "the link is one of this machine");
        let prefixed = matches!(target.components().next(), Some(std::path::Component::Prefix(_)));
        let text = target.to_str().filter(|_| !prefixed).ok_or_else(here)?;
        Ok(Some(text.replace('\\', "/").into_bytes()))
    }

    /// Makes a link that is meant to lie in the directory `place`. Not every user may.
    pub(crate) fn make_link(&self, name: &[u8], target: &[u8], place: &Self) -> io::Result<()> {
        let path = self.join(name)?;
        let no_link = || io::Error::new(io::ErrorKind::InvalidFilename, "Windows has no such links");
        let target =
            std::str::from_utf8(target).ok().filter(|target| !target.contains(['\\', ':'])).ok_or_else(no_link)?;
        let target = PathBuf::from(target.replace('/', "\\"));
        // A relative one begins where it will lie.
        let leads_to_directory = plain(&place.path).join(&target).is_dir();
        if leads_to_directory { symlink_dir(target, path) } else { symlink_file(target, path) }
    }

    pub(crate) fn make_directory(&self, name: &[u8]) -> io::Result<()> {
        fs::create_dir(self.join(name)?)
    }

    /// Removes a directory that is empty.
    pub(crate) fn remove_directory(&self, name: &[u8]) -> io::Result<()> {
        fs::remove_dir(self.join(name)?)
    }

    /// Removes a file or a link, also one that nobody may write.
    #[expect(clippy::permissions_set_readonly_false, reason = "that is all that Windows has")]
    #[expect(clippy::disallowed_methods, reason = "the system's number of an error is looked at")]
    pub(crate) fn remove(&self, name: &[u8]) -> io::Result<()> {
        let path = self.join(name)?;
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.file_type().is_symlink_dir() {
            return fs::remove_dir(path);
        }
        let mut permissions = metadata.permissions();
        if permissions.readonly() {
            permissions.set_readonly(false);
            fs::set_permissions(&path, permissions)?;
        }
        fs::remove_file(path)
    }

    /// Moves a file or a link to a name that nothing has.
    pub(crate) fn rename_new(&self, name: &[u8], to: &Spot<'_>) -> io::Result<()> {
        system::rename_new(&self.join(name)?, &to.directory.join(to.name)?)
    }

    /// Exchanges a file or a link with another one. For a moment nothing has the other one's name: Windows has no such move,
    /// and one that replaces would not let what was replaced be looked at.
    pub(crate) fn exchange(&self, name: &[u8], with: &Spot<'_>) -> io::Result<()> {
        let (mine, theirs) = (self.join(name)?, with.directory.join(with.name)?);
        let aside = self.join(&[name, b"-aside"].concat())?;
        system::rename_new(&theirs, &aside)?;
        if let Err(error) = system::rename_new(&mine, &theirs) {
            // Where that fails somebody has put a newer one there.
            system::rename_new(&aside, &theirs)?;
            return Err(error);
        }
        system::rename_new(&aside, &mine)
    }

    /// Moves a file or a link, whatever is there.
    pub(crate) fn rename(&self, name: &[u8], to: &Spot<'_>) -> io::Result<()> {
        fs::rename(self.join(name)?, to.directory.join(to.name)?)
    }

    /// Directories have no permissions.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere they have")]
    pub(crate) const fn set_mode(&self, _mode: u16) -> io::Result<()> {
        Ok(())
    }

    /// Nothing is given to users of an environment here.
    #[expect(clippy::unused_self, reason = "elsewhere it is")]
    pub(crate) fn give(&self, _owner: Owner) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The same of what lies in it.
    pub(crate) fn give_entry(&self, _name: &[u8], owner: Owner) -> io::Result<()> {
        self.give(owner)
    }

    /// Room on its volume, in bytes.
    pub(crate) fn room(&self) -> Option<u64> {
        system::room(&self.path).ok()
    }

    /// Each file is written out by itself.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere it is all at once")]
    pub(crate) const fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The form of a path in which `..` means what lies above, also in what is joined to it.
fn plain(path: &Path) -> &Path {
    path.to_str()
        .and_then(|text| text.strip_prefix(r"\\?\"))
        .filter(|rest| !rest.starts_with("UNC"))
        .map_or(path, Path::new)
}

/// Whether Windows can have a file of this name, and every program can open it.
fn is_possible(name: &str) -> bool {
    let forbidden = |character: char| character < ' ' || r#"\/:*?"<>|"#.contains(character);
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let is_device = DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device))
        || NUMBERED_DEVICES.iter().any(|device| {
            let numbered = stem.get(..device.len()).is_some_and(|start| start.eq_ignore_ascii_case(device));
            numbered
                && matches!(
                    &stem[device.len()..],
                    "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
                )
        });
    !is_device && !name.ends_with(['.', ' ']) && !name.contains(forbidden)
}

/// The system's time, in intervals of 100 ns since 1601.
fn time(intervals: u64) -> Time {
    let intervals = i64::try_from(intervals).unwrap_or(i64::MAX);
    Time {
        seconds: intervals / INTERVALS - EPOCH,
        nanoseconds: u32::try_from(intervals % INTERVALS * 100).unwrap_or(0),
    }
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        let kind = if kind.is_symlink() {
            Type::Link
        } else if kind.is_dir() {
            Type::Directory
        } else if kind.is_file() {
            Type::File
        } else {
            Type::Special
        };
        let modified = time(metadata.last_write_time());
        Self {
            kind,
            size: metadata.file_size(),
            modified,
            mode: EVERYTHING,
            changed: modified,
            number: metadata.creation_time(),
        }
    }
}

/// Of an open file.
pub(crate) fn stat_of(file: &File) -> io::Result<Stat> {
    Ok(Stat::from(&file.metadata()?))
}

/// Gives an open file a time. It has no permissions: the mark that nobody may write stays what it is.
pub(crate) fn dress(file: &File, _owner: Option<Owner>, _mode: u16, modified: Time) -> io::Result<()> {
    let part = Duration::from_nanos(modified.nanoseconds.into());
    let whole = Duration::from_secs(modified.seconds.unsigned_abs());
    let base = if modified.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    match base.and_then(|base| base.checked_add(part)) {
        Some(time) => file.set_times(FileTimes::new().set_modified(time)),
        // One that the system cannot have is left as it is.
        None => Ok(()),
    }
}

/// Makes a directory, and those that it lies in.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    fs_err::create_dir_all(path)
}

/// Reads from a place in a file.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where a path below all roots is.
pub(crate) fn path_of(roots: &Path, path: &RelativePath) -> PathBuf {
    let mut place = roots.to_owned();
    place.extend(path.names().map(|name| String::from_utf8_lossy(name).into_owned()));
    place
}

/// A name of this machine as bytes, if it can be one elsewhere.
pub(crate) fn name_of(name: &OsStr) -> Option<&[u8]> {
    name.to_str().map(str::as_bytes)
}

fn is(error: &io::Error, which: &[u32]) -> bool {
    error.raw_os_error().and_then(|number| u32::try_from(number).ok()).is_some_and(|number| which.contains(&number))
}

/// Whether something else is there than was seen, or somebody uses it just now.
pub(crate) fn is_changed(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists,
        io::ErrorKind::DirectoryNotEmpty,
        io::ErrorKind::NotADirectory,
    ];
    let numbers = [ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION, ERROR_DELETE_PENDING, ERROR_DIRECTORY];
    kinds.contains(&error.kind()) || is(error, &numbers)
}

/// Whether a file is not there any more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is(error, &[ERROR_DELETE_PENDING])
}

/// Whether this process or machine has nothing left to open files with.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    is(error, &[ERROR_TOO_MANY_OPEN_FILES, ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY])
}

/// Whether a move was to another volume.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported)
}
