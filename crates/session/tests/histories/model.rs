//! The life cycle told once more, as simply as can be: second by second, with counters that go up and lists that are looked
//! through. It has no moments, no deadlines and no effects; it shares nothing with the machine but the words.

mod calls;
mod seen;

use overside_model::ErrorCode;
use overside_session::{CallKind, EndReason};

/// The numbers, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) idle: u64,
    pub(crate) grace: u64,
    pub(crate) start: u64,
    pub(crate) prompt_after: u64,
    pub(crate) long: u64,
    pub(crate) long_over_limit: u64,
    pub(crate) answer: u64,
    pub(crate) limit: u64,
    pub(crate) hard: bool,
    /// Length of every day.
    pub(crate) day: u64,
    /// What was used of the first day before.
    pub(crate) used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Stopped,
    Idle,
    Starting,
    Running,
    Freezing,
    Frozen,
    Thawing,
    Deleting(After),
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Idle,
    Stopped,
    Failed,
    Start,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    number: usize,
    kind: CallKind,
    poll: bool,
    waits: bool,
}

impl Held {
    fn is_work(&self) -> bool {
        !self.poll && matches!(self.kind, CallKind::Question | CallKind::Work)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    Waits,
    AnsweredLocally,
    AnsweredAsPoll,
    Refused(Option<ErrorCode>),
}

/// How those that wait are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Shut,
    Ask,
    Refuses,
}

pub(crate) struct Model {
    numbers: Numbers,
    stage: Stage,
    calls: Vec<Held>,
    containers: usize,
    asleep: bool,
    /// Seconds since somebody did something.
    quiet: u64,
    asked_for_inactivity: bool,
    /// The user wants it back, whatever calls wait.
    wanted_back: bool,
    /// Seconds since the session began, or since the last question about its length was done with.
    long: u64,
    /// The day's limit had been reached then.
    was_over: bool,
    /// Seconds that the question about the length has waited; None inside while the laptop sleeps.
    question: Option<Option<u64>>,
    today: u64,
    day_left: u64,
    /// Usage of the session, and the seconds since its suspension; of these, today's.
    session: u64,
    gap: u64,
    gap_today: u64,
    starting: u64,
    failures: u32,
    pause_left: u64,
    awaited: bool,
    error: Option<ErrorCode>,
    ended: Option<(EndReason, Option<u64>)>,
}

