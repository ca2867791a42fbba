//! Both sides as they can be compared where the laptop's file system is not like the environment's.
//!
//! The environment's names are the sync's: what the laptop gives back in another form is seen under the name that it was
//! written with. What the laptop cannot have is seen as something that stays on its side, so that nothing is put in its place,
//! and nothing is deleted because it is missing:
//! - of several names in the environment that are one on the laptop the one that both sides have, or else the one that the
//!   laptop has, or else the first by its bytes, is held; the others are held back;
//! - a name that only changes its case or composition is a new name for the same thing, on either side: it is renamed on the
//!   other one, with all that lies in it;
//! - what is held back was never in common, should the laptop have had it on another file system;
//! - what the laptop cannot keep of a file (permissions, parts of a second) is the environment's.

use std::{collections::BTreeMap, fmt};

use crate::{
    path::{Name, RelativePath},
    reconcile::{Mode, Side, Step},
    traits::{Alike, Traits},
    tree::{Children, Directory, Link, Node, Unheld},
};

/// Why something of the environment cannot be on the laptop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldBack {
    /// The laptop's file system takes its name for that of another entry of the directory, this one where it is known.
    SameName(Option<Name>),
    /// The laptop's file system does not take the name.
    Name,
    /// The laptop's file system has no symbolic links.
    Link,
}

impl HeldBack {
    /// Whether a content is nowhere else than in the environment.
    pub const fn has_content(&self) -> bool {
        !matches!(self, Self::Link)
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameName(Some(other)) => write!(
                formatter,
                "the file system of this machine takes it for the same name as {other}; it stays in the environment"
            ),
            Self::SameName(None) => formatter.write_str(
                "the file system of this machine takes it for the same name as another one; it stays in the environment",
            ),
            Self::Name => formatter
                .write_str("the file system of this machine cannot have this name; it stays in the environment"),
            Self::Link => formatter
                .write_str("the file system of this machine has no symbolic links; it stays in the environment"),
        }
    }
}

/// An entry that has a new name on one side which the other side takes for the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Where it is to be renamed; none where its file system does not tell the two names apart.
    pub side: Option<Side>,
    /// The directory in which it lies, by the environment's names.
    pub directory: RelativePath,
    /// What both sides called it.
    pub common: Name,
    /// What that side calls it.
    pub from: Name,
    /// What it is to be called.
    pub to: Name,
}

/// How the two sides are looked at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What the laptop's file system can hold.
    pub traits: &'a Traits,
    /// What it could not hold when that was tried, by the environment's names.
    pub unfit: &'a BTreeMap<RelativePath, HeldBack>,
    /// Which way changes go. What does not go to the laptop is not held back.
    pub mode: Mode,
}

/// What is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The laptop's side, by the environment's names.
    pub laptop: Option<Node>,
    /// The environment's, without what the laptop cannot hold.
    pub environment: Option<Node>,
    /// What of the environment the laptop cannot hold.
    pub held_back: Vec<(RelativePath, HeldBack)>,
    /// To be done first; until then nothing is done with these entries.
    pub renames: Vec<Rename>,
    /// What entries are called on the laptop, where that is another name.
    names: BTreeMap<RelativePath, Name>,
}

impl Seen {
    /// Where the laptop has what the environment has at a path.
    pub fn on_laptop(&self, path: &RelativePath) -> RelativePath {
        if self.names.is_empty() {
            return path.clone();
        }
        let (mut seen, mut real) = (RelativePath::ROOT, RelativePath::ROOT);
        for name in path.names().filter_map(Name::new) {
            seen.push(&name);
            real.push(self.names.get(&seen).unwrap_or(&name));
        }
        real
    }

    /// Forgets that both sides had what the laptop cannot have any more: that it is missing there is no deletion. Returns whether
    /// there was such a thing.
    pub fn forget(&self, ancestor: &mut Option<Node>) -> bool {
        let mut changed = false;
        for (path, _) in &self.held_back {
            let is_known = ancestor.as_ref().is_some_and(|ancestor| ancestor.get(path).is_some());
            if is_known && self.laptop.as_ref().is_none_or(|laptop| laptop.get(path).is_none()) {
                Node::set(ancestor, path, None);
                changed = true;
            }
        }
        changed
    }

    /// The laptop's steps as they are to be done there. `laptop` is the side that was looked at.
    pub fn steps_on_laptop(&self, steps: &[Step], laptop: Option<&Node>) -> Vec<Step> {
        let real = |step: &Step| {
            let path = self.on_laptop(&step.path);
            let old = step.old.as_ref().and_then(|_| laptop?.get(&path)).map(Node::entry);
            Step { path, old: old.or_else(|| step.old.clone()), new: step.new.clone() }
        };
        steps.iter().map(real).collect()
    }
}

