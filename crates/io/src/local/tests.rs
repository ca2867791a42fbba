//! What local sockets and streams do on every system.

use std::{
    future::Future,
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::*;

/// A place for one socket; what is left of it goes with the directory.
pub(super) fn place() -> (tempfile::TempDir, PathBuf) {
    let mut builder = tempfile::Builder::new();
    // A socket's path is short on Unix; what the environment names may not be.
    let directory = if cfg!(unix) { builder.prefix("ov").tempdir_in("/tmp") } else { builder.prefix("ov").tempdir() };
    let directory = directory.unwrap();
    let path = directory.path().join("x.sock");
    (directory, path)
}

/// The client's end and the server's.
async fn pair() -> (Stream, Stream) {
    let (_directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    let (client, server) = tokio::join!(connect(&path), listener.accept());
    (client.unwrap(), server.unwrap())
}

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("nothing happened")
}

pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    text
}

/// One exchange each way: what had happened before at the peer's is known here after it.
async fn round_trip(client: &mut Stream, server: &mut Watched) {
    let mut byte = [0];
    server.write_all(b"?").await.unwrap();
    soon(client.read_exact(&mut byte)).await.unwrap();
    client.write_all(b"!").await.unwrap();
    soon(server.read_exact(&mut byte)).await.unwrap();
}

/// Asserts that the peer is not gone when `work` is done.
async fn not_gone<T>(gone: &mut Pin<&mut impl Future<Output = ()>>, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = gone => panic!("gone too early"),
        done = work => done,
    }
}

