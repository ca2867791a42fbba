//! The tray on the real daemon, through the protocols that panels speak.

use overside_desktop_tests::{Desk, Page, SOON, TrayHost};
use overside_model::State;
use overside_testkit::{Running, signal_process};
use rustix::process::Signal;

fn off() -> Vec<&'static str> {
    vec![
        "(Overside: Off)",
        "(Today: 0m of 8h)",
        "-",
        "Turn on",
        "-",
        "Copy “docker context use overside”",
        "Open Overside",
        "Settings…",
        "-",
        "Quit this app (the daemon keeps running)",
    ]
}

#[test]
fn the_menu_turns_overside_on_and_off() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    // There is no daemon yet: the tray starts it.
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    item.wait_for_icon("stopped").unwrap();

    item.choose("Turn on").unwrap();
    item.wait_for_menu(|menu| menu[0] == "(Overside: Idle)" && menu.contains(&"Turn off".to_owned())).unwrap();
    item.wait_for_icon("idle").unwrap();
    assert_eq!(desk.state().unwrap(), State::Idle);

    desk.overside(&["stop"]).unwrap().success().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    desk.overside(&["start"]).unwrap().success().unwrap();
    item.wait_for_menu(|menu| menu.contains(&"Turn off".to_owned())).unwrap();
    item.choose("Turn off").unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    assert_eq!(desk.state().unwrap(), State::Stopped);
}

#[test]
fn quitting_ends_the_app_and_not_the_daemon() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    item.choose("Quit this app (the daemon keeps running)").unwrap();
    tray.finish(SOON).unwrap().success().unwrap();
    assert_eq!(desk.state().unwrap(), State::Stopped);
}

#[test]
fn a_tray_host_that_comes_late_or_again_gets_the_icon() {
    let desk = Desk::new().unwrap();
    let tray = desk.start_tray().unwrap();
    desk.wait_until("the tray runs without a host", || Ok(desk.state().is_ok())).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    host.item().unwrap().wait_for_menu(|menu| menu == off()).unwrap();
    drop(host);
    let host = TrayHost::start(&desk).unwrap();
    host.item().unwrap().wait_for_menu(|menu| menu == off()).unwrap();
    drop(tray);
}

#[test]
fn a_daemon_that_dies_is_missed_and_can_be_started_from_the_menu() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    for pid in desk.home().traces().programs("overside") {
        signal_process(pid, Signal::KILL).unwrap();
    }
    item.wait_for_menu(|menu| menu[0] == "(Overside: Not connected)").unwrap();
    item.wait_for_icon("away").unwrap();
    item.choose("Start the daemon").unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
}

#[test]
fn the_window_is_a_process_of_its_own_and_ends_with_the_app() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    let windows = || desk.home().traces().programs("overside-window").len();
    assert_eq!(windows(), 0);
    item.activate().unwrap();
    desk.wait_until("the window opens", || Ok(windows() == 1)).unwrap();

    let web = ["webkit", "gtk", "javascriptcore"];
    let loaded = fs_err::read_to_string(format!("/proc/{}/maps", tray.pid())).unwrap().to_lowercase();
    assert!(!web.iter().any(|library| loaded.contains(library)), "the tray loads a web toolkit: {loaded}");

    item.choose("Quit this app (the daemon keeps running)").unwrap();
    tray.finish(SOON).unwrap().success().unwrap();
    desk.wait_until("the window closes", || Ok(windows() == 0)).unwrap();
}

#[test]
fn starting_the_app_opens_its_window_and_starting_it_again_opens_no_other() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let start = || Running::spawn(&mut desk.program("overside-desktop").unwrap()).unwrap();
    let first = start();
    desk.wait_until("the window is on the bus", || host.knows("dev.overside.window.")).unwrap();
    let window = desk.home().traces().programs("overside-window");
    // Both at once, as an impatient user clicks.
    let others = [start(), start()];
    for other in others {
        other.finish(SOON).unwrap().success().unwrap();
    }
    assert_eq!(desk.home().traces().programs("overside-window"), window);
    first.signal(Signal::TERM).unwrap();
    first.finish(SOON).unwrap().success().unwrap();
}

#[test]
fn the_menu_speaks_chinese_to_a_chinese_user() {
    let desk = Desk::with(&[("LANG", "zh_CN.UTF-8")]).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let chinese = [
        "(Overside：已关闭)",
        "(今日：0分钟，上限 8小时)",
        "-",
        "开启",
        "-",
        "复制“docker context use overside”",
        "打开 Overside",
        "设置…",
        "-",
        "退出本应用（守护进程继续运行）",
    ];
    host.item().unwrap().wait_for_menu(|menu| menu == chinese).unwrap();
}

#[test]
fn the_language_of_the_settings_counts_at_once() {
    let desk = Desk::with(&[("LANG", "zh_CN.UTF-8")]).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu[0] == "(Overside：已关闭)").unwrap();
    desk.overside(&["settings", "set", "language", "en"]).unwrap().success().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
}

#[test]
fn starting_at_login_is_a_setting_that_the_daemon_keeps() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    desk.overside(&["start"]).unwrap().success().unwrap();
    let place = desk.home().scratch().join("user/.config/autostart");
    let entries = || fs_err::read_dir(&place).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    desk.overside(&["settings", "set", "start-at-login", "true"]).unwrap().success().unwrap();
    let entry = fs_err::read_to_string(entries()[0].path()).unwrap();
    let command = entry.lines().find_map(|line| line.strip_prefix("Exec=")).unwrap();
    {
        // What the desktop does at the next login.
        let _tray = Running::spawn(desk.home().command("sh").args(["-c", &format!("exec {command}")])).unwrap();
        host.item().unwrap().wait_for_icon("idle").unwrap();
    }
    desk.overside(&["settings", "set", "start-at-login", "false"]).unwrap().success().unwrap();
    assert_eq!(entries().len(), 0);
}

#[test]
fn the_command_that_selects_the_context_can_be_pasted() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    // Twice: the second text replaces the first.
    for _ in 0..2 {
        item.choose("Copy “docker context use overside”").unwrap();
        desk.wait_until("it is on the clipboard", || Ok(desk.clipboard()? == "docker context use overside")).unwrap();
    }
}

#[test]
fn settings_lead_to_the_page_of_settings_in_a_window_that_is_open_already_too() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu == off()).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.wait_for("document.querySelector('#tab-session').ariaSelected === 'true'").unwrap();
    item.choose("Settings…").unwrap();
    page.wait_for("document.querySelector('#tab-settings').ariaSelected === 'true'").unwrap();
    assert_eq!(desk.home().traces().programs("overside-window").len(), 1);
}
