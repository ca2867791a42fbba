//! The embedded runner: environments on this Linux machine, each an engine in namespaces of its own.
//!
//! The work is the agent's (`overside-agent serve`); this crate starts it, reads its reports and connects to its socket.

mod reports;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overside_io::{BoxedStream, local};
use overside_model::{
    EnvironmentId, ErrorCode, Problem,
    agent::{EnvironmentFacts, EnvironmentSpec, PROTOCOL},
};
use overside_runner::{Order, ProgressSink, Provider};
use tokio::{
    io::AsyncWriteExt,
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

    fn spawn(&self, arguments: &[&str], directory: Option<&Path>) -> Result<Child, Problem> {
        Command::new(&self.agent)
            .args(arguments)
            .args(directory)
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
        let child = self.spawn(&["cleanup", "--force"], Some(&directory))?;
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
        };
        let line = serde_json::to_string(&spec).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot describe the environment: {error}"), "")
        })?;
        let mut child = self.spawn(&["serve"], None)?;
        if let Some(mut stdin) = child.stdin.take() {
            // An agent that died already says more about it on its standard output and error than this write does.
            let _ = stdin.write_all(format!("{line}\n").as_bytes()).await;
        }
        let facts = reports::read(&mut child, progress).await?;
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

    async fn list(&self) -> Result<Vec<EnvironmentId>, Problem> {
        let entries = match fs_err::read_dir(&self.environments) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Problem::new(ErrorCode::RunnerUnreachable, error.to_string(), "")),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }
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
