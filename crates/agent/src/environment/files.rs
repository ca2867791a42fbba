//! The hidden subcommand `files`: the environment's side of one bind mount, as the environment's root and inside its limits.
//!
//! It is a program of its own, so that what it reads and writes is the environment's, and a broken one takes nothing along.

use std::{
    io::{self, stdin},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use overside_model::agent::LAPTOP_FILES;

/// Files on their way, on the file system of those that have arrived.
const STAGES: &str = "/.overside/stages";

/// Starts one, and returns the stream to it. It ends when the stream does.
pub(super) fn start() -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    Command::new("/proc/self/exe")
        .arg("files")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok(ours.into())
}

/// Runs the subcommand: serves on its standard input.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overside-agent: files: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let stream = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    // New files have the permissions that they are given.
    rustix::process::umask(rustix::fs::Mode::empty());
    overside_sync::serve(stream.try_clone()?, stream, Path::new(LAPTOP_FILES), Path::new(STAGES))
}
