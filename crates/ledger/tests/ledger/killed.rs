//! A daemon that is killed in the middle of it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use jiff::tz::TimeZone;
use overside_ledger::{History, Ledger};

use crate::{Fixture, MINUTE, at, id, new};

/// Tells the child which ledger to write, and as which session.
const LEDGER: &str = "OVERSIDE_TEST_LEDGER";
const SESSION: &str = "OVERSIDE_TEST_SESSION";

/// Covers minute after minute, as fast as it can, and says how many are recorded.
#[test]
fn the_child_covers_until_it_is_killed() {
    let Some(path) = env::var_os(LEDGER) else { return };
    let session: u64 = env::var(SESSION).unwrap().parse().unwrap();
    let started = at("2026-01-01T00:00:00Z").checked_add(MINUTE * 100_000 * u32::try_from(session).unwrap()).unwrap();
    let (mut ledger, problem) = Ledger::open(Path::new(&path), started).unwrap();
    assert_eq!(problem, None);
    ledger.begin(new(session, started, None)).unwrap();
    for minute in 1.. {
        ledger.cover(&id(session), started, MINUTE * minute).unwrap();
        ledger.saw(&id(session), &[format!("image:{minute}")], minute.into()).unwrap();
        writeln!(std::io::stdout(), "minute={minute}").unwrap();
    }
}

/// Runs the child until it has said so many minutes, kills it, and returns the last minute that it had said.
fn run_and_kill(path: &Path, session: u64, minutes: u32) -> u32 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::the_child_covers_until_it_is_killed", "--nocapture"])
        .env(LEDGER, path)
        .env(SESSION, session.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // Between the kill and its effect the child goes on: its words are read to the end.
        let Some(minute) = line.unwrap().strip_prefix("minute=").map(|minute| minute.parse().unwrap()) else {
            continue;
        };
        last = minute;
        if last == minutes {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success(), "it was not killed");
    assert!(last >= minutes, "it ended by itself after {last} minutes");
    last
}

#[test]
fn a_killed_daemon_loses_no_more_than_the_minute_that_it_was_in_and_the_next_one_ends_its_session() {
    let f = Fixture::new();
    let zone = TimeZone::UTC;
    let mut minutes = Vec::new();
    for session in 0..8 {
        minutes.push(run_and_kill(&f.path, session, 3 + u32::try_from(session).unwrap() * 11));
        // Whoever only reads finds it whole before the next daemon comes.
        let read = History::read(&f.path).unwrap().sessions().unwrap();
        assert_eq!(read.last().unwrap().status, "active");
        assert_eq!(read.len(), minutes.len());
    }
    let ledger = f.open();
    let sessions = ledger.history().sessions().unwrap();
    assert_eq!(sessions.len(), minutes.len());
    for (session, said) in sessions.iter().zip(minutes) {
        let said = MINUTE * said;
        assert!(session.active == said || session.active == said + MINUTE, "{:?}, said {said:?}", session.active);
        assert_eq!(session.status, "interrupted");
        assert_eq!(session.ended, session.started.checked_add(session.active).ok());
    }
    let used = ledger.history().used_between("2026-01-01".parse().unwrap(), "2030-01-01".parse().unwrap(), &zone);
    let used: std::time::Duration = used.unwrap().values().map(|total| total.used).sum();
    assert_eq!(used, sessions.iter().map(|session| session.active).sum());
    assert!(!f.names().iter().any(|name| name.contains("unusable")), "{:?}", f.names());
}
