//! `cargo xtask run`: from a fresh clone to a container, and back to nothing on Ctrl-C.

use std::{
    env,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    artifacts::{self, Profile},
    command, node, packages,
    steps::Steps,
    workspace::Workspace,
};

/// What the daemon says on standard error once its sockets answer.
const LISTENS: &str = "Overside listens on";

/// What a sentence of `overside` about a failure begins with.
const FAILS: &str = "overside: ";

/// How long the daemon may take until then.
const WELCOME: Duration = Duration::from_secs(30);

/// How long the daemon may take to delete its environment when it is told to end.
const FAREWELL: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    /// Optimise; takes longer to build
    #[arg(long)]
    release: bool,
}

/// Builds, runs until Ctrl-C, tears down.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let profile = if options.release { Profile::Release } else { Profile::Dev };
    let mut steps = Steps::new(5);
    packages::ensure(&mut steps, &[packages::RUNNER, packages::BUILD, packages::DESKTOP, node::packages()])?;
    steps.loud("UI", || artifacts::ui(&workspace))?;
    let programs = steps.loud("overside and overside-agent", || artifacts::programs(&workspace, profile))?;
    let desktop = steps.loud("overside-desktop", || artifacts::desktop(&workspace, profile))?;

    // From here on a Ctrl-C must not leave a daemon behind. Handlers, not a mask: children would inherit that.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("cannot handle signals")?;

    let overside = programs.join("overside");
    let mut running = steps.quiet("daemon", || Running::start(&overside))?;
    if has_display() {
        running.open_desktop(&desktop)?;
    } else {
        println!("There is no display, so the desktop app stays closed; everything else works without it.");
    }
    greet(&workspace, &overside);
    let why = running.wait(&mut signals)?;
    println!("{why}: deleting the environment and ending the daemon …");
    running.stop()?;
    println!("Nothing is left running.");
    Ok(())
}

fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// The last three lines: what to type.
fn greet(workspace: &Workspace, overside: &Path) {
    let shown = overside.strip_prefix(&workspace.root).unwrap_or(overside).display();
    println!();
    println!("docker run --rm hello-world      in another terminal: starts a fresh engine and runs a container in it");
    println!("{shown} status --watch      shows what happens meanwhile");
    println!("Ctrl-C      here deletes the engine with everything in it and restores your Docker context");
}

/// What must be ended before we end.
struct Running {
    overside: PathBuf,
    daemon: Child,
    desktop: Option<Child>,
}

impl Running {
    /// Starts the daemon, waits until its sockets are there, and turns it on.
    fn start(overside: &Path) -> Result<Self> {
        let mut daemon = Command::new(overside);
        // A group of its own: Ctrl-C in the terminal is for us, and we end the daemon in good order.
        daemon.arg("daemon").stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut daemon = daemon.spawn().with_context(|| format!("cannot start {}", overside.display()))?;
        let messages = daemon.stderr.take().context("a fresh program has no standard error")?;
        let mut running = Self { overside: overside.to_path_buf(), daemon, desktop: None };
        // Turned on before it listens, `overside start` would bring a daemon of its own along.
        let turned_on = wait_until_it_listens(messages)
            .and_then(|()| command::capture(Command::new(&running.overside).arg("start")).map(drop));
        turned_on.inspect_err(|_| {
            // The reason it did not start matters more than whether it could be ended.
            let _ = running.stop();
        })?;
        Ok(running)
    }

    fn open_desktop(&mut self, program: &Path) -> Result<()> {
        let mut desktop = Command::new(program);
        desktop.stdin(Stdio::null()).process_group(0);
        self.desktop = Some(desktop.spawn().with_context(|| format!("cannot start {}", program.display()))?);
        Ok(())
    }

    /// Returns when a signal asks us to end, or the daemon has ended by itself.
    fn wait(&mut self, signals: &mut Signals) -> Result<String> {
        for signal in signals.forever() {
            if signal != SIGCHLD {
                break;
            }
            if let Some(status) = self.daemon.try_wait()? {
                return Ok(format!("the daemon ended by itself ({status})"));
            }
            if let Some(desktop) = &mut self.desktop
                && desktop.try_wait()?.is_some()
            {
                self.desktop = None;
            }
        }
        Ok("interrupted".to_owned())
    }

    /// Ends everything; an error says what could not be ended.
    fn stop(&mut self) -> Result<()> {
        if let Some(mut desktop) = self.desktop.take() {
            end(&mut desktop, FAREWELL)?;
        }
        if self.daemon.try_wait()?.is_some() {
            return Ok(());
        }
        // A daemon that cannot be reached any more is still ended by its signal; the lease ends its environment.
        if let Err(error) = command::capture(Command::new(&self.overside).args(["stop", "-f"])) {
            eprintln!("warning: {error:#}");
        }
        end(&mut self.daemon, FAREWELL)
    }
}

/// Returns once the daemon says that its sockets answer. Its log goes to its file; here only its errors are shown.
fn wait_until_it_listens(messages: ChildStderr) -> Result<()> {
    let (listens, listening) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(messages).lines().map_while(Result::ok) {
            if line.starts_with(LISTENS) {
                // Nobody waits any more if the time is up.
                let _ = listens.send(());
            } else if line.starts_with(FAILS) {
                eprintln!("\n{line}");
            }
        }
    });
    match listening.recv_timeout(WELCOME) {
        Ok(()) => Ok(()),
        Err(RecvTimeoutError::Disconnected) => bail!("the daemon ended at once; its reason stands above"),
        Err(RecvTimeoutError::Timeout) => bail!("the daemon did not come up within {} s", WELCOME.as_secs()),
    }
}

/// SIGTERM, patience, SIGKILL.
fn end(child: &mut Child, patience: Duration) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id is out of range")?);
    // ESRCH: it has ended meanwhile.
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + patience;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("process {pid} did not end within {} s and was killed", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_on_sigterm_is_waited_for() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        end(&mut child, Duration::from_secs(10)).unwrap();
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_killed_and_named() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; exec sleep 600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let error = end(&mut child, Duration::from_millis(100)).unwrap_err().to_string();
        assert!(error.contains("was killed"), "{error}");
    }
}
