//! Connections.

use std::{io, sync::Arc, time::Duration};

use overside_model::Publication;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    Reach,
    counters::{Counted, Counters, Open},
};

/// Pause after a failed accept, which mostly means that the daemon is out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Accepts connections until it is dropped. Connections go on by themselves.
pub(crate) async fn serve(
    listener: TcpListener,
    publication: Publication,
    reach: Arc<dyn Reach>,
    counters: Arc<Counters>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (reach, open) = (reach.clone(), Open::new(counters.clone()));
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, publication, &*reach, &open.0).await {
                        tracing::debug!(%error, %publication, "a connection to a published port ended early");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, %publication, "cannot accept a connection to a published port");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One connection with half-close both ways. What breaks off on one side is reset on the other.
async fn connection(
    stream: TcpStream,
    publication: Publication,
    reach: &dyn Reach,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut client = Counted { stream, counters: counters.clone() };
    let result = match reach.open(publication).await {
        // Kept until the connection is over.
        Ok((mut far, _held)) => overside_io::join(&mut client, &mut far).await.map(drop),
        Err(problem) => Err(io::Error::other(problem)),
    };
    if result.is_err() {
        // Closing is a reset then.
        let _ = SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
    }
    result
}
