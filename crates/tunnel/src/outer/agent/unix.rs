//! A Unix socket.

use std::path::Path;

use russh::keys::agent::client::AgentClient;

use super::Agent;

pub(super) async fn usual() -> Option<Agent> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty())?;
    at(Path::new(&socket)).await
}

pub(super) async fn at(path: &Path) -> Option<Agent> {
    let connected = AgentClient::connect_uds(path).await;
    connected.inspect_err(|error| tracing::debug!(%error, "the SSH agent is not there")).ok().map(AgentClient::dynamic)
}
