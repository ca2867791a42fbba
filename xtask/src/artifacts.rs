//! The programs as they are shipped: `overside` and a static `overside-agent` side by side, and the desktop app.
//!
//! They lie in `overside/<profile>/` of the target directory, not where cargo puts its own results: there a test run would
//! replace the static agent by one for its own use.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{command, elf, node::Npm, packages, steps::Steps, workspace::Workspace};

/// How the programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

impl Profile {
    fn flag(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }

    /// Cargo's name of the profile's directory.
    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

#[derive(Args)]
pub(crate) struct Options {
    /// Optimise
    #[arg(long)]
    release: bool,
    /// Also the desktop app, with its UI
    #[arg(long)]
    desktop: bool,
}

/// `cargo xtask build`.
pub(crate) fn print(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let profile = if options.release { Profile::Release } else { Profile::Dev };
    let mut steps = Steps::new(if options.desktop { 4 } else { 2 });
    if options.desktop {
        packages::ensure(&mut steps, &[packages::BUILD, packages::DESKTOP, crate::node::packages()])?;
    } else {
        packages::ensure(&mut steps, &[packages::BUILD])?;
    }
    let directory = steps.loud("overside and overside-agent", || programs(&workspace, profile))?;
    if options.desktop {
        steps.loud("UI", || ui(&workspace))?;
        steps.loud("overside-desktop", || desktop(&workspace, profile))?;
    }
    println!("{}", directory.display());
    Ok(())
}

/// Builds `overside` and the static agent; gives the directory that holds both.
pub(crate) fn programs(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    command::stream(cargo(workspace, "build").args(["-p", "overside-cli"]).args(profile.flag()))?;
    let overside = place(&workspace.target.join(profile.directory()).join("overside"), workspace, profile)?;
    place(&static_agent(workspace, profile)?, workspace, profile)?;
    overside.parent().map(Path::to_path_buf).context("a program lies in no directory")
}

/// Builds the client of the conformance suite that is written with bollard.
pub(crate) fn bollard(workspace: &Workspace) -> Result<PathBuf> {
    let package = "overside-conformance-bollard";
    command::stream(cargo(workspace, "build").args(["-p", package]))?;
    Ok(workspace.target.join(Profile::Dev.directory()).join(package))
}

/// Builds the desktop app, whose UI must be built: the tray and the window, a program each. Gives the tray's.
pub(crate) fn desktop(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    command::stream(cargo(workspace, "build").args(["-p", "overside-desktop"]).args(profile.flag()))?;
    let built = workspace.target.join(profile.directory());
    place(&built.join("overside-window"), workspace, profile)?;
    place(&built.join("overside-desktop"), workspace, profile)
}

/// Installs the UI's packages where the lock file says others than are there, and builds it into `ui/dist`.
pub(crate) fn ui(workspace: &Workspace) -> Result<()> {
    let npm = Npm::find()?;
    let ui = workspace.root.join("ui");
    install_ui_packages(&npm, &ui)?;
    command::stream(npm.command(&ui).args(["run", "--silent", "build"]))
}

/// `npm ci`, unless it has run for this lock file.
pub(crate) fn install_ui_packages(npm: &Npm, ui: &Path) -> Result<()> {
    let changed = |path: &Path| fs_err::metadata(path).and_then(|file| file.modified()).ok();
    // npm writes this copy of the lock file when it has finished.
    let installed = changed(&ui.join("node_modules/.package-lock.json"));
    if installed.is_none() || installed < changed(&ui.join("package-lock.json")) {
        command::stream(npm.command(ui).args(["ci", "--no-audit", "--no-fund"]))?;
    }
    Ok(())
}

/// `cargo` at the workspace's root.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(&workspace.root).env("CARGO_TARGET_DIR", &workspace.target);
    command
}

fn static_agent(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let target = static_target()?;
    // With --target these flags reach the agent but no build script. Flags of the environment would hide those of a
    // configuration, so the former are extended.
    let flags = format!("{} -C target-feature=+crt-static", env::var("RUSTFLAGS").unwrap_or_default());
    command::stream(
        cargo(workspace, "build")
            .args(["-p", "overside-agent", "--target", &target])
            .args(profile.flag())
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", flags.trim()),
    )?;
    let agent = workspace.target.join(&target).join(profile.directory()).join("overside-agent");
    elf::require_static(&agent, env::consts::ARCH)?;
    Ok(agent)
}

