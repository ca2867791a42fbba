//! What both sides had in common last, on the disk: the whole at first, then what has changed since. What a plan is about to
//! bring is written before it is brought: whoever finds it later knows that both had it, though nobody lived to write that.

use std::{
    borrow::Cow,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use fs_err::File;
use overside_sync_core::{Intents, Name, Node, RelativePath};
use serde::{Deserialize, Serialize};

/// Changes when the format does; another one is as good as none.
const FORMAT: &[u8] = b"overside ancestor 3\n";
/// Before each part: its length, and the beginning of its BLAKE3.
const HEAD: usize = 12;
/// Changes of so many bytes are kept before the whole is written again, or half of what that has.
const CHANGES: u64 = 256 << 10;

/// What has become of a part of the tree.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Change {
    Put(RelativePath, Node),
    Remove(RelativePath),
    /// Permissions of a directory.
    Mode(RelativePath, u16),
}

/// One part after the whole.
#[derive(Debug, Serialize, Deserialize)]
struct Part<'a> {
    changes: Vec<Change>,
    /// What was being brought. Those of earlier parts have been, or were given up.
    intents: Cow<'a, Intents>,
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    tree: Option<Node>,
    /// Of a large tree they are many, so that they are shared.
    intents: Arc<Intents>,
    /// Written to by this process, so that it is known how it ends.
    file: Option<File>,
    whole: u64,
    changes: u64,
    /// Whether there is one on the disk, whatever happens to the machine.
    is_durable: bool,
}

impl Kept {
    /// Reads it. Without one both sides are compared as if they had met for the first time, which loses nothing.
    pub(super) fn read(path: PathBuf) -> Self {
        let mut is_durable = true;
        let (tree, intents) = match fs_err::read(&path) {
            Ok(bytes) => decode(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                is_durable = false;
                Default::default()
            }
            Err(error) => {
                tracing::warn!(%error, "what both sides had in common is forgotten");
                Default::default()
            }
        };
        Self { path, tree, intents: Arc::new(intents), file: None, whole: 0, changes: 0, is_durable }
    }

    /// What it says.
    pub(super) const fn tree(&self) -> Option<&Node> {
        self.tree.as_ref()
    }

    /// What was being brought when it was written.
    pub(super) const fn intents(&self) -> &Arc<Intents> {
        &self.intents
    }

    /// Writes it, and what is about to be brought. Its directory is not made: without one the session has ended. It outlives this
    /// process, but perhaps not the machine until [`Self::sync`]: both sides are then compared as they were earlier, or for the
    /// first time.
    pub(super) fn write(&mut self, tree: Option<&Node>, intents: &Arc<Intents>) -> io::Result<()> {
        // Whatever goes wrong, the whole is written next time.
        let file = match self.file.take() {
            Some(mut file) if self.changes <= CHANGES.max(self.whole / 2) => {
                let mut changes = Vec::new();
                differences(&mut RelativePath::ROOT.clone(), self.tree.as_ref(), tree, &mut changes);
                if !changes.is_empty() || self.intents != *intents {
                    self.changes += write_part(&mut file, &Part { changes, intents: Cow::Borrowed(intents) })?;
                }
                file
            }
            _ => self.write_whole(tree, intents)?,
        };
        self.file = Some(file);
        self.tree = tree.cloned();
        self.intents = Arc::clone(intents);
        Ok(())
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_data()?;
            self.is_durable = true;
        }
        Ok(())
    }

    /// The old one stays until the new one is whole.
    fn write_whole(&mut self, tree: Option<&Node>, intents: &Intents) -> io::Result<File> {
        let bytes = [FORMAT, &encode(&tree)?].concat();
        let mut temporary = self.path.as_os_str().to_owned();
        temporary.push(".new");
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        let mut changes = 0;
        if !intents.is_empty() {
            changes = write_part(&mut file, &Part { changes: Vec::new(), intents: Cow::Borrowed(intents) })?;
        }
        if self.is_durable {
            file.sync_data()?;
        }
        fs_err::rename(Path::new(&temporary), &self.path)?;
        (self.whole, self.changes) = (bytes.len() as u64, changes);
        Ok(file)
    }
}

/// Returns its length in bytes.
fn write_part(file: &mut File, part: &Part<'_>) -> io::Result<u64> {
    let part = encode(part)?;
    file.write_all(&part)?;
    Ok(part.len() as u64)
}

fn encode(part: &impl Serialize) -> io::Result<Vec<u8>> {
    let encoded = postcard::to_stdvec(part).map_err(io::Error::other)?;
    let packed = zstd::bulk::compress(&encoded, 1)?;
    let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &blake3::hash(&packed).as_bytes()[..HEAD - 4], &packed].concat())
}

