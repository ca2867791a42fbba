//! Every state, in the window and in the tray, on a daemon that is whatever the test says.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use overside_desktop_tests::{Desk, Page, Scripted, TrayHost, quiet};
use overside_model::{
    AwakeReason, EnvironmentId, ErrorCode, IgnoredPoller, Problem, Progress, SessionId, SessionStatus, State, Status,
};

/// A session that began some seconds ago.
fn session(seconds_ago: i64, environment: bool) -> Option<SessionStatus> {
    let started_at = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
    Some(SessionStatus {
        id: SessionId::from_random(0x1234_5678_9abc),
        started_at: started_at.to_string(),
        environment: environment.then(|| EnvironmentId::from_random(0x9f3c_21ab_77de)),
        notes: Vec::new(),
    })
}

fn starting() -> Status {
    let progress = Progress { step: "network".to_owned(), detail: "connecting the environment".to_owned() };
    Status { session: session(1, false), progress: Some(progress), ..quiet(State::Starting) }
}

fn running() -> Status {
    let awake = |kind: &str, detail: &str| AwakeReason { kind: kind.to_owned(), detail: detail.to_owned() };
    Status {
        session: session(754, true),
        awake_because: vec![awake("container", "web (nginx)"), awake("stream", "GET /containers/web/logs")],
        ignored_pollers: vec![IgnoredPoller { program: "code".to_owned(), calls: 132 }],
        ..quiet(State::Running)
    }
}

fn suspended() -> Status {
    Status { session: session(1800, true), grace_remaining_seconds: Some(284), ..quiet(State::Suspended) }
}

fn failed() -> Status {
    let problem = Problem::new(
        ErrorCode::EngineMissing,
        "this machine has no dockerd",
        "Install it with: apt-get install docker.io",
    );
    Status { error: Some(problem), ..quiet(State::Failed) }
}

fn each() -> Vec<Status> {
    vec![
        quiet(State::Stopped),
        quiet(State::Idle),
        starting(),
        running(),
        suspended(),
        Status { session: session(2100, true), ..quiet(State::Stopping) },
        failed(),
    ]
}

#[test]
fn every_state_has_its_icon_in_the_tray() {
    let desk = Desk::new().unwrap();
    let daemon = Scripted::start(&desk, quiet(State::Stopped)).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    for status in each() {
        let name = status.state.name();
        daemon.show(status);
        item.wait_for_icon(name).unwrap();
    }
}

#[test]
fn a_turning_off_that_would_lose_work_is_refused_in_the_menu_until_forced() {
    let desk = Desk::new().unwrap();
    let _daemon = Scripted::start(&desk, running()).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu[0] == "(Overside: Running)").unwrap();
    item.choose("Turn off").unwrap();
    let why = "(1 container is running and would be deleted: web)".to_owned();
    item.wait_for_menu(|menu| menu.contains(&why)).unwrap();
    item.choose("Turn off anyway").unwrap();
    item.wait_for_menu(|menu| menu[0] == "(Overside: Off)" && !menu.contains(&why)).unwrap();
}

#[test]
fn a_turning_off_that_would_lose_work_is_refused_in_the_window_until_forced() {
    let desk = Desk::new().unwrap();
    let _daemon = Scripted::start(&desk, running()).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("running").unwrap();
    page.click("[role=switch]").unwrap();
    page.wait_for("document.querySelector('[data-code=request-refused]')").unwrap();
    page.screenshot("refused-off-light-en").unwrap();
    page.click("[data-code=request-refused] button").unwrap();
    page.wait_for_state("stopped").unwrap();
    page.wait_for("!document.querySelector('[data-code=request-refused]')").unwrap();
}

#[test]
fn countdowns_go_on_between_the_words_of_the_daemon() {
    let desk = Desk::new().unwrap();
    let _daemon = Scripted::start(&desk, suspended()).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for("[...document.querySelectorAll('dd')].some((each) => each.textContent === '4:42')").unwrap();
}

/// Takes a picture of the window in every state.
fn pictures(variables: &[(&str, &str)], suffix: &str) -> Result<()> {
    let desk = Desk::with(variables)?;
    let daemon = Scripted::start(&desk, quiet(State::Stopped))?;
    let page = Page::open(&desk)?;
    for status in each() {
        let name = status.state.name();
        daemon.show(status);
        page.wait_for_state(name)?;
        page.screenshot(&format!("{name}-{suffix}"))?;
    }
    Ok(())
}

#[test]
fn every_state_is_shown_in_english_and_light() {
    pictures(&[], "light-en").unwrap();
}

#[test]
fn every_state_is_shown_in_chinese_and_dark() {
    pictures(&[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")], "dark-zh").unwrap();
}
