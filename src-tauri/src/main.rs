//! `overside-desktop`: the tray.

#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use overside_config::Home;
use overside_desktop::{instance, log, programs, tray};

const USAGE: &str = "\
Usage: overside-desktop [OPTION]

Shows Overside in the tray and opens its window. Started again, it brings the window to the front.

  --background  only the tray, as at login
  --window      only the window
  --version     print the version
  --help        print this text
";

fn main() -> ExitCode {
    log::to_stderr();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overside-desktop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut background = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--background" => background = true,
            "--window" => return window(),
            "--version" => {
                println!("overside-desktop {}", env!("CARGO_PKG_VERSION"));
                return Ok(());
            }
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(());
            }
            other => bail!("unknown option {other:?}\n\n{USAGE}"),
        }
    }
    let home = Home::from_environment()?;
    match instance::take(&home, "desktop")? {
        Some(_lock) => tray::run(&home, !background),
        None if background => Ok(()),
        // Whoever starts a program that runs already wants to see it.
        None => window(),
    }
}

/// Runs the window and ends with it.
fn window() -> Result<()> {
    let program = programs::beside("overside-window")?;
    let ended = Command::new(&program).status().with_context(|| format!("cannot start {}", program.display()))?;
    if !ended.success() {
        bail!("the window ended with {ended}");
    }
    Ok(())
}
