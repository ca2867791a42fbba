//! Datagrams. Each sender has a flow of its own, so that answers find back and the container sees different senders.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use overside_io::{BoxedStream, flows::Exchange};
use overside_model::Publication;
use tokio::net::UdpSocket;

#[cfg(unix)]
use crate::source;
use crate::{
    Held, Reach,
    counters::{Counters, Open},
};

/// A published port.
pub(crate) struct Port {
    socket: UdpSocket,
    publication: Publication,
    reach: Arc<dyn Reach>,
    counters: Arc<Counters>,
}

/// A sender, and the address of this machine's that it sends to where the port is on all of them.
type Key = (SocketAddr, Option<IpAddr>);

impl Port {
    pub(crate) fn new(
        socket: UdpSocket,
        publication: Publication,
        reach: Arc<dyn Reach>,
        counters: Arc<Counters>,
    ) -> Self {
        #[cfg(unix)]
        let everywhere = socket.local_addr().ok().map(|at| at.ip()).filter(IpAddr::is_unspecified);
        #[cfg(unix)]
        if let Some(Err(error)) = everywhere.map(|address| source::ask(&socket, address)) {
            tracing::debug!(%error, %publication, "answers may come from another address");
        }
        Self { socket, publication, reach, counters }
    }

    #[cfg(unix)]
    async fn receive_any(&self, buffer: &mut [u8]) -> io::Result<(usize, Key)> {
        let (length, sender, here) = source::receive(&self.socket, buffer).await?;
        Ok((length, (sender, here)))
    }

    #[cfg(not(unix))]
    async fn receive_any(&self, buffer: &mut [u8]) -> io::Result<(usize, Key)> {
        let (length, sender) = self.socket.recv_from(buffer).await?;
        Ok((length, (sender, None)))
    }
}

impl Exchange for Port {
    type Key = Key;
    type Stream = BoxedStream;
    type Held = (Held, Open);

    const FLOWS: usize = 4096;
    const WAITING_BYTES: usize = 512 * 1024;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Key)> {
        let received = self.receive_any(buffer).await?;
        self.counters.came_in(received.0);
        Ok(received)
    }

    async fn send(&self, (sender, here): Key, datagram: &[u8]) -> io::Result<()> {
        self.counters.went_out(datagram.len());
        match here {
            #[cfg(unix)]
            Some(here) => source::send(&self.socket, datagram, sender, here).await,
            _ => self.socket.send_to(datagram, sender).await.map(drop),
        }
    }

    async fn open(&self, _key: Key) -> io::Result<(BoxedStream, (Held, Open))> {
        let open = Open::new(self.counters.clone());
        let (stream, held) = self.reach.open(self.publication).await.map_err(io::Error::other)?;
        Ok((stream, (held, open)))
    }
}
