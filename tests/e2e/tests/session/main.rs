//! The whole chain: a docker client, the daemon, the tunnel, the agent and a fresh engine.

mod clients;
mod command_line;
mod isolation;
mod life;
mod streams;
mod trouble;
