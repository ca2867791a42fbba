//! The sentences of the life cycle, one test each.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use overside_model::{ErrorCode, Moment, Problem, State};
use overside_session::{
    ActivityId, Call, CallKind, Client, Deadline, Decision, Effect, Gate, Operation, Rules, Session,
};

const RULES: Rules = Rules {
    idle_timeout: Duration::from_secs(300),
    grace_period: Duration::from_secs(300),
    start_timeout: Duration::from_secs(120),
    // Later than the idle timeout: the questions have tests of their own.
    prompt_after: Duration::from_secs(3600),
    long_every: Duration::from_secs(3 * 3600),
    long_every_over_limit: Duration::from_secs(3600),
    long_answer_within: Duration::from_secs(600),
    daily_limit: Duration::from_secs(8 * 3600),
    hard_stop: false,
};

fn at(seconds: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(1000 + seconds))
}

/// A call of a program that makes no other.
fn call(session: &mut Session, now: Moment, kind: CallKind, detail: &str) -> (ActivityId, Decision) {
    let client = Client::default();
    session.handle_call(now, &Call { kind, label: "call", detail, shape: detail, client: &client })
}

fn problem() -> Problem {
    Problem::new(ErrorCode::EngineMissing, "no dockerd", "install it")
}

fn effects(session: &mut Session) -> Vec<Effect> {
    std::iter::from_fn(|| session.poll_effect()).collect()
}

/// The number of the only effect on the environment.
fn operation(session: &mut Session) -> Operation {
    let found = effects(session).into_iter().find_map(|effect| match effect {
        Effect::Start(o) | Effect::Suspend(o) | Effect::Resume(o) | Effect::Delete(o) => Some(o),
        Effect::SelectContext | Effect::RestoreContext | Effect::TurnDay => None,
    });
    found.expect("an effect on the environment")
}

fn enabled() -> Session {
    let mut session = Session::new(at(0), RULES);
    session.handle_enable(at(0));
    effects(&mut session);
    session
}

fn running() -> Session {
    let mut session = enabled();
    let (id, _) = call(&mut session, at(0), CallKind::Work, "POST /containers/create");
    let start = operation(&mut session);
    session.handle_started(at(2), start, Ok(()));
    session.handle_call_end(at(2), id);
    session
}

fn suspended() -> Session {
    let mut session = running();
    session.handle_timeout(at(302));
    let suspend = operation(&mut session);
    session.handle_suspended(at(302), suspend, Ok(()));
    session
}

#[test]
fn enabling_selects_the_context_and_starts_nothing() {
    let mut session = Session::new(at(0), RULES);
    session.handle_enable(at(0));
    assert_eq!(effects(&mut session), [Effect::SelectContext]);
    assert_eq!((session.state(), session.poll_timeout()), (State::Idle, None));
}

#[test]
fn a_stopped_session_refuses_every_call_and_says_how_to_start() {
    let mut session = Session::new(at(0), RULES);
    for kind in [CallKind::Ping, CallKind::Probe, CallKind::Question, CallKind::Events, CallKind::Work] {
        let (_, decision) = call(&mut session, at(1), kind, "x");
        assert!(
            matches!(decision, Decision::Refuse(p) if p.code == ErrorCode::Stopped && p.hint.contains("overside start"))
        );
    }
    assert_eq!((effects(&mut session), session.state()), (vec![], State::Stopped));
}

#[test]
fn questions_do_not_wake_an_idle_session() {
    let mut session = enabled();
    for kind in [CallKind::Ping, CallKind::Probe, CallKind::Question] {
        assert_eq!(call(&mut session, at(1), kind, "x").1, Decision::AnswerLocally);
    }
    assert_eq!(call(&mut session, at(1), CallKind::Events, "x").1, Decision::Wait);
    assert_eq!((effects(&mut session), session.state()), (vec![], State::Idle));
}

