//! `cargo xtask test`: every check and test, cheap ones first, and one closing line.

mod conformance;
mod foreign;
mod fuzz;
mod guard;
mod package;
mod platforms;
mod tally;

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    artifacts::{self, Profile, cargo},
    command, house, layers, modern_docker,
    node::{self, Npm},
    packages,
    steps::{Steps, seconds},
    workspace::Workspace,
};
use guard::Guard;
use tally::Tally;

/// A part that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, layers, house rules, clippy, rustdoc, licences
    Lint,
    /// Tests that need nothing but themselves
    Unit,
    /// Types and tests of the window
    Ui,
    /// The agent and the local runner with real engines
    Agent,
    /// Real docker clients through the whole chain
    E2e,
    /// The desktop app in a real web view
    Desktop,
    /// Foreign clients, directly and through Overside, compared; only when it is named, since it takes minutes
    Conformance,
    /// Every fuzz target under libFuzzer for --seconds; only when it is named
    Fuzz,
    /// Everything compiled for Windows and macOS, and named pipes under wine; only when it is named
    Platforms,
    /// The agent for other kinds of machines, under emulation; only when it is named
    Foreign,
    /// The .deb on a clean Debian, the .rpm beside it; only when it is named
    Package,
    /// --histories random histories of the session machine against its model; only when it is named
    Session,
}

/// Parts that run only when they are named.
const ONLY_NAMED: [Part; 6] =
    [Part::Conformance, Part::Fuzz, Part::Platforms, Part::Foreign, Part::Package, Part::Session];

#[derive(Args)]
pub(crate) struct Options {
    /// Parts to run; all of them if none is named
    parts: Vec<Part>,
    /// Run only tests whose name contains this
    #[arg(long, short = 'k')]
    filter: Option<String>,
    /// How long each fuzz target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run the tests of the whole chain on an engine behind an OpenSSH server 40 ms away instead: as root there, then as an
    /// ordinary user
    #[arg(long)]
    over_ssh: bool,
    /// How many histories the session machine goes through
    #[arg(long, default_value_t = 10_000_000)]
    histories: u64,
}

/// Packages whose integration tests start real engines; their unit tests do not.
const ENGINE_PACKAGES: &[&str] = &["overside-agent", "overside-runner-local"];

/// Real clients and real engines, and the kit that starts them.
const E2E: &[&str] = &["overside-e2e", "overside-testkit"];

/// The package that the other parts leave out, since it compiles Tauri.
const DESKTOP: &str = "overside-desktop";

/// Runs the parts; fails if anything failed, after all of them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let wants = |part| options.parts.contains(&part) || options.parts.is_empty() && !ONLY_NAMED.contains(&part);
    let parts: Vec<Part> = Part::value_variants().iter().copied().filter(|part| wants(*part)).collect();
    let mut session = Session::new(&workspace, options, &parts)?;
    session.prepare(&parts)?;
    for part in &parts {
        match part {
            Part::Lint => session.lint(),
            Part::Unit => session.unit(),
            Part::Ui => session.ui(),
            Part::Agent => session.agent(),
            Part::E2e => session.e2e(options.over_ssh),
            Part::Desktop => session.desktop(),
            Part::Conformance => session.conformance(),
            Part::Fuzz => session.fuzz(options.seconds),
            Part::Platforms => session.platforms(),
            Part::Foreign => session.foreign(),
            Part::Package => session.package(),
            Part::Session => session.histories(options.histories),
        }
    }
    session.close()
}

/// One run: what was counted and what failed so far.
struct Session<'a> {
    workspace: &'a Workspace,
    filter: Option<&'a str>,
    steps: Steps,
    nextest: bool,
    guard: Guard,
    tally: Tally,
    failed: Vec<String>,
}

