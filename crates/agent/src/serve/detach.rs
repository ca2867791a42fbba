//! Starting from a login: the process that the login started stays until the environment has begun, and another one is the
//! agent.
//!
//! sshd closes the standard input of a session whose process has ended, and a sudo that keeps its own pipes loses what a
//! process says that was left behind. So both are relayed for as long as they matter, and then let go of: sshd counts a
//! session for as long as its process lives, and sudo stays for as long as its does.

use std::{
    io::{self, BufRead as _, Read, Write, stdin, stdout},
    process::{Command, ExitCode, Stdio},
};

use overside_model::{Problem, agent::MAX_LINE};

use super::fail;
use crate::problem::During;

/// Starts the agent again, hands it the specification, and passes its reports on until it has let go of them.
pub(super) fn main(subcommand: &[&str]) -> ExitCode {
    match run(subcommand) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(problem),
    }
}

fn run(subcommand: &[&str]) -> Result<(), Problem> {
    let mut specification = Vec::new();
    // One byte more than is allowed, so that the agent itself finds it too long.
    let mut input = stdin().lock().take(MAX_LINE as u64 + 1);
    input.read_until(b'\n', &mut specification).during("reading the specification")?;
    let doing = "starting the agent again";
    let own = std::env::current_exe().during(doing)?;
    let mut agent =
        Command::new(own).args(subcommand).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().during(doing)?;
    if let Some(mut stdin) = agent.stdin.take() {
        // One that has died already has said why.
        let _ = stdin.write_all(&specification);
    }
    if let Some(mut reports) = agent.stdout.take() {
        // Ends when the agent has let go, or when the provider is gone, which the agent notices in its turn.
        let _ = pass_on(&mut reports, &mut stdout().lock());
    }
    Ok(())
}

fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; MAX_LINE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all(&buffer[..read])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
