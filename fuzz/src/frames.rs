//! Paced streams: bytes of a peer that keeps no rule, and transfers cut and interleaved in any way.

use std::{collections::VecDeque, future::poll_fn, io, pin::Pin, sync::LazyLock, task::Poll};

use bytes::{Bytes, BytesMut};
use overside_io::{Bundle, Paced, Receive, Role, Transmit};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{Target, script::Script};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// What arrives, in these pieces and then no more.
struct Pieces(VecDeque<Bytes>);

impl Receive for Pieces {
    async fn receive(&mut self) -> Option<Bytes> {
        tokio::task::yield_now().await;
        self.0.pop_front()
    }
}

/// Takes everything.
struct Void;

impl Transmit for Void {
    async fn transmit(&mut self, _: Bytes) -> io::Result<()> {
        Ok(())
    }
    async fn close(&mut self) {}
}

/// The first byte says how what follows is cut; the rest is what a peer sends.
pub(crate) fn frames() -> Target {
    let runtime = runtime();
    Box::new(move |input| {
        let (cut, bytes) = input.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
        let size = [1, 2, 3, 5, 100, 1000, usize::MAX][usize::from(cut) % 7];
        let pieces = bytes.chunks(size.min(bytes.len().max(1))).map(Bytes::copy_from_slice).collect();
        let mut received = Vec::new();
        let result = runtime.block_on(async {
            let mut paced = Paced::new(Pieces(pieces), Void, Role::Acceptor);
            let result = paced.read_to_end(&mut received).await;
            // A write ends too, whatever the peer has done.
            let _ = paced.write_all(&[7; 100]).await;
            result
        });
        let (expected, end) = expected(bytes);
        assert!(received == expected, "{} bytes and not {}", received.len(), expected.len());
        assert_eq!(result.err().map(|error| error.kind()), end);
    })
}

/// The same for a bundle: whatever a peer sends ends, and so does every stream that it has opened.
pub(crate) fn bundle() -> Target {
    let runtime = runtime();
    Box::new(move |input| {
        let (cut, bytes) = input.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
        let size = [1, 2, 3, 5, 100, 1000, usize::MAX][usize::from(cut) % 7];
        let pieces = || Pieces(bytes.chunks(size.min(bytes.len().max(1))).map(Bytes::copy_from_slice).collect());
        runtime.block_on(async {
            let mut streams = Vec::new();
            Bundle::accept(pieces(), Void, |about, stream| {
                assert!((1..=64).contains(&about.len()), "{about:?}");
                streams.push(stream);
            })
            .await;
            for mut stream in streams {
                let mut received = Vec::new();
                let _ = stream.read_to_end(&mut received).await;
                assert!(received.len() <= bytes.len());
                stream.write_all(&[7; 100]).await.unwrap_err();
            }
            // The end that opens streams gets answers to them, of numbers that it has chosen and others.
            let bundle = Bundle::new(pieces(), Void);
            for _ in 0..3 {
                let Ok(mut stream) = bundle.open("a") else { break };
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    })
}

/// What a reader gets out of a peer's bytes, and how that ends.
fn expected(mut bytes: &[u8]) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut data = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        match head[0] {
            0 if (1..=64_900).contains(&length) => match rest.split_at_checked(length) {
                Some((payload, rest)) => {
                    data.extend_from_slice(payload);
                    bytes = rest;
                }
                None => return (data, Some(io::ErrorKind::ConnectionReset)),
            },
            // Nothing is ever sent to this peer, so that it has no credit to give back.
            2 if length == 0 => {
                // What comes after the end breaks the stream, but its reader has seen the end.
                return (data, None);
            }
            _ => return (data, Some(io::ErrorKind::InvalidData)),
        }
    }
    (data, Some(io::ErrorKind::ConnectionReset))
}

/// Pieces after which a carrier cuts no more: megabytes in single bytes tell nothing new.
const PATIENCE: usize = 2000;

/// One direction of a carrier that cuts what it carries.
struct Cutting {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    rest: BytesMut,
    sizes: Vec<u8>,
    turn: usize,
}

impl Receive for Cutting {
    async fn receive(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.pieces.recv().await?);
        }
        while let Ok(more) = self.pieces.try_recv() {
            self.rest.extend_from_slice(&more);
        }
        self.turn += 1;
        let size = match self.sizes.get(self.turn % self.sizes.len().max(1)) {
            Some(size) if self.turn < PATIENCE => SIZES[usize::from(size % 8)],
            _ => 65_000,
        };
        Some(self.rest.split_to(size.clamp(1, self.rest.len())).freeze())
    }
}

struct Sending(Option<mpsc::UnboundedSender<Bytes>>);

