//! The SSH runner: real docker clients, and engines behind real OpenSSH servers.

mod docker_group;
mod elsewhere;
mod hosts;
mod keyring;
mod life;
mod login;
mod ports;
mod trouble;

use anyhow::Result;
use overside_testkit::{Daemon, Outcome, Sshd};

/// The runner's name in all of these tests.
const NAME: &str = "box";

/// Adds the server as a runner, its host key accepted.
fn add(daemon: &Daemon<'_>, sshd: &Sshd, user: &str) -> Result<Outcome> {
    daemon.overside(&["runner", "add", NAME, &sshd.address(user), "--accept-host-key", &sshd.fingerprint()?])
}

/// [`add`], then chooses it.
fn choose(daemon: &Daemon<'_>, sshd: &Sshd, user: &str) -> Result<()> {
    add(daemon, sshd, user)?.success()?;
    daemon.overside(&["runner", "default", NAME])?.success()?;
    Ok(())
}

/// Ends the session, and checks that nothing of it is left there but the agent's program, and that `runner rm` takes that.
fn leaves_nothing(daemon: &Daemon<'_>, sshd: &Sshd, before: &[String]) -> Result<()> {
    daemon.overside(&["stop", "-f"])?.success()?;
    let left: Vec<String> = sshd.files()?.into_iter().filter(|file| !before.contains(file)).collect();
    let program = |file: &String| file.ends_with(".cache") || file.contains(".cache/overside");
    assert!(left.iter().all(program), "left behind: {left:?}");
    let programs = left.iter().filter(|file| file.contains("/overside-agent-")).count();
    assert_eq!(programs, 1, "the agent's program stays for the next time: {left:?}");
    daemon.overside(&["runner", "default", "local"])?.success()?;
    daemon.overside(&["runner", "rm", NAME])?.success()?;
    let left: Vec<String> = sshd.files()?.into_iter().filter(|file| !before.contains(file)).collect();
    assert!(left.iter().all(|file| file.ends_with(".cache")), "left behind: {left:?}");
    Ok(())
}
