//! The tunnel against an SSH server in this process: a peer that does what a real agent does only when something is wrong.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use overside_io::{BoxedStream, Paced, Receive, Role, Transmit};
use overside_model::{ErrorCode, Problem, agent::Operation};
use overside_tunnel::{Connection, Credentials, Dial, Link, LinkState, TunnelError};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf,
    keys::{Algorithm, PrivateKey},
    server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// An agent that echoes on its engine's socket and answers every operation.
struct Agent {
    host_key: PrivateKey,
    client_key: String,
    /// Ends the connections under way.
    cut: Mutex<CancellationToken>,
    reach: Mutex<Reach>,
    dials: AtomicUsize,
    held_up: AtomicBool,
}

#[derive(Clone, Copy)]
enum Reach {
    There,
    Unreachable,
    Gone,
}

impl Agent {
    fn new(credentials: &Credentials) -> Arc<Self> {
        Arc::new(Self {
            host_key: PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap(),
            client_key: credentials.public_line().unwrap(),
            cut: Mutex::default(),
            reach: Mutex::new(Reach::There),
            dials: AtomicUsize::new(0),
            held_up: AtomicBool::new(false),
        })
    }

    fn host_key(&self) -> String {
        self.host_key.public_key().to_openssh().unwrap()
    }

    fn connect(self: &Arc<Self>) -> DuplexStream {
        let (near, mut middle) = duplex(1 << 20);
        let (mut other_middle, far) = duplex(1 << 20);
        let config = Arc::new(server::Config { keys: vec![self.host_key.clone()], ..server::Config::default() });
        let handler = Handler { agent: self.clone(), sessions: Vec::new() };
        let cut = self.cut.lock().unwrap().clone();
        tokio::spawn(async move {
            if let Ok(session) = server::run_stream(config, far, handler).await {
                let _ = session.await;
            }
        });
        // The wire between both, which can be cut.
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut middle, &mut other_middle) => {}
                () = cut.cancelled() => {}
            }
        });
        near
    }

    /// Breaks every connection, and is from then on as `reach` says.
    fn cut(&self, reach: Reach) {
        *self.reach.lock().unwrap() = reach;
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }
}

/// The way to the agent.
struct Way(Arc<Agent>);

#[async_trait]
impl Dial for Way {
    async fn dial(&self) -> Result<BoxedStream, Problem> {
        self.0.dials.fetch_add(1, Ordering::SeqCst);
        let reach = *self.0.reach.lock().unwrap();
        match reach {
            Reach::There => Ok(Box::new(self.0.connect())),
            Reach::Unreachable => Err(Problem::new(ErrorCode::RunnerUnreachable, "no route", "")),
            Reach::Gone => Err(Problem::new(ErrorCode::EnvironmentLost, "gone", "")),
        }
    }
}

struct Handler {
    agent: Arc<Agent>,
    sessions: Vec<Channel<Msg>>,
}