/// The first part, and what follows.
fn part(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (length, digest) = head.split_first_chunk::<4>()?;
    let (packed, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let is_whole = blake3::hash(packed).as_bytes().starts_with(digest);
    Some((is_whole.then(|| zstd::stream::decode_all(packed).ok())??, rest))
}

/// What a machine that has failed wrote in part is left out, with all that came later.
fn decode(bytes: &[u8]) -> Option<(Option<Node>, Intents)> {
    let (whole, mut rest) = part(bytes.strip_prefix(FORMAT)?)?;
    let mut tree: Option<Node> = postcard::from_bytes(&whole).ok()?;
    let mut intents = Intents::default();
    while let Some((found, more)) = part(rest) {
        let Ok(found) = postcard::from_bytes::<Part<'_>>(&found) else { break };
        found.changes.into_iter().for_each(|change| apply(&mut tree, change));
        intents = found.intents.into_owned();
        rest = more;
    }
    Some((tree, intents))
}

fn apply(tree: &mut Option<Node>, change: Change) {
    match change {
        Change::Remove(path) => drop(Node::set(tree, &path, None)),
        Change::Mode(path, mode) => {
            if let Some(Node::Directory(directory)) = tree.as_mut().and_then(|tree| tree.get_mut(&path)) {
                directory.mode = mode;
            }
        }
        Change::Put(path, node) => match path.split() {
            None => *tree = Some(node),
            Some((parent, name)) => {
                if let Some(Node::Directory(directory)) = tree.as_mut().and_then(|tree| tree.get_mut(&parent)) {
                    directory.children.insert(name, node);
                }
            }
        },
    }
}

/// What makes a tree another one. What both share is not looked at.
fn differences(path: &mut RelativePath, old: Option<&Node>, new: Option<&Node>, changes: &mut Vec<Change>) {
    match (old, new) {
        (Some(Node::Directory(old)), Some(Node::Directory(new))) => {
            if old.mode != new.mode {
                changes.push(Change::Mode(path.clone(), new.mode));
            }
            if old.children.is_shared_with(&new.children) {
                return;
            }
            let gone = old.children.keys().filter(|name| !new.children.contains_key(*name));
            let names: Vec<&Name> = gone.chain(new.children.keys()).collect();
            for name in names {
                path.push(name);
                differences(path, old.children.get(name), new.children.get(name), changes);
                path.pop();
            }
        }
        (old, new) if old == new => {}
        (_, Some(new)) => changes.push(Change::Put(path.clone(), new.clone())),
        (_, None) => changes.push(Change::Remove(path.clone())),
    }
}

#[cfg(test)]
mod tests {
    use overside_sync_core::{Digest, Entry, File as Regular, Time};

    use super::*;

    fn at(path: &str) -> RelativePath {
        RelativePath::new(path.as_bytes()).unwrap()
    }

    fn put(tree: &mut Option<Node>, path: &str, content: u8) {
        let modified = Time::default();
        let file = Regular { digest: Digest([content; 32]), size: 1, mode: 0o644, modified, stamp: 0 };
        assert!(Node::set(tree, &at(path), Some(Entry::File(file))));
    }

    fn tree() -> Option<Node> {
        let mut tree = Some(Entry::Directory(0o755).node());
        for directory in ["a", "a/b", "c"] {
            Node::set(&mut tree, &at(directory), Some(Entry::Directory(0o755)));
        }
        ["a/1", "a/b/2", "c/3"].iter().for_each(|path| put(&mut tree, path, 0));
        tree
    }

    #[test]
    fn what_was_written_last_is_read_again_however_it_came_about() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ancestor");
        let mut kept = Kept::read(path.clone());
        assert_eq!(kept.tree(), None);
        let mut now = tree();
        let mut length = 0;
        for round in 0..200_u8 {
            match round % 7 {
                0 => put(&mut now, "a/b/2", round),
                1 => drop(Node::set(&mut now, &at("c"), None)),
                2 => now = tree(),
                3 => put(&mut now, "a", round),
                4 => drop(Node::set(&mut now, &at("a"), Some(Entry::Directory(0o700)))),
                5 => now = None,
                _ => now = tree(),
            }
            if round % 50 == 1 {
                kept = Kept::read(path.clone());
            }
            kept.write(now.as_ref(), &Arc::default()).unwrap();
            if round % 2 == 0 {
                kept.sync().unwrap();
            }
            assert_eq!(Kept::read(path.clone()).tree(), now.as_ref(), "round {round}");
            length = length.max(fs_err::metadata(&path).unwrap().len());
        }
        assert!(length > 0);
    }

    #[test]
    fn an_unknown_mode_and_a_torn_end_do_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ancestor");
        let mut kept = Kept::read(path.clone());
        let before = tree();
        kept.write(before.as_ref(), &Arc::default()).unwrap();
        let mut after = before.clone();
        if let Some(Node::Directory(root)) = &mut after {
            root.mode = u16::MAX;
        }
        put(&mut after, "a/b/2", 9);
        kept.write(after.as_ref(), &Arc::default()).unwrap();
        assert_eq!(Kept::read(path.clone()).tree(), after.as_ref());
        let bytes = fs_err::read(&path).unwrap();
        for cut in 1..20 {
            fs_err::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            assert_eq!(Kept::read(path.clone()).tree(), before.as_ref());
        }
        let mut wrong = bytes.clone();
        *wrong.last_mut().unwrap() ^= 1;
        fs_err::write(&path, wrong).unwrap();
        assert_eq!(Kept::read(path).tree(), before.as_ref());
    }

    #[test]
    fn a_change_of_one_file_among_many_is_written_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ancestor");
        let mut now = tree();
        for number in 0..2000_u32 {
            let digest = Digest(*blake3::hash(&number.to_le_bytes()).as_bytes());
            let modified = Time::default();
            let file = Regular { digest, size: 1, mode: 0o644, modified, stamp: 0 };
            Node::set(&mut now, &at(&format!("a/{number}")), Some(Entry::File(file)));
        }
        let mut kept = Kept::read(path.clone());
        kept.write(now.as_ref(), &Arc::default()).unwrap();
        let whole = fs_err::metadata(&path).unwrap().len();
        put(&mut now, "a/b/2", 7);
        kept.write(now.as_ref(), &Arc::default()).unwrap();
        let more = fs_err::metadata(&path).unwrap().len() - whole;
        assert!(more < 200 && whole > 50_000, "{more} after {whole}");
        assert_eq!(Kept::read(path).tree(), now.as_ref());
    }
}
