//! Starting the daemon when there is none.

use std::{env, process::Stdio, time::Duration};

use overside_config::Home;
use overside_control::Client;
use overside_model::{ErrorCode, Problem};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

/// How long a daemon has to bind its sockets.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest path of a Unix socket in bytes: macOS has room for 104, with its end.
const MAX_SOCKET_PATH: usize = 103;
/// What the daemon writes once its sockets are there.
pub(crate) const READY: &str = "ready";

/// Says whether the sockets' paths can be sockets' paths, which needs no daemon.
pub(crate) fn check_sockets(home: &Home) -> Result<(), Problem> {
    for path in [home.docker_socket(), home.control_socket()] {
        let length = path.as_os_str().len();
        if cfg!(unix) && length > MAX_SOCKET_PATH {
            return Err(Problem::new(
                ErrorCode::SocketPath,
                format!("the socket path {} has {length} bytes, and {MAX_SOCKET_PATH} are the limit", path.display()),
                "Set OVERSIDE_HOME to a directory with a shorter path.",
            ));
        }
    }
    Ok(())
}

/// Makes sure that a daemon answers: one that runs, or a new one that outlives this command.
pub(crate) async fn ensure_daemon(home: &Home, client: &Client, timeout: Duration) -> Result<(), Problem> {
    check_sockets(home)?;
    if client.status().await.is_ok() {
        return Ok(());
    }
    let failed = |reason: String| {
        Problem::new(ErrorCode::DaemonUnreachable, format!("cannot start the Overside daemon: {reason}"), "")
    };
    let program = env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args(["daemon", "--detached"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("it has no standard output".to_owned()));
    };
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    match tokio::time::timeout(timeout, stdout.read_line(&mut line)).await {
        Ok(Ok(_)) if line.trim() == READY => Ok(()),
        Ok(_) => {
            // It ended: what it said is its reason. Another daemon may have won the race, which is as good.
            let mut reason = String::new();
            let _ = stderr.read_to_string(&mut reason).await;
            if client.status().await.is_ok() {
                return Ok(());
            }
            let reason = reason.trim().trim_start_matches("overside: ");
            Err(failed(if reason.is_empty() { "it ended at once".to_owned() } else { reason.to_owned() }))
        }
        Err(_) => Err(Problem::new(
            ErrorCode::DaemonUnreachable,
            format!("the Overside daemon did not come up within {}", humantime::format_duration(timeout)),
            format!("See {}, or wait longer with --timeout.", home.logs().display()),
        )),
    }
}
