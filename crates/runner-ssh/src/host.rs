//! What is done on the host: a look at it, the agent's program brought there, and the agent asked to act.

/// A loop over directories of the user's for what Overside keeps there, the best first; `$3` is the user's id. Where the
/// home is read-only, others have to do.
macro_rules! directories {
    () => {
        "for d in \"${XDG_CACHE_HOME:-$HOME/.cache}/overside\" \"/var/tmp/overside-$3\" \"/tmp/overside-$3\"; do "
    };
}

mod program;

use std::{path::Path, time::Duration};

use overside_io::BoxedStream;
use overside_model::{
    EnvironmentId, ErrorCode, HopStatus, Problem, Progress,
    agent::{EnvironmentFacts, EnvironmentSpec, Findings, Found, Isolation, MAX_LINE, PROTOCOL, Report, TakeOver},
};
use overside_runner::{
    Order, ProgressSink,
    reports::{self, Stop, clean, last_lines},
};
use overside_tunnel::outer::{Outer, Ran, Trail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    time::timeout,
};

use crate::shell::{quote, script};

/// Bytes that login shells may say before what we have started says anything.
const BANNER: usize = 64 * 1024;
/// Longest time for a look at the host, or for one answer of the agent's.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest time for the removal of an environment.
const REMOVAL: Duration = Duration::from_secs(120);

/// A host that is logged in to and has the agent.
#[derive(Debug)]
pub(crate) struct Login {
    outer: Outer,
    host: Host,
    /// The agent's program on the host.
    agent: String,
    means: Means,
    /// What the agent has found on the host.
    findings: Findings,
    /// Why better means were not chosen.
    note: Option<String>,
}

/// Who makes environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// The user, who is root.
    Root,
    /// Root, by sudo that asks for no password.
    Sudo,
    /// The user, who is an ordinary one.
    Ordinary,
    /// Root in a container on the host's Docker, which the user may use.
    Docker,
}

impl Means {
    /// What is put before a command.
    fn prefix(self) -> &'static str {
        match self {
            Self::Root | Self::Ordinary | Self::Docker => "",
            Self::Sudo => "sudo -n -- ",
        }
    }

    /// A command of the agent's program by these means, quoted.
    fn agent(self, agent: &str) -> Result<String, Problem> {
        let within = if self == Self::Docker { " in-docker" } else { "" };
        Ok(format!("{}{}{within}", self.prefix(), quote(agent)?))
    }
}

/// What a first look at a host tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    system: String,
    machine: String,
    uid: u32,
    user: String,
    /// Where an ordinary user's environments lie.
    environments: String,
    sudo: Sudo,
    /// Free bytes where they lie.
    free_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sudo {
    Free,
    WantsPassword,
    Missing,
}

/// Says who we are there, and changes nothing. Neither single quotes nor exclamation marks: see [`script`].
const LOOK: &str = concat!(
    "set -- a b \"$(id -u)\"; ",
    directories!(),
    "f=\"$d\"; until [ -z \"$f\" ] || [ -d \"$f\" ]; do f=\"${f%/*}\"; done; f=\"${f:-/}\"; ",
    "if [ -L \"$d\" ]; then continue; fi; if [ -d \"$d\" ]; then [ -O \"$d\" ] || continue; fi; ",
    "if [ -w \"$f\" ]; then break; fi; done; ",
    "if sudo -n true >/dev/null 2>&1; then s=free; elif command -v sudo >/dev/null 2>&1; then s=password; else s=none; fi; ",
    "f=$(df -Pk \"$f\" 2>/dev/null | tail -n 1 | awk \"{print \\$4}\"); ",
    "echo; echo overside-look; uname -s; uname -m; echo \"$3\"; id -un; echo \"$d/environments\"; echo \"$s\"; ",
    "echo \"${f:-unknown}\"; echo overside-end"
);

