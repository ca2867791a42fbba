//! What each side must do to be like the other: three-way, against the last state that both had in common.
//!
//! Three rules hold for every history:
//! - what one side has not changed since then follows the other side;
//! - what was deleted on one side and changed on the other stays;
//! - what was changed on both sides differently is kept twice: the laptop's under its name, the environment's beside it
//!   with [`CONFLICT`] in its name. Permissions and times are no content: where only they differ the laptop's permissions
//!   and the later time hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    path::{Name, RelativePath},
    tree::{Children, Directory, Entry, File, Node},
};

/// What stands between a file's name and a few characters of its content's digest, where two versions are kept.
pub const CONFLICT: &str = ".overside-conflict-";

/// Permissions that no directory has: both sides have the directory, and never had the same ones.
const UNKNOWN: u16 = u16::MAX;

/// Hexadecimal characters of the digest.
const DIGITS: usize = 8;

/// Which way changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Both.
    TwoWay,
    /// From the laptop only. What the environment has besides is left there, and what it changed is replaced.
    OneWay,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The person's own files.
    Laptop,
    /// The copy that containers mount.
    Environment,
}

/// One thing to do on one side. It is to be done only if the side still has `old` there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub path: RelativePath,
    /// What is there now.
    pub old: Option<Entry>,
    /// What is to be there.
    pub new: Option<Entry>,
}

/// What is to be done. The steps of a side are in an order in which they can be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// On the laptop.
    pub laptop: Vec<Step>,
    /// In the environment.
    pub environment: Vec<Step>,
    /// Paths that were changed on both sides differently.
    pub conflicts: Vec<RelativePath>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub const fn is_empty(&self) -> bool {
        self.laptop.is_empty() && self.environment.is_empty()
    }
}

/// What a root has become that had been something else: too much to be taken for what a person or a container meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Halt {
    /// It is gone.
    Vanished,
    /// Everything in it is gone.
    Emptied,
    /// It was a directory and is none any more, or the other way round.
    ChangedKind,
}

/// Whether one side's root asks for a person, and which. A directory with one entry may be emptied.
pub fn halt(ancestor: Option<&Node>, laptop: Option<&Node>, environment: Option<&Node>) -> Option<(Side, Halt)> {
    let before = ancestor?;
    let of = |node: Option<&Node>, other: Option<&Node>| match (before, node) {
        (_, None) => Some(Halt::Vanished),
        (Node::Directory(before), Some(Node::Directory(now))) => {
            let others = other.and_then(Node::directory).is_some_and(|other| !other.children.is_empty());
            (before.children.len() > 1 && now.children.is_empty() && others).then_some(Halt::Emptied)
        }
        (Node::Directory(_), Some(_)) | (_, Some(Node::Directory(_))) => Some(Halt::ChangedKind),
        _ => None,
    };
    let laptop_halts = of(laptop, environment).map(|halt| (Side::Laptop, halt));
    laptop_halts.or_else(|| of(environment, laptop).map(|halt| (Side::Environment, halt)))
}

/// Whether a name is that of a version which was kept beside another.
pub fn is_conflict(name: &[u8]) -> bool {
    let marker = CONFLICT.as_bytes();
    name.len() > marker.len() + DIGITS && {
        let (rest, digits) = name.split_at(name.len() - DIGITS);
        rest.ends_with(marker) && digits.iter().all(u8::is_ascii_hexdigit)
    }
}

/// What makes both sides alike, given what both had in common last.
pub fn reconcile(ancestor: Option<&Node>, laptop: Option<&Node>, environment: Option<&Node>, mode: Mode) -> Plan {
    let mut reconciler = Reconciler { laptop: Steps::default(), environment: Steps::default(), conflicts: Vec::new() };
    let path = &mut RelativePath::ROOT.clone();
    match mode {
        Mode::TwoWay => {
            if reconciler.two_way(path, ancestor, laptop, environment).is_some() {
                // A root has no place beside it: whoever carries the plan out finds one for the environment's version.
                reconciler.conflicts.push(path.clone());
            }
        }
        Mode::OneWay => reconciler.one_way(path, ancestor, laptop, environment),
    }
    Plan {
        laptop: reconciler.laptop.in_order(),
        environment: reconciler.environment.in_order(),
        conflicts: reconciler.conflicts,
    }
}

