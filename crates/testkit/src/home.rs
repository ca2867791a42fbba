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
    DockerCli,
    far::{self, Far},
    product,
    traces::{self, Traces},
};

/// An `OVERSIDE_HOME`, a Docker configuration and a user's home directory, all of them empty and deleted in the end.
///
/// Dropped, it ends what still runs of it, and fails the test if the environment did not go away by itself.
pub struct TempHome {
    place: TempDir,
    variables: Vec<(OsString, OsString)>,
    /// What lies over the machine's /etc for Overside's own programs.
    etc: Option<PathBuf>,
    /// Where its environments live, if not on this machine.
    far: Option<Far>,
    before: Traces,
}

impl TempHome {
    /// Makes one. Its path is short, since socket paths end at 104 bytes. Where the test run asks for it (`cargo xtask test e2e
    /// --over-ssh`), its runner is another host.
    ///
    /// # Errors
    /// The directory for temporary files is not usable, or the other host is not to be had.
    pub fn new() -> Result<Self> {
        let mut home = Self::make()?;
        home.far = Far::wanted(&home)?;
        home.set(&[])?;
        Ok(home)
    }

    /// Makes one whose runner is this machine also where others are elsewhere, for a test that means nothing there, for the
    /// reason that `_why` tells whoever reads it.
    ///
    /// # Errors
    /// The directory for temporary files is not usable.
    pub fn here(_why: &str) -> Result<Self> {
        Self::make()
    }

    fn make() -> Result<Self> {
        let place = tempfile::Builder::new().prefix("h").rand_bytes(5).tempdir()?;
        for directory in ["overside", "docker", "user", "run"] {
            fs_err::create_dir(place.path().join(directory))?;
        }
        Ok(Self { place, variables: Vec::new(), etc: None, far: None, before: Traces::now() })
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

    /// The name of the runner that its environments live on.
    pub fn runner(&self) -> &'static str {
        if self.far.is_some() { far::NAME } else { "local" }
    }

    /// Whether environments have limits of their own where they live.
    pub fn has_limits(&self) -> bool {
        self.far.as_ref().is_none_or(Far::has_limits)
    }

    /// Writes the settings file; without settings it is written only where the runner is not the default one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        let runner = self.far.as_ref().map(|_| ("runner", far::NAME));
        let object: Map<String, Value> =
            settings.iter().copied().chain(runner).map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        if object.is_empty() {
            return Ok(());
        }
        fs_err::write(self.overside_home().join("settings.json"), Value::Object(object).to_string())?;
        Ok(())
    }

    /// Gives every later program of this home one more variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Gives this home's Overside an organisation's policy, which nobody else on the machine sees. Needs root.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn with_policy(mut self, policy: &str) -> Result<Self> {
        let etc = self.place.path().join("etc");
        fs_err::create_dir_all(etc.join("over/overside"))?;
        fs_err::create_dir_all(etc.join("work"))?;
        self.etc = Some(etc);
        fs_err::write(self.policy_file(), policy)?;
        Ok(self)
    }

    /// The file of [`Self::with_policy`], as it lies outside.
    pub fn policy_file(&self) -> PathBuf {
        self.place.path().join("etc/over/overside/policy.json")
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
        let program = product("overside")?;
        let reach = self.far.as_ref().map(|far| format!("--net={}", far.network().display()));
        let Some(etc) = &self.etc else {
            let mut command = self.command(if reach.is_some() { "nsenter".as_ref() } else { program.as_os_str() });
            command.args(reach.map(|network| [network.into(), program.into_os_string()]).into_iter().flatten());
            command.args(arguments);
            return Ok(command);
        };
        let mount = format!(
            "mount -t overlay overlay -o lowerdir=/etc,upperdir={0}/over,workdir={0}/work /etc && exec \"$@\"",
            etc.display()
        );
        let mut command = self.command(if reach.is_some() { "nsenter" } else { "env" });
        command
            .args(reach)
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"])
            .arg(program)
            .args(arguments);
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

    /// Waits until what there is of this home is as wished.
    ///
    /// # Errors
    /// It is not within `limit`; says what there is.
    pub fn wait_until(&self, limit: std::time::Duration, wished: impl Fn(&Traces) -> bool) -> Result<()> {
        let unless = || {
            let traces = self.traces();
            if wished(&traces) { Traces::default() } else { traces }
        };
        traces::wait_until_gone(unless, limit)
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
        let files = self.far.as_ref().map_or_else(Vec::new, |far| far.left().unwrap_or_default());
        // A test that fails for another reason shall show that one.
        let panicking = std::thread::panicking();
        assert!(left.is_empty() || panicking, "the test left behind: {left}");
        assert!(files.is_empty() || panicking, "the test left behind on the other host: {files:?}");
    }
}
