//! What stays resident costs: memory, and CPU while nothing happens.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_testkit::{Daemon, LIMIT, Running, TempHome, clients, product, run};

use crate::table;

/// How long each process is watched.
const WATCHED: Duration = Duration::from_secs(30);

/// How long a process may settle before: allocators and caches of the first calls.
const SETTLING: Duration = Duration::from_secs(5);

/// Measures, and prints the section.
pub(crate) fn measure() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let mut rows = Vec::new();
    rows.push(("`overside daemon`, idle, no environment", watch(daemon.pid())?));
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    run(&mut home.docker(cli, &["volume", "create", "data"])?, LIMIT)?.success()?;
    for agent in home.traces().agents() {
        rows.push(("`overside-agent`, its environment idle", watch(agent)?));
    }
    rows.push(("`overside daemon`, connected to it", watch(daemon.pid())?));
    daemon.overside(&["stop", "-f"])?.success()?;
    if let Some(tray) = tray(&home)? {
        rows.push(("`overside-desktop`, tray only", watch(tray.pid)?));
    }
    println!("### Footprint\n");
    println!("{}; each process watched for {} s.\n", table::machine(), WATCHED.as_secs());
    println!(
        "| process | resident | proportional (PSS) | threads | CPU | wake-ups |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (name, seen) in rows {
        println!(
            "| {name} | {:.1} MiB | {:.1} MiB | {} | {} ms | {} |",
            seen.resident_kib as f64 / 1024.0,
            seen.proportional_kib as f64 / 1024.0,
            seen.threads,
            seen.cpu.as_millis(),
            seen.wakeups
        );
    }
    Ok(())
}

/// What one process used while it was watched.
struct Seen {
    resident_kib: u64,
    proportional_kib: u64,
    threads: usize,
    cpu: Duration,
    wakeups: u64,
}

fn watch(pid: u32) -> Result<Seen> {
    eprintln!("watching process {pid}");
    thread::sleep(SETTLING);
    let (cpu, wakeups) = (cpu(pid)?, wakeups(pid)?);
    thread::sleep(WATCHED);
    let memory = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Seen {
        resident_kib: kib(&memory, "Rss:")?,
        proportional_kib: kib(&memory, "Pss:")?,
        threads: tasks(pid)?.len(),
        cpu: self::cpu(pid)?.saturating_sub(cpu),
        wakeups: self::wakeups(pid)?.saturating_sub(wakeups),
    })
}

fn kib(memory: &str, name: &str) -> Result<u64> {
    let line =
        memory.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in smaps"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("an unusual {name} in smaps: {line}"))
}

/// Time on a CPU, user and system, of all threads; the kernel tells it in ticks, mostly of 10 ms.
fn cpu(pid: u32) -> Result<Duration> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in brackets and may hold anything; user and system time are the 12th and 13th after it.
    let (_, fields) = text.rsplit_once(") ").context("an unusual stat")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|number| number.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// How often a thread of it was woken: each waiting ends by one.
fn wakeups(pid: u32) -> Result<u64> {
    let mut count = 0;
    for task in tasks(pid)? {
        let text = fs_err::read_to_string(format!("{task}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count += line.and_then(|number| number.trim().parse::<u64>().ok()).context("an unusual status")?;
    }
    Ok(count)
}

fn tasks(pid: u32) -> Result<Vec<String>> {
    let entries = fs_err::read_dir(format!("/proc/{pid}/task"))?;
    entries.map(|entry| Ok(entry?.path().display().to_string())).collect()
}

/// The tray process under a virtual display; ends with it.
struct Tray {
    pid: u32,
    _display: Running,
}

/// None where the desktop app is not built or there is no virtual display.
fn tray(home: &TempHome) -> Result<Option<Tray>> {
    let Ok(program) = product("overside-desktop") else { return Ok(None) };
    if !Path::new("/usr/bin/xvfb-run").exists() || !Path::new("/usr/bin/dbus-run-session").exists() {
        return Ok(None);
    }
    let mut command: Command = home.command("xvfb-run");
    command.args(["--auto-servernum", "dbus-run-session"]).arg(&program);
    let display = Running::spawn(&mut command)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(pid) = home.traces().programs("overside-desktop").first() {
            return Ok(Some(Tray { pid: *pid, _display: display }));
        }
        anyhow::ensure!(Instant::now() < deadline, "the desktop app did not start");
        thread::sleep(Duration::from_millis(50));
    }
}
