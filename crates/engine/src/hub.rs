//! The session machine behind a lock, and what the rest of the daemon sees of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overside_config::{DefaultSocket, DockerContext, Home, SettingsFile};
use overside_io::clock;
use overside_model::{
    EnvironmentId, ErrorCode, Moment, Problem, Progress, SessionStatus, Settings, Status, Usage,
    agent::{LeaseTerms, Operation as AgentOperation},
};
use overside_runner::Provider;
use overside_session::{ActivityId, CallKind, Decision, Effect, Gate, Operation, Rules, Session};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    effects,
    environment::Environment,
    facts,
    record::{Record, RecordFile},
};

/// Everything that the daemon's tasks share.
pub(crate) struct Hub {
    pub(crate) home: Home,
    pub(crate) providers: BTreeMap<String, Arc<dyn Provider>>,
    pub(crate) record_file: RecordFile,
    pub(crate) patience: watch::Sender<Duration>,
    settings_file: SettingsFile,
    context: Option<DockerContext>,
    default_socket: DefaultSocket,
    inner: Mutex<Inner>,
    gate: watch::Sender<Gate>,
    status: watch::Sender<Status>,
    facts: Mutex<Value>,
    /// Wakes the task that keeps the machine's deadlines.
    deadline_changed: Notify,
}

struct Inner {
    session: Session,
    settings: Settings,
    /// The settings file cannot be used: nothing is done until it can.
    blocked: Option<Problem>,
    current: Option<Current>,
    /// The effect that is under way.
    task: Option<JoinHandle<()>>,
    context_problem: Option<Problem>,
    day: jiff::civil::Date,
}

/// The environment of the session, from the moment when its identifier is chosen until nothing is left of it.
pub(crate) struct Current {
    pub(crate) record: Record,
    pub(crate) environment: Option<Arc<Environment>>,
    progress: Option<Progress>,
    link_problem: Option<Problem>,
}

