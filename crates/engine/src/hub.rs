//! The session machine behind a lock, and what the rest of the daemon sees of it.

mod inner;
mod users;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overside_config::{DefaultSocket, DockerContext, Home, LoginEntry, Policy, SettingsFile};
use overside_docker_api::facts_of_version;
use overside_io::clock;
use overside_model::{
    EnvironmentId, ErrorCode, Moment, Problem, Progress, Settings, State, Status, Work, agent::LeaseTerms,
};
use overside_session::{ActivityId, Call, Decision, Effect, Gate, Operation, Overrules, Rules, Session};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    accounts::Accounts,
    calendar::Calendar,
    effects,
    environment::Environment,
    facts, inventory,
    record::{Record, RecordFile},
    runners::Runners,
};

/// Longest time that the engine may take to tell what it holds.
pub(crate) const SURVEY: Duration = Duration::from_secs(5);
/// Longest time that a daemon's start waits for a runner to tell the version of its engines.
const EXPECTATION: Duration = Duration::from_secs(3);

/// Everything that the daemon's tasks share.
pub(crate) struct Hub {
    pub(crate) home: Home,
    pub(crate) runners: Arc<Runners>,
    /// Who has environments made: this home.
    identity: String,
    pub(crate) record_file: RecordFile,
    pub(crate) patience: watch::Sender<Duration>,
    settings_file: SettingsFile,
    policy_file: PathBuf,
    context: Option<DockerContext>,
    default_socket: DefaultSocket,
    login_entry: LoginEntry,
    inner: Mutex<Inner>,
    gate: watch::Sender<Gate>,
    status: watch::Sender<Status>,
    facts: Mutex<Value>,
    /// Wakes the task that keeps the machine's deadlines.
    deadline_changed: Notify,
    /// A person lets files be lost that could not be brought back.
    give_up_files: watch::Sender<bool>,
}

struct Inner {
    session: Session,
    /// What the user has set.
    own: Settings,
    policy: Policy,
    /// What applies: the user's settings under the policy.
    settings: Settings,
    /// The settings or the policy cannot be used: nothing is done until they can.
    blocked: Option<Problem>,
    current: Option<Current>,
    /// No environment has ever run in this home.
    first_use: bool,
    /// The next start goes on with the session of another computer.
    take_over: bool,
    /// Why an environment is not deleted yet.
    files_left: Option<Problem>,
    /// The effect that is under way.
    task: Option<JoinHandle<()>>,
    context_problem: Option<Problem>,
    login_problem: Option<Problem>,
    runners: Arc<Runners>,
    calendar: Calendar,
    accounts: Accounts,
    /// The state when the accounts were last written.
    accounted: State,
}

/// The environment of the session, from the moment when its identifier is chosen until nothing is left of it.
pub(crate) struct Current {
    pub(crate) record: Record,
    pub(crate) environment: Option<Arc<Environment>>,
    progress: Option<Progress>,
    link_problem: Option<Problem>,
    /// What would be lost with it, as it was when it was last suspended.
    work: Vec<Work>,
    /// What of it was saved, and where.
    kept: Vec<Work>,
}

fn overrules(settings: &Settings) -> Overrules {
    Overrules { always_count: settings.always_count.clone(), never_count: settings.never_count.clone() }
}

fn lease(settings: &Settings) -> LeaseTerms {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    LeaseTerms {
        grace_ms: milliseconds(settings.grace_period),
        lost_contact_ms: milliseconds(settings.lost_contact.max(settings.grace_period)),
    }
}

fn patience(settings: &Settings) -> Duration {
    settings.lost_contact.max(settings.grace_period)
}

