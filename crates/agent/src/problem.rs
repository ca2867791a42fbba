//! Turning the errors of the operating system into [`Problem`]s.

use std::{fmt::Display, io};

use overside_model::{ErrorCode, Problem};
use rustix::io::Errno;

/// Where a disk is full, the next step is the same everywhere.
const MAKE_SPACE: &str = "Free disk space on the runner and try again";

/// Names what was being done when an operating system call failed.
pub(crate) trait During<T> {
    /// `doing` completes the sentence "… failed", e.g. `mounting /proc`.
    fn during(self, doing: impl Display) -> Result<T, Problem>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, doing: impl Display) -> Result<T, Problem> {
        self.map_err(|error| from_io(&error.into(), doing))
    }
}

/// A problem out of an I/O error: a full disk keeps its own code wherever it shows.
fn from_io(error: &io::Error, doing: impl Display) -> Problem {
    let full = matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT));
    if full {
        Problem::new(ErrorCode::DiskFull, format!("the runner's disk is full ({doing})"), MAKE_SPACE)
    } else {
        Problem::new(ErrorCode::Internal, format!("{doing} failed: {error}"), "")
    }
}

/// The runner lacks `what`; `remedy` says how to get it.
pub(crate) fn unsuitable(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::RunnerUnsuitable, what, remedy)
}

/// Something that only a defect explains.
pub(crate) fn internal(what: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::Internal, what, "")
}

/// dockerd failed; its last lines decide between a full disk and anything else.
pub(crate) fn engine_failed(what: &str, log: &str) -> Problem {
    if log.contains("no space left on device") {
        return Problem::new(ErrorCode::DiskFull, format!("{what}: no space left on the runner's disk"), MAKE_SPACE);
    }
    let lines = last_lines(log, 12);
    let message = if lines.is_empty() { what.to_owned() } else { format!("{what}; its last lines: {lines}") };
    Problem::new(ErrorCode::EngineFailed, message, "")
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        let full: Result<(), _> = Err(io::Error::from(Errno::NOSPC));
        assert_eq!(full.during("writing").unwrap_err().code, ErrorCode::DiskFull);
        let other: Result<(), _> = Err(Errno::PERM);
        let problem = other.during("mounting /proc").unwrap_err();
        assert_eq!(problem.code, ErrorCode::Internal);
        assert!(problem.message.starts_with("mounting /proc failed"));
    }

    #[test]
    fn a_full_disk_is_recognised_in_the_log_of_the_engine() {
        let log = "level=info msg=x\nfailed to start daemon: mkdir /var/lib/docker/tmp: no space left on device\n";
        assert_eq!(engine_failed("dockerd ended", log).code, ErrorCode::DiskFull);
        let problem = engine_failed("dockerd ended", "one\ntwo\n");
        assert_eq!(problem.code, ErrorCode::EngineFailed);
        assert!(problem.message.ends_with("one\ntwo"));
    }
}
