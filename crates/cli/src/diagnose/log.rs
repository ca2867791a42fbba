//! The daemon's log files, read back.

use std::path::{Path, PathBuf};

use jiff::{Timestamp, civil::Date};
use overside_model::LogLine;
use serde_json::{Map, Value};

/// What is read of one file at most, from its end, in bytes.
const MAX_FILE: usize = 4 << 20;

/// One entry of a log file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) level: &'static str,
    /// The module that wrote it, `overside_engine::hub`.
    pub(super) target: String,
    pub(super) fields: Map<String, Value>,
}

/// The log files and their days, the oldest first. Other files in the directory are none of the daemon's log.
pub(super) fn files(directory: &Path) -> Vec<(Date, PathBuf)> {
    let day = |name: &str| name.strip_prefix("daemon.")?.strip_suffix(".log")?.parse::<Date>().ok();
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some((day(entry.file_name().to_str()?)?, entry.path()))).collect();
    files.sort();
    files
}

/// The entries of one file, in order. Lines that are no entries are left out.
pub(super) fn entries(file: &Path) -> Vec<Entry> {
    let bytes = fs_err::read(file).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(MAX_FILE)..];
    end.split(|byte| *byte == b'\n').filter_map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let level = match text("level")? {
        "ERROR" => "error",
        "WARN" => "warn",
        "INFO" => "info",
        "DEBUG" => "debug",
        "TRACE" => "trace",
        _ => return None,
    };
    Some(Entry {
        at: text("timestamp")?.parse().ok()?,
        level,
        target: text("target")?.to_owned(),
        fields: line.get("fields").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
}

/// The last lines of all files, the oldest first.
pub(super) fn last_lines(directory: &Path, count: usize) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for (_, file) in files(directory).into_iter().rev() {
        let earlier: Vec<_> = entries(&file).into_iter().map(|entry| line(&entry)).collect();
        lines.splice(0..0, earlier);
        if lines.len() >= count {
            break;
        }
    }
    lines.split_off(lines.len().saturating_sub(count))
}

/// The message first, then what else there is.
fn line(entry: &Entry) -> LogLine {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut message = entry.fields.get("message").map(plain).unwrap_or_default();
    for (name, value) in entry.fields.iter().filter(|(name, _)| *name != "message") {
        // What went wrong reads like a sentence; the rest is named.
        let detail = if matches!(name.as_str(), "error" | "problem") {
            plain(value)
        } else {
            format!("{name}={}", plain(value))
        };
        message = if message.is_empty() { detail } else { format!("{message}: {detail}") };
    }
    LogLine { at: entry.at.to_string(), level: entry.level.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_several_days_are_told_in_order_and_nonsense_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(directory.path().join(name), text).unwrap();
        let entry = |second: u8, message: &str| {
            format!(
                r#"{{"timestamp":"2026-11-25T10:00:0{second}.5Z","level":"WARN","fields":{{"message":"{message}","error":"no room","pid":7}},"target":"overside"}}"#
            )
        };
        write("daemon.2026-11-24.log", &format!("{}\n{}\n", entry(1, "one"), entry(2, "two")));
        write("daemon.2026-11-25.log", &format!("{{\nnonsense\n{}\n{}", entry(3, "three"), &entry(4, "half")[..40]));
        write("daemon.stderr", &entry(9, "another file"));
        let told: Vec<_> = last_lines(directory.path(), 2).into_iter().map(|line| line.message).collect();
        assert_eq!(told, ["two: no room: pid=7", "three: no room: pid=7"]);
        assert_eq!(last_lines(directory.path(), 200).len(), 3);
        assert_eq!(last_lines(&directory.path().join("none"), 200), []);
    }
}
