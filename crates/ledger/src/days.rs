//! Local days: where they begin, and how intervals fall into them.
//!
//! A day begins when the clock first shows its midnight, or the first time after it where midnight is skipped, and ends where
//! the next one begins. Days of 23 and 25 hours come out of that; a date that a zone skipped is a day of no length.

use std::time::Duration;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Time},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::interval::{Interval, between};

/// The day's first moment in `zone`; the end of time for days after it.
pub fn beginning(day: Date, zone: &TimeZone) -> Timestamp {
    let midnight = zone.to_ambiguous_timestamp(day.to_datetime(Time::midnight()));
    if let AmbiguousOffset::Gap { .. } = midnight.offset() {
        // The clock jumps over midnight, not always from it: the day begins where it lands.
        let before = midnight.earlier().unwrap_or(Timestamp::MIN);
        return zone.following(before).next().map_or(Timestamp::MAX, |change| change.timestamp());
    }
    midnight.compatible().unwrap_or(Timestamp::MAX)
}

/// The day of a moment in `zone`. Where clocks are set back over midnight, the date that they show again is over already.
pub fn day_of(moment: Timestamp, zone: &TimeZone) -> Date {
    let mut day = zone.to_datetime(moment).date();
    while let Some(next) = next(day).filter(|next| beginning(*next, zone) <= moment) {
        day = next;
    }
    day
}

/// Splits an interval at the midnights of `zone`: for every day that it touches, in order, how long it is there.
pub fn split(interval: Interval, zone: &TimeZone) -> Vec<(Date, Duration)> {
    let mut parts = Vec::new();
    let (mut start, mut left) = (interval.start, interval.lasting);
    while !left.is_zero() {
        let day = day_of(start, zone);
        let end = next(day).map_or(Timestamp::MAX, |next| beginning(next, zone));
        // Past the end of time there are no more days.
        let part = if end == Timestamp::MAX { left } else { between(start, end).min(left) };
        parts.push((day, part));
        left -= part;
        start = end;
    }
    parts
}

/// The date after `day`; none at the end of time.
pub(crate) fn next(day: Date) -> Option<Date> {
    day.checked_add(1.day()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn hours(zone_name: &str, from: &str, hours: u64) -> Vec<(String, u64)> {
        let start = from.parse::<Timestamp>().unwrap();
        let interval = Interval { start, lasting: Duration::from_secs(hours * 3600) };
        split(interval, &zone(zone_name))
            .into_iter()
            .map(|(day, part)| (day.to_string(), part.as_secs() / 60))
            .collect()
    }

    fn minutes(parts: &[(&str, u64)]) -> Vec<(String, u64)> {
        parts.iter().map(|(day, minutes)| ((*day).to_owned(), *minutes)).collect()
    }

    #[test]
    fn days_of_23_and_25_hours_are_as_long_as_they_are() {
        let spring = hours("Europe/Berlin", "2026-03-28T23:00:00Z", 24);
        assert_eq!(spring, minutes(&[("2026-03-29", 23 * 60), ("2026-03-30", 60)]));
        let autumn = hours("Europe/Berlin", "2026-10-24T22:00:00Z", 26);
        assert_eq!(autumn, minutes(&[("2026-10-25", 25 * 60), ("2026-10-26", 60)]));
    }

    #[test]
    fn a_date_that_was_skipped_gets_nothing() {
        let apia = hours("Pacific/Apia", "2011-12-30T08:00:00Z", 4);
        assert_eq!(apia, minutes(&[("2011-12-29", 120), ("2011-12-31", 120)]));
        let zone = zone("Pacific/Apia");
        assert_eq!(beginning("2011-12-30".parse().unwrap(), &zone), beginning("2011-12-31".parse().unwrap(), &zone));
    }

    #[test]
    fn where_midnight_is_skipped_the_day_begins_at_one() {
        for (name, before, day, next) in [
            ("Africa/Cairo", "2026-04-23T21:00:00Z", "2026-04-23", "2026-04-24"),
            ("America/Sao_Paulo", "2018-11-04T02:00:00Z", "2018-11-03", "2018-11-04"),
            ("Asia/Beirut", "2026-03-28T21:00:00Z", "2026-03-28", "2026-03-29"),
        ] {
            assert_eq!(hours(name, before, 24), minutes(&[(day, 60), (next, 23 * 60)]), "{name}");
        }
        // From 23:30 to 00:30: the day begins at half past, not at what would have been midnight.
        let toronto = zone("America/Toronto");
        let day = beginning("1919-03-31".parse().unwrap(), &toronto);
        assert_eq!(toronto.to_datetime(day).to_string(), "1919-03-31T00:30:00");
    }

    #[test]
    fn where_the_hour_before_midnight_comes_twice_the_day_has_25_hours() {
        assert_eq!(
            hours("America/Sao_Paulo", "2018-02-17T02:00:00Z", 26),
            minutes(&[("2018-02-17", 25 * 60), ("2018-02-18", 60)])
        );
        // A minute past midnight back to a minute past eleven: the date that is shown again is over.
        assert_eq!(
            hours("America/St_Johns", "2010-11-07T01:30:00Z", 4),
            minutes(&[("2010-11-06", 60), ("2010-11-07", 180)])
        );
    }

    #[test]
    fn the_end_of_time_is_a_day_as_well() {
        let interval = Interval { start: Timestamp::MAX, lasting: Duration::from_secs(5) };
        assert_eq!(split(interval, &TimeZone::UTC).len(), 1);
    }

    const ZONES: [&str; 10] = [
        "Pacific/Apia",
        "Africa/Cairo",
        "America/Sao_Paulo",
        "Asia/Beirut",
        "America/St_Johns",
        "America/Toronto",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "UTC",
    ];

    proptest! {
        #[test]
        fn parts_are_in_order_and_positive_and_add_up(
            name in prop::sample::select(&ZONES),
            start in -2_000_000_000_000_i64..4_000_000_000_000,
            lasting in 0_u64..500_000_000,
        ) {
            let zone = zone(name);
            let interval = Interval {
                start: Timestamp::from_millisecond(start).unwrap(),
                lasting: Duration::from_millis(lasting),
            };
            let parts = split(interval, &zone);
            prop_assert_eq!(parts.iter().map(|(_, part)| *part).sum::<Duration>(), interval.lasting);
            prop_assert!(parts.iter().all(|(_, part)| !part.is_zero()));
            prop_assert!(parts.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let mut at = interval.start;
            for (day, part) in parts {
                prop_assert!(beginning(day, &zone) <= at);
                at = at.checked_add(part).unwrap();
                prop_assert!(at <= beginning(next(day).unwrap(), &zone));
            }
        }
    }
}
