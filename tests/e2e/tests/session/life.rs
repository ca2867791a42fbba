//! An environment's life: from the first call to its last trace, through crashes of every part.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_e2e::{container, docker, load, with_stand_in};
use overside_model::{ErrorCode, State, Status};
use overside_testkit::{Daemon, IMAGE, LIMIT, Running, TempHome, clients, run, signal_process};
use rustix::process::Signal;

/// Longest lease of these tests, with time to delete an environment.
const LEASE_END: Duration = Duration::from_secs(20);

/// The environment that a status names.
fn environment(status: &Status) -> Result<String> {
    let session = status.session.as_ref().context("there is no session")?;
    Ok(session.environment.as_ref().context("the session has no environment")?.to_string())
}

#[test]
fn the_first_call_starts_an_environment_and_stop_leaves_nothing_of_it() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    assert_eq!(daemon.status()?.state, State::Idle);
    container(&home, "box")?;
    let status = daemon.status()?;
    assert_eq!(status.state, State::Running);
    environment(&status)?;
    assert_eq!(home.traces().agents().len(), 1);
    daemon.overside(&["stop", "-f"])?.success()?;
    let status = daemon.status()?;
    assert_eq!((status.state, status.session), (State::Stopped, None));
    home.wait_until_no_environment(LIMIT)?;
    daemon.terminate()?.success()?;
    home.wait_until_clean(LIMIT)
}

#[test]
fn calls_that_come_at_once_share_one_start() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let clients = clients()?;
    let mut calls = Vec::new();
    for number in 0..8 {
        let name = format!("volume{number}");
        let cli = &clients[number % clients.len()];
        calls.push(Running::spawn(&mut home.docker(cli, &["volume", "create", &name])?)?);
    }
    for call in calls {
        call.finish(LIMIT)?.success()?;
    }
    assert_eq!(docker(&home, &["volume", "ls", "--quiet"])?.out().lines().count(), 8);
    assert_eq!(home.traces().agents().len(), 1);
    environment(&daemon.status()?)?;
    Ok(())
}

#[test]
fn a_daemon_that_was_killed_adopts_its_environment_when_it_is_started_again() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    docker(&home, &["exec", "box", "sh", "-c", "echo kept > /kept"])?.success()?;
    let before = environment(&daemon.status()?)?;
    daemon.kill()?;
    assert_eq!(home.traces().agents().len(), 1, "the environment goes on without its daemon");

    let daemon = Daemon::start(&home)?;
    assert_eq!(docker(&home, &["exec", "box", "cat", "/kept"])?.success()?.out(), "kept\n");
    assert_eq!(environment(&daemon.status()?)?, before);
    assert_eq!(home.traces().agents().len(), 1);
    daemon.overside(&["stop", "-f"])?.success()?;
    daemon.terminate()?.success()?;
    home.wait_until_clean(LIMIT)
}

#[test]
fn an_environment_that_nobody_adopts_is_gone_when_its_lease_ends() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("grace-period", "1s"), ("lost-contact", "3s")])?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    daemon.kill()?;
    let lost = Instant::now();
    home.wait_until_clean(LEASE_END)?;
    assert!(lost.elapsed() >= Duration::from_secs(3), "running containers have the longer of the two times");

    let daemon = Daemon::start(&home)?;
    load(&home)?;
    assert_eq!(docker(&home, &["run", "--rm", IMAGE, "echo", "new"])?.success()?.out(), "new\n");
    assert_eq!(docker(&home, &["ps", "--all", "--quiet"])?.out(), "", "a new environment holds nothing of the old one");
    daemon.terminate()?;
    Ok(())
}

#[test]
fn an_empty_environment_outlives_its_daemon_by_the_grace_period_only() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("grace-period", "1s"), ("lost-contact", "1h")])?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    daemon.kill()?;
    home.wait_until_clean(LEASE_END)
}

