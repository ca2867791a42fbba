//! The contract between the engine and the places where environments live.
//!
//! A provider does two things: it makes or finds an environment, and it opens one byte stream to that environment's agent.
//! Everything else (SSH, reconnection, forwarding) is written once, above this contract. What differs between providers is
//! data, never a question about which provider it is.

use async_trait::async_trait;
use overside_io::BoxedStream;
use overside_model::{
    EnvironmentId, Problem, Progress,
    agent::{EnvironmentFacts, LeaseTerms, Limits},
};

/// What is asked of a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The environment's identifier, chosen by the caller so that it can be deleted even if making it was interrupted.
    pub id: EnvironmentId,
    /// The session's public key, one line in OpenSSH's format.
    pub client_key: String,
    /// What the environment may use at most.
    pub limits: Limits,
    /// How long it survives its client.
    pub lease: LeaseTerms,
}

/// Receives the steps of a start.
pub type ProgressSink<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// A place where environments live.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The runner's name in the settings.
    fn name(&self) -> &str;

    /// Makes an environment and returns once its agent accepts streams.
    ///
    /// May be dropped at any time; the caller then calls [`Self::destroy`].
    ///
    /// # Errors
    /// What is missing or went wrong, with the next step for the user. Nothing of the environment is left then.
    async fn create(&self, order: &Order, progress: ProgressSink<'_>) -> Result<EnvironmentFacts, Problem>;

    /// Opens a byte stream to the agent of an environment that [`Self::create`] made, also by an earlier process. May be
    /// called any number of times and concurrently.
    ///
    /// # Errors
    /// [`ErrorCode::EnvironmentLost`](overside_model::ErrorCode::EnvironmentLost) if the environment is known to be gone,
    /// others if it may only be out of reach.
    async fn open(&self, id: &EnvironmentId) -> Result<BoxedStream, Problem>;

    /// Deletes the environment, whatever its state, and returns once nothing of it is left. Succeeds for one that does not
    /// exist.
    ///
    /// # Errors
    /// What could not be removed.
    async fn destroy(&self, id: &EnvironmentId) -> Result<(), Problem>;

    /// The environments of this user's that exist on the runner, whoever made them. The caller destroys those that no
    /// session owns.
    ///
    /// # Errors
    /// Why the runner could not be asked.
    async fn list(&self) -> Result<Vec<EnvironmentId>, Problem>;
}
