//! Images without a registry: what `docker load` reads, made of the machine's static busybox.

use std::io::{self, Cursor, Read, Write};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Name of the image that [`busybox_archive`] holds.
pub const IMAGE: &str = "overside-test:1";

/// Where Debian's package busybox-static puts it.
const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

/// The applets that tests call.
const APPLETS: &[&str] = &[
    "cat",
    "cp",
    "date",
    "dd",
    "df",
    "du",
    "echo",
    "env",
    "false",
    "find",
    "free",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "nc",
    "nproc",
    "od",
    "ping",
    "printf",
    "ps",
    "pwd",
    "rm",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "stty",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "wc",
    "yes",
];

/// A file of bytes that do not compress, the same ones for the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Size in bytes.
    pub size: u64,
}

impl Blob {
    /// The bytes.
    pub fn reader(self) -> impl Read {
        Noise::new(self.size)
    }

    /// Their SHA-256, as `sha256sum` prints it.
    ///
    /// # Errors
    /// None; reading cannot fail, but its type allows it.
    pub fn sha256(self) -> Result<String> {
        let mut hashing = Hashing { inner: self.reader(), digest: Sha256::new() };
        io::copy(&mut hashing, &mut io::sink())?;
        Ok(hashing.hex())
    }
}

/// The image [`IMAGE`] as `docker save` would write it: busybox and its applets.
///
/// # Errors
/// The machine has no static busybox.
pub fn busybox_archive() -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    write_archive(&mut archive, IMAGE, None)?;
    Ok(archive)
}

/// Writes an image's archive as a stream: busybox, and in a second layer the blob as `/blob`.
///
/// # Errors
/// The machine has no static busybox; the output does not take it.
pub fn write_archive(output: &mut impl Write, name: &str, blob: Option<Blob>) -> Result<()> {
    let mut archive = Builder::new(output);
    let mut layers = Vec::new();
    let mut digests = Vec::new();
    let mut add = |archive: &mut Builder<_>, size: u64, content: &mut dyn Read| -> Result<()> {
        let layer = format!("layer-{}.tar", layers.len());
        let mut hashing = Hashing { inner: content, digest: Sha256::new() };
        archive.append_data(&mut header(size, 0o644), &layer, &mut hashing)?;
        digests.push(format!("sha256:{}", hashing.hex()));
        layers.push(layer);
        Ok(())
    };
    let busybox = busybox_layer()?;
    add(&mut archive, busybox.len() as u64, &mut busybox.as_slice())?;
    if let Some(blob) = blob {
        let (size, mut content) = blob_layer(blob)?;
        add(&mut archive, size, &mut content)?;
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": digests },
        "history": digests.iter().map(|_| json!({ "created_by": "overside-testkit" })).collect::<Vec<_>>(),
    })
    .to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layers }]).to_string();
    for (name, text) in [(config_name.as_str(), config), ("manifest.json", manifest)] {
        archive.append_data(&mut header(text.len() as u64, 0o644), name, text.as_bytes())?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn busybox_layer() -> Result<Vec<u8>> {
    let busybox = BUSYBOX
        .iter()
        .find_map(|path| fs_err::read(path).ok())
        .context("images for tests are made of the package busybox-static, which is not installed")?;
    let mut layer = Builder::new(Vec::new());
    for (directory, mode) in [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)] {
        let mut header = header(0, mode);
        header.set_entry_type(EntryType::Directory);
        layer.append_data(&mut header, directory, io::empty())?;
    }
    layer.append_data(&mut header(busybox.len() as u64, 0o755), "bin/busybox", busybox.as_slice())?;
    for applet in APPLETS {
        let mut header = header(0, 0o777);
        header.set_entry_type(EntryType::Symlink);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\n";
    layer.append_data(&mut header(passwd.len() as u64, 0o644), "etc/passwd", passwd.as_slice())?;
    Ok(layer.into_inner()?)
}

/// A layer with one file, as a stream of known size.
fn blob_layer(blob: Blob) -> Result<(u64, impl Read)> {
    let mut header = header(blob.size, 0o644);
    header.set_path("blob")?;
    header.set_cksum();
    // Content is padded to blocks of 512 bytes, and two empty blocks end an archive.
    let padding = blob.size.next_multiple_of(512) - blob.size + 1024;
    let head = Cursor::new(header.as_bytes().to_vec());
    Ok((512 + blob.size + padding, head.chain(blob.reader()).chain(io::repeat(0).take(padding))))
}

fn header(size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}

/// Blocks of xorshift noise, numbered so that no two are equal: incompressible, and quick without an optimiser.
struct Noise {
    block: Vec<u8>,
    at: usize,
    number: u64,
    left: u64,
}

impl Noise {
    /// More than a compressor's window.
    const BLOCK: usize = 1 << 20;

    fn new(size: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { block: words.take(Self::BLOCK / 8).flatten().collect(), at: 0, number: 0, left: size }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == Self::BLOCK {
            self.at = 0;
            self.number += 1;
            self.block[..8].copy_from_slice(&self.number.to_le_bytes());
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = buffer.len().min(left).min(Self::BLOCK - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    digest: Sha256,
}

impl<R> Hashing<R> {
    fn hex(self) -> String {
        hex(&self.digest.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_the_same_every_time_and_as_long_as_it_says() {
        let blob = Blob { size: 100_003 };
        let mut bytes = Vec::new();
        blob.reader().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 100_003);
        assert_eq!(hex(&Sha256::digest(&bytes)), blob.sha256().unwrap());
    }

    #[test]
    fn an_archive_names_layers_by_the_digest_of_what_it_holds() {
        let mut archive = Vec::new();
        write_archive(&mut archive, "name:tag", Some(Blob { size: 1000 })).unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        for (index, name) in manifest[0]["Layers"].as_array().unwrap().iter().enumerate() {
            let digest = format!("sha256:{}", hex(&Sha256::digest(&files[name.as_str().unwrap()])));
            assert_eq!(config["rootfs"]["diff_ids"][index], digest);
        }
        let blob =
            tar::Archive::new(files["layer-1.tar"].as_slice()).entries().unwrap().next().unwrap().unwrap().size();
        assert_eq!(blob, 1000);
    }
}