impl<'a> Session<'a> {
    fn new(workspace: &'a Workspace, options: &'a Options, parts: &[Part]) -> Result<Self> {
        let count = |part: &Part| match part {
            Part::Lint => 8,
            Part::Unit | Part::Ui | Part::Desktop => 3,
            Part::Agent | Part::Session => 1,
            Part::E2e => 2,
            Part::Foreign => 3,
            Part::Conformance => 3,
            Part::Platforms => 7,
            Part::Package => crate::package::STEPS + 2,
            Part::Fuzz => 1 + fuzz::targets(&workspace.root).map_or(0, |names| names.len()),
        };
        // Packages, test runner, and the look for leftovers at the end.
        let total = 3 + parts.iter().map(count).sum::<usize>();
        Ok(Self {
            workspace,
            filter: options.filter.as_deref(),
            steps: Steps::new(total),
            nextest: false,
            guard: Guard::new()?,
            tally: Tally::default(),
            failed: Vec::new(),
        })
    }

    /// Installs what the parts need. A failure here ends the run: nothing after it would tell anything.
    fn prepare(&mut self, parts: &[Part]) -> Result<()> {
        let engines =
            parts.iter().any(|part| matches!(part, Part::Agent | Part::E2e | Part::Desktop | Part::Conformance));
        let desktop =
            parts.iter().any(|part| matches!(part, Part::Lint | Part::Desktop | Part::Package | Part::Platforms));
        let mut sets = vec![packages::BUILD];
        if engines {
            sets.extend([packages::RUNNER, packages::ENGINE_TESTS]);
        }
        if desktop {
            sets.push(packages::DESKTOP);
        }
        if parts.iter().any(|part| matches!(part, Part::Desktop | Part::Package)) {
            sets.push(packages::DESKTOP_TESTS);
        }
        if parts.contains(&Part::Unit) {
            sets.push(packages::FILE_SYSTEMS);
        }
        if parts.contains(&Part::Package) {
            sets.extend([packages::PACKAGING, packages::PACKAGE_TESTS, packages::FOREIGN]);
        }
        if parts.contains(&Part::Foreign) {
            sets.extend([packages::FOREIGN, packages::EMULATION]);
        }
        if parts.contains(&Part::Conformance) {
            sets.push(packages::CONFORMANCE);
        }
        if parts.contains(&Part::Platforms) {
            sets.push(platforms::packages());
        }
        if desktop || parts.iter().any(|part| matches!(part, Part::Ui | Part::Conformance)) {
            sets.push(node::packages());
        }
        packages::ensure(&mut self.steps, &sets)?;
        self.nextest = self.steps.loud("test runner", || Ok(ensure_nextest(self.workspace)))?;
        Ok(())
    }