impl Login {
    /// Looks at the host, brings the agent there where it is not, and chooses the means. Notes the hops `shell` and `agent`.
    pub(crate) async fn enter(outer: Outer, agent: &Path, trail: &mut Trail) -> Result<Self, Problem> {
        let host = match Host::look(&outer).await {
            Ok(host) => host,
            Err(problem) => {
                trail.failed("shell", &problem);
                return Err(problem);
            }
        };
        let who = if host.uid == 0 { "root".to_owned() } else { format!("{} (uid {})", host.user, host.uid) };
        trail.passed("shell", format!("{who} on {} {}{}", host.system, host.machine, host.space()));
        let placed = program::ensure(&outer, agent, &host.machine, host.uid).await;
        let agent = match placed {
            Ok(agent) => agent,
            Err(problem) => {
                trail.failed("agent", &problem);
                return Err(problem);
            }
        };
        match Self::choose(&outer, &host, &agent).await {
            Ok((means, findings, note)) => Ok(Self { outer, host, agent, means, findings, note }),
            Err(problem) => {
                trail.failed("agent", &problem);
                Err(problem)
            }
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.outer.is_ended()
    }

    /// The best means that the host allows, what the agent finds by them, and why not better ones.
    async fn choose(outer: &Outer, host: &Host, agent: &str) -> Result<(Means, Findings, Option<String>), Problem> {
        let ask = |means| check(outer, means, agent);
        if host.uid == 0 {
            return Ok((Means::Root, ask(Means::Root).await?, None));
        }
        let why = match host.sudo {
            Sudo::Free => match ask(Means::Sudo).await {
                Ok(findings) if findings.suitable => return Ok((Means::Sudo, findings, None)),
                Ok(findings) => findings.missing.first().map_or_else(String::new, |missing| missing.message.clone()),
                Err(problem) => problem.message,
            },
            Sudo::WantsPassword => format!("sudo wants a password of {}", host.user),
            Sudo::Missing => "the host has no sudo".to_owned(),
        };
        let note = format!("not as root: {why}");
        let ordinary = ask(Means::Ordinary).await?;
        let Some(lack) = ordinary.missing.first() else { return Ok((Means::Ordinary, ordinary, Some(note))) };
        // What also lacks for root is not asked of the host's Docker.
        let engine = lack.code == ErrorCode::EngineMissing;
        match if engine { None } else { Some(ask(Means::Docker).await) } {
            Some(Ok(findings)) if findings.suitable => {
                let note = format!("{note}; not rootless: {}", lack.message);
                Ok((Means::Docker, findings, Some(note)))
            }
            None | Some(Ok(_)) => Ok((Means::Ordinary, ordinary, Some(note))),
            Some(Err(problem)) => {
                let note = format!("{note}; not in a container: {}", problem.message);
                Ok((Means::Ordinary, ordinary, Some(note)))
            }
        }
    }

    /// Notes the hops `agent`, `runner` and `engine`.
    pub(crate) async fn look(&self, trail: &mut Trail) {
        for mut hop in self.findings.hops() {
            (hop.detail, hop.hint) = (clean(&hop.detail), clean(&hop.hint));
            if hop.name == "runner" {
                match self.means {
                    Means::Sudo => hop.detail = format!("by sudo, {}", hop.detail),
                    Means::Docker => hop.detail = format!("in a container on the host's Docker, {}", hop.detail),
                    Means::Root | Means::Ordinary => {}
                }
                if let Some(cgroups) = &self.findings.cgroups {
                    hop.detail = format!("{}, cgroups {cgroups}", hop.detail);
                }
                if let (Some(note), HopStatus::Passed) = (&self.note, hop.status) {
                    hop.detail = format!("{} ({note})", hop.detail);
                    hop.status = HopStatus::Noted;
                    hop.hint = match self.means {
                        Means::Docker => "Passwordless sudo for this user does without the container.",
                        _ => {
                            "Environments of an ordinary user have no limits of their own on some machines; passwordless \
                             sudo for this user gives them."
                        }
                    }
                    .to_owned();
                } else if let Some(note) = &self.note {
                    hop.detail = format!("{note}; {}", hop.detail);
                }
            }
            trail.push(hop);
        }
    }

    /// The version of the engine that environments get.
    pub(crate) fn engine(&self) -> Option<String> {
        self.findings.engine.as_deref().map(clean)
    }

    /// Where environments lie.
    fn base(&self) -> String {
        match self.means {
            // One directory a user, so that they do not see each other.
            Means::Root | Means::Sudo | Means::Docker => format!("/var/lib/overside/{}", self.host.uid),
            Means::Ordinary => self.host.environments.clone(),
        }
    }

    fn directory(&self, id: &EnvironmentId) -> String {
        format!("{}/{id}", self.base())
    }

    /// A command of the agent's.
    fn command(&self, subcommand: &str, argument: Option<&str>) -> Result<String, Problem> {
        let mut command = format!("exec {} {subcommand}", self.means.agent(&self.agent)?);
        if let Some(argument) = argument {
            command = format!("{command} {}", quote(argument)?);
        }
        Ok(command)
    }

    /// Has the agent make an environment.
    pub(crate) async fn serve(&self, order: &Order, progress: ProgressSink<'_>) -> Result<EnvironmentFacts, Problem> {
        progress(Progress { step: "agent".into(), detail: format!("Starting the agent {}", self.host.by(self.means)) });
        let spec = EnvironmentSpec {
            protocol: PROTOCOL,
            id: order.id.clone(),
            directory: self.directory(&order.id).into(),
            client_key: order.client_key.clone(),
            limits: order.limits,
            lease: order.lease,
            engine_path: None,
            owner: Some(order.owner.clone()),
            socket_user: matches!(self.means, Means::Sudo | Means::Docker).then_some(self.host.uid),
        };
        let line = serde_json::to_string(&spec).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot describe the environment: {error}"), "")
        })?;
        let mut process = self.outer.start(&self.command("serve --detach", None)?).await?;
        // An agent that died already says more about it on its standard output and error than this write does.
        let _ = process.write(format!("{line}\n").as_bytes(), true).await;
        let followed = reports::follow(&mut BufReader::new(&mut process.stdout), BANNER, progress).await;
        match followed {
            Ok(mut facts) => {
                match (&self.note, facts.isolation) {
                    (Some(note), Isolation::Rootless) => {
                        facts.notes.push(format!("The engine runs as an ordinary user: {note}."));
                    }
                    (Some(note), Isolation::Namespaces) => {
                        facts.notes.push(format!("The engine runs in a container on the host's Docker: {note}."));
                    }
                    (None, _) => {}
                }
                Ok(facts)
            }
            Err(Stop::Failed(problem)) => Err(problem),
            Err(Stop::Ended { said }) => {
                let errors = process.stderr();
                let said = if errors.is_empty() && !said.is_empty() { said } else { last_lines(&errors) };
                Err(Problem::new(
                    ErrorCode::EngineFailed,
                    format!("the agent ended while it was starting the environment: {said}"),
                    "Try again; `overside runner test` says more of the host.",
                ))
            }
        }
    }

    /// Has the agent of an environment take another client for its own.
    pub(crate) async fn take_over(&self, id: &EnvironmentId, to: &TakeOver) -> Result<EnvironmentFacts, Problem> {
        let line = serde_json::to_string(to).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("cannot describe the new owner: {error}"), "")
        })?;
        let command = self.command("take-over", Some(&self.directory(id)))?;
        let ran = within(ANSWER, "take-over", self.outer.run(&command, format!("{line}\n").as_bytes())).await?;
        match reports::follow(&mut &*ran.stdout, BANNER, &|_| ()).await {
            Ok(facts) => Ok(facts),
            Err(Stop::Ended { said: nothing }) if nothing.is_empty() => {
                Err(unanswered(Stop::Ended { said: said(&ran) }, "take-over"))
            }
            Err(stop) => Err(unanswered(stop, "take-over")),
        }
    }

    /// A stream to the agent of an environment.
    pub(crate) async fn open(&self, id: &EnvironmentId) -> Result<BoxedStream, Problem> {
        let socket = format!("{}/agent.sock", self.directory(id));
        if let Some(stream) = self.outer.open_socket(&socket).await? {
            return Ok(stream);
        }
        // sshd does not say whether nobody listens there or whether it forwards no sockets. The agent's program knows.
        // The socket is the user's own where a container made it.
        let agent = if self.means == Means::Docker { quote(&self.agent)? } else { self.means.agent(&self.agent)? };
        let mut process = self.outer.start(&format!("exec {agent} connect {}", quote(&socket)?)).await?;
        let answer = async {
            let mut reader = BufReader::new(&mut process.stdout);
            reports::greeting(&mut reader, BANNER).await.map_err(|stop| unanswered(stop, "connect"))?;
            let mut line = Vec::new();
            // Byte by byte: what follows this line is the socket's.
            loop {
                match reader.read_u8().await {
                    Ok(b'\n') => break,
                    Ok(byte) if line.len() < MAX_LINE => line.push(byte),
                    _ => return Err(unanswered(Stop::Ended { said: String::new() }, "connect")),
                }
            }
            match serde_json::from_slice::<Option<Report>>(&line) {
                Ok(None) => Ok(reader.buffer().to_vec()),
                Ok(Some(Report::Failed(problem))) => Err(reports::clean_problem(problem)),
                _ => Err(unanswered(Stop::Ended { said: last_lines(&line) }, "connect")),
            }
        };
        let ahead = timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(silent("connect")))?;
        if ahead.is_empty() {
            return Ok(process.into_stream());
        }
        let (reader, writer) = tokio::io::split(process.into_stream());
        Ok(Box::new(tokio::io::join(std::io::Cursor::new(ahead).chain(reader), writer)))
    }

    /// Removes an environment, and the directories above it that hold nothing else.
    pub(crate) async fn destroy(&self, id: &EnvironmentId) -> Result<(), Problem> {
        let command = self.command("cleanup --force", Some(&self.directory(id)))?;
        let ran = within(REMOVAL, "cleanup", self.outer.run(&command, b"")).await?;
        if ran.status == Some(0) {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::EngineFailed,
            format!("environment {id} could not be removed completely: {}", said(&ran)),
            format!("Run `{}` on the host.", command.trim_start_matches("exec ")),
        ))
    }

    /// The environments of this user's on the host.
    pub(crate) async fn list(&self) -> Result<Vec<Found>, Problem> {
        let ran = within(ANSWER, "list", self.outer.run(&self.command("list", Some(&self.base()))?, b"")).await?;
        let mut reader = &*ran.stdout;
        match reports::greeting(&mut reader, BANNER).await {
            Ok(()) if ran.status == Some(0) => {}
            Err(stop @ Stop::Failed(_)) => return Err(unanswered(stop, "list")),
            _ => return Err(unanswered(Stop::Ended { said: said(&ran) }, "list")),
        }
        let mut found = Vec::new();
        let mut lines = reader.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let one = serde_json::from_str(&line);
            found.push(one.map_err(|error| unanswered(Stop::Ended { said: error.to_string() }, "list"))?);
        }
        Ok(found)
    }
}

