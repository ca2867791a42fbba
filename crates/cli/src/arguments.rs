//! The command line's words.

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Docker on your laptop, the engine elsewhere.
#[derive(Debug, Parser)]
#[command(name = "overside", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Turn Overside on; the engine starts with the first docker command
    Start {
        /// How long to wait for the daemon
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
        timeout: Duration,
        /// Inactivity before the environment is suspended, 10s to 1h
        #[arg(long, value_name = "DURATION")]
        idle_timeout: Option<String>,
        /// Where environments are made
        #[arg(long, value_name = "NAME")]
        runner: Option<String>,
    },
    /// Turn Overside off and delete the environment
    Stop {
        /// Do not ask, even where work is lost
        #[arg(short, long)]
        force: bool,
    },
    /// Suspend the environment now
    Idle,
    /// Answer a prompt: ask again later
    Later,
    /// Show what goes on
    Status {
        /// How to show it
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
        /// Show it again whenever it changes
        #[arg(long)]
        watch: bool,
    },
    /// Read and change settings
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Run the daemon in the foreground
    Daemon {
        /// Leave the terminal once the sockets are there, after writing "ready" to standard output
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Show the versions of the command and of the daemon
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// Show one setting's value, or all settings with what they accept
    Get {
        /// The setting
        name: Option<String>,
    },
    /// Change a setting, at once
    Set {
        /// The setting
        name: String,
        /// Its value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Pretty,
    /// One JSON object a line
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
