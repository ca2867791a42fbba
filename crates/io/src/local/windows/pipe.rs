//! Either end of a pipe, read and written through a shared reference.

use std::{
    io,
    os::windows::io::AsHandle,
    task::{Context, Poll, ready},
};

use bytes::BufMut;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer};

use super::system;

/// Either end of a pipe.
#[derive(Debug)]
pub(super) enum Pipe {
    Client(NamedPipeClient),
    Server(NamedPipeServer),
}

/// Does the same with either end.
macro_rules! either {
    ($pipe:expr, $end:ident => $does:expr) => {
        match $pipe {
            Pipe::Client($end) => $does,
            Pipe::Server($end) => $does,
        }
    };
}

impl Pipe {
    /// Reads what there is; nothing is the end of a kind (see [`is_broken`](Self::is_broken)). Of those who wait here, only
    /// the last is woken.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut impl BufMut) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(self, end => end.poll_read_ready(cx)))?;
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Waits until reading may bring something, besides whoever waits in [`poll_read`](Self::poll_read).
    pub(super) async fn readable(&self) -> io::Result<()> {
        either!(self, end => end.readable().await)
    }

    /// Reads what there is, without waiting.
    pub(super) fn try_read(&self, buf: &mut impl BufMut) -> io::Result<usize> {
        match either!(self, end => end.try_read_buf(buf)) {
            // Like the zero-length message, and as tokio tells it at some times.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            result => result,
        }
    }

    /// Writes one message.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, message: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(self, end => end.poll_write_ready(cx)))?;
            match either!(self, end => end.try_write(message)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Whether the peer has closed the pipe altogether. Asked after nothing was read, it tells that from the zero-length
    /// message; tokio does not.
    pub(super) fn is_broken(&self) -> bool {
        system::is_broken(either!(self, end => end.as_handle()))
    }

    /// The user whose pipe it is.
    pub(super) fn owner(&self) -> io::Result<String> {
        system::owner(either!(self, end => end.as_handle()))
    }
}
