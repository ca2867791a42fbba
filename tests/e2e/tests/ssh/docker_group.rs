//! A host whose user may neither become root nor make namespaces, but may use its Docker.

use anyhow::{Context as _, Result};
use overside_e2e::{container, docker, load};
use overside_model::State;
use overside_testkit::{Daemon, HostDocker, IMAGE, LIMIT, Setup, Sshd, TempHome, USER, signal_process};
use rustix::process::Signal;

use crate::{NAME, choose, leaves_nothing};

/// No subordinate ids, and a group of those who may use Docker.
const BEFORE: &str = ": >etc/subuid; : >etc/subgid; echo 'docker:x:4322:runner' >>etc/group\n\
                      mount -t tmpfs tmpfs /run; mkdir /run/sshd\n";

/// The host, with its Docker.
fn host(home: &TempHome) -> Result<(Sshd, HostDocker)> {
    let sshd = Sshd::start(home, Setup { before: BEFORE, ..Setup::default() })?;
    let docker = HostDocker::start(home, &sshd, "docker")?;
    Ok((sshd, docker))
}

#[test]
fn environments_are_in_a_container_on_the_host_s_docker_with_their_limits_and_leave_nothing_there() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("size.cpus", "1"), ("size.memory", "256MiB")])?;
    let (sshd, engine) = host(&home)?;
    let daemon = Daemon::enabled(&home)?;
    let before = sshd.files()?;
    choose(&daemon, &sshd, USER)?;
    let tested = daemon.overside(&["runner", "test", NAME])?.success()?.out();
    for part in ["in a container on the host's Docker", "sudo wants a password", "not rootless", "/etc/subuid"] {
        assert!(tested.contains(part), "{part:?} is missing in {tested}");
    }
    assert_eq!(engine.everything()?, "", "a look leaves nothing");

    load(&home)?;
    assert_eq!(docker(&home, &["run", "--rm", IMAGE, "echo", "hello"])?.success()?.out(), "hello\n");
    let greedy = docker(&home, &["run", "--rm", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1"])?;
    assert_eq!(greedy.code(), 137, "{greedy:?}");
    let notes = daemon.status()?.session.context("a session runs")?.notes;
    assert!(notes.iter().any(|note| note.contains("container on the host's Docker")), "{notes:?}");
    assert_eq!(engine.everything()?.lines().count(), 2, "one container and its image: {}", engine.everything()?);

    // It is frozen and goes on.
    container(&home, "box")?;
    daemon.overside(&["idle"])?.success()?;
    daemon.wait_for_state(State::Suspended, LIMIT)?;
    assert_eq!(docker(&home, &["exec", "box", "echo", "there"])?.success()?.out(), "there\n");
    leaves_nothing(&daemon, &sshd, &before)?;
    engine.wait_until_empty(LIMIT)
}

#[test]
fn what_a_lost_client_has_there_goes_with_its_lease() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("grace-period", "2s"), ("lost-contact", "2s")])?;
    let (sshd, engine) = host(&home)?;
    let daemon = Daemon::enabled(&home)?;
    choose(&daemon, &sshd, USER)?;
    docker(&home, &["volume", "create", "lost"])?.success()?;
    daemon.kill()?;
    engine.wait_until_empty(LIMIT)?;
    home.wait_until(LIMIT, |traces| traces.agents().is_empty())?;
    assert!(!sshd.files()?.iter().any(|file| file.starts_with("lib/overside")), "{:?}", sshd.files()?);
    Ok(())
}

#[test]
fn what_killed_agents_left_there_is_cleaned_up_at_the_next_connection() -> Result<()> {
    let home = TempHome::new()?;
    let (sshd, engine) = host(&home)?;
    let daemon = Daemon::enabled(&home)?;
    let before = sshd.files()?;
    choose(&daemon, &sshd, USER)?;
    container(&home, "box")?;
    for agent in home.traces().agents() {
        signal_process(agent, Signal::KILL)?;
    }
    daemon.wait_for("told", LIMIT, |status| status.error.is_some())?;
    docker(&home, &["volume", "create", "new"])?.success()?;
    assert_eq!(docker(&home, &["ps", "--all", "--quiet"])?.success()?.out(), "");
    leaves_nothing(&daemon, &sshd, &before)?;
    engine.wait_until_empty(LIMIT)
}

#[test]
fn a_docker_that_the_user_may_not_use_is_told_beside_what_else_is_missing() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup { before: BEFORE, ..Setup::default() })?;
    let _engine = HostDocker::start(&home, &sshd, "root")?;
    let daemon = Daemon::start(&home)?;
    let refused = crate::add(&daemon, &sshd, USER)?;
    assert!(refused.code() != 0 && refused.err().contains("FAILED  runner"), "{refused:?}");
    for part in ["not in a container", "permission denied", "/etc/subuid"] {
        assert!(refused.err().contains(part), "{part:?} is missing in {refused:?}");
    }
    Ok(())
}
