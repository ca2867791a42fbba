//! Usage of the day, its limit, and its end.

use std::time::Duration;

use overside_model::{ErrorCode, State};
use overside_session::{CallKind, Decision, EndReason, Ended, Gate, Rules, Session};

use crate::simulation::{DEFAULTS, HARD, HOUR, MINUTE, Simulation, at, dashboard, refused_for, trouble};

#[test]
fn usage_counts_in_running_alone() {
    let mut session = Simulation::enabled(DEFAULTS);
    session.pass(HOUR);
    assert_eq!(session.used(), 0, "idle");
    session.slow = true;
    session.docker();
    session.pass(60);
    assert_eq!(session.used(), 0, "starting");
    session.finish(Ok(()));
    session.pass(MINUTE);
    assert_eq!(session.used(), MINUTE, "running");
    session.idle_now();
    session.pass(MINUTE);
    assert_eq!(session.used(), MINUTE, "suspended");
    session.pass(HOUR);
    assert_eq!(session.used(), MINUTE, "stopping");
}

#[test]
fn a_session_suspended_and_resumed_inside_the_grace_period_is_continuous_usage_with_the_gap_billed() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(MINUTE);
    session.idle_now();
    session.pass(4 * MINUTE);
    session.docker();
    session.pass(MINUTE);
    assert_eq!((session.used(), session.interval()), (6 * MINUTE, Some((0, 6 * MINUTE))));
}

#[test]
fn the_gap_of_a_suspension_that_is_not_resumed_is_not_billed() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(MINUTE);
    session.idle_now();
    session.pass(HOUR);
    assert_eq!(session.used(), MINUTE);
    let interval = Some((at(0), at(MINUTE)));
    assert_eq!(session.session.ended(), Some(Ended { reason: EndReason::Idle, interval }));
}

#[test]
fn usage_adds_up_over_all_sessions_of_the_day() {
    let mut session = Simulation::enabled(DEFAULTS);
    for n in 1..=3 {
        session.docker();
        session.pass(MINUTE);
        session.idle_now();
        session.pass(HOUR);
        assert_eq!(session.used(), n * MINUTE);
    }
}

#[test]
fn how_a_session_ended_is_known_whatever_ended_it() {
    type End = fn(&mut Simulation);
    let ends: [(EndReason, End); 2] = [
        (EndReason::Stopped, |session| session.input(Session::handle_disable)),
        (EndReason::Lost, |session| session.input(|session, now| session.handle_lost(now, trouble()))),
    ];
    for (reason, end) in ends {
        let mut session = Simulation::busy(DEFAULTS);
        session.pass(HOUR);
        end(&mut session);
        assert_eq!(session.session.ended(), Some(Ended { reason, interval: Some((at(0), at(HOUR))) }));
        assert_eq!((session.used(), session.interval()), (HOUR, None));
    }
}

#[test]
fn a_start_that_never_ran_has_used_nothing() {
    let mut session = Simulation::enabled(DEFAULTS);
    session.slow = true;
    session.call(CallKind::Work);
    session.pass(120);
    assert_eq!(session.session.ended(), Some(Ended { reason: EndReason::StartTimedOut, interval: None }));
    assert_eq!(session.used(), 0);
}

#[test]
fn the_counter_resets_at_local_midnight_and_the_sessions_usage_is_split_there() {
    let mut session = Simulation::busy(DEFAULTS);
    session.day(HOUR, 2 * HOUR);
    session.pass(2 * HOUR - 1);
    assert_eq!(session.used(), 3 * HOUR - 1);
    session.pass(1);
    assert_eq!(session.used(), 0);
    session.pass(HOUR);
    assert_eq!((session.used(), session.interval()), (HOUR, Some((0, 3 * HOUR))));
}

