//! A laptop's and an environment's side of one sync, both on this machine.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[cfg(windows)]
use std::net::TcpStream as Stream;
#[cfg(unix)]
use std::os::unix::net::UnixStream as Stream;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use overside_sync::{Flushed, Limits, Phase, Setup, Status, Sync, serve};
use overside_sync_core::{Mode, RelativePath, wire::Kind};

/// Both ends of a connection.
#[cfg(unix)]
fn connection() -> (Stream, Stream) {
    Stream::pair().unwrap()
}

#[cfg(windows)]
fn connection() -> (Stream, Stream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = Stream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    [&near, &far].iter().for_each(|end| end.set_nodelay(true).unwrap());
    (near, far)
}

/// Counts what goes through.
struct Counted(Stream, Arc<AtomicU64>);

impl Counted {
    fn count(&self, bytes: std::io::Result<usize>) -> std::io::Result<usize> {
        self.1.fetch_add(*bytes.as_ref().unwrap_or(&0) as u64, Ordering::Relaxed);
        bytes
    }
}

impl std::io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer);
        self.count(read)
    }
}

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes);
        self.count(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

pub(crate) struct Pair {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) kind: Kind,
    pub(crate) sync: Option<Sync>,
    pub(crate) changed: mpsc::Receiver<()>,
    pub(crate) far: Option<JoinHandle<()>>,
    pub(crate) cut: Option<Stream>,
    /// Bytes that went over the stream, in both directions.
    pub(crate) carried: Arc<AtomicU64>,
}

pub(crate) fn setup(directory: &Path, kind: Kind) -> Setup {
    Setup {
        laptop: directory.join("laptop/root"),
        kind,
        root: RelativePath::new(b"deep/root").unwrap(),
        mode: Mode::TwoWay,
        masks: Vec::new(),
        held: Vec::new(),
        ancestor: directory.join("state/ancestor"),
        stage: directory.join("state/stage"),
        limits: Limits { entries: 10_000, bytes: 1 << 30 },
    }
}

impl Pair {
    pub(crate) fn new(kind: Kind, fill: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("laptop/root");
        fs_err::create_dir_all(root.parent().unwrap()).unwrap();
        if kind == Kind::Directory {
            fs::create_dir(&root).unwrap();
        }
        Self::begin(directory, kind, fill)
    }

    /// The laptop's side is this directory, or the file `root` in it.
    #[cfg(unix)]
    pub(crate) fn at(place: &Path, kind: Kind, fill: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let link = match kind {
            Kind::Directory => directory.path().join("laptop/root"),
            Kind::File => directory.path().join("laptop"),
        };
        fs_err::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(place, link).unwrap();
        Self::begin(directory, kind, fill)
    }

    fn begin(directory: tempfile::TempDir, kind: Kind, fill: impl FnOnce(&Path)) -> Self {
        fs_err::create_dir_all(directory.path().join("state")).unwrap();
        fill(&directory.path().join("laptop/root"));
        let mut pair = Self {
            directory,
            kind,
            sync: None,
            changed: mpsc::channel().1,
            far: None,
            cut: None,
            carried: Arc::default(),
        };
        pair.start();
        pair
    }

    pub(crate) fn start(&mut self) {
        self.start_with(setup(self.directory.path(), self.kind));
    }

    pub(crate) fn start_with(&mut self, setup: Setup) {
        let (sender, changed) = mpsc::channel();
        let changed_now = move || {
            let _ = sender.send(());
        };
        self.sync = Some(Sync::start(setup, changed_now).unwrap());
        self.changed = changed;
        self.connect();
    }

    pub(crate) fn connect(&mut self) {
        let (near, far) = connection();
        let directory = self.directory.path().to_owned();
        self.cut = Some(near.try_clone().unwrap());
        self.far = Some(std::thread::spawn(move || {
            let _ = serve(far.try_clone().unwrap(), far, &directory.join("far/roots"), &directory.join("far/stages"));
        }));
        let counted = |end: Stream| Box::new(Counted(end, Arc::clone(&self.carried)));
        self.sync().connect(counted(near.try_clone().unwrap()), counted(near), || {});
    }

    /// The environment's side notices that nobody speaks any more.
    pub(crate) fn disconnect_far(&mut self) {
        self.cut.take().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
        self.far.take().unwrap().join().unwrap();
    }

    /// The stream breaks.
    pub(crate) fn disconnect(&mut self) {
        self.disconnect_far();
        self.until(|status| status.phase == Phase::Waiting);
    }

    pub(crate) fn sync(&self) -> &Sync {
        self.sync.as_ref().unwrap()
    }

    pub(crate) fn laptop(&self, path: &str) -> PathBuf {
        let root = self.directory.path().join("laptop/root");
        if path.is_empty() { root } else { root.join(path) }
    }

    pub(crate) fn far(&self, path: &str) -> PathBuf {
        let root = self.directory.path().join("far/roots/deep/root");
        if path.is_empty() { root } else { root.join(path) }
    }

    pub(crate) fn flush(&self) -> Flushed {
        let (sender, done) = mpsc::channel();
        self.sync().flush(move |flushed| sender.send(flushed).unwrap());
        done.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{:?}", self.sync().status()))
    }

    pub(crate) fn settle(&self) {
        assert_eq!(self.flush(), Flushed::Done);
    }

    /// Waits for a file to have a content: the sync tells when it has brought something.
    pub(crate) fn until_text(&self, path: &Path, expected: &str) {
        while fs_err::read_to_string(path).ok().as_deref() != Some(expected) {
            let told = self.changed.recv_timeout(Duration::from_secs(30));
            assert!(told.is_ok(), "{} never has {expected:?}", path.display());
        }
    }

    /// Waits until the status is so.
    pub(crate) fn until(&self, is: impl Fn(&Status) -> bool) -> Status {
        loop {
            let status = self.sync().status();
            if is(&status) {
                return status;
            }
            self.changed.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{status:?}"));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Whoever still writes would do so while the directory is being deleted.
        if let Some(cut) = self.cut.take() {
            let _ = cut.shutdown(std::net::Shutdown::Both);
        }
        if let Some(sync) = self.sync.take() {
            sync.end();
        }
        if let Some(far) = self.far.take() {
            let _ = far.join();
        }
    }
}

pub(crate) fn text(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

pub(crate) fn write(path: &Path, text: &str) {
    fs_err::write(path, text).unwrap();
}
