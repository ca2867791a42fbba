//! The embedded runner: environments on this Linux machine, each an engine in namespaces of its own.
//!
//! The work is the agent's (`overside-agent serve`); this crate starts it, reads its reports and connects to its socket.

use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use overside_io::{BoxedStream, local};
use overside_model::{
    EnvironmentId, ErrorCode, Hop, Problem,
    agent::{EnvironmentFacts, EnvironmentSpec, Findings, Found, PROTOCOL},
};
use overside_runner::{
    Order, ProgressSink, Provider,
    reports::{self, Stop},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// Name of the agent's socket in an environment's directory.
const SOCKET: &str = "agent.sock";

/// The local runner.
#[derive(Debug)]
pub struct Local {
    environments: PathBuf,
    agent: PathBuf,
    engine_path: Option<Vec<PathBuf>>,
    /// The agents that this process started, until they have ended.
    agents: Mutex<HashMap<EnvironmentId, JoinHandle<()>>>,
}

/// Longest time that an agent may take to end after its environment is gone: it waits a second for its client.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// Bytes of standard error that are kept for an error's text.
const MAX_STDERR: u64 = 16 * 1024;

/// Longest time that an agent may take to look at this machine; it takes a tenth of a second.
const CHECK: Duration = Duration::from_secs(2);

impl Local {
    /// A runner that keeps its environments below `environments` and starts the program `agent`. `engine_path` are
    /// directories to find dockerd in, instead of the usual ones.
    pub fn new(environments: impl Into<PathBuf>, agent: impl Into<PathBuf>, engine_path: Option<Vec<PathBuf>>) -> Self {
        Self { environments: environments.into(), agent: agent.into(), engine_path, agents: Mutex::default() }
    }

    fn directory(&self, id: &EnvironmentId) -> PathBuf {
        self.environments.join(id.as_str())
    }

    fn socket(&self, id: &EnvironmentId) -> Result<PathBuf, Problem> {
        let path = self.directory(id).join(SOCKET);
        let length = path.as_os_str().len();
        if length <= local::MAX_SOCKET_PATH {
            return Ok(path);
        }
        Err(Problem::new(
            ErrorCode::SocketPath,
            format!(
                "the socket path {} has {length} bytes, and {} are the limit",
                path.display(),
                local::MAX_SOCKET_PATH
            ),
            "Set OVERSIDE_HOME to a directory with a shorter path.",
        ))
    }

    /// Starts the agent's look at this machine, for the engine that environments get.
    fn spawn_check(&self) -> Result<Child, Problem> {
        let path = self.engine_path.as_ref().map(env::join_paths).transpose();
        let path = path.map_err(|error| {
            let hint = "Set OVERSIDE_ENGINE_PATH to directories that can stand in a list.";
            Problem::new(ErrorCode::EngineMissing, format!("the engine's path is unusable: {error}"), hint)
        })?;
        self.spawn(&["check"], path.as_deref())
    }

    fn spawn(&self, arguments: &[&str], last: Option<&OsStr>) -> Result<Child, Problem> {
        Command::new(&self.agent)
            .args(arguments)
            .args(last)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_started(&error))
    }

    /// Removes what the agent has not removed itself.
    async fn clean_up(&self, id: &EnvironmentId) -> Result<(), Problem> {
        let directory = self.directory(id);
        if !directory.exists() {
            return Ok(());
        }
        let child = self.spawn(&["cleanup", "--force"], Some(directory.as_os_str()))?;
        let failed = |detail: String| {
            Problem::new(
                ErrorCode::EngineFailed,
                format!("environment {id} could not be removed completely: {detail}"),
                format!("Run `{} cleanup --force {}` by hand.", self.agent.display(), directory.display()),
            )
        };
        let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(reports::last_lines(&output.stderr)))
    }

    /// What the agent finds on this machine, as hops: the agent itself, what environments need, and the engine.
    async fn look(&self) -> Vec<Hop> {
        let failed = |problem: Problem| {
            vec![Hop::failed("agent", problem), Hop::skipped("runner", ""), Hop::skipped("engine", "")]
        };
        let child = match self.spawn_check() {
            Ok(child) => child,
            Err(problem) => return failed(problem),
        };
        let unusable = |detail: String| {
            failed(Problem::new(
                ErrorCode::AgentIncompatible,
                format!("{} does not say what this machine can do: {detail}", self.agent.display()),
                "Reinstall Overside, or set OVERSIDE_AGENT to the program's path.",
            ))
        };
        let output = match tokio::time::timeout(CHECK, child.wait_with_output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return unusable(error.to_string()),
            Err(_) => return unusable(format!("no answer within {} s", CHECK.as_secs())),
        };
        match serde_json::from_slice::<Findings>(&output.stdout) {
            Ok(findings) => findings.hops(),
            Err(error) => unusable(error.to_string()),
        }
    }

    fn not_started(&self, error: &io::Error) -> Problem {
        let agent = self.agent.display();
        match error.kind() {
            io::ErrorKind::NotFound => Problem::new(
                ErrorCode::AgentMissing,
                format!("overside-agent is not at {agent}"),
                "Reinstall Overside, or set OVERSIDE_AGENT to the program's path.",
            ),
            _ => Problem::new(
                ErrorCode::AgentMissing,
                format!("cannot start {agent}: {error}"),
                "Check that it is an executable for this machine.",
            ),
        }
    }
}

