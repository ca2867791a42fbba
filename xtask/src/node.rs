//! Node.js for the UI's build: the machine's if it is new enough, else one from npm in our cache.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{command, packages, workspace};

/// The oldest major version that the UI's tools run on.
const OLDEST: u32 = 20;

/// The major version that is fetched where the machine's is older.
const FETCHED: u32 = 22;

/// Packages to install where there is no node at all; an old one can still fetch a newer one.
pub(crate) fn packages() -> &'static [packages::Package] {
    const NODE: &[packages::Package] = &[packages::Package::Always("nodejs"), packages::Package::Always("npm")];
    if command::works("npm", &["--version"]) && command::works("node", &["--version"]) { &[] } else { NODE }
}

/// An npm whose node is new enough.
pub(crate) struct Npm {
    path: OsString,
}

impl Npm {
    /// Finds or fetches one. Debian packages must be there already.
    pub(crate) fn find() -> Result<Self> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        if major("node")? >= OLDEST {
            return Ok(Self { path: inherited });
        }
        let bin = fetch()?;
        let path = env::join_paths(std::iter::once(bin).chain(env::split_paths(&inherited)))?;
        Ok(Self { path })
    }

    /// `npm` in a directory of the workspace.
    pub(crate) fn command(&self, directory: &Path) -> Command {
        self.program("npm", directory)
    }

    /// A program in a directory of the workspace that finds this npm and its node.
    pub(crate) fn program(&self, program: &str, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env("PATH", &self.path).env("npm_config_update_notifier", "false");
        command
    }
}

fn major(program: &str) -> Result<u32> {
    let output = command::capture(Command::new(program).arg("--version"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .strip_prefix('v')
        .and_then(|version| version.split('.').next()?.parse().ok())
        .with_context(|| format!("{program} has an unusual version: {text}"))
}

/// Debian 12 has node 18; npm carries newer ones as packages of their own.
fn fetch() -> Result<PathBuf> {
    let architecture = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("node {OLDEST} or newer is needed; install it by hand on {other}"),
    };
    let home = workspace::cache()?.join(format!("node-{FETCHED}"));
    let package = format!("node-linux-{architecture}");
    let bin = home.join("node_modules").join(&package).join("bin");
    if !bin.join("node").exists() {
        fs_err::create_dir_all(&home)?;
        command::capture(
            Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"])
                .arg(&home)
                .arg(format!("{package}@{FETCHED}")),
        )?;
    }
    Ok(bin)
}
