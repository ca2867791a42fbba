//! What can go wrong is told where a person looks: by the command, in the status, and by docker itself; and never hangs.

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use overside_e2e::{docker, load, with_stand_in};
use overside_model::{ErrorCode, State, Status};
use overside_testkit::{Daemon, LIMIT, TempHome, run};

/// Turns Overside on, calls docker, and requires that the call fails with the problem that the status has.
fn told(home: &TempHome, codes: &[ErrorCode], phrases: &[&str]) -> Result<()> {
    let daemon = Daemon::enabled(home)?;
    // A list of containers would be answered without an engine.
    let call = docker(home, &["volume", "create", "vol"])?;
    ensure!(call.code() != 0, "the call succeeded: {call:?}");
    let status = daemon.status()?;
    let problem = status.error.clone().with_context(|| format!("the status tells no error: {status:?}"))?;
    ensure!(codes.contains(&problem.code), "{problem:?}");
    ensure!(!problem.hint.is_empty(), "no next step: {problem:?}");
    ensure!(status.state == State::Failed, "{status:?}");
    for phrase in phrases {
        ensure!(problem.sentence().contains(phrase), "{phrase:?} is not in {problem:?}");
    }
    // The client shows the whole sentence, maybe with line breaks of its own.
    ensure!(call.err().contains(&problem.message), "docker says something else: {call:?}\n{problem:?}");
    let shown = daemon.overside(&["status"])?;
    ensure!(shown.out().contains(&problem.message), "the status shows something else: {shown:?}");
    Ok(())
}

#[test]
fn a_machine_without_dockerd_is_told_what_to_install() -> Result<()> {
    let home = TempHome::here("the engine's place is set for this machine")?;
    let empty = home.scratch().join("empty");
    fs_err::create_dir(&empty)?;
    told(&home.with("OVERSIDE_ENGINE_PATH", empty), &[ErrorCode::EngineMissing], &["dockerd"])
}

#[test]
fn a_missing_agent_is_named() -> Result<()> {
    let home = TempHome::here("the agent is looked for here")?.with("OVERSIDE_AGENT", "/nonexistent/overside-agent");
    told(&home, &[ErrorCode::AgentMissing], &["/nonexistent/overside-agent"])
}

#[test]
fn an_agent_that_dies_while_starting_is_told() -> Result<()> {
    let home = with_stand_in("read line; echo 'the machine burns' >&2; kill -9 $$")?;
    let codes = [
        ErrorCode::RunnerUnreachable,
        ErrorCode::AgentIncompatible,
        ErrorCode::EnvironmentLost,
        ErrorCode::EngineFailed,
    ];
    told(&home, &codes, &["the machine burns"])
}

#[test]
fn a_program_that_is_no_agent_is_not_taken_for_one() -> Result<()> {
    let home = with_stand_in("echo Welcome to this machine; exec cat")?;
    told(&home, &[ErrorCode::AgentIncompatible], &[])
}

#[test]
fn an_agent_of_another_protocol_is_told() -> Result<()> {
    let hello = r#"echo '{"report":"hello","magic":"overside-agent","protocol":9999,"version":"9.9.9"}'; exec cat"#;
    let home = with_stand_in(hello)?;
    told(&home, &[ErrorCode::AgentIncompatible], &[])
}

#[test]
fn a_start_that_does_not_end_is_ended_by_its_time_out() -> Result<()> {
    let home = with_stand_in("exec sleep 600")?;
    home.set(&[("start-timeout", "5s")])?;
    told(&home, &[ErrorCode::StartTimedOut], &["5"])
}

#[test]
fn a_full_disk_is_told() -> Result<()> {
    let home = TempHome::here("it is this machine's disk that is full")?;
    let place = home.overside_home();
    let mounted = SmallDisk::on(place)?;
    let outcome = told(&home, &[ErrorCode::DiskFull], &[]);
    home.wait_until_clean(LIMIT)?;
    drop(mounted);
    outcome
}