/// Makes `ancestor` what both sides have in common now: where they are alike that, elsewhere what they had in common before.
/// Where all three are alike they share what they have from then on. Returns whether it has become another one.
pub fn agree(ancestor: &mut Option<Node>, laptop: Option<&Node>, environment: Option<&mut Node>) -> bool {
    match (laptop, environment) {
        (Some(Node::Directory(laptop)), Some(Node::Directory(environment))) => {
            agree_in_directory(ancestor, laptop, environment)
        }
        (Some(Node::Unheld(_)), _) | (_, Some(Node::Unheld(_))) => false,
        (laptop, environment) if laptop == environment.as_deref() => {
            let changed = ancestor.as_ref() != laptop;
            *ancestor = laptop.cloned();
            changed
        }
        _ => false,
    }
}

fn agree_in_directory(ancestor: &mut Option<Node>, laptop: &Directory, environment: &mut Directory) -> bool {
    let (before, mut changed) = match ancestor.take() {
        Some(Node::Directory(directory)) => (directory, false),
        _ => (Directory { mode: UNKNOWN, children: Children::default() }, true),
    };
    let mode = if laptop.mode == environment.mode { laptop.mode } else { before.mode };
    changed |= mode != before.mode;
    let children = if laptop.children.is_shared_with(&environment.children) {
        changed |= before.children != laptop.children;
        laptop.children.clone()
    } else {
        let (mut old, mut children) = (before.children, BTreeMap::new());
        for name in union(&laptop.children, &environment.children) {
            let mut child = if old.contains_key(&name) { old.remove(&name) } else { None };
            let theirs =
                if environment.children.contains_key(&name) { environment.children.get_mut(&name) } else { None };
            changed |= agree(&mut child, laptop.children.get(&name), theirs);
            if let Some(child) = child {
                children.insert(name, child);
            }
        }
        changed |= !old.is_empty();
        let alike = |(one, other): ((&Name, &Node), (&Name, &Node))| {
            one.0 == other.0
                && match (one.1, other.1) {
                    (Node::Directory(one), Node::Directory(other)) => {
                        one.mode == other.mode && one.children.is_shared_with(&other.children)
                    }
                    (Node::Unheld(_), _) => false,
                    (one, other) => one == other,
                }
        };
        let all = laptop.children.len() == environment.children.len()
            && laptop.children.iter().zip(environment.children.iter()).all(alike);
        if all {
            environment.children = laptop.children.clone();
            laptop.children.clone()
        } else {
            children.into()
        }
    };
    *ancestor = Some(Node::Directory(Directory { mode, children }));
    changed
}

/// The common state as it is to be on the disk while the plan is carried out: without what it removes. Were that remembered by
/// a daemon that dies meanwhile, something that is put there again would seem to be what the other side has deleted.
pub fn without_removed(ancestor: Option<&Node>, plan: &Plan) -> Option<Node> {
    let mut ancestor = ancestor.cloned();
    for step in plan.laptop.iter().chain(&plan.environment).filter(|step| step.new.is_none()) {
        Node::set(&mut ancestor, &step.path, None);
    }
    ancestor
}

fn union(first: &BTreeMap<Name, Node>, second: &BTreeMap<Name, Node>) -> Vec<Name> {
    let mut names: Vec<Name> = first.keys().chain(second.keys()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn child<'a>(node: Option<&'a Node>, name: &Name) -> Option<&'a Node> {
    node?.directory()?.children.get(name)
}

