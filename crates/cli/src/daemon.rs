//! `overside daemon`: the one place where concrete runners are named.

use std::{
    env,
    io::{self, IsTerminal},
    sync::Arc,
};

use overside_config::{Home, Policy, RunnersFile};
use overside_engine::{Daemon, Stopper, Wiring};
use overside_model::{ErrorCode, Problem, RunnerEntry};
use overside_runner::{MakeProvider, Provider};
use tracing_appender::{
    non_blocking::{NonBlockingBuilder, WorkerGuard},
    rolling,
};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::launch::READY;

/// Threads that carry bytes: encryption is the work, and two keep a fast link busy.
const THREADS: usize = 2;
/// Daily log files that are kept.
const LOG_FILES: usize = 7;
/// Lines that may wait for the disk; beyond it they are lost rather than waited for. Room for all of them is taken at once.
const WAITING_LINES: usize = 4096;

/// Runs the daemon until it is told to end.
pub(crate) fn run(home: Home, detached: bool) -> Result<(), Problem> {
    #[cfg(unix)]
    if detached {
        // Out of the terminal's reach. It fails only for a leader of a session, which is out of reach already.
        let _ = rustix::process::setsid();
    }
    let internal = |error: io::Error| Problem::new(ErrorCode::Internal, format!("cannot start: {error}"), "");
    let lock = home.lock()?;
    let _logs = logging(&home, detached);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("overside")
        .enable_all()
        .build()
        .map_err(internal)?;
    let result = runtime.block_on(serve(home, detached));
    drop(lock);
    result
}

async fn serve(home: Home, detached: bool) -> Result<(), Problem> {
    overside_io::process::raise_descriptor_limit();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "the daemon starts");
    let socket = home.docker_socket();
    let policy = Policy::system_path();
    let make_provider = make_provider(&home);
    let daemon = Daemon::start(Wiring {
        providers: providers(&home),
        make_provider,
        suggest: Arc::new(overside_runner_ssh::configured),
        home,
        policy,
    })
    .await?;
    tokio::spawn(stop_at_signal(daemon.stopper()));
    if detached {
        println!("{READY}");
        leave_standard_streams();
    } else {
        eprintln!("Overside listens on unix://{}", socket.display());
    }
    daemon.run().await;
    tracing::info!("the daemon ends");
    Ok(())
}

/// The runners that this machine itself is.
fn providers(home: &Home) -> Vec<Arc<dyn Provider>> {
    let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
    #[cfg(target_os = "linux")]
    {
        let engine_path = env::var_os("OVERSIDE_ENGINE_PATH").map(|paths| env::split_paths(&paths).collect());
        providers.push(Arc::new(overside_runner_local::Local::new(home.environments(), agent(), engine_path)));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (home, &mut providers);
    providers
}

/// Makes the runners that are added, by their addresses' schemes.
fn make_provider(home: &Home) -> MakeProvider {
    let keyring = overside_keyring::Keyring::new(&home.runners_file());
    let places = overside_runner_ssh::Places::new(agent(), home.known_hosts_file(), keyring);
    Arc::new(move |entry: &RunnerEntry| match entry.address.split_once("://") {
        Some(("ssh", _)) => Ok(Arc::new(overside_runner_ssh::Ssh::new(entry, places.clone())?)),
        _ => Err(Problem::new(
            ErrorCode::InvalidSettings,
            format!("there is no kind of runner at {:?}", entry.address),
            "Give an address such as ssh://me@office.",
        )),
    })
}

/// The runner of a name, for who does without a daemon. None where there is none.
pub(crate) fn provider(home: &Home, name: &str) -> Result<Option<Arc<dyn Provider>>, Problem> {
    if let Some(provider) = providers(home).into_iter().find(|provider| provider.name() == name) {
        return Ok(Some(provider));
    }
    let added = RunnersFile::new(home.runners_file()).load()?;
    added.iter().find(|entry| entry.name == name).map(|entry| make_provider(home)(entry)).transpose()
}

/// The agent's program: `OVERSIDE_AGENT`, or the file beside this one.
fn agent() -> std::path::PathBuf {
    if let Some(agent) = env::var_os("OVERSIDE_AGENT").filter(|agent| !agent.is_empty()) {
        return agent.into();
    }
    let here = env::current_exe().and_then(fs_err::canonicalize).unwrap_or_default();
    here.with_file_name("overside-agent")
}

/// Logs go to daily files as JSON; in the foreground also to standard error. `OVERSIDE_LOG` filters, as in
/// `OVERSIDE_LOG=overside_proxy=debug`. A log that cannot be written stops nothing.
fn logging(home: &Home, detached: bool) -> Option<WorkerGuard> {
    let filter = || EnvFilter::try_from_env("OVERSIDE_LOG").unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    // Made first: the appender complains to the terminal about a directory that is not there yet.
    let _ = fs_err::create_dir_all(home.logs());
    let file = rolling::Builder::new()
        .rotation(rolling::Rotation::DAILY)
        .filename_prefix("daemon")
        .filename_suffix("log")
        .max_log_files(LOG_FILES)
        .build(home.logs())
        .ok();
    let (writer, guard) =
        file.map(|file| NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(file)).unzip();
    let to_file =
        writer.map(|writer| tracing_subscriber::fmt::layer().json().with_writer(writer).with_filter(filter()));
    let to_terminal = (!detached).then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .with_filter(filter())
    });
    // It fails only where a subscriber is set already, and then there is one.
    let _ = tracing_subscriber::registry().with(to_file).with(to_terminal).try_init();
    guard
}

/// The starter has read what it waits for; from here on nobody may be left to read.
fn leave_standard_streams() {
    #[cfg(unix)]
    if let Ok(null) = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null") {
        // Streams that stay as they are only lose what is written to them.
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// The first signal deletes the environment and ends the daemon; the second one ends it at once.
async fn stop_at_signal(stopper: Stopper) {
    signal().await;
    tracing::info!("told to end");
    tokio::select! {
        () = stopper.stop() => {}
        () = signal() => std::process::exit(1),
    }
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
