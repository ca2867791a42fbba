//! The questions to the user, and what becomes of them.

use std::time::Duration;

use overside_model::{PromptReason, State};
use overside_session::{CallKind, Deadline, Effect, Rules};

use crate::simulation::{DEFAULTS, HOUR, MINUTE, Simulation, at};

const INACTIVITY: Option<PromptReason> = Some(PromptReason::Inactivity);
const LONG: Option<PromptReason> = Some(PromptReason::LongSession);

fn reason(session: &Simulation) -> Option<PromptReason> {
    session.prompt().map(|(reason, _)| reason)
}

#[test]
fn the_inactivity_prompt_comes_after_three_minutes_and_shows_the_time_left_until_idle() {
    let mut session = Simulation::running(DEFAULTS);
    assert_eq!(session.due(), Some((3 * MINUTE, Deadline::InactivityPrompt)));
    session.pass(3 * MINUTE - 1);
    assert_eq!(session.prompt(), None);
    session.pass(1);
    assert_eq!(session.prompt(), Some((PromptReason::Inactivity, 2 * MINUTE)));
    session.pass(30);
    assert_eq!(session.prompt(), Some((PromptReason::Inactivity, 90)));
    assert_eq!(session.session.view(at(session.now)).idle_in, Some(Duration::from_secs(90)));
}

#[test]
fn there_is_no_inactivity_prompt_if_the_idle_timeout_is_not_longer_than_prompt_after() {
    for idle_timeout in [10, 60, 180] {
        let mut session = Simulation::running(Rules { idle_timeout: Duration::from_secs(idle_timeout), ..DEFAULTS });
        assert_eq!(session.due(), Some((idle_timeout, Deadline::Idle)));
        session.pass(idle_timeout - 1);
        assert_eq!((session.state(), session.prompt()), (State::Running, None));
        session.pass(1);
        assert_eq!(session.state(), State::Suspended);
    }
}

#[test]
fn an_unanswered_inactivity_prompt_ends_in_suspended() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(5 * MINUTE);
    assert_eq!((session.state(), session.prompt()), (State::Suspended, None));
}

#[test]
fn activity_closes_the_inactivity_prompt() {
    let activities: [fn(&mut Simulation); 4] = [
        Simulation::docker,
        |session| session.containers(&["web"]),
        |session| {
            session.call(CallKind::Question);
        },
        Simulation::later,
    ];
    for activity in activities {
        let mut session = Simulation::running(DEFAULTS);
        session.pass(4 * MINUTE);
        assert_eq!(reason(&session), INACTIVITY);
        activity(&mut session);
        assert_eq!(session.prompt(), None);
        session.pass(2 * MINUTE);
        assert_eq!((session.state(), session.prompt()), (State::Running, None));
    }
}

#[test]
fn what_is_no_activity_leaves_the_inactivity_prompt_open() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(3 * MINUTE);
    for kind in [CallKind::Ping, CallKind::Events] {
        session.call(kind);
    }
    session.containers(&[]);
    assert_eq!(session.prompt(), Some((PromptReason::Inactivity, 2 * MINUTE)));
}

#[test]
fn ask_me_again_later_counts_as_activity() {
    let mut session = Simulation::running(DEFAULTS);
    session.pass(4 * MINUTE);
    session.later();
    assert_eq!(session.due(), Some((3 * MINUTE, Deadline::InactivityPrompt)));
    session.pass(3 * MINUTE);
    assert_eq!(session.prompt(), Some((PromptReason::Inactivity, 2 * MINUTE)));
}

#[test]
fn ask_me_again_later_to_the_inactivity_prompt_does_not_put_off_the_long_session_prompt() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(3 * HOUR - 10 * MINUTE);
    session.containers(&[]);
    session.pass(3 * MINUTE);
    assert_eq!(reason(&session), INACTIVITY);
    session.later();
    session.containers(&["web"]);
    assert_eq!(session.due(), Some((7 * MINUTE, Deadline::LongSessionPrompt)));
}

#[test]
fn idle_now_suspends_at_once_whatever_was_asked() {
    for wait in [3 * MINUTE, 3 * HOUR] {
        let mut session = Simulation::running(DEFAULTS);
        if wait > HOUR {
            session.containers(&["web"]);
        }
        session.pass(wait);
        assert!(session.prompt().is_some());
        session.idle_now();
        assert_eq!((session.state(), session.prompt(), session.used()), (State::Suspended, None, wait));
    }
}

#[test]
fn a_long_session_is_asked_about_after_three_hours_and_three_hours_after_each_answer() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(3 * HOUR - 1);
    assert_eq!(session.prompt(), None);
    session.pass(1);
    assert_eq!(session.prompt(), Some((PromptReason::LongSession, 10 * MINUTE)));
    session.pass(4 * MINUTE);
    session.later();
    assert_eq!(session.prompt(), None);
    session.pass(3 * HOUR - 1);
    assert_eq!(session.prompt(), None);
    session.pass(1);
    assert_eq!(reason(&session), LONG);
}

