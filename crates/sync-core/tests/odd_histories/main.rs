//! Random histories of an environment and a laptop whose file system takes several names for one, gives names back in another
//! form, refuses some, and keeps neither permissions nor exact times: they settle, and no last edit is lost.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cases;
mod laptop;

use std::collections::{BTreeMap, BTreeSet};

use overside_sync_core::{
    Digest, Entry, File, HeldBack, Link, Mode, Name, Node, RelativePath, Rename, Seen, Side, Step, Time, Traits,
    Unheld, View, agree, reconcile, without_removed,
};
use proptest::{prelude::*, sample::Index};

use self::laptop::Laptop;

/// Few names, so that the two sides meet: of the first five two pairs and one triple are one name to some file system.
const NAMES: [&str; 7] = ["a", "A", "\u{e9}", "e\u{301}", "\u{c9}", "b", "b:"];

#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<usize>, u8),
    Chmod(Index, u16),
    Delete(Index),
    /// To another name in the same directory, perhaps one that differs in case only.
    Rename(Index, usize),
    MakeDirectory(Vec<usize>),
    MakeLink(Vec<usize>),
}

#[derive(Debug, Clone)]
enum Event {
    Edit(bool, Edit),
    /// The laptop's files are copied to another file system, which takes the place of the first.
    Move(Laptop),
    Cycle {
        laptop: Index,
        environment: Index,
        meanwhile: Vec<(bool, Edit)>,
        keeps: bool,
        complete: bool,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = || proptest::collection::vec(0..NAMES.len(), 1..4);
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|(place, time)| Edit::Write(place, time)),
        1 => (any::<Index>(), 0..=0o777_u16).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        3 => any::<Index>().prop_map(Edit::Delete),
        4 => (any::<Index>(), 0..NAMES.len()).prop_map(|(at, to)| Edit::Rename(at, to)),
        3 => place().prop_map(Edit::MakeDirectory),
        1 => place().prop_map(Edit::MakeLink),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let meanwhile = proptest::collection::vec((any::<bool>(), edit()), 0..3);
    prop_oneof![
        8 => (any::<bool>(), edit()).prop_map(|(side, edit)| Event::Edit(side, edit)),
        1 => laptop().prop_map(Event::Move),
        4 => (any::<Index>(), any::<Index>(), meanwhile, any::<bool>(), any::<bool>()).prop_map(
            |(laptop, environment, meanwhile, keeps, complete)| Event::Cycle { laptop, environment, meanwhile, keeps, complete }
        ),
    ]
}

fn laptop() -> impl Strategy<Value = Laptop> {
    use Laptop::{Apple, Lowering, OldApple, Plain, Windows};
    proptest::sample::select(vec![Windows, Apple, OldApple, Lowering, Plain])
}

fn at(path: &str) -> RelativePath {
    RelativePath::new(path.as_bytes()).unwrap()
}

fn contents(node: &Node) -> BTreeSet<[u8; 32]> {
    let mut found = BTreeSet::new();
    node.walk(&mut RelativePath::ROOT.clone(), &mut |_, node| match node {
        Node::File(file) => drop(found.insert(file.digest.0)),
        Node::Link(link) => drop(found.insert(*blake3::hash(&link.target).as_bytes())),
        _ => {}
    });
    found
}

fn folded(path: &RelativePath) -> String {
    Laptop::Apple.key(&path.to_string())
}

fn places(tree: &Node) -> Vec<(String, [u8; 32])> {
    let mut found = Vec::new();
    tree.walk(&mut RelativePath::ROOT.clone(), &mut |path, node| {
        if node.directory().is_none() {
            found.extend(contents(node).into_iter().map(|content| (folded(path), content)));
        }
    });
    found
}

fn file(content: &[u8], time: u8) -> Entry {
    let modified = Time { seconds: i64::from(time), nanoseconds: 5 };
    Entry::File(File { digest: Digest(*blake3::hash(content).as_bytes()), size: 1, mode: 0o644, modified, stamp: 0 })
}

