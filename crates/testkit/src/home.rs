//! A home of Overside's for one test.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::{
    DockerCli, product,
    traces::{self, Traces},
};

/// An `OVERSIDE_HOME`, a Docker configuration and a user's home directory, all of them empty and deleted in the end.
///
/// Dropped, it ends what still runs of it, and fails the test if the environment did not go away by itself.
pub struct TempHome {
    place: TempDir,
    variables: Vec<(OsString, OsString)>,
    before: Traces,
}

impl TempHome {
    /// Makes one. Its path is short, since socket paths end at 104 bytes.
    ///
    /// # Errors
    /// The directory for temporary files is not usable.
    pub fn new() -> Result<Self> {
        let place = tempfile::Builder::new().prefix("h").rand_bytes(5).tempdir()?;
        for directory in ["overside", "docker", "user", "run"] {
            fs_err::create_dir(place.path().join(directory))?;
        }
        Ok(Self { place, variables: Vec::new(), before: Traces::now() })
    }

    /// The directory that `OVERSIDE_HOME` names.
    pub fn overside_home(&self) -> PathBuf {
        self.place.path().join("overside")
    }

    /// The directory that `DOCKER_CONFIG` names.
    pub fn docker_config(&self) -> PathBuf {
        self.place.path().join("docker")
    }

    /// The Docker API's socket.
    pub fn docker_socket(&self) -> PathBuf {
        self.overside_home().join("docker.sock")
    }

    /// The control API's socket.
    pub fn control_socket(&self) -> PathBuf {
        self.overside_home().join("control.sock")
    }

    /// A place for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.place.path()
    }

    /// Writes the settings file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        let object: Map<String, Value> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        fs_err::write(self.overside_home().join("settings.json"), Value::Object(object).to_string())?;
        Ok(())
    }

    /// Gives every later program of this home one more variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// A program that sees this home and nothing of the developer's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
            .env("HOME", self.place.path().join("user"))
            .env("XDG_RUNTIME_DIR", self.place.path().join("run"))
            .env("LANG", "C.UTF-8")
            .env("OVERSIDE_HOME", self.overside_home())
            .env("DOCKER_CONFIG", self.docker_config())
            .envs(env::var_os("TMPDIR").map(|place| ("TMPDIR", place)))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.place.path());
        command
    }

    /// `overside` with arguments.
    ///
    /// # Errors
    /// The program is not built.
    pub fn overside(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.command(product("overside")?);
        command.args(arguments);
        Ok(command)
    }

    /// `docker` with arguments, in the context that Overside selected.
    ///
    /// # Errors
    /// The client's plugins cannot be linked into this home.
    pub fn docker(&self, cli: &DockerCli, arguments: &[&str]) -> Result<Command> {
        if let Some(plugins) = &cli.plugins {
            let place = self.docker_config().join("cli-plugins");
            if !place.exists() {
                std::os::unix::fs::symlink(plugins, &place).context("cannot link the client's plugins")?;
            }
        }
        let mut command = self.command(&cli.program);
        command.args(arguments);
        Ok(command)
    }

    /// What there is of this home on the machine beyond its files.
    pub fn traces(&self) -> Traces {
        Traces::of(&self.overside_home(), &self.before)
    }

    /// Waits until no environment is left, while a daemon may run on: its agent says that it is done just before it ends.
    ///
    /// # Errors
    /// Something is still there after `limit`; says what.
    pub fn wait_until_no_environment(&self, limit: std::time::Duration) -> Result<()> {
        let without_daemon = || {
            let mut traces = self.traces();
            traces.forget("overside");
            traces
        };
        traces::wait_until_gone(without_daemon, limit)
    }

    /// Waits until nothing is left of this home but files: no process, control group or mount.
    ///
    /// # Errors
    /// Something is still there after `limit`; says what.
    pub fn wait_until_clean(&self, limit: std::time::Duration) -> Result<()> {
        traces::wait_until_gone(|| self.traces(), limit)
    }
}

impl Drop for TempHome {
    fn drop(&mut self) {
        let left = traces::end(|| self.traces());
        // A test that fails for another reason shall show that one.
        let told = left.is_empty() || std::thread::panicking();
        assert!(told, "the test left behind: {left}");
    }
}
