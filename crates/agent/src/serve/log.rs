//! The agent's log: standard error while it starts, then `agent.log` in the environment's directory, of bounded size.

use std::{
    io::{self, Write, stderr},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use fs_err::{self as fs, os::unix::fs::OpenOptionsExt as _};
use overside_model::Problem;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::problem::During;

/// Most bytes that an agent ever logs: nothing that clients do may fill the runner's disk.
const LIMIT: usize = 1 << 20;

static WRITTEN: AtomicUsize = AtomicUsize::new(0);

/// Sends the log to standard error. `OVERSIDE_LOG` sets the level.
pub(super) fn to_stderr() {
    let filter = EnvFilter::try_from_env("OVERSIDE_LOG").unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Bounded).try_init();
}

/// Replaces the standard streams: nothing ties the agent to its provider any more.
pub(super) fn detach(directory: &Path) -> Result<(), Problem> {
    let doing = "opening the agent's log";
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").during(doing)?;
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let log = options.open(directory.join("agent.log")).during(doing)?;
    rustix::stdio::dup2_stdin(&null).during(doing)?;
    rustix::stdio::dup2_stdout(&null).during(doing)?;
    rustix::stdio::dup2_stderr(&log).during(doing)
}

struct Bounded;

impl<'a> MakeWriter<'a> for Bounded {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if WRITTEN.fetch_add(buf.len(), Ordering::Relaxed) > LIMIT {
            return Ok(buf.len());
        }
        stderr().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
