//! One history, put to the machine, to the machine with a poller around, and to the model; and what has to hold after every step.

use std::{fmt::Debug, time::Duration};

use overside_model::{ErrorCode, Moment, Problem, State};
use overside_session::{
    ActivityId, Call, CallKind, Client, Deadline, Decision, Effect, Gate, Operation, Overrules, Rules, Session, View,
};

use crate::{
    model::{Door, Fate, Model, Numbers},
    steps::{Caller, Draw, Step},
};

fn at(second: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(100_000 + second))
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

fn rules(numbers: Numbers) -> Rules {
    let all = [numbers.idle, numbers.grace, numbers.start, numbers.prompt_after, numbers.long];
    let [idle_timeout, grace_period, start_timeout, prompt_after, long_every] = all.map(Duration::from_secs);
    Rules {
        idle_timeout,
        grace_period,
        start_timeout,
        prompt_after,
        long_every,
        long_every_over_limit: Duration::from_secs(numbers.long_over_limit),
        long_answer_within: Duration::from_secs(numbers.answer),
        daily_limit: Duration::from_secs(numbers.limit),
        hard_stop: numbers.hard,
    }
}

/// Fails with what is different.
fn same<T: PartialEq + Debug>(what: &str, machine: T, expected: T) -> Result<(), String> {
    if machine == expected { Ok(()) } else { Err(format!("{what}: {machine:?} instead of {expected:?}")) }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn fate(decision: &Decision) -> Fate {
    match decision {
        Decision::Pass => Fate::Passes,
        Decision::Wait => Fate::Waits,
        Decision::AnswerLocally => Fate::AnsweredLocally,
        Decision::AnswerPoll => Fate::AnsweredAsPoll,
        Decision::Refuse(problem) => Fate::Refused(Some(problem.code)),
    }
}

fn bad() -> Problem {
    Problem::new(ErrorCode::EngineFailed, "no", "")
}

/// A machine and what is around it.
struct Side {
    session: Session,
    numbers: Numbers,
    environments: u32,
    under_way: Option<Effect>,
    calls: Vec<(usize, ActivityId)>,
    /// Every effect on the environment so far, by its kind.
    log: Vec<(u64, char)>,
}

impl Side {
    fn new(numbers: Numbers) -> Self {
        let mut session = Session::new(at(0), rules(numbers));
        let named = |name: &str| vec![name.to_owned()];
        session.handle_overrules(Overrules { always_count: named("always"), never_count: named("never") });
        session.handle_day(at(0), Duration::from_secs(numbers.used), at(numbers.day));
        Self { session, numbers, environments: 0, under_way: None, calls: Vec::new(), log: Vec::new() }
    }

    fn collect(&mut self, now: u64) -> Result<(), String> {
        while let Some(effect) = self.session.poll_effect() {
            let (operation, kind) = match &effect {
                Effect::SelectContext | Effect::RestoreContext => continue,
                Effect::TurnDay => {
                    let used = self.session.view(at(now)).used_today;
                    self.session.handle_day(at(now), used, at((now / self.numbers.day + 1) * self.numbers.day));
                    continue;
                }
                Effect::Start(operation) => {
                    ensure(self.environments == 0 && self.under_way.is_none(), "a second environment")?;
                    ensure(self.session.is_enabled(), "a stopped session was woken")?;
                    (operation, 's')
                }
                Effect::Suspend(operation) => (operation, 'f'),
                Effect::Resume(operation) => (operation, 't'),
                Effect::Delete(operation) => {
                    // A cancelled start may have made its environment or not.
                    if matches!(self.under_way, Some(Effect::Start(_))) {
                        self.environments = 1;
                    }
                    (operation, 'd')
                }
            };
            self.log.push((operation.0, kind));
            self.under_way = Some(effect);
        }
        Ok(())
    }

    /// Keeps every deadline up to `end`.
    fn pass(&mut self, now: u64, end: u64) -> Result<(), String> {
        let mut now = now;
        while let Some((due, reason)) = self.session.poll_timeout().filter(|(due, _)| *due <= at(end)) {
            now = now.max(due.since(at(0)).as_secs());
            self.session.handle_timeout(at(now));
            let again = self.session.poll_timeout();
            ensure(again.is_none_or(|(due, _)| due > at(now)), &format!("{reason:?} stays due for ever"))?;
            self.collect(now)?;
        }
        Ok(())
    }

    fn answer(&mut self, now: u64, good: bool) {
        let result = if good { Ok(()) } else { Err(bad()) };
        match self.under_way.take() {
            Some(Effect::Start(operation)) => {
                self.environments = u32::from(good);
                self.session.handle_started(at(now), operation, result);
            }
            Some(Effect::Suspend(operation)) => self.session.handle_suspended(at(now), operation, result),
            Some(Effect::Resume(operation)) => self.session.handle_resumed(at(now), operation, result),
            Some(Effect::Delete(operation)) => {
                self.environments = 0;
                self.session.handle_deleted(at(now), operation, result);
            }
            _ => {}
        }
    }

    /// Answers of every kind to an operation that is not the present one.
    fn answer_old(&mut self, now: u64, back: u64, good: bool) {
        let Some(number) = self.log.last().and_then(|(last, _)| last.checked_sub(back)) else { return };
        let result = || if good { Ok(()) } else { Err(bad()) };
        self.session.handle_started(at(now), Operation(number), result());
        self.session.handle_suspended(at(now), Operation(number), result());
        self.session.handle_resumed(at(now), Operation(number), result());
        self.session.handle_deleted(at(now), Operation(number), result());
    }

    fn call(&mut self, now: u64, number: usize, kind: CallKind, caller: Caller) -> Fate {
        let name = match caller {
            Caller::Person => "person",
            Caller::NeverCounts => "never",
            Caller::AlwaysCounts => "always",
        };
        let client = Client { program: name.to_owned(), names: vec![name.to_owned()] };
        // Every question of a person's is another one, so that chance makes no rhythm.
        let detail = number.to_string();
        let call = Call { kind, label: "call", detail: &detail, shape: &detail, client: &client };
        let (id, decision) = self.session.handle_call(at(now), &call);
        let fate = fate(&decision);
        if matches!(fate, Fate::Passes | Fate::Waits) {
            self.calls.push((number, id));
        }
        fate
    }

    /// The call looks at the gate as the proxy does. None: nothing was to be done.
    fn look_at_gate(&mut self, now: u64, number: usize, kind: CallKind) -> Option<Fate> {
        let id = self.calls.iter().find(|(held, _)| *held == number)?.1;
        let fate = match self.session.gate() {
            Gate::Open => fate(&self.session.handle_call_again(at(now), id)),
            Gate::Ask if kind != CallKind::Events => fate(&self.session.handle_call_again(at(now), id)),
            Gate::Refuse(_) => {
                self.session.handle_call_end(at(now), id);
                Fate::Refused(None)
            }
            Gate::Ask | Gate::Wait => return None,
        };
        if !matches!(fate, Fate::Passes | Fate::Waits) {
            self.calls.retain(|(held, _)| *held != number);
        }
        Some(fate)
    }

    fn end_call(&mut self, now: u64, number: usize) {
        if let Some((_, id)) = self.calls.iter().find(|(held, _)| *held == number).copied() {
            self.session.handle_call_end(at(now), id);
            self.calls.retain(|(held, _)| *held != number);
        }
    }

    fn view(&self, now: u64) -> View {
        View { ignored_pollers: Vec::new(), ..self.session.view(at(now)) }
    }
}

pub(crate) struct Trial {
    now: u64,
    machine: Side,
    /// The same machine, in a world with a poller, pings and event streams, and with a timer that is early as well.
    disturbed: Side,
    model: Model,
    poller: Draw,
    numbers: Numbers,
    /// Calls that are under way: their numbers and kinds.
    calls: Vec<(usize, CallKind)>,
    /// How many calls there were.
    made: usize,
    /// When somebody last did something of any kind.
    touched: u64,
    /// The interval that was seen last.
    last_interval: Option<(Moment, Moment)>,
}

/// Runs a history; fails with what went wrong at which step.
pub(crate) fn run(seed: u64, numbers: Numbers, steps: &[Step]) -> Result<(), String> {
    let mut trial = Trial::new(seed, numbers);
    for (index, step) in steps.iter().enumerate() {
        trial.step(*step).map_err(|fault| format!("step {index}, {step:?}, second {}: {fault}", trial.now))?;
    }
    Ok(())
}

/// The states that a history went through, and what was due in them.
pub(crate) fn seen(seed: u64, numbers: Numbers, steps: &[Step]) -> Vec<(State, Option<Deadline>)> {
    let mut trial = Trial::new(seed, numbers);
    let mut look = |step: &Step| {
        trial.step(*step).ok()?;
        let session = &trial.machine.session;
        Some((session.state(), session.poll_timeout().map(|(_, deadline)| deadline)))
    };
    steps.iter().map_while(&mut look).collect()
}

impl Trial {
    fn new(seed: u64, numbers: Numbers) -> Self {
        Self {
            now: 0,
            machine: Side::new(numbers),
            disturbed: Side::new(numbers),
            model: Model::new(numbers),
            poller: Draw(seed ^ 0x0070_6f6c_6c65_7273),
            numbers,
            calls: Vec::new(),
            made: 0,
            touched: 0,
            last_interval: None,
        }
    }

    fn sides(&mut self) -> [&mut Side; 2] {
        [&mut self.machine, &mut self.disturbed]
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        self.model.wake();
        if matches!(step, Step::Sleep { .. }) {
            // One sleep at a time: days are short here, and two of them in one sleep are more than the machine can know.
            self.settle()?;
        }
        let (now, before) = (self.now, self.model.state());
        match step {
            Step::Pass(length) => {
                self.now += length;
                self.model.look();
                self.model.pass(length);
                let early = now + self.poller.range(0, length + 1);
                self.disturbed.pass(now, early)?;
                self.disturbed.session.handle_timeout(at(early));
                self.disturbed.pass(early, self.now)?;
                self.machine.pass(now, self.now)?;
            }
            Step::Sleep { seconds, timer_first } => {
                self.now += seconds;
                self.model.sleep(seconds);
                if !timer_first {
                    // Nothing is to be seen until somebody comes.
                    return Ok(());
                }
                self.model.wake();
            }
            Step::Call(kind, caller) => self.call(kind, caller)?,
            Step::EndCall(index) => {
                if let Some((number, _)) = self.calls.get(index).copied() {
                    self.forget(number);
                    self.model.call_end(number);
                    self.sides().into_iter().for_each(|side| side.end_call(now, number));
                }
            }
            Step::LookAtGate(index) => {
                if let Some((number, kind)) = self.calls.get(index).copied() {
                    self.look_at_gate(number, kind)?;
                }
            }
            Step::AllLookAtGate => {
                for (number, kind) in self.calls.clone() {
                    self.look_at_gate(number, kind)?;
                }
            }
            other => self.simple(other),
        }
        self.settle()?;
        if !matches!(step, Step::Pass(_) | Step::Sleep { .. } | Step::AnswerOld { .. }) {
            self.touched = self.now;
        }
        if before == State::Stopped && !matches!(step, Step::Enable) {
            same("a stopped session", self.machine.session.state(), State::Stopped)?;
        }
        self.compare()?;
        self.disturb()?;
        self.check()
    }

    fn simple(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Enable => self.model.enable(),
            Step::Disable => self.model.disable(),
            Step::IdleNow => self.model.idle_now(),
            Step::Resume => self.model.resume(),
            Step::Later => self.model.later(),
            Step::Retry => self.model.retry(),
            Step::Adopted => self.model.adopted(),
            Step::Lost => self.model.lost(),
            Step::Containers(count) => self.model.containers(count),
            Step::Answer { good } => self.model.answer(good),
            _ => {}
        }
        for side in self.sides() {
            // After a sleep nothing of what was under way before has to be the present effect any more.
            side.session.handle_timeout(at(now));
            let adopts = side.session.state() == State::Idle;
            let session = &mut side.session;
            match step {
                Step::Enable => session.handle_enable(at(now)),
                Step::Disable => session.handle_disable(at(now)),
                // Whether there was something to suspend or resume is the product's sentence, tested there.
                Step::IdleNow => drop(session.handle_idle_now(at(now))),
                Step::Resume => drop(session.handle_resume(at(now))),
                Step::Later => session.handle_later(at(now)),
                Step::Retry => session.handle_retry(at(now)),
                Step::Adopted => {
                    session.handle_adopted(at(now));
                    side.environments += u32::from(adopts);
                }
                Step::Lost => session.handle_lost(at(now), Problem::new(ErrorCode::EnvironmentLost, "gone", "")),
                Step::Containers(count) => {
                    session.handle_containers(at(now), (0..count).map(|n| format!("c{n}")).collect());
                }
                _ => {}
            }
        }
        match step {
            Step::Answer { good } => {
                for side in self.sides() {
                    // What fell due in a sleep may have cancelled the effect.
                    if side.collect(now).is_ok() {
                        side.answer(now, good);
                    }
                }
            }
            Step::AnswerOld { back, good } => {
                self.sides().into_iter().for_each(|side| side.answer_old(now, back, good));
            }
            _ => {}
        }
    }

    fn forget(&mut self, number: usize) {
        self.calls.retain(|(held, _)| *held != number);
    }

    fn call(&mut self, kind: CallKind, caller: Caller) -> Result<(), String> {
        let (now, number) = (self.now, self.made);
        self.made += 1;
        let expected = self.model.call(number, kind, caller == Caller::NeverCounts);
        for side in self.sides() {
            same("what becomes of the call", side.call(now, number, kind, caller), expected)?;
        }
        if matches!(expected, Fate::Passes | Fate::Waits) {
            self.calls.push((number, kind));
        }
        Ok(())
    }

    fn look_at_gate(&mut self, number: usize, kind: CallKind) -> Result<(), String> {
        self.settle()?;
        let expected = match self.model.door() {
            Door::Open => Some(self.model.call_again(number)),
            Door::Ask if kind != CallKind::Events => Some(self.model.call_again(number)),
            Door::Refuses => {
                self.model.call_end(number);
                Some(Fate::Refused(None))
            }
            Door::Ask | Door::Shut => None,
        };
        let now = self.now;
        for side in self.sides() {
            same("what becomes of a call that waited", side.look_at_gate(now, number, kind), expected)?;
        }
        if !matches!(expected, None | Some(Fate::Passes | Fate::Waits)) {
            self.forget(number);
        }
        Ok(())
    }

    /// The timer, as soon as anything has changed.
    fn settle(&mut self) -> Result<(), String> {
        let now = self.now;
        self.model.look();
        for side in self.sides() {
            side.collect(now)?;
            side.pass(now, now)?;
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), String> {
        let (model, session) = (&self.model, &self.machine.session);
        let view = session.view(at(self.now));
        same("state", view.state, model.state())?;
        same("prompt", view.prompt.map(|(reason, left)| (reason, seconds(left))), model.prompt())?;
        same("idle in", view.idle_in.map(seconds), model.idle_in())?;
        same("grace", view.grace_remaining.map(seconds), model.grace_left())?;
        same("error", view.error.map(|problem| problem.code), model.error())?;
        same("usage of the day", seconds(view.used_today), model.today())?;
        let (containers, calls) = model.awake_because();
        let containers = (0..containers).map(|n| format!("c{n}"));
        let expected: Vec<String> = containers.chain(calls.iter().map(ToString::to_string)).collect();
        same("awake because", view.awake_because.into_iter().map(|reason| reason.detail).collect(), expected)?;
        let (left, deadline) = model.next();
        same("next deadline", session.poll_timeout(), Some((at(self.now + left), deadline)))?;
        let door = match session.gate() {
            Gate::Open => Door::Open,
            Gate::Wait => Door::Shut,
            Gate::Ask => Door::Ask,
            Gate::Refuse(_) => Door::Refuses,
        };
        same("gate", door, model.door())?;
        let length = |(from, to): (Moment, Moment)| seconds(to.since(from));
        same("usage of the session", session.interval(at(self.now)).map(length), model.session())?;
        let ended = session.ended().map(|ended| (ended.reason, ended.interval.map(length)));
        same("how the last session ended", ended, model.ended())
    }

    /// What must change nothing: pollers, pings, event streams.
    fn disturb(&mut self) -> Result<(), String> {
        if self.poller.one_in(2) {
            let kind = [CallKind::Probe, CallKind::Question, CallKind::Ping, CallKind::Events];
            let kind = kind[usize::try_from(self.poller.range(0, 4)).unwrap_or_default()];
            let caller =
                if matches!(kind, CallKind::Ping | CallKind::Events) { Caller::Person } else { Caller::NeverCounts };
            // Some of these calls end, some are held.
            let number = usize::MAX - self.made;
            self.disturbed.call(self.now, number, kind, caller);
            if self.poller.one_in(2) {
                self.disturbed.end_call(self.now, number);
            }
        }
        self.disturbed.collect(self.now)?;
        let seen = |side: &Side| (side.view(self.now), side.session.poll_timeout(), side.session.gate());
        same("with a poller around", seen(&self.disturbed), seen(&self.machine))?;
        same("effects with a poller around", &self.disturbed.log, &self.machine.log)
    }

    fn check(&mut self) -> Result<(), String> {
        let side = &self.machine;
        let state = side.session.state();
        match state {
            State::Stopped | State::Idle => ensure(side.environments == 0, "an environment that nobody knows of")?,
            State::Running => ensure(side.environments == 1, "running without an environment")?,
            State::Starting | State::Stopping => ensure(side.under_way.is_some(), "waits for nothing")?,
            State::Suspended | State::Failed => {}
        }
        ensure(side.session.poll_timeout().is_none_or(|(due, _)| due > at(self.now)), "a deadline in the past")?;
        let view = side.session.view(at(self.now));
        let kept = !view.awake_because.is_empty() || side.under_way.is_some();
        let outlived = self.now > self.touched + self.numbers.idle + self.numbers.grace;
        ensure(side.environments == 0 || kept || !outlived, "an environment outlives its deadlines")?;
        // Intervals grow at their ends and follow one another.
        let present = side.session.interval(at(self.now)).or(side.session.ended().and_then(|ended| ended.interval));
        if let (Some((from, to)), Some((before, end))) = (present, self.last_interval) {
            ensure(from <= to, "usage that is less than nothing")?;
            ensure(from == before || from >= end, "usage overlaps")?;
        }
        self.last_interval = present;
        Ok(())
    }
}
