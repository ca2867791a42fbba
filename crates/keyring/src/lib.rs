//! Passphrases of SSH keys in the system's keyring: the Secret Service, macOS' keychain, Windows' Credential Manager.
//!
//! One entry holds all of a home's passphrases, each with the runners that it is for, so that a runner that is removed takes
//! along what nobody else needs, without a list beside the keyring.

mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use keyring_core::{CredentialStore, Entry, Error};
use overside_model::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};

/// The program's name in the keyring.
const SERVICE: &str = "Overside";
/// Longest time for one request: a locked keyring asks the person at the screen.
const LIMIT: Duration = Duration::from_secs(30);

/// The passphrases of one home.
#[derive(Clone)]
pub struct Keyring {
    vault: Arc<Vault>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

struct Vault {
    /// The entry's user name.
    name: String,
    /// The connection, once there is one. Held during a request: changes do not overtake each other.
    store: Mutex<Option<Arc<CredentialStore>>>,
}

/// What the entry holds: keys by their files' paths.
type Kept = BTreeMap<String, Passphrase>;

#[derive(Serialize, Deserialize)]
struct Passphrase {
    passphrase: String,
    /// Names of the runners that the key opened.
    runners: BTreeSet<String>,
}

impl Keyring {
    /// Passphrases for the runners of a file, whose path tells one home from another. Nothing is connected yet.
    pub fn new(runners: &Path) -> Self {
        let vault = Vault { name: format!("SSH passphrases for {}", runners.display()), store: Mutex::default() };
        Self { vault: Arc::new(vault) }
    }

    /// The passphrase that was kept for a key; it is `runner`'s as well from now on. None if there is none, and where the
    /// keyring cannot be asked: a person can be.
    pub async fn passphrase(&self, key: &str, runner: &str) -> Option<String> {
        let (key, runner) = (key.to_owned(), runner.to_owned());
        let found = self.request(move |vault, store| {
            let mut kept = vault.read(store)?;
            let Some(found) = kept.get_mut(&key) else { return Ok(None) };
            let passphrase = found.passphrase.clone();
            if found.runners.insert(runner) {
                vault.write(store, &kept)?;
            }
            Ok(Some(passphrase))
        });
        let logged = |reason: &Reason| tracing::info!(%reason, "the keyring gives no passphrase");
        found.await.inspect_err(logged).ok().flatten()
    }

    /// Keeps a key's passphrase for a runner, in the place of any other of the same key.
    ///
    /// # Errors
    /// [`ErrorCode::KeyringUnavailable`], with what is missing.
    pub async fn keep(&self, key: &str, passphrase: String, runner: &str) -> Result<(), Problem> {
        let (key, runner) = (key.to_owned(), runner.to_owned());
        let written = self.request(move |vault, store| {
            let mut kept = vault.read(store)?;
            let mut runners = kept.remove(&key).map(|old| old.runners).unwrap_or_default();
            runners.insert(runner);
            kept.insert(key, Passphrase { passphrase, runners });
            vault.write(store, &kept)
        });
        written.await.map_err(|reason| reason.problem("the passphrase is not kept"))
    }

    /// Forgets a passphrase that does not open its key any more.
    pub async fn forget_key(&self, key: &str) {
        let key = key.to_owned();
        let forgotten = self.request(move |vault, store| {
            let mut kept = vault.read(store)?;
            if kept.remove(&key).is_some() { vault.write(store, &kept) } else { Ok(()) }
        });
        if let Err(reason) = forgotten.await {
            tracing::warn!(%reason, "a passphrase that opens nothing stays in the keyring");
        }
    }

    /// Forgets what was kept for a runner and for no other. Where there is no keyring, nothing was kept.
    ///
    /// # Errors
    /// [`ErrorCode::KeyringUnavailable`]: something may stay in it.
    pub async fn forget_runner(&self, runner: &str) -> Result<(), Problem> {
        let runner = runner.to_owned();
        let forgotten = self.request(move |vault, store| {
            let mut kept = vault.read(store)?;
            let before = kept.values().filter(|one| one.runners.contains(&runner)).count();
            kept.retain(|_, one| !one.runners.remove(&runner) || !one.runners.is_empty());
            if before > 0 { vault.write(store, &kept) } else { Ok(()) }
        });
        match forgotten.await {
            Ok(()) | Err(Reason::Missing(_)) => Ok(()),
            Err(reason) => Err(reason.problem("what was kept for it may stay there")),
        }
    }

    /// Carries out a request on a thread that may wait for a person.
    async fn request<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault, &CredentialStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Reason> {
        let vault = Arc::clone(&self.vault);
        let done = tokio::task::spawn_blocking(move || {
            let mut store = vault.store.lock().unwrap_or_else(PoisonError::into_inner);
            let connected = match store.take() {
                Some(connected) => connected,
                None => store::connect().map_err(|error| Reason::Missing(words(&error)))?,
            };
            match work(&vault, &*connected) {
                Ok(result) => {
                    *store = Some(connected);
                    Ok(result)
                }
                // The service may have ended; the next request finds out.
                Err(Error::NoStorageAccess(_)) => Err(Reason::Locked),
                Err(error) => Err(Reason::Failed(words(&error))),
            }
        });
        match tokio::time::timeout(LIMIT, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Reason::Failed(error.to_string())),
            Err(_) => Err(Reason::Failed(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }
}

impl Vault {
    fn entry(&self, store: &CredentialStore) -> Result<Entry, Error> {
        store.build(SERVICE, &self.name, None)
    }

    /// An entry that is not understood is as good as none: whoever is asked again loses nothing.
    fn read(&self, store: &CredentialStore) -> Result<Kept, Error> {
        match self.entry(store)?.get_secret() {
            Ok(secret) => Ok(serde_json::from_slice(&secret).unwrap_or_default()),
            Err(Error::NoEntry) => Ok(Kept::new()),
            Err(error) => Err(error),
        }
    }

    fn write(&self, store: &CredentialStore, kept: &Kept) -> Result<(), Error> {
        let entry = self.entry(store)?;
        if kept.is_empty() {
            return match entry.delete_credential() {
                Err(Error::NoEntry) => Ok(()),
                done => done,
            };
        }
        let secret = serde_json::to_vec(kept).map_err(|error| Error::PlatformFailure(Box::new(error)))?;
        entry.set_secret(&secret)
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
enum Reason {
    /// There is no keyring.
    Missing(String),
    /// It is locked, and nobody unlocked it.
    Locked,
    Failed(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reason) => write!(f, "there is no {} here ({reason})", store::NAME),
            Self::Locked => write!(f, "the {} is locked", store::NAME),
            Self::Failed(reason) => write!(f, "the {} fails: {reason}", store::NAME),
        }
    }
}

impl Reason {
    fn problem(&self, consequence: &str) -> Problem {
        let hint = match self {
            Self::Missing(_) => store::MISSING,
            Self::Locked => "Unlock the keyring, then try again.",
            Self::Failed(_) => "Try again.",
        };
        Problem::new(ErrorCode::KeyringUnavailable, format!("{self}: {consequence}"), hint)
    }
}

/// An error in words: some have a secret beside them, which these never show.
fn words(error: &Error) -> String {
    match error {
        Error::PlatformFailure(error) | Error::NoStorageAccess(error) => error.to_string(),
        Error::BadEncoding(_) | Error::BadDataFormat(..) => "its entry is malformed".to_owned(),
        Error::Ambiguous(_) => "it has several entries of this home".to_owned(),
        other => other.to_string(),
    }
}
