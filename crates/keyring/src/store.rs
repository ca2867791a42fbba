//! The system's own store.

use std::sync::Arc;

use keyring_core::{CredentialStore, Error};

#[cfg(all(unix, not(target_os = "macos")))]
pub(crate) const NAME: &str = "Secret Service";
#[cfg(all(unix, not(target_os = "macos")))]
pub(crate) const MISSING: &str = "A desktop's keyring is one (GNOME Keyring, KWallet, KeePassXC); the daemon must run in the \
                                  session whose D-Bus it is on. An SSH agent keeps the key as well, with `ssh-add`.";
#[cfg(all(unix, not(target_os = "macos")))]
pub(crate) fn connect() -> Result<Arc<CredentialStore>, Error> {
    Ok(zbus_secret_service_keyring_store::Store::new()?)
}

#[cfg(target_os = "macos")]
pub(crate) const NAME: &str = "keychain";
#[cfg(windows)]
pub(crate) const NAME: &str = "Credential Manager";
#[cfg(any(target_os = "macos", windows))]
pub(crate) const MISSING: &str = "Let an SSH agent keep the key, with `ssh-add`.";

#[cfg(target_os = "macos")]
pub(crate) fn connect() -> Result<Arc<CredentialStore>, Error> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(windows)]
pub(crate) fn connect() -> Result<Arc<CredentialStore>, Error> {
    Ok(windows_native_keyring_store::Store::new()?)
}
