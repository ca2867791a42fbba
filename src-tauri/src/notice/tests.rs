use std::sync::Arc;

use overside_model::{DesktopSettings, Problem, Prompt, SessionId, SessionStatus, WorkKind};

use super::*;
use crate::{link::Link, menu};

/// What a desktop would do, second by second.
struct Desk {
    notices: Notices,
    words: Arc<Words>,
    second: u64,
}

impl Desk {
    fn new() -> Self {
        Self { notices: Notices::default(), words: Arc::new(Words::of("en")), second: 0 }
    }

    fn now(&self) -> Now {
        let wall = "2026-11-25T14:30:00+01:00[Europe/Berlin]".parse::<jiff::Zoned>().unwrap();
        let passed = Duration::from_secs(self.second);
        Now { moment: Moment::from_boot(Duration::from_secs(1000)) + passed, wall: wall.checked_add(passed).unwrap() }
    }

    fn at(&mut self, second: u64) -> &mut Self {
        self.second = second;
        self
    }

    fn sees(&mut self, status: Status) -> Change {
        self.follows(Link::Here { status: Box::new(status) })
    }

    fn follows(&mut self, link: Link) -> Change {
        let now = self.now();
        self.notices.see(&Seen { link, at: now.moment }, &now, &self.words)
    }

    /// Another process, which knows what this one has kept.
    fn restarted(&self) -> Self {
        let kept = serde_json::to_string(&self.notices.told()).unwrap();
        Self {
            notices: Notices::after(serde_json::from_str(&kept).unwrap()),
            words: self.words.clone(),
            second: self.second,
        }
    }
}

fn in_session(state: State) -> Status {
    let started_at = "2026-11-25T13:15:00Z".to_owned();
    let session = SessionStatus { id: SessionId::from_random(1), started_at, environment: None, notes: Vec::new() };
    Status { session: Some(session), ..Status::quiet(state) }
}

fn asked(reason: PromptReason, seconds: u64) -> Status {
    Status { prompt: Some(Prompt { reason, answer_within_seconds: seconds }), ..in_session(State::Running) }
}

fn suspended(seconds: u64, at_risk: &[&str]) -> Status {
    let work = |name: &&str| Work { kind: WorkKind::Volume, name: (*name).to_owned(), kept_in: None };
    Status {
        grace_remaining_seconds: Some(seconds),
        at_risk: at_risk.iter().map(work).collect(),
        ..in_session(State::Suspended)
    }
}

fn failed(message: &str) -> Status {
    let problem = Problem::new(ErrorCode::EngineMissing, message, "Install docker.io.");
    Status { error: Some(problem), ..Status::quiet(State::Failed) }
}

/// Title, body, buttons and urgency of what is shown.
fn shown(change: Change) -> (String, String, Vec<Action>, bool) {
    let Change::Show(notice) = change else { panic!("not shown: {change:?}") };
    assert!(crate::tray::icon(notice.icon).next().is_some());
    (notice.title, notice.body, notice.buttons.into_iter().map(|(action, _)| action).collect(), notice.urgent)
}

#[test]
fn a_prompt_is_asked_once_with_both_answers_and_withdrawn_when_it_is_answered_elsewhere() {
    let mut desk = Desk::new();
    assert_eq!(desk.sees(in_session(State::Running)), Change::Nothing);
    let (title, body, buttons, urgent) = shown(desk.at(10).sees(asked(PromptReason::Inactivity, 120)));
    assert_eq!(title, "Overside: Still needed?");
    assert_eq!(body, "Nothing has happened for a while. Without an answer the environment is suspended at 14:32.");
    assert_eq!((buttons, urgent), (vec![Action::Later, Action::Idle], true));
    // Told again by every status until then.
    assert_eq!(desk.at(40).sees(asked(PromptReason::Inactivity, 90)), Change::Nothing);
    assert_eq!(desk.at(41).sees(asked(PromptReason::Inactivity, 90)), Change::Nothing);
    assert_eq!(desk.at(50).sees(in_session(State::Running)), Change::Withdraw);
    assert_eq!(desk.at(51).sees(in_session(State::Running)), Change::Nothing);
}

#[test]
fn the_next_prompt_of_a_session_is_another_one() {
    let mut desk = Desk::new();
    shown(desk.sees(asked(PromptReason::Inactivity, 120)));
    desk.at(20).sees(in_session(State::Running));
    shown(desk.at(200).sees(asked(PromptReason::Inactivity, 120)));
    let (_, body, ..) = shown(desk.at(210).sees(asked(PromptReason::LongSession, 600)));
    assert!(body.starts_with("This session has been running for a long time."), "{body}");
}

