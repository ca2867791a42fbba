//! The hidden subcommand `environment`: becomes the environment's first process.
//!
//! It is a program of its own, started by the agent, because namespaces are entered by forking, which a process with threads
//! cannot do. Its standard input is the [`wire`] to the agent, its output and error are the engine's log.

pub(crate) mod files;
mod init;
mod listeners;
mod mount;
mod mounts;
mod netlink;
mod overlay;
pub(crate) mod rootlesskit;
mod tree;

use std::{
    io::stdin,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use fs_err as fs;
use nix::unistd::ForkResult;
use overside_model::Problem;
use rustix::{
    process::{Signal, WaitOptions, set_parent_process_death_signal, waitpid},
    thread::{Gid, Uid, UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::{
    problem::{During, internal, unsuitable},
    wire::{self, Command, Event, Plan},
};

/// Runs the subcommand.
pub(crate) fn main() -> ExitCode {
    let Ok(wire) = stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    match run(&wire) {
        Ok(code) => code,
        Err(problem) => {
            let _ = wire::send(&wire, &Event::Failed(problem), &[]);
            ExitCode::FAILURE
        }
    }
}

fn run(wire: &OwnedFd) -> Result<ExitCode, Problem> {
    die_with_parent()?;
    let Command::Plan(plan) = wire::expect(wire)? else { return Err(internal("the plan did not come first")) };
    for entrance in &plan.entrances {
        fs::write(entrance, "0").during(format_args!("entering {}", entrance.display()))?;
    }
    if plan.privileged {
        // As the machine's root, in a mount namespace that still belongs to the machine: every mount of the tree is then
        // locked for the environment, which can neither remount it writable nor look beneath it.
        unshare(UnshareFlags::NEWNS)?;
        tree::build(&plan)?;
    }
    enter_namespaces(wire, &plan)?;
    if !plan.privileged {
        tree::build(&plan)?;
    }
    fork_init(wire, &plan)
}

/// All namespaces in one call, so that each of them belongs to the new user namespace.
fn enter_namespaces(wire: &OwnedFd, plan: &Plan) -> Result<(), Problem> {
    let mut flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC;
    if plan.cgroups.is_some() {
        flags |= UnshareFlags::NEWCGROUP;
    }
    unshare(flags)?;
    wire::send(wire, &Event::Unshared, &[]).during("talking to the agent")?;
    let Command::Mapped = wire::expect(wire)? else { return Err(internal("the id maps did not come next")) };
    set_thread_groups(&[]).during("dropping the groups")?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during("becoming the environment's root group")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during("becoming the environment's root")?;
    // Changing ids has cleared it.
    die_with_parent()
}

/// Dies as soon as the parent does, however it dies; `kill -9` of the agent must leave nothing running. A parent that died
/// before this call is noticed by the end of the wire.
fn die_with_parent() -> Result<(), Problem> {
    set_parent_process_death_signal(Some(Signal::KILL)).during("tying the environment to the agent")
}

fn unshare(flags: UnshareFlags) -> Result<(), Problem> {
    use rustix::io::Errno;
    #[expect(unsafe_code, reason = "unshare is unsafe for sharing descriptors with threads; there are no threads here")]
    // SAFETY: this process has one thread, and FILES is not among the flags.
    let result = unsafe { rustix::thread::unshare_unsafe(flags) };
    match result {
        Err(Errno::NOSPC) => Err(unsuitable(
            "this machine allows no more user namespaces",
            "Raise them: `sysctl -w user.max_user_namespaces=15000`",
        )),
        Err(Errno::PERM) => Err(unsuitable(
            "this machine does not let this user make namespaces",
            "Allow it (`sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu `sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0`), or let the agent run as root",
        )),
        Err(Errno::INVAL) => Err(unsuitable(
            "this machine's kernel lacks a kind of namespace",
            "Use a kernel with user, pid and cgroup namespaces",
        )),
        other => other.during("making namespaces"),
    }
}

/// The child is the first process of the new pid namespace; this process stays outside it and waits. The child's end takes
/// every process of the namespace with it, so that the end of this process means that nothing of the environment runs.
fn fork_init(wire: &OwnedFd, plan: &Plan) -> Result<ExitCode, Problem> {
    #[expect(unsafe_code, reason = "fork is unsafe with threads; this process never has any")]
    // SAFETY: there is one thread, so that the child finds no lock held by another.
    let forked = unsafe { nix::unistd::fork() };
    match forked.during("starting the environment's first process")? {
        ForkResult::Child => {
            die_with_parent()?;
            init::run(wire, plan)
        }
        ForkResult::Parent { child } => {
            // Known from here because this process, unlike the child, is out of the environment's reach.
            wire::send(wire, &Event::Init(child.as_raw().cast_unsigned()), &[]).during("talking to the agent")?;
            let pid = rustix::process::Pid::from_raw(child.as_raw());
            loop {
                match waitpid(pid, WaitOptions::empty()) {
                    Err(rustix::io::Errno::INTR) => {}
                    _ => return Ok(ExitCode::SUCCESS),
                }
            }
        }
    }
}
