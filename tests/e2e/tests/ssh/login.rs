//! Who lets whom in: host keys, the user's keys, the SSH agent, jump hosts.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use overside_testkit::{Daemon, LIMIT, Running, Setup, Sshd, TempHome, on_terminal, run};

use crate::{NAME, add, choose};

/// A file among those of the home's user for SSH.
fn ssh_file(home: &TempHome, name: &str) -> PathBuf {
    home.scratch().join("user/.ssh").join(name)
}

/// Whether the runner can be used, and what is said of it.
fn test(daemon: &Daemon<'_>) -> Result<(bool, String)> {
    let outcome = daemon.overside(&["runner", "test", NAME])?;
    Ok((outcome.code() == 0, format!("{}{}", outcome.out(), outcome.err())))
}

fn keygen(home: &TempHome, arguments: &[&str]) -> Result<()> {
    run(home.command("ssh-keygen").arg("-q").args(arguments), LIMIT)?.success()?;
    Ok(())
}

#[test]
fn an_unknown_host_is_shown_and_trusted_only_by_a_person() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::start(&home)?;
    let (address, fingerprint) = (sshd.address("root"), sshd.fingerprint()?);
    let refused = daemon.overside(&["runner", "add", NAME, &address])?;
    assert_ne!(refused.code(), 0);
    assert!(refused.err().contains(&fingerprint), "{refused:?}");
    let wrong = daemon.overside(&["runner", "add", NAME, &address, "--accept-host-key", "SHA256:AAAA"])?;
    assert!(wrong.code() != 0 && wrong.err().contains(&fingerprint), "{wrong:?}");
    assert!(
        !daemon.overside(&["runner", "ls"])?.success()?.out().contains(NAME),
        "nothing was decided, and nothing stays"
    );
    assert!(!home.overside_home().join("known_hosts").exists());

    add(&daemon, &sshd, "root")?.success()?;
    assert!(fs_err::read_to_string(home.overside_home().join("known_hosts"))?.contains(&format!("]:{} ", sshd.port())));
    assert!(!ssh_file(&home, "known_hosts").exists(), "the user's own file is not ours to write");
    let (usable, said) = test(&daemon)?;
    assert!(usable && said.contains("it is the known one"), "{said}");
    Ok(())
}

#[test]
fn a_host_that_the_user_knows_is_not_asked_about() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    fs_err::write(ssh_file(&home, "known_hosts"), sshd.known_hosts_line()?)?;
    keygen(&home, &["-H", "-f", &ssh_file(&home, "known_hosts").display().to_string()])?;
    let daemon = Daemon::start(&home)?;
    daemon.overside(&["runner", "add", NAME, &sshd.address("root")])?.success()?;
    assert!(!home.overside_home().join("known_hosts").exists());
    Ok(())
}

#[test]
fn a_changed_host_key_is_refused_with_both_fingerprints_whatever_one_accepts() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::start(&home)?;
    let own = fs_err::read_to_string(ssh_file(&home, "id_ed25519.pub"))?;
    fs_err::write(ssh_file(&home, "known_hosts"), format!("[127.0.0.1]:{} {own}", sshd.port()))?;
    let mut list = home.command("ssh-keygen");
    let known = run(list.arg("-lf").arg(ssh_file(&home, "id_ed25519.pub")), LIMIT)?.success()?.out();
    let known = known.split(' ').nth(1).context("no fingerprint")?;
    add(&daemon, &sshd, "root")?;
    let (usable, said) = test(&daemon)?;
    assert!(!usable && said.contains("FAILED  host-key"), "{said}");
    for part in [known, &sshd.fingerprint()?, "known_hosts:1", "Somebody else may be answering"] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert!(!home.overside_home().join("known_hosts").exists());
    Ok(())
}