struct World {
    kind: Laptop,
    traits: Traits,
    laptop: Option<Node>,
    environment: Option<Node>,
    ancestor: Option<Node>,
    /// Contents that a user wrote and that no user has replaced or deleted since.
    live: BTreeSet<[u8; 32]>,
    /// Where contents have ever been, whatever the names' form.
    been: BTreeSet<(String, [u8; 32])>,
    written: u32,
}

impl World {
    fn new(kind: Laptop) -> Self {
        let laptop = Some(kind.keep(Entry::Directory(0o755)).node());
        let (environment, ancestor) = (None, None);
        Self {
            kind,
            traits: kind.traits(),
            laptop,
            environment,
            ancestor,
            live: BTreeSet::new(),
            been: BTreeSet::new(),
            written: 0,
        }
    }

    /// As a person or a program does it.
    fn edit(&mut self, on_laptop: bool, edit: &Edit) {
        let kind = if on_laptop { Some(self.kind) } else { None };
        let side = if on_laptop { &mut self.laptop } else { &mut self.environment };
        let Some(tree) = side.as_mut() else { return };
        let find = |tree: &Node, path: RelativePath| match kind {
            Some(kind) => kind.find(tree, &path),
            None => Some(path),
        };
        let keep = |entry: Entry| kind.map_or(entry.clone(), |kind| kind.keep(entry));
        let path = |place: &[usize]| at(&place.iter().map(|name| NAMES[*name]).collect::<Vec<_>>().join("/"));
        let mut known = Vec::new();
        tree.walk(&mut RelativePath::ROOT.clone(), &mut |path, _| known.push(path.clone()));
        known.remove(0);
        let chosen = |index: &Index| (!known.is_empty()).then(|| index.get(&known).clone());
        let entry = match edit {
            Edit::Write(place, time) => {
                self.written += 1;
                Some((path(place), file(&self.written.to_le_bytes(), *time)))
            }
            Edit::MakeDirectory(place) => Some((path(place), Entry::Directory(0o755))),
            Edit::MakeLink(_) if kind.is_some_and(|kind| !kind.is_rich()) => None,
            Edit::MakeLink(place) => {
                self.written += 1;
                Some((path(place), Entry::Link(Link { target: self.written.to_le_bytes().to_vec() })))
            }
            _ => None,
        };
        if let Some((path, entry)) = entry {
            let Some(path) = find(tree, path) else { return };
            let before = tree.get(&path);
            let is_directory = before.is_some_and(|node| node.directory().is_some());
            let in_directory = tree.get(&path.split().unwrap().0).is_some_and(|node| node.directory().is_some());
            if is_directory || !in_directory || (before.is_some() && matches!(entry, Entry::Directory(_))) {
                return;
            }
            let gone = before.map(contents).unwrap_or_default();
            self.live.retain(|content| !gone.contains(content));
            let node = keep(entry);
            self.live.extend(contents(&node.clone().node()));
            Node::set(side, &path, Some(node));
            self.remember();
            return;
        }
        match edit {
            Edit::Chmod(index, mode) if kind.is_none_or(Laptop::is_rich) => {
                let Some(path) = chosen(index) else { return };
                match tree.get_mut(&path) {
                    Some(Node::File(file)) => file.mode = *mode,
                    Some(Node::Directory(directory)) => directory.mode = *mode,
                    _ => {}
                }
            }
            Edit::Delete(index) => {
                let Some(path) = chosen(index) else { return };
                let gone = contents(tree.get(&path).unwrap());
                self.live.retain(|content| !gone.contains(content));
                Node::set(side, &path, None);
            }
            Edit::Rename(index, name) => {
                let Some(from) = chosen(index) else { return };
                let (directory, old) = from.split().unwrap();
                let Some(to) = find(tree, directory.child(&Name::new(NAMES[*name].as_bytes()).unwrap())) else {
                    return;
                };
                let new = if to == from {
                    let form = kind.map_or_else(|| NAMES[*name].to_owned(), |kind| kind.form(NAMES[*name]));
                    Name::new(form.as_bytes()).unwrap()
                } else {
                    let gone = tree.get(&to).map(contents).unwrap_or_default();
                    self.live.retain(|content| !gone.contains(content));
                    Node::set(side, &to, None);
                    to.split().unwrap().1
                };
                Node::rename(side, &directory, &old, &new);
                // Where it was before, it is no change if a daemon died in between.
                for (place, content) in places(side.as_ref().unwrap()) {
                    if place.starts_with(&folded(&directory.child(&new))) && self.been.contains(&(place, content)) {
                        self.live.remove(&content);
                    }
                }
            }
            _ => {}
        }
        self.remember();
    }

