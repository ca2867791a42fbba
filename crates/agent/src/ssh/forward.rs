//! One channel joined to one connection, with half-close both ways.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use russh::{
    Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf,
    server::{ChannelOpenHandle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::serve::Environment;

/// Read at a time; one packet of the tunnel.
const CHUNK: usize = 65_000;

/// How long the client may take to close a channel that has ended both ways. It is left to the client because russh forgets
/// a channel only when the other side closes it first: one that the server closes keeps its place in memory for as long as
/// the connection lives (`server_read_authenticated` in 0.65 returns before removing it).
const CLOSING: Duration = Duration::from_secs(10);

/// The addresses to try for a `direct-tcpip` channel: an IP address itself, both loopbacks for `localhost`, and nothing for
/// any other name, since the agent resolves none.
pub(super) fn destinations(host: &str, port: u32) -> Vec<SocketAddr> {
    let Ok(port) = u16::try_from(port) else { return Vec::new() };
    let addresses = if host.eq_ignore_ascii_case("localhost") {
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
    } else {
        host.trim_start_matches('[').trim_end_matches(']').parse().into_iter().collect()
    };
    addresses.into_iter().filter(|_| port != 0).map(|address| SocketAddr::new(address, port)).collect()
}

/// Joins the channel to dockerd, but not before the client has something to say: clients open channels ahead of need, and
/// those hold no connection in dockerd.
pub(super) async fn to_engine(channel: Channel<Msg>, environment: Arc<Environment>) {
    let (mut reader, writer) = channel.split();
    let first = loop {
        match reader.wait().await {
            Some(message @ (ChannelMsg::Data { .. } | ChannelMsg::Eof)) => break message,
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    };
    match environment.connect_engine().await {
        Ok(stream) => {
            let (from, to) = stream.into_split();
            join(reader, writer, Some(first), from, to).await;
        }
        Err(error) => {
            tracing::warn!(%error, "connecting to dockerd");
            let _ = writer.close().await;
        }
    }
}

/// Joins the channel to the first of the addresses in the environment's network that answers.
pub(super) async fn to_address(
    channel: Channel<Msg>,
    addresses: Vec<SocketAddr>,
    reply: ChannelOpenHandle,
    environment: Arc<Environment>,
) {
    match connect(&addresses, &environment).await {
        Ok(stream) => {
            reply.accept().await;
            let (reader, writer) = channel.split();
            let (from, to) = stream.into_split();
            join(reader, writer, None, from, to).await;
        }
        Err(error) => {
            tracing::debug!(%error, ?addresses, "connecting in the environment's network");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

async fn connect(addresses: &[SocketAddr], environment: &Environment) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match environment.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// How the client's side of a channel ended.
#[derive(PartialEq, Eq)]
enum Inbound {
    /// By its EOF, which the far end has been told.
    Ended,
    /// The client has closed the channel, or is gone altogether.
    Closed,
    /// The far end takes nothing more.
    Refused,
}

/// Copies both ways until both have ended. A client that is gone ends it at once, so that dockerd notices.
async fn join(
    mut reader: ChannelReadHalf,
    writer: ChannelWriteHalf<Msg>,
    first: Option<ChannelMsg>,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) {
    let mut outbound = pin!(outbound(from, &writer));
    let mut flowing = true;
    let end = {
        let mut inbound = pin!(inbound(&mut reader, first, to));
        loop {
            tokio::select! {
                end = &mut inbound => break end,
                () = &mut outbound, if flowing => flowing = false,
            }
        }
    };
    if end == Inbound::Closed {
        return;
    }
    // What the far end still has to say, the client wants to hear, even if the far end no longer listens.
    if flowing {
        tokio::select! {
            () = &mut outbound => {}
            () = closed(&mut reader) => return,
        }
    }
    if end == Inbound::Ended && timeout(CLOSING, closed(&mut reader)).await.is_ok() {
        return;
    }
    let _ = writer.close().await;
}

/// From the client, until it has nothing more to say.
async fn inbound(reader: &mut ChannelReadHalf, first: Option<ChannelMsg>, mut to: impl AsyncWrite + Unpin) -> Inbound {
    let mut next = first;
    loop {
        let message = match next.take() {
            Some(message) => Some(message),
            None => reader.wait().await,
        };
        match message {
            Some(ChannelMsg::Data { data }) if to.write_all(&data).await.is_err() => return Inbound::Refused,
            Some(ChannelMsg::Eof) if to.shutdown().await.is_err() => return Inbound::Refused,
            Some(ChannelMsg::Eof) => return Inbound::Ended,
            Some(ChannelMsg::Close) | None => return Inbound::Closed,
            Some(_) => {}
        }
    }
}

/// Waits for the client to close the channel or to vanish. Takes in what it sends meanwhile: left lying, it would hold up
/// every other channel of the connection.
async fn closed(reader: &mut ChannelReadHalf) {
    while !matches!(reader.wait().await, Some(ChannelMsg::Close) | None) {}
}

/// To the client, no faster than its window opens.
async fn outbound(mut from: impl AsyncRead + Unpin, writer: &ChannelWriteHalf<Msg>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match from.read_buf(&mut (&mut buffer).limit(CHUNK)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if writer.data_bytes(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
    let _ = writer.eof().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_destinations() {
        assert_eq!(destinations("127.0.0.1", 80), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(destinations("::1", 80), ["[::1]:80".parse().unwrap()]);
        assert_eq!(destinations("[::1]", 80), ["[::1]:80".parse().unwrap()]);
        assert_eq!(destinations("localhost", 8080).len(), 2);
        for (host, port) in [("example.org", 80), ("", 80), ("127.0.0.1", 0), ("127.0.0.1", 65_536)] {
            assert!(destinations(host, port).is_empty(), "{host}:{port}");
        }
    }
}
