//! The contract between the engine and the places where environments live.
//!
//! A provider does two things: it makes or finds an environment, and it opens one byte stream to that environment's agent.
//! Everything else (SSH, reconnection, forwarding) is written once, above this contract. What differs between providers is
//! data, never a question about which provider it is.

pub mod reports;

use std::sync::Arc;

use async_trait::async_trait;
use overside_io::BoxedStream;
use overside_model::{
    Answer, EnvironmentId, ErrorCode, Hop, Problem, Progress, Question, RunnerEntry,
    agent::{EnvironmentFacts, Found, LeaseTerms, Limits, Owner, TakeOver},
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
    /// Who has it made.
    pub owner: Owner,
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

    /// Hands a living environment of another home of the same user's over to this one: from then on its agent lets the new
    /// key in and no other, and says so to whoever was connected.
    ///
    /// # Errors
    /// [`ErrorCode::EnvironmentLost`] where it is gone; others where it stays with whom it is.
    async fn take_over(&self, id: &EnvironmentId, to: &TakeOver) -> Result<EnvironmentFacts, Problem> {
        let message = format!("{id} cannot go to {}: environments on {} have one home", to.owner.computer, self.name());
        Err(Problem::new(ErrorCode::RequestRefused, message, ""))
    }

    /// Lets go of what is kept for an environment that is another home's now.
    async fn release(&self, _id: &EnvironmentId) {}

    /// Opens a byte stream to the agent of an environment that [`Self::create`] made, also by an earlier process. May be
    /// called any number of times and concurrently.
    ///
    /// # Errors
    /// [`ErrorCode::EnvironmentLost`] if the environment is known to be gone,
    /// others if it may only be out of reach.
    async fn open(&self, id: &EnvironmentId) -> Result<BoxedStream, Problem>;

    /// Deletes the environment, whatever its state, and returns once nothing of it is left. Succeeds for one that does not
    /// exist.
    ///
    /// # Errors
    /// What could not be removed.
    async fn destroy(&self, id: &EnvironmentId) -> Result<(), Problem>;

    /// The version of the engine that a new environment would have, where that can be told without making one. The caller does
    /// not wait long.
    async fn engine_version(&self) -> Option<String> {
        None
    }

    /// What kind of place this is: `local`, `ssh`.
    fn kind(&self) -> &'static str;

    /// Where it is, as the user gave it. None for this machine.
    fn address(&self) -> Option<String> {
        None
    }

    /// Tries every hop on the way to an environment without making one. A failed hop is the last that is tried; those
    /// behind it are there as skipped.
    async fn test(&self) -> Vec<Hop>;

    /// The environments of this user's that exist on the runner, with who had each of them made: another home of the same
    /// user's, on this computer or another, may own some. On a runner that only this home can reach nobody is named.
    ///
    /// # Errors
    /// Why the runner could not be asked.
    async fn list(&self) -> Result<Vec<Found>, Problem>;

    /// What a person has to decide or tell before the runner can be used; none where nothing is in the way, or where a
    /// person cannot help.
    ///
    /// # Errors
    /// Why that is not known: the runner is out of reach.
    async fn question(&self) -> Result<Option<Question>, Problem> {
        Ok(None)
    }

    /// Takes the answer to a [`Self::question`]. Returns what stands against a wish beside it, such as keeping a passphrase,
    /// where the answer itself has helped.
    ///
    /// # Errors
    /// Why the answer does not help; [`ErrorCode::UnknownName`] where nothing was asked.
    async fn answer(&self, answer: Answer) -> Result<Option<Problem>, Problem> {
        Err(Problem::new(ErrorCode::UnknownName, format!("{} does not ask for {answer:?}", self.name()), ""))
    }

    /// Removes what outlives environments: from the runner such as a cached agent, here what was kept for it. Called before the runner itself is
    /// forgotten; it has no environment of this home then.
    ///
    /// # Errors
    /// What could not be removed.
    async fn forget(&self) -> Result<(), Problem> {
        Ok(())
    }
}

/// Makes the provider of a runner that was added.
///
/// An address that no provider is for is an error, with the addresses that there are providers for.
pub type MakeProvider = Arc<dyn Fn(&RunnerEntry) -> Result<Arc<dyn Provider>, Problem> + Send + Sync>;

/// Addresses of runners that a person may want to add: what the computer knows already, looked up each time.
pub type Suggest = Arc<dyn Fn() -> Vec<String> + Send + Sync>;