/// Whether nothing of it was changed since both had `ancestor`. Permissions of directories are no change.
pub fn unchanged(ancestor: Option<&Node>, node: Option<&Node>) -> bool {
    match (ancestor, node) {
        (Some(Node::Directory(ancestor)), Some(Node::Directory(node)))
            if ancestor.children.is_shared_with(&node.children) =>
        {
            true
        }
        (Some(Node::Directory(ancestor)), Some(Node::Directory(node))) => {
            let held = |node: &&Node| !matches!(node, Node::Unheld(_));
            node.children
                .iter()
                .filter(|(_, child)| held(child))
                .all(|(name, child)| unchanged(ancestor.children.get(name), Some(child)))
                && ancestor.children.keys().all(|name| node.children.contains_key(name))
        }
        (ancestor, node) => ancestor == node,
    }
}

/// What of a tree was changed since both had `ancestor`, with the directories that lead there.
fn changed(ancestor: Option<&Node>, node: &Node) -> Option<Node> {
    match node {
        Node::Unheld(_) => None,
        Node::Directory(directory)
            if ancestor
                .and_then(Node::directory)
                .is_some_and(|ancestor| ancestor.children.is_shared_with(&directory.children)) =>
        {
            None
        }
        Node::Directory(directory) => {
            let children: Children = directory
                .children
                .iter()
                .filter_map(|(name, node)| Some((name.clone(), changed(child(ancestor, name), node)?)))
                .collect();
            let is_new = !matches!(ancestor, Some(Node::Directory(_)));
            (is_new || !children.is_empty()).then_some(Node::Directory(Directory { mode: directory.mode, children }))
        }
        other => (ancestor != Some(other)).then(|| other.clone()),
    }
}

/// The name beside another one for a version that is kept. The same content gets the same name.
fn beside(name: &Name, node: &Node, taken: impl Fn(&Name) -> bool) -> Option<Name> {
    let mut hasher = blake3::Hasher::new();
    node.walk(&mut RelativePath::ROOT.clone(), &mut |path, node| {
        hasher.update(path.as_bytes());
        match node {
            Node::File(file) => hasher.update(&file.digest.0),
            Node::Link(link) => hasher.update(&link.target),
            Node::Directory(_) | Node::Unheld(_) => hasher.update(b"/"),
        };
    });
    let digits = hasher.finalize().to_hex();
    // A few other digits of the same digest where the name is taken by something else.
    (0..=digits.len() - DIGITS).find_map(|start| {
        let suffix = format!("{CONFLICT}{}", &digits[start..start + DIGITS]);
        let room = 255 - suffix.len();
        let name = &name.as_bytes()[..name.as_bytes().len().min(room)];
        Name::new(&[name, suffix.as_bytes()].concat()).filter(|name| !taken(name))
    })
}

/// The file that both changes make together, if they are not about the same thing.
fn merge(ancestor: Option<&File>, laptop: &File, environment: &File) -> Option<File> {
    let content = if laptop.same_content(environment) {
        if laptop.modified >= environment.modified { laptop } else { environment }
    } else {
        let ancestor = ancestor?;
        match (laptop.same_content(ancestor), environment.same_content(ancestor)) {
            (false, true) => laptop,
            (true, false) => environment,
            _ => return None,
        }
    };
    let mode = match ancestor {
        Some(ancestor) if ancestor.mode == laptop.mode => environment.mode,
        _ => laptop.mode,
    };
    Some(File { mode, stamp: 0, ..content.clone() })
}

/// Steps of one side, in the order in which they are done: nothing is gone before it is elsewhere, and what is new is there before
/// what existed already may speak of it (a version of a Git repository before its references, a page's parts before the page).
#[derive(Default)]
struct Steps {
    /// Versions that are kept beside others.
    keep: Vec<Step>,
    /// What stands in the way of something of another kind.
    clear: Vec<Step>,
    put: Vec<Step>,
    remove: Vec<Step>,
}

