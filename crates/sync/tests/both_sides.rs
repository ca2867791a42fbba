//! Two directories on this machine, kept alike as a laptop's and an environment's are: real files, real watches, one stream.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "both_sides/large.rs"]
mod large;
mod pair;
#[cfg(windows)]
#[path = "both_sides/windows.rs"]
mod windows;

#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::{
    fs,
    path::Path,
    sync::{atomic::Ordering, mpsc},
    time::{Duration, SystemTime},
};

use overside_sync::{Flushed, Phase, Setup};
use overside_sync_core::{RelativePath, wire::Kind};

use self::pair::{Pair, setup, text, write};

/// Of a file that is being replaced: on Windows nothing has its name for a moment.
fn text_now(path: &Path) -> String {
    if cfg!(windows) { fs_err::read_to_string(path).unwrap_or_default() } else { text(path) }
}

#[cfg(unix)]
#[test]
fn everything_is_there_after_the_first_flush_with_its_permissions_links_and_times() {
    let pair = Pair::new(Kind::Directory, |root| {
        fs_err::create_dir_all(root.join("src/empty")).unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
        write(&root.join("src/main.rs"), "fn main() {}");
        write(&root.join("run.sh"), "#!/bin/sh");
        fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("src/main.rs", root.join("link")).unwrap();
        symlink("/etc/hostname", root.join("absolute")).unwrap();
        symlink("../../../out", root.join("leaving")).unwrap();
        fs::File::open(root.join("run.sh"))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789))
            .unwrap();
    });
    pair.settle();
    assert_eq!(text(&pair.far("src/main.rs")), "fn main() {}");
    assert!(pair.far("src/empty").is_dir());
    let run = fs::metadata(pair.far("run.sh")).unwrap();
    assert_eq!((run.mode() & 0o7777, run.mtime(), run.mtime_nsec()), (0o750, 1_000_000_000, 123_456_789));
    let private = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((private(&pair.laptop("")), private(&pair.far(""))), (0o700, 0o700));
    for (link, target) in [("link", "src/main.rs"), ("absolute", "/etc/hostname"), ("leaving", "../../../out")] {
        assert_eq!(fs::read_link(pair.far(link)).unwrap(), Path::new(target));
    }
    let status = pair.until(|status| status.phase == Phase::Alike);
    assert_eq!((status.entries, status.bytes), (8, 21));
}

#[cfg(unix)]
#[test]
fn permissions_of_the_root_itself_arrive_on_the_other_side() {
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("a"), "1"));
    pair.settle();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for (here, there, new) in [(pair.laptop(""), pair.far(""), 0o711), (pair.far(""), pair.laptop(""), 0o750)] {
        fs::set_permissions(&here, fs::Permissions::from_mode(new)).unwrap();
        pair.settle();
        assert_eq!(mode(&there), new);
    }
}

#[test]
fn a_change_on_either_side_arrives_without_being_asked_for() {
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("a"), "1"));
    pair.settle();
    write(&pair.laptop("a"), "2");
    pair.until_text(&pair.far("a"), "2");
    write(&pair.far("a"), "3");
    pair.until_text(&pair.laptop("a"), "3");
    fs_err::create_dir_all(pair.far("new/deep")).unwrap();
    write(&pair.far("new/deep/b"), "4");
    pair.until_text(&pair.laptop("new/deep/b"), "4");
    fs::rename(pair.laptop("new"), pair.laptop("moved")).unwrap();
    pair.until_text(&pair.far("moved/deep/b"), "4");
    // Wine does not always tell what happens in a directory that was moved.
    if cfg!(windows) {
        return;
    }
    write(&pair.laptop("moved/deep/b"), "5");
    pair.until_text(&pair.far("moved/deep/b"), "5");
}

// Wine replaces no file that somebody has open.
#[cfg(unix)]
#[test]
fn who_changes_a_file_the_moment_it_arrives_has_a_newer_version_and_no_conflict() {
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("a"), "0"));
    pair.settle();
    for round in 0..60 {
        let (sent, answered) = (format!("{round} from the laptop"), format!("{round} back"));
        fs_err::write(pair.laptop("new"), &sent).unwrap();
        fs::rename(pair.laptop("new"), pair.laptop("a")).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        // Without a pause: it is to be as quick as a program that was told.
        while text(&pair.far("a")) != sent {
            assert!(std::time::Instant::now() < end, "round {round}");
            std::hint::spin_loop();
        }
        fs_err::write(pair.far("new"), &answered).unwrap();
        fs::rename(pair.far("new"), pair.far("a")).unwrap();
        pair.until_text(&pair.laptop("a"), &answered);
    }
    pair.settle();
    assert_eq!(pair.sync().status().conflicts, []);
}