impl Transmit for Sending {
    async fn transmit(&mut self, bytes: Bytes) -> io::Result<()> {
        assert!(bytes.len() <= 65_000, "more than a packet holds");
        tokio::task::yield_now().await;
        let sent = self.0.as_ref().is_some_and(|sender| sender.send(bytes).is_ok());
        if sent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
    async fn close(&mut self) {
        self.0 = None;
    }
}

const SIZES: [usize; 8] = [1, 3, 100, 8191, 8192, 64_900, 200_000, 3 << 20];

/// One user of a stream: what it has written and read.
struct End {
    paced: Paced,
    written: usize,
    read: usize,
    ended: bool,
}

/// What both users write, again and again. Its length divides nothing else.
static TEXT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..1_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect());

/// The endless text from a place on, as far as it comes in one piece and at most `count` bytes.
fn text_from(place: usize, count: usize) -> &'static [u8] {
    let rest = &TEXT[place % TEXT.len()..];
    &rest[..rest.len().min(count)]
}

impl End {
    /// Writes as much of `count` bytes as is taken at once.
    async fn write(&mut self, count: usize) {
        let until = self.written + count;
        while self.written < until && !self.ended {
            let bytes = text_from(self.written, until - self.written);
            let paced = &mut self.paced;
            let taken = poll_fn(|cx| match Pin::new(&mut *paced).poll_write(cx, bytes) {
                Poll::Ready(result) => Poll::Ready(Some(result.unwrap())),
                Poll::Pending => Poll::Ready(None),
            });
            match taken.await {
                Some(taken) => self.written += taken,
                None => break,
            }
        }
    }

    /// Reads once; false at the end, or where nothing is there unless it waits.
    async fn read(&mut self, count: usize, wait: bool) -> bool {
        let mut bytes = vec![0; count];
        let mut buffer = ReadBuf::new(&mut bytes);
        let paced = &mut self.paced;
        poll_fn(|cx| match Pin::new(&mut *paced).poll_read(cx, &mut buffer) {
            Poll::Ready(result) => {
                result.unwrap();
                Poll::Ready(())
            }
            Poll::Pending if wait => Poll::Pending,
            Poll::Pending => Poll::Ready(()),
        })
        .await;
        let mut filled = buffer.filled();
        let some = !filled.is_empty();
        while !filled.is_empty() {
            let expected = text_from(self.read, filled.len());
            let (now, later) = filled.split_at(expected.len());
            assert!(now == expected, "other bytes than were written, from {}", self.read);
            self.read += now.len();
            filled = later;
        }
        some
    }
}

/// The first bytes say how the carriers cut, the others what the two users do. Everything that was written arrives.
pub(crate) fn round_trip() -> Target {
    let runtime = runtime();
    Box::new(move |script| runtime.block_on(transfer(&script[..script.len().min(64)], false)))
}

/// The same in a bundle.
pub(crate) fn bundle_round_trip() -> Target {
    let runtime = runtime();
    Box::new(move |script| runtime.block_on(transfer(&script[..script.len().min(64)], true)))
}

async fn transfer(script: &[u8], bundled: bool) {
    let (cuts, script) = script.split_at(script.len().min(8));
    let carrier = |sizes: &[u8]| {
        let (sender, pieces) = mpsc::unbounded_channel();
        (Sending(Some(sender)), Cutting { pieces, rest: BytesMut::new(), sizes: sizes.to_vec(), turn: 0 })
    };
    let (cut_there, cut_back) = cuts.split_at(cuts.len() / 2);
    let ((there, arriving), (back, returning)) = (carrier(cut_there), carrier(cut_back));
    let new = |paced| End { paced, written: 0, read: 0, ended: false };
    let bundle;
    let mut ends = if bundled {
        let (sender, mut opened) = mpsc::unbounded_channel();
        tokio::spawn(Bundle::accept(arriving, back, move |_, stream| drop(sender.send(stream))));
        bundle = Bundle::new(returning, there);
        let near = bundle.open("a").unwrap();
        [new(near), new(opened.recv().await.unwrap())]
    } else {
        [new(Paced::new(returning, there, Role::Opener)), new(Paced::new(arriving, back, Role::Acceptor))]
    };
    let mut script = Script(script);
    while !script.is_over() {
        let action = script.byte();
        let end = &mut ends[usize::from(action >> 7)];
        let size = SIZES[usize::from(action & 7)];
        match action >> 3 & 15 {
            0..6 => end.write(size).await,
            6..12 => drop(end.read(size, false).await),
            12 if !end.ended => {
                end.ended = true;
                end.paced.shutdown().await.unwrap();
            }
            _ => {}
        }
        for _ in 0..action >> 5 {
            tokio::task::yield_now().await;
        }
    }
    let [one, other] = &mut ends;
    tokio::join!(finish(one), finish(other));
    assert_eq!((one.read, other.read), (other.written, one.written));
}

/// Ends its direction and reads the other to its end.
async fn finish(end: &mut End) {
    if !end.ended {
        end.ended = true;
        end.paced.shutdown().await.unwrap();
    }
    while end.read(1 << 16, true).await {}
}
