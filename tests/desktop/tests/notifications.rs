//! What the user is told without having looked, through the real protocol: by a server that remembers, and by dunst.

use jiff::{SignedDuration, Timestamp};
use overside_control::Command;
use overside_desktop_tests::{Asked, Desk, Dunst, NoticeServer, Page, SOON, Scripted, TrayHost, Xfce};
use overside_model::{
    DesktopSettings, ErrorCode, Problem, Prompt, PromptReason, SessionId, SessionStatus, State, Status, Work, WorkKind,
};
use rustix::process::Signal;

fn in_session(state: State) -> Status {
    let session = SessionStatus {
        id: SessionId::from_random(7),
        started_at: (Timestamp::now() - SignedDuration::from_secs(600)).to_string(),
        environment: None,
        notes: Vec::new(),
    };
    Status { session: Some(session), ..Status::quiet(state) }
}

fn asked(seconds: u64) -> Status {
    let prompt = Prompt { reason: PromptReason::Inactivity, answer_within_seconds: seconds };
    Status { prompt: Some(prompt), idle_in_seconds: Some(seconds), ..in_session(State::Running) }
}

fn suspended(at_risk: &[&str]) -> Status {
    let work = |name: &&str| Work { kind: WorkKind::Volume, name: (*name).to_owned(), kept_in: None };
    Status {
        grace_remaining_seconds: Some(300),
        at_risk: at_risk.iter().map(work).collect(),
        ..in_session(State::Suspended)
    }
}

fn failed() -> Status {
    let problem = Problem::new(ErrorCode::EngineMissing, "this machine has no <dockerd>", "Install docker.io.");
    Status { error: Some(problem), ..Status::quiet(State::Failed) }
}

#[test]
fn a_prompt_is_answered_by_each_of_its_buttons() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let daemon = Scripted::start(&desk, in_session(State::Running)).unwrap();
    let _tray = desk.start_tray().unwrap();
    daemon.show(asked(120));
    let prompt = server.shown().unwrap();
    assert_eq!(prompt.title, "Overside: Still needed?");
    assert!(prompt.body.starts_with("Nothing has happened for a while. Without an answer"), "{prompt:?}");
    assert_eq!(
        (prompt.buttons.as_slice(), prompt.urgent),
        (&["Ask me again later".into(), "Idle now".into()][..], true)
    );
    server.click(&prompt, "Ask me again later").unwrap();
    daemon.wait_until_asked(&[Command::Later]).unwrap();

    // For another reason: to a tray that has slept since, the same would be the one that was answered.
    let mut long = asked(130);
    long.prompt.as_mut().unwrap().reason = PromptReason::LongSession;
    daemon.show(long);
    let prompt = server.shown().unwrap();
    server.click(&prompt, "Idle now").unwrap();
    daemon.wait_until_asked(&[Command::Later, Command::Idle]).unwrap();
    assert_eq!(server.shown().unwrap().title, "Overside: Suspended");
}

#[test]
fn a_prompt_that_is_answered_elsewhere_is_withdrawn() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let daemon = Scripted::start(&desk, asked(120)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let prompt = server.shown().unwrap();
    daemon.show(asked(119));
    daemon.show(in_session(State::Running));
    assert_eq!(server.asked().unwrap(), Asked::Close(prompt.id));
}

