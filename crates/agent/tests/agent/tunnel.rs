//! Bytes through the tunnel.

use std::time::Duration;

use fs_err as fs;

use russh::ChannelMsg;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::{
    client::Client,
    environment::{Home, LONG, Running},
};

/// The number of sockets that the agent holds.
fn sockets(running: &Running) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.facts().agent_pid)).unwrap().flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_input_reaches_a_container_whose_output_goes_on() {
    let home = Home::new();
    let running = home.start().await;
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    let output = docker.run_with_input(&["run", "-i", "--rm", "bb", "sh", "-c", "cat; echo the end"], "input\n").await;
    assert_eq!(output, "input\nthe end\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_is_reached_and_bytes_flow_both_ways() {
    let home = Home::new();
    let running = home.start().await;
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    let serve = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www";
    docker.run(&["run", "-d", "-p", "8080:80", "bb", "sh", "-c", serve]).await;
    for host in ["127.0.0.1", "localhost", "::1"] {
        // The proxy of the port listens before the server in the container does.
        let begun = Instant::now();
        loop {
            let mut stream = client.tcp(host, 8080).await.unwrap().into_stream();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            let mut page = String::new();
            timeout(LONG, stream.read_to_string(&mut page)).await.unwrap().unwrap();
            if page.ends_with("page\n") {
                break;
            }
            assert!(begun.elapsed() < LONG, "{host}: {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_says_nothing_holds_no_connection_and_a_client_that_vanishes_takes_its_own_along() {
    let home = Home::new();
    let running = home.start().await;
    let quiet = sockets(&running);
    let client = Client::connect(&running, &home).await;
    until("the connection has its socket", || sockets(&running) > quiet).await;
    client.agent().await.done(overside_model::agent::Operation::Ping).await;
    let connected = sockets(&running);
    let mut channels = Vec::new();
    for _ in 0..10 {
        channels.push(client.engine().await);
    }
    client.agent().await.done(overside_model::agent::Operation::Ping).await;
    assert!(sockets(&running) <= connected, "channels opened ahead hold connections");
    for channel in &mut channels {
        channel.data(&b"GET /events HTTP/1.1\r\nHost: engine\r\n\r\n"[..]).await.unwrap();
        assert!(matches!(timeout(LONG, channel.wait()).await.unwrap(), Some(ChannelMsg::Data { .. })));
    }
    assert!(sockets(&running) >= connected + 10);
    drop(channels);
    client.disconnect().await;
    until("the connections of a client that is gone are closed", || sockets(&running) <= quiet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_image_goes_through_unchanged_both_ways() {
    let home = Home::new();
    let running = home.start().await;
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    let (file, archive) = (home.path().join("noise"), home.path().join("noise.tar"));
    let mut noise = vec![0_u8; 48 << 20];
    let mut state = 1_u64;
    for chunk in noise.chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    fs::write(&file, &noise).unwrap();
    let tar =
        std::process::Command::new("tar").arg("-C").arg(home.path()).arg("-cf").arg(&archive).arg("noise").status();
    assert!(tar.unwrap().success());
    docker.run(&["import", archive.to_str().unwrap(), "noise"]).await;
    docker.run(&["create", "--name", "noise", "noise", "/none"]).await;
    let back = home.path().join("back");
    docker.run(&["cp", "noise:/noise", back.to_str().unwrap()]).await;
    assert!(fs::read(&back).unwrap() == noise, "the bytes have changed");
}
