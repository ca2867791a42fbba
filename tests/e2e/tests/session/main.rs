//! The whole chain: a docker client, the daemon, the tunnel, the agent and a fresh engine.

mod bundle;
mod clients;
mod command_line;
mod diagnose;
mod isolation;
mod laptop;
mod life;
mod mounts;
mod policy;
mod ports;
mod servers;
mod streams;
mod trouble;
