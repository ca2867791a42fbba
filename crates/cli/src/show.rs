//! What the command line shows to people.

use std::{fmt::Write, time::Duration};

use bytesize::ByteSize;
use overside_config::Home;
use overside_model::{
    DesktopSettings, MountState, MountStatus, PortStatus, Problem, PromptReason, Settings, State, Status, Usage, Work,
    settings::TABLE,
};
use serde_json::Value;

/// A duration in the two largest units that it has.
fn duration(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// After `overside start`.
pub(crate) fn started(status: &Status, docker_host: Option<&str>) -> String {
    let mut text = format!("Overside is on ({}), runner {}.\n", status.state.name(), status.runner);
    if let Some(error) = &status.error {
        let _ = writeln!(text, "Last error: {}", error.sentence());
    }
    if status.state == State::Idle {
        text.push_str("The engine starts with your first docker command, for example `docker run --rm hello-world`.\n");
    }
    let elsewhere = docker_host.filter(|host| !host.is_empty() && !host.ends_with(&status.socket));
    if let Some(host) = elsewhere {
        let _ = writeln!(
            text,
            "DOCKER_HOST={host} overrides the Docker context here: unset it, or set it to unix://{}.",
            status.socket
        );
    }
    text
}

/// `overside status`.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<13}{value}");
    };
    row("State", format!("{} on {}", status.state.name(), status.runner));
    if let Some(progress) = &status.progress {
        row("Step", progress.detail.clone());
    }
    if let Some(session) = &status.session {
        let environment = session.environment.as_ref().map_or("none yet", |id| id.as_str());
        row("Environment", format!("{environment}, since {}", session.started_at));
        for note in &session.notes {
            row("", note.clone());
        }
    }
    for (index, reason) in status.awake_because.iter().enumerate() {
        row(if index == 0 { "Awake for" } else { "" }, format!("{} {}", reason.kind, reason.detail));
    }
    if let Some(seconds) = status.idle_in_seconds {
        row("Idle in", duration(seconds));
    }
    if let Some(seconds) = status.grace_remaining_seconds {
        row("Deleted in", duration(seconds));
    }
    if let Some(prompt) = &status.prompt {
        let question = match prompt.reason {
            PromptReason::Inactivity => "nothing happens",
            PromptReason::LongSession => "this session is long",
        };
        let left = duration(prompt.answer_within_seconds);
        row("Still there?", format!("{question}: suspended in {left}; `overside later` or `overside idle`"));
    }
    for (index, work) in status.at_risk.iter().enumerate() {
        let kept = work.kept_in.as_ref().map(|archive| format!(" (kept in {archive})")).unwrap_or_default();
        row(if index == 0 { "To be lost" } else { "" }, format!("{} {}{kept}", work.kind.name(), work.name));
    }
    for (index, poller) in status.ignored_pollers.iter().enumerate() {
        row(if index == 0 { "Ignored" } else { "" }, format!("{}: {} polling calls", poller.program, poller.calls));
    }
    row("Used today", format!("{} of {}", duration(status.usage.today_seconds), duration(status.usage.limit_seconds)));
    row("Socket", format!("unix://{}", status.socket));
    if let Some(error) = &status.error {
        row("Error", error.message.clone());
        if !error.hint.is_empty() {
            row("", error.hint.clone());
        }
    }
    text
}

/// The status as it is when nothing has changed for some time: what counts, has counted.
pub(crate) fn later(status: &Status, passed: Duration) -> Status {
    let passed = passed.as_secs();
    let mut status = status.clone();
    for left in [&mut status.idle_in_seconds, &mut status.grace_remaining_seconds].into_iter().flatten() {
        *left = left.saturating_sub(passed);
    }
    if let Some(prompt) = &mut status.prompt {
        prompt.answer_within_seconds = prompt.answer_within_seconds.saturating_sub(passed);
    }
    if status.state == State::Running {
        status.usage.today_seconds += passed;
    }
    status
}

/// The status while no daemon runs.
pub(crate) fn without_daemon(home: &Home, settings: &Settings, error: Problem) -> Status {
    Status {
        runner: settings.runner.clone(),
        socket: home.docker_socket().display().to_string(),
        usage: Usage { today_seconds: 0, limit_seconds: settings.daily_limit.as_secs() },
        error: Some(error),
        first_use: !home.engine_facts_file().exists(),
        desktop: DesktopSettings::of(settings),
        version: String::new(),
        ..Status::quiet(State::Stopped)
    }
}

/// A value as it is typed on a command line.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // As it is typed: names with commas.
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// After `overside keep` and `overside restore`.
pub(crate) fn work(what: &str, file: &str, work: &[Work]) -> String {
    let mut text = format!("{what} {file}: {}\n", if work.is_empty() { "nothing" } else { "" }).replace(": \n", ":\n");
    for work in work {
        let _ = writeln!(text, "  {} {}", work.kind.name(), work.name);
    }
    text
}

