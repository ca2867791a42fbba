//! What becomes of calls.

use overside_model::ErrorCode;
use overside_session::CallKind;

use super::{After, Fate, Held, Model, Stage};

impl Model {
    pub(crate) fn call(&mut self, number: usize, kind: CallKind, ignored: bool) -> Fate {
        let may_be_poll = matches!(kind, CallKind::Probe | CallKind::Question);
        let enabled = !matches!(self.stage, Stage::Stopped | Stage::Deleting(After::Stopped));
        self.calls.push(Held { number, kind, poll: ignored && may_be_poll && enabled, waits: true });
        self.call_again(number)
    }

    pub(crate) fn call_again(&mut self, number: usize) -> Fate {
        let Some(index) = self.calls.iter().position(|call| call.number == number) else {
            return Fate::Refused(Some(ErrorCode::Internal));
        };
        let call = self.calls[index];
        let fate = self.fate(call);
        match fate {
            Fate::Passes => {
                self.calls[index].waits = false;
                if call.is_work() {
                    self.active();
                }
            }
            Fate::Waits => self.calls[index].waits = true,
            _ => drop(self.calls.remove(index)),
        }
        fate
    }

    fn fate(&mut self, Held { kind, poll, .. }: Held) -> Fate {
        match self.stage {
            Stage::Stopped | Stage::Deleting(After::Stopped) => return Fate::Refused(Some(ErrorCode::Stopped)),
            Stage::Running => return Fate::Passes,
            _ if kind == CallKind::Ping => return Fate::AnsweredLocally,
            _ if poll => return Fate::AnsweredAsPoll,
            _ if kind == CallKind::Events => return Fate::Waits,
            _ => {}
        }
        let spent = Fate::Refused(Some(ErrorCode::FairUse));
        match self.stage {
            Stage::Idle if kind != CallKind::Work => Fate::AnsweredLocally,
            Stage::Failed | Stage::Deleting(After::Failed) if kind == CallKind::Probe => Fate::AnsweredLocally,
            Stage::Idle | Stage::Failed | Stage::Freezing | Stage::Frozen if self.is_spent() => spent,
            Stage::Idle => {
                self.start();
                Fate::Waits
            }
            Stage::Failed if self.pause_left == 0 => {
                self.start();
                Fate::Waits
            }
            Stage::Failed if self.pause_left <= 2 => {
                self.awaited = true;
                Fate::Waits
            }
            Stage::Failed | Stage::Deleting(After::Failed) => Fate::Refused(self.error),
            Stage::Frozen => {
                self.stage = Stage::Thawing;
                Fate::Waits
            }
            _ => Fate::Waits,
        }
    }

    pub(crate) fn call_end(&mut self, number: usize) {
        let Some(index) = self.calls.iter().position(|call| call.number == number) else { return };
        let call = self.calls.remove(index);
        if call.is_work() && !call.waits {
            self.active();
        }
    }
}
