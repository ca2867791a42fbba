//! What the session machine asks for, carried out.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use overside_model::{
    EnvironmentId, ErrorCode, Problem, Progress, SessionId, Settings,
    agent::{Found, LeaseTerms, Limits, Operation as AgentOperation, Owner, TakeOver},
};
use overside_runner::{Order, Provider};
use overside_session::Operation;
use overside_tunnel::{Credentials, LinkState};
use tokio::task::JoinHandle;

use crate::{
    environment::Environment,
    facts,
    hub::{Current, Hub, SURVEY},
    inventory,
    record::Record,
    runners::Runners,
};

/// Processes and threads of an environment: what a busy engine with a few hundred containers needs.
const PIDS: u64 = 32_768;
/// Longest time for the agent to freeze or thaw an environment.
const FREEZE: Duration = Duration::from_secs(20);
/// Pause before files are tried to be brought back once more.
const FLUSH_AGAIN: Duration = Duration::from_secs(5);
/// Longest time for the agent to delete its environment before the provider does it from outside.
const GRACEFUL_DELETE: Duration = Duration::from_secs(15);

/// What a start needs, decided before it begins.
pub(crate) struct Plan {
    pub(crate) record: Record,
    provider: Arc<dyn Provider>,
    limits: Limits,
    lease: LeaseTerms,
    owner: Owner,
    /// Go on with the session of another computer, where there is one.
    take_over: bool,
}

pub(crate) fn prepare(
    settings: &Settings,
    runners: &Runners,
    identity: &str,
    lease: LeaseTerms,
    take_over: bool,
) -> Result<Plan, Problem> {
    let provider = runners.get(&settings.runner)?;
    let record = Record {
        session: SessionId::from_random(rand::random()),
        environment: EnvironmentId::from_random(rand::random()),
        runner: settings.runner.clone(),
        started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        host_key: None,
        notes: Vec::new(),
    };
    let limits = Limits { milli_cpus: settings.milli_cpus, memory_bytes: settings.memory_bytes, pids: PIDS };
    let owner = Owner {
        home: identity.to_owned(),
        computer: gethostname::gethostname().to_string_lossy().into_owned(),
        started_at: record.started_at.clone(),
    };
    Ok(Plan { record, provider, limits, lease, owner, take_over })
}

/// Makes an environment and connects to it.
pub(crate) async fn start(hub: Arc<Hub>, operation: Operation, plan: Plan) {
    let id = plan.record.environment.clone();
    let provider = plan.provider.clone();
    match make(&hub, plan).await {
        Ok(made) => hub.handle_started(operation, Ok(made)),
        Err(problem) => {
            // The provider left nothing of a creation that failed, but the failure may have come later.
            if let Err(error) = provider.destroy(&id).await {
                tracing::warn!(%error, environment = %id, "what a failed start left cannot be removed");
            }
            if let Err(error) = hub.record_file.remove() {
                tracing::warn!(%error, "the session's state cannot be removed");
            }
            hub.handle_started(operation, Err(problem));
        }
    }
}

async fn make(hub: &Arc<Hub>, plan: Plan) -> Result<(Record, Arc<Environment>), Problem> {
    let Plan { mut record, provider, limits, lease, owner, take_over } = plan;
    let elsewhere = if take_over { living(&*provider).await? } else { None };
    if let Some(found) = &elsewhere {
        hub.handle_chosen(&record.environment, &found.id);
        record.environment = found.id.clone();
    }
    let id = record.environment.clone();
    let report = |progress: Progress| hub.handle_progress(&id, progress);
    let step = |step: &str, detail: &str| report(Progress { step: step.to_owned(), detail: detail.to_owned() });
    let unusable = |error: overside_tunnel::CredentialsError| {
        Problem::new(ErrorCode::Internal, format!("cannot make the session's key: {error}"), "")
    };
    let credentials = Credentials::generate().map_err(unusable)?;
    hub.record_file.begin(&record, &credentials)?;
    let client_key = credentials.public_line().map_err(unusable)?;
    let facts = if elsewhere.is_some() {
        step("agent", "Taking over the session of your other computer");
        provider.take_over(&id, &TakeOver { client_key, owner }).await?
    } else {
        step("agent", "Starting the agent");
        let order = Order { id: id.clone(), client_key, limits, lease, owner };
        provider.create(&order, &report).await?
    };
    tracing::info!(environment = %id, timings = ?facts.timings, version = facts.engine_version, "there is an environment");
    record.host_key = Some(facts.host_key.clone());
    record.notes = facts.notes;
    hub.record_file.update(&record)?;
    hub.give_up_files(false);
    step("connect", "Connecting to the engine");
    let swept = provider.clone();
    let environment = Environment::connect(hub, provider, id, credentials, facts.host_key).await?;
    let environment = Arc::new(environment);
    if elsewhere.is_some() {
        within(FREEZE, "thaw", environment.link.operate(AgentOperation::Thaw)).await?;
        environment.link.operate(AgentOperation::Lease(lease)).await?;
    }
    remember_facts(hub.clone(), environment.clone());
    // What a lost client left is found at the next occasion to speak to the runner.
    tokio::spawn(sweep(hub.clone(), swept, Some(environment.id.clone())));
    Ok((record, environment))
}

