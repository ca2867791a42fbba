//! Programs under a time limit, with their output as it comes.

use std::{
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// What one command of a test may take at most. Generous: it only tells a hang from a slow machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How a program ended and what it said.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The program and its arguments.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The exit status as a shell shows it: 128 and the signal where a signal ended the program.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Itself, if the program succeeded.
    ///
    /// # Errors
    /// Everything that it said.
    pub fn success(self) -> Result<Self> {
        if self.status.success() { Ok(self) } else { bail!("{self:?}") }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: String| if text.len() > 4000 { format!("{} bytes", text.len()) } else { text };
        write!(f, "{}: {}\nstdout: {}\nstderr: {}", self.command, self.code(), short(self.out()), short(self.err()))
    }
}

/// Runs a program without input.
///
/// # Errors
/// It cannot be started, or does not end within `limit`; it is then killed.
pub fn run(command: &mut Command, limit: Duration) -> Result<Outcome> {
    let mut running = Running::spawn(command)?;
    running.close_stdin();
    running.finish(limit)
}

/// Runs a program whose input `feed` writes; the input ends with it. A program that ends without having read everything
/// is no error here, its status tells.
///
/// # Errors
/// As [`run`].
pub fn run_fed(
    command: &mut Command,
    limit: Duration,
    feed: impl FnOnce(&mut ChildStdin) -> Result<()> + Send + 'static,
) -> Result<Outcome> {
    let mut running = Running::spawn(command)?;
    let mut stdin = running.stdin.take().context("a fresh program has no input")?;
    // Not joined: it ends with the program, when its pipe breaks.
    thread::spawn(move || feed(&mut stdin));
    running.finish(limit)
}

/// The same command on a terminal of its own, with 24 lines of 80 columns. Its output has the terminal's line ends.
pub fn on_terminal(command: &Command) -> Command {
    let quoted = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
    let words: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    let mut wrapped = Command::new("script");
    wrapped.args(["--quiet", "--return", "--flush", "--command"]);
    wrapped.arg(format!("stty rows 24 cols 80; exec {}", words.join(" "))).arg("/dev/null").env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

/// Sends a signal to a process that need not be a child.
///
/// # Errors
/// There is no such process, or it is another user's.
pub fn signal_process(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id is out of range")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("there is no process {pid:?}"))?;
    pidfd_send_signal(&process, signal).with_context(|| format!("cannot signal process {pid:?}"))
}

/// What came out of one of the program's pipes so far.
#[derive(Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Default)]
struct OutputState {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    fn collect(mut pipe: impl Read + Send + 'static) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let collector = Arc::clone(&output);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = collector.lock();
                state.bytes.extend_from_slice(&buffer[..read]);
                state.ended = read == 0;
                collector.changed.notify_all();
                if state.ended {
                    break;
                }
            }
        });
        output
    }

    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the condition holds or the pipe has ended; whether it holds, and all bytes so far.
    fn wait(&self, deadline: Instant, condition: impl Fn(&OutputState) -> bool) -> (bool, Vec<u8>) {
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting = |state: &mut OutputState| !condition(state) && !state.ended;
        let (state, _) =
            self.changed.wait_timeout_while(self.lock(), left, waiting).unwrap_or_else(PoisonError::into_inner);
        (condition(&state), state.bytes.clone())
    }
}

/// A program that runs. Dropped, it is killed with its process group.
pub struct Running {
    child: Child,
    /// Names the process itself, not a number that may be another's by now.
    process: OwnedFd,
    command: String,
    stdin: Option<ChildStdin>,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

impl Running {
    /// Starts a program in a process group of its own, with pipes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {line}"))?;
        let stdout = Output::collect(child.stdout.take().context("a fresh program has no output")?);
        let stderr = Output::collect(child.stderr.take().context("a fresh program has no output")?);
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("cannot hold a process")?;
        let stdin = child.stdin.take();
        Ok(Self { child, process, command: line, stdin, stdout, stderr })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the program's input.
    ///
    /// # Errors
    /// The input was closed, by either side.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the input was closed before")?;
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .with_context(|| format!("cannot write to {}", self.command))
    }

