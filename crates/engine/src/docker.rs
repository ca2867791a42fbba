//! The daemon's own calls to the engine. They go past the proxy, so that they never count as activity.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use overside_model::{ErrorCode, Problem};
use overside_tunnel::Link;
use serde_json::Value;

/// Longest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Longest line of an event stream, in bytes.
const MAX_EVENT: usize = 1 << 20;

fn unusable(path: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::EngineFailed, format!("the engine's answer to {path} is unusable: {reason}"), "")
}

async fn request(link: &Link, path: &str) -> Result<Response<Incoming>, Problem> {
    let stream = link.open_engine().await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unusable(path, error))?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "docker")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unusable(path, error))?;
    let response = sender.send_request(request).await.map_err(|error| unusable(path, error))?;
    if response.status() == StatusCode::OK { Ok(response) } else { Err(unusable(path, response.status())) }
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