impl Hub {
    pub(crate) fn new(home: Home, identity: String, runners: Runners, policy_file: PathBuf) -> Arc<Self> {
        let settings_file = SettingsFile::new(home.settings_file());
        let loaded = settings_file.load().and_then(|own| Ok((own, Policy::load(&policy_file)?)));
        let ((own, policy), blocked) = match loaded {
            Ok(loaded) => (loaded, None),
            Err(problem) => ((Settings::default(), Policy::default()), Some(problem)),
        };
        let settings = policy.apply(&own);
        let context = DockerContext::new(&home.docker_socket(), &home.previous_context_file())
            .inspect_err(|error| tracing::warn!(%error, "there is no Docker CLI configuration to add a context to"))
            .ok();
        let default_socket = DefaultSocket::new(&home.docker_socket());
        let login_entry = LoginEntry::of(&home);
        let session = Session::new(clock::now(), Rules::from(&settings));
        let gate = watch::Sender::new(session.gate());
        let patience = watch::Sender::new(patience(&settings));
        let facts = facts::load(&home.engine_facts_file());
        let runners = Arc::new(runners);
        let mut inner = Inner {
            session,
            own,
            policy,
            settings,
            blocked,
            current: None,
            first_use: facts.is_null(),
            take_over: false,
            files_left: None,
            task: None,
            context_problem: None,
            login_problem: None,
            runners: runners.clone(),
            calendar: Calendar::read(),
            accounts: Accounts::open(&home.usage_file()),
            accounted: State::Stopped,
        };
        inner.tell_day(clock::now());
        inner.tell_rules();
        let status = watch::Sender::new(inner.status(&home, clock::now()));
        Arc::new(Self {
            record_file: RecordFile::new(&home),
            home,
            runners,
            identity,
            patience,
            settings_file,
            policy_file,
            context,
            default_socket,
            login_entry,
            inner: Mutex::new(inner),
            gate,
            status,
            facts: Mutex::new(facts),
            deadline_changed: Notify::new(),
            give_up_files: watch::Sender::new(false),
        })
    }

    /// Why an environment is not deleted yet, for people to see.
    pub(crate) fn tell_files_left(self: &Arc<Self>, problem: Option<Problem>) {
        self.lock().files_left = problem;
        self.show();
    }

    /// Whether the files may be lost for which a deletion waits.
    pub(crate) fn give_up_files(&self, give_up: bool) {
        self.give_up_files.send_replace(give_up);
    }

