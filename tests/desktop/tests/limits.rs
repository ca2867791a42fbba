//! What an organisation locks, what a runner refuses and what its user changes, on the real daemon, with pictures.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use overside_desktop_tests::{Desk, Page, SOON};
use overside_testkit::{Running, clients};
use rustix::process::Signal;
use serde_json::json;

/// WebDriver's name for the right arrow key.
const RIGHT: &str = "\u{e014}";

/// An address of this machine where nobody listens.
fn refusing() -> Result<String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(format!("ssh://ada@127.0.0.1:{port}"))
}

/// Goes through the settings; `next_step` is what is told of a runner that is not reached.
fn settings(variables: &[(&str, &str)], suffix: &str, next_step: &str) -> Result<()> {
    let policy = json!({ "settings": { "size.memory": { "value": "4GiB", "locked": true } } });
    let desk = Desk::with_policy(&policy.to_string(), variables)?;
    let daemon = desk.start_daemon()?;
    // It is added though it is not reached: the machine may be off.
    desk.overside(&["runner", "add", "office", &refusing()?])?;
    let page = Page::open(&desk)?;
    page.wait_for_state("stopped")?;
    page.go_to("settings")?;

    page.wait_for("document.querySelector('#idle-timeout-value').value === '5m'")?;
    page.keys("#idle-timeout", RIGHT)?;
    page.wait_for("document.querySelector('#idle-timeout-value').value === '10m'")?;
    desk.wait_until("the daemon has it", || {
        Ok(desk.overside(&["settings", "get", "idle-timeout"])?.success()?.out().trim() == "10m")
    })?;
    page.screenshot(&format!("daemon-slid-{suffix}"))?;

    page.scroll_to("#settings-size")?;
    page.wait_for("document.querySelector('#size-memory').disabled")?;
    let reason = page.text("#size-memory-rule")?;
    ensure!(reason.contains("/etc/overside/policy.json") && reason.contains("size.memory"), "{reason}");
    page.screenshot(&format!("daemon-locked-{suffix}"))?;

    page.click("[data-runner=office] button")?;
    page.wait_for("document.querySelector('[data-hop=tcp]').dataset.status === 'failed'")?;
    let hop = page.text("[data-hop=tcp]")?;
    ensure!(hop.contains(next_step), "{hop}");
    page.scroll_to("#settings-runner")?;
    page.screenshot(&format!("daemon-runner-{suffix}"))?;

    page.click("[data-runner=office] input")?;
    page.wait_for("document.querySelector('[data-runner=office] input').checked")?;
    page.click("[role=switch]")?;
    page.wait_for_state("idle")?;
    let docker = clients()?.into_iter().next().context("there is no docker client")?;
    let call = Running::spawn(&mut desk.home().docker(&docker, &["volume", "create", "data"])?)?;
    page.wait_for_state("failed")?;
    page.go_to("session")?;
    page.wait_for("document.querySelector('[data-code=runner-unreachable]')")?;
    let told = page.text("[data-code=runner-unreachable]")?;
    ensure!(told.contains(next_step), "{told}");
    page.screenshot(&format!("daemon-failed-{suffix}"))?;
    page.has_no_barrier()?;
    ensure!(call.finish(SOON)?.code() != 0, "docker is told of no failure");

    drop(page);
    daemon.signal(Signal::TERM)?;
    daemon.finish(SOON)?;
    Ok(())
}

#[test]
fn a_locked_value_a_slid_timeout_and_a_runner_that_refuses_are_shown() -> Result<()> {
    settings(&[], "light-en", "Check that the machine is on")
}

#[test]
fn they_are_shown_in_chinese_and_dark() -> Result<()> {
    settings(&[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")], "dark-zh", "请检查网络")
}
