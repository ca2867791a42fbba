//! The user's private keys: files that may be encrypted.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use overside_model::{ErrorCode, Problem};
use russh::keys::{Certificate, Error, PrivateKey, PublicKey, decode_secret_key};

/// Keys that were decrypted with a person's passphrase, for as long as the process runs. Passphrases are not kept.
#[derive(Clone, Default)]
pub struct Keys {
    unlocked: Arc<Mutex<HashMap<PathBuf, Arc<PrivateKey>>>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Decrypts a key and keeps it.
    ///
    /// # Errors
    /// [`ErrorCode::KeyLocked`]: the passphrase is another one, or the file is no key.
    pub async fn unlock(&self, path: &Path, passphrase: String) -> Result<(), Problem> {
        let file = path.to_owned();
        let decrypted = tokio::task::spawn_blocking(move || {
            let text = fs_err::read_to_string(&file).map_err(|error| error.to_string())?;
            decode_secret_key(&text, Some(&passphrase)).map_err(|error| error.to_string())
        });
        let decrypted = decrypted.await.unwrap_or_else(|error| Err(error.to_string()));
        let key = decrypted.map_err(|error| {
            Problem::new(
                ErrorCode::KeyLocked,
                format!("the key {} does not open with this passphrase ({error})", path.display()),
                "Try again.",
            )
        })?;
        let mut unlocked = self.unlocked.lock().unwrap_or_else(PoisonError::into_inner);
        unlocked.insert(path.to_owned(), Arc::new(key));
        Ok(())
    }

    fn get(&self, path: &Path) -> Option<Arc<PrivateKey>> {
        self.unlocked.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }
}

/// A private key's file.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) path: PathBuf,
    pub(super) secret: Secret,
    /// Certificates that lie beside it.
    pub(super) certificates: Vec<Certificate>,
}

#[derive(Debug, Clone)]
pub(super) enum Secret {
    Open(Arc<PrivateKey>),
    /// Encrypted. Its public half, where that can be read all the same.
    Locked(Option<PublicKey>),
}

impl Identity {
    /// Reads a key. None if there is no such file; what is wrong with it is told in the log, and the key is not used, as
    /// OpenSSH does.
    pub(super) fn load(path: &Path, keys: &Keys) -> Option<Self> {
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "a key for SSH cannot be read");
                return None;
            }
        };
        let secret = match decode_secret_key(&text, None) {
            Ok(key) => Secret::Open(Arc::new(key)),
            Err(error) if is_locked(&text, &error) => {
                let public = public_half(path, &text);
                // The file may hold another key by now.
                let same = |key: &Arc<PrivateKey>| {
                    public.as_ref().is_none_or(|public| public.key_data() == key.public_key().key_data())
                };
                keys.get(path).filter(same).map_or(Secret::Locked(public), Secret::Open)
            }
            Err(error) => {
                tracing::warn!(%error, "{} is no usable key for SSH", path.display());
                return None;
            }
        };
        let beside = with_suffix(path, "-cert.pub");
        let certificates = load_certificate(&beside).into_iter().collect();
        Some(Self { path: path.to_owned(), secret, certificates })
    }

    /// Its public half, where that is known.
    pub(super) fn public(&self) -> Option<&PublicKey> {
        match &self.secret {
            Secret::Open(key) => Some(key.public_key()),
            Secret::Locked(public) => public.as_ref(),
        }
    }
}

/// A certificate's file. None if there is none that can be read.
pub(super) fn load_certificate(path: &Path) -> Option<Certificate> {
    let text = fs_err::read_to_string(path).ok()?;
    let read = Certificate::from_openssh(text.trim());
    read.inspect_err(|error| tracing::warn!(%error, "{} is no usable certificate", path.display())).ok()
}

fn is_locked(text: &str, error: &Error) -> bool {
    matches!(error, Error::KeyIsEncrypted)
        || text.contains("BEGIN ENCRYPTED PRIVATE KEY")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// OpenSSH's format has the public half in the clear; for others it may lie beside.
fn public_half(path: &Path, text: &str) -> Option<PublicKey> {
    if let Ok(key) = PrivateKey::from_openssh(text) {
        return Some(key.public_key().clone());
    }
    PublicKey::from_openssh(fs_err::read_to_string(with_suffix(path, ".pub")).ok()?.trim()).ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
