//! What speaks through named pipes, as Windows programs under wine: pipes behave there as on Windows but for what the tests
//! name themselves.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Session, tally};
use crate::{
    artifacts::cargo,
    command,
    packages::{self, Package},
    workspace::{self, Workspace},
};

const TARGET: &str = "x86_64-pc-windows-gnu";
const PACKAGES: &[&str] = &["overside-io", "overside-proxy", "overside-control"];
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

/// What these tests are built and run with.
pub(super) fn packages() -> &'static [Package] {
    if has_standard_library() { packages::WINE } else { packages::WINE_AND_RUST }
}

impl Session<'_> {
    pub(super) fn windows(&mut self) {
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
        self.counted("pipes, proxy and control on Windows", &mut tests, tally::libtest);
        // It outlives its last program for some seconds, and would count as left behind.
        let mut end = Command::new(WINE_SERVER);
        under(&prefix, end.arg("-w").env("TMPDIR", temporary.path()));
        self.check("wine's end", || command::stream(&mut end));
    }
}

/// `cargo test` with a compiler that has Windows' standard library, or with Debian's, which can build it. In a target
/// directory of its own, since the compiler may be another one.
fn for_windows(workspace: &Workspace) -> Command {
    let mut command = cargo(workspace, "test");
    if !has_standard_library() {
        command = Command::new("/usr/bin/cargo");
        command.args(["test", "-Zbuild-std"]).current_dir(&workspace.root);
        // Building the standard library is not stable.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc").env("PATH", "/usr/bin:/bin");
    }
    command.args(["--target", TARGET, "--lib", "--tests", "--no-fail-fast"]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    command.env("CARGO_TARGET_DIR", workspace.target.join("windows"));
    command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", WINE);
    command
}

/// Whether the developer's own compiler has it: `rustup target add` brings it.
fn has_standard_library() -> bool {
    let place = command::capture(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    place.is_ok_and(|place| Path::new(String::from_utf8_lossy(&place.stdout).trim()).is_dir())
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
