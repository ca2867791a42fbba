//! The well-known Docker socket, for tools that know neither contexts nor `DOCKER_HOST`.
//!
//! While Overside is on and the setting asks for it, `/var/run/docker.sock` is a symbolic link to Overside's socket. What was
//! there before waits beside it under another name, still connected to its own engine, and is put back afterwards. The link
//! itself says whether it is ours, so that a crash at any point leaves enough to put things right.

use std::{
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Where tools look.
const WELL_KNOWN: &str = "/var/run/docker.sock";
/// What the previous socket's name goes on with meanwhile; then comes a mark of the Overside that moved it, so that two of
/// them never take each other's.
const ASIDE: &str = ".before-overside";

/// The well-known socket, as it leads to one Overside.
#[derive(Debug, Clone)]
pub struct DefaultSocket {
    path: PathBuf,
    own: PathBuf,
}

impl DefaultSocket {
    /// The machine's well-known socket, to lead to `own`.
    pub fn new(own: &Path) -> Self {
        Self::at(WELL_KNOWN, own)
    }

    /// As [`Self::new`], at another path.
    pub fn at(path: impl Into<PathBuf>, own: &Path) -> Self {
        Self { path: path.into(), own: own.to_owned() }
    }

    /// The well-known path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the well-known socket lead here. Repeating it changes nothing.
    ///
    /// # Errors
    /// The system's, mostly that this user may not change the directory; everything is then as it was.
    pub fn take(&self) -> io::Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        if fs_err::symlink_metadata(&self.path).is_ok() {
            fs_err::rename(&self.path, self.aside())?;
        }
        link(&self.own, &self.path).inspect_err(|_| {
            // Nothing took its place: it goes back.
            let _ = fs_err::rename(self.aside(), &self.path);
        })
    }

    /// Puts back what was there before. One that somebody else has put there in the meantime is left alone.
    ///
    /// # Errors
    /// The system's.
    pub fn give_back(&self) -> io::Result<()> {
        let waiting = fs_err::symlink_metadata(self.aside()).is_ok();
        match (self.is_ours(), waiting) {
            (true, true) => fs_err::rename(self.aside(), &self.path),
            (true, false) => fs_err::remove_file(&self.path),
            (false, true) => match fs_err::symlink_metadata(&self.path) {
                // A link of somebody else's, another Overside perhaps: nothing is lost by waiting.
                Ok(present) if present.is_symlink() => Ok(()),
                // An engine that was started again has made its socket anew; the old one leads nowhere.
                Ok(_) => fs_err::remove_file(self.aside()),
                Err(_) => fs_err::rename(self.aside(), &self.path),
            },
            (false, false) => Ok(()),
        }
    }

    fn is_ours(&self) -> bool {
        fs_err::read_link(&self.path).is_ok_and(|target| target == self.own)
    }

    fn aside(&self) -> PathBuf {
        let digest = Sha256::digest(self.own.as_os_str().as_encoded_bytes());
        let mut name = self.path.clone().into_os_string();
        name.push(format!("{ASIDE}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]));
        name.into()
    }
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    fs_err::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link(_target: &Path, _path: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a named pipe cannot lead to another one"))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::{fs::FileTypeExt, net::UnixListener};

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        socket: DefaultSocket,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let socket = DefaultSocket::at(directory.path().join("docker.sock"), Path::new("/run/x/docker.sock"));
        Fixture { directory, socket }
    }

    fn names(f: &Fixture) -> Vec<String> {
        let entries = fs_err::read_dir(f.directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_previous_socket_comes_back_and_still_answers() {
        let f = fixture();
        let engine = UnixListener::bind(f.socket.path()).unwrap();
        f.socket.take().unwrap();
        f.socket.take().unwrap();
        assert_eq!(fs_err::read_link(f.socket.path()).unwrap(), Path::new("/run/x/docker.sock"));
        f.socket.give_back().unwrap();
        f.socket.give_back().unwrap();
        assert!(fs_err::symlink_metadata(f.socket.path()).unwrap().file_type().is_socket());
        std::os::unix::net::UnixStream::connect(f.socket.path()).unwrap();
        engine.accept().unwrap();
        assert_eq!(names(&f), ["docker.sock"]);
    }

    #[test]
    fn where_there_was_none_none_is_left() {
        let f = fixture();
        f.socket.take().unwrap();
        f.socket.give_back().unwrap();
        assert!(names(&f).is_empty());
    }

    #[test]
    fn a_socket_that_an_engine_made_anew_in_the_meantime_is_left_alone() {
        let f = fixture();
        drop(UnixListener::bind(f.socket.path()).unwrap());
        f.socket.take().unwrap();
        fs_err::remove_file(f.socket.path()).unwrap();
        let _engine = UnixListener::bind(f.socket.path()).unwrap();
        f.socket.give_back().unwrap();
        assert!(fs_err::symlink_metadata(f.socket.path()).unwrap().file_type().is_socket());
        assert_eq!(names(&f), ["docker.sock"]);
    }

    #[test]
    fn another_oversides_link_and_what_it_keeps_are_left_alone() {
        let f = fixture();
        let _engine = UnixListener::bind(f.socket.path()).unwrap();
        let other = DefaultSocket::at(f.socket.path(), Path::new("/run/y/docker.sock"));
        other.take().unwrap();
        f.socket.give_back().unwrap();
        assert_eq!(fs_err::read_link(f.socket.path()).unwrap(), Path::new("/run/y/docker.sock"));
        other.give_back().unwrap();
        assert!(fs_err::symlink_metadata(f.socket.path()).unwrap().file_type().is_socket());
    }
}
