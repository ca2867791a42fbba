//! A whole session as the window shows it: the real daemon, a real engine, a real docker client.

use std::time::Duration;

use anyhow::{Context as _, Result};
use overside_desktop_tests::{Desk, Page};
use overside_testkit::{Running, clients};

/// A cold start on a small busy machine.
const START: Duration = Duration::from_secs(60);

/// Goes through a session, with pictures.
fn session(variables: &[(&str, &str)], suffix: &str) -> Result<()> {
    let desk = Desk::with(variables)?;
    let page = Page::open(&desk)?;
    page.wait_for_state("stopped")?;
    page.click("[role=switch]")?;
    page.wait_for_state("idle")?;

    // Every state that the page goes through, noted by the page itself.
    page.record_states()?;
    let docker = clients()?.into_iter().next().context("there is no docker client")?;
    let call = Running::spawn(&mut desk.home().docker(&docker, &["volume", "create", "data"])?)?;
    page.wait_for_state("starting")?;
    page.screenshot(&format!("session-starting-{suffix}"))?;
    call.finish(START)?.success()?;
    page.wait_for_state("running")?;
    assert_eq!(page.recorded_states()?, ["idle", "starting", "running"]);
    page.wait_for("document.querySelector('[aria-labelledby=session]').innerText.includes('e-')")?;
    page.screenshot(&format!("session-running-{suffix}"))?;

    desk.overside(&["idle"])?.success()?;
    page.wait_for_state("suspended")?;
    // The grace period of five minutes has begun.
    page.wait_for("document.querySelector('[role=timer]').textContent.startsWith('4:')")?;

    // What would be lost is named first.
    page.click("[role=switch]")?;
    page.wait_for("document.querySelector('[role=alert]')?.innerText.includes('data')")?;
    page.screenshot(&format!("session-refused-{suffix}"))?;
    page.click("[role=alert] button")?;
    page.wait_for_state("stopped")?;
    desk.wait_until("the agent ends", || Ok(desk.home().traces().agents().is_empty()))
}

#[test]
fn a_session_is_shown_from_cold_to_running_to_suspended_to_off() -> Result<()> {
    session(&[], "light-en")
}

#[test]
fn a_session_is_shown_in_chinese_and_dark() -> Result<()> {
    session(&[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")], "dark-zh")
}
