//! Named pipes, in message mode on the server's side: the zero-length message is how Docker's clients end their input.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions},
    sync::Mutex,
};

use super::BindError;

/// The system's answer while every instance of a pipe is taken.
const ERROR_PIPE_BUSY: i32 = 231;
/// The system's answer to a first instance whose name is taken.
const ERROR_ACCESS_DENIED: i32 = 5;

/// The pipe's name for a path: a path that is not one already is made into one, so that the rest of Overside knows paths
/// only.
fn pipe_name(path: &Path) -> OsString {
    let text = path.to_string_lossy();
    if text.starts_with(r"\\.\pipe\") {
        return path.as_os_str().to_owned();
    }
    let flat: String = text.chars().map(|c| if matches!(c, '\\' | '/' | ':') { '-' } else { c }).collect();
    format!(r"\\.\pipe\overside-{flat}").into()
}

/// One end of a connection. `shutdown` sends the zero-length message, and a received one is the end of input.
#[derive(Debug)]
pub struct Stream {
    pipe: Pipe,
    ended: bool,
    shut: bool,
}

#[derive(Debug)]
enum Pipe {
    Client(NamedPipeClient),
    Server(NamedPipeServer),
}

impl Stream {
    const fn new(pipe: Pipe) -> Self {
        Self { pipe, ended: false, shut: false }
    }
}

/// Connects to the pipe for `path`, waiting for a free instance for at most a second.
///
/// # Errors
/// The system's.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    let name = pipe_name(path);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    loop {
        match ClientOptions::new().pipe_mode(PipeMode::Message).open(&name) {
            Ok(pipe) => return Ok(Stream::new(Pipe::Client(pipe))),
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The peer's closing of a pipe altogether. Pipes tell it to a reader only, who sees it as the end; so that it is never seen
/// apart from the end of input, and a client that is gone is noticed at the next write.
#[derive(Debug)]
pub(super) struct Hangup;

impl Hangup {
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
    pub(super) fn of(_stream: &Stream) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn wait(&self) {
        std::future::pending().await
    }

    pub(super) fn is_drained(&self) -> bool {
        true
    }
}

/// A listening pipe. Its default security descriptor lets in this user, administrators and the system, and others only
/// read, which no request survives.
#[derive(Debug)]
pub struct Listener {
    next: Mutex<NamedPipeServer>,
    name: OsString,
    path: PathBuf,
}

fn instance(name: &OsString, first: bool) -> io::Result<NamedPipeServer> {
    ServerOptions::new()
        .first_pipe_instance(first)
        .reject_remote_clients(true)
        .pipe_mode(PipeMode::Message)
        .create(name)
}

impl Listener {
    /// Listens on the pipe for `path`.
    ///
    /// # Errors
    /// [`BindError::InUse`] where another process has it, [`BindError::Io`] otherwise.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let name = pipe_name(path);
        let next = instance(&name, true).map_err(|source| match source.raw_os_error() {
            Some(ERROR_ACCESS_DENIED) => BindError::InUse { path: path.to_owned() },
            _ => BindError::Io { path: path.to_owned(), source },
        })?;
        Ok(Self { next: Mutex::new(next), name, path: path.to_owned() })
    }

    /// Waits for the next connection. Every client gets an instance of its own; a reused one would begin with a stale end
    /// of input.
    ///
    /// # Errors
    /// The system's.
    pub async fn accept(&self) -> io::Result<Stream> {
        let mut next = self.next.lock().await;
        next.connect().await?;
        let fresh = instance(&self.name, false)?;
        Ok(Stream::new(Pipe::Server(std::mem::replace(&mut *next, fresh))))
    }

    /// The path that was bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = ready!(match &mut self.pipe {
            Pipe::Client(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Pipe::Server(pipe) => Pin::new(pipe).poll_read(cx, buf),
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        self.ended = buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            // Written through, it would end the peer's input.
            return Poll::Ready(Ok(0));
        }
        match &mut self.pipe {
            Pipe::Client(pipe) => Pin::new(pipe).poll_write(cx, buf),
            Pipe::Server(pipe) => Pin::new(pipe).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.pipe {
            Pipe::Client(pipe) => Pin::new(pipe).poll_flush(cx),
            Pipe::Server(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(match &mut self.pipe {
            Pipe::Client(pipe) => Pin::new(pipe).poll_write(cx, &[]),
            Pipe::Server(pipe) => Pin::new(pipe).poll_write(cx, &[]),
        });
        self.shut = true;
        Poll::Ready(result.map(|_| ()))
    }
}
