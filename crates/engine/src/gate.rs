//! Lets calls of Docker clients through to the environment, or holds, answers or refuses them.

use std::sync::Arc;

use async_trait::async_trait;
use overside_docker_api::{Class, IdleAnswer, Route, answer_without_engine};
use overside_io::BoxedStream;
use overside_model::{ErrorCode, Problem};
use overside_proxy::{Admission, Call, Dial, Gate as ProxyGate};
use overside_session::{ActivityId, CallKind, Decision, Gate};

use crate::{environment::Environment, hub::Hub};

/// What the table of routes says, in the session's words.
const fn kind(route: &Route<'_>) -> CallKind {
    match route.class {
        Class::Passive(IdleAnswer::Ping | IdleAnswer::Version | IdleAnswer::Info) => CallKind::Probe,
        Class::Passive(_) => CallKind::Question,
        Class::Events => CallKind::Events,
        Class::Waking | Class::Hijack | Class::H2c => CallKind::Work,
    }
}

/// The proxy's view of the hub.
pub(crate) struct Doorkeeper(pub(crate) Arc<Hub>);

/// A call under way; tells the session when it ends.
struct UnderWay {
    hub: Arc<Hub>,
    id: ActivityId,
    kind: CallKind,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.hub.handle_call_end(self.id);
    }
}

impl UnderWay {
    /// Waits until the call may pass, and returns the environment that it passes to.
    async fn admitted(&self, mut decision: Decision) -> Result<Passage, Problem> {
        let mut gate = self.hub.gate();
        loop {
            match decision {
                Decision::Pass => match self.hub.environment() {
                    Some(environment) => return Ok(Passage::To(environment)),
                    None => decision = Decision::Wait,
                },
                Decision::AnswerLocally => return Ok(Passage::Local),
                Decision::Refuse(problem) => return Err(problem),
                Decision::Wait => {
                    let now = gate.borrow_and_update().clone();
                    decision = match now {
                        Gate::Open => self.hub.handle_call_again(self.id, self.kind),
                        Gate::Refuse(problem) => return Err(problem),
                        // Event streams stay where they are while nothing runs.
                        Gate::Ask if self.kind != CallKind::Events => self.hub.handle_call_again(self.id, self.kind),
                        Gate::Ask | Gate::Wait => Decision::Wait,
                    };
                    if decision == Decision::Wait && gate.changed().await.is_err() {
                        return Err(Problem::new(ErrorCode::Cancelled, "the Overside daemon is ending", ""));
                    }
                }
            }
        }
    }
}

enum Passage {
    To(Arc<Environment>),
    Local,
}

#[async_trait]
impl ProxyGate for Doorkeeper {
    async fn admit(&self, call: Call<'_>) -> Result<Admission, Problem> {
        let detail = format!("{} {}", call.method, call.path);
        let mut kind = kind(&call.route);
        loop {
            let (id, decision) = self.0.handle_call(kind, &detail);
            let under_way = Arc::new(UnderWay { hub: self.0.clone(), id, kind });
            match under_way.admitted(decision).await? {
                Passage::To(environment) => {
                    let engine = Arc::new(EngineStreams { under_way: under_way.clone(), environment });
                    return Ok(Admission::Forward { engine, held: Box::new(under_way) });
                }
                Passage::Local => match answer_without_engine(&call.route, &self.0.facts()) {
                    Some(answer) => return Ok(Admission::Answer(answer)),
                    // No engine was ever seen: the question wakes one, unless that has just failed.
                    None => match self.0.gate().borrow().clone() {
                        Gate::Refuse(problem) => return Err(problem),
                        Gate::Open | Gate::Wait | Gate::Ask => kind = CallKind::Work,
                    },
                },
            }
        }
    }
}

/// Streams to the engine of one environment, for one call.
struct EngineStreams {
    under_way: Arc<UnderWay>,
    environment: Arc<Environment>,
}

#[async_trait]
impl Dial for EngineStreams {
    async fn open(&self) -> Result<BoxedStream, Problem> {
        match self.environment.link.open_engine().await {
            Ok(stream) => Ok(Box::new(stream)),
            // Nothing of the request was sent yet: it may as well go to the environment that follows.
            Err(problem) if problem.code == ErrorCode::EnvironmentLost => {
                self.under_way.hub.lost(&self.environment.id, problem).await;
                let kind = self.under_way.kind;
                let decision = self.under_way.hub.handle_call_again(self.under_way.id, kind);
                match self.under_way.admitted(decision).await? {
                    Passage::To(environment) => Ok(Box::new(environment.link.open_engine().await?)),
                    Passage::Local => Err(Problem::new(
                        ErrorCode::EnvironmentLost,
                        "the environment is gone",
                        "The next docker command gets a new environment.",
                    )),
                }
            }
            Err(problem) => Err(problem),
        }
    }
}
