//! Telling a peer that is gone from one that has only ended its input, on pipes.
//!
//! Pipes tell it to a reader only: after the zero-length message the next read is still under way, or says that the pipe is
//! broken. But who streams an answer does not read. So whoever waits for the going reads ahead, a bounded amount.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::{Stream, pipe::Pipe};

/// Most bytes read ahead. A peer that goes with more than that unread is noticed once its bytes are read, as is every peer.
const AHEAD: usize = 64 * 1024;
/// Bytes for which room is made at a time: what tokio reads at once.
const PORTION: usize = 4 * 1024;

/// A local stream that tells when its peer is gone.
#[derive(Debug)]
pub struct Watched {
    stream: Stream,
    shared: Arc<Shared>,
}

/// The peer's going.
#[derive(Debug)]
pub struct Gone {
    pipe: Arc<Pipe>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ahead: Mutex<Ahead>,
    /// Something was read from the stream, or its end seen.
    read: Notify,
}

/// What was read ahead. Whoever reads from the pipe holds its lock, so that the order is kept.
#[derive(Debug, Default)]
struct Ahead {
    bytes: BytesMut,
    /// No more bytes come.
    ended: bool,
    /// The peer is gone.
    broken: bool,
    /// Why it is, where the reader is to be told.
    error: Option<io::Error>,
    /// Who waits for bytes.
    reader: Option<Waker>,
}

impl Watched {
    /// Watches a stream.
    ///
    /// # Errors
    /// None; they are Unix's.
    pub fn new(stream: Stream) -> io::Result<(Self, Gone)> {
        let ahead = Mutex::new(Ahead { ended: stream.ended, ..Ahead::default() });
        let shared = Arc::new(Shared { ahead, read: Notify::new() });
        let gone = Gone { pipe: stream.pipe.clone(), shared: shared.clone() };
        Ok((Self { stream, shared }, gone))
    }
}

impl Gone {
    /// Waits until the peer has closed the stream altogether, and everything that it sent was read. What was sent just before
    /// the closing is therefore never lost.
    pub async fn wait(self) {
        loop {
            let may_read = {
                let ahead = self.shared.lock();
                if ahead.broken && ahead.bytes.is_empty() {
                    return;
                }
                !ahead.broken && ahead.bytes.len() < AHEAD
            };
            if !may_read {
                self.shared.read.notified().await;
            } else if self.pipe.readable().await.is_ok() {
                self.shared.lock().fill(&self.pipe);
            } else {
                // The runtime is ending.
                return;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ahead {
    /// Reads ahead what there is.
    fn fill(&mut self, pipe: &Pipe) {
        let before = self.bytes.len();
        let room = AHEAD.saturating_sub(before);
        if room == 0 || self.broken {
            return;
        }
        self.bytes.reserve(room.min(PORTION));
        match pipe.try_read(&mut (&mut self.bytes).limit(room)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // What follows the end of input is no input.
            Ok(1..) if self.ended => self.bytes.truncate(before),
            Ok(1..) => {}
            end => self.end(end, pipe),
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Notes the end of bytes, of either kind.
    fn end(&mut self, end: io::Result<usize>, pipe: &Pipe) {
        let known = std::mem::replace(&mut self.ended, true);
        self.broken = end.is_err() || pipe.is_broken();
        self.error = end.err().filter(|_| !known);
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut ahead = self.shared.lock();
        let result = if !ahead.bytes.is_empty() {
            let count = ahead.bytes.len().min(buf.remaining());
            buf.put_slice(&ahead.bytes.split_to(count));
            Ok(())
        } else if ahead.ended {
            ahead.error.take().map_or(Ok(()), Err)
        } else {
            // Woken by whoever reads ahead, too: it takes away from here what the pipe has.
            ahead.reader = Some(cx.waker().clone());
            match ready!(self.stream.pipe.poll_read(cx, buf)) {
                Ok(1..) => Ok(()),
                end => {
                    ahead.end(end, &self.stream.pipe);
                    ahead.error.take().map_or(Ok(()), Err)
                }
            }
        };
        self.shared.read.notify_one();
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
