//! A file in terms of an older version that the other side has: only what is new travels.

use std::fs::File;

use overside_sync_core::wire::{BLOCK, Chunk};

use crate::{chunks::Index, files::read_exact_at};

/// What lies together is said in parts of about so many bytes.
const LONGEST_REUSE: u64 = 256 << 20;

/// So many bytes of a file, and where the older version has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) length: u64,
    pub(crate) old: Option<u64>,
}

/// The whole file, from its beginning to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta(Vec<Run>);

/// What is said of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The older version has it.
    Old { offset: u64, length: u32 },
    /// It is new.
    New(Vec<u8>),
}

impl Part {
    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Old { length, .. } => u64::from(*length),
            Self::New(bytes) => bytes.len() as u64,
        }
    }
}

impl Delta {
    /// Of a file's chunks, some of which the older version has as well.
    pub(crate) fn of_chunks(chunks: &[Chunk], known: &Index) -> Self {
        let mut delta = Self::default();
        for chunk in chunks {
            delta.push(Run { length: u64::from(chunk.length), old: known.find(chunk) });
        }
        delta
    }

    /// Adds what follows.
    pub(crate) fn push(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if last.old.is_none() && run.old.is_none() => last.length += run.length,
            Some(Run { length, old: Some(old) }) if run.old == Some(*old + *length) => *length += run.length,
            _ => self.0.push(run),
        }
    }

    /// Says it in parts that are short enough for messages. False if the file could not be read to its end.
    pub(crate) fn say<E>(&self, file: &File, mut say: impl FnMut(Part) -> Result<(), E>) -> Result<bool, E> {
        let mut at = 0;
        let mut buffer = vec![0; BLOCK];
        for run in &self.0 {
            let end = at + run.length;
            let mut old = run.old;
            while at < end {
                let part = if let Some(offset) = &mut old {
                    let length = (end - at).min(LONGEST_REUSE) as u32;
                    let part = Part::Old { offset: *offset, length };
                    *offset += u64::from(length);
                    part
                } else {
                    let bytes = &mut buffer[..BLOCK.min((end - at) as usize)];
                    if read_exact_at(file, bytes, at).is_err() {
                        return Ok(false);
                    }
                    Part::New(bytes.to_vec())
                };
                at += part.length();
                say(part)?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_lies_together_is_said_together_and_what_is_new_in_short_parts() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..BLOCK + 10).map(|number| number as u8).collect();
        file.write_all(&bytes).unwrap();
        let mut delta = Delta::default();
        for run in [(4, None), (BLOCK as u64, None), (3, Some(50)), (2, Some(53)), (1, Some(7))] {
            delta.push(Run { length: run.0, old: run.1 });
        }
        let mut said = Vec::new();
        let whole = delta.say(&file, |part| {
            said.push(part);
            Ok::<_, ()>(())
        });
        assert_eq!(whole, Ok(true));
        let expected = vec![
            Part::New(bytes[..BLOCK].to_vec()),
            Part::New(bytes[BLOCK..BLOCK + 4].to_vec()),
            Part::Old { offset: 50, length: 5 },
            Part::Old { offset: 7, length: 1 },
        ];
        assert_eq!(said, expected);
        delta.push(Run { length: 100, old: None });
        assert_eq!(delta.say(&file, |_| Ok::<_, ()>(())), Ok(false));
        let mut long = Delta::default();
        long.push(Run { length: LONGEST_REUSE + 1, old: Some(9) });
        let mut said = Vec::new();
        assert_eq!(
            long.say(&file, |part| -> Result<(), ()> {
                said.push(part);
                Ok(())
            }),
            Ok(true)
        );
        let rest = Part::Old { offset: 9 + LONGEST_REUSE, length: 1 };
        assert_eq!(said, [Part::Old { offset: 9, length: LONGEST_REUSE as u32 }, rest]);
    }
}