    /// Waits until they may.
    pub(crate) async fn files_given_up(&self) {
        // The sender lives as long as this does.
        let _ = self.give_up_files.subscribe().wait_for(|give_up| *give_up).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds the machine, then carries out what it asks for and tells everybody.
    fn input<T>(self: &Arc<Self>, feed: impl FnOnce(&mut Session, Moment) -> T) -> T {
        let mut inner = self.lock();
        let now = clock::now();
        inner.look_at_calendar(now);
        inner.account_before(now);
        let result = feed(&mut inner.session, now);
        self.settle(&mut inner, now);
        result
    }

    fn settle(self: &Arc<Self>, inner: &mut Inner, now: Moment) {
        while let Some(effect) = inner.session.poll_effect() {
            tracing::info!(?effect, state = inner.session.state().name(), "effect");
            self.carry_out(inner, effect);
        }
        inner.account(now);
        let gate = match &inner.blocked {
            Some(problem) => Gate::Refuse(problem.clone()),
            None => inner.session.gate(),
        };
        self.gate.send_if_modified(|present| {
            let changed = *present != gate;
            *present = gate;
            changed
        });
        self.status.send_replace(inner.status(&self.home, now));
        self.deadline_changed.notify_one();
    }

    fn carry_out(self: &Arc<Self>, inner: &mut Inner, effect: Effect) {
        match effect {
            Effect::TurnDay => inner.tell_day(clock::now()),
            Effect::SelectContext | Effect::RestoreContext => {
                let on = effect == Effect::SelectContext;
                inner.context_problem = self.point_clients(on, &inner.settings);
            }
            Effect::Start(operation) => {
                let take_over = std::mem::take(&mut inner.take_over);
                let planned = inner.read_policy(&self.policy_file).and_then(|()| {
                    inner.policy.check_runner(&inner.settings.runner)?;
                    effects::prepare(&inner.settings, &self.runners, &self.identity, lease(&inner.settings), take_over)
                });
                match planned {
                    Ok(plan) => {
                        inner.current = Some(Current {
                            record: plan.record.clone(),
                            environment: None,
                            progress: None,
                            link_problem: None,
                            work: Vec::new(),
                            kept: Vec::new(),
                        });
                        inner.task = Some(tokio::spawn(effects::start(self.clone(), operation, plan)));
                    }
                    Err(problem) => inner.session.handle_started(clock::now(), operation, Err(problem)),
                }
            }
            Effect::Suspend(operation) => {
                let environment = inner.environment();
                inner.task = Some(tokio::spawn(effects::suspend(self.clone(), operation, environment)));
            }
            Effect::Resume(operation) => {
                let environment = inner.environment();
                inner.task = Some(tokio::spawn(effects::resume(self.clone(), operation, environment)));
            }
            Effect::Delete(operation) => {
                let cancelled = inner.task.take();
                let current = inner.current.take();
                inner.task = Some(tokio::spawn(effects::delete(self.clone(), operation, current, cancelled)));
            }
        }
    }

    /// Points Docker clients here or back to where they pointed before: the CLI's context, and the well-known socket if the
    /// settings ask for it. Returns what went wrong; clients that are given the socket work all the same.
    fn point_clients(&self, on: bool, settings: &Settings) -> Option<Problem> {
        let hint =
            || format!("Point tools at the engine with DOCKER_HOST=unix://{}.", self.home.docker_socket().display());
        let socket =
            if on && settings.default_socket { self.default_socket.take() } else { self.default_socket.give_back() };
        let socket = socket.err().map(|error| {
            let path = self.default_socket.path().display();
            Problem::new(ErrorCode::InvalidSettings, format!("cannot change {path}: {error}"), hint())
        });
        let context = self.context.as_ref().and_then(|context| {
            let result = if on && settings.select_context { context.select() } else { context.restore() };
            let message = format!("cannot change the current Docker context: {}", result.err()?);
            Some(Problem::new(ErrorCode::InvalidSettings, message, hint()))
        });
        let problem = socket.or(context);
        if let Some(problem) = &problem {
            tracing::warn!(on, "{problem}");
        }
        problem
    }

    /// Starts the desktop app at login, or no longer. Returns what went wrong.
    fn follow_login(&self, on: bool) -> Option<Problem> {
        let error = self.login_entry.set(on).err()?;
        tracing::warn!(%error, on, "the start at login cannot be changed");
        let message = format!("cannot change what starts at login: {error}");
        Some(Problem::new(
            ErrorCode::InvalidSettings,
            message,
            "Install the desktop app, or set start-at-login to false.",
        ))
    }

    // What the proxy's calls do.

    /// A call; also whether it is polling.
    pub(crate) fn handle_call(self: &Arc<Self>, call: &Call<'_>) -> (ActivityId, Decision, bool) {
        let blocked = self.lock().blocked.clone();
        let (id, decision, poll) = self.input(|session, now| {
            let (id, decision) = session.handle_call(now, call);
            (id, decision, session.is_poll(id))
        });
        (id, blocked.map_or(decision, Decision::Refuse), poll)
    }

    pub(crate) fn handle_call_again(self: &Arc<Self>, id: ActivityId) -> Decision {
        self.input(|session, now| session.handle_call_again(now, id))
    }

    pub(crate) fn handle_call_end(self: &Arc<Self>, id: ActivityId) {
        self.input(|session, now| session.handle_call_end(now, id));
    }

    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Whether calls pass at the moment.
    pub(crate) fn is_open(&self) -> bool {
        *self.gate.borrow() == Gate::Open
    }

    pub(crate) fn environment(&self) -> Option<Arc<Environment>> {
        self.lock().environment()
    }

    /// An environment turned out to be lost; returns once the machine has heard of it.
    pub(crate) async fn lost(self: &Arc<Self>, id: &EnvironmentId, problem: Problem) {
        self.handle_link(id, Some(problem), true);
    }

    /// By what runners know this home.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether an environment is the present session's.
    pub(crate) fn owns(&self, id: &EnvironmentId) -> bool {
        self.lock().current.as_ref().is_some_and(|current| current.record.environment == *id)
    }

    pub(crate) fn facts(&self) -> Value {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where no engine was ever seen: what its version tells, so that a client's first question wakes nothing. Where the runner
    /// takes long to tell, it is waited for in the background.
    pub(crate) async fn expect_facts(self: &Arc<Self>) {
        let runner = self.settings().runner;
        let (true, Ok(provider)) = (self.facts().is_null(), self.runners.get(&runner)) else { return };
        let hub = Arc::downgrade(self);
        let told = tokio::spawn(async move {
            let expected = provider.engine_version().await.and_then(|version| facts_of_version(&version));
            let (Some(expected), Some(hub)) = (expected, hub.upgrade()) else { return };
            let mut facts = hub.facts.lock().unwrap_or_else(PoisonError::into_inner);
            // An engine that was seen meanwhile knows better.
            if facts.is_null() {
                *facts = expected;
            }
        });
        let _late = tokio::time::timeout(EXPECTATION, told).await;
    }

    pub(crate) fn set_facts(&self, facts: Value) {
        facts::save(&self.home.engine_facts_file(), &facts);
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    // What the environment tells. Reports about an environment that is not the present one are out of date.

    pub(crate) fn handle_link(self: &Arc<Self>, id: &EnvironmentId, problem: Option<Problem>, gone: bool) {
        let mut inner = self.lock();
        let Some(current) = inner.current.as_mut().filter(|current| current.record.environment == *id) else { return };
        current.link_problem.clone_from(&problem);
        let now = clock::now();
        if let Some(problem) = problem.filter(|_| gone) {
            inner.account_before(now);
            inner.session.handle_lost(now, problem);
        }
        self.settle(&mut inner, now);
    }

    /// Shows what has changed beside the machine: ports.
    pub(crate) fn show(self: &Arc<Self>) {
        let mut inner = self.lock();
        self.settle(&mut inner, clock::now());
    }

    pub(crate) fn handle_containers(self: &Arc<Self>, id: &EnvironmentId, names: Vec<String>, images: &[String]) {
        let mut inner = self.lock();
        if inner.current.as_ref().is_some_and(|current| current.record.environment == *id) {
            let now = clock::now();
            inner.accounts.saw(&names, images);
            inner.session.handle_containers(now, names);
            self.settle(&mut inner, now);
        }
    }

    // What effects answer.

    pub(crate) fn handle_progress(self: &Arc<Self>, id: &EnvironmentId, progress: Progress) {
        let mut inner = self.lock();
        if let Some(current) = inner.current.as_mut().filter(|current| current.record.environment == *id) {
            current.progress = Some(progress);
            self.settle(&mut inner, clock::now());
        }
    }

    /// The environment that is to be, where another one than was planned takes its place.
    pub(crate) fn handle_chosen(self: &Arc<Self>, planned: &EnvironmentId, chosen: &EnvironmentId) {
        let mut inner = self.lock();
        if let Some(current) = inner.current.as_mut().filter(|current| current.record.environment == *planned) {
            current.record.environment = chosen.clone();
        }
    }

    pub(crate) fn handle_started(
        self: &Arc<Self>,
        operation: Operation,
        result: Result<(Record, Arc<Environment>), Problem>,
    ) {
        let mut inner = self.lock();
        let now = clock::now();
        let result = match result {
            Ok((record, environment)) => {
                inner.first_use = false;
                if let Some(current) =
                    inner.current.as_mut().filter(|current| current.record.environment == environment.id)
                {
                    current.record = record;
                    current.progress = None;
                    current.environment = Some(environment.clone());
                    environment.watch(self);
                }
                Ok(())
            }
            Err(problem) => {
                tracing::warn!(code = ?problem.code, "the start failed: {problem}");
                inner.current = None;
                Err(problem)
            }
        };
        inner.session.handle_started(now, operation, result);
        self.settle(&mut inner, now);
    }

    /// Takes over an environment that an earlier daemon left.
    pub(crate) fn handle_adopted(self: &Arc<Self>, record: Record, environment: Arc<Environment>) {
        let mut inner = self.lock();
        inner.current = Some(Current {
            record,
            environment: Some(environment.clone()),
            progress: None,
            link_problem: None,
            work: Vec::new(),
            kept: Vec::new(),
        });
        inner.first_use = false;
        let now = clock::now();
        inner.session.handle_adopted(now);
        self.settle(&mut inner, now);
        drop(inner);
        environment.watch(self);
    }

    pub(crate) fn handle_suspended(self: &Arc<Self>, operation: Operation, result: Result<(), Problem>) {
        self.input(|session, now| session.handle_suspended(now, operation, result));
    }

    pub(crate) fn handle_resumed(self: &Arc<Self>, operation: Operation, result: Result<(), Problem>) {
        self.input(|session, now| session.handle_resumed(now, operation, result));
    }

    pub(crate) fn handle_deleted(self: &Arc<Self>, operation: Operation, result: Result<(), Problem>) {
        self.input(|session, now| session.handle_deleted(now, operation, result));
    }

    /// What an environment that is about to be suspended holds.
    pub(crate) fn handle_work(self: &Arc<Self>, id: &EnvironmentId, work: Vec<Work>) {
        let mut inner = self.lock();
        if let Some(current) = inner.current.as_mut().filter(|current| current.record.environment == *id) {
            current.work = work;
            for work in &mut current.work {
                let kept = current.kept.iter().find(|kept| (kept.kind, &kept.name) == (work.kind, &work.name));
                work.kept_in = kept.and_then(|kept| kept.kept_in.clone());
            }
            self.settle(&mut inner, clock::now());
        }
    }

    /// This work of the environment is saved.
    pub(crate) fn handle_kept(self: &Arc<Self>, id: &EnvironmentId, kept: &[Work]) {
        let mut inner = self.lock();
        if let Some(current) = inner.current.as_mut().filter(|current| current.record.environment == *id) {
            current.kept.retain(|old| !kept.iter().any(|new| (new.kind, &new.name) == (old.kind, &old.name)));
            current.kept.extend_from_slice(kept);
        }
    }

    /// What would be lost if the environment were deleted now. An engine that does not answer has nothing to lose that could
    /// be saved.
    pub(crate) async fn work(&self) -> Vec<Work> {
        let (environment, known) = {
            let inner = self.lock();
            let known = inner.current.as_ref().map(|current| current.work.clone()).unwrap_or_default();
            match inner.session.state() {
                State::Running => (inner.environment(), known),
                State::Suspended => return known,
                _ => return Vec::new(),
            }
        };
        let Some(environment) = environment else { return known };
        match tokio::time::timeout(SURVEY, inventory::survey(&environment.link)).await {
            Ok(Ok(work)) => work,
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "what the environment holds is not known");
                known
            }
            Err(_) => known,
        }
    }

    /// The status as it changes; its seconds are of the moment when it changed.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The status at this moment.
    pub(crate) fn status_now(&self) -> Status {
        self.lock().status(&self.home, clock::now())
    }

    /// Keeps the machine's deadlines, for as long as it is polled.
    pub(crate) async fn keep_deadlines(self: Arc<Self>) {
        loop {
            let (deadline, due) = {
                let inner = self.lock();
                let running = inner.session.state() == State::Running;
                (inner.session.poll_timeout(), inner.accounts.due().filter(|_| running))
            };
            if let Some(at) = due
                && deadline.is_none_or(|(deadline, _)| at < deadline)
            {
                tokio::select! {
                    () = clock::sleep_until(at) => self.input(|_, _| ()),
                    () = self.deadline_changed.notified() => {}
                }
                continue;
            }
            match deadline {
                None => self.deadline_changed.notified().await,
                Some((at, reason)) => tokio::select! {
                    () = clock::sleep_until(at) => {
                        tracing::debug!(reason = reason.name(), "deadline");
                        self.input(Session::handle_timeout);
                    }
                    () = self.deadline_changed.notified() => {}
                },
            }
        }
    }
}
