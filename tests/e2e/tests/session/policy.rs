//! An organisation's policy, at its place in the system's own directory.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use overside_e2e::docker;
use overside_model::State;
use overside_testkit::{Daemon, TempHome};

/// A row of `overside settings get`.
fn row(daemon: &Daemon<'_>, name: &str) -> Result<Vec<String>> {
    let shown = daemon.overside(&["settings", "get"])?.success()?.out();
    let row = shown.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default();
    Ok(row.split_whitespace().take(3).map(str::to_owned).collect())
}

#[test]
fn a_locked_setting_is_shown_as_locked_and_refused_with_the_rule() -> Result<()> {
    let policy = r#"{
        "settings": { "size.cpus": { "value": 2, "locked": true }, "grace-period": { "value": "2m" } },
        "longest-idle-timeout": "15m"
    }"#;
    let home = TempHome::new()?.with_policy(policy)?;
    let daemon = Daemon::enabled(&home)?;
    ensure!(row(&daemon, "size.cpus")? == ["size.cpus", "2", "locked"]);
    ensure!(row(&daemon, "grace-period")? == ["grace-period", "2m", "policy"]);
    ensure!(row(&daemon, "idle-timeout")? == ["idle-timeout", "5m", "default"]);

    for (name, value, rule) in [
        ("size.cpus", "4", "policy (/etc/overside/policy.json) sets size.cpus"),
        ("idle-timeout", "20m", "allows an idle-timeout of at most 15m"),
    ] {
        let refused = daemon.overside(&["settings", "set", name, value])?;
        ensure!(refused.code() != 0 && refused.err().contains(rule), "{refused:?}");
    }
    daemon.overside(&["settings", "set", "grace-period", "3m"])?.success()?;
    ensure!(row(&daemon, "grace-period")? == ["grace-period", "3m", "user"]);
    Ok(())
}

#[test]
fn beyond_a_hard_limit_nothing_is_started_and_docker_says_why() -> Result<()> {
    let home = TempHome::new()?.with_policy(r#"{ "fair-use": { "daily-limit": "0s", "hard-stop": true } }"#)?;
    let daemon = Daemon::enabled(&home)?;
    let refused = docker(&home, &["volume", "create", "vol"])?;
    ensure!(refused.code() != 0 && refused.err().contains("compute time"), "{refused:?}");
    let status = daemon.status()?;
    ensure!(status.session.is_none() && home.traces().agents().is_empty(), "{status:?}");
    Ok(())
}

#[test]
fn a_runner_that_the_policy_does_not_allow_is_not_used() -> Result<()> {
    let home = TempHome::new()?.with_policy(r#"{ "allowed-runners": ["farm"] }"#)?;
    let daemon = Daemon::start(&home)?;
    let refused = daemon.overside(&["start"])?;
    ensure!(refused.code() != 0 && refused.err().contains("It allows: farm"), "{refused:?}");
    ensure!(daemon.status()?.state == State::Stopped);
    Ok(())
}

#[test]
fn a_policy_that_others_can_write_or_that_is_not_understood_stops_everything_until_it_is_put_right() -> Result<()> {
    let home = TempHome::new()?.with_policy("{}")?;
    let mode = |mode| fs_err::set_permissions(home.policy_file(), std::fs::Permissions::from_mode(mode));
    let daemon = Daemon::start(&home)?;
    mode(0o666)?;
    let refused = daemon.overside(&["start"])?;
    ensure!(refused.code() != 0 && refused.err().contains("/etc/overside/policy.json"), "{refused:?}");
    mode(0o644)?;
    fs_err::write(home.policy_file(), r#"{ "alowed-runners": [] }"#)?;
    let refused = daemon.overside(&["start"])?;
    ensure!(refused.code() != 0 && refused.err().contains("alowed-runners"), "{refused:?}");
    let call = docker(&home, &["volume", "create", "vol"])?;
    ensure!(call.code() != 0, "{call:?}");
    fs_err::write(home.policy_file(), "{}")?;
    daemon.overside(&["start"])?.success()?;
    ensure!(daemon.status()?.state == State::Idle);
    Ok(())
}
