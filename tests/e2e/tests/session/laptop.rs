//! What containers reach of the laptop.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    thread,
};

use anyhow::{Result, ensure};
use overside_e2e::{docker, load};
use overside_testkit::{Daemon, IMAGE, TempHome};

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

/// What a container hears from a port of the laptop's.
fn call(home: &TempHome, options: &[&str], port: u16) -> Result<String> {
    let script = format!("echo hello | nc laptop {port}");
    let run = ["run", "--rm", "--add-host", "laptop:host-gateway"];
    Ok(docker(home, &[&run[..], options, &[IMAGE, "sh", "-c", &script]].concat())?.out())
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
