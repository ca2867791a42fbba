//! What can go wrong with the file, and how a person is told.

use std::{io, path::Path};

use overside_model::{ErrorCode, Problem};

/// Why the ledger cannot be used.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// SQLite's own reason.
    Sqlite(rusqlite::Error),
    /// The system's reason, before SQLite came to it.
    System(io::Error),
    /// It is a sound database, but not a ledger of this version, or it is none; in words.
    Unsound(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
            Self::Unsound(reason) => f.write_str(reason),
        }
    }
}

impl Trouble {
    fn sqlite(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }

    /// Whether the file itself is no good, so that another in its place would be better: not where the disk is full, the
    /// directory is read-only or somebody else holds the file.
    pub(crate) fn condemns(&self, path: &Path) -> bool {
        use rusqlite::ErrorCode as Sqlite;
        match self {
            Self::Unsound(_) => true,
            Self::System(error) => path.exists() && denies(error),
            Self::Sqlite(_) => match self.sqlite() {
                Some(Sqlite::NotADatabase | Sqlite::DatabaseCorrupt) => true,
                // SQLite does not say why; opening it once more does.
                Some(Sqlite::CannotOpen | Sqlite::PermissionDenied | Sqlite::ReadOnly) => fs_err::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(path)
                    .is_err_and(|error| denies(&error) && path.exists()),
                _ => false,
            },
        }
    }

    /// Whether SQLite could not make or write a file, this one or another beside it.
    pub(crate) fn is_about_the_directory(&self) -> bool {
        matches!(self.sqlite(), Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly))
    }

    fn code(&self) -> ErrorCode {
        use rusqlite::ErrorCode as Sqlite;
        let full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            Self::System(error) if full(error) => ErrorCode::DiskFull,
            Self::System(_) => ErrorCode::InvalidSettings,
            Self::Unsound(_) => ErrorCode::Internal,
            Self::Sqlite(_) => match self.sqlite() {
                Some(Sqlite::DiskFull) => ErrorCode::DiskFull,
                Some(Sqlite::CannotOpen | Sqlite::PermissionDenied | Sqlite::ReadOnly) => ErrorCode::InvalidSettings,
                _ => ErrorCode::Internal,
            },
        }
    }

    /// As a person is told; `what` failed.
    pub(crate) fn problem(&self, what: &str) -> Problem {
        let code = self.code();
        let hint = match code {
            ErrorCode::DiskFull => "Make room on the disk.",
            ErrorCode::InvalidSettings => "Make its directory and itself writable for this user.",
            _ => "",
        };
        Problem::new(code, format!("{what}: {self}"), hint)
    }
}

/// Whether the system refuses this one file for what it is or whose it is.
fn denies(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory)
}