#[test]
fn one_notification_takes_the_place_of_the_one_before() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let daemon = Scripted::start(&desk, asked(120)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let prompt = server.shown().unwrap();
    daemon.show(suspended(&[]));
    let notice = server.shown().unwrap();
    assert_eq!((notice.title.as_str(), notice.replaces), ("Overside: Suspended", prompt.id));
    assert_eq!((notice.buttons.as_slice(), notice.urgent), (&["Resume".to_owned()][..], false));
    daemon.show(suspended(&["data", "cache"]));
    let notice = server.shown().unwrap();
    assert!(notice.body.contains("and with it: data, cache."), "{notice:?}");
    assert_eq!((notice.replaces, notice.urgent), (prompt.id, true));
    daemon.show(Status::quiet(State::Idle));
    let notice = server.shown().unwrap();
    assert_eq!(notice.body, "Deleted with its environment: data, cache");
    daemon.show(Status::quiet(State::Starting));
    assert_eq!(server.asked().unwrap(), Asked::Close(prompt.id));
    daemon.show(failed());
    let notice = server.shown().unwrap();
    // The server said that it takes markup.
    assert_eq!(notice.body, "this machine has no &lt;dockerd&gt;. Install docker.io.");
    assert_eq!((notice.replaces, notice.buttons.as_slice()), (0, &["Try again".to_owned()][..]));
    server.click(&notice, "Try again").unwrap();
    daemon.wait_until_asked(&[Command::Retry]).unwrap();
}

#[test]
fn a_suspended_environment_is_resumed_from_its_notification() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let daemon = Scripted::start(&desk, suspended(&[])).unwrap();
    let _tray = desk.start_tray().unwrap();
    let notice = server.shown().unwrap();
    server.click(&notice, "Resume").unwrap();
    daemon.wait_until_asked(&[Command::Resume]).unwrap();
}

#[test]
fn a_tray_that_was_killed_takes_its_notification_over_and_tells_nothing_twice() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let daemon = Scripted::start(&desk, asked(120)).unwrap();
    let tray = desk.start_tray().unwrap();
    let prompt = server.shown().unwrap();
    let kept = |what: &str| {
        let file = desk.home().control_socket().with_file_name("notice.json");
        let holds = || Ok(fs_err::read_to_string(&file).is_ok_and(|text| text.contains(what)));
        desk.wait_until(&format!("{what} is kept"), holds).unwrap();
    };
    kept(r#""id":1"#);
    tray.signal(Signal::KILL).unwrap();
    tray.finish(SOON).unwrap();

    let tray = desk.start_tray().unwrap();
    let again = server.shown().unwrap();
    assert_eq!((again.id, again.replaces), (prompt.id, prompt.id));
    server.close(&again).unwrap();
    kept(r#""open":false"#);
    tray.signal(Signal::KILL).unwrap();
    tray.finish(SOON).unwrap();

    let _tray = desk.start_tray().unwrap();
    daemon.wait_for_followers(1).unwrap();
    daemon.show(suspended(&[]));
    assert_eq!(server.shown().unwrap().title, "Overside: Suspended");
}

#[test]
fn quitting_takes_the_notification_away_whose_buttons_nobody_would_hear() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let _daemon = Scripted::start(&desk, asked(120)).unwrap();
    let tray = desk.start_tray().unwrap();
    let prompt = server.shown().unwrap();
    tray.signal(Signal::TERM).unwrap();
    tray.finish(SOON).unwrap().success().unwrap();
    assert_eq!(server.rest(), [Asked::Close(prompt.id)]);
}

#[test]
fn a_daemon_that_is_killed_takes_its_question_with_it_and_comes_back_without_asking_it_again() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let daemon = Scripted::start(&desk, asked(120)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let prompt = server.shown().unwrap();
    drop(daemon);
    assert_eq!(server.asked().unwrap(), Asked::Close(prompt.id));
    let daemon = Scripted::start(&desk, asked(118)).unwrap();
    daemon.wait_for_followers(1).unwrap();
    daemon.show(suspended(&[]));
    assert_eq!(server.shown().unwrap().title, "Overside: Suspended");
}

#[test]
fn who_wants_no_notifications_gets_none() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, true).unwrap();
    let silent = DesktopSettings { notifications: false, ..DesktopSettings::default() };
    let daemon = Scripted::start(&desk, Status { desktop: silent, ..asked(120) }).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    // The icon asks all the same.
    host.item().unwrap().wait_for_icon("prompt").unwrap();
    daemon.show(suspended(&[]));
    assert_eq!(server.shown().unwrap().title, "Overside: Suspended");
}

