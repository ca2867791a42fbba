//! What counts as activity, and what calls do in each state.

use overside_model::{ErrorCode, State};
use overside_session::{CallKind, Deadline, Decision, Effect, Gate, Session};

use crate::simulation::{DEFAULTS, MINUTE, Simulation, at, refused_for, trouble};

const KINDS: [CallKind; 5] = [CallKind::Ping, CallKind::Probe, CallKind::Question, CallKind::Events, CallKind::Work];

fn awake_because(session: &Simulation) -> Vec<String> {
    session.session.view(at(session.now)).awake_because.into_iter().map(|reason| reason.detail).collect()
}

#[test]
fn any_call_by_a_person_counts() {
    for kind in [CallKind::Question, CallKind::Work] {
        let mut session = Simulation::running(DEFAULTS);
        session.pass(2 * MINUTE);
        let (id, decision) = session.call(kind);
        session.end(id);
        assert_eq!(decision, Decision::Pass);
        assert_eq!(session.due(), Some((3 * MINUTE, Deadline::InactivityPrompt)), "{kind:?}");
    }
}

/// Reading: `version` and `info` are asked by every tool that starts and by editors whenever they get the focus, unevenly; a
/// person who types them has not begun to work. They resume, like any Docker command.
#[test]
fn pings_version_info_and_events_do_not_count() {
    for kind in [CallKind::Ping, CallKind::Probe, CallKind::Events] {
        let mut session = Simulation::running(DEFAULTS);
        session.pass(2 * MINUTE);
        let (id, decision) = session.call(kind);
        assert_eq!((decision, awake_because(&session)), (Decision::Pass, vec![]));
        session.end(id);
        assert_eq!(session.due(), Some((MINUTE, Deadline::InactivityPrompt)), "{kind:?}");
    }
}

#[test]
fn a_running_container_keeps_awake_for_as_long_as_it_runs_and_the_idle_timeout_counts_from_its_end() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(2 * 60 * MINUTE);
    assert_eq!((session.state(), awake_because(&session)), (State::Running, vec!["web".to_owned()]));
    session.containers(&[]);
    session.pass(5 * MINUTE - 1);
    assert_eq!(session.state(), State::Running);
    session.pass(1);
    assert_eq!(session.state(), State::Suspended);
}

#[test]
fn a_held_call_keeps_awake_and_is_named_until_it_ends() {
    let mut session = Simulation::running(DEFAULTS);
    let (id, _) = session.call(CallKind::Work);
    session.pass(2 * 60 * MINUTE);
    assert_eq!((session.state(), awake_because(&session)), (State::Running, vec!["Work".to_owned()]));
    session.end(id);
    assert_eq!(session.due(), Some((3 * MINUTE, Deadline::InactivityPrompt)));
}

#[test]
fn containers_that_are_told_again_unchanged_are_no_activity() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(3 * MINUTE);
    session.containers(&[]);
    assert_eq!(session.due(), Some((2 * MINUTE, Deadline::Idle)));
}

#[test]
fn containers_of_an_environment_that_is_gone_keep_nothing_awake() {
    let mut session = Simulation::busy(DEFAULTS);
    session.input(|session, now| session.handle_lost(now, trouble()));
    session.containers(&["web"]);
    session.docker();
    assert_eq!((session.state(), awake_because(&session)), (State::Running, vec![]));
}

#[test]
fn containers_are_kept_and_keep_awake_again_after_a_resume() {
    let mut session = Simulation::busy(DEFAULTS);
    session.idle_now();
    assert_eq!(awake_because(&session), Vec::<String>::new());
    session.pass(MINUTE);
    session.docker();
    assert_eq!(awake_because(&session), ["web"]);
}

#[test]
fn any_docker_command_resumes_the_same_environment() {
    for kind in [CallKind::Probe, CallKind::Question, CallKind::Work] {
        let mut session = Simulation::suspended(DEFAULTS);
        session.pass(5 * MINUTE - 1);
        session.call(kind);
        assert_eq!((session.state(), session.starts()), (State::Running, 1), "{kind:?}");
    }
}