#[test]
fn what_was_written_before_a_flush_is_on_the_other_side_after_it() {
    let pair = Pair::new(Kind::Directory, |_| {});
    pair.settle();
    // Where everything is read each time it takes longer.
    let rounds = if cfg!(windows) { 10 } else { 50 };
    for round in 0..rounds {
        let directory = pair.far(&format!("out/{round}/deep"));
        fs_err::create_dir_all(&directory).unwrap();
        for file in 0..5 {
            write(&directory.join(file.to_string()), &format!("{round} {file}"));
        }
        write(&pair.far("same"), &round.to_string());
        pair.settle();
        for file in 0..5 {
            assert_eq!(text(&pair.laptop(&format!("out/{round}/deep/{file}"))), format!("{round} {file}"));
        }
        assert_eq!(text(&pair.laptop("same")), round.to_string());
    }
    // On wine a directory that is looked at cannot be removed.
    while let Err(error) = fs::remove_dir_all(pair.far("out")) {
        assert!(cfg!(windows) && error.raw_os_error() == Some(32), "{error}");
    }
    pair.settle();
    assert!(!pair.laptop("out").exists());
}

#[test]
fn what_a_file_speaks_of_is_there_before_it() {
    let pair = Pair::new(Kind::Directory, |root| {
        ["a", "a/objects", "b", "b/objects"].iter().for_each(|directory| fs::create_dir(root.join(directory)).unwrap());
        write(&root.join("a/HEAD"), "");
    });
    pair.settle();
    let root = &pair.laptop("");
    for round in 0..60 {
        // As Git does: first what is new, in places before and behind, then what leads there.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for part in 0..8 {
                    let side = if part % 2 == 0 { "a" } else { "b" };
                    write(&root.join(format!("{side}/objects/{round}-{part}")), "object");
                    write(&root.join("new"), &format!("{round}-{part}"));
                    // Wine replaces no file that somebody has open.
                    while let Err(error) = fs::rename(root.join("new"), root.join("a/HEAD")) {
                        assert!(cfg!(windows) && error.kind() == std::io::ErrorKind::PermissionDenied, "{error}");
                    }
                }
            });
            loop {
                let head = text_now(&pair.far("a/HEAD"));
                if let Some((of, part)) = head.split_once('-') {
                    let side = if part.parse::<u32>().unwrap() % 2 == 0 { "a" } else { "b" };
                    assert!(pair.far(&format!("{side}/objects/{head}")).exists(), "{head} is not there");
                    if (of, part) == (round.to_string().as_str(), "7") {
                        break;
                    }
                }
            }
        });
    }
}

#[test]
fn both_versions_are_kept_and_listed_until_one_is_deleted() {
    let mut pair = Pair::new(Kind::Directory, |root| write(&root.join("a.txt"), "old"));
    pair.settle();
    pair.disconnect();
    write(&pair.laptop("a.txt"), "laptop");
    write(&pair.far("a.txt"), "environment");
    pair.connect();
    pair.settle();
    let status = pair.until(|status| status.conflicts.len() == 1);
    let beside = status.conflicts[0].to_string();
    assert!(beside.starts_with("a.txt.overside-conflict-"), "{beside}");
    for side in [pair.laptop(""), pair.far("")] {
        assert_eq!(text(&side.join("a.txt")), "laptop");
        assert_eq!(text(&side.join(&beside)), "environment");
    }
    fs_err::remove_file(pair.laptop(&beside)).unwrap();
    pair.until(|status| status.conflicts.is_empty());
    pair.settle();
    assert!(!pair.far(&beside).exists());
}

#[test]
fn a_daemon_that_begins_again_knows_what_was_deleted_meanwhile() {
    let mut pair = Pair::new(Kind::Directory, |root| {
        write(&root.join("gone"), "1");
        write(&root.join("stays"), "2");
        write(&root.join("edited"), "3");
    });
    pair.settle();
    pair.sync.take().unwrap().end();
    pair.disconnect_far();
    fs_err::remove_file(pair.laptop("gone")).unwrap();
    write(&pair.far("edited"), "4");
    pair.start();
    pair.settle();
    assert!(!pair.far("gone").exists() && !pair.laptop("gone").exists());
    assert_eq!(text(&pair.laptop("edited")), "4");
    assert_eq!(text(&pair.far("stays")), "2");
}

