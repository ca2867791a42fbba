//! "Polling": tools that ask the same thing on a timer.

use overside_model::{IgnoredPoller, State};
use overside_session::{CallKind, Client, Deadline, Decision, Session};

use crate::simulation::{DEFAULTS, MINUTE, Simulation, at, dashboard, person, trouble};

const LIST: &str = "GET /containers/json";

/// Asks every two seconds for so long; the last answer's decision.
fn poll(session: &mut Simulation, client: &Client, kind: CallKind, seconds: u64) -> Option<Decision> {
    let mut last = None;
    for _ in 0..seconds / 2 {
        let (id, decision) = session.call_of(client, kind, LIST);
        session.end(id);
        session.pass(2);
        last = Some(decision);
    }
    last
}

/// A session in which the dashboard is known already, brought into another state.
fn known_in(bring: impl FnOnce(&mut Simulation)) -> Simulation {
    let mut session = Simulation::running(DEFAULTS);
    poll(&mut session, &dashboard(), CallKind::Question, MINUTE);
    bring(&mut session);
    session
}

fn deleted(session: &mut Simulation) {
    session.idle_now();
    session.slow = true;
    let freeze = session.session.poll_timeout();
    assert!(freeze.is_some());
    session.input(Session::handle_disable);
    session.input(Session::handle_enable);
}

fn failing(session: &mut Simulation) {
    deleted(session);
    session.finish(Ok(()));
    session.call(CallKind::Work);
    session.finish(Err(trouble()));
}

#[test]
fn a_poller_does_not_keep_awake() {
    let mut session = Simulation::running(DEFAULTS);
    poll(&mut session, &dashboard(), CallKind::Question, 4 * MINUTE);
    assert_eq!(session.state(), State::Running);
    poll(&mut session, &dashboard(), CallKind::Question, 2 * MINUTE);
    assert_eq!(session.state(), State::Suspended);
}

#[test]
fn a_poller_that_holds_its_question_is_not_what_keeps_the_session_awake() {
    let mut session = known_in(|_| {});
    session.call_of(&dashboard(), CallKind::Question, LIST);
    assert_eq!(session.session.view(at(session.now)).awake_because, []);
}

#[test]
fn the_status_names_the_programs_that_were_ignored() {
    let session = known_in(|_| {});
    // Thirty calls; twelve intervals make a rhythm.
    let row = IgnoredPoller { program: "dashboard".to_owned(), calls: 18 };
    assert_eq!(session.session.view(at(session.now)).ignored_pollers, [row]);
}

#[test]
fn a_poller_gets_the_last_answer_and_changes_nothing_in_any_state_without_an_engine_at_work() {
    type Bring = fn(&mut Simulation);
    let states: [(State, Bring); 7] = [
        (State::Idle, |session| {
            session.idle_now();
            poll(session, &dashboard(), CallKind::Question, 5 * MINUTE);
        }),
        (State::Starting, |session| {
            session.input(|session, now| session.handle_lost(now, trouble()));
            session.slow = true;
            session.call(CallKind::Work);
        }),
        (State::Suspended, Simulation::idle_now),
        (State::Suspended, |session| {
            session.slow = true;
            session.idle_now();
        }),
        (State::Suspended, |session| {
            session.idle_now();
            session.slow = true;
            session.call(CallKind::Work);
        }),
        (State::Stopping, deleted),
        (State::Failed, failing),
    ];
    for (number, (state, bring)) in states.into_iter().enumerate() {
        let mut session = known_in(bring);
        let before = (session.state(), session.due(), session.effects.len());
        assert_eq!(before.0, state, "case {number}");
        let (_, decision) = session.call_of(&dashboard(), CallKind::Question, LIST);
        assert_eq!(decision, Decision::AnswerPoll, "case {number}");
        assert_eq!((session.state(), session.due(), session.effects.len()), before, "case {number}");
    }
}

#[test]
fn a_poller_does_not_delay_the_deletion_of_a_suspended_environment() {
    let mut session = known_in(Simulation::idle_now);
    assert_eq!(poll(&mut session, &dashboard(), CallKind::Question, 5 * MINUTE - 2), Some(Decision::AnswerPoll));
    assert_eq!(session.state(), State::Suspended);
    poll(&mut session, &dashboard(), CallKind::Question, 2);
    assert_eq!(session.state(), State::Idle);
}