/// A kind of machine that is not this one.
struct Foreign {
    machine: &'static str,
    target: &'static str,
    compiler: &'static str,
}

/// The kinds that a runner may be of and this machine is not.
fn foreign() -> Option<&'static Foreign> {
    const AARCH64: Foreign =
        Foreign { machine: "aarch64", target: "aarch64-unknown-linux-musl", compiler: "aarch64-linux-gnu-gcc" };
    (env::consts::ARCH == "x86_64").then_some(&AARCH64)
}

/// The names of the agents for other kinds of machines, as the SSH runner looks for them beside its own.
pub(crate) fn foreign_agents() -> Vec<String> {
    foreign().into_iter().map(Foreign::agent).collect()
}

impl Foreign {
    fn agent(&self) -> String {
        format!("overside-agent-{}", self.machine)
    }

    /// `cargo` for the agent on such a machine.
    fn cargo(&self, workspace: &Workspace, subcommand: &str) -> Command {
        let variable = self.target.replace('-', "_");
        let mut cargo = cargo(workspace, subcommand);
        cargo
            .args(["-p", "overside-agent", "--target", self.target])
            .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), self.compiler)
            .env(format!("CARGO_TARGET_{}_RUNNER", variable.to_uppercase()), format!("qemu-{}-static", self.machine))
            .env(format!("CC_{variable}"), self.compiler);
        cargo
    }
}

/// The tests inside of the agents for other kinds of machines, run by an emulator.
pub(crate) fn foreign_agent_tests(workspace: &Workspace) -> Vec<Command> {
    let tests = |foreign: &Foreign| {
        let mut cargo = foreign.cargo(workspace, "test");
        cargo.args(["--bins", "--no-fail-fast"]);
        cargo
    };
    foreign().into_iter().map(tests).collect()
}

/// Builds the static agents for other kinds of machines beside the programs; gives the path of each. It takes a standard
/// library for them, which rustup has.
pub(crate) fn build_foreign_agents(workspace: &Workspace, profile: Profile) -> Result<Vec<PathBuf>> {
    let build = |foreign: &Foreign| {
        let Foreign { machine, target, .. } = foreign;
        if !has_library(target) {
            command::stream(Command::new("rustup").args(["target", "add", target])).with_context(|| {
                format!("the agent for {machine} takes a Rust standard library for {target}, which rustup brings")
            })?;
        }
        command::stream(foreign.cargo(workspace, "build").args(profile.flag()))?;
        let agent = workspace.target.join(target).join(profile.directory()).join("overside-agent");
        elf::require_static(&agent, machine)?;
        place_as(&agent, &foreign.agent(), workspace, profile)
    };
    foreign().into_iter().map(build).collect()
}

fn has_library(target: &str) -> bool {
    let library = command::capture(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    library.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// musl where its standard library and compiler are installed, else the host's own libc, linked in. The agent resolves no
/// host names, which is what a static glibc cannot do.
fn static_target() -> Result<String> {
    let output = command::capture(Command::new("rustc").arg("-vV"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let musl = host.replace("-gnu", "-musl");
    let usable = has_library(&musl) && command::works("musl-gcc", &["--version"]);
    Ok(if usable { musl } else { host.to_owned() })
}

/// The directory that the programs are put in.
pub(crate) fn placed(workspace: &Workspace, profile: Profile) -> PathBuf {
    workspace.target.join("overside").join(profile.directory())
}

/// Copies a program to its place; one that runs from there goes on undisturbed.
fn place(program: &Path, workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let name = program.file_name().and_then(|name| name.to_str()).context("a program has no name")?;
    place_as(program, name, workspace, profile)
}

fn place_as(program: &Path, name: &str, workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let directory = placed(workspace, profile);
    fs_err::create_dir_all(&directory)?;
    let placed = directory.join(name);
    let fresh = directory.join(format!(".{name}.new"));
    fs_err::copy(program, &fresh)?;
    fs_err::rename(&fresh, &placed)?;
    Ok(placed)
}
