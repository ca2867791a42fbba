//! Intervals, whatever the wall clock does.

use std::{collections::BTreeMap, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use overside_ledger::{EndReason, Ledger};
use overside_model::ErrorCode;
use proptest::prelude::*;

use crate::{Fixture, MINUTE, at, id, new};

fn used(ledger: &Ledger, day: &str) -> Duration {
    ledger.history().used_on(day.parse().unwrap(), &TimeZone::UTC).unwrap().used
}

#[test]
fn an_interval_grows_with_every_call_and_never_shrinks() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let from = at("2026-11-21T10:00:00Z");
    ledger.begin(new(1, from, None)).unwrap();
    for minutes in [1, 2, 3, 2] {
        ledger.cover(&id(1), from, minutes * MINUTE).unwrap();
    }
    ledger.cover(&id(1), from, Duration::ZERO).unwrap();
    assert_eq!(used(&ledger, "2026-11-21"), 3 * MINUTE);
    assert_eq!(f.stored().len(), 1);
}

#[test]
fn minute_after_minute_is_as_good_as_one_interval_that_grows() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let mut from = at("2026-11-21T23:50:00Z");
    ledger.begin(new(1, from, None)).unwrap();
    for _ in 0..30 {
        ledger.cover(&id(1), from, MINUTE).unwrap();
        from = from.checked_add(MINUTE).unwrap();
    }
    assert_eq!((used(&ledger, "2026-11-21"), used(&ledger, "2026-11-22")), (10 * MINUTE, 20 * MINUTE));
}

#[test]
fn a_clock_set_back_by_a_day_counts_nothing_twice_and_loses_nothing() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let monday = at("2026-11-16T10:00:00Z");
    ledger.begin(new(1, monday, None)).unwrap();
    ledger.cover(&id(1), monday, 120 * MINUTE).unwrap();
    ledger.end(&id(1), at("2026-11-16T12:00:00Z"), EndReason::Idle).unwrap();
    // It is Tuesday, but the clock says Monday again, an hour before the session was over.
    let again = at("2026-11-16T11:00:00Z");
    ledger.begin(new(2, again, None)).unwrap();
    for minutes in [1, 60, 90] {
        ledger.cover(&id(2), again, minutes * MINUTE).unwrap();
    }
    assert_eq!(used(&ledger, "2026-11-16"), 210 * MINUTE);
    let stored = f.stored();
    assert_eq!((stored.len(), stored[1].0.start), (2, at("2026-11-16T12:00:00Z")));
}

#[test]
fn a_session_whose_clock_was_set_back_does_not_end_before_it_began() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let started = at("2026-11-16T10:00:00Z");
    ledger.begin(new(1, started, None)).unwrap();
    ledger.end(&id(1), at("2026-11-15T10:00:00Z"), EndReason::Stopped).unwrap();
    assert_eq!(ledger.history().sessions().unwrap()[0].ended, Some(started));
}

#[test]
fn two_intervals_at_the_same_time_count_both() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let from = at("2026-11-21T10:00:00Z");
    for session in [1, 2] {
        ledger.begin(new(session, from, None)).unwrap();
        ledger.cover(&id(session), from, 60 * MINUTE).unwrap();
    }
    // The first grows after the second was moved behind it.
    ledger.cover(&id(1), from, 90 * MINUTE).unwrap();
    assert_eq!(used(&ledger, "2026-11-21"), 150 * MINUTE);
    let active: Vec<_> = ledger.history().sessions().unwrap().iter().map(|session| session.active).collect();
    assert_eq!(active.iter().sum::<Duration>(), 150 * MINUTE);
    assert!(active.contains(&(90 * MINUTE)) && active.contains(&(60 * MINUTE)));
}

#[test]
fn a_session_that_never_began_is_refused_and_holds_up_nothing() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let from = at("2026-11-21T10:00:00Z");
    assert_eq!(ledger.cover(&id(9), from, MINUTE).unwrap_err().code, ErrorCode::UnknownName);
    assert_eq!(ledger.saw(&id(9), &[], 1).unwrap_err().code, ErrorCode::UnknownName);
    assert_eq!(ledger.end(&id(9), from, EndReason::Lost).unwrap_err().code, ErrorCode::UnknownName);
    ledger.begin(new(1, from, None)).unwrap();
    ledger.cover(&id(1), from, MINUTE).unwrap();
    assert_eq!(used(&ledger, "2026-11-21"), MINUTE);
}

#[test]
fn durations_as_long_as_can_be_said_break_nothing() {
    let f = Fixture::new();
    let mut ledger = f.open();
    for (session, from) in [(1, Timestamp::MIN), (2, Timestamp::MAX)] {
        ledger.begin(new(session, from, None)).unwrap();
        let _ = ledger.cover(&id(session), from, Duration::MAX);
        ledger.end(&id(session), from, EndReason::Lost).unwrap();
    }
    assert_eq!(ledger.history().sessions().unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn stored_intervals_never_overlap_and_add_up_to_what_was_measured(
        calls in prop::collection::vec((0_u64..4, 0_i64..200, 0_u64..90), 1..40),
    ) {
        let f = Fixture::new();
        let mut ledger = f.open();
        let epoch = at("2026-03-28T00:00:00Z");
        for session in 0..4 {
            ledger.begin(new(session, epoch, None)).unwrap();
        }
        let mut measured = BTreeMap::new();
        for (session, from, lasting) in calls {
            let from = epoch.checked_add(Duration::from_secs(600) * u32::try_from(from).unwrap()).unwrap();
            let lasting = Duration::from_secs(97 * lasting);
            ledger.cover(&id(session), from, lasting).unwrap();
            let longest = measured.entry((id(session).to_string(), from.as_microsecond())).or_insert(lasting);
            *longest = lasting.max(*longest);
        }
        let stored = f.stored();
        prop_assert!(stored.iter().all(|(interval, ..)| !interval.lasting.is_zero()));
        prop_assert!(stored.windows(2).all(|pair| pair[0].0.end() <= pair[1].0.start));
        let mut found = BTreeMap::new();
        for (interval, session, run) in stored {
            *found.entry((session, run)).or_insert(Duration::ZERO) += interval.lasting;
        }
        measured.retain(|_, lasting| !lasting.is_zero());
        prop_assert_eq!(found, measured);
    }
}