    fn remember(&mut self) {
        for side in [&self.laptop, &self.environment] {
            self.been.extend(side.iter().flat_map(places));
        }
    }

    /// As a program copies that leaves out what cannot be had, and of several that are one takes the first.
    fn move_to(&mut self, kind: Laptop) {
        let before = self.laptop.take().unwrap();
        (self.kind, self.traits) = (kind, kind.traits());
        self.laptop = Some(kind.keep(Entry::Directory(0o755)).node());
        let there: BTreeSet<_> = self.environment.iter().flat_map(places).collect();
        let mut lost = BTreeSet::new();
        before.walk(&mut RelativePath::ROOT.clone(), &mut |path, node| {
            let tree = self.laptop.as_ref().unwrap();
            let place = kind.find(tree, path).filter(|_| kind.is_rich() || !matches!(node, Node::Link(_)));
            let is_refused = place.is_none();
            let is_copied = place
                .filter(|place| tree.get(place).is_none())
                .is_some_and(|place| Node::set(&mut self.laptop, &place, Some(kind.keep(node.entry()))));
            if !is_copied && node.directory().is_none() {
                // What gave way looks as if a person had put the other one in its place; what is refused may be there still.
                let still = |content: &[u8; 32]| is_refused && there.contains(&(folded(path), *content));
                lost.extend(contents(node).into_iter().filter(|content| !still(content)));
            }
        });
        self.live.retain(|content| !lost.contains(content));
    }

    fn see(&self, laptop: &Option<Node>, environment: &Option<Node>) -> Seen {
        let unfit = BTreeMap::new();
        let view = View { traits: &self.traits, unfit: &unfit, mode: Mode::TwoWay };
        let seen = view.of(self.ancestor.as_ref(), laptop.as_ref(), environment.as_ref());
        if view.is_ordinary() {
            assert_eq!((&seen.laptop, &seen.environment), (laptop, environment));
        }
        seen
    }

    /// As the real thing renames: not what has changed, and to no name that is taken.
    fn rename(&mut self, seen: &Seen, rename: &Rename) -> bool {
        match rename.side {
            None => true,
            Some(Side::Environment) => Node::rename(&mut self.environment, &rename.directory, &rename.from, &rename.to),
            Some(Side::Laptop) => {
                let directory = seen.on_laptop(&rename.directory);
                let taken = self.kind.find(self.laptop.as_ref().unwrap(), &directory.child(&rename.to));
                assert_eq!(taken, Some(directory.child(&rename.from)));
                let to = self.kind.form(str::from_utf8(rename.to.as_bytes()).unwrap());
                Node::rename(&mut self.laptop, &directory, &rename.from, &Name::new(to.as_bytes()).unwrap())
            }
        }
    }

    /// Reads both, and does the first steps of each side. Returns whether anything was to be done.
    fn cycle(&mut self, laptop: usize, environment: usize, meanwhile: &[(bool, Edit)], keeps: bool) -> bool {
        let (mut seen, mut renamed) = (self.see(&self.laptop, &self.environment), false);
        let kept = self.ancestor.clone();
        while !seen.renames.is_empty() {
            for rename in seen.renames.clone() {
                assert!(self.rename(&seen, &rename), "{rename:?}");
                assert!(Node::rename(&mut self.ancestor, &rename.directory, &rename.common, &rename.to));
            }
            renamed = true;
            seen = self.see(&self.laptop, &self.environment);
        }
        let (mut here, mut there) = (self.laptop.clone(), self.environment.clone());
        seen.forget(&mut self.ancestor);
        agree(&mut self.ancestor, seen.laptop.as_ref(), seen.environment.as_mut());
        let plan = reconcile(self.ancestor.as_ref(), seen.laptop.as_ref(), seen.environment.as_ref(), Mode::TwoWay);
        let before = if plan.is_empty() { kept } else { without_removed(self.ancestor.as_ref(), &plan) };
        for (on_laptop, edit) in meanwhile {
            self.edit(*on_laptop, edit);
        }
        for step in seen.steps_on_laptop(&plan.laptop, here.as_ref()).iter().take(laptop) {
            if self.apply(step) {
                Node::set(&mut here, &step.path, step.new.clone().map(|entry| self.kind.keep(entry)));
            }
        }
        for step in plan.environment.iter().take(environment) {
            if apply(&mut self.environment, &step.path, step) {
                Node::set(&mut there, &step.path, step.new.clone());
            }
        }
        if keeps {
            let mut seen = self.see(&here, &there);
            seen.forget(&mut self.ancestor);
            agree(&mut self.ancestor, seen.laptop.as_ref(), seen.environment.as_mut());
        } else {
            self.ancestor = before;
        }
        renamed || !plan.is_empty()
    }

