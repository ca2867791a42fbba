//! An environment that lies: whatever it says, nothing outside of the root is written, linked or read, and no more is taken
//! than the limits allow.
//!
//! A fake, because no honest agent says such things: it writes its answers without having heard a question.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use overside_sync::{Limits, Phase, Setup, Sync};
use overside_sync_core::{Mode, RelativePath, wire::Kind};
use proptest::prelude::*;
use serde::{Serialize, Serializer};

/// Bytes as the messages carry them.
#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// As `wire::Answer`, with paths and modes that no honest side can say.
#[derive(Debug, Clone, Serialize)]
enum Answer {
    Opened,
    Changed,
    Entry { path: Bytes, entry: Option<Entry> },
    Scanned { watched: bool },
    Chunk { digest: [u8; 16], length: u32 },
    Data(Bytes),
    Reuse { offset: u64, length: u32 },
    Complete,
    Abandon,
    Failed { path: Bytes, reason: String, passes: bool },
    Broken { reason: String },
}

#[derive(Debug, Clone, Serialize)]
enum Entry {
    File { digest: [u8; 32], size: u64, mode: u16, modified: (i64, u32) },
    Directory(u16),
    Link { target: Vec<u8> },
    Unheld(u8),
}

fn batch(answer: &Answer) -> Vec<u8> {
    let message = postcard::to_stdvec(answer).unwrap();
    let length = u32::try_from(message.len()).unwrap();
    let mut bytes = (length + 4).to_le_bytes().to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(message);
    bytes
}

/// Everything below a directory but one of its entries.
fn everything(directory: &Path, but: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path == but {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() { fs_err::read(&path).unwrap() } else { Vec::new() };
            if metadata.is_dir() {
                left.push(path.clone());
            }
            found.insert(path, (metadata.permissions().mode(), content));
        }
    }
    found
}

struct Laptop {
    home: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Laptop {
    fn new() -> Self {
        let (home, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs_err::create_dir_all(home.path().join("root/sub")).unwrap();
        fs_err::write(home.path().join("root/own"), "own").unwrap();
        fs_err::write(home.path().join("secret"), "secret").unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        std::os::unix::fs::symlink("../.ssh", home.path().join("root/link")).unwrap();
        Self { home, state }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// Hears these answers, and returns when the environment's side has been given up.
    fn hear(&self, answers: &[Answer], noise: &[u8]) {
        let (told, changed) = mpsc::channel();
        let setup = Setup {
            laptop: self.root(),
            kind: Kind::Directory,
            root: RelativePath::new(b"root").unwrap(),
            mode: Mode::TwoWay,
            masks: Vec::new(),
            held: Vec::new(),
            ancestor: self.state.path().join("ancestor"),
            stage: self.state.path().join("stage"),
            limits: Limits { entries: 50, bytes: 1 << 20 },
        };
        let changed_now = move || {
            let _ = told.send(());
        };
        let sync = Sync::start(setup, changed_now).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut bytes: Vec<u8> = answers.iter().flat_map(batch).collect();
        bytes.extend(noise);
        let drain = {
            let mut far = far.try_clone().unwrap();
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut far, &mut std::io::sink());
            })
        };
        // A side that has heard enough closes.
        let write = std::thread::spawn(move || {
            let _ = far.write_all(&bytes);
            let _ = far.shutdown(std::net::Shutdown::Write);
        });
        sync.connect(Box::new(near.try_clone().unwrap()), Box::new(near.try_clone().unwrap()), || {});
        loop {
            let phase = sync.status().phase;
            if matches!(phase, Phase::Failed(_)) || (phase == Phase::Waiting && write.is_finished()) {
                break;
            }
            let _ = changed.recv_timeout(Duration::from_millis(50));
        }
        let _ = near.shutdown(std::net::Shutdown::Both);
        sync.end();
        write.join().unwrap();
        drain.join().unwrap();
    }
}

fn file(content: &[u8], mode: u16) -> Entry {
    Entry::File { digest: *blake3::hash(content).as_bytes(), size: content.len() as u64, mode, modified: (1, 0) }
}

fn entry(path: &str, entry: Entry) -> Answer {
    Answer::Entry { path: Bytes(path.as_bytes().to_vec()), entry: Some(entry) }
}

#[test]
fn a_file_through_a_link_that_leaves_the_root_is_written_nowhere() {
    let laptop = Laptop::new();
    let before = everything(laptop.home.path(), &laptop.root());
    laptop.hear(
        &[
            Answer::Opened,
            entry("", Entry::Directory(0o755)),
            entry("out", Entry::Link { target: b"../.ssh".to_vec() }),
            entry("out/authorized_keys", file(b"key", 0o644)),
            entry("link", Entry::Directory(0o755)),
            entry("link/authorized_keys", file(b"key", 0o644)),
            Answer::Scanned { watched: true },
            Answer::Data(Bytes(b"key".to_vec())),
            Answer::Complete,
            Answer::Data(Bytes(b"key".to_vec())),
            Answer::Complete,
        ],
        b"",
    );
    assert_eq!(everything(laptop.home.path(), &laptop.root()), before);
}

