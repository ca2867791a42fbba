//! Doing what a plan says, on a file system that others change at the same time: what a step replaces is taken aside, looked
//! at, and put back if it is not what was seen.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::{Duration, Instant, SystemTime},
};

use overside_sync_core::{Digest, Entry, File, Name, Node, RelativePath, Side, Step, TEMPORARY};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RawMode, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, chownat, fchmod,
        fchown, fstat, futimens, mkdirat, openat, readlinkat, renameat, renameat_with, symlinkat, unlinkat,
    },
    io::Errno,
};

use crate::{
    endpoint::{Failure, Owner},
    root::{Root, Spot, look, open_directory, open_file},
    scan::{Changes, mode, modified, read_file, stamp},
    stage::Stage,
};

/// How long a directory is taken for the one at its path.
const SAME: Duration = Duration::from_millis(20);

/// What keeps a step from being done.
enum Obstacle {
    /// Somebody was quicker.
    Changed,
    Failed(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for Obstacle {
    fn from(error: Errno) -> Self {
        match error {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Self::Changed,
            error => Self::Failed(error.into()),
        }
    }
}

/// What has become of the steps of one plan so far.
#[derive(Default)]
pub(crate) struct Work {
    /// How many steps still need each content.
    needed: BTreeMap<Digest, u32>,
    /// The directory that was used last, and when it was opened.
    open: Option<(RelativePath, OwnedFd, Instant)>,
    /// Directories whose permissions come last, so that they do not stand in the way.
    modes: Vec<(RelativePath, u16)>,
    changes: Changes,
    failures: Vec<Failure>,
}

impl Work {
    /// So many steps more need a content.
    pub(crate) fn need(&mut self, digest: Digest, uses: u32) {
        let count = self.needed.entry(digest).or_insert(0);
        *count = count.saturating_add(uses);
    }
}

/// Does the steps of one plan.
pub(crate) struct Applying<'a> {
    pub(crate) root: &'a Root,
    pub(crate) stage: &'a mut Stage,
    pub(crate) tree: &'a mut Option<Node>,
    pub(crate) owner: Option<Owner>,
    pub(crate) side: Side,
    pub(crate) work: &'a mut Work,
}

impl Applying<'_> {
    /// Does one; what goes wrong is told at the end.
    pub(crate) fn step(&mut self, step: &Step) {
        let done = match step.path.split() {
            Some((parent, name)) => self.below(step, &parent, &name),
            None => self.at_root(step),
        };
        match done {
            Ok(()) => {}
            Err(Obstacle::Changed) => self.work.failures.push(Failure {
                path: step.path.clone(),
                reason: "it was changed meanwhile".to_owned(),
                passes: true,
            }),
            Err(Obstacle::Failed(error)) => {
                self.work.failures.push(Failure { path: step.path.clone(), reason: error.to_string(), passes: false });
            }
        }
    }

    /// Permissions of directories, those that lie deepest first; then what differs from before, and what failed.
    pub(crate) fn finish(self) -> (Changes, Vec<Failure>) {
        let mut work = std::mem::take(self.work);
        work.modes.sort();
        for (path, mode) in work.modes.into_iter().rev() {
            let set = self
                .root
                .open_directory(&path)
                .and_then(|directory| Ok(fchmod(&directory, Mode::from_raw_mode(RawMode::from(mode)))?));
            if let Err(error) = set {
                work.failures.push(Failure { path, reason: error.to_string(), passes: false });
            }
        }
        self.stage.clear();
        (work.changes, work.failures)
    }

    fn known(&self, path: &RelativePath) -> Option<&Node> {
        self.tree.as_ref()?.get(path)
    }

    /// Tells what is there now.
    fn done(&mut self, path: &RelativePath, entry: Option<Entry>) {
        Node::set(self.tree, path, entry.clone());
        self.work.changes.push((path.clone(), entry));
    }

    fn at_root(&mut self, step: &Step) -> Result<(), Obstacle> {
        match (&step.old, &step.new, self.root.file_name()) {
            (_, Some(Entry::Directory(mode)), None) => {
                self.work.modes.push((RelativePath::ROOT, *mode));
                self.done(&RelativePath::ROOT, step.new.clone());
                Ok(())
            }
            (old, Some(Entry::File(file)), Some(name)) => {
                let name = name.to_owned();
                let directory = self.root.top()?.try_clone_to_owned()?;
                let spot = Spot { directory: directory.as_fd(), name: &name };
                if self.side == Side::Environment {
                    let entry = self.in_place(&spot, file, old.is_some())?;
                    self.done(&RelativePath::ROOT, Some(entry));
                    return Ok(());
                }
                self.put(&spot, step, &RelativePath::ROOT)
            }
            // A root itself is neither made nor taken away by a step.
            _ => Err(Obstacle::Failed(io::Error::other("the root became something else"))),
        }
    }

