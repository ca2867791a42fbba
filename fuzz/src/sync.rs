//! The laptop's side of a sync with an environment that says anything: nothing outside of the root changes, nothing gets more
//! than permissions, and what is heard is never more than the limits allow.

use crate::Target;

/// Whatever bytes come: the stream itself.
pub(crate) fn stream() -> Target {
    #[cfg(unix)]
    return unix::stream();
    #[cfg(not(unix))]
    Box::new(|_| {})
}

/// Messages that make sense, each by itself, in any order.
pub(crate) fn answers() -> Target {
    #[cfg(unix)]
    return unix::answers();
    #[cfg(not(unix))]
    Box::new(|_| {})
}

#[cfg(unix)]
mod unix {
    use std::{
        collections::BTreeMap,
        fs::Permissions,
        io::{self, Cursor, Read, Write},
        os::unix::fs::{PermissionsExt, symlink},
        path::{Path, PathBuf},
        sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
        time::{Duration, SystemTime},
    };

    use fs_err as fs;
    use overside_sync::{Limits, Setup, Sync};
    use overside_sync_core::{
        Digest, Entry, File, Link, Mode, RelativePath, Time, Unheld,
        wire::{Answer, Chunk, Kind},
    };

    use crate::{Target, script::Script};

    /// Entries that the root may have.
    const MOST: u64 = 50;
    /// Who says nothing for so long has heard all, or waits for more.
    const SILENCE: Duration = Duration::from_millis(40);
    /// How long the laptop may take until it asks what there is; where what is said first makes no sense it never does.
    const SOON: Duration = Duration::from_millis(100);
    /// Longest that one input may take.
    const PATIENCE: Duration = Duration::from_secs(20);

    pub(super) fn stream() -> Target {
        Box::new(|input| drop(hear(input.to_vec(), SOON)))
    }

    pub(super) fn answers() -> Target {
        Box::new(|input| {
            let mut script = Script(&input[..input.len().min(512)]);
            let mut bytes = batch(&Answer::Opened);
            while !script.is_over() {
                bytes.extend(batch(&answer(&mut script)));
            }
            drop(hear(bytes, SOON));
        })
    }

    /// One message as it travels, alone and not compressed.
    fn batch(answer: &Answer) -> Vec<u8> {
        let message = postcard::to_stdvec(answer).unwrap();
        let length = u32::try_from(message.len()).unwrap();
        [&(length + 4).to_le_bytes()[..], &length.to_le_bytes(), &message].concat()
    }

    /// What the laptop has in a large file.
    fn large() -> Vec<u8> {
        let mut bytes = vec![0; 2 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn path(script: &mut Script<'_>) -> RelativePath {
        let words = ["", "own", "sub", "sub/x", "large", "link", "link/x", "new", "new/y", ".oversideignore"];
        RelativePath::new(script.one_of(&words).as_bytes()).unwrap()
    }

    /// A content that may be sent as well.
    fn content(script: &mut Script<'_>) -> Vec<u8> {
        match script.byte() {
            0 => [large(), vec![7; 1 << 20]].concat(),
            1 => large(),
            byte => vec![byte; usize::from(byte % 9)],
        }
    }

    fn entry(script: &mut Script<'_>) -> Option<Entry> {
        let mode = u16::from_le_bytes([script.byte(), script.byte() & 1]);
        match script.byte() % 8 {
            0 => None,
            1 => Some(Entry::Directory(mode)),
            2 => Some(Entry::Link(Link { target: script.one_of(&["..", "../secret", "/etc", "own"]).into() })),
            3 => Some(Entry::Unheld(Unheld::Special)),
            kind => {
                let content = content(script);
                let size = if kind == 4 { u64::from(script.byte()) << 56 } else { content.len() as u64 };
                let digest = Digest(*blake3::hash(&content).as_bytes());
                let modified = Time { seconds: i64::from(script.byte() & 3) << 61, nanoseconds: 0 };
                Some(Entry::File(File { digest, size, mode, modified, stamp: 0 }))
            }
        }
    }

    fn answer(script: &mut Script<'_>) -> Answer {
        let number = |script: &mut Script<'_>| u64::from(script.byte()) << (script.byte() % 57);
        match script.byte() % 16 {
            0..6 => Answer::Entry { path: path(script), entry: entry(script) },
            6 | 7 => Answer::Scanned { watched: script.byte() & 1 == 0 },
            8 | 9 => Answer::Data(content(script).into_iter().take(100_000).collect()),
            10 => Answer::Complete,
            11 => Answer::Abandon,
            12 => Answer::Chunk(Chunk { digest: [script.byte(); 16], length: number(script) as u32 }),
            13 => Answer::Reuse { offset: number(script), length: number(script) as u32 },
            14 => Answer::Failed { path: path(script), reason: "no".to_owned(), passes: script.byte() & 1 == 0 },
            _ if script.byte() & 1 == 0 => Answer::Changed,
            _ => Answer::Broken { reason: "no".to_owned() },
        }
    }

    /// Everything below a directory but one of its entries: permissions and content.
    fn everything(directory: &Path, but: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let (mut found, mut left) = (BTreeMap::new(), vec![directory.to_owned()]);
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path == but {
                    continue;
                }
                let metadata = path.symlink_metadata().unwrap();
                let content = if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
                if metadata.is_dir() {
                    left.push(path.clone());
                }
                found.insert(path, (metadata.permissions().mode(), content));
            }
        }
        found
    }

