//! `overside diagnose`: names the hop that fails on the way from a Docker client to an engine.
//!
//! It only looks: nothing is woken, resumed or changed, and everything that may hang has a limit. Without a daemon, the
//! runner is tested from here.

mod bundle;
mod log;
mod show;
mod socket;
mod words;

use std::{
    env,
    fmt::Display,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use overside_config::{ChosenBy, DockerContext, Home, Policy, SettingsFile};
use overside_control::Client;
use overside_model::{Diagnosis, ErrorCode, Hop, HopStatus, Problem, Settings, State, Status};

use crate::{arguments::Format, daemon, launch};

/// How long the daemon may take to answer; it takes milliseconds.
const DAEMON: Duration = Duration::from_secs(3);
/// How long the Docker socket may take, and the engine behind it.
const SOCKET: Duration = Duration::from_secs(5);
/// How long the runner's own hops may take together; each of them has a shorter limit.
const RUNNER: Duration = Duration::from_secs(60);
/// Lines of the daemon's log that are told.
const LOG_LINES: usize = 200;

/// What was found, and what a bundle needs besides.
struct Findings {
    hops: Vec<Hop>,
    settings: Result<Settings, Problem>,
    policy: Result<Policy, Problem>,
    status: Option<Status>,
}

/// Looks, shows what it finds, and writes the bundle where one is wanted. The exit status says whether every hop works.
pub(crate) async fn run(home: &Home, format: Format, bundle: Option<&Path>) -> Result<ExitCode, Problem> {
    let findings = look(home).await;
    let written = bundle.map(|file| bundle::write(file, home, &findings)).transpose()?;
    let log = match format {
        Format::Json => log::last_lines(&home.logs(), LOG_LINES),
        Format::Pretty => Vec::new(),
    };
    let diagnosis = Diagnosis { hops: findings.hops, log, bundle: written };
    // Whoever reads may have seen enough, as `head` has.
    let _ = match format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string(&diagnosis).unwrap_or_default()),
        Format::Pretty => write!(anstream::stdout(), "{}", show::diagnosis(&diagnosis)),
    };
    Ok(if diagnosis.failed().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn look(home: &Home) -> Findings {
    let settings = SettingsFile::new(home.settings_file()).load();
    let policy = Policy::load(&Policy::system_path());
    let client = Client::new(home.control_socket());
    let (daemon, status) = daemon_hop(home, &client).await;
    let socket = socket_hop(home, status.as_ref()).await;
    let selects =
        status.as_ref().is_some_and(|it| it.state != State::Stopped) && applied(&settings, &policy).select_context;
    let mut hops = vec![settings_hop(&settings, &policy), daemon, socket, context_hop(home, selects)];
    let runner = match &status {
        Some(status) => status.runner.clone(),
        None => applied(&settings, &policy).runner,
    };
    let mut runner_hops = runner_hops(home, &client, &runner, status.is_some()).await;
    // What a runner says of its engine belongs behind the tunnel.
    let engine = runner_hops.iter().position(|hop| hop.name == "engine").map(|index| runner_hops.remove(index));
    hops.extend(runner_hops);
    hops.extend(environment_hops(home, status.as_ref(), engine).await);
    Findings { hops, settings, policy, status }
}

/// The settings that apply, as far as they can be read.
fn applied(settings: &Result<Settings, Problem>, policy: &Result<Policy, Problem>) -> Settings {
    let own = settings.clone().unwrap_or_default();
    policy.as_ref().map_or_else(|_| own.clone(), |policy| policy.apply(&own))
}

fn took(began: Instant, hop: Hop) -> Hop {
    Hop { took_ms: u64::try_from(began.elapsed().as_millis()).ok(), ..hop }
}

fn settings_hop(settings: &Result<Settings, Problem>, policy: &Result<Policy, Problem>) -> Hop {
    match (settings, policy) {
        (Err(problem), _) | (_, Err(problem)) => Hop::failed("settings", problem.clone()),
        (Ok(_), Ok(policy)) if policy.is_none() => Hop::passed("settings", "can be read"),
        (Ok(_), Ok(_)) => Hop::passed("settings", "can be read, and so can the organisation's policy"),
    }
}

async fn daemon_hop(home: &Home, client: &Client) -> (Hop, Option<Status>) {
    const NAME: &str = "daemon";
    if let Err(problem) = launch::check_sockets(home) {
        return (Hop::failed(NAME, problem), None);
    }
    let began = Instant::now();
    let asked = tokio::time::timeout(DAEMON, async { Ok((client.version().await?, client.status().await?)) }).await;
    match asked {
        Ok(Ok((version, status))) if version == env!("CARGO_PKG_VERSION") => {
            (took(began, Hop::passed(NAME, format!("overside {version} answers"))), Some(status))
        }
        Ok(Ok((version, status))) => {
            let own = env!("CARGO_PKG_VERSION");
            let message = format!("it is overside {version}, and this command is {own}");
            let hint = "Restart the daemon, so that both are of one version.";
            let problem = Problem::new(ErrorCode::DaemonIncompatible, message, hint);
            (took(began, Hop::failed(NAME, problem).in_nobodys_way()), Some(status))
        }
        Ok(Err(problem)) => (Hop::failed(NAME, problem), None),
        Err(_) => {
            let seconds = DAEMON.as_secs();
            let who = match socket::server(&home.control_socket()).await {
                Some(pid) => format!("process {pid}"),
                None => "its process".to_owned(),
            };
            let problem = Problem::new(
                ErrorCode::DaemonUnreachable,
                format!("the daemon takes connections, and has not answered for {seconds} s"),
                format!("End {who}, then run `overside start`; its log is in {}.", home.logs().display()),
            );
            (took(began, Hop::failed(NAME, problem)), None)
        }
    }
}

/// Asks the Docker socket in a way that wakes nothing in the state that the session is in: a ping where it is answered
/// without an engine for certain, a held stream of events, which never wakes, elsewhere.
async fn socket_hop(home: &Home, status: Option<&Status>) -> Hop {
    const NAME: &str = "socket";
    let Some(status) = status else { return Hop::skipped(NAME, "without a daemon nobody answers on it") };
    let path = home.docker_socket();
    let shown = path.display();
    let began = Instant::now();
    let hop = match status.state {
        // Whether the engine answers through it is the last hop's question.
        State::Running => match tokio::time::timeout(SOCKET, socket::connect(&path)).await {
            Ok(Ok(())) => Hop::passed(NAME, format!("{shown} takes calls")),
            Ok(Err(error)) => unanswered(&path, error),
            Err(_) => unanswered(&path, "it takes no connection"),
        },
        state => {
            let question = if state == State::Stopped { "/_ping" } else { "/events" };
            match tokio::time::timeout(SOCKET, socket::ask(&path, question)).await {
                Ok(Ok(answer)) if answer.status == 200 => Hop::passed(NAME, format!("{shown} answers")),
                Ok(Ok(_)) if state == State::Stopped => {
                    let message = "Overside is turned off: docker gets an error";
                    let problem = Problem::new(ErrorCode::Stopped, message, "Turn it on with `overside start`.");
                    Hop::failed(NAME, problem)
                }
                Ok(Ok(answer)) => unanswered(&path, answer),
                Ok(Err(error)) => unanswered(&path, error),
                Err(_) => unanswered(&path, format!("no answer within {} s", SOCKET.as_secs())),
            }
        }
    };
    took(began, hop)
}

fn unanswered(path: &Path, reason: impl Display) -> Hop {
    let message = format!("{} does not answer: {reason}", path.display());
    let hint = "Restart the daemon: it makes the socket anew.";
    Hop::failed("socket", Problem::new(ErrorCode::DaemonUnreachable, message, hint))
}

/// Where a docker that is started here goes; `selects` says that it is Overside's to see that it comes here.
fn context_hop(home: &Home, selects: bool) -> Hop {
    const NAME: &str = "context";
    let socket = home.docker_socket();
    let variable = |name| env::var(name).ok();
    let target = DockerContext::new(&socket, &home.previous_context_file())
        .and_then(|context| context.target(variable("DOCKER_HOST").as_deref(), variable("DOCKER_CONTEXT").as_deref()));
    let broken =
        |message: String, hint: &str| Hop::failed(NAME, Problem::new(ErrorCode::ContextElsewhere, message, hint));
    let target = match target {
        Ok(target) => target,
        Err(error) => return broken(error.to_string(), "Correct the file: docker needs it as well."),
    };
    let here = target.leads_to(&socket);
    let address = target.shown();
    let context = &target.context;
    let elsewhere = |message: String, hint: &str| {
        let hop = broken(message, hint);
        if selects { hop } else { hop.in_nobodys_way() }
    };
    match (target.chosen_by, address) {
        (ChosenBy::HostVariable, Some(_)) if here => Hop::passed(NAME, "DOCKER_HOST leads here"),
        (ChosenBy::HostVariable, address) => elsewhere(
            format!("DOCKER_HOST overrides the Docker context and leads to {}", address.unwrap_or_default()),
            &format!("Unset DOCKER_HOST, or set it to unix://{}.", socket.display()),
        ),
        (_, Some(_)) if here => Hop::passed(NAME, format!("docker uses the context {context:?}, which leads here")),
        (ChosenBy::ContextVariable, Some(address)) => elsewhere(
            format!("DOCKER_CONTEXT makes docker use the context {context:?}, which leads to {address}"),
            "Unset DOCKER_CONTEXT, or set it to overside.",
        ),
        (_, Some(address)) => elsewhere(
            format!("docker uses the context {context:?}, which leads to {address}"),
            "Choose Overside's with `docker context use overside`; `overside start` makes it.",
        ),
        (chosen_by, None) => {
            let hint = match chosen_by {
                ChosenBy::ContextVariable => "Unset DOCKER_CONTEXT, or set it to overside.",
                _ => "Choose one that exists with `docker context use`.",
            };
            broken(format!("docker is to use the context {context:?}, which does not exist"), hint)
        }
    }
}

async fn runner_hops(home: &Home, client: &Client, runner: &str, through_daemon: bool) -> Vec<Hop> {
    let failure = |problem: Problem| vec![Hop::failed("runner", problem)];
    let unknown = || {
        let message = format!("there is no runner {runner:?}");
        Problem::new(ErrorCode::UnknownName, message, "Choose one with `overside settings set runner NAME`.")
    };
    let testing = async {
        if through_daemon {
            return client.test_runner(runner).await.unwrap_or_else(failure);
        }
        match daemon::provider(home, runner) {
            Ok(Some(provider)) => provider.test().await,
            Ok(None) => failure(unknown()),
            Err(problem) => failure(problem),
        }
    };
    tokio::time::timeout(RUNNER, testing).await.unwrap_or_else(|_| {
        let message = format!("the test of the runner {runner:?} has not ended within {} s", RUNNER.as_secs());
        failure(Problem::new(ErrorCode::RunnerUnreachable, message, "Check the network and the runner's load."))
    })
}

/// The tunnel, and the engine behind it; `expected` is the engine that the runner has for new environments.
async fn environment_hops(home: &Home, status: Option<&Status>, expected: Option<Hop>) -> [Hop; 2] {
    let expected = expected.unwrap_or_else(|| Hop::skipped("engine", ""));
    let Some(status) = status else { return [Hop::skipped("tunnel", "without a daemon there is none"), expected] };
    let idle = |detail: &str| Hop::skipped("tunnel", detail);
    match (status.state, &status.error) {
        (State::Running, error) => running_hops(home, error.as_ref(), &expected).await,
        (State::Failed, Some(problem)) => {
            let message = format!("the last start failed: {}", problem.message);
            let engine = Hop::failed("engine", Problem { message, ..problem.clone() });
            // The hop that is to blame says it already, where there is one.
            let engine = if expected.status == HopStatus::Failed { expected } else { engine };
            [idle("no environment runs"), engine]
        }
        (State::Suspended, _) => [idle("suspended with its environment; any docker command resumes it"), expected],
        (State::Starting, _) => [idle("an environment is being made"), expected],
        _ => [idle("no environment runs; a docker command makes one"), expected],
    }
}

/// Of an environment that runs. A ping goes to its engine, and neither keeps it awake nor wakes one that has just gone.
async fn running_hops(home: &Home, error: Option<&Problem>, expected: &Hop) -> [Hop; 2] {
    let broken = error.filter(|problem| {
        use ErrorCode::{EnvironmentLost, HostKeyMismatch, LoginRefused, RunnerUnreachable, TunnelLost};
        matches!(problem.code, EnvironmentLost | HostKeyMismatch | LoginRefused | RunnerUnreachable | TunnelLost)
    });
    if let Some(problem) = broken {
        return [Hop::failed("tunnel", problem.clone()), Hop::skipped("engine", "it cannot be reached")];
    }
    let began = Instant::now();
    let silent = |reason: String| {
        let message = format!("it does not answer: {reason}");
        let hint = "Look into the log; `overside stop -f` and `overside start` begin with a new environment.";
        let engine = Hop::failed("engine", Problem::new(ErrorCode::EngineFailed, message, hint));
        [Hop::passed("tunnel", "connected"), took(began, engine)]
    };
    match tokio::time::timeout(SOCKET, socket::ask(&home.docker_socket(), "/_ping")).await {
        Ok(Ok(answer)) if answer.status == 200 => {
            let detail = match expected.status {
                HopStatus::Passed => format!("{} answers", expected.detail),
                _ => "answers".to_owned(),
            };
            [Hop::passed("tunnel", "connected"), took(began, Hop::passed("engine", detail))]
        }
        Ok(Ok(answer)) => silent(answer.to_string()),
        Ok(Err(error)) => silent(error.to_string()),
        Err(_) => silent(format!("nothing within {} s", SOCKET.as_secs())),
    }
}
