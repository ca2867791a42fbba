//! Many paced streams in one carrier: a connection costs a message, and no channel of SSH's, no task and no round trip; what
//! many of them say at a time goes in one packet.
//!
//! Messages are eight bytes and a payload, one after the other whatever the carrier's packets: four bytes with the stream's
//! number, one of kind, three of length, both big-endian. Numbers are chosen by the end that opens streams.
//!
//! | kind | payload |
//! | --- | --- |
//! | 0 frames | of a paced stream, as if it had the carrier for itself |
//! | 1 open | what the stream is about, at most 64 bytes |
//! | 2 close | none; the stream is reset unless both its directions have ended |
//!
//! A stream that breaks its rules is reset; messages that are none break the bundle, and every stream in it.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{sync::Notify, time::timeout};

use super::{
    LINGER, Paced, Receive, Shared, Transmit, Work,
    frames::{FULL, Next, SMALL},
};

const HEAD: usize = 8;
const FRAMES: u8 = 0;
const OPEN: u8 = 1;
const CLOSE: u8 = 2;
/// Longest text about a stream.
const MAX_ABOUT: usize = 64;

/// The end of a carrier that opens streams in it. The carrier is closed with the last of its streams and this.
#[derive(Debug)]
pub struct Bundle {
    inner: Arc<Inner>,
}

/// A stream's place in its bundle.
#[derive(Debug)]
pub(super) struct Place {
    bundle: Arc<Inner>,
    id: u32,
    /// It waits for its turn already.
    queued: AtomicBool,
}

impl Place {
    /// Has the stream looked after.
    pub(super) fn wake(&self) {
        if !self.queued.swap(true, AcqRel) {
            self.bundle.push(Turn::Stream(self.id));
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    streams: Mutex<Streams>,
    turns: Mutex<VecDeque<Turn>>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Streams {
    by_id: HashMap<u32, Arc<Shared>>,
    next: u32,
    /// Nothing can be opened any more.
    broken: bool,
}

/// Who may send next, in the order in which they wanted to.
#[derive(Debug)]
enum Turn {
    Open(u32, Bytes),
    Stream(u32),
    Close(u32),
}

fn message(kind: u8, id: u32, length: usize) -> [u8; HEAD] {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    let [a, b, c, d] = id.to_be_bytes();
    let [_, e, f, g] = length.to_be_bytes();
    [a, b, c, d, kind, e, f, g]
}

impl Inner {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, VecDeque<Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, turn: Turn) {
        self.turns().push_back(turn);
        self.work.notify_one();
    }

    /// A new stream of this number; None where there is one already.
    fn add(self: &Arc<Self>, id: u32) -> Option<Paced> {
        let place = Place { bundle: Arc::clone(self), id, queued: AtomicBool::new(false) };
        let shared = Arc::new(Shared::new(Work::Place(place)));
        match self.streams().by_id.entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => {
                entry.insert(Arc::clone(&shared));
                Some(Paced { shared })
            }
        }
    }

    fn stream(&self, id: u32) -> Option<Arc<Shared>> {
        self.streams().by_id.get(&id).cloned()
    }

    fn remove(&self, id: u32) {
        self.streams().by_id.remove(&id);
    }

    /// Has every stream take nothing more.
    fn fail_writing(&self) {
        let streams: Vec<_> = {
            let mut streams = self.streams();
            streams.broken = true;
            streams.by_id.values().cloned().collect()
        };
        for stream in streams {
            stream.lock().fail_writing();
        }
    }

    /// Breaks every stream.
    fn fail(&self, kind: io::ErrorKind) {
        let streams = {
            let mut streams = self.streams();
            streams.broken = true;
            std::mem::take(&mut streams.by_id)
        };
        for stream in streams.values() {
            stream.fail(kind);
        }
        self.turns().clear();
    }
}

impl Bundle {
    /// Runs a bundle over a carrier whose far end is [`Self::accept`]ed. Spawns the task that drains the carrier. Must be called in
    /// a tokio runtime.
    pub fn new(receive: impl Receive, transmit: impl Transmit) -> Self {
        let inner = Arc::new(Inner::default());
        tokio::spawn(drive(Arc::clone(&inner), receive, transmit, None::<fn(Bytes, Paced)>));
        Self { inner }
    }

