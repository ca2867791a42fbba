//! A laptop's side on file systems that are not like the environment's, as Windows' and USB sticks' are: real ones, in files
//! that are mounted by their own programs. One takes all cases of a name for one and gives back the lower one, and refuses what
//! Windows refuses (NTFS); the other one keeps the case, counts time in seconds and has no links (exFAT). Neither keeps who may
//! execute a file, nor exchanges files. Where they cannot be mounted the tests say so, and test nothing.
//!
//! No file system here gives names back decomposed: that is tried in `sync-core` only.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod pair;

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use overside_sync::{Flushed, Status};
use overside_sync_core::wire::Kind;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use self::pair::{Pair, text, write};

/// A file system in a file.
struct Image {
    directory: tempfile::TempDir,
    loop_device: Option<String>,
}

/// Runs a program; what it says, or why it failed.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    if output.status.success() { Ok(said.trim().to_owned()) } else { Err(format!("{program}: {said}")) }
}

impl Image {
    fn new(kind: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("mounted")).unwrap();
        let mut image = Self { directory, loop_device: None };
        // Sparse; more than the room that a sync leaves on the disk of a laptop.
        fs::File::create(image.file()).unwrap().set_len(1 << 30).unwrap();
        let mounted = if kind == "ntfs" { image.mount_ntfs() } else { image.mount_exfat() };
        if let Err(reason) = mounted {
            eprintln!("SKIPPED: no {kind} can be mounted here: {reason}");
            return None;
        }
        Some(image)
    }

    fn ntfs() -> Option<Self> {
        Self::new("ntfs")
    }

    fn exfat() -> Option<Self> {
        Self::new("exfat")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn mount_ntfs(&self) -> Result<(), String> {
        let (file, mounted) = (self.file(), self.mounted());
        run("mkntfs", &["-F", "-Q", file.to_str().unwrap()])?;
        let options = "ignore_case,windows_names";
        run("lowntfs-3g", &["-o", options, file.to_str().unwrap(), mounted.to_str().unwrap()]).map(drop)
    }

    fn mount_exfat(&mut self) -> Result<(), String> {
        let (file, mounted) = (self.file(), self.mounted());
        run("mkfs.exfat", &[file.to_str().unwrap()])?;
        let device = run("losetup", &["--find", "--show", file.to_str().unwrap()])?;
        self.loop_device = Some(device.clone());
        run("mount.exfat-fuse", &[&device, mounted.to_str().unwrap()]).map(drop)
    }

    /// The program that serves it.
    fn server(&self) -> Option<OwnedFd> {
        let mounted = self.mounted();
        let ours = |entry: &fs::DirEntry| {
            let arguments = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| argument == mounted.as_os_str().as_encoded_bytes())
        };
        let entry = fs::read_dir("/proc").unwrap().flatten().find(ours)?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let server = self.server();
        // At once, and the program ends when the last file is closed: one that another test is about to start has for a moment
        // what is open here.
        if let Err(reason) = run("umount", &["--lazy", self.mounted().to_str().unwrap()]) {
            eprintln!("{reason}");
        }
        if let Some(server) = server {
            let longest = Timespec { tv_sec: 20, tv_nsec: 0 };
            poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&longest)).unwrap();
        }
        if let Some(device) = &self.loop_device {
            run("losetup", &["--detach", device]).unwrap();
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn problems(pair: &Pair) -> Vec<String> {
    let Status { problems, .. } = pair.sync().status();
    problems.into_iter().map(|(path, reason)| format!("{path}: {reason}")).collect()
}

/// Flushes until nothing is left but what can never be brought; returns that.
fn left(pair: &Pair) -> Vec<String> {
    for _ in 0..5 {
        match pair.flush() {
            Flushed::Done => return Vec::new(),
            Flushed::Left(left) if left.iter().all(|(_, reason)| reason.contains("it stays in the environment")) => {
                return left.into_iter().map(|(path, _)| path.to_string()).collect();
            }
            Flushed::Left(_) => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("it never settles: {:?}", pair.flush());
}

/// Bytes that flushes carry when nothing is to be done.
fn carried_at_rest(pair: &Pair) -> u64 {
    left(pair);
    let before = pair.carried.load(Ordering::Relaxed);
    for _ in 0..5 {
        left(pair);
    }
    (pair.carried.load(Ordering::Relaxed) - before) / 5
}

#[test]
fn of_names_that_are_one_here_one_comes_and_the_others_stay_in_the_environment_and_are_listed() {
    for image in [Image::ntfs(), Image::exfat()].into_iter().flatten() {
        let pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("main"), "main"));
        assert_eq!(left(&pair), [""; 0]);
        fs::create_dir(pair.far("Src")).unwrap();
        fs::create_dir(pair.far("src")).unwrap();
        for (path, content) in
            [("README", "large"), ("readme", "small"), ("Src/a", "1"), ("src/a", "2"), ("src/b", "3")]
        {
            write(&pair.far(path), content);
        }
        assert_eq!(left(&pair), ["readme", "src"]);
        assert_eq!(names(&pair.far("")), ["README", "Src", "main", "readme", "src"]);
        assert_eq!(names(&pair.laptop("")).len(), 3);
        assert_eq!((text(&pair.laptop("README")), text(&pair.laptop("Src/a"))), ("large".into(), "1".into()));
        let reason =
            "the file system of this machine takes it for the same name as README; it stays in the environment";
        assert_eq!(problems(&pair)[0], format!("readme: {reason}"));
        // Nothing travels to and fro.
        assert!(carried_at_rest(&pair) < 1000);

        // Both are edited, each where it is.
        write(&pair.laptop("README"), "edited here");
        write(&pair.far("readme"), "edited there");
        left(&pair);
        assert_eq!(
            (text(&pair.far("README")), text(&pair.far("readme"))),
            ("edited here".into(), "edited there".into())
        );

        // When the first one goes the other one takes its place.
        fs_err::remove_file(pair.laptop("README")).unwrap();
        fs::remove_dir_all(pair.far("Src")).unwrap();
        assert_eq!(left(&pair), [""; 0]);
        assert_eq!(names(&pair.far("")), ["main", "readme", "src"]);
        assert_eq!((text(&pair.laptop("readme")), text(&pair.laptop("src/b"))), ("edited there".into(), "3".into()));
    }
}

#[test]
fn a_change_of_case_alone_arrives_on_the_other_side_with_what_lies_below() {
    let Some(image) = Image::exfat() else { return };
    let pair = Pair::at(&image.mounted(), Kind::Directory, |root| {
        fs::create_dir(root.join("Source")).unwrap();
        write(&root.join("Source/Main.c"), "main");
        write(&root.join("Readme"), "readme");
        write(&root.join(".oversideignore"), "**/*.o");
    });
    assert_eq!(left(&pair), [""; 0]);
    // What is ignored goes along.
    write(&pair.far("Source/main.o"), "object");
    write(&pair.laptop("Source/own.o"), "own");
    fs::rename(pair.laptop("Readme"), pair.laptop("README")).unwrap();
    fs::rename(pair.laptop("Source"), pair.laptop("source")).unwrap();
    assert_eq!(left(&pair), [""; 0]);
    assert_eq!(names(&pair.far("")), [".oversideignore", "README", "source"]);
    assert_eq!(names(&pair.far("source")), ["Main.c", "main.o"]);

    fs::rename(pair.far("README"), pair.far("ReadMe")).unwrap();
    fs::rename(pair.far("source"), pair.far("SOURCE")).unwrap();
    fs::rename(pair.far("SOURCE/Main.c"), pair.far("SOURCE/MAIN.C")).unwrap();
    write(&pair.laptop("source/Main.c"), "edited");
    assert_eq!(left(&pair), [""; 0]);
    assert_eq!(names(&pair.laptop("")), [".oversideignore", "ReadMe", "SOURCE"]);
    assert_eq!(names(&pair.laptop("SOURCE")), ["MAIN.C", "own.o"]);
    assert_eq!(names(&pair.far("SOURCE")), ["MAIN.C", "main.o"]);
    assert_eq!(text(&pair.far("SOURCE/MAIN.C")), "edited");
    assert!(carried_at_rest(&pair) < 1000);
}

#[test]
fn a_name_that_is_given_back_in_another_case_keeps_the_environments() {
    let Some(image) = Image::ntfs() else { return };
    let pair = Pair::at(&image.mounted(), Kind::Directory, |_| {});
    left(&pair);
    fs::create_dir(pair.far("Source")).unwrap();
    write(&pair.far("Source/Makefile"), "all:");
    assert_eq!(left(&pair), [""; 0]);
    assert_eq!(names(&pair.laptop("")), ["source"]);
    write(&pair.laptop("source/makefile"), "edited");
    write(&pair.laptop("source/New"), "new");
    assert_eq!(left(&pair), [""; 0]);
    assert_eq!(
        (names(&pair.far("")), names(&pair.far("Source"))),
        (vec!["Source".into()], vec!["Makefile".into(), "new".into()])
    );
    assert_eq!(text(&pair.far("Source/Makefile")), "edited");
    fs::rename(pair.far("Source/Makefile"), pair.far("Source/GNUmakefile")).unwrap();
    fs::rename(pair.far("Source"), pair.far("SOURCE")).unwrap();
    assert_eq!(left(&pair), [""; 0]);
    assert_eq!(
        (names(&pair.laptop("source")), names(&pair.far(""))),
        (vec!["gnumakefile".into(), "new".into()], vec!["SOURCE".into()])
    );
    fs_err::remove_file(pair.laptop("source/gnumakefile")).unwrap();
    assert_eq!(left(&pair), [""; 0]);
    assert_eq!(names(&pair.far("SOURCE")), ["new"]);
    assert!(carried_at_rest(&pair) < 1000);
}

#[test]
fn names_that_cannot_be_here_are_listed_and_stay_and_everything_else_comes() {
    let Some(image) = Image::ntfs() else { return };
    let pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("main"), "main"));
    left(&pair);
    let odd = ["what?", "a:b", "dot.", "space ", "CON", "aux.c", "tab\t", "back\\slash"];
    for name in odd {
        write(&pair.far(name), name);
    }
    fs_err::create_dir_all(pair.far("deep/nul")).unwrap();
    write(&pair.far("deep/nul/file"), "below");
    write(&pair.far("deep/good"), "good");
    // The file system's own files are there, and seen by nobody.
    write(&pair.far("$MFT"), "mine");
    let mut expected: Vec<_> = odd.into_iter().chain(["$MFT", "deep/nul"]).map(str::to_owned).collect();
    expected.sort();
    let mut found = left(&pair);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(
        (names(&pair.laptop("")), names(&pair.laptop("deep"))),
        (vec!["deep".into(), "main".into()], vec!["good".into()])
    );
    assert!(problems(&pair).contains(
        &"a:b: the file system of this machine cannot have this name; it stays in the environment".to_owned()
    ));
    assert!(carried_at_rest(&pair) < 2000);
    for name in odd {
        assert_eq!(text(&pair.far(name)), name);
    }
    write(&pair.laptop("main"), "edited");
    fs::rename(pair.far("what?"), pair.far("what")).unwrap();
    left(&pair);
    assert_eq!((text(&pair.far("main")), text(&pair.laptop("what"))), ("edited".into(), "what?".into()));
    // A directory goes but for what was never here.
    fs::remove_dir_all(pair.laptop("deep")).unwrap();
    left(&pair);
    assert_eq!((names(&pair.far("deep")), text(&pair.far("deep/nul/file"))), (vec!["nul".into()], "below".into()));
}

