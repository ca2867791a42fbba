//! One side of a sync: a root, what is known of it, and what is to be done there. The laptop's and the environment's are the
//! same code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File as OpenFile,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use overside_sync_core::{
    Count, Digest, Entry, File, HeldBack, Name, Node, RelativePath, Rules, Side, Step, Traits,
    wire::{Kind, LONGEST},
};

use crate::{
    apply::{Applying, Work},
    blocks::Known,
    delta::Delta,
    files::{Owner, Spot, is_changed, is_unsupported, open_file, stat_of},
    probe::probe,
    rename::rename,
    root::{Near, Root},
    scan::{Changes, Scanner, measure},
    stage::{Inbox, Received, Stage},
    watch::{Hints, Watcher},
};

/// How often a scan looks for what is new meanwhile.
const LOOKS: usize = 8;
/// So many files are written to the disk one by one.
pub(crate) const FEW: usize = 32;

/// A step that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) path: RelativePath,
    pub(crate) reason: String,
    /// Something was changed meanwhile: the next reading sees it.
    pub(crate) passes: bool,
    /// It can never be done on this file system.
    pub(crate) held: Option<HeldBack>,
}

/// A root and all that is known of it.
pub(crate) struct Endpoint {
    root: Root,
    rules: Rules,
    tree: Option<Node>,
    watcher: Option<Watcher>,
    /// Tells that something is to be looked at.
    changed: Arc<dyn Fn() + Send + Sync>,
    stage: Stage,
    /// Of large files.
    blocks: Known,
    owner: Option<Owner>,
    /// Files that are written into, not replaced.
    held: BTreeSet<RelativePath>,
    /// Hints that came while a scan was due that has not been done.
    hints: Hints,
    side: Side,
    /// What the root's file system can hold, and whether that was tried. Only the laptop's is: the environment's is Linux's own.
    traits: Traits,
    tried: bool,
    /// The plan that is being carried out.
    work: Work,
}

