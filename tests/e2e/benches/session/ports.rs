//! Published ports beside `ssh -L`: requests a second, throughput, memory a connection.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use overside_e2e::import;
use overside_testkit::{Daemon, LIMIT, Running, Setup, Sshd, TempHome, Wire, clients, run};

use crate::{far::openssh, table};

/// What each direction of the far line takes.
const DELAY: Duration = Duration::from_millis(20);
/// Seconds of one run of wrk, and how often both sides take turns: the figure is the median of each.
const SECONDS: u64 = 2;
const TURNS: usize = 3;
/// Bytes of the bulk transfer.
const BULK: u64 = 256 << 20;
/// Connections whose memory is measured, beside as many others: those fill what the daemon had room for already.
const CONNECTIONS: usize = 1000;
/// Where the container's server is published.
const PUBLISHED: u16 = 28_080;
/// Where `ssh -L` listens, and the server at its other end.
const FORWARDED: u16 = 28_081;
const SERVER: u16 = 28_082;

/// Measures, and prints the section.
pub(crate) fn measure() -> Result<()> {
    println!("### Published ports, beside `ssh -L`\n");
    println!(
        "{}; {}; nginx answering five bytes, in a container through Overside and on the host's loopback through `ssh -L`; \
         both by the same OpenSSH server, but that Overside needs none where the environment is on this machine; both sides in \
         turn, {TURNS} times {SECONDS} s of wrk with two threads each, {} MiB of zeros by curl: medians.\n",
        table::machine(),
        run(Command::new("ssh").arg("-V"), LIMIT)?.err().trim(),
        BULK >> 20
    );
    let home = TempHome::new()?;
    let place = home.scratch().join("nginx");
    fs_err::create_dir_all(&place)?;
    write_zeros(&place.join("big"))?;
    fs_err::write(place.join("conf"), configuration(SERVER, &place.display().to_string()))?;
    let native = Running::spawn(Command::new("/usr/sbin/nginx").arg("-c").arg(place.join("conf")))?;
    answered(SERVER)?;
    for way in [Way::Here, Way::Loopback, Way::Far] {
        line(way)?;
    }
    drop(native);
    Ok(())
}

fn configuration(port: u16, place: &str) -> String {
    format!(
        "daemon off; error_log stderr; pid {place}/pid; user root; worker_processes 1; events {{ worker_connections 4096; }} \
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {place}/a; proxy_temp_path {place}/b; \
         fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e; \
         server {{ listen {port} backlog=4096; location / {{ return 200 hello; }} location /big {{ root {place}; }} }} }}"
    )
}

fn write_zeros(path: &Path) -> Result<()> {
    Ok(fs_err::File::create(path)?.set_len(BULK)?)
}

/// How Overside's environment is reached. `ssh -L` always goes by SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is on this machine.
    Here,
    /// Behind the SSH server, over loopback.
    Loopback,
    /// Behind the SSH server, over the far line.
    Far,
}

