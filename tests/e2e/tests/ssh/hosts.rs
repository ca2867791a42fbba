//! Hosts that lack something: room, a writable home, a shell, speed.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_model::State;
use overside_testkit::{Daemon, LIMIT, Setup, Sshd, TempHome, USER};

use crate::{NAME, add, choose};

#[test]
fn a_read_only_home_leaves_other_places_for_the_agent() -> Result<()> {
    let home = TempHome::new()?;
    let before = "mount --bind home home && mount -o remount,bind,ro home\n\
                  mkdir tmp && chmod 1777 tmp && mount --bind tmp /var/tmp\n";
    let sshd = Sshd::start(&home, Setup { before, ..Setup::default() })?;
    let daemon = Daemon::enabled(&home)?;
    crate::choose(&daemon, &sshd, USER)?;
    overside_e2e::docker(&home, &["volume", "create", "vol"])?.success()?;
    daemon.overside(&["stop", "-f"])?.success()?;
    daemon.overside(&["runner", "default", "local"])?.success()?;
    daemon.overside(&["runner", "rm", NAME])?.success()?;
    let tmp = sshd.user_home("").join("../tmp");
    let left: Vec<_> = fs_err::read_dir(tmp)?.collect::<Result<_, _>>()?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn a_host_without_room_for_the_agent_says_so() -> Result<()> {
    let home = TempHome::new()?;
    let before = "mount -t tmpfs -o size=512k,mode=755,uid=4321 none home/runner\n";
    let sshd = Sshd::start(&home, Setup { before, ..Setup::default() })?;
    let daemon = Daemon::start(&home)?;
    let outcome = add(&daemon, &sshd, USER)?;
    assert!(outcome.code() != 0 && outcome.err().contains("FAILED  agent"), "{outcome:?}");
    assert!(outcome.err().contains("no room for the agent"), "{outcome:?}");
    Ok(())
}

#[test]
fn an_old_or_broken_agent_in_the_cache_is_not_used() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::start(&home)?;
    add(&daemon, &sshd, "root")?.success()?;
    let cache = sshd.user_home("root").join(".cache/overside");
    let program = fs_err::read_dir(&cache)?.next().context("the agent is not there")??.path();
    let good = fs_err::read(&program)?;
    fs_err::write(&program, "#!/bin/sh\necho I am old\n")?;
    let old = cache.join("overside-agent-0.0.1-0123456789abcdef");
    fs_err::write(&old, "#!/bin/sh\necho I am older\n")?;
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(40 * 86_400);
    fs_err::File::options().append(true).open(&old)?.into_file().set_modified(long_ago)?;
    daemon.overside(&["runner", "test", NAME])?.success()?;
    assert!(fs_err::read(&program)? == good, "the agent is the right one again");
    assert!(!old.exists(), "what nobody has used for a month is gone");
    Ok(())
}

#[test]
fn a_login_that_runs_no_commands_is_told() -> Result<()> {
    for (config, said) in [
        ("ForceCommand echo This account is for backups.", "This account is for backups."),
        ("ForceCommand /bin/false", "does not run commands"),
    ] {
        let home = TempHome::new()?;
        let sshd = Sshd::start(&home, Setup { config, ..Setup::default() })?;
        let daemon = Daemon::start(&home)?;
        let outcome = add(&daemon, &sshd, "root")?;
        assert!(outcome.code() != 0 && outcome.err().contains("FAILED  shell"), "{outcome:?}");
        assert!(outcome.err().contains(said), "{outcome:?}");
    }
    Ok(())
}

#[test]
fn a_host_without_an_engine_says_what_to_install() -> Result<()> {
    let home = TempHome::new()?;
    let before =
        "mkdir empty; for p in /usr/bin/dockerd /usr/sbin/dockerd; do [ ! -e $p ] || mount --bind /dev/null $p; done\n";
    let sshd = Sshd::start(&home, Setup { before, ..Setup::default() })?;
    let daemon = Daemon::start(&home)?;
    let outcome = add(&daemon, &sshd, "root")?;
    assert!(outcome.code() != 0 && outcome.err().contains("dockerd"), "{outcome:?}");
    assert!(outcome.err().contains("FAILED"), "{outcome:?}");
    Ok(())
}

#[test]
fn two_users_of_a_host_do_not_see_each_others_environments() -> Result<()> {
    let (one, other) = (TempHome::new()?, TempHome::new()?);
    let sshd = Sshd::start(&one, Setup::default())?;
    // Both log in to the same server, each as somebody else.
    let key = one.scratch().join("user/.ssh/id_ed25519");
    fs_err::create_dir_all(other.scratch().join("user/.ssh"))?;
    fs_err::copy(&key, other.scratch().join("user/.ssh/id_ed25519"))?;
    let (first, second) = (Daemon::enabled(&one)?, Daemon::enabled(&other)?);
    crate::choose(&first, &sshd, "root")?;
    crate::choose(&second, &sshd, USER)?;
    overside_e2e::docker(&one, &["volume", "create", "one"])?.success()?;
    overside_e2e::docker(&other, &["volume", "create", "other"])?.success()?;
    assert_eq!(overside_e2e::docker(&one, &["volume", "ls", "-q"])?.success()?.out(), "one\n");
    assert_eq!(overside_e2e::docker(&other, &["volume", "ls", "-q"])?.success()?.out(), "other\n");
    Ok(())
}

/// The head of the answer to a ping.
fn ping(home: &TempHome) -> Result<String> {
    let mut stream = UnixStream::connect(home.docker_socket())?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"HEAD /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")?;
    let mut head = String::new();
    stream.read_to_string(&mut head)?;
    Ok(head.to_lowercase())
}

#[test]
fn a_ping_wakes_nothing_however_long_a_host_that_was_never_seen_takes_to_tell_of_its_engine() -> Result<()> {
    let home = TempHome::new()?;
    let before = "printf '#!/bin/sh\\necho Docker version 28.1.0, build 0\\n' > dockerd\nchmod 755 dockerd\n\
                  for p in /usr/bin/dockerd /usr/sbin/dockerd; do [ ! -e $p ] || mount --bind dockerd $p; done\n";
    let sshd = Sshd::start(&home, Setup { before, ..Setup::default() })?;
    let daemon = Daemon::start(&home)?;
    choose(&daemon, &sshd, "root")?;
    daemon.terminate()?.success()?;

    let held = home.scratch().join("held");
    fs_err::write(&held, "")?;
    let bashrc = format!("while [ -e {} ]; do sleep 0.05; done\n", held.display());
    fs_err::write(sshd.user_home("root").join(".bashrc"), bashrc)?;
    let daemon = Daemon::enabled(&home)?;
    let head = ping(&home)?;
    assert!(head.starts_with("http/1.1 200") && head.contains("api-version: 1.41"), "what every engine speaks: {head}");
    assert_eq!(daemon.status()?.state, State::Idle);

    fs_err::remove_file(&held)?;
    let end = Instant::now() + LIMIT;
    while !ping(&home)?.contains("api-version: 1.49") {
        assert!(Instant::now() < end, "what the host told at last counts");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.status()?.state, State::Idle);
    Ok(())
}
