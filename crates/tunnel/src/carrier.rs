//! The byte stream below SSH, made so that writing to it never waits.
//!
//! russh's loop does not read while it writes, at either end. Once both ends have filled the other's socket, neither reads
//! again: many small packets both ways, such as two hundred execs at once, bring that about within a second on a local
//! socket. One end that always takes what it is given and goes on reading is enough to prevent it.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use overside_io::BoxedStream;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// Read at a time. russh asks for the four bytes of a packet's length, then for the packet: without a buffer that is two
/// system calls for each, however small.
const READ: usize = 64 * 1024;

/// A stream that takes every write at once. What waits to be sent is bounded by the windows of the channels inside, and is
/// sent whenever the stream is read, which russh's loop does all the time: reading and writing are the same task.
pub(crate) struct Carrier {
    stream: BufReader<BoxedStream>,
    waiting: VecDeque<Bytes>,
    /// It takes nothing more. What the peer has said before is still read.
    failed: Option<io::ErrorKind>,
}

impl Carrier {
    pub(crate) fn new(stream: BoxedStream) -> Self {
        Self { stream: BufReader::with_capacity(READ, stream), waiting: VecDeque::new(), failed: None }
    }

    /// Sends what waits, as far as it is taken. Ready when nothing waits any more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.waiting.front_mut() {
            let count = ready!(Pin::new(self.stream.get_mut()).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(count);
            if bytes.is_empty() {
                self.waiting.pop_front();
                if self.waiting.is_empty() {
                    // Whether it is done at once does not matter to anybody.
                    return Pin::new(self.stream.get_mut()).poll_flush(cx).map_ok(drop);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Carrier {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            tracing::debug!(%error, "the stream below SSH takes nothing more");
            self.waiting.clear();
            self.failed = Some(error.kind());
        }
        let available = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let count = available.len().min(buf.remaining());
        buf.put_slice(&available[..count]);
        Pin::new(&mut self.stream).consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if self.waiting.is_empty()
            && let Poll::Ready(result) = Pin::new(self.stream.get_mut()).poll_write(cx, buf)
        {
            return Poll::Ready(result);
        }
        self.waiting.push_back(Bytes::copy_from_slice(buf));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            // Whether it is done at once does not matter to anybody.
            let _ = Pin::new(self.stream.get_mut()).poll_flush(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::Carrier;

    #[tokio::test]
    async fn a_write_does_not_wait_for_the_peer_to_read_and_everything_arrives_before_the_end() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut carrier = Carrier::new(Box::new(near));
        let sent = vec![7; 1 << 20];
        carrier.write_all(&sent).await.unwrap();
        carrier.flush().await.unwrap();
        // Both ends write first and read afterwards: without the carrier that would stand still.
        far.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        carrier.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        let received = async {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            received
        };
        let (received, end) = tokio::join!(received, carrier.shutdown());
        end.unwrap();
        assert!(received == sent, "{} bytes arrived", received.len());
    }

    #[tokio::test]
    async fn a_carrier_that_is_dropped_lets_go_of_a_stream_that_takes_nothing() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut carrier = Carrier::new(Box::new(near));
        carrier.write_all(&[7; 1000]).await.unwrap();
        drop(carrier);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert!(received.len() <= 1000);
    }

    #[tokio::test]
    async fn a_broken_stream_is_told_to_the_writer() {
        let (near, far) = tokio::io::duplex(16);
        let mut carrier = Carrier::new(Box::new(near));
        drop(far);
        while carrier.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
