//! The subcommand `check`: what this machine can do, as JSON.

use std::{env, path::PathBuf, process::ExitCode};

use fs_err as fs;
use overside_model::agent::{Findings, Isolation, PROTOCOL};
use rustix::process::geteuid;

use crate::{
    cgroup::{self, Machine},
    network,
    problem::unsuitable,
    programs::Programs,
    rootless,
};

/// Runs the subcommand. Succeeds if an environment can be made. `engine_path` is written as `PATH` is, and has the same meaning
/// as a specification's.
pub(crate) fn main(engine_path: Option<&str>) -> ExitCode {
    let engine_path: Option<Vec<PathBuf>> = engine_path.map(|path| env::split_paths(path).collect());
    let findings = look(engine_path.as_deref());
    match serde_json::to_string_pretty(&findings) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("overside-agent: {error}"),
    }
    if findings.suitable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look(engine_path: Option<&[PathBuf]>) -> Findings {
    let root = geteuid().is_root();
    let mut missing = Vec::new();
    let engine = match Programs::find(engine_path) {
        Ok(programs) => programs.engine_version().ok().filter(|version| !version.is_empty()),
        Err(problem) => {
            missing.push(problem);
            None
        }
    };
    missing.extend(network::find(engine_path).err());
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = cgroup::detect(&mountinfo).map(|(version, _)| version.name().to_owned());
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
        version: env!("CARGO_PKG_VERSION").to_owned(),
        isolation: if root { Isolation::Namespaces } else { Isolation::Rootless },
        suitable: missing.is_empty(),
        engine,
        missing,
        cgroups,
        machine: Machine::look().all(),
    }
}
