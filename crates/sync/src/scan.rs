//! Reading a root: every entry is looked at, and only what seems to have changed is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File as OpenFile,
    io::{self, Read},
    sync::Mutex,
    time::SystemTime,
};

use overside_sync_core::{
    Children, Count, Digest, Directory, Entry, File, Link, Name, Node, RelativePath, Rules, Unheld,
    wire::{Kind, LONGEST_TARGET},
};
use rayon::prelude::*;

use crate::{
    blocks::{self, Block, Known},
    files::{self, Spot, Stat, Type, is_exhausted, is_gone, look, open_file},
    lock,
    root::Root,
    watch::{Hints, Watcher},
};

/// Read at a time.
const CHUNK: usize = 256 * 1024;
/// Files from this size on are hashed by several threads each, in parts of [`LARGE_CHUNK`] bytes.
const LARGE: u64 = 8 << 20;
const LARGE_CHUNK: usize = 1 << 20;

/// Entries that differ from what was there before; a directory before what lies in it.
pub(crate) type Changes = Vec<(RelativePath, Option<Entry>)>;

/// Reads a file to its end, but no further than it was long at the beginning: one that grows all the time has an end, too.
pub(crate) fn digest(file: &mut OpenFile, size: u64) -> io::Result<(Digest, u64, Vec<Block>)> {
    blocks::hash(file.take(size), size, if size >= LARGE { LARGE_CHUNK } else { CHUNK })
}