impl Steps {
    fn in_order(mut self) -> Vec<Step> {
        let is_new = |step: &Step| !matches!(step.old, Some(Entry::File(_) | Entry::Link(_)));
        let (mut new, mut changed): (Vec<Step>, Vec<Step>) = self.put.into_iter().partition(is_new);
        for steps in [&mut self.clear, &mut new, &mut changed, &mut self.remove] {
            self.keep.append(steps);
        }
        self.keep
    }

    /// Makes the side have `new` where it has `old`.
    fn replace(&mut self, path: &mut RelativePath, old: Option<&Node>, new: Option<&Node>) {
        match (old, new) {
            (Some(Node::Unheld(_)), _) | (_, Some(Node::Unheld(_))) | (None, None) => {}
            (Some(old), None) => {
                remove(&mut self.remove, path, old);
            }
            (old, Some(Node::Directory(new))) => {
                let before = match old {
                    Some(Node::Directory(old)) => Some(old),
                    Some(other) => {
                        remove(&mut self.clear, path, other);
                        None
                    }
                    None => None,
                };
                if before.is_none_or(|old| old.mode != new.mode) {
                    self.put.push(Step {
                        path: path.clone(),
                        old: before.map(|old| Entry::Directory(old.mode)),
                        new: Some(Entry::Directory(new.mode)),
                    });
                }
                let nothing = Children::default();
                let old = before.map_or(&nothing, |old| &old.children);
                if old.is_shared_with(&new.children) {
                    return;
                }
                for name in union(old, &new.children) {
                    path.push(&name);
                    self.replace(path, old.get(&name), new.children.get(&name));
                    path.pop();
                }
            }
            (Some(old @ Node::Directory(_)), Some(new)) => {
                if remove(&mut self.clear, path, old) {
                    self.put.push(Step { path: path.clone(), old: None, new: Some(new.entry()) });
                }
            }
            (old, Some(new)) => {
                if old != Some(new) {
                    self.put.push(Step { path: path.clone(), old: old.map(Node::entry), new: Some(new.entry()) });
                }
            }
        }
    }
}

/// What lies in it first. Returns whether it goes altogether: what stays on its side keeps the directories that it lies in.
fn remove(steps: &mut Vec<Step>, path: &mut RelativePath, node: &Node) -> bool {
    let mut whole = !matches!(node, Node::Unheld(_));
    for (name, child) in node.directory().into_iter().flat_map(|directory| directory.children.iter()) {
        path.push(name);
        whole &= remove(steps, path, child);
        path.pop();
    }
    if whole {
        steps.push(Step { path: path.clone(), old: Some(node.entry()), new: None });
    }
    whole
}

struct Reconciler {
    laptop: Steps,
    environment: Steps,
    conflicts: Vec<RelativePath>,
}

