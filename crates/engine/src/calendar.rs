//! The local day, and noticing that somebody has changed the clock or the time zone.

use std::time::Duration;

use jiff::{Timestamp, Zoned, civil::Time};
use overside_io::clock;

/// How far the clock of the day may move against the clock that never jumps, unnoticed: the system's own corrections.
const DRIFT: Duration = Duration::from_secs(5);

/// What the clock on the wall said at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    now: Zoned,
    /// The clock on the wall, less the clock that never jumps.
    offset: i128,
}

/// In nanoseconds.
fn offset(now: Timestamp) -> i128 {
    let moment = i128::try_from(clock::now().since_boot().as_nanos()).unwrap_or(i128::MAX);
    now.as_nanosecond().saturating_sub(moment)
}

impl Calendar {
    pub(crate) fn read() -> Self {
        let now = Zoned::now();
        let offset = offset(now.timestamp());
        Self { now, offset }
    }

    /// Whether the clock has jumped, or the time zone is another one, since this was read.
    pub(crate) fn has_changed(&self) -> bool {
        let now = Zoned::now();
        let moved = offset(now.timestamp()).abs_diff(self.offset);
        moved > DRIFT.as_nanos() || now.time_zone() != self.now.time_zone()
    }

    /// What it said.
    pub(crate) const fn now(&self) -> &Zoned {
        &self.now
    }

    /// Time to the end of the local day, however long that is.
    pub(crate) fn left_of_day(&self) -> Duration {
        left_of_day(&self.now)
    }
}

fn left_of_day(now: &Zoned) -> Duration {
    const DAY: Duration = Duration::from_hours(24);
    let tomorrow =
        now.date().tomorrow().and_then(|date| date.to_datetime(Time::midnight()).to_zoned(now.time_zone().clone()));
    let Ok(tomorrow) = tomorrow else { return DAY };
    Duration::try_from(tomorrow.timestamp().duration_since(now.timestamp())).unwrap_or(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight_whatever_the_clocks_do_in_it() {
        for (moment, hours) in [
            ("2026-11-21T20:00[Europe/Berlin]", 4),
            // Clocks go forward, and back.
            ("2026-03-29T00:00[Europe/Berlin]", 23),
            ("2026-10-25T00:00[Europe/Berlin]", 25),
            // There is no midnight on that day; it begins at one.
            ("2018-11-03T00:00[America/Sao_Paulo]", 24),
            ("2018-11-04T01:00[America/Sao_Paulo]", 23),
            // A whole day is left out.
            ("2011-12-29T12:00[Pacific/Apia]", 12),
        ] {
            let left = left_of_day(&moment.parse().unwrap());
            assert_eq!(left, Duration::from_hours(hours), "{moment}");
        }
    }

    #[test]
    fn time_that_passes_is_no_change() {
        assert!(!Calendar::read().has_changed());
    }

    #[test]
    fn a_clock_that_was_set_is_a_change() {
        let mut calendar = Calendar::read();
        calendar.offset -= 24 * 3600 * 1_000_000_000;
        assert!(calendar.has_changed());
    }
}
