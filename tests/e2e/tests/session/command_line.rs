//! `overside` itself, as a person types it.

use anyhow::Result;
use overside_e2e::container;
use overside_model::State;
use overside_testkit::{Daemon, LIMIT, TempHome, run};

#[test]
fn start_brings_a_daemon_along_where_none_runs() -> Result<()> {
    let home = TempHome::new()?;
    run(&mut home.overside(&["start"])?, LIMIT)?.success()?;
    let status = run(&mut home.overside(&["status", "--format", "json"])?, LIMIT)?.success()?;
    let status: overside_model::Status = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status.state, State::Idle);
    assert_eq!(status.socket, home.docker_socket().display().to_string());
    container(&home, "box")?;
    assert_eq!(home.traces().agents().len(), 1);
    run(&mut home.overside(&["stop", "-f"])?, LIMIT)?.success()?;
    home.wait_until_no_environment(LIMIT)
}

#[test]
fn every_number_of_the_status_has_its_promised_name() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let status = daemon.overside(&["status", "--format", "json"])?.success()?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    for name in [
        "state",
        "runner",
        "socket",
        "session",
        "awake_because",
        "ignored_pollers",
        "idle_in_seconds",
        "grace_remaining_seconds",
        "prompt",
        "usage",
        "ports",
        "mounts",
        "error",
    ] {
        assert!(status.get(name).is_some(), "{name}: {status}");
    }
    for name in ["id", "started_at", "environment"] {
        assert!(status["session"].get(name).is_some(), "session.{name}: {status}");
    }
    assert_eq!(status["runner"], home.runner());
    assert!(status["usage"]["limit_seconds"].is_u64(), "{status}");
    Ok(())
}

#[test]
fn turning_on_twice_and_off_twice_is_no_error() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    daemon.overside(&["start"])?.success()?;
    assert_eq!(daemon.status()?.state, State::Idle);
    daemon.overside(&["stop"])?.success()?;
    daemon.overside(&["stop"])?.success()?;
    assert_eq!(daemon.status()?.state, State::Stopped);
    Ok(())
}

#[test]
fn a_daemon_that_was_on_is_on_again_after_a_restart() -> Result<()> {
    let home = TempHome::new()?;
    Daemon::enabled(&home)?.terminate()?.success()?;
    let daemon = Daemon::start(&home)?;
    assert_eq!(daemon.status()?.state, State::Idle);
    Ok(())
}

#[test]
fn a_wrong_command_line_is_refused_as_docker_does_it() -> Result<()> {
    let home = TempHome::new()?;
    let outcome = run(&mut home.overside(&["no-such-command"])?, LIMIT)?;
    assert_ne!(outcome.code(), 0);
    assert!(outcome.out().is_empty() && outcome.err().contains("no-such-command"), "{outcome:?}");
    run(&mut home.overside(&["version"])?, LIMIT)?.success()?;
    run(&mut home.overside(&["--help"])?, LIMIT)?.success()?;
    Ok(())
}

#[test]
fn without_a_daemon_commands_say_how_to_get_one() -> Result<()> {
    let home = TempHome::new()?;
    let outcome = run(&mut home.overside(&["idle"])?, LIMIT)?;
    assert_ne!(outcome.code(), 0);
    assert!(outcome.err().contains("overside start"), "{outcome:?}");
    Ok(())
}
