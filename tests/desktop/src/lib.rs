//! The desktop app as a person meets it: its window in a real web view on a display of its own, its tray on a bus of its own.
//!
//! Programs come from `OVERSIDE_BIN_DIR`, as for every test of the testkit's.

mod desk;
mod page;
mod scripted;
mod tray_host;

pub use desk::{Desk, SOON};
pub use page::Page;
pub use scripted::{Scripted, quiet};
pub use tray_host::{TrayHost, TrayItem};