#[test]
fn a_poller_does_not_retry_a_failed_start_however_long_it_asks() {
    let mut session = known_in(failing);
    let effects = session.effects.len();
    poll(&mut session, &dashboard(), CallKind::Question, 5 * MINUTE);
    assert_eq!((session.state(), session.effects.len()), (State::Failed, effects));
}

#[test]
fn a_poller_does_not_delay_idle_and_does_not_close_the_prompt() {
    let mut session = known_in(|_| {});
    let idle_at = session.session.view(at(session.now)).idle_in.map(|left| at(session.now) + left);
    poll(&mut session, &dashboard(), CallKind::Question, 3 * MINUTE + 30);
    assert!(session.prompt().is_some());
    assert_eq!(session.session.poll_timeout(), idle_at.map(|idle| (idle, Deadline::Idle)));
}

#[test]
fn steady_questions_about_version_and_info_are_polling_too() {
    let mut session = Simulation::running(DEFAULTS);
    poll(&mut session, &dashboard(), CallKind::Probe, MINUTE);
    session.idle_now();
    assert_eq!(poll(&mut session, &dashboard(), CallKind::Probe, 10), Some(Decision::AnswerPoll));
    assert_eq!(session.state(), State::Suspended);
}

#[test]
fn work_is_never_polling_however_steady() {
    let mut session = Simulation::running(DEFAULTS);
    poll(&mut session, &dashboard(), CallKind::Work, 10 * MINUTE);
    assert_eq!(session.state(), State::Running);
    session.idle_now();
    poll(&mut session, &dashboard(), CallKind::Work, 2);
    assert_eq!(session.state(), State::Running);
}

#[test]
fn a_person_at_the_keyboard_is_never_a_poller() {
    let mut session = Simulation::running(DEFAULTS);
    // Seconds between one `docker ps` and the next, as one types them while waiting for something.
    for pause in [3, 5, 4, 7, 3, 6, 4, 9, 5, 3, 4, 6, 8, 3, 5, 4, 7, 3, 6, 4] {
        let (id, decision) = session.call_of(&person(), CallKind::Question, LIST);
        session.end(id);
        assert_eq!(decision, Decision::Pass);
        assert_eq!(session.due(), Some((3 * MINUTE, Deadline::InactivityPrompt)));
        session.pass(pause);
    }
    assert_eq!(session.session.view(at(session.now)).ignored_pollers, []);
}

#[test]
fn a_person_is_heard_beside_a_poller() {
    let mut session = known_in(Simulation::idle_now);
    assert_eq!(poll(&mut session, &dashboard(), CallKind::Question, MINUTE), Some(Decision::AnswerPoll));
    let (_, decision) = session.call_of(&person(), CallKind::Question, LIST);
    assert_eq!((decision, session.state()), (Decision::Wait, State::Running));
}

#[test]
fn always_count_makes_the_steadiest_program_count() {
    let mut session = Simulation::running(DEFAULTS);
    session.overrule(&["Dashboard"], &[]);
    poll(&mut session, &dashboard(), CallKind::Question, 30 * MINUTE);
    assert_eq!(session.state(), State::Running);
    session.idle_now();
    poll(&mut session, &dashboard(), CallKind::Question, 2);
    assert_eq!(session.state(), State::Running);
}

#[test]
fn never_count_makes_the_first_question_polling_and_still_lets_work_through() {
    let mut session = Simulation::suspended(DEFAULTS);
    session.overrule(&[], &["dashboard"]);
    let (_, decision) = session.call_of(&dashboard(), CallKind::Question, LIST);
    assert_eq!((decision, session.state()), (Decision::AnswerPoll, State::Suspended));
    session.call_of(&dashboard(), CallKind::Work, "POST /containers/create");
    assert_eq!(session.state(), State::Running);
}

#[test]
fn what_the_user_says_of_a_program_applies_at_once() {
    let mut session = known_in(Simulation::idle_now);
    session.overrule(&["dashboard"], &[]);
    poll(&mut session, &dashboard(), CallKind::Question, 2);
    assert_eq!(session.state(), State::Running);
}

#[test]
fn a_stopped_session_refuses_pollers_like_anybody_and_does_not_count_them() {
    let mut session = known_in(|session| session.input(Session::handle_disable));
    let ignored = session.session.view(at(session.now)).ignored_pollers;
    poll(&mut session, &dashboard(), CallKind::Question, MINUTE);
    assert_eq!((session.state(), session.session.view(at(session.now)).ignored_pollers), (State::Stopped, ignored));
}
