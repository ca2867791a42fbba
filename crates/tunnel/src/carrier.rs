//! The byte stream below SSH, made so that writing to it never waits.
//!
//! russh's loop does not read while it writes, at either end. Once both ends have filled the other's socket, neither reads
//! again: many small packets both ways, such as two hundred execs at once, bring that about within a second on a local
//! socket. One end that always takes what it is given and goes on reading is enough to prevent it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use overside_io::BoxedStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinHandle,
};

/// A stream that takes every write at once. What waits to be sent is bounded by the windows of the channels inside.
pub(crate) struct Carrier {
    reader: ReadHalf<BoxedStream>,
    /// None once it was shut down.
    queue: Option<mpsc::UnboundedSender<Bytes>>,
    writer: JoinHandle<io::Result<()>>,
    /// The writer's task has ended, and must not be polled again.
    ended: bool,
}

impl Carrier {
    pub(crate) fn new(stream: BoxedStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (queue, queued) = mpsc::unbounded_channel();
        Self { reader, queue: Some(queue), writer: tokio::spawn(write(writer, queued)), ended: false }
    }
}

async fn write(mut writer: WriteHalf<BoxedStream>, mut queued: mpsc::UnboundedReceiver<Bytes>) -> io::Result<()> {
    while let Some(bytes) = queued.recv().await {
        writer.write_all(&bytes).await?;
        if queued.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // A peer that takes nothing would otherwise keep the stream for ever.
        self.writer.abort();
    }
}

impl AsyncRead for Carrier {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let taken = self.queue.as_ref().is_some_and(|queue| queue.send(Bytes::copy_from_slice(buf)).is_ok());
        // The writer's task ends early only when the stream is broken.
        Poll::Ready(if taken { Ok(buf.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue = None;
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.writer).poll(cx));
        self.ended = true;
        Poll::Ready(result.unwrap_or_else(|error| Err(io::Error::other(error))))
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
