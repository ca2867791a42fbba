//! The usage page on the real daemon, whose ledger has a year of sessions.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use overside_desktop_tests::{Desk, Page};
use overside_ledger::{EndReason, Ledger, NewSession};
use overside_model::SessionId;
use overside_testkit::{Daemon, TempHome};

/// Days before today that have a session.
const DAYS: i64 = 364;

/// How long the session of so many days ago was active.
fn lasting(ago: i64) -> Duration {
    let hours = if ago % 23 == 5 { 7 } else { 0 };
    Duration::from_secs(u64::try_from(3600 * hours + 1200 + (ago * 7919) % 17_000).unwrap_or_default())
}

/// A ledger with a session on each day of the last year but today, some of them beyond the day's limit.
fn write_year(home: &TempHome) -> Result<()> {
    let noon = Zoned::now().start_of_day()?.checked_add(8.hours())?;
    let (mut ledger, problem) = Ledger::open(&home.overside_home().join("usage.sqlite"), Timestamp::now())?;
    anyhow::ensure!(problem.is_none(), "{problem:?}");
    for ago in (1..=DAYS).rev() {
        let id = SessionId::from_random(u64::try_from(ago)? * 0x9e37_79b9_7f4a);
        let started = noon.checked_sub(ago.days())?.timestamp();
        let runner = if ago % 3 == 0 { "office" } else { "local" };
        let new = NewSession {
            id: id.clone(),
            user: "ada".to_owned(),
            runner: runner.to_owned(),
            started,
            price_per_hour: Some(0.12),
        };
        ledger.begin(new)?;
        ledger.cover(&id, started, lasting(ago))?;
        let images: &[&str] =
            [&["node:22-alpine", "postgres:17"][..], &["redis:7"], &["shop:latest"], &[]][usize::try_from(ago % 4)?];
        let images: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
        ledger.saw(&id, &images, u64::try_from(ago % 7 + 1)?)?;
        let reason = [EndReason::Idle, EndReason::Idle, EndReason::Stopped, EndReason::Lost][usize::try_from(ago % 4)?];
        ledger.end(&id, started + SignedDuration::try_from(lasting(ago))?, reason)?;
    }
    Ok(())
}

/// Requires that the chart has so many bars.
fn has_bars(page: &Page, bars: i64) -> Result<()> {
    page.wait_for(&format!("document.querySelectorAll('rect.used').length === {bars}")).map(drop)
}

fn choose(page: &Page, range: &str) -> Result<()> {
    page.click(&format!("label:has(input[value={range}])"))
}

#[test]
fn a_year_of_usage_is_shown_by_day_and_by_session_and_saved() -> Result<()> {
    let desk = Desk::new()?;
    write_year(desk.home())?;
    let _daemon = Daemon::start(desk.home())?;
    let page = Page::open(&desk)?;
    page.go_to("usage")?;
    has_bars(&page, 6)?;
    choose(&page, "year")?;
    has_bars(&page, DAYS)?;
    let over = (1..=DAYS).filter(|ago| lasting(*ago) > Duration::from_secs(8 * 3600)).count();
    page.wait_for(&format!("document.querySelectorAll('rect.over').length === {over}"))?;
    assert!(over > 5);

    let first = "document.querySelector('tbody tr')";
    page.wait_for("document.querySelectorAll('tbody tr').length === 50")?;
    page.keys("input[type=search]", "redis")?;
    page.wait_for(&format!("document.querySelector('.foot').innerText.startsWith('{} sessions')", DAYS / 4))?;
    page.wait_for(&format!("{first}.innerText.includes('redis:7')"))?;
    page.screenshot("usage-filtered-light-en")?;
    page.click(".filter button")?;

    // By keyboard to yesterday, and to its one session.
    page.keys("svg[role=slider]", "\u{e010}\u{e012}\u{e006}")?;
    page.wait_for("document.querySelectorAll('tbody tr').length === 1")?;
    page.wait_for("document.querySelector('svg[role=slider]').getAttribute('aria-valuetext').includes('0.')")?;

    page.click("[aria-labelledby=sessions] .head button")?;
    page.wait_for("document.querySelector('.saved')")?;
    let file = page.text(".saved .selectable")?;
    let csv = fs_err::read_to_string(&file)?;
    assert_eq!(i64::try_from(csv.lines().count())?, DAYS + 1);
    assert!(csv.lines().next().context("no head")?.starts_with("session ID,"), "{csv}");
    Ok(())
}

/// Takes pictures of each range.
fn pictures(variables: &[(&str, &str)], suffix: &str) -> Result<()> {
    let desk = Desk::with(variables)?;
    write_year(desk.home())?;
    let _daemon = Daemon::start(desk.home())?;
    let page = Page::open(&desk)?;
    page.go_to("usage")?;
    for (range, bars) in [("month", 29), ("year", DAYS), ("week", 6)] {
        choose(&page, range)?;
        has_bars(&page, bars)?;
        page.screenshot(&format!("usage-{range}-{suffix}"))?;
    }
    Ok(())
}

#[test]
fn a_year_of_usage_is_shown_in_english_and_light() -> Result<()> {
    pictures(&[], "light-en")
}

#[test]
fn a_year_of_usage_is_shown_in_chinese_and_dark() -> Result<()> {
    pictures(&[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")], "dark-zh")
}
