//! Sockets of this machine's user: Unix sockets, named pipes on Windows.

#[cfg(unix)]
mod gone;
#[cfg(test)]
mod tests;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::{io, path::PathBuf};

#[cfg(unix)]
pub use gone::{Gone, Watched};
#[cfg(unix)]
use unix::Hangup;
#[cfg(unix)]
pub use unix::{Listener, Stream, connect, peer};
#[cfg(windows)]
pub use windows::{Gone, Listener, Stream, Watched, connect, peer};

/// Longest path of a Unix socket in bytes, the end-of-text byte not counted: macOS has room for 104 in all, Linux for 108.
pub const MAX_SOCKET_PATH: usize = 103;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path is longer than a socket's may be.
    #[error("the socket path {} has {} bytes, and {MAX_SOCKET_PATH} are the limit", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another process accepts connections on it.
    #[error("another program already listens on {}", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The path exists and is not a socket; it is left as it is.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