#[test]
fn paths_that_lead_out_and_modes_that_give_rights_end_the_conversation() {
    for bad in [
        entry("../secret", file(b"x", 0o644)),
        entry("/etc/passwd", file(b"x", 0o644)),
        entry("a/../../secret", file(b"x", 0o644)),
        entry("a\0b", file(b"x", 0o644)),
        entry("a", file(b"x", 0o4755)),
        entry("a", Entry::Directory(0o2755)),
        entry("a", Entry::Link { target: vec![b'a'; 5000] }),
        entry(".overside-tmp-1", file(b"x", 0o644)),
    ] {
        let laptop = Laptop::new();
        let before = everything(laptop.home.path(), &laptop.root().join("none"));
        laptop.hear(&[Answer::Opened, entry("", Entry::Directory(0o755)), bad, Answer::Scanned { watched: true }], b"");
        assert_eq!(everything(laptop.home.path(), &laptop.root().join("none")), before);
    }
}

#[test]
fn more_files_than_are_allowed_end_the_conversation() {
    let laptop = Laptop::new();
    let many = (0..1000).map(|number| entry(&format!("f{number}"), file(b"", 0o644)));
    let answers: Vec<Answer> = [Answer::Opened, entry("", Entry::Directory(0o755))]
        .into_iter()
        .chain(many)
        .chain([Answer::Scanned { watched: true }])
        .collect();
    laptop.hear(&answers, b"");
    assert_eq!(fs::read_dir(laptop.root()).unwrap().count(), 3);
}

#[test]
fn a_content_that_is_longer_than_was_said_is_not_taken() {
    let laptop = Laptop::new();
    let answers = [
        Answer::Opened,
        entry("", Entry::Directory(0o755)),
        entry("a", file(b"short", 0o644)),
        Answer::Scanned { watched: true },
        Answer::Data(Bytes(vec![b'x'; 100_000])),
        Answer::Complete,
    ];
    laptop.hear(&answers, b"");
    assert!(!laptop.root().join("a").exists());
}

fn path() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::sample::select(vec![
            "",
            "own",
            "sub",
            "sub/x",
            "link",
            "link/x",
            "new",
            "new/y",
            "..",
            "../secret",
            "/etc/x",
            "sub/../x",
            ".",
        ])
        .prop_map(|path| Bytes(path.as_bytes().to_vec())),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes),
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => (any::<u8>(), any::<u16>()).prop_map(|(content, mode)| file(&[content], mode & 0o777)),
        1 => any::<u16>().prop_map(|mode| file(b"x", mode)),
        2 => (0..0o1000_u16).prop_map(Entry::Directory),
        2 => proptest::sample::select(vec!["..", "../secret", "/etc", "own", ""])
            .prop_map(|target| Entry::Link { target: target.as_bytes().to_vec() }),
        1 => (0..5_u8).prop_map(Entry::Unheld),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        8 => (path(), proptest::option::weighted(0.9, any_entry())).prop_map(|(path, entry)| Answer::Entry { path, entry }),
        3 => Just(Answer::Scanned { watched: true }),
        3 => any::<u8>().prop_map(|byte| Answer::Data(Bytes(vec![byte]))),
        1 => (any::<[u8; 16]>(), any::<u32>()).prop_map(|(digest, length)| Answer::Chunk { digest, length }),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(offset, length)| Answer::Reuse { offset, length }),
        3 => Just(Answer::Complete),
        1 => Just(Answer::Abandon),
        1 => Just(Answer::Changed),
        1 => path().prop_map(|path| Answer::Failed { path, reason: "no".to_owned(), passes: true }),
        1 => Just(Answer::Broken { reason: "no".to_owned() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_environment_says_nothing_outside_of_the_root_changes(
        answers in proptest::collection::vec(answer(), 0..40),
        noise in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let laptop = Laptop::new();
        let before = everything(laptop.home.path(), &laptop.root());
        let begin = [Answer::Opened, entry("", Entry::Directory(0o755))];
        let all: Vec<Answer> = begin.into_iter().chain(answers).collect();
        laptop.hear(&all, &noise);
        prop_assert_eq!(everything(laptop.home.path(), &laptop.root()), before);
        prop_assert_eq!(fs_err::read_to_string(laptop.home.path().join("secret")).unwrap(), "secret");
        for (path, (mode, _)) in everything(&laptop.root(), Path::new("/none")) {
            prop_assert_eq!(mode & 0o7000, 0, "{:?}", path);
        }
    }
}
