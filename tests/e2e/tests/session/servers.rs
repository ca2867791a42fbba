//! Servers that people run, behind published ports, asked by the clients that people use.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use overside_e2e::{docker, import};
use overside_testkit::{Daemon, LIMIT, TempHome, run};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ports::free;

/// Repeats a question until it is answered: the server has its own beginning.
fn answered(mut ask: impl FnMut() -> Result<String>) -> Result<String> {
    let end = Instant::now() + LIMIT;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn client(program: &str, arguments: &[&str]) -> Result<String> {
    Ok(run(Command::new(program).args(arguments), LIMIT)?.success()?.out())
}

#[test]
fn nginx_serves_many_connections_kept_and_new() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    import(&home, "nginx:1", &["/usr/sbin/nginx", "/bin/sh"], &["/etc/passwd", "/etc/group"])?;
    let port = free()?;
    let configuration = "daemon off; error_log stderr; pid /nginx.pid; user root; events { worker_connections 4096; } \
                         http { access_log off; server { listen 80; location / { return 200 hello; } } }";
    let script = format!("echo '{configuration}' > /nginx.conf; exec nginx -c /nginx.conf");
    let publish = format!("{port}:80");
    let start =
        ["run", "--detach", "--tmpfs", "/var/lib/nginx", "--tmpfs", "/var/log/nginx", "-p", &publish, "nginx:1"];
    docker(&home, &[&start[..], &["sh", "-c", &script]].concat())?.success()?;
    let page = format!("http://127.0.0.1:{port}/");
    answered(|| client("ab", &["-q", "-n", "1", &page]))?;
    for kept in [&["-k"][..], &[]] {
        let told = client("ab", &[&["-q", "-n", "2000", "-c", "50"], kept, &[&page]].concat())?;
        ensure!(told.contains("Failed requests:        0"), "{told}");
    }
    Ok(())
}

#[test]
fn many_streams_share_a_connection_of_http_2() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    import(&home, "nginx:1", &["/usr/sbin/nginx", "/bin/sh"], &["/etc/passwd", "/etc/group"])?;
    let port = free()?;
    let configuration = "daemon off; error_log stderr; pid /nginx.pid; user root; events { worker_connections 4096; } \
                         http { access_log off; server { listen 80 http2; location / { return 200 hello; } } }";
    let script = format!("echo '{configuration}' > /nginx.conf; exec nginx -c /nginx.conf");
    let publish = format!("{port}:80");
    let start =
        ["run", "--detach", "--tmpfs", "/var/lib/nginx", "--tmpfs", "/var/log/nginx", "-p", &publish, "nginx:1"];
    docker(&home, &[&start[..], &["sh", "-c", &script]].concat())?.success()?;
    let page = format!("http://127.0.0.1:{port}/");
    let load = |requests: &str, connections: &str, streams: &str| {
        let told = client("h2load", &["-n", requests, "-c", connections, "-m", streams, &page])?;
        let all = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
        ensure!(told.contains("Application protocol: h2c") && told.contains(&all), "{told}");
        Ok(told)
    };
    answered(|| load("1", "1", "1"))?;
    load("3000", "10", "50")?;
    Ok(())
}

/// Sends back what it is sent.
const WEB_SOCKET_SERVER: &str = r#"
import asyncio, websockets
async def echo(socket, path):
    async for said in socket:
        await socket.send(said)
async def main():
    async with websockets.serve(echo, "0.0.0.0", 80, max_size=None):
        await asyncio.Future()
asyncio.run(main())
"#;

/// Texts, bytes, pings and a large message, on several sockets at a time; each ends as it should.
const WEB_SOCKET_CLIENT: &str = r#"
import asyncio, sys, websockets
async def one(number):
    async with websockets.connect(sys.argv[1], max_size=None) as socket:
        for said in [f"hello {number}", b"\0\1\2", "x" * 3_000_000, ""]:
            await socket.send(said)
            await (await socket.ping())
            assert await socket.recv() == said
    assert socket.close_code == 1000
