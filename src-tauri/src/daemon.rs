//! Starting the daemon, which outlives whoever started it.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use overside_config::Home;
use overside_control::Client;
use overside_model::{ErrorCode, Problem};
use tokio::{process::Command, time};

use crate::programs;

/// How long a daemon may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a daemon that is starting is asked.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// How long another daemon, which was quicker, may take until it answers.
const OTHER_TIMEOUT: Duration = Duration::from_secs(2);

/// `overside daemon` for one home.
#[derive(Debug)]
pub struct DaemonProgram {
    program: Result<PathBuf, Problem>,
    complaints: PathBuf,
}

impl DaemonProgram {
    /// The daemon of `home`. Its program is the `overside` beside this one, or what `OVERSIDE_DAEMON` names.
    pub fn of(home: &Home) -> Self {
        let program = match std::env::var_os("OVERSIDE_DAEMON").filter(|path| !path.is_empty()) {
            Some(path) => Ok(path.into()),
            None => programs::beside("overside"),
        };
        // In a file, not in a pipe: the daemon goes on writing when nobody reads any more.
        Self { program, complaints: home.logs().join("daemon.stderr") }
    }

    /// Starts the daemon and returns once it answers `client`.
    ///
    /// # Errors
    /// [`ErrorCode::DaemonUnreachable`] with the daemon's own words.
    pub async fn start(&self, client: &Client) -> Result<(), Problem> {
        let program = self.program.clone()?;
        let complaints = self.open_complaints().map_err(|error| {
            Problem::new(
                ErrorCode::DaemonUnreachable,
                format!("cannot start the daemon: {error}"),
                "Make Overside's directories writable for this user.",
            )
        })?;
        let mut command = Command::new(&program);
        command.arg("daemon").stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        programs::detach(&mut command);
        let mut child = command.spawn().map_err(|error| {
            Problem::new(
                ErrorCode::DaemonUnreachable,
                format!("cannot start {}: {error}", program.display()),
                "Install Overside again: its programs belong in one directory.",
            )
        })?;
        tracing::info!(program = %program.display(), pid = child.id(), "started the daemon");
        tokio::select! {
            answers = answers_within(client, START_TIMEOUT) => answers.then_some(()).ok_or_else(|| {
                Problem::new(
                    ErrorCode::DaemonUnreachable,
                    format!("the daemon was started, but has not answered for {} s", START_TIMEOUT.as_secs()),
                    format!("Look into {}.", self.complaints.display()),
                )
            }),
            // Ended at once: mostly because another daemon was quicker, which is as good.
            ended = child.wait() => {
                if answers_within(client, OTHER_TIMEOUT).await { Ok(()) } else { Err(self.failure(ended.ok())) }
            }
        }
    }

    fn open_complaints(&self) -> std::io::Result<std::fs::File> {
        if let Some(directory) = self.complaints.parent() {
            programs::private_directory(directory)?;
        }
        Ok(fs_err::File::create(&self.complaints)?.into_parts().0)
    }

    fn failure(&self, status: Option<ExitStatus>) -> Problem {
        let said = last_words(&self.complaints);
        let status = status.map_or_else(|| "for an unknown reason".to_owned(), |status| format!("with {status}"));
        Problem::new(
            ErrorCode::DaemonUnreachable,
            match said {
                Some(said) => format!("the daemon ended at once: {said}"),
                None => format!("the daemon ended at once {status}"),
            },
            format!("Run `overside daemon` in a terminal, or look into {}.", self.complaints.display()),
        )
    }
}

async fn answers_within(client: &Client, limit: Duration) -> bool {
    let asking = async {
        while client.status().await.is_err() {
            time::sleep(ASK_EVERY).await;
        }
    };
    time::timeout(limit, asking).await.is_ok()
}

/// The end of what a program wrote, as one line of at most 300 characters.
fn last_words(path: &Path) -> Option<String> {
    let text = fs_err::read_to_string(path).ok()?;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skip = line.chars().count().saturating_sub(300);
    (!line.is_empty()).then(|| line.chars().skip(skip).collect())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_daemon_that_ends_at_once_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("overside");
        fs_err::write(&program, "#!/bin/sh\necho 'the socket path is' >&2\necho 'too long' >&2\nexit 1\n").unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::at(&directory.path().join("home"));
        let daemon = DaemonProgram { program: Ok(program), complaints: home.logs().join("daemon.stderr") };
        let problem = daemon.start(&Client::new(home.control_socket())).await.unwrap_err();
        assert_eq!(problem.message, "the daemon ended at once: the socket path is too long");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let program = Ok(directory.path().join("overside"));
        let daemon = DaemonProgram { program, complaints: home.logs().join("daemon.stderr") };
        let problem = daemon.start(&Client::new(home.control_socket())).await.unwrap_err();
        assert!(problem.message.contains("overside"), "{problem}");
        assert!(problem.hint.contains("Install"), "{problem}");
    }
}
