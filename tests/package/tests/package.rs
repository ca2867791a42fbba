//! The packages, installed where nothing else is.

use std::process::Command;

use anstream::adapter::strip_str;
use anyhow::Result;
use overside_desktop_tests::{Desk, SOON, TrayHost};
use overside_package_tests::{CleanDebian, INSTALLING, package};
use overside_testkit::{LIMIT, Running, on_terminal, run};

/// As an ordinary user of the machine.
const AS_ADA: &str = "setpriv --reuid=ada --regid=ada --clear-groups env HOME=/home/ada XDG_RUNTIME_DIR=/run/ada";

/// The window's switch when it is on.
const ACCENT: [u8; 3] = [0x1f, 0x6f, 0xc4];

/// What a Debian with nothing but apt does with the package: the programs' versions, a daemon, completions, manual pages.
#[test]
fn a_clean_debian_installs_the_package_with_its_libraries_runs_it_and_forgets_it() -> Result<()> {
    let debian = CleanDebian::new()?;
    install(&debian)?;
    let linked =
        debian.run("for program in /usr/lib/overside/*; do ldd $program || true; done", LIMIT)?.success()?.out();
    assert!(linked.contains("libwebkit2gtk") && !linked.contains("not found"), "{linked}");
    programs(&debian)?;
    let page = debian.run("zcat /usr/share/man/man1/overside-runner-add.1.gz", LIMIT)?.success()?.out();
    assert!(page.contains("ssh://[USER@]HOST[:PORT]"), "{page}");

    purge(&debian)?;
    assert_eq!(left(&debian)?, "");
    install(&debian)?;
    app(&debian)
}

/// The libraries are Debian's, which have the names that the package asks for: a Fedora is not fetched.
#[test]
fn rpm_installs_the_other_package_its_programs_run_and_it_is_forgotten() -> Result<()> {
    let debian = CleanDebian::new()?;
    install(&debian)?;
    purge(&debian)?;
    let root = debian.path("/");
    let rpm = |arguments: &[&str]| {
        let mut rpm = Command::new("rpm");
        run(rpm.arg("--root").arg(&root).args(arguments), INSTALLING)?.success()
    };
    let file = package("rpm")?;
    // What dpkg has installed, rpm does not know.
    rpm(&["--install", "--nodeps", &file.display().to_string()])?;
    let verified = rpm(&["--verify", "--nodeps", "overside"])?.out();
    assert_eq!(verified, "");
    programs(&debian)?;
    app(&debian)?;
    rpm(&["--erase", "overside"])?;
    assert_eq!(left(&debian)?, "");
    Ok(())
}

/// The command line, and a daemon of an ordinary user, who has no systemd and no docker.
fn programs(debian: &CleanDebian) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    for program in ["overside", "overside-desktop"] {
        let said = debian.run(&format!("{program} --version"), LIMIT)?.success()?.out();
        assert_eq!(said.trim(), format!("{program} {version}"));
    }
    debian.run("useradd --create-home ada && install --directory --owner=ada --mode=700 /run/ada", LIMIT)?.success()?;
    let user = |command: &str| debian.run(&format!("{AS_ADA} {command}"), SOON);
    let outcome = user("overside status")?;
    assert!(outcome.out().contains("stopped") || outcome.err().contains("not running"), "{outcome:?}");
    user("overside start")?.success()?;
    let outcome = user("overside status")?.success()?;
    assert!(outcome.out().contains("idle"), "{outcome:?}");
    user("overside stop --force")?.success()?;
    user("/usr/libexec/docker/cli-plugins/docker-overside docker-cli-plugin-metadata")?.success()?;
    Ok(())
}

fn purge(debian: &CleanDebian) -> Result<()> {
    debian.apt("purge overside").map(drop)
}

/// The files of Overside's on the machine; those that dpkg and rpm keep are theirs.
fn left(debian: &CleanDebian) -> Result<String> {
    let search = "find /usr /etc /var/lib/dpkg/info -name '*overside*'";
    Ok(debian.run(search, LIMIT)?.success()?.out())
}

/// What a person sees who types the beginning of a command in a shell of the distribution's, and presses Tab.
#[test]
fn bash_zsh_and_fish_complete_the_commands_of_the_installed_program() -> Result<()> {
    let debian = CleanDebian::new()?;
    install(&debian)?;
    debian.apt("install --no-install-recommends bash-completion fish zsh")?;
    // What zsh's own assistant writes for a new user.
    fs_err::write(debian.path("/root/.zshrc"), "autoload -Uz compinit\ncompinit\n")?;
    for shell in ["bash", "zsh", "fish"] {
        let mut login = debian.command("env")?;
        login.args(["TERM=xterm", shell, "--login", "-i"]);
        let mut terminal = Running::spawn(&mut on_terminal(&login))?;
        terminal.wait_for("# ", LIMIT)?;
        terminal.write("overside st\t\t")?;
        let offers = |shown: &str| {
            let shown = strip_str(shown).to_string();
            ["start", "status", "stop"].iter().all(|command| shown.contains(command))
        };
        let shown = terminal.wait_until(&format!("offer start, status and stop ({shell})"), offers, LIMIT)?;
        assert!(!strip_str(&shown).to_string().contains("usage"), "{shell} offers what does not begin so: {shown}");
    }
    Ok(())
}

/// The tray on a bus, and from its menu the window on a display.
fn app(debian: &CleanDebian) -> Result<()> {
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
    debian.apt("update")?;
    debian.apt("install --no-install-recommends /srv/overside.deb").map(drop)
}

#[test]
fn the_rpm_holds_what_the_deb_holds_and_names_the_libraries_that_its_programs_need() -> Result<()> {
    let query = |what: &str| -> Result<Vec<String>> {
        let outcome = run(Command::new("rpm").args(["--query", "--package", what]).arg(package("rpm")?), LIMIT)?;
        Ok(outcome.success()?.out().lines().map(str::to_owned).collect())
    };
    let needed = query("--requires")?;
    // Sonames, and rpm's own features: no name that only one distribution has.
    let is_general = |name: &str| name.contains(".so") || name.starts_with("rpmlib(") || name.starts_with("rtld(");
    let named: Vec<&String> = needed.iter().filter(|name| !is_general(name)).collect();
    assert!(named.is_empty(), "{named:?}");
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
