//! Streams, whole or cut off.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stage::{UPGRADED, proxy, proxy_with, soon, until};

#[tokio::test]
async fn a_hijack_keeps_the_bytes_that_came_with_the_heads_on_both_sides() {
    let mut f = proxy();
    let mut client = f.client().await;
    let request = "POST /v1.41/exec/x/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
                   Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}early input";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    let head = until(&mut engine, "{}").await;
    assert!(
        head.to_lowercase().contains("connection: upgrade\r\n") && head.to_lowercase().contains("upgrade: tcp\r\n"),
        "{head}"
    );
    engine.write_all(format!("{UPGRADED}early output").as_bytes()).await.unwrap();
    let answer = until(&mut client, "early output").await;
    assert!(answer.starts_with(UPGRADED), "{answer}");
    until(&mut engine, "early input").await;
}

#[tokio::test]
async fn an_event_stream_is_one_however_its_path_is_written() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /v1.41/%65vents HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n").await.unwrap();
    until(&mut client, "{}\n").await;
}

#[tokio::test]
async fn an_old_client_that_asks_for_no_upgrade_gets_200_and_the_raw_stream() {
    let mut f = proxy();
    let mut client = f.client().await;
    let request = "POST /containers/x/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\ninput";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(UPGRADED.as_bytes()).await.unwrap();
    until(&mut engine, "input").await;
    engine.write_all(b"output").await.unwrap();
    let answer = until(&mut client, "output").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\noutput");
}

#[tokio::test]
async fn the_end_of_input_leaves_the_output_flowing_and_the_call_ends_with_both() {
    let mut f = proxy();
    let mut client = f.client().await;
    let request = "POST /session HTTP/1.1\r\nHost: d\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    assert!(until(&mut engine, "\r\n\r\n").await.to_lowercase().contains("upgrade: h2c"));
    engine.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut input = String::new();
    soon(engine.read_to_string(&mut input)).await.unwrap();
    assert_eq!(input, "last words");
    engine.write_all(b"still speaking").await.unwrap();
    drop(engine);
    let mut output = String::new();
    soon(client.read_to_string(&mut output)).await.unwrap();
    assert_eq!(output, "still speaking");
    soon(f.ended.notified()).await;
}

/// A socket's client sees the output's end and closes; a pipe's may see nothing but the closing.
#[cfg(windows)]
#[tokio::test]
async fn a_client_that_takes_no_notice_of_the_outputs_end_does_not_keep_the_call() {
    let mut f = proxy();
    let mut client = f.client().await;
    let request = "POST /exec/x/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(UPGRADED.as_bytes()).await.unwrap();
    engine.write_all(b"output").await.unwrap();
    drop(engine);
    soon(f.ended.notified()).await;
    assert!(until(&mut client, "output").await.ends_with("\r\n\r\noutput"));
}

