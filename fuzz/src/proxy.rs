//! The proxy between a client that sends anything and an engine: what arrives there is well-formed, and no body arrives that
//! was not looked at.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use overside_io::{BoxedStream, local::Listener};
use overside_model::Problem;
use overside_proxy::{Admission, Call, Dial, Gate, serve};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::UnixStream,
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Target,
    engine::{Router, cleaned, decoded},
    rewriter::assert_harmless,
    script::Script,
};

struct Engine(mpsc::UnboundedSender<DuplexStream>);

#[async_trait]
impl Dial for Engine {
    async fn open(&self) -> Result<BoxedStream, Problem> {
        let (near, far) = duplex(1 << 16);
        self.0.send(far).unwrap();
        Ok(Box::new(near))
    }

    fn environment(&self) -> &str {
        "fuzzed"
    }
}

struct Open(Arc<Engine>);

#[async_trait]
impl Gate for Open {
    async fn admit(&self, _: Call<'_>) -> Result<Admission, Problem> {
        Ok(Admission::Forward { engine: self.0.clone(), held: Box::new(()), keep: None, around: None, flush: None })
    }

    fn engine_headers(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

struct Stage {
    runtime: Runtime,
    place: tempfile::TempDir,
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    router: Router,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let place = tempfile::Builder::new().prefix("ov").tempdir().unwrap();
        let (sender, connections) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let serving = async {
            let listener = Listener::bind(&place.path().join("docker.sock")).unwrap();
            tokio::spawn(serve(listener, Arc::new(Open(Arc::new(Engine(sender)))), stop.clone()));
        };
        runtime.block_on(serving);
        Self { runtime, place, connections, router: Router::new(), stop }
    }

    /// Sends the bytes on one connection and looks at what comes out at both ends until everything has ended.
    fn send(&mut self, bytes: &[u8]) {
        let Self { runtime, place, connections, router, .. } = self;
        runtime.block_on(async {
            let mut client = UnixStream::connect(place.path().join("docker.sock")).await.unwrap();
            let exchange = async {
                // A client that was refused may be cut off in the middle of its words.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                answer
            };
            let mut exchange = std::pin::pin!(tokio::time::timeout(Duration::from_secs(5), exchange));
            let answer = loop {
                tokio::select! {
                    answer = &mut exchange => break answer,
                    Some(stream) = connections.recv() => {
                        let request = answered(stream).await;
                        judge(router, &request);
                    }
                }
            };
            let answer = answer.unwrap_or_else(|_| panic!("no end of {:?}", String::from_utf8_lossy(bytes)));
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
        });
    }
}

/// A request as the engine got it.
struct Heard {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// Reads one request to its end or as far as it comes, and answers it.
async fn answered(mut stream: DuplexStream) -> Heard {
    let mut bytes = Vec::new();
    let (head, upgrade) = loop {
        if let Some(end) = bytes.windows(4).position(|four: &[u8]| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            let upgrade = head.to_ascii_lowercase().contains("\r\nupgrade:");
            break (head, upgrade);
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break (String::from_utf8_lossy(&bytes).into_owned(), false);
        }
    };
    let lines: Vec<&str> = head.split("\r\n").collect();
    let words: Vec<&str> = lines[0].split(' ').collect();
    let field = |name: &str| {
        let mut fields = lines[1..].iter().filter_map(|line| line.split_once(": ")).filter(|(key, _)| {
            // Nothing in a head may mean another thing to another reader.
            assert!(key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{key:?}");
            key.eq_ignore_ascii_case(name)
        });
        let first = fields.next().map(|(_, value)| value.to_owned());
        assert!(fields.next().is_none(), "{name} twice in {head}");
        first
    };
    let (length, coding) = (field("content-length"), field("transfer-encoding"));
    assert!(length.is_none() || coding.is_none(), "two lengths in {head}");
    let body = match (length, coding) {
        (Some(length), _) => sized(&mut stream, bytes, length.parse().unwrap()).await,
        (None, Some(coding)) => {
            assert_eq!(coding, "chunked");
            chunked(&mut stream, bytes).await
        }
        (None, None) => Vec::new(),
    };
    let answer = if upgrade {
        "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nraw"
    } else {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    if upgrade {
        tokio::spawn(async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    }
    let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
    Heard { method: word(0), target: word(1), body }
}

async fn sized(stream: &mut DuplexStream, mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    while bytes.len() < length && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
    bytes.truncate(length);
    bytes
}

async fn chunked(stream: &mut DuplexStream, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return body;
            }
            continue;
        };
        let size = usize::from_str_radix(str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        while bytes.len() < end + 2 + size + 2 {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return body;
            }
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes.drain(..end + 2 + size + 2);
        if size == 0 {
            return body;
        }
    }
}

fn judge(router: &Router, request: &Heard) {
    if request.method != "POST" {
        return;
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("http://").map_or(path, |rest| rest.find('/').map_or("", |slash| &rest[slash..]));
    if let Some(kind) = decoded(path).and_then(|path| router.kind(&cleaned(&path))) {
        assert_harmless(kind, &request.body);
    }
}

/// The bytes are what a client sends.
pub(crate) fn proxy() -> Target {
    let mut stage = Stage::new();
    Box::new(move |bytes| stage.send(bytes))
}

/// The bytes are decisions about what a client sends.
pub(crate) fn grammar() -> Target {
    let mut stage = Stage::new();
    Box::new(move |script| {
        let mut script = Script(script);
        let mut bytes = Vec::new();
        while !script.is_over() && bytes.len() < 4000 {
            bytes.extend_from_slice(script.one_of(PIECES).as_bytes());
        }
        stage.send(&bytes);
    })
}

const BIND: &str = r#"{"HostConfig":{"Binds":["/src:/x"]}}"#;
const PIECES: &[&str] = &[
    "POST /containers/create HTTP/1.1\r\nHost: d\r\n",
    "POST /v1.41/%63ontainers/create?name=x HTTP/1.1\r\nHost: d\r\n",
    "POST http://d/v1.41./containers/create HTTP/1.1\r\nHost: d\r\n",
    "POST /v1.23/containers/x/start HTTP/1.0\r\nConnection: keep-alive\r\n",
    "POST /exec/x/start HTTP/1.1\r\nHost: d\r\n",
    "POST /containers/x/wait HTTP/1.1\r\nHost: d\r\n",
    "GET /info HTTP/1.1\r\nHost: d\r\n",
    "HEAD /_ping HTTP/1.1\r\nHost: d\r\n",
    "PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: d\r\n",
    "Content-Length: 36\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 2\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Connection: Upgrade\r\nUpgrade: tcp\r\n",
    "Connection: Upgrade, Content-Length\r\nUpgrade: h2c\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Content-Type: application/json\r\n",
    "X:\r\n folded\r\n",
    "\r\n",
    "\n\n",
    "24\r\n",
    "24;x=\"\r\n",
    BIND,
    "{}",
    r#"{"Binds":["/src:/x"]}"#,
    "\r\n0\r\n\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\0",
];
