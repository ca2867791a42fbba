//! The real agent with real engines. Needs root, Docker's engine and CLI, slirp4netns, uidmap and a static busybox.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows the tests' own functions as tests, but not the helpers that they share"
)]

mod client;
mod environment;
mod lease;
mod leftovers;
mod life;
mod refusals;
mod rootless;
mod take_over;
mod tunnel;
