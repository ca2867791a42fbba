//! From Idle and from Suspended to a container's first output.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_model::{State, Status};
use overside_testkit::{
    Daemon, DirectEngine, DockerCli, IMAGE, LIMIT, Running, TempHome, busybox_archive, clients, run, run_fed,
};

use crate::table::{self, Series};

const RUNS: usize = 10;

/// The promises of the product.
const FROM_IDLE: Duration = Duration::from_millis(2500);
const FROM_SUSPENDED: Duration = Duration::from_millis(300);

/// Measures, and prints the section.
pub(crate) fn measure() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    let clients = clients()?;
    let cli = clients.last().context("there is no client")?;
    let archive = busybox_archive()?;

    let mut call = Series::new("Idle: a first call (`docker volume create`) is answered", None);
    let mut load = Series::new("Idle: an image of 1 MB is loaded", None);
    let mut first = Series::new("Idle: the first container's first output, its image loaded before", Some(FROM_IDLE));
    let mut warm = Series::new("Running: a container's first output", None);
    let mut resumed = Series::new("Suspended: a container's first output", Some(FROM_SUSPENDED));
    let mut exec = Series::new("Suspended: a call (`docker ps`) is answered", Some(FROM_SUSPENDED));
    let mut direct = Series::new("the same container on an ordinary engine", None);
    for number in 1..=RUNS {
        eprintln!("run {number} of {RUNS}");
        back_to_idle(&daemon)?;
        call.add(timed(|| run(&mut home.docker(cli, &["volume", "create", "data"])?, LIMIT)?.success().map(drop))?);

        back_to_idle(&daemon)?;
        let started = Instant::now();
        let image = archive.clone();
        run_fed(&mut home.docker(cli, &["load"])?, LIMIT, move |input| Ok(input.write_all(&image)?))?.success()?;
        load.add(started.elapsed());
        first_output(Running::spawn(&mut home.docker(cli, HELLO)?)?)?;
        first.add(started.elapsed());

        warm.add(timed(|| first_output(Running::spawn(&mut home.docker(cli, HELLO)?)?))?);
        suspend(&daemon)?;
        resumed.add(timed(|| first_output(Running::spawn(&mut home.docker(cli, HELLO)?)?))?);
        suspend(&daemon)?;
        exec.add(timed(|| run(&mut home.docker(cli, &["ps"])?, LIMIT)?.success().map(drop))?);
    }
    daemon.overside(&["stop", "-f"])?.success()?;
    measure_direct(&home, cli, &archive, &mut direct)?;

    println!("### Cold start\n");
    println!("{}; docker {}; {RUNS} runs.\n", table::machine(), cli.version);
    println!("{}", table::times(&[&call, &load, &first, &warm, &direct, &resumed, &exec]));
    if let Some(parts) = parts(&home) {
        println!("The agent's own account of its last start: {parts}.");
    }
    Ok(())
}

const HELLO: &[&str] = &["run", "--rm", IMAGE, "echo", "hello"];

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

/// Returns when the first output has come; the client's own end is waited for outside of the measurement's sense, but is
/// part of the next one's start, as for a person.
fn first_output(client: Running) -> Result<()> {
    client.wait_for("hello", LIMIT)?;
    std::thread::spawn(move || client.finish(LIMIT));
    Ok(())
}

fn back_to_idle(daemon: &Daemon<'_>) -> Result<()> {
    daemon.overside(&["stop", "-f"])?.success()?;
    daemon.overside(&["start"])?.success()?;
    daemon.wait_for_state(State::Idle, LIMIT).map(drop)
}

fn suspend(daemon: &Daemon<'_>) -> Result<()> {
    daemon.overside(&["idle"])?.success()?;
    // The countdown begins when the last process is frozen.
    let frozen = |status: &Status| status.state == State::Suspended && status.grace_remaining_seconds.is_some();
    daemon.wait_for("frozen", LIMIT, frozen).map(drop)
}

fn measure_direct(home: &TempHome, cli: &DockerCli, archive: &[u8], series: &mut Series) -> Result<()> {
    let engine = DirectEngine::start()?;
    let image = archive.to_vec();
    run_fed(&mut engine.docker(home, cli, &["load"])?, LIMIT, move |input| Ok(input.write_all(&image)?))?.success()?;
    for _ in 0..RUNS {
        series.add(timed(|| first_output(Running::spawn(&mut engine.docker(home, cli, HELLO)?)?))?);
    }
    Ok(())
}

/// What the daemon's log says about the parts of the last start.
fn parts(home: &TempHome) -> Option<String> {
    let logs = fs_err::read_dir(home.overside_home().join("logs")).ok()?;
    let text: String = logs.filter_map(|log| fs_err::read_to_string(log.ok()?.path()).ok()).collect();
    let line = text.lines().rfind(|line| line.contains("timings"))?;
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    value["fields"]["timings"].as_str().map(str::to_owned)
}