#[test]
fn an_agent_that_was_killed_is_told_and_the_next_call_gets_a_new_environment() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let before = environment(&daemon.status()?)?;
    for agent in home.traces().agents() {
        signal_process(agent, Signal::KILL)?;
    }
    let status = daemon.wait_for("told", LIMIT, |status| status.error.is_some())?;
    let problem = status.error.context("there is no error")?;
    assert!([ErrorCode::EnvironmentLost, ErrorCode::TunnelLost].contains(&problem.code), "{problem:?}");
    assert!(!problem.message.is_empty(), "{problem:?}");

    load(&home)?;
    assert_eq!(docker(&home, &["run", "--rm", IMAGE, "echo", "new"])?.success()?.out(), "new\n");
    let status = daemon.status()?;
    assert_ne!(environment(&status)?, before);
    assert_eq!(status.error, None, "what has been overcome is told no more");
    daemon.overside(&["stop", "-f"])?.success()?;
    daemon.terminate()?.success()?;
    home.wait_until_clean(LIMIT)
}

#[test]
fn a_suspended_environment_is_resumed_by_any_command() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let before = environment(&daemon.status()?)?;
    daemon.overside(&["idle"])?.success()?;
    // The countdown begins when the last process is frozen.
    daemon.wait_for("suspended with its countdown", LIMIT, |status| {
        status.state == State::Suspended && status.grace_remaining_seconds.is_some_and(|left| left > 0)
    })?;
    assert_eq!(docker(&home, &["exec", "box", "echo", "awake"])?.success()?.out(), "awake\n");
    let status = daemon.wait_for_state(State::Running, LIMIT)?;
    assert_eq!(environment(&status)?, before);
    Ok(())
}

#[test]
fn a_suspended_environment_is_resumed_without_any_docker_command() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let before = environment(&daemon.status()?)?;
    daemon.overside(&["idle"])?.success()?;
    daemon.wait_for_state(State::Suspended, LIMIT)?;
    daemon.overside(&["resume"])?.success()?;
    let status = daemon.status()?;
    assert_eq!((status.state, environment(&status)?), (State::Running, before));
    assert_eq!(docker(&home, &["exec", "box", "echo", "awake"])?.success()?.out(), "awake\n");
    Ok(())
}

#[test]
fn an_environment_without_work_is_suspended_after_the_idle_timeout() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("idle-timeout", "10s")])?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let before = environment(&daemon.status()?)?;
    let idle = Instant::now();
    daemon.wait_for_state(State::Suspended, Duration::from_secs(30))?;
    assert!(idle.elapsed() > Duration::from_secs(8), "the load counted as activity");
    assert_eq!(docker(&home, &["run", "--rm", IMAGE, "echo", "here"])?.success()?.out(), "here\n");
    assert_eq!(environment(&daemon.status()?)?, before, "images are kept while suspended");
    Ok(())
}

#[test]
fn a_suspended_environment_is_deleted_at_the_end_of_the_grace_period() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("grace-period", "1s")])?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    daemon.overside(&["idle"])?.success()?;
    let status = daemon.wait_for_state(State::Idle, LEASE_END)?;
    assert_eq!((status.session, status.error), (None, None));
    home.wait_until_no_environment(LIMIT)
}

#[test]
fn a_terminated_daemon_takes_its_environment_along() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    daemon.terminate()?.success()?;
    home.wait_until_clean(LIMIT)
}

#[test]
fn a_call_is_refused_with_advice_while_overside_is_off() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    daemon.overside(&["stop"])?.success()?;
    let host = format!("unix://{}", home.docker_socket().display());
    let outcome = docker(&home, &["--host", &host, "ps"])?;
    assert_ne!(outcome.code(), 0);
    assert!(outcome.err().contains("overside start"), "{outcome:?}");
    assert_eq!(daemon.status()?.state, State::Stopped, "a call does not turn on what the user turned off");
    daemon.overside(&["start"])?.success()?;
    assert_eq!(daemon.status()?.state, State::Idle);
    Ok(())
}

