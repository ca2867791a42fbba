//! Fuzz targets: whatever takes in bytes from a Docker client, from an environment or from a file that people edit.
//!
//! A target takes any bytes and panics if something is wrong. `tests/replay.rs` gives each the inputs in `corpus/<target>`
//! and `artifacts/<target>`, and random ones for a moment; `cargo xtask test fuzz --seconds N` runs each under libFuzzer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a target fails by panicking")]

mod engine;
mod frames;
mod messages;
mod proxy;
mod rewriter;
mod routes;
mod script;
mod sync;

/// Takes inputs, one after the other.
pub type Target = Box<dyn FnMut(&[u8])>;

/// Makes a target ready.
pub type Make = fn() -> Target;

/// The names of all targets, and how each is made ready.
pub const TARGETS: &[(&str, Make)] = &[
    ("rewriter", rewriter::rewriter),
    ("rewriter_grammar", rewriter::grammar),
    ("routes", routes::routes),
    ("routes_grammar", routes::grammar),
    ("frames", frames::frames),
    ("frames_round_trip", frames::round_trip),
    ("bundle", frames::bundle),
    ("bundle_round_trip", frames::bundle_round_trip),
    ("messages", messages::messages),
    ("settings", messages::settings),
    ("facts", messages::facts),
    ("answers", messages::answers),
    ("proxy", proxy::proxy),
    ("proxy_grammar", proxy::grammar),
    ("sync_stream", sync::stream),
    ("sync_answers", sync::answers),
];

/// The target of a name.
///
/// # Panics
/// There is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no fuzz target {name}")).1()
}
