//! What lies below a root, as a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    path::{Name, RelativePath},
    wire::LONGEST_TARGET,
};

/// The bits of a mode that are kept: reading, writing and executing. Set-user-id, set-group-id and sticky are never.
pub const PERMISSIONS: u16 = 0o777;

/// BLAKE3 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A time of modification: since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Whole seconds, negative before that.
    pub seconds: i64,
    /// Nanoseconds after them, below 1,000,000,000.
    pub nanoseconds: u32,
}

fn permissions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let mode = u16::deserialize(deserializer)?;
    if mode & !PERMISSIONS == 0 { Ok(mode) } else { Err(D::Error::custom("a mode with more than permissions")) }
}

fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let target = Vec::<u8>::deserialize(deserializer)?;
    let possible = !target.is_empty() && target.len() <= LONGEST_TARGET && !target.contains(&0);
    if possible { Ok(target) } else { Err(D::Error::custom("no target of a symbolic link")) }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let time = Time::deserialize(deserializer)?;
    if time.nanoseconds < 1_000_000_000 { Ok(time) } else { Err(D::Error::custom("no time")) }
}

/// A regular file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File {
    /// Of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Permissions.
    #[serde(deserialize_with = "permissions")]
    pub mode: u16,
    /// When its content was changed last.
    #[serde(deserialize_with = "time")]
    pub modified: Time,
    /// By what the side that has read it knows it again without reading it: 0 if it does not. Neither compared nor sent.
    #[serde(skip)]
    pub stamp: u64,
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.same_content(other) && self.mode == other.mode && self.modified == other.modified
    }
}

impl Eq for File {}

impl File {
    /// Whether both have the same bytes.
    pub fn same_content(&self, other: &Self) -> bool {
        self.digest == other.digest && self.size == other.size
    }
}

/// A symbolic link. It is kept as it is and never followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it points to: no zero byte, and no longer than [`crate::wire::LONGEST_TARGET`].
    #[serde(deserialize_with = "target")]
    pub target: Vec<u8>,
}

/// A directory and all that lies in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Permissions.
    pub mode: u16,
    /// Its entries, by name.
    pub children: Children,
}

/// The entries of a directory. Trees that have the same ones share them, so that what differs between two large trees is found
/// without looking at what does not; they are copied when one of them is changed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Children(Arc<BTreeMap<Name, Node>>);