#[test]
fn a_held_event_stream_and_a_ping_do_not_resume() {
    for kind in [CallKind::Events, CallKind::Ping] {
        let mut session = Simulation::suspended(DEFAULTS);
        session.call(kind);
        session.pass(5 * MINUTE);
        assert_eq!(session.state(), State::Idle, "{kind:?}");
    }
}

#[test]
fn the_grace_period_ends_after_five_minutes_and_can_be_seen() {
    let mut session = Simulation::suspended(DEFAULTS);
    session.pass(2 * MINUTE);
    let grace = session.session.view(at(session.now)).grace_remaining;
    assert_eq!(grace.map(|left| left.as_secs()), Some(3 * MINUTE));
    session.pass(3 * MINUTE);
    assert!(matches!(session.effects[..], [.., Effect::Delete(_)]));
}

#[test]
fn a_grace_period_of_nothing_deletes_at_once() {
    let rules = overside_session::Rules { grace_period: std::time::Duration::ZERO, ..DEFAULTS };
    let mut session = Simulation::running(rules);
    session.pass(5 * MINUTE);
    assert_eq!(session.state(), State::Idle);
}

#[test]
fn an_event_stream_is_held_in_every_state_without_an_engine_and_does_not_wake() {
    let mut failed = Simulation::enabled(DEFAULTS);
    failed.slow = true;
    failed.call(CallKind::Work);
    failed.finish(Err(trouble()));
    for mut session in [Simulation::enabled(DEFAULTS), Simulation::suspended(DEFAULTS), failed] {
        let before = (session.state(), session.effects.len());
        assert_eq!(session.call(CallKind::Events).1, Decision::Wait);
        assert_eq!((session.state(), session.effects.len()), before);
    }
}

#[test]
fn a_call_during_the_freeze_comes_in_time_however_long_the_freeze_takes() {
    let mut session = Simulation::running(DEFAULTS);
    session.slow = true;
    session.idle_now();
    session.pass(4 * MINUTE);
    assert_eq!(session.call(CallKind::Work).1, Decision::Wait);
    session.pass(2 * MINUTE);
    session.finish(Ok(()));
    session.finish(Ok(()));
    assert_eq!((session.state(), session.starts()), (State::Running, 1));
}

#[test]
fn a_freeze_that_outlasts_the_grace_period_is_given_up_for_the_deletion() {
    let mut session = Simulation::running(DEFAULTS);
    session.slow = true;
    session.idle_now();
    let freeze = session.operation();
    session.pass(5 * MINUTE);
    assert_eq!(session.state(), State::Stopping);
    session.input(|session, now| session.handle_suspended(now, freeze, Ok(())));
    assert_eq!(session.state(), State::Stopping, "an answer to a cancelled effect");
    session.finish(Ok(()));
    assert_eq!(session.state(), State::Idle);
}

#[test]
fn an_environment_that_cannot_be_frozen_is_deleted_after_the_grace_period_all_the_same() {
    let mut session = Simulation::running(DEFAULTS);
    session.slow = true;
    session.pass(5 * MINUTE);
    session.finish(Err(trouble()));
    assert_eq!((session.state(), session.session.view(at(0)).error), (State::Suspended, Some(trouble())));
    session.pass(5 * MINUTE);
    assert_eq!(session.state(), State::Stopping);
}

#[test]
fn an_environment_that_could_not_be_frozen_can_be_resumed() {
    let mut session = Simulation::running(DEFAULTS);
    session.slow = true;
    session.idle_now();
    session.finish(Err(trouble()));
    session.call(CallKind::Work);
    session.finish(Ok(()));
    assert_eq!((session.state(), session.session.view(at(0)).error), (State::Running, None));
}