#[test]
fn the_docker_context_is_selected_while_on_and_restored_afterwards() -> Result<()> {
    let home = TempHome::new()?;
    let config = home.docker_config().join("config.json");
    fs_err::write(&config, r#"{"detachKeys":"ctrl-x","currentContext":"default"}"#)?;
    let context =
        |config: &Path| -> Result<serde_json::Value> { Ok(serde_json::from_str(&fs_err::read_to_string(config)?)?) };
    let daemon = Daemon::enabled(&home)?;
    let shown = docker(&home, &["context", "ls", "--format", "{{if .Current}}{{.Name}} {{.DockerEndpoint}}{{end}}"])?;
    let expected = format!("overside unix://{}", home.docker_socket().display());
    assert!(shown.success()?.out().lines().any(|line| line == expected), "{expected}");
    daemon.overside(&["stop"])?.success()?;
    assert_ne!(context(&config)?["currentContext"], "overside");
    assert_eq!(context(&config)?["detachKeys"], "ctrl-x");

    // A crash leaves the context selected; the next daemon and its stop put it right.
    daemon.overside(&["start"])?.success()?;
    daemon.kill()?;
    let daemon = Daemon::start(&home)?;
    daemon.overside(&["stop"])?.success()?;
    assert_ne!(context(&config)?["currentContext"], "overside");
    Ok(())
}

#[test]
fn docker_context_answers_in_every_state_and_changes_none() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let unchanged = |state: State| -> Result<()> {
        for cli in clients()? {
            for arguments in [&["context", "ls"][..], &["context", "show"], &["context", "inspect", "overside"]] {
                if cli.major() < 23 && arguments[1] == "show" {
                    continue;
                }
                run(&mut home.docker(&cli, arguments)?, LIMIT)?.success()?;
            }
        }
        assert_eq!(daemon.status()?.state, state);
        Ok(())
    };
    unchanged(State::Idle)?;
    load(&home)?;
    unchanged(State::Running)?;
    daemon.overside(&["idle"])?.success()?;
    daemon.wait_for_state(State::Suspended, LIMIT)?;
    unchanged(State::Suspended)?;
    daemon.overside(&["stop", "--force"])?.success()?;
    unchanged(State::Stopped)
}

#[test]
fn stop_names_the_work_that_would_be_lost_and_needs_to_be_told_twice() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    docker(&home, &["volume", "create", "data"])?.success()?;
    for suspended in [false, true] {
        if suspended {
            daemon.overside(&["idle"])?.success()?;
            let status = daemon.wait_for("its work is named", LIMIT, |status| !status.at_risk.is_empty())?;
            assert_eq!(status.state, State::Suspended);
            let named: Vec<_> = status.at_risk.iter().map(|work| work.name.as_str()).collect();
            assert_eq!(named, ["box", "data", IMAGE]);
        }
        let refused = daemon.overside(&["stop"])?;
        assert_ne!(refused.code(), 0);
        for name in ["running container box", "volume data", IMAGE, "stop -f"] {
            assert!(refused.err().contains(name), "{refused:?}");
        }
        assert_ne!(daemon.status()?.state, State::Stopped);
    }
    daemon.overside(&["stop", "-f"])?.success()?;
    assert_eq!(daemon.status()?.state, State::Stopped);
    Ok(())
}

#[test]
fn a_held_event_stream_is_answered_at_once_and_goes_on_from_engine_to_engine() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let arguments = ["events", "--filter", "type=volume", "--format", "{{.Action}} {{.Actor.ID}}"];
    for cli in clients()? {
        let events = Running::spawn(&mut home.docker(&cli, &arguments)?)?;
        for name in ["first", "second"] {
            docker(&home, &["volume", "create", name])?.success()?;
            events.wait_for(&format!("create {name}\n"), LIMIT)?;
            // The next engine is another one.
            daemon.overside(&["settings", "set", "grace-period", "0s"])?.success()?;
            daemon.overside(&["idle"])?.success()?;
            daemon.wait_for_state(State::Idle, LIMIT)?;
        }
        assert_eq!(daemon.status()?.state, State::Idle, "listening to events woke an engine");
    }
    Ok(())
}

