//! How the daemon looks from here.

use overside_model::{Problem, State, Status};
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
        match self {
            Self::Here { status } => Some(status.state),
            Self::Connecting | Self::Away { .. } => None,
        }
    }

    /// The name under which message files and icons know this: a state's, `connecting` or `away`.
    pub fn face(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Here { status } => status.state.name(),
            Self::Away { .. } => "away",
        }
    }
}
