//! Ports in the environment's network, for paced streams that ask for one.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use overside_io::{Paced, Prefixed, datagrams};
use overside_model::{Protocol, Publication, agent::MAX_PORT_LINE};
use rustix::net::sockopt::set_socket_linger;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::paced::join;
use crate::{network, serve::Environment};

/// Serves one stream until it ends. Channels are opened ahead of need: the first line may be long in coming.
pub(super) async fn serve(mut client: Paced, environment: Arc<Environment>) {
    let Ok(Some((publication, first))) = first_line(&mut client).await else { return };
    let result = match publication.protocol {
        Protocol::Tcp => match environment.connect(destination(publication)).await {
            Ok(stream) => streams(client, first, stream).await,
            Err(error) => Err(error),
        },
        Protocol::Udp => match environment.exchange(destination(publication)).await {
            Ok(socket) => datagrams::join(Prefixed::new(first, client), &socket).await,
            Err(error) => Err(error),
        },
    };
    // The stream is dropped before its end: to the client that is a reset.
    if let Err(error) = result {
        tracing::debug!(%error, %publication, "a stream to a port ended early");
    }
}

/// What the client asks for, and what came behind it.
async fn first_line(client: &mut Paced) -> io::Result<Option<(Publication, Bytes)>> {
    let mut line = BytesMut::with_capacity(4096);
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let first = line.split_to(end + 1);
            let publication = str::from_utf8(&first[..end]).ok().and_then(|text| text.parse().ok());
            return Ok(publication.map(|publication| (publication, line.freeze())));
        }
        if line.len() > MAX_PORT_LINE || client.read_buf(&mut line).await? == 0 {
            return Ok(None);
        }
    }
}

/// Where a published port is answered. What is published on all addresses is reached on the environment's own: there the
/// engine's firewall rules lead straight to the container, while on loopback its proxy in user space stands between.
fn destination(publication: Publication) -> SocketAddr {
    let address = match publication.address {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(network::ADDRESS),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    SocketAddr::new(address, publication.port)
}

/// One connection with half-close both ways. What breaks off on one side is reset on the other.
pub(super) async fn streams(client: Paced, first: Bytes, mut stream: TcpStream) -> io::Result<()> {
    let result = {
        let (from, to) = stream.split();
        join(client, first, from, to).await
    };
    if result.is_err() {
        // Closing is a reset then.
        let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    }
    result
}
