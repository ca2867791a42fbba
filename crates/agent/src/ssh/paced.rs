//! Channels that carry a paced stream: what Overside's own client asks for.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use overside_io::{Paced, Prefixed, Receive, Role, Transmit};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, server::Msg};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::serve::Environment;

/// Read of a client before dockerd is connected to.
const FIRST: usize = 16 * 1024;
/// Read at a time.
const CHUNK: usize = 128 * 1024;

/// The paced stream that a channel carries.
pub(super) fn accept(channel: Channel<Msg>) -> Paced {
    let (reader, writer) = channel.split();
    Paced::new(Reader(reader), Writer(writer), Role::Acceptor)
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
            let (from_engine, to_engine) = engine.into_split();
            if let Err(error) = join(client, first.freeze(), from_engine, to_engine).await {
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
            let (from_files, to_files) = files.into_split();
            if let Err(error) = join(client, Bytes::new(), from_files, to_files).await {
                tracing::debug!(%error, "a stream of files ended early");
            }
        }
        Err(error) => tracing::warn!(%error, "the laptop's files cannot be served"),
    }
}

/// Copies both ways until both have ended, or the client is gone: the far end must notice that even while it has nothing to
/// say and the client had ended its input before.
pub(super) async fn join(
    client: Paced,
    first: Bytes,
    from_far: impl AsyncRead + Unpin,
    mut to_far: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let broken = client.broken();
    let (from_client, mut to_client) = tokio::io::split(Prefixed::new(first, client));
    let up = async {
        tokio::io::copy_buf(&mut BufReader::with_capacity(CHUNK, from_client), &mut to_far).await?;
        to_far.shutdown().await
    };
    let down = async {
        tokio::io::copy_buf(&mut BufReader::with_capacity(CHUNK, from_far), &mut to_client).await?;
        to_client.shutdown().await
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        // What the far end still has to say, the client wants to hear, even if it takes nothing more.
        _ = &mut up => tokio::select! {
            result = &mut down => result,
            () = broken => Err(io::ErrorKind::ConnectionReset.into()),
        },
        result = &mut down => match result {
            Ok(()) => up.await,
            Err(error) => Err(error),
        },
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
