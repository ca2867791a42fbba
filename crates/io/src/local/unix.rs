//! Unix sockets: 0600 in a directory of the user's own, and every peer's user checked.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::net::RecvFlags;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixListener,
};

use super::{BindError, MAX_SOCKET_PATH};

/// One end of a connection.
pub type Stream = tokio::net::UnixStream;

/// Connects to the socket at `path`.
///
/// # Errors
/// The system's: `NotFound` without a socket, `ConnectionRefused` where nobody listens on it any more.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    Stream::connect(path).await
}

/// The process at the other end, where the system tells it.
pub fn peer(stream: &Stream) -> Option<u32> {
    stream.peer_cred().ok()?.pid().and_then(|pid| pid.try_into().ok())
}

/// What brings a hangup about. Linux tells it whatever is asked for, and urgent data, which is asked for, does not exist on
/// these sockets.
#[cfg(target_os = "linux")]
const HANGUP: Interest = Interest::PRIORITY;
/// The end of writing, which macOS tells with the peer's closing and not with the end of its input.
#[cfg(not(target_os = "linux"))]
const HANGUP: Interest = Interest::WRITABLE;

/// The peer's closing of a socket altogether, which the kernel tells apart from the end of its input.
#[derive(Debug)]
pub(super) struct Hangup(AsyncFd<OwnedFd>);

impl Hangup {
    #[expect(unsafe_code, reason = "tokio has no safe way to register a descriptor of one's own")]
    pub(super) fn of(stream: &Stream) -> io::Result<Self> {
        let fd = stream.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the AsyncFd from here on, and open until it is dropped.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, HANGUP) }?))
    }

    pub(super) async fn wait(&self) {
        // An error can only mean that the runtime is ending.
        while let Ok(mut told) = self.0.ready(HANGUP).await {
            if cfg!(target_os = "linux") || told.ready().is_write_closed() {
                return;
            }
            told.clear_ready();
        }
    }

    /// Whether nothing that the peer sent is unread.
    pub(super) fn is_drained(&self) -> bool {
        let mut byte = [0];
        let peeked = rustix::net::recv(self.0.get_ref(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(peeked, Ok((1.., _)))
    }
}

/// A listening socket that only this user can connect to. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    path: PathBuf,
    user: u32,
}

impl Listener {
    /// Listens on `path`. A socket that a dead process left there is replaced; the parent directory is made (0700) if it is
    /// missing.
    ///
    /// # Errors
    /// [`BindError`]. Nothing but a stale socket is ever removed.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(BindError::PathTooLong { path: path.to_owned() });
        }
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            private_directory(parent).map_err(failed)?;
        }
        remove_stale(path)?;
        // The socket is made under another name and moved to its own once it is 0600: nobody can connect in between.
        let staging = path.with_extension("new");
        let bound = if staging.as_os_str().len() > MAX_SOCKET_PATH { path } else { &staging };
        let _ = fs_err::remove_file(bound).or_else(ignore_missing);
        let inner = UnixListener::bind(bound).map_err(failed)?;
        std::fs::set_permissions(bound, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        if bound != path {
            std::fs::rename(bound, path).map_err(failed)?;
        }
        Ok(Self { inner, path: path.to_owned(), user: rustix::process::geteuid().as_raw() })
    }

    /// Waits for the next connection of this user (or of root); others are closed unheard.
    ///
    /// # Errors
    /// The system's, such as a shortage of file descriptors, after which accepting may be tried again.
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            let (stream, _) = self.inner.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if peer == self.user || peer == 0 {
                return Ok(stream);
            }
        }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.path).or_else(ignore_missing);
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Makes the directory for this user alone. One that exists is left as it is: it may be shared for a reason.
fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(BindError::Io { path: path.to_owned(), source }),
        Ok(metadata) => metadata.file_type(),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
        Err(_) => fs_err::remove_file(path)
            .or_else(ignore_missing)
            .map_err(|source| BindError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("ov").tempdir_in("/tmp").unwrap()
    }

    #[tokio::test]
    async fn the_socket_is_for_its_user_alone() {
        let dir = directory();
        let listener = Listener::bind(&dir.path().join("sub/x.sock")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(listener.path()), 0o600);
        assert_eq!(mode(&dir.path().join("sub")), 0o700);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = directory();
        let path = dir.path().join("x.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::InUse { .. })));
        connect(&path).await.unwrap();
        drop(live);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_left_alone() {
        let dir = directory();
        let path = dir.path().join("x.sock");
        std::fs::File::create(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::NotASocket { .. })));
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_by_name() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let text = Listener::bind(&path).unwrap_err().to_string();
        assert!(text.contains("125 bytes, and 103 are the limit"), "{text}");
    }
}
