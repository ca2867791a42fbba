//! Where everything lies. docs/on-disk.md names every file.

use std::{
    env,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use overside_model::{ErrorCode, Problem};

/// The directories of one Overside. `OVERSIDE_HOME` moves all of them under one directory, which is how tests and second
/// instances run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
}

impl Home {
    /// The home that the process's environment variables name: `OVERSIDE_HOME`, or the platform's usual directories.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidSettings`] where the user has no home directory.
    pub fn from_environment() -> Result<Self, Problem> {
        if let Some(home) = env::var_os("OVERSIDE_HOME").filter(|home| !home.is_empty()) {
            let home = std::path::absolute(&home).unwrap_or_else(|_| home.into());
            return Ok(Self::at(&home));
        }
        let missing = || {
            Problem::new(
                ErrorCode::InvalidSettings,
                "this user has no home directory",
                "Set OVERSIDE_HOME to a directory for Overside's files.",
            )
        };
        let config = dirs::config_dir().ok_or_else(missing)?.join("overside");
        let data = dirs::data_local_dir().ok_or_else(missing)?.join("overside");
        let runtime = dirs::runtime_dir().map_or_else(|| data.join("run"), |dir| dir.join("overside"));
        Ok(Self { config, data, runtime })
    }

    /// The home that lies in one directory.
    pub fn at(directory: &Path) -> Self {
        Self { config: directory.to_owned(), data: directory.to_owned(), runtime: directory.to_owned() }
    }

    /// The one directory that everything lies in, where `OVERSIDE_HOME` has moved it.
    pub(crate) fn moved(&self) -> Option<PathBuf> {
        (self.config == self.runtime).then(|| self.config.clone())
    }

    /// The settings.
    pub fn settings_file(&self) -> PathBuf {
        self.config.join("settings.json")
    }

    /// The runners that were added.
    pub fn runners_file(&self) -> PathBuf {
        self.config.join("runners.json")
    }

    /// The keys of hosts that the user has accepted, in OpenSSH's format.
    pub fn known_hosts_file(&self) -> PathBuf {
        self.config.join("known_hosts")
    }

    /// The Docker API.
    pub fn docker_socket(&self) -> PathBuf {
        self.runtime.join("docker.sock")
    }

    /// The control API.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// The daemon's logs.
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// State and key of the session under way, deleted with it.
    pub fn session(&self) -> PathBuf {
        self.data.join("session")
    }

    /// Environments of the local runner.
    pub fn environments(&self) -> PathBuf {
        self.data.join("environments")
    }

    /// What the last engine told of itself, for answers without an engine.
    pub fn engine_facts_file(&self) -> PathBuf {
        self.data.join("engine.json")
    }

    /// The Docker context that was current before Overside's.
    pub fn previous_context_file(&self) -> PathBuf {
        self.data.join("docker-context.json")
    }

    /// The usage ledger.
    pub fn usage_file(&self) -> PathBuf {
        self.data.join("usage.sqlite")
    }

    /// How large the window was left.
    pub fn window_file(&self) -> PathBuf {
        self.data.join("window.json")
    }

    /// The home's own identifier, made at the first call: by it a runner tells the environments of this home from those
    /// of the same user's other computers.
    ///
    /// # Errors
    /// Where it can be neither read nor written.
    pub fn identity(&self) -> Result<String, Problem> {
        let path = self.data.join("home-id");
        match fs_err::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(&path, &error)),
        }
        let identity = format!("{:032x}", rand::random::<u128>());
        crate::write_atomically(&path, format!("{identity}\n").as_bytes()).map_err(|error| unusable(&path, &error))?;
        Ok(identity)
    }

    fn lock_file(&self) -> PathBuf {
        self.data.join("daemon.lock")
    }

    /// Makes the directories, for this user alone, and takes the home for this process.
    ///
    /// # Errors
    /// [`ErrorCode::AlreadyRunning`] where another daemon has it; [`ErrorCode::DiskFull`] and others where the directories
    /// cannot be made.
    pub fn lock(&self) -> Result<HomeLock, Problem> {
        for directory in [&self.config, &self.data, &self.runtime] {
            private_directory(directory)
                .and_then(|()| close(directory))
                .map_err(|error| unusable(directory, &error))?;
        }
        let path = self.lock_file();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| unusable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Problem::new(
                ErrorCode::AlreadyRunning,
                format!("another Overside daemon already runs in {}", self.data.display()),
                "Use it with `overside status`, or end it before starting another.",
            )),
            Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
        }
    }
}

/// The daemon's hold on its home; ends with the process, however that ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        _ => ErrorCode::InvalidSettings,
    };
    Problem::new(
        code,
        format!("cannot use {}: {error}", path.display()),
        "Make it writable for this user, or set OVERSIDE_HOME to another directory.",
    )
}

/// Makes a directory that only this user can enter. One that exists is left as it is.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Closes a directory of Overside's own to everybody else: sockets and keys lie in it. One that everybody shares, as /tmp
/// is, stays shared.
#[cfg(unix)]
fn close(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    const STICKY: u32 = 0o1000;
    let mode = fs_err::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 || mode & STICKY != 0 {
        return Ok(());
    }
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// A directory below the user's profile is the user's alone on Windows.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn close(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn an_existing_home_is_closed_to_others_unless_it_is_everybodys() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let mode = || fs_err::metadata(directory.path()).unwrap().permissions().mode() & 0o7777;
        for (before, after) in [(0o755, 0o700), (0o700, 0o700), (0o1777, 0o1777)] {
            fs_err::set_permissions(directory.path(), PermissionsExt::from_mode(before)).unwrap();
            drop(Home::at(directory.path()).lock().unwrap());
            assert_eq!(mode(), after);
        }
    }

    #[test]
    fn a_home_keeps_its_identity_and_shares_it_with_no_other() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity = Home::at(one.path()).identity().unwrap();
        assert_eq!(Home::at(one.path()).identity(), Ok(identity.clone()));
        assert_ne!(Home::at(other.path()).identity(), Ok(identity));
    }

    #[test]
    fn a_second_daemon_on_the_same_home_is_refused_with_a_clear_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"));
        let first = home.lock().unwrap();
        let problem = home.lock().unwrap_err();
        assert_eq!(problem.code, ErrorCode::AlreadyRunning);
        assert!(problem.message.contains("already runs"), "{problem}");
        drop(first);
        home.lock().unwrap();
    }
}
