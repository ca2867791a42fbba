//! Reading what a starting agent says.

use overside_model::{
    ErrorCode, Problem, Progress,
    agent::{EnvironmentFacts, MAGIC, MAX_LINE, PROTOCOL, Report},
};
use overside_runner::ProgressSink;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Child,
};

/// Bytes of standard error that are kept for the error's text.
const MAX_STDERR: u64 = 16 * 1024;

/// Reads reports until the environment is ready or has failed.
pub(crate) async fn read(child: &mut Child, progress: ProgressSink<'_>) -> Result<EnvironmentFacts, Problem> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Problem::new(ErrorCode::Internal, "the agent has no standard output", ""));
    };
    let mut stdout = BufReader::new(stdout);
    let result = follow(&mut stdout, progress).await;
    let Err(Stop::Ended) = result else {
        return result.map_err(|stop| match stop {
            Stop::Failed(problem) => problem,
            Stop::Ended => Problem::new(ErrorCode::EngineFailed, "the agent ended", ""),
        });
    };
    let mut said = Vec::new();
    // What it said before it ended; unreadable is as good as nothing.
    let _ = stderr.take(MAX_STDERR).read_to_end(&mut said).await;
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    Err(Problem::new(
        ErrorCode::EngineFailed,
        format!("the agent ended while it was starting the environment ({status}): {}", last_lines(&said)),
        "Try again; `overside status` shows the error.",
    ))
}

enum Stop {
    Failed(Problem),
    Ended,
}

async fn follow(
    stdout: &mut (impl AsyncBufRead + Unpin),
    progress: ProgressSink<'_>,
) -> Result<EnvironmentFacts, Stop> {
    let mut greeted = false;
    while let Some(line) = line(stdout).await {
        match serde_json::from_slice(&line) {
            Ok(Report::Hello { magic, protocol, version }) if magic == MAGIC => {
                if protocol != PROTOCOL {
                    return Err(Stop::Failed(incompatible(&format!("version {version} (protocol {protocol})"))));
                }
                greeted = true;
            }
            Ok(Report::Step { step, detail }) if greeted => progress(Progress { step, detail }),
            Ok(Report::Ready(facts)) if greeted => return Ok(facts),
            Ok(Report::Failed(problem)) if greeted => return Err(Stop::Failed(problem)),
            Ok(_) => return Err(Stop::Failed(incompatible("something that does not greet as an agent"))),
            Err(_) if !greeted => return Err(Stop::Failed(incompatible("something that is no overside-agent"))),
            Err(error) => {
                return Err(Stop::Failed(incompatible(&format!("an agent that is not understood ({error})"))));
            }
        }
    }
    Err(Stop::Ended)
}

fn incompatible(what: &str) -> Problem {
    Problem::new(
        ErrorCode::AgentIncompatible,
        format!(
            "the agent's program is {what}, and this is Overside {} (protocol {PROTOCOL})",
            env!("CARGO_PKG_VERSION")
        ),
        "Install overside and overside-agent of the same version.",
    )
}

/// The next line; None at the end or where a line is longer than any honest one.
async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE as u64).read_until(b'\n', &mut line).await.ok()?;
    (line.last() == Some(&b'\n')).then_some(line)
}

/// The last lines of a program's output as one line without control characters.
pub(crate) fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    let clean: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.is_empty() { "it said nothing".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn outcome(text: &str) -> (Result<EnvironmentFacts, Stop>, Vec<String>) {
        let steps = Mutex::new(Vec::new());
        let note = |progress: Progress| steps.lock().unwrap().push(progress.step);
        let result = follow(&mut text.as_bytes(), &note).await;
        let steps = std::mem::take(&mut *steps.lock().unwrap());
        (result, steps)
    }

    const HELLO: &str = "{\"report\":\"hello\",\"magic\":\"overside-agent\",\"protocol\":1,\"version\":\"0\"}\n";

    #[tokio::test]
    async fn steps_are_passed_on_and_a_failure_keeps_its_words() {
        let text = format!(
            "{HELLO}{}\n{}\n",
            r#"{"report":"step","step":"network","detail":"x"}"#,
            r#"{"report":"failed","code":"engine-missing","message":"no dockerd","hint":"apt-get install docker.io"}"#
        );
        let (result, steps) = outcome(&text).await;
        assert_eq!(steps, ["network"]);
        assert!(matches!(result, Err(Stop::Failed(problem)) if problem.code == ErrorCode::EngineMissing));
    }

    #[tokio::test]
    async fn a_banner_or_another_protocol_is_not_taken_for_an_agent() {
        let other = HELLO.replace("\"protocol\":1", "\"protocol\":2");
        for text in ["Welcome to Debian!\n", "{\"report\":\"step\",\"step\":\"a\",\"detail\":\"\"}\n", &other] {
            let (result, _) = outcome(text).await;
            assert!(
                matches!(result, Err(Stop::Failed(problem)) if problem.code == ErrorCode::AgentIncompatible),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn an_agent_that_dies_while_starting_is_noticed() {
        assert!(matches!(outcome(HELLO).await.0, Err(Stop::Ended)));
    }

    #[test]
    fn what_a_program_said_cannot_write_to_a_terminal() {
        assert_eq!(last_lines(b"one\n\x1b[31mtwo\n"), "one;  [31mtwo");
        assert_eq!(last_lines(b""), "it said nothing");
    }
}
