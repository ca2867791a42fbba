//! The command line's words.

use std::{path::PathBuf, time::Duration};

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
        /// Go on with the session that you have on another computer
        #[arg(long)]
        take_over: bool,
    },
    /// Turn Overside off and delete the environment
    Stop {
        /// Do not ask, even where work is lost
        #[arg(short, long)]
        force: bool,
    },
    /// Suspend the environment now
    Idle,
    /// Resume the suspended environment now
    Resume,
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
    /// Save volumes and images of the environment to a file on this machine
    Keep {
        /// The archive to write [default: overside-DATE.zip]
        file: Option<PathBuf>,
        /// A volume; all volumes and all images that no registry has, if nothing is named
        #[arg(long = "volume", value_name = "NAME")]
        volumes: Vec<String>,
        /// An image
        #[arg(long = "image", value_name = "NAME")]
        images: Vec<String>,
    },
    /// Bring the volumes and images of such a file into the environment
    Restore {
        /// The archive
        file: PathBuf,
    },
    /// Show what was used today, this week and this month
    Usage {
        /// Write every session to a file instead, `-` for standard output
        #[arg(long, value_name = "FILE", conflicts_with = "format")]
        csv: Option<PathBuf>,
        /// How to show it
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
    },
    /// Show the published ports, and what goes through them
    Ports {
        /// How to show them
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
    },
    /// Show the files and directories of this machine that containers have mounted, and how far they are
    Mounts {
        #[command(subcommand)]
        command: Option<MountsCommand>,
        /// How to show them
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
    },
    /// Find out what keeps docker from reaching the engine; ends with 1 where something does
    Diagnose {
        /// How to show it
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
        /// Also write a ZIP file for whoever is asked for help; no secret goes in
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// Read and change settings
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Where environments are made: list, add, remove, test
    #[command(subcommand)]
    Runner(RunnerCommand),
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
pub(crate) enum MountsCommand {
    /// Go on with a mount of which one side is gone or empty: bring it back from the other side
    Restore {
        /// Its path on this machine
        path: PathBuf,
    },
    /// Begin with a mount that is larger than mounts.max-files or mounts.max-bytes allows
    Allow {
        /// Its path on this machine
        path: PathBuf,
    },
    /// Go on with a mount of which one side is gone or empty: that is meant, delete the other side, too
    Accept {
        /// Its path on this machine
        path: PathBuf,
    },
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

#[derive(Debug, Subcommand)]
pub(crate) enum RunnerCommand {
    /// Show the runners
    Ls {
        /// How to show them
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
    },
    /// Add a runner, and try it
    Add {
        /// What to call it
        name: String,
        /// Where it is, as `ssh://[USER@]HOST[:PORT]`; HOST also as ~/.ssh/config knows it
        address: String,
        /// What an hour on it costs
        #[arg(long, value_name = "PRICE")]
        price_per_hour: Option<f64>,
        /// Accept the host key with this fingerprint without asking; once for each host on the way
        #[arg(long, value_name = "SHA256:…")]
        accept_host_key: Vec<String>,
        /// Keep a passphrase that opens a key in the system's keyring, without asking
        #[arg(long)]
        keep_passphrase: bool,
    },
    /// Remove a runner, and what Overside has cached on it
    Rm {
        /// The runner
        name: String,
    },
    /// Try every hop on the way to a runner's environments
    Test {
        /// The runner [default: the one in use]
        name: Option<String>,
        /// How to show it
        #[arg(long, value_enum, default_value = "pretty")]
        format: Format,
        /// Accept the host key with this fingerprint without asking; once for each host on the way
        #[arg(long, value_name = "SHA256:…")]
        accept_host_key: Vec<String>,
        /// Keep a passphrase that opens a key in the system's keyring, without asking
        #[arg(long)]
        keep_passphrase: bool,
    },
    /// Show or choose the runner that new environments are made on
    Default {
        /// The runner to choose
        name: Option<String>,
    },
    /// Enter the passphrase of the key that a runner needs
    Unlock {
        /// The runner [default: the one in use]
        name: Option<String>,
        /// Keep a passphrase that opens a key in the system's keyring, without asking
        #[arg(long)]
        keep_passphrase: bool,
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
