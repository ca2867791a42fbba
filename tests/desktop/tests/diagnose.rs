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

/// The parts of programs' and protocols' names that are the same in every language.
const NAMES: &[&str] = &["overside", "docker", "dockerd", "agent", "root", "cgroups", "dfsg"];

#[test]
fn a_chinese_user_reads_about_every_hop_in_chinese() -> Result<()> {
    let desk = Desk::with(&[("LANG", "zh_CN.UTF-8")])?;
    let daemon = Daemon::enabled(desk.home())?;
    let page = Page::open(&desk)?;
    page.go_to("diagnose")?;
    has_verdict(&page, "通往引擎的路径畅通")?;
    for off in [false, true] {
        if off {
            desk.overside(&["stop"])?.success()?;
            page.click("[aria-labelledby=diagnose] button")?;
            has_verdict(&page, "中断于：Docker 套接字")?;
        }
        let told = page.text("[aria-labelledby=diagnose] ol")?;
        let english: Vec<&str> = told
            // Every other part is quoted: a command, or a name of the user's.
            .split(['`', '"'])
            .step_by(2)
            .flat_map(str::split_whitespace)
            .filter(|word| !word.contains('/'))
            .flat_map(|word| word.split(|letter: char| !letter.is_ascii_alphabetic()))
            .filter(|word| word.len() > 2 && word.chars().all(|letter| letter.is_ascii_lowercase()))
            .filter(|word| !NAMES.contains(word))
            .collect();
        assert!(english.is_empty(), "{english:?} in {told}");
        page.screenshot(if off { "diagnose-off-light-zh" } else { "diagnose-clear-light-zh" })?;
    }
    drop(page);
    daemon.terminate()?.success()?;
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