    /// On the laptop.
    fn apply(&mut self, step: &Step) -> bool {
        let Some(path) = self.kind.find(self.laptop.as_ref().unwrap(), &step.path) else {
            panic!("a name that is refused is to be made: {step:?}")
        };
        assert!(self.kind.is_rich() || !matches!(step.new, Some(Entry::Link(_))), "{step:?}");
        let exact = step.old.is_none() || path == step.path;
        let step = Step { new: step.new.clone().map(|entry| self.kind.keep(entry)), ..step.clone() };
        exact && apply(&mut self.laptop, &path, &step)
    }
}

fn apply(tree: &mut Option<Node>, path: &RelativePath, step: &Step) -> bool {
    let there = tree.as_ref().and_then(|tree| tree.get(path));
    let is_full = there.and_then(Node::directory).is_some_and(|directory| !directory.children.is_empty());
    if there.map(Node::entry) != step.old || (step.new.is_none() && is_full) {
        return false;
    }
    Node::set(tree, path, step.new.clone())
}

fn has_unheld(tree: Option<&Node>) -> bool {
    let mut found = false;
    if let Some(tree) = tree {
        tree.walk(&mut RelativePath::ROOT.clone(), &mut |_, node| found |= matches!(node, Node::Unheld(_)));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn an_odd_laptop_and_an_environment_settle_and_no_last_edit_is_lost(
        kind in laptop(),
        events in proptest::collection::vec(event(), 1..24),
    ) {
        let mut world = World::new(kind);
        for event in &events {
            match event {
                Event::Edit(on_laptop, edit) => world.edit(*on_laptop, edit),
                Event::Move(to) => {
                    world.move_to(*to);
                    // That what it refuses is missing is seen there and nowhere else.
                    world.cycle(0, 0, &[], true);
                }
                Event::Cycle { laptop, environment, meanwhile, keeps, complete } => {
                    let most = |index: &Index| if *complete { usize::MAX } else { index.index(6) };
                    world.cycle(most(laptop), most(environment), meanwhile, *keeps);
                }
            }
        }
        let settled = (0..12).any(|_| !world.cycle(usize::MAX, usize::MAX, &[], true));
        let (laptop, environment) = (world.laptop.as_ref().unwrap(), world.environment.as_ref().unwrap());
        prop_assert!(settled, "{:?} {:#?}\n{:#?}", world.ancestor, laptop, environment);
        let all: BTreeSet<_> = contents(laptop).union(&contents(environment)).copied().collect();
        for content in &world.live {
            prop_assert!(all.contains(content), "an edit is lost:\n{laptop:#?}\n{environment:#?}");
        }
        let seen = world.see(&world.laptop, &world.environment);
        prop_assert!(seen.renames.is_empty());
        // What is not held back is alike.
        if seen.held_back.is_empty() {
            prop_assert!(!has_unheld(seen.environment.as_ref()));
            prop_assert_eq!(&seen.laptop, &seen.environment);
            prop_assert_eq!(&world.ancestor, &seen.laptop);
            // Without links and what keeps few permissions the environment's own are what they were.
            prop_assert_eq!(world.environment.as_ref(), seen.environment.as_ref());
        }
    }
}
