//! Reports and exports.

use std::time::Duration;

use jiff::{Zoned, tz::TimeZone};
use overside_ledger::{EndReason, Ledger};
use overside_model::{ErrorCode, SessionQuery};

use crate::{Fixture, MINUTE, at, id, new};

const LIMIT: Duration = Duration::from_secs(8 * 3600);

fn now(text: &str) -> Zoned {
    text.parse().unwrap()
}

#[test]
fn a_report_has_every_day_of_its_week_and_its_month() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let started = at("2026-10-31T22:30:00Z");
    ledger.begin(new(1, started, Some(0.5))).unwrap();
    ledger.cover(&id(1), started, 120 * MINUTE).unwrap();
    let report = ledger.report(&now("2026-11-01T12:00:00+01:00[Europe/Berlin]"), LIMIT).unwrap();
    assert_eq!((report.zone.as_str(), report.limit_seconds), ("Europe/Berlin", 28_800));
    assert_eq!((report.today.name.as_str(), report.today.seconds, report.today.cost), ("2026-11-01", 5400, Some(0.75)));
    assert_eq!((report.week.total.name.as_str(), report.week.total.seconds), ("2026-W44", 7200));
    assert_eq!((report.month.total.name.as_str(), report.month.total.seconds), ("2026-11", 5400));
    assert_eq!((report.week.days.len(), report.month.days.len()), (7, 30));
    let weeks: Vec<_> =
        report.month.weeks.iter().map(|week| format!("{} {} {}", week.name, week.first, week.last)).collect();
    assert_eq!(weeks[0], "2026-W44 2026-11-01 2026-11-01");
    assert_eq!(weeks[5], "2026-W49 2026-11-30 2026-11-30");
    assert_eq!(report.problem, None);
}

#[test]
fn days_in_a_row_end_with_today_and_have_those_without_use() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let started = at("2026-10-31T22:30:00Z");
    ledger.begin(new(1, started, Some(0.5))).unwrap();
    ledger.cover(&id(1), started, 120 * MINUTE).unwrap();
    let now = now("2026-11-02T12:00:00+01:00[Europe/Berlin]");
    let days = ledger.days(&now, 4, LIMIT).unwrap();
    let told: Vec<_> = days.days.iter().map(|day| (day.day.as_str(), day.seconds, day.cost)).collect();
    assert_eq!(
        told,
        [
            ("2026-10-30", 0, None),
            ("2026-10-31", 1800, Some(0.25)),
            ("2026-11-01", 5400, Some(0.75)),
            ("2026-11-02", 0, None)
        ]
    );
    assert_eq!((days.zone.as_str(), days.limit_seconds, days.problem), ("Europe/Berlin", 28_800, None));
    assert_eq!(ledger.days(&now, 3660, LIMIT).unwrap().days.len(), 3660);
    for count in [0, 3661, u32::MAX] {
        assert_eq!(ledger.days(&now, count, LIMIT).unwrap_err().code, ErrorCode::RequestRefused);
    }
}

/// Five sessions of an hour: on the evening of every tenth day, on two runners, with two images; the last one goes on.
fn five(f: &Fixture) -> Ledger {
    let mut ledger = f.open();
    for number in 0..5_u32 {
        let started = at("2026-01-01T23:30:00Z").checked_add(number * 10 * 24 * 60 * MINUTE).unwrap();
        let session = id(number.into());
        let runner = if number % 2 == 0 { "local" } else { "office" }.to_owned();
        ledger.begin(overside_ledger::NewSession { runner, ..new(number.into(), started, Some(2.0)) }).unwrap();
        ledger.cover(&session, started, 60 * MINUTE).unwrap();
        ledger.saw(&session, &[if number < 2 { "Redis:7" } else { "alpine:3" }.to_owned()], 1).unwrap();
        if number < 4 {
            let reason = if number == 3 { EndReason::Lost } else { EndReason::Idle };
            ledger.end(&session, started.checked_add(60 * MINUTE).unwrap(), reason).unwrap();
        }
    }
    ledger
}