#[test]
fn where_the_server_has_no_buttons_a_small_window_asks_and_goes_when_it_is_answered_elsewhere() {
    let desk = Desk::new().unwrap();
    let server = NoticeServer::start(&desk, false).unwrap();
    let daemon = Scripted::start(&desk, asked(120)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let windows = || desk.home().traces().programs("overside-window").len();
    desk.wait_until("the window opens", || Ok(windows() == 1)).unwrap();
    daemon.show(in_session(State::Running));
    desk.wait_until("the window closes", || Ok(windows() == 0)).unwrap();
    assert_eq!(server.rest(), []);
    // What needs no answer is told without buttons.
    daemon.show(suspended(&[]));
    assert_eq!(server.shown().unwrap().buttons, Vec::<String>::new());
}

#[test]
fn where_there_is_no_server_a_small_window_asks() {
    let desk = Desk::new().unwrap();
    let _daemon = Scripted::start(&desk, asked(120)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let windows = || desk.home().traces().programs("overside-window").len();
    desk.wait_until("the window opens", || Ok(windows() == 1)).unwrap();
}

#[test]
fn dunst_shows_a_prompt_and_its_buttons_answer_it() {
    let desk = Desk::new().unwrap();
    let dunst = Dunst::start(&desk).unwrap();
    let daemon = Scripted::start(&desk, in_session(State::Running)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let mut answers = Vec::new();
    for (seconds, label, answer) in [(120, "Ask me again later", Command::Later), (140, "Idle now", Command::Idle)] {
        daemon.show(asked(seconds));
        dunst.wait_until_shown("Overside: Still needed?").unwrap();
        dunst.choose(label).unwrap();
        answers.push(answer);
        daemon.wait_until_asked(&answers).unwrap();
    }
    dunst.wait_until_shown("Overside: Suspended").unwrap();
    daemon.show(in_session(State::Running));
    dunst.wait_until_empty().unwrap();
}

#[test]
fn xfce_shows_a_prompt_and_its_buttons_answer_it() {
    let desk = Desk::new().unwrap();
    let server = Xfce::notifications(&desk).unwrap();
    let daemon = Scripted::start(&desk, in_session(State::Running)).unwrap();
    let _tray = desk.start_tray().unwrap();
    let mut answers = Vec::new();
    // Where the buttons are, from the notification's lower right corner.
    for (seconds, left, answer) in [(120, 224, Command::Later), (140, 82, Command::Idle)] {
        daemon.show(asked(seconds));
        let [x, y, width, height] = server.notification().unwrap();
        desk.picture("xfce-prompt-light-en", [0xff, 0xff, 0xff]).unwrap();
        server.click(x + width - left, y + height - 31, 1).unwrap();
        answers.push(answer);
        daemon.wait_until_asked(&answers).unwrap();
        if answer == Command::Later {
            server.wait_until_empty().unwrap();
        }
    }
    // Suspended is told in its place.
    server.notification().unwrap();
    daemon.show(in_session(State::Running));
    server.wait_until_empty().unwrap();
}

#[test]
fn the_small_window_asks_and_passes_the_answer_on() {
    let dark = [("GTK_THEME", "Adwaita:dark"), ("LANG", "zh_CN.UTF-8")];
    for (variables, button, answer, name) in [
        (&[][..], ".answers button.primary", Command::Later, "question-light-en"),
        (&dark[..], ".answers button:nth-of-type(2)", Command::Idle, "question-dark-zh"),
    ] {
        let desk = Desk::with(variables).unwrap();
        let daemon = Scripted::start(&desk, asked(110)).unwrap();
        let page = Page::open_with(&desk, &["--prompt"]).unwrap();
        page.wait_for("document.querySelector('.answers button.primary')").unwrap();
        page.screenshot(name).unwrap();
        page.click_that_closes(button);
        daemon.wait_until_asked(&[answer]).unwrap();
        let windows = || desk.home().traces().programs("overside-window").len();
        desk.wait_until("the window closes", || Ok(windows() == 0)).unwrap();
    }
}