/// A file system with room for settings and logs, and for no engine.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn on(place: PathBuf) -> Result<Self> {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=160k,mode=0700", "tmpfs"]).arg(&place), LIMIT)?
            .success()?;
        Ok(Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that stays is told by the look for leftovers at the end of the run.
        let _ = run(Command::new("umount").arg(&self.0), LIMIT);
    }
}

#[test]
fn an_unusable_settings_file_is_told_and_left_as_it_is() -> Result<()> {
    for (content, phrase) in
        [("{ not json", "settings.json"), (r#"{"idle-timeout": "9s"}"#, "idle-timeout"), ("[]", "object")]
    {
        let home = TempHome::new()?;
        let file = home.overside_home().join("settings.json");
        fs_err::write(&file, content)?;
        let start = run(&mut home.overside(&["start"])?, LIMIT)?;
        assert_ne!(start.code(), 0, "{start:?}");
        assert!(start.err().contains(phrase), "{phrase}: {start:?}");
        let status = run(&mut home.overside(&["status", "--format", "json"])?, LIMIT)?;
        let status: Status = serde_json::from_slice(&status.stdout)?;
        let problem = status.error.context("the status tells no error")?;
        assert_eq!(problem.code, ErrorCode::InvalidSettings);
        assert!(problem.sentence().contains(phrase), "{problem:?}");
        assert_eq!(fs_err::read_to_string(&file)?, content);
    }
    Ok(())
}

#[test]
fn docker_itself_says_that_the_settings_are_unusable() -> Result<()> {
    let home = TempHome::new()?;
    fs_err::write(home.overside_home().join("settings.json"), "{ not json")?;
    // Whether Overside should be on is not known, so that the Docker context is not changed; the socket answers all the same.
    let _daemon = Daemon::start(&home)?;
    let host = format!("unix://{}", home.docker_socket().display());
    let call = docker(&home, &["--host", &host, "ps"])?;
    assert_ne!(call.code(), 0);
    assert!(call.err().contains("settings.json"), "{call:?}");
    Ok(())
}

#[test]
fn a_home_too_deep_for_a_socket_is_told() -> Result<()> {
    let home = TempHome::new()?;
    let deep = home.scratch().join("a-directory-with-a-long-name".repeat(5));
    fs_err::create_dir(&deep)?;
    for arguments in [&["daemon"][..], &["start"]] {
        let outcome = run(home.overside(arguments)?.env("OVERSIDE_HOME", &deep), LIMIT)?;
        assert_ne!(outcome.code(), 0, "{outcome:?}");
        assert!(outcome.err().contains("socket path"), "{outcome:?}");
        assert!(outcome.err().contains("OVERSIDE_HOME"), "the way out is named: {outcome:?}");
    }
    let status = run(home.overside(&["status", "--format", "json"])?.env("OVERSIDE_HOME", &deep), LIMIT)?;
    let status: Status = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status.error.map(|problem| problem.code), Some(ErrorCode::SocketPath));
    Ok(())
}

#[test]
fn after_the_trouble_is_mended_the_next_call_works() -> Result<()> {
    let home = TempHome::here("the engine's place is set for this machine")?;
    let engines = home.scratch().join("engines");
    fs_err::create_dir(&engines)?;
    let home = home.with("OVERSIDE_ENGINE_PATH", &engines);
    let daemon = Daemon::enabled(&home)?;
    assert_ne!(docker(&home, &["volume", "create", "vol"])?.code(), 0);
    assert_eq!(daemon.status()?.state, State::Failed);
    for directory in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        for program in fs_err::read_dir(directory)? {
            let program = program?;
            let link = engines.join(program.file_name());
            if !link.exists() {
                std::os::unix::fs::symlink(program.path(), link)?;
            }
        }
    }
    // Starts are tried again with growing pauses; a call within one gets the last start's error at once.
    let deadline = Instant::now() + LIMIT;
    while docker(&home, &["volume", "create", "vol"])?.code() != 0 {
        ensure!(Instant::now() < deadline, "no call has started an environment: {:?}", daemon.status()?);
    }
    load(&home)?;
    let status = daemon.status()?;
    assert_eq!((status.state, status.error), (State::Running, None));
    Ok(())
}