#[test]
fn what_arrived_before_a_daemon_was_killed_and_has_changed_since_is_no_conflict() {
    let mut pair = Pair::new(Kind::Directory, |root| write(&root.join("counter"), "begin"));
    pair.settle();
    let ancestor = setup(pair.directory.path(), Kind::Directory).ancestor;
    for round in 0..40 {
        // What is on the disk in the moment in which the file arrives is all that a daemon leaves that is killed then.
        let arrived = format!("{round} arrives");
        fs_err::write(pair.far("counter"), &arrived).unwrap();
        while text_now(&pair.laptop("counter")) != arrived {
            std::hint::spin_loop();
        }
        let left = fs_err::read(&ancestor).unwrap();
        pair.disconnect();
        pair.sync.take().unwrap().end();
        let later = format!("{round} later");
        write(&pair.far("counter"), &later);
        fs_err::write(&ancestor, left).unwrap();
        pair.start();
        pair.settle();
        assert_eq!(text(&pair.laptop("counter")), later);
        assert_eq!(pair.sync().status().conflicts, [], "round {round}");
    }
}

#[test]
fn a_root_that_is_emptied_asks_and_does_what_it_is_told() {
    let pair = Pair::new(Kind::Directory, |root| ["a", "b", "c"].iter().for_each(|name| write(&root.join(name), name)));
    pair.settle();
    let empty = || ["a", "b", "c"].iter().for_each(|name| fs_err::remove_file(pair.laptop(name)).unwrap());
    // Deleted one after the other, each would be a deletion as any other.
    let aside = pair.directory.path().join("aside");
    fs::rename(pair.laptop(""), &aside).unwrap();
    fs::create_dir(pair.laptop("")).unwrap();
    assert_eq!(pair.flush(), Flushed::Stands { unsaved: false });
    pair.until(|status| matches!(status.phase, Phase::Halted(..)));
    assert_eq!(text(&pair.far("a")), "a");
    pair.sync().go_on(true);
    pair.until_text(&pair.laptop("c"), "c");
    pair.settle();
    empty();
    // Removed, it would keep its name on wine for as long as it is watched.
    fs::rename(pair.laptop(""), pair.directory.path().join("empty")).unwrap();
    fs::create_dir(pair.laptop("")).unwrap();
    let _ = pair.flush();
    pair.sync().go_on(false);
    pair.settle();
    assert_eq!(fs::read_dir(pair.far("")).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_single_file_keeps_its_identity_in_the_environment_when_an_editor_replaces_it() {
    let pair = Pair::new(Kind::File, |root| write(root, "1"));
    pair.settle();
    assert_eq!(text(&pair.far("")), "1");
    let inode = fs::metadata(pair.far("")).unwrap().ino();
    let replacement = pair.directory.path().join("laptop/root~");
    write(&replacement, "22");
    fs::rename(&replacement, pair.laptop("")).unwrap();
    pair.until_text(&pair.far(""), "22");
    assert_eq!(fs::metadata(pair.far("")).unwrap().ino(), inode);
    write(&pair.far(""), "3");
    pair.until_text(&pair.laptop(""), "3");
}

#[test]
fn a_single_file_that_both_changed_is_kept_twice() {
    let mut pair = Pair::new(Kind::File, |root| write(root, "1"));
    pair.settle();
    pair.disconnect();
    write(&pair.laptop(""), "laptop");
    write(&pair.far(""), "environment");
    pair.connect();
    pair.settle();
    assert_eq!((text(&pair.laptop("")), text(&pair.far(""))), ("laptop".to_owned(), "laptop".to_owned()));
    let beside: Vec<_> =
        fs::read_dir(pair.directory.path().join("laptop")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(beside.iter().any(|path| text(path) == "environment"), "{beside:?}");
}

#[test]
fn what_containers_have_something_else_mounted_over_stays_on_its_side() {
    let mut pair = Pair::new(Kind::Directory, |root| {
        fs::create_dir(root.join("node_modules")).unwrap();
        write(&root.join("node_modules/laptops"), "1");
        write(&root.join("a"), "1");
    });
    pair.sync.take().unwrap().end();
    pair.disconnect_far();
    let _ = fs_err::remove_dir_all(pair.directory.path().join("far"));
    let _ = fs_err::remove_file(pair.directory.path().join("state/ancestor"));
    let masks = vec![RelativePath::new(b"node_modules").unwrap()];
    pair.start_with(Setup { masks, ..setup(pair.directory.path(), Kind::Directory) });
    pair.settle();
    assert_eq!(text(&pair.far("a")), "1");
    assert!(!pair.far("node_modules").exists());
    // As the engine does, which mounts over it.
    fs::create_dir(pair.far("node_modules")).unwrap();
    write(&pair.far("node_modules/theirs"), "2");
    pair.settle();
    fs_err::remove_dir_all(pair.far("node_modules")).unwrap();
    pair.settle();
    assert_eq!(text(&pair.laptop("node_modules/laptops")), "1");
    assert!(!pair.laptop("node_modules/theirs").exists());
}

#[test]
fn ignored_files_stay_on_their_side_and_new_rules_hold_at_once() {
    let pair = Pair::new(Kind::Directory, |root| {
        write(&root.join(".oversideignore"), "target\n**/*.log\n");
        fs_err::create_dir_all(root.join("target/debug")).unwrap();
        write(&root.join("target/debug/x"), "x");
        write(&root.join("a.log"), "log");
        write(&root.join("a"), "a");
    });
    pair.settle();
    assert_eq!(text(&pair.far("a")), "a");
    assert!(!pair.far("target").exists() && !pair.far("a.log").exists());
    fs::create_dir(pair.far("target")).unwrap();
    write(&pair.far("target/y"), "y");
    pair.settle();
    assert!(!pair.laptop("target/y").exists());
    write(&pair.laptop(".oversideignore"), "target\n");
    pair.until_text(&pair.far("a.log"), "log");
}

#[test]
fn too_large_a_root_is_not_begun_and_its_largest_directories_are_named() {
    let mut pair = Pair::new(Kind::Directory, |root| {
        for (directory, files) in [("node_modules", 30), ("target", 20), ("data", 10), ("src", 2)] {
            fs::create_dir(root.join(directory)).unwrap();
            (0..files).for_each(|file| write(&root.join(directory).join(file.to_string()), "x"));
        }
    });
    pair.settle();
    pair.sync.take().unwrap().end();
    pair.disconnect_far();
    fs_err::remove_file(pair.directory.path().join("state/ancestor")).unwrap();
    let mut setup = setup(pair.directory.path(), Kind::Directory);
    setup.limits.entries = 50;
    pair.start_with(setup);
    assert_eq!(pair.flush(), Flushed::Stands { unsaved: false });
    let Phase::TooMuch { entries, largest, .. } = pair.sync().status().phase else {
        panic!("{:?}", pair.sync().status())
    };
    assert_eq!(entries, 67);
    let named: Vec<_> = largest.iter().map(|(path, entries, _)| (path.to_string(), *entries)).collect();
    assert_eq!(named, [("node_modules".to_owned(), 31), ("target".to_owned(), 21), ("data".to_owned(), 11)]);
    write(&pair.laptop(".oversideignore"), "node_modules\n");
    pair.settle();
}

#[cfg(unix)]
#[test]
fn sockets_and_files_without_permission_stay_and_stop_nothing() {
    let pair = Pair::new(Kind::Directory, |root| {
        write(&root.join("a"), "a");
        let _ = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    });
    pair.settle();
    assert_eq!(text(&pair.far("a")), "a");
    assert!(!pair.far("socket").exists() && pair.laptop("socket").exists());
}

#[cfg(unix)]
#[test]
fn a_sparse_file_stays_sparse() {
    let pair = Pair::new(Kind::Directory, |root| {
        let file = fs::File::create(root.join("disk")).unwrap();
        file.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 32 << 20).unwrap();
    });
    pair.settle();
    let metadata = fs::metadata(pair.far("disk")).unwrap();
    assert_eq!(metadata.len(), 64 << 20);
    assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn a_file_that_grows_all_the_time_does_not_hold_up_a_flush() {
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("log"), ""));
    pair.settle();
    let (stop, stopped) = mpsc::channel::<()>();
    let path = pair.far("log");
    let writer = std::thread::spawn(move || {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        // Each attempt takes as long as the file is; on a busy machine one without an end would outrun all of them.
        for _ in 0..(64 << 20) / 100 {
            if stopped.try_recv().is_ok() {
                return;
            }
            std::io::Write::write_all(&mut file, &[b'x'; 100]).unwrap();
        }
    });
    for _ in 0..5 {
        write(&pair.far("other"), "done");
        assert!(matches!(pair.flush(), Flushed::Done | Flushed::Left(_)));
        assert_eq!(text(&pair.laptop("other")), "done");
    }
    // It may have reached its length.
    let _ = stop.send(());
    writer.join().unwrap();
    pair.settle();
    assert_eq!(text(&pair.laptop("log")), text(&pair.far("log")));
}

#[cfg(unix)]
#[test]
fn a_file_that_becomes_longer_stays_the_same_file_for_who_follows_it() {
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("log"), ""));
    pair.settle();
    let identities = || [pair.laptop("log"), pair.far("log")].map(|path| fs::metadata(path).unwrap().ino());
    let before = identities();
    let mut expected = String::new();
    for round in 0..40 {
        let side = if round % 2 == 0 { pair.laptop("log") } else { pair.far("log") };
        let line = format!("line {round}\n");
        std::io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(&side).unwrap(), line.as_bytes())
            .unwrap();
        expected += &line;
        pair.settle();
        assert_eq!((text(&pair.laptop("log")), text(&pair.far("log"))), (expected.clone(), expected.clone()));
    }
    assert_eq!(identities(), before);
    // What is not the same up to its old end is another file, as a whole.
    write(&pair.laptop("log"), &format!("another {expected}"));
    pair.settle();
    assert_eq!(text(&pair.far("log")), format!("another {expected}"));
    assert_eq!(pair.sync().status().conflicts, []);
}