#[test]
fn an_unanswered_long_session_prompt_suspends_after_ten_minutes_also_while_containers_run_and_calls_last() {
    let mut session = Simulation::busy(DEFAULTS);
    session.call(CallKind::Work);
    session.pass(3 * HOUR + 10 * MINUTE - 1);
    assert_eq!((session.state(), session.prompt()), (State::Running, Some((PromptReason::LongSession, 1))));
    session.pass(1);
    assert_eq!((session.state(), session.prompt()), (State::Suspended, None));
}

/// Reading: the prompt wants an answer; a command in a terminal is none, since a script may have made it. The next command after the
/// suspension resumes within the second.
#[test]
fn work_does_not_answer_the_long_session_prompt() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(3 * HOUR + MINUTE);
    session.docker();
    assert_eq!(session.prompt(), Some((PromptReason::LongSession, 9 * MINUTE)));
}

#[test]
fn a_long_session_prompt_does_not_prolong_inactivity() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(3 * HOUR - MINUTE);
    session.containers(&[]);
    session.pass(MINUTE);
    assert_eq!(session.prompt(), Some((PromptReason::LongSession, 4 * MINUTE)), "whichever comes first");
    session.pass(4 * MINUTE);
    assert_eq!(session.state(), State::Suspended);
}

#[test]
fn after_an_unanswered_prompt_and_a_resume_the_next_question_comes_in_three_hours() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(3 * HOUR + 12 * MINUTE);
    session.docker();
    assert_eq!((session.state(), session.prompt()), (State::Running, None));
    assert_eq!(session.due(), Some((3 * HOUR - 2 * MINUTE, Deadline::LongSessionPrompt)));
}

#[test]
fn a_suspension_in_between_does_not_begin_the_three_hours_anew() {
    let mut session = Simulation::busy(DEFAULTS);
    session.pass(2 * HOUR);
    session.idle_now();
    session.pass(4 * MINUTE);
    session.docker();
    assert_eq!(session.due(), Some((56 * MINUTE, Deadline::LongSessionPrompt)));
}

#[test]
fn when_the_days_usage_passes_the_limit_the_user_is_asked_then_and_hourly_after_that() {
    let mut session = Simulation::busy(DEFAULTS);
    assert_eq!(session.attend(11 * HOUR), [180, 360, 480, 540, 600, 660]);
}

#[test]
fn a_question_that_is_open_when_the_limit_is_passed_is_the_question_about_it() {
    let mut session = Simulation::busy(DEFAULTS);
    session.day(55 * MINUTE, 24 * HOUR);
    session.pass(3 * HOUR);
    session.later();
    session.pass(3 * HOUR);
    assert_eq!(reason(&session), LONG, "at 6 h 55 min of the day");
    session.later();
    session.pass(HOUR + 5 * MINUTE);
    assert_eq!(session.prompt(), Some((PromptReason::LongSession, 10 * MINUTE)));
    session.later();
    assert_eq!(session.due(), Some((HOUR, Deadline::LongSessionPrompt)));
}

#[test]
fn a_session_that_begins_beyond_the_limit_is_asked_about_after_an_hour_and_not_at_once() {
    let mut session = Simulation::enabled(DEFAULTS);
    session.day(9 * HOUR, 24 * HOUR);
    session.slow = true;
    session.docker();
    session.pass(20);
    session.finish(Ok(()));
    session.containers(&["web"]);
    assert_eq!(session.state(), State::Running);
    assert_eq!(session.attend(3 * HOUR), [60, 120, 180]);
}

#[test]
fn a_clock_that_is_set_does_not_ask_again_what_was_answered() {
    let mut session = Simulation::busy(DEFAULTS);
    session.day(8 * HOUR, 24 * HOUR);
    session.pass(10 * MINUTE);
    session.later();
    session.day(8 * HOUR + 10 * MINUTE, 23 * HOUR);
    assert_eq!(session.prompt(), None);
    assert!(session.due().is_some_and(|(seconds, _)| seconds > 40 * MINUTE));
}

#[test]
fn after_midnight_questions_come_every_three_hours_again() {
    let mut session = Simulation::busy(DEFAULTS);
    session.day(10 * HOUR, 90 * MINUTE);
    assert_eq!(session.attend(6 * HOUR), [60, 240]);
}

#[test]
fn a_prompt_ends_with_its_session() {
    let ends: [fn(&mut Simulation); 2] = [
        |session| session.input(overside_session::Session::handle_disable),
        |session| session.input(|session, now| session.handle_lost(now, crate::simulation::trouble())),
    ];
    for end in ends {
        let mut session = Simulation::busy(DEFAULTS);
        session.pass(3 * HOUR);
        end(&mut session);
        assert_eq!(session.prompt(), None);
        assert!(session.effects.iter().any(|effect| matches!(effect, Effect::Delete(_))));
        assert_eq!(session.due(), None);
    }
}
