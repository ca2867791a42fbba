//! What pipes do with clients of other makes, and with other users.

use std::os::windows::io::AsHandle;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::windows::named_pipe::NamedPipeClient,
};

use super::{super::tests::*, *};

/// A client that knows nothing of us, in byte mode or in message mode, and the server's end.
async fn foreign(mode: PipeMode) -> (NamedPipeClient, Stream) {
    let (_directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    let client = ClientOptions::new().pipe_mode(mode).open(pipe_name(&path)).unwrap();
    (client, soon(listener.accept()).await.unwrap())
}

/// Reads to the pipe's breaking, over any zero-length messages.
async fn to_the_breaking(client: &mut NamedPipeClient) -> (Vec<u8>, usize) {
    let (mut read, mut ends) = (Vec::new(), 0);
    loop {
        if soon(client.read_buf(&mut read)).await.unwrap() == 0 {
            if system::is_broken(client.as_handle()) {
                return (read, ends);
            }
            ends += 1;
        }
    }
}

#[tokio::test]
async fn a_zero_length_message_is_the_end_of_input() {
    for mode in [PipeMode::Byte, PipeMode::Message] {
        let (mut client, mut server) = foreign(mode).await;
        client.write_all(b"input").await.unwrap();
        assert_eq!(client.write(&[]).await.unwrap(), 0);
        let mut input = String::new();
        soon(server.read_to_string(&mut input)).await.unwrap();
        assert_eq!(input, "input");
        server.write_all(b"output").await.unwrap();
        server.shutdown().await.unwrap();
        let mut output = [0; 100];
        assert_eq!(soon(client.read(&mut output)).await.unwrap(), 6);
        assert_eq!(soon(client.read(&mut output)).await.unwrap(), 0);
        assert!(!system::is_broken(client.as_handle()), "closed, not ended");
    }
}

#[tokio::test]
async fn a_client_that_ignores_the_end_gets_all_data_and_then_sees_the_pipe_closed() {
    for mode in [PipeMode::Byte, PipeMode::Message] {
        let (mut client, mut server) = foreign(mode).await;
        let data = pattern(200_000);
        let expected = data.clone();
        let serving = tokio::spawn(async move {
            server.write_all(&data).await.unwrap();
            server.shutdown().await.unwrap();
            // Both directions are done: the server drops its end, though the client has not ended its input.
        });
        let (read, _ends) = to_the_breaking(&mut client).await;
        assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
        soon(serving).await.unwrap();
        assert_eq!(client.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn data_that_was_not_read_when_the_server_dropped_its_end_is_not_lost() {
    let (mut client, mut server) = foreign(PipeMode::Byte).await;
    let data = pattern(300_000);
    // More than the pipe holds: the system still has it when the server is long done.
    assert_eq!(server.write(&data).await.unwrap(), data.len());
    drop(server);
    let (read, ends) = to_the_breaking(&mut client).await;
    assert!(read == data, "{} of {} bytes", read.len(), data.len());
    assert_eq!(ends, 0);
}

#[tokio::test]
async fn a_message_larger_than_every_buffer_arrives_whole() {
    let (mut client, mut server) = foreign(PipeMode::Message).await;
    let data = pattern(1 << 20);
    let expected = data.clone();
    let writing = tokio::spawn(async move {
        // One message: tokio takes it at once and gives it to the system as it is.
        assert_eq!(client.write(&data).await.unwrap(), data.len());
        assert_eq!(client.write(&[]).await.unwrap(), 0);
        client
    });
    let (mut read, mut part) = (Vec::new(), [0; 100]);
    loop {
        let count = soon(server.read(&mut part)).await.unwrap();
        if count == 0 {
            break;
        }
        read.extend_from_slice(&part[..count]);
    }
    assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
    soon(writing).await.unwrap();
}

#[tokio::test]
async fn a_client_that_ends_its_input_twice_or_goes_on_after_it_is_not_gone() {
    let (mut client, server) = foreign(PipeMode::Byte).await;
    let (mut server, gone) = Watched::new(server).unwrap();
    let watching = tokio::spawn(gone.wait());
    client.write_all(b"input").await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.write(&[]).await.unwrap(), 0);
        soon(client.write_all(&pattern(100_000))).await.unwrap();
    }
    let mut input = String::new();
    soon(server.read_to_string(&mut input)).await.unwrap();
    assert_eq!(input, "input");
    server.write_all(b"output").await.unwrap();
    soon(client.read_exact(&mut [0; 6])).await.unwrap();
    assert!(!watching.is_finished(), "gone too early");
    drop(client);
    soon(watching).await.unwrap();
}

#[tokio::test]
async fn a_client_is_not_kept_from_going_by_what_nobody_has_read() {
    let (client, server) = foreign(PipeMode::Byte).await;
    let (server, gone) = Watched::new(server).unwrap();
    drop(client);
    soon(gone.wait()).await;
    drop(server);
}

#[test]
fn a_path_that_is_no_pipes_name_is_made_into_one_and_a_pipes_name_is_kept() {
    let name = |path: &str| pipe_name(Path::new(path)).into_string().unwrap();
    assert_eq!(name(r"\\.\pipe\docker_engine"), r"\\.\pipe\docker_engine");
    assert_eq!(name("//./pipe/docker_engine"), "//./pipe/docker_engine");
    assert_eq!(name(r"C:\Users\a b\docker.sock"), r"\\.\pipe\overside-C--Users-a b-docker.sock");
    assert_eq!(name("C:/Users/a b/docker.sock"), name(r"C:\Users\a b\docker.sock"));
}

#[tokio::test]
async fn both_spellings_of_a_pipes_name_are_one_pipe() {
    let (_directory, path) = place();
    let name = pipe_name(&path).into_string().unwrap();
    let listener = Listener::bind(&path).unwrap();
    for spelling in [name.clone(), name.replace('\\', "/")] {
        if tells_who_is_first() {
            assert!(matches!(Listener::bind(Path::new(&spelling)), Err(BindError::InUse { .. })), "{spelling}");
        }
        let (client, server) = tokio::join!(connect(Path::new(&spelling)), listener.accept());
        drop((client.unwrap(), server.unwrap()));
    }
}

#[tokio::test]
async fn a_name_that_a_foreign_server_has_is_in_use() {
    let (_directory, path) = place();
    let _foreign = ServerOptions::new().max_instances(1).create(pipe_name(&path)).unwrap();
    assert!(matches!(Listener::bind(&path), Err(BindError::InUse { .. })));
}

#[tokio::test]
async fn a_pipe_is_its_users_own() {
    let user = system::user().unwrap();
    assert!(user.starts_with("S-1-5-"), "{user}");
    let (_directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    let (client, server) = tokio::join!(connect(&path), listener.accept());
    assert_eq!(client.unwrap().pipe.owner().unwrap(), user);
    assert_eq!(server.unwrap().pipe.owner().unwrap(), user);
}

#[tokio::test]
async fn who_is_not_permitted_cannot_connect() {
    let (_directory, path) = place();
    let _listener = Listener::bind_for(&path, Permissions::from_text("D:P(A;;GA;;;SY)")).unwrap();
    assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn another_users_pipe_is_not_spoken_to() {
    let (_directory, path) = place();
    let _listener = Listener::bind(&path).unwrap();
    let error = connect_to(&path, "S-1-5-21-1-2-3-1001").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().ends_with("belongs to another user"), "{error}");
}
