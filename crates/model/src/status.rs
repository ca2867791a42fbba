//! What the shells show: a projection of the session's state, never state of its own.

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, Problem, SessionId};

/// The state of the session as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Turned off.
    Stopped,
    /// Enabled, no environment, no cost.
    Idle,
    /// An environment is being provisioned and connected.
    Starting,
    /// Connected; usage counts.
    Running,
    /// Frozen, resumable until the grace period ends.
    Suspended,
    /// The environment is being deleted.
    Stopping,
    /// The last start failed.
    Failed,
}

impl State {
    /// The state's name, as `status --format json` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// The session that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct SessionStatus {
    /// The session's identifier.
    pub id: SessionId,
    /// When provisioning began, RFC 3339 in UTC.
    pub started_at: String,
    /// The environment, once it is there.
    pub environment: Option<EnvironmentId>,
    /// Facts about the environment that a person may ask for: limits that were lowered, how the engine is isolated.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Something that keeps the session awake.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct AwakeReason {
    /// `call`, `stream`, `container`, `build` or `connection`.
    pub kind: String,
    /// What it is: a container's name, a call's method and path.
    pub detail: String,
}

/// A program whose calls do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct IgnoredPoller {
    /// The program's name.
    pub program: String,
    /// Ignored calls in this session.
    pub calls: u64,
}

/// Why a prompt is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum PromptReason {
    /// Nothing has happened for a while.
    Inactivity,
    /// The session is long.
    LongSession,
}

/// A prompt that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Prompt {
    /// Why it is shown.
    pub reason: PromptReason,
    /// Seconds until the session goes idle without an answer.
    pub answer_within_seconds: u64,
}

/// How far a start has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Progress {
    /// The step under way, as a stable word: `agent`, `namespaces`, `network`, `engine`, `connect`.
    pub step: String,
    /// The step in words.
    pub detail: String,
}

/// Usage of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Usage {
    /// Seconds used since local midnight.
    pub today_seconds: u64,
    /// The day's limit in seconds.
    pub limit_seconds: u64,
}

/// A published port on the laptop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PortStatus {
    /// Address and port on the laptop.
    pub address: String,
    /// The container that publishes it.
    pub container: String,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct MountStatus {
    /// The directory on the laptop.
    pub path: String,
}

/// Everything that `status --format json`, the window and the tray show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Status {
    /// The state.
    pub state: State,
    /// The runner's name.
    pub runner: String,
    /// The Docker socket's path.
    pub socket: String,
    /// The session under way.
    pub session: Option<SessionStatus>,
    /// The start's progress while Starting.
    pub progress: Option<Progress>,
    /// What keeps the session awake.
    pub awake_because: Vec<AwakeReason>,
    /// Programs whose calls do not count.
    pub ignored_pollers: Vec<IgnoredPoller>,
    /// Seconds until Running becomes Suspended, while nothing keeps it awake.
    pub idle_in_seconds: Option<u64>,
    /// Seconds until Suspended becomes Stopping.
    pub grace_remaining_seconds: Option<u64>,
    /// The prompt that waits.
    pub prompt: Option<Prompt>,
    /// Usage of the day.
    pub usage: Usage,
    /// Published ports.
    pub ports: Vec<PortStatus>,
    /// Bind mounts.
    pub mounts: Vec<MountStatus>,
    /// The last failure, until something succeeds.
    pub error: Option<Problem>,
}
