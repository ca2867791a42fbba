//! Random histories of two sides that are changed by their users, synced, interrupted at any point, and synced again: they
//! always become alike, and the last edit of either side is always somewhere.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use overside_sync_core::{
    Digest, Directory, Entry, File, Intents, Link, Mode, Node, RelativePath, Step, Time, Unheld, agree, is_conflict,
    reconcile, without_removed,
};
use proptest::{prelude::*, sample::Index};

/// Few names, so that the two sides meet.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a user does on one side.
#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<usize>, u8),
    Touch(Index, u8),
    Chmod(Index, u16),
    Delete(Index),
    Rename(Index, Vec<usize>),
    Copy(Index, Vec<usize>),
    MakeDirectory(Vec<usize>),
    MakeLink(Vec<usize>),
    MakeSocket(Vec<usize>),
}

#[derive(Debug, Clone)]
enum Event {
    Laptop(Edit),
    Environment(Edit),
    /// Both sides are read, and brought together as far as so many steps of each, while the users go on; then the ancestor is
    /// kept, or the daemon dies before.
    Cycle {
        laptop: Index,
        environment: Index,
        meanwhile: Vec<(bool, Edit)>,
        keeps: bool,
        complete: bool,
    },
}

fn place() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..NAMES.len(), 1..4)
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|(place, time)| Edit::Write(place, time)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, time)| Edit::Touch(at, time)),
        1 => (any::<Index>(), 0..=0o777_u16).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        3 => any::<Index>().prop_map(Edit::Delete),
        2 => (any::<Index>(), place()).prop_map(|(at, to)| Edit::Rename(at, to)),
        1 => (any::<Index>(), place()).prop_map(|(at, to)| Edit::Copy(at, to)),
        2 => place().prop_map(Edit::MakeDirectory),
        1 => place().prop_map(Edit::MakeLink),
        1 => place().prop_map(Edit::MakeSocket),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let meanwhile = proptest::collection::vec((any::<bool>(), edit()), 0..3);
    prop_oneof![
        2 => edit().prop_map(Event::Laptop),
        2 => edit().prop_map(Event::Environment),
        2 => (any::<Index>(), any::<Index>(), meanwhile, any::<bool>(), any::<bool>()).prop_map(
            |(laptop, environment, meanwhile, keeps, complete)| Event::Cycle { laptop, environment, meanwhile, keeps, complete }
        ),
    ]
}

fn path(place: &[usize]) -> RelativePath {
    RelativePath::new(place.iter().map(|name| NAMES[*name]).collect::<Vec<_>>().join("/").as_bytes()).unwrap()
}

fn empty() -> Option<Node> {
    Some(Node::Directory(Directory { mode: 0o755, children: Default::default() }))
}

/// Contents of the files of a tree, and targets of its links.
fn contents(node: &Node) -> BTreeSet<[u8; 32]> {
    let mut found = BTreeSet::new();
    node.walk(&mut RelativePath::ROOT.clone(), &mut |_, node| match node {
        Node::File(file) => drop(found.insert(file.digest.0)),
        Node::Link(link) => drop(found.insert(*blake3_of(&link.target))),
        _ => {}
    });
    found
}

fn blake3_of(bytes: &[u8]) -> Box<[u8; 32]> {
    Box::new(*blake3::hash(bytes).as_bytes())
}

fn paths(tree: &Option<Node>) -> Vec<RelativePath> {
    let mut found = Vec::new();
    tree.as_ref().unwrap().walk(&mut RelativePath::ROOT.clone(), &mut |path, _| found.push(path.clone()));
    found.remove(0);
    found
}

/// The same tree, of which nothing is shared with others.
fn unshared(tree: &Option<Node>) -> Option<Node> {
    fn copy(node: &Node) -> Node {
        match node {
            Node::Directory(directory) => Node::Directory(Directory {
                mode: directory.mode,
                children: directory.children.iter().map(|(name, node)| (name.clone(), copy(node))).collect(),
            }),
            other => other.clone(),
        }
    }
    tree.as_ref().map(copy)
}

struct World {
    laptop: Option<Node>,
    environment: Option<Node>,
    ancestor: Option<Node>,
    /// What the last cycle was about to bring, if it was not kept.
    intents: Intents,
    /// Contents that a user wrote and that no user has replaced or deleted since.
    live: BTreeSet<[u8; 32]>,
    written: u32,
}

impl World {
    fn new() -> Self {
        Self {
            laptop: empty(),
            environment: None,
            ancestor: None,
            intents: Intents::default(),
            live: BTreeSet::new(),
            written: 0,
        }
    }

