//! Where something is missing that a desktop usually has: it is said, and the rest works.

use overside_control::Command;
use overside_desktop_tests::{Desk, Page, SOON, Scripted, TrayHost};
use overside_model::{State, Status};
use overside_testkit::{Running, Setup, Sshd, run};

#[test]
fn without_a_display_the_window_says_so_and_names_the_way_out() {
    let desk = Desk::new().unwrap();
    let mut command = desk.program("overside-window").unwrap();
    let outcome = run(command.env_remove("DISPLAY"), SOON).unwrap();
    assert_eq!(outcome.code(), 1);
    assert!(outcome.err().contains("there is no display"), "{outcome:?}");
    assert!(outcome.err().contains("overside status"), "{outcome:?}");
}

#[test]
fn without_a_display_the_tray_works() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let mut command = desk.program("overside-desktop").unwrap();
    let _tray = Running::spawn(command.env_remove("DISPLAY")).unwrap();
    let item = host.item().unwrap();
    item.wait_for_menu(|menu| menu.contains(&"Turn on".to_owned())).unwrap();
    item.choose("Turn on").unwrap();
    item.wait_for_menu(|menu| menu[0] == "(Overside: Idle)").unwrap();
}

#[test]
fn without_a_bus_the_daemon_is_started_and_the_tray_waits() {
    let desk = Desk::new().unwrap();
    let mut command = desk.program("overside-desktop").unwrap();
    command.arg("--background").env_remove("DBUS_SESSION_BUS_ADDRESS");
    let tray = Running::spawn(&mut command).unwrap();
    desk.wait_until("the daemon answers", || Ok(desk.state().is_ok())).unwrap();
    assert_eq!(desk.state().unwrap(), State::Stopped);
    tray.wait_for_error("there is no session bus", SOON).unwrap();
    tray.signal(rustix::process::Signal::TERM).unwrap();
    tray.finish(SOON).unwrap().success().unwrap();
}

#[test]
fn without_a_bus_the_window_works() {
    let desk = Desk::with(&[("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")]).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.click("[role=switch]").unwrap();
    page.wait_for_state("idle").unwrap();
}

#[test]
fn without_a_secret_service_a_passphrase_opens_its_key_and_the_window_says_that_it_is_not_kept() {
    let desk = Desk::new().unwrap();
    let sshd = Sshd::start(desk.home(), Setup::default()).unwrap();
    let ssh = desk.home().scratch().join("user/.ssh");
    let mut keygen = desk.home().command("ssh-keygen");
    keygen.args(["-q", "-p", "-P", "", "-N", "open sesame", "-f"]).arg(ssh.join("id_ed25519"));
    run(&mut keygen, SOON).unwrap().success().unwrap();
    let host = format!("Host build-box\nHostName 127.0.0.1\nPort {}\nUser root\n", sshd.port());
    fs_err::write(ssh.join("config"), host).unwrap();

    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.press("Add a machine by SSH…").unwrap();
    page.wait_for("document.querySelector('[aria-labelledby=offered] button')").unwrap();
    page.press("build-box").unwrap();
    page.press("Add and test").unwrap();
    page.wait_for("document.querySelector('[data-question=host-key]').innerText.includes('SHA256:')").unwrap();
    page.press("It is: trust it").unwrap();
    page.wait_for("document.querySelector('[data-question=passphrase]')").unwrap();
    page.click("[data-question] [type=checkbox]").unwrap();
    page.keys("[data-question] [type=password]", "open sesame\u{e007}").unwrap();
    page.wait_for("document.querySelector('[data-code=keyring-unavailable]')").unwrap();
    let said = page.text("[data-code=keyring-unavailable]").unwrap();
    assert!(said.contains("no Secret Service here") && said.contains("ssh-add"), "{said}");
    page.wait_for("document.querySelector('[data-runner=build-box] input').checked").unwrap();
    desk.overside(&["runner", "test", "build-box"]).unwrap().success().unwrap();
    page.screenshot("no-secret-service-light-en").unwrap();
}

#[test]
fn a_daemon_older_than_the_app_is_named_and_used_and_can_be_restarted_while_nothing_is_lost() {
    let desk = Desk::new().unwrap();
    let older = |state| Status { version: "0.0.9".to_owned(), ..Status::quiet(state) };
    let daemon = Scripted::start(&desk, older(State::Stopped)).unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    let item = host.item().unwrap();
    let said = format!("(The daemon is of version 0.0.9, this app of {})", env!("CARGO_PKG_VERSION"));
    item.wait_for_menu(|menu| menu.contains(&said)).unwrap();

    let page = Page::open(&desk).unwrap();
    page.wait_for("document.querySelector('[data-other-version]').innerText.includes('version 0.0.9')").unwrap();
    page.screenshot("older-daemon-light-en").unwrap();
    page.click("[role=switch]").unwrap();
    daemon.wait_until_asked(&[Command::Enable]).unwrap();

    daemon.show(older(State::Idle));
    item.wait_for_menu(|menu| menu[0] == "(Overside: Idle)" && menu.contains(&said)).unwrap();
    item.choose("Restart the daemon").unwrap();
    daemon.wait_until_asked(&[Command::Enable, Command::Shutdown]).unwrap();
}

#[test]
fn a_second_tray_leaves_the_first_alone() {
    let desk = Desk::new().unwrap();
    let host = TrayHost::start(&desk).unwrap();
    let _tray = desk.start_tray().unwrap();
    host.item().unwrap();
    desk.start_tray().unwrap().finish(SOON).unwrap().success().unwrap();
    assert_eq!(desk.home().traces().programs("overside-desktop").len(), 1);
}

#[test]
fn a_daemon_that_is_not_installed_is_named() {
    let desk = Desk::with(&[("OVERSIDE_DAEMON", "/nowhere/overside")]).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("away").unwrap();
    let said = page.text("main").unwrap();
    assert!(said.contains("cannot start /nowhere/overside"), "{said}");
}
