//! Datagrams in a byte stream: two bytes of length, big-endian, before each.

use std::io;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UdpSocket,
};

/// Longest datagram, in bytes: more than UDP has over either version of IP.
pub const LONGEST: usize = u16::MAX as usize;

/// Reads the next datagram; None where the stream ends between two.
///
/// # Errors
/// The stream's, also where it ends within one.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let mut datagram = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut datagram).await?;
    Ok(Some(datagram.into()))
}

/// Writes one datagram.
///
/// # Errors
/// The stream's, and one that is longer than [`LONGEST`].
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // In one piece: it becomes one packet of the tunnel.
    let mut framed = Vec::with_capacity(2 + datagram.len());
    framed.extend(length.to_be_bytes());
    framed.extend(datagram);
    stream.write_all(&framed).await?;
    stream.flush().await
}

/// Joins a stream of datagrams to a connected socket, until the stream ends.
///
/// # Errors
/// The stream's, and the socket's unless it only tells that nobody listens at the other end: somebody may, later.
pub async fn join(stream: impl AsyncRead + AsyncWrite, socket: &UdpSocket) -> io::Result<()> {
    let (mut from_stream, mut to_stream) = tokio::io::split(stream);
    let up = async {
        while let Some(datagram) = read(&mut from_stream).await? {
            // Lost, as datagrams may be: nobody listens yet, or not for this one.
            if let Err(error) = socket.send(&datagram).await {
                tracing::trace!(%error, "a datagram was not sent");
            }
        }
        io::Result::Ok(())
    };
    let down = async {
        let mut buffer = vec![0; LONGEST];
        loop {
            match socket.recv(&mut buffer).await {
                Ok(length) => write(&mut to_stream, &buffer[..length]).await?,
                // The answer of a port that nobody listens on, to one that was sent before.
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
    };
    tokio::select! {
        result = up => result?,
        result = down => return result,
    }
    to_stream.shutdown().await
}

/// Whether a socket tells that nobody listens where it sent a datagram before; Windows says it in its own way.
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bounds_of_datagrams_survive() {
        let (mut near, mut far) = tokio::io::duplex(100);
        let sent = [Vec::new(), vec![1; 3], vec![2; LONGEST], vec![3]];
        let sender = tokio::spawn({
            let sent = sent.clone();
            async move {
                for datagram in &sent {
                    write(&mut near, datagram).await.unwrap();
                }
            }
        });
        for datagram in &sent {
            assert_eq!(read(&mut far).await.unwrap().unwrap(), datagram);
        }
        assert_eq!(read(&mut far).await.unwrap(), None);
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn one_that_breaks_off_is_an_error() {
        assert!(read(&mut &[0_u8][..]).await.is_err());
        assert!(read(&mut &[0, 2, 1][..]).await.is_err());
        assert!(write(&mut tokio::io::sink(), &vec![0; LONGEST + 1]).await.is_err());
    }
}