/// `overside ports`.
pub(crate) fn ports(ports: &[PortStatus]) -> String {
    let place = |port: &PortStatus| format!("{}/{}", port.address, port.protocol.name());
    let container = |port: &PortStatus| format!("{}:{}", port.container, port.container_port);
    let width = |of: &dyn Fn(&PortStatus) -> String, least: usize| {
        ports.iter().map(|port| of(port).len()).max().unwrap_or(0).max(least)
    };
    let (places, containers) = (width(&place, 15), width(&container, 9));
    let mut text =
        format!("{:places$}  {:containers$}  OPEN  {:>10}  {:>10}\n", "ON THIS MACHINE", "CONTAINER", "IN", "OUT");
    for port in ports {
        let (place, container) = (place(port), container(port));
        let _ = match &port.problem {
            Some(problem) => writeln!(text, "{place:places$}  {container:containers$}  not there: {problem}"),
            None => {
                let size = |bytes| ByteSize::b(bytes).display().iec().to_string();
                let (came, went) = (size(port.bytes_in), size(port.bytes_out));
                writeln!(
                    text,
                    "{place:places$}  {container:containers$}  {:>4}  {came:>10}  {went:>10}",
                    port.connections
                )
            }
        };
    }
    text
}

/// `overside mounts`.
pub(crate) fn mounts(mounts: &[MountStatus]) -> String {
    let size = |bytes| ByteSize::b(bytes).display().iec().to_string();
    let width = mounts.iter().map(|mount| mount.path.chars().count()).max().unwrap_or(0).max(15);
    let mut text = format!("{:width$}  {:<9}  {:>8}  {:>10}\n", "ON THIS MACHINE", "STATE", "FILES", "SIZE");
    for mount in mounts {
        let state = match mount.state {
            MountState::Waiting => "waiting",
            MountState::Scanning => "scanning",
            MountState::Syncing => "syncing",
            MountState::Halted => "halted",
            MountState::Failed => "failed",
            MountState::Synced if mount.read_only => "one-way",
            MountState::Synced => "synced",
        };
        let _ = writeln!(text, "{:width$}  {state:<9}  {:>8}  {:>10}", mount.path, mount.files, size(mount.bytes));
        if mount.left_files > 0 {
            let _ = writeln!(text, "  {} files, {} to go", mount.left_files, size(mount.left_bytes));
        }
        for conflict in &mount.conflicts {
            let _ = writeln!(text, "  changed on both sides: {conflict} (keep one of both, delete the other)");
        }
        for problem in &mount.problems {
            let _ = writeln!(text, "  not synced: {problem}");
        }
        if let Some(problem) = &mount.problem {
            let _ = writeln!(text, "  {problem}\n  {}", problem.hint);
        }
    }
    text
}

/// `overside settings get`.
/// Each setting's value and where it comes from are asked by name.
pub(crate) fn settings(of: impl Fn(&str) -> (Value, String)) -> String {
    let mut text = format!("{:<30}{:<10}{:<9}accepts\n", "name", "value", "from");
    for row in TABLE {
        let (value, source) = of(row.name);
        let _ = writeln!(text, "{:<30}{:<10}{source:<9}{}", row.name, plain(&value), row.expected);
    }
    text
}

#[cfg(test)]
mod tests {
    use overside_model::ErrorCode;

    use super::*;

    fn idle() -> Status {
        let problem = Problem::new(ErrorCode::EngineMissing, "no dockerd", "Install it.");
        let status = without_daemon(&Home::at(std::path::Path::new("/h")), &Settings::default(), problem);
        Status { state: State::Idle, error: None, ..status }
    }

    #[test]
    fn the_page_of_settings_says_what_the_program_does() {
        let mut page = String::from(
            "# Settings\n\nMade from the table in `crates/model/src/settings.rs`; a test compares. Change one with \
             `overside settings set NAME VALUE`.\n\n| name | default | accepts | what it does |\n| --- | --- | --- | --- |\n",
        );
        for row in TABLE {
            let default = Settings::default().get(row.name).unwrap();
            let _ = writeln!(page, "| `{}` | {} | {} | {} |", row.name, plain(&default), row.expected, row.purpose);
        }
        assert_eq!(include_str!("../../../docs/settings.md"), page, "docs/settings.md should be:\n{page}");
    }

    #[test]
    fn ports_are_a_table_and_say_why_one_is_not_there() {
        let port = PortStatus {
            protocol: overside_model::Protocol::Tcp,
            address: "0.0.0.0:8080".to_owned(),
            container: "web".to_owned(),
            container_port: 80,
            connections: 2,
            bytes_in: 512,
            bytes_out: 3 << 20,
            problem: None,
        };
        let lost = PortStatus { problem: Some("listen tcp4: taken".to_owned()), ..port.clone() };
        assert_eq!(
            ports(&[port, lost]),
            "ON THIS MACHINE   CONTAINER  OPEN          IN         OUT\n\
             0.0.0.0:8080/tcp  web:80        2       512 B     3.0 MiB\n\
             0.0.0.0:8080/tcp  web:80     not there: listen tcp4: taken\n"
        );
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(3 * 3600 + 62), "3h 1m");
    }

    #[test]
    fn a_docker_host_that_leads_elsewhere_is_pointed_out() {
        assert!(started(&idle(), Some("tcp://other:2375")).contains("overrides the Docker context"));
        for own in [None, Some(""), Some("unix:///h/docker.sock")] {
            assert!(!started(&idle(), own).contains("DOCKER_HOST"), "{own:?}");
        }
    }

    #[test]
    fn an_error_is_shown_with_its_next_step() {
        let error = Some(Problem::new(ErrorCode::EngineMissing, "no dockerd", "Install it."));
        let text = status(&Status { error, ..idle() });
        assert!(text.ends_with("Error        no dockerd\n             Install it.\n"), "{text}");
    }
}