#[test]
fn an_edit_here_takes_away_neither_executable_bits_nor_exact_times_there() {
    for image in [Image::ntfs(), Image::exfat()].into_iter().flatten() {
        let pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("from-here"), "1"));
        left(&pair);
        write(&pair.far("run.sh"), "#!/bin/sh");
        write(&pair.far("data"), "data");
        for (name, mode) in [("run.sh", 0o750), ("data", 0o640), ("from-here", 0o600)] {
            fs::set_permissions(pair.far(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_001, 123_456_789);
        fs::File::open(pair.far("data")).unwrap().set_modified(time).unwrap();
        assert_eq!(left(&pair), [""; 0]);
        let mode = |name: &str| fs::metadata(pair.far(name)).unwrap().mode() & 0o777;
        write(&pair.laptop("run.sh"), "#!/bin/sh\nexit");
        write(&pair.laptop("from-here"), "2");
        assert_eq!(left(&pair), [""; 0]);
        assert_eq!((text(&pair.far("run.sh")), text(&pair.far("from-here"))), ("#!/bin/sh\nexit".into(), "2".into()));
        assert_eq!([mode("run.sh"), mode("data"), mode("from-here")], [0o750, 0o640, 0o600]);
        assert!(carried_at_rest(&pair) < 1000);
        assert_eq!(fs::metadata(pair.far("data")).unwrap().modified().unwrap(), time);
        assert_eq!(fs::metadata(pair.laptop("data")).unwrap().mtime().abs_diff(1_000_000_001), 0);
    }
}

