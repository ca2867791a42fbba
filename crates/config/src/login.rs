//! Starting the desktop app when the user logs in.

use std::{env, io, path::PathBuf};

use crate::Home;

#[cfg_attr(target_os = "linux", path = "login/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "login/native.rs")]
mod platform;

/// What the user's desktop starts at login for one home.
#[derive(Debug, Clone)]
pub struct LoginEntry {
    program: PathBuf,
    /// `OVERSIDE_HOME`, where that moves everything.
    moved: Option<PathBuf>,
}

impl LoginEntry {
    /// The entry that starts the `overside-desktop` beside this program, or what `OVERSIDE_DESKTOP` names.
    pub fn of(home: &Home) -> Self {
        let named = env::var_os("OVERSIDE_DESKTOP").filter(|path| !path.is_empty()).map(PathBuf::from);
        let beside = || {
            let here = env::current_exe().and_then(fs_err::canonicalize).unwrap_or_default();
            here.with_file_name(format!("overside-desktop{}", env::consts::EXE_SUFFIX))
        };
        Self { program: named.unwrap_or_else(beside), moved: home.moved() }
    }

    /// Makes the entry, or takes it away. What the user has made or switched off in the desktop's own settings stays.
    ///
    /// # Errors
    /// There is no such program, or the entry cannot be written; names what.
    pub fn set(&self, on: bool) -> io::Result<()> {
        if on && !self.program.is_file() {
            let message = format!("there is no desktop app to start: {} is missing", self.program.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        platform::set(&self.program, self.moved.as_deref(), on)
    }
}