    /// Writes into a file that a container has mounted: another file in its place would not be seen there.
    fn in_place(&mut self, spot: &Spot<'_>, file: &File, known: bool) -> Result<Entry, Obstacle> {
        if known && !self.is_as_known(spot, &RelativePath::ROOT)? {
            return Err(Obstacle::Changed);
        }
        let (_, mut source) = self.stage.open(&file.digest, false)?.ok_or(Obstacle::Changed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut target: std::fs::File = openat(spot.directory, spot.name, flags, Mode::RUSR | Mode::WUSR)?.into();
        // Before the content, so that what a container writes right after it is not cut.
        target.set_len(file.size)?;
        io::copy(&mut source, &mut target)?;
        self.dress(target.as_fd(), file)?;
        // It has been this content, whatever a container has written since: it is read again, and what is found then is a newer
        // version of this one.
        let made = fstat(&target)?;
        Ok(Entry::File(written(file, &made, None)))
    }

    fn below(&mut self, step: &Step, parent: &RelativePath, name: &Name) -> Result<(), Obstacle> {
        let (path, directory, opened) = match self.work.open.take() {
            Some((path, directory, opened)) if path == *parent && opened.elapsed() < SAME => (path, directory, opened),
            _ => (parent.clone(), self.root.open_directory(parent).map_err(gone)?, Instant::now()),
        };
        let spot = Spot { directory: directory.as_fd(), name: OsStr::from_bytes(name.as_bytes()) };
        let result = self.change(&spot, step);
        self.work.open = Some((path, directory, opened));
        result
    }

    fn change(&mut self, spot: &Spot<'_>, step: &Step) -> Result<(), Obstacle> {
        let path = &step.path;
        if self.known(path).map(Node::entry) != step.old {
            return Err(Obstacle::Changed);
        }
        match (&step.old, &step.new) {
            (Some(Entry::Directory(_)), Some(Entry::Directory(mode))) => {
                let directory = open_directory(spot.directory, spot.name)?;
                drop(directory);
                self.work.modes.push((path.clone(), *mode));
                self.done(path, step.new.clone());
            }
            (Some(Entry::Directory(_)), None) => {
                unlinkat(spot.directory, spot.name, AtFlags::REMOVEDIR)?;
                self.done(path, None);
            }
            (None, Some(Entry::Directory(mode))) => {
                mkdirat(spot.directory, spot.name, Mode::RWXU)?;
                if let Some(owner) = self.owner {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    chownat(spot.directory, spot.name, Some(owner.user), Some(owner.group), flags)?;
                }
                self.work.modes.push((path.clone(), *mode));
                self.done(path, step.new.clone());
            }
            (Some(_), None) => {
                self.take_away(spot, path)?;
                self.done(path, None);
            }
            (_, Some(Entry::File(_) | Entry::Link(_))) => self.put(spot, step, path)?,
            (None, None) | (_, Some(Entry::Directory(_) | Entry::Unheld(_))) => return Err(Obstacle::Changed),
        }
        Ok(())
    }

    /// Puts a file or a link where nothing or another one is.
    fn put(&mut self, spot: &Spot<'_>, step: &Step, path: &RelativePath) -> Result<(), Obstacle> {
        // Permissions and times of a file whose content stays are changed on the file itself.
        if let (Some(Entry::File(old)), Some(Entry::File(new))) = (&step.old, &step.new)
            && old.same_content(new)
        {
            if !self.is_as_known(spot, path)? {
                return Err(Obstacle::Changed);
            }
            let (file, _) = open_file(spot)?;
            self.dress(file.as_fd(), new)?;
            // Its time may hide that it was written in between: it is read again.
            let entry = written(new, &fstat(&file)?, None);
            self.done(path, Some(Entry::File(entry)));
            return Ok(());
        }
        if step.old.is_some() && !self.is_as_known(spot, path)? {
            return Err(Obstacle::Changed);
        }
        let made = match &step.new {
            Some(Entry::File(file)) => self.make_file(file)?,
            Some(Entry::Link(link)) => {
                let name = Stage::new_name();
                symlinkat(link.target.as_slice(), self.stage.directory(), name.as_str())?;
                if let Some(owner) = self.owner {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    chownat(self.stage.directory(), name.as_str(), Some(owner.user), Some(owner.group), flags)?;
                }
                name
            }
            _ => return Err(Obstacle::Changed),
        };
        let stat =
            look(&Spot { directory: self.stage.directory(), name: OsStr::new(&made) })?.ok_or(Obstacle::Changed)?;
        let placed = self.place(spot, path, &made, step.old.is_some());
        // What was there before lies here now, or what was made still does.
        self.stage.remove(&made);
        placed?;
        let entry = match &step.new {
            Some(Entry::File(file)) => Some(Entry::File(written(file, &stat, look(spot)?.as_ref()))),
            other => other.clone(),
        };
        self.done(path, entry);
        Ok(())
    }

    /// Moves what was made to its place, which is empty or has what is known.
    fn place(&self, spot: &Spot<'_>, path: &RelativePath, made: &str, replaces: bool) -> Result<(), Obstacle> {
        let stage = self.stage.directory();
        let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        match renameat_with(stage, made, spot.directory, spot.name, flags) {
            Ok(()) if !replaces => return Ok(()),
            Ok(()) => {
                let was = Spot { directory: stage, name: OsStr::new(made) };
                if self.is_the_same(&was, path)? {
                    return Ok(());
                }
                // Written in between: it goes back to its place.
                renameat_with(stage, made, spot.directory, spot.name, RenameFlags::EXCHANGE)?;
                return Err(Obstacle::Changed);
            }
            // Another file system, or one that cannot do this.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let near = format!("{TEMPORARY}{made}");
        let placed = self.copy_near(made, spot, &near).and_then(|()| {
            match renameat_with(spot.directory, near.as_str(), spot.directory, spot.name, flags) {
                Ok(()) if replaces => {
                    let was = Spot { directory: spot.directory, name: OsStr::new(&near) };
                    if self.is_the_same(&was, path)? {
                        return Ok(());
                    }
                    renameat_with(spot.directory, near.as_str(), spot.directory, spot.name, flags)?;
                    Err(Obstacle::Changed)
                }
                Ok(()) => Ok(()),
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let there = look(spot)?.is_some();
                    if there != replaces || (replaces && !self.is_the_same(spot, path)?) {
                        return Err(Obstacle::Changed);
                    }
                    Ok(renameat(spot.directory, near.as_str(), spot.directory, spot.name)?)
                }
                Err(error) => Err(error.into()),
            }
        });
        match unlinkat(spot.directory, near.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(%error, "a temporary file stays"),
        }
        placed
    }

    /// Copies what was made to the directory where it is to be.
    fn copy_near(&self, made: &str, spot: &Spot<'_>, near: &str) -> Result<(), Obstacle> {
        let source = Spot { directory: self.stage.directory(), name: OsStr::new(made) };
        let is_link = look(&source)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        if is_link {
            let target = readlinkat(source.directory, source.name, Vec::new())?;
            return Ok(symlinkat(target, spot.directory, near)?);
        }
        let (mut from, stat) = open_file(&source)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to: std::fs::File = openat(spot.directory, near, flags, Mode::RUSR | Mode::WUSR)?.into();
        io::copy(&mut from, &mut to)?;
        fchmod(&to, Mode::from_raw_mode(RawMode::from(mode(&stat))))?;
        futimens(&to, &times(modified(&stat).seconds, modified(&stat).nanoseconds))?;
        to.sync_all()?;
        Ok(())
    }

    /// Takes a file or a link away, if it is what is known.
    fn take_away(&self, spot: &Spot<'_>, path: &RelativePath) -> Result<(), Obstacle> {
        if !self.is_as_known(spot, path)? {
            return Err(Obstacle::Changed);
        }
        let (stage, name) = (self.stage.directory(), Stage::new_name());
        match renameat_with(spot.directory, spot.name, stage, name.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
                return Ok(unlinkat(spot.directory, spot.name, AtFlags::empty())?);
            }
            Err(error) => return Err(error.into()),
        }
        if self.is_the_same(&Spot { directory: stage, name: OsStr::new(&name) }, path)? {
            self.stage.remove(&name);
            return Ok(());
        }
        renameat_with(stage, name.as_str(), spot.directory, spot.name, RenameFlags::NOREPLACE)?;
        Err(Obstacle::Changed)
    }

