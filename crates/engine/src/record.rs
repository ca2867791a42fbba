//! What survives the daemon: which environment the session has, and how to log in to it.

use std::{io, path::PathBuf};

use overside_config::{Home, write_atomically};
use overside_model::{EnvironmentId, ErrorCode, Problem, SessionId};
use overside_tunnel::Credentials;
use serde::{Deserialize, Serialize};

/// The session under way, as it is kept in `session/session.json`. The key lies beside it, 0600.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) session: SessionId,
    pub(crate) environment: EnvironmentId,
    pub(crate) runner: String,
    /// RFC 3339, UTC.
    pub(crate) started_at: String,
    /// The agent's host key, once it is known: an environment without one was never ready.
    pub(crate) host_key: Option<String>,
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// The directory of the session's files.
#[derive(Debug, Clone)]
pub(crate) struct RecordFile {
    directory: PathBuf,
}

impl RecordFile {
    pub(crate) fn new(home: &Home) -> Self {
        Self { directory: home.session() }
    }

    fn record(&self) -> PathBuf {
        self.directory.join("session.json")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("key")
    }

    /// Writes a new session's record and key, replacing an old one's.
    pub(crate) fn begin(&self, record: &Record, credentials: &Credentials) -> Result<(), Problem> {
        self.remove()?;
        self.update(record)?;
        credentials.save(&self.key()).map_err(|error| unwritable(&error.to_string(), None))
    }

    /// Writes the record.
    pub(crate) fn update(&self, record: &Record) -> Result<(), Problem> {
        let text = serde_json::to_vec_pretty(record).map_err(|error| unwritable(&error.to_string(), None))?;
        write_atomically(&self.record(), &text).map_err(|error| unwritable(&error.to_string(), Some(error.kind())))
    }

    /// Reads what an earlier daemon left. None if there is nothing, or nothing that is understood.
    pub(crate) fn load(&self) -> Option<(Record, Credentials)> {
        let bytes = fs_err::read(self.record()).ok()?;
        let record = serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(%error, "the session's record is not understood"))
            .ok()?;
        let credentials = Credentials::load(&self.key())
            .inspect_err(|error| tracing::warn!(%error, "the session's key is not usable"))
            .ok()?;
        Some((record, credentials))
    }

    /// Deletes record and key.
    pub(crate) fn remove(&self) -> Result<(), Problem> {
        match fs_err::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unwritable(&error.to_string(), Some(error.kind())))
            }
            _ => Ok(()),
        }
    }
}

fn unwritable(reason: &str, kind: Option<io::ErrorKind>) -> Problem {
    let full = matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
        || reason.contains("No space left on device");
    let code = if full { ErrorCode::DiskFull } else { ErrorCode::Internal };
    let hint = if full { "Make room on the disk, then try again." } else { "Check the permissions, then try again." };
    Problem::new(code, format!("cannot keep the session's state: {reason}"), hint)
}
