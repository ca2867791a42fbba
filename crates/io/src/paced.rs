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
//!
//! A peer that breaks a rule is cut off: data beyond the credit or after the end, credit beyond what was used, frames that
//! say nothing. Those would cost the receiver memory or time without end.

mod bundle;
mod frames;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

pub use bundle::Bundle;
pub(crate) use frames::MAX_DATA;
use frames::{End, GRANT, Next, State};

/// Bytes that may be under way or unread, each direction: one second's worth at 16 MB/s, 40 ms' worth at 400 MB/s. Both ends
/// must agree on it; it is part of the protocol between client and agent.
pub const CREDIT: u32 = 16 << 20;
/// Bytes accepted from the user ahead of the carrier.
const AHEAD: usize = 4 * MAX_DATA;
/// How long the accepting end waits for the opening end to close the carrier.
const LINGER: Duration = Duration::from_secs(10);

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
    work: Work,
    /// Wakes who waits for the stream to break.
    broken: Notify,
}

/// Who sends.
#[derive(Debug)]
enum Work {
    /// A task of its own.
    Task(Notify),
    /// The bundle that it is in.
    Place(bundle::Place),
}

impl Work {
    fn wake(&self) {
        match self {
            Self::Task(task) => task.notify_one(),
            Self::Place(place) => place.wake(),
        }
    }
}

impl Shared {
    fn new(work: Work) -> Self {
        Self { state: Mutex::new(State::new()), work, broken: Notify::new() }
    }

    /// Breaks the stream.
    fn fail(&self, kind: io::ErrorKind) {
        self.lock().fail(kind);
        self.broken.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Paced {
    /// Runs a paced stream over a carrier, whose far end must do the same. Spawns the task that drains the carrier; it ends
    /// with the stream. Must be called in a tokio runtime.
    pub fn new(receive: impl Receive, transmit: impl Transmit, role: Role) -> Self {
        let shared = Arc::new(Shared::new(Work::Task(Notify::new())));
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
        self.shared.work.wake();
    }
}

impl AsyncRead for Paced {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let before = buf.remaining();
        state.read_into(buf);
        let count = u32::try_from(before - buf.remaining()).unwrap_or(u32::MAX);
        if count > 0 {
            state.read = state.read.saturating_add(count);
            if state.read >= GRANT && !state.ended {
                self.shared.work.wake();
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
        if state.write_failed || state.end != End::Open {
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
        state.push(&buf[..count]);
        drop(state);
        self.shared.work.wake();
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
        if state.write_failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.end = End::Wanted;
        state.writer = Some(cx.waker().clone());
        drop(state);
        self.shared.work.wake();
        Poll::Pending
    }
}

/// Moves frames between the carrier and the shared state until both directions have ended or the user is gone.
async fn drive(shared: Arc<Shared>, mut receive: impl Receive, mut transmit: impl Transmit, role: Role) {
    let (result, sending) = tokio::select! {
        result = send_all(&shared, &mut transmit) => (result, true),
        result = receive_all(&shared, &mut receive) => (result.map(|()| false), false),
    };
    let result = match result {
        // The peer takes nothing more; what it has sent before is still to be had.
        Err(error) if sending => {
            shared.lock().fail_writing();
            let rest = tokio::time::timeout(LINGER, receive_rest(&shared, &mut receive)).await;
            if rest.unwrap_or(false) { Ok(true) } else { Err(error) }
        }
        result => result,
    };
    let finished = match result {
        Ok(finished) => finished,
        Err(error) => {
            shared.fail(error.kind());
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
            Next::Wait => match &shared.work {
                Work::Task(task) => task.notified().await,
                Work::Place(_) => return Ok(false),
            },
            Next::Finished => return Ok(true),
            Next::Abandoned => return Ok(false),
        }
    }
}

/// Receives until the carrier is closed, which is an error before both directions have ended; after that it waits to be
/// dropped.
async fn receive_all(shared: &Shared, receive: &mut impl Receive) -> io::Result<()> {
    while let Some(bytes) = receive.receive().await {
        let ended = {
            let mut state = shared.lock();
            state.take_in(bytes)?;
            state.ended
        };
        if ended {
            shared.work.wake();
        }
    }
    if shared.lock().has_ended() {
        // The sending half is about to notice that both directions have ended.
        return std::future::pending().await;
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

/// Receives what is left of a carrier that takes nothing more. True if both directions have ended in order.
async fn receive_rest(shared: &Shared, receive: &mut impl Receive) -> bool {
    loop {
        if shared.lock().ended {
            return shared.lock().has_ended();
        }
        let Some(bytes) = receive.receive().await else { return false };
        if shared.lock().take_in(bytes).is_err() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::BytesMut;
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

    #[tokio::test]
    async fn a_peer_that_closes_right_behind_the_last_end_has_broken_nothing() {
        for _ in 0..200 {
            let (mut raw, carrier): (DuplexStream, DuplexStream) = duplex(1 << 16);
            let mut paced = paced(carrier, Role::Acceptor);
            paced.shutdown().await.unwrap();
            let mut broken = std::pin::pin!(paced.broken());
            raw.write_all(&[2, 0, 0, 0]).await.unwrap();
            drop(raw);
            paced.read_to_end(&mut Vec::new()).await.unwrap();
            let waited = tokio::time::timeout(Duration::from_millis(2), broken.as_mut()).await;
            assert!(waited.is_err(), "it ended in order");
        }
    }

    /// Brings its pieces one after the other.
    struct Pieces(VecDeque<Bytes>);

    impl Receive for Pieces {
        async fn receive(&mut self) -> Option<Bytes> {
            tokio::task::yield_now().await;
            self.0.pop_front()
        }
    }

    /// Takes so many packets and then no more.
    struct Taking(usize);

    impl Transmit for Taking {
        async fn transmit(&mut self, _: Bytes) -> io::Result<()> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(())
        }
        async fn close(&mut self) {}
    }

    #[tokio::test]
    async fn what_is_under_way_arrives_though_the_peer_takes_no_more_credit() {
        // Its end was sent; a peer that has sent its own as well is through, and closes.
        let frame = Bytes::from([&[0, 0, 0xea, 0x60][..], &[7; 60_000]].concat());
        let pieces = (0..100).map(|_| frame.clone()).chain([Bytes::from_static(&[2, 0, 0, 0])]);
        let mut paced = Paced::new(Pieces(pieces.collect()), Taking(1), Role::Acceptor);
        paced.shutdown().await.unwrap();
        let mut received = Vec::new();
        paced.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 6_000_000);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_breaks_writing_at_once_and_reading_behind_what_it_sent() {
        let pieces = [Bytes::from_static(&[0, 0, 0, 2, b'h', b'i'])];
        let mut paced = Paced::new(Pieces(pieces.into()), Taking(0), Role::Opener);
        let written = async {
            while paced.write_all(b"x").await.is_ok() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
        let mut received = Vec::new();
        paced.read_to_end(&mut received).await.unwrap_err();
        assert_eq!(received, b"hi");
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
        assert_eq!(against_raw(&[1, 0, 0, 0]).await.kind(), io::ErrorKind::InvalidData);
        assert_eq!(against_raw(&[2, 0, 0, 1]).await.kind(), io::ErrorKind::InvalidData);
    }
}
