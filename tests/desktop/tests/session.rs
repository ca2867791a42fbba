//! A whole session as the window shows it: the real daemon, a real engine, a real docker client.

use std::time::Duration;

use overside_desktop_tests::{Desk, Page};
use overside_testkit::{clients, run};

/// A cold start on a small busy machine.
const START: Duration = Duration::from_secs(60);

#[test]
fn a_session_is_shown_from_cold_to_running_to_suspended_to_off() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.click("[role=switch]").unwrap();
    page.wait_for_state("idle").unwrap();

    // Every state that the page goes through, noted by the page itself.
    page.record_states().unwrap();
    let docker = clients().unwrap().into_iter().next().expect("there is a docker client");
    let mut call = desk.home().docker(&docker, &["volume", "create", "data"]).unwrap();
    run(&mut call, START).unwrap().success().unwrap();
    page.wait_for_state("running").unwrap();
    assert_eq!(page.recorded_states().unwrap(), ["idle", "starting", "running"]);
    page.wait_for("document.querySelector('#session').parentElement.innerText.includes('e-')").unwrap();
    page.screenshot("session-running-light-en").unwrap();

    desk.overside(&["idle"]).unwrap().success().unwrap();
    page.wait_for_state("suspended").unwrap();
    // The grace period of five minutes has begun.
    page.wait_for("[...document.querySelectorAll('dd')].some((each) => each.textContent.startsWith('4:'))").unwrap();

    page.click("[role=switch]").unwrap();
    page.wait_for_state("stopped").unwrap();
    desk.wait_until("the agent ends", || Ok(desk.home().traces().agents().is_empty())).unwrap();
}
