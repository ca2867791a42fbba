//! The subcommand `list`: which environments a directory holds, whose they are, and whether they live.

use std::{
    io::{self, Write as _, stdout},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use fs_err as fs;
use overside_model::{EnvironmentId, agent::Found};

use crate::{record::Record, serve::hello};

/// How long an agent may take from making its directory to recording what it is; far more than it needs.
const BEGINNING: Duration = Duration::from_secs(60);

/// Runs the subcommand: greets, then writes one [`Found`] a line. A directory that does not exist holds none.
pub(crate) fn main(directory: &Path) -> ExitCode {
    match run(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overside-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path) -> io::Result<()> {
    hello()?;
    for found in look(directory)? {
        writeln!(stdout(), "{}", serde_json::to_string(&found)?)?;
    }
    Ok(())
}

/// The environments in a directory; none where there is no such directory.
pub(crate) fn look(directory: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok());
    Ok(ids.map(|id| found(directory, id)).collect())
}

fn found(directory: &Path, id: EnvironmentId) -> Found {
    let directory = directory.join(id.as_str());
    match Record::read(&directory) {
        Ok(Some(record)) => Found { id, alive: record.agent.alive(), owner: record.owner },
        // Being made just now, or left behind by an agent that was killed then.
        _ => {
            let made = fs::metadata(&directory).and_then(|metadata| metadata.modified());
            let age = made.ok().and_then(|made| made.elapsed().ok()).unwrap_or_default();
            Found { id, alive: age < BEGINNING, owner: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use overside_model::agent::{Isolation, Owner};

    use super::*;
    use crate::process::Identity;

    #[test]
    fn environments_are_listed_with_their_owners_and_whether_they_live() {
        let home = tempfile::tempdir().unwrap();
        let living = Identity::of(std::process::id()).unwrap();
        let mut dead = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let died = Identity::of(dead.id()).unwrap();
        dead.kill().unwrap();
        dead.wait().unwrap();
        let owner = Owner { home: "h".into(), computer: "laptop".into(), started_at: "2026-01-01T00:00:00Z".into() };
        for (id, agent) in [("e-living", &living), ("e-dead", &died)] {
            fs::create_dir(home.path().join(id)).unwrap();
            let (isolation, owner) = (Isolation::Rootless, Some(owner.clone()));
            let record = Record { agent: agent.clone(), owner, isolation, cgroups: None, processes: Vec::new() };
            record.write(&home.path().join(id)).unwrap();
        }
        fs::create_dir(home.path().join("e-beginning")).unwrap();
        fs::create_dir(home.path().join("Not an environment")).unwrap();
        let mut found = look(home.path()).unwrap();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        let told: Vec<_> = found.iter().map(|f| (f.id.as_str(), f.alive, f.owner.as_ref())).collect();
        let expected = [("e-beginning", true, None), ("e-dead", false, Some(&owner)), ("e-living", true, Some(&owner))];
        assert_eq!(told, expected);
        assert_eq!(look(&home.path().join("missing")).unwrap(), []);
    }
}
