//! Ports in the environment's network, for the streams of a bundle that are about one.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use overside_io::{Bundle, Paced, datagrams};
use overside_model::{Protocol, Publication};
use russh::{Channel, server::Msg};
use rustix::net::sockopt::set_socket_linger;
use tokio::net::TcpStream;

use super::paced;
use crate::{network, serve::Environment};

/// Serves a client's streams until its channel ends.
pub(super) async fn serve(channel: Channel<Msg>, environment: Arc<Environment>) {
    let (receive, transmit) = paced::halves(channel);
    let opened = |about: Bytes, client| match str::from_utf8(&about).ok().and_then(|text| text.parse().ok()) {
        Some(publication) => drop(tokio::spawn(serve_one(client, publication, Arc::clone(&environment)))),
        // Dropped, the stream is reset.
        None => tracing::debug!(?about, "a client asks for what is no port"),
    };
    Bundle::accept(receive, transmit, opened).await;
}

async fn serve_one(client: Paced, publication: Publication, environment: Arc<Environment>) {
    let result = match publication.protocol {
        Protocol::Tcp => match environment.connect(destination(publication)).await {
            Ok(stream) => streams(client, stream).await,
            Err(error) => Err(error),
        },
        Protocol::Udp => match environment.exchange(destination(publication)).await {
            Ok(socket) => datagrams::join(client, &socket).await,
            Err(error) => Err(error),
        },
    };
    // The stream is dropped before its end: to the client that is a reset.
    if let Err(error) = result {
        tracing::debug!(%error, %publication, "a stream to a port ended early");
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
pub(super) async fn streams(client: Paced, mut stream: TcpStream) -> io::Result<()> {
    let result = paced::join(client, Bytes::new(), &mut stream).await;
    if result.is_err() {
        // Closing is a reset then.
        let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    }
    result
}
