//! Settings: names, defaults, ranges. How they are stored is `config`'s matter.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ErrorCode, HostAccess, Problem, is_runner_name};

/// A value that a setting cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("there is no setting {name:?}; there are {}", names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// The value is of the wrong kind or out of range.
    #[error("{name} cannot be {value}: {expected}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// The value that was refused, as JSON.
        value: String,
        /// The accepted range, in words.
        expected: &'static str,
    },
    /// The file's top level is not an object.
    #[error("settings are one JSON object of names and values")]
    NotAnObject,
}

impl From<SettingError> for Problem {
    fn from(error: SettingError) -> Self {
        let code = match error {
            SettingError::Unknown { .. } => ErrorCode::UnknownName,
            SettingError::Invalid { .. } | SettingError::NotAnObject => ErrorCode::InvalidSettings,
        };
        Self::new(code, error.to_string(), "See `overside settings get` for names and values.")
    }
}

/// The language of the desktop app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    English,
    /// Simplified Chinese.
    #[serde(rename = "zh-CN")]
    SimplifiedChinese,
    /// The desktop's own, English where there are no texts in it.
    #[serde(rename = "system", other)]
    System,
}

impl Language {
    /// Its name in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::English => "en",
            Self::SimplifiedChinese => "zh-CN",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::System, Self::English, Self::SimplifiedChinese].into_iter().find(|language| language.name() == name)
    }
}

/// Every setting. Defaults and ranges: the table in docs/settings.md is made from [`TABLE`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Turned on.
    pub enabled: bool,
    /// Inactivity before Running becomes Suspended, 10 s to 1 h.
    pub idle_timeout: Duration,
    /// Time in Suspended before deletion, 0 s to 1 h.
    pub grace_period: Duration,
    /// How long containers or builds go on without contact, 0 s to 24 h.
    pub lost_contact: Duration,
    /// Longest time that provisioning may take, 5 s to 1 h.
    pub start_timeout: Duration,
    /// Inactivity after which the user is asked, if the idle timeout is longer, 10 s to 1 h.
    pub prompt_after: Duration,
    /// Time of a session between questions whether it is still needed, 1 min to 24 h.
    pub long_every: Duration,
    /// The same beyond the day's limit, 1 min to 24 h.
    pub long_every_over_limit: Duration,
    /// Time to answer them, 10 s to 1 h.
    pub long_answer_within: Duration,
    /// Compute time a day after which questions come more often, 0 s to 24 h.
    pub daily_limit: Duration,
    /// Name of the runner in use.
    pub runner: String,
    /// CPUs of an environment, in thousandths, 0.1 to 1024.
    pub milli_cpus: u64,
    /// Memory of an environment in bytes, 128 MiB to 64 TiB.
    pub memory_bytes: u64,
    /// Make `overside` the current Docker context while enabled.
    pub select_context: bool,
    /// Also serve the well-known Docker socket while enabled.
    pub default_socket: bool,
    /// Listen for published ports on loopback only, whatever address they are published on.
    pub ports_on_loopback: bool,
    /// Have the ports that containers with the environment's own network listen on here, too.
    pub ports_of_host_network: bool,
    /// What containers reach of this machine.
    pub host_access: HostAccess,
    /// Most files, directories and links of a bind mount, 1 to 10,000,000.
    pub mount_max_files: u64,
    /// Most bytes of a bind mount, 1 MiB to 64 TiB.
    pub mount_max_bytes: u64,
    /// Directories of the laptop that are brought into environments, and nothing back.
    pub mount_one_way: Vec<String>,
    /// Start the desktop app when the user logs in.
    pub start_at_login: bool,
    /// Show the desktop's notifications.
    pub notifications: bool,
    /// The language of the desktop app.
    pub language: Language,
    /// Programs whose calls always count as activity.
    pub always_count: Vec<String>,
    /// Programs whose questions never count as activity.
    pub never_count: Vec<String>,
    /// Price of an hour on the runner, in the user's currency; none where it costs nothing or is not known.
    pub price_per_hour: Option<f64>,
    /// Values of names that this version does not know, kept as they are.
    pub unknown: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            idle_timeout: Duration::from_secs(5 * 60),
            grace_period: Duration::from_secs(5 * 60),
            lost_contact: Duration::from_secs(30 * 60),
            start_timeout: Duration::from_secs(120),
            prompt_after: Duration::from_secs(3 * 60),
            long_every: Duration::from_secs(3 * 3600),
            long_every_over_limit: Duration::from_secs(3600),
            long_answer_within: Duration::from_secs(10 * 60),
            daily_limit: Duration::from_secs(8 * 3600),
            runner: "local".to_owned(),
            milli_cpus: 4000,
            memory_bytes: 8 << 30,
            select_context: true,
            default_socket: false,
            ports_on_loopback: false,
            ports_of_host_network: true,
            host_access: HostAccess::All,
            mount_max_files: 200_000,
            mount_max_bytes: 20 << 30,
            mount_one_way: Vec::new(),
            start_at_login: false,
            notifications: true,
            language: Language::System,
            always_count: Vec::new(),
            never_count: Vec::new(),
            price_per_hour: None,
            unknown: Map::new(),
        }
    }
}