#[test]
fn a_gap_over_midnight_is_split_there_too() {
    let mut session = Simulation::running(DEFAULTS);
    session.day(0, 3 * MINUTE);
    session.pass(MINUTE);
    session.idle_now();
    session.pass(4 * MINUTE);
    assert_eq!(session.used(), 0);
    session.docker();
    assert_eq!(session.used(), 2 * MINUTE);
}

#[test]
fn a_gap_in_which_the_clock_was_set_is_billed_whole() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(MINUTE);
    session.idle_now();
    session.pass(2 * MINUTE);
    session.day(MINUTE, 20 * HOUR);
    session.pass(MINUTE);
    session.docker();
    assert_eq!(session.used(), 4 * MINUTE);
}

#[test]
fn what_was_used_before_the_daemon_began_is_counted() {
    let mut session = Simulation::stopped(DEFAULTS);
    session.day(2 * HOUR, 24 * HOUR);
    session.input(Session::handle_enable);
    session.docker();
    session.pass(MINUTE);
    assert_eq!(session.used(), 2 * HOUR + MINUTE);
}

#[test]
fn a_day_that_turns_out_to_have_begun_during_the_session_counts_from_what_is_told() {
    let mut session = Simulation::busy(DEFAULTS);
    session.attend(5 * HOUR);
    session.day(HOUR, 24 * HOUR);
    session.pass(MINUTE);
    assert_eq!(session.used(), HOUR + MINUTE);
}

#[test]
fn an_environment_that_is_found_again_counts_from_then_on() {
    let mut session = Simulation::enabled(DEFAULTS);
    session.pass(HOUR);
    session.input(Session::handle_adopted);
    session.pass(MINUTE);
    assert_eq!((session.state(), session.used()), (State::Running, MINUTE));
    session.containers(&["web"]);
    session.pass(3 * HOUR - MINUTE);
    assert!(session.prompt().is_some(), "three hours after it was found");
}

#[test]
fn without_a_hard_stop_nothing_is_refused_beyond_the_limit() {
    let mut session = Simulation::enabled(DEFAULTS);
    session.day(20 * HOUR, 24 * HOUR);
    session.docker();
    assert_eq!(session.state(), State::Running);
}

#[test]
fn a_hard_stop_suspends_at_the_limit_whatever_runs() {
    let mut session = Simulation::busy(HARD);
    session.day(7 * HOUR, 24 * HOUR);
    session.pass(HOUR - 1);
    assert_eq!(session.state(), State::Running);
    session.pass(1);
    assert_eq!((session.state(), session.used()), (State::Suspended, 8 * HOUR));
    let error = session.session.view(at(session.now)).error;
    assert!(error.is_some_and(|problem| problem.code == ErrorCode::FairUse && problem.message.contains("8 h")));
}

/// Brings a session to its hard stop; a quarter of an hour of the day is left.
fn spent() -> Simulation {
    let mut session = Simulation::busy(HARD);
    session.day(7 * HOUR, HOUR + 15 * MINUTE);
    session.pass(HOUR);
    assert_eq!(session.state(), State::Suspended);
    session
}

#[test]
fn after_a_hard_stop_calls_are_refused_in_suspended_and_in_idle() {
    let mut session = spent();
    for state in [State::Suspended, State::Idle] {
        assert_eq!(session.state(), state);
        assert!(refused_for(&session.call(CallKind::Work).1, ErrorCode::FairUse), "{state:?}");
        assert_eq!(session.call(CallKind::Ping).1, Decision::AnswerLocally, "{state:?}");
        assert_eq!(session.call(CallKind::Events).1, Decision::Wait, "{state:?}");
        session.pass(5 * MINUTE);
    }
}

/// Reading: what is known without an engine needs no compute time.
#[test]
fn after_a_hard_stop_lists_are_answered_in_idle_and_refused_where_there_is_something_in_the_list() {
    let mut session = spent();
    assert!(refused_for(&session.call(CallKind::Question).1, ErrorCode::FairUse));
    session.overrule(&[], &["dashboard"]);
    assert_eq!(session.call_of(&dashboard(), CallKind::Question, "x").1, Decision::AnswerPoll);
    session.pass(5 * MINUTE);
    assert_eq!(session.call(CallKind::Question).1, Decision::AnswerLocally);
}

