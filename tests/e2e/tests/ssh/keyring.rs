//! Passphrases in the system's keyring: a real Secret Service on a session bus of the test's own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use overside_testkit::{Daemon, Keyring, LIMIT, Outcome, Running, SessionBus, Setup, Sshd, TempHome, on_terminal, run};

use crate::NAME;

/// Another runner on the same host.
const OTHER: &str = "other";

/// A home with a bus of its own, whose key for SSH is encrypted, and a server that wants this key.
fn locked(home: TempHome) -> Result<(SessionBus, TempHome, Sshd)> {
    let bus = SessionBus::start(&home)?;
    let home = home.with("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let sshd = Sshd::start(&home, Setup::default())?;
    fs_err::write(home.overside_home().join("known_hosts"), sshd.known_hosts_line()?)?;
    encrypt(&home, "", "open sesame")?;
    Ok((bus, home, sshd))
}

fn key(home: &TempHome) -> PathBuf {
    home.scratch().join("user/.ssh/id_ed25519")
}

fn encrypt(home: &TempHome, from: &str, to: &str) -> Result<()> {
    let mut keygen = home.command("ssh-keygen");
    run(keygen.args(["-q", "-p", "-P", from, "-N", to, "-f"]).arg(key(home)), LIMIT)?.success()?;
    Ok(())
}

/// Runs a command at a terminal, where the person gives the passphrase and says whether to keep it.
fn at_terminal(home: &TempHome, arguments: &[&str], passphrase: &str, keep: &str) -> Result<Outcome> {
    let mut asked = Running::spawn(&mut on_terminal(&home.overside(arguments)?))?;
    asked.wait_for("Passphrase of", LIMIT)?;
    asked.write(&format!("{passphrase}\n"))?;
    asked.wait_for("Keep its passphrase in the system's keyring? [y/N]", LIMIT)?;
    asked.write(&format!("{keep}\n"))?;
    asked.finish(LIMIT)?.success()
}

/// What a daemon finds that knows nothing yet but what is kept somewhere: whether the runner can be used, and what is said.
fn anew(home: &TempHome, runner: &str) -> Result<(bool, String)> {
    let daemon = Daemon::start(home)?;
    let outcome = daemon.overside(&["runner", "test", runner])?;
    daemon.terminate()?.success()?;
    Ok((outcome.code() == 0, format!("{}{}", outcome.out(), outcome.err())))
}

/// Fails where a file below the directory has the passphrase.
fn has_no_passphrase(directory: &Path) -> Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            has_no_passphrase(&path)?;
        } else if path.is_file() {
            let text = fs_err::read(&path)?;
            assert!(!String::from_utf8_lossy(&text).contains("sesame"), "the passphrase is in {}", path.display());
        }
    }
    Ok(())
}

#[test]
fn a_passphrase_that_was_to_be_kept_is_asked_for_once() -> Result<()> {
    let (bus, home, sshd) = locked(TempHome::new()?)?;
    let _keyring = Keyring::start(&home)?;
    let daemon = Daemon::start(&home)?;
    at_terminal(&home, &["runner", "add", NAME, &sshd.address("root")], "open sesame", "y")?;
    daemon.terminate()?.success()?;
    let (usable, said) = anew(&home, NAME)?;
    assert!(usable && said.contains("with the key"), "{said}");
    let failed = said.lines().filter(|line| line.starts_with("FAILED")).count();
    assert_eq!(failed, 0, "the way is told as it was gone in the end: {said}");
    has_no_passphrase(&home.overside_home())?;
    drop(bus);
    Ok(())
}

#[test]
fn a_passphrase_that_was_not_to_be_kept_is_not() -> Result<()> {
    let (_bus, home, sshd) = locked(TempHome::new()?)?;
    let _keyring = Keyring::start(&home)?;
    let daemon = Daemon::start(&home)?;
    at_terminal(&home, &["runner", "add", NAME, &sshd.address("root")], "open sesame", "")?;
    daemon.terminate()?.success()?;
    let (usable, said) = anew(&home, NAME)?;
    assert!(!usable && said.contains("FAILED  login"), "{said}");
    Ok(())
}

#[test]
fn a_passphrase_that_no_longer_opens_the_key_is_forgotten() -> Result<()> {
    let (_bus, home, sshd) = locked(TempHome::new()?)?;
    let _keyring = Keyring::start(&home)?;
    let daemon = Daemon::start(&home)?;
    at_terminal(&home, &["runner", "add", NAME, &sshd.address("root")], "open sesame", "y")?;
    daemon.terminate()?.success()?;
    encrypt(&home, "open sesame", "barley")?;
    let (usable, said) = anew(&home, NAME)?;
    assert!(!usable && said.contains("FAILED  login"), "{said}");
    encrypt(&home, "barley", "open sesame")?;
    let (usable, said) = anew(&home, NAME)?;
    assert!(!usable, "it was forgotten, and is asked for again: {said}");
    Ok(())
}