#[test]
fn an_encrypted_key_is_unlocked_once_and_only_when_it_would_help() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::start(&home)?;
    let key = ssh_file(&home, "id_ed25519").display().to_string();
    keygen(&home, &["-p", "-P", "", "-N", "open sesame", "-f", &key])?;
    // One that the server does not want is never asked for.
    keygen(&home, &["-t", "ecdsa", "-N", "other", "-f", &ssh_file(&home, "id_ecdsa").display().to_string()])?;
    add(&daemon, &sshd, "root")?;
    fs_err::write(home.overside_home().join("known_hosts"), sshd.known_hosts_line()?)?;
    let refused = daemon.overside(&["runner", "add", NAME, &sshd.address("root")])?;
    assert!(refused.code() != 0 && refused.err().contains(&key), "{refused:?}");
    assert!(refused.err().contains("ssh-add") && !refused.err().contains("id_ecdsa"), "{refused:?}");

    let mut asked =
        Running::spawn(&mut on_terminal(&home.overside(&["runner", "add", NAME, &sshd.address("root")])?))?;
    asked.wait_for("Passphrase of", LIMIT)?;
    asked.write("wrong\n")?;
    asked.close_stdin();
    let outcome = asked.finish(LIMIT)?;
    assert!(outcome.code() != 0 && outcome.out().contains("does not open with this passphrase"), "{outcome:?}");

    let mut asked =
        Running::spawn(&mut on_terminal(&home.overside(&["runner", "add", NAME, &sshd.address("root")])?))?;
    asked.wait_for("Passphrase of", LIMIT)?;
    asked.write("open sesame\n")?;
    asked.wait_for("Keep its passphrase", LIMIT)?;
    asked.write("\n")?;
    let outcome = asked.finish(LIMIT)?.success()?;
    assert!(!outcome.out().contains("sesame"), "{outcome:?}");
    let (usable, said) = test(&daemon)?;
    assert!(usable, "{said}");
    daemon.terminate()?.success()?;
    for entry in fs_err::read_dir(home.overside_home())? {
        let path = entry?.path();
        let text = if path.is_file() { fs_err::read(&path)? } else { Vec::new() };
        assert!(!String::from_utf8_lossy(&text).contains("sesame"), "the passphrase is in {}", path.display());
    }
    Ok(())
}

#[test]
fn a_refused_login_says_what_was_tried() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup { config: "DenyUsers root", ..Setup::default() })?;
    let daemon = Daemon::start(&home)?;
    let refused = add(&daemon, &sshd, "root")?;
    assert!(refused.err().contains("FAILED  login") && refused.err().contains("id_ed25519"), "{refused:?}");
    assert!(refused.err().contains("ssh-copy-id"), "{refused:?}");
    assert!(refused.err().contains("-       agent"), "what was not reached is told: {refused:?}");
    fs_err::remove_file(ssh_file(&home, "id_ed25519"))?;
    let (usable, said) = test(&daemon)?;
    assert!(!usable && said.contains("there is no key to try"), "{said}");
    Ok(())
}

#[test]
fn a_server_that_takes_passwords_only_is_named() -> Result<()> {
    let home = TempHome::new()?;
    let config = "PubkeyAuthentication no\nMatch all\nPasswordAuthentication yes";
    let sshd = Sshd::start(&home, Setup { config, ..Setup::default() })?;
    let daemon = Daemon::start(&home)?;
    let refused = add(&daemon, &sshd, "root")?;
    assert!(refused.code() != 0 && refused.err().contains("password"), "{refused:?}");
    Ok(())
}

#[test]
fn the_ssh_agent_is_asked_before_any_file() -> Result<()> {
    let home = TempHome::new()?;
    let socket = home.scratch().join("agent.sock");
    let home = home.with("SSH_AUTH_SOCK", &socket);
    let sshd = Sshd::start(&home, Setup::default())?;
    let agent = Running::spawn(home.command("ssh-agent").arg("-D").arg("-a").arg(&socket))?;
    agent.wait_for("SSH_AUTH_SOCK", LIMIT)?;
    let mut ssh_add = home.command("ssh-add");
    run(ssh_add.arg("-q").arg(ssh_file(&home, "id_ed25519")), LIMIT)?.success()?;
    fs_err::remove_file(ssh_file(&home, "id_ed25519"))?;
    let daemon = Daemon::start(&home)?;
    add(&daemon, &sshd, "root")?.success()?;
    let (usable, said) = test(&daemon)?;
    assert!(usable && said.contains("with the agent's SHA256:"), "{said}");
    Ok(())
}

#[test]
fn a_certificate_beside_the_key_lets_its_user_in() -> Result<()> {
    let home = TempHome::new()?;
    let ssh = home.scratch().join("user/.ssh");
    fs_err::create_dir_all(&ssh)?;
    let authority = home.scratch().join("authority");
    keygen(&home, &["-t", "ed25519", "-N", "", "-f", &authority.display().to_string()])?;
    // The first value that is found holds, but in a Match block.
    let config = format!("TrustedUserCAKeys {}.pub\nMatch all\nAuthorizedKeysFile none", authority.display());
    let sshd = Sshd::start(&home, Setup { config: &config, ..Setup::default() })?;
    let public = ssh_file(&home, "id_ed25519.pub").display().to_string();
    keygen(&home, &["-s", &authority.display().to_string(), "-I", "me", "-n", "root", &public])?;
    let daemon = Daemon::start(&home)?;
    add(&daemon, &sshd, "root")?.success()?;
    let (usable, said) = test(&daemon)?;
    assert!(usable && said.contains("with the certificate for"), "{said}");
    Ok(())
}

