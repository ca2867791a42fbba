//! Published ports, as a daily user of docker expects them on the laptop.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use overside_e2e::{docker, import, load};
use overside_model::{PortStatus, Protocol, State, agent::DYNAMIC_PORTS};
use overside_testkit::{Daemon, IMAGE, LIMIT, Running, TempHome, clients};

/// Image with a Perl that has no modules.
const SERVERS: &str = "servers:1";

/// Sends back what every connection says until it ends, each in a process of its own.
const TCP_ECHO: &str = r#"
    $SIG{CHLD} = "IGNORE"; $| = 1;
    socket(S, $ARGV[1], 1, 6); bind(S, $ARGV[1] == 2 ? pack("S n N x8", 2, $ARGV[0], 0) : pack("S n x24", 10, $ARGV[0]));
    listen(S, 4096); print "ready\n";
    while (accept(C, S)) {
        if (!fork) { close(S); while (sysread(C, $b, 65536)) { syswrite(C, $b) } exit }
        close(C);
    }
"#;

/// Sends back every datagram, with the sender's port before it.
const UDP_ECHO: &str = r#"
    $| = 1; socket(S, 2, 2, 17); bind(S, pack("S n N x8", 2, $ARGV[0], 0)); print "ready\n";
    while (defined($a = recv(S, $b, 65535, 0))) { send(S, unpack("x2 n", $a) . ":" . $b, 0, $a) }
"#;

/// A port that nobody has on this machine, and that neither outgoing connections nor the engine choose.
pub(crate) fn free() -> Result<u16> {
    // Tests that run at the same time, in this process or another, look from different numbers on.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = std::process::id().wrapping_mul(61) + NEXT.fetch_add(7, Relaxed);
    let begin = 20_000 + u16::try_from(next % 10_000)?;
    let mut ports = (begin..30_000).chain(20_000..begin);
    ports.find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).context("every port is taken")
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Starts a container whose server says `ready`, and waits until it has.
fn serve(home: &TempHome, name: &str, options: &[&str], program: &[&str]) -> Result<()> {
    let mut arguments = vec!["run", "--detach", "--init", "--name", name];
    arguments.extend(options);
    arguments.push(SERVERS);
    arguments.extend(program);
    docker(home, &arguments)?.success()?;
    wait_until_ready(home, name, 1)
}

/// Waits until it was ready that many times.
fn wait_until_ready(home: &TempHome, name: &str, times: usize) -> Result<()> {
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    let log = Running::spawn(&mut home.docker(cli, &["logs", "--follow", name])?)?;
    log.wait_until("the server is ready", |said| said.matches("ready").count() >= times, LIMIT)?;
    Ok(())
}

fn echo_once(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"hello")?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    ensure!(said == "hello", "{address} said {said:?}");
    Ok(())
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, LIMIT).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn ports(daemon: &Daemon<'_>) -> Result<Vec<PortStatus>> {
    let shown = daemon.overside(&["ports", "--format", "json"])?.success()?.out();
    shown.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn begin(home: &TempHome) -> Result<Daemon<'_>> {
    let daemon = Daemon::enabled(home)?;
    import(home, SERVERS, &["/usr/bin/perl"], &[])?;
    Ok(daemon)
}

#[test]
fn a_published_port_is_there_when_run_returns_and_gone_when_the_container_is() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = begin(&home)?;
    let port = free()?;
    let publish = format!("{port}:7");
    serve(&home, "web", &["-p", &publish], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    echo_once(at(port))?;
    echo_once((Ipv6Addr::LOCALHOST, port).into())?;
    ensure!(docker(&home, &["port", "web", "7"])?.success()?.out().contains(&format!("0.0.0.0:{port}")));
    let shown = ports(&daemon)?;
    let first = shown.first().context("no port is shown")?;
    ensure!((first.container.as_str(), first.container_port, first.bytes_in, first.bytes_out) == ("web", 7, 5, 5));
    ensure!(daemon.overside(&["ports"])?.success()?.out().contains("web:7"));

    // An ordinary user's engine has no control groups to freeze with.
    if home.has_limits() {
        docker(&home, &["pause", "web"])?.success()?;
        docker(&home, &["unpause", "web"])?.success()?;
        echo_once(at(port))?;
    }
    docker(&home, &["restart", "--time", "0", "web"])?.success()?;
    wait_until_ready(&home, "web", 2)?;
    echo_once(at(port))?;
    docker(&home, &["stop", "--time", "0", "web"])?.success()?;
    ensure!(is_refused(at(port)) && ports(&daemon)?.is_empty());
    docker(&home, &["start", "web"])?.success()?;
    ensure!(!is_refused(at(port)));
    docker(&home, &["rename", "web", "other"])?.success()?;
    daemon.wait_for("the new name", LIMIT, |status| status.ports.iter().all(|port| port.container == "other"))?;
    docker(&home, &["rm", "--force", "other"])?.success()?;
    ensure!(is_refused(at(port)));
    ensure!(ports(&daemon)?.is_empty());
    Ok(())
}

