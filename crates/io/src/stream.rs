//! Byte streams of any origin, and joining two of them.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Copying;

/// Anything that bytes go through both ways, with half-close by `shutdown`.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// A byte stream whose origin does not matter.
pub type BoxedStream = Box<dyn ByteStream>;

/// Copies both ways until both directions have ended. The end of one direction is passed on as a half-close while the other
/// flows on: a container's standard input may end long before its output does.
///
/// Returns the bytes that went from `a` to `b` and from `b` to `a`.
///
/// # Errors
/// The first error of either stream; both are then to be dropped.
pub async fn join(a: &mut (impl ByteStream + ?Sized), b: &mut (impl ByteStream + ?Sized)) -> io::Result<(u64, u64)> {
    let (mut there, mut back) = (Copying::default(), Copying::default());
    let (mut there_ended, mut back_ended) = (false, false);
    poll_fn(|cx| {
        if !there_ended {
            there_ended = there.poll(cx, Pin::new(&mut *a), Pin::new(&mut *b))?.is_ready();
        }
        if !back_ended {
            back_ended = back.poll(cx, Pin::new(&mut *b), Pin::new(&mut *a))?.is_ready();
        }
        if there_ended && back_ended { Poll::Ready(Ok((there.count(), back.count()))) } else { Poll::Pending }
    })
    .await
}

/// Like [`join`], but `b` has the last word: both are done once `b` has ended and `a` was told.
///
/// For clients (`a`) who may not understand that only `b`'s direction has ended, and would keep theirs open for ever: to them
/// the end is that their stream is dropped. An engine (`b`) ends a connection that was taken over only when the process
/// behind it is gone, so that nothing is lost that anyone would read.
///
/// # Errors
/// As [`join`].
pub async fn join_until_answered(
    a: &mut (impl ByteStream + ?Sized),
    b: &mut (impl ByteStream + ?Sized),
) -> io::Result<()> {
    let (mut asking, mut answering) = (Copying::default(), Copying::default());
    let mut asked = false;
    poll_fn(|cx| {
        // What is there to be told is told before anything else.
        if answering.poll(cx, Pin::new(&mut *b), Pin::new(&mut *a))?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !asked {
            asked = asking.poll(cx, Pin::new(&mut *a), Pin::new(&mut *b))?.is_ready();
        }
        Poll::Pending
    })
    .await
}

/// A stream from which some bytes were read too early, and are read again first.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts `prefix` before what `stream` reads next.
    pub const fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, mut near) = duplex(64);
        let (mut far, mut engine) = duplex(64);
        let joined = tokio::spawn(async move { join(&mut near, &mut far).await });
        client.write_all(b"stdin").await.unwrap();
        client.shutdown().await.unwrap();
        let mut input = String::new();
        engine.read_to_string(&mut input).await.unwrap();
        assert_eq!(input, "stdin");
        engine.write_all(b"output after the input's end").await.unwrap();
        drop(engine);
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "output after the input's end");
        assert_eq!(joined.await.unwrap().unwrap(), (5, 28));
    }

    #[tokio::test]
    async fn who_has_the_last_word_ends_the_connection_though_the_other_has_not_ended() {
        let (mut client, mut near) = duplex(64);
        let (mut far, mut engine) = duplex(64);
        let joined = tokio::spawn(async move { join_until_answered(&mut near, &mut far).await });
        client.write_all(b"stdin").await.unwrap();
        let mut input = [0; 5];
        engine.read_exact(&mut input).await.unwrap();
        engine.write_all(b"the process is gone").await.unwrap();
        drop(engine);
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "the process is gone");
        joined.await.unwrap().unwrap();
        assert!(client.write(b"more").await.is_err(), "still open");
    }

    #[tokio::test]
    async fn who_has_the_last_word_still_has_it_after_the_other_has_ended() {
        let (mut client, mut near) = duplex(64);
        let (mut far, mut engine) = duplex(64);
        let joined = tokio::spawn(async move { join_until_answered(&mut near, &mut far).await });
        client.write_all(b"stdin").await.unwrap();
        client.shutdown().await.unwrap();
        let mut input = String::new();
        engine.read_to_string(&mut input).await.unwrap();
        assert_eq!(input, "stdin");
        engine.write_all(b"output after the input's end").await.unwrap();
        drop(engine);
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "output after the input's end");
        joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_prefix_is_read_before_the_stream() {
        let (mut writer, reader) = duplex(64);
        writer.write_all(b" world").await.unwrap();
        drop(writer);
        let mut text = String::new();
        Prefixed::new(Bytes::from_static(b"hello"), reader).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello world");
    }
}