    /// Whether there is what is known, in every respect.
    fn is_as_known(&self, spot: &Spot<'_>, path: &RelativePath) -> Result<bool, Obstacle> {
        let Some(stat) = look(spot)? else { return Ok(false) };
        match self.known(path) {
            Some(Node::File(known)) if known.stamp != 0 => {
                Ok(known.stamp == stamp(&stat, SystemTime::now()) && known.mode == mode(&stat))
            }
            _ => self.is_the_same(spot, path),
        }
    }

    /// Whether there is what is known, after it was moved: a move changes a file's time of change.
    fn is_the_same(&self, spot: &Spot<'_>, path: &RelativePath) -> Result<bool, Obstacle> {
        let Some(stat) = look(spot)? else { return Ok(false) };
        Ok(match self.known(path) {
            Some(Node::File(known)) => {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    && known.size == stat.st_size as u64
                    && known.modified == modified(&stat)
                    && (known.stamp != 0 || read_file(spot)?.digest == known.digest)
            }
            Some(Node::Link(known)) => match readlinkat(spot.directory, spot.name, Vec::new()) {
                Ok(target) => target.as_bytes() == known.target,
                Err(_) => false,
            },
            _ => false,
        })
    }

    /// A file as it is to be, in the stage. A content that could not be had was changed on its own side.
    fn make_file(&mut self, file: &File) -> Result<String, Obstacle> {
        let left = self.work.needed.get_mut(&file.digest).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        let (mut name, mut content) = self.stage.open(&file.digest, left == 0)?.ok_or(Obstacle::Changed)?;
        if left > 0 {
            name = Stage::new_name();
            let mut copy = self.stage.create(&name)?;
            copy_sparse(&mut content, &mut copy)?;
            if self.side == Side::Laptop {
                copy.sync_data()?;
            }
            content = copy;
        }
        self.dress(content.as_fd(), file)?;
        Ok(name)
    }