/// Measures one way.
fn line(way: Way) -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let wire = Wire::to(sshd.port(), if way == Way::Far { DELAY } else { Duration::ZERO })?;
    let (port, address) =
        if way == Way::Far { (wire.port(), wire.address("root")) } else { (sshd.port(), sshd.address("root")) };
    let ssh = openssh(&home, port)?;
    let daemon = Daemon::enabled(&home)?;
    if way != Way::Here {
        let fingerprint = sshd.fingerprint()?;
        daemon.overside(&["runner", "add", "far", &address, "--accept-host-key", &fingerprint])?.success()?;
        daemon.overside(&["runner", "default", "far"])?.success()?;
    }
    import(&home, "nginx:1", &["/usr/sbin/nginx", "/bin/sh", "/usr/bin/truncate"], &["/etc/passwd", "/etc/group"])?;
    let script =
        format!("truncate -s {BULK} /n/big; echo '{}' > /n/conf; exec nginx -c /n/conf", configuration(80, "/n"));
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    let publish = format!("{PUBLISHED}:80");
    let options = ["run", "--detach", "--tmpfs", "/n", "--tmpfs", "/var/log/nginx", "--tmpfs", "/var/lib/nginx"];
    let program = ["-p", &publish, "nginx:1", "sh", "-c", &script];
    run(&mut home.docker(cli, &[&options[..], &program].concat())?, LIMIT)?.success()?;
    let tunnel = Running::spawn(Command::new(&ssh).arg("-NL").arg(format!("{FORWARDED}:127.0.0.1:{SERVER}")).args([
        "-p",
        &port.to_string(),
        "root@127.0.0.1",
    ]))?;
    answered(PUBLISHED)?;
    answered(FORWARDED)?;

    let mut open = Vec::new();
    let mut opened = || {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(("127.0.0.1", PUBLISHED))?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: n\r\n\r\n")?;
            ensure!(stream.read(&mut [0; 512])? > 0);
            open.push(stream);
        }
        Ok(table::memory(daemon.pid())?.resident)
    };
    let before = opened()?;
    let each = opened()?.saturating_sub(before) / CONNECTIONS as u64;
    drop(open);
    let name = match way {
        Way::Here => "on this machine",
        Way::Loopback => "an SSH host, over loopback",
        Way::Far => "an SSH host, over 40 ms",
    };
    let mut text = format!("| {name} | Overside | `ssh -L` | ratio |\n| --- | --- | --- | --- |\n");
    for connections in [1, 50, 500] {
        for (kind, kept) in [("kept", true), ("new", false)] {
            let (ours, theirs) = in_turn(|port| requests(port, connections, kept))?;
            let plural = if connections == 1 { "connection" } else { "connections" };
            let what = format!("requests/s, {connections} {plural}, {kind}");
            let _ = writeln!(text, "| {what} | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
        }
    }
    let (ours, theirs) = in_turn(bulk)?;
    let _ = writeln!(text, "| bulk, MB/s | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
    println!("{text}");
    println!("{CONNECTIONS} connections more that are open and silent take {each} bytes each in the daemon.\n");
    drop(tunnel);
    daemon.overside(&["stop", "-f"])?.success()?;
    Ok(())
}

/// Medians of what both sides reach, in turn, so that what else the machine does meets both.
fn in_turn(mut measure: impl FnMut(u16) -> Result<f64>) -> Result<(f64, f64)> {
    let (mut ours, mut theirs) = ([0.; TURNS], [0.; TURNS]);
    for (ours, theirs) in ours.iter_mut().zip(&mut theirs) {
        (*ours, *theirs) = (measure(PUBLISHED)?, measure(FORWARDED)?);
    }
    let median = |mut figures: [f64; TURNS]| {
        figures.sort_by(f64::total_cmp);
        figures[TURNS / 2]
    };
    Ok((median(ours), median(theirs)))
}

/// Waits until somebody answers there.
fn answered(port: u16) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let page = format!("http://127.0.0.1:{port}/");
        if run(Command::new("curl").args(["-sf", &page]), LIMIT)?.code() == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "nobody answers on port {port}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Requests a second by wrk.
fn requests(port: u16, connections: usize, kept: bool) -> Result<f64> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t", &connections.min(2).to_string(), "-c", &connections.to_string(), "-d", &format!("{SECONDS}s")]);
    if !kept {
        wrk.args(["-H", "Connection: close"]);
    }
    let told = run(wrk.arg(format!("http://127.0.0.1:{port}/")), LIMIT)?.success()?.out();
    let line = told.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk told no rate")?;
    Ok(line.trim().parse()?)
}

/// Megabytes a second by curl.
fn bulk(port: u16) -> Result<f64> {
    let page = format!("http://127.0.0.1:{port}/big");
    let mut curl = Command::new("curl");
    let told = run(curl.args(["-s", "-o", "/dev/null", "-w", "%{size_download} %{speed_download}", &page]), LIMIT)?;
    let told = told.success()?.out();
    let (size, speed) = told.split_once(' ').context("curl told nothing")?;
    ensure!(size == BULK.to_string(), "curl got {size} bytes");
    Ok(speed.trim().parse::<f64>()? / 1e6)
}
