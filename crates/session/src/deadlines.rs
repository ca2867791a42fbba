//! What is due when: time-outs, prompts, the day's usage and its end.

use std::time::Duration;

use overside_model::{ErrorCode, Moment, Problem, PromptReason};

use crate::{
    machine::{Effect, EndReason, Motion, Phase, Session, Then},
    view::View,
};

/// What can fall due in the longest sleep.
const MOST_DUE: usize = 10_000;
/// A day, until its true end is told.
const DAY: Duration = Duration::from_hours(24);

/// Something that happens by time alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// A start has taken too long.
    Start,
    /// The user is asked because nothing happens.
    InactivityPrompt,
    /// Nothing has happened for too long.
    Idle,
    /// The user is asked because the session is long.
    LongSessionPrompt,
    /// That question was not answered.
    LongSessionAnswer,
    /// The day's usage is spent, and that is enforced.
    FairUse,
    /// A suspended environment was not resumed.
    Grace,
    /// A call waits for the next attempt after a failure.
    Retry,
    /// The day ends.
    Day,
}

impl Deadline {
    /// Why there is such a deadline, in a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start time-out",
            Self::InactivityPrompt => "inactivity prompt",
            Self::Idle => "idle timeout",
            Self::LongSessionPrompt => "long-session prompt",
            Self::LongSessionAnswer => "unanswered long-session prompt",
            Self::FairUse => "fair use",
            Self::Grace => "grace period",
            Self::Retry => "pause after a failure",
            Self::Day => "end of the day",
        }
    }
}

impl Session {
    /// The local day: what was used of it until now, the present session included, and when it ends. To be told at the start,
    /// when [`Effect::TurnDay`] asks, and when the clock or the time zone was changed.
    pub fn handle_day(&mut self, now: Moment, used: Duration, ends: Moment) {
        self.handle_timeout(now);
        match used.checked_sub(self.running_time(now)) {
            // The present session goes on counting from where it did, with the gap of a suspension that is resumed later.
            Some(before) => self.used_before = before,
            // It began on another day, as it turns out.
            None => {
                self.used_before = used;
                self.day_began = now;
            }
        }
        self.day_ends = Some(ends);
    }

    /// Time has passed. Harmless at any time, and every other input begins with it: what comes first after a sleep is met by
    /// the state in which the sleep left the session. Everything that fell due happens in its order.
    pub fn handle_timeout(&mut self, now: Moment) {
        // A few of them a day at most; the bound is for a defect that would make one fall due again at once.
        for _ in 0..MOST_DUE {
            match self.poll_timeout() {
                Some((at, deadline)) if at <= now => self.fall_due(now, at, deadline),
                _ => return,
            }
        }
    }

