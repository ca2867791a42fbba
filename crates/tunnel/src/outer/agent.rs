//! The user's SSH agent, wherever the platform has it.

#[cfg_attr(windows, path = "agent/windows.rs")]
#[cfg_attr(not(windows), path = "agent/unix.rs")]
mod platform;

use std::path::PathBuf;

use russh::keys::agent::client::{AgentClient, AgentStream};

/// Where the SSH agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentPlace {
    /// Where the platform has it: `SSH_AUTH_SOCK`, on Windows the agent's pipe or Pageant.
    Usual,
    /// At this socket or pipe.
    At(PathBuf),
    /// None shall be asked.
    Nowhere,
}

pub(super) type Agent = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

/// Connects to the agent. None where there is none.
pub(super) async fn connect(place: &AgentPlace) -> Option<Agent> {
    match place {
        AgentPlace::Nowhere => None,
        AgentPlace::Usual => platform::usual().await,
        AgentPlace::At(path) => platform::at(path).await,
    }
}
