//! macOS and Windows: the system watches a tree as a whole, and tells of it a little later.
//!
//! It tells which entry has changed, not always what it was, and cannot be asked for what it has not told yet: whoever must
//! know all that was done up to now reads everything.

use std::{
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind};
use overside_sync_core::{Name, RelativePath, TEMPORARY, wire::Kind};

use super::Hints;
use crate::{
    files::{Directory, name_of},
    lock,
};

/// Watches one root.
pub(crate) struct Watcher {
    /// The directory itself, or that of a single file.
    path: PathBuf,
    mode: RecursiveMode,
    watched: Mutex<Option<Watched>>,
    hints: Arc<Mutex<Hints>>,
    changed: Arc<dyn Fn() + Send + Sync>,
}

/// What is watched now.
struct Watched {
    directory: Directory,
    /// Ends with it.
    _watcher: RecommendedWatcher,
}

impl Watcher {
    /// `changed` is called, on a thread of its own, when there are hints where there were none. It begins with the first
    /// [`Self::add`] of the root.
    #[expect(clippy::unnecessary_wraps, reason = "others can fail here")]
    pub(crate) fn new(root: &Path, kind: Kind, changed: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let (path, mode) = match kind {
            Kind::Directory => (root, RecursiveMode::Recursive),
            Kind::File => (root.parent().unwrap_or(root), RecursiveMode::NonRecursive),
        };
        let path = path.to_owned();
        Ok(Self { path, mode, watched: Mutex::default(), hints: Arc::default(), changed: Arc::new(changed) })
    }

    /// Watches the root from now on, if it is not the one that is watched already. What lies below it is watched with it.
    pub(crate) fn add(&self, directory: &Directory, path: &RelativePath) {
        if !path.is_root() {
            return;
        }
        let mut watched = lock(&self.watched);
        if watched.as_ref().is_some_and(|watched| watched.directory.is_at(&self.path)) {
            return;
        }
        *watched = None;
        let begun = self
            .watch()
            .map_err(io::Error::other)
            .and_then(|watcher| Ok(Watched { directory: directory.try_clone()?, _watcher: watcher }));
        match begun {
            Ok(begun) => *watched = Some(begun),
            Err(error) => tracing::warn!(%error, path = %self.path.display(), "changes are not watched"),
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        // The system tells paths without links.
        let top = self.path.canonicalize()?;
        let (hints, changed, below) = (Arc::clone(&self.hints), Arc::clone(&self.changed), top.clone());
        let told = move |event: notify::Result<Event>| {
            let new = match &event {
                Ok(event) => hints_of(&below, event),
                Err(error) => {
                    tracing::debug!(%error, "changes were not told");
                    Hints { everywhere: true, ..Hints::default() }
                }
            };
            if new.is_empty() {
                return;
            }
            let first = {
                let mut hints = lock(&hints);
                let first = hints.is_empty();
                hints.append(new);
                first
            };
            if first {
                changed();
            }
        };
        let mut watcher = notify::recommended_watcher(told)?;
        watcher.watch(&top, self.mode)?;
        Ok(watcher)
    }

    /// Whether changes are not told at all.
    pub(crate) fn is_incomplete(&self) -> bool {
        lock(&self.watched).is_none()
    }

    /// Whether [`Self::take`] knows all that was done before it is called.
    pub(crate) const fn is_prompt(&self) -> bool {
        false
    }

    /// What was told since this was called last.
    pub(crate) fn take(&self) -> Hints {
        std::mem::take(&mut *lock(&self.hints))
    }
}

/// Where to look after an event.
fn hints_of(top: &Path, event: &Event) -> Hints {
    let mut hints = Hints { everywhere: event.need_rescan(), ..Hints::default() };
    // What was only written, or has other times, has not become another one.
    let stays = matches!(event.kind, EventKind::Modify(kind) if !matches!(kind, ModifyKind::Name(_)));
    for path in event.paths.iter().filter(|_| !matches!(event.kind, EventKind::Access(_))) {
        let Ok(rest) = path.strip_prefix(top) else {
            hints.everywhere = true;
            continue;
        };
        match place(rest) {
            Place::At(path) => match path.split() {
                Some((parent, _)) => {
                    hints.directories.insert(parent);
                    if !stays {
                        hints.replaced.insert(path);
                    }
                }
                None => drop(hints.directories.insert(path)),
            },
            Place::Unfit(parent) => drop(hints.directories.insert(parent)),
            Place::Temporary => {}
        }
    }
    hints
}

/// What a path below a root is.
enum Place {
    At(RelativePath),
    /// One that is no part of a tree, and what it lies in.
    Unfit(RelativePath),
    /// A transfer's own.
    Temporary,
}

fn place(rest: &Path) -> Place {
    let mut path = RelativePath::ROOT;
    for component in rest.components() {
        let Component::Normal(name) = component else { return Place::Unfit(path) };
        let Some(name) = name_of(name) else { return Place::Unfit(path) };
        if name.starts_with(TEMPORARY.as_bytes()) {
            return Place::Temporary;
        }
        match Name::new(name) {
            Some(name) if !path.is_deepest() => path.push(&name),
            _ => return Place::Unfit(path),
        }
    }
    Place::At(path)
}
