//! Sessions on another host, by every means that a host allows.

use anyhow::{Context as _, Result};
use overside_e2e::{docker, load};
use overside_model::State;
use overside_testkit::{Daemon, IMAGE, LIMIT, Setup, Sshd, TempHome, USER};

use crate::{choose, leaves_nothing};

/// Runs a session of one container as a user of a server, and returns what the status notes about it.
fn session(home: &TempHome, setup: Setup<'_>, user: &str) -> Result<Vec<String>> {
    let sshd = Sshd::start(home, setup)?;
    let daemon = Daemon::enabled(home)?;
    let before = sshd.files()?;
    choose(&daemon, &sshd, user)?;
    assert_eq!(home.traces().agents().len(), 0, "adding a runner starts nothing");
    load(home)?;
    assert_eq!(docker(home, &["run", "--rm", IMAGE, "echo", "hello"])?.success()?.out(), "hello\n");
    let status = daemon.status()?;
    assert_eq!(status.state, State::Running);
    assert_eq!(status.runner, crate::NAME);
    let session = status.session.context("there is no session")?;
    assert_eq!(home.traces().agents().len(), 1);
    leaves_nothing(&daemon, &sshd, &before)?;
    home.wait_until_no_environment(LIMIT)?;
    daemon.terminate()?.success()?;
    drop(sshd);
    home.wait_until_clean(LIMIT)?;
    Ok(session.notes)
}

#[test]
fn root_runs_containers_and_the_host_is_as_before_when_the_session_has_ended() -> Result<()> {
    let home = TempHome::new()?;
    session(&home, Setup::default(), "root").map(drop)
}

#[test]
fn an_ordinary_user_runs_containers_and_is_told_why_it_is_not_root() -> Result<()> {
    let home = TempHome::new()?;
    let notes = session(&home, Setup::default(), USER)?;
    assert!(notes.iter().any(|note| note.contains("ordinary user")), "{notes:?}");
    Ok(())
}

#[test]
fn a_sudo_that_asks_for_no_password_makes_it_root() -> Result<()> {
    let home = TempHome::new()?;
    let sudoers = format!("{USER} ALL=(ALL) NOPASSWD: ALL\n");
    let notes = session(&home, Setup { sudoers: &sudoers, ..Setup::default() }, USER)?;
    assert!(!notes.iter().any(|note| note.contains("ordinary user")), "{notes:?}");
    Ok(())
}

#[test]
fn a_sudo_that_keeps_pipes_of_its_own_is_as_good() -> Result<()> {
    let home = TempHome::new()?;
    let sudoers = format!("Defaults use_pty\n{USER} ALL=(ALL) NOPASSWD: ALL\n");
    session(&home, Setup { sudoers: &sudoers, ..Setup::default() }, USER).map(drop)
}

#[test]
fn a_sudo_that_wants_a_password_is_not_waited_for() -> Result<()> {
    let home = TempHome::new()?;
    let sudoers = format!("{USER} ALL=(ALL) ALL\n");
    let notes = session(&home, Setup { sudoers: &sudoers, ..Setup::default() }, USER)?;
    assert!(notes.iter().any(|note| note.contains("sudo wants a password")), "{notes:?}");
    Ok(())
}

#[test]
fn a_host_that_allows_one_session_a_connection_is_enough() -> Result<()> {
    let home = TempHome::new()?;
    session(&home, Setup { config: "MaxSessions 1", ..Setup::default() }, "root").map(drop)
}

#[test]
fn a_login_shell_may_say_what_it_likes() -> Result<()> {
    let home = TempHome::new()?;
    let bashrc = "echo 'Welcome to the farm!'; printf '{\"report\":\"hello\"'; echo noise >&2; printf 'no line end'\n";
    session(&home, Setup { bashrc, config: "Banner /etc/passwd", ..Setup::default() }, "root").map(drop)
}

#[test]
fn a_host_that_forwards_no_sockets_is_reached_through_a_session() -> Result<()> {
    let home = TempHome::new()?;
    session(&home, Setup { config: "AllowStreamLocalForwarding no", ..Setup::default() }, "root").map(drop)
}
