//! What containers reach of this machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Weak,
    time::Duration,
};

use overside_io::{Paced, datagrams};
use overside_model::Protocol;
use overside_tunnel::Laptop;
use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::hub::Hub;

/// Servers listen on either of both loopbacks.
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// Within which this machine says that nobody took a datagram; one that says nothing by then has a server.
const REFUSAL: Duration = Duration::from_millis(20);

/// This machine's loopback, as far as the settings let containers reach it.
pub(crate) struct Here(Weak<Hub>);

impl Here {
    pub(crate) const fn new(hub: Weak<Hub>) -> Self {
        Self(hub)
    }
}

impl Laptop for Here {
    fn connected(&self, protocol: Protocol, port: u16, stream: Paced) {
        let Some(hub) = self.0.upgrade() else { return };
        if !hub.settings().host_access.allows(port) {
            tracing::debug!(port, "the settings do not let containers reach this port");
            return;
        }
        tokio::spawn(async move {
            let result = match protocol {
                Protocol::Tcp => connection(port, stream).await,
                Protocol::Udp => flow(port, stream).await,
            };
            if let Err(error) = result {
                tracing::debug!(%error, port, "what a container sent to this machine ended early");
            }
        });
    }
}

async fn connection(port: u16, mut stream: Paced) -> io::Result<()> {
    let mut near = TcpStream::connect(&LOOPBACKS.map(|address| SocketAddr::from((address, port)))[..]).await?;
    near.set_nodelay(true)?;
    let result = overside_io::join(&mut stream, &mut near).await.map(drop);
    if result.is_err() {
        // Closing is a reset then.
        let _ = near.set_zero_linger();
    }
    result
}

/// Where nobody listens the flow ends, so that the container's next datagram looks for a server again.
async fn flow(port: u16, mut stream: Paced) -> io::Result<()> {
    let Some(first) = datagrams::read(&mut stream).await? else { return Ok(()) };
    for address in LOOPBACKS {
        let Ok(socket) = UdpSocket::bind((address, 0)).await else { continue };
        socket.connect((address, port)).await?;
        socket.send(&first).await?;
        match timeout(REFUSAL, socket.peek(&mut [0])).await {
            Ok(Err(error)) if datagrams::is_refusal(&error) => {}
            // An answer, which may be longer than what was looked at; or none so far.
            _ => return datagrams::join(stream, &socket).await,
        }
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}
