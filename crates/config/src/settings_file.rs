//! `settings.json`: read once, changed as a whole, never left half-written.

use std::{io, path::PathBuf};

use overside_model::{ErrorCode, Problem, Settings};
use serde_json::Value;

use crate::write_atomically;

/// The settings file of one home.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    path: PathBuf,
}

impl SettingsFile {
    /// The file at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the settings; a missing file means the defaults.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidSettings`], with the file's path and what is wrong in it. The file is never repaired by guessing.
    pub fn load(&self) -> Result<Settings, Problem> {
        let unusable = |reason: String| {
            Problem::new(
                ErrorCode::InvalidSettings,
                format!("the settings file {} cannot be used: {reason}", self.path.display()),
                "Correct the file, or remove it to begin with the defaults.",
            )
        };
        let text = match fs_err::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(error) => return Err(unusable(error.to_string())),
        };
        let json: Value = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        Settings::from_json(&json).map_err(|error| unusable(error.to_string()))
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// [`ErrorCode::DiskFull`] or [`ErrorCode::InvalidSettings`], with the path; the old file then still stands.
    pub fn save(&self, settings: &Settings) -> Result<(), Problem> {
        let mut text = format!("{:#}", settings.to_json());
        text.push('\n');
        write_atomically(&self.path, text.as_bytes()).map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
                _ => ErrorCode::InvalidSettings,
            };
            Problem::new(code, error.to_string(), "Make room or the file writable, then try again.")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_missing_file_means_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let file = SettingsFile::new(directory.path().join("settings.json"));
        assert_eq!(file.load(), Ok(Settings::default()));
    }

    #[test]
    fn what_is_saved_is_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = SettingsFile::new(directory.path().join("deep/settings.json"));
        let settings = Settings { idle_timeout: Duration::from_secs(90), ..Settings::default() };
        file.save(&settings).unwrap();
        assert_eq!(file.load(), Ok(settings));
    }

    #[test]
    fn an_unusable_file_is_named_with_what_is_wrong_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.json");
        for (text, reason) in [("{", "EOF"), ("[]", "one JSON object"), (r#"{"idle-timeout":"2h"}"#, "10s to 1h")] {
            fs_err::write(&path, text).unwrap();
            let problem = SettingsFile::new(&path).load().unwrap_err();
            assert_eq!(problem.code, ErrorCode::InvalidSettings);
            assert!(problem.message.contains("settings.json") && problem.message.contains(reason), "{problem}");
        }
    }
}
