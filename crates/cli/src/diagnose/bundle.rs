//! The bundle: a ZIP file for whoever is asked for help, safe by what may go in and not by what is taken out.
//!
//! Numbers, switches and names of closed lists are written as they are. Texts go through [`Words`], which keeps Overside's own
//! words and no other. Of the log only known fields are taken. Environment variables are named where they matter, and their
//! values are not read.

use std::{
    env,
    io::{self, Cursor, Write},
    path::Path,
};

use jiff::Timestamp;
use overside_config::{Home, write_private};
use overside_model::{ErrorCode, Hop, Problem, Status, settings::TABLE};
use serde_json::{Map, Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Findings, applied, log, words::Words};

/// Fields of the log that are taken.
const FIELDS: &[&str] = &[
    "message",
    "error",
    "problem",
    "reason",
    "effect",
    "state",
    "status",
    "code",
    "environment",
    "version",
    "timings",
    "on",
];
/// Variables that change what docker and Overside do; that they are set is told, and not to what.
const VARIABLES: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "OVERSIDE_HOME",
    "OVERSIDE_AGENT",
    "OVERSIDE_ENGINE_PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
];
/// Entries of one day's log that are taken, the last ones.
const ENTRIES: usize = 5000;
const ABOUT: &str = "\
What `overside diagnose --bundle` collected, to be sent to whoever is asked for help.

system.json     versions, operating system, which variables are set (not to what)
diagnosis.json  the hops from docker to the engine, and how each fared
settings.json   settings and where they come from; names of runners and programs are left out
status.json     what `overside status` shows, as numbers and words
log/            the daemon's log, its known fields only

Texts hold the words that Overside itself uses and small numbers. Everything else in them, such as names, paths, addresses
and whatever was typed, was left out before it was written, and has this in its place: \u{2026}
";

/// Writes the bundle, 0600, and returns its absolute path.
pub(super) fn write(file: &Path, home: &Home, findings: &Findings) -> Result<String, Problem> {
    let unwritable = |error: io::Error| {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let code = if full { ErrorCode::DiskFull } else { ErrorCode::InvalidSettings };
        Problem::new(code, format!("the bundle cannot be written: {error}"), "Choose another file.")
    };
    let file = std::path::absolute(file).map_err(unwritable)?;
    // A directory that was mistyped is not made.
    if let Some(parent) = file.parent() {
        fs_err::metadata(parent).map_err(unwritable)?;
    }
    let archive = archive(home, findings).map_err(|error| unwritable(io::Error::other(error)))?;
    write_private(&file, &archive).map_err(unwritable)?;
    Ok(file.display().to_string())
}

fn archive(home: &Home, findings: &Findings) -> zip::result::ZipResult<Vec<u8>> {
    let words = Words::new(home);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o600);
    let mut add = |name: &str, content: &str| -> zip::result::ZipResult<()> {
        archive.start_file(format!("overside-diagnosis/{name}"), options)?;
        Ok(archive.write_all(content.as_bytes())?)
    };
    add("README.txt", ABOUT)?;
    for (name, content) in [
        ("system.json", system()),
        ("diagnosis.json", findings.hops.iter().map(|it| hop(it, &words)).collect()),
        ("settings.json", settings(findings, &words)),
        ("status.json", findings.status.as_ref().map_or(Value::Null, |it| status(it, &words))),
    ] {
        add(name, &format!("{content:#}\n"))?;
    }
    for (day, file) in log::files(&home.logs()) {
        let entries = log::entries(&file);
        let last = &entries[entries.len().saturating_sub(ENTRIES)..];
        add(&format!("log/daemon.{day}.log"), &last.iter().map(|it| line(it, &words)).collect::<String>())?;
    }
    Ok(archive.finish()?.into_inner())
}

