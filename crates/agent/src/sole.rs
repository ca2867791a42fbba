//! One session a user: an environment is not made beside one that another computer of the same user's has running.

use std::{os::fd::OwnedFd, path::Path};

use fs_err as fs;
use overside_model::{ErrorCode, Problem, agent::Owner};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fstat, open},
    io::Errno,
};

use crate::{list, problem::During};

/// Held while an environment is being recorded, so that of two computers that start at once one sees the other.
#[derive(Debug)]
pub(crate) struct Claim {
    _directory: OwnedFd,
}

impl Claim {
    /// Takes hold of the directory that a user's environments lie in, which need not exist. Waits for an agent that is just
    /// being recorded, which takes milliseconds.
    ///
    /// # Errors
    /// [`ErrorCode::SessionElsewhere`] where a living environment in it belongs to another home than `owner`'s.
    pub(crate) fn take(environments: &Path, owner: &Owner) -> Result<Self, Problem> {
        let doing = format!("looking for the user's other sessions in {}", environments.display());
        let directory = loop {
            fs::create_dir_all(environments).during(&doing)?;
            let directory = match hold(environments) {
                // Another agent's end has just taken it away.
                Err(Errno::NOENT) => continue,
                directory => directory.during(&doing)?,
            };
            if fstat(&directory).during(&doing)?.st_nlink > 0 {
                break directory;
            }
        };
        let found = list::look(environments).during(&doing)?;
        let other = found.into_iter().filter(|found| found.alive).filter_map(|found| found.owner);
        match { other }.find(|other| other.home != owner.home) {
            Some(other) => Err(elsewhere(&other)),
            None => Ok(Self { _directory: directory }),
        }
    }
}

/// Removes the directory that a user's environments lie in, and the one above it, where they hold nothing more. Waits for an
/// agent that is about to make an environment there.
pub(crate) fn leave(environments: &Path) {
    let Ok(_held) = hold(environments) else { return };
    for directory in environments.ancestors().take(2) {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Opens a directory and waits until nobody else holds it.
fn hold(directory: &Path) -> Result<OwnedFd, Errno> {
    let held = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&held, FlockOperation::LockExclusive)?;
    Ok(held)
}

fn elsewhere(other: &Owner) -> Problem {
    // The names come from another computer: nothing of them may be more than text.
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    Problem::new(
        ErrorCode::SessionElsewhere,
        format!("your session on this runner is on {}, since {}", clean(&other.computer), clean(&other.started_at)),
        "Continue it here with `overside start --take-over`, or end it there with `overside stop`.",
    )
}

#[cfg(test)]
mod tests {
    use overside_model::agent::Isolation;

    use super::*;
    use crate::{process::Identity, record::Record};

    fn owner(home: &str) -> Owner {
        Owner { home: home.into(), computer: format!("{home}'s\ncomputer"), started_at: "2026-01-01T00:00:00Z".into() }
    }

    fn record(directory: &Path, agent: Identity, home: &str) {
        fs::create_dir(directory).unwrap();
        let (isolation, owner) = (Isolation::Rootless, Some(owner(home)));
        Record { agent, owner, isolation, cgroups: None, processes: Vec::new() }.write(directory).unwrap();
    }

    #[test]
    fn a_living_environment_of_another_computer_stands_in_the_way_and_is_named() {
        let place = tempfile::tempdir().unwrap();
        record(&place.path().join("e-other"), Identity::of(std::process::id()).unwrap(), "attic");
        let problem = Claim::take(place.path(), &owner("office")).unwrap_err();
        assert_eq!(problem.code, ErrorCode::SessionElsewhere);
        assert!(problem.message.contains("on attic'scomputer, since 2026-01-01T00:00:00Z"), "{problem}");
        assert!(problem.hint.contains("--take-over"), "{problem:?}");
        assert!(Claim::take(place.path(), &owner("attic")).is_ok(), "its own does not");
    }

    #[test]
    fn a_dead_environment_of_another_computer_does_not() {
        let place = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let agent = Identity::of(dead.id()).unwrap();
        dead.kill().unwrap();
        dead.wait().unwrap();
        record(&place.path().join("e-other"), agent, "attic");
        assert!(Claim::take(&place.path().join("new"), &owner("office")).is_ok());
        assert!(Claim::take(place.path(), &owner("office")).is_ok());
    }

    #[test]
    fn a_directory_that_is_left_empty_goes_and_one_that_is_in_use_stays() {
        let place = tempfile::tempdir().unwrap();
        let environments = place.path().join("overside/0");
        let claim = Claim::take(&environments, &owner("attic")).unwrap();
        record(&environments.join("e-one"), Identity::of(std::process::id()).unwrap(), "attic");
        drop(claim);
        leave(&environments);
        assert!(environments.exists());
        fs::remove_dir_all(environments.join("e-one")).unwrap();
        fs::write(place.path().join("others"), "").unwrap();
        leave(&environments);
        assert!(!place.path().join("overside").exists() && place.path().exists());
    }

    #[test]
    fn of_two_that_start_at_once_the_second_waits_until_the_first_is_recorded() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().to_owned();
        let first = Claim::take(&path, &owner("attic")).unwrap();
        let second = std::thread::spawn(move || Claim::take(&path, &owner("office")).map(drop));
        record(&place.path().join("e-first"), Identity::of(std::process::id()).unwrap(), "attic");
        drop(first);
        assert_eq!(second.join().unwrap().unwrap_err().code, ErrorCode::SessionElsewhere);
    }
}
