//! Large files in blocks of one length, whose digests fall off while the whole is hashed: of a version that was changed in its
//! midst, as databases and images of disks are, what is new is known without reading either version again.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use overside_sync_core::Digest;
use rayon::prelude::*;

use crate::{
    delta::{Delta, Run},
    lock,
};

/// Bytes of a block; a subtree of BLAKE3's tree.
pub(crate) const BLOCK: usize = 32 << 10;
/// Files that are shorter travel whole.
pub(crate) const WORTH: u64 = 1 << 20;
/// From so many bytes on several threads hash what came at once.
const PARALLEL: usize = 512 << 10;
/// Blocks that are remembered of all files together: 16 MiB of memory, for files of 32 GiB.
const REMEMBERED: usize = 1 << 20;

/// One part in so many of a file may be new, or [`FEW`] bytes. Where it is more, something may have been inserted, which chunks
/// find out.
const NEW_PART: u64 = 64;
const FEW: u64 = 256 << 10;

/// The beginning of a block's chaining value. Nothing rests on it but what is sent: the digest of the whole decides.
pub(crate) type Block = [u8; 16];

/// Hashes a file, and its blocks if it is a large one.
#[derive(Debug)]
pub(crate) enum Hasher {
    Small(Box<blake3::Hasher>),
    Large(Tree),
}

/// BLAKE3's tree above blocks.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    blocks: Vec<Block>,
    /// Roots of whole subtrees, the largest first.
    stack: Vec<ChainingValue>,
    /// The one that came last, which may be the tree's right edge.
    last: Option<ChainingValue>,
    /// What came after that: at most a block, since what is all there is must be hashed as that.
    rest: Vec<u8>,
}

impl Hasher {
    /// For a file that is expected to have so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        if size < WORTH { Self::Small(Box::default()) } else { Self::Large(Tree::default()) }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Small(hasher) => drop(hasher.update(bytes)),
            Self::Large(tree) => tree.update(bytes),
        }
    }

    /// The digest of all, and of the blocks of a large file.
    pub(crate) fn finish(self) -> (Digest, Vec<Block>) {
        match self {
            Self::Small(hasher) => (Digest(*hasher.finalize().as_bytes()), Vec::new()),
            Self::Large(tree) => tree.finish(),
        }
    }
}

impl Tree {
    fn update(&mut self, mut bytes: &[u8]) {
        if !self.rest.is_empty() {
            let (first, more) = bytes.split_at(bytes.len().min(BLOCK - self.rest.len()));
            self.rest.extend_from_slice(first);
            bytes = more;
            if bytes.is_empty() {
                return;
            }
            let mut rest = std::mem::take(&mut self.rest);
            self.add(&rest);
            rest.clear();
            self.rest = rest;
        }
        let whole = bytes.len().saturating_sub(1) / BLOCK * BLOCK;
        self.add(&bytes[..whole]);
        self.rest.extend_from_slice(&bytes[whole..]);
    }

    /// Adds blocks; only the last of all may be short.
    fn add(&mut self, bytes: &[u8]) {
        let start = self.blocks.len();
        let hash = |(number, block): (usize, &[u8])| {
            let offset = ((start + number) * BLOCK) as u64;
            blake3::Hasher::new().set_input_offset(offset).update(block).finalize_non_root()
        };
        let hashes: Vec<ChainingValue> = if bytes.len() >= PARALLEL {
            bytes.par_chunks(BLOCK).enumerate().map(hash).collect()
        } else {
            bytes.chunks(BLOCK).enumerate().map(hash).collect()
        };
        for hash in hashes {
            if let Some(last) = self.last.replace(hash) {
                self.merge(last);
            }
            let mut block = Block::default();
            let length = block.len();
            block.copy_from_slice(&hash[..length]);
            self.blocks.push(block);
        }
    }

    /// Closes the subtrees of which this is the right edge. As many blocks were added.
    fn merge(&mut self, mut hash: ChainingValue) {
        let mut blocks = self.blocks.len();
        while blocks.is_multiple_of(2)
            && let Some(left) = self.stack.pop()
        {
            hash = merge_subtrees_non_root(&left, &hash, Mode::Hash);
            blocks /= 2;
        }
        self.stack.push(hash);
    }

    fn finish(mut self) -> (Digest, Vec<Block>) {
        if self.blocks.is_empty() {
            return (Digest(*blake3::hash(&self.rest).as_bytes()), Vec::new());
        }
        let rest = std::mem::take(&mut self.rest);
        self.add(&rest);
        let mut hash = self.last.unwrap_or_default();
        while let Some(left) = self.stack.pop() {
            if self.stack.is_empty() {
                let digest = merge_subtrees_root(&left, &hash, Mode::Hash);
                return (Digest(*digest.as_bytes()), self.blocks);
            }
            hash = merge_subtrees_non_root(&left, &hash, Mode::Hash);
        }
        // There are two blocks at least.
        (Digest(hash), self.blocks)
    }
}

/// The blocks of files that were hashed lately.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    blocks: HashMap<Digest, Arc<[Block]>>,
    /// The one that has been here longest is the first to go.
    order: VecDeque<Digest>,
    /// Blocks of all of them.
    all: usize,
}