/// The living environment on a runner that can be taken over: what a failed attempt left with this home, too.
async fn living(provider: &dyn Provider) -> Result<Option<Found>, Problem> {
    Ok(provider.list().await?.into_iter().find(|found| found.alive && found.owner.is_some()))
}

/// Asks the fresh engine in the background what clients will want to know of it.
fn remember_facts(hub: Arc<Hub>, environment: Arc<Environment>) {
    tokio::spawn(async move {
        match facts::ask(&environment.link).await {
            Ok(facts) => hub.set_facts(facts),
            Err(error) => tracing::debug!(%error, "the engine's facts are not known"),
        }
    });
}

/// Removes the environments on a runner that no session owns: this home's but `kept`, and those whose agent is dead. What
/// another home of the same user's has running there is not ours to touch.
pub(crate) async fn sweep(hub: Arc<Hub>, provider: Arc<dyn Provider>, kept: Option<EnvironmentId>) {
    let runner = provider.name();
    let found = match provider.list().await {
        Ok(found) => found,
        Err(problem) => return tracing::warn!(%problem, runner, "cannot look for orphans"),
    };
    for found in found {
        let foreign = found.owner.is_some_and(|owner| owner.home != hub.identity());
        // Asked at the last moment: a session may have begun meanwhile.
        let owned = kept.as_ref() == Some(&found.id) || hub.owns(&found.id);
        if owned || found.alive && foreign {
            continue;
        }
        tracing::info!(environment = %found.id, runner, "removing an orphan");
        if let Err(problem) = provider.destroy(&found.id).await {
            tracing::warn!(%problem, environment = %found.id, "an orphan cannot be removed");
        }
    }
}

/// Connects to an environment that an earlier daemon left, and thaws it.
pub(crate) async fn adopt(
    hub: &Arc<Hub>,
    provider: Arc<dyn Provider>,
    record: &Record,
    credentials: Credentials,
) -> Result<Arc<Environment>, Problem> {
    let Some(host_key) = record.host_key.clone() else {
        return Err(Problem::new(ErrorCode::EnvironmentLost, "the environment was never ready", ""));
    };
    let id = record.environment.clone();
    let environment = Environment::connect(hub, provider, id, credentials, host_key).await?;
    within(FREEZE, "thaw", environment.link.operate(AgentOperation::Thaw)).await?;
    Ok(Arc::new(environment))
}

/// Freezes the environment.
pub(crate) async fn suspend(hub: Arc<Hub>, operation: Operation, environment: Option<Arc<Environment>>) {
    if let Some(environment) = &environment {
        // It is named while it can still be saved. An engine that does not tell is frozen all the same.
        match tokio::time::timeout(SURVEY, inventory::survey(&environment.link)).await {
            Ok(Ok(work)) => hub.handle_work(&environment.id, work),
            Ok(Err(problem)) => tracing::warn!(%problem, "what the environment holds is not known"),
            Err(_) => tracing::warn!("what the environment holds is not known: the engine does not answer"),
        }
    }
    if let Some(environment) = &environment {
        match environment.bring_back().await {
            Ok(()) => environment.saved.store(true, Ordering::Relaxed),
            // It is tried again before the environment is deleted.
            Err(problem) => tracing::warn!(%problem, "suspended with files that are not on this machine"),
        }
    }
    let result = operate(environment, "freeze", AgentOperation::Freeze).await;
    hub.handle_suspended(operation, result);
}

