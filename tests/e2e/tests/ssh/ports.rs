//! Published ports over lines that break.

use std::{
    collections::BTreeSet,
    env,
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use overside_e2e::{docker, load};
use overside_model::PortStatus;
use overside_testkit::{Daemon, IMAGE, LIMIT, Setup, Sshd, TempHome, run, signal_process};
use rustix::process::Signal;
use serde_json::Value;

/// What is done before both sides are compared, and how often.
const STEPS: usize = 6;
const ROUNDS: usize = 5;
/// Containers at a time.
const CONTAINERS: u64 = 4;

/// Numbers that another run with the same seed has, too.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's multiplier; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Breaks every connection to the server.
fn lose(sshd: &Sshd) -> Result<()> {
    let children = run(std::process::Command::new("pgrep").arg("-P").arg(sshd.pid().to_string()), LIMIT)?.out();
    for child in children.lines() {
        // One that has ended by now is as good.
        let _ = signal_process(child.parse()?, Signal::KILL);
    }
    Ok(())
}

/// One thing that happens. What does not fit what there is fails, which is an event as well.
fn step(home: &TempHome, sshd: &Sshd, dice: &mut Dice) -> Result<String> {
    let name = format!("c{}", dice.below(CONTAINERS));
    let ports = ["-p", "7", "-p", "127.0.0.1::9/udp"];
    let begin = [&["run", "--detach", "--init", "--name", &name][..], &ports, &[IMAGE, "sleep"]].concat();
    let arguments = match dice.below(11) {
        0..=2 => [&begin[..], &["1000"]].concat(),
        // Ends by itself, maybe while nobody hears of it.
        3 => [&begin[..], &["0.3"]].concat(),
        4 => vec!["stop", "--time", "0", &name],
        5 => vec!["start", &name],
        6 => vec!["restart", "--time", "0", &name],
        7 => vec!["rm", "--force", &name],
        8 => vec!["network", "disconnect", "bridge", &name],
        9 => vec!["network", "connect", "bridge", &name],
        _ => {
            lose(sshd)?;
            return Ok("lost".to_owned());
        }
    };
    let outcome = docker(home, &arguments)?;
    Ok(format!("{} {name} = {}", arguments[..2].join(" "), outcome.code()))
}

/// Protocol and address of every port that the engine says its containers have.
fn as_read(home: &TempHome) -> Result<BTreeSet<String>> {
    let mut ports = BTreeSet::new();
    for id in docker(home, &["ps", "--quiet"])?.success()?.out().lines() {
        let told = docker(home, &["inspect", "--format", "{{json .NetworkSettings.Ports}}", id])?;
        // One that ended in between has none.
        let told: Value = serde_json::from_str(told.out().trim()).unwrap_or_default();
        for (port, bindings) in told.as_object().into_iter().flatten() {
            let (_, protocol) = port.split_once('/').context("a port without a protocol")?;
            for binding in bindings.as_array().into_iter().flatten() {
                let text = |name: &str| binding[name].as_str().unwrap_or_default().to_owned();
                let socket = SocketAddr::new(text("HostIp").parse()?, text("HostPort").parse()?);
                ports.insert(format!("{protocol} {socket}"));
            }
        }
    }
    Ok(ports)
}

/// The same as Overside shows it.
fn as_shown(daemon: &Daemon<'_>) -> Result<BTreeSet<String>> {
    let told = daemon.overside(&["ports", "--format", "json"])?.success()?.out();
    let ports: Vec<PortStatus> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(ports.iter().all(|port| port.problem.is_none()), "{ports:?}");
    Ok(ports.iter().map(|port| format!("{} {}", port.protocol.name(), port.address)).collect())
}

#[test]
fn after_any_events_and_losses_of_the_tunnel_the_listeners_are_those_of_a_fresh_reading() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::enabled(&home)?;
    crate::choose(&daemon, &sshd, "root")?;
    load(&home)?;
    let seed = match env::var("OVERSIDE_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    let (mut dice, mut done) = (Dice(seed), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..STEPS {
            done.push(step(&home, &sshd, &mut dice).with_context(|| format!("OVERSIDE_SEED={seed}: {done:?}"))?);
        }
        let end = Instant::now() + LIMIT;
        loop {
            let (read, shown) = (as_read(&home)?, as_shown(&daemon)?);
            if read == shown {
                break;
            }
            ensure!(Instant::now() < end, "OVERSIDE_SEED={seed}: {shown:?} instead of {read:?} after {done:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
    daemon.overside(&["stop", "-f"])?.success()?;
    Ok(())
}
