//! Single cases of what the histories go through.

use super::*;

/// A world that has settled, with these files in the environment first.
fn settled(kind: Laptop, files: &[&str]) -> World {
    let mut world = World::new(kind);
    world.environment = Some(Entry::Directory(0o755).node());
    for path in files {
        let path = at(path);
        let parent = path.split().unwrap().0;
        if world.environment.as_ref().unwrap().get(&parent).is_none() {
            Node::set(&mut world.environment, &parent, Some(Entry::Directory(0o755)));
        }
        Node::set(&mut world.environment, &path, Some(file(path.as_bytes(), 1)));
    }
    settle(&mut world);
    world
}

fn settle(world: &mut World) {
    assert!((0..6).any(|_| !world.cycle(usize::MAX, usize::MAX, &[], true)));
}

fn names(tree: &Option<Node>) -> Vec<String> {
    let mut found = Vec::new();
    tree.as_ref().unwrap().walk(&mut RelativePath::ROOT.clone(), &mut |path, node| {
        found.push(format!("{path}{}", if matches!(node, Node::Unheld(Unheld::Unfit)) { " held" } else { "" }));
    });
    found.remove(0);
    found
}

#[test]
fn of_two_names_that_are_one_here_the_first_comes_and_the_other_stays_until_the_first_is_gone() {
    let mut world = settled(Laptop::Windows, &["a", "A"]);
    assert_eq!((names(&world.laptop), names(&world.environment)), (vec!["A".into()], vec!["A".into(), "a".into()]));
    let held = |world: &World| world.see(&world.laptop, &world.environment).held_back;
    let name = Name::new(b"A").unwrap();
    assert_eq!(held(&world), [(at("a"), HeldBack::SameName(Some(name)))]);
    // A third one does not take the place of what both have.
    Node::set(&mut world.laptop, &at("A"), None);
    settle(&mut world);
    assert_eq!((names(&world.laptop), names(&world.environment)), (vec!["a".into()], vec!["a".into()]));
    assert_eq!(contents(world.laptop.as_ref().unwrap()), BTreeSet::from([*blake3::hash(b"a").as_bytes()]));
    assert_eq!(held(&world), []);
}

#[test]
fn nothing_is_deleted_in_the_environment_because_the_laptop_moves_where_it_cannot_be() {
    let mut world = settled(Laptop::Plain, &["a", "A", "b"]);
    world.move_to(Laptop::Windows);
    settle(&mut world);
    assert_eq!(
        (names(&world.laptop), names(&world.environment)),
        (vec!["A".into(), "b".into()], vec!["A".into(), "a".into(), "b".into()])
    );
    Node::set(&mut world.laptop, &at("A"), None);
    settle(&mut world);
    assert_eq!(
        (names(&world.laptop), names(&world.environment)),
        (vec!["a".into(), "b".into()], vec!["a".into(), "b".into()])
    );

    let mut world = settled(Laptop::OldApple, &["b:"]);
    Node::set(&mut world.environment, &at("l"), Some(Entry::Link(Link { target: b"x".to_vec() })));
    settle(&mut world);
    world.move_to(Laptop::Windows);
    settle(&mut world);
    world.move_to(Laptop::OldApple);
    settle(&mut world);
    assert_eq!(
        (names(&world.laptop), names(&world.environment)),
        (vec!["b:".into(), "l".into()], vec!["b:".into(), "l".into()])
    );
}

#[test]
fn what_both_have_stays_although_a_name_comes_that_would_be_the_first() {
    let mut world = settled(Laptop::Windows, &["a"]);
    Node::set(&mut world.environment, &at("A"), Some(file(b"A", 1)));
    settle(&mut world);
    assert_eq!((names(&world.laptop), names(&world.environment)), (vec!["a".into()], vec!["A".into(), "a".into()]));
}

#[test]
fn a_directory_whose_case_changes_is_renamed_on_the_other_side_with_what_that_has_changed_in_it() {
    for on_laptop in [true, false] {
        let mut world = settled(Laptop::Windows, &["a/b", "a/\u{e9}"]);
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        let (renamed, edited) = if on_laptop {
            (&mut world.laptop, &mut world.environment)
        } else {
            (&mut world.environment, &mut world.laptop)
        };
        assert!(Node::rename(renamed, &RelativePath::ROOT, &name("a"), &name("A")));
        let entry = if on_laptop { file(b"new", 9) } else { Laptop::Windows.keep(file(b"new", 9)) };
        Node::set(edited, &at("a/b"), Some(entry));
        settle(&mut world);
        assert_eq!(names(&world.laptop), ["A", "A/b", "A/\u{e9}"]);
        assert_eq!(names(&world.environment), names(&world.laptop));
        assert_eq!(contents(world.laptop.as_ref().unwrap()).len(), 2);
        assert!(contents(world.environment.as_ref().unwrap()).contains(blake3::hash(b"new").as_bytes()));
    }
}

#[test]
fn what_cannot_be_renamed_here_gets_its_old_name_back_there() {
    let mut world = settled(Laptop::Windows, &["a/b"]);
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    assert!(Node::rename(&mut world.environment, &RelativePath::ROOT, &name("a"), &name("A")));
    let renames = |world: &World| world.see(&world.laptop, &world.environment).renames;
    let wanted = renames(&world).remove(0);
    assert_eq!((wanted.side, &wanted.from, &wanted.to), (Some(Side::Laptop), &name("a"), &name("A")));
    assert!(Node::rename(&mut world.ancestor, &wanted.directory, &wanted.common, &wanted.to));
    let back = renames(&world).remove(0);
    assert_eq!((back.side, &back.from, &back.to), (Some(Side::Environment), &name("A"), &name("a")));
    settle(&mut world);
    assert_eq!(
        (names(&world.laptop), names(&world.environment)),
        (vec!["a".into(), "a/b".into()], vec!["a".into(), "a/b".into()])
    );
}

#[test]
fn a_decomposed_name_keeps_the_environments_form_and_a_new_one_comes_composed() {
    let mut world = settled(Laptop::OldApple, &["\u{e9}"]);
    Node::set(&mut world.laptop, &at("e\u{301}"), Some(file(b"edited", 2)));
    Node::set(&mut world.laptop, &at("E\u{301}x"), Some(file(b"new", 2)));
    settle(&mut world);
    assert_eq!(names(&world.environment), ["\u{c9}x", "\u{e9}"]);
    assert_eq!(names(&world.laptop), ["E\u{301}x", "e\u{301}"]);
    assert!(contents(world.environment.as_ref().unwrap()).contains(blake3::hash(b"edited").as_bytes()));
}

#[test]
fn what_the_laptop_cannot_keep_of_a_file_is_the_environments() {
    let mut world = settled(Laptop::Windows, &["a"]);
    let Some(Node::File(file_there)) = world.environment.as_mut().unwrap().get_mut(&at("a")) else { unreachable!() };
    file_there.mode = 0o755;
    assert!(!world.cycle(usize::MAX, usize::MAX, &[], true));
    Node::set(&mut world.laptop, &at("a"), Some(Laptop::Windows.keep(file(b"edited", 40))));
    settle(&mut world);
    let Some(Node::File(there)) = world.environment.as_ref().unwrap().get(&at("a")) else { unreachable!() };
    assert_eq!((there.mode, there.digest.0), (0o755, *blake3::hash(b"edited").as_bytes()));
}