#[test]
fn a_prompt_that_the_user_has_closed_does_not_come_back_though_its_end_moves() {
    let mut desk = Desk::new();
    shown(desk.sees(asked(PromptReason::LongSession, 600)));
    desk.notices.closed();
    assert_eq!(desk.at(10).sees(asked(PromptReason::LongSession, 300)), Change::Nothing);
    assert_eq!(desk.at(20).sees(in_session(State::Running)), Change::Nothing);
}

#[test]
fn a_prompt_whose_end_moves_says_the_new_time_in_its_place() {
    let mut desk = Desk::new();
    shown(desk.sees(asked(PromptReason::LongSession, 600)));
    let (_, body, ..) = shown(desk.at(60).sees(asked(PromptReason::LongSession, 240)));
    assert!(body.ends_with("suspended at 14:35."), "{body}");
}

#[test]
fn nothing_is_told_again_by_a_process_that_is_started_later() {
    let prompt = |seconds| asked(PromptReason::Inactivity, seconds);
    let mut desk = Desk::new();
    shown(desk.sees(prompt(120)));
    // Killed: the notification is still there, and needs somebody who hears its buttons.
    let mut killed = desk.restarted();
    shown(killed.at(10).sees(prompt(110)));
    assert_eq!(killed.at(20).sees(prompt(100)), Change::Nothing);
    assert_eq!(killed.at(30).sees(in_session(State::Running)), Change::Withdraw);
    // It no longer holds when the next one comes.
    assert_eq!(desk.restarted().sees(in_session(State::Running)), Change::Withdraw);
    // Closed before.
    desk.notices.closed();
    assert_eq!(desk.restarted().at(10).sees(prompt(110)), Change::Nothing);
    // Another prompt is another one.
    shown(desk.restarted().at(500).sees(prompt(120)));
}

#[test]
fn a_suspension_offers_to_resume_and_names_what_would_be_lost() {
    let mut desk = Desk::new();
    let (title, body, buttons, urgent) = shown(desk.sees(suspended(300, &[])));
    assert_eq!(title, "Overside: Suspended");
    assert_eq!(body, "Frozen, at no cost, and deleted at 14:35. Any Docker command resumes it.");
    assert_eq!((buttons, urgent), (vec![Action::Resume], false));
    let (_, body, buttons, urgent) = shown(desk.sees(suspended(300, &["data", "cache"])));
    assert_eq!(body, "Deleted at 14:35, and with it: data, cache. Any Docker command resumes it.");
    assert_eq!((buttons, urgent), (vec![Action::Resume], true));
    assert_eq!(desk.at(2).sees(in_session(State::Running)), Change::Withdraw);
}

#[test]
fn work_that_was_deleted_is_named_until_something_new_begins() {
    let mut desk = Desk::new();
    desk.sees(suspended(300, &["data"]));
    desk.at(300).sees(in_session(State::Stopping));
    let (title, body, buttons, urgent) = shown(desk.at(301).sees(Status::quiet(State::Idle)));
    assert_eq!((title.as_str(), body.as_str()), ("Overside: Work was deleted", "Deleted with its environment: data"));
    assert_eq!((buttons, urgent), (vec![], true));
    assert_eq!(desk.at(400).sees(Status::quiet(State::Idle)), Change::Nothing);
    // A tray that is started again does not know the names any more, and leaves what is there.
    assert_eq!(desk.restarted().sees(Status::quiet(State::Idle)), Change::Nothing);
    assert_eq!(desk.at(500).sees(in_session(State::Starting)), Change::Withdraw);
    assert_eq!(desk.at(510).sees(Status::quiet(State::Idle)), Change::Nothing);
}

#[test]
fn who_turns_off_is_not_told_what_was_lost() {
    let mut desk = Desk::new();
    desk.sees(suspended(300, &["data"]));
    assert_eq!(desk.at(5).sees(in_session(State::Stopping)), Change::Withdraw);
    assert_eq!(desk.at(6).sees(Status::quiet(State::Stopped)), Change::Nothing);
}

#[test]
fn a_failure_is_told_once_however_often_it_is_tried_again() {
    let mut desk = Desk::new();
    let (title, body, buttons, urgent) = shown(desk.sees(failed("this machine has no dockerd")));
    assert_eq!(title, "Overside: Something failed");
    assert_eq!(body, "this machine has no dockerd. Install docker.io.");
    assert_eq!((buttons, urgent), (vec![Action::Retry], false));
    assert_eq!(desk.sees(Status::quiet(State::Starting)), Change::Withdraw);
    assert_eq!(desk.sees(failed("this machine has no dockerd")), Change::Nothing);
    desk.sees(Status::quiet(State::Starting));
    shown(desk.sees(failed("the disk is full")));
    // After a success the same failure is news again.
    desk.sees(in_session(State::Running));
    shown(desk.sees(failed("the disk is full")));
}

