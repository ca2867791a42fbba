//! The system's own list of what starts at login: the registry's Run key on Windows, a launch agent on macOS.

use std::{io, path::Path};

use auto_launch::{AutoLaunchBuilder, MacOSLaunchMode};

pub(super) fn set(program: &Path, moved: Option<&Path>, on: bool) -> io::Result<()> {
    if moved.is_some() {
        // These lists hold no environment variables, and the entry belongs to the usual home.
        return if on {
            Err(io::Error::new(io::ErrorKind::Unsupported, "a home of its own is not started at login"))
        } else {
            Ok(())
        };
    }
    let entry = AutoLaunchBuilder::new()
        .set_app_name("Overside")
        .set_app_path(&program.to_string_lossy())
        .set_args(&["--background"])
        .set_macos_launch_mode(MacOSLaunchMode::LaunchAgent)
        .build()
        .map_err(io::Error::other)?;
    match (on, entry.is_enabled().map_err(io::Error::other)?) {
        (true, false) => entry.enable().map_err(io::Error::other),
        (false, true) => entry.disable().map_err(io::Error::other),
        (true, true) | (false, false) => Ok(()),
    }
}
