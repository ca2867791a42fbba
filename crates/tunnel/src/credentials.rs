//! The keys of one session: our own, and the pinned one of the agent.

use std::{io, path::Path, sync::Arc};

use russh::keys::{Algorithm, PrivateKey, PublicKey, ssh_key::LineEnding};

/// Why keys could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Not a key in OpenSSH's format.
    #[error("not a usable SSH key: {0}")]
    Key(#[from] russh::keys::ssh_key::Error),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An Ed25519 key made for one session and deleted with it.
#[derive(Debug, Clone)]
pub struct Credentials {
    key: Arc<PrivateKey>,
}

impl Credentials {
    /// Makes a key from the system's randomness.
    ///
    /// # Errors
    /// [`CredentialsError::Key`], which a working system does not give.
    pub fn generate() -> Result<Self, CredentialsError> {
        let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        key.set_comment("overside session");
        Ok(Self { key: Arc::new(key) })
    }

    /// The public half as one line in OpenSSH's format.
    ///
    /// # Errors
    /// [`CredentialsError::Key`], which a key that was made or read does not give.
    pub fn public_line(&self) -> Result<String, CredentialsError> {
        Ok(self.key.public_key().to_openssh()?)
    }

    /// Writes the key to a new file that only this user can read (0600), so that a restarted daemon finds its environment
    /// again.
    ///
    /// # Errors
    /// [`CredentialsError`]; a file that exists already is not overwritten.
    pub fn save(&self, path: &Path) -> Result<(), CredentialsError> {
        let text = self.key.to_openssh(LineEnding::LF)?;
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(file.sync_all()?)
    }

    /// Reads a key that [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let text = fs_err::read_to_string(path)?;
        Ok(Self { key: Arc::new(PrivateKey::from_openssh(text)?) })
    }

    pub(crate) fn key(&self) -> Arc<PrivateKey> {
        self.key.clone()
    }
}

/// Reads a host key in OpenSSH's one-line format.
pub(crate) fn parse_host_key(line: &str) -> Result<PublicKey, CredentialsError> {
    Ok(PublicKey::from_openssh(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_key_is_for_its_user_alone_and_is_the_same_when_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let credentials = Credentials::generate().unwrap();
        credentials.save(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(Credentials::load(&path).unwrap().public_line().unwrap(), credentials.public_line().unwrap());
        assert!(credentials.save(&path).is_err());
    }

    #[test]
    fn two_sessions_have_two_keys() {
        let line = || Credentials::generate().unwrap().public_line().unwrap();
        assert_ne!(line(), line());
    }
}