    /// Ends the program's input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard output contains a text, and returns all of it so far.
    ///
    /// # Errors
    /// The output ended without it, or it did not come within `limit`; says what came instead.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<String> {
        self.wait_in(&self.stdout, text, limit)
    }

    /// Waits until something holds of standard output so far, and returns that. `what` it is, is said where it does not.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool, limit: Duration) -> Result<String> {
        self.wait_while_not(&self.stdout, what, |bytes| holds(&String::from_utf8_lossy(bytes)), limit)
    }

    /// [`Self::wait_for`] on standard error.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_error(&self, text: &str, limit: Duration) -> Result<String> {
        self.wait_in(&self.stderr, text, limit)
    }

    fn wait_in(&self, output: &Output, text: &str, limit: Duration) -> Result<String> {
        let wanted = text.as_bytes();
        let contains = |bytes: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        self.wait_while_not(output, &format!("print {text:?}"), contains, limit)
    }

    fn wait_while_not(
        &self,
        output: &Output,
        what: &str,
        holds: impl Fn(&[u8]) -> bool,
        limit: Duration,
    ) -> Result<String> {
        let (found, bytes) = output.wait(Instant::now() + limit, |state| holds(&state.bytes));
        if found {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        let said = |output: &Output| String::from_utf8_lossy(&output.lock().bytes).into_owned();
        let (out, err) = (said(&self.stdout), said(&self.stderr));
        bail!("{} did not {what} within {limit:?}\nstdout: {out}\nstderr: {err}", self.command);
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.process, signal).with_context(|| format!("cannot signal {}", self.command))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not within `limit`, or something it started still holds its output then. It is then killed.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome> {
        let deadline = Instant::now() + limit;
        if !self.wait_until_ended(deadline)? {
            let (out, err) = (self.stdout.lock().bytes.clone(), self.stderr.lock().bytes.clone());
            let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            bail!("{} did not end within {limit:?}\nstdout: {out}\nstderr: {err}", self.command);
        }
        let status = self.child.wait()?;
        let (_, stdout) = self.stdout.wait(deadline, |state| state.ended);
        let (ended, stderr) = self.stderr.wait(deadline, |state| state.ended);
        if !ended {
            bail!("{} has ended, but something that it started holds its output", self.command);
        }
        Ok(Outcome { command: self.command.clone(), status, stdout, stderr })
    }

    fn wait_until_ended(&self, deadline: Instant) -> Result<bool> {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        Ok(poll(&mut ended, Some(&left)).context("cannot wait for a process")? > 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The group, for what it started; it may have gone meanwhile, which is as good.
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn both_outputs_and_the_status_are_kept_apart() {
        let outcome = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), SOON).unwrap();
        assert_eq!((outcome.out().as_str(), outcome.err().as_str(), outcome.code()), ("out\n", "err\n", 3));
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let error = run(Command::new("sleep").arg("600"), Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("sleep 600 did not end within 50ms"), "{error}");
    }

    #[test]
    fn output_is_seen_while_the_program_runs() {
        let mut cat = Running::spawn(&mut Command::new("cat")).unwrap();
        cat.write("hello\n").unwrap();
        assert_eq!(cat.wait_for("hello", SOON).unwrap(), "hello\n");
        assert!(!cat.has_ended().unwrap());
        cat.close_stdin();
        assert!(cat.finish(SOON).unwrap().status.success());
    }

    #[test]
    fn a_program_that_ends_without_the_text_is_not_waited_for() {
        let echo = Running::spawn(Command::new("echo").arg("other")).unwrap();
        let error = echo.wait_for("wanted", Duration::from_secs(600)).unwrap_err().to_string();
        assert!(error.contains("stdout: other"), "{error}");
    }

    #[test]
    fn a_command_on_a_terminal_sees_one_and_keeps_its_exit_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 0 && echo 'it''s a terminal' && exit 7"]).env("PATH", "/usr/bin:/bin");
        let outcome = run(&mut on_terminal(&command), SOON).unwrap();
        assert_eq!((outcome.out().as_str(), outcome.code()), ("its a terminal\r\n", 7));
    }
}
