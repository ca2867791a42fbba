//! Where this computer keeps what SSH programs share.

#[cfg_attr(windows, path = "places/windows.rs")]
#[cfg_attr(not(windows), path = "places/unix.rs")]
mod platform;

use std::path::PathBuf;

/// The administrator's part of OpenSSH's configuration.
pub(crate) fn system() -> PathBuf {
    platform::system()
}

/// The name of the user of this computer, for logins that name none.
pub(crate) fn user() -> Option<String> {
    let named = platform::USER.iter().find_map(std::env::var_os)?;
    named.into_string().ok().filter(|name| !name.is_empty())
}
