//! The state of one end: what arrives is taken apart into data and credit, what the user writes is put into frames.

use std::{collections::VecDeque, io, task::Waker};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::ReadBuf;

use super::CREDIT;

/// Longest payload of a data frame. With its head it fills one SSH packet of 65,000 bytes.
pub(crate) const MAX_DATA: usize = 64_900;
/// Frames shorter than this are put together into one packet.
pub(super) const SMALL: usize = 8 * 1024;
/// Data of frames that are smaller part of what arrived than one in this is copied, so that what waits for its reader does
/// not keep all that arrived with it in memory.
const SLACK: usize = 2;
/// Bytes that copied data is gathered in at a time.
const GATHER: usize = 64 * 1024;
/// Credit is granted in portions of this size, so that it costs a packet for every 2 MiB only.
pub(super) const GRANT: u32 = CREDIT / 8;
const HEAD: usize = 4;
/// Longest packet.
pub(super) const FULL: usize = HEAD + MAX_DATA;
/// What three bytes hold; one less than the whole credit.
const MAX_LENGTH: u32 = (1 << 24) - 1;
const DATA: u8 = 0;
const GRANTED: u8 = 1;
const END: u8 = 2;

#[derive(Debug)]
pub(super) struct State {
    pub(super) inbound: VecDeque<Bytes>,
    /// Copied data behind what is in `inbound`.
    pub(super) gathered: BytesMut,
    /// The beginning of a frame whose rest has not arrived.
    pub(super) partial: BytesMut,
    /// Length of `partial` below which there is nothing to be done with it.
    pub(super) wanted: usize,
    /// Bytes that the peer may still send.
    pub(super) allowance: u32,
    /// Bytes that the user has read and that were not granted again yet.
    pub(super) read: u32,
    pub(super) ended: bool,
    pub(super) reader: Option<Waker>,

    /// Whole data frames.
    pub(super) outbound: VecDeque<Bytes>,
    pub(super) outbound_bytes: usize,
    pub(super) credit: u32,
    pub(super) writer: Option<Waker>,
    pub(super) end: End,

    /// Nothing more is had of the peer.
    pub(super) failed: Option<io::ErrorKind>,
    /// The peer takes nothing more.
    pub(super) write_failed: bool,
    pub(super) dropped: bool,
}

/// How far our own end of data has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Wanted,
    Sent,
}

const fn head(kind: u8, length: u32) -> u32 {
    (kind as u32) << 24 | length
}

fn broken_rule(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}

