//! What a person is told when something fails.

use serde::{Deserialize, Serialize};

use crate::Work;

/// Why something failed, for programs: shells match on this, never on text. A code is added when a consumer needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Overside is turned off.
    Stopped,
    /// A settings file that cannot be read or parsed, or a value out of its range.
    InvalidSettings,
    /// A path that a socket cannot have, mostly because it is too long.
    SocketPath,
    /// Another daemon holds this home.
    AlreadyRunning,
    /// No daemon answers on the control socket.
    DaemonUnreachable,
    /// `overside-agent` was not found beside `overside`.
    AgentMissing,
    /// `overside-agent` answered, but is of another version.
    AgentIncompatible,
    /// The runner has no dockerd.
    EngineMissing,
    /// The runner lacks a program, a privilege or a kernel feature.
    RunnerUnsuitable,
    /// The runner's disk is full.
    DiskFull,
    /// The runner cannot be reached.
    RunnerUnreachable,
    /// A host on the way to the runner shows a key that nobody has accepted yet.
    HostKeyUnknown,
    /// A host on the way to the runner shows another key than the one that is known.
    HostKeyChanged,
    /// The key for the login is encrypted, and its passphrase is not known.
    KeyLocked,
    /// The system's keyring is missing, locked or fails.
    KeyringUnavailable,
    /// A host on the way to the runner does not let this user in.
    RunnerRefused,
    /// dockerd ended or never answered.
    EngineFailed,
    /// The agent's host key is not the pinned one.
    HostKeyMismatch,
    /// The agent refused the session's key.
    LoginRefused,
    /// The tunnel broke and could not be rebuilt.
    TunnelLost,
    /// The user's session is on another computer.
    SessionElsewhere,
    /// Docker's tools go somewhere else than to Overside.
    ContextElsewhere,
    /// The environment is gone: its agent ended or its lease ran out.
    EnvironmentLost,
    /// Provisioning took longer than the start time-out.
    StartTimedOut,
    /// A port that a container publishes cannot be listened on here.
    PortUnavailable,
    /// A file or directory of the laptop cannot be mounted, or is not synced any more.
    MountFailed,
    /// A directory of the laptop has more than the limits of a mount allow.
    MountTooLarge,
    /// What containers wrote is not on the laptop yet.
    FilesLeft,
    /// A request that cannot be forwarded safely.
    RequestRefused,
    /// The user stopped the session while the call waited.
    Cancelled,
    /// The environment is suspended, and this does not resume it.
    Suspended,
    /// The day's compute time is used up, and the organisation's policy stops there.
    FairUse,
    /// Work would be lost that is nowhere else.
    WorkWouldBeLost,
    /// Work could not be saved, or not be brought back.
    KeepFailed,
    /// The organisation's policy locks a setting, or cannot be used itself.
    Policy,
    /// A name that settings, runners or commands do not know.
    UnknownName,
    /// The daemon is of another version, and what it says is not understood.
    DaemonIncompatible,
    /// A defect of Overside's own.
    Internal,
    /// Something that only a newer version has a code for.
    #[serde(other)]
    Unknown,
}

/// An error as a person meets it: what failed and where (`message`), and what to do next (`hint`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[error("{message}")]
pub struct Problem {
    /// For programs.
    pub code: ErrorCode,
    /// One sentence without a full stop: what failed, where.
    pub message: String,
    /// One sentence: what to do next. Empty where there is nothing to do.
    pub hint: String,
    /// The work that it is about, which `message` names as well: shells that speak another language than it say it anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ts", ts(as = "Option<Vec<Work>>", optional))]
    pub work: Vec<Work>,
}

impl Problem {
    /// A problem with its next step.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into(), work: Vec::new() }
    }

    /// The same about this work.
    #[must_use]
    pub fn about(self, work: Vec<Work>) -> Self {
        Self { work, ..self }
    }

    /// Message and hint as one text, as stderr and the Docker API show it.
    pub fn sentence(&self) -> String {
        if self.hint.is_empty() { self.message.clone() } else { format!("{}. {}", self.message, self.hint) }
    }
}