/// One row of the table of settings.
pub struct Setting {
    /// The name in the file and on the command line.
    pub name: &'static str,
    /// The accepted values, in words.
    pub expected: &'static str,
    /// What it does, one sentence.
    pub purpose: &'static str,
    get: fn(&Settings) -> Value,
    set: fn(&mut Settings, &Value) -> Option<()>,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const AS_PUBLISHED: &str = "as-published";
const LOOPBACK: &str = "loopback";

/// All settings, in the order in which they are shown.
pub const TABLE: &[Setting] = &[
    Setting {
        name: "enabled",
        expected: "true or false",
        purpose: "Overside is turned on: its socket wakes an environment when a call needs one.",
        get: |s| s.enabled.into(),
        set: |s, v| boolean(v).map(|b| s.enabled = b),
    },
    Setting {
        name: "idle-timeout",
        expected: "a duration from 10s to 1h, such as 5m",
        purpose: "Inactivity before the environment is suspended.",
        get: |s| duration_text(s.idle_timeout),
        set: |s, v| duration(v, 10 * SECOND, HOUR).map(|d| s.idle_timeout = d),
    },
    Setting {
        name: "grace-period",
        expected: "a duration from 0s to 1h, such as 5m",
        purpose: "How long a suspended environment can be resumed before it is deleted.",
        get: |s| duration_text(s.grace_period),
        set: |s, v| duration(v, Duration::ZERO, HOUR).map(|d| s.grace_period = d),
    },
    Setting {
        name: "lost-contact",
        expected: "a duration from 0s to 24h, such as 30m",
        purpose: "How long running containers and builds go on after their client was lost.",
        get: |s| duration_text(s.lost_contact),
        set: |s, v| duration(v, Duration::ZERO, 24 * HOUR).map(|d| s.lost_contact = d),
    },
    Setting {
        name: "start-timeout",
        expected: "a duration from 5s to 1h, such as 2m",
        purpose: "How long provisioning an environment may take.",
        get: |s| duration_text(s.start_timeout),
        set: |s, v| duration(v, 5 * SECOND, HOUR).map(|d| s.start_timeout = d),
    },
    Setting {
        name: "prompt-after",
        expected: "a duration from 10s to 1h, such as 3m",
        purpose: "Inactivity after which you are asked, if the idle timeout is longer.",
        get: |s| duration_text(s.prompt_after),
        set: |s, v| duration(v, 10 * SECOND, HOUR).map(|d| s.prompt_after = d),
    },
    Setting {
        name: "long-session.every",
        expected: "a duration from 1m to 24h, such as 3h",
        purpose: "Time of a session after which you are asked whether it is still needed.",
        get: |s| duration_text(s.long_every),
        set: |s, v| duration(v, MINUTE, 24 * HOUR).map(|d| s.long_every = d),
    },
    Setting {
        name: "long-session.every-over-limit",
        expected: "a duration from 1m to 24h, such as 1h",
        purpose: "The same once the day's compute time has passed `fair-use.daily-limit`.",
        get: |s| duration_text(s.long_every_over_limit),
        set: |s, v| duration(v, MINUTE, 24 * HOUR).map(|d| s.long_every_over_limit = d),
    },
    Setting {
        name: "long-session.answer-within",
        expected: "a duration from 10s to 1h, such as 10m",
        purpose: "Time to answer that question before the environment is suspended.",
        get: |s| duration_text(s.long_answer_within),
        set: |s, v| duration(v, 10 * SECOND, HOUR).map(|d| s.long_answer_within = d),
    },
    Setting {
        name: "fair-use.daily-limit",
        expected: "a duration from 0s to 24h, such as 8h",
        purpose: "Compute time a day that counts as fair use.",
        get: |s| duration_text(s.daily_limit),
        set: |s, v| duration(v, Duration::ZERO, 24 * HOUR).map(|d| s.daily_limit = d),
    },
    Setting {
        name: "runner",
        expected: "the name of a runner: 1 to 32 characters of a-z, 0-9 and '-'",
        purpose: "Where environments are made.",
        get: |s| s.runner.clone().into(),
        set: |s, v| runner_name(v).map(|name| s.runner = name),
    },
    Setting {
        name: "size.cpus",
        expected: "a number of CPUs from 0.1 to 1024, such as 4",
        purpose: "CPUs of an environment (fewer where the runner has fewer).",
        get: |s| cpus_value(s.milli_cpus),
        set: |s, v| cpus(v).map(|c| s.milli_cpus = c),
    },
    Setting {
        name: "size.memory",
        expected: "a size from 128MiB to 64TiB, such as 8GiB",
        purpose: "Memory of an environment (less where the runner has less).",
        get: |s| size_text(s.memory_bytes),
        set: |s, v| size(v, 128 << 20, 64 << 40).map(|b| s.memory_bytes = b),
    },
    Setting {
        name: "context.select",
        expected: "true or false",
        purpose: "Make `overside` the current Docker context while Overside is on.",
        get: |s| s.select_context.into(),
        set: |s, v| boolean(v).map(|b| s.select_context = b),
    },
    Setting {
        name: "default-socket",
        expected: "true or false",
        purpose: "Also serve the well-known Docker socket while Overside is on, for tools that ignore contexts.",
        get: |s| s.default_socket.into(),
        set: |s, v| boolean(v).map(|b| s.default_socket = b),
    },
    Setting {
        name: "ports.bind",
        expected: "as-published or loopback",
        purpose: "Where published ports are on this machine: on the addresses that docker was given, or on loopback only.",
        get: |s| if s.ports_on_loopback { LOOPBACK } else { AS_PUBLISHED }.into(),
        set: |s, v| one_of(v, [AS_PUBLISHED, LOOPBACK]).map(|choice| s.ports_on_loopback = choice == LOOPBACK),
    },
    Setting {
        name: "ports.host-network",
        expected: "true or false",
        purpose: "Have what containers with `--network host` listen on here as well, on loopback.",
        get: |s| s.ports_of_host_network.into(),
        set: |s, v| boolean(v).map(|b| s.ports_of_host_network = b),
    },
    Setting {
        name: "host-access",
        expected: "true, false, or ports such as 3000,8000-8100",
        purpose: "Which TCP and UDP ports of this machine's loopback containers reach as `host.docker.internal`; others refuse.",
        get: |s| match &s.host_access {
            HostAccess::All => true.into(),
            HostAccess::Ports(none) if none.is_empty() => false.into(),
            ports => ports.to_string().into(),
        },
        set: |s, v| host_access(v).map(|access| s.host_access = access),
    },
    Setting {
        name: "mounts.max-files",
        expected: "a number from 1 to 10000000, such as 200000",
        purpose: "Files of this machine that a bind mount may have; of more it says where they are.",
        get: |s| s.mount_max_files.into(),
        set: |s, v| count(v, 10_000_000).map(|files| s.mount_max_files = files),
    },
    Setting {
        name: "mounts.max-bytes",
        expected: "a size from 1MiB to 64TiB, such as 20GiB",
        purpose: "What the files of a bind mount may have in all.",
        get: |s| size_text(s.mount_max_bytes),
        set: |s, v| size(v, 1 << 20, 64 << 40).map(|bytes| s.mount_max_bytes = bytes),
    },
    Setting {
        name: "mounts.one-way",
        expected: "absolute paths, separated by commas (at most 50)",
        purpose: "Directories of this machine that containers get and cannot change here: what they write there stays in the \
                  environment.",
        get: |s| s.mount_one_way.clone().into(),
        set: |s, v| paths(v).map(|paths| s.mount_one_way = paths),
    },
    Setting {
        name: "start-at-login",
        expected: "true or false",
        purpose: "Start the desktop app when you log in.",
        get: |s| s.start_at_login.into(),
        set: |s, v| boolean(v).map(|b| s.start_at_login = b),
    },
    Setting {
        name: "notifications",
        expected: "true or false",
        purpose: "Show questions, suspensions and failures as the desktop's notifications.",
        get: |s| s.notifications.into(),
        set: |s, v| boolean(v).map(|b| s.notifications = b),
    },
    Setting {
        name: "language",
        expected: "system, en or zh-CN",
        purpose: "The language of the tray and the window.",
        get: |s| s.language.name().into(),
        set: |s, v| Language::named(v.as_str()?).map(|language| s.language = language),
    },
    Setting {
        name: "pollers.always-count",
        expected: "names of programs, separated by commas (at most 50)",
        purpose: "Programs whose calls always count as activity, however even their rhythm is.",
        get: |s| s.always_count.clone().into(),
        set: |s, v| programs(v).map(|names| s.always_count = names),
    },
    Setting {
        name: "pollers.never-count",
        expected: "names of programs, separated by commas (at most 50)",
        purpose: "Programs whose questions never count as activity.",
        get: |s| s.never_count.clone().into(),
        set: |s, v| programs(v).map(|names| s.never_count = names),
    },
    Setting {
        name: "price-per-hour",
        expected: "a price from 0 to 10000, such as 0.12, or none",
        purpose: "What an hour on the runner costs, for the cost column of `overside usage`.",
        get: |s| s.price_per_hour.map_or_else(|| "none".into(), Value::from),
        set: |s, v| price(v).map(|price| s.price_per_hour = price),
    },
];

/// The names of all settings, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|setting| setting.name)
}

