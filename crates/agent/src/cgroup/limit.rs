//! What an environment may use.

use std::path::Path;

use fs_err as fs;
use overside_model::agent::Limits;

use super::{Cgroups, Version};

/// Period of the CPU quota in microseconds, the kernel's default.
const PERIOD: u64 = 100_000;

/// What the machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// CPUs, in thousandths.
    pub(crate) milli_cpus: u64,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Processes and threads.
    pub(crate) pids: u64,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let pids = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        Self {
            milli_cpus: u64::try_from(cpus).unwrap_or(1).saturating_mul(1000),
            memory_bytes: total_memory(&memory).unwrap_or(u64::MAX),
            pids: pids.trim().parse().unwrap_or(u64::MAX),
        }
    }

    /// All of it.
    pub(crate) const fn all(self) -> Limits {
        Limits { milli_cpus: self.milli_cpus, memory_bytes: self.memory_bytes, pids: self.pids }
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Lowers what is asked to what the machine has, with a sentence for each that was.
pub(crate) fn lower(asked: Limits, machine: Machine) -> (Limits, Vec<String>) {
    let mut notes = Vec::new();
    let limits = Limits {
        milli_cpus: asked.milli_cpus.clamp(10, machine.milli_cpus),
        memory_bytes: asked.memory_bytes.min(machine.memory_bytes),
        pids: asked.pids.min(machine.pids),
    };
    if limits.milli_cpus < asked.milli_cpus {
        notes.push(format!(
            "The environment has {} CPUs instead of {}: the runner has no more.",
            thousandths(limits.milli_cpus),
            thousandths(asked.milli_cpus)
        ));
    }
    if limits.memory_bytes < asked.memory_bytes {
        notes.push(format!(
            "The environment has {} MiB of memory instead of {}: the runner has no more.",
            limits.memory_bytes >> 20,
            asked.memory_bytes >> 20
        ));
    }
    if limits.pids < asked.pids {
        notes.push(format!("The environment may have {} processes instead of {}.", limits.pids, asked.pids));
    }
    (limits, notes)
}

fn thousandths(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Cgroups {
    /// Sets the limits. A limit that the machine cannot set is a note, not a failure: the environment works without it.
    pub(crate) fn limit(&self, limits: Limits) -> Vec<String> {
        let mut notes = Vec::new();
        let mut set = |controller: &str, what: &str, files: &[(&str, String)]| {
            let group = self.group_with(controller);
            let set = |group: &Path| files.iter().try_for_each(|(file, value)| fs::write(group.join(file), value));
            if let Err(error) = group.as_deref().map_or(Ok(()), set) {
                tracing::warn!(controller, %error, "a limit could not be set");
            } else if group.is_some() {
                return;
            }
            notes.push(format!("The {what} of the environment is not limited: the runner's cgroups cannot do that."));
        };
        let memory = limits.memory_bytes.to_string();
        let quota = limits.milli_cpus.saturating_mul(PERIOD) / 1000;
        match self.version {
            Version::V1 => {
                set(
                    "cpu",
                    "CPU time",
                    &[("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
                );
                set("memory", "memory", &[("memory.limit_in_bytes", memory.clone())]);
            }
            Version::V2 => {
                set("cpu", "CPU time", &[("cpu.max", format!("{quota} {PERIOD}"))]);
                set("memory", "memory", &[("memory.max", memory.clone())]);
            }
        }
        set("pids", "number of processes", &[("pids.max", limits.pids.to_string())]);
        // Swap is the machine's own, where it has any and its kernel counts it.
        if let Some(group) = self.group_with("memory") {
            let _ = match self.version {
                Version::V1 => fs::write(group.join("memory.memsw.limit_in_bytes"), memory),
                Version::V2 => fs::write(group.join("memory.swap.max"), "0"),
            };
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;

    const MACHINE: Machine = Machine { milli_cpus: 2_000, memory_bytes: 4 << 30, pids: 32_768 };

    #[test]
    fn what_the_machine_does_not_have_is_lowered_with_a_sentence() {
        let asked = Limits { milli_cpus: 4_000, memory_bytes: 8 << 30, pids: 4_096 };
        let (limits, notes) = lower(asked, MACHINE);
        assert_eq!(limits, Limits { milli_cpus: 2_000, memory_bytes: 4 << 30, pids: 4_096 });
        assert_eq!(notes.len(), 2);
        assert!(notes[0].contains("2 CPUs instead of 4"), "{}", notes[0]);
    }

    #[test]
    fn what_fits_is_left_alone() {
        let asked = Limits { milli_cpus: 1_500, memory_bytes: 1 << 30, pids: 100 };
        assert_eq!(lower(asked, MACHINE), (asked, Vec::new()));
        assert_eq!(thousandths(1_500), "1.5");
    }

    #[test]
    fn limits_are_set_above_the_part_that_the_environment_owns() {
        let home = tempfile::tempdir().unwrap();
        let controllers = ["cpu", "memory", "pids"].map(str::to_owned).to_vec();
        for (version, cpu) in [(Version::V1, "cpu.cfs_quota_us"), (Version::V2, "cpu.max")] {
            let mount = home.path().join(format!("{version:?}"));
            fs::create_dir(&mount).unwrap();
            let hierarchy = Hierarchy { mount: mount.clone(), controllers: controllers.clone() };
            let cgroups = Cgroups::claim(version, vec![hierarchy], 1, |_| true).unwrap();
            let notes = cgroups.limit(Limits { milli_cpus: 1_500, memory_bytes: 1 << 30, pids: 99 });
            assert_eq!(notes, Vec::<String>::new());
            let group = mount.join("overside/env-0");
            assert!(fs::read_to_string(group.join(cpu)).unwrap().starts_with("150000"));
            assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "99");
        }
    }

    #[test]
    fn a_limit_without_its_controller_is_a_note() {
        let home = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy { mount: home.path().to_owned(), controllers: vec!["pids".to_owned()] };
        let cgroups = Cgroups::claim(Version::V2, vec![hierarchy], 1, |_| true).unwrap();
        let notes = cgroups.limit(Limits { milli_cpus: 1_000, memory_bytes: 1 << 30, pids: 99 });
        assert_eq!(notes.len(), 2);
        assert!(notes[0].contains("CPU time"));
    }
}
