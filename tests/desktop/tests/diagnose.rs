//! The diagnose page: what `overside diagnose` finds, with a daemon and without one.

use anyhow::Result;
use overside_desktop_tests::{Desk, Page};
use overside_testkit::Daemon;

/// Requires that the page's verdict says this.
fn has_verdict(page: &Page, words: &str) -> Result<()> {
    page.wait_for(&format!("document.querySelector('.verdict').textContent.includes('{words}')")).map(drop)
}

#[test]
fn the_way_is_clear_with_a_daemon_and_ends_at_it_without_one() -> Result<()> {
    let desk = Desk::new()?;
    let daemon = Daemon::enabled(desk.home())?;
    let page = Page::open(&desk)?;
    page.go_to("diagnose")?;
    has_verdict(&page, "The way to the engine is clear.")?;
    assert!(page.text("[aria-labelledby=log]")?.contains("the daemon starts"));
    page.screenshot("diagnose-clear-light-en")?;

    daemon.terminate()?.success()?;
    has_verdict(&page, "ends at: Daemon")?;
    page.wait_for("document.querySelector('[data-hop=daemon]').innerText.includes('overside start')")?;
    page.screenshot("diagnose-no-daemon-light-en")?;
    Ok(())
}

#[test]
fn a_bundle_is_saved_also_without_a_daemon() -> Result<()> {
    let desk = Desk::with(&[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")])?;
    let page = Page::open(&desk)?;
    page.go_to("diagnose")?;
    page.click("[aria-labelledby=bundle] button")?;
    page.wait_for("document.querySelector('.saved')")?;
    let file = page.text(".saved .selectable")?;
    assert!(fs_err::read(&file)?.starts_with(b"PK"), "{file} is no ZIP file");
    page.screenshot("diagnose-bundle-dark-zh")?;
    Ok(())
}
