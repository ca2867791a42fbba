//! What `overside diagnose` finds.

use serde::{Deserialize, Serialize};

use crate::{Hop, HopStatus};

/// The way from a Docker client to an engine, hop by hop, and what the daemon said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Diagnosis {
    /// The hops, in the order of the way.
    pub hops: Vec<Hop>,
    /// The last lines of the daemon's log, the oldest first.
    pub log: Vec<LogLine>,
    /// The file that the bundle was written to, where one was asked for.
    pub bundle: Option<String>,
}

impl Diagnosis {
    /// The hop that keeps everything behind it from working.
    pub fn failed(&self) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.status == HopStatus::Failed)
    }
}

/// One line of the daemon's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct LogLine {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// What happened, with its details.
    pub message: String,
}
