//! What can be seen of the model.

use overside_model::{ErrorCode, PromptReason, State};
use overside_session::{Deadline, EndReason};

use super::{After, Door, Model, Stage};

impl Model {
    pub(crate) fn state(&self) -> State {
        match self.stage {
            Stage::Stopped => State::Stopped,
            Stage::Idle => State::Idle,
            Stage::Starting => State::Starting,
            Stage::Running => State::Running,
            Stage::Freezing | Stage::Frozen | Stage::Thawing => State::Suspended,
            Stage::Failed | Stage::Deleting(After::Failed) => State::Failed,
            Stage::Deleting(_) => State::Stopping,
        }
    }

    pub(crate) fn door(&self) -> Door {
        match self.stage {
            Stage::Running => Door::Open,
            Stage::Idle => Door::Ask,
            Stage::Freezing | Stage::Frozen if self.is_spent() => Door::Ask,
            Stage::Failed if self.awaited => Door::Shut,
            Stage::Failed | Stage::Stopped | Stage::Deleting(After::Failed | After::Stopped) => Door::Refuses,
            _ => Door::Shut,
        }
    }

    pub(crate) fn idle_in(&self) -> Option<u64> {
        (self.stage == Stage::Running && !self.is_awake()).then(|| self.numbers.idle.saturating_sub(self.quiet))
    }

    pub(crate) fn grace_left(&self) -> Option<u64> {
        (self.state() == State::Suspended).then(|| self.numbers.grace.saturating_sub(self.gap))
    }

    pub(crate) fn prompt(&self) -> Option<(PromptReason, u64)> {
        if let Some(waited) = self.question {
            let left = self.numbers.answer.saturating_sub(waited.unwrap_or_default());
            return Some((PromptReason::LongSession, self.idle_in().map_or(left, |idle| idle.min(left))));
        }
        let idle = self.idle_in().filter(|_| self.asked_for_inactivity)?;
        Some((PromptReason::Inactivity, idle))
    }

    /// The numbers of the containers and of the calls that keep awake.
    pub(crate) fn awake_because(&self) -> (usize, Vec<usize>) {
        if self.stage != Stage::Running {
            return (0, Vec::new());
        }
        let calls = self.calls.iter().filter(|call| call.is_work() && !call.waits).map(|call| call.number);
        (self.containers, calls.collect())
    }

    pub(crate) fn today(&self) -> u64 {
        self.today
    }

    pub(crate) fn error(&self) -> Option<ErrorCode> {
        self.error
    }

    /// Usage of the present session.
    pub(crate) fn session(&self) -> Option<u64> {
        matches!(self.state(), State::Running | State::Suspended).then_some(self.session)
    }

    pub(crate) fn ended(&self) -> Option<(EndReason, Option<u64>)> {
        self.ended
    }

    /// What happens next by itself, and in how many seconds.
    pub(crate) fn next(&self) -> (u64, Deadline) {
        let numbers = self.numbers;
        let mut all = vec![(self.day_left, Deadline::Day)];
        match self.stage {
            Stage::Starting => all.push((numbers.start - self.starting, Deadline::Start)),
            Stage::Frozen => all.push((numbers.grace - self.gap, Deadline::Grace)),
            Stage::Freezing if !self.is_called_back() => all.push((numbers.grace - self.gap, Deadline::Grace)),
            Stage::Failed if self.awaited => all.push((self.pause_left, Deadline::Retry)),
            Stage::Running => {
                if !self.is_awake() {
                    all.push((numbers.idle - self.quiet, Deadline::Idle));
                    if self.asks_for_inactivity() && !self.asked_for_inactivity {
                        all.push((numbers.prompt_after - self.quiet, Deadline::InactivityPrompt));
                    }
                }
                all.push(match self.question {
                    Some(waited) => (numbers.answer - waited.unwrap_or_default(), Deadline::LongSessionAnswer),
                    None => (self.until_question(), Deadline::LongSessionPrompt),
                });
                if numbers.hard {
                    all.push((numbers.limit - self.today, Deadline::FairUse));
                }
            }
            _ => {}
        }
        all.into_iter().min_by_key(|(left, _)| *left).unwrap_or((self.day_left, Deadline::Day))
    }
}
