//! The daemon's own calls to the engine. They go past the proxy, so that they never count as activity.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use overside_docker_api::{Archived, first_file};
use overside_model::{ErrorCode, Problem};
use overside_tunnel::Link;
use serde_json::Value;

/// Longest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Longest error that is read, in bytes.
const MAX_ERROR: usize = 64 << 10;
/// Links that are followed to a file of a container.
const MAX_LINKS: usize = 8;
/// Longest line of an event stream, in bytes.
const MAX_EVENT: usize = 1 << 20;

/// The body of a request.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// A body without content.
pub(crate) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Text as a part of a URI.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

pub(crate) fn unusable(path: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::EngineFailed, format!("the engine's answer to {path} is unusable: {reason}"), "")
}

/// Sends a request, and returns the head of an answer that is no error.
pub(crate) async fn send(
    link: &Link,
    method: Method,
    path: &str,
    content_type: Option<&str>,
    body: Body,
) -> Result<Response<Incoming>, Problem> {
    let stream = link.open_engine().await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unusable(path, error))?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let request = request.body(body).map_err(|error| unusable(path, error))?;
    let response = sender.send_request(request).await.map_err(|error| unusable(path, error))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said =
        serde_json::from_slice::<Value>(&body).ok().and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
    let code = if status == StatusCode::NOT_FOUND { ErrorCode::UnknownName } else { ErrorCode::EngineFailed };
    Err(Problem::new(code, said.unwrap_or_else(|| format!("the engine answered {path} with {status}")), ""))
}

/// Sends JSON, and reads the answer as JSON.
pub(crate) async fn post_json(link: &Link, path: &str, value: &Value) -> Result<Value, Problem> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed();
    let answer = send(link, Method::POST, path, Some("application/json"), body).await?;
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| unusable(path, error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| unusable(path, error))
}

/// Reads an answer that tells of progress to its end; an error among it is one.
pub(crate) async fn progress(path: &str, answer: Response<Incoming>) -> Result<(), Problem> {
    let mut lines = Lines { body: answer.into_body(), buffer: BytesMut::new() };
    while let Some(line) = lines.next().await {
        if let Some(error) = line.get("error").and_then(Value::as_str) {
            return Err(unusable(path, error));
        }
    }
    Ok(())
}

async fn request(link: &Link, path: &str) -> Result<Response<Incoming>, Problem> {
    send(link, Method::GET, path, None, nothing()).await
}

/// Reads an answer whole.
pub(crate) async fn get(link: &Link, path: &str) -> Result<(HeaderMap, Bytes), Problem> {
    let (head, body) = request(link, path).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| unusable(path, error))?;
    Ok((head.headers, body.to_bytes()))
}

/// Reads an answer as JSON.
pub(crate) async fn get_json(link: &Link, path: &str) -> Result<Value, Problem> {
    let (_, body) = get(link, path).await?;
    serde_json::from_slice(&body).map_err(|error| unusable(path, error))
}

/// Reads a file of a container, whether it runs or not, and follows links to it; None if there is no such file, or it is longer
/// than `most` bytes.
pub(crate) async fn file(link: &Link, container: &str, path: &str, most: usize) -> Result<Option<String>, Problem> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let call = format!("/containers/{}/archive?path={}", escaped(container), escaped(&path));
        let answer = match request(link, &call).await {
            Ok(answer) => answer,
            Err(problem) if problem.code == ErrorCode::UnknownName => return Ok(None),
            Err(problem) => return Err(problem),
        };
        // The file's headers need some room, too.
        let Ok(archive) = Limited::new(answer.into_body(), most + MAX_ERROR).collect().await else { return Ok(None) };
        let archive = archive.to_bytes();
        match first_file(&archive) {
            Some(Archived::File(file)) => return Ok(Some(String::from_utf8_lossy(file).into_owned())),
            // The engine follows links on the way to a file, but not the file itself; and it stays within the container.
            Some(Archived::Link(target)) if target.starts_with('/') => path = target.to_owned(),
            Some(Archived::Link(target)) => {
                path.truncate(path.rfind('/').map_or(0, |slash| slash + 1));
                path.push_str(target);
            }
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// A held stream of JSON values, one a line.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// Begins the stream.
    pub(crate) async fn open(link: &Link, path: &str) -> Result<Self, Problem> {
        Ok(Self { body: request(link, path).await?.into_body(), buffer: BytesMut::new() })
    }

    /// The next value; None at the stream's end, or where it is not understood.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return serde_json::from_slice(&line).ok();
            }
            if self.buffer.len() > MAX_EVENT {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