/// What becomes of an entry.
enum Fate {
    /// It is compared.
    Seen,
    /// The environment's stays there.
    Held(HeldBack),
    /// It is renamed first.
    Waits,
}

/// An entry of a directory, by its name in the environment.
struct Assigned<'a> {
    name: Name,
    laptop: Option<&'a Name>,
    environment: bool,
    fate: Fate,
}

/// Names of one directory that are one name on the laptop.
#[derive(Default)]
struct Group<'a> {
    ancestor: Vec<&'a Name>,
    laptop: Vec<&'a Name>,
    environment: Vec<&'a Name>,
}

impl View<'_> {
    /// Whether both sides can be compared as they are.
    pub fn is_ordinary(&self) -> bool {
        self.unfit.is_empty() && self.traits.is_ordinary()
    }

    /// Looks at both sides, and at what they had in common last.
    pub fn of(&self, ancestor: Option<&Node>, laptop: Option<&Node>, environment: Option<&Node>) -> Seen {
        let mut looking = Looking { view: *self, seen: Seen::default() };
        let [laptop, environment] = looking.node(&mut RelativePath::ROOT.clone(), ancestor, laptop, environment);
        Seen { laptop, environment, ..looking.seen }
    }
}

struct Looking<'a> {
    view: View<'a>,
    seen: Seen,
}