#[test]
fn a_call_during_the_thawing_waits_and_no_deadline_interferes() {
    let mut session = Simulation::suspended(DEFAULTS);
    session.slow = true;
    session.call(CallKind::Work);
    assert_eq!(session.due(), None);
    session.pass(10 * MINUTE);
    assert_eq!(session.call(CallKind::Question).1, Decision::Wait);
    session.finish(Ok(()));
    assert_eq!((session.state(), session.session.gate()), (State::Running, Gate::Open));
}

#[test]
fn an_environment_that_cannot_be_thawed_is_replaced_for_the_call_that_waits() {
    let mut session = Simulation::suspended(DEFAULTS);
    session.slow = true;
    session.call(CallKind::Work);
    session.finish(Err(trouble()));
    assert_eq!(session.state(), State::Stopping);
    session.finish(Ok(()));
    session.finish(Ok(()));
    assert_eq!((session.state(), session.starts()), (State::Running, 2));
}

#[test]
fn a_question_during_the_deletion_waits_and_is_then_answered_without_an_engine() {
    let mut session = Simulation::suspended(DEFAULTS);
    session.slow = true;
    session.pass(5 * MINUTE);
    let (id, decision) = session.call(CallKind::Question);
    assert_eq!((session.state(), decision), (State::Stopping, Decision::Wait));
    session.finish(Ok(()));
    assert_eq!((session.state(), session.session.gate()), (State::Idle, Gate::Ask));
    assert_eq!(session.input(|session, now| session.handle_call_again(now, id)), Decision::AnswerLocally);
}

#[test]
fn a_session_that_the_user_stopped_stays_stopped() {
    for mut session in [Simulation::enabled(DEFAULTS), Simulation::busy(DEFAULTS), Simulation::suspended(DEFAULTS)] {
        let starts = session.starts();
        session.input(Session::handle_disable);
        for second in 0..600 {
            session.pass(second % 7);
            for kind in KINDS {
                assert!(refused_for(&session.call(kind).1, ErrorCode::Stopped));
            }
        }
        assert_eq!((session.state(), session.starts(), session.due()), (State::Stopped, starts, None));
    }
}

#[test]
fn calls_are_refused_from_the_moment_of_stopping_on() {
    let mut session = Simulation::busy(DEFAULTS);
    session.slow = true;
    session.input(Session::handle_disable);
    assert_eq!(session.state(), State::Stopping);
    for kind in KINDS {
        assert!(refused_for(&session.call(kind).1, ErrorCode::Stopped));
    }
}

#[test]
fn a_session_that_is_enabled_again_during_its_deletion_is_idle_after_it() {
    let mut session = Simulation::busy(DEFAULTS);
    session.slow = true;
    session.input(Session::handle_disable);
    session.input(Session::handle_enable);
    session.finish(Ok(()));
    assert_eq!(session.state(), State::Idle);
}

#[test]
fn retry_and_start_while_a_start_that_timed_out_is_cleaned_up_start_again_after_that() {
    for again in [Session::handle_retry, Session::handle_enable] {
        let mut session = Simulation::enabled(DEFAULTS);
        session.slow = true;
        session.call(CallKind::Work);
        session.pass(120);
        assert_eq!(session.state(), State::Failed);
        session.input(again);
        assert_eq!((session.state(), session.session.gate()), (State::Stopping, Gate::Wait));
        session.finish(Ok(()));
        assert_eq!(session.state(), State::Starting);
    }
}

#[test]
fn idle_now_is_no_error_where_nothing_runs_any_more() {
    let mut stopping = Simulation::suspended(DEFAULTS);
    stopping.slow = true;
    stopping.pass(5 * MINUTE);
    for mut session in [Simulation::enabled(DEFAULTS), Simulation::suspended(DEFAULTS), stopping] {
        let state = session.state();
        session.idle_now();
        assert_eq!(session.state(), state);
    }
}
