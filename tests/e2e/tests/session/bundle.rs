//! The bundle of `overside diagnose` holds what helps, and no secret, wherever one was planted.

use std::{collections::BTreeMap, fs::File, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use overside_e2e::{docker, with_stand_in};
use overside_testkit::{Daemon, IMAGE, LIMIT, TempHome, busybox_archive, run};
use serde_json::{Value, json};

/// Secrets of the kinds that people have, each planted in a place of its own.
const PASSWORD: &str = "hunter2-Kennwort";
const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
/// `ann:hunter2-Kennwort` in base64, as registries' logins are kept.
const LOGIN: &str = "YW5uOmh1bnRlcjItS2VubndvcnQ=";
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJxPlantedKey";
/// No secrets, and nobody else's business.
const NAMES: &[&str] = &["geheimprojekt", "intranet.example.org", "10.20.30.40", "ann"];

/// Writes a bundle in a home and reads its files.
fn bundle(home: &TempHome) -> Result<BTreeMap<String, String>> {
    let file = home.scratch().join("bundle.zip");
    let outcome = run(home.overside(&["diagnose", "--bundle"])?.arg(&file), LIMIT)?;
    ensure!(outcome.out().contains(&*file.to_string_lossy()), "{outcome:?}");
    assert_eq!(fs_err::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let mut archive = zip::ZipArchive::new(File::open(&file)?)?;
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        files.insert(entry.name()?.trim_start_matches("overside-diagnosis/").to_owned(), text);
    }
    Ok(files)
}

/// Requires that none of these stands in any file, whole or in pieces that say as much.
fn holds_none_of(files: &BTreeMap<String, String>, home: &TempHome) -> Result<()> {
    let secrets = [PASSWORD, TOKEN, LOGIN, KEY, "hunter2", "ghp_16C7"].iter().chain(NAMES).map(|it| (*it).to_owned());
    let places = [home.overside_home(), home.scratch().to_owned()].map(|it| it.display().to_string());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for word in secrets.chain(places).chain([host]) {
        for (name, text) in files {
            let inside = |text: &str| {
                text.split(|it: char| !it.is_alphanumeric() && !"-_.+=/".contains(it)).any(|it| it == word)
            };
            // Short names may be a part of a word that says something else.
            let found = if word.len() > 4 { text.contains(&word) } else { inside(text) };
            ensure!(!found, "{word:?} stands in {name}:\n{text}");
        }
    }
    Ok(())
}

fn json_of(files: &BTreeMap<String, String>, name: &str) -> Result<Value> {
    let text = files.get(name).with_context(|| format!("no {name} among {:?}", files.keys()))?;
    serde_json::from_str(text).with_context(|| text.clone())
}

/// Adds a line to the newest log, as a daemon that logs too much would write it.
fn log(home: &TempHome, fields: &Value) -> Result<()> {
    let line = json!({
        "timestamp": "2026-11-25T10:00:00Z",
        "level": "WARN",
        "target": format!("overside_engine::{TOKEN}"),
        "fields": fields,
    });
    let logs = home.overside_home().join("logs");
    fs_err::create_dir_all(&logs)?;
    let file = logs.join("daemon.2026-11-24.log");
    let before = fs_err::read_to_string(&file).unwrap_or_default();
    Ok(fs_err::write(file, format!("{before}{line}\n"))?)
}

#[test]
fn no_secret_goes_in_from_a_session_in_which_they_are_everywhere() -> Result<()> {
    let home = TempHome::new()?
        .with("HTTP_PROXY", format!("http://ann:{PASSWORD}@intranet.example.org:3128"))
        .with("DOCKER_HOST", format!("tcp://ann:{PASSWORD}@10.20.30.40:2375"))
        .with("SSH_AUTH_SOCK", format!("/tmp/{TOKEN}"))
        .with("OVERSIDE_TOKEN", TOKEN);
    fs_err::create_dir_all(home.docker_config())?;
    let auths = json!({ "auths": { "intranet.example.org": { "auth": LOGIN } }, "HttpHeaders": { "X-Token": TOKEN } });
    fs_err::write(home.docker_config().join("config.json"), auths.to_string())?;
    let settings = json!({
        "pollers.never-count": ["geheimprojekt"],
        "price-per-hour": "0.12",
        TOKEN: "unknown names are kept",
        "registry-password": PASSWORD,
    });
    fs_err::write(home.overside_home().join("settings.json"), settings.to_string())?;
    log(
        &home,
        &json!({ "message": format!("cannot reach http://ann:{PASSWORD}@intranet.example.org"), "error": KEY, "password": PASSWORD }),
    )?;
    log(&home, &json!({ "message": "cannot accept a connection", "reason": format!("token={TOKEN}, for ann") }))?;

    let daemon = Daemon::enabled(&home)?;
    let host = format!("unix://{}", home.docker_socket().display());
    let call = |arguments: &[&str]| docker(&home, &[&["--host", &host], arguments].concat());
    let archive = home.scratch().join("busybox.tar");
    fs_err::write(&archive, busybox_archive()?)?;
    call(&["load", "--input", &archive.to_string_lossy()])?.success()?;
    let variable = format!("PASSWORD={PASSWORD}");
    let container = ["run", "--detach", "--name", TOKEN, "--env", &variable, "--volume", "geheimprojekt:/data", IMAGE];
    call(&[&container[..], &["sleep", "100000"]].concat())?.success()?;
    // Refused by the registry's absence: what docker and the engine say names all of it.
    let pull = call(&["pull", "intranet.example.org/geheimprojekt:latest"])?;
    assert_ne!(pull.code(), 0, "{pull:?}");
    let key = fs_err::read_to_string(home.overside_home().join("session/key"))?;
    let files = bundle(&home)?;
    holds_none_of(&files, &home)?;
    for line in key.lines().filter(|line| !line.starts_with("-----")) {
        ensure!(files.values().all(|text| !text.contains(line)), "a line of the session's key: {line}");
    }

    // And it says enough to be of use.
    let status = json_of(&files, "status.json")?;
    let session = daemon.status()?.session.context("no session")?;
    assert_eq!((&status["state"], &status["session"]["id"]), (&json!("running"), &json!(session.id)));
    let found = json_of(&files, "diagnosis.json")?;
    let hop = |name: &str| found.as_array()?.iter().find(|hop| hop["name"] == name).cloned();
    let context = hop("context").context("no hop context")?;
    assert_eq!(context["status"], "failed");
    assert!(
        context["detail"].as_str().is_some_and(|it| it.starts_with("DOCKER_HOST overrides the Docker context")),
        "{context}"
    );
    let settings = json_of(&files, "settings.json")?;
    assert_eq!(settings["settings"]["price-per-hour"], json!({ "value": 0.12, "from": "user" }));
    assert_eq!(settings["settings"]["pollers.never-count"]["value"], json!({ "count": 1 }));
    assert_eq!(settings["unknown_names"], 2);
    let system = json_of(&files, "system.json")?;
    assert_eq!((&system["set"]["DOCKER_HOST"], &system["set"]["DOCKER_CONTEXT"]), (&json!(true), &json!(false)));
    let said: String =
        files.iter().filter(|(name, _)| name.starts_with("log/")).map(|(_, text)| text.as_str()).collect();
    for phrase in ["the daemon starts", "there is an environment", "cannot accept a connection", "cannot reach …"] {
        assert!(said.contains(phrase), "{phrase}: {said}");
    }
    assert!(files.contains_key("README.txt"));
    Ok(())
}

#[test]
fn what_an_agent_says_as_it_dies_does_not_go_in_either() -> Result<()> {
    let home = with_stand_in(&format!("read line; echo 'cannot read {TOKEN} of geheimprojekt' >&2; kill -9 $$"))?;
    let daemon = Daemon::enabled(&home)?;
    docker(&home, &["volume", "create", "vol"])?;
    let problem = daemon.status()?.error.context("the start did not fail")?;
    assert!(problem.message.contains(TOKEN), "{problem:?}");
    let files = bundle(&home)?;
    holds_none_of(&files, &home)?;
    let status = json_of(&files, "status.json")?;
    assert_eq!((&status["state"], &status["error"]["code"]), (&json!("failed"), &json!(problem.code)));
    assert!(status["error"]["message"].as_str().is_some_and(|it| it.contains('…')), "{status}");
    Ok(())
}

#[test]
fn a_home_without_a_daemon_has_a_bundle_as_well() -> Result<()> {
    let home = TempHome::new()?;
    fs_err::write(home.overside_home().join("settings.json"), format!("{{ \"{TOKEN}"))?;
    log(&home, &json!({ "message": "the daemon starts", "version": "0.1.0" }))?;
    let files = bundle(&home)?;
    holds_none_of(&files, &home)?;
    assert_eq!(json_of(&files, "status.json")?, Value::Null);
    assert_eq!(json_of(&files, "settings.json")?["error"]["code"], "invalid-settings");
    assert!(files["log/daemon.2026-11-24.log"].contains("the daemon starts"), "{files:?}");
    Ok(())
}

#[test]
fn a_place_that_does_not_exist_is_refused_and_not_made() -> Result<()> {
    let home = TempHome::new()?;
    let file = home.scratch().join("mistyped/bundle.zip");
    let outcome = run(home.overside(&["diagnose", "--bundle"])?.arg(&file), LIMIT)?;
    assert_eq!(outcome.code(), 1);
    assert!(outcome.err().contains("bundle") && outcome.err().contains("mistyped"), "{outcome:?}");
    assert!(!Path::new(&file).parent().is_some_and(Path::exists));
    Ok(())
}
