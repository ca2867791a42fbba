//! Linux and macOS.

use std::path::PathBuf;

pub(super) fn system() -> PathBuf {
    "/etc/ssh".into()
}

/// Variables that hold the user's name.
pub(super) const USER: &[&str] = &["USER", "LOGNAME"];
