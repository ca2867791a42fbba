//! A named pipe, or Pageant.

use std::path::Path;

use russh::keys::agent::client::AgentClient;

use super::Agent;

/// The pipe of Windows' own agent.
const PIPE: &str = r"\\.\pipe\openssh-ssh-agent";

pub(super) async fn usual() -> Option<Agent> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    match at(socket.as_deref().map_or(Path::new(PIPE), Path::new)).await {
        Some(agent) => Some(agent),
        None => AgentClient::connect_pageant().await.ok().map(AgentClient::dynamic),
    }
}

pub(super) async fn at(path: &Path) -> Option<Agent> {
    let connected = AgentClient::connect_named_pipe(path).await;
    connected.inspect_err(|error| tracing::debug!(%error, "the SSH agent is not there")).ok().map(AgentClient::dynamic)
}
