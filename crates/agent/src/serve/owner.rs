//! The owner's socket: where `overside-agent take-over` hands a session to another computer of the same user's.
//!
//! It lies beside the tunnel's socket, and only the user whom the agent runs as may connect: whoever may do that could as well
//! kill the agent. The environment itself sees neither.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use fs_err as fs;
use overside_model::{
    Problem,
    agent::{EnvironmentFacts, MAX_LINE, Report, TakeOver},
};
use russh::keys::PublicKey;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::problem::{During, internal};

/// Name of the socket in the environment's directory; not longer than that of the tunnel's.
pub(crate) const SOCKET: &str = "owner.sock";
/// How long whoever connects may take to say what for.
const WORD: Duration = Duration::from_secs(5);

/// A change of owner that waits to be carried out, with its key understood.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) to: TakeOver,
    pub(super) key: PublicKey,
    pub(super) answer: oneshot::Sender<Result<(), Problem>>,
}

/// Listens for changes of owner.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn listen(directory: &Path) -> Result<UnixListener, Problem> {
    let (path, doing) = (directory.join(SOCKET), "listening for the owner");
    let listener = UnixListener::bind(&path).during(doing)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).during(doing)?;
    Ok(listener)
}

/// Passes changes on, one after the other, until the agent ends. `facts` are the answer to one that was carried out.
pub(super) async fn serve(listener: UnixListener, facts: EnvironmentFacts, changes: mpsc::Sender<Change>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Mostly out of descriptors.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if let Err(error) = answer(stream, &facts, &changes).await {
            tracing::debug!(%error, "whoever came to take over is gone");
        }
    }
}

async fn answer(stream: UnixStream, facts: &EnvironmentFacts, changes: &mpsc::Sender<Change>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_LINE as u64));
    timeout(WORD, reader.read_until(b'\n', &mut line)).await??;
    let report = match take_over(&line, changes).await {
        Ok(()) => Report::Ready(facts.clone()),
        Err(problem) => Report::Failed(problem),
    };
    let mut text = serde_json::to_vec(&report)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn take_over(line: &[u8], changes: &mpsc::Sender<Change>) -> Result<(), Problem> {
    let to: TakeOver =
        serde_json::from_slice(line).map_err(|error| internal(format!("taking over makes no sense: {error}")))?;
    let key = PublicKey::from_openssh(&to.client_key)
        .map_err(|error| internal(format!("the client key of the new owner cannot be read: {error}")))?;
    let (answer, answered) = oneshot::channel();
    let ending = || internal("the environment is being deleted");
    changes.send(Change { to, key, answer }).await.map_err(|_| ending())?;
    answered.await.map_err(|_| ending())?
}
