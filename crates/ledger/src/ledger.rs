//! Writing.

use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::Timestamp;
use overside_model::{ErrorCode, Problem, SessionId};
use rusqlite::{Connection, Transaction, params};

use crate::{
    file,
    history::{History, duration, moment},
    interval::{Interval, place},
    trouble::Trouble,
};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Nobody needed it any more.
    Idle,
    /// The user turned Overside off.
    Stopped,
    /// Its environment was gone.
    Lost,
    /// It never came up.
    StartTimedOut,
    /// The daemon was killed.
    Interrupted,
}

impl EndReason {
    /// The word that is stored and exported.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::StartTimedOut => "start-timed-out",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A session that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSession {
    /// Its identifier.
    pub id: SessionId,
    /// Whose it is.
    pub user: String,
    /// The runner's name.
    pub runner: String,
    /// The runner's price for an hour, in any currency. One that is negative or no number counts as unknown.
    pub price_per_hour: Option<f64>,
    /// When provisioning began.
    pub started: Timestamp,
}

/// The ledger of one home. One daemon writes; there may be readers.
///
/// Every call returns within milliseconds and waits for no disk. What cannot be written (the disk is full, another program
/// holds the file) is kept and written with the next call; the error that a call returns is for the log and the status.
#[derive(Debug)]
pub struct Ledger {
    history: History,
    /// What is not written yet, in order.
    pending: Vec<Entry>,
    /// What there is to say since it was opened.
    opening: Option<Problem>,
    /// What the last write met.
    writing: Option<Problem>,
}

#[derive(Debug)]
enum Entry {
    Begin(NewSession),
    Cover { session: SessionId, run: i64, lasting: i64 },
    Saw { session: SessionId, images: BTreeSet<String>, containers: u64 },
    End { session: SessionId, at: i64, reason: EndReason },
    Interrupt,
}

impl Entry {
    /// Takes an earlier entry into this one, if this one says all of it: the last length of an interval counts, and images
    /// and containers of a session add up.
    fn contains(&mut self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Cover { session, run, lasting }, Self::Cover { session: other, run: at, lasting: before }) => {
                let same = session == other && run == at;
                if same {
                    *lasting = (*lasting).max(*before);
                }
                same
            }
            (
                Self::Saw { session, images, containers },
                Self::Saw { session: other, images: seen, containers: before },
            ) => {
                let same = session == other;
                if same {
                    images.extend(seen.iter().cloned());
                    *containers = (*containers).max(*before);
                }
                same
            }
            _ => false,
        }
    }
}

