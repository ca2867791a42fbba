//! A byte stream with flow control of its own, for carriers whose flow control is shared.
//!
//! An SSH channel has a window, but russh opens it again as data arrives rather than as data is used, and holds up the whole
//! connection when one reader is slow: a paused `docker logs -f` would stop every other call. Here the receiver grants
//! credit as its user reads, the carrier is always drained, and what waits in memory is bounded by the credit.
//!
//! Frames are four bytes and a payload: one byte of kind, three bytes of length, both ends big-endian.
//!
//! | kind | meaning of the length | payload |
//! | --- | --- | --- |
//! | 0 data | bytes that follow, 1 to 64,900 | the bytes |
//! | 1 credit | bytes that the peer may send in addition | none |
//! | 2 end | 0 | none; no data follows, the other direction goes on |

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::Notify,
};

/// Bytes that may be under way or unread, each direction: one second's worth at 16 MB/s, 40 ms' worth at 400 MB/s. Both ends
/// must agree on it; it is part of the protocol between client and agent.
pub const CREDIT: u32 = 16 << 20;
/// Longest payload of a data frame. With its head it fills one SSH packet of 65,000 bytes.
pub(crate) const MAX_DATA: usize = 64_900;
/// Bytes accepted from the user ahead of the carrier.
const AHEAD: usize = 4 * MAX_DATA;
/// Credit is granted in portions of this size, so that it costs a packet for every 2 MiB only.
const GRANT: u32 = CREDIT / 8;

const HEAD: usize = 4;
/// What three bytes hold; one less than the whole credit.
const MAX_LENGTH: u32 = (1 << 24) - 1;
const DATA: u8 = 0;
const GRANTED: u8 = 1;
const END: u8 = 2;

/// One end of a paced stream. Dropping it before both directions have ended tells the peer that the connection was reset.
#[derive(Debug)]
pub struct Paced {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the driver when the user has written, read enough, ended or gone.
    work: Notify,
}

#[derive(Debug)]
struct State {
    inbound: VecDeque<Bytes>,
    /// Bytes that the peer may still send.
    allowance: u32,
    /// Bytes that the user has read and that were not granted again yet.
    read: u32,
    ended: bool,
    reader: Option<Waker>,

    outbound: VecDeque<Bytes>,
    outbound_bytes: usize,
    credit: u32,
    writer: Option<Waker>,
    end: End,

    failed: Option<io::ErrorKind>,
    dropped: bool,
}

/// How far our own end of data has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Wanted,
    Sent,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Paced {
    /// Runs a paced stream over `carrier`, whose far end must do the same. Spawns the task that drains the carrier; it ends
    /// with the stream. Must be called in a tokio runtime.
    pub fn new(carrier: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                inbound: VecDeque::new(),
                allowance: CREDIT,
                read: 0,
                ended: false,
                reader: None,
                outbound: VecDeque::new(),
                outbound_bytes: 0,
                credit: CREDIT,
                writer: None,
                end: End::Open,
                failed: None,
                dropped: false,
            }),
            work: Notify::new(),
        });
        let driven = shared.clone();
        tokio::spawn(async move {
            let result = drive(&driven, carrier).await;
            let mut state = driven.lock();
            if let Err(error) = result {
                state.failed = Some(error.kind());
            }
            state.wake_all();
        });
        Self { shared }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.shared.lock().dropped = true;
        self.shared.work.notify_one();
    }
}

