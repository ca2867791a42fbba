//! What the two sides say to each other. The laptop asks, the environment answers; only [`Answer::Changed`] comes unasked.
//!
//! The environment is not trusted. What comes from it is flat (no message can be nested deeply), every path and mode is
//! checked as it is read, and no message is longer than [`LONGEST`].

use serde::{Deserialize, Serialize};

use crate::{
    path::{Name, RelativePath},
    reconcile::Step,
    tree::{Digest, Entry},
};

/// Changes with every change to these messages: both ends are of one version.
pub const PROTOCOL: u32 = 4;

/// Most bytes of content in one message.
pub const BLOCK: usize = 128 * 1024;

/// Longest message, in bytes.
pub const LONGEST: usize = 2 * BLOCK;

/// Longest batch of messages, in bytes.
pub const LONGEST_BATCH: usize = 2 * LONGEST;

/// Longest target of a symbolic link, in bytes; what Linux allows.
pub const LONGEST_TARGET: usize = 4095;

/// Most chunks that are told of one file.
pub const MOST_CHUNKS: usize = 1 << 18;

/// A part of a file whose borders follow from its content, so that it is the same part when something before it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chunk {
    /// The beginning of its BLAKE3. Nothing rests on it but what is sent: the digest of the whole decides.
    pub digest: [u8; 16],
    /// Bytes, at least one.
    pub length: u32,
}

/// What a root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A single file. It keeps its identity in the environment, where a container has it mounted.
    File,
}

/// What the laptop has of a file that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Has {
    /// Nothing.
    Nothing,
    /// This older version. Where the environment does not know what both have in common, it abandons.
    Version(Digest),
    /// The chunks that were told, of this length on average: a power of two.
    Chunks(u32),
}

/// From the laptop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The first one: opens a root, and makes it if it is not there. Answered by [`Answer::Opened`].
    Open {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Path below the place of all roots.
        root: RelativePath,
        /// What it is.
        kind: Kind,
    },
    /// What stays on its side from now on.
    Rules {
        /// As in the file of rules.
        text: String,
        /// Paths that are ignored besides.
        masks: Vec<RelativePath>,
        /// Files that containers have mounted by themselves: they keep their identity.
        held: Vec<RelativePath>,
    },
    /// Whose the files are to be, inside containers: those that are there, and those that come.
    Owner {
        /// User.
        user: u32,
        /// Group.
        group: u32,
    },
    /// What is there? Answered by [`Answer::Entry`] for each path that differs from what was told before, a directory before
    /// what lies in it, and [`Answer::Scanned`].
    Scan {
        /// Whether every entry is looked at, or those only that were told to have changed.
        whole: bool,
    },
    /// A content that steps want lies here under another name: it is kept aside before that changes.
    Own {
        /// Where it is.
        path: RelativePath,
        /// What it is.
        digest: Digest,
        /// How many steps want it.
        uses: u32,
    },
    /// A file that the next content may be made of. Where the laptop does not know what it has in common with that: of which
    /// chunks does it consist? Answered then by [`Answer::Chunk`] for each and [`Answer::Complete`], or [`Answer::Abandon`].
    Base {
        /// Where it is.
        path: RelativePath,
        /// What it is.
        digest: Digest,
        /// How long a chunk is on average, a power of two; none where nothing is asked.
        average: Option<u32>,
    },
    /// A file's content comes, in as many [`Question::Data`] and [`Question::Reuse`] as it needs. It is kept aside until the
    /// steps that want it.
    Content {
        /// What it is.
        digest: Digest,
        /// Its length.
        size: u64,
        /// How many steps want it.
        uses: u32,
    },
    /// A part of it.
    Data(#[serde(with = "bytes")] Vec<u8>),
    /// A part of it that the file of the last [`Question::Base`] has.
    Reuse {
        /// Where in the file.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// The content is complete.
    Complete,
    /// The file was changed meanwhile: what came of it is worth nothing.
    Abandon,
    /// A step to be done now. What became of it is told after [`Question::Apply`].
    Step(Step),
    /// An entry has another name on the laptop, whose file system takes both for one. Answered by [`Answer::Failed`] if it cannot
    /// be renamed, and [`Answer::Scanned`].
    Rename {
        /// Where it is.
        path: RelativePath,
        /// What it is to be called, in the same directory.
        to: Name,
    },
    /// All steps were said. Answered by [`Answer::Failed`] for each that could not be done, then as a scan.
    Apply,
    /// A chunk that the laptop has of the file that it wants next.
    Chunk(Chunk),
    /// Wanted: a file's content. Answered by [`Answer::Data`] and [`Answer::Reuse`] as often as it needs and
    /// [`Answer::Complete`], or [`Answer::Abandon`].
    Supply {
        /// Where it is.
        path: RelativePath,
        /// What it is.
        digest: Digest,
        /// How long it is.
        size: u64,
        /// What the laptop has of it.
        has: Has,
    },
}

/// From the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The root is open.
    Opened,
    /// Something may have changed: a scan is worth while.
    Changed,
    /// An entry that differs from what was told before.
    Entry {
        /// Where.
        path: RelativePath,
        /// What is there.
        entry: Option<Entry>,
    },
    /// All were told.
    Scanned {
        /// Whether every change is noticed: the whole need not be read to know what has changed.
        watched: bool,
    },
    /// A chunk of a file.
    Chunk(Chunk),
    /// A part of a file's content.
    Data(#[serde(with = "bytes")] Vec<u8>),
    /// A part of it that the file has whose chunks were told.
    Reuse {
        /// Where in the file.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// The content, or the list of chunks, is complete.
    Complete,
    /// The content cannot be had: it was changed, or cannot be read.
    Abandon,
    /// A step that could not be done.
    Failed {
        /// Where.
        path: RelativePath,
        /// Why.
        reason: String,
        /// Something was changed meanwhile: once more may do.
        passes: bool,
    },
    /// The whole conversation cannot go on.
    Broken {
        /// Why.
        reason: String,
    },
}

mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
    }
}
