//! Channels that carry a paced stream: what Overside's own client asks for.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use overside_io::{ByteStream, Copying, Paced, Receive, Role, Transmit};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, server::Msg};
use tokio::io::AsyncReadExt;

use crate::serve::Environment;

/// Read of a client before dockerd is connected to.
const FIRST: usize = 16 * 1024;

/// The paced stream that a channel carries.
pub(super) fn accept(channel: Channel<Msg>) -> Paced {
    let (receive, transmit) = halves(channel);
    Paced::new(receive, transmit, Role::Acceptor)
}

/// A channel as a carrier.
pub(super) fn halves(channel: Channel<Msg>) -> (impl Receive, impl Transmit) {
    let (reader, writer) = channel.split();
    (Reader(reader), Writer(writer))
}

/// Joins a paced stream to dockerd, but not before the client has something to say: clients open channels ahead of need, and
/// those hold no connection in dockerd.
pub(super) async fn to_engine(channel: Channel<Msg>, environment: Arc<Environment>) {
    let mut client = accept(channel);
    let mut first = BytesMut::with_capacity(FIRST);
    if client.read_buf(&mut first).await.is_err() {
        return;
    }
    match environment.connect_engine().await {
        Ok(engine) => {
            if let Err(error) = join(client, first.freeze(), engine).await {
                tracing::trace!(%error, "a stream to dockerd ended early");
            }
        }
        Err(error) => tracing::warn!(%error, "connecting to dockerd"),
    }
}

/// Joins a paced stream to what serves the laptop's files.
pub(super) async fn to_files(channel: Channel<Msg>, environment: Arc<Environment>) {
    let client = accept(channel);
    match environment.files().await {
        Ok(files) => {
            if let Err(error) = join(client, Bytes::new(), files).await {
                tracing::debug!(%error, "a stream of files ended early");
            }
        }
        Err(error) => tracing::warn!(%error, "the laptop's files cannot be served"),
    }
}

/// Copies both ways until both have ended, or the client is gone: the far end must notice that even while it has nothing to
/// say and the client had ended its input before.
pub(super) async fn join(mut client: Paced, first: Bytes, mut far: impl ByteStream) -> io::Result<()> {
    let mut broken = pin!(client.broken());
    let (mut up, mut down) = (Copying::beginning_with(first), Copying::default());
    let (mut up_ended, mut down_ended) = (false, false);
    poll_fn(|cx| {
        if !up_ended {
            match up.poll(cx, Pin::new(&mut client), Pin::new(&mut far)) {
                Poll::Ready(Err(error)) if down_ended => return Poll::Ready(Err(error)),
                // What the far end still has to say, the client wants to hear, even if it takes nothing more.
                result => up_ended = result.is_ready(),
            }
        }
        if !down_ended {
            down_ended = down.poll(cx, Pin::new(&mut far), Pin::new(&mut client))?.is_ready();
        }
        if up_ended && down_ended {
            return Poll::Ready(Ok(()));
        }
        if up_ended && broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Pending
    })
    .await
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
