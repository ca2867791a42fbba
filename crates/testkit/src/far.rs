//! Another host for the environments of a test's home, so that tests of the runner on this machine are tests of the SSH runner.

use std::{fs::File, os::fd::AsFd as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    TempHome,
    sshd::{Setup, Sshd, USER},
    wan::{self, Wan},
};

/// Says that environments live on another host, and who runs the OpenSSH server there: `root` or `user`.
const VARIABLE: &str = "OVERSIDE_TEST_OVER_SSH";
/// What each direction of the line to it takes.
const DELAY: Duration = Duration::from_millis(20);
/// The runner's name.
pub(crate) const NAME: &str = "far";

/// An OpenSSH server in a network namespace of its own, behind a line of 40 ms. The thread that makes it is on the laptop from
/// then on, which is the other namespace: what it starts, listens on or connects to is there, as Overside's ports are. Dropped,
/// all of it is gone, and the thread where it was.
pub(crate) struct Far {
    sshd: Sshd,
    wan: Wan,
    /// What the host has before any environment.
    before: Vec<String>,
    ordinary: bool,
    /// The network where the thread was.
    outside: File,
}

impl Far {
    /// The host that the test run asks for, known to the home's Overside as its runner; none where it asks for none.
    ///
    /// # Errors
    /// The server does not start; it needs root.
    pub(crate) fn wanted(home: &TempHome) -> Result<Option<Self>> {
        let Some(who) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let ordinary = match who.to_str() {
            Some("root") => false,
            Some("user") => true,
            _ => bail!("{VARIABLE} is {who:?}, and neither `root` nor `user`"),
        };
        let wan = Wan::new(DELAY)?;
        let network = Some((&*wan.far(), wan::FAR));
        let sshd = Sshd::start(home, Setup { network, ordinary, ..Setup::default() })?;
        let address = sshd.address(if ordinary { USER } else { "root" });
        let runners = serde_json::json!({ "runners": [{ "name": NAME, "address": address }] });
        fs_err::write(home.overside_home().join("runners.json"), runners.to_string())?;
        fs_err::write(home.overside_home().join("known_hosts"), sshd.known_hosts_line()?)?;
        let before = sshd.files()?;
        let outside = fs_err::File::open("/proc/thread-self/ns/net")?.into_file();
        enter(&fs_err::File::open(wan.near())?.into_file())?;
        Ok(Some(Self { sshd, wan, before, ordinary, outside }))
    }

    /// The network namespace that reaches it, as a file.
    pub(crate) fn network(&self) -> PathBuf {
        self.wan.near()
    }

    /// Whether environments there have limits of their own.
    pub(crate) fn has_limits(&self) -> bool {
        !self.ordinary
    }

    /// Files that are there and were not before, besides the agent's program in its cache.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn left(&self) -> Result<Vec<String>> {
        let cache = |file: &str| file.ends_with("/.cache") || file.ends_with("/.cache/overside");
        let new = self.sshd.files()?.into_iter().filter(|file| !self.before.contains(file));
        Ok(new.filter(|file| !cache(file) && !file.contains("/.cache/overside/overside-agent-")).collect())
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It stays where it is only if the machine's network has gone, and then nothing can be tested any more.
        let _ = enter(&self.outside);
    }
}

/// Moves this thread into a network.
fn enter(network: &File) -> Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter a network")
}