/// What the agent finds on the host, as this user or as root.
async fn check(outer: &Outer, means: Means, agent: &str) -> Result<Findings, Problem> {
    let command = format!("exec {} check", means.agent(agent)?);
    let ran = within(ANSWER, "check", outer.run(&command, b"")).await?;
    // A shell's banner may stand before it.
    let starts = ran.stdout.iter().enumerate().filter(|(_, byte)| **byte == b'{').map(|(start, _)| start);
    let mut read = starts.filter_map(|start| {
        serde_json::Deserializer::from_slice(&ran.stdout[start..]).into_iter::<Findings>().next()?.ok()
    });
    read.next().ok_or_else(|| unanswered(Stop::Ended { said: said(&ran) }, "check"))
}

/// Removes the agent's programs from the host's cache.
pub(crate) async fn forget(outer: &Outer) -> Result<(), Problem> {
    program::forget(outer).await
}

impl Host {
    async fn look(outer: &Outer) -> Result<Self, Problem> {
        let ran = within(ANSWER, "look at the host", outer.run(&script("", LOOK, &[])?, b"")).await?;
        let text = String::from_utf8_lossy(&ran.stdout);
        Self::read(&text).ok_or_else(|| {
            Problem::new(
                ErrorCode::RunnerUnsuitable,
                format!("the login shell does not run commands; it says: {}", said(&ran)),
                "The host must be Linux, and the user's login must run commands: no forced command, no menu, no exit in \
                 its start-up files.",
            )
        })
    }