    fn lint(&mut self) {
        let workspace = self.workspace;
        self.check("formatting", || command::capture(cargo(workspace, "fmt").args(["--all", "--check"])).map(drop));
        self.check("layers", || layers::check(workspace));
        self.check("house rules", || house::check(workspace));
        let clippy = |packages: &[&str]| {
            command::stream(cargo(workspace, "clippy").args(packages).args([
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ]))
        };
        self.check("clippy", || clippy(&[]));
        self.check("rustdoc", || {
            let flags = "--deny warnings";
            let mut doc = cargo(workspace, "doc");
            command::stream(doc.args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", flags))
        });
        // Tauri embeds the built UI, so that its crate does not compile without.
        self.check("UI build", || artifacts::ui(workspace));
        self.check("clippy of the desktop app", || clippy(&["--package", DESKTOP]));
        if command::works("cargo", &["deny", "--version"]) {
            let deny = ["--workspace", "check", "bans", "licenses", "sources"];
            self.check("cargo-deny", || command::stream(cargo(workspace, "deny").args(deny)));
        } else {
            let name = "cargo-deny: skipped, it is not installed (cargo install cargo-deny)";
            // Printing a line cannot fail the run.
            let _ = self.steps.quiet(name, || Ok(()));
            self.tally.skipped += 1;
        }
    }

    fn unit(&mut self) {
        let default = self.workspace.default_packages();
        let (engines, light): (Vec<&str>, Vec<&str>) = default
            .iter()
            .map(|package| package.name.as_str())
            .filter(|name| !E2E.contains(name))
            .partition(|name| ENGINE_PACKAGES.contains(name));
        self.tests("unit tests", &light, &[], &[]);
        self.tests("unit tests of agent and runner", &engines, &["--lib", "--bins"], &[]);
        let documented: Vec<&str> =
            default.iter().filter(|package| has_examples(package)).map(|package| package.name.as_str()).collect();
        if documented.is_empty() {
            // Printing a line cannot fail the run.
            let _ = self.steps.quiet("documentation tests: none", || Ok(()));
            return;
        }
        let mut doctests = cargo(self.workspace, "test");
        doctests.args(["--doc", "--quiet"]);
        for name in documented {
            doctests.args(["--package", name]);
        }
        self.guard.apply(&mut doctests);
        self.counted("documentation tests", &mut doctests, tally::libtest);
    }

    fn ui(&mut self) {
        let ui = self.workspace.root.join("ui");
        let npm = match self.steps.loud("npm packages", || {
            let npm = Npm::find()?;
            artifacts::install_ui_packages(&npm, &ui)?;
            Ok(npm)
        }) {
            Ok(npm) => npm,
            Err(error) => return self.fault("npm packages", &error),
        };
        self.check("svelte-check", || command::stream(npm.command(&ui).args(["run", "--silent", "check"])));
        let mut vitest = npm.command(&ui);
        vitest.args(["run", "--silent", "test"]).env("NO_COLOR", "1");
        self.counted("vitest", &mut vitest, tally::vitest);
    }

    fn agent(&mut self) {
        let packages: Vec<&str> = self.packages_with_tests(ENGINE_PACKAGES);
        self.tests("agent and runner with real engines", &packages, &["--test", "*"], &[]);
    }

    fn e2e(&mut self, over_ssh: bool) {
        let workspace = self.workspace;
        let built = self.steps.loud("programs", || {
            let programs = artifacts::programs(workspace, Profile::Dev)?;
            // Without it the tests run with the machine's client alone, and say so.
            let modern =
                modern_docker::ensure().inspect_err(|error| println!("no newer Docker for the tests: {error:#}"));
            Ok((programs, modern.ok()))
        });
        match built {
            Ok((programs, modern)) => {
                let mut variables = vec![("OVERSIDE_BIN_DIR", programs)];
                variables.extend(modern.map(|modern| ("OVERSIDE_TEST_MODERN_DOCKER", modern)));
                if !over_ssh {
                    return self.tests("docker clients through the whole chain", E2E, &[], &variables);
                }
                for who in ["root", "user"] {
                    let name = format!("the same 40 ms away, where the SSH server is run by {who}");
                    variables.push(("OVERSIDE_TEST_OVER_SSH", who.into()));
                    self.tests(&name, &E2E[..1], &["--test", "session"], &variables);
                }
            }
            Err(error) => self.fault("programs", &error),
        }
    }

    fn desktop(&mut self) {
        let workspace = self.workspace;
        let built = self.steps.loud("programs and UI", || {
            artifacts::ui(workspace)?;
            artifacts::programs(workspace, Profile::Dev)
        });
        let programs = match built {
            Ok(programs) => programs,
            Err(error) => return self.fault("programs and UI", &error),
        };
        if let Err(error) = self.steps.loud("overside-desktop", || artifacts::desktop(workspace, Profile::Dev)) {
            return self.fault("overside-desktop", &error);
        }
        let home = workspace.root.join("tests/desktop");
        let tests = workspace.packages().into_iter().find(|package| package.manifest_path.starts_with(&home));
        let names: Vec<&str> = [DESKTOP].into_iter().chain(tests.map(|package| package.name.as_str())).collect();
        self.tests("desktop app in a real web view", &names, &[], &[("OVERSIDE_BIN_DIR", programs)]);
    }

    /// Runs the Rust tests of some packages.
    fn tests(&mut self, name: &str, packages: &[&str], selection: &[&str], variables: &[(&str, PathBuf)]) {
        if packages.is_empty() {
            // Printing a line cannot fail the run.
            let _ = self.steps.quiet(&format!("{name}: none"), || Ok(()));
            return;
        }
        let mut command = if self.nextest {
            let mut command = cargo(self.workspace, "nextest");
            command.args([
                "run",
                "--no-fail-fast",
                "--no-tests",
                "pass",
                "--color",
                "never",
                "--show-progress",
                "none",
            ]);
            command
        } else {
            let mut command = cargo(self.workspace, "test");
            command.arg("--no-fail-fast");
            command
        };
        packages.iter().for_each(|package| {
            command.args(["--package", package]);
        });
        command.args(selection).args(self.filter);
        if !self.nextest && packages.iter().any(|name| E2E.contains(name) || ENGINE_PACKAGES.contains(name)) {
            // nextest.toml limits how many engines start at once; here it takes the plain way.
            command.args(["--", "--test-threads", "2"]);
        }
        self.guard.apply(&mut command);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        self.counted(name, &mut command, if self.nextest { tally::nextest } else { tally::libtest });
    }

    fn packages_with_tests(&self, names: &'static [&'static str]) -> Vec<&'static str> {
        let packages = self.workspace.packages();
        let has_tests = |name: &str| {
            let package = packages.iter().find(|package| package.name.as_str() == name);
            package.is_some_and(|package| package.targets.iter().any(|target| target.is_test()))
        };
        names.iter().copied().filter(|name| has_tests(name)).collect()
    }

    /// Random histories of the session machine. Not with nextest, which ends what takes long.
    fn histories(&mut self, histories: u64) {
        let mut test = cargo(self.workspace, "test");
        test.args(["--release", "--package", "overside-session", "--test", "histories", "--", "--nocapture"]);
        self.guard.apply(&mut test);
        test.env("OVERSIDE_HISTORIES", histories.to_string());
        self.counted("histories of the session machine", &mut test, tally::libtest);
    }

    /// A check that passes or fails as a whole and counts as one.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        match self.steps.loud(name, work) {
            Ok(()) => self.tally.passed += 1,
            Err(error) => self.fault(name, &error),
        }
    }

    /// A command that tells in its output how many tests it ran.
    fn counted(&mut self, name: &str, command: &mut Command, count: fn(&str) -> Tally) {
        let outcome = self.steps.loud(name, || {
            let (output, succeeded) = command::tee(command)?;
            Ok((count(&output), succeeded))
        });
        match outcome {
            Ok((tally, true)) => self.tally += tally,
            Ok((tally, false)) => {
                self.tally += tally;
                // A suite that did not compile counts no failure by itself.
                self.tally.failed += u64::from(tally.failed == 0);
                self.failed.push(name.to_owned());
            }
            Err(error) => self.fault(name, &error),
        }
    }

    fn fault(&mut self, name: &str, error: &anyhow::Error) {
        eprintln!("{name}: {error:#}");
        self.tally.failed += 1;
        self.failed.push(name.to_owned());
    }

    fn close(mut self) -> Result<()> {
        let guard = &self.guard;
        match self.steps.quiet("nothing left behind", || guard.inspect()) {
            Ok(()) => self.tally.passed += 1,
            Err(error) => self.fault("nothing left behind", &error),
        }
        println!("\n{}", seconds(self.steps.elapsed()));
        if !self.failed.is_empty() {
            println!("failed: {}", self.failed.join(", "));
        }
        println!("{}", self.tally);
        if self.tally.failed > 0 {
            bail!("not everything passed");
        }
        Ok(())
    }
}

/// Whether a library's documentation holds examples. Building all libraries once more to find none takes minutes.
fn has_examples(package: &cargo_metadata::Package) -> bool {
    let Some(library) = package.targets.iter().find(|target| target.is_lib()) else { return false };
    let mut open: Vec<PathBuf> = library.src_path.parent().map(PathBuf::from).into_iter().collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs_err::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs_err::read_to_string(&path).unwrap_or_default();
            let fence = |line: &str| ["/// ```", "//! ```"].contains(&line.trim());
            if text.lines().any(fence) {
                return true;
            }
        }
    }
    false
}

/// Whether cargo-nextest is there or could be installed; plain `cargo test` does without its time limits.
fn ensure_nextest(workspace: &Workspace) -> bool {
    if command::works("cargo", &["nextest", "--version"]) {
        return true;
    }
    println!("installing cargo-nextest, once; this takes some minutes");
    let mut install = cargo(workspace, "install");
    install.args(["--locked", "--quiet", "cargo-nextest"]).env_remove("CARGO_TARGET_DIR");
    match command::stream(&mut install).context("cargo-nextest could not be installed; using plain cargo test") {
        Ok(()) => true,
        Err(error) => {
            println!("{error:#}");
            false
        }
    }
}
