//! `overside-agent`: owns one environment on a runner.
//!
//! It starts dockerd in namespaces of its own, supervises it, holds the lease, and is the SSH server at the tunnel's far
//! end. One process an environment, so that nothing is shared that a broken environment could take along.

mod cgroup;
mod check;
mod cleanup;
mod connect;
mod conntrack;
mod elf;
mod engine;
mod environment;
mod in_docker;
mod lease;
mod link;
mod list;
mod names;
mod network;
mod parts;
mod problem;
mod process;
mod programs;
mod record;
mod rootless;
mod serve;
mod sole;
mod spec;
mod ssh;
mod subordinate;
mod tail;
mod take_over;
mod wire;

use std::{path::Path, process::ExitCode};

const USAGE: &str = "\
usage: overside-agent serve [--detach]             make an environment (specification on standard input)
       overside-agent connect SOCKET               join standard input and output to an agent's socket
       overside-agent list DIRECTORY               tell which environments a directory holds
       overside-agent cleanup [--force] DIRECTORY  remove what a killed agent left behind
       overside-agent take-over DIRECTORY          hand an environment to another client (standard input)
       overside-agent check [ENGINE-PATH]          tell what this machine can do
       overside-agent in-docker SUBCOMMAND...      any of them in a container on this machine's Docker
       overside-agent version";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    run(&arguments)
}

fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve"] => serve::main(),
        ["serve", "--detach"] => serve::detached(&["serve"]),
        ["in-docker", "serve", "--detach"] => serve::detached(&["in-docker", "serve"]),
        ["in-docker", _, ..] => in_docker::main(&arguments[1..]),
        ["connect", socket] => connect::main(Path::new(socket)),
        ["list", directory] => list::main(Path::new(directory)),
        ["take-over", directory] => take_over::main(Path::new(directory)),
        ["cleanup", ..] => cleanup::main(&arguments[1..]),
        ["check"] => check::main(None),
        ["check", engine_path] => check::main(Some(engine_path)),
        ["version" | "--version"] => {
            println!("overside-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        // Started by the agent itself only.
        ["environment"] => environment::main(),
        ["files"] => environment::files::main(),
        ["remove", directory] => rootless::remove_main(Path::new(directory)),
        ["in-container", ..] => match in_docker::enter_host() {
            Ok(()) => run(&arguments[1..]),
            Err(problem) => {
                eprintln!("overside-agent: {problem}");
                ExitCode::FAILURE
            }
        },
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
