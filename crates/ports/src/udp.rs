//! Datagrams. Each sender has a flow of its own, so that answers find back and the container sees different senders.

use std::{io, net::SocketAddr, sync::Arc};

use overside_io::{BoxedStream, flows::Exchange};
use overside_model::Publication;
use tokio::net::UdpSocket;

use crate::{
    Held, Reach,
    counters::{Counters, Open},
};

/// A published port.
pub(crate) struct Port {
    pub(crate) socket: UdpSocket,
    pub(crate) publication: Publication,
    pub(crate) reach: Arc<dyn Reach>,
    pub(crate) counters: Arc<Counters>,
}

impl Exchange for Port {
    type Key = SocketAddr;
    type Stream = BoxedStream;
    type Held = (Held, Open);

    const FLOWS: usize = 4096;
    const WAITING_BYTES: usize = 512 * 1024;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.recv_from(buffer).await?;
        self.counters.came_in(received.0);
        Ok(received)
    }

    async fn send(&self, sender: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.counters.went_out(datagram.len());
        self.socket.send_to(datagram, sender).await.map(drop)
    }

    async fn open(&self, _sender: SocketAddr) -> io::Result<(BoxedStream, (Held, Open))> {
        let open = Open::new(self.counters.clone());
        let (stream, held) = self.reach.open(self.publication).await.map_err(io::Error::other)?;
        Ok((stream, (held, open)))
    }
}
