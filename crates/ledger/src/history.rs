//! Reading: sessions, and what days come to.

use std::{collections::BTreeMap, path::Path, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use overside_model::Problem;
use rusqlite::{Connection, Row};

use crate::{
    days::{beginning, next, split},
    file,
    interval::{Interval, between},
    trouble::Trouble,
};

/// What is recorded.
#[derive(Debug)]
pub struct History {
    pub(crate) connection: Connection,
}

/// Compute time and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Total {
    /// How long sessions were active.
    pub used: Duration,
    /// What the part of it with a known price cost, in the price's currency; None where no price is known.
    pub cost: Option<f64>,
}

/// One session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionUsage {
    /// Its identifier.
    pub id: String,
    /// Whose it was.
    pub user: String,
    /// The runner's name.
    pub runner: String,
    /// Images that its containers ran, in alphabetical order.
    pub images: Vec<String>,
    /// When provisioning began.
    pub started: Timestamp,
    /// When it ended; None while it goes on.
    pub ended: Option<Timestamp>,
    /// How long it was active.
    pub active: Duration,
    /// `active` while it goes on, then why it ended: `idle`, `stopped`, `lost`, `start-timed-out` or `interrupted`.
    pub status: String,
    /// Containers that it had.
    pub containers: u64,
    /// What it cost, in the price's currency; None without a price.
    pub cost: Option<f64>,
}

impl Total {
    /// Adds time at a price per hour.
    pub(crate) fn add(&mut self, used: Duration, price_per_hour: Option<f64>) {
        self.add_total(Self { used, cost: price_per_hour.map(|price| price * used.as_secs_f64() / 3600.0) });
    }

    pub(crate) fn add_total(&mut self, other: Self) {
        self.used += other.used;
        if let Some(cost) = other.cost {
            self.cost = Some(self.cost.unwrap_or_default() + cost);
        }
    }
}

impl History {
    /// Reads the ledger of a daemon that does not run. Where there is no file, nothing was used.
    ///
    /// # Errors
    /// Where the file cannot be read or is no sound ledger; it is left as it is.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let opened = file::open_to_read(path).and_then(|opened| opened.map_or_else(file::empty, Ok));
        opened
            .map(|connection| Self { connection })
            .map_err(|trouble| trouble.problem(&format!("cannot read the usage ledger {}", path.display())))
    }

    /// What was used on one local day of `zone`.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn used_on(&self, day: Date, zone: &TimeZone) -> Result<Total, Problem> {
        Ok(self.used_between(day, day, zone)?.remove(&day).unwrap_or_default())
    }

    /// What was used on each local day of `zone` from `first` to `last`; days without use are left out.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn used_between(&self, first: Date, last: Date, zone: &TimeZone) -> Result<BTreeMap<Date, Total>, Problem> {
        let begin = beginning(first, zone);
        let end = next(last).map_or(Timestamp::MAX, |next| beginning(next, zone));
        let mut days = BTreeMap::<Date, Total>::new();
        for (interval, price) in self.intervals(begin, end).map_err(|error| unreadable(error.into()))? {
            let start = interval.start.max(begin);
            let clipped = Interval { start, lasting: between(start, interval.end().min(end)) };
            for (day, used) in split(clipped, zone) {
                days.entry(day).or_default().add(used, price);
            }
        }
        Ok(days)
    }

    /// Intervals that touch the time from `begin` to `end`, with their price per hour. They do not overlap, so that one at
    /// most began before.
    fn intervals(&self, begin: Timestamp, end: Timestamp) -> rusqlite::Result<Vec<(Interval, Option<f64>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT start, lasting, price_per_hour FROM intervals LEFT JOIN sessions ON sessions.id = session
             WHERE start >= coalesce((SELECT max(start) FROM intervals WHERE start <= ?1), ?1) AND start < ?2
             ORDER BY start",
        )?;
        statement
            .query_map([begin.as_microsecond(), end.as_microsecond()], |row| {
                Ok((Interval { start: moment(row.get(0)?), lasting: duration(row.get(1)?) }, row.get(2)?))
            })?
            .collect()
    }

    /// Every session, in the order in which they began.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn sessions(&self) -> Result<Vec<SessionUsage>, Problem> {
        let read = || -> rusqlite::Result<Vec<SessionUsage>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT id, user, runner, price_per_hour, started, ended, reason, containers,
                    (SELECT coalesce(sum(lasting), 0) FROM intervals WHERE session = id),
                    (SELECT group_concat(image, char(10) ORDER BY image) FROM images WHERE session = id)
                 FROM sessions ORDER BY started, id",
            )?;
            statement.query_map([], session)?.collect()
        };
        read().map_err(|error| unreadable(error.into()))
    }
}

fn session(row: &Row<'_>) -> rusqlite::Result<SessionUsage> {
    let active = duration(row.get(8)?);
    let price: Option<f64> = row.get(3)?;
    let mut total = Total::default();
    total.add(active, price);
    let images: Option<String> = row.get(9)?;
    let reason: Option<String> = row.get(6)?;
    Ok(SessionUsage {
        id: row.get(0)?,
        user: row.get(1)?,
        runner: row.get(2)?,
        images: images.iter().flat_map(|images| images.split('\n')).map(str::to_owned).collect(),
        started: moment(row.get(4)?),
        ended: row.get::<_, Option<i64>>(5)?.map(moment),
        active,
        status: reason.unwrap_or_else(|| "active".to_owned()),
        containers: u64::try_from(row.get::<_, i64>(7)?).unwrap_or_default(),
        cost: total.cost,
    })
}

/// A stored time; the nearest there is for one that nobody could have stored.
pub(crate) fn moment(microseconds: i64) -> Timestamp {
    let nearest = if microseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(microseconds).unwrap_or(nearest)
}

/// A stored duration.
pub(crate) fn duration(microseconds: i64) -> Duration {
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

fn unreadable(trouble: Trouble) -> Problem {
    trouble.problem("cannot read the usage ledger")
}
