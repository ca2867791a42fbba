//! Tables of measurements, and the machine that they come from.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result};

/// Measurements of one thing, several times.
#[derive(Debug, Default)]
pub(crate) struct Series {
    name: String,
    target: Option<Duration>,
    times: Vec<Duration>,
}

impl Series {
    /// Nothing measured so far. `target` is what the worst shall stay below.
    pub(crate) fn new(name: &str, target: Option<Duration>) -> Self {
        Self { name: name.to_owned(), target, times: Vec::new() }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// The time that half of the measurements do not exceed.
    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Best, median and worst of each series.
pub(crate) fn times(series: &[&Series]) -> String {
    let mut table = String::from("| what | best | median | worst | target |\n| --- | --- | --- | --- | --- |\n");
    for one in series.iter().filter(|one| !one.times.is_empty()) {
        let mut sorted = one.times.clone();
        sorted.sort();
        let target = one.target.map_or_else(String::new, |target| format!("below {}", shown(target)));
        let (best, median, worst) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {} | {} | {} | {} | {target} |", one.name, shown(best), shown(median), shown(worst));
    }
    table
}

pub(crate) fn shown(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// CPU, cores, memory and kernel in one line.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cpu = value(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory: u64 = value(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cpu}, {cores} cores, {} GiB, Linux {}", memory.div_ceil(1 << 20), kernel.trim())
}

/// Bytes in memory of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All that is there.
    pub(crate) resident: u64,
    /// Its part of what it shares with others (PSS).
    pub(crate) proportional: u64,
}

/// What one process has in memory.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let bytes = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.with_context(|| format!("no {name} in smaps"))?;
        let kib: u64 = value.trim().trim_end_matches(" kB").parse().with_context(|| format!("{name} {value}"))?;
        Ok(kib << 10)
    };
    Ok(Memory { resident: bytes("Rss:")?, proportional: bytes("Pss:")? })
}
