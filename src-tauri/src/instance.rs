//! One tray and one window for each home.

use std::{
    fs::TryLockError,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use overside_config::Home;

use crate::programs::private_directory;

/// Held by the one instance; ends with the process, however that ends.
#[derive(Debug)]
pub struct InstanceLock {
    _file: std::fs::File,
}

/// Takes the part `role` of the desktop app for this process: none where another process has it.
///
/// # Errors
/// Where the lock's file cannot be made.
pub fn take(home: &Home, role: &str) -> io::Result<Option<InstanceLock>> {
    let path = lock_file(home, role);
    if let Some(directory) = path.parent() {
        private_directory(directory)?;
    }
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?.into_parts().0;
    match file.try_lock() {
        Ok(()) => Ok(Some(InstanceLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the part `role` as [`take`] does, but gives a process that is just ending `patience` to let go of it. Blocks.
///
/// # Errors
/// As [`take`].
pub fn take_within(home: &Home, role: &str, patience: Duration) -> io::Result<Option<InstanceLock>> {
    let deadline = Instant::now() + patience;
    loop {
        let lock = take(home, role)?;
        if lock.is_some() || Instant::now() >= deadline {
            return Ok(lock);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// `desktop.lock`, `window.lock` or `prompt.lock`, beside the sockets.
fn lock_file(home: &Home, role: &str) -> PathBuf {
    home.control_socket().with_file_name(format!("{role}.lock"))
}

/// A name on the session bus that belongs to one part of one home, so that second instances do not take each other's place.
pub fn bus_name(home: &Home, role: &str) -> String {
    let mut hasher = DefaultHasher::new();
    home.control_socket().hash(&mut hasher);
    format!("dev.overside.{role}.h{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_instance_is_told_so_and_another_home_is_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (Home::at(&directory.path().join("1")), Home::at(&directory.path().join("2")));
        let first = take(&one, "desktop").unwrap();
        assert!(first.is_some());
        assert!(take_within(&one, "desktop", Duration::from_millis(30)).unwrap().is_none());
        assert!(take(&one, "window").unwrap().is_some());
        assert!(take(&other, "desktop").unwrap().is_some());
        drop(first);
        assert!(take(&one, "desktop").unwrap().is_some());
        assert_ne!(bus_name(&one, "window"), bus_name(&other, "window"));
        assert_ne!(bus_name(&one, "window"), bus_name(&one, "prompt"));
    }
}
