//! The machine.

use std::{collections::VecDeque, time::Duration};

use overside_model::{ErrorCode, Moment, Problem, State};

use crate::{
    activity::{Activities, ActivityId, CallKind},
    rules::{Rules, retry_pause},
    view::View,
};

/// Number of an effect on the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub u64);

/// What is to be carried out. A later effect on the environment cancels an earlier one that is still under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make an environment and connect to it; answer with [`Session::handle_started`].
    Start(Operation),
    /// Freeze the environment; answer with [`Session::handle_suspended`].
    Suspend(Operation),
    /// Thaw it; answer with [`Session::handle_resumed`].
    Resume(Operation),
    /// Delete whatever there is of an environment; answer with [`Session::handle_deleted`].
    Delete(Operation),
    /// Make `overside` the current Docker context.
    SelectContext,
    /// Make the previous Docker context current again.
    RestoreContext,
}

/// How calls are to be treated at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// There is a running environment.
    Open,
    /// Calls wait for a change.
    Wait,
    /// Nothing runs and nothing is about to: a call has to ask again by [`Session::handle_call_again`].
    Ask,
    /// Calls fail with this.
    Refuse(Problem),
}

/// What becomes of a call that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the engine.
    Pass,
    /// It waits for the gate to change.
    Wait,
    /// It is answered without an engine; where that is not possible it asks again as [`CallKind::Work`].
    AnswerLocally,
    /// It fails.
    Refuse(Problem),
}

/// Longest time that a call waits after a failure for the next attempt, instead of being refused.
const SHORT_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Stopped,
    Idle,
    Starting {
        since: Moment,
    },
    Running {
        since: Moment,
    },
    Suspended {
        since: Moment,
        running_since: Moment,
        motion: Motion,
    },
    Stopping {
        then: Then,
    },
    /// `awaited`: a call waits for the next attempt.
    Failed {
        retry_at: Moment,
        awaited: bool,
    },
}

/// Where a suspension stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    Freezing,
    Frozen,
    Thawing,
}

/// What comes after Stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Idle,
    Stopped,
    Failed,
}

/// The life cycle of one user's sessions.
#[derive(Debug)]
pub struct Session {
    rules: Rules,
    phase: Phase,
    activities: Activities,
    last_activity: Moment,
    effects: VecDeque<Effect>,
    operations: u64,
    failures: u32,
    error: Option<Problem>,
    used_before: Duration,
    day_began: Moment,
}

fn stopped() -> Problem {
    Problem::new(ErrorCode::Stopped, "Overside is turned off", "Start it with `overside start`.")
}

