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
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// Bytes that may be under way or unread, each direction: one second's worth at 16 MB/s, 40 ms' worth at 400 MB/s. Both ends
/// must agree on it; it is part of the protocol between client and agent.
pub const CREDIT: u32 = 16 << 20;
/// Longest payload of a data frame. With its head it fills one SSH packet of 65,000 bytes.
const MAX_DATA: usize = 64_900;
/// Bytes accepted from the user ahead of the carrier.
const AHEAD: usize = 4 * MAX_DATA;
/// Frames shorter than this are put together into one packet.
const SMALL: usize = 8 * 1024;
/// Credit is granted in portions of this size, so that it costs a packet for every 2 MiB only.
const GRANT: u32 = CREDIT / 8;
/// How long the accepting end waits for the opening end to close the carrier.
const LINGER: Duration = Duration::from_secs(10);

const HEAD: usize = 4;
/// What three bytes hold; one less than the whole credit.
const MAX_LENGTH: u32 = (1 << 24) - 1;
const DATA: u8 = 0;
const GRANTED: u8 = 1;
const END: u8 = 2;

/// The receiving half of a carrier.
pub trait Receive: Send + 'static {
    /// The next bytes; None once the carrier is closed or broken. Must lose nothing when the future is dropped.
    fn receive(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The sending half of a carrier.
pub trait Transmit: Send + 'static {
    /// Sends the bytes, at most 65,000 at once.
    fn transmit(&mut self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send;
    /// Closes the carrier.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Which end of the carrier this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It opened the carrier, and closes it when both directions have ended.
    Opener,
    /// It accepted the carrier, and leaves the closing to the opener: russh's server forgets a channel only when the other
    /// side closes it first.
    Acceptor,
}

/// One end of a paced stream. Dropping it before both directions have ended tells the peer that the connection was reset.
#[derive(Debug)]
pub struct Paced {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the sending half when the user has written, read enough, ended or gone, or when the peer has ended.
    work: Notify,
    /// Wakes who waits for the stream to break.
    broken: Notify,
}

#[derive(Debug)]
struct State {
    inbound: VecDeque<Bytes>,
    /// The beginning of a frame whose rest has not arrived.
    partial: BytesMut,
    /// Bytes that the peer may still send.
    allowance: u32,
    /// Bytes that the user has read and that were not granted again yet.
    read: u32,
    ended: bool,
    reader: Option<Waker>,

    /// Whole data frames.
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
    /// Runs a paced stream over a carrier, whose far end must do the same. Spawns the task that drains the carrier; it ends
    /// with the stream. Must be called in a tokio runtime.
    pub fn new(receive: impl Receive, transmit: impl Transmit, role: Role) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                inbound: VecDeque::new(),
                partial: BytesMut::new(),
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
            broken: Notify::new(),
        });
        tokio::spawn(drive(shared.clone(), receive, transmit, role));
        Self { shared }
    }

    /// Waits until the stream is broken: the peer is gone or breaks the rules. A stream that ends in order never is. For who
    /// neither reads nor writes at the moment, and would not notice.
    pub fn broken(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            loop {
                let mut notified = std::pin::pin!(shared.broken.notified());
                notified.as_mut().enable();
                if shared.lock().failed.is_some() {
                    return;
                }
                notified.await;
            }
        }
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
        let length = u32::try_from(count).unwrap_or(0);
        let mut frame = BytesMut::with_capacity(HEAD + count);
        frame.put_u32(head(DATA, length));
        frame.put_slice(&buf[..count]);
        state.outbound.push_back(frame.freeze());
        state.outbound_bytes += count;
        state.credit -= length;
        drop(state);
        self.shared.work.notify_one();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is sent as soon as it can be; waiting for it here would only add latency.
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

const fn head(kind: u8, length: u32) -> u32 {
    (kind as u32) << 24 | length
}

fn broken_rule(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}

/// What the sending half does next.
enum Next {
    Send(Bytes),
    Wait,
    Finished,
    Abandoned,
}

