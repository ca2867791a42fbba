//! Calls to an engine behind a line of 40 ms, beside what one can do with OpenSSH alone.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use overside_testkit::{Daemon, DirectEngine, DockerCli, LIMIT, Running, Setup, Sshd, TempHome, Wire, clients, run};

use crate::table::{self, Series};

const RUNS: usize = 30;
/// What each direction of the line takes.
const DELAY: Duration = Duration::from_millis(20);
/// The promise of the product: a warm call's time as a part of the line's round trip.
const PROMISE: f64 = 1.15;

/// Measures, and prints the section.
pub(crate) fn measure() -> Result<()> {
    let home = TempHome::new()?;
    let clients = clients()?;
    let cli = clients.last().context("there is no client")?;
    // What OpenSSH alone leads to. Its engine is the one that the server's `docker` finds.
    let direct = DirectEngine::start()?;
    let config = format!("SetEnv DOCKER_HOST={}", direct.host());
    let sshd = Sshd::start(&home, Setup { config: &config, ..Setup::default() })?;
    let wire = Wire::to(sshd.port(), DELAY)?;
    let ssh = openssh(&home, wire.port())?;
    let daemon = Daemon::enabled(&home)?;
    let fingerprint = sshd.fingerprint()?;
    daemon.overside(&["runner", "add", "far", &wire.address("root"), "--accept-host-key", &fingerprint])?.success()?;
    daemon.overside(&["runner", "default", "far"])?.success()?;
    let mut start = Series::new("Idle: a first call (`docker volume create`) is answered", None);
    start.add(timed(|| docker(&home, cli, &["volume", "create", "data"]))?);
    let forward = home.scratch().join("forward.sock");
    let target = direct.host().replace("unix://", "");
    let tunnel = Running::spawn(Command::new(&ssh).arg("-NL").arg(format!("{}:{target}", forward.display())).args([
        "-p",
        &wire.port().to_string(),
        "root@127.0.0.1",
    ]))?;
    wait_for(&forward)?;

    let mut line = Series::new("the line's own round trip", None);
    let mut call = Series::new("a call, through Overside", None);
    let mut forwarded = Series::new("the same, through `ssh -L`", None);
    let mut listed = Series::new("`docker ps`, through Overside", None);
    let mut listed_forwarded = Series::new("the same, through `ssh -L`", None);
    let mut listed_ssh = Series::new("the same, `docker -H ssh://`", None);
    let mut echo = echo()?;
    for _ in 0..RUNS {
        line.add(timed(|| round_trip(&mut echo))?);
        call.add(timed(|| get(&home.docker_socket()))?);
        forwarded.add(timed(|| get(&forward))?);
    }
    let place = ssh.parent().context("a program lies in no directory")?;
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", place.display());
    let at = |host: String| {
        let mut command = home.docker(cli, &["ps"])?;
        let started = Instant::now();
        run(command.env("DOCKER_HOST", host).env("PATH", &path), LIMIT)?.success()?;
        anyhow::Ok(started.elapsed())
    };
    for _ in 0..RUNS / 3 {
        listed.add(timed(|| docker(&home, cli, &["ps"]))?);
        listed_forwarded.add(at(format!("unix://{}", forward.display()))?);
        listed_ssh.add(at(wire.address("root"))?);
    }
    daemon.overside(&["stop", "-f"])?.success()?;
    drop(tunnel);

    let part = call.median().as_secs_f64() / line.median().as_secs_f64();
    println!("### Far away\n");
    println!(
        "{}; docker {}; an OpenSSH server behind a line that takes {} ms each way; {RUNS} calls (`GET /containers/json` on a \
         connection of its own), {} runs of `docker ps`.\n",
        table::machine(),
        cli.version,
        DELAY.as_millis(),
        RUNS / 3
    );
    println!("{}", table::times(&[&start, &line, &call, &forwarded, &listed, &listed_forwarded, &listed_ssh]));
    println!("A warm call takes {part:.2} of the line's round trip (promise: below {PROMISE}).");
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn docker(home: &TempHome, cli: &DockerCli, arguments: &[&str]) -> Result<()> {
    run(&mut home.docker(cli, arguments)?, LIMIT)?.success().map(drop)
}

/// A program `ssh` that is the machine's, with the home's key and nothing of the user's.
pub(crate) fn openssh(home: &TempHome, port: u16) -> Result<std::path::PathBuf> {
    let place = home.scratch().join("bin");
    fs_err::create_dir(&place)?;
    let key = home.scratch().join("user/.ssh/id_ed25519");
    let config = format!(
        "Host 127.0.0.1\n Port {}\n IdentityFile {}\n UserKnownHostsFile /dev/null\n StrictHostKeyChecking no\n LogLevel ERROR\n",
        port,
        key.display()
    );
    fs_err::write(place.join("config"), config)?;
    let program = place.join("ssh");
    fs_err::write(&program, format!("#!/bin/sh\nexec /usr/bin/ssh -F {}/config \"$@\"\n", place.display()))?;
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Waits until somebody answers on a socket.
fn wait_for(socket: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while get(socket).is_err() {
        ensure!(Instant::now() < deadline, "nobody answers on {}", socket.display());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One call on a connection of its own, up to the answer's head.
fn get(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    let mut head = String::new();
    BufReader::new(stream).read_line(&mut head)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "the engine says {head:?}");
    Ok(())
}

/// A connection through such a line to somebody who says what is said to him.
fn echo() -> Result<(TcpStream, Wire)> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let wire = Wire::to(server.local_addr()?.port(), DELAY)?;
    let near = TcpStream::connect(("127.0.0.1", wire.port()))?;
    near.set_nodelay(true)?;
    let (mut far, _) = server.accept()?;
    far.set_nodelay(true)?;
    thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    Ok((near, wire))
}

fn round_trip((stream, _): &mut (TcpStream, Wire)) -> Result<()> {
    let mut byte = [7];
    stream.write_all(&byte)?;
    Ok(stream.read_exact(&mut byte)?)
}
