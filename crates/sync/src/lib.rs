//! Bind mounts, done: reading and watching trees, carrying contents, and changing files so that nothing is lost and nothing
//! leaves the root. The rules are `overside-sync-core`'s.
//!
//! Both sides block: each sync has threads of its own, so that a large tree holds up nothing else.

mod apply;
mod blocks;
mod chunks;
mod delta;
mod endpoint;
mod files;
mod frames;
mod memory;
mod probe;
mod rename;
mod root;
mod scan;
mod serve;
mod stage;
mod sync;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use serve::serve;
pub use sync::{Flushed, Limits, Phase, Progress, Setup, Status, Sync};

/// What a panic elsewhere left is still whole: nothing is changed in more than one step under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that cannot be compressed, always the same.
#[cfg(test)]
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}
