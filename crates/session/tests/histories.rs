//! Random histories: whatever happens in whatever order, these hold.

use std::time::Duration;

use overside_model::{ErrorCode, Moment, Problem, State};
use overside_session::{ActivityId, CallKind, Decision, Effect, Gate, Operation, Rules, Session};
use proptest::prelude::*;

const RULES: Rules = Rules {
    idle_timeout: Duration::from_secs(30),
    grace_period: Duration::from_secs(20),
    start_timeout: Duration::from_secs(10),
};

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Enable,
    Disable,
    IdleNow,
    Retry,
    Call(CallKind),
    EndCall(usize),
    Containers(usize),
    Finish { ok: bool },
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    let kind =
        prop_oneof![Just(CallKind::Probe), Just(CallKind::Question), Just(CallKind::Events), Just(CallKind::Work)];
    prop_oneof![
        4 => (0u64..40).prop_map(Step::Pass),
        2 => Just(Step::Enable),
        1 => Just(Step::Disable),
        1 => Just(Step::IdleNow),
        1 => Just(Step::Retry),
        6 => kind.prop_map(Step::Call),
        4 => (0usize..8).prop_map(Step::EndCall),
        2 => (0usize..3).prop_map(Step::Containers),
        8 => any::<bool>().prop_map(|ok| Step::Finish { ok }),
        1 => Just(Step::Lost),
    ]
}

/// Stands for the outside: carries out effects, one at a time, when the history says so.
struct World {
    session: Session,
    now: Moment,
    environments: u32,
    under_way: Option<Effect>,
    calls: Vec<ActivityId>,
}

impl World {
    fn collect(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            if matches!(effect, Effect::SelectContext | Effect::RestoreContext) {
                continue;
            }
            if let Effect::Start(_) = effect {
                assert!(self.under_way.is_none() && self.environments == 0, "a second environment");
            }
            // A cancelled start may have made its environment or not; the deletion takes care of it.
            if let (Some(Effect::Start(_)), Effect::Delete(_)) = (&self.under_way, &effect) {
                self.environments = 1;
            }
            self.under_way = Some(effect);
        }
    }

    fn finish(&mut self, ok: bool) {
        let Some(effect) = self.under_way.take() else { return };
        let result = if ok { Ok(()) } else { Err(Problem::new(ErrorCode::EngineFailed, "no", "")) };
        let now = self.now;
        match effect {
            Effect::Start(operation) => {
                self.environments = u32::from(ok);
                self.session.handle_started(now, operation, result);
            }
            Effect::Suspend(operation) => self.session.handle_suspended(now, operation, result),
            Effect::Resume(operation) => self.session.handle_resumed(now, operation, result),
            Effect::Delete(operation) => {
                self.environments = 0;
                self.session.handle_deleted(now, operation, result);
            }
            Effect::SelectContext | Effect::RestoreContext => {}
        }
    }

    fn apply(&mut self, step: &Step) {
        let (before, now) = (self.session.state(), self.now);
        match step {
            Step::Pass(seconds) => {
                self.now = now + Duration::from_secs(*seconds);
                self.session.handle_timeout(self.now);
            }
            Step::Enable => self.session.handle_enable(now),
            Step::Disable => self.session.handle_disable(now),
            Step::IdleNow => drop(self.session.handle_idle_now(now)),
            Step::Retry => self.session.handle_retry(now),
            Step::Call(kind) => {
                let (id, decision) = self.session.handle_call(now, *kind, "call");
                self.calls.push(id);
                if before == State::Stopped {
                    assert!(matches!(decision, Decision::Refuse(_)));
                    assert_eq!(self.session.state(), State::Stopped, "a call woke a stopped session");
                }
                if *kind == CallKind::Events {
                    assert_eq!(self.session.state(), before, "an event stream changed the state");
                }
            }
            Step::EndCall(index) => {
                if let Some(id) = self.calls.get(*index).copied() {
                    self.session.handle_call_end(now, id);
                    self.calls.remove(*index);
                }
            }
            Step::Containers(count) => {
                if before == State::Running {
                    self.session.handle_containers(now, (0..*count).map(|n| format!("c{n}")).collect());
                }
            }
            Step::Finish { ok } => self.finish(*ok),
            Step::Lost => self.session.handle_lost(now, Problem::new(ErrorCode::EnvironmentLost, "gone", "")),
        }
        self.collect();
    }

    fn check(&self) {
        let state = self.session.state();
        match state {
            State::Stopped | State::Idle => assert_eq!(self.environments, 0, "an environment in {state:?}"),
            State::Running => assert_eq!(self.environments, 1),
            State::Starting | State::Stopping => assert!(self.under_way.is_some(), "{state:?} waits for nothing"),
            State::Suspended | State::Failed => {}
        }
        if let Some((deadline, reason)) = self.session.poll_timeout() {
            let longest = RULES.idle_timeout.max(RULES.grace_period).max(RULES.start_timeout);
            assert!(deadline <= self.now + longest, "{reason} is too far away");
        } else if state == State::Running {
            assert!(!self.session.view(self.now).awake_because.is_empty(), "awake for no reason");
        }
        match self.session.gate() {
            Gate::Open => assert_eq!(state, State::Running),
            Gate::Ask => assert_eq!(state, State::Idle),
            Gate::Wait | Gate::Refuse(_) => assert!(!matches!(state, State::Running | State::Idle)),
        }
    }
}

fn run(steps: &[Step]) -> Vec<State> {
    let now = Moment::from_boot(Duration::from_secs(100));
    let session = Session::new(now, RULES);
    let mut world = World { session, now, environments: 0, under_way: None, calls: Vec::new() };
    steps
        .iter()
        .map(|step| {
            world.apply(step);
            world.check();
            world.session.state()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_the_rules(steps in proptest::collection::vec(step(), 0..120)) {
        run(&steps);
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(steps in proptest::collection::vec(step(), 0..60)) {
        prop_assert_eq!(run(&steps), run(&steps));
    }

    #[test]
    fn left_alone_every_session_ends_without_an_environment(steps in proptest::collection::vec(step(), 0..60)) {
        let now = Moment::from_boot(Duration::from_secs(100));
        let session = Session::new(now, RULES);
        let mut world = World { session, now, environments: 0, under_way: None, calls: Vec::new() };
        for step in &steps {
            world.apply(step);
        }
        for id in std::mem::take(&mut world.calls) {
            world.session.handle_call_end(world.now, id);
        }
        world.session.handle_containers(world.now, Vec::new());
        for _ in 0..20 {
            world.apply(&Step::Finish { ok: true });
            world.apply(&Step::Pass(40));
        }
        prop_assert_eq!(world.environments, 0);
        prop_assert!(matches!(world.session.state(), State::Stopped | State::Idle | State::Failed));
    }
}

#[test]
fn an_answer_to_a_cancelled_effect_is_ignored() {
    let now = Moment::from_boot(Duration::from_secs(100));
    let mut session = Session::new(now, RULES);
    session.handle_enable(now);
    session.handle_call(now, CallKind::Work, "x");
    session.handle_disable(now);
    session.handle_enable(now);
    session.handle_started(now, Operation(1), Ok(()));
    assert_eq!(session.state(), State::Stopping);
}
