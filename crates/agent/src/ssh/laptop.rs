//! What containers send to the laptop.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use overside_io::{
    Paced, clock,
    flows::{self, Exchange},
};
use overside_model::{
    Moment,
    agent::{LAPTOP, LAPTOP_DATAGRAMS},
};
use russh::{Channel, server::Msg};
use rustix::net::sockopt::{ip_original_dst, set_socket_linger};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::{paced, ports};
use crate::{
    conntrack::ConnectionTracking,
    network::{self, LAPTOP_PORT},
    serve::Environment,
};

/// Pause after a failed accept, which mostly means that the agent is out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// For how long a port that was found out is taken for granted: less than the kernel remembers a silent flow in any case, so
/// that the next flow of the same container's port is not taken for this one.
const GRANTED: Duration = Duration::from_secs(5);

/// Passes connections on until the agent ends.
pub(crate) async fn serve(listener: TcpListener, environment: Arc<Environment>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let environment = Arc::clone(&environment);
                tokio::spawn(async move {
                    if let Err(error) = pass_on(stream, &environment).await {
                        tracing::debug!(%error, "a connection to the laptop ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection to the laptop");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn pass_on(stream: TcpStream, environment: &Environment) -> io::Result<()> {
    let channel = async {
        // The port that the container meant.
        let meant = ip_original_dst(&stream)?;
        open(environment, LAPTOP, meant.port(), stream.peer_addr()?).await
    };
    match channel.await {
        Ok(channel) => ports::streams(paced::accept(channel), stream).await,
        Err(error) => {
            // Closing is a reset then.
            let _ = set_socket_linger(&stream, Some(Duration::ZERO));
            Err(error)
        }
    }
}

async fn open(environment: &Environment, what: &str, port: u16, from: SocketAddr) -> io::Result<Channel<Msg>> {
    let client = environment.client().ok_or(io::ErrorKind::NotConnected)?;
    let (address, from) = (from.ip().to_string(), from.port().into());
    client.channel_open_forwarded_tcpip(what, port.into(), address, from).await.map_err(io::Error::other)
}

/// Passes datagrams on until the agent ends.
pub(crate) async fn serve_datagrams(socket: UdpSocket, conntrack: ConnectionTracking, environment: Arc<Environment>) {
    let datagrams = Datagrams { socket, conntrack, environment, meant: Mutex::default() };
    flows::serve(datagrams, CancellationToken::new()).await;
}

/// Datagrams to any port of the laptop's. The firewall has led them all to one, and leads answers back as if they came from
/// the other. It gives different senders to different flows.
struct Datagrams {
    socket: UdpSocket,
    conntrack: ConnectionTracking,
    environment: Arc<Environment>,
    /// Which port a sender means, and when that was found out or confirmed.
    meant: Mutex<HashMap<SocketAddrV4, (u16, Moment)>>,
}

impl Datagrams {
    async fn port_meant(&self, sender: SocketAddrV4) -> io::Result<u16> {
        let now = clock::now();
        let meant = || self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((port, known)) = meant().get_mut(&sender).filter(|(_, known)| now.since(*known) < GRANTED) {
            *known = now;
            return Ok(*port);
        }
        let here = SocketAddrV4::new(network::LAPTOP, LAPTOP_PORT);
        let port = self.conntrack.port_meant(here, sender).await?;
        let mut meant = meant();
        if meant.len() >= 2 * Self::FLOWS {
            meant.retain(|_, (_, known)| now.since(*known) < GRANTED);
        }
        if meant.len() < 2 * Self::FLOWS {
            meant.insert(sender, (port, now));
        }
        Ok(port)
    }
}

impl Exchange for Datagrams {
    type Key = (SocketAddrV4, u16);
    type Stream = Paced;
    type Held = ();

    // Containers are not trusted with the agent's memory.
    const FLOWS: usize = 512;
    const WAITING_BYTES: usize = 128 * 1024;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Key)> {
        loop {
            let (length, sender) = self.socket.recv_from(buffer).await?;
            let SocketAddr::V4(sender) = sender else { continue };
            match self.port_meant(sender).await {
                Ok(port) => return Ok((length, (sender, port))),
                // Sent to this port itself, say.
                Err(error) => tracing::debug!(%error, %sender, "it is not known where a datagram was sent"),
            }
        }
    }

    async fn send(&self, (sender, _): Self::Key, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, sender).await.map(drop)
    }

    async fn open(&self, (sender, port): Self::Key) -> io::Result<(Paced, ())> {
        let channel = open(&self.environment, LAPTOP_DATAGRAMS, port, sender.into()).await?;
        Ok((paced::accept(channel), ()))
    }
}