fn row(name: &str) -> Result<&'static Setting, SettingError> {
    TABLE
        .iter()
        .find(|setting| setting.name == name)
        .ok_or_else(|| SettingError::Unknown { name: name.chars().take(64).collect() })
}

impl Settings {
    /// Reads settings from the file's JSON. Missing names have their defaults; unknown names are kept.
    ///
    /// # Errors
    /// [`SettingError`] for a value that is refused; nothing is guessed.
    pub fn from_json(json: &Value) -> Result<Self, SettingError> {
        let Value::Object(object) = json else { return Err(SettingError::NotAnObject) };
        let mut settings = Self::default();
        for (name, value) in object {
            match settings.set(name, value) {
                Err(SettingError::Unknown { .. }) => {
                    settings.unknown.insert(name.clone(), value.clone());
                }
                other => other?,
            }
        }
        Ok(settings)
    }

    /// The file's JSON: every known name, then the unknown ones.
    pub fn to_json(&self) -> Value {
        let known = TABLE.iter().map(|setting| (setting.name.to_owned(), (setting.get)(self)));
        Value::Object(known.chain(self.unknown.clone()).collect())
    }

    /// The value of one setting.
    ///
    /// # Errors
    /// [`SettingError::Unknown`].
    pub fn get(&self, name: &str) -> Result<Value, SettingError> {
        row(name).map(|setting| (setting.get)(self))
    }

