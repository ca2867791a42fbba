//! One line per long step, so that a developer sees what takes its time.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::Result;

/// Counts the steps of one command.
pub(crate) struct Steps {
    total: usize,
    begun: usize,
    /// When the first step could begin.
    started: Instant,
}

impl Steps {
    /// `total` steps will follow.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, begun: 0, started: Instant::now() }
    }

    /// A step that prints nothing by itself: its line is completed with the time it took.
    pub(crate) fn quiet<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begun += 1;
        print!("{} … ", self.label(name));
        io::stdout().flush()?;
        let started = Instant::now();
        let outcome = work();
        println!("{}{}", seconds(started.elapsed()), if outcome.is_ok() { "" } else { " FAILED" });
        outcome
    }

    /// A step whose output is shown: a line before it and one after it.
    pub(crate) fn loud<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begun += 1;
        println!("{} …", self.label(name));
        let started = Instant::now();
        let outcome = work();
        let failed = if outcome.is_ok() { "" } else { " FAILED" };
        println!("{} … {}{failed}", self.label(name), seconds(started.elapsed()));
        outcome
    }

    /// Time since the first step.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn label(&self, name: &str) -> String {
        let width = self.total.to_string().len();
        format!("[{:>width$}/{}] {name}", self.begun, self.total)
    }
}

/// `12.3 s`, or `4 min 5 s` from two minutes on.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..120 => format!("{:.1} s", time.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 5 s");
    }

    #[test]
    fn numbers_of_steps_stand_below_each_other() {
        let mut steps = Steps::new(12);
        steps.begun = 3;
        assert_eq!(steps.label("clippy"), "[ 3/12] clippy");
    }
}