async def main():
    await asyncio.gather(*(one(number) for number in range(10)))
    print("done")
asyncio.run(main())
"#;

#[test]
fn web_sockets_carry_messages_both_ways_and_close_in_order() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    // Debian's own: another one need not know its packages.
    let python = "/usr/bin/python3";
    let places =
        "import os, ssl, _ssl, websockets; print(os.path.dirname(os.__file__), _ssl.__file__, websockets.__path__[0])";
    let places = client(python, &["-c", places])?;
    let [library, ssl, websockets] = places.split_whitespace().collect::<Vec<_>>()[..] else { bail!("{places}") };
    import(&home, "python:1", &[python, ssl], &[library, websockets])?;
    let port = free()?;
    let publish = format!("{port}:80");
    let start = ["run", "--detach", "--init", "-p", &publish, "python:1", "python3", "-c", WEB_SOCKET_SERVER];
    docker(&home, &start)?.success()?;
    let address = format!("ws://127.0.0.1:{port}/");
    let told = answered(|| client(python, &["-c", WEB_SOCKET_CLIENT, &address]))?;
    ensure!(told == "done\n");
    Ok(())
}

#[test]
fn postgresql_works_with_psql_and_pgbench() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let versions = Path::new("/usr/lib/postgresql");
    let version = fs_err::read_dir(versions)?.next().context("there is no PostgreSQL")??.path();
    let program = |name: &str| version.join("bin").join(name).display().to_string();
    let (postgres, initdb) = (program("postgres"), program("initdb"));
    let shared = format!("/usr/share/postgresql/{}", version.file_name().context("no version")?.to_string_lossy());
    let library = version.join("lib").display().to_string();
    let directories =
        [&shared, &library, "/usr/share/postgresql-common", "/etc/passwd", "/etc/group", "/usr/share/zoneinfo"];
    import(&home, "postgres:1", &[&postgres, &initdb, "/bin/sh", "/bin/cat"], &directories)?;
    let port = free()?;
    let script = format!(
        "{initdb} -D /data/pg -A trust -N >/dev/null && echo 'host all all all trust' >> /data/pg/pg_hba.conf && \
         exec {postgres} -D /data/pg -k /data -h '*'"
    );
    let publish = format!("127.0.0.1:{port}:5432");
    let start = ["run", "--detach", "--user", "postgres", "--tmpfs", "/data:mode=1777", "-p", &publish, "postgres:1"];
    docker(&home, &[&start[..], &["sh", "-c", &script]].concat())?.success()?;
    let number = port.to_string();
    let server = ["-h", "127.0.0.1", "-p", &number, "-U", "postgres"];
    let answer = answered(|| client("psql", &[&server[..], &["-Atc", "select 6 * 7"]].concat()))?;
    ensure!(answer == "42\n", "{answer}");
    let pgbench = program("pgbench");
    client(&pgbench, &[&server[..], &["-i", "-q", "postgres"]].concat())?;
    let told = client(&pgbench, &[&server[..], &["-c", "8", "-t", "50", "postgres"]].concat())?;
    ensure!(told.contains("number of failed transactions: 0"), "{told}");
    Ok(())
}

#[test]
fn a_name_server_answers_dig_over_udp_and_tcp() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    import(&home, "dns:1", &["/usr/sbin/dnsmasq"], &["/etc/passwd", "/etc/group"])?;
    let port = free()?;
    let (udp, tcp) = (format!("{port}:53/udp"), format!("{port}:53"));
    let start = ["run", "--detach", "-p", &udp, "-p", &tcp, "dns:1", "dnsmasq", "--keep-in-foreground", "--no-resolv"];
    let options =
        ["--no-hosts", "--user=root", "--pid-file=", "--address=/office.test/192.0.2.7", "--conf-file=/dev/null"];
    docker(&home, &[&start[..], &options].concat())?.success()?;
    let number = port.to_string();
    for transport in ["+notcp", "+tcp"] {
        let dig = ["@127.0.0.1", "-p", &number, "+short", "+tries=1", "+time=2", transport, "box.office.test"];
        let answer = answered(|| {
            let answer = client("dig", &dig)?;
            ensure!(answer == "192.0.2.7\n", "{transport}: {answer}");
            Ok(answer)
        });
        answer?;
    }
    Ok(())
}