#[test]
fn a_removed_runner_takes_its_passphrase_along_unless_another_one_needs_it() -> Result<()> {
    let (_bus, home, sshd) = locked(TempHome::new()?)?;
    let _keyring = Keyring::start(&home)?;
    let daemon = Daemon::start(&home)?;
    let address = sshd.address("root");
    at_terminal(&home, &["runner", "add", NAME, &address], "open sesame", "y")?;
    daemon.terminate()?.success()?;
    let daemon = Daemon::start(&home)?;
    // The other one finds what was kept for the first.
    daemon.overside(&["runner", "add", OTHER, &address])?.success()?;
    daemon.overside(&["runner", "rm", NAME])?.success()?;
    daemon.terminate()?.success()?;
    let (usable, said) = anew(&home, OTHER)?;
    assert!(usable, "{said}");
    let daemon = Daemon::start(&home)?;
    daemon.overside(&["runner", "rm", OTHER])?.success()?;
    daemon.terminate()?.success()?;
    let daemon = Daemon::start(&home)?;
    let refused = daemon.overside(&["runner", "add", NAME, &address])?;
    assert!(refused.code() != 0 && refused.err().contains("is encrypted"), "{refused:?}");
    Ok(())
}

#[test]
fn a_passphrase_is_kept_without_a_question_if_one_says_so_before() -> Result<()> {
    let (_bus, home, sshd) = locked(TempHome::new()?)?;
    let _keyring = Keyring::start(&home)?;
    let daemon = Daemon::start(&home)?;
    let arguments = ["runner", "add", NAME, &sshd.address("root"), "--keep-passphrase"];
    let mut asked = Running::spawn(&mut on_terminal(&home.overside(&arguments)?))?;
    asked.wait_for("Passphrase of", LIMIT)?;
    asked.write("open sesame\n")?;
    let said = asked.finish(LIMIT)?.success()?.out();
    assert!(!said.contains("[y/N]"), "{said}");
    daemon.terminate()?.success()?;
    let (usable, said) = anew(&home, NAME)?;
    assert!(usable, "{said}");
    Ok(())
}

#[test]
fn a_locked_keyring_is_told_and_the_person_is_asked() -> Result<()> {
    let (_bus, home, sshd) = locked(TempHome::new()?)?;
    let keyring = Keyring::start(&home)?;
    let daemon = Daemon::start(&home)?;
    let address = sshd.address("root");
    at_terminal(&home, &["runner", "add", NAME, &address], "open sesame", "y")?;
    daemon.terminate()?.success()?;
    keyring.lock(&home)?;
    let (usable, said) = anew(&home, NAME)?;
    assert!(!usable && said.contains("is encrypted"), "{said}");
    let daemon = Daemon::start(&home)?;
    let said = at_terminal(&home, &["runner", "unlock", NAME], "open sesame", "y")?.out();
    assert!(said.contains("the Secret Service is locked: the passphrase is not kept"), "{said}");
    assert!(
        said.contains("Unlock the keyring") && said.contains("stays open for as long as the daemon runs"),
        "{said}"
    );
    daemon.overside(&["runner", "test", NAME])?.success()?;
    let said = daemon.overside(&["runner", "rm", NAME])?.success()?.err();
    assert!(said.starts_with("the Secret Service is locked: what was kept for it may stay there"), "{said}");
    Ok(())
}

#[test]
fn without_a_keyring_it_says_what_is_missing_and_goes_on() -> Result<()> {
    // Neither where there is a bus without one, nor where there is no bus.
    for bus in [true, false] {
        let (_bus, mut home, sshd) = locked(TempHome::new()?)?;
        if !bus {
            home = home.with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
        }
        let daemon = Daemon::start(&home)?;
        let outcome = at_terminal(&home, &["runner", "add", NAME, &sshd.address("root")], "open sesame", "y")?;
        let said = outcome.out();
        assert!(said.contains("there is no Secret Service here"), "{said}");
        assert!(said.contains("the passphrase is not kept") && said.contains("ssh-add"), "{said}");
        assert!(said.contains("The runner box is added"), "{said}");
        daemon.overside(&["runner", "test", NAME])?.success()?;
        daemon.overside(&["runner", "rm", NAME])?.success()?;
    }
    Ok(())
}