#[async_trait]
impl Provider for Local {
    fn name(&self) -> &str {
        "local"
    }

    async fn create(&self, order: &Order, progress: ProgressSink<'_>) -> Result<EnvironmentFacts, Problem> {
        self.socket(&order.id)?;
        let spec = EnvironmentSpec {
            protocol: PROTOCOL,
            id: order.id.clone(),
            directory: self.directory(&order.id),
            client_key: order.client_key.clone(),
            limits: order.limits,
            lease: order.lease,
            engine_path: self.engine_path.clone(),
            owner: Some(order.owner.clone()),
            socket_user: None,
        };
        let line = serde_json::to_string(&spec).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot describe the environment: {error}"), "")
        })?;
        let mut child = self.spawn(&["serve"], None)?;
        if let Some(mut stdin) = child.stdin.take() {
            // An agent that died already says more about it on its standard output and error than this write does.
            let _ = stdin.write_all(format!("{line}\n").as_bytes()).await;
        }
        let facts = read_reports(&mut child, progress).await?;
        // From here on the agent lives by its lease, not by this process; it is only reaped here when it ends.
        let ended = tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                tracing::info!(%status, "the agent ended");
            }
        });
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).insert(order.id.clone(), ended);
        Ok(facts)
    }

    async fn open(&self, id: &EnvironmentId) -> Result<BoxedStream, Problem> {
        let path = self.socket(id)?;
        match local::connect(&path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(unreachable(id, &path, &error)),
        }
    }

    async fn destroy(&self, id: &EnvironmentId) -> Result<(), Problem> {
        self.clean_up(id).await?;
        let agent = self.agents.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(agent) = agent {
            // One that hangs has nothing left to hold on to.
            let _ = tokio::time::timeout(LAST_BREATH, agent).await;
        }
        Ok(())
    }

    async fn engine_version(&self) -> Option<String> {
        let child = self.spawn_check().ok()?;
        let output = tokio::time::timeout(CHECK, child.wait_with_output()).await.ok()?.ok()?;
        serde_json::from_slice::<Findings>(&output.stdout).ok()?.engine
    }

    fn kind(&self) -> &'static str {
        "local"
    }

    async fn test(&self) -> Vec<Hop> {
        let began = Instant::now();
        let mut hops = self.look().await;
        if let Some(first) = hops.first_mut() {
            first.took_ms = u64::try_from(began.elapsed().as_millis()).ok();
        }
        hops
    }

    async fn list(&self) -> Result<Vec<Found>, Problem> {
        let entries = match fs_err::read_dir(&self.environments) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Problem::new(ErrorCode::RunnerUnreachable, error.to_string(), "")),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        // They lie in the home itself, so that nobody else can have made them.
        let found = |id| Found { id, owner: None, alive: true };
        Ok(names.filter_map(|name| name.parse().ok()).map(found).collect())
    }
}

/// Reads reports until the environment is ready or has failed.
async fn read_reports(child: &mut Child, progress: ProgressSink<'_>) -> Result<EnvironmentFacts, Problem> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Problem::new(ErrorCode::Internal, "the agent has no standard output", ""));
    };
    // Nothing speaks before the agent here.
    let said = match reports::follow(&mut BufReader::new(stdout), 0, progress).await {
        Ok(facts) => return Ok(facts),
        Err(Stop::Failed(problem)) => return Err(problem),
        Err(Stop::Ended { .. }) => {
            let mut said = Vec::new();
            // What it said before it ended; unreadable is as good as nothing.
            let _ = stderr.take(MAX_STDERR).read_to_end(&mut said).await;
            reports::last_lines(&said)
        }
    };
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    Err(Problem::new(
        ErrorCode::EngineFailed,
        format!("the agent ended while it was starting the environment ({status}): {said}"),
        "Try again; `overside status` shows the error.",
    ))
}

fn unreachable(id: &EnvironmentId, path: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Problem::new(
            ErrorCode::EnvironmentLost,
            format!("the agent of environment {id} is gone"),
            "The next docker command gets a new environment.",
        ),
        _ => Problem::new(ErrorCode::RunnerUnreachable, format!("cannot connect to {}: {error}", path.display()), ""),
    }
}