#[tokio::test]
async fn a_hijack_that_the_engine_refuses_is_an_ordinary_answer_and_the_connection_goes_on() {
    let mut f = proxy();
    let mut client = f.client().await;
    let attach = "POST /containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(attach.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone").await.unwrap();
    assert!(until(&mut client, "gone").await.starts_with("HTTP/1.1 404 Not Found\r\n"));
    client.write_all(b"GET /info HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut second = f.engine().await;
    assert!(until(&mut second, "\r\n\r\n").await.starts_with("GET /info HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_with_it() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n").await.unwrap();
    until(&mut client, "{}").await;
    drop(client);
    let mut rest = Vec::new();
    soon(engine.read_to_end(&mut rest)).await.unwrap();
    soon(f.ended.notified()).await;
}

#[tokio::test]
async fn each_portion_of_a_streamed_answer_arrives_before_the_next_one_is_sent() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /containers/x/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    for line in ["one\n", "two\n", "three\n"] {
        engine.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        until(&mut client, line).await;
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_answered_at_once() {
    let mut f = proxy();
    let mut client = f.client().await;
    let head = "POST /images/load HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"image").await.unwrap();
    let mut engine = f.engine().await;
    assert!(!until(&mut engine, "image").await.to_lowercase().contains("expect"));
}

#[tokio::test]
async fn a_header_with_the_credentials_of_many_registries_passes() {
    let mut f = proxy();
    let mut client = f.client().await;
    let config = "c".repeat(300 * 1024);
    let request =
        format!("POST /build HTTP/1.1\r\nHost: d\r\nX-Registry-Config: {config}\r\nContent-Length: 0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    assert!(until(&mut engine, "\r\n\r\n").await.contains(&config));
}

#[tokio::test]
async fn an_archive_without_a_type_gets_the_one_that_the_engine_unpacks() {
    let mut f = proxy();
    let mut client = f.client().await;
    let request = "PUT /v1.41/containers/x/archive?path=/ HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    assert!(until(&mut engine, "\r\n\r\n").await.to_lowercase().contains("content-type: application/x-tar\r\n"));
}

#[tokio::test]
async fn a_path_of_the_laptop_is_refused_and_the_engine_hears_nothing() {
    let mut f = proxy();
    let mut client = f.client().await;
    let body = r#"{"Image":"x","HostConfig":{"Binds":["/src:/app"]}}"#;
    let request =
        format!("POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = until(&mut client, "}").await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains("cannot mount /src"), "{answer}");
    assert!(f.connections.try_recv().is_err());
}

#[tokio::test]
async fn an_error_is_in_the_engines_own_form() {
    let f = proxy_with(true, None);
    let mut client = f.client().await;
    client.write_all(b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let answer = until(&mut client, "}").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"message":"Overside is turned off. Start it with `overside start`."}"#), "{answer}");
}

#[tokio::test]
async fn an_engine_that_breaks_off_is_an_error_with_a_next_step_and_not_a_hang() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /images/x/get HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    drop(engine);
    let answer = until(&mut client, "}").await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && answer.contains("overside status"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /a HTTP/1.1\r\nHost: d\r\n\r\nGET /b HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    for (path, body) in [("/a", "first"), ("/b", "second")] {
        let mut engine = f.engine().await;
        assert!(until(&mut engine, "\r\n\r\n").await.starts_with(&format!("GET {path} ")));
        engine
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await
            .unwrap();
        until(&mut client, body).await;
    }
}

#[tokio::test]
async fn a_client_that_has_ended_its_input_still_gets_its_answer() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /containers/json HTTP/1.0\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await.unwrap();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("[]"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_before_its_answer_takes_its_call_with_it() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"POST /containers/x/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    drop(client);
    let mut rest = Vec::new();
    soon(engine.read_to_end(&mut rest)).await.unwrap();
    soon(f.ended.notified()).await;
}

#[tokio::test]
async fn what_a_client_sent_just_before_it_went_away_reaches_the_container() {
    let mut f = proxy();
    let mut client = f.client().await;
    let request =
        "POST /exec/x/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "{}").await;
    engine.write_all(UPGRADED.as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    client.write_all(&[b'x'; 200_000]).await.unwrap();
    drop(client);
    let mut input = Vec::new();
    soon(engine.read_to_end(&mut input)).await.unwrap();
    assert_eq!(input.len(), 200_000);
    soon(f.ended.notified()).await;
}

#[tokio::test]
async fn an_engine_that_looks_like_docker_desktop_does_not_any_more() {
    let mut f = proxy();
    let mut client = f.client().await;
    client.write_all(b"GET /v1.47/info HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut engine = f.engine().await;
    until(&mut engine, "\r\n\r\n").await;
    let info = r#"{"Labels":["com.docker.desktop.address=unix:///x"],"NCPU":2}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{info}", info.len());
    engine.write_all(answer.as_bytes()).await.unwrap();
    let answer = until(&mut client, "}").await;
    assert!(answer.ends_with(r#"{"Labels":[],"NCPU":2}"#), "{answer}");
}
