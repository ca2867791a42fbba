//! `overside diagnose` names the hop that fails, and does nothing but look.

use anyhow::{Context as _, Result, ensure};
use overside_e2e::docker;
use overside_model::{Diagnosis, Hop, HopStatus, State, Status};
use overside_testkit::{Daemon, LIMIT, TempHome, run, signal_process};
use rustix::process::Signal;

/// What is found in a home, as JSON. The exit status must say whether a hop failed.
fn diagnosis(home: &TempHome) -> Result<Diagnosis> {
    let outcome = run(&mut home.overside(&["diagnose", "--format", "json"])?, LIMIT)?;
    let diagnosis: Diagnosis = serde_json::from_slice(&outcome.stdout).with_context(|| format!("{outcome:?}"))?;
    ensure!(outcome.code() == i32::from(diagnosis.failed().is_some()), "{outcome:?}");
    Ok(diagnosis)
}

fn hop<'a>(diagnosis: &'a Diagnosis, name: &str) -> Result<&'a Hop> {
    diagnosis.hops.iter().find(|hop| hop.name == name).with_context(|| format!("no hop {name}: {diagnosis:?}"))
}

/// Requires that the way ends at a hop, for a reason, and with a next step that says this.
fn ends_at(diagnosis: &Diagnosis, name: &str, reason: &str, hint: &str) -> Result<()> {
    let failed = diagnosis.failed().with_context(|| format!("nothing failed: {diagnosis:?}"))?;
    ensure!(failed.name == name && failed.detail.contains(reason) && failed.hint.contains(hint), "{diagnosis:?}");
    Ok(())
}

fn statuses(diagnosis: &Diagnosis) -> Vec<(&str, HopStatus)> {
    diagnosis.hops.iter().map(|hop| (hop.name.as_str(), hop.status)).collect()
}

#[test]
fn where_all_is_well_every_hop_passes_and_nothing_is_woken_or_resumed() -> Result<()> {
    use HopStatus::{Noted, Passed, Skipped};
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let way = |tunnel| {
        let to_the_runner: &[&str] =
            if home.runner() == "local" { &[] } else { &["dns", "tcp", "host-key", "login", "shell"] };
        let runner = ("runner", if home.has_limits() { Passed } else { Noted });
        let before = ["settings", "daemon", "socket", "context"].iter().chain(to_the_runner).chain(&["agent"]);
        before.map(|name| (*name, Passed)).chain([runner, ("tunnel", tunnel), ("engine", Passed)]).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&diagnosis(&home)?), way(Skipped));
    assert_eq!(daemon.status()?.state, State::Idle);

    docker(&home, &["volume", "create", "vol"])?.success()?;
    let before = daemon.status()?;
    let running = diagnosis(&home)?;
    assert_eq!(statuses(&running), way(Passed));
    assert!(hop(&running, "engine")?.detail.ends_with("answers"), "{running:?}");
    let after = daemon.status()?;
    assert_eq!((after.state, &after.session), (State::Running, &before.session));

    daemon.overside(&["idle"])?.success()?;
    daemon.wait_for_state(State::Suspended, LIMIT)?;
    assert_eq!(statuses(&diagnosis(&home)?), way(Skipped));
    assert_eq!(daemon.status()?.state, State::Suspended);
    Ok(())
}

#[test]
fn looking_does_not_keep_an_environment_from_its_idle_timeout() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("idle-timeout", "10s")])?;
    let daemon = Daemon::enabled(&home)?;
    docker(&home, &["volume", "create", "vol"])?.success()?;
    let left = |status: &Status| status.idle_in_seconds.unwrap_or_default();
    // The daemon tells no event for a second that passes.
    let before = loop {
        let left = left(&daemon.status()?);
        if left < 9 {
            break left;
        }
    };
    assert_eq!(hop(&diagnosis(&home)?, "engine")?.status, HopStatus::Passed);
    let after = daemon.status()?;
    assert!(left(&after) <= before, "{after:?}");
    Ok(())
}