fn today() -> jiff::civil::Date {
    jiff::Zoned::now().date()
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
    pub(crate) fn new(home: Home, providers: Vec<Arc<dyn Provider>>) -> Arc<Self> {
        let settings_file = SettingsFile::new(home.settings_file());
        let (settings, blocked) = match settings_file.load() {
            Ok(settings) => (settings, None),
            Err(problem) => (Settings::default(), Some(problem)),
        };
        let context = DockerContext::new(&home.docker_socket(), &home.previous_context_file())
            .inspect_err(|error| tracing::warn!(%error, "there is no Docker CLI configuration to add a context to"))
            .ok();
        let default_socket = DefaultSocket::new(&home.docker_socket());
        let session = Session::new(clock::now(), Rules::from(&settings));
        let gate = watch::Sender::new(session.gate());
        let patience = watch::Sender::new(patience(&settings));
        let facts = facts::load(&home.engine_facts_file());
        let inner =
            Inner { session, settings, blocked, current: None, task: None, context_problem: None, day: today() };
        let status = watch::Sender::new(inner.status(&home, clock::now()));
        let providers = providers.into_iter().map(|provider| (provider.name().to_owned(), provider)).collect();
        Arc::new(Self {
            record_file: RecordFile::new(&home),
            home,
            providers,
            patience,
            settings_file,
            context,
            default_socket,
            inner: Mutex::new(inner),
            gate,
            status,
            facts: Mutex::new(facts),
            deadline_changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds the machine, then carries out what it asks for and tells everybody.
    fn input<T>(self: &Arc<Self>, feed: impl FnOnce(&mut Session, Moment) -> T) -> T {
        let mut inner = self.lock();
        let now = clock::now();
        inner.turn_day(now);
        let result = feed(&mut inner.session, now);
        self.settle(&mut inner, now);
        result
    }

    fn settle(self: &Arc<Self>, inner: &mut Inner, now: Moment) {
        while let Some(effect) = inner.session.poll_effect() {
            tracing::info!(?effect, state = inner.session.state().name(), "effect");
            self.carry_out(inner, effect);
        }
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
            Effect::SelectContext | Effect::RestoreContext => {
                let on = effect == Effect::SelectContext;
                inner.context_problem = self.point_clients(on, &inner.settings);
            }
            Effect::Start(operation) => {
                match effects::prepare(&inner.settings, &self.providers, lease(&inner.settings)) {
                    Ok(plan) => {
                        inner.current = Some(Current {
                            record: plan.record.clone(),
                            environment: None,
                            progress: None,
                            link_problem: None,
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

    // What the proxy's calls do.

    pub(crate) fn handle_call(self: &Arc<Self>, kind: CallKind, detail: &str) -> (ActivityId, Decision) {
        let blocked = self.lock().blocked.clone();
        let (id, decision) = self.input(|session, now| session.handle_call(now, kind, detail));
        (id, blocked.map_or(decision, Decision::Refuse))
    }

    pub(crate) fn handle_call_again(self: &Arc<Self>, id: ActivityId, kind: CallKind) -> Decision {
        self.input(|session, now| session.handle_call_again(now, id, kind))
    }

    pub(crate) fn handle_call_end(self: &Arc<Self>, id: ActivityId) {
        self.input(|session, now| session.handle_call_end(now, id));
    }

    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    pub(crate) fn environment(&self) -> Option<Arc<Environment>> {
        self.lock().environment()
    }

    /// An environment turned out to be lost; returns once the machine has heard of it.
    pub(crate) async fn lost(self: &Arc<Self>, id: &EnvironmentId, problem: Problem) {
        self.handle_link(id, Some(problem), true);
    }

    pub(crate) fn facts(&self) -> Value {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            inner.session.handle_lost(now, problem);
        }
        self.settle(&mut inner, now);
    }

    pub(crate) fn handle_containers(self: &Arc<Self>, id: &EnvironmentId, names: Vec<String>) {
        let mut inner = self.lock();
        if inner.current.as_ref().is_some_and(|current| current.record.environment == *id) {
            let now = clock::now();
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

    pub(crate) fn handle_started(
        self: &Arc<Self>,
        operation: Operation,
        result: Result<(Record, Arc<Environment>), Problem>,
    ) {
        let mut inner = self.lock();
        let now = clock::now();
        let result = match result {
            Ok((record, environment)) => {
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
        inner.current =
            Some(Current { record, environment: Some(environment.clone()), progress: None, link_problem: None });
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

    // What users do.

    /// Turns on. Settings that could not be used are read again first.
    pub(crate) fn enable(self: &Arc<Self>) -> Result<(), Problem> {
        {
            let mut inner = self.lock();
            if inner.blocked.is_some() {
                let settings = self.settings_file.load()?;
                inner.blocked = None;
                inner.session.handle_rules(Rules::from(&settings));
                inner.settings = settings;
            }
        }
        self.set_setting("enabled", &true.into())
    }

    /// Turns off, for good (`keep`: only until the daemon starts again).
    pub(crate) fn disable(self: &Arc<Self>, keep: bool) -> Result<(), Problem> {
        if keep {
            self.input(|session, now| session.handle_disable(now));
            return Ok(());
        }
        let saved = self.set_setting("enabled", &false.into());
        // Turning off must not fail for a full disk.
        self.input(|session, now| session.handle_disable(now));
        saved
    }

    pub(crate) fn idle_now(self: &Arc<Self>) -> Result<(), Problem> {
        self.input(|session, now| session.handle_idle_now(now))
    }

    pub(crate) fn later(self: &Arc<Self>) {
        self.input(|session, now| session.handle_later(now));
    }

    pub(crate) fn retry(self: &Arc<Self>) {
        self.input(|session, now| session.handle_retry(now));
    }

    /// What the settings say at the start of the daemon.
    pub(crate) fn begin(self: &Arc<Self>) {
        let (enabled, usable) = {
            let inner = self.lock();
            (inner.settings.enabled, inner.blocked.is_none())
        };
        if enabled && usable {
            self.input(|session, now| session.handle_enable(now));
        } else {
            // A daemon that was killed while it was on may have left its context selected.
            let mut inner = self.lock();
            inner.context_problem = self.point_clients(false, &inner.settings);
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Changes a setting: saved first, then applied.
    pub(crate) fn set_setting(self: &Arc<Self>, name: &str, value: &Value) -> Result<(), Problem> {
        let mut inner = self.lock();
        if let Some(problem) = &inner.blocked {
            return Err(problem.clone());
        }
        let mut settings = inner.settings.clone();
        settings.set(name, value)?;
        if !self.providers.contains_key(&settings.runner) {
            let known: Vec<_> = self.providers.keys().map(String::as_str).collect();
            return Err(Problem::new(
                ErrorCode::UnknownName,
                format!("there is no runner {:?}; there are {}", settings.runner, known.join(", ")),
                "",
            ));
        }
        if settings != inner.settings {
            self.settings_file.save(&settings)?;
        }
        let before = std::mem::replace(&mut inner.settings, settings.clone());
        inner.session.handle_rules(Rules::from(&settings));
        self.patience.send_replace(patience(&settings));
        let now = clock::now();
        match settings.enabled {
            true if name == "enabled" => inner.session.handle_enable(now),
            false if name == "enabled" => inner.session.handle_disable(now),
            _ => {}
        }
        let pointed = |settings: &Settings| (settings.select_context, settings.default_socket);
        if pointed(&before) != pointed(&settings) && inner.session.is_enabled() {
            inner.context_problem = self.point_clients(true, &settings);
        }
        if lease(&before) != lease(&settings)
            && let Some(environment) = inner.environment()
        {
            let terms = lease(&settings);
            tokio::spawn(async move {
                if let Err(error) = environment.link.operate(AgentOperation::Lease(terms)).await {
                    tracing::warn!(%error, "the environment did not take its new lease");
                }
            });
        }
        self.settle(&mut inner, now);
        Ok(())
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
            let deadline = self.lock().session.poll_timeout();
            match deadline {
                None => self.deadline_changed.notified().await,
                Some((at, reason)) => tokio::select! {
                    () = clock::sleep_until(at) => {
                        tracing::debug!(reason, "deadline");
                        self.input(Session::handle_timeout);
                    }
                    () = self.deadline_changed.notified() => {}
                },
            }
        }
    }
}

impl Inner {
    fn environment(&self) -> Option<Arc<Environment>> {
        self.current.as_ref()?.environment.clone()
    }

    fn turn_day(&mut self, now: Moment) {
        let day = today();
        if day != self.day {
            self.day = day;
            self.session.handle_day(now);
        }
    }

    fn status(&self, home: &Home, now: Moment) -> Status {
        let view = self.session.view(now);
        let whole = |duration: Duration| duration.as_secs();
        let up = |duration: Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        let link_problem = self.current.as_ref().and_then(|current| current.link_problem.clone());
        Status {
            state: view.state,
            runner: self.settings.runner.clone(),
            socket: home.docker_socket().display().to_string(),
            session: self.current.as_ref().map(|current| SessionStatus {
                id: current.record.session.clone(),
                started_at: current.record.started_at.clone(),
                environment: Some(current.record.environment.clone()),
                notes: current.record.notes.clone(),
            }),
            progress: self.current.as_ref().and_then(|current| current.progress.clone()),
            awake_because: view.awake_because,
            ignored_pollers: Vec::new(),
            idle_in_seconds: view.idle_in.map(up),
            grace_remaining_seconds: view.grace_remaining.map(up),
            prompt: None,
            usage: Usage { today_seconds: whole(view.used_today), limit_seconds: whole(self.settings.daily_limit) },
            ports: Vec::new(),
            mounts: Vec::new(),
            error: self.blocked.clone().or(view.error).or(link_problem).or_else(|| self.context_problem.clone()),
        }
    }
}
