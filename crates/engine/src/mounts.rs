//! The laptop's files in the environment, as calls of Docker clients need them.

use async_trait::async_trait;
use overside_docker_api::HostBind;
use overside_model::{MountDecision, MountStatus, Problem};

/// Brings files of the laptop into one environment, and back what containers write.
///
/// A place is a path in the environment, below [`overside_model::agent::LAPTOP_FILES`]: where
/// [`Laptop::place_of`](overside_docker_api::Laptop::place_of) puts it.
#[async_trait]
pub(crate) trait Files: Send + Sync {
    /// Makes sure that each of these has a place in the environment (an empty directory or file for now; its content begins to
    /// travel) and tells which, in their order. What was missing on the laptop has been made before, or may be missing
    /// ([`IfMissing::Leave`](overside_docker_api::IfMissing::Leave)): then its place is told, and nothing is there.
    ///
    /// # Errors
    /// Why one of them cannot be brought there.
    async fn place(&self, binds: &[HostBind]) -> Result<Vec<String>, Problem>;

    /// Goes on with places that containers and volumes had when the environment was connected to. Called once for each
    /// connection that was lost in between, too.
    async fn resume(&self, places: &[String]);

    /// Waits until what is bound at these places in the environment is as on the laptop; `owner` is the container's user and
    /// group, whose the files are to be, and None for root. Called before a container's start.
    ///
    /// # Errors
    /// Why it will not be.
    async fn ready(&self, places: &[String], owner: Option<(u32, u32)>) -> Result<(), Problem>;

    /// As the status tells it.
    fn status(&self) -> Vec<MountStatus>;

    /// Goes on with a mount that halts, as a person has decided.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownName`](overside_model::ErrorCode::UnknownName): it is not mounted.
    fn decide(&self, decision: &MountDecision) -> Result<(), Problem>;

    /// Waits until what containers wrote at these places (none: at all of them) is on the laptop, or a deadline has passed.
    ///
    /// # Errors
    /// How much is missing, and why.
    async fn flush(&self, places: &[String]) -> Result<(), Problem>;

    /// Ends, and waits until nothing writes to the session's directory any more, but not for long.
    async fn end(&self);
}
