//! The subcommand `check`: what this machine can do, as JSON.

use std::process::ExitCode;

use fs_err as fs;
use overside_model::{
    Problem,
    agent::{Isolation, Limits, PROTOCOL},
};
use rustix::process::geteuid;
use serde::Serialize;

use crate::{
    cgroup::{self, Machine},
    network,
    problem::unsuitable,
    programs::Programs,
    rootless,
};

/// What the machine can do.
#[derive(Debug, Serialize)]
struct Findings {
    protocol: u32,
    version: &'static str,
    /// How an engine would be isolated.
    isolation: Isolation,
    /// Whether an environment can be made.
    suitable: bool,
    /// What is missing, each with its remedy.
    missing: Vec<Problem>,
    /// Version of the cgroups that carry the limits.
    cgroups: Option<cgroup::Version>,
    /// What there is to be shared.
    machine: Limits,
}

/// Runs the subcommand. Succeeds if an environment can be made.
pub(crate) fn main() -> ExitCode {
    let findings = look();
    match serde_json::to_string_pretty(&findings) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("overside-agent: {error}"),
    }
    if findings.suitable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look() -> Findings {
    let root = geteuid().is_root();
    let mut missing = Vec::new();
    missing.extend(Programs::find(None).err());
    missing.extend(network::find(None).err());
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = cgroup::detect(&mountinfo).map(|(version, _)| version);
    if root {
        if cgroups.is_none() {
            missing.push(unsuitable("no cgroups are mounted", "Mount them: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`"));
        }
        if !std::path::Path::new("/dev/net/tun").exists() {
            missing.push(unsuitable("no /dev/net/tun", "Load the kernel module: `modprobe tun`"));
        }
        if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0") {
            missing.push(unsuitable("user namespaces are turned off", "`sysctl -w user.max_user_namespaces=15000`"));
        }
    } else {
        missing.extend(
            rootless::missing().into_iter().map(|(what, remedy)| unsuitable(what, format!("As root: {remedy}"))),
        );
    }
    Findings {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION"),
        isolation: if root { Isolation::Namespaces } else { Isolation::Rootless },
        suitable: missing.is_empty(),
        missing,
        cgroups,
        machine: Machine::look().all(),
    }
}
