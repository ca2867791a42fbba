//! What the proxy needs of the daemon.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use http::Method;
use overside_docker_api::{Bound, LocalAnswer, Route};
use overside_io::BoxedStream;
use overside_model::Problem;
use tokio::task::JoinHandle;

/// A request that asks to be let through.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The path of its URI, with its version prefix.
    pub path: &'a str,
    /// The query of its URI.
    pub query: Option<&'a str>,
    /// What the table of routes says about it.
    pub route: Route<'a>,
    /// Who makes it.
    pub caller: &'a Caller,
}

/// Who makes a call: what the system and the client itself tell.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The process at the other end of the socket.
    pub process: Option<u32>,
    /// The request's `User-Agent`.
    pub user_agent: Option<String>,
}

/// Takes a whole answer that somebody wants to remember.
pub type Keep = Box<dyn FnOnce(LocalAnswer) + Send + Sync>;

/// Kept for as long as the call lasts: the call counts as activity until it is dropped.
pub type Held = Box<dyn Any + Send + Sync>;

/// What is done around a call, so that ports are published and the laptop's files are where the client expects them when it
/// is answered. Dropped without [`Self::after`] when the client goes away.
#[async_trait]
pub trait Around: Send + Sync {
    /// Before the call goes to the engine.
    ///
    /// # Errors
    /// Why it must not go; the client is told.
    async fn before(&self) -> Result<(), Problem>;

    /// Gives what the request's body binds of the laptop its places in the environment, by [`HostBind::path`]. Called only
    /// where there is a bind or a volume in the body, and before it goes to the engine; what gets no place here is refused.
    ///
    /// [`HostBind::path`]: overside_docker_api::HostBind::path
    ///
    /// # Errors
    /// Why the request must not go; the client is told.
    async fn place(&self, bound: Bound) -> Result<BTreeMap<String, String>, Problem>;

    /// After the engine has answered, and whether it did what it was asked to.
    ///
    /// # Errors
    /// Why it is of no use; the client is told instead of the engine's answer.
    async fn after(&self, succeeded: bool) -> Result<(), Problem>;
}

/// Begins what must be over before a client hears of the end of a container or of a command in one: what that wrote comes to
/// the laptop. None if there is nothing to wait for.
pub type Flush = Box<dyn FnOnce() -> Option<JoinHandle<()>> + Send + Sync>;

/// What becomes of a call.
pub enum Admission {
    /// It goes to the engine.
    Forward {
        /// Opens streams to the engine.
        engine: Arc<dyn Dial>,
        /// Kept until the call is over.
        held: Held,
        /// Takes the answer, if it is a whole one and no error.
        keep: Option<Keep>,
        /// What has to be done around it.
        around: Option<Box<dyn Around>>,
        /// What has to be done before the client hears of an end: of the answer's content, or of the output that it turns
        /// into.
        flush: Option<Flush>,
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

    /// The headers that the last engine put on every answer.
    fn engine_headers(&self) -> Vec<(String, String)>;
}

/// Opens streams to the engine.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream on which the engine waits for one HTTP connection.
    ///
    /// # Errors
    /// Why there is none.
    async fn open(&self) -> Result<BoxedStream, Problem>;

    /// The name of the environment that the engine is in.
    fn environment(&self) -> &str;
}