impl State {
    fn fail(&mut self, kind: io::ErrorKind) {
        self.failed.get_or_insert(kind);
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn next(&mut self) -> Next {
        if self.dropped && self.end == End::Open {
            // Nobody will read or write any more; the closing carrier tells the peer.
            return Next::Abandoned;
        }
        let mut packet = BytesMut::new();
        if self.read >= GRANT && !self.ended {
            let granted = self.read.min(MAX_LENGTH);
            packet.put_u32(head(GRANTED, granted));
            self.allowance += granted;
            self.read -= granted;
        }
        while let Some(frame) = self.outbound.front() {
            if packet.is_empty() && frame.len() >= SMALL {
                break;
            }
            if !packet.is_empty() && packet.len() + frame.len() > HEAD + MAX_DATA {
                break;
            }
            packet.put_slice(frame);
            self.outbound_bytes -= frame.len() - HEAD;
            self.outbound.pop_front();
        }
        let packet = if packet.is_empty() {
            self.outbound.pop_front().inspect(|frame| self.outbound_bytes -= frame.len() - HEAD)
        } else {
            Some(packet.freeze())
        };
        let ending = packet.is_none() && self.end == End::Wanted;
        if ending {
            self.end = End::Sent;
        }
        if (packet.is_some() || ending)
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
        match packet {
            Some(packet) => Next::Send(packet),
            None if ending => Next::Send(Bytes::copy_from_slice(&head(END, 0).to_be_bytes())),
            None if self.end == End::Sent && (self.ended || self.dropped) => Next::Finished,
            None => Next::Wait,
        }
    }

    /// Takes in bytes of the carrier. Whole frames are kept without being copied.
    fn take_in(&mut self, mut bytes: Bytes) -> io::Result<()> {
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&bytes);
            bytes = std::mem::take(&mut self.partial).freeze();
        }
        while let Some(first) = bytes.first_chunk::<HEAD>() {
            let (kind, length) = (first[0], u32::from_be_bytes([0, first[1], first[2], first[3]]));
            match kind {
                DATA => {
                    let size = length as usize;
                    if size == 0 || size > MAX_DATA || length > self.allowance || self.ended {
                        return Err(broken_rule("data beyond what was granted"));
                    }
                    if bytes.len() < HEAD + size {
                        break;
                    }
                    bytes.advance(HEAD);
                    self.allowance -= length;
                    let data = bytes.split_to(size);
                    if !self.dropped {
                        self.inbound.push_back(data);
                    }
                }
                GRANTED => {
                    bytes.advance(HEAD);
                    let credit = self.credit.checked_add(length).filter(|credit| *credit <= CREDIT);
                    self.credit = credit.ok_or_else(|| broken_rule("more credit than was used"))?;
                    if let Some(writer) = self.writer.take() {
                        writer.wake();
                    }
                }
                END => {
                    bytes.advance(HEAD);
                    self.ended = true;
                }
                _ => return Err(broken_rule("a frame of an unknown kind")),
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        self.partial.extend_from_slice(&bytes);
        Ok(())
    }
}

/// Moves frames between the carrier and the shared state until both directions have ended or the user is gone.
async fn drive(shared: Arc<Shared>, mut receive: impl Receive, mut transmit: impl Transmit, role: Role) {
    let result = tokio::select! {
        result = send_all(&shared, &mut transmit) => result,
        result = receive_all(&shared, &mut receive) => result.map(|()| false),
    };
    let finished = match result {
        Ok(finished) => finished,
        Err(error) => {
            shared.lock().fail(error.kind());
            shared.broken.notify_waiters();
            false
        }
    };
    if finished && role == Role::Acceptor {
        let closed = async { while receive.receive().await.is_some() {} };
        if tokio::time::timeout(LINGER, closed).await.is_ok() {
            return;
        }
    }
    transmit.close().await;
}

/// Sends until both directions have ended (true) or the user is gone (false).
async fn send_all(shared: &Shared, transmit: &mut impl Transmit) -> io::Result<bool> {
    loop {
        let next = shared.lock().next();
        match next {
            Next::Send(packet) => transmit.transmit(packet).await?,
            Next::Wait => shared.work.notified().await,
            Next::Finished => return Ok(true),
            Next::Abandoned => return Ok(false),
        }
    }
}

/// Receives until the carrier is closed, which is an error before both directions have ended.
async fn receive_all(shared: &Shared, receive: &mut impl Receive) -> io::Result<()> {
    while let Some(bytes) = receive.receive().await {
        let ended = {
            let mut state = shared.lock();
            state.take_in(bytes)?;
            state.ended
        };
        if ended {
            shared.work.notify_one();
        }
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};

    use super::*;

    impl Receive for ReadHalf<DuplexStream> {
        async fn receive(&mut self) -> Option<Bytes> {
            let mut bytes = BytesMut::with_capacity(1 << 16);
            self.read_buf(&mut bytes).await.ok().filter(|count| *count > 0).map(|_| bytes.freeze())
        }
    }

    impl Transmit for WriteHalf<DuplexStream> {
        async fn transmit(&mut self, bytes: Bytes) -> io::Result<()> {
            self.write_all(&bytes).await
        }
        async fn close(&mut self) {
            let _ = self.shutdown().await;
        }
    }

    fn paced(carrier: DuplexStream, role: Role) -> Paced {
        let (receive, transmit) = tokio::io::split(carrier);
        Paced::new(receive, transmit, role)
    }

    fn pair(capacity: usize) -> (Paced, Paced) {
        let (a, b) = duplex(capacity);
        (paced(a, Role::Opener), paced(b, Role::Acceptor))
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

    #[tokio::test]
    async fn a_peer_that_goes_away_after_its_end_is_noticed_by_who_only_waits() {
        let (mut a, mut b) = pair(1 << 16);
        a.shutdown().await.unwrap();
        b.read_to_end(&mut Vec::new()).await.unwrap();
        let mut broken = std::pin::pin!(b.broken());
        assert!(tokio::time::timeout(Duration::from_millis(50), broken.as_mut()).await.is_err(), "too early");
        drop(a);
        tokio::time::timeout(Duration::from_secs(10), broken).await.unwrap();
    }

    async fn against_raw(frames: &[u8]) -> io::Error {
        let (mut raw, carrier): (DuplexStream, DuplexStream) = duplex(1 << 20);
        let mut paced = paced(carrier, Role::Acceptor);
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
