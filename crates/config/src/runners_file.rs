//! `runners.json`: the runners that were added.
//!
//! ```json
//! {"runners": [{"name": "office", "address": "ssh://me@office", "price-per-hour": 0.12}]}
//! ```
//!
//! What a newer Overside wrote into it is kept as it is.

use std::{io, path::PathBuf};

use overside_model::{ErrorCode, Problem, RunnerEntry, is_runner_name};
use serde_json::{Value, json};

use crate::write_atomically;

/// The runners file of one home.
#[derive(Debug, Clone)]
pub struct RunnersFile {
    path: PathBuf,
}

impl RunnersFile {
    /// The file at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the runners, in the file's order; a missing file means none.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidSettings`], with the file's path and what is wrong in it.
    pub fn load(&self) -> Result<Vec<RunnerEntry>, Problem> {
        let mut json = self.read()?;
        let entries = std::mem::take(self.list(&mut json)?);
        let mut runners: Vec<RunnerEntry> = Vec::new();
        for entry in entries {
            let runner: RunnerEntry = serde_json::from_value(entry).map_err(|error| self.unusable(&error))?;
            if !is_runner_name(&runner.name) {
                return Err(self.unusable(&format!("{:?} is not a name that a runner can have", runner.name)));
            }
            if runners.iter().any(|other| other.name == runner.name) {
                return Err(self.unusable(&format!("two runners are called {:?}", runner.name)));
            }
            runners.push(runner);
        }
        Ok(runners)
    }

    /// Adds a runner, in place of one of the same name.
    ///
    /// # Errors
    /// As [`Self::load`]; [`ErrorCode::DiskFull`] and others where the file cannot be written: the old one then still stands.
    pub fn put(&self, runner: &RunnerEntry) -> Result<(), Problem> {
        let entry = serde_json::to_value(runner).map_err(|error| self.unusable(&error))?;
        self.change(|list| match list.iter_mut().find(|other| is_named(other, &runner.name)) {
            Some(old) => *old = entry,
            None => list.push(entry),
        })
    }

    /// Removes a runner; succeeds where there is none.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn remove(&self, name: &str) -> Result<(), Problem> {
        self.change(|list| list.retain(|other| !is_named(other, name)))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<(), Problem> {
        let mut json = self.read()?;
        change(self.list(&mut json)?);
        write_atomically(&self.path, format!("{json:#}\n").as_bytes()).map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
                _ => ErrorCode::InvalidSettings,
            };
            Problem::new(code, error.to_string(), "Make room or the file writable, then try again.")
        })
    }

    fn read(&self) -> Result<Value, Problem> {
        match fs_err::read_to_string(&self.path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| self.unusable(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(json!({})),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    fn list<'a>(&self, json: &'a mut Value) -> Result<&'a mut Vec<Value>, Problem> {
        let object = json.as_object_mut().ok_or_else(|| self.unusable(&"it is not one JSON object"))?;
        let list = object.entry("runners").or_insert_with(|| json!([]));
        list.as_array_mut().ok_or_else(|| self.unusable(&"its member `runners` is no list"))
    }

    fn unusable(&self, reason: &dyn std::fmt::Display) -> Problem {
        Problem::new(
            ErrorCode::InvalidSettings,
            format!("the runners file {} cannot be used: {reason}", self.path.display()),
            "Correct the file, or remove it to begin without runners.",
        )
    }
}

fn is_named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn office(address: &str) -> RunnerEntry {
        RunnerEntry { name: "office".into(), address: address.into(), price_per_hour: None }
    }

    #[test]
    fn what_is_put_is_loaded_again_and_what_is_removed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = RunnersFile::new(directory.path().join("deep/runners.json"));
        assert_eq!(file.load(), Ok(Vec::new()));
        file.put(&office("ssh://me@one")).unwrap();
        file.put(&office("ssh://me@two")).unwrap();
        assert_eq!(file.load(), Ok(vec![office("ssh://me@two")]));
        file.remove("office").unwrap();
        file.remove("office").unwrap();
        assert_eq!(file.load(), Ok(Vec::new()));
    }

    #[test]
    fn what_a_newer_version_wrote_survives_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runners.json");
        let text = r#"{"colour": "blue", "runners": [{"name": "farm", "address": "ssh://farm", "shape": "round"}]}"#;
        fs_err::write(&path, text).unwrap();
        RunnersFile::new(&path).put(&office("ssh://office")).unwrap();
        let json: Value = serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(json["colour"], "blue");
        assert_eq!(json["runners"][0]["shape"], "round");
        assert_eq!(json["runners"][1]["name"], "office");
    }

    #[test]
    fn an_unusable_file_is_named_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runners.json");
        for text in [
            "{",
            "[]",
            r#"{"runners": {}}"#,
            r#"{"runners": [{"name": "../x", "address": "ssh://x"}]}"#,
            r#"{"runners": [{"name": "a", "address": "ssh://x"}, {"name": "a", "address": "ssh://y"}]}"#,
        ] {
            fs_err::write(&path, text).unwrap();
            let problem = RunnersFile::new(&path).load().unwrap_err();
            assert_eq!(problem.code, ErrorCode::InvalidSettings);
            assert!(problem.message.contains("runners.json"), "{problem}");
        }
        for text in ["{", "[]", r#"{"runners": {}}"#] {
            fs_err::write(&path, text).unwrap();
            RunnersFile::new(&path).put(&office("ssh://office")).unwrap_err();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
    }
}