impl Looking<'_> {
    fn node(
        &mut self,
        path: &mut RelativePath,
        ancestor: Option<&Node>,
        laptop: Option<&Node>,
        environment: Option<&Node>,
    ) -> [Option<Node>; 2] {
        let directories = [ancestor, laptop, environment].map(|node| node.and_then(Node::directory));
        let [here, there] = match directories {
            [_, None, None] => [None, None],
            directories => self.directory(path, directories),
        };
        let here = here.map(Node::Directory).or_else(|| laptop.map(|node| self.on_laptop(ancestor, node, environment)));
        let there = there.map(Node::Directory).or_else(|| environment.map(|node| self.in_environment(path, node)));
        [here, there]
    }

    /// What of the laptop is no directory.
    fn on_laptop(&self, ancestor: Option<&Node>, laptop: &Node, environment: Option<&Node>) -> Node {
        let Node::File(found) = laptop else { return laptop.clone() };
        let mut file = found.clone();
        let others = || {
            [environment, ancestor].into_iter().filter_map(|node| match node {
                Some(Node::File(file)) => Some(file),
                _ => None,
            })
        };
        if self.view.traits.no_permissions {
            file.mode = others().next().map_or(file.mode, |other| other.mode);
        }
        if let Some(written) = others().find(|other| self.view.traits.is_rounded(other, found)) {
            file.modified = written.modified;
        }
        Node::File(file)
    }

    /// What of the environment is no directory.
    fn in_environment(&mut self, path: &RelativePath, environment: &Node) -> Node {
        match environment {
            Node::Link(Link { .. }) if self.view.traits.no_links && self.view.mode == Mode::TwoWay => {
                self.seen.held_back.push((path.clone(), HeldBack::Link));
                Node::Unheld(Unheld::Unfit)
            }
            other => other.clone(),
        }
    }

    fn directory(
        &mut self,
        path: &mut RelativePath,
        [ancestor, laptop, environment]: [Option<&Directory>; 3],
    ) -> [Option<Directory>; 2] {
        let shared = |one: Option<&Directory>, other: Option<&Directory>| matches!((one, other), (Some(one), Some(other)) if one.children.is_shared_with(&other.children));
        let mode = |directory: &Directory| match (self.view.traits.no_permissions, environment.or(ancestor)) {
            (true, Some(other)) => other.mode,
            _ => directory.mode,
        };
        let mode = laptop.map(mode);
        let as_it_is = shared(laptop, environment)
            || (environment.is_none() && shared(laptop, ancestor))
            || (laptop.is_none() && shared(environment, ancestor));
        let nothing = Children::default();
        let children =
            |directory: Option<&Directory>| directory.map_or_else(|| nothing.clone(), |of| of.children.clone());
        let (before, here, there) = (children(ancestor), children(laptop), children(environment));
        let [new_here, new_there] = if as_it_is { [here, there] } else { self.children(path, &before, &here, &there) };
        [
            mode.map(|mode| Directory { mode, children: new_here }),
            environment.map(|directory| Directory { mode: directory.mode, children: new_there }),
        ]
    }

    fn children(
        &mut self,
        path: &mut RelativePath,
        before: &Children,
        here: &Children,
        there: &Children,
    ) -> [Children; 2] {
        let (mut new_here, mut new_there) = (Vec::new(), Vec::new());
        let mut same = [true, true];
        for Assigned { name, laptop, environment, fate } in self.assign(path, before, here, there) {
            path.push(&name);
            if let Some(real) = laptop.filter(|real| **real != name) {
                same[0] = false;
                self.seen.names.insert(path.clone(), real.clone());
            }
            let node_here = laptop.and_then(|real| here.get(real));
            let node_there = if environment { there.get(&name) } else { None };
            let unfit = || Some(Node::Unheld(Unheld::Unfit));
            let [seen_here, seen_there] = match fate {
                Fate::Seen => self.node(path, before.get(&name), node_here, node_there),
                Fate::Held(reason) => {
                    self.seen.held_back.push((path.clone(), reason));
                    [None, unfit()]
                }
                Fate::Waits => [node_here.and_then(|_| unfit()), node_there.and_then(|_| unfit())],
            };
            let found = [(node_here, seen_here, &mut new_here), (node_there, seen_there, &mut new_there)];
            for (same, (old, new, children)) in same.iter_mut().zip(found) {
                *same &= match (old, &new) {
                    (Some(old), Some(new)) => old.is_identical(new),
                    (old, new) => old.is_none() && new.is_none(),
                };
                children.extend(new.map(|new| (name.clone(), new)));
            }
            path.pop();
        }
        [
            if same[0] { here.clone() } else { new_here.into_iter().collect() },
            if same[1] { there.clone() } else { new_there.into_iter().collect() },
        ]
    }

    /// Which entries of both sides belong together, in the order of their names.
    fn assign<'a>(
        &mut self,
        path: &mut RelativePath,
        before: &'a Children,
        here: &'a Children,
        there: &'a Children,
    ) -> Vec<Assigned<'a>> {
        let traits = self.view.traits;
        let keeps_names = traits.case != Alike::Lost && traits.composition != Alike::Lost;
        // Nothing is odd about names that the laptop has as they are.
        if (keeps_names || here.len() == there.len()) && there.keys().all(|name| here.contains_key(name)) {
            return here
                .keys()
                .map(|name| {
                    let environment = there.contains_key(name);
                    Assigned { name: name.clone(), laptop: Some(name), environment, fate: Fate::Seen }
                })
                .collect();
        }
        let mut groups: BTreeMap<Vec<u8>, Group<'a>> = BTreeMap::new();
        for name in here.keys() {
            groups.entry(traits.key(name.as_bytes())).or_default().laptop.push(name);
        }
        for name in there.keys() {
            groups.entry(traits.key(name.as_bytes())).or_default().environment.push(name);
        }
        for name in before.keys() {
            if let Some(group) = groups.get_mut(&traits.key(name.as_bytes())) {
                group.ancestor.push(name);
            }
        }
        let mut assigned = Vec::new();
        for group in groups.into_values() {
            match (self.view.mode, group.laptop.as_slice()) {
                (Mode::TwoWay, []) => self.only_there(path, &group, &mut assigned),
                (Mode::TwoWay, [real]) => self.one_here(path, &group, real, [before, there], &mut assigned),
                _ => self.by_itself(&group, &mut assigned),
            }
        }
        assigned.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        assigned
    }

    /// Why the laptop cannot have a name that it does not have.
    fn refuses(&self, path: &mut RelativePath, name: &Name) -> Option<HeldBack> {
        if !self.view.traits.refused.takes(name.as_bytes()) {
            return Some(HeldBack::Name);
        }
        if self.view.unfit.is_empty() {
            return None;
        }
        path.push(name);
        let reason = self.view.unfit.get(path).cloned();
        path.pop();
        reason
    }

    /// All of these names of the environment but one.
    fn hold_back<'a>(
        &self,
        path: &mut RelativePath,
        names: &[&'a Name],
        held: Option<&Name>,
        assigned: &mut Vec<Assigned<'a>>,
    ) {
        for name in names.iter().filter(|name| Some(**name) != held) {
            let reason = self.refuses(path, name).unwrap_or_else(|| HeldBack::SameName(held.cloned()));
            let fate = Fate::Held(reason);
            assigned.push(Assigned { name: (*name).clone(), laptop: None, environment: true, fate });
        }
    }

    fn only_there<'a>(&self, path: &mut RelativePath, group: &Group<'a>, assigned: &mut Vec<Assigned<'a>>) {
        let fit: Vec<_> = group.environment.iter().filter(|name| self.refuses(path, name).is_none()).collect();
        let common = fit.iter().find(|name| group.ancestor.contains(name));
        let held = common.or(fit.first()).map(|name| (**name).clone());
        if let Some(name) = held.clone() {
            assigned.push(Assigned { name, laptop: None, environment: true, fate: Fate::Seen });
        }
        self.hold_back(path, &group.environment, held.as_ref(), assigned);
    }

    fn one_here<'a>(
        &mut self,
        path: &mut RelativePath,
        group: &Group<'a>,
        real: &'a Name,
        [before, there]: [&Children; 2],
        assigned: &mut Vec<Assigned<'a>>,
    ) {
        let traits = self.view.traits;
        let given_back = |names: &[&'a Name]| {
            let is = |name: &&&Name| traits.gives_back(name.as_bytes(), real.as_bytes());
            names.iter().find(|name| **name == real).or_else(|| names.iter().find(is)).copied()
        };
        let (common, same) = (given_back(&group.ancestor), given_back(&group.environment));
        let other_common = group.ancestor.iter().find(|name| there.contains_key(**name)).copied();
        // Its name, and what it is called there while it waits.
        let (name, waits) = match (common, same, other_common) {
            (Some(common), ..) if there.contains_key(common) => (common.clone(), None),
            (Some(common), same, _) => {
                let new = same.into_iter().chain(group.environment.iter().copied());
                let is_new = |new: &&Name| !before.contains_key(*new) && self.refuses(path, new).is_none();
                // The environment has given it another name, or else has deleted it.
                let new = new.into_iter().find(is_new);
                if let Some(new) = new {
                    let side = same.is_none().then_some(Side::Laptop);
                    self.rename(path, side, [common, real, new]);
                }
                (common.clone(), new.cloned())
            }
            // It may have had another one's name before: that one is held back from now on.
            (None, Some(same), _) => (same.clone(), None),
            // The laptop has given it another name.
            (None, None, Some(other)) => {
                let new = traits.elsewhere(real);
                self.rename(path, Some(Side::Environment), [other, other, &new]);
                (new, Some(other.clone()))
            }
            (None, None, None) => (traits.elsewhere(real), None),
        };
        let done = [Some(&name), waits.as_ref()];
        let rest: Vec<_> = group.environment.iter().filter(|name| !done.contains(&Some(**name))).copied().collect();
        self.hold_back(path, &rest, Some(&name), assigned);
        let fate = || if waits.is_some() { Fate::Waits } else { Fate::Seen };
        let environment = group.environment.contains(&&name);
        assigned.push(Assigned { name, laptop: Some(real), environment, fate: fate() });
        if let Some(name) = waits {
            assigned.push(Assigned { name, laptop: None, environment: true, fate: Fate::Waits });
        }
    }

    fn rename(&mut self, path: &RelativePath, side: Option<Side>, [common, from, to]: [&Name; 3]) {
        let (directory, common, from, to) = (path.clone(), common.clone(), from.clone(), to.clone());
        self.seen.renames.push(Rename { side, directory, common, from, to });
    }

    /// Names that the laptop has, whatever others are like them; the rest is left where it is.
    fn by_itself<'a>(&self, group: &Group<'a>, assigned: &mut Vec<Assigned<'a>>) {
        let traits = self.view.traits;
        let mut taken: Vec<Name> = Vec::new();
        for real in &group.laptop {
            let of = |names: &[&'a Name]| {
                let is = |name: &&&Name| traits.gives_back(name.as_bytes(), real.as_bytes());
                names.iter().find(|name| *name == real).or_else(|| names.iter().find(is)).map(|name| (*name).clone())
            };
            let name = of(&group.ancestor)
                .filter(|name| group.environment.contains(&name))
                .or_else(|| of(&group.environment))
                .or_else(|| of(&group.ancestor))
                .unwrap_or_else(|| traits.elsewhere(real));
            let name = if taken.contains(&name) { (*real).clone() } else { name };
            let environment = group.environment.contains(&&name);
            taken.push(name.clone());
            assigned.push(Assigned { name, laptop: Some(real), environment, fate: Fate::Seen });
        }
        for name in group.environment.iter().filter(|name| !taken.contains(name)) {
            assigned.push(Assigned { name: (*name).clone(), laptop: None, environment: true, fate: Fate::Seen });
        }
    }
}