    fn fall_due(&mut self, now: Moment, at: Moment, deadline: Deadline) {
        match (deadline, &self.phase) {
            (Deadline::InactivityPrompt, _) => self.asked_for_inactivity = true,
            // Who was asleep with the laptop gets the whole time to answer.
            (Deadline::LongSessionPrompt, _) => self.long_answer_by = Some(now + self.rules.long_answer_within),
            (Deadline::Idle | Deadline::LongSessionAnswer, Phase::Running { since }) => self.suspend(at, *since),
            (Deadline::FairUse, Phase::Running { since }) => {
                let since = *since;
                self.error = Some(self.spent());
                self.suspend(at, since);
            }
            (Deadline::Grace, _) => self.stop(at, Then::Idle, EndReason::Idle),
            (Deadline::Start, _) => {
                let seconds = self.rules.start_timeout.as_secs();
                self.failures = self.failures.saturating_add(1);
                self.error = Some(Problem::new(
                    ErrorCode::StartTimedOut,
                    format!("the environment did not start within {seconds} s"),
                    "Try again, or raise `start-timeout` with `overside settings set`.",
                ));
                self.stop(now, Then::Failed, EndReason::StartTimedOut);
            }
            (Deadline::Retry, _) if self.activities.someone_waits_for_resume() && !self.is_spent(now) => {
                self.start(now)
            }
            // Who waited has gone.
            (Deadline::Retry, Phase::Failed { retry_at, .. }) => {
                self.phase = Phase::Failed { retry_at: *retry_at, awaited: false };
            }
            (Deadline::Day, _) => {
                self.used_before = Duration::ZERO;
                self.day_began = at;
                // After a long sleep the next day may be over as well.
                self.day_ends = Some(at + DAY);
                if !self.effects.contains(&Effect::TurnDay) {
                    self.effects.push_back(Effect::TurnDay);
                }
                // That the limit was reached is no longer true; why a start failed is.
                if !matches!(self.phase, Phase::Failed { .. }) {
                    self.error.take_if(|problem| problem.code == ErrorCode::FairUse);
                }
            }
            _ => {}
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest, and why.
    pub fn poll_timeout(&self) -> Option<(Moment, Deadline)> {
        let own = match self.phase {
            Phase::Starting { since } => Some((since + self.rules.start_timeout, Deadline::Start)),
            Phase::Running { since } => self.while_running(since),
            // Who came while it was being frozen came in time, however long that takes.
            Phase::Suspended { since, motion, .. }
                if motion == Motion::Frozen || motion == Motion::Freezing && !self.is_called_back(since) =>
            {
                Some((since + self.rules.grace_period, Deadline::Grace))
            }
            Phase::Failed { retry_at, awaited: true } => Some((retry_at, Deadline::Retry)),
            _ => None,
        };
        // At midnight the new day comes first: nothing of the old one is a reason any more.
        let day = self.day_ends.map(|at| (at, Deadline::Day));
        day.into_iter().chain(own).min_by_key(|(at, _)| *at)
    }

    fn while_running(&self, since: Moment) -> Option<(Moment, Deadline)> {
        let idle = self.idle_at();
        let ask = idle
            .filter(|_| !self.asked_for_inactivity && self.rules.prompt_after < self.rules.idle_timeout)
            .map(|_| (self.last_activity + self.rules.prompt_after, Deadline::InactivityPrompt));
        let long = match self.long_answer_by {
            Some(by) => (by, Deadline::LongSessionAnswer),
            None => (self.long_prompt_at(since), Deadline::LongSessionPrompt),
        };
        let spent = self.rules.hard_stop.then(|| (self.limit_at(since), Deadline::FairUse));
        let idle = idle.map(|at| (at, Deadline::Idle));
        [idle, ask, Some(long), spent].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// When inactivity suspends, if nothing keeps awake.
    fn idle_at(&self) -> Option<Moment> {
        (!self.activities.keeps_awake()).then(|| self.last_activity + self.rules.idle_timeout)
    }

    /// When the day's usage reaches its limit, or reached it, if the session goes on running.
    fn limit_at(&self, since: Moment) -> Moment {
        since.max(self.day_began) + self.rules.daily_limit.saturating_sub(self.used_before)
    }

    fn long_prompt_at(&self, since: Moment) -> Moment {
        let limit = self.limit_at(since);
        // Who starts another session beyond the limit knows it: the limit was reached in an earlier one, and said there.
        let before_this_session = self.used_before >= self.rules.daily_limit;
        if before_this_session || limit <= self.long_from {
            self.long_from + self.rules.long_every_over_limit
        } else {
            // That the limit is reached is said when it is.
            limit.min(self.long_from + self.rules.long_every)
        }
    }

    /// Whether nothing may run any more today.
    pub(crate) fn is_spent(&self, now: Moment) -> bool {
        self.rules.hard_stop && self.used_before + self.running_time(now) >= self.rules.daily_limit
    }

    /// Whether the user or a call waits for the present environment, and may have it.
    pub(crate) fn is_called_back(&self, now: Moment) -> bool {
        (self.wanted_back || self.activities.someone_waits_for_resume()) && !self.is_spent(now)
    }

    pub(crate) fn spent(&self) -> Problem {
        let limit = self.rules.daily_limit.as_secs();
        let limit = match limit {
            hours if hours.is_multiple_of(3600) => format!("{} h", hours / 3600),
            minutes if minutes.is_multiple_of(60) => format!("{} min", minutes / 60),
            seconds => format!("{seconds} s"),
        };
        Problem::new(
            ErrorCode::FairUse,
            format!("the {limit} of compute time that your organisation allows a day are used up"),
            "They begin anew at midnight; until then use another engine.",
        )
    }

    /// The interval that the present session has used, from its first moment of running to now; a suspension counts once it
    /// was resumed.
    pub fn interval(&self, now: Moment) -> Option<(Moment, Moment)> {
        match self.phase {
            Phase::Running { since } => Some((since, now.max(since))),
            Phase::Suspended { since, running_since, .. } => Some((running_since, since.max(running_since))),
            _ => None,
        }
    }

    /// Usage of the day by the present session.
    pub(crate) fn running_time(&self, now: Moment) -> Duration {
        self.interval(now).map_or(Duration::ZERO, |(from, to)| to.since(from.max(self.day_began)))
    }

    /// What users see.
    pub fn view(&self, now: Moment) -> View {
        let running = matches!(self.phase, Phase::Running { .. });
        let idle = self.idle_at().filter(|_| running);
        let prompt = match self.long_answer_by {
            Some(by) => Some((PromptReason::LongSession, idle.map_or(by, |idle| idle.min(by)))),
            None => idle.filter(|_| self.asked_for_inactivity).map(|idle| (PromptReason::Inactivity, idle)),
        };
        let grace = match self.phase {
            Phase::Suspended { since, .. } => Some(since + self.rules.grace_period),
            _ => None,
        };
        View {
            state: self.state(),
            awake_because: if running { self.activities.reasons() } else { Vec::new() },
            idle_in: idle.map(|at| at.since(now)),
            grace_remaining: grace.map(|at| at.since(now)),
            prompt: prompt.filter(|_| running).map(|(reason, at)| (reason, at.since(now))),
            ignored_pollers: self.pollers.ignored(),
            error: self.error.clone(),
            used_today: self.used_before + self.running_time(now),
        }
    }
}
