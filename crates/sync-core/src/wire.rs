//! What the two sides say to each other. The laptop asks, the environment answers; only [`Answer::Changed`] comes unasked.
//!
//! The environment is not trusted. What comes from it is flat (no message can be nested deeply), every path and mode is
//! checked as it is read, and no message is longer than [`LONGEST`].

use serde::{Deserialize, Serialize};

use crate::{
    path::RelativePath,
    reconcile::Step,
    tree::{Digest, Entry},
};

/// Changes with every change to these messages: both ends are of one version.
pub const PROTOCOL: u32 = 2;

/// Most bytes of content in one message.
pub const BLOCK: usize = 128 * 1024;

/// Longest message, in bytes.
pub const LONGEST: usize = 2 * BLOCK;

/// Longest batch of messages, in bytes.
pub const LONGEST_BATCH: usize = 2 * LONGEST;

/// Longest target of a symbolic link, in bytes; what Linux allows.
pub const LONGEST_TARGET: usize = 4095;

/// What a root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A single file. It keeps its identity in the environment, where a container has it mounted.
    File,
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
    /// A file's content comes, in as many [`Question::Data`] as it needs. It is kept aside until a step wants it.
    Content {
        /// What it is.
        digest: Digest,
        /// Its length.
        size: u64,
    },
    /// A part of it.
    Data(#[serde(with = "bytes")] Vec<u8>),
    /// The content is complete.
    Complete,
    /// The file was changed meanwhile: what came of it is worth nothing.
    Abandon,
    /// One of the steps.
    Step(Step),
    /// All steps were said: do them. Answered by [`Answer::Failed`] for each that could not be done, then as a scan.
    Apply,
    /// Wanted: a file's content. Answered by [`Answer::Data`] as often as it needs and [`Answer::Complete`], or
    /// [`Answer::Abandon`].
    Supply {
        /// Where it is.
        path: RelativePath,
        /// What it is.
        digest: Digest,
        /// How long it is.
        size: u64,
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
    /// A part of a file's content.
    Data(#[serde(with = "bytes")] Vec<u8>),
    /// The content is complete.
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