#[test]
fn a_directory_that_came_into_the_place_of_another_is_not_taken_for_it() {
    let pair = Pair::new(Kind::Directory, |root| {
        for (directory, content) in [("dist", "old"), ("dist.new", "new")] {
            fs_err::create_dir_all(root.join(directory).join("sub/deep")).unwrap();
            write(&root.join(directory).join("sub/deep/x"), content);
        }
    });
    pair.settle();
    for (here, there) in [(pair.laptop(""), pair.far("")), (pair.far(""), pair.laptop(""))] {
        fs::rename(here.join("dist"), here.join("dist.old")).unwrap();
        fs::rename(here.join("dist.new"), here.join("dist")).unwrap();
        pair.settle();
        assert_eq!(text(&there.join("dist/sub/deep/x")), text(&here.join("dist/sub/deep/x")));
        fs::rename(here.join("dist.old"), here.join("dist.new")).unwrap();
        write(&here.join("dist/sub/deep/x"), "changed after it was moved");
        pair.settle();
        assert_eq!(text(&there.join("dist/sub/deep/x")), "changed after it was moved");
    }
}

/// Bytes that cannot be compressed.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn files_that_change_places_and_files_that_are_the_same_keep_their_contents() {
    let pair = Pair::new(Kind::Directory, |root| {
        for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
            fs_err::write(root.join(name), noise(seed, 100_000)).unwrap();
        }
    });
    pair.settle();
    let before = pair.carried.load(Ordering::Relaxed);
    fs::rename(pair.laptop("a"), pair.laptop("x")).unwrap();
    fs::rename(pair.laptop("b"), pair.laptop("a")).unwrap();
    fs::rename(pair.laptop("x"), pair.laptop("b")).unwrap();
    for copy in ["c1", "c2", "c3"] {
        fs::copy(pair.laptop("c"), pair.laptop(copy)).unwrap();
    }
    pair.settle();
    let carried = pair.carried.load(Ordering::Relaxed) - before;
    for (name, seed) in [("a", 2), ("b", 1), ("c", 3), ("c1", 3), ("c2", 3), ("c3", 3)] {
        assert!(fs_err::read(pair.far(name)).unwrap() == noise(seed, 100_000), "{name}");
    }
    // Within the same moment all of it is known to be there already; otherwise one of them is sent.
    assert!(carried < 250_000, "{carried} bytes");
    for copy in 0..5 {
        fs_err::write(pair.far(&format!("n{copy}")), noise(9, 80_000)).unwrap();
    }
    pair.settle();
    for copy in 0..5 {
        assert!(fs_err::read(pair.laptop(&format!("n{copy}"))).unwrap() == noise(9, 80_000), "{copy}");
    }
}