    fn edit(&mut self, on_laptop: bool, edit: &Edit) {
        let tree = if on_laptop { &mut self.laptop } else { &mut self.environment };
        if tree.is_none() {
            return;
        }
        let known = paths(tree);
        let chosen = |at: &Index| (!known.is_empty()).then(|| at.get(&known).clone());
        // A user who puts something in the place of another thing has seen that.
        let mut put = |tree: &mut Option<Node>, path: &RelativePath, node: Node| {
            let before = tree.as_ref().unwrap().get(path).map(contents).unwrap_or_default();
            let (parent, name) = path.split().unwrap();
            let Some(Node::Directory(directory)) = tree.as_mut().unwrap().get_mut(&parent) else { return };
            self.live.retain(|content| !before.contains(content));
            directory.children.insert(name, node);
        };
        match edit {
            Edit::Write(place, time) => {
                self.written += 1;
                let digest = Digest(*blake3_of(&self.written.to_le_bytes()));
                let modified = Time { seconds: i64::from(*time), nanoseconds: 0 };
                // An editor does not write over a directory.
                if tree.as_ref().unwrap().get(&path(place)).is_none_or(|node| node.directory().is_none()) {
                    put(tree, &path(place), Node::File(File { digest, size: 1, mode: 0o644, modified, stamp: 0 }));
                    // Moved and copied content is no edit: in the place where it was before, it is no change at all.
                    self.live.extend(tree.as_ref().unwrap().get(&path(place)).map(contents).unwrap_or_default());
                }
            }
            Edit::Touch(at, time) => {
                let Some(path) = chosen(at) else { return };
                if let Some(Node::File(file)) = tree.as_mut().unwrap().get_mut(&path) {
                    file.modified.seconds = i64::from(*time);
                }
            }
            Edit::Chmod(at, mode) => {
                let Some(path) = chosen(at) else { return };
                match tree.as_mut().unwrap().get_mut(&path) {
                    Some(Node::File(file)) => file.mode = *mode,
                    Some(Node::Directory(directory)) => directory.mode = *mode,
                    _ => {}
                }
            }
            Edit::Delete(at) => {
                let Some(path) = chosen(at) else { return };
                let gone = contents(tree.as_ref().unwrap().get(&path).unwrap());
                self.live.retain(|content| !gone.contains(content));
                Node::set(tree, &path, None);
            }
            Edit::Rename(at, to) | Edit::Copy(at, to) => {
                let (Some(from), to) = (chosen(at), path(to)) else { return };
                if to.is_within(&from) || from.is_within(&to) {
                    return;
                }
                let node = tree.as_ref().unwrap().get(&from).unwrap().clone();
                let (parent, _) = to.split().unwrap();
                if tree.as_ref().unwrap().get(&parent).and_then(Node::directory).is_none() {
                    return;
                }
                if matches!(edit, Edit::Rename(..)) {
                    Node::set(tree, &from, None);
                }
                put(tree, &to, node);
            }
            Edit::MakeDirectory(place) => {
                if tree.as_ref().unwrap().get(&path(place)).is_none() {
                    put(tree, &path(place), Entry::Directory(0o755).node());
                }
            }
            Edit::MakeLink(place) => {
                self.written += 1;
                put(tree, &path(place), Node::Link(Link { target: self.written.to_le_bytes().to_vec() }));
                self.live.extend(tree.as_ref().unwrap().get(&path(place)).map(contents).unwrap_or_default());
            }
            Edit::MakeSocket(place) => put(tree, &path(place), Node::Unheld(Unheld::Special)),
        }
    }

    /// Whatever the trees share, the same is done.
    fn agrees_and_plans_without_sharing(&self, before: &Option<Node>, here: &Option<Node>, there: &Option<Node>) {
        let (mut ancestor, here, mut there) = (unshared(before), unshared(here), unshared(there));
        agree(&mut ancestor, here.as_ref(), there.as_mut());
        assert_eq!(ancestor, self.ancestor);
        let plan = |here: &Option<Node>, there: &Option<Node>, ancestor: &Option<Node>| {
            reconcile(ancestor.as_ref(), here.as_ref(), there.as_ref(), Mode::TwoWay)
        };
        assert_eq!(plan(&here, &unshared(&there), &unshared(&ancestor)), plan(&here, &there, &self.ancestor));
    }