#[test]
fn edits_within_one_second_are_noticed_where_time_is_counted_in_seconds() {
    let Some(image) = Image::exfat() else { return };
    let pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("count"), "00"));
    left(&pair);
    for count in 10..40 {
        let side = if count % 3 == 0 { pair.far("count") } else { pair.laptop("count") };
        write(&side, &count.to_string());
        assert_eq!(left(&pair), [""; 0]);
        assert_eq!((text(&pair.laptop("count")), text(&pair.far("count"))), (count.to_string(), count.to_string()));
    }
}

#[test]
fn links_are_held_back_where_there_are_none_and_do_not_keep_anybody_waiting() {
    let Some(image) = Image::exfat() else { return };
    let pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("file"), "file"));
    pair.settle();
    symlink("file", pair.far("link")).unwrap();
    fs::create_dir(pair.far("bin")).unwrap();
    symlink("../file", pair.far("bin/tool")).unwrap();
    pair.settle();
    let reason = "the file system of this machine has no symbolic links; it stays in the environment";
    assert_eq!(problems(&pair), [format!("bin/tool: {reason}"), format!("link: {reason}")]);
    // What takes a link's place comes, and what becomes a link stays what it was.
    fs_err::remove_file(pair.far("link")).unwrap();
    write(&pair.far("link"), "no link any more");
    fs_err::remove_file(pair.far("file")).unwrap();
    symlink("link", pair.far("file")).unwrap();
    pair.settle();
    assert_eq!((text(&pair.laptop("link")), text(&pair.laptop("file"))), ("no link any more".into(), "file".into()));
    assert_eq!(fs::read_link(pair.far("file")).unwrap(), Path::new("link"));
    assert!(carried_at_rest(&pair) < 1000);
}

