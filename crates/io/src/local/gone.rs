//! Telling a peer that is gone from one that has only ended its input.
//!
//! Both look the same to a reader: the end of data. But a client that has ended its input still waits for its answer, and
//! one that is gone must take its call with it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::Stream;

/// A local stream that tells when its peer is gone.
#[derive(Debug)]
pub struct Watched {
    stream: Stream,
    read: Arc<Notify>,
}

/// The peer's going.
#[derive(Debug)]
pub struct Gone {
    read: Arc<Notify>,
    hangup: super::Hangup,
}

impl Watched {
    /// Watches a stream.
    ///
    /// # Errors
    /// The system's, such as a shortage of file descriptors.
    pub fn new(stream: Stream) -> io::Result<(Self, Gone)> {
        let read = Arc::new(Notify::new());
        let hangup = super::Hangup::of(&stream)?;
        Ok((Self { stream, read: read.clone() }, Gone { read, hangup }))
    }
}

impl Gone {
    /// Waits until the peer has closed the stream altogether, and everything that it sent was read. What was sent just before
    /// the closing is therefore never lost.
    pub async fn wait(self) {
        self.hangup.wait().await;
        while !self.hangup.is_drained() {
            self.read.notified().await;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() {
            self.read.notify_one();
        }
        result
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_ends_its_input_is_not_gone_and_one_that_closes_is() {
        let (mut peer, stream) = Stream::pair().unwrap();
        let (mut watched, gone) = Watched::new(stream).unwrap();
        let mut gone = std::pin::pin!(gone.wait());
        peer.write_all(b"last words").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut text = String::new();
        watched.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last words");
        assert!(tokio::time::timeout(Duration::from_millis(50), gone.as_mut()).await.is_err(), "gone too early");
        watched.write_all(b"answer").await.unwrap();
        drop(peer);
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_is_not_gone_before_its_last_words_were_read() {
        let (mut peer, stream) = Stream::pair().unwrap();
        let (mut watched, gone) = Watched::new(stream).unwrap();
        let mut gone = std::pin::pin!(gone.wait());
        peer.write_all(b"last words").await.unwrap();
        drop(peer);
        assert!(tokio::time::timeout(Duration::from_millis(50), gone.as_mut()).await.is_err(), "gone too early");
        watched.read_to_string(&mut String::new()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
