//! What users see of the machine.

use std::time::Duration;

use overside_model::{AwakeReason, Problem, State};

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
    /// The last failure, until something succeeds.
    pub error: Option<Problem>,
    /// Time in Running, and in Suspended where it was resumed, since the day began.
    pub used_today: Duration,
}
