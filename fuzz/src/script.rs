//! Decisions out of a fuzzer's bytes.

/// Bytes that are used up as decisions are made; without any left every decision is zero.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl Script<'_> {
    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// One of the words.
    pub(crate) fn one_of<'w, T: ?Sized>(&mut self, words: &[&'w T]) -> &'w T {
        words[usize::from(self.byte()) % words.len()]
    }

    /// Whether nothing is left.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