#[test]
fn sessions_are_found_newest_first_by_day_runner_status_and_text() {
    let f = Fixture::new();
    let ledger = five(&f);
    let find = |query: SessionQuery| ledger.history().find(&query, &TimeZone::UTC).unwrap();
    let ids = |query: SessionQuery| find(query).sessions.into_iter().map(|session| session.id).collect::<Vec<_>>();
    let numbers = |numbers: &[u64]| numbers.iter().map(|number| id(*number).to_string()).collect::<Vec<_>>();
    let of = |text: &str| Some(text.to_owned());
    assert_eq!(ids(SessionQuery::default()), numbers(&[4, 3, 2, 1, 0]));
    // The second one began on the 11th and ended on the 12th; the last one goes on.
    assert_eq!(ids(SessionQuery { from: of("2026-01-12"), ..Default::default() }), numbers(&[4, 3, 2, 1]));
    assert_eq!(ids(SessionQuery { from: of("2026-01-13"), ..Default::default() }), numbers(&[4, 3, 2]));
    assert_eq!(ids(SessionQuery { to: of("2026-01-11"), ..Default::default() }), numbers(&[1, 0]));
    assert_eq!(ids(SessionQuery { from: of("2027-01-01"), ..Default::default() }), numbers(&[4]));
    assert_eq!(ids(SessionQuery { runner: of("office"), ..Default::default() }), numbers(&[3, 1]));
    assert_eq!(ids(SessionQuery { status: of("idle"), ..Default::default() }), numbers(&[2, 1, 0]));
    assert_eq!(ids(SessionQuery { text: of("rEDIS"), ..Default::default() }), numbers(&[1, 0]));
    assert_eq!(ids(SessionQuery { text: of("%"), ..Default::default() }), numbers(&[]));
    let found = find(SessionQuery { limit: Some(2), ..Default::default() });
    assert_eq!((found.sessions.len(), found.matching, found.seconds, found.cost), (2, 5, 5 * 3600, Some(10.0)));
    assert_eq!(
        (found.runners, found.statuses),
        (vec!["local".into(), "office".into()], ["active", "idle", "lost"].map(String::from).into())
    );
    let newest = &found.sessions[0];
    assert_eq!((newest.started.as_str(), &newest.ended, newest.seconds), ("2026-02-10T23:30:00Z", &None, 3600));
}

#[test]
fn a_query_that_makes_no_sense_is_refused() {
    let f = Fixture::new();
    let ledger = five(&f);
    for query in [
        SessionQuery { from: Some("yesterday".to_owned()), ..Default::default() },
        SessionQuery { to: Some("2026-02-30".to_owned()), ..Default::default() },
        SessionQuery { limit: Some(u32::MAX), ..Default::default() },
    ] {
        let problem = ledger.history().find(&query, &TimeZone::UTC).unwrap_err();
        assert_eq!(problem.code, ErrorCode::RequestRefused, "{problem}");
    }
}

#[test]
fn where_no_price_is_known_there_is_no_cost() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let started = at("2026-11-21T10:00:00Z");
    for (session, price) in [(1, None), (2, Some(f64::NAN)), (3, Some(-1.0))] {
        ledger.begin(new(session, started, price)).unwrap();
        ledger.cover(&id(session), started, MINUTE).unwrap();
    }
    assert_eq!(ledger.history().used_on("2026-11-21".parse().unwrap(), &TimeZone::UTC).unwrap().cost, None);
}

#[test]
fn an_export_quotes_what_csv_would_misread() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let started = at("2026-11-21T10:00:00Z");
    let session = overside_ledger::NewSession { user: "Ann, \"the\" user".to_owned(), ..new(1, started, Some(0.2)) };
    ledger.begin(session).unwrap();
    ledger.cover(&id(1), started, 90 * MINUTE).unwrap();
    ledger.saw(&id(1), &["redis:7".to_owned(), "alpine:3".to_owned()], 2).unwrap();
    ledger.saw(&id(1), &["alpine:3".to_owned()], 1).unwrap();
    ledger.end(&id(1), at("2026-11-21T11:45:00Z"), EndReason::Lost).unwrap();
    ledger.end(&id(1), at("2026-11-21T12:00:00Z"), EndReason::Idle).unwrap();
    ledger.begin(new(2, at("2026-11-21T12:00:00Z"), None)).unwrap();
    assert_eq!(
        ledger.history().csv().unwrap(),
        format!(
            "session ID,user,runner,images,started,ended,duration,status,container count,cost\r\n\
             {},\"Ann, \"\"the\"\" user\",local,alpine:3 redis:7,2026-11-21T10:00:00Z,2026-11-21T11:45:00Z,5400,lost,2,0.3000\r\n\
             {},ann,local,,2026-11-21T12:00:00Z,,0,active,0,\r\n",
            id(1),
            id(2)
        )
    );
}

#[test]
fn a_session_that_a_restarted_daemon_adopts_goes_on() {
    let f = Fixture::new();
    let started = at("2026-11-21T10:00:00Z");
    let mut killed = f.open();
    killed.begin(new(1, started, Some(1.0))).unwrap();
    killed.cover(&id(1), started, 30 * MINUTE).unwrap();
    drop(killed);
    let mut ledger = f.open();
    let session = |ledger: &overside_ledger::Ledger| ledger.history().sessions().unwrap().remove(0);
    assert_eq!(
        (session(&ledger).status, session(&ledger).ended),
        ("interrupted".into(), Some(at("2026-11-21T10:30:00Z")))
    );
    let later = at("2026-11-21T10:40:00Z");
    ledger.begin(new(1, later, None)).unwrap();
    ledger.cover(&id(1), later, 20 * MINUTE).unwrap();
    let adopted = session(&ledger);
    assert_eq!((adopted.started, adopted.ended, adopted.status.as_str()), (started, None, "active"));
    assert_eq!((adopted.active, adopted.cost), (50 * MINUTE, Some(50.0 / 60.0)));
}
