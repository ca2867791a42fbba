//! What stays resident costs: memory, and CPU while nothing happens.

use std::{
    path::Path,
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

/// How often the window is opened and closed.
const OPENED: u32 = 10;

/// What daemon and tray together may take while no window is open.
const RESIDENT_MIB: f64 = 25.0;

/// Measures, and prints the section.
pub(crate) fn measure() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let mut rows = Vec::new();
    rows.push(("`overside daemon`, idle, no environment", watch(&[daemon.pid()])?));
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    run(&mut home.docker(cli, &["volume", "create", "data"])?, LIMIT)?.success()?;
    for agent in home.traces().agents() {
        rows.push(("`overside-agent`, its environment idle", watch(&[agent])?));
    }
    rows.push(("`overside daemon`, connected to it", watch(&[daemon.pid()])?));
    if let Some(desktop) = Desktop::start(&home)? {
        rows.push(("`overside-desktop`, tray only", watch(&[desktop.tray.pid()])?));
        daemon.overside(&["stop", "-f"])?.success()?;
        daemon.overside(&["start"])?.success()?;
        rows.push(("daemon and tray, no window so far", watch(&desktop.processes())?));
        let window = desktop.open()?;
        rows.push(("daemon, tray and the open window", watch(&desktop.processes())?));
        desktop.close(window)?;
        for _ in 1..OPENED {
            let window = desktop.open()?;
            desktop.close(window)?;
        }
        rows.push(("daemon and tray, the window closed the tenth time", watch(&desktop.processes())?));
    }
    println!("### Footprint\n");
    println!(
        "{}; each watched for {} s. What stays while no window is open is to be at most {RESIDENT_MIB} MiB.\n",
        table::machine(),
        WATCHED.as_secs()
    );
    println!("| what | processes | resident | proportional (PSS) | threads | CPU | wake-ups |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, seen) in rows {
        println!(
            "| {name} | {} | {:.1} MiB | {:.1} MiB | {} | {} ms | {} |",
            seen.processes,
            seen.resident_kib as f64 / 1024.0,
            seen.proportional_kib as f64 / 1024.0,
            seen.threads,
            seen.cpu.as_millis(),
            seen.wakeups
        );
    }
    Ok(())
}

/// What some processes used together while they were watched.
struct Seen {
    processes: usize,
    resident_kib: u64,
    proportional_kib: u64,
    threads: usize,
    cpu: Duration,
    wakeups: u64,
}

fn watch(pids: &[u32]) -> Result<Seen> {
    eprintln!("watching {pids:?}");
    thread::sleep(SETTLING);
    let used = |pids: &[u32]| -> Result<(Duration, u64)> {
        pids.iter().try_fold((Duration::ZERO, 0), |(cpu, wakeups), pid| {
            Ok((cpu + self::cpu(*pid)?, wakeups + self::wakeups(*pid)?))
        })
    };
    let (cpu, wakeups) = used(pids)?;
    thread::sleep(WATCHED);
    let (cpu_after, wakeups_after) = used(pids)?;
    let mut seen = Seen {
        processes: pids.len(),
        resident_kib: 0,
        proportional_kib: 0,
        threads: 0,
        cpu: cpu_after.saturating_sub(cpu),
        wakeups: wakeups_after.saturating_sub(wakeups),
    };
    for pid in pids {
        let memory = table::memory(*pid)?;
        seen.resident_kib += memory.resident >> 10;
        seen.proportional_kib += memory.proportional >> 10;
        seen.threads += tasks(*pid)?.len();
    }
    Ok(seen)
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

/// The desktop app on a display and a bus of its own.
struct Desktop<'a> {
    home: &'a TempHome,
    variables: [(&'static str, String); 2],
    // In the order in which they are dropped.
    tray: Running,
    _bus: Running,
    _display: Running,
}

/// What Overside's programs, and those that a window starts, are called.
const PROGRAMS: &[&str] =
    &["overside", "overside-desktop", "overside-window", "WebKitWebProcess", "WebKitNetworkProcess"];

impl<'a> Desktop<'a> {
    /// None where the desktop app is not built or there is no virtual display.
    fn start(home: &'a TempHome) -> Result<Option<Self>> {
        let Ok(program) = product("overside-desktop") else { return Ok(None) };
        if !["/usr/bin/Xvfb", "/usr/bin/dbus-daemon"].iter().all(|program| Path::new(program).exists()) {
            return Ok(None);
        }
        let mut server = home.command("Xvfb");
        let display =
            Running::spawn(server.args(["-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]))?;
        let number = display.wait_for("\n", LIMIT)?.trim().to_owned();
        let mut broker = home.command("dbus-daemon");
        let bus = Running::spawn(broker.args(["--session", "--nofork", "--print-address=1"]))?;
        let address = bus.wait_for("\n", LIMIT)?.trim().to_owned();
        let variables = [("DISPLAY", format!(":{number}")), ("DBUS_SESSION_BUS_ADDRESS", address)];
        let tray = Running::spawn(home.command(program).arg("--background").envs(variables.clone()))?;
        Ok(Some(Self { home, variables, tray, _bus: bus, _display: display }))
    }

    /// Everything of Overside that runs, with the web view's own processes.
    fn processes(&self) -> Vec<u32> {
        let traces = self.home.traces();
        PROGRAMS.iter().flat_map(|name| traces.programs(name)).collect()
    }

    /// Opens the window and looks at it for a moment.
    fn open(&self) -> Result<Running> {
        // Its accessibility bus would be started by the session's bus, and outlive it.
        let mut window = self.home.command(product("overside-window")?);
        let window = Running::spawn(window.env("NO_AT_BRIDGE", "1").envs(self.variables.clone()))?;
        self.wait_until("the window has its page", |desktop| {
            !desktop.home.traces().programs("WebKitWebProcess").is_empty()
        })?;
        thread::sleep(Duration::from_secs(2));
        Ok(window)
    }

    /// Closes it, and waits until nothing of it is left.
    fn close(&self, window: Running) -> Result<()> {
        window.signal(rustix::process::Signal::TERM)?;
        window.finish(LIMIT)?;
        self.wait_until("nothing of the window is left", |desktop| desktop.processes().len() == 2)
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            anyhow::ensure!(Instant::now() < deadline, "not so: {what}; there are {:?}", self.processes());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
