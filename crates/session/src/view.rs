//! What users see of the machine.

use std::time::Duration;

use overside_model::{AwakeReason, IgnoredPoller, Problem, PromptReason, State};

/// A projection of the machine's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The state.
    pub state: State,
    /// What keeps the session awake.
    pub awake_because: Vec<AwakeReason>,
    /// Until Running becomes Suspended, while nothing keeps it awake.
    pub idle_in: Option<Duration>,
    /// Until Suspended becomes Stopping.
    pub grace_remaining: Option<Duration>,
    /// The question that waits for an answer, and how long until its silence counts as *idle now*.
    pub prompt: Option<(PromptReason, Duration)>,
    /// Programs whose questions did not count in this session.
    pub ignored_pollers: Vec<IgnoredPoller>,
    /// The last failure, until something succeeds.
    pub error: Option<Problem>,
    /// Time in Running, and in Suspended where it was resumed, since the day began.
    pub used_today: Duration,
}
