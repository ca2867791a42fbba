//! `window.json`: how large the user last left the window.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::write_atomically;

/// Smallest width and height that the window can have.
const LEAST: (f64, f64) = (380.0, 420.0);
/// Largest width and height that are believed.
const MOST: (f64, f64) = (8000.0, 6000.0);

/// The window's size, in the desktop's own pixels, which are larger than the screen's where it magnifies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Width without the frame.
    pub width: f64,
    /// Height without the frame.
    pub height: f64,
    /// It fills the screen; width and height are those that it returns to.
    #[serde(default)]
    pub maximized: bool,
}

impl WindowSize {
    /// The smallest one that everything fits into.
    pub const LEAST: Self = Self { width: LEAST.0, height: LEAST.1, maximized: false };

    /// The same within what a window can be; the default where that says nothing.
    #[must_use]
    pub fn sane(self) -> Self {
        let usual = Self::default();
        let within = |value: f64, least: f64, most: f64, usual: f64| {
            if value.is_finite() { value.clamp(least, most) } else { usual }
        };
        Self {
            width: within(self.width, LEAST.0, MOST.0, usual.width),
            height: within(self.height, LEAST.1, MOST.1, usual.height),
            ..self
        }
    }
}

impl Default for WindowSize {
    fn default() -> Self {
        Self { width: 760.0, height: 680.0, maximized: false }
    }
}

/// The file of one home that remembers the window's size.
#[derive(Debug, Clone)]
pub struct WindowFile {
    path: PathBuf,
}

impl WindowFile {
    /// The file at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The size that was saved, within what a window can be; the default where the file says none.
    pub fn load(&self) -> WindowSize {
        let size: Option<WindowSize> =
            fs_err::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        size.unwrap_or_default().sane()
    }

    /// Saves the size.
    ///
    /// # Errors
    /// The system's, naming the file; losing a size costs a user one pull at the frame.
    pub fn save(&self, size: WindowSize) -> std::io::Result<()> {
        write_atomically(&self.path, serde_json::to_string(&size.sane())?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: f64, height: f64) -> WindowSize {
        WindowSize { width, height, maximized: false }
    }

    #[test]
    fn what_is_saved_is_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = WindowFile::new(directory.path().join("window.json"));
        assert_eq!(file.load(), WindowSize::default());
        let left = WindowSize { maximized: true, ..size(900.0, 500.0) };
        file.save(left).unwrap();
        assert_eq!(file.load(), left);
    }

    #[test]
    fn a_size_that_no_window_can_have_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("window.json");
        for (text, expected) in [
            ("", WindowSize::default()),
            ("[]", WindowSize::default()),
            (r#"{"width": "wide", "height": 5}"#, WindowSize::default()),
            (r#"{"width": 1, "height": -5}"#, WindowSize::LEAST),
            (r#"{"width": 1e300, "height": 500}"#, size(MOST.0, 500.0)),
        ] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(WindowFile::new(&path).load(), expected, "{text}");
        }
        assert_eq!(size(f64::NAN, f64::INFINITY).sane(), WindowSize::default());
    }
}
