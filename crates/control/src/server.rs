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
use overside_model::{
    Answer, ErrorCode, Hop, KeepOrder, MountDecision, Problem, Question, RunnerEntry, RunnerStatus, SessionQuery,
    Status, UsageDays, UsageReport, UsageSessions, Work,
};
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
    /// Turn on, and go on with the session that the user has on another computer; without one, start.
    TakeOver,
    /// Suspend the environment now.
    Idle,
    /// Resume the suspended environment now, as a call that needs it would.
    Resume,
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
    /// Saves work of the environment to an archive; returns what it saved.
    async fn keep(&self, order: KeepOrder) -> Result<Vec<Work>, Problem> {
        let message = format!("this daemon cannot write {}: it saves no work", order.file);
        Err(Problem::new(ErrorCode::KeepFailed, message, ""))
    }
    /// Brings the work of an archive, an absolute path, into the environment; makes one if there is none.
    async fn restore(&self, file: &str) -> Result<Vec<Work>, Problem> {
        Err(Problem::new(ErrorCode::KeepFailed, format!("this daemon cannot read {file}: it restores no work"), ""))
    }
    /// Has a mount go on that halts.
    fn decide_mount(&self, decision: MountDecision) -> Result<(), Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("{} is not mounted", decision.path), ""))
    }
    /// Every setting as `{name: {value, source, rule, expected, purpose}}`.
    fn settings(&self) -> Map<String, Value>;
    /// Changes one setting, at once and for good.
    async fn set_setting(&self, name: &str, value: Value) -> Result<(), Problem>;
    /// The runners that settings can name.
    fn runners(&self) -> Vec<RunnerStatus> {
        Vec::new()
    }
    /// Tries every hop on the way to a runner's environments.
    async fn test_runner(&self, name: &str) -> Result<Vec<Hop>, Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("there is no runner {name:?}"), ""))
    }
    /// Addresses of runners that could be added.
    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }
    /// Adds a runner.
    fn add_runner(&self, entry: RunnerEntry) -> Result<(), Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("this daemon cannot add the runner {:?}", entry.name), ""))
    }
    /// Forgets a runner that was added. What could not be removed from it is no failure, and told.
    async fn remove_runner(&self, name: &str) -> Result<Option<Problem>, Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("there is no runner {name:?}"), ""))
    }
    /// What a person has to decide or tell before a runner can be used.
    async fn runner_question(&self, name: &str) -> Result<Option<Question>, Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("there is no runner {name:?}"), ""))
    }
    /// The answer to that. Returns why a passphrase is not kept that was to be.
    async fn answer_runner(&self, name: &str, answer: Answer) -> Result<Option<Problem>, Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("there is no runner {name:?} that asks for {answer:?}"), ""))
    }
    /// Usage of today, this week and this month, up to this moment.
    fn usage(&self) -> Result<UsageReport, Problem> {
        Err(no_ledger())
    }
    /// What each of the last `days` days came to, today included.
    fn usage_days(&self, days: u32) -> Result<UsageDays, Problem> {
        let _ = days;
        Err(no_ledger())
    }
    /// The sessions that a query asks for.
    fn usage_sessions(&self, query: &SessionQuery) -> Result<UsageSessions, Problem> {
        let _ = query;
        Err(no_ledger())
    }
    /// Every session as CSV.
    fn usage_csv(&self) -> Result<String, Problem> {
        Err(no_ledger())
    }
}