#[test]
fn a_port_that_is_taken_on_the_laptop_fails_the_start_as_an_engine_would() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, free()?))?;
    let port = taken.local_addr()?.port();
    let publish = format!("{port}:80");
    // Would wait for ever for a removal that does not come.
    let refused = docker(&home, &["run", "--rm", "--name", "web", "-p", &publish, IMAGE, "sleep", "1000"])?;
    ensure!(refused.code() == 125, "{refused:?}");
    ensure!(
        refused.err().contains(&format!("listen tcp4 0.0.0.0:{port}: bind: address already in use")),
        "{refused:?}"
    );
    ensure!(docker(&home, &["ps", "--all", "--quiet"])?.success()?.out().is_empty());

    let unknown = docker(&home, &["run", "--rm", "-p", "192.0.2.7:80:80", IMAGE, "true"])?;
    ensure!(unknown.err().contains("192.0.2.7:80: bind: cannot assign requested address"), "{unknown:?}");

    let created = docker(&home, &["create", "--name", "web", "-p", &publish, IMAGE, "sleep", "1000"])?;
    created.success()?;
    ensure!(docker(&home, &["start", "web"])?.code() != 0);
    drop(taken);
    docker(&home, &["start", "web"])?.success()?;
    // The engine's own refusal reaches the client, and takes nothing from the one that has the port.
    let second = docker(&home, &["run", "--rm", "-p", &publish, IMAGE, "true"])?;
    ensure!(second.err().contains("port is already allocated"), "{second:?}");
    ensure!(!is_refused(at(port)));
    Ok(())
}

#[test]
fn a_number_that_the_engine_chooses_is_free_on_the_laptop_and_the_same_on_both_sides() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = begin(&home)?;
    // Those that it would choose first.
    let first = *DYNAMIC_PORTS.start();
    let taken: Vec<_> = (first..first + 4).map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).collect();
    serve(&home, "web", &["-p", "7", "-p", "127.0.0.1::7", "-p", "9/udp"], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    let told = docker(&home, &["port", "web"])?.success()?.out();
    let mut numbers: Vec<u16> = told
        .lines()
        // The engine chooses another number for IPv6.
        .filter(|line| line.starts_with("7/tcp") && !line.contains("::"))
        .filter_map(|line| line.rsplit_once(':')?.1.parse().ok())
        .collect();
    numbers.dedup();
    ensure!(numbers.len() >= 2, "{told}");
    for port in numbers {
        ensure!(DYNAMIC_PORTS.contains(&port), "{told}");
        ensure!(
            !taken.iter().flatten().any(|taken| taken.local_addr().is_ok_and(|taken| taken.port() == port)),
            "{told}"
        );
        echo_once(at(port))?;
    }
    ensure!(ports(&daemon)?.iter().all(|port| port.problem.is_none()), "{:?}", ports(&daemon)?);
    Ok(())
}

/// An address of this machine's besides loopback, as its network has it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: the system only chooses a way. The address is one for examples, which nobody has.
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn a_port_is_on_the_one_address_that_docker_was_given() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = begin(&home)?;
    let loopbacks =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), Ipv6Addr::LOCALHOST.into()];
    let addresses: Vec<IpAddr> = loopbacks.into_iter().chain(own_address()).collect();
    for address in &addresses {
        let port = free()?;
        let socket = SocketAddr::new(*address, port);
        let (tcp, udp) = (format!("{socket}:7"), format!("{socket}:9/udp"));
        let server = format!("if (!fork) {{ @ARGV = (9); {UDP_ECHO} }} {TCP_ECHO}");
        serve(&home, "web", &["-p", &tcp, "-p", &udp], &["perl", "-e", &server, "7", "2"])?;
        wait_until_ready(&home, "web", 2)?;
        echo_once(socket)?;
        for other in addresses.iter().filter(|other| *other != address) {
            ensure!(is_refused(SocketAddr::new(*other, port)), "{socket} is also at {other}");
        }
        let client = UdpSocket::bind((*address, 0))?;
        client.set_read_timeout(Some(LIMIT))?;
        client.connect(socket)?;
        client.send(b"hello")?;
        let mut answer = [0; 100];
        let length = client.recv(&mut answer)?;
        ensure!(answer[..length].ends_with(b":hello"), "{socket}");
        let told = docker(&home, &["port", "web", "7"])?.success()?.out();
        // Old clients write addresses of IPv6 without brackets.
        ensure!(told.trim().replace(['[', ']'], "") == format!("{address}:{port}"), "{told}");
        docker(&home, &["rm", "--force", "web"])?.success()?;
        ensure!(is_refused(socket));
    }
    Ok(())
}

