//! The subcommand `cleanup`: removes what an environment left behind whose agent was killed.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use overside_model::{ErrorCode, Problem, agent::Isolation};
use rustix::process::geteuid;

use crate::{
    problem::{During, internal},
    process::Identity,
    record::{self, Record},
    serve::OWNER_SOCKET,
    sole, spec,
};

/// How long a killed agent may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the subcommand: `cleanup [--force] DIRECTORY`.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let force = arguments.iter().any(|argument| argument == "--force");
    let directories: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let [directory] = directories[..] else {
        eprintln!("usage: overside-agent cleanup [--force] DIRECTORY");
        return ExitCode::from(2);
    };
    let directory = PathBuf::from(directory);
    match clean(&directory, force) {
        Ok(()) => {
            if let Some(environments) = directory.parent() {
                sole::leave(environments);
            }
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("overside-agent: {}", problem.sentence());
            ExitCode::FAILURE
        }
    }
}

fn clean(directory: &Path, force: bool) -> Result<(), Problem> {
    let Ok(metadata) = fs::symlink_metadata(directory) else { return Ok(()) };
    if !metadata.is_dir() || !directory.is_absolute() {
        return Err(internal(format!("{} is not the absolute path of a directory", directory.display())));
    }
    check_owner(directory)?;
    let Some(record) = Record::read(directory)? else {
        return remove_unrecorded(directory);
    };
    if record.agent.alive() {
        if !force {
            return Err(Problem::new(
                ErrorCode::AlreadyRunning,
                format!("the agent of {} still runs (process {})", directory.display(), record.agent.pid),
                "Delete the environment through it, or use --force",
            ));
        }
        end_agent(&record.agent)?;
    }
    record.erase(directory)?;
    let left: Vec<PathBuf> = record.cgroups.iter().flat_map(crate::cgroup::Cgroups::left).collect();
    if left.is_empty() { Ok(()) } else { Err(internal(format!("{left:?} could not be removed"))) }
}

/// The record decides what is killed and removed: it must not be somebody else's.
fn check_owner(directory: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(directory).during("looking at the environment")?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(internal(format!("{} belongs to somebody else, or others may write to it", directory.display())));
    }
    Ok(())
}

/// An agent that was killed between making the directory and its record, or while removing the last of it, leaves at most
/// these. Anything else is not an environment, and not removed.
fn remove_unrecorded(directory: &Path) -> Result<(), Problem> {
    const OURS: [&str; 6] = ["environment.json.new", "data", "root", spec::SOCKET, OWNER_SOCKET, "agent.log"];
    for entry in fs::read_dir(directory).during("looking at the environment")? {
        let name = entry.during("looking at the environment")?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            return Err(internal(format!("{} is not the directory of an environment", directory.display())));
        }
    }
    let isolation = if geteuid().is_root() { Isolation::Namespaces } else { Isolation::Rootless };
    if isolation == Isolation::Rootless {
        crate::rootless::remove(&directory.join("data"))?;
    }
    record::remove(directory)
}

fn end_agent(agent: &Identity) -> Result<(), Problem> {
    agent.kill();
    let begun = Instant::now();
    while agent.alive() {
        if begun.elapsed() > PATIENCE {
            return Err(internal(format!("the agent (process {}) does not end", agent.pid)));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_exist_is_clean() {
        assert!(clean(Path::new("/nonexistent/environment"), false).is_ok());
    }

    #[test]
    fn a_directory_that_is_no_environment_is_not_touched() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.tex"), "").unwrap();
        assert!(clean(home.path(), true).is_err());
        assert!(home.path().join("thesis.tex").exists());
    }

    #[test]
    fn an_environment_whose_agent_lives_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let agent = Identity::of(std::process::id()).unwrap();
        let (owner, isolation) = (None, Isolation::Namespaces);
        let record = Record { agent, owner, isolation, cgroups: None, processes: Vec::new() };
        record.write(home.path()).unwrap();
        assert_eq!(clean(home.path(), false).unwrap_err().code, ErrorCode::AlreadyRunning);
    }
}