/// Thaws it.
pub(crate) async fn resume(hub: Arc<Hub>, operation: Operation, environment: Option<Arc<Environment>>) {
    if let Some(environment) = &environment {
        environment.saved.store(false, Ordering::Relaxed);
    }
    let result = operate(environment, "thaw", AgentOperation::Thaw).await;
    hub.handle_resumed(operation, result);
}

async fn operate(environment: Option<Arc<Environment>>, what: &str, operation: AgentOperation) -> Result<(), Problem> {
    let gone = || Problem::new(ErrorCode::EnvironmentLost, "there is no environment", "");
    let environment = environment.ok_or_else(gone)?;
    within(FREEZE, what, environment.link.operate(operation)).await
}

async fn within(limit: Duration, what: &str, work: impl Future<Output = Result<(), Problem>>) -> Result<(), Problem> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Problem::new(
            ErrorCode::EngineFailed,
            format!("the environment did not {what} within {} s", limit.as_secs()),
            "",
        ))
    })
}

/// Deletes whatever there is of the environment, after the effect that is under way was cancelled.
pub(crate) async fn delete(
    hub: Arc<Hub>,
    operation: Operation,
    current: Option<Current>,
    cancelled: Option<JoinHandle<()>>,
) {
    if let Some(task) = cancelled {
        task.abort();
        // Whether it was cancelled or had finished does not matter; that it has ended does.
        let _ = task.await;
    }
    let result = match current {
        Some(current) => {
            if let Some(environment) = &current.environment {
                bring_back(&hub, environment).await;
            }
            destroy(&hub, current).await
        }
        None => Ok(()),
    };
    if let Err(problem) = &result {
        tracing::error!(%problem, "an environment could not be removed");
    }
    hub.handle_deleted(operation, result);
}

/// Brings what containers wrote to this machine, or waits until a person says that it may be lost. What is out of contact is
/// not waited for.
async fn bring_back(hub: &Arc<Hub>, environment: &Environment) {
    let mounted = !environment.files().status().is_empty();
    if !mounted || environment.saved.load(Ordering::Relaxed) {
        return;
    }
    let lost = async {
        let mut state = environment.link.state();
        // The sender's end is as good.
        let _ = state.wait_for(|state| !matches!(state, LinkState::Up(_))).await;
    };
    let flushed = async {
        if let Err(problem) = within(FREEZE, "thaw", environment.link.operate(AgentOperation::Thaw)).await {
            tracing::warn!(%problem, "a frozen environment brings nothing back");
        }
        while let Err(problem) = environment.bring_back().await {
            tracing::warn!(%problem, "an environment is not deleted yet");
            hub.tell_files_left(Some(problem));
            tokio::time::sleep(FLUSH_AGAIN).await;
        }
    };
    tokio::select! {
        () = flushed => {}
        () = lost => {}
        () = hub.files_given_up() => tracing::info!("files in the environment are given up"),
    }
    hub.tell_files_left(None);
}

async fn destroy(hub: &Hub, current: Current) -> Result<(), Problem> {
    if let Some(environment) = &current.environment {
        let asked = environment.link.operate(AgentOperation::Delete);
        if let Err(error) = within(GRACEFUL_DELETE, "delete itself", asked).await {
            tracing::debug!(%error, "the agent did not delete its environment; the provider does");
        }
    }
    let id = &current.record.environment;
    if let Ok(provider) = hub.runners.get(&current.record.runner) {
        // Out of contact it may have gone to another computer of the user's, and is not ours to delete any more.
        let found = provider.list().await?.into_iter().find(|found| found.id == *id);
        match found.and_then(|found| found.owner).filter(|owner| owner.home != hub.identity()) {
            Some(owner) => {
                tracing::info!(environment = %id, computer = owner.computer, "left to its new owner");
                provider.release(id).await;
            }
            None => provider.destroy(id).await?,
        }
    }
    if let Some(environment) = &current.environment {
        environment.files().end().await;
    }
    hub.record_file.remove()
}