#[test]
fn a_script_that_polls_neither_keeps_awake_nor_resumes_and_a_person_does() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("idle-timeout", "10s")])?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let cli = &clients()?[0];
    let script = home.scratch().join("watcher");
    fs_err::write(&script, "#!/bin/sh\nwhile \"$@\" > /dev/null; do sleep 1; done\n")?;
    fs_err::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let ask = home.docker(cli, &["ps"])?;
    let mut poll = home.command(&script);
    poll.arg(ask.get_program()).args(ask.get_args());
    poll.envs(ask.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut poller = Running::spawn(&mut poll)?;
    let status = daemon.wait_for_state(State::Suspended, LIMIT)?;
    let ignored = status.ignored_pollers.iter().find(|poller| poller.program.contains("watcher"));
    let before = ignored.with_context(|| format!("the poller is not named: {status:?}"))?.calls;
    let counted = |status: &Status| status.ignored_pollers.iter().any(|poller| poller.calls >= before + 3);
    // It goes on asking and is answered, and nothing is resumed.
    daemon.wait_for("more polling", LIMIT, counted)?;
    assert_eq!(daemon.status()?.state, State::Suspended);
    assert!(!poller.has_ended()?, "the poller was refused");
    docker(&home, &["ps"])?.success()?;
    assert_eq!(daemon.status()?.state, State::Running);
    Ok(())
}

#[test]
fn kept_volumes_and_images_come_back_into_the_next_environment() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let volume = ["run", "--rm", "--volume", "data:/data", IMAGE, "sh", "-c"];
    let write = "mkdir /data/deep; seq 1000 > /data/deep/n; chown -R 7:8 /data/deep; chmod 640 /data/deep/n";
    docker(&home, &[&volume[..], &[write]].concat())?.success()?;
    let file = home.scratch().join("kept.zip");
    let archive = file.to_string_lossy().into_owned();
    daemon.overside(&["keep", &archive])?.success()?;
    daemon.overside(&["idle"])?.success()?;
    assert!(daemon.status()?.at_risk.iter().all(|work| work.kept_in.as_deref() == Some(&archive)));
    daemon.overside(&["stop", "--force"])?.success()?;
    daemon.overside(&["start"])?.success()?;
    let restored = daemon.overside(&["restore", &archive])?.success()?;
    assert!(restored.err().contains("volume data") && restored.err().contains(IMAGE), "{restored:?}");
    let read = "sha256sum < /data/deep/n; stat -c '%u %g %a' /data/deep/n";
    let found = docker(&home, &[&volume[..], &[read]].concat())?.success()?.out();
    let wanted =
        docker(&home, &["run", "--rm", IMAGE, "sh", "-c", "seq 1000 | sha256sum; echo 7 8 640"])?.success()?.out();
    assert_eq!(found, wanted);
    // What is there already is not overwritten, and nothing helping is left over.
    let again = daemon.overside(&["restore", &archive])?;
    assert!(again.code() != 0 && again.err().contains("already has a volume data"), "{again:?}");
    let images = docker(&home, &["images", "--all", "--format", "{{.Repository}}:{{.Tag}}"])?.success()?.out();
    assert_eq!(images.trim(), IMAGE);
    assert_eq!(docker(&home, &["ps", "--all", "--quiet"])?.out(), "");
    Ok(())
}