#[test]
fn while_it_is_off_the_socket_says_so() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::start(&home)?;
    let found = diagnosis(&home)?;
    ends_at(&found, "socket", "turned off", "overside start")?;
    assert_eq!(hop(&found, "context")?.status, HopStatus::Noted);
    assert_eq!(daemon.status()?.state, State::Stopped);
    Ok(())
}

#[test]
fn without_a_daemon_the_rest_of_the_way_is_looked_at_all_the_same() -> Result<()> {
    let home = TempHome::new()?;
    let found = diagnosis(&home)?;
    ends_at(&found, "daemon", "no daemon is running", "overside start")?;
    for name in ["agent", "runner", "engine"] {
        // An ordinary user's host is usable, with a remark.
        let usable = [HopStatus::Passed, HopStatus::Noted].contains(&hop(&found, name)?.status);
        assert!(usable, "{found:?}");
    }
    assert!(!home.control_socket().exists(), "a daemon was started");
    Ok(())
}

#[test]
fn a_daemon_that_hangs_is_named_with_its_process() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let pid = daemon.pid();
    signal_process(pid, Signal::STOP)?;
    let found = diagnosis(&home);
    signal_process(pid, Signal::CONT)?;
    ends_at(&found?, "daemon", "has not answered", &format!("process {pid}"))
}

#[test]
fn a_docker_that_is_sent_elsewhere_is_told_by_whom_and_without_its_password() -> Result<()> {
    let home = TempHome::new()?.with("DOCKER_HOST", "tcp://ann:hunter2@elsewhere:2375");
    let _daemon = Daemon::enabled(&home)?;
    let found = diagnosis(&home)?;
    ends_at(&found, "context", "DOCKER_HOST", "Unset DOCKER_HOST")?;
    let shown = format!("{found:?}");
    assert!(shown.contains("tcp://elsewhere:2375") && !shown.contains("hunter2"), "{shown}");
    Ok(())
}

#[test]
fn a_docker_that_is_sent_elsewhere_on_purpose_is_only_noted() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("context.select", "false")])?;
    let _daemon = Daemon::enabled(&home)?;
    let found = diagnosis(&home)?;
    assert_eq!((found.failed(), hop(&found, "context")?.status), (None, HopStatus::Noted), "{found:?}");
    Ok(())
}

#[test]
fn a_missing_engine_is_found_before_anything_is_started() -> Result<()> {
    let home = TempHome::here("the engine's place is set for this machine")?;
    let empty = home.scratch().join("empty");
    fs_err::create_dir(&empty)?;
    let home = home.with("OVERSIDE_ENGINE_PATH", empty);
    let daemon = Daemon::enabled(&home)?;
    ends_at(&diagnosis(&home)?, "engine", "dockerd", "nstall")?;
    assert_eq!(daemon.status()?.state, State::Idle);
    Ok(())
}

#[test]
fn a_missing_agent_is_named_also_by_a_command_without_a_daemon() -> Result<()> {
    let home = TempHome::here("the agent is looked for here")?.with("OVERSIDE_AGENT", "/nonexistent/overside-agent");
    let found = diagnosis(&home)?;
    let agent = hop(&found, "agent")?;
    assert_eq!(agent.status, HopStatus::Failed);
    assert!(agent.detail.contains("/nonexistent/overside-agent") && !agent.hint.is_empty(), "{agent:?}");
    let _daemon = Daemon::enabled(&home)?;
    ends_at(&diagnosis(&home)?, "agent", "/nonexistent/overside-agent", "OVERSIDE_AGENT")
}

#[test]
fn settings_that_cannot_be_read_are_named_first() -> Result<()> {
    let home = TempHome::new()?;
    fs_err::write(home.overside_home().join("settings.json"), "{ not json")?;
    ends_at(&diagnosis(&home)?, "settings", "settings.json", "")
}

#[test]
fn people_read_one_line_a_hop_and_where_the_way_ends() -> Result<()> {
    let home = TempHome::new()?;
    let outcome = run(&mut home.overside(&["diagnose"])?, LIMIT)?;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.out().contains("✗ daemon"), "{outcome:?}");
    assert!(outcome.out().ends_with("The way to the engine ends at: daemon.\n"), "no colours in a pipe: {outcome:?}");
    Ok(())
}