fn system() -> Value {
    let set: Map<String, Value> =
        VARIABLES.iter().map(|name| ((*name).to_owned(), env::var_os(name).is_some().into())).collect();
    json!({
        "bundle": 1,
        "made": Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "os": env::consts::OS,
        "architecture": env::consts::ARCH,
        "kernel": kernel(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "set": set,
    })
}

/// The numbers of the kernel's release.
#[cfg(unix)]
fn kernel() -> String {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    release.chars().take_while(|character| character.is_ascii_digit() || *character == '.').take(16).collect()
}

#[cfg(not(unix))]
fn kernel() -> String {
    String::new()
}

fn hop(hop: &Hop, words: &Words) -> Value {
    json!({
        "name": words.keep(&hop.name),
        "status": hop.status,
        "detail": words.keep(&hop.detail),
        "hint": words.keep(&hop.hint),
        "took_ms": hop.took_ms,
    })
}

fn problem(problem: &Problem, words: &Words) -> Value {
    json!({ "code": problem.code, "message": words.keep(&problem.message), "hint": words.keep(&problem.hint) })
}

/// Values are those that were understood: a duration is one, whatever stands in the file.
fn settings(findings: &Findings, words: &Words) -> Value {
    let own = findings.settings.clone().unwrap_or_default();
    let value = |name: &str| match applied(&findings.settings, &findings.policy).get(name).unwrap_or_default() {
        Value::String(text) if is_measure(&text) => text.into(),
        Value::String(text) => words.keep(&text).into(),
        Value::Array(list) => json!({ "count": list.len() }),
        number_or_switch => number_or_switch,
    };
    let source = |name: &str| findings.policy.as_ref().map_or("unknown", |policy| policy.source(name, &own).name());
    let table: Map<String, Value> = TABLE
        .iter()
        .map(|row| (row.name.to_owned(), json!({ "value": value(row.name), "from": source(row.name) })))
        .collect();
    json!({
        "settings": table,
        "unknown_names": own.unknown.len(),
        "error": findings.settings.as_ref().err().map(|it| problem(it, words)),
        "policy": match &findings.policy {
            Ok(policy) if policy.is_none() => json!("none"),
            Ok(_) => json!("in force"),
            Err(it) => problem(it, words),
        },
    })
}

/// Numbers with units, `1m 30s`, `8GiB`, as settings have them.
fn is_measure(text: &str) -> bool {
    let measured = |part: &str| {
        let unit = part.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
        part.len() - unit.len() <= 6
            && part != unit
            && ["ms", "s", "m", "h", "day", "B", "MiB", "GiB", "TiB"].contains(&unit)
    };
    !text.is_empty() && text.split(' ').all(measured)
}

/// How much there is of what users name, and not how it is named.
fn status(status: &Status, words: &Words) -> Value {
    let kinds = |kinds: Vec<&str>| kinds.into_iter().map(|kind| words.keep(kind)).collect::<Vec<_>>();
    let moment = |text: &str| text.parse::<Timestamp>().map(|moment| moment.to_string()).ok();
    json!({
        "state": status.state,
        "session": status.session.as_ref().map(|session| json!({
            "id": session.id,
            "environment": session.environment,
            "started_at": moment(&session.started_at),
            "notes": session.notes.iter().map(|note| words.keep(note)).collect::<Vec<_>>(),
        })),
        "progress": status.progress.as_ref().map(|progress| words.keep(&progress.detail)),
        "awake_because": kinds(status.awake_because.iter().map(|reason| reason.kind.as_str()).collect()),
        "ignored_pollers": status.ignored_pollers.iter().map(|poller| poller.calls).collect::<Vec<_>>(),
        "idle_in_seconds": status.idle_in_seconds,
        "grace_remaining_seconds": status.grace_remaining_seconds,
        "prompt": status.prompt,
        "usage": status.usage,
        "at_risk": kinds(status.at_risk.iter().map(|work| work.kind.name()).collect()),
        "ports": status.ports.len(),
        "mounts": status.mounts.len(),
        "error": status.error.as_ref().map(|it| problem(it, words)),
    })
}

fn line(entry: &log::Entry, words: &Words) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut line = json!({
        "at": entry.at.to_string(),
        "level": entry.level,
        "target": words.module(&entry.target),
    });
    for name in FIELDS {
        if let Some(value) = entry.fields.get(*name) {
            line[*name] = words.keep(&plain(value)).into();
        }
    }
    format!("{line}\n")
}
