//! What tests share: homes of their own, daemons, docker clients, images without a registry, and an engine to compare with.
//!
//! Everything is blocking, since tests drive programs and not futures, and everything that waits has a limit: no test
//! hangs, and none sleeps to let something happen. What a test begins is ended when it drops out of scope, and a
//! [`TempHome`] that leaves something behind on the machine fails its test.

mod bus;
mod daemon;
mod direct;
mod docker;
mod far;
mod home;
mod host_docker;
mod image;
mod process;
mod sshd;
mod traces;
mod wan;
mod wire;

pub use bus::{Keyring, SessionBus};
pub use daemon::Daemon;
pub use direct::DirectEngine;
pub use docker::{DockerCli, clients};
pub use home::TempHome;
pub use host_docker::HostDocker;
pub use image::{Blob, IMAGE, busybox_archive, write_archive};
pub use process::{LIMIT, Outcome, Running, on_terminal, run, run_fed, signal_process};
pub use sshd::{Setup, Sshd, USER};
pub use traces::Traces;
pub use wire::Wire;

/// Programs of the product under test: `overside` and what lies beside it.
///
/// `OVERSIDE_BIN_DIR` names the directory (`cargo xtask test` sets it); without it, it is where `cargo xtask build` puts
/// the programs in the target directory that this test was built in.
///
/// # Errors
/// Says how to build the program where it is not there.
pub fn product(name: &str) -> anyhow::Result<std::path::PathBuf> {
    use anyhow::Context as _;
    let directory = match std::env::var_os("OVERSIDE_BIN_DIR") {
        Some(directory) => std::path::PathBuf::from(directory),
        None => {
            let test = std::env::current_exe().context("a test does not know where it lies")?;
            // target/<profile>/deps/<test>
            let profile = test.ancestors().nth(2).context("a test lies outside a target directory")?;
            let target = profile.parent().context("a test lies outside a target directory")?;
            target.join("overside").join(profile.file_name().context("a profile's directory has no name")?)
        }
    };
    let program = directory.join(name);
    anyhow::ensure!(program.exists(), "{} is not there: run `cargo xtask build`", program.display());
    Ok(program)
}
