//! Whether there is anything to draw a window on.

use anyhow::Result;

/// Asks for a display, as Tauri would, but without its panic.
///
/// # Errors
/// Says what is missing.
#[cfg(target_os = "linux")]
pub(crate) fn check() -> Result<()> {
    use anyhow::Context as _;
    gtk::init().context(
        "there is no display to open a window on: neither WAYLAND_DISPLAY nor DISPLAY leads to one. \
         Without a display, `overside status` and `overside start` do the same in a terminal",
    )
}

/// Asks for a display: these systems always have one.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub(crate) fn check() -> Result<()> {
    Ok(())
}