#[test]
fn redis_has_two_hundred_ports_and_two_thousand_connections_at_once() -> Result<()> {
    const PORTS: u16 = 200;
    const EACH: usize = 10;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum.map_or(Some(8192), |most| Some(most.min(8192))), ..limit },
    )?;
    let home = TempHome::new()?;
    let daemon = Daemon::enabled(&home)?;
    import(&home, "redis:1", &["/usr/bin/redis-server"], &["/etc/passwd", "/etc/group"])?;
    let first = free()?.min(29_000);
    let publish: Vec<String> = (first..first + PORTS).map(|port| format!("127.0.0.1:{port}:6379")).collect();
    let published = publish.iter().flat_map(|publish| ["-p", publish]);
    let program = ["redis:1", "redis-server", "--protected-mode", "no", "--save", "", "--loglevel", "warning"];
    let start = ["run", "--detach", "--ulimit", "nofile=8192:8192"];
    let start: Vec<&str> = start.into_iter().chain(published).chain(program).collect();
    docker(&home, &start)?.success()?;
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let number = first.to_string();
    answered(|| client("redis-cli", &["-p", &number, "ping"]))?;
    // All ask before any is waited for: on another host an answer takes its time, and there are thousands.
    let ask = |stream: &mut TcpStream| stream.write_all(b"PING\r\n");
    let hear = |stream: &mut TcpStream| -> Result<()> {
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        ensure!(&answer == b"+PONG\r\n");
        Ok(())
    };

    // One that asks for a lot and reads nothing stops nobody.
    let mut slow = TcpStream::connect_timeout(&at(first), LIMIT)?;
    slow.write_all(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$1048576\r\n")?;
    slow.write_all(&vec![b'x'; 1 << 20])?;
    slow.write_all(b"\r\n")?;
    for _ in 0..64 {
        slow.write_all(b"GET big\r\n")?;
    }
    let mut connections = Vec::new();
    for _ in 0..EACH {
        let before = connections.len();
        for port in first..first + PORTS {
            let mut stream = TcpStream::connect_timeout(&at(port), LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            ask(&mut stream)?;
            connections.push(stream);
        }
        connections[before..].iter_mut().try_for_each(hear)?;
    }
    connections.iter_mut().try_for_each(ask)?;
    connections.iter_mut().try_for_each(hear)?;
    let open: u32 = daemon.status()?.ports.iter().map(|port| port.connections).sum();
    ensure!(open == u32::from(PORTS) * u32::try_from(EACH)? + 1, "{open} are open");
    // It gets everything all the same.
    slow.set_read_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(slow);
    let mut line = Vec::new();
    for expected in std::iter::once("+OK\r\n").chain(std::iter::repeat_n("$1048576\r\n", 64)) {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        ensure!(line == expected.as_bytes(), "{}", String::from_utf8_lossy(&line[..line.len().min(80)]));
        if expected.starts_with('$') {
            reader.read_exact(&mut vec![0; (1 << 20) + 2])?;
        }
    }
    drop(connections);
    daemon.wait_for("the end of the connections", LIMIT, |status| {
        status.ports.iter().map(|port| port.connections).sum::<u32>() <= 1
    })?;
    let told = client("redis-benchmark", &["-p", &number, "-q", "-n", "5000", "-c", "50", "-t", "ping,set,get"])?;
    ensure!(told.contains("GET:"), "{told}");
    Ok(())
}