impl Endpoint {
    /// Opens a root. `changed` is called when something may have changed.
    pub(crate) fn open(
        path: PathBuf,
        kind: Kind,
        stage: &Path,
        side: Side,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let changed: Arc<dyn Fn() + Send + Sync> = Arc::new(changed);
        let told = Arc::clone(&changed);
        let watcher = match Watcher::new(&path, kind, move || told()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "changes cannot be watched");
                None
            }
        };
        Ok(Self {
            root: Root::new(path, kind),
            rules: Rules::default(),
            tree: None,
            watcher,
            changed,
            stage: Stage::new(stage)?,
            blocks: Known::default(),
            owner: None,
            held: BTreeSet::new(),
            hints: Hints { everywhere: true, ..Hints::default() },
            side,
            traits: Traits::default(),
            tried: false,
            work: Work::default(),
        })
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.hints.everywhere = true;
    }

    /// Files that containers have mounted by themselves.
    pub(crate) fn set_held(&mut self, held: Vec<RelativePath>) {
        self.held = held.into_iter().collect();
    }

    pub(crate) fn tree(&self) -> Option<&Node> {
        self.tree.as_ref()
    }

    /// Whether every change is told: where some are not, the whole must be read from time to time.
    pub(crate) fn is_watched(&self) -> bool {
        self.watcher.as_ref().is_some_and(|watcher| !watcher.is_incomplete())
    }

    /// Whether a scan knows all that was done before it, also where it does not look at everything.
    pub(crate) fn is_prompt(&self) -> bool {
        self.watcher.as_ref().is_some_and(Watcher::is_prompt)
    }

    /// Looks at everything, or at what is said to have changed. Returns what differs from before.
    pub(crate) fn scan(&mut self, whole: bool) -> io::Result<Changes> {
        let mut hints = std::mem::take(&mut self.hints);
        if let Some(watcher) = &self.watcher {
            hints.append(watcher.take());
        }
        let replaced = self.root.kind() == Kind::Directory && !self.root.is_in_place();
        let whole = whole || hints.everywhere || self.tree.is_none() || self.root.kind() == Kind::File || replaced;
        if whole {
            self.root.look_again();
            self.try_out(replaced);
        }
        let mut scanner = Scanner::new(&self.rules, self.watcher.as_ref(), &self.blocks);
        let mut result = if whole {
            let before = self.tree.take();
            scanner.whole(&self.root, before).map(|tree| self.tree = tree)
        } else {
            scanner.some(&self.root, &mut self.tree, hints)
        };
        // A file that was read just now may speak of one that is newer than the reading of its directory: what is new belongs to
        // this scan, what else has changed to the next.
        if let Some(watcher) = self.watcher.as_ref().filter(|_| self.root.kind() == Kind::Directory) {
            scanner.looks_for_new_only();
            let mut later = Hints::default();
            for _ in 0..LOOKS {
                let hints = watcher.take();
                if result.is_err() || hints.is_empty() {
                    break;
                }
                later.append(hints.clone());
                if hints.everywhere {
                    break;
                }
                result = scanner.some(&self.root, &mut self.tree, hints);
            }
            if !later.is_empty() {
                self.hints.append(later);
                (self.changed)();
            }
        }
        match result {
            Ok(()) => Ok(scanner.changes()),
            Err(error) => {
                // What was known is not known any more; everything is told anew.
                self.tree = None;
                self.hints.everywhere = true;
                Err(error)
            }
        }
    }

    /// Finds out what the root's file system can hold, if that is not known or it may be another one.
    fn try_out(&mut self, again: bool) {
        if self.side == Side::Laptop
            && (again || !self.tried)
            && let Ok(top) = self.root.top()
        {
            self.traits = probe(top, self.root.path(), self.stage.directory());
            self.tried = true;
        }
    }

    /// What the root's file system can hold, as far as that is known.
    pub(crate) const fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Gives an entry another name in its directory.
    pub(crate) fn rename(&mut self, path: &RelativePath, to: &Name) -> Result<(), Failure> {
        let Some((directory, from)) = path.split() else { return Ok(()) };
        let renamed = self.root.hold_directory(&directory).and_then(|opened| rename(&opened, &from, to));
        let (reason, passes) = match renamed {
            Ok(true) => {
                Node::rename(&mut self.tree, &directory, &from, to);
                return Ok(());
            }
            Ok(false) => ("it was changed meanwhile".to_owned(), true),
            Err(error) => {
                tracing::warn!(%error, %path, %to, "cannot be renamed");
                (error.to_string(), is_changed(&error))
            }
        };
        Err(Failure { path: path.clone(), reason, passes, held: None })
    }

    /// How much lies in each directory, without reading any file.
    pub(crate) fn measure(&self) -> io::Result<BTreeMap<RelativePath, Count>> {
        measure(&self.root, &self.rules)
    }

    /// The text of a small file in the root, empty if there is none.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.root.look_again();
        let mut text = Vec::new();
        if self.root.kind() == Kind::Directory
            && let Ok(directory) = self.root.top()
            && let Ok((file, _)) = open_file(&Spot { directory, name: name.as_bytes() })
            && let Err(error) = file.take(LONGEST as u64 / 2).read_to_end(&mut text)
        {
            tracing::warn!(%error, name, "cannot be read");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Keeps a content beside a single file, under a name that nothing else has.
    pub(crate) fn keep_beside(&mut self, digest: &Digest, name: &str) -> io::Result<()> {
        // What could not be had was changed meanwhile: the next cycle keeps what it has become.
        let Some(staged) = self.stage.take(digest) else { return Ok(()) };
        let spot = Spot { directory: self.root.top()?, name: name.as_bytes() };
        let kept = match self.stage.directory().rename_new(staged.as_bytes(), &spot) {
            Err(error) if is_unsupported(&error) => {
                let staged = Spot { directory: self.stage.directory(), name: staged.as_bytes() };
                open_file(&staged).and_then(|(mut from, _)| {
                    let mut to = spot.directory.create(spot.name)?;
                    io::copy(&mut from, &mut to)?;
                    to.sync_all()
                })
            }
            kept => kept,
        };
        self.stage.remove(&staged);
        match kept {
            // By its name it has the same content.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the root again that is gone.
    pub(crate) fn restore_root(&mut self) -> io::Result<()> {
        if self.root.kind() == Kind::Directory {
            fs_err::create_dir_all(self.root.path())?;
        }
        self.root.look_again();
        Ok(())
    }

    /// Room on the file system, in bytes.
    pub(crate) fn room(&self) -> Option<u64> {
        self.root.top().ok()?.room()
    }

    /// Opens a file to be sent, if it still is the one that is known. A single file has the path of the root.
    pub(crate) fn supply(&self, near: &mut Near, path: &RelativePath, digest: &Digest) -> io::Result<Option<OpenFile>> {
        let Some(Node::File(known)) = self.tree.as_ref().and_then(|tree| tree.get(path)) else { return Ok(None) };
        if known.digest != *digest {
            return Ok(None);
        }
        self.open_known(near, path, known).map(|opened| opened.map(|(file, _)| file))
    }

    /// What is known of the file at a path.
    pub(crate) fn file(&self, path: &RelativePath) -> Option<&File> {
        match self.tree.as_ref()?.get(path)? {
            Node::File(file) => Some(file),
            _ => None,
        }
    }

    /// Opens a file that is known. One that has changed at its end only is still worth trying: its digest decides.
    fn open_known(&self, near: &mut Near, path: &RelativePath, known: &File) -> io::Result<Option<(OpenFile, u64)>> {
        let opened = match path.split() {
            Some((parent, name)) => {
                let directory = near.get(&parent, || self.root.open_directory(&parent))?;
                open_file(&Spot { directory, name: name.as_bytes() })
            }
            None => match self.root.file_name() {
                Some(name) => open_file(&Spot { directory: self.root.top()?, name }),
                None => return Ok(None),
            },
        };
        let (file, stat) = opened?;
        Ok((stat.size >= known.size).then_some((file, stat.size)))
    }

    /// Where contents are received.
    pub(crate) const fn inbox(&self) -> &Inbox {
        self.stage.inbox()
    }

    /// Keeps a content that was received.
    pub(crate) fn keep(&mut self, received: Received) {
        let (digest, blocks) = self.stage.keep(received);
        self.blocks.remember(digest, blocks);
    }

    /// What a content has in common with an older one, if that is known, and nearly all.
    pub(crate) fn compare(&self, old: &Digest, new: &Digest, size: u64) -> Option<Delta> {
        self.blocks.compare(old, new, size)
    }

    /// So many steps will need a content.
    pub(crate) fn need(&mut self, digest: Digest, uses: u32) {
        self.work.need(digest, uses);
    }

    /// Keeps a content aside that is here under another name; the step that wants it tells if that cannot be done.
    pub(crate) fn own(&mut self, path: &RelativePath, digest: &Digest) {
        let copied = match self.supply(&mut Near::default(), path, digest) {
            Ok(Some(mut file)) => {
                let size = self.file(path).map_or(0, |known| known.size);
                self.stage.copy(&mut file, *digest, size)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            tracing::debug!(%error, %path, "a content was not copied");
        }
    }

    /// Does a step, but only if what it replaces is still there. What became of it is told at the end.
    pub(crate) fn step(&mut self, step: &Step) {
        self.applying().step(step);
    }

    /// All steps are done. Returns what differs from before, and what failed.
    pub(crate) fn finish(&mut self) -> (Changes, Vec<Failure>) {
        self.applying().finish()
    }

    /// Does the steps of a plan whose contents are here.
    pub(crate) fn apply(&mut self, steps: &[Step]) -> (Changes, Vec<Failure>) {
        let mut missing = BTreeSet::new();
        for step in steps {
            if let Some(file) = new_content(step) {
                self.work.need(file.digest, 1);
                if !self.stage.has(&file.digest) {
                    missing.insert(file.digest);
                }
            }
        }
        for (digest, path) in self.tree.as_ref().map(|tree| tree.find(&missing)).unwrap_or_default() {
            self.own(&path, &digest);
        }
        for step in steps {
            self.step(step);
        }
        let result = self.finish();
        if self.side == Side::Laptop
            && steps.len() > FEW
            && let Ok(top) = self.root.top()
            && let Err(error) = top.sync_all()
        {
            tracing::warn!(%error, "what was written may not be on the disk yet");
        }
        result
    }

    const fn applying(&mut self) -> Applying<'_> {
        Applying {
            root: &self.root,
            stage: &mut self.stage,
            tree: &mut self.tree,
            owner: self.owner,
            held: &self.held,
            side: self.side,
            traits: &self.traits,
            work: &mut self.work,
        }
    }

    /// Gives all that is there to this user, and what comes later.
    pub(crate) fn set_owner(&mut self, owner: Owner) -> io::Result<()> {
        if self.owner == Some(owner) {
            return Ok(());
        }
        self.owner = Some(owner);
        crate::apply::give_all(&self.root, owner)?;
        // Times of change are other ones now; nothing else is.
        self.restamp();
        Ok(())
    }

    /// Knows files again whose owner was changed.
    fn restamp(&mut self) {
        let now = std::time::SystemTime::now();
        let (mut paths, mut near) = (Vec::new(), Near::default());
        if let Some(tree) = &self.tree {
            tree.walk(&mut RelativePath::ROOT.clone(), &mut |path, node| {
                if matches!(node, Node::File(file) if file.stamp != 0) {
                    paths.push(path.clone());
                }
            });
        }
        for path in paths {
            let stat = match self.tree.as_ref().and_then(|tree| tree.get(&path)) {
                Some(Node::File(known)) => match self.open_known(&mut near, &path, known) {
                    Ok(Some((file, _))) => {
                        stat_of(&file).ok().filter(|stat| stat.size == known.size && stat.modified == known.modified)
                    }
                    _ => None,
                },
                _ => None,
            };
            if let Some(Node::File(file)) = self.tree.as_mut().and_then(|tree| tree.get_mut(&path)) {
                file.stamp = stat.map_or(0, |stat| stat.stamp(now));
            }
        }
    }
}

/// The file whose content a step brings: not where only permissions or times are other ones.
pub(crate) fn new_content(step: &Step) -> Option<&File> {
    match (&step.old, &step.new) {
        (Some(Entry::File(old)), Some(Entry::File(new))) if old.same_content(new) => None,
        (_, Some(Entry::File(new))) => Some(new),
        _ => None,
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn who_is_interrupted_leaves_directories_with_their_own_permissions_or_such_that_can_be_filled() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs_err::create_dir(&root).unwrap();
        let stage = directory.path().join("stage");
        let mut endpoint = Endpoint::open(root.clone(), Kind::Directory, &stage, Side::Laptop, || {}).unwrap();
        endpoint.scan(true).unwrap();
        let modes = || ["a", "b"].map(|name| fs_err::metadata(root.join(name)).unwrap().permissions().mode() & 0o777);
        for (name, mode) in [("a", 0o750), ("b", 0o555)] {
            let path = RelativePath::new(name.as_bytes()).unwrap();
            endpoint.step(&Step { path, old: None, new: Some(Entry::Directory(mode)) });
        }
        assert_eq!(modes(), [0o750, 0o755]);
        assert_eq!(endpoint.finish().1, []);
        assert_eq!(modes(), [0o750, 0o555]);
    }
}

#[cfg(test)]
#[cfg(windows)]
#[path = "endpoint/windows_tests.rs"]
mod windows_tests;
