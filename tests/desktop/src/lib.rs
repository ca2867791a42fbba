//! The desktop app as a person meets it: its window in a real web view on a display of its own, its tray on a bus of its own.
//!
//! Programs come from `OVERSIDE_BIN_DIR`, as for every test of the testkit's.

mod desk;
mod dunst;
mod notice_server;
mod page;
mod picture;
mod scripted;
mod tray_host;
mod xfce;

pub use desk::{Desk, SOON};
pub use dunst::Dunst;
pub use notice_server::{Asked, NoticeServer, Shown};
pub use page::Page;
pub use scripted::Scripted;
pub use tray_host::{TrayHost, TrayItem};
pub use xfce::Xfce;
