//! The desktop app: a thin client of the daemon's control API, without rules of its own.
//!
//! Two programs, so that what stays resident is small. `overside-desktop` is the tray: on Linux it speaks D-Bus itself and
//! links neither GTK nor a web view. `overside-window` is the window: Tauri and a web view, in a process that ends when the
//! window closes. Both follow the daemon by themselves and know nothing of each other.

pub mod clipboard;
pub mod connection;
pub mod daemon;
pub mod instance;
pub mod link;
pub mod log;
pub mod menu;
pub mod notice;
pub mod now;
pub mod programs;
pub mod tray;
pub mod words;
