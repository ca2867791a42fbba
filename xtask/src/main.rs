//! The commands of a developer's day: `cargo xtask run`, `test`, `check`, `bench`, `package`.
//!
//! Everything that a bare Debian or Ubuntu machine lacks is installed on the way; nothing else is changed on it.

mod artifacts;
mod bench;
mod command;
mod elf;
mod house;
mod layers;
mod modern_docker;
mod node;
mod package;
mod packages;
mod run;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Overside")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build, and run Overside on this machine until Ctrl-C
    Run(run::Options),
    /// Install what the tests need and run them: everything, or the parts named
    Test(test::Options),
    /// Check the layers and the house rules
    Check,
    /// Measure a release build and refresh docs/performance.md
    Bench(bench::Options),
    /// Build the programs as they are shipped (static agent) and print where they lie
    Build(artifacts::Options),
    /// Make a .deb and an .rpm of a release build, and print where they lie
    Package,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Run(options) => run::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Check => workspace::Workspace::find().and_then(|workspace| {
            layers::check(&workspace)?;
            house::check(&workspace)
        }),
        Task::Bench(options) => bench::run(&options),
        Task::Build(options) => artifacts::print(&options),
        Task::Package => package::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