    /// Reads what [`LOOK`] says, whatever the login says before and after.
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim_end).skip_while(|line| *line != "overside-look").skip(1);
        // These are words and paths; what could write to a terminal is neither.
        let mut next = || lines.next().filter(|line| !line.contains(char::is_control)).map(str::to_owned);
        let (system, machine, uid, user) = (next()?, next()?, next()?.parse().ok()?, next()?);
        let environments = next()?;
        let sudo = match &*next()? {
            "free" => Sudo::Free,
            "password" => Sudo::WantsPassword,
            _ => Sudo::Missing,
        };
        let free_bytes = next()?.parse::<u64>().ok().map(|kibibytes| kibibytes.saturating_mul(1024));
        let complete = next()? == "overside-end" && environments.starts_with('/');
        complete.then_some(Self { system, machine, uid, user, environments, sudo, free_bytes })
    }

    fn space(&self) -> String {
        let gibibytes = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
        self.free_bytes.map(|bytes| format!(", {:.1} GiB free", gibibytes(bytes))).unwrap_or_default()
    }

    fn by(&self, means: Means) -> String {
        match means {
            Means::Root => "as root".to_owned(),
            Means::Sudo => "as root, by sudo".to_owned(),
            Means::Ordinary => format!("as {}", self.user),
            Means::Docker => "in a container on the host's Docker".to_owned(),
        }
    }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(silent(what)))
}

