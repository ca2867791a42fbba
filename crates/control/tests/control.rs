//! The control API over a real socket, with a daemon that only remembers what it was asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use overside_control::{Client, Command, Daemon, serve};
use overside_io::local::Listener;
use overside_model::{
    ErrorCode, Problem, SessionQuery, State, Status, UsageDays, UsagePeriod, UsageReport, UsageSessions, UsageSpan,
};
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

/// A daemon that also keeps a ledger.
struct Bookkeeper(Arc<Recorder>);

fn report() -> UsageReport {
    let span = |name: &str, seconds, cost| UsageSpan {
        name: name.to_owned(),
        first: "2026-11-21".to_owned(),
        last: "2026-11-21".to_owned(),
        seconds,
        cost,
    };
    let period = |name: &str| UsagePeriod { total: span(name, 90, Some(0.25)), days: vec![], weeks: vec![] };
    UsageReport {
        zone: "Europe/Berlin".to_owned(),
        made_at: "2026-11-21T12:00:00Z".to_owned(),
        limit_seconds: 28_800,
        today: span("2026-11-21", 90, None),
        week: period("2026-W47"),
        month: period("2026-11"),
        problem: None,
    }
}

#[async_trait]
impl Daemon for Bookkeeper {
    fn status(&self) -> watch::Receiver<Status> {
        self.0.status()
    }
    async fn command(&self, command: Command) -> Result<(), Problem> {
        self.0.command(command).await
    }
    fn settings(&self) -> Map<String, Value> {
        self.0.settings()
    }
    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        self.0.set_setting(name, value).await
    }
    fn usage(&self) -> Result<UsageReport, Problem> {
        Ok(report())
    }
    fn usage_days(&self, days: u32) -> Result<UsageDays, Problem> {
        Ok(UsageDays { zone: format!("{days}"), limit_seconds: 28_800, days: vec![], problem: None })
    }
    fn usage_sessions(&self, query: &SessionQuery) -> Result<UsageSessions, Problem> {
        let runners = vec![format!("{query:?}")];
        Ok(UsageSessions { sessions: vec![], matching: 0, seconds: 0, cost: None, runners, statuses: vec![] })
    }
    fn usage_csv(&self) -> Result<String, Problem> {
        Ok("session ID,cost\r\ns-2,0.5000\r\n".to_owned())
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    daemon: Arc<Recorder>,
    client: Client,
    shutdown: CancellationToken,
}

fn fixture() -> Fixture {
    served(|daemon| daemon)
}

fn served<D: Daemon>(wrap: impl FnOnce(Arc<Recorder>) -> Arc<D>) -> Fixture {
    let directory = tempfile::Builder::new().prefix("ov").tempdir_in("/tmp").unwrap();
    let socket = directory.path().join("control.sock");
    let daemon =
        Arc::new(Recorder { status: watch::Sender::new(Status::quiet(State::Stopped)), asked: Mutex::default() });
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(Listener::bind(&socket).unwrap(), wrap(daemon.clone()), shutdown.clone()));
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
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.state, State::Stopped);
    f.daemon.status.send_modify(|status| status.idle_in_seconds = Some(7));
    let second = watch.next().await.unwrap().unwrap();
    assert_eq!(second, Status { idle_in_seconds: Some(7), ..first.clone() });
    f.daemon.status.send_modify(|status| status.idle_in_seconds = None);
    assert_eq!(watch.next().await.unwrap().unwrap(), first);
    f.shutdown.cancel();
    assert_eq!(watch.next().await, Ok(None));
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
async fn usage_comes_as_a_report_and_as_csv() {
    let f = served(|daemon| Arc::new(Bookkeeper(daemon)));
    assert_eq!(f.client.usage().await.unwrap(), report());
    assert_eq!(f.client.usage_csv().await.unwrap(), "session ID,cost\r\ns-2,0.5000\r\n");
}

#[tokio::test]
async fn days_and_sessions_are_asked_for_by_query() {
    let f = served(|daemon| Arc::new(Bookkeeper(daemon)));
    assert_eq!(f.client.usage_days(365).await.unwrap().zone, "365");
    // Whatever is searched for arrives as it was typed.
    let text = Some("a&b=c %25+\u{6d77}/?#".to_owned());
    for query in [SessionQuery::default(), SessionQuery { text, limit: Some(7), ..Default::default() }] {
        assert_eq!(f.client.usage_sessions(&query).await.unwrap().runners, [format!("{query:?}")]);
    }
}

#[tokio::test]
async fn a_daemon_without_a_ledger_says_so() {
    let f = fixture();
    for problem in [
        f.client.usage().await.unwrap_err(),
        f.client.usage_days(7).await.unwrap_err(),
        f.client.usage_sessions(&SessionQuery::default()).await.unwrap_err(),
        f.client.usage_csv().await.unwrap_err(),
    ] {
        assert_eq!(problem.code, ErrorCode::UnknownName);
        assert!(problem.message.contains("no usage ledger"), "{problem}");
    }
}

#[tokio::test]
async fn without_a_daemon_the_client_says_how_to_start_one() {
    let problem = Client::new("/nonexistent/control.sock").status().await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::DaemonUnreachable);
    assert!(problem.sentence().contains("no daemon is running. Start it with `overside start`."), "{problem}");
}
