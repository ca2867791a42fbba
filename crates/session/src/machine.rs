//! The machine: its states, and what each input makes of them. What becomes of calls is [`crate::calls`]' matter, when something
//! is due [`crate::deadlines`]'.

use std::{collections::VecDeque, time::Duration};

use overside_model::{ErrorCode, Moment, Problem, State};

use crate::{
    activity::Activities,
    pollers::{Overrules, Pollers},
    rules::{Rules, retry_pause},
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
    /// The day is over; answer with [`Session::handle_day`].
    TurnDay,
}

impl Effect {
    const fn is_on_environment(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Suspend(_) | Self::Resume(_) | Self::Delete(_))
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Nobody came back within the grace period.
    Idle,
    /// The user turned Overside off.
    Stopped,
    /// The environment was lost.
    Lost,
    /// The start was not finished in time.
    StartTimedOut,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// What it used, from its first moment of running to its last; None if it never ran.
    pub interval: Option<(Moment, Moment)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
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
pub(crate) enum Motion {
    Freezing,
    /// Or as good as that: what cannot be frozen is treated like it.
    Frozen,
    Thawing,
}

/// What comes after Stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Idle,
    Stopped,
    Failed,
    /// The user does not wait for the next call.
    Start,
}

/// The life cycle of one user's sessions.
#[derive(Debug)]
pub struct Session {
    pub(crate) rules: Rules,
    pub(crate) phase: Phase,
    pub(crate) activities: Activities,
    pub(crate) pollers: Pollers,
    pub(crate) last_activity: Moment,
    /// The user is being asked because nothing happens.
    pub(crate) asked_for_inactivity: bool,
    /// The user wants the environment back that is still being frozen.
    pub(crate) wanted_back: bool,
    /// From when the time to the next question about a long session counts.
    pub(crate) long_from: Moment,
    /// Until when the question about a long session waits for its answer.
    pub(crate) long_answer_by: Option<Moment>,
    pub(crate) effects: VecDeque<Effect>,
    operations: u64,
    pub(crate) failures: u32,
    pub(crate) error: Option<Problem>,
    /// Usage of the day by sessions that are over, or from before `day_began`.
    pub(crate) used_before: Duration,
    pub(crate) day_began: Moment,
    /// None until the first day was told.
    pub(crate) day_ends: Option<Moment>,
    ended: Option<Ended>,
}

pub(crate) fn stopped() -> Problem {
    Problem::new(ErrorCode::Stopped, "Overside is turned off", "Start it with `overside start`.")
}

