//! `overside`: the command line, the daemon, and (under the name `docker-overside`) the Docker CLI's plugin.

mod arguments;
mod daemon;
mod launch;
mod plugin;
mod show;

use std::{io::IsTerminal, process::ExitCode};

use arguments::{Arguments, Command, Format, SettingsCommand};
use clap::Parser;
use overside_config::{DefaultSocket, DockerContext, Home, SettingsFile};
use overside_control::Client;
use overside_model::{ErrorCode, Problem, State, Status};
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
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("overside: {}", problem.sentence());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Problem> {
    let home = Home::from_environment()?;
    if let Command::Daemon { detached } = arguments.command {
        return daemon::run(home, detached);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(ErrorCode::Internal, format!("cannot start: {error}"), ""))?;
    runtime.block_on(command(arguments.command, &home))
}

async fn command(command: Command, home: &Home) -> Result<(), Problem> {
    let client = Client::new(home.control_socket());
    match command {
        Command::Start { timeout, idle_timeout, runner } => {
            launch::ensure_daemon(home, &client, timeout).await?;
            if let Some(idle_timeout) = idle_timeout {
                client.set_setting("idle-timeout", idle_timeout.into()).await?;
            }
            if let Some(runner) = runner {
                client.set_setting("runner", runner.into()).await?;
            }
            let status = client.enable().await?;
            eprint!("{}", show::started(&status, std::env::var("DOCKER_HOST").ok().as_deref()));
            Ok(())
        }
        Command::Stop { force } => stop(home, &client, force).await,
        Command::Idle => {
            let status = client.idle().await?;
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
            while let Some(status) = watch.next().await {
                print_status(&status, format, redraw);
            }
            Err(Problem::new(ErrorCode::DaemonUnreachable, "the daemon has ended", "Start it with `overside start`."))
        }
        Command::Settings(command) => settings(command, home, &client).await,
        Command::Version => {
            println!("overside {}", env!("CARGO_PKG_VERSION"));
            if let Ok(version) = client.version().await {
                println!("daemon   {version}");
            }
            Ok(())
        }
        Command::Daemon { .. } => Ok(()),
    }
}

/// Turns off. Without a daemon, what a killed one left behind is put right: the settings, the Docker context, an environment.
async fn stop(home: &Home, client: &Client, force: bool) -> Result<(), Problem> {
    match client.disable(force).await {
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
    match command {
        SettingsCommand::Get { name: Some(name) } => {
            let value = match client.settings().await {
                Ok(settings) => match settings.get(&name) {
                    Some(entry) => entry.get("value").cloned().unwrap_or(Value::Null),
                    None => file.load()?.get(&name)?,
                },
                Err(_) => file.load()?.get(&name)?,
            };
            println!("{}", show::plain(&value));
            Ok(())
        }
        SettingsCommand::Get { name: None } => {
            print!("{}", show::settings(&file.load()?));
            Ok(())
        }
        SettingsCommand::Set { name, value } => match client.set_setting(&name, value.clone().into()).await {
            Err(problem) if problem.code == ErrorCode::DaemonUnreachable => {
                let mut settings = file.load()?;
                settings.set(&name, &value.into())?;
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
