//! The ledger on real files, over a year, killed, and with a clock that jumps.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clock;
mod files;
mod killed;
mod shown;
mod year;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use overside_ledger::{Interval, Ledger, NewSession};
use overside_model::SessionId;

const MINUTE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn id(number: u64) -> SessionId {
    SessionId::from_random(number)
}

fn new(number: u64, started: Timestamp, price_per_hour: Option<f64>) -> NewSession {
    NewSession { id: id(number), user: "ann".to_owned(), runner: "local".to_owned(), price_per_hour, started }
}

struct Fixture {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("usage.sqlite"), directory }
    }

    /// Opens the ledger, without anything to complain about.
    fn open(&self) -> Ledger {
        let (ledger, problem) = Ledger::open(&self.path, at("2026-11-21T12:00:00Z")).unwrap();
        assert_eq!(problem, None);
        ledger
    }

    /// What is stored, in order, with whose it is and the run that it belongs to.
    fn stored(&self) -> Vec<(Interval, String, i64)> {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        let mut statement =
            connection.prepare("SELECT start, lasting, session, run FROM intervals ORDER BY start").unwrap();
        let rows = statement.query_map([], |row| {
            let start = Timestamp::from_microsecond(row.get(0)?).unwrap();
            let lasting = Duration::from_micros(row.get::<_, i64>(1)?.unsigned_abs());
            Ok((Interval { start, lasting }, row.get(2)?, row.get(3)?))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