#[test]
fn simultaneous_first_calls_start_one_environment() {
    let mut session = enabled();
    for _ in 0..10 {
        assert_eq!(call(&mut session, at(1), CallKind::Work, "x").1, Decision::Wait);
    }
    assert_eq!(effects(&mut session).len(), 1);
    assert_eq!(session.gate(), Gate::Wait);
    session.handle_started(at(2), Operation(1), Ok(()));
    assert_eq!((session.gate(), session.state()), (Gate::Open, State::Running));
    assert_eq!(session.view(at(2)).awake_because.len(), 10);
}

/// A session whose start has failed as often in a row.
fn failed(times: u64) -> Session {
    let mut session = enabled();
    for n in 0..times {
        session.handle_retry(at(n));
        let (id, _) = call(&mut session, at(n), CallKind::Work, "x");
        session.handle_timeout(at(n));
        let start = operation(&mut session);
        session.handle_started(at(n), start, Err(problem()));
        session.handle_call_end(at(n), id);
    }
    session
}

#[test]
fn a_failed_start_refuses_the_calls_that_waited_for_it() {
    let session = failed(1);
    assert_eq!((session.gate(), session.state()), (Gate::Refuse(problem()), State::Failed));
    assert_eq!((session.view(at(0)).error, session.poll_timeout()), (Some(problem()), None));
}

#[test]
fn the_next_call_after_a_failure_waits_out_a_short_pause_and_tries_again() {
    let mut session = failed(1);
    assert_eq!(call(&mut session, at(0), CallKind::Work, "x").1, Decision::Wait);
    assert_eq!((session.gate(), session.poll_timeout()), (Gate::Wait, Some((at(1), Deadline::Retry))));
    session.handle_timeout(at(1));
    assert_eq!(session.state(), State::Starting);
}

#[test]
fn a_call_that_waited_for_the_next_attempt_and_went_away_causes_none() {
    let mut session = failed(1);
    let (id, _) = call(&mut session, at(0), CallKind::Work, "x");
    session.handle_call_end(at(0), id);
    session.handle_timeout(at(1));
    assert_eq!((session.state(), session.poll_timeout()), (State::Failed, None));
}

#[test]
fn after_many_failures_calls_are_refused_at_once_until_the_pause_is_over() {
    let mut session = enabled();
    let mut now = at(0);
    for _ in 0..5 {
        call(&mut session, now, CallKind::Work, "x");
        session.handle_timeout(now);
        let start = operation(&mut session);
        session.handle_started(now, start, Err(problem()));
        now = now + Duration::from_secs(60);
    }
    let failed_at = now - Duration::from_secs(60);
    assert_eq!(call(&mut session, failed_at, CallKind::Work, "x").1, Decision::Refuse(problem()));
    assert_eq!(call(&mut session, now, CallKind::Work, "x").1, Decision::Wait);
    assert_eq!(session.state(), State::Starting);
}

#[test]
fn retry_does_not_wait_for_the_pause() {
    let mut session = enabled();
    call(&mut session, at(1), CallKind::Work, "x");
    let start = operation(&mut session);
    session.handle_started(at(2), start, Err(problem()));
    session.handle_retry(at(2));
    assert_eq!(session.state(), State::Starting);
}

#[test]
fn a_start_that_takes_too_long_fails_and_what_was_begun_is_deleted() {
    let mut session = enabled();
    call(&mut session, at(0), CallKind::Work, "x");
    let start = operation(&mut session);
    assert_eq!(session.poll_timeout(), Some((at(120), Deadline::Start)));
    session.handle_timeout(at(120));
    assert_eq!(session.state(), State::Failed);
    assert!(matches!(session.gate(), Gate::Refuse(p) if p.code == ErrorCode::StartTimedOut));
    session.handle_started(at(121), start, Ok(()));
    assert_eq!(session.state(), State::Failed);
    let delete = operation(&mut session);
    session.handle_deleted(at(121), delete, Ok(()));
    assert_eq!(call(&mut session, at(122), CallKind::Work, "x").1, Decision::Wait);
}

#[test]
fn inactivity_suspends_and_the_deadline_says_why() {
    let mut session = running();
    assert_eq!(session.poll_timeout(), Some((at(302), Deadline::Idle)));
    session.handle_timeout(at(301));
    assert_eq!(session.state(), State::Running);
    session.handle_timeout(at(302));
    assert_eq!(session.state(), State::Suspended);
    assert!(matches!(effects(&mut session)[..], [Effect::Suspend(_)]));
}