impl Session {
    /// A session that is turned off.
    pub fn new(now: Moment, rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Stopped,
            activities: Activities::default(),
            pollers: Pollers::default(),
            last_activity: now,
            asked_for_inactivity: false,
            wanted_back: false,
            long_from: now,
            long_answer_by: None,
            effects: VecDeque::new(),
            operations: 0,
            failures: 0,
            error: None,
            used_before: Duration::ZERO,
            day_began: now,
            day_ends: None,
            ended: None,
        }
    }

    /// Turn on. In Failed, start again.
    pub fn handle_enable(&mut self, now: Moment) {
        self.handle_timeout(now);
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
            Phase::Failed { .. } | Phase::Stopping { then: Then::Failed } => self.handle_retry(now),
            Phase::Idle
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Suspended { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    /// Turn off: the environment is deleted, whatever it does.
    pub fn handle_disable(&mut self, now: Moment) {
        self.handle_timeout(now);
        match self.phase {
            Phase::Stopped | Phase::Stopping { then: Then::Stopped } => return,
            Phase::Idle | Phase::Failed { .. } => self.phase = Phase::Stopped,
            Phase::Stopping { .. } => self.phase = Phase::Stopping { then: Then::Stopped },
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Suspended { .. } => {
                self.stop(now, Then::Stopped, EndReason::Stopped)
            }
        }
        self.error = None;
        self.effects.push_back(Effect::RestoreContext);
    }

    /// Suspend now, whatever keeps the session awake.
    ///
    /// # Errors
    /// Where there is nothing to suspend.
    pub fn handle_idle_now(&mut self, now: Moment) -> Result<(), Problem> {
        self.handle_timeout(now);
        match self.phase {
            Phase::Running { since } => self.suspend(now, since),
            Phase::Idle | Phase::Suspended { .. } | Phase::Stopping { then: Then::Idle } => {}
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

    /// Resume now, as a call that needs the environment would. While Running, nothing.
    ///
    /// # Errors
    /// Where there is nothing to resume, or nothing left of the day to resume it with.
    pub fn handle_resume(&mut self, now: Moment) -> Result<(), Problem> {
        self.handle_timeout(now);
        match self.phase {
            Phase::Running { .. } | Phase::Suspended { motion: Motion::Thawing, .. } => {}
            Phase::Suspended { .. } if self.is_spent(now) => return Err(self.spent()),
            Phase::Suspended { motion: Motion::Freezing, .. } => self.wanted_back = true,
            Phase::Suspended { motion: Motion::Frozen, .. } => self.resume(),
            Phase::Stopped => return Err(stopped()),
            Phase::Idle | Phase::Starting { .. } | Phase::Stopping { .. } | Phase::Failed { .. } => {
                return Err(Problem::new(
                    ErrorCode::RequestRefused,
                    format!("there is nothing to resume while Overside is {}", self.state().name()),
                    "The next Docker command that needs an environment starts one.",
                ));
            }
        }
        Ok(())
    }

    /// *Ask me again later*: counts as activity; the question about a long session, where that is what was asked, waits for its
    /// next interval.
    pub fn handle_later(&mut self, now: Moment) {
        self.handle_timeout(now);
        self.active(now);
        if self.long_answer_by.take().is_some() {
            self.long_from = now;
        }
    }

    /// Start again after a failure, without waiting for the backoff, but not for more time of the day than there is. Elsewhere
    /// nothing.
    pub fn handle_retry(&mut self, now: Moment) {
        self.handle_timeout(now);
        match self.phase {
            Phase::Failed { .. } if self.is_spent(now) => self.error = Some(self.spent()),
            Phase::Failed { .. } => {
                self.failures = 0;
                self.start(now);
            }
            Phase::Stopping { then: Then::Failed } => {
                self.failures = 0;
                self.phase = Phase::Stopping { then: Then::Start };
            }
            _ => {}
        }
    }

    /// The running containers, by name. That they have changed counts; that they are told again does not.
    pub fn handle_containers(&mut self, now: Moment, names: Vec<String>) {
        self.handle_timeout(now);
        let there_is_an_environment = matches!(self.phase, Phase::Running { .. } | Phase::Suspended { .. });
        if there_is_an_environment && self.activities.set_containers(names) {
            self.active(now);
        }
    }

    /// The answer to [`Effect::Start`].
    pub fn handle_started(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        self.handle_timeout(now);
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
        self.handle_timeout(now);
        if matches!(self.phase, Phase::Idle) {
            self.begin(now);
            self.run(now, now);
        }
    }

    /// The answer to [`Effect::Suspend`]. An environment that cannot be frozen is deleted after the grace period like any other:
    /// it would otherwise run, and cost, for as long as nobody needs it.
    pub fn handle_suspended(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        self.handle_timeout(now);
        let Phase::Suspended { since, running_since, motion: Motion::Freezing } = self.phase else { return };
        if !self.is_current(operation) {
            return;
        }
        if let Err(problem) = result {
            self.error = Some(problem);
        }
        self.phase = Phase::Suspended { since, running_since, motion: Motion::Frozen };
        if self.is_called_back(now) {
            self.resume();
        }
    }

    /// The answer to [`Effect::Resume`].
    pub fn handle_resumed(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        self.handle_timeout(now);
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
        self.handle_timeout(now);
        if matches!(self.phase, Phase::Running { .. } | Phase::Suspended { .. }) {
            self.error = Some(problem);
            self.stop(now, Then::Idle, EndReason::Lost);
        }
    }

    /// The answer to [`Effect::Delete`]. What could not be removed is reported and tried again at the next start of the
    /// daemon; the life cycle goes on.
    pub fn handle_deleted(&mut self, now: Moment, operation: Operation, result: Result<(), Problem>) {
        self.handle_timeout(now);
        let Phase::Stopping { then } = self.phase else { return };
        if !self.is_current(operation) {
            return;
        }
        if let Err(problem) = result {
            self.error = Some(problem);
        }
        match then {
            Then::Stopped => self.phase = Phase::Stopped,
            Then::Start => self.start(now),
            Then::Failed => self.phase = Phase::Failed { retry_at: now + retry_pause(self.failures), awaited: false },
            Then::Idle => {
                self.phase = Phase::Idle;
                if self.activities.someone_waits() && !self.is_spent(now) {
                    self.start(now);
                }
            }
        }
    }

    /// New settings, from now on.
    pub fn handle_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// What the user says of programs, from now on.
    pub fn handle_overrules(&mut self, overrules: Overrules) {
        self.pollers.overrule(overrules);
    }

    /// The next thing to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
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

    pub(crate) fn failure(&self) -> Problem {
        self.error.clone().unwrap_or_else(|| Problem::new(ErrorCode::Internal, "the last start failed", ""))
    }

    fn operation(&mut self) -> Operation {
        self.operations += 1;
        Operation(self.operations)
    }

    const fn is_current(&self, operation: Operation) -> bool {
        self.operations == operation.0
    }

    /// Somebody is at work.
    pub(crate) const fn active(&mut self, now: Moment) {
        self.last_activity = now;
        self.asked_for_inactivity = false;
    }

    pub(crate) fn start(&mut self, now: Moment) {
        self.begin(now);
        let operation = self.operation();
        self.phase = Phase::Starting { since: now };
        self.effects.push_back(Effect::Start(operation));
    }

    /// A session begins.
    fn begin(&mut self, now: Moment) {
        self.pollers.forget_counts();
        self.long_from = now;
    }

    fn run(&mut self, now: Moment, since: Moment) {
        self.phase = Phase::Running { since };
        self.active(now);
        self.activities.admit_all();
    }

    fn fail(&mut self, now: Moment, problem: Problem) {
        self.failures = self.failures.saturating_add(1);
        self.error = Some(problem);
        self.phase = Phase::Failed { retry_at: now + retry_pause(self.failures), awaited: false };
    }

    pub(crate) fn suspend(&mut self, now: Moment, running_since: Moment) {
        let operation = self.operation();
        if self.long_answer_by.take().is_some() {
            self.long_from = now;
        }
        self.wanted_back = false;
        self.phase = Phase::Suspended { since: now, running_since, motion: Motion::Freezing };
        self.effects.push_back(Effect::Suspend(operation));
    }

    pub(crate) fn resume(&mut self) {
        if let Phase::Suspended { since, running_since, .. } = self.phase {
            let operation = self.operation();
            self.phase = Phase::Suspended { since, running_since, motion: Motion::Thawing };
            self.effects.push_back(Effect::Resume(operation));
        }
    }

    pub(crate) fn stop(&mut self, now: Moment, then: Then, reason: EndReason) {
        self.used_before += self.running_time(now);
        self.ended = Some(Ended { reason, interval: self.interval(now) });
        self.activities.set_containers(Vec::new());
        self.long_answer_by = None;
        // What nobody has begun yet need not be begun.
        self.effects.retain(|effect| !effect.is_on_environment());
        let operation = self.operation();
        self.phase = Phase::Stopping { then };
        self.effects.push_back(Effect::Delete(operation));
    }

    /// How the last session ended.
    pub const fn ended(&self) -> Option<Ended> {
        self.ended
    }
}
