//! Writing a file so that a crash leaves the old content or the new one, never half of either.

use std::{io, io::Write, path::Path};

/// Replaces `path` by `content`: a temporary file beside it, synchronised, renamed over it. New files are 0600; one that is
/// there keeps its mode.
///
/// # Errors
/// The system's, naming the path; the old file is then untouched.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, true)
}

/// As [`write_atomically`], and 0600 whatever was there before.
///
/// # Errors
/// As there.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, false)
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has modes to set"))]
fn write(path: &Path, content: &[u8], preserve_mode: bool) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let write = || {
        if let Some(parent) = path.parent() {
            crate::home::private_directory(parent)?;
        }
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes to set"))]
        let mut options = atomic_write_file::OpenOptions::new();
        #[cfg(unix)]
        {
            use atomic_write_file::unix::OpenOptionsExt;
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600).preserve_mode(preserve_mode);
        }
        let mut file = options.open(path)?;
        file.write_all(content)?;
        file.commit()
    };
    write().map_err(named)
}
