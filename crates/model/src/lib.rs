//! The words that every other crate of Overside speaks.
//!
//! Plain data: identifiers, states, settings, error codes, the status that shells show, and the messages between a runner
//! provider and the agent. Nothing here reads a clock, a file or the network.

pub mod agent;
mod diagnosis;
mod id;
mod port;
mod problem;
mod runner;
pub mod settings;
mod status;
mod time;
mod usage;

pub use diagnosis::{Diagnosis, LogLine};
pub use id::{EnvironmentId, InvalidId, SessionId};
pub use port::{HostAccess, Protocol, Publication};
pub use problem::{ErrorCode, Problem};
pub use runner::{Answer, Hop, HopStatus, HostKey, Question, RunnerEntry, RunnerStatus, is_runner_name};
pub use settings::{Language, Settings};
pub use status::{
    AwakeReason, DesktopSettings, IgnoredPoller, KeepOrder, MountDecision, MountState, MountStatus, PortStatus,
    Progress, Prompt, PromptReason, SessionStatus, State, Status, Usage, Work, WorkKind,
};
pub use time::Moment;
pub use usage::{SessionQuery, UsageDay, UsageDays, UsagePeriod, UsageReport, UsageSession, UsageSessions, UsageSpan};
