//! What containers reach of the laptop.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use overside_e2e::{docker, import, load};
use overside_testkit::{Daemon, IMAGE, LIMIT, Outcome, TempHome, run};

/// A server on loopback that turns what it hears into capital letters, once its client has ended.
fn shouting(address: SocketAddr) -> Result<u16> {
    let listener = TcpListener::bind(address)?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut heard = String::new();
            let _ = stream.read_to_string(&mut heard);
            let _ = stream.write_all(heard.to_uppercase().as_bytes());
        }
    });
    Ok(port)
}

/// The same for datagrams, each by itself.
fn shouting_datagrams(address: SocketAddr) -> Result<u16> {
    let socket = UdpSocket::bind(address)?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, sender)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length].to_ascii_uppercase(), sender);
        }
    });
    Ok(port)
}

/// What a container hears from a port of the laptop's.
fn call(home: &TempHome, options: &[&str], port: u16) -> Result<String> {
    let script = format!("echo hello | nc laptop {port}");
    let begin = ["run", "--rm", "--add-host", "laptop:host-gateway"];
    Ok(docker(home, &[&begin[..], options, &[IMAGE, "sh", "-c", &script]].concat())?.out())
}

#[test]
fn containers_call_back_to_servers_on_the_laptops_loopback() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let port = shouting((Ipv4Addr::LOCALHOST, 0).into())?;
    let newer = shouting((Ipv6Addr::LOCALHOST, 0).into())?;
    docker(&home, &["network", "create", "own"])?.success()?;
    for options in [&[][..], &["--network", "own"], &["--network", "host"]] {
        ensure!(call(&home, options, port)? == "HELLO\n", "{options:?}");
    }
    ensure!(call(&home, &[], newer)? == "HELLO\n");
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    ensure!(call(&home, &[], nobody)?.is_empty());

    let set = |value: &str| daemon.overside(&["settings", "set", "host-access", value])?.success();
    set("false")?;
    ensure!(call(&home, &[], port)?.is_empty());
    set(&format!("{newer},1-2"))?;
    ensure!(call(&home, &[], port)?.is_empty() && call(&home, &[], newer)? == "HELLO\n");
    set("true")?;
    ensure!(call(&home, &[], port)? == "HELLO\n");

    // A frozen environment is thawed with what it had, and a new daemon is the laptop again.
    daemon.kill()?;
    let _daemon = Daemon::start(&home)?;
    ensure!(call(&home, &[], port)? == "HELLO\n");
    Ok(())
}

/// Programs that speak UDP and ask name servers.
const TOOLS: &str = "tools:1";

/// Sends datagrams to a host's ports in turn by one socket, and prints what it hears: from where, how long, and its beginning.
const SENDER: &str = r#"
    ($host, $patience, @ports) = @ARGV;
    socket(S, 2, 2, 17); $to = gethostbyname($host) or die "no such name"; $SIG{ALRM} = sub { exit 3 };
    for $said ("hello", "", "x" x 60000) {
        for $port (@ports) {
            send(S, $said, 0, pack("S n a4 x8", 2, $port, $to));
            alarm $patience; $from = recv(S, $heard, 65536, 0); alarm 0;
            ($port, $address) = unpack("x2 n a4", $from);
            print "$port ", join(".", unpack("C4", $address)), " ", length $heard, " ", substr($heard, 0, 5), "\n";
        }
    }
"#;

/// How containers are connected.
const NETWORKS: [&[&str]; 3] = [&[], &["--network", "own"], &["--network", "host"]];

fn with_tools(home: &TempHome) -> Result<()> {
    import(home, TOOLS, &["/usr/bin/perl", "/usr/bin/dig"], &[])?;
    docker(home, &["network", "create", "own"])?.success()?;
    Ok(())
}

/// What a program in a container prints.
fn tool(home: &TempHome, options: &[&str], program: &[&str]) -> Result<Outcome> {
    docker(home, &[&["run", "--rm"][..], options, &[TOOLS], program].concat())
}