impl Model {
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self {
            numbers,
            stage: Stage::Stopped,
            calls: Vec::new(),
            containers: 0,
            asleep: false,
            quiet: 0,
            asked_for_inactivity: false,
            wanted_back: false,
            long: 0,
            was_over: false,
            question: None,
            today: numbers.used,
            day_left: numbers.day,
            session: 0,
            gap: 0,
            gap_today: 0,
            starting: 0,
            failures: 0,
            pause_left: 0,
            awaited: false,
            error: None,
            ended: None,
        }
    }

    // Time.

    pub(crate) fn pass(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    pub(crate) fn sleep(&mut self, seconds: u64) {
        self.asleep = true;
        self.pass(seconds);
    }

    /// Somebody or the timer notices that the laptop is awake again.
    pub(crate) fn wake(&mut self) {
        self.asleep = false;
        if self.question == Some(None) {
            self.question = Some(Some(0));
        }
        self.look();
    }

    fn second(&mut self) {
        self.quiet += 1;
        self.long += 1;
        self.day_left -= 1;
        if let Some(Some(waited)) = &mut self.question {
            *waited += 1;
        }
        match self.stage {
            Stage::Running => {
                self.today += 1;
                self.session += 1;
            }
            Stage::Freezing | Stage::Frozen | Stage::Thawing => {
                self.gap += 1;
                self.gap_today += 1;
            }
            Stage::Starting => self.starting += 1,
            Stage::Failed => self.pause_left = self.pause_left.saturating_sub(1),
            Stage::Stopped | Stage::Idle | Stage::Deleting(_) => {}
        }
        self.look();
    }

    /// Does what is due, until nothing is.
    pub(crate) fn look(&mut self) {
        while self.look_once() {}
    }

    fn look_once(&mut self) -> bool {
        let numbers = self.numbers;
        if self.day_left == 0 {
            self.day_left = numbers.day;
            self.today = 0;
            self.gap_today = 0;
            self.was_over = false;
            if self.stage != Stage::Failed && self.error == Some(ErrorCode::FairUse) {
                self.error = None;
            }
            return true;
        }
        match self.stage {
            Stage::Starting if self.starting >= numbers.start => {
                self.failures += 1;
                self.error = Some(ErrorCode::StartTimedOut);
                self.delete(After::Failed, EndReason::StartTimedOut);
            }
            Stage::Running => return self.look_at_running(),
            Stage::Frozen if self.gap >= numbers.grace => self.delete(After::Idle, EndReason::Idle),
            Stage::Freezing if self.gap >= numbers.grace && !self.is_called_back() => {
                self.delete(After::Idle, EndReason::Idle);
            }
            Stage::Failed if self.awaited && self.pause_left == 0 && !self.asleep => {
                if self.calls.iter().any(|call| call.waits && call.kind != CallKind::Events) && !self.is_spent() {
                    self.start();
                } else {
                    self.awaited = false;
                }
            }
            _ => return false,
        }
        true
    }

    fn look_at_running(&mut self) -> bool {
        let numbers = self.numbers;
        let awake = self.is_awake();
        if !awake && self.quiet >= numbers.idle {
            self.suspend();
        } else if !awake
            && !self.asked_for_inactivity
            && self.asks_for_inactivity()
            && self.quiet >= numbers.prompt_after
        {
            self.asked_for_inactivity = true;
        } else if self.question.flatten().is_some_and(|waited| waited >= numbers.answer) {
            self.suspend();
        } else if self.question.is_none() && self.until_question() == 0 {
            self.question = Some((!self.asleep).then_some(0));
        } else if self.is_spent() {
            // A gap that was billed may have gone beyond the limit.
            let beyond = (self.today - numbers.limit).min(self.session);
            self.today -= beyond;
            self.session -= beyond;
            self.suspend();
            self.gap = beyond;
            self.gap_today = beyond;
            self.long += beyond;
            self.error = Some(ErrorCode::FairUse);
        } else {
            return false;
        }
        true
    }

    fn asks_for_inactivity(&self) -> bool {
        self.numbers.prompt_after < self.numbers.idle
    }

    fn until_question(&self) -> u64 {
        if self.was_over {
            return self.numbers.long_over_limit.saturating_sub(self.long);
        }
        let limit = self.numbers.limit.saturating_sub(self.today);
        limit.min(self.numbers.long.saturating_sub(self.long))
    }

    fn is_spent(&self) -> bool {
        self.numbers.hard && self.today >= self.numbers.limit
    }

    fn is_awake(&self) -> bool {
        self.containers > 0 || self.calls.iter().any(|call| call.is_work() && !call.waits)
    }

    fn is_called_back(&self) -> bool {
        let called = self.calls.iter().any(|call| call.waits && call.kind != CallKind::Events);
        (called || self.wanted_back) && !self.is_spent()
    }

    // Changes of state.

    fn active(&mut self) {
        self.quiet = 0;
        self.asked_for_inactivity = false;
    }

    fn restart_long(&mut self) {
        self.question = None;
        self.long = 0;
        self.was_over = self.today >= self.numbers.limit;
    }

    fn start(&mut self) {
        self.restart_long();
        self.starting = 0;
        self.stage = Stage::Starting;
    }

    fn run(&mut self) {
        self.stage = Stage::Running;
        self.active();
        self.calls.iter_mut().for_each(|call| call.waits = false);
    }

    fn suspend(&mut self) {
        if self.question.is_some() {
            self.restart_long();
        }
        self.asked_for_inactivity = false;
        self.wanted_back = false;
        self.gap = 0;
        self.gap_today = 0;
        self.stage = Stage::Freezing;
    }

    fn delete(&mut self, after: After, reason: EndReason) {
        let ran = self.stage != Stage::Starting;
        self.ended = Some((reason, ran.then_some(self.session)));
        self.question = None;
        self.asked_for_inactivity = false;
        self.containers = 0;
        self.stage = Stage::Deleting(after);
    }

    fn fail(&mut self) {
        self.pause_left = [1, 2, 4, 8, 16, 30][self.failures.clamp(1, 6) as usize - 1];
        self.awaited = false;
        self.stage = Stage::Failed;
    }

    // What happens.

    pub(crate) fn enable(&mut self) {
        match self.stage {
            Stage::Stopped => self.stage = Stage::Idle,
            Stage::Deleting(After::Stopped) => self.stage = Stage::Deleting(After::Idle),
            _ => return self.retry(),
        }
        self.failures = 0;
        self.error = None;
    }

    pub(crate) fn disable(&mut self) {
        match self.stage {
            Stage::Stopped | Stage::Deleting(After::Stopped) => return,
            Stage::Idle | Stage::Failed => self.stage = Stage::Stopped,
            Stage::Deleting(_) => self.stage = Stage::Deleting(After::Stopped),
            _ => self.delete(After::Stopped, EndReason::Stopped),
        }
        self.error = None;
    }

    pub(crate) fn idle_now(&mut self) {
        if self.stage == Stage::Running {
            self.suspend();
        }
    }

    pub(crate) fn resume(&mut self) {
        match self.stage {
            _ if self.is_spent() => {}
            Stage::Freezing => self.wanted_back = true,
            Stage::Frozen => self.stage = Stage::Thawing,
            _ => {}
        }
    }

    pub(crate) fn later(&mut self) {
        self.active();
        if self.question.is_some() {
            self.restart_long();
        }
    }

    pub(crate) fn retry(&mut self) {
        match self.stage {
            Stage::Failed if self.is_spent() => self.error = Some(ErrorCode::FairUse),
            Stage::Failed => {
                self.failures = 0;
                self.start();
            }
            Stage::Deleting(After::Failed) => {
                self.failures = 0;
                self.stage = Stage::Deleting(After::Start);
            }
            _ => {}
        }
    }

    pub(crate) fn adopted(&mut self) {
        if self.stage == Stage::Idle {
            self.restart_long();
            self.session = 0;
            self.run();
        }
    }

    pub(crate) fn lost(&mut self) {
        if matches!(self.stage, Stage::Running | Stage::Freezing | Stage::Frozen | Stage::Thawing) {
            self.error = Some(ErrorCode::EnvironmentLost);
            self.delete(After::Idle, EndReason::Lost);
        }
    }

    pub(crate) fn containers(&mut self, count: usize) {
        let there = matches!(self.stage, Stage::Running | Stage::Freezing | Stage::Frozen | Stage::Thawing);
        if there && count != self.containers {
            self.containers = count;
            self.active();
        }
    }

    /// Whatever is being done to the environment has ended.
    pub(crate) fn answer(&mut self, good: bool) {
        const BAD: Option<ErrorCode> = Some(ErrorCode::EngineFailed);
        match (self.stage, good) {
            (Stage::Starting, true) => {
                (self.failures, self.error, self.session) = (0, None, 0);
                self.run();
            }
            (Stage::Starting, false) => {
                self.failures += 1;
                self.error = BAD;
                self.fail();
            }
            (Stage::Freezing, _) => {
                self.error = if good { self.error } else { BAD };
                self.stage = if self.is_called_back() { Stage::Thawing } else { Stage::Frozen };
            }
            (Stage::Thawing, true) => {
                self.error = None;
                self.today += self.gap_today;
                self.session += self.gap;
                self.run();
            }
            (Stage::Thawing, false) => {
                self.error = BAD;
                self.delete(After::Idle, EndReason::Lost);
            }
            (Stage::Deleting(after), _) => {
                self.error = if good { self.error } else { BAD };
                match after {
                    After::Stopped => self.stage = Stage::Stopped,
                    After::Failed => self.fail(),
                    After::Start => self.start(),
                    After::Idle => {
                        self.stage = Stage::Idle;
                        let wanted = self.calls.iter().any(|call| call.waits && call.kind == CallKind::Work);
                        if wanted && !self.is_spent() {
                            self.start();
                        }
                    }
                }
            }
            _ => {}
        }
    }
}