fn silent(what: &str) -> Problem {
    Problem::new(ErrorCode::RunnerUnreachable, format!("the host does not answer ({what})"), "Try again.")
}

/// What a command that failed has said.
fn said(ran: &Ran) -> String {
    last_lines(if ran.stderr.iter().any(|byte| !byte.is_ascii_whitespace()) { &ran.stderr } else { &ran.stdout })
}

fn unanswered(stop: Stop, what: &str) -> Problem {
    match stop {
        Stop::Failed(problem) => problem,
        Stop::Ended { said } => Problem::new(
            ErrorCode::AgentIncompatible,
            format!("the agent on the host gives no answer ({what}): {said}"),
            "Try again; `overside runner test` says more of the host.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_understood_whatever_a_login_says_around_it() {
        let look = "overside-look\nLinux\nx86_64\n1000\nme\n/home/me/.cache/overside/environments\npassword\n1048576\noverside-end\n";
        for text in [look.to_owned(), format!("Welcome!\n\u{1b}[1mnews\n{look}logout\n"), look.replace('\n', "\r\n")] {
            let host = Host::read(&text).unwrap();
            assert_eq!((host.uid, &*host.machine, host.sudo), (1000, "x86_64", Sudo::WantsPassword), "{text}");
            assert_eq!(host.free_bytes, Some(1 << 30));
        }
        for text in [
            "",
            "overside-look\nLinux\n",
            &look.replace("1000", "me"),
            &look.replace("/home", "home"),
            &look.replace("/home", "/\u{1b}[2J"),
        ] {
            assert_eq!(Host::read(text), None, "{text}");
        }
    }

    #[test]
    fn the_look_runs_in_a_plain_shell() {
        let command = script("", LOOK, &[]).unwrap();
        for shell in ["sh", "bash"] {
            let output = std::process::Command::new(shell).args(["-c", &command]).output().unwrap();
            let host = Host::read(&String::from_utf8_lossy(&output.stdout));
            let host = host.unwrap_or_else(|| panic!("{shell}: {output:?}"));
            assert_eq!(host.system, "Linux");
            assert!(host.free_bytes.is_some());
        }
    }
}
