//! Reading what a starting agent says.

use overside_model::{
    ErrorCode, Problem, Progress,
    agent::{EnvironmentFacts, MAGIC, MAX_LINE, PROTOCOL, Report},
};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::ProgressSink;

/// Why a start came to no environment.
#[derive(Debug)]
pub enum Stop {
    /// The agent says why, or is not one that we understand.
    Failed(Problem),
    /// It ended, or the way to it did.
    Ended {
        /// What came before any greeting, its last lines: a login's banner, a shell's complaint. Empty after a greeting.
        said: String,
    },
}

/// Reads reports until the environment is ready or has failed. Up to `banner` bytes before the agent's greeting are skipped:
/// what login shells say unasked.
///
/// # Errors
/// [`Stop`].
pub async fn follow(
    reports: &mut (impl AsyncBufRead + Unpin),
    banner: usize,
    progress: ProgressSink<'_>,
) -> Result<EnvironmentFacts, Stop> {
    greeting(reports, banner).await?;
    while let Some(line) = line(reports).await {
        match serde_json::from_slice(&line) {
            Ok(Report::Step { step, detail }) => progress(Progress { step: clean(&step), detail: clean(&detail) }),
            Ok(Report::Ready(mut facts)) => {
                facts.notes = facts.notes.iter().map(|note| clean(note)).collect();
                facts.engine_version = clean(&facts.engine_version);
                return Ok(facts);
            }
            Ok(Report::Failed(problem)) => return Err(Stop::Failed(clean_problem(problem))),
            Ok(Report::Hello { .. }) => return Err(Stop::Failed(incompatible("something that greets twice"))),
            Err(error) => {
                return Err(Stop::Failed(incompatible(&format!("an agent that is not understood ({error})"))));
            }
        }
    }
    Err(Stop::Ended { said: String::new() })
}

/// Reads up to the end of the agent's greeting, over `banner` bytes of anything else at most. What follows is the agent's.
///
/// # Errors
/// [`Stop`].
pub async fn greeting(reader: &mut (impl AsyncBufRead + Unpin), banner: usize) -> Result<(), Stop> {
    let mut said = Vec::new();
    while let Some(line) = line(reader).await {
        // A banner without an end of line stands before the greeting on its line.
        let start = line.windows(START.len()).rposition(|window| window == START).unwrap_or(0);
        match serde_json::from_slice(&line[start..]) {
            Ok(Report::Hello { magic, protocol, version }) if magic == MAGIC => {
                if protocol != PROTOCOL {
                    return Err(Stop::Failed(incompatible(&format!("version {version} (protocol {protocol})"))));
                }
                return Ok(());
            }
            _ => said.extend_from_slice(&line),
        }
        if said.len() > banner {
            return Err(Stop::Failed(incompatible("something that does not greet as an agent")));
        }
    }
    Err(Stop::Ended { said: if said.is_empty() { String::new() } else { last_lines(&said) } })
}

/// How a greeting begins.
const START: &[u8] = br#"{"report":"hello""#;

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

/// A text from the other side without what could write to a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// [`clean`] for a problem that the other side tells.
pub fn clean_problem(problem: Problem) -> Problem {
    Problem::new(problem.code, clean(&problem.message), clean(&problem.hint))
}

/// The last lines of a program's output as one line without control characters, for an error's text.
pub fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    if last.is_empty() { "it said nothing".to_owned() } else { clean(&last) }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn outcome(text: &str, banner: usize) -> (Result<EnvironmentFacts, Stop>, Vec<String>) {
        let steps = Mutex::new(Vec::new());
        let note = |progress: Progress| steps.lock().unwrap().push(progress.step);
        let result = follow(&mut text.as_bytes(), banner, &note).await;
        let steps = std::mem::take(&mut *steps.lock().unwrap());
        (result, steps)
    }

    /// What an agent of a protocol says first.
    fn hello(protocol: u32) -> String {
        format!("{{\"report\":\"hello\",\"magic\":\"overside-agent\",\"protocol\":{protocol},\"version\":\"0\"}}\n")
    }

    #[tokio::test]
    async fn steps_are_passed_on_and_a_failure_keeps_its_words() {
        let text = format!(
            "{}{}\n{}\n",
            hello(PROTOCOL),
            r#"{"report":"step","step":"network","detail":"x"}"#,
            r#"{"report":"failed","code":"engine-missing","message":"no dockerd","hint":"apt-get install docker.io"}"#
        );
        let (result, steps) = outcome(&text, 0).await;
        assert_eq!(steps, ["network"]);
        assert!(matches!(result, Err(Stop::Failed(problem)) if problem.code == ErrorCode::EngineMissing));
    }

    #[tokio::test]
    async fn a_banner_or_another_protocol_is_not_taken_for_an_agent() {
        let other = hello(PROTOCOL + 1);
        for text in ["Welcome to Debian!\n", "{\"report\":\"step\",\"step\":\"a\",\"detail\":\"\"}\n", &other] {
            let (result, _) = outcome(text, 0).await;
            assert!(
                matches!(result, Err(Stop::Failed(problem)) if problem.code == ErrorCode::AgentIncompatible),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn an_agent_that_dies_while_starting_is_noticed() {
        assert!(matches!(outcome(&hello(PROTOCOL), 0).await.0, Err(Stop::Ended { said }) if said.is_empty()));
    }

    #[tokio::test]
    async fn what_a_login_shell_says_before_the_agent_is_skipped_up_to_a_bound() {
        let failed = r#"{"report":"failed","code":"engine-missing","message":"no dockerd","hint":""}"#;
        for banner in [
            "Welcome!\n\x1b[1mnews\x1b[0m\n",
            "no end of line",
            "{\"report\":\"hello\"}\n",
            "{\"report\":\"hello\",",
            "",
        ] {
            let (result, _) = outcome(&format!("{banner}{}{failed}\n", hello(PROTOCOL)), 64).await;
            assert!(matches!(result, Err(Stop::Failed(p)) if p.code == ErrorCode::EngineMissing), "{banner:?}");
        }
        let (result, _) = outcome(&format!("{}{}", "noise\n".repeat(20), hello(PROTOCOL)), 64).await;
        assert!(matches!(result, Err(Stop::Failed(problem)) if problem.code == ErrorCode::AgentIncompatible));
        let (result, _) = outcome("sh: not found\n", 64).await;
        assert!(matches!(result, Err(Stop::Ended { said }) if said.contains("not found")));
    }

    #[test]
    fn what_a_program_said_cannot_write_to_a_terminal() {
        assert_eq!(last_lines(b"one\n\x1b[31mtwo\n"), "one;  [31mtwo");
        assert_eq!(last_lines(b""), "it said nothing");
    }
}