impl Ledger {
    /// Opens the ledger of a home whose lock the caller holds, or makes a new one, 0600. The directory must exist. Sessions
    /// that a killed daemon left open are ended at the last moment that was recorded of them.
    ///
    /// A file that cannot be used is set aside as `usage.sqlite.unusable-TIME`, and a new one begun; where that is not
    /// possible either, the ledger is kept in memory, with what can still be read of the file. The problem says which.
    ///
    /// # Errors
    /// Only where there is no memory for a ledger either.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Self, Option<Problem>), Problem> {
        let (connection, opening) = match file::open(path) {
            Ok(connection) => (connection, None),
            Err(trouble) if trouble.condemns(path) => begin_anew(path, now, &trouble)?,
            Err(trouble) => keep_in_memory(path, &trouble)?,
        };
        let history = History { connection };
        let mut ledger = Self { history, pending: Vec::new(), opening, writing: None };
        let interrupted = ledger.write(Entry::Interrupt).err();
        let problem = ledger.opening.clone().or(interrupted);
        Ok((ledger, problem))
    }

    /// What is recorded.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// What a person should know: the last write failed, or the file was set aside or cannot be used.
    pub fn problem(&self) -> Option<&Problem> {
        self.writing.as_ref().or(self.opening.as_ref())
    }

    /// A session begins, or goes on: a session that is known (a restarted daemon has adopted it) is open again, and keeps
    /// its start and price.
    ///
    /// # Errors
    /// Where it could not be written yet.
    pub fn begin(&mut self, session: NewSession) -> Result<(), Problem> {
        self.write(Entry::Begin(session))
    }

    /// The session has been active from `from` (by the wall clock when it began) for `lasting` (by a clock that does not
    /// jump). To be called at every change of state and once a minute in between.
    ///
    /// A call with the same `from` as an earlier one of the session tells how long that interval has become; one that is
    /// shorter than what is recorded changes nothing. Another `from` is another interval. Both are cut to microseconds. An
    /// interval that would overlap others, of this session or any other, is moved to the free time after them ([`place`]).
    ///
    /// # Errors
    /// [`ErrorCode::UnknownName`] for a session that never began; otherwise where it could not be written yet.
    pub fn cover(&mut self, session: &SessionId, from: Timestamp, lasting: Duration) -> Result<(), Problem> {
        let lasting = i64::try_from(lasting.as_micros()).unwrap_or(i64::MAX);
        self.write(Entry::Cover { session: session.clone(), run: from.as_microsecond(), lasting })
    }

    /// The session has used these images, besides those that it used before, and this many containers so far; the largest
    /// number counts.
    ///
    /// # Errors
    /// As [`Self::cover`].
    pub fn saw(&mut self, session: &SessionId, images: &[String], containers: u64) -> Result<(), Problem> {
        self.write(Entry::Saw { session: session.clone(), images: images.iter().cloned().collect(), containers })
    }

    /// The session has ended. A session ends once: what is told of one that is over already changes nothing.
    ///
    /// # Errors
    /// As [`Self::cover`].
    pub fn end(&mut self, session: &SessionId, at: Timestamp, reason: EndReason) -> Result<(), Problem> {
        self.write(Entry::End { session: session.clone(), at: at.as_microsecond(), reason })
    }

    fn write(&mut self, mut entry: Entry) -> Result<(), Problem> {
        // However long the disk is full, this list stays short.
        self.pending.retain(|earlier| !entry.contains(earlier));
        self.pending.push(entry);
        match record(&mut self.history.connection, &self.pending) {
            Ok(unknown) => {
                self.pending.clear();
                self.writing = None;
                unknown.map_or(Ok(()), |session| {
                    let message = format!("the usage ledger knows no session {session}");
                    Err(Problem::new(ErrorCode::UnknownName, message, ""))
                })
            }
            Err(error) => {
                let problem = Trouble::from(error).problem("cannot write the usage ledger; it is tried again");
                self.writing = Some(problem.clone());
                Err(problem)
            }
        }
    }
}

fn begin_anew(path: &Path, now: Timestamp, trouble: &Trouble) -> Result<(Connection, Option<Problem>), Problem> {
    let Ok(aside) = file::set_aside(path, now) else { return keep_in_memory(path, trouble) };
    match file::open(path) {
        Ok(connection) => {
            let message = format!(
                "the usage ledger {} cannot be used ({trouble}): it is kept as {}, and a new one is begun",
                path.display(),
                aside.display()
            );
            Ok((connection, Some(Problem::new(ErrorCode::Internal, message, "Usage before is not counted."))))
        }
        Err(second) => {
            let (connection, problem) = keep_in_memory(path, &second)?;
            let problem = problem.map(|problem| Problem {
                message: format!("{}; the one before, {trouble}, is kept as {}", problem.message, aside.display()),
                ..problem
            });
            Ok((connection, problem))
        }
    }
}

fn keep_in_memory(path: &Path, trouble: &Trouble) -> Result<(Connection, Option<Problem>), Problem> {
    let what = format!("usage is counted in memory only and lost with the daemon, because {}", path.display());
    let problem = trouble.problem(&format!("{what} cannot be written"));
    let connection = file::in_memory(path).map_err(|none| none.problem(&what))?;
    Ok((connection, Some(problem)))
}

