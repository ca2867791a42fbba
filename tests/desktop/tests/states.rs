//! Every state, in the window and in the tray, on a daemon that is whatever the test says.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use overside_control::Command;
use overside_desktop_tests::{Desk, Page, Scripted, TrayHost, Xfce};
use overside_model::{
    AwakeReason, EnvironmentId, ErrorCode, IgnoredPoller, Problem, Progress, Prompt, PromptReason, SessionId,
    SessionStatus, State, Status,
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
    Status { session: session(1, false), progress: Some(progress), ..Status::quiet(State::Starting) }
}

fn running() -> Status {
    let awake = |kind: &str, detail: &str| AwakeReason { kind: kind.to_owned(), detail: detail.to_owned() };
    Status {
        session: session(754, true),
        awake_because: vec![awake("container", "web (nginx)"), awake("stream", "GET /containers/web/logs")],
        ignored_pollers: vec![IgnoredPoller { program: "code".to_owned(), calls: 132 }],
        ..Status::quiet(State::Running)
    }
}

fn suspended() -> Status {
    Status { session: session(1800, true), grace_remaining_seconds: Some(284), ..Status::quiet(State::Suspended) }
}

fn failed() -> Status {
    let problem = Problem::new(
        ErrorCode::EngineMissing,
        "this machine has no dockerd",
        "Install it with: apt-get install docker.io",
    );
    Status { error: Some(problem), ..Status::quiet(State::Failed) }
}

fn each() -> Vec<Status> {
    vec![
        Status::quiet(State::Stopped),
        Status::quiet(State::Idle),
        starting(),
        running(),
        suspended(),
        Status { session: session(2100, true), ..Status::quiet(State::Stopping) },
        failed(),
    ]
}

#[test]
fn every_state_has_its_icon_in_the_tray() {
    let desk = Desk::new().unwrap();
    let daemon = Scripted::start(&desk, Status::quiet(State::Stopped)).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    for status in each() {
        let name = match status.state {
            State::Suspended => "suspended-5",
            state => state.name(),
        };
        daemon.show(status);
        item.wait_for_icon(name).unwrap();
    }
    let pause = Status { grace_remaining_seconds: Some(3000), ..suspended() };
    daemon.show(pause);
    item.wait_for_icon("suspended").unwrap();
}

#[test]
fn a_real_panel_shows_the_icon_and_opens_the_menu() {
    // The colours of icons/tray.
    const GREEN: [u8; 3] = [0x25, 0x99, 0x4c];
    const BLUE: [u8; 3] = [0x2f, 0x7f, 0xd6];
    const ORANGE: [u8; 3] = [0xd9, 0x73, 0x0d];
    for (variables, suffix) in
        [(&[][..], "light-en"), (&[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")], "dark-zh")]
    {
        let desk = Desk::with(variables).unwrap();
        let daemon = Scripted::start(&desk, Status::quiet(State::Idle)).unwrap();
        let panel = Xfce::panel(&desk).unwrap();
        let _tray = desk.start_tray().unwrap();
        desk.picture(&format!("panel-idle-{suffix}"), BLUE).unwrap();
        daemon.show(running());
        desk.picture(&format!("panel-running-{suffix}"), GREEN).unwrap();
        panel.click(1268, 14, 3).unwrap();
        panel.wait_for_menu().unwrap();
        desk.picture(&format!("panel-menu-{suffix}"), GREEN).unwrap();
        // The menu follows while it is open.
        let prompt = Prompt { reason: PromptReason::Inactivity, answer_within_seconds: 110 };
        daemon.show(Status { awake_because: Vec::new(), prompt: Some(prompt), ..running() });
        desk.picture(&format!("panel-prompt-{suffix}"), ORANGE).unwrap();
    }
}

#[test]
fn the_minutes_in_the_icon_of_a_suspended_environment_count_down_by_themselves() {
    let desk = Desk::new().unwrap();
    let _daemon = Scripted::start(&desk, Status { grace_remaining_seconds: Some(122), ..suspended() }).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_icon("suspended-3").unwrap();
    item.wait_for_icon("suspended-2").unwrap();
}

#[test]
fn a_prompt_wants_attention_and_is_answered_from_the_menu() {
    let desk = Desk::new().unwrap();
    let prompt = Prompt { reason: PromptReason::Inactivity, answer_within_seconds: 110 };
    let asked = Status { awake_because: Vec::new(), prompt: Some(prompt), ..running() };
    let daemon = Scripted::start(&desk, running()).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_status("Active").unwrap();
    for answer in ["Ask me again later", "Idle now"] {
        daemon.show(asked.clone());
        item.wait_for_status("NeedsAttention").unwrap();
        item.wait_for_icon("prompt").unwrap();
        let menu = item.wait_for_menu(|menu| menu[0] == "(Overside: Still needed?)").unwrap();
        assert_eq!(menu[1..3], ["(Nothing has happened for a while.)", "(Suspends in 2m)"]);
        item.choose(answer).unwrap();
        item.wait_for_status("Active").unwrap();
        item.wait_for_menu(|menu| !menu.contains(&answer.to_owned()) || answer == "Idle now").unwrap();
    }
    assert_eq!(daemon.asked(), [Command::Later, Command::Idle]);
}

#[test]
fn a_suspended_environment_is_resumed_from_the_menu() {
    let desk = Desk::new().unwrap();
    let _daemon = Scripted::start(&desk, suspended()).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu[0] == "(Overside: Suspended)" && menu[1] == "(Deleted in 5m)").unwrap();
    item.choose("Resume").unwrap();
    item.wait_for_icon("running").unwrap();
}

#[test]
fn times_in_the_menu_are_of_the_moment_in_which_it_opens() {
    let desk = Desk::new().unwrap();
    let daemon = Scripted::start(&desk, Status { session: session(118, true), ..running() }).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu.contains(&"(Session: 1m)".to_owned())).unwrap();
    desk.wait_until("two minutes are over", || {
        item.open()?;
        Ok(item.menu()?.contains(&"(Session: 2m)".to_owned()))
    })
    .unwrap();
    drop(daemon);
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
    page.wait_for("document.querySelector('[role=timer]').textContent === '4:42'").unwrap();
}

/// Takes a picture of the window in every state.
fn pictures(variables: &[(&str, &str)], suffix: &str) -> Result<()> {
    let desk = Desk::with(variables)?;
    let daemon = Scripted::start(&desk, Status::quiet(State::Stopped))?;
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
