//! The real agent with real engines. Needs root, Docker's engine and CLI, slirp4netns, uidmap and a static busybox.

mod client;
mod environment;
mod lease;
mod leftovers;
mod life;
mod refusals;
mod rootless;
mod tunnel;
