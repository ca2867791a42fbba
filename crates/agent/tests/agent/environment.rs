//! Agents started for a test, and ended with it, also when it fails.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use overside_model::{
    EnvironmentId, Problem,
    agent::{EnvironmentFacts, EnvironmentSpec, LeaseTerms, Limits, MAGIC, PROTOCOL, Report},
};
use russh::keys::{
    PrivateKey,
    ssh_key::private::{Ed25519Keypair, KeypairData},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Child,
    time::timeout,
};

/// Longer than anything takes, also on a machine under load.
pub(crate) const LONG: Duration = Duration::from_secs(100);

/// The program under test.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_overside-agent");

/// A place for environments, and the key that opens them.
pub(crate) struct Home {
    directory: TempDir,
    pub(crate) key: PrivateKey,
}

impl Home {
    pub(crate) fn new() -> Self {
        require("dockerd", "apt-get install docker.io");
        require("docker", "apt-get install docker.io");
        require("slirp4netns", "apt-get install slirp4netns");
        require("busybox", "apt-get install busybox-static");
        assert!(rustix::process::geteuid().is_root(), "the tests of the agent need root");
        Self { directory: tempfile::Builder::new().prefix("ov").tempdir_in("/tmp").unwrap(), key: key(1) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn spec(&self) -> EnvironmentSpec {
        let id = EnvironmentId::from_random(u64::from(std::process::id()) ^ rand());
        EnvironmentSpec {
            protocol: PROTOCOL,
            directory: self.path().join(id.as_str()),
            id,
            client_key: self.key.public_key().to_openssh().unwrap(),
            limits: Limits { milli_cpus: 1_000, memory_bytes: 1 << 30, pids: 1_000 },
            lease: LeaseTerms { grace_ms: 120_000, lost_contact_ms: 120_000 },
            engine_path: None,
            owner: None,
            socket_user: None,
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(&self.spec()).await
    }

    pub(crate) async fn start_with(&self, spec: &EnvironmentSpec) -> Running {
        self.try_start(spec, &mut Command::new(AGENT)).await.unwrap_or_else(|problem| panic!("{}", problem.sentence()))
    }

    /// Starts an agent by `program`, whose last argument is still missing.
    pub(crate) async fn try_start(&self, spec: &EnvironmentSpec, program: &mut Command) -> Result<Running, Problem> {
        program.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child =
            tokio::process::Command::from(std::mem::replace(program, Command::new("true"))).spawn().unwrap();
        let mut line = serde_json::to_vec(spec).unwrap();
        line.push(b'\n');
        child.stdin.take().unwrap().write_all(&line).await.unwrap();
        let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut running = Running { child, directory: spec.directory.clone(), facts: None };
        let mut first = true;
        loop {
            let line = timeout(LONG, reports.next_line()).await.expect("a report in time").unwrap();
            let report: Report = serde_json::from_str(&line.expect("a report before the end")).unwrap();
            match report {
                Report::Hello { magic, protocol, .. } => assert!(first && magic == MAGIC && protocol == PROTOCOL),
                Report::Step { .. } => {}
                Report::Ready(facts) => {
                    running.facts = Some(facts);
                    return Ok(running);
                }
                Report::Failed(problem) => {
                    running.ended().await;
                    return Err(problem);
                }
            }
            first = false;
        }
    }
}

/// An agent with its environment.
pub(crate) struct Running {
    child: Child,
    pub(crate) directory: PathBuf,
    facts: Option<EnvironmentFacts>,
}

impl Running {
    pub(crate) fn facts(&self) -> &EnvironmentFacts {
        self.facts.as_ref().unwrap()
    }

    /// Waits for the agent to end by itself.
    pub(crate) async fn ended(&mut self) {
        timeout(LONG, self.child.wait()).await.expect("the end of the agent in time").unwrap();
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Runs `overside-agent cleanup`.
    pub(crate) fn cleanup(&self, options: &[&str]) -> bool {
        Command::new(AGENT)
            .arg("cleanup")
            .args(options)
            .arg(&self.directory)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        // Reaped here, so that its identity is gone as well.
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
        self.cleanup(&["--force"]);
    }
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

fn rand() -> u64 {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    u64::from_ne_bytes(bytes)
}

fn require(program: &str, remedy: &str) {
    let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|path| Path::new(path).join(program).exists());
    assert!(found, "the tests of the agent need {program}: `{remedy}`");
}
