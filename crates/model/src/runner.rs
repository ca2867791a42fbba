//! Runners and the way to them, as shells show them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Problem};

/// A runner as it is added: its name in the settings, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub struct RunnerEntry {
    /// 1 to 32 characters of a-z, 0-9 and '-', not beginning with '-'.
    pub name: String,
    /// An address with its scheme: `ssh://me@office`.
    pub address: String,
    /// Price of an hour on it, in the user's currency; without it the setting of the same name holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
}

/// Whether a runner can have this name.
pub fn is_runner_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
}

/// What only a person can decide or knows on the way to a runner. Nothing is trusted and no secret is stored unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "question", rename_all = "kebab-case")]
pub enum Question {
    /// A host shows a key that nobody has accepted yet.
    HostKey(HostKey),
    /// A private key is encrypted.
    Passphrase {
        /// The key's file.
        key: String,
    },
}

/// The key by which a host is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct HostKey {
    /// The host as known_hosts names it: `office`, `[office]:2222`.
    pub host: String,
    /// Kind of key: `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:…`, as OpenSSH shows it.
    pub fingerprint: String,
}

/// A person's answer to a [`Question`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// This key is the host's.
    HostKey(HostKey),
    /// The passphrase of a private key.
    Passphrase {
        /// The key's file, as the question named it.
        key: String,
        /// The passphrase.
        passphrase: String,
        /// Keep it in the system's keyring; else the daemon's memory holds it as long as it runs.
        remember: bool,
    },
}

/// Without the passphrase: answers may be logged.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostKey(key) => f.debug_tuple("HostKey").field(key).finish(),
            Self::Passphrase { key, .. } => f.debug_struct("Passphrase").field("key", key).finish_non_exhaustive(),
        }
    }
}

/// A runner that settings can name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct RunnerStatus {
    /// Its name in the settings.
    pub name: String,
    /// Where its environments come from: `local`, `ssh`.
    pub provider: String,
    /// Where it is, as it was given: `ssh://me@office`. None for this machine.
    pub address: Option<String>,
    /// It is the one in use.
    pub selected: bool,
    /// It was added, and can be removed.
    pub removable: bool,
}

/// How a hop fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum HopStatus {
    /// It works.
    Passed,
    /// It works, and there is something to know or to do.
    Noted,
    /// It does not work, and nothing behind it can.
    Failed,
    /// It was not tried: there is nothing to try, or a hop before it failed.
    Skipped,
}

/// One hop on the way from a Docker client to an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Hop {
    /// A stable word: `daemon`, `socket`, `context`, `settings`, `dns`, `tcp`, `jump`, `host-key`, `login`, `shell`,
    /// `agent`, `runner`, `tunnel`, `engine`.
    pub name: String,
    /// How it fared.
    pub status: HopStatus,
    /// What was found, in words.
    pub detail: String,
    /// What to do next, one sentence. Empty where there is nothing to do.
    pub hint: String,
    /// Why it does not work, for shells that speak another language than `detail` and `hint`. Each failed hop has one; of the noted
    /// ones those that have a problem.
    #[serde(default)]
    pub code: Option<ErrorCode>,
    /// Milliseconds that it took; none where nothing was tried.
    pub took_ms: Option<u64>,
}

impl Hop {
    /// A hop that works.
    pub fn passed(name: &str, detail: impl Into<String>) -> Self {
        Self::without_problem(name, HopStatus::Passed, detail.into(), String::new())
    }

    /// A hop that works, with something to know or to do.
    pub fn noted(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::without_problem(name, HopStatus::Noted, detail.into(), hint.into())
    }

    /// A hop that was not tried, with the reason where it says something.
    pub fn skipped(name: &str, detail: impl Into<String>) -> Self {
        Self::without_problem(name, HopStatus::Skipped, detail.into(), String::new())
    }

    /// A hop that does not work.
    pub fn failed(name: &str, problem: Problem) -> Self {
        let Problem { code, message, hint, .. } = problem;
        Self { code: Some(code), ..Self::without_problem(name, HopStatus::Failed, message, hint) }
    }

    /// The same where what is behind it works nevertheless.
    #[must_use]
    pub fn in_nobodys_way(self) -> Self {
        Self { status: HopStatus::Noted, ..self }
    }

    fn without_problem(name: &str, status: HopStatus, detail: String, hint: String) -> Self {
        Self { name: name.to_owned(), status, detail, hint, code: None, took_ms: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_logged_shows_no_passphrase() {
        let answer = Answer::Passphrase { key: "id".into(), passphrase: "open sesame".into(), remember: false };
        assert!(!format!("{answer:?}").contains("sesame"));
    }
}