    /// Reads both, and does the first steps of each side. Returns how many conflicts were found.
    fn cycle(&mut self, laptop: usize, environment: usize, meanwhile: &[(bool, Edit)], keeps: bool) -> usize {
        let (mut here, mut there) = (self.laptop.clone(), self.environment.clone());
        // What was in common a moment ago is known only if the daemon lived to keep it.
        let before = self.ancestor.clone();
        let changed = agree(&mut self.ancestor, here.as_ref(), there.as_mut());
        assert_eq!(changed, before != self.ancestor);
        self.agrees_and_plans_without_sharing(&before, &here, &there);
        // As a side that reads itself again and finds nothing new has what it had.
        if there == self.environment {
            self.environment.clone_from(&there);
        }
        let intents = std::mem::take(&mut self.intents);
        intents.settle(&mut self.ancestor, here.as_ref(), there.as_ref());
        let plan = reconcile(self.ancestor.as_ref(), here.as_ref(), there.as_ref(), Mode::TwoWay);
        let before = without_removed(self.ancestor.as_ref(), &plan);
        let intents = Intents::of(&plan, here.as_ref(), there.as_ref());
        for (on_laptop, edit) in meanwhile {
            self.edit(*on_laptop, edit);
        }
        for step in plan.laptop.iter().take(laptop) {
            if apply(&mut self.laptop, step) {
                Node::set(&mut here, &step.path, step.new.clone());
            }
        }
        for step in plan.environment.iter().take(environment) {
            if apply(&mut self.environment, step) {
                Node::set(&mut there, &step.path, step.new.clone());
            }
        }
        if keeps {
            // What the users did meanwhile is not known yet.
            agree(&mut self.ancestor, here.as_ref(), there.as_mut());
        } else {
            self.ancestor = before;
            self.intents = intents;
        }
        plan.conflicts.len()
    }
}

/// As the real thing does a step: only if what is there is what was seen.
fn apply(tree: &mut Option<Node>, step: &Step) -> bool {
    let there = match tree.as_ref() {
        Some(root) => root.get(&step.path),
        None => None,
    };
    if there.map(Node::entry) != step.old {
        return false;
    }
    if step.new.is_none() && there.and_then(Node::directory).is_some_and(|directory| !directory.children.is_empty()) {
        return false;
    }
    Node::set(tree, &step.path, step.new.clone())
}

/// Whether a socket on either side stands in the way of what the other has there.
fn blocked(laptop: &Node, environment: &Node) -> bool {
    let mut found = false;
    for node in [laptop, environment] {
        node.walk(&mut RelativePath::ROOT.clone(), &mut |_, node| found |= matches!(node, Node::Unheld(_)));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn both_sides_become_alike_and_no_last_edit_is_lost(events in proptest::collection::vec(event(), 1..24)) {
        let mut world = World::new();
        for event in &events {
            match event {
                Event::Laptop(edit) => world.edit(true, edit),
                Event::Environment(edit) => world.edit(false, edit),
                Event::Cycle { laptop, environment, meanwhile, keeps, complete } => {
                    let (here, there) = if *complete {
                        (usize::MAX, usize::MAX)
                    } else {
                        (laptop.index(6), environment.index(6))
                    };
                    world.cycle(here, there, meanwhile, *keeps);
                }
            }
        }
        let sockets = world.environment.as_ref().is_some_and(|environment| blocked(world.laptop.as_ref().unwrap(), environment));
        for _ in 0..4 {
            world.cycle(usize::MAX, usize::MAX, &[], true);
        }
        let (laptop, environment) = (world.laptop.as_ref().unwrap(), world.environment.as_ref().unwrap());
        let all: BTreeSet<_> = contents(laptop).union(&contents(environment)).copied().collect();
        for content in &world.live {
            prop_assert!(all.contains(content), "an edit is lost:\n{laptop:#?}\n{environment:#?}");
        }
        if !sockets && !blocked(laptop, environment) {
            prop_assert_eq!(laptop, environment);
            prop_assert_eq!(world.ancestor.as_ref(), Some(laptop));
            prop_assert!(reconcile(world.ancestor.as_ref(), Some(laptop), Some(environment), Mode::TwoWay).is_empty());
        }
    }

    #[test]
    fn what_only_one_side_changes_makes_no_conflict(on_laptop: bool, edits in proptest::collection::vec(edit(), 1..30)) {
        let mut world = World::new();
        world.cycle(usize::MAX, usize::MAX, &[], true);
        for edit in &edits {
            world.edit(on_laptop, edit);
            let conflicts = world.cycle(usize::MAX, usize::MAX, &[], true);
            prop_assert_eq!(conflicts, 0);
        }
        let (laptop, environment) = (world.laptop.as_ref().unwrap(), world.environment.as_ref().unwrap());
        if !blocked(laptop, environment) {
            prop_assert_eq!(laptop, environment);
        }
    }
}

/// Edits that take nothing away, and make nothing something of another kind.
fn addition() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|(place, time)| Edit::Write(place, time)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, time)| Edit::Touch(at, time)),
        1 => (any::<Index>(), 0..=0o777_u16).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        2 => place().prop_map(Edit::MakeDirectory),
    ]
}

