//! Being told where something changes. What is told is only a hint: it says which directories to look at again.
//!
//! A directory is watched before it is read, so that no change falls between the two; libraries that watch trees by
//! themselves add watches after the fact and miss what is written into new directories.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use overside_sync_core::RelativePath;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use crate::lock;

/// Where something has changed since it was asked for last.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hints {
    /// Everything has to be looked at: some changes were not told.
    pub(crate) everywhere: bool,
    /// These directories.
    pub(crate) directories: BTreeSet<RelativePath>,
}

impl Hints {
    pub(crate) fn is_empty(&self) -> bool {
        !self.everywhere && self.directories.is_empty()
    }
}

#[derive(Debug, Default)]
struct Shared {
    paths: Mutex<HashMap<i32, RelativePath>>,
    hints: Mutex<Hints>,
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
    /// `changed` is called, on a thread of its own, when there are hints where there were none.
    pub(crate) fn new(changed: impl Fn() + Send + 'static) -> io::Result<Self> {
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
    pub(crate) fn add(&self, directory: BorrowedFd<'_>, path: &RelativePath) {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // By its descriptor: the path may lead elsewhere by now.
        let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
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

    /// What has changed since this was called last.
    pub(crate) fn take(&self) -> Hints {
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
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
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
        let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
        let mut new = Hints::default();
        while let Ok(event) = reader.next() {
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
            let temporary =
                |name: &std::ffi::CStr| name.to_bytes().starts_with(overside_sync_core::TEMPORARY.as_bytes());
            if let Some(path) = paths.get(&event.wd())
                && !event.file_name().is_some_and(temporary)
            {
                new.directories.insert(path.clone());
            }
        }
        if new.is_empty() {
            continue;
        }
        let first = {
            let mut hints = lock(&shared.hints);
            let first = hints.is_empty();
            hints.everywhere |= new.everywhere;
            hints.directories.append(&mut new.directories);
            first
        };
        if first {
            changed();
        }
    }
}
