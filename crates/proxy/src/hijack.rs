//! Connections that are taken over: after the head of the answer both sides are raw streams.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::{body::Incoming, ext::ReasonPhrase, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use overside_docker_api::LastWords;
use overside_io::{ByteStream, Prefixed, join, join_until_answered};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    task::JoinHandle,
};

use crate::{
    forward,
    gate::{Flush, Held},
};

/// The protocol that the engine is asked for where an old client takes the connection over without asking: it reads a plain
/// 200 and then the raw stream.
pub(crate) const TCP: HeaderValue = HeaderValue::from_static("tcp");

/// A connection that the engine has given up to a raw stream, and what the client is told first.
pub(crate) struct TakeOver {
    pub(crate) head: Bytes,
    pub(crate) engine: Upgraded,
    pub(crate) words: LastWords,
    /// What has to be done before the client hears of the output's end.
    pub(crate) flush: Option<Flush>,
    pub(crate) held: Held,
}

impl TakeOver {
    /// Takes over from the engine's 101. A client that asked for the upgrade gets that head as it is; an old one gets 200.
    pub(crate) async fn from_answer(
        answer: Response<Incoming>,
        asked: bool,
        words: LastWords,
        flush: Option<Flush>,
        held: Held,
    ) -> hyper::Result<Self> {
        let reason =
            answer.extensions().get::<ReasonPhrase>().map_or(&b"Switching Protocols"[..], ReasonPhrase::as_bytes);
        let status = if asked { (101, reason) } else { (200, &b"OK"[..]) };
        let head = render(status, answer.headers(), asked);
        let engine = hyper::upgrade::on(answer).await?;
        Ok(Self { head, engine, words, flush, held })
    }

    /// Joins the client's stream with the engine's. `read_ahead` is what was already read of the client's stream. If the
    /// engine's breaks off, the client is told where its form allows.
    pub(crate) async fn run(self, client: impl ByteStream, read_ahead: Bytes) -> io::Result<()> {
        let mut client = Prefixed::new(read_ahead, client);
        client.write_all(&self.head).await?;
        client.flush().await?;
        let (stream, end) = (TokioIo::new(self.engine), End::of(self.flush));
        let mut engine = Overheard { stream, words: self.words, said: Bytes::new(), end };
        if cfg!(windows) {
            // Node's and .NET's clients take no notice of a pipe's half-close: it has to be closed.
            join_until_answered(&mut client, &mut engine).await?;
        } else {
            join(&mut client, &mut engine).await?;
        }
        drop(self.held);
        Ok(())
    }
}

/// A stream that, if it breaks while it is read, is read as if it ended with last words.
struct Overheard<S> {
    stream: S,
    words: LastWords,
    /// What is left of them to be read.
    said: Bytes,
    end: End,
}

/// The end of what a stream is read to.
enum End {
    /// As soon as it comes.
    AtOnce,
    /// Not before this is done, which begins then.
    After(Flush),
    /// It has come, and waits for this.
    Waiting(JoinHandle<()>),
}

impl End {
    fn of(flush: Option<Flush>) -> Self {
        flush.map_or(Self::AtOnce, Self::After)
    }

    /// Ready when the end may be told.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = match std::mem::replace(self, Self::AtOnce) {
            Self::AtOnce => return Poll::Ready(()),
            Self::After(flush) => match flush() {
                Some(waiting) => waiting,
                None => return Poll::Ready(()),
            },
            Self::Waiting(waiting) => waiting,
        };
        // That it is over counts, however it went.
        let polled = Pin::new(&mut waiting).poll(cx).map(drop);
        if polled.is_pending() {
            *self = Self::Waiting(waiting);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.said.is_empty() {
            let before = buf.filled().len();
            match ready!(Pin::new(&mut this.stream).poll_read(cx, buf)) {
                Ok(()) => {
                    let read = &buf.filled()[before..];
                    this.words.saw(read);
                    if read.is_empty() && buf.remaining() > 0 {
                        ready!(this.end.poll(cx));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => match this.words.say(&forward::broken_off()) {
                    Some(said) => {
                        tracing::debug!(%error, "a stream of the engine's broke off");
                        // Not twice: what follows is the error again.
                        this.words = LastWords::silent();
                        this.said = said.into();
                    }
                    None => return Poll::Ready(Err(error)),
                },
            }
        }
        let count = this.said.len().min(buf.remaining());
        buf.put_slice(&this.said.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // What cannot be written any more is dropped: that the stream is broken is read from it, words first.
        Poll::Ready(Ok(ready!(Pin::new(&mut self.stream).poll_write(cx, buf)).unwrap_or(buf.len())))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(Pin::new(&mut self.stream).poll_flush(cx)).or(Ok(())))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).or(Ok(())))
    }
}

/// The head of an answer, byte for byte: never a length or a transfer coding, which make some clients refuse to take the
/// connection over (testcontainers/Docker.DotNet#34).
fn render((status, reason): (u16, &[u8]), headers: &HeaderMap, upgrade: bool) -> Bytes {
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(format!("HTTP/1.1 {status} ").as_bytes());
    head.put_slice(reason);
    head.put_slice(b"\r\n");
    for (name, value) in headers {
        let belongs = if *name == header::CONNECTION || *name == header::UPGRADE {
            upgrade
        } else {
            *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING
        };
        if belongs {
            put_header(&mut head, name.as_str(), value);
        }
    }
    head.put_slice(b"\r\n");
    head.freeze()
}

/// Writes a header with its name as the engine writes it: some clients compare `Content-Type` by case.
fn put_header(head: &mut BytesMut, name: &str, value: &HeaderValue) {
    if *name == header::SEC_WEBSOCKET_ACCEPT {
        // The one name that the engine's library does not write like the others.
        head.put_slice(b"Sec-WebSocket-Accept: ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
        return;
    }
    let mut upper = true;
    for byte in name.bytes() {
        head.put_u8(if upper { byte.to_ascii_uppercase() } else { byte });
        upper = byte == b'-';
    }
    head.put_slice(b": ");
    head.put_slice(value.as_bytes());
    head.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/vnd.docker.raw-stream"),
            ("connection", "Upgrade"),
            ("upgrade", "tcp"),
            ("content-length", "0"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn an_upgrade_keeps_its_headers_and_never_has_a_length() {
        let head = render((101, b"UPGRADED"), &headers(), true);
        let text = std::str::from_utf8(&head).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
    }

    #[test]
    fn a_websockets_head_has_the_spelling_of_its_standard() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("x="));
        let head = render((101, b"Switching Protocols"), &headers, true);
        assert!(head.ends_with(b"\r\nSec-WebSocket-Accept: x=\r\n\r\n"));
    }

    #[test]
    fn a_client_that_did_not_ask_gets_200_without_a_word_of_an_upgrade() {
        let head = render((200, b"OK"), &headers(), false);
        let text = std::str::from_utf8(&head).unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
    }
}