#[test]
fn the_laptop_has_its_names_in_every_container() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    with_tools(&home)?;
    let port = shouting((Ipv4Addr::LOCALHOST, 0).into())?;
    for options in NETWORKS {
        for name in ["host.docker.internal", "gateway.docker.internal"] {
            let script = format!("echo hello | nc {name} {port}");
            let heard = docker(&home, &[&["run", "--rm"][..], options, &[IMAGE, "sh", "-c", &script]].concat())?;
            ensure!(heard.out() == "HELLO\n", "{name} {options:?}: {heard:?}");
        }
        for question in [&["+notcp", "A"][..], &["+tcp", "A"]] {
            let told = tool(&home, options, &[&["dig", "+short", "Host.docker.internal"], question].concat())?;
            ensure!(told.success()?.out() == "10.0.2.254\n", "{options:?} {question:?}");
        }
        let told = tool(&home, options, &["dig", "host.docker.internal", "AAAA"])?.success()?.out();
        ensure!(told.contains("status: NOERROR") && told.contains("ANSWER: 0"), "{told}");
    }
    let created = docker(&home, &["create", IMAGE])?.success()?.out();
    let told = docker(&home, &["inspect", created.trim()])?.success()?.out();
    ensure!(!told.contains("10.0.2.254") && !told.contains("docker.internal"), "{told}");
    let own = ["--add-host", "host.docker.internal:192.0.2.7"];
    let told = tool(&home, &own, &["perl", "-e", "print join '.', unpack 'C4', gethostbyname 'host.docker.internal'"])?;
    ensure!(told.success()?.out() == "192.0.2.7", "who names the laptop otherwise is heard");
    Ok(())
}

#[test]
fn other_names_are_answered_as_the_runner_itself_is() -> Result<()> {
    let home = TempHome::here("another host's resolver says something else")?;
    let _daemon = Daemon::enabled(&home)?;
    with_tools(&home)?;
    let status = |told: String| -> Result<String> {
        let (_, behind) = told.split_once("status: ").with_context(|| format!("no answer: {told}"))?;
        Ok(behind.split(',').next().unwrap_or_default().to_owned())
    };
    for question in [&["+notcp"][..], &["+tcp"]] {
        let question = [&["dig", "nobody.invalid"], question].concat();
        let Ok(expected) = status(run(Command::new("dig").args(&question[1..]), LIMIT)?.out()) else { continue };
        for options in NETWORKS {
            ensure!(status(tool(&home, options, &question)?.out())? == expected, "{options:?} {question:?}");
        }
    }
    Ok(())
}

#[test]
fn containers_exchange_datagrams_with_servers_on_the_laptops_loopback() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    with_tools(&home)?;
    let ports = [
        shouting_datagrams((Ipv4Addr::LOCALHOST, 0).into())?,
        shouting_datagrams((Ipv6Addr::LOCALHOST, 0).into())?,
        shouting_datagrams((Ipv4Addr::LOCALHOST, 0).into())?,
    ];
    let texts = ports.map(|port| port.to_string());
    let send = |options: &[&str], patience: &str| {
        let program = ["perl", "-e", SENDER, "host.docker.internal", patience];
        tool(&home, options, &[&program[..], &texts.each_ref().map(String::as_str)].concat())
    };
    let heard =
        |length: usize, beginning: &str| ports.map(|port| format!("{port} 10.0.2.254 {length} {beginning}\n")).concat();
    let expected = heard(5, "HELLO") + &heard(0, "") + &heard(60_000, "XXXXX");
    for options in NETWORKS {
        let said = send(options, "20")?;
        ensure!(said.out() == expected, "{options:?}: {said:?}");
    }
    let set = |value: &str| daemon.overside(&["settings", "set", "host-access", value])?.success();
    set(&texts[0])?;
    ensure!(send(&[], "1")?.out() == format!("{} 10.0.2.254 5 HELLO\n", ports[0]));
    set("false")?;
    ensure!(send(&[], "1")?.out().is_empty());
    Ok(())
}

#[test]
fn a_container_may_have_the_port_at_which_names_are_asked_for() -> Result<()> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    if TcpListener::bind(loopback).is_err() || UdpSocket::bind(loopback).is_err() {
        eprintln!("left out: this user may not listen on port 53, or somebody does");
        return Ok(());
    }
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    // On all addresses over there, and on one here: this machine may have a name server on another.
    daemon.overside(&["settings", "set", "ports.bind", "loopback"])?.success()?;
    with_tools(&home)?;
    let start = ["run", "--detach", "-p", "53:53/udp", "-p", "53:53", TOOLS, "perl", "-e", "sleep"];
    docker(&home, &start)?.success()?;
    let told = tool(&home, &[], &["dig", "+short", "host.docker.internal"])?;
    ensure!(told.success()?.out() == "10.0.2.254\n");
    Ok(())
}