#[test]
fn a_setting_keeps_published_ports_on_loopback() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = begin(&home)?;
    let port = free()?;
    let publish = format!("{port}:7");
    serve(&home, "web", &["-p", &publish], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], port));
    echo_once(elsewhere)?;
    daemon.overside(&["settings", "set", "ports.bind", "loopback"])?.success()?;
    ensure!(is_refused(elsewhere));
    echo_once(at(port))?;
    daemon.overside(&["settings", "set", "ports.bind", "as-published"])?.success()?;
    echo_once(elsewhere)
}

#[test]
fn networks_that_come_and_go_take_no_port_away() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = begin(&home)?;
    let port = free()?;
    let publish = format!("{port}:7");
    for network in ["one", "two"] {
        docker(&home, &["network", "create", network])?.success()?;
    }
    serve(&home, "web", &["--network", "one", "-p", &publish], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    for change in [["connect", "two"], ["disconnect", "one"], ["connect", "one"], ["disconnect", "two"]] {
        docker(&home, &["network", change[0], change[1], "web"])?.success()?;
        echo_once(at(port)).with_context(|| format!("after network {} {}", change[0], change[1]))?;
    }
    Ok(())
}

#[test]
fn a_connection_resumes_a_suspended_environment_and_outlives_a_killed_daemon() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = begin(&home)?;
    let port = free()?;
    let publish = format!("{port}:7");
    serve(&home, "web", &["-p", &publish], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    daemon.overside(&["idle"])?.success()?;
    daemon.wait_for_state(State::Suspended, LIMIT)?;
    let mut open = TcpStream::connect_timeout(&at(port), LIMIT)?;
    open.set_read_timeout(Some(LIMIT))?;
    open.write_all(b"wake")?;
    open.read_exact(&mut [0; 4])?;
    let status = daemon.status()?;
    ensure!(status.state == State::Running);
    ensure!(status.awake_because.iter().any(|reason| reason.kind == "connection"), "{:?}", status.awake_because);

    daemon.kill()?;
    ensure!(open.read(&mut [0]).is_ok_and(|read| read == 0) || is_refused(at(port)), "the connection goes on");
    let daemon = Daemon::start(&home)?;
    daemon.wait_for("the port", LIMIT, |status| !status.ports.is_empty())?;
    echo_once(at(port))?;
    daemon.overside(&["stop", "-f"])?.success()?;
    ensure!(is_refused(at(port)));
    Ok(())
}

