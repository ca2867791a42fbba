//! The SSH runner: environments on any Linux machine that one can log in to.
//!
//! One SSH connection to the host carries everything: it brings the agent's program there (once a version), starts
//! `overside-agent serve` detached from the login, and opens streams to the agent's socket. What an environment is, is the
//! agent's matter, as on this machine.

mod address;
mod host;
mod places;
mod route;
mod shell;
mod ssh_config;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overside_io::BoxedStream;
use overside_keyring::Keyring;
use overside_model::{
    Answer, EnvironmentId, ErrorCode, Hop, HopStatus, Problem, Question, RunnerEntry,
    agent::{EnvironmentFacts, Found, TakeOver},
};
use overside_runner::{Order, ProgressSink, Provider};
use overside_tunnel::outer::{Blocked, Keys, Outer, Route, Trail};
use tokio::{sync::Mutex, time::timeout};

use crate::{address::Address, host::Login};

/// Where on this computer the runner finds what it needs.
#[derive(Debug, Clone)]
pub struct Places {
    /// The agent's program for this machine; those for others lie beside it.
    agent: PathBuf,
    /// The file of accepted host keys.
    known_hosts: PathBuf,
    /// Decrypted keys, the same for all runners.
    keys: Keys,
    /// Passphrases that were to be kept.
    keyring: Keyring,
}

impl Places {
    /// `agent`: the agent's program for this kind of machine; `overside-agent-x86_64` and `overside-agent-aarch64` are looked
    /// for beside it. `known_hosts`: where host keys are kept that a person has accepted. `keyring`: where passphrases are.
    pub fn new(agent: PathBuf, known_hosts: PathBuf, keyring: Keyring) -> Self {
        Self { agent, known_hosts, keys: Keys::default(), keyring }
    }
}

/// A runner that is reached by SSH.
#[derive(Debug)]
pub struct Ssh {
    name: String,
    text: String,
    address: Address,
    places: Places,
    /// The connection, while there is an environment or one is being made.
    kept: Mutex<Kept>,
    /// The engine's version, once an environment or a look at the host has told it.
    engine: StdMutex<Option<String>>,
}

/// The connection that is kept, and for what.
#[derive(Debug, Default)]
struct Kept {
    login: Option<Arc<Login>>,
    /// The environment that it was last used for.
    environment: Option<EnvironmentId>,
}

/// How long a stream may take to open on a connection that was there before. The network may have changed under it, which it
/// would find out much later.
const OPEN: Duration = Duration::from_secs(8);

/// The hops of a test, in order; `jump` is there only where there are jump hosts.
const HOPS: &[&str] = &["dns", "tcp", "host-key", "login", "shell", "agent", "runner", "engine"];

/// Addresses of the hosts that the user's SSH configuration has sections for. None where it cannot be read: whoever uses one
/// of them is told why.
pub fn configured() -> Vec<String> {
    let addresses = route::configured().into_iter().map(|host| format!("ssh://{host}"));
    addresses.filter(|address| Address::parse(address).is_ok()).collect()
}

impl Ssh {
    /// The runner of an entry. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidSettings`] for an address that is none.
    pub fn new(entry: &RunnerEntry, places: Places) -> Result<Self, Problem> {
        Ok(Self {
            name: entry.name.clone(),
            text: entry.address.clone(),
            address: Address::parse(&entry.address)?,
            places,
            kept: Mutex::default(),
            engine: StdMutex::default(),
        })
    }

    /// Logs in, with the passphrases of the keyring where they are needed; `accept` is a host key that a person has just
    /// accepted.
    async fn connect(&self, accept: Option<&overside_model::HostKey>, trail: &mut Trail) -> Result<Outer, Blocked> {
        // Read anew each time: the user changes it, and tries again.
        let hosts = route::of(&self.address).inspect_err(|problem| trail.failed("dns", problem))?;
        let Places { known_hosts, keys, .. } = &self.places;
        let mut opened = Vec::new();
        loop {
            let route = Route { hosts: &hosts, accepted: known_hosts, keys, accept };
            let blocked = match Outer::connect(route, trail).await {
                Ok(outer) => return Ok(outer),
                Err(blocked) => blocked,
            };
            match blocked.question.as_deref() {
                // Each key once, so that this ends.
                Some(Question::Passphrase { key }) if !opened.contains(key) && self.opens_by_keyring(key).await => {
                    opened.push(key.clone());
                    // The way begins anew.
                    *trail = Trail::default();
                }
                _ => return Err(blocked),
            }
        }
    }

    /// Whether a key opens with what the keyring has for it. A passphrase that does not open it any more is forgotten.
    async fn opens_by_keyring(&self, key: &str) -> bool {
        let Places { keys, keyring, .. } = &self.places;
        let Some(passphrase) = keyring.passphrase(key, &self.name).await else { return false };
        let opened = keys.unlock(key.as_ref(), passphrase).await;
        if let Err(problem) = &opened {
            tracing::info!(%problem, "the keyring's passphrase is forgotten");
            keyring.forget_key(key).await;
        }
        opened.is_ok()
    }

    /// The connection that there is, or a new one, with the agent in its place. `environment` is what it is for.
    async fn login(&self, environment: Option<&EnvironmentId>) -> Result<Arc<Login>, Problem> {
        let mut kept = self.kept.lock().await;
        if environment.is_some() {
            kept.environment = environment.cloned();
        }
        if let Some(login) = kept.login.as_ref().filter(|login| !login.is_ended()) {
            return Ok(login.clone());
        }
        let outer = self.connect(None, &mut Trail::default()).await.map_err(|blocked| self.named(blocked.problem))?;
        let login = Login::enter(outer, &self.places.agent, &mut Trail::default()).await;
        let login = Arc::new(login.map_err(|problem| self.named(problem))?);
        kept.login = Some(login.clone());
        Ok(login)
    }

