//! The packages, installed where nothing else is.

use std::process::Command;

use anyhow::Result;
use overside_desktop_tests::{Desk, SOON, TrayHost};
use overside_package_tests::{CleanDebian, INSTALLING, package};
use overside_testkit::{LIMIT, Running, run};

/// As an ordinary user of the machine.
const AS_ADA: &str = "setpriv --reuid=ada --regid=ada --clear-groups env HOME=/home/ada XDG_RUNTIME_DIR=/run/ada";

/// The window's switch when it is on.
const ACCENT: [u8; 3] = [0x1f, 0x6f, 0xc4];

/// What a Debian with nothing but apt does with the package: the programs' versions, a daemon, completions, manual pages.
#[test]
fn a_clean_debian_installs_the_package_with_its_libraries_runs_it_and_forgets_it() -> Result<()> {
    let debian = CleanDebian::new()?;
    install(&debian)?;
    let version = env!("CARGO_PKG_VERSION");
    for program in ["overside", "overside-desktop"] {
        let said = debian.run(&format!("{program} --version"), LIMIT)?.success()?.out();
        assert_eq!(said.trim(), format!("{program} {version}"));
    }
    let linked =
        debian.run("for program in /usr/lib/overside/*; do ldd $program || true; done", LIMIT)?.success()?.out();
    assert!(linked.contains("libwebkit2gtk") && !linked.contains("not found"), "{linked}");

    // A daemon of an ordinary user, who has no systemd and no docker.
    debian.run("useradd --create-home ada && install --directory --owner=ada --mode=700 /run/ada", LIMIT)?.success()?;
    let user = |command: &str| debian.run(&format!("{AS_ADA} {command}"), SOON);
    let outcome = user("overside status")?;
    assert!(outcome.out().contains("stopped") || outcome.err().contains("not running"), "{outcome:?}");
    user("overside start")?.success()?;
    let outcome = user("overside status")?.success()?;
    assert!(outcome.out().contains("idle"), "{outcome:?}");
    user("overside stop --force")?.success()?;
    user("/usr/libexec/docker/cli-plugins/docker-overside docker-cli-plugin-metadata")?.success()?;

    let complete = ". /usr/share/bash-completion/completions/overside; COMP_WORDS=(overside sta); COMP_CWORD=1; \
        _overside overside sta overside; echo \"${COMPREPLY[@]}\"";
    let offered = run(debian.command("bash")?.args(["-c", complete]), LIMIT)?.success()?.out();
    assert_eq!(offered.trim(), "start status");
    let page = debian.run("zcat /usr/share/man/man1/overside-runner-add.1.gz", LIMIT)?.success()?.out();
    assert!(page.contains("ssh://[USER@]HOST[:PORT]"), "{page}");

    debian.run("apt-get purge --quiet --quiet --yes overside", INSTALLING)?.success()?;
    let left = debian.run("find /usr /etc /var/lib/dpkg/info -name '*overside*'", LIMIT)?.success()?.out();
    assert_eq!(left, "");
    app(&debian)
}

/// The tray on a bus, and from its menu the window on a display.
fn app(debian: &CleanDebian) -> Result<()> {
    install(debian)?;
    let desk = Desk::new()?;
    debian.lend(&desk.home().scratch().join("bus"), "/run/bus")?;
    let host = TrayHost::start(&desk)?;
    let display = desk.display();
    // The display is reached by its abstract socket, which belongs to the network and not to the files.
    let variables = format!("DISPLAY={display} DBUS_SESSION_BUS_ADDRESS=unix:path=/run/bus XDG_RUNTIME_DIR=/run/root");
    debian.run("install --directory --mode=700 /run/root", LIMIT)?.success()?;
    let script = format!("exec env {variables} overside-desktop --background");
    let _tray = Running::spawn(debian.command("sh")?.args(["-c", &script]))?;
    let item = host.item()?;
    item.wait_for_menu(|menu| menu[0] == "(Overside: Off)")?;
    item.choose("Turn on")?;
    item.wait_for_menu(|menu| menu[0] == "(Overside: Idle)")?;
    item.choose("Open Overside")?;
    desk.wait_until("the window is shown", || {
        let search =
            run(desk.home().command("xdotool").args(["search", "--onlyvisible", "--name", "^Overside$"]), SOON)?;
        Ok(!search.out().trim().is_empty())
    })?;
    desk.wait_until("the window has its page", || host.knows("dev.overside.window."))?;
    desk.picture("package-window", ACCENT)?;
    item.choose("Quit this app (the daemon keeps running)")?;
    Ok(())
}

fn install(debian: &CleanDebian) -> Result<()> {
    debian.lend(&package("deb")?, "/srv/overside.deb")?;
    let install = "apt-get update --quiet --quiet && \
        apt-get install --quiet --quiet --yes --no-install-recommends /srv/overside.deb";
    debian.run(install, INSTALLING)?.success()?;
    Ok(())
}

#[test]
fn the_rpm_holds_what_the_deb_holds_and_names_the_libraries_that_its_programs_need() -> Result<()> {
    let query = |what: &str| -> Result<Vec<String>> {
        let outcome = run(Command::new("rpm").args(["--query", "--package", what]).arg(package("rpm")?), LIMIT)?;
        Ok(outcome.success()?.out().lines().map(str::to_owned).collect())
    };
    let needed = query("--requires")?;
    for library in ["libwebkit2gtk-4.1.so.0()(64bit)", "libgtk-3.so.0()(64bit)"] {
        assert!(needed.iter().any(|name| name == library), "{library} is not in {needed:?}");
    }
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(package("deb")?), LIMIT)?.success()?.out();
    let mut deb: Vec<&str> = listed
        .lines()
        .filter(|line| !line.ends_with('/'))
        .filter_map(|line| line.split(" ./").nth(1))
        .map(|path| path.split(" -> ").next().unwrap_or(path))
        // Each kind has its own place for these.
        .filter(|path| !path.contains("/zsh/") && !path.ends_with("/copyright"))
        .collect();
    let listed = query("--list")?;
    let own = ["/usr/lib/overside", "/usr/share/doc/overside", "/usr/share/licenses/overside"];
    let mut rpm: Vec<&str> = listed
        .iter()
        .filter(|path| !own.contains(&path.as_str()) && !path.contains("/zsh/") && !path.ends_with("/LICENSE"))
        .map(|path| path.trim_start_matches('/'))
        .collect();
    deb.sort_unstable();
    rpm.sort_unstable();
    assert_eq!(rpm, deb);
    Ok(())
}