/// What the sending half does next.
pub(super) enum Next {
    Send(Bytes),
    Wait,
    Finished,
    Abandoned,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            inbound: VecDeque::new(),
            gathered: BytesMut::new(),
            partial: BytesMut::new(),
            wanted: 0,
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
            write_failed: false,
            dropped: false,
        }
    }

    pub(super) fn fail(&mut self, kind: io::ErrorKind) {
        self.failed.get_or_insert(kind);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        self.fail_writing();
    }

    pub(super) fn fail_writing(&mut self) {
        self.write_failed = true;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Whether both directions have ended in order.
    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.end == End::Sent
    }

    pub(super) fn next(&mut self) -> Next {
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
            if packet.is_empty() && (frame.len() >= SMALL || self.outbound.len() == 1) {
                break;
            }
            if !packet.is_empty() && packet.len() + frame.len() > FULL {
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

    /// Whether there would be something to send at once.
    pub(super) fn has_more(&self) -> bool {
        !self.outbound.is_empty() || self.end == End::Wanted
    }

    /// Fills the buffer with what has arrived.
    pub(super) fn read_into(&mut self, buf: &mut ReadBuf<'_>) {
        while buf.remaining() > 0 {
            let Some(front) = self.inbound.front_mut() else {
                if self.settle() {
                    continue;
                }
                return;
            };
            let count = front.len().min(buf.remaining());
            buf.put_slice(&front[..count]);
            front.advance(count);
            if front.is_empty() {
                self.inbound.pop_front();
            }
        }
    }

    /// Puts bytes into a frame; they must not be more than one holds, nor than the credit.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut frame = BytesMut::with_capacity(HEAD + bytes.len());
        frame.put_u32(head(DATA, length));
        frame.put_slice(bytes);
        self.outbound.push_back(frame.freeze());
        self.outbound_bytes += bytes.len();
        self.credit = self.credit.saturating_sub(length);
    }

    /// Moves gathered data to where it is read from; false if there was none.
    fn settle(&mut self) -> bool {
        let gathered = self.gathered.split().freeze();
        let some = !gathered.is_empty();
        self.inbound.extend(some.then_some(gathered));
        some
    }

    /// Keeps data for the reader. Memory is a small multiple of what is kept, however the peer has cut it.
    fn keep(&mut self, data: Bytes, arrived: usize) {
        if data.len() >= SMALL && data.len().saturating_mul(SLACK) >= arrived {
            self.settle();
            self.inbound.push_back(data);
            return;
        }
        if self.gathered.len() + data.len() > GATHER {
            self.settle();
        }
        self.gathered.extend_from_slice(&data);
    }

    /// Takes in bytes of the carrier. Whole frames that fill most of it are kept without being copied.
    pub(super) fn take_in(&mut self, mut bytes: Bytes) -> io::Result<()> {
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&bytes);
            if self.partial.len() < self.wanted {
                return Ok(());
            }
            bytes = std::mem::take(&mut self.partial).freeze();
        }
        let arrived = bytes.len();
        self.wanted = HEAD;
        while let Some(first) = bytes.first_chunk::<HEAD>() {
            let (kind, length) = (first[0], u32::from_be_bytes([0, first[1], first[2], first[3]]));
            match kind {
                DATA => {
                    let size = length as usize;
                    if size == 0 || size > MAX_DATA || length > self.allowance || self.ended {
                        return Err(broken_rule("data beyond what was granted"));
                    }
                    if bytes.len() < HEAD + size {
                        self.wanted = HEAD + size;
                        break;
                    }
                    bytes.advance(HEAD);
                    self.allowance -= length;
                    let data = bytes.split_to(size);
                    if !self.dropped {
                        self.keep(data, arrived);
                    }
                }
                GRANTED => {
                    bytes.advance(HEAD);
                    if length == 0 {
                        return Err(broken_rule("a credit of nothing"));
                    }
                    let credit = self.credit.checked_add(length).filter(|credit| *credit <= CREDIT);
                    self.credit = credit.ok_or_else(|| broken_rule("more credit than was used"))?;
                    if let Some(writer) = self.writer.take() {
                        writer.wake();
                    }
                }
                END => {
                    bytes.advance(HEAD);
                    if self.ended || length != 0 {
                        return Err(broken_rule("an end that is none"));
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn data(length: u8) -> Vec<u8> {
        [&[DATA, 0, 0, length], &vec![7; usize::from(length)][..]].concat()
    }

    #[test]
    fn data_in_small_frames_takes_little_more_memory_than_the_data() {
        let mut state = State::new();
        let packet = Bytes::from(data(1).repeat(10_000));
        for _ in 0..100 {
            state.take_in(packet.clone()).unwrap();
        }
        let kept: usize = state.inbound.iter().map(Bytes::len).sum::<usize>() + state.gathered.len();
        assert_eq!(kept, 1_000_000);
        assert!(state.inbound.len() <= 1_000_000 / GATHER + 1, "{} pieces", state.inbound.len());
    }

    #[test]
    fn a_byte_does_not_keep_the_packet_that_it_came_with() {
        let mut state = State::new();
        let packet = Bytes::from([data(1), vec![DATA, 0, 0xf0, 0]].concat());
        state.take_in(packet.clone()).unwrap();
        state.read_into(&mut ReadBuf::new(&mut [0; 1]));
        assert!(packet.is_unique(), "a piece of it is still there");
    }

    #[test]
    fn a_frame_may_come_byte_by_byte() {
        let mut state = State::new();
        for byte in [data(200), data(3)].concat() {
            state.take_in(Bytes::copy_from_slice(&[byte])).unwrap();
        }
        let mut bytes = [0; 300];
        let mut buffer = ReadBuf::new(&mut bytes);
        state.read_into(&mut buffer);
        assert_eq!(buffer.filled(), [7; 203]);
    }
}
