//! Linux: each directory has a watch of its own.
//!
//! A directory is watched before it is read, so that no change falls between the two; libraries that watch trees by
//! themselves add watches after the fact and miss what is written into new directories.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use overside_sync_core::{Name, RelativePath, wire::Kind};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use super::Hints;
use crate::{files::Directory, lock};

/// Bytes of events that are read at once, and those of the longest event.
const BUFFER: usize = 16 * 1024;
const LONGEST_EVENT: usize = 16 + 256;

#[derive(Debug, Default)]
struct Shared {
    paths: Mutex<HashMap<i32, RelativePath>>,
    hints: Mutex<Hints>,
    /// Held while what was told is on its way from the system to the hints.
    reading: Mutex<()>,
    /// Not every directory could be watched: the system's limit is reached.
    incomplete: AtomicBool,
}

/// Watches the directories of one root.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: Arc<OwnedFd>,
    shared: Arc<Shared>,
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// `changed` is called, on a thread of its own, when there are hints where there were none. What is watched is told by
    /// [`Self::add`].
    pub(crate) fn new(_: &Path, _: Kind, changed: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let shared = Arc::new(Shared::default());
        let thread = Builder::new().name("watch".to_owned()).spawn({
            let (inotify, shared, end) = (Arc::clone(&inotify), Arc::clone(&shared), Arc::clone(&end));
            move || follow(&inotify, &shared, &end, &changed)
        })?;
        Ok(Self { inotify, shared, end, thread: Some(thread) })
    }

    /// Watches a directory from now on.
    pub(crate) fn add(&self, directory: &Directory, path: &RelativePath) {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            // What is written through a mapping is told by this alone.
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // By its descriptor: the path may lead elsewhere by now.
        let place = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        match inotify::add_watch(&*self.inotify, place, flags) {
            Ok(watch) => drop(lock(&self.shared.paths).insert(watch, path.clone())),
            Err(error) => {
                if !self.shared.incomplete.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, %path, "not every directory can be watched");
                }
            }
        }
    }

    /// Whether changes in some directories are not told.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.shared.incomplete.load(Ordering::Relaxed)
    }

    /// Whether [`Self::take`] knows all that was done before it is called.
    pub(crate) const fn is_prompt(&self) -> bool {
        true
    }

    /// What has changed since this was called last: all of it that was done before this call.
    pub(crate) fn take(&self) -> Hints {
        gather(&self.inotify, &self.shared);
        std::mem::take(&mut *lock(&self.shared.hints))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.end, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(inotify: &OwnedFd, shared: &Shared, end: &OwnedFd, changed: &dyn Fn()) {
    loop {
        let mut polled = [PollFd::new(inotify, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "changes are not watched any more");
                return;
            }
        }
        if !polled[1].revents().is_empty() {
            return;
        }
        if gather(inotify, shared) {
            changed();
        }
    }
}

/// Takes over what the system has told; returns whether there are hints now where there were none.
fn gather(inotify: &OwnedFd, shared: &Shared) -> bool {
    let _reading = lock(&shared.reading);
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
    let mut new = Hints::default();
    // What is waiting now, and no more: whoever writes all the time is not waited for.
    let waiting = rustix::io::ioctl_fionread(inotify).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut reads = waiting / (BUFFER - LONGEST_EVENT) + 1;
    loop {
        if reader.is_buffer_empty() {
            if reads == 0 {
                break;
            }
            reads -= 1;
        }
        let Ok(event) = reader.next() else { break };
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            new.everywhere = true;
            continue;
        }
        let mut paths = lock(&shared.paths);
        if flags.contains(ReadFlags::IGNORED) {
            paths.remove(&event.wd());
            continue;
        }
        let Some(path) = paths.get(&event.wd()) else { continue };
        let name = event.file_name().map(std::ffi::CStr::to_bytes);
        if name.is_some_and(|name| name.starts_with(overside_sync_core::TEMPORARY.as_bytes())) {
            continue;
        }
        if path.is_root() && flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            new.everywhere = true;
        }
        if flags.contains(ReadFlags::ISDIR)
            && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
            && let Some(name) = name.and_then(Name::new)
        {
            new.replaced.insert(path.child(&name));
        }
        if !new.directories.contains(path) {
            new.directories.insert(path.clone());
        }
    }
    if new.is_empty() {
        return false;
    }
    let mut hints = lock(&shared.hints);
    let first = hints.is_empty();
    hints.append(new);
    first
}