#[test]
fn what_is_behind_a_port_refuses_and_breaks_off_as_itself() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = begin(&home)?;
    let port = free()?;
    let publish = format!("{port}:7");
    serve(&home, "web", &["-p", &publish], &["perl", "-e", "$| = 1; print qq(ready\\n); sleep 1000"])?;
    // Nobody listens in the container: a local engine's connection is accepted and reset, too.
    let mut nobody = TcpStream::connect_timeout(&at(port), LIMIT)?;
    nobody.set_read_timeout(Some(LIMIT))?;
    let read = nobody.read(&mut [0]);
    ensure!(read.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{read:?}");
    docker(&home, &["rm", "--force", "web"])?.success()?;

    serve(&home, "web", &["-p", &publish], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    let mut open = TcpStream::connect_timeout(&at(port), LIMIT)?;
    open.set_read_timeout(Some(LIMIT))?;
    open.write_all(b"x")?;
    open.read_exact(&mut [0])?;
    docker(&home, &["kill", "web"])?.success()?;
    let read = open.read(&mut [0]);
    ensure!(matches!(&read, Ok(0)) || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn datagrams_of_many_senders_find_back_each_to_its_own() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = begin(&home)?;
    let port = free()?;
    let publish = format!("{port}:53/udp");
    serve(&home, "dns", &["-p", &publish], &["perl", "-e", UDP_ECHO, "53"])?;
    let senders: Vec<_> = (0..20_usize)
        .map(|sender| {
            thread::spawn(move || -> Result<String> {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.set_read_timeout(Some(LIMIT))?;
                socket.connect(at(port))?;
                let mut seen = None;
                for round in 1..30_usize {
                    let said = format!("{sender}-{}", "x".repeat(round * 40));
                    socket.send(said.as_bytes())?;
                    let mut buffer = [0; 2000];
                    let length = socket.recv(&mut buffer)?;
                    let answer = String::from_utf8(buffer[..length].to_vec())?;
                    let (from, text) = answer.split_once(':').context("no port")?;
                    ensure!(text == said);
                    // One sender is one flow: its port over there stays the same.
                    ensure!(seen.get_or_insert_with(|| from.to_owned()) == from);
                }
                seen.context("no answer")
            })
        })
        .collect();
    let mut seen = Vec::new();
    for sender in senders {
        let Ok(answered) = sender.join() else { bail!("a sender panicked") };
        seen.push(answered?);
    }
    seen.sort();
    seen.dedup();
    ensure!(seen.len() == 20, "senders share a port: {seen:?}");
    ensure!(ports(&daemon)?.iter().any(|shown| shown.connections == 20), "{:?}", ports(&daemon)?);
    Ok(())
}

/// Has a container with the environment's own network, and the ports that are shown when it has begun and ended a server.
#[test]
fn what_a_container_with_the_hosts_network_listens_on_comes_and_goes_on_the_laptop() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = begin(&home)?;
    let port = free()?;
    let text = port.to_string();
    let until = |what: &str, shown: &dyn Fn(&[PortStatus]) -> bool| -> Result<()> {
        daemon.wait_for(what, LIMIT, |status| shown(&status.ports)).map(drop)
    };
    let is_of = |name: &str, shown: &PortStatus| (shown.container.as_str(), shown.container_port) == (name, port);
    docker(&home, &["run", "--detach", "--network", "host", "--name", "other", SERVERS, "perl", "-e", "sleep"])?
        .success()?;
    serve(&home, "tcp", &["--network", "host"], &["perl", "-e", TCP_ECHO, &text, "2"])?;
    until(
        "the port",
        &|ports| matches!(ports, [one] if is_of("tcp", one) && one.address == format!("127.0.0.1:{port}")),
    )?;
    echo_once(at(port))?;
    // Another server of a container that runs already, by `docker exec`, on all addresses of both families.
    docker(&home, &["rm", "--force", "tcp"])?.success()?;
    until("no port", &|ports| ports.is_empty())?;
    ensure!(is_refused(at(port)));
    docker(&home, &["exec", "--detach", "other", "perl", "-e", TCP_ECHO, &text, "10"])?.success()?;
    until("both families", &|ports| ports.len() == 2 && ports.iter().all(|one| is_of("other", one)))?;
    echo_once((Ipv6Addr::LOCALHOST, port).into())?;
    // The engine's own listeners for published ports are none of these.
    let (published, datagrams) = (free()?, free()?);
    let publish = format!("{published}:7");
    serve(&home, "web", &["-p", &publish], &["perl", "-e", TCP_ECHO, "7", "2"])?;
    docker(&home, &["exec", "--detach", "other", "perl", "-e", UDP_ECHO, &datagrams.to_string()])?.success()?;
    until("datagrams", &|ports| ports.iter().any(|one| one.protocol == Protocol::Udp))?;
    ensure!(ports(&daemon)?.len() == 5, "{:?}", ports(&daemon)?);
    docker(&home, &["rm", "--force", "web"])?.success()?;
    ensure!(is_refused(at(published)) && ports(&daemon)?.len() == 3, "{:?}", ports(&daemon)?);
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.set_read_timeout(Some(LIMIT))?;
    client.send_to(b"hello", at(datagrams))?;
    let mut answer = [0; 100];
    let length = client.recv(&mut answer)?;
    ensure!(answer[..length].ends_with(b":hello"));
    // Among the numbers that the kernel chooses for clients, a server is told by staying.
    let high =
        (50_000..60_000).find(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok()).context("no number is free")?;
    docker(&home, &["exec", "--detach", "other", "perl", "-e", UDP_ECHO, &high.to_string()])?.success()?;
    until("a server with a high number", &|ports| ports.iter().any(|one| one.container_port == high))?;

    let set = |value: &str| daemon.overside(&["settings", "set", "ports.host-network", value])?.success();
    set("false")?;
    ensure!(is_refused(at(port)) && ports(&daemon)?.is_empty());
    set("true")?;
    until("the ports again", &|ports| ports.len() == 4)?;
    docker(&home, &["rm", "--force", "other"])?.success()?;
    until("none", &|ports| ports.is_empty())
}
