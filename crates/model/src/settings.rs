//! Settings: names, defaults, ranges. How they are stored is `config`'s matter.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Map, Value};

use crate::{ErrorCode, Problem};

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
    /// Compute time a day after which prompts come hourly, 0 s to 24 h.
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
            daily_limit: Duration::from_secs(8 * 3600),
            runner: "local".to_owned(),
            milli_cpus: 4000,
            memory_bytes: 8 << 30,
            select_context: true,
            default_socket: false,
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
const HOUR: Duration = Duration::from_secs(3600);

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
        get: |s| ByteSize::b(s.memory_bytes).display().iec().to_string().replace(' ', "").replace(".0", "").into(),
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

fn runner_name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let valid = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-');
    valid.then(|| text.to_owned())
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

fn cpus_value(milli: u64) -> Value {
    if milli.is_multiple_of(1000) { (milli / 1000).into() } else { (milli as f64 / 1000.0).into() }
}

fn size(value: &Value, least: u64, most: u64) -> Option<u64> {
    let bytes = value.as_str()?.parse::<ByteSize>().ok()?.as_u64();
    (least..=most).contains(&bytes).then_some(bytes)
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
        ] {
            assert!(Settings::default().set(name, &value).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_command_line_passes_text_for_every_kind() {
        let mut settings = Settings::default();
        settings.set("enabled", &json!("true")).unwrap();
        settings.set("size.cpus", &json!("1.5")).unwrap();
        assert!(settings.enabled);
        assert_eq!(settings.milli_cpus, 1500);
    }
}
