//! The lines to the provider.

use std::{
    io::{self, Write, stdout},
    time::Instant,
};

use overside_model::{
    Problem,
    agent::{EnvironmentFacts, MAGIC, PROTOCOL, Report},
};

/// The greeting: what was written before it, a login shell's banner, is not the agent's.
pub(crate) fn hello() -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    line(&Report::Hello { magic: MAGIC.to_owned(), protocol: PROTOCOL, version })
}

/// Writes reports, and takes the time between them.
#[derive(Debug)]
pub(super) struct Reporter {
    timings: Vec<(String, u64)>,
    current: Option<(String, Instant)>,
    begun: Instant,
}

impl Default for Reporter {
    fn default() -> Self {
        Self { timings: Vec::new(), current: None, begun: Instant::now() }
    }
}

impl Reporter {
    /// The first line.
    pub(super) fn hello(&mut self) -> io::Result<()> {
        hello()
    }

    /// A step begins, and with it the one before ends. A provider that is gone is noticed by the last line at the latest.
    pub(super) fn step(&mut self, step: &str, detail: &str) {
        self.end_step();
        self.current = Some((step.to_owned(), Instant::now()));
        let _ = line(&Report::Step { step: step.to_owned(), detail: detail.to_owned() });
    }

    fn end_step(&mut self) {
        if let Some((step, since)) = self.current.take() {
            self.timings.push((step, milliseconds(since)));
        }
    }

    /// Milliseconds of every step so far, and of all together.
    pub(super) fn timings(&mut self) -> Vec<(String, u64)> {
        self.end_step();
        let mut timings = self.timings.clone();
        timings.push(("total".to_owned(), milliseconds(self.begun)));
        timings
    }

    /// The last line of a start that succeeded.
    pub(super) fn ready(&mut self, facts: EnvironmentFacts) -> io::Result<()> {
        line(&Report::Ready(facts))
    }

    /// The last line of a start that failed.
    pub(super) fn failed(&mut self, problem: Problem) -> io::Result<()> {
        line(&Report::Failed(problem))
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn line(report: &Report) -> io::Result<()> {
    let mut text = serde_json::to_vec(report)?;
    text.push(b'\n');
    let mut out = stdout().lock();
    out.write_all(&text)?;
    out.flush()
}
