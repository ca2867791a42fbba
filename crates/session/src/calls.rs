//! Calls: which pass, wait, are answered without an engine or refused, and what they set off.

use std::time::Duration;

use overside_model::{ErrorCode, Moment, Problem};

use crate::{
    activity::{ActivityId, Call, CallKind},
    machine::{Motion, Phase, Session, Then, stopped},
};

/// How calls are to be treated at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// There is a running environment.
    Open,
    /// Calls wait for a change.
    Wait,
    /// Nothing runs, and nothing is about to for the calls that wait: each has to ask again by [`Session::handle_call_again`].
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
    /// It is polling: it gets the last known answer, or the one that is known without an engine; where there is neither, it
    /// is refused.
    AnswerPoll,
    /// It fails.
    Refuse(Problem),
}

/// Longest time that a call waits after a failure for the next attempt, instead of being refused.
const SHORT_WAIT: Duration = Duration::from_secs(2);

impl Session {
    /// A call arrives. It is under way until [`Self::handle_call_end`].
    pub fn handle_call(&mut self, now: Moment, call: &Call<'_>) -> (ActivityId, Decision) {
        self.handle_timeout(now);
        let poll = call.kind.may_be_poll() && self.is_enabled() && self.pollers.is_poll(now, call.client, call.shape);
        let id = self.activities.begin(call, poll);
        (id, self.handle_call_again(now, id))
    }

    /// A call that waited asks again.
    pub fn handle_call_again(&mut self, now: Moment, id: ActivityId) -> Decision {
        self.handle_timeout(now);
        let Some((kind, poll)) = self.activities.kind(id) else {
            return Decision::Refuse(Problem::new(ErrorCode::Internal, "a call asked that is not under way", ""));
        };
        let decision = self.decide(now, kind, poll);
        match decision {
            Decision::Pass => {
                self.activities.set_waiting(id, false);
                if !poll && matches!(kind, CallKind::Question | CallKind::Work) {
                    self.active(now);
                }
            }
            Decision::Wait => self.activities.set_waiting(id, true),
            Decision::AnswerLocally | Decision::AnswerPoll | Decision::Refuse(_) => {
                // It neither waits nor keeps awake while its answer is written.
                self.activities.end(id);
            }
        }
        decision
    }

    fn decide(&mut self, now: Moment, kind: CallKind, poll: bool) -> Decision {
        match (&self.phase, kind) {
            (Phase::Stopped | Phase::Stopping { then: Then::Stopped }, _) => Decision::Refuse(stopped()),
            (Phase::Running { .. }, _) => Decision::Pass,
            (_, CallKind::Ping) => Decision::AnswerLocally,
            _ if poll => Decision::AnswerPoll,
            (Phase::Idle, CallKind::Probe | CallKind::Question) => Decision::AnswerLocally,
            (Phase::Failed { .. } | Phase::Stopping { then: Then::Failed }, CallKind::Probe) => Decision::AnswerLocally,
            (
                Phase::Idle | Phase::Failed { .. } | Phase::Suspended { motion: Motion::Freezing | Motion::Frozen, .. },
                CallKind::Probe | CallKind::Question | CallKind::Work,
            ) if self.is_spent(now) => Decision::Refuse(self.spent()),
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

    /// Whether a call that is under way is polling.
    pub fn is_poll(&self, id: ActivityId) -> bool {
        self.activities.kind(id).is_some_and(|(_, poll)| poll)
    }

    /// A call has ended, was answered or went away.
    pub fn handle_call_end(&mut self, now: Moment, id: ActivityId) {
        self.handle_timeout(now);
        if self.activities.end(id) {
            self.active(now);
        }
    }

    /// How waiting calls are to be treated.
    pub fn gate(&self) -> Gate {
        match self.phase {
            Phase::Running { .. } => Gate::Open,
            // Nothing of today is left to resume it with.
            Phase::Suspended { since, motion: Motion::Freezing | Motion::Frozen, .. } if self.is_spent(since) => {
                Gate::Ask
            }
            Phase::Starting { .. }
            | Phase::Suspended { .. }
            | Phase::Stopping { then: Then::Idle | Then::Start }
            | Phase::Failed { awaited: true, .. } => Gate::Wait,
            Phase::Idle => Gate::Ask,
            Phase::Failed { .. } | Phase::Stopping { then: Then::Failed } => Gate::Refuse(self.failure()),
            Phase::Stopped | Phase::Stopping { then: Then::Stopped } => Gate::Refuse(stopped()),
        }
    }
}
