//! One session a user: two computers of one user, and one host.

use anyhow::{Result, ensure};
use overside_e2e::{container, docker};
use overside_model::{ErrorCode, State};
use overside_testkit::{Daemon, LIMIT, Setup, Sshd, TempHome, USER};

use crate::choose;

/// Another computer of the same user's, with the same key.
fn another_computer_of(home: &TempHome) -> Result<TempHome> {
    let other = TempHome::new()?;
    let (from, to) = (home.scratch().join("user/.ssh"), other.scratch().join("user/.ssh"));
    fs_err::create_dir_all(&to)?;
    for file in fs_err::read_dir(from)? {
        let file = file?;
        fs_err::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(other)
}

fn a_session_moves(setup: Setup<'_>, user: &str) -> Result<()> {
    let attic = TempHome::new()?;
    let sshd = Sshd::start(&attic, setup)?;
    let office = another_computer_of(&attic)?;
    let attics = Daemon::enabled(&attic)?;
    choose(&attics, &sshd, user)?;
    container(&attic, "kept")?;

    // The second computer is told where the session is, by docker and by the status.
    let offices = Daemon::enabled(&office)?;
    choose(&offices, &sshd, user)?;
    let refused = docker(&office, &["volume", "create", "vol"])?;
    ensure!(refused.code() != 0 && refused.err().contains("your session on this runner is on"), "{refused:?}");
    let told = offices.status()?.error.map(|problem| (problem.code, problem.hint));
    ensure!(told.as_ref().is_some_and(|(code, _)| *code == ErrorCode::SessionElsewhere), "{told:?}");
    ensure!(told.is_some_and(|(_, hint)| hint.contains("overside start --take-over")), "no way out is named");
    ensure!(attics.status()?.state == State::Running, "the refused one changes nothing");

    // It goes on there, with what runs in it.
    attics.overside(&["idle"])?.success()?;
    offices.overside(&["start", "--take-over"])?.success()?;
    ensure!(offices.status()?.state == State::Running);
    ensure!(docker(&office, &["ps", "--format", "{{.Names}}"])?.success()?.out() == "kept\n");

    // The first computer says so, leaves it alone, and can have it back.
    let status = attics.wait_for_state(State::Idle, LIMIT)?;
    ensure!(status.error.is_some_and(|problem| problem.code == ErrorCode::SessionElsewhere));
    attics.overside(&["stop", "-f"])?.success()?;
    ensure!(docker(&office, &["ps", "--format", "{{.Names}}"])?.success()?.out() == "kept\n");
    attics.overside(&["start", "--take-over"])?.success()?;
    ensure!(docker(&attic, &["ps", "--format", "{{.Names}}"])?.success()?.out() == "kept\n");
    offices.wait_for_state(State::Idle, LIMIT)?;
    let twice = attics.overside(&["start", "--take-over"])?;
    ensure!(twice.code() != 0 && twice.err().contains("session of its own"), "{twice:?}");

    offices.terminate()?.success()?;
    attics.overside(&["stop", "-f"])?.success()?;
    attics.terminate()?.success()?;
    drop(sshd);
    attic.wait_until_clean(LIMIT)?;
    office.wait_until_clean(LIMIT)
}

#[test]
fn root_s_session_is_found_by_a_second_computer_and_taken_over_and_back() -> Result<()> {
    a_session_moves(Setup::default(), "root")
}

#[test]
fn so_is_an_ordinary_user_s() -> Result<()> {
    a_session_moves(Setup::default(), USER)
}

#[test]
fn a_computer_that_was_off_when_its_session_was_taken_over_leaves_it_alone() -> Result<()> {
    let attic = TempHome::new()?;
    let sshd = Sshd::start(&attic, Setup::default())?;
    let office = another_computer_of(&attic)?;
    let attics = Daemon::enabled(&attic)?;
    choose(&attics, &sshd, "root")?;
    container(&attic, "kept")?;
    attics.kill()?;
    let offices = Daemon::enabled(&office)?;
    choose(&offices, &sshd, "root")?;
    offices.overside(&["start", "--take-over"])?.success()?;
    // Its daemon still has the key that was let in.
    let attics = Daemon::start(&attic)?;
    let refused = docker(&attic, &["volume", "create", "vol"])?;
    ensure!(refused.code() != 0 && refused.err().contains("your session on this runner is on"), "{refused:?}");
    ensure!(docker(&office, &["ps", "--format", "{{.Names}}"])?.success()?.out() == "kept\n");
    attics.terminate()?.success()?;
    ensure!(docker(&office, &["ps", "--format", "{{.Names}}"])?.success()?.out() == "kept\n");
    offices.terminate()?.success()?;
    drop(sshd);
    attic.wait_until_clean(LIMIT)
}