    /// Owner, permissions and time.
    fn dress(&self, target: BorrowedFd<'_>, file: &File) -> Result<(), Obstacle> {
        if let Some(owner) = self.owner {
            fchown(target, Some(owner.user), Some(owner.group))?;
        }
        fchmod(target, Mode::from_raw_mode(RawMode::from(file.mode)))?;
        futimens(target, &times(file.modified.seconds, file.modified.nanoseconds))?;
        Ok(())
    }
}

fn gone(error: io::Error) -> Obstacle {
    match error.raw_os_error() {
        Some(number) => Obstacle::from(Errno::from_raw_os_error(number)),
        None if error.kind() == io::ErrorKind::NotFound => Obstacle::Changed,
        None => Obstacle::Failed(error),
    }
}

fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) },
    }
}

/// The file as the file system has it: some round times, and some have fewer permissions. `made` is what was put there, and
/// `there` what is there after that: if somebody has been quicker, it is read again. It has been this content all the same, so
/// that what is found then is a newer version of it, and no other one.
fn written(file: &File, made: &Stat, there: Option<&Stat>) -> File {
    let same = |there: &&Stat| there.st_size == made.st_size && modified(there) == modified(made);
    File {
        digest: file.digest,
        size: file.size,
        mode: mode(made),
        modified: modified(made),
        stamp: there.filter(same).map_or(0, |there| stamp(there, SystemTime::now())),
    }
}

/// Copies what is there and leaves out what is zero.
fn copy_sparse(from: &mut std::fs::File, to: &mut std::fs::File) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return to.set_len(length);
        }
        length += count as u64;
        if buffer[..count].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(count).map_err(io::Error::other)?))?;
        } else {
            to.write_all(&buffer[..count])?;
        }
    }
}

/// Gives a root and all that lies in it to a user. Links are given themselves, never what they point to.
pub(crate) fn give_all(root: &Root, owner: Owner) -> io::Result<()> {
    match root.file_name() {
        Some(name) => {
            let result = chownat(root.top()?, name, Some(owner.user), Some(owner.group), AtFlags::SYMLINK_NOFOLLOW);
            match result {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        None => {
            let top = root.open_directory(&RelativePath::ROOT)?;
            fchown(&top, Some(owner.user), Some(owner.group))?;
            give_below(top.as_fd(), owner, 0)
        }
    }
}

fn give_below(directory: BorrowedFd<'_>, owner: Owner, depth: usize) -> io::Result<()> {
    /// Deeper than any path that is synced.
    const DEEPEST: usize = 256;
    if depth > DEEPEST {
        return Ok(());
    }
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match chownat(directory, name, Some(owner.user), Some(owner.group), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        if let Ok(below) = open_directory(directory, OsStr::from_bytes(name.to_bytes())) {
            give_below(below.as_fd(), owner, depth + 1)?;
        }
    }
    Ok(())
}