#[test]
fn a_call_that_meets_the_freeze_of_a_hard_stop_is_refused_at_once() {
    let mut session = Simulation::busy(HARD);
    session.day(7 * HOUR, 24 * HOUR);
    session.slow = true;
    session.pass(HOUR);
    assert_eq!((session.state(), session.session.gate()), (State::Suspended, Gate::Ask));
    assert!(refused_for(&session.call(CallKind::Work).1, ErrorCode::FairUse));
    session.finish(Ok(()));
    assert_eq!(session.session.gate(), Gate::Ask, "who waits asks, and is refused");
}

#[test]
fn after_a_hard_stop_the_user_cannot_resume_either() {
    let mut session = Simulation::busy(HARD);
    session.day(7 * HOUR, 24 * HOUR);
    session.pass(HOUR);
    let refused = session.input(Session::handle_resume).unwrap_err();
    assert_eq!((refused.code, session.state()), (ErrorCode::FairUse, State::Suspended));
}

#[test]
fn a_suspended_session_is_resumed_again_once_the_day_has_ended() {
    let mut session = Simulation::busy(HARD);
    session.day(7 * HOUR, HOUR + 2 * MINUTE);
    session.pass(HOUR + 2 * MINUTE);
    assert_eq!((session.state(), session.session.gate()), (State::Suspended, Gate::Wait));
    session.docker();
    assert_eq!((session.state(), session.starts()), (State::Running, 1));
}

#[test]
fn an_idle_session_wakes_again_once_the_day_has_ended_and_the_refusal_is_forgotten() {
    let mut session = spent();
    session.pass(15 * MINUTE);
    assert_eq!((session.state(), session.session.view(at(session.now)).error), (State::Idle, None));
    session.docker();
    assert_eq!(session.state(), State::Running);
}

#[test]
fn at_midnight_the_new_day_comes_before_the_hard_stop_of_the_old_one() {
    let mut session = Simulation::busy(HARD);
    session.day(7 * HOUR, HOUR);
    session.pass(HOUR);
    assert_eq!((session.state(), session.prompt(), session.used()), (State::Running, None, 0));
}

#[test]
fn a_failed_start_is_not_tried_again_with_time_that_is_not_there() {
    let mut session = Simulation::enabled(HARD);
    session.slow = true;
    let (id, _) = session.call(CallKind::Work);
    session.finish(Err(trouble()));
    session.end(id);
    session.day(8 * HOUR, 10 * HOUR);
    session.input(Session::handle_retry);
    assert!(matches!(session.session.gate(), Gate::Refuse(problem) if problem.code == ErrorCode::FairUse));
    assert!(refused_for(&session.call(CallKind::Work).1, ErrorCode::FairUse));
    session.pass(10 * HOUR);
    session.docker();
    assert_eq!(session.state(), State::Starting);
}

#[test]
fn a_gap_that_takes_the_usage_past_the_limit_stops_at_the_limit() {
    let mut session = Simulation::busy(HARD);
    session.attend(8 * HOUR - 2 * MINUTE);
    session.idle_now();
    session.pass(4 * MINUTE);
    session.docker();
    session.pass(0);
    assert_eq!((session.state(), session.used()), (State::Suspended, 8 * HOUR));
}

#[test]
fn a_policy_that_changes_applies_at_once() {
    let mut session = Simulation::busy(DEFAULTS);
    session.day(9 * HOUR, 24 * HOUR);
    session.session.handle_rules(HARD);
    session.pass(0);
    assert_eq!(session.state(), State::Suspended);
    session.session.handle_rules(Rules { daily_limit: Duration::from_hours(10), ..HARD });
    session.docker();
    assert_eq!(session.state(), State::Running);
}
