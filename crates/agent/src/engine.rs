//! Speaking with dockerd: the few questions that the agent itself has.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use overside_model::Problem;
use rustix::fs::{FileType, fstat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::sleep,
};

use crate::problem::{During, internal};

/// Longest answer that is read.
const LONGEST_ANSWER: u64 = 4 << 20;
/// Between two attempts to connect to an engine that is not yet there, or whose queue of new connections is full.
const RETRY: Duration = Duration::from_millis(3);
/// How often a refused connection is tried again.
const ATTEMPTS: u32 = 100;

/// The engine's socket, by the file itself: the environment's root may replace the path `/run/docker.sock` with anything,
/// and could otherwise point the agent, which is root, to a socket of the machine's.
#[derive(Debug, Clone)]
pub(crate) struct EngineSocket(Arc<OwnedFd>);

impl EngineSocket {
    /// Takes the descriptor that the environment's first process sent.
    pub(crate) fn new(descriptor: OwnedFd) -> Result<Self, Problem> {
        let status = fstat(&descriptor).during("looking at the engine's socket")?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
            return Err(internal("what the environment calls the engine's socket is none"));
        }
        Ok(Self(Arc::new(descriptor)))
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let mut attempts = 0;
        loop {
            match UnixStream::connect(&path).await {
                // Bound and not yet listening, or listening with a full queue; and dockerd makes its socket without any
                // permission before it grants them, which matters to an agent that is not root.
                Err(error)
                    if attempts < ATTEMPTS
                        && matches!(
                            error.kind(),
                            io::ErrorKind::ConnectionRefused
                                | io::ErrorKind::WouldBlock
                                | io::ErrorKind::PermissionDenied
                        ) =>
                {
                    attempts += 1;
                    sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    /// The body of the answer to a GET. Waits as long as dockerd does.
    pub(crate) async fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = self.connect().await?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        body(&answer).map(<[u8]>::to_vec).ok_or_else(|| io::Error::other(format!("the engine did not answer {path}")))
    }

    /// The engine's version.
    pub(crate) async fn version(&self) -> io::Result<String> {
        let answer: serde_json::Value = serde_json::from_slice(&self.get("/version").await?)?;
        let version = answer["Version"].as_str().unwrap_or("unknown");
        Ok(version.chars().filter(|c| !c.is_control()).take(64).collect())
    }

    /// Whether a container runs.
    pub(crate) async fn has_containers(&self) -> io::Result<bool> {
        let answer: serde_json::Value = serde_json::from_slice(&self.get("/containers/json?limit=1").await?)?;
        Ok(answer.as_array().is_some_and(|containers| !containers.is_empty()))
    }
}

/// The body of a successful answer.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..end]).ok()?.split(' ').nth(1)?;
    (status == "200").then_some(&answer[end + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_and_successful_answer_has_a_body() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Some(&b"{}"[..]));
        assert_eq!(body(b"HTTP/1.0 503 Not yet\r\n\r\n{}"), None);
        assert_eq!(body(b"HTTP/1.0 200 OK\r\n"), None);
    }

    #[test]
    fn a_descriptor_of_something_else_is_no_engine_socket() {
        let file = tempfile::tempfile().unwrap();
        assert!(EngineSocket::new(file.into()).is_err());
    }
}
