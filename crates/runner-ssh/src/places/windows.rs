//! Windows.

use std::path::PathBuf;

pub(super) fn system() -> PathBuf {
    let data = std::env::var_os("ProgramData").map_or_else(|| PathBuf::from(r"C:\ProgramData"), PathBuf::from);
    data.join("ssh")
}

/// Variables that hold the user's name.
pub(super) const USER: &[&str] = &["USERNAME"];
