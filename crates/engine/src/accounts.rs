//! What the session machine says of usage, written into the ledger.

use std::{collections::BTreeSet, time::Duration};

use jiff::{Timestamp, Zoned};
use overside_ledger::{EndReason, Ledger, NewSession};
use overside_model::{Moment, Problem, SessionId, SessionQuery, UsageDays, UsageReport, UsageSessions};
use overside_session::{EndReason as MachineReason, Ended};

use crate::record::Record;

/// What is lost at most when the daemon is killed.
const MINUTE: Duration = Duration::from_mins(1);

/// The ledger, and the session that is being written down.
pub(crate) struct Accounts {
    /// None where not even one in memory could be made.
    ledger: Option<Ledger>,
    problem: Option<Problem>,
    open: Option<Open>,
}

struct Open {
    id: SessionId,
    /// When it began to run, by the clock that never jumps and by the one on the wall.
    since: Moment,
    from: Timestamp,
    /// Up to when it is written down.
    covered: Moment,
    containers: BTreeSet<String>,
}

impl Accounts {
    pub(crate) fn open(path: &std::path::Path) -> Self {
        let (ledger, problem) = match Ledger::open(path, Timestamp::now()) {
            Ok((ledger, problem)) => (Some(ledger), problem),
            Err(problem) => (None, Some(problem)),
        };
        if let Some(problem) = &problem {
            tracing::warn!(%problem, "the usage ledger");
        }
        Self { ledger, problem, open: None }
    }

    /// What the user has to know of the ledger.
    pub(crate) fn problem(&self) -> Option<Problem> {
        self.ledger.as_ref().map_or(self.problem.as_ref(), Ledger::problem).cloned()
    }

    /// Since when nothing was written down.
    pub(crate) fn covered(&self) -> Option<Moment> {
        self.open.as_ref().map(|open| open.covered)
    }

    /// When the session has to be written down again at the latest.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.open.as_ref().map(|open| open.covered + MINUTE)
    }

    /// The session as it is: its interval of use, or none where nothing runs. `changed`: the state is another one.
    pub(crate) fn write(
        &mut self,
        now: Moment,
        session: Option<(&Record, Option<f64>)>,
        interval: Option<(Moment, Moment)>,
        ended: Option<Ended>,
        changed: bool,
    ) {
        let Some(ledger) = &mut self.ledger else { return };
        let mut results = Vec::new();
        match (interval, session) {
            (Some((since, until)), Some((record, price_per_hour))) => {
                let known = self.open.as_ref().is_some_and(|open| open.id == record.session && open.since == since);
                if !known {
                    let wall = Timestamp::now();
                    let from = wall.checked_sub(now.since(since)).unwrap_or(wall);
                    let containers = BTreeSet::new();
                    results.push(ledger.begin(NewSession {
                        id: record.session.clone(),
                        user: user(),
                        runner: record.runner.clone(),
                        price_per_hour,
                        started: record.started_at.parse().unwrap_or(wall),
                    }));
                    self.open = Some(Open { id: record.session.clone(), since, from, covered: since, containers });
                }
                if let Some(open) = &mut self.open
                    && (changed || !known || now >= open.covered + MINUTE)
                {
                    results.push(ledger.cover(&open.id, open.from, until.since(since)));
                    open.covered = now;
                }
            }
            (None, _) => {
                if let Some(open) = self.open.take() {
                    // Of a lost environment nobody knows when it ended; what was written down of it stands.
                    if let Some(Ended { reason, interval: Some((since, until)) }) = ended
                        && since == open.since
                        && reason != MachineReason::Lost
                    {
                        results.push(ledger.cover(&open.id, open.from, until.since(since)));
                    }
                    let reason = match ended.map(|ended| ended.reason) {
                        Some(MachineReason::Stopped) => EndReason::Stopped,
                        Some(MachineReason::Lost) => EndReason::Lost,
                        Some(MachineReason::StartTimedOut) => EndReason::StartTimedOut,
                        Some(MachineReason::Idle) | None => EndReason::Idle,
                    };
                    results.push(ledger.end(&open.id, Timestamp::now(), reason));
                }
            }
            (Some(_), None) => {}
        }
        for problem in results.into_iter().filter_map(Result::err) {
            tracing::warn!(%problem, "the usage ledger");
        }
    }

    /// Writes the session down up to now, before it may end. After a sleep of the laptop only a little: whether that time
    /// counts is for the machine to say.
    pub(crate) fn finish(&mut self, now: Moment) {
        if let (Some(ledger), Some(open)) = (&mut self.ledger, &mut self.open) {
            let until = now.min(open.covered + MINUTE + MINUTE / 2);
            if let Err(problem) = ledger.cover(&open.id, open.from, until.since(open.since)) {
                tracing::warn!(%problem, "the usage ledger");
            }
            open.covered = until;
        }
    }

    /// Containers that run, with their images.
    pub(crate) fn saw(&mut self, containers: &[String], images: &[String]) {
        if let (Some(ledger), Some(open)) = (&mut self.ledger, &mut self.open) {
            open.containers.extend(containers.iter().cloned());
            let count = u64::try_from(open.containers.len()).unwrap_or(u64::MAX);
            if let Err(problem) = ledger.saw(&open.id, images, count) {
                tracing::warn!(%problem, "the usage ledger");
            }
        }
    }

    /// What was used today, as far as it is written down.
    pub(crate) fn used_today(&self, now: &Zoned) -> Option<Duration> {
        let history = self.ledger.as_ref()?.history();
        history.used_on(now.date(), now.time_zone()).ok().map(|total| total.used)
    }

    pub(crate) fn report(&self, limit: Duration) -> Result<UsageReport, Problem> {
        self.ledger()?.report(&Zoned::now(), limit)
    }

    pub(crate) fn days(&self, count: u32, limit: Duration) -> Result<UsageDays, Problem> {
        self.ledger()?.days(&Zoned::now(), count, limit)
    }

    pub(crate) fn sessions(&self, query: &SessionQuery) -> Result<UsageSessions, Problem> {
        self.ledger()?.history().find(query, Zoned::now().time_zone())
    }

    pub(crate) fn csv(&self) -> Result<String, Problem> {
        self.ledger()?.history().csv()
    }

    fn ledger(&self) -> Result<&Ledger, Problem> {
        let missing = || Problem::new(overside_model::ErrorCode::Internal, "there is no usage ledger", "");
        self.ledger.as_ref().ok_or_else(|| self.problem.clone().unwrap_or_else(missing))
    }
}

/// Whose sessions these are, for the table.
fn user() -> String {
    ["USER", "USERNAME", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| "unknown".to_owned())
}