    /// Changes one setting. A JSON string is also accepted where a number or a boolean is meant, as it comes from a command
    /// line.
    ///
    /// # Errors
    /// [`SettingError`]; the settings are then unchanged.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), SettingError> {
        let setting = row(name)?;
        (setting.set)(self, value).ok_or_else(|| SettingError::Invalid {
            name: setting.name,
            value: value.to_string().chars().take(64).collect(),
            expected: setting.expected,
        })
    }
}

fn host_access(value: &Value) -> Option<HostAccess> {
    match boolean(value) {
        Some(true) => Some(HostAccess::All),
        Some(false) => Some(HostAccess::Ports(Vec::new())),
        // One port on a command line is a number.
        None => HostAccess::of_ports(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    }
}

fn one_of(value: &Value, choices: [&'static str; 2]) -> Option<&'static str> {
    choices.into_iter().find(|choice| value.as_str() == Some(choice))
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn duration(value: &Value, least: Duration, most: Duration) -> Option<Duration> {
    let parsed = humantime::parse_duration(value.as_str()?).ok()?;
    (least..=most).contains(&parsed).then_some(parsed)
}

fn duration_text(duration: Duration) -> Value {
    humantime::format_duration(duration).to_string().replace(' ', "").into()
}

/// Names without a path.
fn programs(value: &Value) -> Option<Vec<String>> {
    list(value).filter(|names| names.iter().all(|name| name.len() <= 128))
}

/// Absolute paths, of any system: where they lead is looked at when something is mounted.
fn paths(value: &Value) -> Option<Vec<String>> {
    let absolute = |path: &String| {
        let has_drive = matches!(path.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
        path.len() <= 4096 && (path.starts_with('/') || has_drive)
    };
    list(value).filter(|paths| paths.iter().all(absolute))
}

/// A list, or text with commas as it comes from a command line; the empty text is the empty list.
fn list(value: &Value) -> Option<Vec<String>> {
    let names: Vec<String> = match value {
        Value::Array(list) => list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        Value::String(text) => {
            text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        }
        _ => return None,
    };
    let valid = |name: &String| !name.is_empty() && !name.chars().any(char::is_control);
    (names.len() <= 50 && names.iter().all(valid)).then_some(names)
}

#[expect(clippy::option_option, reason = "refused, or a price, or none")]
fn price(value: &Value) -> Option<Option<f64>> {
    let price = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) if text == "none" => return Some(None),
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    (0.0..=10_000.0).contains(&price).then_some(Some(price))
}

fn runner_name(value: &Value) -> Option<String> {
    value.as_str().filter(|text| is_runner_name(text)).map(str::to_owned)
}

fn cpus(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    // The range is checked first, so that the conversion cannot overflow or lose a sign.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 100 and 1,024,000")]
    (0.1..=1024.0).contains(&number).then(|| (number * 1000.0).round() as u64)
}

fn count(value: &Value, most: u64) -> Option<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (1..=most).contains(&number).then_some(number)
}

fn cpus_value(milli: u64) -> Value {
    if milli.is_multiple_of(1000) { (milli / 1000).into() } else { (milli as f64 / 1000.0).into() }
}

fn size(value: &Value, least: u64, most: u64) -> Option<u64> {
    let bytes = value.as_str()?.parse::<ByteSize>().ok()?.as_u64();
    (least..=most).contains(&bytes).then_some(bytes)
}

/// As people write it where that says it all, or the bytes: what is stored is what was set.
fn size_text(bytes: u64) -> Value {
    let rounded = ByteSize::b(bytes).display().iec().to_string().replace(' ', "").replace(".0", "");
    let exact = rounded.parse().is_ok_and(|size: ByteSize| size.as_u64() == bytes);
    if exact { rounded.into() } else { format!("{bytes}B").into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_defaults_survive_a_round_trip_through_the_file() {
        let settings = Settings::default();
        assert_eq!(Settings::from_json(&settings.to_json()), Ok(settings));
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        let json = Settings::default().to_json();
        assert_eq!(json["idle-timeout"], "5m");
        assert_eq!(json["size.memory"], "8GiB");
        assert_eq!(json["size.cpus"], 4);
    }

    #[test]
    fn a_size_that_is_no_round_number_is_stored_as_it_was_set() {
        for size in ["1000000007B", "134217729", "1.3GiB", "64TiB"] {
            let mut settings = Settings::default();
            settings.set("size.memory", &json!(size)).unwrap();
            assert_eq!(Settings::from_json(&settings.to_json()), Ok(settings), "{size}");
        }
    }

    #[test]
    fn unknown_names_are_kept() {
        let settings = Settings::from_json(&json!({"from-the-future": [1]})).unwrap();
        assert_eq!(settings.to_json()["from-the-future"], json!([1]));
    }

    #[test]
    fn a_refused_value_names_the_accepted_range_and_changes_nothing() {
        let mut settings = Settings::default();
        let error = settings.set("idle-timeout", &json!("9s")).unwrap_err();
        assert_eq!(error.to_string(), "idle-timeout cannot be \"9s\": a duration from 10s to 1h, such as 5m");
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn every_bad_value_is_refused() {
        for (name, value) in [
            ("enabled", json!(1)),
            ("idle-timeout", json!(300)),
            ("idle-timeout", json!("61m")),
            ("grace-period", json!("-1s")),
            ("size.cpus", json!(0)),
            ("size.cpus", json!("NaN")),
            ("size.memory", json!("1MiB")),
            ("runner", json!("../x")),
            ("prompt-after", json!("5s")),
            ("long-session.answer-within", json!("2h")),
            ("pollers.never-count", json!([1])),
            ("pollers.never-count", json!(["a\nb"])),
            ("language", json!("klingon")),
            ("notifications", json!("maybe")),
            ("mounts.max-files", json!(0)),
            ("mounts.max-bytes", json!("1KiB")),
            ("mounts.one-way", json!("src")),
            ("mounts.one-way", json!(["C:work"])),
            ("price-per-hour", json!(-1)),
            ("price-per-hour", json!("NaN")),
        ] {
            assert!(Settings::default().set(name, &value).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_command_line_passes_text_for_every_kind() {
        let mut settings = Settings::default();
        settings.set("enabled", &json!("true")).unwrap();
        settings.set("size.cpus", &json!("1.5")).unwrap();
        settings.set("pollers.never-count", &json!("code, lazydocker")).unwrap();
        assert_eq!(settings.never_count, ["code", "lazydocker"]);
        settings.set("mounts.one-way", &json!(r"/srv/data, C:\work")).unwrap();
        assert_eq!(settings.mount_one_way, ["/srv/data", r"C:\work"]);
        settings.set("price-per-hour", &json!("0.25")).unwrap();
        assert_eq!(settings.price_per_hour, Some(0.25));
        settings.set("price-per-hour", &json!("none")).unwrap();
        assert_eq!(settings.price_per_hour, None);
        assert!(settings.enabled);
        assert_eq!(settings.milli_cpus, 1500);
    }
}