#[test]
fn a_running_container_or_a_held_stream_keeps_awake_and_is_named() {
    let mut session = running();
    session.handle_containers(at(3), vec!["web".to_owned()]);
    assert_eq!(session.view(at(5)).idle_in, None);
    let (id, _) = call(&mut session, at(4), CallKind::Work, "POST /exec/x/start");
    let reasons: Vec<_> = session.view(at(5)).awake_because.into_iter().map(|reason| reason.detail).collect();
    assert_eq!(reasons, ["web", "POST /exec/x/start"]);
    session.handle_containers(at(10), vec![]);
    assert_eq!(session.view(at(5)).idle_in, None);
    session.handle_call_end(at(20), id);
    assert_eq!(session.poll_timeout(), Some((at(320), Deadline::Idle)));
}

#[test]
fn a_probe_or_a_held_event_stream_does_not_keep_awake() {
    let mut session = running();
    call(&mut session, at(100), CallKind::Probe, "GET /_ping");
    call(&mut session, at(100), CallKind::Events, "GET /events");
    assert_eq!(session.poll_timeout(), Some((at(302), Deadline::Idle)));
}

#[test]
fn a_call_resumes_the_same_environment() {
    let mut session = suspended();
    assert_eq!(session.poll_timeout(), Some((at(602), Deadline::Grace)));
    assert_eq!(call(&mut session, at(400), CallKind::Question, "GET /containers/json").1, Decision::Wait);
    let resume = match effects(&mut session)[..] {
        [Effect::Resume(operation)] => operation,
        ref other => panic!("{other:?}"),
    };
    session.handle_resumed(at(400), resume, Ok(()));
    assert_eq!((session.state(), session.gate()), (State::Running, Gate::Open));
}

#[test]
fn the_user_resumes_the_same_environment_without_a_call_and_gets_the_whole_idle_timeout() {
    let mut session = suspended();
    session.handle_resume(at(400)).expect("there is something to resume");
    let resume = operation(&mut session);
    session.handle_resume(at(401)).expect("asking twice is asking once");
    assert_eq!(effects(&mut session), []);
    session.handle_resumed(at(402), resume, Ok(()));
    assert_eq!((session.state(), session.poll_timeout()), (State::Running, Some((at(702), Deadline::Idle))));
    session.handle_resume(at(403)).expect("it runs already");
    assert_eq!((session.state(), effects(&mut session)), (State::Running, vec![]));
}

#[test]
fn the_user_can_change_their_mind_while_it_is_being_frozen() {
    let mut session = running();
    session.handle_idle_now(at(10)).expect("it runs");
    let suspend = operation(&mut session);
    session.handle_resume(at(10)).expect("it can be resumed");
    assert_eq!((effects(&mut session), session.poll_timeout()), (vec![], None));
    session.handle_suspended(at(11), suspend, Ok(()));
    let resume = operation(&mut session);
    session.handle_resumed(at(11), resume, Ok(()));
    // The next suspension is another one.
    session.handle_idle_now(at(20)).expect("it runs");
    let suspend = operation(&mut session);
    session.handle_suspended(at(21), suspend, Ok(()));
    assert_eq!((session.state(), effects(&mut session)), (State::Suspended, vec![]));
}

#[test]
fn what_is_not_suspended_cannot_be_resumed_and_nothing_starts() {
    let refused = |mut session: Session| {
        effects(&mut session);
        let code = session.handle_resume(at(700)).map_err(|problem| problem.code);
        (code, effects(&mut session))
    };
    assert_eq!(refused(Session::new(at(0), RULES)), (Err(ErrorCode::Stopped), vec![]));
    for session in [enabled(), failed(1)] {
        assert_eq!(refused(session), (Err(ErrorCode::RequestRefused), vec![]));
    }
    // Its grace period is over by now.
    let mut late = suspended();
    assert!(late.handle_resume(at(700)).is_err());
    assert_eq!(late.state(), State::Stopping);
}