fn no_ledger() -> Problem {
    Problem::new(ErrorCode::UnknownName, "this daemon keeps no usage ledger", "")
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
        (&Method::GET, "/v1/runtime") => return json_response(&runtime()),
        (&Method::GET, "/v1/events") => return events(daemon.status(), shutdown),
        (&Method::GET, "/v1/settings") => return json_response(&daemon.settings()),
        (&Method::GET, "/v1/usage") => {
            return daemon.usage().map_or_else(|none| failure(&none), |it| json_response(&it));
        }
        (&Method::GET, "/v1/usage/days") => {
            let days = read_query::<Days>(request.uri()).and_then(|it| daemon.usage_days(it.days));
            return days.map_or_else(|none| failure(&none), |it| json_response(&it));
        }
        (&Method::GET, "/v1/usage/sessions") => {
            let sessions = read_query::<SessionQuery>(request.uri()).and_then(|query| daemon.usage_sessions(&query));
            return sessions.map_or_else(|none| failure(&none), |it| json_response(&it));
        }
        (&Method::GET, "/v1/usage.csv") => return daemon.usage_csv().map_or_else(|none| failure(&none), csv_response),
        (&Method::PUT, path) if path.starts_with("/v1/settings/") => {
            let name = path.trim_start_matches("/v1/settings/").to_owned();
            return match set_setting(request, daemon, &name).await {
                Ok(()) => empty(StatusCode::NO_CONTENT),
                Err(problem) => failure(&problem),
            };
        }
        (&Method::GET, "/v1/addresses") => return json_response(&daemon.addresses()),
        (&Method::GET, "/v1/runners") => return json_response(&daemon.runners()),
        (_, path) if path == "/v1/runners" || path.starts_with("/v1/runners/") => {
            let path = path.trim_start_matches("/v1/runners").trim_start_matches('/').to_owned();
            return runners(request, daemon, &path).await;
        }
        (&Method::POST, "/v1/keep") => {
            return match read_body::<KeepOrder>(request).await {
                Ok(order) => result(daemon.keep(order).await),
                Err(problem) => failure(&problem),
            };
        }
        (&Method::POST, "/v1/restore") => {
            return match read_body::<String>(request).await {
                Ok(file) => result(daemon.restore(&file).await),
                Err(problem) => failure(&problem),
            };
        }
        (&Method::POST, "/v1/mounts/decide") => {
            return match read_body::<MountDecision>(request).await {
                Ok(decision) => result(daemon.decide_mount(decision)),
                Err(problem) => failure(&problem),
            };
        }
        (&Method::POST, "/v1/enable") => Command::Enable,
        (&Method::POST, "/v1/disable") => Command::Disable { force },
        (&Method::POST, "/v1/take-over") => Command::TakeOver,
        (&Method::POST, "/v1/idle") => Command::Idle,
        (&Method::POST, "/v1/resume") => Command::Resume,
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

/// What is below `/v1/runners/`: a runner's name, and what is wanted of it.
async fn runners(request: Request<Incoming>, daemon: &dyn Daemon, path: &str) -> Response<Body> {
    let (name, wanted) = path.split_once('/').unwrap_or((path, ""));
    let result = match (request.method(), name, wanted) {
        (&Method::POST, "", "") => match read_body(request).await {
            Ok(entry) => daemon.add_runner(entry).map(|()| json_response(&daemon.runners())),
            Err(problem) => Err(problem),
        },
        (&Method::DELETE, name, "") => daemon.remove_runner(name).await.map(|left| json_response(&left)),
        (&Method::POST, name, "test") => daemon.test_runner(name).await.map(|hops| json_response(&hops)),
        (&Method::GET, name, "question") => daemon.runner_question(name).await.map(|asked| json_response(&asked)),
        (&Method::POST, name, "answer") => match read_body(request).await {
            Ok(answer) => daemon.answer_runner(name, answer).await.map(|lost| json_response(&lost)),
            Err(problem) => Err(problem),
        },
        (method, ..) => Err(Problem::new(
            ErrorCode::UnknownName,
            format!("the control API has no {method} /v1/runners/{path}"),
            "The client may be newer than the daemon: restart the daemon.",
        )),
    };
    result.unwrap_or_else(|problem| failure(&problem))
}

fn result<T: serde::Serialize>(result: Result<T, Problem>) -> Response<Body> {
    match result {
        Ok(work) => json_response(&work),
        Err(problem) => failure(&problem),
    }
}

/// What `/v1/usage/days` is asked with.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Days {
    days: u32,
}

fn read_query<T: serde::de::DeserializeOwned>(uri: &http::Uri) -> Result<T, Problem> {
    serde_urlencoded::from_str(uri.query().unwrap_or_default()).map_err(|error| {
        let message = format!("the query of {} is unusable: {error}", uri.path());
        Problem::new(ErrorCode::RequestRefused, message, "")
    })
}

async fn read_body<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> Result<T, Problem> {
    let unusable = |reason: String| {
        Problem::new(ErrorCode::RequestRefused, format!("the request's body is unusable: {reason}"), "")
    };
    let body =
        Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|error| unusable(error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| unusable(error.to_string()))
}

/// How busy the daemon is with itself: every connection, channel and watcher is a task.
fn runtime() -> Value {
    json!({ "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks() })
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

fn csv_response(text: String) -> Response<Body> {
    with_type(StatusCode::OK, "text/csv; charset=utf-8; header=present", text.into())
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
    with_type(status, "application/json", body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = status;
    response
}