impl Session {
    /// A session that is turned off.
    pub fn new(now: Moment, rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Stopped,
            activities: Activities::default(),
            last_activity: now,
            effects: VecDeque::new(),
            operations: 0,
            failures: 0,
            error: None,
            used_before: Duration::ZERO,
            day_began: now,
        }
    }

    /// Turn on. In Failed, start again.
    pub fn handle_enable(&mut self, now: Moment) {
        match self.phase {
            Phase::Stopped | Phase::Stopping { then: Then::Stopped } => {
                self.effects.push_back(Effect::SelectContext);
                self.failures = 0;
                self.error = None;
                self.phase = match self.phase {
                    Phase::Stopped => Phase::Idle,
                    _ => Phase::Stopping { then: Then::Idle },
                };
            }
            Phase::Failed { .. } => self.handle_retry(now),
            Phase::Idle
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Suspended { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    /// Turn off: the environment is deleted, whatever it does.
    pub fn handle_disable(&mut self, now: Moment) {
        match self.phase {
            Phase::Stopped | Phase::Stopping { then: Then::Stopped } => return,
            Phase::Idle | Phase::Failed { .. } => self.phase = Phase::Stopped,
            Phase::Stopping { .. } => self.phase = Phase::Stopping { then: Then::Stopped },
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Suspended { .. } => self.stop(now, Then::Stopped),
        }
        self.error = None;
        self.effects.push_back(Effect::RestoreContext);
    }

    /// Suspend now, whatever keeps the session awake.
    ///
    /// # Errors
    /// Where there is nothing to suspend.
    pub fn handle_idle_now(&mut self, now: Moment) -> Result<(), Problem> {
        match self.phase {
            Phase::Running { since } => self.suspend(now, since),
            Phase::Idle | Phase::Suspended { .. } => {}
            Phase::Stopped => return Err(stopped()),
            Phase::Starting { .. } | Phase::Stopping { .. } | Phase::Failed { .. } => {
                return Err(Problem::new(
                    ErrorCode::RequestRefused,
                    format!("there is nothing to suspend while Overside is {}", self.state().name()),
                    "",
                ));
            }
        }
        Ok(())
    }

    /// The user is there: counts as activity.
    pub fn handle_later(&mut self, now: Moment) {
        self.last_activity = now;
    }

    /// Start again after a failure, without waiting for the backoff. Elsewhere nothing.
    pub fn handle_retry(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Failed { .. }) {
            self.failures = 0;
            self.start(now);
        }
    }

    /// A call arrives. It is under way until [`Self::handle_call_end`]. `detail` is what `status` calls it.
    pub fn handle_call(&mut self, now: Moment, kind: CallKind, detail: &str) -> (ActivityId, Decision) {
        let id = self.activities.begin(kind, detail);
        (id, self.handle_call_again(now, id, kind))
    }

    /// A call that waited, or that could not be answered locally, asks again.
    pub fn handle_call_again(&mut self, now: Moment, id: ActivityId, kind: CallKind) -> Decision {
        let decision = self.decide(now, kind);
        match decision {
            Decision::Pass => {
                self.activities.set_waiting(id, false);
                if kind.counts() {
                    self.last_activity = now;
                }
            }
            Decision::Wait => self.activities.set_waiting(id, true),
            Decision::AnswerLocally | Decision::Refuse(_) => {
                // It neither waits nor keeps awake while its answer is written.
                self.activities.end(id);
            }
        }
        decision
    }

    fn decide(&mut self, now: Moment, kind: CallKind) -> Decision {
        match (&self.phase, kind) {
            (Phase::Stopped | Phase::Stopping { then: Then::Stopped }, _) => Decision::Refuse(stopped()),
            (Phase::Running { .. }, _) => Decision::Pass,
            (Phase::Idle, CallKind::Probe | CallKind::Question) => Decision::AnswerLocally,
            (Phase::Failed { .. } | Phase::Stopping { then: Then::Failed }, CallKind::Probe) => Decision::AnswerLocally,
            (Phase::Idle, CallKind::Work) => {
                self.start(now);
                Decision::Wait
            }
            (Phase::Failed { retry_at, .. }, CallKind::Question | CallKind::Work) if now >= *retry_at => {
                self.start(now);
                Decision::Wait
            }
            (Phase::Failed { retry_at, .. }, CallKind::Question | CallKind::Work) if now + SHORT_WAIT >= *retry_at => {
                // Somebody who has just mended the trouble is not sent away for a second.
                self.phase = Phase::Failed { retry_at: *retry_at, awaited: true };
                Decision::Wait
            }
            (Phase::Failed { .. } | Phase::Stopping { then: Then::Failed }, CallKind::Question | CallKind::Work) => {
                Decision::Refuse(self.failure())
            }
            (
                Phase::Suspended { motion: Motion::Frozen, .. },
                CallKind::Probe | CallKind::Question | CallKind::Work,
            ) => {
                self.resume();
                Decision::Wait
            }
            (
                Phase::Idle
                | Phase::Failed { .. }
                | Phase::Starting { .. }
                | Phase::Stopping { .. }
                | Phase::Suspended { .. },
                _,
            ) => Decision::Wait,
        }
    }

    /// A call has ended, was answered or went away.
    pub fn handle_call_end(&mut self, now: Moment, id: ActivityId) {
        if self.activities.end(id) {
            self.last_activity = now;
        }
    }

    /// The running containers, by name, whenever they change.
    pub fn handle_containers(&mut self, now: Moment, names: Vec<String>) {
        self.last_activity = now;
        self.activities.set_containers(names);
    }

    /// The answer to [`Effect::Start`].
    pub fn handle_started(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        if !self.is_current(operation) || !matches!(self.phase, Phase::Starting { .. }) {
            return;
        }
        match result {
            Ok(()) => {
                self.failures = 0;
                self.error = None;
                self.run(now, now);
            }
            Err(problem) => self.fail(now, problem),
        }
    }

    /// An environment of an earlier process was found again and connected.
    pub fn handle_adopted(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Idle) {
            self.run(now, now);
        }
    }

    /// The answer to [`Effect::Suspend`].
    pub fn handle_suspended(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        let Phase::Suspended { since, running_since, motion: Motion::Freezing } = self.phase else { return };
        if !self.is_current(operation) {
            return;
        }
        match result {
            Ok(()) => {
                self.phase = Phase::Suspended { since, running_since, motion: Motion::Frozen };
                if self.activities.someone_waits_for_resume() {
                    self.resume();
                }
            }
            Err(problem) => {
                self.error = Some(problem);
                self.run(now, running_since);
            }
        }
    }

    /// The answer to [`Effect::Resume`].
    pub fn handle_resumed(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        let Phase::Suspended { running_since, motion: Motion::Thawing, .. } = self.phase else { return };
        if !self.is_current(operation) {
            return;
        }
        match result {
            Ok(()) => {
                self.error = None;
                self.run(now, running_since);
            }
            Err(problem) => self.handle_lost(now, problem),
        }
    }

    /// The environment is gone, or cannot be reached any more: what is left of it is deleted, and the next call gets a new
    /// one.
    pub fn handle_lost(&mut self, now: Moment, problem: Problem) {
        if matches!(self.phase, Phase::Running { .. } | Phase::Suspended { .. }) {
            self.error = Some(problem);
            self.stop(now, Then::Idle);
        }
    }

    /// The answer to [`Effect::Delete`]. What could not be removed is reported and tried again at the next start of the
    /// daemon; the life cycle goes on.
    pub fn handle_deleted(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        let Phase::Stopping { then } = self.phase else { return };
        if !self.is_current(operation) {
            return;
        }
        if let Err(problem) = result {
            self.error = Some(problem);
        }
        match then {
            Then::Stopped => self.phase = Phase::Stopped,
            Then::Failed => self.phase = Phase::Failed { retry_at: now + retry_pause(self.failures), awaited: false },
            Then::Idle => {
                self.phase = Phase::Idle;
                if self.activities.someone_waits() {
                    self.start(now);
                }
            }
        }
    }

    /// New settings, from now on.
    pub fn handle_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// A new local day: usage begins at zero.
    pub fn handle_day(&mut self, now: Moment) {
        self.used_before = Duration::ZERO;
        self.day_began = now;
    }

    /// Time has passed. Harmless at any time.
    pub fn handle_timeout(&mut self, now: Moment) {
        let Some((deadline, _)) = self.poll_timeout() else { return };
        if now < deadline {
            return;
        }
        match self.phase {
            Phase::Running { since } => self.suspend(now, since),
            Phase::Suspended { .. } => self.stop(now, Then::Idle),
            Phase::Starting { .. } => {
                let seconds = self.rules.start_timeout.as_secs();
                self.failures = self.failures.saturating_add(1);
                self.error = Some(Problem::new(
                    ErrorCode::StartTimedOut,
                    format!("the environment did not start within {seconds} s"),
                    "Try again, or raise `start-timeout` with `overside settings set`.",
                ));
                self.stop(now, Then::Failed);
            }
            Phase::Failed { .. } if self.activities.someone_waits_for_resume() => self.start(now),
            // Who waited has gone.
            Phase::Failed { retry_at, .. } => self.phase = Phase::Failed { retry_at, awaited: false },
            Phase::Stopped | Phase::Idle | Phase::Stopping { .. } => {}
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest, and why.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        match self.phase {
            Phase::Starting { since } => Some((since + self.rules.start_timeout, "start time-out")),
            Phase::Running { .. } if !self.activities.keeps_awake() => {
                Some((self.last_activity + self.rules.idle_timeout, "idle timeout"))
            }
            Phase::Suspended { since, motion: Motion::Frozen, .. } => {
                Some((since + self.rules.grace_period, "grace period"))
            }
            Phase::Failed { retry_at, awaited: true } => Some((retry_at, "pause after a failure")),
            _ => None,
        }
    }

    /// The next thing to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// How waiting calls are to be treated.
    pub fn gate(&self) -> Gate {
        match self.phase {
            Phase::Running { .. } => Gate::Open,
            Phase::Starting { .. }
            | Phase::Suspended { .. }
            | Phase::Stopping { then: Then::Idle }
            | Phase::Failed { awaited: true, .. } => Gate::Wait,
            Phase::Idle => Gate::Ask,
            Phase::Failed { .. } | Phase::Stopping { then: Then::Failed } => Gate::Refuse(self.failure()),
            Phase::Stopped | Phase::Stopping { then: Then::Stopped } => Gate::Refuse(stopped()),
        }
    }

    /// Whether it is turned on.
    pub const fn is_enabled(&self) -> bool {
        !matches!(self.phase, Phase::Stopped | Phase::Stopping { then: Then::Stopped })
    }

    /// The state as users see it.
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Idle => State::Idle,
            Phase::Starting { .. } => State::Starting,
            Phase::Running { .. } => State::Running,
            Phase::Suspended { .. } => State::Suspended,
            Phase::Failed { .. } | Phase::Stopping { then: Then::Failed } => State::Failed,
            Phase::Stopping { .. } => State::Stopping,
        }
    }

    /// What users see.
    pub fn view(&self, now: Moment) -> View {
        let until = |deadline: Moment| deadline.since(now);
        let timeout = self.poll_timeout().map(|(deadline, _)| until(deadline));
        let running = matches!(self.phase, Phase::Running { .. });
        let suspended = matches!(self.phase, Phase::Suspended { .. });
        View {
            state: self.state(),
            awake_because: if running { self.activities.reasons() } else { Vec::new() },
            idle_in: timeout.filter(|_| running),
            grace_remaining: timeout.filter(|_| suspended),
            error: self.error.clone(),
            used_today: self.used_before + self.running_time(now),
        }
    }

    fn running_time(&self, now: Moment) -> Duration {
        match self.phase {
            Phase::Running { since } => now.since(since.max(self.day_began)),
            // Suspended time counts once it is resumed; until then what counts is the time before it.
            Phase::Suspended { since, running_since, .. } => since.since(running_since.max(self.day_began)),
            _ => Duration::ZERO,
        }
    }

    fn failure(&self) -> Problem {
        self.error.clone().unwrap_or_else(|| Problem::new(ErrorCode::Internal, "the last start failed", ""))
    }

    fn operation(&mut self) -> Operation {
        self.operations += 1;
        Operation(self.operations)
    }

    const fn is_current(&self, operation: Operation) -> bool {
        self.operations == operation.0
    }

    fn start(&mut self, now: Moment) {
        let operation = self.operation();
        self.phase = Phase::Starting { since: now };
        self.effects.push_back(Effect::Start(operation));
    }

    fn run(&mut self, now: Moment, since: Moment) {
        self.phase = Phase::Running { since };
        self.last_activity = now;
        self.activities.admit_all();
    }

    fn fail(&mut self, now: Moment, problem: Problem) {
        self.failures = self.failures.saturating_add(1);
        self.error = Some(problem);
        self.phase = Phase::Failed { retry_at: now + retry_pause(self.failures), awaited: false };
    }

    fn suspend(&mut self, now: Moment, running_since: Moment) {
        let operation = self.operation();
        self.phase = Phase::Suspended { since: now, running_since, motion: Motion::Freezing };
        self.effects.push_back(Effect::Suspend(operation));
    }

    fn resume(&mut self) {
        if let Phase::Suspended { since, running_since, .. } = self.phase {
            let operation = self.operation();
            self.phase = Phase::Suspended { since, running_since, motion: Motion::Thawing };
            self.effects.push_back(Effect::Resume(operation));
        }
    }

    fn stop(&mut self, now: Moment, then: Then) {
        self.used_before += self.running_time(now);
        self.activities.set_containers(Vec::new());
        let operation = self.operation();
        self.phase = Phase::Stopping { then };
        self.effects.push_back(Effect::Delete(operation));
    }
}