    /// Ends the connection, unless it is there for another environment.
    async fn leave(&self, environment: Option<&EnvironmentId>) {
        let mut kept = self.kept.lock().await;
        if kept.environment.is_none() || kept.environment.as_ref() == environment {
            *kept = Kept::default();
        }
    }

    /// Lets go of a connection that does not answer.
    async fn give_up(&self, login: &Arc<Login>) {
        let mut kept = self.kept.lock().await;
        if kept.login.as_ref().is_some_and(|other| Arc::ptr_eq(other, login)) {
            kept.login = None;
        }
    }

    /// A problem whose hint names a command of `overside runner`, with this runner's name in it.
    fn named(&self, mut problem: Problem) -> Problem {
        let name = &self.name;
        problem.hint = problem.hint.replace("overside runner unlock", &format!("overside runner unlock {name}"));
        problem.hint = problem.hint.replace("overside runner test", &format!("overside runner test {name}"));
        problem
    }
}

#[async_trait]
impl Provider for Ssh {
    fn name(&self) -> &str {
        &self.name
    }

    async fn create(&self, order: &Order, progress: ProgressSink<'_>) -> Result<EnvironmentFacts, Problem> {
        progress(overside_model::Progress { step: "login".into(), detail: format!("Logging in to {}", self.address) });
        let login = self.login(Some(&order.id)).await?;
        let facts = login.serve(order, progress).await.map_err(|problem| self.named(problem))?;
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts.engine_version.clone());
        Ok(facts)
    }

    async fn take_over(&self, id: &EnvironmentId, to: &TakeOver) -> Result<EnvironmentFacts, Problem> {
        let facts = self.login(Some(id)).await?.take_over(id, to).await.map_err(|problem| self.named(problem))?;
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts.engine_version.clone());
        Ok(facts)
    }

    async fn release(&self, id: &EnvironmentId) {
        self.leave(Some(id)).await;
    }

    async fn open(&self, id: &EnvironmentId) -> Result<BoxedStream, Problem> {
        let login = self.login(Some(id)).await?;
        if let Ok(opened) = timeout(OPEN, login.open(id)).await {
            return opened;
        }
        tracing::info!(runner = self.name, "the connection does not answer; logging in again");
        self.give_up(&login).await;
        self.login(Some(id)).await?.open(id).await
    }

    async fn destroy(&self, id: &EnvironmentId) -> Result<(), Problem> {
        let destroyed = self.login(None).await?.destroy(id).await;
        self.leave(Some(id)).await;
        destroyed
    }

    async fn engine_version(&self) -> Option<String> {
        if let Some(known) = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Some(known);
        }
        let found = self.login(None).await.ok()?.engine();
        self.leave(None).await;
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
        found
    }

    fn kind(&self) -> &'static str {
        "ssh"
    }

    fn address(&self) -> Option<String> {
        Some(self.text.clone())
    }

    async fn test(&self) -> Vec<Hop> {
        let mut trail = Trail::default();
        if let Ok(outer) = self.connect(None, &mut trail).await
            && let Ok(login) = Login::enter(outer, &self.places.agent, &mut trail).await
        {
            login.look(&mut trail).await;
        }
        let mut hops = trail.into_hops(HOPS);
        for hop in hops.iter_mut().filter(|hop| hop.status == HopStatus::Failed) {
            hop.hint = self.named(Problem::new(ErrorCode::Internal, "", &*hop.hint)).hint;
        }
        hops
    }

    async fn list(&self) -> Result<Vec<Found>, Problem> {
        // What is being made at this moment has nobody's name on it yet; it is told of next time.
        let found = self.login(None).await?.list().await?;
        Ok(found.into_iter().filter(|found| found.owner.is_some() || !found.alive).collect())
    }

    async fn question(&self) -> Result<Option<Question>, Problem> {
        match self.connect(None, &mut Trail::default()).await {
            Ok(_) => Ok(None),
            Err(Blocked { question: Some(question), .. }) => Ok(Some(*question)),
            Err(Blocked { problem, question: None }) => Err(self.named(problem)),
        }
    }

    async fn answer(&self, answer: Answer) -> Result<Option<Problem>, Problem> {
        match answer {
            Answer::HostKey(key) => {
                let Err(blocked) = self.connect(Some(&key), &mut Trail::default()).await else { return Ok(None) };
                let refused = match blocked.question.as_deref() {
                    Some(Question::HostKey(asked)) => asked.host == key.host,
                    // What stands in the way behind it is another question.
                    Some(_) => false,
                    None => matches!(blocked.problem.code, ErrorCode::HostKeyChanged | ErrorCode::RunnerUnreachable),
                };
                if refused { Err(self.named(blocked.problem)) } else { Ok(None) }
            }
            Answer::Passphrase { key, passphrase, remember } => {
                let Places { keys, keyring, .. } = &self.places;
                keys.unlock(key.as_ref(), passphrase.clone()).await?;
                if !remember {
                    return Ok(None);
                }
                // The key is open; without a keyring it is for as long as the daemon runs.
                Ok(keyring.keep(&key, passphrase, &self.name).await.err())
            }
        }
    }

    async fn forget(&self) -> Result<(), Problem> {
        let forgotten = match self.connect(None, &mut Trail::default()).await {
            Ok(outer) => host::forget(&outer).await,
            Err(blocked) => Err(self.named(blocked.problem)),
        };
        self.leave(None).await;
        // Last: the way there may need it.
        let here = self.places.keyring.forget_runner(&self.name).await;
        forgotten.and(here)
    }
}