    /// Serves the far end of a bundle until its carrier ends: `opened` gets each stream with what it is about, and must not
    /// block.
    pub async fn accept(receive: impl Receive, transmit: impl Transmit, opened: impl FnMut(Bytes, Paced) + Send) {
        drive(Arc::default(), receive, transmit, Some(opened)).await;
    }

    /// Opens a stream, at once: what is written goes right behind the message. `about` has at most 64 bytes.
    ///
    /// # Errors
    /// The bundle is broken, or the text is too long.
    pub fn open(&self, about: &str) -> io::Result<Paced> {
        if about.len() > MAX_ABOUT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            let id = {
                let mut streams = self.inner.streams();
                if streams.broken {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                streams.next = streams.next.wrapping_add(1);
                streams.next
            };
            if let Some(stream) = self.inner.add(id) {
                self.inner.push(Turn::Open(id, Bytes::copy_from_slice(about.as_bytes())));
                return Ok(stream);
            }
        }
    }

    /// Whether nothing can be opened any more.
    pub fn is_broken(&self) -> bool {
        self.inner.streams().broken
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.inner.streams().broken = true;
        self.inner.work.notify_one();
    }
}

async fn drive(
    inner: Arc<Inner>,
    mut receive: impl Receive,
    mut transmit: impl Transmit,
    opened: Option<impl FnMut(Bytes, Paced) + Send>,
) {
    let result = {
        let mut receiving = pin!(receive_all(&inner, &mut receive, opened));
        let sent = tokio::select! {
            result = &mut receiving => Ok(result),
            result = send_all(&inner, &mut transmit) => Err(result),
        };
        match sent {
            Ok(result) => result,
            Err(Ok(())) => Ok(()),
            // The peer takes nothing more; what it has sent before is still to be had.
            Err(Err(error)) => {
                inner.fail_writing();
                timeout(LINGER, receiving).await.unwrap_or(Err(error))
            }
        }
    };
    inner.fail(result.err().map_or(io::ErrorKind::ConnectionReset, |error| error.kind()));
    transmit.close().await;
}

async fn send_all(inner: &Inner, transmit: &mut impl Transmit) -> io::Result<()> {
    let mut batch = BytesMut::new();
    let mut gathered = false;
    loop {
        let Some(turn) = inner.turns().pop_front() else {
            if batch.is_empty() {
                if is_over(inner) {
                    return Ok(());
                }
                inner.work.notified().await;
            } else if !gathered && inner.streams().by_id.len() > 1 {
                // Tasks of other streams that can run have their say first: this one is woken by the first of them, and would
                // send a packet for each.
                gathered = true;
                tokio::task::yield_now().await;
            } else {
                gathered = false;
                transmit.transmit(batch.split().freeze()).await?;
            }
            continue;
        };
        if batch.len() + HEAD + SMALL.max(MAX_ABOUT) > FULL {
            transmit.transmit(batch.split().freeze()).await?;
        }
        let (id, (next, ended)) = match turn {
            Turn::Open(id, about) => {
                batch.put_slice(&message(OPEN, id, about.len()));
                batch.put_slice(&about);
                continue;
            }
            Turn::Close(id) => {
                batch.put_slice(&message(CLOSE, id, 0));
                continue;
            }
            Turn::Stream(id) => {
                let Some(stream) = inner.stream(id) else { continue };
                (id, next_of(&stream))
            }
        };
        match next {
            Next::Send(packet) => {
                batch.put_slice(&message(FRAMES, id, packet.len()));
                if packet.len() <= SMALL {
                    batch.put_slice(&packet);
                } else {
                    // Not copied: a packet of its own.
                    transmit.transmit(batch.split().freeze()).await?;
                    transmit.transmit(packet).await?;
                }
            }
            Next::Wait => {}
            Next::Finished | Next::Abandoned => {
                inner.remove(id);
                if !ended {
                    batch.put_slice(&message(CLOSE, id, 0));
                }
            }
        }
    }
}

/// Whether there is nothing in the bundle and never will be.
fn is_over(inner: &Inner) -> bool {
    let streams = inner.streams();
    streams.broken && streams.by_id.is_empty()
}

/// What a stream sends now. It gets another turn, behind the others, if it has more.
/// The second is whether both of its directions have ended.
fn next_of(stream: &Shared) -> (Next, bool) {
    let Work::Place(place) = &stream.work else { return (Next::Wait, false) };
    // Whoever wants something from here on asks for another turn.
    place.queued.swap(false, AcqRel);
    let (next, more, ended) = {
        let mut state = stream.lock();
        let next = state.next();
        (next, state.has_more(), state.has_ended())
    };
    if more {
        place.wake();
    }
    (next, ended)
}

/// A message whose payload has not arrived whole.
struct Arriving {
    id: u32,
    kind: u8,
    missing: usize,
    about: BytesMut,
}

async fn receive_all(
    inner: &Arc<Inner>,
    receive: &mut impl Receive,
    mut opened: Option<impl FnMut(Bytes, Paced) + Send>,
) -> io::Result<()> {
    let mut head = BytesMut::with_capacity(HEAD);
    let mut arriving: Option<Arriving> = None;
    while let Some(mut bytes) = receive.receive().await {
        while !bytes.is_empty() {
            let Some(message) = &mut arriving else {
                let count = bytes.len().min(HEAD - head.len());
                head.put_slice(&bytes[..count]);
                bytes.advance(count);
                if head.len() == HEAD {
                    let id = head.get_u32();
                    let (kind, length) = (head.get_u8(), head.get_uint(3));
                    head.clear();
                    arriving = begun(inner, id, kind, usize::try_from(length).unwrap_or(usize::MAX), opened.is_some())?;
                }
                continue;
            };
            let part = bytes.split_to(bytes.len().min(message.missing));
            message.missing -= part.len();
            if message.kind == FRAMES {
                take_in(inner, message.id, part);
            } else {
                message.about.put_slice(&part);
            }
            if message.missing == 0
                && let Some(Arriving { id, kind: OPEN, about, .. }) = arriving.take()
                && let Some(opened) = &mut opened
            {
                let stream = inner.add(id).ok_or_else(|| broken_rule("a number that is used already"))?;
                opened(about.freeze(), stream);
            }
        }
    }
    Ok(())
}

fn broken_rule(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}

/// What a message's head begins. Nothing where it has no payload.
fn begun(inner: &Inner, id: u32, kind: u8, length: usize, opens: bool) -> io::Result<Option<Arriving>> {
    match kind {
        FRAMES if length > 0 => {}
        OPEN if opens && (1..=MAX_ABOUT).contains(&length) => {}
        CLOSE if length == 0 => {
            let stream = inner.streams().by_id.remove(&id);
            if let Some(stream) = stream.filter(|stream| !stream.lock().has_ended()) {
                stream.fail(io::ErrorKind::ConnectionReset);
            }
            return Ok(None);
        }
        _ => return Err(broken_rule("a message that is none")),
    }
    Ok(Some(Arriving { id, kind, missing: length, about: BytesMut::new() }))
}

/// Gives a stream what has come for it. What comes for one that is gone was on its way when it went.
fn take_in(inner: &Inner, id: u32, bytes: Bytes) {
    let Some(stream) = inner.stream(id) else { return };
    let (taken, ended) = {
        let mut state = stream.lock();
        (state.take_in(bytes), state.ended)
    };
    match taken {
        Ok(()) if ended => stream.work.wake(),
        Ok(()) => {}
        Err(error) => {
            inner.remove(id);
            stream.fail(error.kind());
            inner.push(Turn::Close(id));
        }
    }
}

#[cfg(test)]
mod tests;
