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
use overside_model::{ErrorCode, Problem, Status};
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

    /// Suspends the environment now.
    ///
    /// # Errors
    /// As [`Self::status`], and what the daemon says.
    pub async fn idle(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/idle", Bytes::new()).await
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

    /// Ends the daemon and returns once its environment is gone.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn shutdown(&self) -> Result<Status, Problem> {
        self.call(Method::POST, "/v1/shutdown", Bytes::new()).await
    }

    /// Every setting: `{name: {value, expected, purpose}}`.
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
        let response = self.send(method, path, body).await?;
        if response.status() != StatusCode::OK {
            return Err(self.problem(response).await);
        }
        let body = response.into_body().collect().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| {
            Problem::new(
                ErrorCode::DaemonUnreachable,
                format!("the daemon's answer to {path} is not understood: {error}"),
                "The daemon may be of another version: restart it.",
            )
        })
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

/// The status as it changes.
#[derive(Debug)]
pub struct Watch {
    body: Incoming,
    buffer: BytesMut,
    state: Map<String, Value>,
}

impl Watch {
    /// The whole status after the next change; the first call returns the present one. None once the daemon is gone.
    pub async fn next(&mut self) -> Option<Status> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event = self.buffer.split_to(end + 2).freeze();
                let data = event.as_ref().split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "))?;
                patch::apply(&mut self.state, serde_json::from_slice(data).ok()?);
                return serde_json::from_value(Value::Object(self.state.clone())).ok();
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
            if self.buffer.len() > MAX_EVENT {
                return None;
            }
        }
    }
}
