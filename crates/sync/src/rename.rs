//! Giving an entry another name in its directory, also one that its file system takes for the same.

use std::io;

use overside_sync_core::{CONFLICT, Name};

use crate::files::{Directory, Spot, has_exactly};

/// Renames it with all that lies below. False if it is not there any more, or something else has the name.
///
/// # Errors
/// The file system's, and where it gives back the old name whatever is tried.
pub(crate) fn rename(directory: &Directory, from: &Name, to: &Name) -> io::Result<bool> {
    let (old, new) = (from.as_bytes(), Spot { directory, name: to.as_bytes() });
    // Elsewhere than on the laptop that is all.
    if directory.rename_new(old, &new).is_ok() && has_exactly(directory, to.as_bytes())? {
        return Ok(true);
    }
    if has_exactly(directory, to.as_bytes())? || !has_exactly(directory, old)? {
        return Ok(false);
    }
    // What is found under the new name is the entry itself. Some systems leave it alone then.
    directory.rename(old, &new)?;
    if has_exactly(directory, to.as_bytes())? {
        return Ok(true);
    }
    // By way of a name that is seen, so that it is lost for nobody who is interrupted here.
    let digits = blake3::hash(old).to_hex();
    let stem = &old[..old.len().min(200)];
    let between = [stem, CONFLICT.as_bytes(), &digits.as_bytes()[..8]].concat();
    if has_exactly(directory, &between)? {
        return Ok(false);
    }
    directory.rename(old, &Spot { directory, name: &between })?;
    if let Err(error) = directory.rename(&between, &new) {
        directory.rename(&between, &Spot { directory, name: old })?;
        return Err(error);
    }
    if has_exactly(directory, to.as_bytes())? {
        return Ok(true);
    }
    Err(io::Error::other(format!("the file system does not take the name {to}")))
}
