//! A session on a simulated clock, with a world that does at once what it is told, unless it is told to be slow.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::time::Duration;

use overside_model::{ErrorCode, Moment, Problem, PromptReason, State};
use overside_session::{
    ActivityId, Call, CallKind, Client, Deadline, Decision, Effect, Operation, Overrules, Rules, Session,
};

pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 3600;

/// The numbers of the product.
pub(crate) const DEFAULTS: Rules = Rules {
    idle_timeout: Duration::from_secs(5 * MINUTE),
    grace_period: Duration::from_secs(5 * MINUTE),
    start_timeout: Duration::from_secs(120),
    prompt_after: Duration::from_secs(3 * MINUTE),
    long_every: Duration::from_secs(3 * HOUR),
    long_every_over_limit: Duration::from_secs(HOUR),
    long_answer_within: Duration::from_secs(10 * MINUTE),
    daily_limit: Duration::from_secs(8 * HOUR),
    hard_stop: false,
};

/// The same where the organisation stops at the day's limit.
pub(crate) const HARD: Rules = Rules { hard_stop: true, ..DEFAULTS };

/// Seconds after the beginning of the test.
pub(crate) fn at(seconds: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(100_000 + seconds))
}

pub(crate) fn person() -> Client {
    Client { program: "docker (bash)".to_owned(), names: vec!["docker".to_owned(), "bash".to_owned()] }
}

pub(crate) fn dashboard() -> Client {
    Client { program: "dashboard".to_owned(), names: vec!["dashboard".to_owned()] }
}

pub(crate) struct Simulation {
    pub(crate) session: Session,
    /// Seconds since the beginning.
    pub(crate) now: u64,
    /// Effects that were asked for, in their order.
    pub(crate) effects: Vec<Effect>,
    /// Effects on the environment stay under way until [`Self::finish`].
    pub(crate) slow: bool,
    under_way: Option<Effect>,
}

impl Simulation {
    pub(crate) fn stopped(rules: Rules) -> Self {
        let session = Session::new(at(0), rules);
        Self { session, now: 0, effects: Vec::new(), slow: false, under_way: None }
    }

    pub(crate) fn enabled(rules: Rules) -> Self {
        let mut simulation = Self::stopped(rules);
        simulation.session.handle_enable(at(0));
        simulation.settle();
        simulation
    }

    /// Running since the beginning; nothing keeps it awake.
    pub(crate) fn running(rules: Rules) -> Self {
        let mut simulation = Self::enabled(rules);
        simulation.docker();
        assert_eq!(simulation.state(), State::Running);
        simulation
    }

    /// Running since the beginning, with a container in it.
    pub(crate) fn busy(rules: Rules) -> Self {
        let mut simulation = Self::running(rules);
        simulation.containers(&["web"]);
        simulation
    }

    /// Suspended by the user at the present moment.
    pub(crate) fn suspended(rules: Rules) -> Self {
        let mut simulation = Self::running(rules);
        simulation.idle_now();
        simulation
    }

