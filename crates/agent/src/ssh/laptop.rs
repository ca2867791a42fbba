//! Connections of containers to the laptop.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use overside_model::agent::LAPTOP;
use rustix::net::sockopt::{ip_original_dst, set_socket_linger};
use tokio::net::{TcpListener, TcpStream};

use super::{paced, ports};
use crate::serve::Environment;

/// Pause after a failed accept, which mostly means that the agent is out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

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
        let from = stream.peer_addr()?;
        let client = environment.client().ok_or(io::ErrorKind::NotConnected)?;
        let (address, port) = (from.ip().to_string(), from.port().into());
        client.channel_open_forwarded_tcpip(LAPTOP, meant.port().into(), address, port).await.map_err(io::Error::other)
    };
    match channel.await {
        Ok(channel) => ports::streams(paced::accept(channel), Bytes::new(), stream).await,
        Err(error) => {
            // Closing is a reset then.
            let _ = set_socket_linger(&stream, Some(Duration::ZERO));
            Err(error)
        }
    }
}
