//! `cargo xtask package`: a `.deb` and an `.rpm` of the release build, made by the distributions' own tools.
//!
//! Both hold the same tree ([`tree`]), which is laid out once for each; what the programs need of the system is found out by
//! those tools from the programs themselves.

mod command_line;
mod deb;
mod rpm;
mod tree;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    artifacts::{self, Profile},
    command, node, packages,
    steps::Steps,
    workspace::Workspace,
};

/// The packages' name.
const NAME: &str = "overside";

/// The steps of [`build_all`].
pub(crate) const STEPS: usize = 6;

/// In one line.
const SUMMARY: &str = "Docker on your laptop, the engine elsewhere";

/// In some more, of at most 76 characters.
const DESCRIPTION: &[&str] = &[
    "Overside serves the Docker API on a local socket and carries every call",
    "through one SSH tunnel to an engine on this or another Linux machine. The",
    "engine is made when a call needs it, suspended when nobody uses it, and",
    "deleted soon after.",
    "",
    "This package has the command line with its daemon, the agent that owns an",
    "environment, and the desktop app.",
];

/// What both packages are told about.
struct Release {
    version: String,
    /// When the sources were committed, in seconds since 1970: the same sources make the same package.
    committed: Option<String>,
}

/// `cargo xtask package`.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let mut steps = Steps::new(1 + STEPS);
    packages::ensure(
        &mut steps,
        &[packages::BUILD, packages::DESKTOP, packages::PACKAGING, packages::FOREIGN, node::packages()],
    )?;
    for package in build_all(&mut steps, &workspace)? {
        println!("{}", package.display());
    }
    Ok(())
}

/// Builds the programs and both packages, in so many [`STEPS`]. What was in their [`place`] before is gone.
pub(crate) fn build_all(steps: &mut Steps, workspace: &Workspace) -> Result<Vec<PathBuf>> {
    steps.loud("UI", || artifacts::ui(workspace))?;
    steps.loud("overside and overside-agent", || artifacts::programs(workspace, Profile::Release))?;
    steps.loud("agents for other machines", || artifacts::build_foreign_agents(workspace, Profile::Release))?;
    steps.loud("overside-desktop", || artifacts::desktop(workspace, Profile::Release))?;
    let place = place(workspace);
    if place.exists() {
        fs_err::remove_dir_all(&place)?;
    }
    let kinds = [tree::Kind::Deb, tree::Kind::Rpm];
    kinds.into_iter().map(|kind| steps.quiet(&format!(".{}", kind.ending()), || build(workspace, kind))).collect()
}

/// Where the packages lie.
pub(crate) fn place(workspace: &Workspace) -> PathBuf {
    workspace.target.join("package")
}

/// Makes one of the packages out of programs that are built.
fn build(workspace: &Workspace, kind: tree::Kind) -> Result<PathBuf> {
    let place = place(workspace);
    fs_err::create_dir_all(&place)?;
    let root = tempfile::tempdir_in(&place)?;
    let root = root.path();
    let programs = artifacts::placed(workspace, Profile::Release);
    let items = tree::items(&workspace.root, &programs, kind)?;
    tree::lay_out(&items, root)?;
    let release = Release { version: version(workspace)?, committed: committed(&workspace.root) };
    match kind {
        tree::Kind::Deb => deb::build(&release, &items, root, &place),
        tree::Kind::Rpm => rpm::build(&release, &items, root, &place),
    }
}

/// The workspace's version, as both kinds of packages order them: what comes before a release is older than it.
fn version(workspace: &Workspace) -> Result<String> {
    let packages = workspace.packages();
    let program = packages.iter().find(|package| package.name.as_str() == "overside-cli");
    Ok(program.context("there is no package overside-cli")?.version.to_string().replace('-', "~"))
}

/// Nothing outside of a repository.
fn committed(root: &Path) -> Option<String> {
    let output = command::capture(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root)).ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|seconds| !seconds.is_empty())
}
