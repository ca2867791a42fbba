//! One question to the Docker socket, as a client would ask it.

use std::{fmt, io, path::Path};

use overside_io::local;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// The daemon's sentence, where the answer is an error.
    message: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => f.write_str(message),
            None => write!(f, "HTTP status {}", self.status),
        }
    }
}

/// Whether somebody takes connections.
pub(super) async fn connect(path: &Path) -> io::Result<()> {
    local::connect(path).await.map(drop)
}

/// The process that serves a socket.
pub(super) async fn server(path: &Path) -> Option<u32> {
    local::peer(&local::connect(path).await.ok()?)
}

/// Asks for a path and reads the head of the answer; all of it where it is an error. May wait for ever.
pub(super) async fn ask(path: &Path, question: &str) -> io::Result<Answer> {
    let mut stream = local::connect(path).await?;
    let request =
        format!("GET {question} HTTP/1.1\r\nHost: docker\r\nUser-Agent: overside\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut answer, mut limited) = (Vec::new(), stream.take(MAX_ANSWER));
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed without an answer"));
        }
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status =
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers does not speak HTTP"))?;
    if status < 400 {
        return Ok(Answer { status, message: None });
    }
    limited.read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(&[][..], |end| &answer[end + 4..]);
    let json = serde_json::from_slice::<Value>(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")).and_then(Value::as_str);
    Ok(Answer { status, message: message.map(str::to_owned) })
}