impl server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let line = key.public_key.to_openssh().unwrap();
        // The comment is no part of the key.
        let same = self.agent.client_key.split(' ').take(2).eq(line.split(' ').take(2));
        Ok(if same { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.sessions.push(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let channel = self.sessions.pop().unwrap();
        tokio::spawn(async move {
            let (reader, mut writer) = tokio::io::split(channel.into_stream());
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                let answer = match request["operation"].as_str() {
                    Some("freeze") => serde_json::json!({"message": "failed", "id": request["id"], "problem":
                        {"code": "engine-failed", "message": "no freezer", "hint": ""}}),
                    _ => serde_json::json!({"message": "done", "id": request["id"]}),
                };
                if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if path == "bundle:/ports" {
            // No test here has a port.
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        assert_eq!(path, "paced:/run/docker.sock");
        reply.accept().await;
        let (reader, writer) = channel.split();
        let stream = Paced::new(Reader(reader), Writer(writer), Role::Acceptor);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
        Ok(())
    }
}

struct Reader(ChannelReadHalf);
struct Writer(ChannelWriteHalf<Msg>);

impl Receive for Reader {
    async fn receive(&mut self) -> Option<Bytes> {
        loop {
            match self.0.wait().await? {
                ChannelMsg::Data { data } => return Some(data),
                ChannelMsg::Close => return None,
                _ => {}
            }
        }
    }
}

impl Transmit for Writer {
    async fn transmit(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.data_bytes(bytes).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
    async fn close(&mut self) {
        let _ = self.0.close().await;
    }
}

async fn echo(mut stream: Paced, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut back = String::new();
    stream.read_to_string(&mut back).await?;
    Ok(back)
}

/// A deadline for what must happen anyway, so that a defect fails a test instead of hanging it.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("within ten seconds")
}

async fn reached(link: &Link, wanted: impl FnMut(&LinkState) -> bool) -> LinkState {
    let mut state = link.state();
    soon(state.wait_for(wanted)).await.unwrap().clone()
}

async fn agent_and_link(patience: Duration) -> (Arc<Agent>, Link) {
    let credentials = Credentials::generate().unwrap();
    let agent = Agent::new(&credentials);
    let (_, patience) = watch::channel(patience);
    let way = Arc::new(Way(agent.clone()));
    let link = Link::establish(way, credentials, agent.host_key(), patience).await.unwrap();
    (agent, link)
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn another_host_key_is_refused_with_both_fingerprints() {
    let credentials = Credentials::generate().unwrap();
    let (agent, impostor) = (Agent::new(&credentials), Agent::new(&credentials));
    let error =
        Connection::establish(Box::new(impostor.connect()), &credentials, &agent.host_key(), None).await.unwrap_err();
    let TunnelError::HostKeyMismatch { received, pinned } = &error else { panic!("{error}") };
    assert!(received.starts_with("SHA256:") && pinned.starts_with("SHA256:") && received != pinned, "{error}");
    assert_eq!(Problem::from(error).code, ErrorCode::HostKeyMismatch);
}

#[tokio::test]
async fn another_sessions_key_is_refused() {
    let agent = Agent::new(&Credentials::generate().unwrap());
    let stranger = Credentials::generate().unwrap();
    let error = Connection::establish(Box::new(agent.connect()), &stranger, &agent.host_key(), None).await.unwrap_err();
    assert!(matches!(error, TunnelError::LoginRefused), "{error}");
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let (agent, link) = agent_and_link(LONG).await;
    let link = Arc::new(link);
    let echoes: Vec<_> = (0..50)
        .map(|n| {
            let link = link.clone();
            tokio::spawn(async move { echo(link.open_engine().await.unwrap(), &format!("call {n}")).await.unwrap() })
        })
        .collect();
    for (n, task) in echoes.into_iter().enumerate() {
        assert_eq!(soon(task).await.unwrap(), format!("call {n}"));
    }
    assert_eq!(agent.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_hold_up_the_others() {
    let (agent, link) = agent_and_link(LONG).await;
    let (reader, mut writer) = tokio::io::split(link.open_engine().await.unwrap());
    // The echo comes back until the credit is used up, and nobody reads it.
    let flooded = agent.clone();
    let flood = tokio::spawn(async move {
        let chunk = vec![7; 1 << 20];
        while tokio::time::timeout(Duration::from_millis(300), writer.write_all(&chunk)).await.is_ok() {}
        flooded.held_up.store(true, Ordering::SeqCst);
        writer
    });
    let _writer = soon(flood).await.unwrap();
    assert!(agent.held_up.load(Ordering::SeqCst));
    for _ in 0..20 {
        assert_eq!(soon(echo(link.open_engine().await.unwrap(), "x")).await.unwrap(), "x");
    }
    drop(reader);
}

#[tokio::test]
async fn an_operation_that_fails_keeps_the_agents_words() {
    let (_agent, link) = agent_and_link(LONG).await;
    soon(link.operate(Operation::Thaw)).await.unwrap();
    assert_eq!(soon(link.operate(Operation::Freeze)).await.unwrap_err().message, "no freezer");
}

#[tokio::test]
async fn a_broken_connection_is_made_again_and_calls_wait_for_it() {
    let (agent, link) = agent_and_link(LONG).await;
    for round in 2..5 {
        agent.cut(Reach::Unreachable);
        reached(&link, |state| matches!(state, LinkState::Down { problem, .. } if problem.message == "no route")).await;
        let waiting = link.open_engine();
        *agent.reach.lock().unwrap() = Reach::There;
        let stream = soon(waiting).await.unwrap();
        assert_eq!(soon(echo(stream, "again")).await.unwrap(), "again", "round {round}");
    }
}

#[tokio::test]
async fn a_stream_that_was_open_when_the_connection_broke_is_reset() {
    let (agent, link) = agent_and_link(LONG).await;
    let mut stream = link.open_engine().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    agent.cut(Reach::There);
    let mut rest = Vec::new();
    assert_eq!(soon(stream.read_to_end(&mut rest)).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_environment_that_is_gone_is_given_up_at_once() {
    let (agent, link) = agent_and_link(LONG).await;
    agent.cut(Reach::Gone);
    let state = reached(&link, |state| matches!(state, LinkState::Gone(_))).await;
    assert!(matches!(state, LinkState::Gone(problem) if problem.code == ErrorCode::EnvironmentLost));
    assert_eq!(agent.dials.load(Ordering::SeqCst), 2);
    assert_eq!(soon(link.open_engine()).await.unwrap_err().code, ErrorCode::EnvironmentLost);
}

#[tokio::test]
async fn an_environment_out_of_reach_for_longer_than_its_lease_is_taken_for_gone() {
    let (agent, link) = agent_and_link(Duration::from_millis(300)).await;
    agent.cut(Reach::Unreachable);
    let state = reached(&link, |state| matches!(state, LinkState::Gone(_))).await;
    let LinkState::Gone(problem) = state else { panic!("{state:?}") };
    assert!(problem.message.contains("out of reach for longer than its lease"), "{problem}");
    assert!(agent.dials.load(Ordering::SeqCst) > 2);
}
