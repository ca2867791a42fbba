//! The control API over a real socket, with a daemon that only remembers what it was asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use overside_control::{Client, Command, Daemon, serve};
use overside_io::local::Listener;
use overside_model::{ErrorCode, Problem, State, Status, Usage};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct Recorder {
    status: watch::Sender<Status>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Daemon for Recorder {
    fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
    async fn command(&self, command: Command) -> Result<(), Problem> {
        self.asked.lock().unwrap().push(format!("{command:?}"));
        match command {
            Command::Enable => {
                self.status.send_modify(|status| status.state = State::Idle);
                Ok(())
            }
            _ => Err(Problem::new(ErrorCode::Stopped, "Overside is turned off", "Start it with `overside start`.")),
        }
    }
    fn settings(&self) -> Map<String, Value> {
        Map::from_iter([("idle-timeout".to_owned(), json!({"value": "5m"}))])
    }
    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        self.asked.lock().unwrap().push(format!("{name}={value}"));
        Ok(())
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    daemon: Arc<Recorder>,
    client: Client,
    shutdown: CancellationToken,
}

fn fixture() -> Fixture {
    let directory = tempfile::Builder::new().prefix("ov").tempdir_in("/tmp").unwrap();
    let socket = directory.path().join("control.sock");
    let status = Status {
        state: State::Stopped,
        runner: "local".to_owned(),
        socket: String::new(),
        session: None,
        progress: None,
        awake_because: vec![],
        ignored_pollers: vec![],
        idle_in_seconds: None,
        grace_remaining_seconds: None,
        prompt: None,
        usage: Usage { today_seconds: 0, limit_seconds: 0 },
        ports: vec![],
        mounts: vec![],
        error: None,
    };
    let daemon = Arc::new(Recorder { status: watch::Sender::new(status), asked: Mutex::default() });
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(Listener::bind(&socket).unwrap(), daemon.clone(), shutdown.clone()));
    Fixture { client: Client::new(socket), _directory: directory, daemon, shutdown }
}

#[tokio::test]
async fn a_command_answers_with_the_status_after_it() {
    let f = fixture();
    assert_eq!(f.client.status().await.unwrap().state, State::Stopped);
    assert_eq!(f.client.enable().await.unwrap().state, State::Idle);
}

#[tokio::test]
async fn a_refused_command_keeps_its_code_and_hint() {
    let f = fixture();
    let problem = f.client.disable(true).await.unwrap_err();
    assert_eq!((problem.code, problem.hint.as_str()), (ErrorCode::Stopped, "Start it with `overside start`."));
    assert_eq!(*f.daemon.asked.lock().unwrap(), ["Disable { force: true }"]);
}

#[tokio::test]
async fn a_subscriber_sees_the_whole_status_first_and_then_every_change_until_the_daemon_ends() {
    let f = fixture();
    let mut watch = f.client.watch().await.unwrap();
    let first = watch.next().await.unwrap();
    assert_eq!(first.state, State::Stopped);
    f.daemon.status.send_modify(|status| status.idle_in_seconds = Some(7));
    let second = watch.next().await.unwrap();
    assert_eq!(second, Status { idle_in_seconds: Some(7), ..first.clone() });
    f.daemon.status.send_modify(|status| status.idle_in_seconds = None);
    assert_eq!(watch.next().await.unwrap(), first);
    f.shutdown.cancel();
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn settings_are_read_and_written_by_name() {
    let f = fixture();
    assert_eq!(f.client.settings().await.unwrap()["idle-timeout"]["value"], "5m");
    f.client.set_setting("idle-timeout", json!("10s")).await.unwrap();
    assert_eq!(*f.daemon.asked.lock().unwrap(), ["idle-timeout=\"10s\""]);
    assert_eq!(f.client.set_setting("a/../b", json!(1)).await.unwrap_err().code, ErrorCode::UnknownName);
}

#[tokio::test]
async fn without_a_daemon_the_client_says_how_to_start_one() {
    let problem = Client::new("/nonexistent/control.sock").status().await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::DaemonUnreachable);
    assert!(problem.sentence().contains("no daemon is running. Start it with `overside start`."), "{problem}");
}
