//! `overside diagnose`, run as a program: it must also tell why there is no daemon.

use std::{process::Stdio, time::Duration};

use overside_desktop::programs;
use overside_model::{Diagnosis, ErrorCode, Problem};
use tokio::process::Command;

/// More than all limits of its own together.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs it, and reads what it found. `bundle` is the file for a bundle.
pub(crate) async fn diagnose(bundle: Option<&str>) -> Result<Diagnosis, Problem> {
    let program = programs::beside("overside")?;
    let failed = |reason: String| {
        let message = format!("cannot run {} diagnose: {reason}", program.display());
        Problem::new(ErrorCode::Internal, message, "Install Overside again, or run `overside diagnose` in a terminal.")
    };
    let mut command = Command::new(&program);
    command.args(["diagnose", "--format", "json"]).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(bundle) = bundle {
        command.args(["--bundle", bundle]);
    }
    let output = match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("it has not ended within {} s", LIMIT.as_secs()))),
    };
    // Its exit status says whether a hop fails, which is what it was asked for.
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        failed(if said.trim().is_empty() { error.to_string() } else { said.trim().to_owned() })
    })
}