proptest! {
    #[test]
    fn what_containers_write_is_no_conflict_however_often_the_daemon_dies_in_the_middle(
        rounds in proptest::collection::vec((proptest::collection::vec(addition(), 1..4), 0..9_usize, any::<bool>()), 1..12),
    ) {
        let mut world = World::new();
        world.cycle(usize::MAX, usize::MAX, &[], true);
        for (edits, steps, keeps) in &rounds {
            let (first, meanwhile) = edits.split_first().unwrap();
            world.edit(false, first);
            let meanwhile: Vec<_> = meanwhile.iter().map(|edit| (false, edit.clone())).collect();
            prop_assert_eq!(world.cycle(*steps, usize::MAX, &meanwhile, *keeps), 0);
        }
        for _ in 0..3 {
            prop_assert_eq!(world.cycle(usize::MAX, usize::MAX, &[], true), 0);
        }
        prop_assert_eq!(world.laptop, world.environment);
    }
}

fn file(content: &[u8]) -> Node {
    let modified = Time::default();
    Node::File(File {
        digest: Digest(*blake3_of(content)),
        size: content.len() as u64,
        mode: 0o644,
        modified,
        stamp: 0,
    })
}

fn tree(entries: &[(&str, Node)]) -> Option<Node> {
    let mut tree = empty();
    for (path, node) in entries {
        let path = RelativePath::new(path.as_bytes()).unwrap();
        assert!(Node::set(&mut tree, &path, Some(node.entry())));
    }
    tree
}

fn settle(ancestor: Option<Node>, laptop: Option<Node>, environment: Option<Node>) -> (Node, Vec<RelativePath>) {
    let mut world = World { laptop, environment, ancestor, ..World::new() };
    let found =
        reconcile(world.ancestor.as_ref(), world.laptop.as_ref(), world.environment.as_ref(), Mode::TwoWay).conflicts;
    for _ in 0..2 {
        world.cycle(usize::MAX, usize::MAX, &[], true);
    }
    assert_eq!(world.laptop, world.environment);
    (world.laptop.unwrap(), found)
}

#[test]
fn a_file_that_both_changed_is_kept_twice_and_the_laptops_has_the_name() {
    let (tree, conflicts) =
        settle(tree(&[("a", file(b"old"))]), tree(&[("a", file(b"laptop"))]), tree(&[("a", file(b"environment"))]));
    assert_eq!(conflicts, [RelativePath::new(b"a").unwrap()]);
    let children = &tree.directory().unwrap().children;
    assert_eq!(children.len(), 2);
    assert_eq!(children.get(&b"a"[..]), Some(&file(b"laptop")));
    let (name, beside) = children.iter().find(|(name, _)| is_conflict(name.as_bytes())).unwrap();
    assert!(name.as_bytes().starts_with(b"a.overside-conflict-"));
    assert_eq!(beside, &file(b"environment"));
}

#[test]
fn what_was_deleted_on_one_side_and_changed_on_the_other_stays_and_the_rest_goes() {
    let directory = Entry::Directory(0o755).node();
    let before = [("d", directory.clone()), ("d/same", file(b"1")), ("d/edited", file(b"2"))];
    let after = [("d", directory), ("d/same", file(b"1")), ("d/edited", file(b"3"))];
    let expected = tree(&[("d", Entry::Directory(0o755).node()), ("d/edited", file(b"3"))]).unwrap();
    assert_eq!(settle(tree(&before), tree(&[]), tree(&after)), (expected.clone(), vec![]));
    assert_eq!(settle(tree(&before), tree(&after), tree(&[])), (expected, vec![]));
}

#[test]
fn permissions_of_one_side_and_content_of_the_other_come_together() {
    let Node::File(old) = file(b"old") else { unreachable!() };
    let executable = Node::File(File { mode: 0o755, ..old.clone() });
    let (result, conflicts) =
        settle(tree(&[("a", Node::File(old))]), tree(&[("a", file(b"new"))]), tree(&[("a", executable)]));
    let Node::File(new) = file(b"new") else { unreachable!() };
    assert_eq!(Some(result), tree(&[("a", Node::File(File { mode: 0o755, ..new }))]));
    assert_eq!(conflicts, []);
}

#[test]
fn one_way_keeps_what_the_environment_has_besides_and_replaces_what_it_changed() {
    let laptop = tree(&[("a", file(b"laptop"))]);
    let environment = tree(&[("a", file(b"environment")), ("own", file(b"own"))]);
    let plan = reconcile(laptop.as_ref(), laptop.as_ref(), environment.as_ref(), Mode::OneWay);
    assert_eq!(plan.laptop, []);
    let mut after = environment;
    assert!(plan.environment.iter().all(|step| apply(&mut after, step)));
    assert_eq!(after, tree(&[("a", file(b"laptop")), ("own", file(b"own"))]));
}
