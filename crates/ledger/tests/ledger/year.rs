//! A year of sessions, against totals that are counted minute by minute.

use std::{collections::BTreeMap, time::Duration};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use overside_ledger::{EndReason, Ledger};

use crate::{Fixture, MINUTE, at, id, new};

/// One session: its start, its length in minutes, its price.
struct Planned {
    start: Timestamp,
    minutes: u32,
    price: Option<f64>,
}

/// Sessions of a minute to nine hours with pauses in between, from the last days of 2025 to the first ones of 2027, by a
/// small generator so that every run has the same year.
fn year() -> Vec<Planned> {
    let mut state = 20_261_121_u64;
    let mut random = move |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 33).unwrap() % below
    };
    let (mut start, end) = (at("2025-12-29T06:00:00Z"), at("2027-01-03T00:00:00Z"));
    let mut sessions = Vec::new();
    while start < end {
        let minutes = if random(4) == 0 { 60 + random(480) } else { 1 + random(120) };
        let price = match random(3) {
            0 => None,
            price => Some(f64::from(price) * 0.25),
        };
        sessions.push(Planned { start, minutes, price });
        start = start.checked_add(MINUTE * (minutes + 5 + random(900))).unwrap();
    }
    sessions
}

fn record(ledger: &mut Ledger, sessions: &[Planned]) {
    for (number, session) in (0..).zip(sessions) {
        ledger.begin(new(number, session.start, session.price)).unwrap();
        for minutes in (0..session.minutes).step_by(25).chain([session.minutes]) {
            ledger.cover(&id(number), session.start, MINUTE * minutes).unwrap();
        }
        let ended = session.start.checked_add(MINUTE * session.minutes).unwrap();
        ledger.end(&id(number), ended, EndReason::Idle).unwrap();
    }
}

/// Minutes used and their cost by day, each minute looked at on its own.
fn counted(sessions: &[Planned], zone: impl Fn(Timestamp) -> TimeZone) -> BTreeMap<Date, (u32, f64)> {
    let mut days = BTreeMap::new();
    for session in sessions {
        for minute in 0..session.minutes {
            let moment = session.start.checked_add(MINUTE * minute).unwrap();
            let day: &mut (u32, f64) = days.entry(zone(moment).to_datetime(moment).date()).or_default();
            day.0 += 1;
            day.1 += session.price.unwrap_or_default() / 60.0;
        }
    }
    days
}

fn sum(counted: &BTreeMap<Date, (u32, f64)>, first: Date, last: Date) -> (Duration, f64) {
    let days = counted.range(first..=last);
    let (minutes, cost) = days.fold((0, 0.0), |sum, (_, day)| (sum.0 + day.0, sum.1 + day.1));
    (MINUTE * minutes, cost)
}

#[test]
fn a_year_comes_to_the_same_by_days_weeks_and_months_as_minute_by_minute() {
    let f = Fixture::new();
    let sessions = year();
    let mut ledger = f.open();
    record(&mut ledger, &sessions);
    for name in ["Europe/Berlin", "Asia/Beirut", "Pacific/Chatham", "UTC"] {
        let zone = TimeZone::get(name).unwrap();
        let counted = counted(&sessions, |_| zone.clone());
        let (first, last) = (*counted.keys().next().unwrap(), *counted.keys().last().unwrap());
        let used = ledger.history().used_between(first, last, &zone).unwrap();
        assert_eq!(used.len(), counted.len(), "{name}");
        for (day, (minutes, cost)) in &counted {
            assert_eq!(used[day].used, MINUTE * *minutes, "{day} in {name}");
            assert!((used[day].cost.unwrap_or_default() - cost).abs() < 1e-6, "{day} in {name}");
        }
        // Noon of every ninth day: whatever week and month it is in.
        let mut day: Date = "2026-01-01".parse().unwrap();
        while day <= "2026-12-31".parse().unwrap() {
            let now = day.at(12, 0, 0, 0).to_zoned(zone.clone()).unwrap();
            let report = ledger.report(&now, Duration::from_secs(8 * 3600)).unwrap();
            for period in [&report.week, &report.month] {
                let (first, last) = (period.total.first.parse().unwrap(), period.total.last.parse().unwrap());
                let (used, cost) = sum(&counted, first, last);
                assert_eq!(Duration::from_secs(period.total.seconds), used, "{} in {name}", period.total.name);
                assert!((period.total.cost.unwrap_or_default() - cost).abs() < 1e-6);
                for parts in [&period.days, &period.weeks] {
                    let seconds: u64 = parts.iter().map(|part| part.seconds).sum();
                    assert_eq!(seconds, period.total.seconds, "{} in {name}", period.total.name);
                }
            }
            assert_eq!(Duration::from_secs(report.today.seconds), sum(&counted, day, day).0);
            day = day.checked_add(9.days()).unwrap();
        }
    }
}

#[test]
fn who_crosses_zones_gets_each_day_by_the_zone_that_the_day_is_asked_in() {
    let f = Fixture::new();
    let sessions = year();
    let mut ledger = f.open();
    record(&mut ledger, &sessions);
    let zones = ["Europe/Berlin", "America/New_York", "Pacific/Apia"].map(|name| TimeZone::get(name).unwrap());
    // Two flights: the day of each is looked at from both sides.
    let flights = [at("2026-05-10T12:00:00Z"), at("2026-09-01T23:00:00Z")];
    let zone_at = |moment: Timestamp| zones[flights.iter().filter(|flight| **flight <= moment).count()].clone();
    let travelled = counted(&sessions, zone_at);
    for (index, zone) in zones.iter().enumerate() {
        let stayed = counted(&sessions, |_| zone.clone());
        for (day, (minutes, _)) in &stayed {
            assert_eq!(ledger.history().used_on(*day, zone).unwrap().used, MINUTE * *minutes);
        }
        // On days that were spent in this zone from beginning to end, travelling makes no difference.
        let from = index.checked_sub(1).map_or(Timestamp::MIN, |before| flights[before]);
        let to = flights.get(index).copied().unwrap_or(Timestamp::MAX);
        let whole = |day: &Date| {
            let begin = overside_ledger::beginning(*day, zone);
            let end = overside_ledger::beginning(day.tomorrow().unwrap(), zone);
            from <= begin && end <= to
        };
        let days: Vec<_> = travelled.iter().filter(|(day, _)| whole(day)).collect();
        assert!(days.len() > 80);
        for (day, (minutes, _)) in days {
            assert_eq!(ledger.history().used_on(*day, zone).unwrap().used, MINUTE * *minutes, "{day}");
        }
        let all: Duration = ledger
            .history()
            .used_between("2025-01-01".parse().unwrap(), "2027-12-31".parse().unwrap(), zone)
            .unwrap()
            .values()
            .map(|total| total.used)
            .sum();
        assert_eq!(all, MINUTE * sessions.iter().map(|session| session.minutes).sum::<u32>());
    }
}
