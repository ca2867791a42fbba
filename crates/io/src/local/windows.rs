//! Named pipes, in message mode on the server's side: the zero-length message is how Docker's clients end their input.

mod gone;
mod pipe;
mod system;
#[cfg(test)]
mod tests;

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::windows::named_pipe::{ClientOptions, NamedPipeServer, PipeMode, ServerOptions},
    sync::Mutex,
};
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY};

use super::BindError;
pub use gone::{Gone, Watched};
use pipe::Pipe;
use system::Permissions;

/// The pipe's name for a path: a path that is not one already is made into one, so that the rest of Overside knows paths
/// only.
fn pipe_name(path: &Path) -> OsString {
    let text = path.to_string_lossy();
    // Docker's clients write the prefix with either slash.
    if text.replace('/', r"\").starts_with(r"\\.\pipe\") {
        return path.as_os_str().to_owned();
    }
    let flat: String = text.chars().map(|c| if matches!(c, '\\' | '/' | ':') { '-' } else { c }).collect();
    format!(r"\\.\pipe\overside-{flat}").into()
}

/// One end of a connection. `shutdown` sends the zero-length message, and a received one is the end of input.
///
/// Some clients (Node, .NET) take no notice of that message. They see the end once the stream is dropped, after all that was
/// written.
#[derive(Debug)]
pub struct Stream {
    pipe: Arc<Pipe>,
    ended: bool,
    shut: bool,
}

impl Stream {
    fn new(pipe: Pipe) -> Self {
        Self { pipe: Arc::new(pipe), ended: false, shut: false }
    }
}

/// Connects to the pipe for `path`, waiting for a free instance for at most a second.
///
/// # Errors
/// The system's, and `PermissionDenied` where the pipe is another user's: any user could have made one of this name while
/// there was none, to be told what is meant for ours. (What is at such a pipe's other end may learn who we are, but cannot act
/// as us: tokio opens pipes for identification only.)
pub async fn connect(path: &Path) -> io::Result<Stream> {
    connect_to(path, &system::user()?).await
}

async fn connect_to(path: &Path, user: &str) -> io::Result<Stream> {
    let name = pipe_name(path);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    let pipe = loop {
        match ClientOptions::new().pipe_mode(PipeMode::Message).open(&name) {
            Ok(pipe) => break Pipe::Client(pipe),
            Err(error) if is(&error, ERROR_PIPE_BUSY) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => return Err(error),
        }
    };
    if pipe.owner()? != user {
        let message = format!("the pipe {} belongs to another user", name.to_string_lossy());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(Stream::new(pipe))
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}

/// A listening pipe that only this user can connect to.
#[derive(Debug)]
pub struct Listener {
    next: Mutex<NamedPipeServer>,
    permissions: Permissions,
    name: OsString,
    path: PathBuf,
}

impl Listener {
    /// Listens on the pipe for `path`.
    ///
    /// # Errors
    /// [`BindError::InUse`] where another process has it, [`BindError::Io`] otherwise.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        Self::bind_for(path, Permissions::for_this_user().map_err(failed)?)
    }

    fn bind_for(path: &Path, permissions: Permissions) -> Result<Self, BindError> {
        let name = pipe_name(path);
        let next = instance(&name, &permissions, true).map_err(|source| {
            if is(&source, ERROR_ACCESS_DENIED) || is(&source, ERROR_PIPE_BUSY) {
                BindError::InUse { path: path.to_owned() }
            } else {
                BindError::Io { path: path.to_owned(), source }
            }
        })?;
        Ok(Self { next: Mutex::new(next), permissions, name, path: path.to_owned() })
    }

    /// Waits for the next connection. Every client gets an instance of its own; a reused one would begin with a stale end
    /// of input. There is always one more that waits for its client: without any, clients would be told that there is no
    /// such pipe.
    ///
    /// # Errors
    /// The system's, after which accepting may be tried again.
    pub async fn accept(&self) -> io::Result<Stream> {
        let mut next = self.next.lock().await;
        next.connect().await?;
        let fresh = instance(&self.name, &self.permissions, false)?;
        Ok(Stream::new(Pipe::Server(std::mem::replace(&mut *next, fresh))))
    }

    /// The path that was bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn instance(name: &OsStr, permissions: &Permissions, first: bool) -> io::Result<NamedPipeServer> {
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true).pipe_mode(PipeMode::Message);
    permissions.create(&options, name)
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.pipe.poll_read(cx, buf))?;
        self.ended = count == 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut {
            // As on a socket. It would be read by who takes no notice of the end.
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            // Written through, it would end the peer's input.
            return Poll::Ready(Ok(0));
        }
        self.pipe.poll_write(cx, buf)
    }

    /// What was written is the system's: it goes to the peer even if the stream is dropped.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            match ready!(self.pipe.poll_write(cx, &[])) {
                // A peer that is gone needs not be told; nor is that an error on a socket.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                result => drop(result?),
            }
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// The process at the other end: not asked for on this system.
pub const fn peer(_stream: &Stream) -> Option<u32> {
    None
}