impl Known {
    /// Remembers those of a content.
    pub(crate) fn remember(&self, digest: Digest, blocks: Vec<Block>) {
        if blocks.is_empty() || blocks.len() > REMEMBERED {
            return;
        }
        let mut known = lock(&self.0);
        if known.blocks.contains_key(&digest) {
            return;
        }
        known.all += blocks.len();
        known.blocks.insert(digest, blocks.into());
        known.order.push_back(digest);
        while known.all > REMEMBERED
            && let Some(oldest) = known.order.pop_front()
        {
            known.all -= known.blocks.remove(&oldest).map_or(0, |blocks| blocks.len());
        }
    }

    fn of(&self, digest: &Digest) -> Option<Arc<[Block]>> {
        lock(&self.0).blocks.get(digest).cloned()
    }

    /// What a content of `size` bytes has in common with an older one, if that is known, and nearly all.
    pub(crate) fn compare(&self, old: &Digest, new: &Digest, size: u64) -> Option<Delta> {
        compare(&self.of(old)?, &self.of(new)?, size)
    }
}

fn compare(old: &[Block], new: &[Block], size: u64) -> Option<Delta> {
    let (mut delta, mut unknown, mut at) = (Delta::default(), 0, 0);
    for (number, block) in new.iter().enumerate() {
        let is_old = old.get(number) == Some(block);
        let length = (size - at).min(BLOCK as u64);
        unknown += if is_old { 0 } else { length };
        delta.push(Run { length, old: is_old.then_some(at) });
        at += length;
    }
    (unknown <= FEW.max(size / NEW_PART) && at == size).then_some(delta)
}

/// Hashes what is read, `part` bytes at a time. Fewer than the expected `size` are as good.
pub(crate) fn hash(mut file: impl io::Read, size: u64, part: usize) -> io::Result<(Digest, u64, Vec<Block>)> {
    let mut hasher = Hasher::new(size);
    let mut buffer = vec![0; part.min(usize::try_from(size).unwrap_or(part)).max(1)];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => {
                let (digest, blocks) = hasher.finish();
                return Ok((digest, length, blocks));
            }
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise;

    fn hashed(bytes: &[u8], expected: u64, part: usize) -> (Digest, u64, Vec<Block>) {
        hash(bytes, expected, part).unwrap()
    }

    #[test]
    fn the_digest_is_blake3s_however_long_the_file_is_and_however_it_is_read() {
        let bytes = noise(65 * BLOCK);
        for blocks in [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63] {
            for length in [blocks * BLOCK, blocks * BLOCK + 1, blocks * BLOCK + BLOCK - 1] {
                let bytes = &bytes[..length];
                let digest = Digest(*blake3::hash(bytes).as_bytes());
                for part in [BLOCK * 33, BLOCK, 10_000 + blocks] {
                    let (found, read, known) = hashed(bytes, WORTH, part);
                    assert_eq!((found, read), (digest, length as u64), "{length} bytes by {part}");
                    let expected = if length <= BLOCK { 0 } else { length.div_ceil(BLOCK) };
                    assert_eq!(known.len(), expected);
                }
                assert_eq!(hashed(bytes, 0, 1 << 16).0, digest);
            }
        }
    }

    #[test]
    fn of_a_version_that_was_changed_in_its_midst_only_those_blocks_are_new() {
        let old = noise(40 * BLOCK + 100);
        let mut new = old.clone();
        new[10 * BLOCK + 5] ^= 1;
        new[20 * BLOCK - 1] ^= 1;
        new[20 * BLOCK] ^= 1;
        new.extend_from_slice(b"longer");
        let known = Known::default();
        let digests = [&old, &new].map(|bytes| {
            let (digest, _, blocks) = hashed(bytes, WORTH, 1 << 20);
            known.remember(digest, blocks);
            digest
        });
        let block = BLOCK as u64;
        let mut expected = Delta::default();
        for (length, old) in [
            (10 * block, Some(0)),
            (block, None),
            (8 * block, Some(11 * block)),
            (2 * block, None),
            (19 * block, Some(21 * block)),
            (106, None),
        ] {
            expected.push(Run { length, old });
        }
        assert_eq!(known.compare(&digests[0], &digests[1], new.len() as u64), Some(expected));
        assert_eq!(known.compare(&digests[0], &Digest([0; 32]), 1), None);
        let shifted = [b"x", &old[..]].concat();
        let (digest, _, blocks) = hashed(&shifted, WORTH, 1 << 20);
        known.remember(digest, blocks);
        assert_eq!(known.compare(&digests[0], &digest, shifted.len() as u64), None);
    }

    #[test]
    fn no_more_blocks_are_remembered_than_memory_is_meant_for_them() {
        let known = Known::default();
        for number in 0..5 {
            known.remember(Digest([number; 32]), vec![Block::default(); REMEMBERED / 4]);
        }
        assert!(known.of(&Digest([0; 32])).is_none());
        assert!(known.of(&Digest([1; 32])).is_some());
        known.remember(Digest([9; 32]), vec![Block::default(); REMEMBERED + 1]);
        assert!(known.of(&Digest([9; 32])).is_none() && known.of(&Digest([4; 32])).is_some());
    }
}