    fn settle(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            self.effects.push(effect.clone());
            match effect {
                Effect::SelectContext | Effect::RestoreContext => {}
                Effect::TurnDay => {
                    let used = self.session.view(at(self.now)).used_today;
                    let day = 24 * HOUR;
                    self.session.handle_day(at(self.now), used, at((self.now / day + 1) * day));
                }
                other => {
                    self.under_way = Some(other);
                    if !self.slow {
                        self.finish(Ok(()));
                    }
                }
            }
        }
    }

    /// The effect that is under way ends.
    pub(crate) fn finish(&mut self, result: Result<(), Problem>) {
        let now = at(self.now);
        match self.under_way.take() {
            Some(Effect::Start(operation)) => self.session.handle_started(now, operation, result),
            Some(Effect::Suspend(operation)) => self.session.handle_suspended(now, operation, result),
            Some(Effect::Resume(operation)) => self.session.handle_resumed(now, operation, result),
            Some(Effect::Delete(operation)) => self.session.handle_deleted(now, operation, result),
            other => panic!("{other:?} cannot end"),
        }
        self.settle();
    }

    /// Whatever happens at the present moment.
    pub(crate) fn input<T>(&mut self, feed: impl FnOnce(&mut Session, Moment) -> T) -> T {
        let result = feed(&mut self.session, at(self.now));
        self.settle();
        result
    }

    /// Time passes, and every deadline is kept when it falls due.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds;
        while let Some((due, _)) = self.session.poll_timeout().filter(|(due, _)| *due <= at(end)) {
            self.now = self.now.max(due.since(at(0)).as_secs());
            self.input(Session::handle_timeout);
        }
        self.now = end;
    }

    /// Time passes, and somebody answers every question within a minute; in which minutes they were asked.
    pub(crate) fn attend(&mut self, seconds: u64) -> Vec<u64> {
        let end = self.now + seconds;
        let mut asked = Vec::new();
        while self.now < end {
            self.pass(MINUTE.min(end - self.now));
            if self.prompt().is_some() {
                asked.push(self.now / MINUTE);
                self.later();
            }
        }
        asked
    }

    /// The laptop sleeps; what comes next is up to the test.
    pub(crate) fn sleep(&mut self, seconds: u64) {
        self.now += seconds;
    }

    /// The laptop sleeps, and the first thing after it is the timer.
    pub(crate) fn sleep_and_wake(&mut self, seconds: u64) {
        self.sleep(seconds);
        self.input(Session::handle_timeout);
    }

    pub(crate) fn call_of(&mut self, client: &Client, kind: CallKind, detail: &str) -> (ActivityId, Decision) {
        let call = Call { kind, label: "call", detail, shape: detail, client };
        self.input(|session, now| session.handle_call(now, &call))
    }

    /// A call of a person's.
    pub(crate) fn call(&mut self, kind: CallKind) -> (ActivityId, Decision) {
        self.call_of(&person(), kind, &format!("{kind:?}"))
    }

    /// The client of a call is done.
    pub(crate) fn end(&mut self, id: ActivityId) {
        self.input(|session, now| session.handle_call_end(now, id));
    }

    /// A person's command that is over at once, as soon as there is an engine.
    pub(crate) fn docker(&mut self) {
        let (id, _) = self.call(CallKind::Work);
        self.end(id);
    }

    pub(crate) fn containers(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.input(|session, now| session.handle_containers(now, names));
    }

    pub(crate) fn idle_now(&mut self) {
        self.input(|session, now| session.handle_idle_now(now)).unwrap();
    }

    pub(crate) fn later(&mut self) {
        self.input(Session::handle_later);
    }

    pub(crate) fn overrule(&mut self, always_count: &[&str], never_count: &[&str]) {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let overrules = Overrules { always_count: own(always_count), never_count: own(never_count) };
        self.session.handle_overrules(overrules);
    }

    /// What was used of the day so far, and that it ends so many seconds after the beginning.
    pub(crate) fn day(&mut self, used: u64, ends: u64) {
        self.input(|session, now| session.handle_day(now, Duration::from_secs(used), at(ends)));
    }

    pub(crate) fn state(&self) -> State {
        self.session.state()
    }

    /// The question, and the seconds left to answer it.
    pub(crate) fn prompt(&self) -> Option<(PromptReason, u64)> {
        self.session.view(at(self.now)).prompt.map(|(reason, left)| (reason, left.as_secs()))
    }

    /// Usage of the day, in seconds.
    pub(crate) fn used(&self) -> u64 {
        self.session.view(at(self.now)).used_today.as_secs()
    }

    /// What the session has used from its beginning, in seconds since the beginning of the test.
    pub(crate) fn interval(&self) -> Option<(u64, u64)> {
        let seconds = |moment: Moment| moment.since(at(0)).as_secs();
        self.session.interval(at(self.now)).map(|(from, to)| (seconds(from), seconds(to)))
    }

    /// What is due next, and in how many seconds.
    pub(crate) fn due(&self) -> Option<(u64, Deadline)> {
        self.session.poll_timeout().map(|(due, deadline)| (due.since(at(self.now)).as_secs(), deadline))
    }

    pub(crate) fn starts(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Start(_))).count()
    }

    /// The number of the last effect on the environment.
    pub(crate) fn operation(&self) -> Operation {
        let number = |effect: &Effect| match effect {
            Effect::Start(o) | Effect::Suspend(o) | Effect::Resume(o) | Effect::Delete(o) => Some(*o),
            Effect::SelectContext | Effect::RestoreContext | Effect::TurnDay => None,
        };
        self.effects.iter().rev().find_map(number).unwrap()
    }
}

pub(crate) fn trouble() -> Problem {
    Problem::new(ErrorCode::EngineFailed, "it does not", "try another")
}

pub(crate) fn refused_for(decision: &Decision, code: ErrorCode) -> bool {
    matches!(decision, Decision::Refuse(problem) if problem.code == code)
}
