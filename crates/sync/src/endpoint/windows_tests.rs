//! What an environment has and Windows does not.

use std::sync::mpsc;

use fs_err::os::windows::fs::OpenOptionsExt;
use overside_sync_core::{Alike, Link, Time, Unheld};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_FLAG_BACKUP_SEMANTICS, FILE_LIST_DIRECTORY, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
};

use super::*;

fn endpoint(directory: &Path) -> Endpoint {
    let mut endpoint =
        Endpoint::open(directory.join("root"), Kind::Directory, &directory.join("stage"), Side::Laptop, || {}).unwrap();
    endpoint.scan(true).unwrap();
    endpoint
}

fn path(name: &str) -> RelativePath {
    RelativePath::ROOT.child(&Name::new(name.as_bytes()).unwrap())
}

/// A step that makes a file.
fn file(endpoint: &mut Endpoint, name: &str, text: &[u8], mode: u16) -> Step {
    let digest = Digest(*blake3::hash(text).as_bytes());
    let mut incoming = endpoint.inbox().receive(digest, text.len() as u64).unwrap();
    incoming.write(text).unwrap();
    let received = endpoint.inbox().complete(incoming, true).unwrap().unwrap();
    endpoint.keep(received);
    let modified = Time { seconds: 1_000_000_000, nanoseconds: 100 };
    let file = File { digest, size: text.len() as u64, mode, modified, stamp: 0 };
    Step { path: path(name), old: None, new: Some(Entry::File(file)) }
}

#[test]
fn a_root_is_known_to_hold_what_windows_holds() {
    let directory = tempfile::tempdir().unwrap();
    fs_err::create_dir(directory.path().join("root")).unwrap();
    let laptop = endpoint(directory.path());
    let traits = laptop.traits();
    assert_eq!((traits.case, traits.composition), (Alike::Kept, Alike::Never));
    assert!(traits.no_permissions && traits.rounding == 100, "{traits:?}");
    for name in ["a:b", "nul", "end.", "end ", "a\u{1}"] {
        assert!(!traits.refused.takes(name.as_bytes()), "{name}");
    }
    assert!(traits.refused.takes("grüße (1).txt".as_bytes()));
}

#[test]
fn names_and_links_that_windows_cannot_have_are_told_and_made_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    fs_err::create_dir(directory.path().join("root")).unwrap();
    let mut laptop = endpoint(directory.path());
    let names = ["a:b", "what?", "aux", "NUL.txt", "com1", "end.", "end ", "back\\slash", "a\u{1}", "..."];
    let mut steps: Vec<Step> = names.map(|name| file(&mut laptop, name, b"text", 0o644)).into();
    let link = |name, target: &[u8]| Step {
        path: path(name),
        old: None,
        new: Some(Entry::Link(Link { target: target.to_vec() })),
    };
    steps.extend([link("stream", b"a:b"), link("slash", b"a\\b"), link("bytes", b"\xff")]);
    let bytes = Name::new(b"\xff").unwrap();
    steps.push(Step { path: RelativePath::ROOT.child(&bytes), old: None, new: Some(Entry::Directory(0o755)) });
    let count = steps.len();
    let (changes, failures) = laptop.apply(&steps);
    assert_eq!((changes.len(), failures.len()), (0, count), "{changes:?} {failures:?}");
    assert!(failures.iter().all(|failure| failure.held == Some(HeldBack::Name)), "{failures:?}");
    assert_eq!(fs_err::read_dir(directory.path().join("root")).unwrap().count(), 0);
    let allowed = ["auxiliary", "com", "com10", "nul-", "a.b", ".hidden", "ümlaut"];
    let steps: Vec<Step> = allowed.map(|name| file(&mut laptop, name, b"text", 0o644)).into();
    let (_, failures) = laptop.apply(&steps);
    assert_eq!(failures, []);
    assert_eq!(fs_err::read_dir(directory.path().join("root")).unwrap().count(), allowed.len());
}

/// Opens a directory as another program may.
fn opened(directory: &Path, access: u32, shared: u32) -> OpenFile {
    let mut options = fs_err::OpenOptions::new();
    options.access_mode(access).share_mode(shared).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    options.open(directory).unwrap().into_parts().0
}

#[test]
fn a_directory_that_somebody_has_for_himself_is_not_gone() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("root/below");
    fs_err::create_dir_all(&below).unwrap();
    fs_err::write(below.join("a"), "1").unwrap();
    let mut laptop = endpoint(directory.path());
    let alone = opened(&below, FILE_LIST_DIRECTORY, 0);
    assert_eq!(laptop.scan(true).unwrap().last(), Some(&(path("below"), Some(Entry::Unheld(Unheld::Unreadable)))));
    drop(alone);
    laptop.scan(true).unwrap();
    assert!(matches!(laptop.tree().unwrap().get(&path("below")), Some(Node::Directory(_))));
}

// Wine lets nobody list a directory that is being removed, Windows does.
#[test]
fn a_directory_that_somebody_is_about_to_remove_ends_no_scan() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("root/below");
    fs_err::create_dir_all(&below).unwrap();
    let (sender, told) = mpsc::channel();
    let mut laptop = Endpoint::open(
        directory.path().join("root"),
        Kind::Directory,
        &directory.path().join("stage"),
        Side::Laptop,
        move || sender.send(()).unwrap_or_default(),
    )
    .unwrap();
    laptop.scan(true).unwrap();
    let removed = opened(&below, DELETE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE);
    fs_err::write(below.join("a"), "1").unwrap();
    told.recv().unwrap();
    laptop.scan(false).unwrap();
    assert!(laptop.tree().unwrap().get(&path("below")).is_some());
    laptop.scan(true).unwrap();
    assert!(laptop.tree().unwrap().get(&path("below")).is_some());
    laptop.measure().unwrap();
    drop(removed);
    laptop.scan(true).unwrap();
    assert!(laptop.file(&path("below").child(&Name::new(b"a").unwrap())).is_some());
}
