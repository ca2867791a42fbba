//! What an environment consists of, and its complete removal: by its own agent, or by `cleanup` after the agent was killed.
//!
//! Kept as `environment.json` in the environment's directory, which the environment itself can neither see nor reach: its
//! tree shows it `data/` alone.

use std::{
    io::{self, Write},
    path::Path,
};

use fs_err::{self as fs, os::unix::fs::OpenOptionsExt as _};
use overside_model::{
    Problem,
    agent::{Isolation, Owner},
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroups,
    problem::{During, internal},
    process::Identity,
    rootless,
};

/// Name of the file.
const FILE: &str = "environment.json";

/// What was made. Written before the thing itself wherever possible, so that a kill in between leaves nothing unknown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The agent.
    pub(crate) agent: Identity,
    /// Who had it made: other computers of the same user's leave it alone.
    #[serde(default)]
    pub(crate) owner: Option<Owner>,
    /// How the engine is isolated.
    pub(crate) isolation: Isolation,
    /// The claimed cgroups.
    pub(crate) cgroups: Option<Cgroups>,
    /// Processes that the agent started; all others descend from them and end with them.
    pub(crate) processes: Vec<Identity>,
}

impl Record {
    /// Writes it: temporary file, sync, rename.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Problem> {
        let doing = "recording the environment";
        let text = serde_json::to_vec_pretty(self).map_err(|error| internal(error.to_string()))?;
        let temporary = directory.join(format!("{FILE}.new"));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary).during(doing)?;
        file.write_all(&text).during(doing)?;
        file.sync_all().during(doing)?;
        fs::rename(&temporary, directory.join(FILE)).during(doing)
    }

    /// Reads it; `None` if there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, Problem> {
        match fs::read(directory.join(FILE)) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| internal(format!("{} is damaged: {error}", directory.join(FILE).display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during("reading the record of the environment"),
        }
    }

    /// Ends and removes everything but the agent. May be called again after a failure. Blocks.
    pub(crate) fn erase(&self, directory: &Path) -> Result<(), Problem> {
        for process in &self.processes {
            process.kill();
        }
        if let Some(cgroups) = &self.cgroups {
            cgroups.kill()?;
            cgroups.remove()?;
        }
        remove_files(directory, self.isolation)
    }
}

/// Removes the directory; the record goes last, so that a removal that was interrupted can be taken up again.
fn remove_files(directory: &Path, isolation: Isolation) -> Result<(), Problem> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).during(format_args!("removing {}", directory.display())),
    };
    if isolation == Isolation::Rootless {
        // Files of the environment belong to subordinate ids, which the user owns only inside a user namespace.
        rootless::remove(&directory.join("data"))?;
    }
    for entry in entries {
        let path = entry.during(format_args!("removing {}", directory.display()))?.path();
        if path.file_name().is_none_or(|name| name != FILE) {
            remove(&path)?;
        }
    }
    remove(&directory.join(FILE))?;
    ignore_missing(fs::remove_dir(directory)).during(format_args!("removing {}", directory.display()))
}

/// Removes a file or a whole directory. Symbolic links are removed, never followed, also while somebody swaps them in: std
/// goes by descriptors (<https://doc.rust-lang.org/std/fs/fn.remove_dir_all.html>).
pub(crate) fn remove(path: &Path) -> Result<(), Problem> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    ignore_missing(result).during(format_args!("removing {}", path.display()))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let agent = Identity::of(std::process::id()).unwrap();
        Record { agent, owner: None, isolation: Isolation::Namespaces, cgroups: None, processes: Vec::new() }
    }

    #[test]
    fn an_environment_is_removed_with_what_links_point_to_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (directory, outside) = (home.path().join("environment"), home.path().join("outside"));
        fs::create_dir_all(directory.join("data/deep")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "").unwrap();
        std::os::unix::fs::symlink(&outside, directory.join("data/deep/link")).unwrap();
        std::os::unix::fs::symlink(&outside, directory.join("root")).unwrap();
        let record = record();
        record.write(&directory).unwrap();
        assert!(Record::read(&directory).unwrap().is_some());
        record.erase(&directory).unwrap();
        assert!(!directory.exists());
        assert!(outside.join("precious").exists());
        record.erase(&directory).unwrap();
        assert!(Record::read(&directory).unwrap().is_none());
    }

    #[test]
    fn a_damaged_record_is_an_error_rather_than_no_environment() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), "{").unwrap();
        assert!(Record::read(home.path()).is_err());
    }
}
