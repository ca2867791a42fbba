//! What the desktop app says: a few lines on stderr, where desktops collect them.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

/// Logs to stderr from INFO on, or as `OVERSIDE_LOG` says. To be called once.
pub fn to_stderr() {
    let filter = EnvFilter::try_from_env("OVERSIDE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // The time and the program are the collector's to add.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}
