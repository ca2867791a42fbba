//! What both sides had in common last, on the disk.

use std::{io, path::Path};

use overside_sync_core::Node;

/// Changes when the format does; another one is as good as none.
const FORMAT: &[u8] = b"overside ancestor 1\n";

/// Reads it. Without one both sides are compared as if they had met for the first time, which loses nothing.
pub(super) fn read(path: &Path) -> Option<Node> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, "what both sides had in common is forgotten");
            return None;
        }
    };
    let decoded = zstd::stream::decode_all(bytes.strip_prefix(FORMAT)?).ok()?;
    postcard::from_bytes(&decoded).ok().flatten()
}

/// Writes it: the old one stays until the new one is whole. Its directory is not made: without one the session has ended.
/// What is not durable outlives this process, but perhaps not the machine: both sides are then compared as if for the first
/// time.
pub(super) fn write(path: &Path, ancestor: Option<&Node>, durable: bool) -> io::Result<()> {
    let encoded = postcard::to_stdvec(&ancestor).map_err(io::Error::other)?;
    let bytes = [FORMAT, &zstd::stream::encode_all(&*encoded, 1)?].concat();
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs_err::File::create(&temporary)?;
    io::Write::write_all(&mut file, &bytes)?;
    if durable {
        file.sync_data()?;
    }
    fs_err::rename(&temporary, path)
}
