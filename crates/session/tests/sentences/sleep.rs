//! "The wall clock can jump": a laptop that sleeps, and timers that come late or early.

use overside_model::{PromptReason, State};
use overside_session::{CallKind, Decision, Effect, Session};

use crate::simulation::{DEFAULTS, HARD, HOUR, MINUTE, Simulation, at};

#[test]
fn usage_is_not_billed_beyond_the_idle_deadline_that_passed_in_a_sleep() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(MINUTE);
    session.sleep_and_wake(8 * HOUR);
    assert_eq!(session.used(), 5 * MINUTE);
    assert_eq!(session.state(), State::Idle, "the grace period has passed as well");
}

#[test]
fn a_call_that_comes_before_the_timer_after_a_sleep_finds_what_the_sleep_has_left() {
    let mut session = Simulation::running(DEFAULTS);
    session.slow = true;
    session.sleep(HOUR);
    let (_, decision) = session.call(CallKind::Work);
    assert_eq!((decision, session.state(), session.used()), (Decision::Wait, State::Stopping, 5 * MINUTE));
    session.finish(Ok(()));
    assert_eq!(session.state(), State::Starting, "a new environment");
}

#[test]
fn every_input_after_a_sleep_meets_the_state_that_the_sleep_left() {
    let inputs: [fn(&mut Simulation); 7] = [
        |session| session.docker(),
        |session| session.idle_now(),
        |session| session.later(),
        |session| session.containers(&["web"]),
        |session| session.input(Session::handle_enable),
        |session| session.input(Session::handle_disable),
        |session| session.day(5 * MINUTE, 30 * HOUR),
    ];
    for (number, input) in inputs.into_iter().enumerate() {
        let mut session = Simulation::running(DEFAULTS);
        session.slow = true;
        session.sleep(HOUR);
        input(&mut session);
        assert_eq!((session.state(), session.used()), (State::Stopping, 5 * MINUTE), "input {number}");
    }
}

#[test]
fn a_short_sleep_leaves_a_suspended_environment_that_the_next_command_resumes() {
    let mut session = Simulation::running(DEFAULTS);
    session.sleep(7 * MINUTE);
    session.docker();
    assert_eq!((session.state(), session.starts(), session.used()), (State::Running, 1, 7 * MINUTE));
}

#[test]
fn a_night_asleep_asks_for_no_freeze_that_nobody_would_wait_for() {
    let mut session = Simulation::running(DEFAULTS);
    session.slow = true;
    session.sleep_and_wake(HOUR);
    assert_eq!(session.state(), State::Stopping);
    assert!(matches!(session.effects[..], [.., Effect::Start(_), Effect::Delete(_)]));
}

#[test]
fn a_long_session_prompt_that_fell_due_in_a_sleep_gets_its_whole_time_from_the_waking_on() {
    let mut session = Simulation::busy(DEFAULTS);
    session.sleep_and_wake(5 * HOUR);
    assert_eq!(session.prompt(), Some((PromptReason::LongSession, 10 * MINUTE)));
    session.pass(10 * MINUTE - 1);
    assert_eq!(session.state(), State::Running);
    session.pass(1);
    assert_eq!((session.state(), session.used()), (State::Suspended, 5 * HOUR + 10 * MINUTE));
}

#[test]
fn a_prompt_that_was_shown_before_the_sleep_runs_out_in_it() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(3 * HOUR + MINUTE);
    session.sleep_and_wake(6 * MINUTE);
    assert_eq!(session.prompt(), Some((PromptReason::LongSession, 3 * MINUTE)));
    session.sleep_and_wake(4 * MINUTE);
    assert_eq!((session.state(), session.used()), (State::Suspended, 3 * HOUR + 10 * MINUTE));
}

#[test]
fn what_fell_due_in_a_sleep_happens_in_its_order() {
    // The idle timeout comes before the long-session prompt, which is therefore never asked.
    let mut session = Simulation::running(DEFAULTS);
    session.pass(MINUTE);
    let (id, _) = session.call(CallKind::Work);
    session.pass(3 * HOUR - 7 * MINUTE);
    session.end(id);
    session.slow = true;
    session.sleep_and_wake(8 * MINUTE);
    assert_eq!((session.state(), session.prompt(), session.used()), (State::Suspended, None, 3 * HOUR - MINUTE));
}

#[test]
fn the_hard_stop_is_at_the_limit_also_when_the_limit_passed_in_a_sleep() {
    let mut session = Simulation::busy(HARD);
    session.sleep_and_wake(12 * HOUR);
    assert_eq!((session.state(), session.used()), (State::Idle, 8 * HOUR));
}

#[test]
fn a_sleep_over_several_midnights_counts_only_the_last_day() {
    let mut session = Simulation::busy(DEFAULTS);
    session.day(0, 4 * HOUR);
    session.sleep_and_wake(4 * HOUR + 2 * 24 * HOUR + 7 * HOUR);
    assert_eq!((session.state(), session.used()), (State::Running, 7 * HOUR));
}

#[test]
fn a_start_that_a_sleep_interrupted_has_timed_out_and_its_late_answer_changes_nothing() {
    let mut session = Simulation::enabled(DEFAULTS);
    session.slow = true;
    session.call(CallKind::Work);
    let start = session.operation();
    session.sleep(HOUR);
    session.input(|session, now| session.handle_started(now, start, Ok(())));
    assert_eq!(session.state(), State::Failed);
    assert!(matches!(session.effects[..], [.., Effect::Delete(_)]));
}

#[test]
fn a_timer_that_comes_too_early_or_twice_changes_nothing() {
    for mut session in [Simulation::running(DEFAULTS), Simulation::busy(DEFAULTS), Simulation::suspended(DEFAULTS)] {
        session.pass(MINUTE);
        let (view, due) = (session.session.view(at(session.now)), session.due());
        for _ in 0..3 {
            session.input(Session::handle_timeout);
        }
        assert_eq!((session.session.view(at(session.now)), session.due()), (view, due));
    }
}
