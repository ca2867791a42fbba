//! The file system of this machine, one entry at a time. Every entry is named by an open directory and a name in it, and links
//! are never followed, so that what is done stays below the root whatever others change meanwhile.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use overside_sync_core::Time;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

/// A system's clock for files may be behind by this: on Linux one of its ticks, and HZ is 100 at least.
const TICK: Duration = Duration::from_millis(20);

/// The same where times are whole seconds: some file systems count in steps of two.
const COARSE_TICK: Duration = Duration::from_millis(2_020);

/// An entry's directory and its name there.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) name: &'a [u8],
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Directory,
    Link,
    Special,
}

/// What is told of an entry without reading it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) kind: Type,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) modified: Time,
    /// Permissions.
    mode: u16,
    /// When anything of it was changed last.
    changed: Time,
    /// Distinguishes it from what had its name before.
    number: u64,
}

impl Stat {
    /// Its permissions.
    pub(crate) const fn mode(&self) -> u16 {
        self.mode
    }

    /// By what a file is known again, if its last change is so long ago that another one would be seen; otherwise 0.
    pub(crate) fn stamp(&self, now: SystemTime) -> u64 {
        let is_coarse = self.modified.nanoseconds == 0 && self.changed.nanoseconds == 0;
        let tick = if is_coarse { COARSE_TICK } else { TICK };
        let settled = now.checked_sub(tick).and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let before = |time: Time| {
            u64::try_from(time.seconds).map_or(true, |seconds| {
                Duration::from_secs(seconds).saturating_add(Duration::from_nanos(time.nanoseconds.into())) < settled
            })
        };
        if !before(self.modified) && !before(self.changed) {
            return 0;
        }
        let parts = [
            self.number,
            self.size,
            self.modified.seconds as u64,
            self.modified.nanoseconds.into(),
            self.changed.seconds as u64,
            self.changed.nanoseconds.into(),
        ];
        let mut bytes = [0; 48];
        for (target, part) in bytes.chunks_exact_mut(8).zip(parts) {
            target.copy_from_slice(&part.to_le_bytes());
        }
        let hash = blake3::hash(&bytes);
        let mut short = [0; 8];
        short.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(short) | 1
    }
}

/// Opens a regular file to be read; anything else is refused. Never waits, whatever it is.
pub(crate) fn open_file(spot: &Spot<'_>) -> io::Result<(std::fs::File, Stat)> {
    let file = spot.directory.open_file(spot.name)?;
    let stat = stat_of(&file)?;
    if stat.kind != Type::File {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((file, stat))
}

/// What is there, links themselves; none if nothing.
pub(crate) fn look(spot: &Spot<'_>) -> io::Result<Option<Stat>> {
    spot.directory.look(spot.name)
}

/// Whether a directory has an entry of exactly this name. What is found under a name may have another one.
pub(crate) fn has_exactly(directory: &Directory, name: &[u8]) -> io::Result<bool> {
    for entry in directory.entries()? {
        if entry?.name() == name {
            return Ok(true);
        }
    }
    Ok(false)
}