/// Reads a root again and again.
pub(crate) struct Scanner<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) watcher: Option<&'a Watcher>,
    blocks: &'a Known,
    /// Directories below which all is looked at.
    replaced: BTreeSet<RelativePath>,
    /// What is known already is not looked at.
    only_new: bool,
    changes: Mutex<Changes>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(rules: &'a Rules, watcher: Option<&'a Watcher>, blocks: &'a Known) -> Self {
        Self { rules, watcher, blocks, replaced: BTreeSet::new(), only_new: false, changes: Mutex::default() }
    }

    /// From now on what is known already is left as it is.
    pub(crate) const fn looks_for_new_only(&mut self) {
        self.only_new = true;
    }

    /// What has changed, once all is read.
    pub(crate) fn changes(self) -> Changes {
        self.changes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tell(&self, path: RelativePath, entry: Option<Entry>) {
        lock(&self.changes).push((path, entry));
    }

    /// Looks at everything. `before` is what was there.
    pub(crate) fn whole(&self, root: &Root, before: Option<Node>) -> io::Result<Option<Node>> {
        let node = match root.kind() {
            Kind::Directory => match root.top() {
                Ok(top) => {
                    let mode = top.stat()?.mode();
                    let old = match before {
                        Some(Node::Directory(old)) if old.mode == mode => Some(old),
                        other => {
                            self.tell(RelativePath::ROOT, Some(Entry::Directory(mode)));
                            match other {
                                Some(Node::Directory(old)) => Some(old),
                                _ => None,
                            }
                        }
                    };
                    let old = old.map(|old| old.children).unwrap_or_default();
                    let children = self.directory(top, &RelativePath::ROOT, &old, true)?;
                    return Ok(Some(Node::Directory(Directory { mode, children })));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => match root.path().symlink_metadata() {
                    Ok(_) => Some(Node::Unheld(Unheld::Special)),
                    Err(_) => None,
                },
                Err(error) => return Err(error),
            },
            Kind::File => match (root.top(), root.file_name()) {
                (Ok(directory), Some(name)) => {
                    if let Some(watcher) = self.watcher {
                        watcher.add(directory, &RelativePath::ROOT);
                    }
                    self.file_root(&Spot { directory, name }, before.as_ref())?
                }
                _ => None,
            },
        };
        if node != before {
            self.tell(RelativePath::ROOT, node.as_ref().map(Node::entry));
        }
        Ok(node)
    }

    fn file_root(&self, spot: &Spot<'_>, before: Option<&Node>) -> io::Result<Option<Node>> {
        Ok(match look(spot)? {
            None => None,
            Some(stat) => match stat.kind {
                Type::File => self.file(spot, &stat, before)?,
                Type::Directory => Some(Entry::Directory(stat.mode()).node()),
                _ => Some(Node::Unheld(Unheld::Special)),
            },
        })
    }

    /// Looks again at these directories only, and at what is new in them.
    pub(crate) fn some(&mut self, root: &Root, tree: &mut Option<Node>, hints: Hints) -> io::Result<()> {
        self.replaced = if self.only_new { BTreeSet::new() } else { hints.replaced };
        let mut read = BTreeSet::new();
        for path in &hints.directories {
            let mut path = path.clone();
            loop {
                // A directory that is gone is found missing in the one above.
                let known = matches!(tree.as_ref().and_then(|tree| tree.get(&path)), Some(Node::Directory(_)));
                let opened = if known { root.open_directory(&path).ok() } else { None };
                if let Some(opened) = opened {
                    if path.is_root() && !self.only_new {
                        self.mode_of_root(&opened, tree)?;
                    }
                    if read.insert(path.clone())
                        && let Some(Node::Directory(directory)) = tree.as_ref().and_then(|tree| tree.get(&path))
                    {
                        let old = directory.children.clone();
                        match self.directory(&opened, &path, &old, false) {
                            Ok(new) if new.is_shared_with(&old) => {}
                            Ok(new) => {
                                if let Some(Node::Directory(directory)) =
                                    tree.as_mut().and_then(|tree| tree.get_mut(&path))
                                {
                                    directory.children = new;
                                }
                            }
                            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !path.is_root() => {
                                if !self.only_new {
                                    let entry = Some(Entry::Unheld(Unheld::Unreadable));
                                    Node::set(tree, &path, entry.clone());
                                    self.tell(path.clone(), entry);
                                }
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    break;
                }
                if self.only_new {
                    break;
                }
                if path.is_root() {
                    *tree = self.whole(root, tree.take())?;
                    return Ok(());
                }
                path.pop();
            }
        }
        Ok(())
    }

    /// Nothing above the root tells of its permissions.
    fn mode_of_root(&self, root: &files::Directory, tree: &mut Option<Node>) -> io::Result<()> {
        let mode = root.stat()?.mode();
        if let Some(Node::Directory(directory)) = tree
            && directory.mode != mode
        {
            directory.mode = mode;
            self.tell(RelativePath::ROOT, Some(Entry::Directory(mode)));
        }
        Ok(())
    }

    /// One directory, and those below it: all of them if `deep`, otherwise only those that are new. Where nothing is new, what
    /// was there before is returned itself.
    fn directory(
        &self,
        directory: &files::Directory,
        path: &RelativePath,
        before: &Children,
        deep: bool,
    ) -> io::Result<Children> {
        if let Some(watcher) = self.watcher {
            // Before it is read, so that nothing can be missed.
            watcher.add(directory, path);
        }
        let mut children = BTreeMap::new();
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        for entry in directory.entries()? {
            let entry = entry?;
            let (name, old) = match before.get_key_value(entry.name()) {
                Some((name, old)) => (name.clone(), Some(old)),
                None => match Name::new(entry.name()) {
                    Some(name) => (name, None),
                    None => continue,
                },
            };
            if self.only_new && old.is_some() {
                continue;
            }
            let child = path.child(&name);
            if self.rules.skips(&child) {
                continue;
            }
            let ignored = self.rules.ignores(&child);
            let Some(stat) = directory.look_at(&entry)? else { continue };
            if ignored && stat.kind != Type::Directory {
                continue;
            }
            match stat.kind {
                Type::File => files.push((name, child, stat, old)),
                Type::Directory => directories.push((name, child, stat, old, ignored)),
                Type::Link => {
                    let node = match directory.read_link(name.as_bytes()) {
                        Ok(Some(target)) if target.len() <= LONGEST_TARGET => Node::Link(Link { target }),
                        Ok(Some(_)) => Node::Unheld(Unheld::Unfit),
                        Ok(None) => continue,
                        Err(_) => Node::Unheld(Unheld::Unreadable),
                    };
                    self.differs(&child, old, &node);
                    children.insert(name, node);
                }
                Type::Special => {
                    let node = Node::Unheld(Unheld::Special);
                    self.differs(&child, old, &node);
                    children.insert(name, node);
                }
            }
        }
        let read = |(name, child, stat, old): (Name, RelativePath, Stat, Option<&Node>)| {
            let spot = Spot { directory, name: name.as_bytes() };
            let node = self.file(&spot, &stat, old)?;
            if let Some(node) = &node {
                self.differs(&child, old, node);
            }
            io::Result::Ok(node.map(|node| (name, node)))
        };
        let read: Vec<_> = files.into_par_iter().map(read).collect::<io::Result<_>>()?;
        children.extend(read.into_iter().flatten());
        let descend = |(name, child, stat, old, ignored): (Name, RelativePath, Stat, Option<&Node>, bool)| {
            self.descend(directory, &name, &child, &stat, old, deep, ignored).map(|node| node.map(|node| (name, node)))
        };
        let below: Vec<_> = directories.into_par_iter().map(descend).collect::<io::Result<_>>()?;
        children.extend(below.into_iter().flatten());
        if self.only_new {
            children.extend(before.iter().map(|(name, node)| (name.clone(), node.clone())));
        }
        for name in before.keys().filter(|name| !children.contains_key(*name)) {
            self.tell(path.child(name), None);
        }
        let same = before.len() == children.len()
            && before.iter().zip(&children).all(|(old, new)| old.0 == new.0 && old.1.is_identical(new.1));
        Ok(if same { before.clone() } else { children.into() })
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of one directory")]
    fn descend(
        &self,
        directory: &files::Directory,
        name: &Name,
        path: &RelativePath,
        stat: &Stat,
        old: Option<&Node>,
        deep: bool,
        ignored: bool,
    ) -> io::Result<Option<Node>> {
        let mode = stat.mode();
        let old = old.and_then(Node::directory);
        let deep = deep || self.replaced.contains(path);
        // What is taken back below an ignored directory is all that is seen of it.
        if old.is_none_or(|old| old.mode != mode) {
            self.tell(path.clone(), Some(Entry::Directory(mode)));
        }
        if let Some(old) = old.filter(|_| !deep) {
            return Ok(Some(Node::Directory(Directory { mode, children: old.children.clone() })));
        }
        let children = if path.is_deepest() {
            None
        } else {
            match directory.open_directory(name.as_bytes()) {
                Ok(opened) => {
                    let old = old.map(|old| old.children.clone()).unwrap_or_default();
                    match self.directory(&opened, path, &old, true) {
                        Ok(children) => Some(children),
                        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                        Err(error) => return Err(error),
                    }
                }
                Err(error) if is_exhausted(&error) => return Err(error),
                // Gone, or something else, meanwhile: the next reading tells.
                Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::NotADirectory => {
                    self.tell(path.clone(), None);
                    return Ok(None);
                }
                // Any other one is still there: told as gone, it would be deleted on the other side.
                Err(_) => None,
            }
        };
        let Some(children) = children else {
            let reason = if path.is_deepest() { Unheld::Unfit } else { Unheld::Unreadable };
            self.tell(path.clone(), Some(Entry::Unheld(reason)));
            return Ok(Some(Node::Unheld(reason)));
        };
        if ignored && children.is_empty() {
            self.tell(path.clone(), None);
            return Ok(None);
        }
        Ok(Some(Node::Directory(Directory { mode, children })))
    }

    fn differs(&self, path: &RelativePath, old: Option<&Node>, node: &Node) {
        if old != Some(node) {
            self.tell(path.clone(), Some(node.entry()));
        }
    }

    /// A regular file; none if it is gone meanwhile.
    fn file(&self, spot: &Spot<'_>, stat: &Stat, old: Option<&Node>) -> io::Result<Option<Node>> {
        let now = SystemTime::now();
        if let Some(Node::File(old)) = old
            && old.stamp != 0
            && old.stamp == stat.stamp(now)
        {
            return Ok(Some(Node::File(File { mode: stat.mode(), ..old.clone() })));
        }
        match read_with_blocks(spot) {
            Ok((file, blocks)) => {
                self.blocks.remember(file.digest, blocks);
                Ok(Some(Node::File(file)))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) if is_exhausted(&error) => Err(error),
            Err(_) => Ok(Some(Node::Unheld(Unheld::Unreadable))),
        }
    }
}

/// A regular file as it is now.
pub(crate) fn read_file(spot: &Spot<'_>) -> io::Result<File> {
    read_with_blocks(spot).map(|(file, _)| file)
}

fn read_with_blocks(spot: &Spot<'_>) -> io::Result<(File, Vec<Block>)> {
    let now = SystemTime::now();
    let (mut file, stat) = open_file(spot)?;
    let (digest, size, blocks) = digest(&mut file, stat.size)?;
    let file = File { digest, size, mode: stat.mode(), modified: stat.modified, stamp: stat.stamp(now) };
    Ok((file, blocks))
}

/// How much lies in each directory, itself and all below, without reading any file.
pub(crate) fn measure(root: &Root, rules: &Rules) -> io::Result<BTreeMap<RelativePath, Count>> {
    let found = Mutex::default();
    if root.kind() == Kind::Directory {
        measure_directory(root.top()?, &RelativePath::ROOT, rules, &found)?;
    }
    Ok(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn measure_directory(
    directory: &files::Directory,
    path: &RelativePath,
    rules: &Rules,
    found: &Mutex<BTreeMap<RelativePath, Count>>,
) -> io::Result<Count> {
    let (mut total, mut below) = (Count { entries: 1, bytes: 0 }, Vec::new());
    for entry in directory.entries()? {
        let entry = entry?;
        let Some(name) = Name::new(entry.name()) else { continue };
        let child = path.child(&name);
        if rules.skips(&child) {
            continue;
        }
        let Some(stat) = directory.look_at(&entry)? else { continue };
        match stat.kind {
            Type::Directory if !child.is_deepest() => below.push((name, child)),
            _ if rules.ignores(&child) => {}
            kind => {
                total.entries += 1;
                if kind == Type::File {
                    total.bytes = total.bytes.saturating_add(stat.size);
                }
            }
        }
    }
    let counts: Vec<Count> = below
        .into_par_iter()
        .map(|(name, child)| match directory.open_directory(name.as_bytes()) {
            Ok(opened) => match measure_directory(&opened, &child, rules, found) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Count::default()),
                counted => counted,
            },
            // One that cannot be opened or read is not brought either.
            Err(_) => Ok(Count::default()),
        })
        .collect::<io::Result<_>>()?;
    for count in counts {
        total.entries += count.entries;
        total.bytes = total.bytes.saturating_add(count.bytes);
    }
    lock(found).insert(path.clone(), total);
    Ok(total)
}
