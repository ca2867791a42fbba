//! Doing what a plan says, on a file system that others change at the same time: what a step replaces is taken aside, looked
//! at, and put back if it is not what was seen.

mod in_place;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Seek, SeekFrom, Write},
    time::SystemTime,
};

use overside_sync_core::{Digest, Entry, File, HeldBack, Name, Node, RelativePath, Side, Step, TEMPORARY, Traits};

use crate::{
    endpoint::Failure,
    files::{
        Directory, Owner, Spot, Stat, Type, dress, has_exactly, is_changed, is_unsupported, look, open_file, stat_of,
    },
    root::{Near, Root},
    scan::{Changes, read_file},
    stage::Stage,
};

/// What a directory's owner needs to put something into it.
const FILLABLE: u16 = 0o700;

/// What keeps a step from being done.
enum Obstacle {
    /// Somebody was quicker.
    Changed,
    /// There is something where nothing is to be.
    Taken,
    Failed(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::Taken,
            _ if is_changed(&error) => Self::Changed,
            _ => Self::Failed(error),
        }
    }
}

/// What has become of the steps of one plan so far.
#[derive(Default)]
pub(crate) struct Work {
    /// How many steps still need each content.
    needed: BTreeMap<Digest, u32>,
    /// The directory that was used last.
    near: Near,
    /// Directories whose permissions come last, so that they do not stand in the way.
    modes: Vec<(RelativePath, u16)>,
    /// Directories that this file system cannot have, so that nothing comes to lie in them.
    unfit: Vec<RelativePath>,
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
    /// Files that a container would lose if others came into their places.
    pub(crate) held: &'a BTreeSet<RelativePath>,
    pub(crate) side: Side,
    pub(crate) traits: &'a Traits,
    pub(crate) work: &'a mut Work,
}

