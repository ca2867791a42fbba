//! The real daemon in a home of a test's own.

use std::{
    io::BufReader,
    process::Stdio,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_model::{State, Status};
use rustix::process::Signal;

use crate::{
    TempHome,
    process::{LIMIT, Outcome, Running, run},
};

/// What the daemon says on standard error once its sockets answer.
const LISTENS: &str = "Overside listens on";

/// A running `overside daemon`. Dropped, it is asked to end, as by a logout, and takes its environment along.
pub struct Daemon<'a> {
    home: &'a TempHome,
    /// None once it was ended.
    process: Option<Running>,
}

impl<'a> Daemon<'a> {
    /// Starts one and waits until its control socket answers.
    ///
    /// # Errors
    /// It ended instead; says why.
    pub fn start(home: &'a TempHome) -> Result<Self> {
        let process = Running::spawn(&mut home.overside(&["daemon"])?)?;
        process.wait_for_error(LISTENS, LIMIT)?;
        Ok(Self { home, process: Some(process) })
    }

    /// Starts one and turns it on.
    ///
    /// # Errors
    /// As [`Self::start`], and what `overside start` says.
    pub fn enabled(home: &'a TempHome) -> Result<Self> {
        let daemon = Self::start(home)?;
        daemon.overside(&["start"])?.success()?;
        Ok(daemon)
    }

    /// The daemon's process id; zero once it was ended.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Running::pid)
    }

    /// Runs `overside` with arguments in the daemon's home.
    ///
    /// # Errors
    /// It does not end.
    pub fn overside(&self, arguments: &[&str]) -> Result<Outcome> {
        run(&mut self.home.overside(arguments)?, LIMIT)
    }

    /// The present status.
    ///
    /// # Errors
    /// There is none, or it is not what `status --format json` promises.
    pub fn status(&self) -> Result<Status> {
        let outcome = self.overside(&["status", "--format", "json"])?.success()?;
        serde_json::from_slice(&outcome.stdout).with_context(|| format!("not a status: {outcome:?}"))
    }

    /// Waits until the status is as wished, told by the daemon's own events, and returns that status.
    ///
    /// # Errors
    /// It is not within `limit`; says what it is instead.
    pub fn wait_for(&self, what: &str, limit: Duration, wished: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut watch = self.home.overside(&["status", "--format", "json", "--watch"])?;
        let mut watch = watch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = watch.stdout.take().context("a fresh program has no output")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Status>();
            for status in events.map_while(Result::ok) {
                if sender.send(status).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + limit;
        let mut last = None;
        let found = loop {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(status) if wished(&status) => break Some(status),
                Ok(status) => last = Some(status),
                Err(_) => break None,
            }
        };
        // Killed rather than asked: it has nothing to put in order.
        watch.kill()?;
        watch.wait()?;
        found.with_context(|| format!("not {what} within {limit:?}; the last status was {last:?}"))
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_state(&self, state: State, limit: Duration) -> Result<Status> {
        self.wait_for(state.name(), limit, |status| status.state == state)
    }

    /// Kills it as a crash or the kernel would, leaving its environment behind.
    ///
    /// # Errors
    /// It has ended by itself before.
    pub fn kill(mut self) -> Result<()> {
        self.end(Signal::KILL).map(drop)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It does not end.
    pub fn terminate(mut self) -> Result<Outcome> {
        self.end(Signal::TERM)
    }

    fn end(&mut self, signal: Signal) -> Result<Outcome> {
        let process = self.process.take().context("the daemon has been ended before")?;
        process.signal(signal)?;
        process.finish(LIMIT)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // A daemon that does not end is told by its home, which finds what is left.
        let _ = self.end(Signal::TERM);
    }
}
