//! The subcommand `serve`: makes one environment, reports, and lives with it until its end.

mod detach;
mod environment;
mod keep;
mod log;
mod owner;
mod report;
mod start;

use std::{
    io::stdin,
    process::{Command, ExitCode},
};

use overside_model::Problem;
use rustix::{io::Errno, process::setsid};

pub(crate) use self::environment::{Contact, Environment};
pub(crate) use self::owner::SOCKET as OWNER_SOCKET;
pub(crate) use self::report::hello;
use self::{report::Reporter, start::Preparation};
use crate::{
    problem::{During, internal},
    spec,
};

/// Runs the subcommand `serve --detach`, which is for starts from a login.
/// `subcommand` is what it is then.
pub(crate) fn detached(subcommand: &[&str]) -> ExitCode {
    detach::main(subcommand)
}

/// Runs the subcommand `serve`.
pub(crate) fn main() -> ExitCode {
    match leave_session() {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(problem) => return fail(problem),
    }
    log::to_stderr();
    let mut reporter = Reporter::default();
    if reporter.hello().is_err() {
        return ExitCode::FAILURE;
    }
    let (spec, client_key) = match spec::read(stdin().lock()) {
        Ok(read) => read,
        Err(problem) => return report_failure(&mut reporter, problem),
    };
    // Everything up to here, and the start of the environment's first process, happens before the agent has threads: that
    // process dies with the thread that started it, which must therefore be the one that lives as long as the agent.
    let prepared = match Preparation::make(&spec, &mut reporter) {
        Ok(prepared) => prepared,
        Err(problem) => return report_failure(&mut reporter, problem),
    };
    // Only now: the environment's processes have the limit that they were given.
    overside_io::process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match start::run(prepared, &spec, client_key, &mut reporter).await {
                Ok(running) => {
                    keep::run(running).await;
                    Ok(())
                }
                Err(problem) => Err(problem),
            }
        }),
        Err(error) => {
            prepared.undo();
            Err(error).during("starting the agent")
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => report_failure(&mut reporter, problem),
    }
}

/// Threads that carry the tunnel: one ciphers while another copies.
const WORKERS: usize = 2;

/// Reports that there is no environment, where nothing was reported before.
pub(crate) fn fail(problem: Problem) -> ExitCode {
    let mut reporter = Reporter::default();
    let _ = reporter.hello();
    report_failure(&mut reporter, problem)
}

fn report_failure(reporter: &mut Reporter, problem: Problem) -> ExitCode {
    // There is nobody else to tell when the provider is gone.
    let _ = reporter.failed(problem);
    ExitCode::FAILURE
}

/// Leaves the provider's session, so that a closing terminal or SSH login takes nothing along. Returns false in a process
/// that has handed its work to another: the leader of a process group cannot leave, only its child can.
fn leave_session() -> Result<bool, Problem> {
    match setsid() {
        Ok(_) => Ok(true),
        Err(Errno::PERM) if rustix::process::getsid(None) == Ok(rustix::process::getpid()) => Ok(true),
        Err(Errno::PERM) => {
            let own = std::env::current_exe().during("finding the agent's own program")?;
            Command::new(own).args(std::env::args_os().skip(1)).spawn().during("starting the agent again")?;
            Ok(false)
        }
        Err(error) => Err(internal(format!("leaving the session failed: {error}"))),
    }
}