impl Applying<'_> {
    /// Does one; what goes wrong is told at the end.
    pub(crate) fn step(&mut self, step: &Step) {
        if self.work.unfit.iter().any(|directory| step.path.is_within(directory)) {
            return;
        }
        let done = match step.path.split() {
            Some((parent, name)) => self.below(step, &parent, &name),
            None => self.at_root(step),
        };
        let Err(obstacle) = done else { return };
        let held = self.holds_back(step, &obstacle);
        let (reason, passes) = match (&held, obstacle) {
            (Some(held), _) => (held.to_string(), false),
            (None, Obstacle::Changed | Obstacle::Taken) => ("it was changed meanwhile".to_owned(), true),
            (None, Obstacle::Failed(error)) => (error.to_string(), false),
        };
        if held.is_some() && matches!(step.new, Some(Entry::Directory(_))) {
            self.work.unfit.push(step.path.clone());
        }
        self.work.failures.push(Failure { path: step.path.clone(), reason, passes, held });
    }

    /// Whether something new cannot be made because of its name: the file system does not take it, or finds another entry
    /// under it.
    fn holds_back(&self, step: &Step, obstacle: &Obstacle) -> Option<HeldBack> {
        if self.side != Side::Laptop || step.old.is_some() || step.new.is_none() {
            return None;
        }
        match obstacle {
            Obstacle::Failed(error) => {
                matches!(error.kind(), io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput)
                    .then_some(HeldBack::Name)
            }
            Obstacle::Taken => {
                let (parent, name) = step.path.split()?;
                let directory = self.root.hold_directory(&parent).ok()?;
                let is_other = !has_exactly(&directory, name.as_bytes()).ok()?;
                is_other.then_some(HeldBack::SameName(None))
            }
            Obstacle::Changed => None,
        }
    }

    /// Permissions of directories, those that lie deepest first; then what differs from before, and what failed.
    pub(crate) fn finish(self) -> (Changes, Vec<Failure>) {
        let mut work = std::mem::take(self.work);
        work.modes.sort();
        if self.traits.no_permissions {
            work.modes.clear();
        }
        for (path, mode) in work.modes.into_iter().rev() {
            let set = self.root.hold_directory(&path).and_then(|directory| directory.set_mode(mode));
            if let Err(error) = set {
                work.failures.push(Failure { path, reason: error.to_string(), passes: false, held: None });
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
            (_, Some(Entry::File(file)), Some(name)) => {
                let (directory, name) = (self.root.top()?, name.to_owned());
                let spot = Spot { directory, name: &name };
                if self.side == Side::Environment {
                    return self.write_into(&spot, step, &RelativePath::ROOT, file);
                }
                self.put(&spot, step, &RelativePath::ROOT)
            }
            // A root itself is neither made nor taken away by a step.
            _ => Err(Obstacle::Failed(io::Error::other("the root became something else"))),
        }
    }

    fn below(&mut self, step: &Step, parent: &RelativePath, name: &Name) -> Result<(), Obstacle> {
        // Where names are alike, a path may lead into another directory than the one that was to be made.
        if self.side == Side::Laptop && step.old.is_none() && self.known(parent).and_then(Node::directory).is_none() {
            return Err(Obstacle::Changed);
        }
        let mut near = std::mem::take(&mut self.work.near);
        let directory = near.get(parent, || self.root.hold_directory(parent))?;
        let result = self.change(&Spot { directory, name: name.as_bytes() }, step);
        self.work.near = near;
        result
    }

    fn change(&mut self, spot: &Spot<'_>, step: &Step) -> Result<(), Obstacle> {
        let path = &step.path;
        if self.known(path).map(Node::entry) != step.old {
            return Err(Obstacle::Changed);
        }
        match (&step.old, &step.new) {
            (Some(Entry::Directory(_)), Some(Entry::Directory(mode))) => {
                drop(spot.directory.open_directory(spot.name)?);
                self.work.modes.push((path.clone(), *mode));
                self.done(path, step.new.clone());
            }
            (Some(Entry::Directory(_)), None) => {
                spot.directory.remove_directory(spot.name)?;
                self.done(path, None);
            }
            (None, Some(Entry::Directory(mode))) => {
                spot.directory.make_directory(spot.name)?;
                if let Some(owner) = self.owner {
                    spot.directory.give_entry(spot.name, owner)?;
                }
                // At once, so that an interruption leaves no others, but for what would keep it from being filled.
                if !self.traits.no_permissions {
                    spot.directory.open_directory(spot.name)?.set_mode(*mode | FILLABLE)?;
                }
                if *mode | FILLABLE != *mode {
                    self.work.modes.push((path.clone(), *mode));
                }
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
            let file = spot.directory.open_to_dress(spot.name)?;
            self.dress(&file, new)?;
            // Its time may hide that it was written in between: it is read again.
            let entry = written(new, &stat_of(&file)?, None);
            self.done(path, Some(Entry::File(entry)));
            return Ok(());
        }
        if let (Some(Entry::File(old)), Some(Entry::File(new))) = (&step.old, &step.new) {
            if self.held.contains(path) {
                return self.write_into(spot, step, path, new);
            }
            if let Some(end) = self.end(old, new)?
                && self.append(spot, path, new, &end)?
            {
                return Ok(());
            }
        }
        if step.old.is_some() && !self.is_as_known(spot, path)? {
            return Err(Obstacle::Changed);
        }
        let made = match &step.new {
            Some(Entry::File(file)) => self.make_file(file)?,
            Some(Entry::Link(link)) => {
                let name = Stage::new_name();
                self.stage.directory().make_link(name.as_bytes(), &link.target, spot.directory)?;
                if let Some(owner) = self.owner {
                    self.stage.directory().give_entry(name.as_bytes(), owner)?;
                }
                name
            }
            _ => return Err(Obstacle::Changed),
        };
        let stat =
            look(&Spot { directory: self.stage.directory(), name: made.as_bytes() })?.ok_or(Obstacle::Changed)?;
        let placed = self.place(spot, path, &made, step.old.is_some());
        // What was there before lies here now, or what was made still does.
        if step.old.is_some() || !matches!(placed, Ok(None)) {
            self.stage.remove(&made);
        }
        let stat = placed?.unwrap_or(stat);
        let entry = match &step.new {
            Some(Entry::File(file)) => Some(Entry::File(written(file, &stat, look(spot)?.as_ref()))),
            other => other.clone(),
        };
        self.done(path, entry);
        Ok(())
    }

    /// Moves what was made to its place, which is empty or has what is known. A copy of it may have come there instead, which is
    /// returned as its file system has it.
    fn place(
        &self,
        spot: &Spot<'_>,
        path: &RelativePath,
        made: &str,
        replaces: bool,
    ) -> Result<Option<Stat>, Obstacle> {
        let made = Spot { directory: self.stage.directory(), name: made.as_bytes() };
        match self.swap(&made, spot, path, replaces) {
            Err(Obstacle::Failed(error)) if is_unsupported(&error) => {}
            placed => return placed.map(|()| None),
        }
        let near = [TEMPORARY.as_bytes(), made.name].concat();
        let near = Spot { directory: spot.directory, name: &near };
        let placed = self.copy_near(&made, &near).and_then(|stat| match self.swap(&near, spot, path, replaces) {
            Err(Obstacle::Failed(error)) if is_unsupported(&error) => {
                match (look(spot)?.is_some(), replaces) {
                    (true, false) => return Err(Obstacle::Taken),
                    (true, true) if self.is_the_same(spot, path)? => {}
                    (false, false) => {}
                    (_, true) => return Err(Obstacle::Changed),
                }
                near.directory.rename(near.name, spot)?;
                Ok(stat)
            }
            placed => placed.map(|()| stat),
        });
        match near.directory.remove(near.name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "a temporary file stays"),
        }
        placed
    }

    /// Moves what was made to an empty place, or exchanges it with what is known.
    fn swap(&self, made: &Spot<'_>, spot: &Spot<'_>, path: &RelativePath, replaces: bool) -> Result<(), Obstacle> {
        if !replaces {
            return Ok(made.directory.rename_new(made.name, spot)?);
        }
        made.directory.exchange(made.name, spot)?;
        if self.is_the_same(made, path)? {
            return Ok(());
        }
        // Written in between: it goes back to its place.
        made.directory.exchange(made.name, spot)?;
        Err(Obstacle::Changed)
    }

    /// Copies what was made to the directory where it is to be. Returns how a file is there.
    fn copy_near(&self, made: &Spot<'_>, near: &Spot<'_>) -> Result<Option<Stat>, Obstacle> {
        if look(made)?.is_some_and(|stat| stat.kind == Type::Link) {
            let target = made.directory.read_link(made.name)?.ok_or(Obstacle::Changed)?;
            near.directory.make_link(near.name, &target, near.directory)?;
            return Ok(None);
        }
        let (mut from, stat) = open_file(made)?;
        let mut to = near.directory.create(near.name)?;
        io::copy(&mut from, &mut to)?;
        dress(&to, None, self.mode(&to, stat.mode())?, stat.modified)?;
        to.sync_all()?;
        Ok(Some(stat_of(&to)?))
    }

    /// The permissions that a file may be given, where it is to have these.
    fn mode(&self, target: &std::fs::File, mode: u16) -> io::Result<u16> {
        if self.traits.no_permissions { Ok(stat_of(target)?.mode()) } else { Ok(mode) }
    }

    /// Takes a file or a link away, if it is what is known.
    fn take_away(&self, spot: &Spot<'_>, path: &RelativePath) -> Result<(), Obstacle> {
        if !self.is_as_known(spot, path)? {
            return Err(Obstacle::Changed);
        }
        let name = Stage::new_name();
        let aside = Spot { directory: self.stage.directory(), name: name.as_bytes() };
        match spot.directory.rename_new(spot.name, &aside) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => return Ok(spot.directory.remove(spot.name)?),
            Err(error) => return Err(error.into()),
        }
        if self.is_the_same(&aside, path)? {
            self.stage.remove(&name);
            return Ok(());
        }
        aside.directory.rename_new(aside.name, spot)?;
        Err(Obstacle::Changed)
    }

    /// Whether there is what is known, in every respect.
    fn is_as_known(&self, spot: &Spot<'_>, path: &RelativePath) -> Result<bool, Obstacle> {
        let Some(stat) = look(spot)? else { return Ok(false) };
        match self.known(path) {
            Some(Node::File(known)) if known.stamp != 0 => {
                Ok(known.stamp == stat.stamp(SystemTime::now()) && known.mode == stat.mode())
            }
            _ => self.is_the_same(spot, path),
        }
    }

    /// Whether there is what is known, after it was moved: a move changes a file's time of change.
    fn is_the_same(&self, spot: &Spot<'_>, path: &RelativePath) -> Result<bool, Obstacle> {
        let Some(stat) = look(spot)? else { return Ok(false) };
        Ok(match self.known(path) {
            Some(Node::File(known)) => {
                stat.kind == Type::File
                    && known.size == stat.size
                    && known.modified == stat.modified
                    && (known.stamp != 0 || read_file(spot)?.digest == known.digest)
            }
            Some(Node::Link(known)) => match spot.directory.read_link(spot.name) {
                Ok(target) => target.is_some_and(|target| target == known.target),
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
        let (mut name, mut content) =
            self.stage.open(&file.digest, left == 0).map_err(Obstacle::Failed)?.ok_or(Obstacle::Changed)?;
        if left > 0 {
            name = Stage::new_name();
            let mut copy = self.stage.create(&name).map_err(Obstacle::Failed)?;
            copy_sparse(&mut content, &mut copy)?;
            if self.side == Side::Laptop {
                copy.sync_data()?;
            }
            content = copy;
        }
        self.dress(&content, file)?;
        Ok(name)
    }

    /// Owner, permissions and time.
    fn dress(&self, target: &std::fs::File, file: &File) -> Result<(), Obstacle> {
        Ok(dress(target, self.owner, self.mode(target, file.mode)?, file.modified)?)
    }
}

/// The file as the file system has it: some round times, and some have fewer permissions. `made` is what was put there, and
/// `there` what is there after that: if somebody has been quicker, it is read again. It has been this content all the same, so
/// that what is found then is a newer version of it, and no other one.
fn written(file: &File, made: &Stat, there: Option<&Stat>) -> File {
    let same = |there: &&Stat| there.size == made.size && there.modified == made.modified;
    File {
        digest: file.digest,
        size: file.size,
        mode: made.mode(),
        modified: made.modified,
        stamp: there.filter(same).map_or(0, |there| there.stamp(SystemTime::now())),
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
        Some(name) => ignore_gone(root.top()?.give_entry(name, owner)),
        None => {
            let top = root.top()?;
            top.give(owner)?;
            give_below(top, owner, 0)
        }
    }
}

fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn give_below(directory: &Directory, owner: Owner, depth: usize) -> io::Result<()> {
    /// Deeper than any path that is synced.
    const DEEPEST: usize = 256;
    if depth > DEEPEST {
        return Ok(());
    }
    for entry in directory.entries()? {
        let entry = entry?;
        if matches!(entry.name(), b"." | b"..") {
            continue;
        }
        ignore_gone(directory.give_entry(entry.name(), owner))?;
        if let Ok(below) = directory.open_directory(entry.name()) {
            give_below(&below, owner, depth + 1)?;
        }
    }
    Ok(())
}
