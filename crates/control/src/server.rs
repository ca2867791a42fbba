//! The daemon's end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use overside_io::local::Listener;
use overside_model::{ErrorCode, Problem, Status};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::patch;

/// Longest body of a request, in bytes: a setting's value.
const MAX_BODY: usize = 64 * 1024;

/// What a shell can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Turn on.
    Enable,
    /// Turn off. Without `force`, refused where work would be lost.
    Disable {
        /// Turn off even where work is lost.
        force: bool,
    },
    /// Suspend the environment now.
    Idle,
    /// Answer to a prompt: ask again later.
    Later,
    /// After a failure: start again without waiting for the backoff.
    Retry,
    /// Delete the environment and end the daemon; whether it is turned on stays as it is.
    Shutdown,
}

/// What the control API needs of the daemon.
#[async_trait]
pub trait Daemon: Send + Sync + 'static {
    /// The status, changed whenever it changes. Its seconds are of the moment of the change.
    fn status(&self) -> watch::Receiver<Status>;
    /// The status at this moment.
    fn status_now(&self) -> Status {
        self.status().borrow().clone()
    }
    /// Carries out a command, and returns when it has taken effect.
    async fn command(&self, command: Command) -> Result<(), Problem>;
    /// Every setting as `{name: {value, expected, purpose}}`.
    fn settings(&self) -> Map<String, Value>;
    /// Changes one setting, at once and for good.
    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem>;
}

type Body = BoxBody<Bytes, Infallible>;

/// Serves the control API until `shutdown` is cancelled. Held event streams end with it; answers that are under way are
/// still given, that to the shutdown among them.
pub async fn serve(listener: Listener, daemon: Arc<dyn Daemon>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (daemon, shutdown) = (daemon.clone(), shutdown.clone());
        connections.spawn(async move {
            let service = service_fn(|request| {
                let (daemon, shutdown) = (daemon.clone(), shutdown.clone());
                async move { Ok::<_, Infallible>(answer(request, &*daemon, shutdown).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "control connection ended");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn answer(request: Request<Incoming>, daemon: &dyn Daemon, shutdown: CancellationToken) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let force = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "force=true"));
    let command = match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/status") => return json_response(&daemon.status_now()),
        (&Method::GET, "/v1/version") => return json_response(&json!({ "version": env!("CARGO_PKG_VERSION") })),
        (&Method::GET, "/v1/events") => return events(daemon.status(), shutdown),
        (&Method::GET, "/v1/settings") => return json_response(&daemon.settings()),
        (&Method::PUT, path) if path.starts_with("/v1/settings/") => {
            let name = path.trim_start_matches("/v1/settings/").to_owned();
            return match set_setting(request, daemon, &name).await {
                Ok(()) => empty(StatusCode::NO_CONTENT),
                Err(problem) => failure(&problem),
            };
        }
        (&Method::POST, "/v1/enable") => Command::Enable,
        (&Method::POST, "/v1/disable") => Command::Disable { force },
        (&Method::POST, "/v1/idle") => Command::Idle,
        (&Method::POST, "/v1/later") => Command::Later,
        (&Method::POST, "/v1/retry") => Command::Retry,
        (&Method::POST, "/v1/shutdown") => Command::Shutdown,
        (method, path) => {
            return failure(&Problem::new(
                ErrorCode::UnknownName,
                format!("the control API has no {method} {path}"),
                "The client may be newer than the daemon: restart the daemon.",
            ));
        }
    };
    match daemon.command(command).await {
        Ok(()) => json_response(&daemon.status_now()),
        Err(problem) => failure(&problem),
    }
}

async fn set_setting(request: Request<Incoming>, daemon: &dyn Daemon, name: &str) -> Result<(), Problem> {
    let unusable = |reason: String| {
        Problem::new(ErrorCode::InvalidSettings, format!("the value for {name} is unusable: {reason}"), "")
    };
    let body =
        Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|error| unusable(error.to_string()))?;
    let value = serde_json::from_slice(&body.to_bytes()).map_err(|error| unusable(error.to_string()))?;
    daemon.set_setting(name, value).await
}

/// The event stream: the whole status, then what changes.
fn events(status: watch::Receiver<Status>, shutdown: CancellationToken) -> Response<Body> {
    let events = stream::unfold((status, None::<Map<String, Value>>), move |(mut status, sent)| {
        let shutdown = shutdown.clone();
        async move {
            let Some(sent) = sent else {
                let now = object(&status.borrow_and_update().clone());
                return Some((event("snapshot", &now), (status, Some(now))));
            };
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return None,
                    changed = status.changed() => changed.ok()?,
                }
                let now = object(&status.borrow_and_update().clone());
                let patch = patch::difference(&sent, &now);
                if !patch.is_empty() {
                    return Some((event("patch", &patch), (status, Some(now))));
                }
            }
        }
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(Box::pin(events))));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

fn object(status: &Status) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn event(name: &str, data: &Map<String, Value>) -> Result<Frame<Bytes>, Infallible> {
    let data = Value::Object(data.clone());
    Ok(Frame::data(Bytes::from(format!("event: {name}\ndata: {data}\n\n"))))
}

fn json_response(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            with_json(StatusCode::OK, bytes.into())
        }
        Err(error) => failure(&Problem::new(ErrorCode::Internal, error.to_string(), "")),
    }
}

fn failure(problem: &Problem) -> Response<Body> {
    let status = match problem.code {
        ErrorCode::UnknownName => StatusCode::NOT_FOUND,
        ErrorCode::InvalidSettings | ErrorCode::RequestRefused => StatusCode::BAD_REQUEST,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    };
    with_json(status, serde_json::to_vec(problem).unwrap_or_default().into())
}

fn with_json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = status;
    response
}