#[test]
fn two_jump_hosts_lead_to_a_third_and_each_is_checked() -> Result<()> {
    let home = TempHome::new()?;
    let servers = ["1", "2", "3"].map(|name| Sshd::named(&home, name, Setup::default()));
    let [first, second, third] = servers;
    let (first, second, third) = (first?, second?, third?);
    let host = |name: &str, port: u16, jump: &str| {
        format!("Host {name}\n HostName 127.0.0.1\n Port {port}\n User root\n ProxyJump {jump}\n")
    };
    let config = [
        host("first", first.port(), "none"),
        host("second", second.port(), "first"),
        host("third", third.port(), "second"),
    ];
    fs_err::write(ssh_file(&home, "config"), config.concat())?;
    let daemon = Daemon::start(&home)?;
    let mut arguments = vec!["runner".to_owned(), "add".into(), NAME.into(), "ssh://third".into()];
    for sshd in [&first, &second] {
        arguments.extend(["--accept-host-key".to_owned(), sshd.fingerprint()?]);
    }
    let run = |arguments: &[String]| daemon.overside(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = run(&arguments)?;
    assert!(refused.code() != 0 && refused.err().contains(&third.fingerprint()?), "{refused:?}");
    arguments.extend(["--accept-host-key".to_owned(), third.fingerprint()?]);
    let added = run(&arguments)?.success()?;
    assert_eq!(added.err().matches("jump  ").count(), 2, "{added:?}");
    daemon.overside(&["runner", "default", NAME])?.success()?;
    daemon.overside(&["start"])?.success()?;
    overside_e2e::docker(&home, &["volume", "create", "vol"])?.success()?;

    drop(second);
    let (usable, said) = test(&daemon)?;
    assert!(!usable && said.contains("FAILED  jump"), "{said}");
    assert!(said.contains("second"), "{said}");
    Ok(())
}

#[test]
fn a_host_that_is_not_there_is_told_hop_by_hop() -> Result<()> {
    let home = TempHome::new()?;
    let daemon = Daemon::start(&home)?;
    // The name is one that no resolver knows (RFC 6761); nobody listens on the port.
    for (address, failed) in [("ssh://me@nowhere.invalid", "FAILED  dns"), ("ssh://me@127.0.0.1:1", "FAILED  tcp")] {
        let outcome = daemon.overside(&["runner", "add", NAME, address])?;
        assert!(outcome.code() != 0 && outcome.err().contains(failed), "{outcome:?}");
        daemon.overside(&["runner", "rm", NAME])?.success()?;
    }
    Ok(())
}

#[test]
fn a_server_that_is_no_ssh_server_is_named() -> Result<()> {
    let home = TempHome::new()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let answering = std::thread::spawn(move || -> std::io::Result<()> {
        for _ in 0..2 {
            std::io::Write::write_all(&mut listener.accept()?.0, b"HTTP/1.0 400 Bad Request\r\n\r\n")?;
        }
        Ok(())
    });
    let daemon = Daemon::start(&home)?;
    let outcome = daemon.overside(&["runner", "add", NAME, &format!("ssh://me@127.0.0.1:{port}")])?;
    assert!(outcome.code() != 0 && outcome.err().contains("does not speak SSH"), "{outcome:?}");
    // It waits for both of the connections that adding makes.
    answering.join().ok().context("the server panicked")??;
    Ok(())
}

#[test]
fn a_session_survives_the_daemons_death_on_another_host_too() -> Result<()> {
    let home = TempHome::new()?;
    let sshd = Sshd::start(&home, Setup::default())?;
    let daemon = Daemon::enabled(&home)?;
    choose(&daemon, &sshd, "root")?;
    overside_e2e::docker(&home, &["volume", "create", "kept"])?.success()?;
    daemon.kill()?;
    let daemon = Daemon::start(&home)?;
    assert_eq!(overside_e2e::docker(&home, &["volume", "ls", "--quiet"])?.success()?.out(), "kept\n");
    daemon.overside(&["stop", "-f"])?.success()?;
    Ok(())
}
