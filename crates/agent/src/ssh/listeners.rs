//! Tells which ports containers listen on in the environment's own network, as they come and go.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use overside_io::Paced;
use overside_model::agent::MAX_LINE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::serve::Environment;

/// How often the kernel is asked. It tells of sockets that end (sock_diag's groups) but not of those that begin to listen, so
/// there is no other way; half a second is less than a server takes to start. Only while a client wants to know, which it
/// does while a container has the environment's network.
const AGAIN: Duration = Duration::from_millis(500);

/// Serves one stream until the client ends it: its first line names containers by their first processes.
pub(super) async fn serve(mut client: Paced, environment: Arc<Environment>) {
    if let Err(error) = tell(&mut client, &environment).await {
        tracing::debug!(%error, "a client no longer hears of listeners");
    }
}

async fn tell(client: &mut Paced, environment: &Environment) -> io::Result<()> {
    let mut line = BytesMut::with_capacity(256);
    while line.last() != Some(&b'\n') {
        if line.len() > MAX_LINE || client.read_buf(&mut line).await? == 0 {
            return Ok(());
        }
    }
    let containers: Vec<u32> = serde_json::from_slice(&line)?;
    let mut told = None;
    loop {
        // One that is frozen has the listeners that it had.
        if let Ok(now) = environment.listeners(&containers).await
            && told.as_ref() != Some(&now)
        {
            let mut text = serde_json::to_vec(&now)?;
            text.push(b'\n');
            client.write_all(&text).await?;
            client.flush().await?;
            told = Some(now);
        }
        tokio::select! {
            // The client says nothing more; this is its end.
            _ = client.read_u8() => return client.shutdown().await,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
