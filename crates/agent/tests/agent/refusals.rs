//! What the agent does not do.

use std::process::Command;

use overside_model::{ErrorCode, agent::Message};
use russh::ChannelMsg;
use tokio::{io::AsyncReadExt, net::UnixStream};

use crate::{
    client::Client,
    environment::{AGENT, Home, key},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_dockerd_is_reported_and_nothing_is_left() {
    let home = Home::new();
    let mut spec = home.spec();
    spec.engine_path = Some(vec![home.path().to_owned()]);
    let problem = home.try_start(&spec, &mut Command::new(AGENT)).await.err().expect("no engine");
    assert_eq!(problem.code, ErrorCode::EngineMissing);
    assert!(problem.hint.contains("apt-get install docker.io"), "{}", problem.hint);
    assert!(!spec.directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerd_that_ends_at_once_is_reported_with_its_words_and_nothing_is_left() {
    let home = Home::new();
    let broken = home.path().join("bin");
    fs_err::create_dir(&broken).unwrap();
    // busybox under the name of dockerd says that there is no such applet.
    fs_err::copy("/bin/busybox", broken.join("dockerd")).unwrap();
    let mut spec = home.spec();
    spec.engine_path = Some(vec![broken, "/usr/sbin".into(), "/usr/bin".into()]);
    let problem = home.try_start(&spec, &mut Command::new(AGENT)).await.err().expect("no engine");
    assert_eq!(problem.code, ErrorCode::EngineFailed);
    assert!(problem.message.contains("applet not found"), "{}", problem.message);
    assert!(!spec.directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_refused() {
    let home = Home::new();
    let running = home.start().await;
    assert!(Client::try_connect(&running, &key(2)).await.is_none());
    assert!(Client::try_connect(&running, &home.key).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_shells_other_sockets_and_names_are_refused_and_the_connection_goes_on() {
    let home = Home::new();
    let running = home.start().await;
    let client = Client::connect(&running, &home).await;
    let mut channel = client.handle().channel_open_session().await.unwrap();
    channel.exec(true, "id").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    channel.request_shell(true).await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    channel.request_subsystem(true, "sftp").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    assert!(client.handle().channel_open_direct_streamlocal("/run/containerd/containerd.sock").await.is_err());
    assert!(client.tcp("example.org", 80).await.is_err());
    assert!(client.tcp("127.0.0.1", 9).await.is_err(), "nobody listens there");
    let mut agent = client.agent().await;
    agent.send("{\"id\":7,\"operation\":\"dance\"}").await;
    assert!(matches!(agent.message().await, Some(Message::Failed { id: 7, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_log_in_are_limited_in_number_and_others_get_in_after_them() {
    const PLACES: usize = 16;
    let home = Home::new();
    let running = home.start().await;
    let mut idle = Vec::new();
    for _ in 0..4 * PLACES {
        idle.push(UnixStream::connect(&running.facts().socket).await.unwrap());
    }
    let mut greeting = [0; 4];
    for stream in &mut idle[..PLACES] {
        assert_eq!(stream.read_exact(&mut greeting).await.unwrap(), 4);
        assert_eq!(&greeting, b"SSH-");
    }
    for stream in &mut idle[PLACES..] {
        assert!(stream.try_read(&mut greeting).is_err(), "one more than there are places for was greeted");
    }
    drop(idle);
    Client::connect(&running, &home).await;
}
