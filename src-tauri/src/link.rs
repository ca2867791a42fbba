//! How the daemon looks from here.

use std::time::Duration;

use overside_model::{Moment, Problem, State, Status};
use serde::Serialize;

/// The way to the daemon. The page's `Link` in ui/src/lib/backend/backend.ts is the same in TypeScript.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Link {
    /// Not tried yet, or the daemon is being started.
    Connecting,
    /// The daemon answers.
    Here {
        /// Its latest status.
        status: Box<Status>,
    },
    /// No daemon answers. It is looked for all the time.
    Away {
        /// Why not.
        problem: Problem,
    },
}

impl Link {
    /// The session's state, where there is a daemon.
    pub fn state(&self) -> Option<State> {
        self.status().map(|status| status.state)
    }

    /// The latest status, where there is a daemon.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Here { status } => Some(status),
            Self::Connecting | Self::Away { .. } => None,
        }
    }

    /// The name under which message files know this: a state's, `connecting` or `away`.
    pub fn face(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Here { status } => status.state.name(),
            Self::Away { .. } => "away",
        }
    }
}

/// A link, and when it became so: a status counts in seconds from then.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The link.
    pub link: Link,
    /// When it was told.
    pub at: Moment,
}

impl Seen {
    /// When a countdown ends that the status gave in seconds.
    pub fn end_of(&self, seconds: u64) -> Moment {
        self.at + Duration::from_secs(seconds)
    }

    /// When the session is suspended, if the prompt that waits stays unanswered.
    pub fn prompt_ends(&self) -> Option<Moment> {
        Some(self.end_of(self.link.status()?.prompt.as_ref()?.answer_within_seconds))
    }

    /// When the suspended environment is deleted.
    pub fn grace_ends(&self) -> Option<Moment> {
        let status = self.link.status().filter(|status| status.state == State::Suspended)?;
        status.grace_remaining_seconds.map(|seconds| self.end_of(seconds))
    }
}

/// Minutes from `now` to `end`, begun ones counted: what is not over yet is never "0 minutes".
pub fn minutes_left(end: Moment, now: Moment) -> u64 {
    end.since(now).as_millis().div_ceil(60_000).max(1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_minute_that_has_begun_counts_as_one_that_is_left() {
        for (left, minutes) in [(0, 1), (1, 1), (60_000, 1), (60_001, 2), (120_000, 2)] {
            assert_eq!(minutes_left(at(5 + left), at(5)), minutes, "{left} ms");
        }
        assert_eq!(minutes_left(at(0), at(5)), 1);
    }
}
