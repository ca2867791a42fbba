//! Contents that wait for their place: files on the same file system as the root where possible.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use overside_sync_core::Digest;

use crate::{
    blocks::{Block, Hasher},
    files::{Directory, read_exact_at},
};

/// A run of zeros that is left out of a file, in bytes; a file system's usual block.
const HOLE: usize = 4096;
/// Read at a time.
const PART: usize = 1 << 20;

/// Permissions of the directory: nobody else has to look into it.
const PRIVATE: u16 = 0o700;

/// Distinguishes files that are being made.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory of this sync's own.
#[derive(Debug)]
pub(crate) struct Stage {
    path: PathBuf,
    inbox: Inbox,
    /// Names of the contents that wait here.
    held: BTreeMap<Digest, String>,
    /// The one that came last is still open: most are wanted at once.
    last: Option<(Digest, File)>,
}

impl Stage {
    /// Makes one of its own below `path`, which others of the same root may have as well for a while.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let path = path.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        match fs_err::remove_dir_all(&path) {
            // Of a process that had the same number.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs_err::create_dir_all(&path)?;
        let directory = Directory::open(&path)?;
        directory.set_mode(PRIVATE)?;
        Ok(Self { path, inbox: Inbox(directory), held: BTreeMap::new(), last: None })
    }

    pub(crate) const fn directory(&self) -> &Directory {
        &self.inbox.0
    }

    /// Where contents are received.
    pub(crate) const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// A name that nothing has.
    pub(crate) fn new_name() -> String {
        format!("new-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a content waits here.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.held.contains_key(digest)
    }

    /// A content that waits here, open, and its name. Where it is `taken` it waits no more, and is not to be read.
    pub(crate) fn open(&mut self, digest: &Digest, taken: bool) -> io::Result<Option<(String, File)>> {
        let name = if taken { self.held.remove(digest) } else { self.held.get(digest).cloned() };
        let Some(name) = name else { return Ok(None) };
        let file = match self.last.take() {
            Some((last, mut file)) if last == *digest => {
                if !taken {
                    file.rewind()?;
                }
                file
            }
            last => {
                self.last = last;
                self.directory().open_to_dress(name.as_bytes())?
            }
        };
        Ok(Some((name, file)))
    }

    /// The name of a content that waits here no more.
    pub(crate) fn take(&mut self, digest: &Digest) -> Option<String> {
        self.held.remove(digest)
    }

    /// Forgets all contents.
    pub(crate) fn clear(&mut self) {
        self.last = None;
        for name in std::mem::take(&mut self.held).into_values() {
            self.remove(&name);
        }
    }

    /// A file that nobody else sees.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        self.inbox.create(name)
    }

    pub(crate) fn remove(&self, name: &str) {
        self.inbox.remove(name);
    }

    /// Keeps a content that has come. Returns what it is, and its blocks.
    pub(crate) fn keep(&mut self, received: Received) -> (Digest, Vec<Block>) {
        let Received { name, file, digest, blocks } = received;
        if let Some(before) = self.held.insert(digest, name) {
            self.remove(&before);
        }
        self.last = Some((digest, file));
        (digest, blocks)
    }

    /// Copies a file in as that content, unless it is another by now.
    pub(crate) fn copy(&mut self, file: &mut File, digest: Digest, size: u64) -> io::Result<()> {
        let mut incoming = self.inbox.receive(digest, size)?;
        let mut buffer = vec![0; PART];
        let mut file = file.take(size);
        loop {
            match file.read(&mut buffer)? {
                0 => {
                    if let Some(received) = self.inbox.complete(incoming, false)? {
                        self.keep(received);
                    }
                    return Ok(());
                }
                count => incoming.write(&buffer[..count])?,
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_dir_all(&self.path) {
            tracing::debug!(%error, "a stage stays");
        }
    }
}

/// Where contents are received. It can be used beside the stage, so that one thread receives what another one puts in its place.
#[derive(Debug)]
pub(crate) struct Inbox(Directory);

impl Inbox {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.0.create(name.as_bytes())
    }

    fn remove(&self, name: &str) {
        match self.0.remove(name.as_bytes()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, name, "a staged file stays"),
        }
    }

    /// Begins to receive a content.
    pub(crate) fn receive(&self, digest: Digest, size: u64) -> io::Result<Incoming> {
        let name = Stage::new_name();
        let file = self.create(&name)?;
        Ok(Incoming { name, file, digest, size, hasher: Hasher::new(size), length: 0, hole: false })
    }

    /// Ends it: with nothing, if it is not what it was to be. What is `durable` is on the disk then.
    pub(crate) fn complete(&self, incoming: Incoming, durable: bool) -> io::Result<Option<Received>> {
        let Incoming { name, file, digest, size, hasher, length, hole } = incoming;
        let (found, blocks) = hasher.finish();
        if length != size || found != digest {
            self.remove(&name);
            return Ok(None);
        }
        if hole {
            file.set_len(length)?;
        }
        if durable {
            file.sync_all()?;
        }
        Ok(Some(Received { name, file, digest, blocks }))
    }

    pub(crate) fn abandon(&self, incoming: &Incoming) {
        self.remove(&incoming.name);
    }
}

/// A content that has come.
#[derive(Debug)]
pub(crate) struct Received {
    name: String,
    file: File,
    digest: Digest,
    blocks: Vec<Block>,
}

/// Leaves blocks of zeros out. Returns whether it ends in such.
fn write_sparse(file: &mut File, bytes: &[u8]) -> io::Result<bool> {
    let zero = |block: &[u8]| block.len() == HOLE && block.iter().all(|byte| *byte == 0);
    let mut hole = false;
    for run in bytes.chunks(HOLE).collect::<Vec<_>>().chunk_by(|one, next| zero(one) == zero(next)) {
        let length: usize = run.iter().map(|block| block.len()).sum();
        hole = zero(run[0]);
        if hole {
            file.seek(SeekFrom::Current(length as i64))?;
        } else {
            let start = run[0].as_ptr().addr() - bytes.as_ptr().addr();
            file.write_all(&bytes[start..start + length])?;
        }
    }
    Ok(hole)
}

/// A content on its way.
#[derive(Debug)]
pub(crate) struct Incoming {
    name: String,
    file: File,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    length: u64,
    /// Whether the file ends in bytes that were not written.
    hole: bool,
}

impl Incoming {
    /// Whether so many bytes more are more than was announced.
    pub(crate) const fn is_too_long(&self, more: usize) -> bool {
        self.length + more as u64 > self.size
    }

    /// Adds a part. More than was announced is refused.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        if self.length > self.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a file is longer than was announced"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let (file, hasher) = (&mut self.file, &mut self.hasher);
        self.hole = if bytes.len() < PART {
            hasher.update(bytes);
            write_sparse(file, bytes)?
        } else {
            rayon::join(|| write_sparse(file, bytes), || hasher.update(bytes)).0?
        };
        Ok(())
    }

    /// Adds a part of a file that is here.
    pub(crate) fn reuse(&mut self, base: &File, mut offset: u64, length: u32) -> io::Result<()> {
        let mut left = length as usize;
        let mut buffer = vec![0; PART.min(left)];
        while left > 0 {
            let part = left.min(PART);
            read_exact_at(base, &mut buffer[..part], offset)?;
            self.write(&buffer[..part])?;
            offset += part as u64;
            left -= part;
        }
        Ok(())
    }
}
