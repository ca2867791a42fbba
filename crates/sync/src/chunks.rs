//! Large files in parts whose borders follow from their content, so that of a file that has changed only what is new travels.

use std::{
    collections::HashMap,
    io::{self, Read},
};

use fastcdc::v2020::FastCDC;
use overside_sync_core::wire::Chunk;

use crate::blocks::WORTH;

/// Of so many chunks a file consists, about, where that gives chunks between the shortest and the longest.
const CHUNKS: u64 = 1 << 14;
/// Averages.
const SHORTEST: u32 = 16 << 10;
const LONGEST: u32 = 4 << 20;
/// Files that are longer travel whole.
const LARGEST: u64 = CHUNKS * LONGEST as u64;
/// Read at a time.
const WINDOW: usize = 4 << 20;

/// How long a chunk of these two versions of a file is to be on average; none if it is not worth while.
pub(crate) fn average(old: u64, new: u64) -> Option<u32> {
    let size = old.max(new);
    if old.min(new) < WORTH || size > LARGEST {
        return None;
    }
    u32::try_from((size / CHUNKS).next_power_of_two()).ok().map(|average| average.clamp(SHORTEST, LONGEST))
}

fn part(chunk: &[u8]) -> Chunk {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(chunk).as_bytes()[..16]);
    Chunk { digest, length: chunk.len() as u32 }
}

/// The chunks of the first `size` bytes of a file, and each one's bytes.
pub(crate) fn cut(
    file: impl Read,
    size: u64,
    average: u32,
    mut each: impl FnMut(Chunk, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if !average.is_power_of_two() || !(SHORTEST..=LONGEST).contains(&average) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "chunks of an impossible length"));
    }
    let average = average as usize;
    let (shortest, longest) = (average / 4, average * 4);
    let mut file = file.take(size);
    let (mut buffer, mut filled) = (vec![0; WINDOW.max(2 * longest)], 0);
    loop {
        let mut ends = false;
        while filled < buffer.len() && !ends {
            match file.read(&mut buffer[filled..]) {
                Ok(count) => {
                    filled += count;
                    ends = count == 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (cutter, mut start) = (FastCDC::new(&buffer[..filled], shortest, average, longest), 0);
        // Where the window ends is no border.
        while start < filled && (ends || filled - start >= longest) {
            let (_, end) = cutter.cut(start, filled - start);
            each(part(&buffer[start..end]), &buffer[start..end])?;
            start = end;
        }
        if ends {
            return Ok(());
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// The chunks of a file.
pub(crate) fn list(file: impl Read, size: u64, average: u32) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    cut(file, size, average, |chunk, _| {
        chunks.push(chunk);
        Ok(())
    })?;
    Ok(chunks)
}

/// Where in a file its chunks are.
#[derive(Debug, Default)]
pub(crate) struct Index {
    offsets: HashMap<Chunk, u64>,
    /// Where the next one begins.
    end: u64,
}

impl Index {
    /// Takes note of the next chunk.
    pub(crate) fn add(&mut self, chunk: Chunk) {
        self.offsets.entry(chunk).or_insert(self.end);
        self.end += u64::from(chunk.length);
    }

    /// How many different ones there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// How long the file is, as far as it was told.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Where one is.
    pub(crate) fn find(&self, chunk: &Chunk) -> Option<u64> {
        self.offsets.get(chunk).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise;

    fn chunks(bytes: &[u8]) -> Vec<Chunk> {
        list(bytes, bytes.len() as u64, SHORTEST).unwrap()
    }

    #[test]
    fn chunks_are_the_whole_and_an_insertion_changes_few_of_them() {
        let bytes = noise(10 << 20);
        let before = chunks(&bytes);
        assert_eq!(before.iter().map(|chunk| chunk.length as usize).sum::<usize>(), bytes.len());
        let mut index = Index::default();
        before.iter().for_each(|chunk| index.add(*chunk));
        let changed = [&bytes[..5_000_000], b"inserted", &bytes[5_000_000..]].concat();
        let new = chunks(&changed).iter().filter(|chunk| index.find(chunk).is_none()).count();
        assert!((1..4).contains(&new), "{new} of {}", before.len());
    }

    #[test]
    fn borders_are_the_same_however_the_file_is_read() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = buffer.len().min(1000).min(self.0.len());
                let (first, rest) = self.0.split_at(count);
                buffer[..count].copy_from_slice(first);
                self.0 = rest;
                Ok(count)
            }
        }
        let bytes = noise(9 << 20);
        let whole: Vec<Chunk> = FastCDC::new(&bytes, SHORTEST as usize / 4, SHORTEST as usize, SHORTEST as usize * 4)
            .map(|chunk| part(&bytes[chunk.offset..chunk.offset + chunk.length]))
            .collect();
        assert_eq!(chunks(&bytes), whole);
        assert_eq!(list(Slow(&bytes), bytes.len() as u64, SHORTEST).unwrap(), whole);
    }

    #[test]
    fn what_is_small_and_what_the_other_side_makes_up_is_not_cut() {
        assert_eq!(average(1 << 19, 1 << 30), None);
        assert_eq!(average(1 << 20, 1 << 20), Some(SHORTEST));
        assert_eq!(average(1 << 30, 1 << 29), Some(1 << 16));
        assert_eq!(average(1 << 62, 1 << 62), None);
        for average in [0, 3, 512, 1 << 30] {
            assert!(list(&b"abc"[..], 3, average).is_err());
        }
    }
}
