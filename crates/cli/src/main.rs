//! `overside`: the command line, the daemon, and (under the name `docker-overside`) the Docker CLI's plugin.

mod arguments;
mod daemon;
mod diagnose;
mod launch;
mod plugin;
mod runner;
mod show;
mod usage;

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use arguments::{Arguments, Command, Format, MountsCommand, SettingsCommand};
use clap::Parser;
use overside_config::{DefaultSocket, DockerContext, Home, Policy, SettingsFile};
use overside_control::Client;
use overside_model::{ErrorCode, KeepOrder, MountDecision, MountStatus, Problem, Settings, State, Status};
use serde_json::Value;

/// What the Docker CLI ends with after a wrong flag or argument.
const USAGE: u8 = 125;

fn main() -> ExitCode {
    let arguments = match plugin::arguments() {
        plugin::Invocation::Metadata => {
            println!("{}", plugin::metadata());
            return ExitCode::SUCCESS;
        }
        plugin::Invocation::Command(arguments) => arguments,
    };
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too. A closed pipe is the reader's choice.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(arguments) {
        Ok(status) => status,
        Err(problem) => {
            eprintln!("overside: {}", problem.sentence());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Problem> {
    let home = Home::from_environment()?;
    if let Command::Daemon { detached } = arguments.command {
        return daemon::run(home, detached).map(|()| ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(ErrorCode::Internal, format!("cannot start: {error}"), ""))?;
    if let Command::Diagnose { format, bundle } = arguments.command {
        return runtime.block_on(diagnose::run(&home, format, bundle.as_deref()));
    }
    runtime.block_on(command(arguments.command, &home)).map(|()| ExitCode::SUCCESS)
}

async fn command(command: Command, home: &Home) -> Result<(), Problem> {
    let client = Client::new(home.control_socket());
    match command {
        Command::Start { timeout, idle_timeout, runner, take_over } => {
            launch::ensure_daemon(home, &client, timeout).await?;
            if let Some(idle_timeout) = idle_timeout {
                client.set_setting("idle-timeout", idle_timeout.into()).await?;
            }
            if let Some(runner) = runner {
                client.set_setting("runner", runner.into()).await?;
            }
            let status = if take_over { client.take_over().await? } else { client.enable().await? };
            eprint!("{}", show::started(&status, std::env::var("DOCKER_HOST").ok().as_deref()));
            Ok(())
        }
        Command::Stop { force } => stop(home, &client, force).await,
        Command::Idle => {
            let status = client.idle().await?;
            eprintln!("Overside is {}.", status.state.name());
            Ok(())
        }
        Command::Resume => {
            let status = client.resume().await?;
            eprintln!("Overside is {}.", status.state.name());
            Ok(())
        }
        Command::Later => client.later().await.map(|_| ()),
        Command::Status { format, watch: false } => {
            let status = match client.status().await {
                Ok(status) => status,
                Err(problem) => without_daemon(home, problem)?,
            };
            print_status(&status, format, false);
            Ok(())
        }
        Command::Status { format, watch: true } => {
            let mut watch = client.watch().await?;
            let redraw = std::io::stdout().is_terminal() && format == Format::Pretty;
            let mut shown: Option<(Status, Instant)> = None;
            loop {
                // The daemon tells changes only; what counts down between them is counted here.
                let tick = tokio::time::sleep(Duration::from_secs(1));
                tokio::select! {
                    status = watch.next() => {
                        let Some(status) = status? else { break };
                        print_status(&status, format, redraw);
                        shown = Some((status, Instant::now()));
                    }
                    () = tick, if redraw => if let Some((status, since)) = &shown {
                        print_status(&show::later(status, since.elapsed()), format, redraw);
                    },
                }
            }
            Err(Problem::new(ErrorCode::DaemonUnreachable, "the daemon has ended", "Start it with `overside start`."))
        }
        Command::Keep { file, volumes, images } => {
            let file =
                file.unwrap_or_else(|| jiff::Zoned::now().strftime("overside-%Y%m%d-%H%M%S.zip").to_string().into());
            let named = |names: Vec<String>| Some(names).filter(|names| !names.is_empty());
            let order = KeepOrder { file: absolute(&file)?, volumes: named(volumes), images: named(images) };
            let kept = client.keep(&order).await?;
            eprint!("{}", show::work("Kept in", &order.file, &kept));
            Ok(())
        }
        Command::Restore { file } => {
            let file = absolute(&file)?;
            let restored = client.restore(&file).await?;
            eprint!("{}", show::work("Restored from", &file, &restored));
            Ok(())
        }
        Command::Ports { format } => {
            let ports = client.status().await?.ports;
            match format {
                Format::Pretty => print!("{}", show::ports(&ports)),
                Format::Json => {
                    for port in ports {
                        println!("{}", serde_json::to_string(&port).unwrap_or_default());
                    }
                }
            }
            Ok(())
        }
        Command::Mounts { command: Some(command), .. } => {
            let (path, restore) = match command {
                MountsCommand::Allow { path } => (too_large(&client, &path).await?, true),
                MountsCommand::Restore { path } => (absolute(&path)?, true),
                MountsCommand::Accept { path } => (absolute(&path)?, false),
            };
            client.decide_mount(&MountDecision { path, restore }).await
        }
        Command::Mounts { command: None, format } => {
            let mounts = client.status().await?.mounts;
            match format {
                Format::Pretty => print!("{}", show::mounts(&mounts)),
                Format::Json => {
                    for mount in mounts {
                        println!("{}", serde_json::to_string(&mount).unwrap_or_default());
                    }
                }
            }
            Ok(())
        }
        Command::Usage { csv: Some(file), .. } => usage::export(home, &client, &file).await,
        Command::Usage { csv: None, format } => usage::show(home, &client, format).await,
        Command::Runner(command) => runner::run(command, home, &client).await,
        Command::Settings(command) => settings(command, home, &client).await,
        Command::Version => {
            println!("overside {}", env!("CARGO_PKG_VERSION"));
            if let Ok(version) = client.version().await {
                println!("daemon   {version}");
            }
            Ok(())
        }
        Command::Daemon { .. } | Command::Diagnose { .. } => Ok(()),
    }
}

/// The path as the daemon, which is elsewhere, finds it.
fn absolute(path: &std::path::Path) -> Result<String, Problem> {
    let unusable = || Problem::new(ErrorCode::KeepFailed, format!("the path {} cannot be used", path.display()), "");
    let path = std::path::absolute(path).map_err(|_| unusable())?;
    path.into_os_string().into_string().map_err(|_| unusable())
}

/// The path of a mount that waits because it is larger than allowed.
async fn too_large(client: &Client, path: &std::path::Path) -> Result<String, Problem> {
    let path = absolute(path)?;
    let waits = |mount: &MountStatus| {
        mount.path == path && mount.problem.as_ref().is_some_and(|problem| problem.code == ErrorCode::MountTooLarge)
    };
    if client.status().await?.mounts.iter().any(waits) {
        return Ok(path);
    }
    let message = format!("no mount of {path} waits because it is larger than allowed");
    Err(Problem::new(ErrorCode::UnknownName, message, "See `overside mounts`."))
}

/// Turns off. Without a daemon, what a killed one left behind is put right: the settings, the Docker context, an environment.
async fn stop(home: &Home, client: &Client, force: bool) -> Result<(), Problem> {
    let mut result = client.disable(force).await;
    if let Err(problem) = &result
        && problem.code == ErrorCode::WorkWouldBeLost
        && std::io::stdin().is_terminal()
        && std::io::stderr().is_terminal()
    {
        eprint!("{}\nTurn off all the same? [y/N] ", problem.sentence());
        let mut answer = String::new();
        // An input that cannot be read is no consent.
        let _ = std::io::stdin().read_line(&mut answer);
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Problem::new(ErrorCode::Cancelled, "nothing was changed", ""));
        }
        result = client.disable(true).await;
    }
    match result {
        Ok(_) => {
            eprintln!("Overside is off.");
            Ok(())
        }
        Err(problem) if problem.code == ErrorCode::DaemonUnreachable => {
            let file = SettingsFile::new(home.settings_file());
            let mut settings = file.load()?;
            if settings.enabled {
                settings.enabled = false;
                file.save(&settings)?;
            }
            if home.session().exists() {
                // A daemon removes at its start what an earlier one left.
                launch::ensure_daemon(home, client, launch::TIMEOUT).await?;
                client.shutdown().await?;
            }
            restore_context(home)?;
            eprintln!("Overside is off.");
            Ok(())
        }
        Err(problem) => Err(problem),
    }
}

fn restore_context(home: &Home) -> Result<(), Problem> {
    let socket = DefaultSocket::new(&home.docker_socket());
    socket.give_back().map_err(|error| {
        let message = format!("cannot put {} back: {error}", socket.path().display());
        Problem::new(ErrorCode::InvalidSettings, message, "Try again as a user who may change it.")
    })?;
    DockerContext::new(&home.docker_socket(), &home.previous_context_file())
        .and_then(|context| context.restore())
        .map_err(|error| {
            Problem::new(
                ErrorCode::InvalidSettings,
                format!("cannot restore the previous Docker context: {error}"),
                "Choose one with `docker context use`.",
            )
        })
}

/// What there is to say while no daemon runs: that Overside is off, and what would keep a daemon from working.
fn without_daemon(home: &Home, problem: Problem) -> Result<Status, Problem> {
    if problem.code != ErrorCode::DaemonUnreachable {
        return Err(problem);
    }
    let settings = SettingsFile::new(home.settings_file()).load();
    let error = match &settings {
        Err(unusable) => unusable.clone(),
        Ok(_) => launch::check_sockets(home).err().unwrap_or(problem),
    };
    let settings = settings.unwrap_or_default();
    Ok(show::without_daemon(home, &settings, error))
}

async fn settings(command: SettingsCommand, home: &Home, client: &Client) -> Result<(), Problem> {
    let file = SettingsFile::new(home.settings_file());
    let policy = || Policy::load(&Policy::system_path());
    match command {
        SettingsCommand::Get { name } => {
            let told = client.settings().await.ok();
            let (own, policy) =
                if told.is_some() { (Settings::default(), Policy::default()) } else { (file.load()?, policy()?) };
            let applied = policy.apply(&own);
            let of = |name: &str| match told.as_ref().and_then(|told| told.get(name)) {
                Some(entry) => {
                    let source = entry.get("source").and_then(Value::as_str).unwrap_or_default().to_owned();
                    (entry.get("value").cloned().unwrap_or_default(), source)
                }
                None => (applied.get(name).unwrap_or_default(), policy.source(name, &own).name().to_owned()),
            };
            match name {
                Some(name) => {
                    applied.get(&name)?;
                    println!("{}", show::plain(&of(&name).0));
                }
                None => print!("{}", show::settings(of)),
            }
            Ok(())
        }
        SettingsCommand::Set { name, value } => match client.set_setting(&name, value.clone().into()).await {
            Err(problem) if problem.code == ErrorCode::DaemonUnreachable => {
                let mut settings = file.load()?;
                settings.set(&name, &value.into())?;
                policy()?.check(&name, &settings)?;
                file.save(&settings)
            }
            result => result,
        },
    }
}

fn print_status(status: &Status, format: Format, redraw: bool) {
    match format {
        Format::Json => println!("{}", serde_json::to_string(status).unwrap_or_default()),
        Format::Pretty => {
            if redraw {
                // Home, and erase what is below.
                print!("\x1b[H\x1b[J");
            }
            print!("{}", show::status(status));
            if status.state == State::Stopped && status.error.is_none() {
                println!("Turn it on with `overside start`.");
            }
        }
    }
}
