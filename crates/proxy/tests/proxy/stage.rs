//! The proxy between a client and an engine that are both the test.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use overside_docker_api::{Bound, Laptop, LocalAnswer, Route, decode_path};
use overside_io::{
    BoxedStream,
    local::{Listener, Stream, connect},
};
use overside_model::{ErrorCode, Problem};
use overside_proxy::{Admission, Around, Call, Dial, Flush, Gate, Keep, serve};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// An engine whose connections are the test's to answer.
struct Engine(mpsc::UnboundedSender<DuplexStream>);

#[async_trait]
impl Dial for Engine {
    async fn open(&self) -> Result<BoxedStream, Problem> {
        let (near, far) = duplex(1 << 20);
        self.0.send(far).unwrap();
        Ok(Box::new(near))
    }

    fn environment(&self) -> &str {
        "test"
    }
}

struct Open {
    engine: Arc<Engine>,
    admitted: Arc<Notify>,
    refuse: bool,
    files: Option<Arc<Files>>,
}

/// Tells when a call is over.
struct Ending(Arc<Notify>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Gate for Open {
    async fn admit(&self, call: Call<'_>) -> Result<Admission, Problem> {
        // However a path is written, what is decided about is the route that the engine takes.
        assert_eq!(call.route, Route::find(call.method, &decode_path(call.path)), "{}", call.path);
        if self.refuse {
            return Err(Problem::new(ErrorCode::Stopped, "Overside is turned off", "Start it with `overside start`."));
        }
        Ok(Admission::Forward {
            engine: self.engine.clone(),
            held: Box::new(Ending(self.admitted.clone())),
            keep: self.files.clone().map(|files| {
                let kept = files.kept.clone();
                Box::new(move |answer: LocalAnswer| kept.lock().unwrap().push(answer.body)) as Keep
            }),
            around: self.files.clone().map(|files| Box::new(Noting(files)) as Box<dyn Around>),
            flush: self.files.clone().map(|files| Box::new(move || files.flush()) as Flush),
        })
    }

    fn engine_headers(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) connections: mpsc::UnboundedReceiver<DuplexStream>,
    pub(crate) ended: Arc<Notify>,
    _shutdown: tokio_util::sync::DropGuard,
}

/// The daemon's part around calls, which notes what it is asked to do.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) bound: Mutex<Vec<Bound>>,
    /// A flush waits for this; without it there is nothing to wait for.
    pub(crate) flushed: Option<Arc<Notify>>,
    /// Answers that were kept.
    pub(crate) kept: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Files {
    fn flush(&self) -> Option<JoinHandle<()>> {
        let flushed = self.flushed.clone()?;
        Some(tokio::spawn(async move { flushed.notified().await }))
    }
}

struct Noting(Arc<Files>);

#[async_trait]
impl Around for Noting {
    async fn before(&self) -> Result<(), Problem> {
        Ok(())
    }

    async fn place(&self, bound: Bound) -> Result<BTreeMap<String, String>, Problem> {
        let laptop = Laptop { own_socket: "", windows: cfg!(windows) };
        let places = bound.binds.iter().map(|bind| (bind.path.clone(), laptop.place_of(&bind.path))).collect();
        self.0.bound.lock().unwrap().push(bound);
        Ok(places)
    }

    async fn after(&self, _: bool) -> Result<(), Problem> {
        Ok(())
    }
}

pub(crate) fn proxy_with(refuse: bool, files: Option<Arc<Files>>) -> Fixture {
    let mut directory = tempfile::Builder::new();
    // A socket's path is short on Unix; what the environment names may not be.
    let directory =
        if cfg!(unix) { directory.prefix("ov").tempdir_in("/tmp") } else { directory.prefix("ov").tempdir() };
    let directory = directory.unwrap();
    let listener = Listener::bind(&directory.path().join("docker.sock")).unwrap();
    let (sender, connections) = mpsc::unbounded_channel();
    let ended = Arc::new(Notify::new());
    let gate = Arc::new(Open { engine: Arc::new(Engine(sender)), admitted: ended.clone(), refuse, files });
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, gate, shutdown.clone()));
    Fixture { directory, connections, ended, _shutdown: shutdown.drop_guard() }
}

pub(crate) fn proxy() -> Fixture {
    proxy_with(false, None)
}

impl Fixture {
    pub(crate) async fn client(&self) -> Stream {
        connect(&self.directory.path().join("docker.sock")).await.unwrap()
    }

    pub(crate) async fn engine(&mut self) -> DuplexStream {
        soon(self.connections.recv()).await.unwrap()
    }
}

/// A deadline for what must happen anyway, so that a defect fails a test instead of hanging it.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("within ten seconds")
}

/// Reads until the text has come by; returns all that was read.
pub(crate) async fn until(stream: &mut (impl AsyncReadExt + Unpin), text: &str) -> String {
    let mut seen = Vec::new();
    soon(async {
        while !seen.ends_with(text.as_bytes()) {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
    })
    .await;
    String::from_utf8(seen).unwrap()
}

/// The head with which an engine gives a connection up.
pub(crate) const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                        Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
