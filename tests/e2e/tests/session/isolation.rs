//! What runs inside an environment sees nothing of the machine and of other environments.

use std::process::Command;

use anyhow::Result;
use overside_e2e::{container, docker, load};
use overside_testkit::{Daemon, IMAGE, LIMIT, Running, TempHome};

/// Runs a script in a container with these options.
fn inside(home: &TempHome, options: &[&str], script: &str) -> Result<String> {
    let arguments: Vec<&str> =
        ["run", "--rm"].iter().chain(options).copied().chain([IMAGE, "sh", "-c", script]).collect();
    Ok(docker(home, &arguments)?.success()?.out())
}

#[test]
fn a_container_cannot_see_the_machines_processes() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let marker = Running::spawn(Command::new("sleep").arg("987654"))?;
    let seen = inside(&home, &["--pid", "host"], "ps")?;
    assert!(seen.contains("dockerd"), "the environment's own processes are its host's: {seen}");
    for secret in ["987654", "overside"] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
    drop(marker);
    Ok(())
}

/// Everything that root of an environment can have.
const ALMIGHTY: &[&str] = &["--pid", "host", "--cap-add", "ALL", "--security-opt", "apparmor=unconfined"];

/// Runs a script as almighty root in the root directory of the environment's engine.
fn in_the_engines_root(home: &TempHome, script: &str) -> Result<String> {
    let find =
        "status=$(grep -l 'Name:.dockerd$' /proc/[0-9]*/status | head -n 1); cd ${status%/status}/root/ || exit 1";
    inside(home, ALMIGHTY, &format!("{find}; {script}"))
}

#[test]
fn a_container_cannot_see_the_machines_files() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    fs_err::write(home.scratch().join("secret"), "the machine's secret")?;
    let reached = in_the_engines_root(&home, "ls .")?;
    assert!(reached.lines().any(|name| name == "var"), "the test does not look where it should: {reached}");
    let script = format!(
        "ls .{} 2>&1; cat etc/shadow 2>&1; cat /proc/1/environ 2>&1 | tr '\\0' '\\n'; find . -name secret 2>/dev/null; true",
        home.scratch().display()
    );
    let seen = in_the_engines_root(&home, &script)?;
    let shadow = fs_err::read_to_string("/etc/shadow").unwrap_or_default();
    let passwords = shadow.lines().filter(|line| line.contains('$'));
    for secret in passwords.chain([home.overside_home().to_string_lossy().as_ref(), "/secret", "OVERSIDE_HOME"]) {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
    Ok(())
}

#[test]
fn a_container_cannot_see_the_machines_network() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let ours = fs_err::read_link("/proc/self/ns/net")?.display().to_string();
    let theirs = inside(&home, &["--network", "host"], "readlink /proc/self/ns/net")?;
    assert_ne!(theirs.trim(), ours);
    // Abstract sockets belong to a network namespace, so that the machine's are out of reach with it.
    let sockets = inside(&home, &["--network", "host"], "cat /proc/net/unix")?;
    assert!(!sockets.contains(&home.overside_home().display().to_string()), "{sockets}");
    Ok(())
}

#[test]
fn root_in_a_container_is_nobody_on_the_machine() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let map = inside(&home, &["--pid", "host", "--userns", "host"], "cat /proc/self/uid_map")?;
    let outside: Vec<&str> = map.split_whitespace().collect();
    assert!(outside.len() >= 3 && outside[1] != "0", "root inside is root outside: {map}");
    Ok(())
}

#[test]
fn even_a_privileged_container_has_no_device_of_the_machine() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let disk = inside(&home, &["--cap-add", "ALL"], "mknod /disk b 254 0 && head -c 1 /disk || echo refused")?;
    assert!(disk.contains("refused"), "{disk}");
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                 for f in /proc/sys/kernel/hostname_machine /proc/sysrq-trigger /sys/power/state; do \
                 (echo x > $f) 2>/dev/null && echo \"wrote $f\"; done; true";
    let written = inside(&home, &["--cap-add", "ALL"], limit)?;
    assert!(!written.contains("wrote"), "{written}");
    Ok(())
}

#[test]
fn an_environment_keeps_to_its_memory() -> Result<()> {
    let home = TempHome::new()?;
    home.set(&[("size.memory", "256MiB"), ("size.cpus", "1")])?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    if !home.has_limits() {
        let notes = daemon.status()?.session.map(|session| session.notes).unwrap_or_default();
        assert!(notes.iter().any(|note| note.contains("not limited")), "that it cannot is told: {notes:?}");
        return Ok(());
    }
    let greedy = docker(&home, &["run", "--rm", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1"])?;
    assert_eq!(greedy.code(), 137, "{greedy:?}");
    assert_eq!(inside(&home, &[], "echo the engine goes on")?, "the engine goes on\n");
    daemon.terminate()?.success()?;
    home.wait_until_clean(LIMIT)
}

#[test]
fn two_homes_have_two_environments_that_know_nothing_of_each_other() -> Result<()> {
    let (one, other) = (TempHome::new()?, TempHome::new()?);
    let (first, second) = (Daemon::enabled(&one)?, Daemon::enabled(&other)?);
    container(&one, "mine")?;
    container(&other, "yours")?;
    assert_eq!(docker(&one, &["ps", "--format", "{{.Names}}"])?.success()?.out(), "mine\n");
    assert_eq!(docker(&other, &["ps", "--format", "{{.Names}}"])?.success()?.out(), "yours\n");
    docker(&one, &["exec", "mine", "sh", "-c", "echo secret-of-one > /secret-of-one"])?.success()?;
    let seen = in_the_engines_root(&other, "find . -name secret-of-one 2>/dev/null; ps")?;
    assert!(!seen.contains("/secret-of-one\n"), "{seen}");
    assert_eq!(seen.matches("sleep 100000").count(), 1, "one container is in sight, its own: {seen}");

    let name =
        |daemon: &Daemon<'_>| -> Result<_> { Ok(daemon.status()?.session.and_then(|session| session.environment)) };
    assert_ne!(name(&first)?, name(&second)?);
    first.overside(&["stop", "-f"])?.success()?;
    assert_eq!(docker(&other, &["ps", "--format", "{{.Names}}"])?.success()?.out(), "yours\n", "the other goes on");
    Ok(())
}