#[test]
fn a_lost_environment_is_told_and_a_connection_that_is_being_mended_is_not() {
    let with = |code, state| {
        let error = Some(Problem::new(code, "gone", ""));
        Desk::new().sees(Status { error, ..Status::quiet(state) })
    };
    let (_, _, buttons, _) = shown(with(ErrorCode::EnvironmentLost, State::Idle));
    assert_eq!(buttons, []);
    assert_eq!(with(ErrorCode::TunnelLost, State::Running), Change::Nothing);
    assert_eq!(with(ErrorCode::InvalidSettings, State::Idle), Change::Nothing);
}

#[test]
fn a_failure_is_told_in_the_users_language() {
    let mut desk = Desk { words: Arc::new(Words::of("zh-CN")), ..Desk::new() };
    let Change::Show(notice) = desk.sees(failed("no dockerd")) else { panic!("nothing") };
    assert_eq!(
        notice.body,
        "运行器上没有 Docker 引擎。请在运行器上安装 Docker 引擎；Debian 和 Ubuntu 上的软件包是 docker.io。"
    );
}

fn halting(paths: &[&str]) -> Status {
    Status { mounts: menu::tests::halting(paths), ..in_session(State::Running) }
}

#[test]
fn a_mount_that_waits_for_a_decision_is_told_once_and_withdrawn_when_it_goes_on() {
    let mut desk = Desk::new();
    let (title, body, buttons, urgent) = shown(desk.sees(halting(&["/src"])));
    assert_eq!(title, "Overside: Files need your decision");
    assert_eq!(
        body,
        "Gone, empty or of another kind on one side, or larger than allowed, and not synced until you decide: /src"
    );
    assert_eq!((buttons, urgent), (vec![Action::OpenMounts], true));
    assert_eq!(desk.sees(halting(&["/src"])), Change::Nothing);
    let (_, body, ..) = shown(desk.sees(halting(&["/src", "/data"])));
    assert!(body.ends_with("/src, /data"), "{body}");
    assert_eq!(desk.sees(in_session(State::Running)), Change::Withdraw);
}

#[test]
fn an_environment_that_is_not_deleted_because_files_are_left_says_so() {
    let error = Some(Problem::new(ErrorCode::FilesLeft, "2 files are not on this machine", "See `overside mounts`."));
    let (_, body, buttons, urgent) = shown(Desk::new().sees(Status { error, ..in_session(State::Stopping) }));
    assert_eq!(body, "2 files are not on this machine. See `overside mounts`.");
    assert_eq!((buttons, urgent), (vec![Action::OpenMounts], true));
}

#[test]
fn a_question_comes_before_everything_else() {
    let mut desk = Desk::new();
    let error = Some(Problem::new(ErrorCode::FairUse, "used up", ""));
    let (title, ..) = shown(desk.sees(Status { error: error.clone(), ..in_session(State::Running) }));
    assert_eq!(title, "Overside: Something failed");
    let (title, ..) = shown(desk.sees(Status { error, ..asked(PromptReason::LongSession, 600) }));
    assert_eq!(title, "Overside: Still needed?");
}

#[test]
fn who_wants_no_notifications_gets_none_and_the_one_that_is_there_goes() {
    let silent = DesktopSettings { notifications: false, ..DesktopSettings::default() };
    let mut desk = Desk::new();
    shown(desk.sees(asked(PromptReason::Inactivity, 120)));
    assert_eq!(desk.sees(Status { desktop: silent, ..asked(PromptReason::Inactivity, 120) }), Change::Withdraw);
    assert_eq!(desk.sees(Status { desktop: silent, ..suspended(300, &["data"]) }), Change::Nothing);
}

#[test]
fn a_daemon_that_goes_takes_its_question_with_it_and_does_not_ask_it_again() {
    let mut desk = Desk::new();
    shown(desk.sees(asked(PromptReason::Inactivity, 120)));
    assert_eq!(desk.at(10).follows(Link::Connecting), Change::Withdraw);
    assert_eq!(desk.at(12).sees(asked(PromptReason::Inactivity, 108)), Change::Nothing);
}

#[test]
fn every_notification_has_its_words_in_every_language() {
    for tag in ["en", "zh-CN"] {
        for status in [
            asked(PromptReason::Inactivity, 120),
            asked(PromptReason::LongSession, 120),
            suspended(300, &[]),
            suspended(300, &["a", "b", "c", "d"]),
            failed("x"),
            halting(&["/src"]),
        ] {
            let mut desk = Desk { words: Arc::new(Words::of(tag)), ..Desk::new() };
            let Change::Show(notice) = desk.sees(status) else { panic!("nothing") };
            let mut texts = vec![notice.title, notice.body];
            texts.extend(notice.buttons.into_iter().map(|(_, label)| label));
            for text in texts {
                let a_key = ["menu.", "notice.", "state."].iter().any(|key| text.contains(key));
                assert!(!a_key && !text.contains('{'), "{tag}: {text}");
            }
        }
    }
}
