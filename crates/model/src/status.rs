//! What the shells show: a projection of the session's state, never state of its own.

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, Language, Problem, Protocol, SessionId, Settings};

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
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Address and port on the laptop.
    pub address: String,
    /// The container that publishes it.
    pub container: String,
    /// The container's own port.
    pub container_port: u16,
    /// Connections, or UDP flows, that are open.
    pub connections: u32,
    /// Bytes that went into the container since the port is there.
    pub bytes_in: u64,
    /// Bytes that came out of it.
    pub bytes_out: u64,
    /// Why nothing listens there, if nothing does.
    pub problem: Option<String>,
}

/// What a bind mount is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum MountState {
    /// Not connected to the environment.
    Waiting,
    /// Both sides are read.
    Scanning,
    /// Files are on their way.
    Syncing,
    /// It asks what is to be done.
    Halted,
    /// It does not go on.
    Failed,
    /// Both sides are alike.
    #[serde(other)]
    Synced,
}

/// What is to be done with a mount that halts because one side is gone or empty, or because it is larger than allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct MountDecision {
    /// Its path on the laptop.
    pub path: String,
    /// What is missing is brought back from the other side, and what is larger than allowed is brought all the same; otherwise
    /// what is missing is deleted on the other side, too.
    pub restore: bool,
}

/// A file or directory of the laptop that containers have mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct MountStatus {
    /// Its path on the laptop.
    pub path: String,
    /// What it is at.
    pub state: MountState,
    /// Changes go one way: containers may only read it, or the settings say so.
    pub read_only: bool,
    /// Files, directories and links on the laptop.
    pub files: u64,
    /// Bytes of files there.
    pub bytes: u64,
    /// Files that are on their way.
    pub left_files: u64,
    /// Bytes that are on their way.
    pub left_bytes: u64,
    /// Versions that were kept beside others, and are still there; paths in it.
    pub conflicts: Vec<String>,
    /// Files that cannot be brought, and why.
    pub problems: Vec<String>,
    /// Why it halts or failed.
    pub problem: Option<Problem>,
}

/// What kind of work is in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum WorkKind {
    /// A container that runs.
    RunningContainer,
    /// A container that does not.
    Container,
    /// A volume.
    Volume,
    /// An image that no registry is known to have.
    Image,
}

impl WorkKind {
    /// The kind, as a sentence names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunningContainer => "running container",
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Image => "image",
        }
    }
}

/// Something in the environment that is deleted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Work {
    /// What it is.
    pub kind: WorkKind,
    /// Its name; an image's with its tag.
    pub name: String,
    /// The archive on the laptop that has it as well.
    pub kept_in: Option<String>,
}

/// What is to be saved of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepOrder {
    /// The archive on the laptop, an absolute path. One that exists is replaced.
    pub file: String,
    /// Volumes by name. None: all of them if no images are named either.
    pub volumes: Option<Vec<String>>,
    /// Images by name. None: all that no registry has, if no volumes are named either.
    pub images: Option<Vec<String>>,
}

/// What the settings say of the desktop app, so that it follows them without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(default)]
pub struct DesktopSettings {
    /// The language of tray and window.
    pub language: Language,
    /// Show the desktop's notifications.
    pub notifications: bool,
    /// Start when the user logs in.
    pub start_at_login: bool,
}

impl DesktopSettings {
    /// What these settings say.
    pub const fn of(settings: &Settings) -> Self {
        Self {
            language: settings.language,
            notifications: settings.notifications,
            start_at_login: settings.start_at_login,
        }
    }
}

impl Default for DesktopSettings {
    fn default() -> Self {
        Self::of(&Settings::default())
    }
}

/// Everything that `status --format json`, the window and the tray show. A member that is added has a default: a shell
/// understands a daemon that is older than itself.
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
    /// What is deleted with the environment when the grace period ends; known while Suspended.
    #[serde(default)]
    pub at_risk: Vec<Work>,
    /// Published ports.
    pub ports: Vec<PortStatus>,
    /// Bind mounts.
    pub mounts: Vec<MountStatus>,
    /// The last failure, until something succeeds.
    pub error: Option<Problem>,
    /// No environment has ever run in this home: shells show how to begin.
    #[serde(default)]
    pub first_use: bool,
    /// What the settings say of the desktop app.
    #[serde(default)]
    pub desktop: DesktopSettings,
    /// The daemon's version; empty where there is no daemon, and from one that is older than this member.
    #[serde(default)]
    pub version: String,
}

impl Status {
    /// A status with nothing but a state, by the default settings.
    pub fn quiet(state: State) -> Self {
        let settings = Settings::default();
        Self {
            state,
            usage: Usage { today_seconds: 0, limit_seconds: settings.daily_limit.as_secs() },
            desktop: DesktopSettings::of(&settings),
            runner: settings.runner,
            socket: String::new(),
            session: None,
            progress: None,
            awake_because: Vec::new(),
            ignored_pollers: Vec::new(),
            idle_in_seconds: None,
            grace_remaining_seconds: None,
            prompt: None,
            at_risk: Vec::new(),
            ports: Vec::new(),
            mounts: Vec::new(),
            error: None,
            first_use: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorCode;

    #[test]
    fn a_status_of_another_version_is_understood_as_far_as_it_can_be() {
        let old = json!({
            "state": "failed", "runner": "local", "socket": "/s", "session": null, "progress": null, "awake_because": [],
            "ignored_pollers": [], "idle_in_seconds": null, "grace_remaining_seconds": null, "prompt": null,
            "usage": {"today_seconds": 1, "limit_seconds": 2}, "ports": [], "mounts": [],
            "error": {"code": "of-another-version", "message": "m", "hint": "h"},
            "desktop": {"language": "tlh"}, "something": 5,
        });
        let status: Status = serde_json::from_value(old).unwrap();
        assert_eq!(status.error.map(|problem| problem.code), Some(ErrorCode::Unknown));
        assert_eq!(status.desktop, DesktopSettings::default());
        assert_eq!(status.version, "");
    }
}
