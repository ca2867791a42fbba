//! Docker's own clients: the machine's, and a newer one where `cargo xtask test` has fetched it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// One version of Docker's client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerCli {
    /// What `docker --version` says, such as `28.5.2`.
    pub version: String,
    /// The program.
    pub program: PathBuf,
    /// Directory of its plugins, where it needs them to build.
    pub plugins: Option<PathBuf>,
}

impl DockerCli {
    fn at(program: &Path, plugins: Option<PathBuf>) -> Result<Self> {
        let output = Command::new(program)
            .arg("--version")
            .env_remove("DOCKER_CONFIG")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.strip_prefix("Docker version ").and_then(|rest| rest.split([',', '+', ' ']).next());
        let version = version.with_context(|| format!("{} says {text:?}", program.display()))?.to_owned();
        Ok(Self { version, program: program.to_path_buf(), plugins })
    }

    /// The version's first number.
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }
}

/// The clients to test with, the machine's first. Says on standard error where there is only that one.
///
/// # Errors
/// The machine has no docker.
pub fn clients() -> Result<Vec<DockerCli>> {
    // Debian's package, not whatever else comes first in the search path.
    let mut clients = vec![DockerCli::at(Path::new("/usr/bin/docker"), None)?];
    match modern() {
        Some(home) => {
            clients.push(DockerCli::at(&home.join("bin/docker"), Some(home.join("config/cli-plugins")))?);
        }
        None => eprintln!("only docker {} here; `cargo xtask test e2e` fetches a newer one", clients[0].version),
    }
    Ok(clients)
}

/// Where `cargo xtask` unpacks a newer Docker.
fn modern() -> Option<PathBuf> {
    if let Some(home) = env::var_os("OVERSIDE_TEST_MODERN_DOCKER") {
        return Some(home.into());
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache")))?;
    let entries = fs_err::read_dir(cache.join("overside/modern-docker")).ok()?;
    entries.flatten().map(|entry| entry.path()).filter(|path| path.join("bin/docker").exists()).max()
}
