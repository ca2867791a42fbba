//! The laptop's files: what requests bind of them, what answers call them, and what the end of a container waits for.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};

use crate::stage::{Files, UPGRADED, proxy, proxy_with, soon, until};

/// A file of the laptop, as it stands in JSON, and its place in the environment.
const PATH: &str = if cfg!(windows) { r"C:\\me\\src" } else { "/home/me/src" };
const PLACE: &str = if cfg!(windows) { "/.overside/laptop/C/me/src" } else { "/.overside/laptop/home/me/src" };

const WAIT: &[u8] = b"POST /v1.41/containers/x/wait?condition=removed HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n";
const EXEC: &[u8] = b"POST /exec/x/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
    Content-Length: 2\r\n\r\n{}";

#[tokio::test]
async fn what_a_request_binds_gets_its_place_before_the_engine_hears_of_it() {
    let files = Arc::new(Files::default());
    let mut f = proxy_with(false, Some(files.clone()));
    let mut client = f.client().await;
    let body = format!(r#"{{"Image":"x","HostConfig":{{"Binds":["{PATH}:/app:ro","v:/app/cache"]}}}}"#);
    let head = "POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length:";
    client.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    let forwarded = until(&mut engine, "}}").await;
    let expected = body.replace(PATH, PLACE);
    assert!(forwarded.ends_with(&expected), "{forwarded}");
    assert!(forwarded.to_lowercase().contains(&format!("content-length: {}\r\n", expected.len())), "{forwarded}");
    let bound = files.bound.lock().unwrap().pop().unwrap();
    assert_eq!(
        (bound.binds[0].source.as_str(), bound.binds[0].masks.as_slice()),
        (PATH.replace(r"\\", r"\").as_str(), &["cache".to_owned()][..])
    );
    assert_eq!(bound.volumes, ["v"]);
    engine
        .write_all(
            b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"Id\":\"abc\"}",
        )
        .await
        .unwrap();
    until(&mut client, "{\"Id\":\"abc\"}").await;
    assert_eq!(files.kept.lock().unwrap().as_slice(), [b"{\"Id\":\"abc\"}".to_vec()]);
}

#[tokio::test]
async fn a_client_sees_its_own_paths_in_short_answers_in_long_ones_in_events_and_in_errors() {
    let mut f = proxy();
    let mut client = f.client().await;
    let place = format!(r#"{{"Source":"{PLACE}"}}"#);
    let path = format!(r#"{{"Source":"{PATH}"}}"#);
    let (place, path) = (place.as_str(), path.as_str());
    client.write_all(b"GET /containers/x/json HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    engine.write_all(format!("{head}Content-Length: {}\r\n\r\n{place}", place.len()).as_bytes()).await.unwrap();
    let answer = until(&mut client, path).await;
    assert!(answer.to_lowercase().contains(&format!("content-length: {}\r\n", path.len())), "{answer}");

    client.write_all(b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    // One piece is nothing but the beginning of a place.
    for piece in [&place[..11], &place[11..20], &place[20..], "[]"] {
        engine.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
    }
    engine.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = until(&mut client, "\r\n0\r\n\r\n").await;
    let (_, chunks) = answer.split_once("\r\n\r\n").unwrap();
    let content: String = chunks.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(content, format!("{path}[]"));

    client.write_all(b"POST /containers/x/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    let error = format!(r#"{{"message":"cannot mount \"{PLACE}\": not a directory"}}"#);
    let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length:";
    engine.write_all(format!("{head} {}\r\n\r\n{error}", error.len()).as_bytes()).await.unwrap();
    until(&mut client, &format!(r#"{{"message":"cannot mount \"{PATH}\": not a directory"}}"#)).await;

    client.write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    engine.write_all(format!("{head}{:x}\r\n{place}\n\r\n", place.len() + 1).as_bytes()).await.unwrap();
    until(&mut client, &format!("{path}\n")).await;
}

#[tokio::test]
async fn the_end_of_a_container_is_told_when_its_files_are_here() {
    let flushed = Arc::new(Notify::new());
    let files = Files { flushed: Some(flushed.clone()), ..Files::default() };
    let mut f = proxy_with(false, Some(Arc::new(files)));
    let mut client = f.client().await;
    client.write_all(WAIT).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    engine.write_all(head).await.unwrap();
    // `docker run` starts the container when it has seen this.
    until(&mut client, "\r\n\r\n").await;
    engine.write_all(b"11\r\n{\"StatusCode\": 3}\r\n0\r\n\r\n").await.unwrap();
    let mut next = [0; 64];
    let early = tokio::select! {
        biased;
        read = client.read(&mut next) => Some(read.unwrap()),
        () = pause() => None,
    };
    assert_eq!(early, None);
    flushed.notify_one();
    until(&mut client, "{\"StatusCode\": 3}\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn the_end_of_a_commands_output_is_told_when_its_files_are_here() {
    let flushed = Arc::new(Notify::new());
    let files = Files { flushed: Some(flushed.clone()), ..Files::default() };
    let mut f = proxy_with(false, Some(Arc::new(files)));
    let mut client = f.client().await;
    client.write_all(EXEC).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "{}").await;
    engine.write_all(format!("{UPGRADED}output").as_bytes()).await.unwrap();
    drop(engine);
    until(&mut client, "output").await;
    let mut next = [0; 64];
    let early = tokio::select! {
        biased;
        read = client.read(&mut next) => Some(read.unwrap()),
        () = pause() => None,
    };
    assert_eq!(early, None);
    flushed.notify_one();
    assert_eq!(soon(client.read(&mut next)).await.unwrap(), 0);
}

#[tokio::test]
async fn an_end_without_files_waits_for_nothing() {
    let mut f = proxy_with(false, Some(Arc::new(Files::default())));
    let mut client = f.client().await;
    client.write_all(WAIT).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    until(&mut client, "{}").await;
}

/// Long enough for everything that is ready to happen: the tasks run on one thread.
async fn pause() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}