#[test]
fn usage_is_written_down_and_survives_a_killed_daemon() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let csv = || -> Result<Vec<Vec<String>>> {
        let out = run(&mut home.overside(&["usage", "--csv", "-"])?, LIMIT)?.success()?.out();
        Ok(out.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect())
    };
    // Time that passes is no change of the status that would be told.
    while daemon.status()?.usage.today_seconds < 2 {
        docker(&home, &["exec", "box", "sleep", "0.5"])?.success()?;
    }
    daemon.kill()?;
    let rows = csv()?;
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!((rows[1][2].as_str(), rows[1][3].as_str(), rows[1][8].as_str()), (home.runner(), IMAGE, "1"));
    let daemon = Daemon::start(&home)?;
    daemon.wait_for_state(State::Running, LIMIT)?;
    assert!(daemon.status()?.usage.today_seconds >= 1, "the day began anew");
    daemon.overside(&["stop", "--force"])?.success()?;
    let rows = csv()?;
    assert_eq!((rows.len(), rows[1][7].as_str()), (2, "stopped"), "{rows:?}");
    assert!(daemon.overside(&["usage"])?.success()?.out().contains("Today"));
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_home_refuses() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let second = run(&mut home.overside(&["daemon"])?, LIMIT)?;
    assert_ne!(second.code(), 0);
    assert!(second.err().contains("already"), "{second:?}");
    assert_eq!(daemon.status()?.state, State::Idle, "the first one is undisturbed");
    Ok(())
}

#[test]
fn sockets_of_a_killed_daemon_are_replaced() -> Result<()> {
    let home = TempHome::new()?;
    Daemon::enabled(&home)?.kill()?;
    assert!(home.docker_socket().exists() && home.control_socket().exists());
    let daemon = Daemon::start(&home)?;
    load(&home)?;
    assert_eq!(daemon.status()?.state, State::Running);
    Ok(())
}

#[test]
fn sockets_are_for_their_user_alone() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    for (path, mode) in [(home.docker_socket(), 0o600), (home.control_socket(), 0o600), (home.overside_home(), 0o700)] {
        assert_eq!(fs_err::metadata(&path)?.permissions().mode() & 0o777, mode, "{}", path.display());
    }
    Ok(())
}

#[test]
fn a_key_of_a_session_is_deleted_with_it() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let keys = || files(&home.overside_home(), &|text| text.contains("OPENSSH PRIVATE KEY"));
    assert!(!keys()?.is_empty(), "a restarted daemon needs the key to adopt its environment");
    daemon.overside(&["stop", "-f"])?.success()?;
    assert_eq!(keys()?, Vec::<std::path::PathBuf>::new());
    Ok(())
}

/// Text files below a directory whose content is as wished.
fn files(directory: &Path, wished: &dyn Fn(&str) -> bool) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != "environments" {
            found.extend(files(&entry.path(), wished)?);
        } else if kind.is_file() && fs_err::read_to_string(entry.path()).is_ok_and(|text| wished(&text)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[test]
fn a_waiting_call_ends_when_overside_is_turned_off_meanwhile() -> Result<()> {
    let home = with_stand_in("exec sleep 600")?;
    let daemon = Daemon::enabled(&home)?;
    let call = Running::spawn(&mut home.docker(&clients()?[0], &["ps"])?)?;
    daemon.wait_for_state(State::Starting, LIMIT)?;
    daemon.overside(&["stop", "-f"])?.success()?;
    let outcome = call.finish(LIMIT)?;
    assert_ne!(outcome.code(), 0);
    assert!(!outcome.err().is_empty(), "{outcome:?}");
    Ok(())
}

#[test]
fn calls_at_the_same_time_do_not_wait_for_each_other() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let waiting = Running::spawn(&mut home.docker(&clients()?[0], &["wait", "box"])?)?;
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> =
            (0..6).map(|_| scope.spawn(|| docker(&home, &["exec", "box", "echo", "hello"]))).collect();
        for worker in workers {
            let outcome = worker.join().map_err(|_| anyhow::anyhow!("a thread ended by a panic"))??;
            assert_eq!(outcome.success()?.out(), "hello\n");
        }
        Ok(())
    })?;
    docker(&home, &["kill", "box"])?.success()?;
    assert_eq!(waiting.finish(LIMIT)?.success()?.out(), "137\n");
    Ok(())
}
