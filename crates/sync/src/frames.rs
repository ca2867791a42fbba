//! Messages on a byte stream: in batches, each compressed as a whole, so that a thousand small files cost neither a thousand
//! packets nor a thousand dictionaries.

use std::{
    io::{self, Read, Write},
    marker::PhantomData,
};

use overside_sync_core::wire::{LONGEST, LONGEST_BATCH};
use serde::{Serialize, de::DeserializeOwned};

/// A batch is sent when it has as many bytes.
const BATCH: usize = LONGEST;
/// What is shorter is sent as it is.
const WORTH_COMPRESSING: usize = 256;
/// Marks a compressed batch in its length.
const COMPRESSED: u32 = 1 << 31;
/// The level at which zstd is quicker than a network.
const LEVEL: i32 = 1;
/// Most batches in a row that are not even tried, where those before them could not be compressed.
const MOST_UNTRIED: u32 = 31;

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sends messages of one kind.
pub(crate) struct Sender<W, T> {
    writer: W,
    batch: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    untried: Untried,
    kind: PhantomData<fn(T)>,
}

/// How many batches are sent as they are, since those before them could not be compressed: videos, archives and images of disks
/// come in long runs.
#[derive(Debug, Default)]
struct Untried {
    left: u32,
    last: u32,
}

impl Untried {
    /// Whether the next batch is worth an attempt.
    const fn is_over(&mut self) -> bool {
        if self.left == 0 {
            return true;
        }
        self.left -= 1;
        false
    }

    /// An attempt made `length` bytes of `before`. After each that was not worth while about twice as many are left out.
    const fn tried(&mut self, before: usize, length: usize) {
        self.last = if length < before - before / 16 {
            0
        } else if 2 * self.last + 1 < MOST_UNTRIED {
            2 * self.last + 1
        } else {
            MOST_UNTRIED
        };
        self.left = self.last;
    }
}

impl<W: Write, T: Serialize> Sender<W, T> {
    pub(crate) fn new(writer: W) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)?;
        let batch = Vec::with_capacity(LONGEST_BATCH);
        Ok(Self { writer, batch, compressor, untried: Untried::default(), kind: PhantomData })
    }

    /// Adds a message; it is sent with others, at the latest by [`Self::flush`].
    pub(crate) fn send(&mut self, message: &T) -> io::Result<()> {
        let start = self.batch.len();
        self.batch.extend_from_slice(&[0; 4]);
        let batch = std::mem::take(&mut self.batch);
        self.batch = postcard::to_extend(message, batch).map_err(io::Error::other)?;
        let length = self.batch.len() - start - 4;
        if length > LONGEST {
            self.batch.truncate(start);
            return Err(invalid("a message is too long"));
        }
        self.batch[start..start + 4].copy_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
        if self.batch.len() >= BATCH { self.send_batch() } else { Ok(()) }
    }

    fn send_batch(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let compressed = if self.batch.len() > WORTH_COMPRESSING && self.untried.is_over() {
            let compressed = self.compressor.compress(&self.batch)?;
            self.untried.tried(self.batch.len(), compressed.len());
            Some(compressed).filter(|compressed| compressed.len() < self.batch.len())
        } else {
            None
        };
        let (bytes, mark) = compressed.as_ref().map_or((&self.batch, 0), |compressed| (compressed, COMPRESSED));
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        // At once: each write may become a packet of its own.
        self.writer.write_all(&[&(length | mark).to_le_bytes()[..], bytes].concat())?;
        self.batch.clear();
        Ok(())
    }

    /// Sends all that was added.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.send_batch()?;
        self.writer.flush()
    }
}

/// Receives messages of one kind.
pub(crate) struct Receiver<R, T> {
    reader: R,
    batch: Vec<u8>,
    next: usize,
    decompressor: zstd::bulk::Decompressor<'static>,
    kind: PhantomData<fn() -> T>,
}

impl<R: Read, T: DeserializeOwned> Receiver<R, T> {
    pub(crate) fn new(reader: R) -> io::Result<Self> {
        let decompressor = zstd::bulk::Decompressor::new()?;
        Ok(Self { reader, batch: Vec::new(), next: 0, decompressor, kind: PhantomData })
    }

    /// Whether nothing of what has come so far is left.
    pub(crate) const fn is_drained(&self) -> bool {
        self.next == self.batch.len()
    }

    /// The next message; none when the other side has ended between two batches.
    pub(crate) fn receive(&mut self) -> io::Result<Option<T>> {
        if self.next == self.batch.len() && !self.receive_batch()? {
            return Ok(None);
        }
        let rest = &self.batch[self.next..];
        let (length, rest) = rest.split_at_checked(4).ok_or_else(|| invalid("a message breaks off"))?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let message = rest.get(..length).ok_or_else(|| invalid("a message breaks off"))?;
        self.next += 4 + length;
        postcard::from_bytes(message).map(Some).map_err(|_| invalid("a message makes no sense"))
    }

    fn receive_batch(&mut self) -> io::Result<bool> {
        let mut header = [0; 4];
        let mut read = 0;
        while read < header.len() {
            match self.reader.read(&mut header[read..]) {
                Ok(0) if read == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let header = u32::from_le_bytes(header);
        let length = (header & !COMPRESSED) as usize;
        if length == 0 || length > LONGEST_BATCH {
            return Err(invalid("a batch of messages has an impossible length"));
        }
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        self.batch = if header & COMPRESSED == 0 {
            bytes
        } else {
            self.decompressor
                .decompress(&bytes, LONGEST_BATCH)
                .map_err(|_| invalid("a batch cannot be decompressed"))?
        };
        self.next = 0;
        if self.batch.is_empty() { Err(invalid("an empty batch of messages")) } else { Ok(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compressed_is_tried_rarely_and_what_can_be_is_tried_always() {
        let attempts = |ratio: usize, batches: usize| {
            let mut untried = Untried::default();
            (0..batches)
                .filter(|_| {
                    let tried = untried.is_over();
                    if tried {
                        untried.tried(100, ratio);
                    }
                    tried
                })
                .count()
        };
        assert_eq!(attempts(50, 1000), 1000);
        assert!((30..40).contains(&attempts(100, 1000)));
        let mut untried = Untried { left: 0, last: MOST_UNTRIED };
        untried.tried(100, 50);
        assert!(untried.is_over());
    }
}
