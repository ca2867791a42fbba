//! Other systems than Linux, as far as a Linux machine tells: everything is compiled for Windows and macOS, and bind mounts and
//! what speaks through named pipes are run as Windows programs under wine. Pipes behave there as on Windows but for what the
//! tests name themselves.

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Session, tally};
use crate::{
    artifacts::{self, cargo},
    command,
    packages::{self, Package},
    workspace::{self, Workspace},
};

const WINDOWS: &str = "x86_64-pc-windows-gnu";
const MACOS: &str = "aarch64-apple-darwin";
/// The same in the names of variables.
const VARIABLE: &str = "aarch64_apple_darwin";
/// What all the others are compiled with.
const PROGRAMS: &[&str] = &["overside-cli", super::DESKTOP];
const PACKAGES: &[&str] = &["overside-io", "overside-proxy", "overside-control", "overside-sync"];
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
/// Debian gives these no place on the search path.
const WINE: &str = "/usr/lib/wine/wine64";
const WINE_SERVER: &str = "/usr/lib/wine/wineserver64";

/// Rust's programs ask bcryptprimitives.dll for random bytes, which wine 8 does not have.
const RANDOM: &str = "\
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID bytes, ULONG count);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count)
{
    return SystemFunction036(bytes, (ULONG)count);
}
";

/// A C compiler for a system whose headers are nowhere to be had: it makes the file that is asked for, and nothing in it.
const NO_COMPILER: &str = "\
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        -o) shift; : > \"$1\" ;;
        -o*) : > \"${1#-o}\" ;;
        *.a) : > \"$1\" ;;
    esac
    shift
done
";

/// What these tests are built and run with.
pub(super) fn packages() -> &'static [Package] {
    let all = [WINDOWS, MACOS].into_iter().all(has_standard_library);
    if all { packages::WINE } else { packages::WINE_AND_RUST }
}

impl Session<'_> {
    pub(super) fn platforms(&mut self) {
        let workspace = self.workspace;
        // Tauri embeds the built UI, so that its crate does not compile without.
        self.check("UI build", || artifacts::ui(workspace));
        self.check("compiled for Windows", || command::stream(&mut check(workspace, WINDOWS)));
        self.check("compiled for macOS", || {
            let compiler = no_compiler(workspace)?;
            let mut check = check(workspace, MACOS);
            command::stream(check.env(format!("CC_{VARIABLE}"), &compiler).env(format!("AR_{VARIABLE}"), &compiler))
        });
        self.windows();
    }

    fn windows(&mut self) {
        let prepared = self.steps.loud("wine", || Ok((prepare()?, tempfile::tempdir()?)));
        let (prefix, temporary) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.fault("wine", &error),
        };
        // What the linker and wine leave behind in there is theirs; the tests have wine's own directory for such files.
        let command = || {
            let mut command = for_windows(self.workspace);
            self.guard.apply(&mut command);
            under(&prefix, command.env("TMPDIR", temporary.path()));
            command
        };
        let (mut build, mut tests) = (command(), command());
        if let Err(error) = self.steps.loud("Windows programs", || command::stream(build.arg("--no-run"))) {
            return self.fault("Windows programs", &error);
        }
        tests.args(self.filter);
        self.counted("pipes, proxy, control and bind mounts on Windows", &mut tests, tally::libtest);
        // It outlives its last program for some seconds, and would count as left behind.
        let mut end = Command::new(WINE_SERVER);
        under(&prefix, end.arg("-w").env("TMPDIR", temporary.path()));
        self.check("wine's end", || command::stream(&mut end));
    }
}

/// Tests for Windows.
fn for_windows(workspace: &Workspace) -> Command {
    let mut command = cargo_for(workspace, WINDOWS, "test");
    command.args(["--lib", "--tests", "--no-fail-fast"]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", WINE);
    command
}

/// Compiles all that is made for a system, and links nothing.
fn check(workspace: &Workspace, target: &str) -> Command {
    let mut command = cargo_for(workspace, target, "check");
    command.args(PROGRAMS.iter().flat_map(|package| ["--package", package]));
    command
}

/// `cargo` with a compiler that has the system's standard library, or with Debian's, which can build it. In a target directory
/// of its own, since the compiler may be another one.
fn cargo_for(workspace: &Workspace, target: &str, what: &str) -> Command {
    let mut command = cargo(workspace, what);
    if !has_standard_library(target) {
        command = Command::new("/usr/bin/cargo");
        command.args([what, "-Zbuild-std"]).current_dir(&workspace.root);
        // Building the standard library is not stable.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc").env("PATH", "/usr/bin:/bin");
    }
    let system = if target == WINDOWS { "windows" } else { "macos" };
    command.args(["--target", target]).env("CARGO_TARGET_DIR", workspace.target.join(system));
    command
}

/// Whether the developer's own compiler has it: `rustup target add` brings it.
fn has_standard_library(target: &str) -> bool {
    let place = command::capture(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    place.is_ok_and(|place| Path::new(String::from_utf8_lossy(&place.stdout).trim()).is_dir())
}

/// Lays down the compiler that compiles nothing.
fn no_compiler(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.target.join("macos/no-compiler");
    fs_err::create_dir_all(workspace.target.join("macos"))?;
    fs_err::write(&path, NO_COMPILER)?;
    fs_err::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Wine's directory with everything in it that the tests need.
fn prepare() -> Result<PathBuf> {
    let prefix = workspace::cache()?.join("wine");
    let library = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
    if !library.exists() {
        fs_err::create_dir_all(&prefix)?;
        command::stream(under(&prefix, Command::new(WINE).args(["wineboot", "--init"]).stdin(Stdio::null())))?;
        compile(RANDOM, &library)?;
    }
    Ok(prefix)
}

/// Keeps wine to its directory, and from asking whether it may fetch what these tests do not use.
fn under<'a>(prefix: &Path, command: &'a mut Command) -> &'a mut Command {
    command.env("WINEPREFIX", prefix).env("WINEDLLOVERRIDES", "mscoree,mshtml=").env("WINEDEBUG", "-all")
}

fn compile(source: &str, library: &Path) -> Result<()> {
    let mut compiler = Command::new(COMPILER);
    compiler.args(["-shared", "-O2", "-x", "c", "-", "-o"]).arg(library).arg("-ladvapi32").stdin(Stdio::piped());
    let mut compiler = compiler.spawn().with_context(|| format!("cannot run {COMPILER}"))?;
    // Its input ends with the statement; without that it would wait for more.
    compiler.stdin.take().context("the compiler has no input")?.write_all(source.as_bytes())?;
    if !compiler.wait()?.success() {
        bail!("{COMPILER} has not made {}", library.display());
    }
    Ok(())
}
