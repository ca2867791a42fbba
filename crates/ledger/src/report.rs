//! What shells show, and what is exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{
    ToSpan, Zoned,
    civil::{Date, ISOWeekDate},
    tz::TimeZone,
};
use overside_model::{
    ErrorCode, Problem, SessionQuery, UsageDay, UsageDays, UsagePeriod, UsageReport, UsageSession, UsageSessions,
    UsageSpan,
};

use crate::{
    days::{beginning, day_of, next},
    history::{History, SessionUsage, Total},
    ledger::Ledger,
};

/// Longest row of days that is told at once: ten years.
const MOST_DAYS: u32 = 3660;
/// Most sessions that are told at once.
const MOST_SESSIONS: u32 = 10_000;
/// As many as that where nobody says how many.
const SESSIONS: u32 = 200;

/// The exported columns.
const COLUMNS: [&str; 10] =
    ["session ID", "user", "runner", "images", "started", "ended", "duration", "status", "container count", "cost"];

impl Ledger {
    /// As [`History::report`], with what is wrong with the ledger.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn report(&self, now: &Zoned, limit: Duration) -> Result<UsageReport, Problem> {
        let report = self.history().report(now, limit)?;
        Ok(UsageReport { problem: self.problem().cloned(), ..report })
    }

    /// As [`History::days`], with what is wrong with the ledger.
    ///
    /// # Errors
    /// As there.
    pub fn days(&self, now: &Zoned, count: u32, limit: Duration) -> Result<UsageDays, Problem> {
        let days = self.history().days(now, count, limit)?;
        Ok(UsageDays { problem: self.problem().cloned(), ..days })
    }
}

impl History {
    /// Usage of today, this week and this month in the zone of `now`; `limit` is the day's.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn report(&self, now: &Zoned, limit: Duration) -> Result<UsageReport, Problem> {
        let zone = now.time_zone();
        let today = day_of(now.timestamp(), zone);
        let week = week_of(today);
        let month = (today.first_of_month(), today.last_of_month());
        let used = self.used_between(week.0.min(month.0), week.1.max(month.1), zone)?;
        Ok(UsageReport {
            zone: name(zone, now),
            made_at: now.timestamp().to_string(),
            limit_seconds: limit.as_secs(),
            today: span(today.to_string(), today, today, &used),
            week: period(week_name(today), week, &used),
            month: period(today.strftime("%Y-%m").to_string(), month, &used),
            problem: None,
        })
    }

    /// The last `count` days in the zone of `now`, today included; `limit` is the day's.
    ///
    /// # Errors
    /// [`ErrorCode::RequestRefused`] for no day and for more than ten years; others where the file cannot be read any more.
    pub fn days(&self, now: &Zoned, count: u32, limit: Duration) -> Result<UsageDays, Problem> {
        let zone = now.time_zone();
        let today = day_of(now.timestamp(), zone);
        let first = (1..=MOST_DAYS).contains(&count).then(|| today.checked_sub((i64::from(count) - 1).days()).ok());
        let Some(first) = first.flatten() else {
            return Err(refused(format!("{count} days cannot be shown"), &format!("Ask for 1 to {MOST_DAYS}.")));
        };
        let used = self.used_between(first, today, zone)?;
        let day = |day: Date| {
            let total = used.get(&day).copied().unwrap_or_default();
            UsageDay { day: day.to_string(), seconds: total.used.as_secs(), cost: total.cost }
        };
        Ok(UsageDays {
            zone: name(zone, now),
            limit_seconds: limit.as_secs(),
            days: first.series(1.day()).take_while(|day| *day <= today).map(day).collect(),
            problem: None,
        })
    }

    /// The sessions that a query asks for, its days taken as those of `zone`.
    ///
    /// # Errors
    /// [`ErrorCode::RequestRefused`] for a day that is none, or more than 10,000 sessions; others where the file cannot be
    /// read any more.
    pub fn find(&self, query: &SessionQuery, zone: &TimeZone) -> Result<UsageSessions, Problem> {
        let day = |text: &String| {
            let parsed = text.parse::<Date>();
            parsed.map_err(|_| refused(format!("{text:?} is not a day"), "Write it as 2026-11-21."))
        };
        let from = query.from.as_ref().map(day).transpose()?.map(|day| beginning(day, zone));
        let to = query.to.as_ref().map(day).transpose()?;
        let before = to.and_then(next).map(|next| beginning(next, zone));
        let limit = query.limit.unwrap_or(SESSIONS);
        if limit > MOST_SESSIONS {
            return Err(refused(
                format!("{limit} sessions are too many"),
                &format!("Ask for {MOST_SESSIONS} at most."),
            ));
        }
        let text = query.text.as_deref().map(str::to_lowercase).unwrap_or_default();
        let wanted = |session: &&SessionUsage| {
            let has = |word: &str| word.to_lowercase().contains(&text);
            from.is_none_or(|from| session.ended.is_none_or(|ended| ended >= from))
                && before.is_none_or(|before| session.started < before)
                && query.runner.as_ref().is_none_or(|runner| *runner == session.runner)
                && query.status.as_ref().is_none_or(|status| *status == session.status)
                && (has(&session.id)
                    || has(&session.user)
                    || has(&session.runner)
                    || session.images.iter().any(|it| has(it)))
        };
        let all = self.sessions()?;
        let matching: Vec<&SessionUsage> = all.iter().rev().filter(wanted).collect();
        let mut total = Total::default();
        for session in &matching {
            total.add_total(Total { used: session.active, cost: session.cost });
        }
        let different = |of: fn(&SessionUsage) -> &String| {
            let words: BTreeSet<&String> = all.iter().map(of).collect();
            words.into_iter().cloned().collect()
        };
        Ok(UsageSessions {
            sessions: matching.iter().take(limit as usize).map(|session| told(session)).collect(),
            matching: matching.len() as u64,
            seconds: total.used.as_secs(),
            cost: total.cost,
            runners: different(|session| &session.runner),
            statuses: different(|session| &session.status),
        })
    }

    /// Every session as CSV (RFC 4180): [`SessionUsage`] with times in RFC 3339 (UTC), images separated by spaces, whole
    /// seconds, and a cost with four decimals. What is not known is empty. Cells are as they are: a spreadsheet that is told
    /// to may take one that begins with `=` for a formula.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn csv(&self) -> Result<String, Problem> {
        let sessions = self.sessions()?;
        let write = || -> Result<String, Box<dyn std::error::Error>> {
            let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
            writer.write_record(COLUMNS)?;
            for session in sessions {
                writer.write_record(cells(session))?;
            }
            Ok(String::from_utf8(writer.into_inner()?)?)
        };
        write().map_err(|error| Problem::new(ErrorCode::Internal, format!("cannot export the usage: {error}"), ""))
    }
}

