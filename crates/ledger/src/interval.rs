//! Stretches of active time, and where they go when the wall clock contradicts itself.

use std::time::Duration;

use jiff::Timestamp;

/// A stretch of time: from `start` on, `lasting` long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// When it begins, by the wall clock.
    pub start: Timestamp,
    /// How long it is, by a clock that does not jump.
    pub lasting: Duration,
}

impl Interval {
    /// The first moment after it; the end of time where it would be later.
    pub fn end(&self) -> Timestamp {
        self.start.checked_add(self.lasting).unwrap_or(Timestamp::MAX)
    }
}

/// Time from `earlier` to `later`; none where it is the other way round.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(earlier.duration_until(later)).unwrap_or_default()
}

/// Finds room for `lasting` beginning at `from`: time that is `occupied` (in any order) is skipped, so that the pieces
/// overlap neither it nor each other, are in order, and together are exactly `lasting` long.
///
/// The wall clock names `from`, and it may have been set back since other intervals were recorded; how long something lasted
/// is known better than when it was. A longer `lasting` only adds to the end of what a shorter one gives.
pub fn place(occupied: &[Interval], from: Timestamp, lasting: Duration) -> Vec<Interval> {
    let mut ahead: Vec<&Interval> = occupied.iter().filter(|other| other.end() > from).collect();
    ahead.sort_unstable_by_key(|other| other.start);
    let mut pieces = Vec::new();
    let (mut start, mut left) = (from, lasting);
    for other in ahead {
        let piece = between(start, other.start).min(left);
        if !piece.is_zero() {
            pieces.push(Interval { start, lasting: piece });
            left -= piece;
        }
        start = start.max(other.end());
    }
    if !left.is_zero() {
        pieces.push(Interval { start, lasting: left });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn interval(start: i64, lasting: u64) -> Interval {
        Interval { start: second(start), lasting: Duration::from_secs(lasting) }
    }

    #[test]
    fn a_clock_that_was_set_back_leads_into_the_free_time_after_what_is_recorded() {
        let recorded = [interval(100, 50), interval(200, 50)];
        assert_eq!(place(&recorded, second(120), Duration::from_secs(30)), [interval(150, 30)]);
        assert_eq!(
            place(&recorded, second(90), Duration::from_secs(100)),
            [interval(90, 10), interval(150, 50), interval(250, 40)]
        );
    }

    #[test]
    fn two_intervals_at_the_same_time_follow_each_other() {
        assert_eq!(place(&[interval(100, 50)], second(100), Duration::from_secs(50)), [interval(150, 50)]);
    }

    #[test]
    fn nothing_needs_no_room() {
        assert_eq!(place(&[interval(0, 5)], second(1), Duration::ZERO), []);
    }

    proptest! {
        #[test]
        fn pieces_overlap_nothing_and_add_up(
            occupied in prop::collection::vec((0_i64..2000, 0_u64..200), 0..12),
            from in 0_i64..2000,
            lasting in 0_u64..3000,
            more in 0_u64..3000,
        ) {
            let occupied: Vec<_> = occupied.into_iter().map(|(start, lasting)| interval(start, lasting)).collect();
            let pieces = place(&occupied, second(from), Duration::from_secs(lasting));
            let total: Duration = pieces.iter().map(|piece| piece.lasting).sum();
            prop_assert_eq!(total, Duration::from_secs(lasting));
            prop_assert!(pieces.iter().all(|piece| !piece.lasting.is_zero() && piece.start >= second(from)));
            prop_assert!(pieces.windows(2).all(|pair| pair[0].end() <= pair[1].start));
            for piece in &pieces {
                for other in occupied.iter().filter(|other| !other.lasting.is_zero()) {
                    prop_assert!(piece.end() <= other.start || other.end() <= piece.start);
                }
            }
            // What was placed stays when the interval grows.
            let grown = place(&occupied, second(from), Duration::from_secs(lasting + more));
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert_eq!(grown[index].start, piece.start);
                prop_assert!(grown[index].lasting == piece.lasting || index + 1 == pieces.len());
            }
        }
    }
}