impl Reconciler {
    /// Returns the environment's version where it is to be kept beside the laptop's.
    fn two_way(
        &mut self,
        path: &mut RelativePath,
        ancestor: Option<&Node>,
        laptop: Option<&Node>,
        environment: Option<&Node>,
    ) -> Option<Node> {
        match (laptop, environment) {
            (Some(Node::Unheld(_)), _) | (_, Some(Node::Unheld(_))) => None,
            (Some(Node::Directory(here)), Some(Node::Directory(there))) => {
                if here.mode != there.mode {
                    let before = ancestor.and_then(Node::directory).map(|directory| directory.mode);
                    let mode = if before == Some(here.mode) { there.mode } else { here.mode };
                    for (steps, old) in [(&mut self.laptop, here.mode), (&mut self.environment, there.mode)] {
                        if old != mode {
                            let (old, new) = (Some(Entry::Directory(old)), Some(Entry::Directory(mode)));
                            steps.put.push(Step { path: path.clone(), old, new });
                        }
                    }
                }
                if here.children.is_shared_with(&there.children) {
                    return None;
                }
                for name in union(&here.children, &there.children) {
                    let (here, there) = (here.children.get(&name), there.children.get(&name));
                    path.push(&name);
                    let kept = self.two_way(path, child(ancestor, &name), here, there);
                    if let Some(kept) = kept {
                        self.conflicts.push(path.clone());
                        path.pop();
                        self.keep_beside(path, &name, &kept, [ancestor, laptop, environment]);
                    } else {
                        path.pop();
                    }
                }
                None
            }
            (laptop, environment) if laptop == environment => None,
            (laptop, environment) if unchanged(ancestor, laptop) => {
                self.laptop.replace(path, laptop, environment);
                None
            }
            (laptop, environment) if unchanged(ancestor, environment) => {
                self.environment.replace(path, environment, laptop);
                None
            }
            // Deleted on one side, changed on the other: what was changed stays, the rest goes.
            (None, Some(node)) => {
                let stays = changed(ancestor, node);
                self.environment.replace(path, environment, stays.as_ref());
                self.laptop.replace(path, None, stays.as_ref());
                None
            }
            (Some(node), None) => {
                let stays = changed(ancestor, node);
                self.laptop.replace(path, laptop, stays.as_ref());
                self.environment.replace(path, None, stays.as_ref());
                None
            }
            (Some(Node::File(here)), Some(Node::File(there))) => {
                let before = match ancestor {
                    Some(Node::File(file)) => Some(file),
                    _ => None,
                };
                if let Some(merged) = merge(before, here, there) {
                    let merged = Node::File(merged);
                    self.laptop.replace(path, laptop, Some(&merged));
                    self.environment.replace(path, environment, Some(&merged));
                    return None;
                }
                self.environment.replace(path, environment, laptop);
                Some(Node::File(there.clone()))
            }
            (Some(_), Some(there)) => {
                // Of a directory only what was changed there is worth being kept.
                let kept = changed(ancestor, there);
                self.environment.replace(path, environment, laptop);
                kept
            }
            (None, None) => None,
        }
    }

    fn keep_beside(
        &mut self,
        directory: &mut RelativePath,
        name: &Name,
        kept: &Node,
        [ancestor, laptop, environment]: [Option<&Node>; 3],
    ) {
        // A name that only one side has, or had, is reconciled by itself, and might go in the same plan.
        let taken = |name: &Name| {
            let of = |side| child(side, name);
            let is_kept = of(laptop) == Some(kept) && of(environment) == Some(kept);
            !is_kept && [ancestor, laptop, environment].into_iter().any(|side| of(side).is_some())
        };
        let Some(beside) = beside(name, kept, taken) else { return };
        directory.push(&beside);
        for (steps, side) in [(&mut self.laptop, laptop), (&mut self.environment, environment)] {
            let mut keep = Steps::default();
            keep.replace(directory, child(side, &beside), Some(kept));
            steps.keep.append(&mut keep.in_order());
        }
        directory.pop();
    }

    fn one_way(
        &mut self,
        path: &mut RelativePath,
        ancestor: Option<&Node>,
        laptop: Option<&Node>,
        environment: Option<&Node>,
    ) {
        match (laptop, environment) {
            (Some(Node::Directory(here)), Some(Node::Directory(there))) => {
                if here.mode != there.mode {
                    let (old, new) = (Some(Entry::Directory(there.mode)), Some(Entry::Directory(here.mode)));
                    self.environment.put.push(Step { path: path.clone(), old, new });
                }
                if here.children.is_shared_with(&there.children) {
                    return;
                }
                for name in union(&here.children, &there.children) {
                    path.push(&name);
                    let (here, there) = (here.children.get(&name), there.children.get(&name));
                    self.one_way(path, child(ancestor, &name), here, there);
                    path.pop();
                }
            }
            (None, Some(node)) => {
                let stays = if ancestor.is_some() { changed(ancestor, node) } else { Some(node.clone()) };
                self.environment.replace(path, environment, stays.as_ref());
            }
            (laptop, environment) => self.environment.replace(path, environment, laptop),
        }
    }
}
