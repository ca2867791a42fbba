//! What happens to lines and hosts under a session.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_e2e::{container, docker};
use overside_model::{ErrorCode, Problem, State};
use overside_testkit::{Daemon, IMAGE, LIMIT, Running, Setup, Sshd, TempHome, Wire, clients, signal_process};
use rustix::process::Signal;

use crate::{NAME, leaves_nothing};

/// One direction of a line between two towns.
const FAR: Duration = Duration::from_millis(20);

/// Adds and chooses the server behind a line.
fn choose(daemon: &Daemon<'_>, wire: &Wire, sshd: &Sshd) -> Result<()> {
    let address = wire.address("root");
    daemon.overside(&["runner", "add", NAME, &address, "--accept-host-key", &sshd.fingerprint()?])?.success()?;
    daemon.overside(&["runner", "default", NAME])?.success()?;
    Ok(())
}

#[test]
fn a_line_that_is_cut_for_twenty_seconds_costs_no_container_and_no_stream_hangs() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let wire = Wire::to(sshd.port(), FAR)?;
    let daemon = Daemon::enabled(&home)?;
    let before = sshd.files()?;
    choose(&daemon, &wire, &sshd)?;
    container(&home, "box")?;
    wire.cut();
    let clients = clients()?;
    let waiting = Running::spawn(&mut home.docker(&clients[0], &["exec", "box", "echo", "there"])?)?;
    // The length of the cut is the matter itself.
    thread::sleep(Duration::from_secs(20));
    wire.mend();
    // Its call was under way: it ends, either well or with a sentence.
    waiting.finish(LIMIT)?;
    assert_eq!(docker(&home, &["exec", "box", "echo", "there"])?.success()?.out(), "there\n");
    leaves_nothing(&daemon, &sshd, &before)
}

#[test]
fn a_line_that_is_cut_beyond_the_lease_ends_the_environment_at_both_ends() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("grace-period", "1s"), ("lost-contact", "5s")])?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let wire = Wire::to(sshd.port(), FAR)?;
    let daemon = Daemon::enabled(&home)?;
    let before = sshd.files()?;
    choose(&daemon, &wire, &sshd)?;
    container(&home, "box")?;
    wire.cut();
    home.wait_until_no_environment(LIMIT * 2)?;
    let status = daemon.wait_for("told", LIMIT * 2, |status| status.error.is_some())?;
    let problem = status.error.context("there is no error")?;
    assert!(matches!(problem.code, ErrorCode::EnvironmentLost | ErrorCode::TunnelLost), "{problem:?}");
    wire.mend();
    daemon.wait_for("over", LIMIT * 2, |status| status.state == State::Idle)?;
    overside_e2e::load(&home)?;
    assert_eq!(docker(&home, &["run", "--rm", IMAGE, "echo", "new"])?.success()?.out(), "new\n");
    leaves_nothing(&daemon, &sshd, &before)
}

#[test]
fn a_network_that_is_another_one_suddenly_is_logged_in_over_again() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let wire = Wire::to(sshd.port(), Duration::ZERO)?;
    let daemon = Daemon::enabled(&home)?;
    choose(&daemon, &wire, &sshd)?;
    container(&home, "box")?;
    // As when the laptop has moved: the old connection is dead and says nothing, a new one works.
    wire.forget();
    let began = Instant::now();
    assert_eq!(docker(&home, &["exec", "box", "echo", "there"])?.out(), "there\n");
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    daemon.overside(&["stop", "-f"])?.success()?;
    Ok(())
}

#[test]
fn a_host_that_was_killed_is_told_and_cleaned_up_when_it_is_back() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::enabled(&home)?;
    let before = sshd.files()?;
    crate::choose(&daemon, &sshd, "root")?;
    container(&home, "box")?;
    for agent in home.traces().agents() {
        signal_process(agent, Signal::KILL)?;
    }
    let is_lost = |problem: &Problem| problem.code == ErrorCode::EnvironmentLost;
    daemon.wait_for("told", LIMIT, |status| status.error.as_ref().is_some_and(is_lost))?;
    docker(&home, &["volume", "create", "new"])?.success()?;
    assert_eq!(docker(&home, &["ps", "--all", "--quiet"])?.success()?.out(), "");
    leaves_nothing(&daemon, &sshd, &before)
}

#[test]
fn what_a_lost_client_left_goes_with_its_lease_and_what_another_computer_runs_then_is_spared() -> Result<()> {
    let (one, other) = (TempHome::new()?, TempHome::new()?);
    one.set(&[("grace-period", "2s"), ("lost-contact", "2s")])?;
    let sshd = Sshd::start(&one, Setup::default())?;
    fs_err::create_dir_all(other.scratch().join("user/.ssh"))?;
    fs_err::copy(one.scratch().join("user/.ssh/id_ed25519"), other.scratch().join("user/.ssh/id_ed25519"))?;
    let lost = Daemon::enabled(&one)?;
    crate::choose(&lost, &sshd, "root")?;
    docker(&one, &["volume", "create", "lost"])?.success()?;
    lost.kill()?;
    one.wait_until(LIMIT, |traces| traces.agents().is_empty())?;
    let living = Daemon::enabled(&other)?;
    crate::choose(&living, &sshd, "root")?;
    docker(&other, &["volume", "create", "living"])?.success()?;
    // Back again, it looks for what it had left there.
    let back = Daemon::start(&one)?;
    let refused = docker(&one, &["volume", "create", "new"])?;
    assert!(refused.err().contains("your session on this runner is on"), "{refused:?}");
    assert_eq!(docker(&other, &["volume", "ls", "--quiet"])?.success()?.out(), "living\n");
    back.terminate()?.success()?;
    living.overside(&["stop", "-f"])?.success()?;
    one.wait_until(LIMIT, |traces| traces.agents().is_empty())
}
