//! The window on the real daemon, in a real web view.

use overside_desktop_tests::{Desk, Page};
use overside_model::State;
use serde_json::Value;

/// WebDriver's name for the right arrow key.
const RIGHT: &str = "\u{e014}";
const DOWN: &str = "\u{e015}";
const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";
const SPACE: &str = " ";

const SWITCH: &str = "[role=switch]";
const SLIDER: &str = "#idle-timeout";
const FIELD: &str = "#idle-timeout-value";

/// What the settings file says; null before there is one.
fn setting(desk: &Desk, name: &str) -> Value {
    let text = fs_err::read_to_string(desk.home().overside_home().join("settings.json")).unwrap_or_default();
    serde_json::from_str::<Value>(&text).unwrap_or_default()[name].clone()
}

#[test]
fn turning_on_makes_the_daemon_idle_and_what_others_do_is_seen_at_once() {
    let desk = Desk::new().unwrap();
    // There is no daemon yet: the window starts it.
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.screenshot("stopped-light-en").unwrap();

    page.click(SWITCH).unwrap();
    page.wait_for_state("idle").unwrap();
    page.wait_for(&format!("document.querySelector('{SWITCH}').ariaChecked === 'true'")).unwrap();
    assert_eq!(desk.state().unwrap(), State::Idle);
    page.screenshot("idle-light-en").unwrap();

    desk.overside(&["stop"]).unwrap().success().unwrap();
    page.wait_for_state("stopped").unwrap();
    desk.overside(&["start"]).unwrap().success().unwrap();
    page.wait_for_state("idle").unwrap();

    page.click(SWITCH).unwrap();
    page.wait_for_state("stopped").unwrap();
    assert_eq!(desk.state().unwrap(), State::Stopped);
}

#[test]
fn sliding_the_idle_timeout_changes_the_settings_file() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.go_to("settings").unwrap();
    page.wait_for(&format!("document.querySelector('{FIELD}').value === '5m'")).unwrap();

    page.keys(SLIDER, RIGHT).unwrap();
    page.wait_for(&format!("document.querySelector('{FIELD}').value === '10m'")).unwrap();
    page.wait_for(&format!("document.querySelector('{SLIDER}').getAttribute('aria-valuetext') === '10 minutes'"))
        .unwrap();
    desk.wait_until("the settings file has it", || Ok(setting(&desk, "idle-timeout") == "10m")).unwrap();

    page.clear(FIELD).unwrap();
    page.keys(FIELD, &format!("90s{ENTER}")).unwrap();
    page.wait_for(&format!("document.querySelector('{FIELD}').value === '1m30s'")).unwrap();
    assert_eq!(setting(&desk, "idle-timeout"), "1m30s");
}

#[test]
fn a_refused_value_is_explained_beside_its_field() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.go_to("settings").unwrap();
    page.wait_for(&format!("document.querySelector('{FIELD}').value === '5m'")).unwrap();
    page.clear(FIELD).unwrap();
    page.keys(FIELD, &format!("2h{ENTER}")).unwrap();
    page.wait_for("document.querySelector('#idle-timeout-problem')").unwrap();
    let said = page.text("#idle-timeout-problem").unwrap();
    assert!(said.contains("10s to 1h"), "{said}");
    page.wait_for(&format!("document.querySelector('{FIELD}').ariaInvalid === 'true'")).unwrap();
    page.screenshot("refused-light-en").unwrap();

    page.clear(FIELD).unwrap();
    page.keys(FIELD, &format!("30m{ENTER}")).unwrap();
    page.wait_for("!document.querySelector('#idle-timeout-problem')").unwrap();
    desk.wait_until("the settings file has it", || Ok(setting(&desk, "idle-timeout") == "30m")).unwrap();
}

#[test]
fn the_keyboard_alone_suffices() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    let focused = |selector: &str| {
        page.wait_for(&format!("document.activeElement === document.querySelector('{selector}')")).unwrap();
    };
    page.keys("body", TAB).unwrap();
    focused("#tab-session");
    page.keys("#tab-session", DOWN).unwrap();
    focused("#tab-settings");
    page.keys("#tab-settings", TAB).unwrap();
    focused(SWITCH);
    page.keys(SWITCH, SPACE).unwrap();
    page.wait_for_state("idle").unwrap();
    focused(SWITCH);
    page.keys(SWITCH, TAB).unwrap();
    focused(FIELD);
    page.keys(FIELD, TAB).unwrap();
    focused(SLIDER);
}

#[test]
fn a_daemon_that_dies_is_missed_and_can_be_started_again() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    for pid in desk.home().traces().programs("overside") {
        overside_testkit::signal_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    page.wait_for_state("away").unwrap();
    page.screenshot("away-light-en").unwrap();
    page.click("section button").unwrap();
    page.wait_for_state("stopped").unwrap();
    assert_eq!(desk.state().unwrap(), State::Stopped);
}

#[test]
fn a_daemon_that_comes_back_by_itself_is_found() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    for pid in desk.home().traces().programs("overside") {
        overside_testkit::signal_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    page.wait_for_state("away").unwrap();
    let daemon = overside_testkit::Daemon::start(desk.home()).unwrap();
    page.wait_for_state("stopped").unwrap();
    drop(page);
    daemon.terminate().unwrap();
}

#[test]
fn a_chinese_user_reads_chinese() {
    let desk = Desk::with(&[("LANG", "zh_CN.UTF-8")]).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    assert_eq!(page.text("#state").unwrap(), "已关闭");
    page.wait_for("document.documentElement.lang === 'zh-CN'").unwrap();
    page.click(SWITCH).unwrap();
    page.wait_for_state("idle").unwrap();
    page.screenshot("idle-light-zh").unwrap();
}

#[test]
fn dark_desktops_get_a_dark_window() {
    let desk = Desk::with(&[("GTK_THEME", "Adwaita:dark")]).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.wait_for("matchMedia('(prefers-color-scheme: dark)').matches").unwrap();
    page.click(SWITCH).unwrap();
    page.wait_for_state("idle").unwrap();
    page.screenshot("idle-dark-en").unwrap();
}

#[test]
fn a_second_window_gives_way_to_the_first() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    let second = overside_testkit::run(&mut desk.program("overside-window").unwrap(), overside_desktop_tests::SOON);
    second.unwrap().success().unwrap();
    assert_eq!(desk.home().traces().programs("overside-window").len(), 1);
    page.wait_for_state("stopped").unwrap();
}
