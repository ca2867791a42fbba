//! Whose turn it is: one connection at a time changes a root. One that was cut may have said much that is still to be done;
//! were that done after the next one has looked, it would seem to be what a container has made.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use super::invalid;
use crate::files::Directory;

/// Longest name of a connection, in bytes.
const LONGEST: u64 = 100;

/// Distinguishes the connections of one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A connection's own.
pub(super) struct Turn {
    file: File,
    mine: String,
}

/// For as long as something is changed.
pub(super) struct Held<'a>(&'a File);

impl Turn {
    /// Takes it over from whoever has it, once what that is changing at this moment is done.
    /// The file is for this user alone: who could write it could end every connection.
    pub(super) fn take(directory: &Path, name: &str) -> io::Result<Self> {
        let mut file = match Directory::open(directory)?.create(name.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).open(directory.join(name))?
            }
            created => created?,
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mine = format!("{} {} {since}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Before it is waited for, so that it is the last thing that is changed.
        file.set_len(0)?;
        file.write_all(mine.as_bytes())?;
        file.lock()?;
        file.unlock()?;
        Ok(Self { file, mine })
    }

    /// Keeps it while something is changed.
    ///
    /// # Errors
    /// Another connection has taken it over.
    pub(super) fn hold(&self) -> io::Result<Held<'_>> {
        self.file.lock()?;
        let held = Held(&self.file);
        let mut file = held.0;
        let mut now = String::new();
        file.rewind()?;
        file.take(LONGEST).read_to_string(&mut now)?;
        if now == self.mine { Ok(held) } else { Err(invalid("another connection has taken this root over")) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the next connection has to wait for this one's end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_lost_the_turn_changes_nothing_any_more_and_who_takes_it_waits_for_what_is_being_changed() {
        let directory = tempfile::tempdir().unwrap();
        let first = Turn::take(directory.path(), "turn").unwrap();
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&first.file.metadata().unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(first.hold().unwrap());
        let held = first.hold().unwrap();
        let second = std::thread::spawn({
            let path = directory.path().to_owned();
            move || Turn::take(&path, "turn").unwrap()
        });
        drop(held);
        let second = second.join().unwrap();
        assert!(first.hold().is_err());
        drop(second.hold().unwrap());
        assert!(first.hold().is_err());
    }
}
