//! Bind mounts, as rules: what a tree is, what differs between two of them and the state that both had in common, what
//! each side must do to be like the other, and what the two say to each other.
//!
//! The *laptop* has the files that a person works with; the *environment* has its copy, which containers mount. Pure: who
//! reads and writes files is `overside-sync`.

mod ignore;
mod intents;
mod path;
mod reconcile;
mod seen;
mod traits;
mod tree;
pub mod wire;

pub use ignore::{FILE as IGNORE_FILE, InvalidPattern, Rules};
pub use intents::Intents;
pub use path::{Name, RelativePath, TEMPORARY};
pub use reconcile::{
    CONFLICT, Halt, Mode, Plan, Side, Step, agree, halt, is_conflict, reconcile, unchanged, without_removed,
};
pub use seen::{HeldBack, Rename, Seen, View};
pub use traits::{Alike, Refused, Traits};
pub use tree::{Children, Count, Digest, Directory, Entry, File, Link, Node, PERMISSIONS, Time, Unheld};
