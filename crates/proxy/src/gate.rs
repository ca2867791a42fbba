//! What the proxy needs of the daemon.

use std::{any::Any, sync::Arc};

use async_trait::async_trait;
use http::Method;
use overside_docker_api::{LocalAnswer, Route};
use overside_io::BoxedStream;
use overside_model::Problem;

/// A request that asks to be let through.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The path of its URI, with its version prefix.
    pub path: &'a str,
    /// What the table of routes says about it.
    pub route: Route<'a>,
}

/// Kept for as long as the call lasts: the call counts as activity until it is dropped.
pub type Held = Box<dyn Any + Send + Sync>;

/// What becomes of a call.
pub enum Admission {
    /// It goes to the engine.
    Forward {
        /// Opens streams to the engine.
        engine: Arc<dyn Dial>,
        /// Kept until the call is over.
        held: Held,
    },
    /// The answer is known without an engine.
    Answer(LocalAnswer),
}

/// Decides about calls.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Decides about one call. Waits while an environment starts; dropped when the client goes away.
    ///
    /// # Errors
    /// Why the call cannot be served, as the client is told.
    async fn admit(&self, call: Call<'_>) -> Result<Admission, Problem>;
}

/// Opens streams to the engine.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream on which the engine waits for one HTTP connection.
    ///
    /// # Errors
    /// Why there is none.
    async fn open(&self) -> Result<BoxedStream, Problem>;
}
