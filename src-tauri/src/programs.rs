//! Overside's other programs: where they are, and how they are started so that they outlive this one.

use std::{env, io, path::Path, path::PathBuf};

use overside_model::{ErrorCode, Problem};
use tokio::process::Command;

#[cfg_attr(unix, path = "programs/unix.rs")]
#[cfg_attr(windows, path = "programs/windows.rs")]
mod platform;

/// A program that is installed beside this one.
///
/// # Errors
/// [`ErrorCode::Internal`] where the system does not tell where this program is.
pub fn beside(name: &str) -> Result<PathBuf, Problem> {
    let here = env::current_exe().map_err(|error| {
        Problem::new(
            ErrorCode::Internal,
            format!("cannot tell where this program is: {error}"),
            "Install Overside again.",
        )
    })?;
    Ok(here.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX)))
}

/// Lets `command` go on when this program or its terminal ends.
pub fn detach(command: &mut Command) {
    platform::detach(command);
}

/// Makes a directory that only this user can enter, unless it is there.
///
/// # Errors
/// As making a directory fails, with its path.
pub fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    platform::private(&mut builder);
    builder
        .create(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot make {}: {error}", path.display())))
}
