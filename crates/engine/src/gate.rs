//! Lets calls of Docker clients through to the environment, or holds, answers or refuses them.

use std::sync::Arc;

use async_trait::async_trait;
use overside_docker_api::{Class, IdleAnswer, Route, answer_without_engine, engine_headers, facts_of_any};
use overside_io::BoxedStream;
use overside_model::{ErrorCode, Problem};
use overside_proxy::{Admission, Around, Call, Dial, Gate as ProxyGate, Keep};
use overside_session::{ActivityId, Call as SessionCall, CallKind, Client, Decision, Gate};

use crate::{
    around::{self, Errand},
    clients::client,
    environment::Environment,
    hub::Hub,
    last_answers::LastAnswers,
};

/// What the table of routes says, in the session's words.
const fn kind(route: &Route<'_>) -> CallKind {
    match route.class {
        Class::Passive(IdleAnswer::Ping) => CallKind::Ping,
        Class::Passive(IdleAnswer::Version | IdleAnswer::Info) => CallKind::Probe,
        Class::Passive(_) => CallKind::Question,
        Class::Events => CallKind::Events,
        Class::Waking | Class::Hijack | Class::H2c => CallKind::Work,
    }
}

/// What `status` calls the kind of a call that keeps the session awake.
fn label(call: &Call<'_>) -> &'static str {
    match call.route.class {
        Class::H2c => "build",
        Class::Hijack => "stream",
        _ if call.route.shape == "/build" => "build",
        _ if matches!(call.route.shape, "/containers/{}/logs" | "/containers/{}/stats") => "stream",
        _ => "call",
    }
}

/// The proxy's view of the hub.
pub(crate) struct Doorkeeper {
    pub(crate) hub: Arc<Hub>,
    pub(crate) last_answers: Arc<LastAnswers>,
}

/// A call of Overside's own that needs the environment, and counts as any other.
pub(crate) async fn enter(
    hub: &Arc<Hub>,
    label: &'static str,
    detail: &str,
) -> Result<(UnderWay, Arc<Environment>), Problem> {
    let client = Client::default();
    let call = SessionCall { kind: CallKind::Work, label, detail, shape: "", client: &client };
    let (id, decision, _) = hub.handle_call(&call);
    let under_way = UnderWay { hub: hub.clone(), id, waits_for_others: false };
    match under_way.admitted(decision).await? {
        Passage::To(environment) => Ok((under_way, environment)),
        Passage::Local | Passage::Poll => {
            Err(Problem::new(ErrorCode::Internal, format!("{detail} was not let through"), ""))
        }
    }
}

/// A call under way; tells the session when it ends.
pub(crate) struct UnderWay {
    hub: Arc<Hub>,
    id: ActivityId,
    waits_for_others: bool,
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
                Decision::AnswerPoll => return Ok(Passage::Poll),
                Decision::Refuse(problem) => return Err(problem),
                Decision::Wait => {
                    let now = gate.borrow_and_update().clone();
                    decision = match now {
                        Gate::Open => self.hub.handle_call_again(self.id),
                        // A stream that waits for others waits through failures, too.
                        Gate::Refuse(problem) if self.waits_for_others && problem.code != ErrorCode::Stopped => {
                            Decision::Wait
                        }
                        Gate::Refuse(problem) => return Err(problem),
                        // Event streams stay where they are while nothing runs.
                        Gate::Ask if !self.waits_for_others => self.hub.handle_call_again(self.id),
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
    Poll,
}

#[async_trait]
impl ProxyGate for Doorkeeper {
    async fn admit(&self, call: Call<'_>) -> Result<Admission, Problem> {
        let detail = format!("{} {}", call.method, call.path);
        let question = format!("{}?{}", call.path, call.query.unwrap_or_default());
        let shape = format!("{} {}", call.method, call.route.shape);
        let mut kind = kind(&call.route);
        // Only questions can be polling; who asks does not matter elsewhere.
        let asks = matches!(call.route.class, Class::Passive(_));
        let client = if asks { client(call.caller) } else { Client::default() };
        loop {
            let activity = SessionCall { kind, label: label(&call), detail: &detail, shape: &shape, client: &client };
            let (id, decision, poll) = self.hub.handle_call(&activity);
            let waits_for_others = kind == CallKind::Events;
            let under_way = Arc::new(UnderWay { hub: self.hub.clone(), id, waits_for_others });
            match under_way.admitted(decision).await? {
                Passage::To(environment) => {
                    let (name, answers) = (environment.id.to_string(), self.last_answers.clone());
                    let keep: Option<Keep> = poll.then(|| {
                        let name = name.clone();
                        Box::new(move |answer| answers.keep(&name, question, answer)) as Keep
                    });
                    let errand = Errand::of(&call, &environment);
                    let keep = keep
                        .or_else(|| errand.as_ref()?.keep(&call))
                        .or_else(|| around::keep_exec(&call, &environment));
                    let flush = around::flush(&call, &environment);
                    let around = errand.map(|errand| Box::new(errand) as Box<dyn Around>);
                    let engine = Arc::new(EngineStreams { under_way: under_way.clone(), environment, name });
                    return Ok(Admission::Forward { engine, held: Box::new(under_way), keep, around, flush });
                }
                Passage::Local => match answer_without_engine(&call.route, &self.hub.facts()) {
                    Some(answer) => return Ok(Admission::Answer(answer)),
                    // No engine was ever seen. A ping never wakes one.
                    None if kind == CallKind::Ping => {
                        let answer = answer_without_engine(&call.route, &facts_of_any());
                        return answer.map(Admission::Answer).ok_or_else(|| {
                            Problem::new(ErrorCode::Internal, format!("{detail} was not answered"), "")
                        });
                    }
                    // The question does, unless that has just failed.
                    None => match self.hub.gate().borrow().clone() {
                        Gate::Refuse(problem) => return Err(problem),
                        Gate::Open | Gate::Wait | Gate::Ask => kind = CallKind::Work,
                    },
                },
                Passage::Poll => {
                    let environment = self.hub.environment();
                    let last =
                        environment.as_ref().and_then(|known| self.last_answers.of(known.id.as_str(), &question));
                    // Without an environment there is nothing; what is in one that sleeps is not made up.
                    let fixed = environment.is_none() || kind == CallKind::Probe;
                    let known = || answer_without_engine(&call.route, &self.hub.facts()).filter(|_| fixed);
                    return last.or_else(known).map(Admission::Answer).ok_or_else(|| {
                        Problem::new(
                            ErrorCode::Suspended,
                            format!("{} asks on a timer, and that does not resume a suspended environment", client.program),
                            "Any other docker command does; `overside settings set pollers.always-count` makes these calls count.",
                        )
                    });
                }
            }
        }
    }

    fn engine_headers(&self) -> Vec<(String, String)> {
        engine_headers(&self.hub.facts()).unwrap_or_default()
    }
}

/// Streams to the engine of one environment, for one call.
struct EngineStreams {
    under_way: Arc<UnderWay>,
    environment: Arc<Environment>,
    name: String,
}

#[async_trait]
impl Dial for EngineStreams {
    async fn open(&self) -> Result<BoxedStream, Problem> {
        match self.environment.link.open_engine().await {
            Ok(stream) => Ok(Box::new(stream)),
            // Nothing of the request was sent yet: it may as well go to the environment that follows.
            Err(problem) if problem.code == ErrorCode::EnvironmentLost => {
                self.under_way.hub.lost(&self.environment.id, problem).await;
                let decision = self.under_way.hub.handle_call_again(self.under_way.id);
                match self.under_way.admitted(decision).await? {
                    Passage::To(environment) => Ok(Box::new(environment.link.open_engine().await?)),
                    Passage::Local | Passage::Poll => Err(Problem::new(
                        ErrorCode::EnvironmentLost,
                        "the environment is gone",
                        "The next docker command gets a new environment.",
                    )),
                }
            }
            Err(problem) => Err(problem),
        }
    }

    fn environment(&self) -> &str {
        &self.name
    }
}