    /// How often the laptop has said something, and whether it listens no more.
    #[derive(Default)]
    struct Heard {
        state: Mutex<(usize, bool)>,
        changed: Condvar,
    }

    impl Heard {
        fn tell(&self, change: impl FnOnce(&mut (usize, bool))) {
            change(&mut self.state.lock().unwrap());
            self.changed.notify_all();
        }
    }

    /// The environment's words. They do not end before the laptop has listened.
    struct Words {
        bytes: Cursor<Vec<u8>>,
        heard: Arc<Heard>,
        /// How long the laptop may take until it begins to read.
        beginning: Duration,
    }

    impl Read for Words {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.bytes.read(buffer)?;
            if read == 0 {
                // The root, the rules, the first question; and what follows from the answers, as long as that goes on.
                let waits = |state: &mut (usize, bool)| state.0 < 3 && !state.1;
                let mut state = self.wait(self.heard.state.lock().unwrap(), self.beginning, waits);
                let mut said = 0;
                while said < state.0 && !state.1 {
                    said = state.0;
                    let waits = |state: &mut (usize, bool)| state.0 == said && !state.1;
                    state = self.wait(state, SILENCE, waits);
                }
            }
            Ok(read)
        }
    }

    impl Words {
        fn wait<'a>(
            &self,
            state: MutexGuard<'a, (usize, bool)>,
            limit: Duration,
            waits: impl FnMut(&mut (usize, bool)) -> bool,
        ) -> MutexGuard<'a, (usize, bool)> {
            self.heard.changed.wait_timeout_while(state, limit, waits).unwrap().0
        }
    }

    struct Questions(Arc<Heard>);

    impl Write for Questions {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.tell(|state| state.0 += 1);
            Ok(())
        }
    }

    /// What the root has after these bytes were heard.
    fn hear(bytes: Vec<u8>, beginning: Duration) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("user/root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir_all(home.path().join("state")).unwrap();
        fs::create_dir(home.path().join("user/.ssh")).unwrap();
        fs::write(home.path().join("user/secret"), "secret").unwrap();
        fs::write(root.join("own"), "own").unwrap();
        fs::write(root.join("large"), large()).unwrap();
        fs::File::open(root.join("large")).unwrap().file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::set_permissions(root.join("large"), Permissions::from_mode(0o644)).unwrap();
        symlink("../.ssh", root.join("link")).unwrap();
        let before = everything(&home.path().join("user"), &root);
        let setup = Setup {
            laptop: root.clone(),
            kind: Kind::Directory,
            root: RelativePath::new(b"root").unwrap(),
            mode: Mode::TwoWay,
            masks: Vec::new(),
            held: Vec::new(),
            ancestor: home.path().join("state/ancestor"),
            stage: home.path().join("state/stage"),
            limits: Limits { entries: MOST, bytes: 8 << 20 },
        };
        let sync = Sync::start(setup, || {}).unwrap();
        let (ended, end) = mpsc::channel();
        // Whoever waits no more has failed.
        let heard = Arc::new(Heard::default());
        let over = {
            let heard = Arc::clone(&heard);
            move || {
                heard.tell(|state| state.1 = true);
                let _ = ended.send(());
            }
        };
        let words = Words { bytes: Cursor::new(bytes), heard: Arc::clone(&heard), beginning };
        sync.connect(Box::new(words), Box::new(Questions(heard)), over);
        assert!(end.recv_timeout(PATIENCE).is_ok(), "the conversation does not end with its stream");
        sync.end();
        assert_eq!(everything(&home.path().join("user"), &root), before);
        let after = everything(&root, Path::new(""));
        assert!(after.len() as u64 <= 2 * MOST + 10, "{} entries", after.len());
        for (path, (mode, _)) in &after {
            assert_eq!(mode & 0o7000, 0, "{}", path.display());
        }
        // So that the directory can be deleted.
        for (path, _) in everything(home.path(), Path::new("")) {
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
            }
        }
        after.into_iter().map(|(path, found)| (path.strip_prefix(&root).unwrap().to_owned(), found)).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// With a directory in `OVERSIDE_CORPUS` it writes the inputs there that the corpus begins with.
        #[test]
        fn conversations_that_make_sense_are_heard_to_their_end() {
            let file = |content: &[u8]| {
                let digest = Digest(*blake3::hash(content).as_bytes());
                let (size, modified) = (content.len() as u64, Time::default());
                Some(Entry::File(File { digest, size, mode: 0o644, modified, stamp: 0 }))
            };
            let at = |path: &str| RelativePath::new(path.as_bytes()).unwrap();
            let root = || Answer::Entry { path: at(""), entry: Some(Entry::Directory(0o755)) };
            let scanned = || Answer::Scanned { watched: true };
            let (old, middle) = (large(), 1 << 20);
            let new = [&old[..middle], b"other", &old[middle..]].concat();
            let conversations = [
                ("empty", vec![Answer::Opened, root(), scanned(), scanned()]),
                (
                    "new-file",
                    vec![
                        Answer::Opened,
                        root(),
                        Answer::Entry { path: at("new"), entry: file(b"new") },
                        scanned(),
                        Answer::Data(b"new".to_vec()),
                        Answer::Complete,
                        scanned(),
                    ],
                ),
                (
                    "large-file",
                    vec![
                        Answer::Opened,
                        root(),
                        Answer::Entry { path: at("large"), entry: file(&old) },
                        scanned(),
                        // Of what it was given; so it is tried once more.
                        Answer::Failed { path: at("own"), reason: "no".to_owned(), passes: true },
                        scanned(),
                        Answer::Entry { path: at("large"), entry: file(&new) },
                        scanned(),
                        Answer::Reuse { offset: 0, length: 1 << 20 },
                        Answer::Data(b"other".to_vec()),
                        Answer::Reuse { offset: 1 << 20, length: 1 << 20 },
                        Answer::Complete,
                        scanned(),
                    ],
                ),
                (
                    "failed",
                    vec![
                        Answer::Opened,
                        scanned(),
                        Answer::Failed { path: at("own"), reason: "no".to_owned(), passes: true },
                        scanned(),
                        Answer::Changed,
                        scanned(),
                    ],
                ),
                ("broken", vec![Answer::Opened, Answer::Broken { reason: "no".to_owned() }]),
            ];
            for (name, answers) in conversations {
                let bytes: Vec<u8> = answers.iter().flat_map(batch).collect();
                if let Some(place) = std::env::var_os("OVERSIDE_CORPUS") {
                    fs::write(Path::new(&place).join(name), &bytes).unwrap();
                }
                let found = hear(bytes, PATIENCE / 2);
                let content = |path: &str| found.get(Path::new(path)).map(|(_, content)| content.as_slice());
                assert_eq!(content("new"), (name == "new-file").then_some(&b"new"[..]), "{name}");
                let has = content("large").unwrap();
                assert!(has == old || has == new && name == "large-file", "{name}");
            }
        }
    }
}