impl AsyncRead for Paced {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let before = buf.remaining();
        while buf.remaining() > 0
            && let Some(front) = state.inbound.front_mut()
        {
            let count = front.len().min(buf.remaining());
            buf.put_slice(&front[..count]);
            front.advance(count);
            if front.is_empty() {
                state.inbound.pop_front();
            }
        }
        let count = u32::try_from(before - buf.remaining()).unwrap_or(u32::MAX);
        if count > 0 {
            state.read = state.read.saturating_add(count);
            if state.read >= GRANT && !state.ended {
                self.shared.work.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if before == 0 || state.ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(kind) = state.failed {
            return Poll::Ready(Err(kind.into()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Paced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        if state.failed.is_some() || state.end != End::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = AHEAD.saturating_sub(state.outbound_bytes).min(state.credit as usize).min(MAX_DATA);
        let count = room.min(buf.len());
        if count == 0 {
            if buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.outbound.push_back(Bytes::copy_from_slice(&buf[..count]));
        state.outbound_bytes += count;
        state.credit -= u32::try_from(count).unwrap_or(u32::MAX);
        drop(state);
        self.shared.work.notify_one();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver writes as soon as it can; waiting for it here would only add latency.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.end == End::Sent {
            return Poll::Ready(Ok(()));
        }
        if state.failed.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.end = End::Wanted;
        state.writer = Some(cx.waker().clone());
        drop(state);
        self.shared.work.notify_one();
        Poll::Pending
    }
}

impl State {
    fn wake_all(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Moves what waits to be sent into `out`.
    fn fill(&mut self, out: &mut BytesMut) {
        if self.read >= GRANT && !self.ended {
            let granted = self.read.min(MAX_LENGTH);
            out.put_u32(u32::from(GRANTED) << 24 | granted);
            self.allowance += granted;
            self.read -= granted;
        }
        while out.len() < AHEAD
            && let Some(data) = self.outbound.pop_front()
        {
            self.outbound_bytes -= data.len();
            out.put_u32(u32::from(DATA) << 24 | u32::try_from(data.len()).unwrap_or(0));
            out.put_slice(&data);
        }
        if self.end == End::Wanted && self.outbound.is_empty() {
            out.put_u32(u32::from(END) << 24);
            self.end = End::Sent;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Takes in every whole frame of `input`.
    fn receive(&mut self, input: &mut BytesMut) -> io::Result<()> {
        while let Some(head) = input.first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([0, head[1], head[2], head[3]]);
            match head[0] {
                DATA => {
                    let size = length as usize;
                    if size == 0 || size > MAX_DATA || length > self.allowance || self.ended {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "data beyond what was granted"));
                    }
                    if input.len() < HEAD + size {
                        break;
                    }
                    input.advance(HEAD);
                    self.allowance -= length;
                    if !self.dropped {
                        self.inbound.push_back(input.split_to(size).freeze());
                    }
                }
                GRANTED => {
                    input.advance(HEAD);
                    self.credit = self.credit.checked_add(length).filter(|credit| *credit <= CREDIT).ok_or_else(|| {
                        io::Error::new(io::ErrorKind::InvalidData, "more credit than was used")
                    })?;
                    if let Some(writer) = self.writer.take() {
                        writer.wake();
                    }
                }
                END => {
                    input.advance(HEAD);
                    self.ended = true;
                }
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of an unknown kind")),
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Ok(())
    }
}

/// Moves frames between the carrier and the shared state until both directions have ended or the user is gone.
async fn drive(shared: &Shared, carrier: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(carrier);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut carrier_ended = false;
    loop {
        {
            let mut state = shared.lock();
            if out.is_empty() {
                state.fill(&mut out);
            }
            let sent = state.end == End::Sent && out.is_empty();
            if sent && state.ended {
                break;
            }
            if state.dropped && (state.end == End::Open || sent) {
                // Nobody will read any more; the closing carrier tells the peer.
                break;
            }
            if carrier_ended {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        input.reserve(HEAD + MAX_DATA);
        tokio::select! {
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    carrier_ended = true;
                } else {
                    shared.lock().receive(&mut input)?;
                }
            }
            written = writer.write_buf(&mut out), if !out.is_empty() => {
                if written? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                if out.is_empty() {
                    writer.flush().await?;
                }
            }
            () = shared.work.notified() => {}
        }
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn pair(capacity: usize) -> (Paced, Paced) {
        let (a, b) = duplex(capacity);
        (Paced::new(a), Paced::new(b))
    }

    #[tokio::test]
    async fn bytes_arrive_whole_and_in_order_both_ways_through_a_narrow_carrier() {
        let (mut a, mut b) = pair(1000);
        let data: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let expected = data.clone();
        let echo = tokio::spawn(async move {
            let mut received = Vec::new();
            b.read_to_end(&mut received).await.unwrap();
            b.write_all(&received).await.unwrap();
            b.shutdown().await.unwrap();
            b
        });
        a.write_all(&data).await.unwrap();
        a.shutdown().await.unwrap();
        let mut back = Vec::new();
        a.read_to_end(&mut back).await.unwrap();
        assert!(back == expected);
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_stops_its_writer_at_the_credit_and_not_the_carrier() {
        let (mut a, mut b) = pair(1 << 20);
        let chunk = vec![7; 1 << 20];
        let mut written = 0;
        while tokio::time::timeout(Duration::from_millis(200), a.write_all(&chunk)).await.is_ok() {
            written += chunk.len();
        }
        assert_eq!(written, CREDIT as usize);
        // The other direction still flows.
        b.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        a.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        // Reading lets the writer go on.
        let reader = tokio::spawn(async move {
            let mut sink = vec![0; 1 << 16];
            let mut total = 0;
            while total < 2 * CREDIT as usize {
                total += b.read(&mut sink).await.unwrap();
            }
        });
        while !reader.is_finished() {
            if tokio::time::timeout(Duration::from_secs(5), a.write_all(&chunk)).await.is_err() {
                break;
            }
        }
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn dropping_an_end_before_its_time_resets_the_other() {
        let (a, mut b) = pair(1 << 16);
        drop(a);
        assert_eq!(b.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(b.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_was_written_before_the_end_arrives_though_the_writer_is_gone() {
        let (mut a, mut b) = pair(64);
        a.write_all(&[1; 5000]).await.unwrap();
        a.shutdown().await.unwrap();
        drop(a);
        let mut received = Vec::new();
        b.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 5000);
    }

    async fn against_raw(frames: &[u8]) -> io::Error {
        let (mut raw, carrier): (DuplexStream, DuplexStream) = duplex(1 << 20);
        let mut paced = Paced::new(carrier);
        raw.write_all(frames).await.unwrap();
        let mut sink = Vec::new();
        paced.read_to_end(&mut sink).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_peer_that_breaks_the_rules_is_cut_off() {
        assert_eq!(against_raw(&[9, 0, 0, 0]).await.kind(), io::ErrorKind::InvalidData);
        assert_eq!(against_raw(&[0, 0xff, 0xff, 0xff]).await.kind(), io::ErrorKind::InvalidData);
        assert_eq!(against_raw(&[1, 0, 0, 1]).await.kind(), io::ErrorKind::InvalidData);
        assert_eq!(against_raw(&[0, 0, 0, 0]).await.kind(), io::ErrorKind::InvalidData);
    }
}