impl Children {
    /// Whether both are one: nothing of it needs to be compared.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Children {
    type Target = BTreeMap<Name, Node>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Children {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl From<BTreeMap<Name, Node>> for Children {
    fn from(children: BTreeMap<Name, Node>) -> Self {
        Self(Arc::new(children))
    }
}

impl FromIterator<(Name, Node)> for Children {
    fn from_iter<T: IntoIterator<Item = (Name, Node)>>(children: T) -> Self {
        BTreeMap::from_iter(children).into()
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for Children {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Children {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

/// Why an entry is on one side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unheld {
    /// A socket, a device or a named pipe.
    Special,
    /// It cannot be read.
    Unreadable,
    /// Its name, its path or its content cannot be had on the other side.
    Unfit,
}

/// An entry with all that lies below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A directory.
    Directory(Directory),
    /// A symbolic link.
    Link(Link),
    /// Something that stays on its side, and in whose place nothing is put.
    Unheld(Unheld),
}

/// An entry without what lies below it; what the sides tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A regular file.
    File(File),
    /// A directory with these permissions.
    Directory(#[serde(deserialize_with = "permissions")] u16),
    /// A symbolic link.
    Link(Link),
    /// Something that stays on its side.
    Unheld(Unheld),
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

impl Node {
    /// A directory, if it is one.
    pub const fn directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The entry itself.
    pub fn entry(&self) -> Entry {
        match self {
            Self::File(file) => Entry::File(file.clone()),
            Self::Directory(directory) => Entry::Directory(directory.mode),
            Self::Link(link) => Entry::Link(link.clone()),
            Self::Unheld(reason) => Entry::Unheld(*reason),
        }
    }

    /// What lies at a path.
    pub fn get(&self, path: &RelativePath) -> Option<&Self> {
        path.names().try_fold(self, |node, name| node.directory()?.children.get(name))
    }

    /// What lies at a path, to be changed.
    pub fn get_mut(&mut self, path: &RelativePath) -> Option<&mut Self> {
        path.names().try_fold(self, |node, name| match node {
            Self::Directory(directory) => directory.children.get_mut(name),
            _ => None,
        })
    }

    /// Calls for every entry, each directory before what lies in it.
    pub fn walk(&self, path: &mut RelativePath, visit: &mut impl FnMut(&RelativePath, &Self)) {
        visit(path, self);
        for (name, child) in self.directory().into_iter().flat_map(|directory| directory.children.iter()) {
            path.push(name);
            child.walk(path, visit);
            path.pop();
        }
    }

    /// Where contents lie: one place of each that is there.
    pub fn find(&self, wanted: &BTreeSet<Digest>) -> BTreeMap<Digest, RelativePath> {
        let mut found = BTreeMap::new();
        if !wanted.is_empty() {
            self.walk(&mut RelativePath::ROOT.clone(), &mut |path, node| {
                if let Self::File(file) = node
                    && wanted.contains(&file.digest)
                {
                    found.entry(file.digest).or_insert_with(|| path.clone());
                }
            });
        }
        found
    }

    /// Whether it is the other one also in what is not compared: by what a file is known again.
    pub fn is_identical(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other && one.stamp == other.stamp,
            (Self::Directory(one), Self::Directory(other)) => {
                one.mode == other.mode && one.children.is_shared_with(&other.children)
            }
            (one, other) => one == other,
        }
    }

    /// How much there is.
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        self.walk(&mut RelativePath::ROOT.clone(), &mut |_, node| {
            count.entries += 1;
            if let Self::File(file) = node {
                count.bytes = count.bytes.saturating_add(file.size);
            }
        });
        count
    }
}

impl Entry {
    /// The entry with nothing below it.
    pub fn node(self) -> Node {
        match self {
            Self::File(file) => Node::File(file),
            Self::Directory(mode) => Node::Directory(Directory { mode, children: Children::default() }),
            Self::Link(link) => Node::Link(link),
            Self::Unheld(reason) => Node::Unheld(reason),
        }
    }
}

impl Node {
    /// Puts an entry into a tree, or takes it out with all that lies below; a directory that stays one keeps what lies in
    /// it. Returns whether there is a directory for it to lie in.
    pub fn set(tree: &mut Option<Self>, path: &RelativePath, entry: Option<Entry>) -> bool {
        let Some((parent, name)) = path.split() else {
            match (tree, entry) {
                (Some(Node::Directory(directory)), Some(Entry::Directory(mode))) => directory.mode = mode,
                (tree, entry) => *tree = entry.map(Entry::node),
            }
            return true;
        };
        let Some(Node::Directory(directory)) = tree.as_mut().and_then(|tree| tree.get_mut(&parent)) else {
            return false;
        };
        match (entry, directory.children.get_mut(&name)) {
            (Some(Entry::Directory(mode)), Some(Node::Directory(child))) => child.mode = mode,
            (Some(entry), _) => drop(directory.children.insert(name, entry.node())),
            (None, _) => drop(directory.children.remove(&name)),
        }
        true
    }

    /// Gives an entry another name in its directory; what lies below goes along. Nothing happens where there is none, or where
    /// the other name is taken. Returns whether it was done.
    pub fn rename(tree: &mut Option<Self>, directory: &RelativePath, from: &Name, to: &Name) -> bool {
        let Some(Node::Directory(directory)) = tree.as_mut().and_then(|tree| tree.get_mut(directory)) else {
            return false;
        };
        if directory.children.contains_key(to) || !directory.children.contains_key(from) {
            return false;
        }
        let Some(node) = directory.children.remove(from) else { return false };
        directory.children.insert(to.clone(), node);
        true
    }
}