fn refused(message: String, hint: &str) -> Problem {
    Problem::new(ErrorCode::RequestRefused, message, hint)
}

fn told(session: &SessionUsage) -> UsageSession {
    UsageSession {
        id: session.id.clone(),
        user: session.user.clone(),
        runner: session.runner.clone(),
        images: session.images.clone(),
        started: session.started.to_string(),
        ended: session.ended.map(|ended| ended.to_string()),
        seconds: session.active.as_secs(),
        status: session.status.clone(),
        containers: session.containers,
        cost: session.cost,
    }
}

fn cells(session: SessionUsage) -> [String; COLUMNS.len()] {
    [
        session.id,
        session.user,
        session.runner,
        session.images.join(" "),
        session.started.to_string(),
        session.ended.map(|ended| ended.to_string()).unwrap_or_default(),
        session.active.as_secs().to_string(),
        session.status,
        session.containers.to_string(),
        session.cost.map(|cost| format!("{cost:.4}")).unwrap_or_default(),
    ]
}

/// Monday to Sunday.
fn week_of(day: Date) -> (Date, Date) {
    let week = ISOWeekDate::from_date(day);
    let edge = |edge: Result<ISOWeekDate, jiff::Error>| edge.map_or(day, ISOWeekDate::date);
    (edge(week.first_of_week()), edge(week.last_of_week()))
}

fn week_name(day: Date) -> String {
    let week = ISOWeekDate::from_date(day);
    format!("{:04}-W{:02}", week.year(), week.week())
}

fn name(zone: &TimeZone, now: &Zoned) -> String {
    zone.iana_name().map_or_else(|| now.offset().to_string(), str::to_owned)
}

fn period(name: String, (first, last): (Date, Date), used: &BTreeMap<Date, Total>) -> UsagePeriod {
    let days: Vec<Date> = first.series(1.day()).take_while(|day| *day <= last).collect();
    let weeks = days.chunk_by(|a, b| week_of(*a) == week_of(*b));
    UsagePeriod {
        total: span(name, first, last, used),
        weeks: weeks
            .filter_map(|week| Some(span(week_name(*week.first()?), *week.first()?, *week.last()?, used)))
            .collect(),
        days: days.iter().map(|day| span(day.to_string(), *day, *day, used)).collect(),
    }
}

fn span(name: String, first: Date, last: Date, used: &BTreeMap<Date, Total>) -> UsageSpan {
    let mut total = Total::default();
    for day in used.range(first..=last).map(|(_, day)| *day) {
        total.add_total(day);
    }
    UsageSpan {
        name,
        first: first.to_string(),
        last: last.to_string(),
        seconds: total.used.as_secs(),
        cost: total.cost,
    }
}
