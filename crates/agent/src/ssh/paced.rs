//! Channels that carry a paced stream: what Overside's own client asks for.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use overside_io::{Paced, Prefixed, Receive, Role, Transmit, join};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, server::Msg};
use tokio::io::AsyncReadExt;

use crate::serve::Environment;

/// Read of a client before dockerd is connected to.
const FIRST: usize = 16 * 1024;

/// Joins a paced stream to dockerd, but not before the client has something to say: clients open channels ahead of need, and
/// those hold no connection in dockerd.
pub(super) async fn to_engine(channel: Channel<Msg>, environment: Arc<Environment>) {
    let (reader, writer) = channel.split();
    let mut client = Paced::new(Reader(reader), Writer(writer), Role::Acceptor);
    let mut first = BytesMut::with_capacity(FIRST);
    if client.read_buf(&mut first).await.is_err() {
        return;
    }
    match environment.connect_engine().await {
        Ok(mut engine) => {
            let mut client = Prefixed::new(first.freeze(), client);
            if let Err(error) = join(&mut client, &mut engine).await {
                tracing::trace!(%error, "a stream to dockerd ended early");
            }
        }
        Err(error) => tracing::warn!(%error, "connecting to dockerd"),
    }
}

struct Reader(ChannelReadHalf);

impl Receive for Reader {
    async fn receive(&mut self) -> Option<Bytes> {
        loop {
            match self.0.wait().await? {
                ChannelMsg::Data { data } => return Some(data),
                ChannelMsg::Close => return None,
                // The paced stream has an end of its own.
                _ => {}
            }
        }
    }
}

struct Writer(ChannelWriteHalf<Msg>);

impl Transmit for Writer {
    async fn transmit(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.data_bytes(bytes).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
    async fn close(&mut self) {
        // A connection that is gone has closed it already.
        let _ = self.0.close().await;
    }
}