#[test]
fn both_versions_are_kept_where_files_cannot_be_exchanged() {
    for image in [Image::ntfs(), Image::exfat()].into_iter().flatten() {
        let mut pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("a.txt"), "old"));
        left(&pair);
        pair.disconnect();
        write(&pair.laptop("a.txt"), "here");
        write(&pair.far("a.txt"), "there");
        pair.connect();
        assert_eq!(left(&pair), [""; 0]);
        assert_eq!((text(&pair.laptop("a.txt")), text(&pair.far("a.txt"))), ("here".into(), "here".into()));
        let beside = names(&pair.laptop("")).into_iter().find(|name| name.contains("conflict")).unwrap();
        assert_eq!((text(&pair.laptop(&beside)), text(&pair.far(&beside))), ("there".into(), "there".into()));
    }
}

#[test]
fn a_single_file_is_kept_alike_and_its_other_version_comes_to_lie_beside_it() {
    for image in [Image::ntfs(), Image::exfat()].into_iter().flatten() {
        let mut pair = Pair::at(&image.mounted(), Kind::File, |root| write(root, "old"));
        left(&pair);
        write(&pair.far(""), "written there");
        assert_eq!(left(&pair), [""; 0]);
        assert_eq!(text(&pair.laptop("")), "written there");
        pair.disconnect();
        write(&pair.laptop(""), "here");
        write(&pair.far(""), "there");
        pair.connect();
        assert_eq!(left(&pair), [""; 0]);
        assert_eq!((text(&pair.laptop("")), text(&pair.far(""))), ("here".into(), "here".into()));
        let beside = names(&image.mounted()).into_iter().find(|name| name.contains("conflict")).unwrap();
        assert_eq!(text(&image.mounted().join(beside)), "there");
    }
}

#[test]
fn finding_out_what_a_file_system_can_hold_leaves_nothing_and_on_an_ordinary_one_touches_nothing() {
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("a"), "a"));
    let changed = |pair: &Pair| fs::metadata(pair.laptop("")).unwrap().modified().unwrap();
    let before = changed(&pair);
    pair.settle();
    assert_eq!((names(&pair.laptop("")), changed(&pair)), (vec!["a".into()], before));
    for name in ["A", "a:b", "CON", "x."] {
        write(&pair.far(name), name);
    }
    pair.settle();
    assert_eq!(names(&pair.laptop("")), ["A", "CON", "a", "a:b", "x."]);
    assert_eq!(problems(&pair), [""; 0]);
    for image in [Image::ntfs(), Image::exfat()].into_iter().flatten() {
        let pair = Pair::at(&image.mounted(), Kind::Directory, |root| write(&root.join("a"), "a"));
        left(&pair);
        assert_eq!((names(&pair.laptop("")), names(&pair.far(""))), (vec!["a".into()], vec!["a".into()]));
    }
}