/// Writes entries, all or none. Returns a session that one of them names and that never began.
fn record(connection: &mut Connection, entries: &[Entry]) -> rusqlite::Result<Option<SessionId>> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut unknown = None;
    for entry in entries {
        let (session, known) = match entry {
            Entry::Begin(session) => {
                begin(&transaction, session)?;
                continue;
            }
            Entry::Interrupt => {
                interrupt(&transaction)?;
                continue;
            }
            Entry::Cover { session, run, lasting } => (session, cover(&transaction, session, *run, *lasting)?),
            Entry::Saw { session, images, containers } => (session, saw(&transaction, session, images, *containers)?),
            Entry::End { session, at, reason } => (session, end(&transaction, session, *at, *reason)?),
        };
        if !known {
            unknown = Some(session.clone());
        }
    }
    transaction.commit()?;
    Ok(unknown)
}

fn begin(transaction: &Transaction<'_>, session: &NewSession) -> rusqlite::Result<()> {
    let price = session.price_per_hour.filter(|price| price.is_finite() && *price >= 0.0);
    let started = session.started.as_microsecond();
    transaction
        .prepare_cached(
            "INSERT INTO sessions (id, user, runner, price_per_hour, started) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET ended = NULL, reason = NULL",
        )?
        .execute(params![session.id.as_str(), session.user, session.runner, price, started])
        .map(|_| ())
}

fn interrupt(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction
        .execute(
            "UPDATE sessions SET reason = ?1, ended = max(started, coalesce(
                 (SELECT max(start + lasting) FROM intervals WHERE session = id), started))
             WHERE ended IS NULL",
            [EndReason::Interrupted.name()],
        )
        .map(|_| ())
}

fn is_known(transaction: &Transaction<'_>, session: &SessionId) -> rusqlite::Result<bool> {
    transaction.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?.exists([session.as_str()])
}

fn cover(transaction: &Transaction<'_>, session: &SessionId, run: i64, lasting: i64) -> rusqlite::Result<bool> {
    if !is_known(transaction, session)? {
        return Ok(false);
    }
    let key = params![session.as_str(), run];
    let recorded: i64 = transaction
        .prepare_cached("SELECT coalesce(sum(lasting), 0) FROM intervals WHERE session = ?1 AND run = ?2")?
        .query_row(key, |row| row.get(0))?;
    if lasting <= recorded {
        return Ok(true);
    }
    transaction.prepare_cached("DELETE FROM intervals WHERE session = ?1 AND run = ?2")?.execute(key)?;
    // Intervals do not overlap, so that one at most began before and reaches here.
    let occupied: Vec<Interval> = transaction
        .prepare_cached(
            "SELECT start, lasting FROM intervals
             WHERE start >= coalesce((SELECT max(start) FROM intervals WHERE start <= ?1), ?1)",
        )?
        .query_map([run], |row| Ok(Interval { start: moment(row.get(0)?), lasting: duration(row.get(1)?) }))?
        .collect::<rusqlite::Result<_>>()?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO intervals (start, lasting, session, run) VALUES (?1, ?2, ?3, ?4)")?;
    for piece in place(&occupied, moment(run), duration(lasting)) {
        let lasting = i64::try_from(piece.lasting.as_micros()).unwrap_or(i64::MAX);
        insert.execute(params![piece.start.as_microsecond(), lasting, session.as_str(), run])?;
    }
    Ok(true)
}

fn saw(
    transaction: &Transaction<'_>,
    session: &SessionId,
    images: &BTreeSet<String>,
    containers: u64,
) -> rusqlite::Result<bool> {
    let containers = i64::try_from(containers).unwrap_or(i64::MAX);
    let known = transaction
        .prepare_cached("UPDATE sessions SET containers = max(containers, ?2) WHERE id = ?1")?
        .execute(params![session.as_str(), containers])?;
    if known == 0 {
        return Ok(false);
    }
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO images (session, image) VALUES (?1, ?2)")?;
    for image in images {
        insert.execute([session.as_str(), image])?;
    }
    Ok(true)
}

fn end(transaction: &Transaction<'_>, session: &SessionId, at: i64, reason: EndReason) -> rusqlite::Result<bool> {
    // The clock may have been set back since it began.
    transaction
        .prepare_cached("UPDATE sessions SET ended = max(started, ?2), reason = ?3 WHERE id = ?1 AND ended IS NULL")?
        .execute(params![session.as_str(), at, reason.name()])?;
    is_known(transaction, session)
}
