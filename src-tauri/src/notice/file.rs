//! `notice.json`: what was told last, so that a tray that is started again does not tell it anew.

use std::{io, path::PathBuf};

use overside_config::{Home, write_atomically};
use serde::{Deserialize, Serialize};

use super::Told;

/// Where a notification is: its number at one notification server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The server's own name on the bus, which no later server has.
    pub server: String,
    /// The number.
    pub id: u32,
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What was told.
    pub told: Option<Told>,
    /// Where it is shown.
    pub place: Option<Place>,
}

/// The file of one home.
#[derive(Debug, Clone)]
pub struct NoticeFile {
    path: PathBuf,
}

impl NoticeFile {
    /// The file of `home`, beside its sockets: what is told does not outlive the login either.
    pub fn of(home: &Home) -> Self {
        Self { path: home.control_socket().with_file_name("notice.json") }
    }

    /// What was kept; nothing where the file is missing or of another version.
    pub fn load(&self) -> Kept {
        let kept = fs_err::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.unwrap_or_default()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The system's, naming the file; what is lost is that something may be told twice.
    pub fn save(&self, kept: &Kept) -> io::Result<()> {
        write_atomically(&self.path, serde_json::to_string(kept)?.as_bytes())
    }
}