/// Whether a name can be asked for that nobody else has. Wine learned it only after version 8.
pub(super) fn tells_who_is_first() -> bool {
    #[cfg(windows)]
    {
        use tokio::net::windows::named_pipe::ServerOptions;
        let name = format!(r"\\.\pipe\overside-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let first = || ServerOptions::new().first_pipe_instance(true).create(&name);
        let held = first().unwrap();
        let tells = first().is_err();
        drop(held);
        if !tells {
            println!("not tested: this system makes a pipe of a name that is taken");
        }
        tells
    }
    #[cfg(not(windows))]
    true
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open_whichever_ends_first() {
    for client_first in [true, false] {
        let (client, server) = pair().await;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"last words").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(rest(&mut second).await, "last words");
        assert_eq!(rest(&mut second).await, "", "the end is not for one read only");
        second.write_all(b"an answer").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(rest(&mut first).await, "an answer");
    }
}

#[tokio::test]
async fn what_was_written_before_the_end_is_read_after_the_writer_is_gone() {
    for client_writes in [true, false] {
        let (client, server) = pair().await;
        let (mut writer, mut reader) = if client_writes { (client, server) } else { (server, client) };
        let data = pattern(32 * 1024);
        for part in data.chunks(1000) {
            writer.write_all(part).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        drop(writer);
        let mut read = Vec::new();
        soon(reader.read_to_end(&mut read)).await.unwrap();
        assert!(read == data, "{} of {} bytes", read.len(), data.len());
    }
}

#[tokio::test]
async fn an_end_after_more_than_the_system_holds_loses_nothing() {
    for client_writes in [true, false] {
        let (client, server) = pair().await;
        let (mut writer, mut reader) = if client_writes { (client, server) } else { (server, client) };
        let data = pattern(4 << 20);
        let expected = data.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        soon(reader.read_to_end(&mut read)).await.unwrap();
        assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
        soon(writing).await.unwrap();
    }
}

#[tokio::test]
async fn a_megabyte_written_at_once_arrives_whole_in_small_reads() {
    let (mut client, mut server) = pair().await;
    let data = pattern(1 << 20);
    let expected = data.clone();
    let writing = tokio::spawn(async move {
        client.write_all(&data).await.unwrap();
        client
    });
    let (mut read, mut part) = (Vec::new(), [0; 777]);
    while read.len() < expected.len() {
        let count = soon(server.read(&mut part)).await.unwrap();
        assert_ne!(count, 0, "an end after {} bytes", read.len());
        read.extend_from_slice(&part[..count]);
    }
    assert!(read == expected);
    soon(writing).await.unwrap();
}

#[tokio::test]
async fn an_empty_write_is_no_end() {
    let (mut client, mut server) = pair().await;
    assert_eq!(client.write(&[]).await.unwrap(), 0);
    client.write_all(b"and more").await.unwrap();
    client.flush().await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await, "and more");
}

#[tokio::test]
async fn nothing_can_be_written_after_the_end_and_ending_twice_is_ending_once() {
    let (mut client, mut server) = pair().await;
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    let error = client.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(rest(&mut server).await, "");
}

#[tokio::test]
async fn ending_towards_a_peer_that_is_gone_is_no_error() {
    let (client, mut server) = pair().await;
    drop(client);
    assert_eq!(rest(&mut server).await, "");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_peer_that_ends_its_input_is_not_gone() {
    let (mut client, server) = pair().await;
    let (mut server, gone) = Watched::new(server).unwrap();
    let mut gone = pin!(gone.wait());
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    not_gone(&mut gone, async {
        assert_eq!(rest(&mut server).await, "last words");
        for _ in 0..100 {
            server.write_all(b"answer").await.unwrap();
            soon(client.read_exact(&mut [0; 6])).await.unwrap();
        }
    })
    .await;
    drop(client);
    soon(gone).await;
}

#[tokio::test]
async fn a_peer_that_vanishes_while_it_is_only_written_to_is_noticed() {
    for ends_first in [false, true] {
        let (mut client, server) = pair().await;
        let (mut server, gone) = Watched::new(server).unwrap();
        let mut gone = pin!(gone.wait());
        not_gone(&mut gone, round_trip(&mut client, &mut server)).await;
        if ends_first {
            client.shutdown().await.unwrap();
        }
        drop(client);
        // Nobody reads or writes: a stream of events in which nothing happens.
        soon(gone).await;
    }
}

#[tokio::test]
async fn a_peer_is_not_gone_before_its_last_words_were_read() {
    // The second is more than is ever read ahead, the writing of which nobody waits for.
    for length in [10, 300_000] {
        let (mut client, server) = pair().await;
        let (mut server, gone) = Watched::new(server).unwrap();
        let mut gone = pin!(gone.wait());
        let data = pattern(length);
        let expected = data.clone();
        let writing = tokio::spawn(async move { client.write_all(&data).await });
        let mut read = vec![0; length - 1];
        not_gone(&mut gone, soon(server.read_exact(&mut read))).await.unwrap();
        soon(writing).await.unwrap().unwrap();
        not_gone(&mut gone, soon(server.read_buf(&mut read))).await.unwrap();
        assert!(read == expected);
        soon(gone).await;
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_watched_stream_is_read_in_order_by_a_slow_and_by_a_fast_reader() {
    for portion in [100, 1 << 20] {
        let (client, server) = pair().await;
        let (server, gone) = Watched::new(server).unwrap();
        let watching = tokio::spawn(gone.wait());
        let data = pattern(2 << 20);
        let expected = data.clone();
        let (reading, mut writing) = split(client);
        let writer = tokio::spawn(async move {
            writing.write_all(&data).await.unwrap();
            writing.shutdown().await.unwrap();
        });
        let (mut server, mut read, mut part) = (server, Vec::new(), vec![0; portion]);
        loop {
            let count = soon(server.read(&mut part)).await.unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&part[..count]);
        }
        assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
        soon(writer).await.unwrap();
        assert!(!watching.is_finished(), "gone too early");
        drop(reading);
        soon(watching).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_can_be_read_by_who_does_not_wait_for_its_going() {
    let (mut client, server) = pair().await;
    let (mut server, gone) = Watched::new(server).unwrap();
    round_trip(&mut client, &mut server).await;
    drop(gone);
    round_trip(&mut client, &mut server).await;
    drop(client);
    assert_eq!(rest(&mut server).await, "");
}

#[tokio::test]
async fn a_connection_that_is_taken_over_flows_both_ways_until_each_way_has_ended() {
    let (mut client, server) = pair().await;
    let (mut server, gone) = Watched::new(server).unwrap();
    let mut gone = pin!(gone.wait());
    let request = b"POST /exec/x/start HTTP/1.1\r\nUpgrade: tcp\r\n\r\n{}";
    let answer = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nfirst output";
    let client = tokio::spawn(async move {
        client.write_all(request).await.unwrap();
        let mut read = vec![0; answer.len()];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(read, answer);
        client.write_all(b"standard input").await.unwrap();
        client.shutdown().await.unwrap();
        let output = rest(&mut client).await;
        (client, output)
    });
    not_gone(&mut gone, async {
        let mut read = vec![0; request.len()];
        soon(server.read_exact(&mut read)).await.unwrap();
        assert_eq!(read, request);
        server.write_all(answer).await.unwrap();
        assert_eq!(rest(&mut server).await, "standard input");
        server.write_all(b"output after the input's end").await.unwrap();
    })
    .await;
    // From here on a socket counts as gone: both ways have ended.
    server.shutdown().await.unwrap();
    let (client, output) = soon(client).await.unwrap();
    assert_eq!(output, "output after the input's end");
    drop(client);
    soon(gone).await;
}

#[tokio::test]
async fn every_client_begins_afresh() {
    let (_directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    for round in 0..5 {
        let (client, server) = tokio::join!(connect(&path), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let text = format!("input {round}");
        client.write_all(text.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        // Every second one goes without waiting for an answer.
        let kept = (round % 2 == 0).then_some(client);
        assert_eq!(rest(&mut server).await, text);
        drop(kept);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_at_once_are_all_served() {
    let (_directory, path) = place();
    let listener = Arc::new(Listener::bind(&path).unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                stream.write_all(text.as_bytes()).await.unwrap();
            });
        }
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..50 {
        let path = path.clone();
        clients.spawn(async move {
            let mut stream = connect(&path).await.unwrap();
            stream.write_all(format!("client {number}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(rest(&mut stream).await, format!("client {number}"));
        });
    }
    while let Some(client) = soon(clients.join_next()).await {
        client.unwrap();
    }
    serving.abort();
}

#[tokio::test]
async fn no_client_is_lost_by_who_stops_waiting_for_one() {
    let (_directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    {
        let mut accepting = pin!(listener.accept());
        let nobody = std::future::poll_fn(|cx| std::task::Poll::Ready(accepting.as_mut().poll(cx).is_pending())).await;
        assert!(nobody);
    }
    let mut client = connect(&path).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut server = soon(listener.accept()).await.unwrap();
    assert_eq!(rest(&mut server).await, "hello");
}

#[tokio::test]
async fn a_client_that_has_come_and_gone_before_it_was_accepted_is_heard() {
    let (_directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    let mut client = connect(&path).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    drop(client);
    let server = soon(listener.accept()).await.unwrap();
    let (mut server, gone) = Watched::new(server).unwrap();
    assert_eq!(rest(&mut server).await, "hello");
    soon(gone.wait()).await;
    let (client, server) = tokio::join!(connect(&path), listener.accept());
    drop((client.unwrap(), server.unwrap()));
}

#[tokio::test]
async fn a_path_that_is_listened_on_is_refused_until_it_is_free() {
    let (_directory, path) = place();
    let first = Listener::bind(&path).unwrap();
    if tells_who_is_first() {
        assert!(matches!(Listener::bind(&path), Err(BindError::InUse { .. })));
    }
    // The refused one has not disturbed it.
    let (client, server) = tokio::join!(connect(&path), first.accept());
    drop((client.unwrap(), server.unwrap(), first));
    // A pipe is free when the system has taken back the reads that were under way.
    soon(async {
        while Listener::bind(&path).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn where_nobody_listens_there_is_nobody_to_connect_to() {
    let (_directory, path) = place();
    assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}
