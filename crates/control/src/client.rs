//! The shells' end.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use overside_model::{
    Answer, ErrorCode, Hop, KeepOrder, MountDecision, Problem, Question, RunnerEntry, RunnerStatus, SessionQuery,
    Status, UsageDays, UsageReport, UsageSessions, Work, is_runner_name,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::patch;

/// Longest event that is accepted, in bytes.
const MAX_EVENT: usize = 16 << 20;

/// A client of one daemon. Each call is a connection of its own, so that a restarted daemon is found again.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon behind `control_socket`. Nothing is connected yet.
    pub fn new(control_socket: impl Into<PathBuf>) -> Self {
        Self { socket: control_socket.into() }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The status.
    ///
    /// # Errors
    /// [`ErrorCode::DaemonUnreachable`] without a daemon.
    pub async fn status(&self) -> Result<Status, Problem> {
        self.call(Method::GET, "/v1/status", Bytes::new()).await
    }

    /// The version of the daemon's package.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn version(&self) -> Result<String, Problem> {
        let answer: Value = self.call(Method::GET, "/v1/version", Bytes::new()).await?;
        Ok(answer.get("version").and_then(Value::as_str).unwrap_or("unknown").to_owned())
    }

    /// Turns Overside on.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn enable(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/enable", Bytes::new()).await
    }

    /// Turns Overside off and returns once the environment is gone.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn disable(&self, force: bool) -> Result<Status, Problem> {
        let path = if force { "/v1/disable?force=true" } else { "/v1/disable" };
        self.call(Method::POST, path, Bytes::new()).await
    }

    /// Goes on with the session that the user has on another computer, and returns once it runs here.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn take_over(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/take-over", Bytes::new()).await
    }

    /// Suspends the environment now.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn idle(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/idle", Bytes::new()).await
    }

    /// Resumes the suspended environment, and returns once it runs.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says: there may be nothing to resume.
    pub async fn resume(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/resume", Bytes::new()).await
    }

    /// Answers a prompt with *ask me again later*.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn later(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/later", Bytes::new()).await
    }

    /// Starts again after a failure.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn retry(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/retry", Bytes::new()).await
    }

    /// Saves work of the environment.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn keep(&self, order: &KeepOrder) -> Result<Vec<Work>, Problem> {
        let body = serde_json::to_vec(order).unwrap_or_default();
        self.call(Method::POST, "/v1/keep", body.into()).await
    }

    /// Brings saved work back.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn restore(&self, file: &str) -> Result<Vec<Work>, Problem> {
        self.call(Method::POST, "/v1/restore", Value::from(file).to_string().into()).await
    }

    /// Has a mount go on that halts because one side is gone or empty.
    ///
    /// # Errors
    /// As [`Self::status`]; [`ErrorCode::UnknownName`] for a path that is not mounted.
    pub async fn decide_mount(&self, decision: &MountDecision) -> Result<(), Problem> {
        let body = serde_json::to_vec(decision).unwrap_or_default();
        self.call(Method::POST, "/v1/mounts/decide", body.into()).await
    }

    /// Ends the daemon and returns once its environment is gone.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn shutdown(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/shutdown", Bytes::new()).await
    }

    /// The runners that settings can name.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn runners(&self) -> Result<Vec<RunnerStatus>, Problem> {
        self.call(Method::GET, "/v1/runners", Bytes::new()).await
    }

    /// Tries every hop on the way to a runner's environments.
    ///
    /// # Errors
    /// As [`Self::status`]; [`ErrorCode::UnknownName`] for a name that no runner has.
    pub async fn test_runner(&self, name: &str) -> Result<Vec<Hop>, Problem> {
        self.call(Method::POST, &runner_path(name, "/test")?, Bytes::new()).await
    }

    /// Addresses of runners that this computer knows and that were not added.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn addresses(&self) -> Result<Vec<String>, Problem> {
        self.call(Method::GET, "/v1/addresses", Bytes::new()).await
    }

    /// Adds a runner, without reaching out to it; returns all runners.
    ///
    /// # Errors
    /// As [`Self::status`]; [`ErrorCode::InvalidSettings`] for a name or address that cannot be.
    pub async fn add_runner(&self, entry: &RunnerEntry) -> Result<Vec<RunnerStatus>, Problem> {
        let body = serde_json::to_vec(entry).unwrap_or_default();
        self.call(Method::POST, "/v1/runners", body.into()).await
    }

    /// Forgets a runner that was added; returns why something of Overside's is left on it, if it is.
    ///
    /// # Errors
    /// As [`Self::test_runner`]; [`ErrorCode::InvalidSettings`] for one that is in use.
    pub async fn remove_runner(&self, name: &str) -> Result<Option<Problem>, Problem> {
        self.call(Method::DELETE, &runner_path(name, "")?, Bytes::new()).await
    }

    /// What a person has to decide or tell before a runner can be used.
    ///
    /// # Errors
    /// As [`Self::test_runner`], and why the runner cannot be asked.
    pub async fn runner_question(&self, name: &str) -> Result<Option<Question>, Problem> {
        self.call(Method::GET, &runner_path(name, "/question")?, Bytes::new()).await
    }

    /// Answers a [`Self::runner_question`]; returns why a passphrase is not kept that was to be.
    ///
    /// # Errors
    /// As [`Self::test_runner`], and why the answer does not help.
    pub async fn answer_runner(&self, name: &str, answer: &Answer) -> Result<Option<Problem>, Problem> {
        let body = serde_json::to_vec(answer).unwrap_or_default();
        self.call(Method::POST, &runner_path(name, "/answer")?, body.into()).await
    }

    /// Every setting: `{name: {value, source, rule, expected, purpose}}`.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn settings(&self) -> Result<Map<String, Value>, Problem> {
        self.call(Method::GET, "/v1/settings", Bytes::new()).await
    }

    /// Changes one setting.
    ///
    /// # Errors
    /// As [`Self::status`]; [`ErrorCode::InvalidSettings`] with the accepted range for a value that is refused.
    pub async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem> {
        let well_formed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !well_formed {
            return Err(Problem::new(ErrorCode::UnknownName, format!("there is no setting {name:?}"), ""));
        }
        let response = self.send(Method::PUT, &format!("/v1/settings/{name}"), value.to_string().into()).await?;
        if response.status() == StatusCode::NO_CONTENT { Ok(()) } else { Err(self.problem(response).await) }
    }

    /// Usage of today, this week and this month.
    ///
    /// # Errors
    /// As [`Self::status`]; [`ErrorCode::UnknownName`] from a daemon that keeps no ledger.
    pub async fn usage(&self) -> Result<UsageReport, Problem> {
        self.call(Method::GET, "/v1/usage", Bytes::new()).await
    }

    /// What each of the last `days` days came to, today included.
    ///
    /// # Errors
    /// As [`Self::usage`]; [`ErrorCode::RequestRefused`] for more days than there are to tell.
    pub async fn usage_days(&self, days: u32) -> Result<UsageDays, Problem> {
        self.call(Method::GET, &format!("/v1/usage/days?days={days}"), Bytes::new()).await
    }

    /// The sessions that a query asks for.
    ///
    /// # Errors
    /// As [`Self::usage`]; [`ErrorCode::RequestRefused`] for a query that makes no sense.
    pub async fn usage_sessions(&self, query: &SessionQuery) -> Result<UsageSessions, Problem> {
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        self.call(Method::GET, &format!("/v1/usage/sessions?{query}"), Bytes::new()).await
    }

    /// Every session as CSV.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub async fn usage_csv(&self) -> Result<Bytes, Problem> {
        self.fetch(Method::GET, "/v1/usage.csv", Bytes::new()).await
    }

    /// The status as it changes, beginning with the present one.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn watch(&self) -> Result<Watch, Problem> {
        let response = self.send(Method::GET, "/v1/events", Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.problem(response).await);
        }
        Ok(Watch { body: response.into_body(), buffer: BytesMut::new(), state: Map::new() })
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Problem> {
        serde_json::from_slice(&self.fetch(method, path, body).await?)
            .map_err(|error| not_understood(&format!("answer to {path}"), &error))
    }

    async fn fetch(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Problem> {
        let response = self.send(method, path, body).await?;
        if response.status() != StatusCode::OK {
            return Err(self.problem(response).await);
        }
        let body = response.into_body().collect().await.map_err(|error| self.unreachable(error))?;
        Ok(body.to_bytes())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Problem> {
        let stream = overside_io::local::connect(&self.socket).await.map_err(|error| self.no_daemon(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        // Ends by itself once the response is read or dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "overside")
            .body(Full::new(body))
            .map_err(|error| self.unreachable(error))?;
        sender.send_request(request).await.map_err(|error| self.unreachable(error))
    }

    async fn problem(&self, response: Response<Incoming>) -> Problem {
        let status = response.status();
        let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        serde_json::from_slice(&body).unwrap_or_else(|_| {
            Problem::new(ErrorCode::DaemonUnreachable, format!("the daemon answered {status}"), "Restart the daemon.")
        })
    }

    fn no_daemon(&self, error: &io::Error) -> Problem {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => self.unreachable("no daemon is running"),
            _ => self.unreachable(error),
        }
    }

    fn unreachable(&self, reason: impl std::fmt::Display) -> Problem {
        Problem::new(
            ErrorCode::DaemonUnreachable,
            format!("cannot reach the Overside daemon on {}: {reason}", self.socket.display()),
            "Start it with `overside start`.",
        )
    }
}

/// What the daemon said makes no sense here.
fn not_understood(what: &str, error: &serde_json::Error) -> Problem {
    Problem::new(
        ErrorCode::DaemonIncompatible,
        format!("the daemon's {what} is not understood: {error}"),
        "The daemon is of another version: restart it, best while no environment runs.",
    )
}

fn runner_path(name: &str, wanted: &str) -> Result<String, Problem> {
    if is_runner_name(name) {
        return Ok(format!("/v1/runners/{name}{wanted}"));
    }
    let hint = "`overside runner ls` lists the runners.";
    Err(Problem::new(ErrorCode::UnknownName, format!("there is no runner {name:?}"), hint))
}

/// The status as it changes.
#[derive(Debug)]
pub struct Watch {
    body: Incoming,
    buffer: BytesMut,
    state: Map<String, Value>,
}

impl Watch {
    /// The whole status after the next change; the first call returns the present one. None once the daemon is gone.
    ///
    /// # Errors
    /// [`ErrorCode::DaemonIncompatible`] for a status that makes no sense to this version.
    pub async fn next(&mut self) -> Result<Option<Status>, Problem> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event = self.buffer.split_to(end + 2).freeze();
                let data = event.as_ref().split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
                // A comment, or an event without data.
                let Some(data) = data else { continue };
                let status = serde_json::from_slice(data).and_then(|patch| {
                    patch::apply(&mut self.state, patch);
                    serde_json::from_value(Value::Object(self.state.clone()))
                });
                return status.map(Some).map_err(|error| not_understood("status", &error));
            }
            let Some(Ok(frame)) = self.body.frame().await else { return Ok(None) };
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
            if self.buffer.len() > MAX_EVENT {
                return Ok(None);
            }
        }
    }
}
