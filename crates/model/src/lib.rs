//! The words that every other crate of Overside speaks.
//!
//! Plain data: identifiers, states, settings, error codes, the status that shells show, and the messages between a runner
//! provider and the agent. Nothing here reads a clock, a file or the network.

pub mod agent;
mod id;
mod problem;
pub mod settings;
mod status;
mod time;

pub use id::{EnvironmentId, InvalidId, SessionId};
pub use problem::{ErrorCode, Problem};
pub use settings::Settings;
pub use status::{
    AwakeReason, IgnoredPoller, MountStatus, PortStatus, Progress, Prompt, PromptReason, SessionStatus, State, Status,
    Usage,
};
pub use time::Moment;