#[test]
fn a_ping_is_answered_in_every_state_and_changes_none() {
    let mut starting = enabled();
    call(&mut starting, at(0), CallKind::Work, "x");
    let mut stopping = suspended();
    stopping.handle_timeout(at(602));
    for mut session in [enabled(), starting, suspended(), stopping, failed(1)] {
        let (state, deadline) = (session.state(), session.poll_timeout());
        effects(&mut session);
        assert_eq!(call(&mut session, at(1), CallKind::Ping, "HEAD /_ping").1, Decision::AnswerLocally, "{state:?}");
        assert_eq!((session.state(), session.poll_timeout(), effects(&mut session)), (state, deadline, vec![]));
    }
}

#[test]
fn a_call_during_the_freeze_resumes_as_soon_as_it_is_over() {
    let mut session = running();
    session.handle_timeout(at(302));
    let suspend = operation(&mut session);
    assert_eq!(call(&mut session, at(302), CallKind::Work, "x").1, Decision::Wait);
    assert_eq!(effects(&mut session), []);
    session.handle_suspended(at(303), suspend, Ok(()));
    assert!(matches!(effects(&mut session)[..], [Effect::Resume(_)]));
}

#[test]
fn the_end_of_the_grace_period_deletes_and_leads_to_idle() {
    let mut session = suspended();
    session.handle_timeout(at(602));
    assert_eq!(session.state(), State::Stopping);
    let delete = operation(&mut session);
    session.handle_deleted(at(603), delete, Ok(()));
    assert_eq!((session.state(), session.gate()), (State::Idle, Gate::Ask));
}

#[test]
fn a_call_during_the_deletion_waits_and_gets_a_new_environment() {
    let mut session = suspended();
    session.handle_timeout(at(602));
    let delete = operation(&mut session);
    assert_eq!(call(&mut session, at(602), CallKind::Work, "x").1, Decision::Wait);
    session.handle_deleted(at(603), delete, Ok(()));
    assert!(matches!(effects(&mut session)[..], [Effect::Start(_)]));
}

#[test]
fn a_call_that_went_away_during_the_deletion_starts_nothing() {
    let mut session = suspended();
    session.handle_timeout(at(602));
    let delete = operation(&mut session);
    let (id, _) = call(&mut session, at(602), CallKind::Work, "x");
    session.handle_call_end(at(602), id);
    session.handle_deleted(at(603), delete, Ok(()));
    assert_eq!(effects(&mut session), []);
}

#[test]
fn stopping_refuses_waiting_calls_deletes_and_restores_the_context() {
    let mut session = enabled();
    call(&mut session, at(0), CallKind::Work, "x");
    effects(&mut session);
    session.handle_disable(at(1));
    assert!(matches!(session.gate(), Gate::Refuse(p) if p.code == ErrorCode::Stopped));
    let found = effects(&mut session);
    assert!(matches!(found[..], [Effect::Delete(_), Effect::RestoreContext]), "{found:?}");
    session.handle_started(at(2), Operation(1), Ok(()));
    session.handle_deleted(at(2), Operation(2), Ok(()));
    assert_eq!(session.state(), State::Stopped);
}

#[test]
fn a_lost_environment_is_said_cleaned_up_and_replaced_by_the_next_call() {
    let mut session = running();
    session.handle_lost(at(10), problem());
    assert_eq!(session.view(at(10)).error, Some(problem()));
    let delete = operation(&mut session);
    session.handle_deleted(at(11), delete, Ok(()));
    assert_eq!((session.state(), session.view(at(11)).error), (State::Idle, Some(problem())));
    call(&mut session, at(12), CallKind::Work, "x");
    let start = operation(&mut session);
    session.handle_started(at(13), start, Ok(()));
    assert_eq!(session.view(at(13)).error, None);
}

#[test]
fn a_suspended_gap_counts_as_usage_only_when_it_is_resumed() {
    let mut session = suspended();
    assert_eq!(session.view(at(500)).used_today, Duration::from_secs(300));
    call(&mut session, at(502), CallKind::Work, "x");
    let resume = operation(&mut session);
    session.handle_resumed(at(502), resume, Ok(()));
    assert_eq!(session.view(at(512)).used_today, Duration::from_secs(510));
}
