//! Long runs of the fuzz targets under libFuzzer, which follows what an input reaches.
//!
//! Stable Rust can do that: LLVM's coverage is a flag of code generation. What is left out are the sanitizers, which find
//! little where no code is unsafe.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{Session, tally::Tally};
use crate::{artifacts::cargo, command, workspace::Workspace};

const PACKAGE: &str = "overside-fuzz";

const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// An input that takes longer, in seconds, is a fault.
const SLOW: u32 = 20;

impl Session<'_> {
    /// Every target for `seconds`. What they find on the way is kept in the target directory and is where the next run
    /// begins; an input that brings a target down lies in fuzz/artifacts then.
    pub(super) fn fuzz(&mut self, seconds: u32) {
        let workspace = self.workspace;
        let program = match self.steps.loud("fuzz targets", || build(workspace)) {
            Ok(program) => program,
            Err(error) => return self.fault("fuzz targets", &error),
        };
        let names = match targets(&workspace.root) {
            Ok(names) => names,
            Err(error) => return self.fault("fuzz targets", &error),
        };
        for name in names {
            if self.filter.is_some_and(|filter| !name.contains(filter)) {
                continue;
            }
            let title = format!("fuzzing {name}");
            match self.steps.loud(&title, || run(workspace, &program, &name, seconds)) {
                Ok(()) => self.tally += Tally { passed: 1, ..Tally::default() },
                Err(error) => self.fault(&title, &error),
            }
        }
    }
}

/// The names of the targets: each has a corpus.
pub(super) fn targets(root: &Path) -> Result<Vec<String>> {
    let places = fs_err::read_dir(root.join("fuzz/corpus"))?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> = places.iter().map(|place| place.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn build(workspace: &Workspace) -> Result<std::path::PathBuf> {
    let host = command::capture(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let host = String::from_utf8(host.stdout).context("the host's name is not UTF-8")?;
    let directory = workspace.target.join("libfuzzer");
    // With --target the flags do not reach build scripts.
    let arguments = ["--package", PACKAGE, "--features", "libfuzzer", "--profile", "fuzz", "--target", host.trim()];
    let mut build = cargo(workspace, "build");
    build.args(arguments).env("CARGO_TARGET_DIR", &directory).env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::stream(build.env("RUSTFLAGS", FLAGS))?;
    Ok(directory.join(host.trim()).join("fuzz").join(PACKAGE))
}

fn run(workspace: &Workspace, program: &Path, name: &str, seconds: u32) -> Result<()> {
    let found = workspace.target.join("libfuzzer/corpus").join(name);
    let kept = workspace.root.join("fuzz/corpus").join(name);
    let artifacts = workspace.root.join("fuzz/artifacts").join(name);
    fs_err::create_dir_all(&found)?;
    fs_err::create_dir_all(&artifacts)?;
    let mut fuzzer = Command::new(program);
    fuzzer
        .env("OVERSIDE_FUZZ_TARGET", name)
        .args([&found, &kept])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOW}"))
        .args(["-max_len=8192", "-print_final_stats=1", "-verbosity=0"]);
    let (output, succeeded) = command::tee(&mut fuzzer)?;
    // It stays only with something in it.
    let _ = fs_err::remove_dir(&artifacts);
    let _ = fs_err::remove_dir(workspace.root.join("fuzz/artifacts"));
    if !succeeded {
        bail!("an input brought it down; it lies in {}", artifacts.display());
    }
    if !output.contains("stat::number_of_executed_units") {
        bail!("it ended without having run");
    }
    Ok(())
}
