//! Saving volumes and images of an environment to an archive on the laptop, and bringing them into another one.
//!
//! The archive is a ZIP file: `overside.json` says what is in it, `images.tar` is what `docker save` writes, `volumes/N.tar`
//! is the content of a volume. Volumes are read and written through a container that is made of nothing, mounts the volume
//! and is never started.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fs_err as fs;
use futures_util::StreamExt;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use overside_model::{ErrorCode, KeepOrder, Problem, Work, WorkKind};
use overside_tunnel::Link;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{docker, inventory};

/// The image that the helping containers are made of; it has no files.
const EMPTY: &str = "overside/empty:latest";
/// Where the volume is in them.
const MOUNTED: &str = "/volume";
const MANIFEST: &str = "overside.json";
const IMAGES: &str = "images.tar";
/// The archive's own version; a later one is refused.
const VERSION: u32 = 1;
/// Longest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// Pieces of a stream that wait for the disk or the tunnel.
const AHEAD: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    made: String,
    volumes: Vec<KeptVolume>,
    images: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptVolume {
    name: String,
    labels: Value,
    /// The archive's member.
    member: String,
}

fn archive_problem(path: &Path, what: &str, error: impl std::fmt::Display) -> Problem {
    Problem::new(
        ErrorCode::KeepFailed,
        format!("cannot {what} {}: {error}", path.display()),
        "Check the file and the space on the disk, then try again.",
    )
}

/// What the archive's writer is told.
enum Piece {
    Member(String),
    Data(Bytes),
    Done,
}

/// Saves what the order names; everything that exists nowhere else if it names nothing. Returns what was saved.
pub(crate) async fn keep(link: &Link, order: &KeepOrder) -> Result<Vec<Work>, Problem> {
    let path = PathBuf::from(&order.file);
    if !path.is_absolute() {
        return Err(archive_problem(&path, "write", "the path is not absolute"));
    }
    let found = inventory::survey(link).await?;
    let of = |kind: WorkKind, named: &Option<Vec<String>>| -> Vec<String> {
        let all = || found.iter().filter(|work| work.kind == kind).map(|work| work.name.clone()).collect();
        named.clone().unwrap_or_else(all)
    };
    let any = order.volumes.is_some() || order.images.is_some();
    let chosen = |kind, named: &Option<Vec<String>>| if any && named.is_none() { Vec::new() } else { of(kind, named) };
    let (volumes, images) = (chosen(WorkKind::Volume, &order.volumes), chosen(WorkKind::Image, &order.images));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let target = path.clone();
    let writer = tokio::task::spawn_blocking(move || write_archive(&target, receiver));
    let collected = collect(link, &volumes, &images, &sender).await;
    if collected.is_ok() {
        let _ = sender.send(Piece::Done).await;
    }
    drop(sender);
    let written = writer.await.map_err(|error| archive_problem(&path, "write", error))?;
    // A full disk is why the streams ended, not the other way round.
    written.map_err(|error| archive_problem(&path, "write", error))?;
    collected?;
    let kept = |kind: WorkKind, name: String| Work { kind, name, kept_in: Some(order.file.clone()) };
    let volumes = volumes.into_iter().map(|name| kept(WorkKind::Volume, name));
    Ok(volumes.chain(images.into_iter().map(|name| kept(WorkKind::Image, name))).collect())
}

async fn collect(
    link: &Link,
    volumes: &[String],
    images: &[String],
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Problem> {
    let mut manifest = Manifest {
        version: VERSION,
        made: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        volumes: Vec::new(),
        images: images.to_vec(),
    };
    if !images.is_empty() {
        let names: Vec<_> = images.iter().map(|name| format!("names={}", docker::escaped(name))).collect();
        stream_in(link, &format!("/images/get?{}", names.join("&")), IMAGES, sender).await?;
    }
    for (number, name) in volumes.iter().enumerate() {
        let volume = docker::get_json(link, &format!("/volumes/{}", docker::escaped(name))).await?;
        let member = format!("volumes/{number}.tar");
        let helper = Helper::of(link, name).await?;
        let read = stream_in(link, &helper.path(), &member, sender).await;
        helper.remove(link).await;
        read?;
        let labels = volume.get("Labels").cloned().unwrap_or_default();
        manifest.volumes.push(KeptVolume { name: name.clone(), labels, member });
    }
    remove_empty(link).await;
    let text = format!("{:#}", serde_json::to_value(&manifest).unwrap_or_default());
    for piece in [Piece::Member(MANIFEST.to_owned()), Piece::Data(text.into())] {
        let _ = sender.send(piece).await;
    }
    Ok(())
}

/// Copies what the engine answers into a member of the archive.
async fn stream_in(link: &Link, path: &str, member: &str, sender: &mpsc::Sender<Piece>) -> Result<(), Problem> {
    let answer = docker::send(link, Method::GET, path, None, docker::nothing()).await?;
    let _ = sender.send(Piece::Member(member.to_owned())).await;
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| docker::unusable(path, error))?;
        if let Ok(data) = frame.into_data()
            && sender.send(Piece::Data(data)).await.is_err()
        {
            // The writer has failed, and says why.
            break;
        }
    }
    Ok(())
}

/// Writes to a temporary file beside the target, and moves it there once it is whole and on the disk.
fn write_archive(target: &Path, mut pieces: mpsc::Receiver<Piece>) -> io::Result<()> {
    let directory = target.parent().unwrap_or(Path::new("/"));
    let file = tempfile::Builder::new().prefix(".overside-keep-").tempfile_in(directory)?;
    let mut archive = ZipWriter::new(file);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true);
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Member(name) => archive.start_file(name, options)?,
            Piece::Data(data) => archive.write_all(&data)?,
            Piece::Done => {
                let file = archive.finish()?;
                file.as_file().sync_all()?;
                file.persist(target)?;
                return fs::File::open(directory)?.sync_all();
            }
        }
    }
    // Dropped unfinished: the temporary file goes with it.
    Ok(())
}

/// Brings an archive's volumes and images into the environment. Returns what it brought.
pub(crate) async fn restore(link: &Link, file: &str) -> Result<Vec<Work>, Problem> {
    let path = PathBuf::from(file);
    let unusable = |error: String| archive_problem(&path, "read", error);
    let opened = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || read_manifest(&path)).await
    };
    let manifest = opened.map_err(|error| unusable(error.to_string()))?.map_err(|error| unusable(error.to_string()))?;
    for volume in &manifest.volumes {
        let path = format!("/volumes/{}", docker::escaped(&volume.name));
        if docker::get_json(link, &path).await.is_ok() {
            return Err(Problem::new(
                ErrorCode::KeepFailed,
                format!("the environment already has a volume {}", volume.name),
                "Nothing was restored. Remove or rename that volume first, then try again.",
            ));
        }
    }
    if !manifest.images.is_empty() {
        let body = read_member(&path, IMAGES.to_owned());
        let answer = docker::send(link, Method::POST, "/images/load?quiet=1", Some("application/x-tar"), body).await?;
        docker::progress("/images/load", answer).await?;
    }
    for volume in &manifest.volumes {
        let body = json!({ "Name": volume.name, "Labels": volume.labels });
        docker::post_json(link, "/volumes/create", &body).await?;
        let helper = Helper::of(link, &volume.name).await?;
        let body = read_member(&path, volume.member.clone());
        let written = docker::send(link, Method::PUT, &helper.path(), Some("application/x-tar"), body).await;
        helper.remove(link).await;
        written?;
    }
    remove_empty(link).await;
    let work = |kind, name: &String| Work { kind, name: name.clone(), kept_in: Some(file.to_owned()) };
    let volumes = manifest.volumes.iter().map(|volume| work(WorkKind::Volume, &volume.name));
    Ok(volumes.chain(manifest.images.iter().map(|name| work(WorkKind::Image, name))).collect())
}

fn open(path: &Path) -> io::Result<ZipArchive<File>> {
    Ok(ZipArchive::new(fs::File::open(path)?.into_file())?)
}

fn read_manifest(path: &Path) -> io::Result<Manifest> {
    let mut archive = open(path)?;
    let mut text = Vec::new();
    archive.by_name(MANIFEST)?.take(MAX_MANIFEST).read_to_end(&mut text)?;
    let manifest: Manifest = serde_json::from_slice(&text)?;
    if manifest.version > VERSION {
        return Err(io::Error::other("a newer Overside has made it"));
    }
    Ok(manifest)
}

/// A member of the archive as the body of a request.
fn read_member(path: &Path, member: String) -> docker::Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut archive = open(&path)?;
            let mut member = archive.by_name(&member)?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = member.read(&mut buffer)?;
                if count == 0 || sender.blocking_send(Ok(Bytes::copy_from_slice(&buffer[..count]))).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            // The request breaks off with it.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let mut receiver = receiver;
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    BodyExt::boxed(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}

/// A container that mounts a volume and never runs.
struct Helper(String);

impl Helper {
    async fn of(link: &Link, volume: &str) -> Result<Self, Problem> {
        // An archive without files: two empty blocks.
        let empty = Full::new(Bytes::from_static(&[0; 1024])).map_err(|never| match never {}).boxed();
        let import = format!("/images/create?fromSrc=-&repo={}", docker::escaped(EMPTY));
        let answer = docker::send(link, Method::POST, &import, Some("application/x-tar"), empty).await?;
        docker::progress(&import, answer).await?;
        let body = json!({
            "Image": EMPTY,
            "Cmd": ["never-started"],
            "HostConfig": { "Mounts": [{
                "Type": "volume", "Source": volume, "Target": MOUNTED, "VolumeOptions": { "NoCopy": true },
            }]},
        });
        let made = docker::post_json(link, "/containers/create", &body).await?;
        let id = made.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self(id))
    }

    /// The volume's content.
    fn path(&self) -> String {
        format!("/containers/{}/archive?path={}", docker::escaped(&self.0), docker::escaped(&format!("{MOUNTED}/.")))
    }

    async fn remove(self, link: &Link) {
        let path = format!("/containers/{}?force=1", docker::escaped(&self.0));
        if let Err(problem) = docker::send(link, Method::DELETE, &path, None, docker::nothing()).await {
            tracing::warn!(%problem, "a helping container stays until the environment is deleted");
        }
    }
}

async fn remove_empty(link: &Link) {
    let path = format!("/images/{}", docker::escaped(EMPTY));
    match docker::send(link, Method::DELETE, &path, None, docker::nothing()).await {
        Ok(answer) => debug_assert_eq!(answer.status(), StatusCode::OK),
        // There was no volume to need it.
        Err(problem) => tracing::debug!(%problem, "the empty image is not there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: Vec<Piece>, target: &Path) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        for piece in pieces {
            sender.try_send(piece).unwrap_or_else(|_| panic!("too many pieces"));
        }
        drop(sender);
        write_archive(target, receiver)
    }

    fn manifest(version: u32) -> Piece {
        let text = json!({ "version": version, "made": "", "volumes": [], "images": ["a:1"] }).to_string();
        Piece::Data(text.into())
    }

    #[test]
    fn an_archive_appears_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("kept.zip");
        written(vec![Piece::Member(MANIFEST.into()), manifest(1)], &target).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        written(vec![Piece::Member(MANIFEST.into()), manifest(1), Piece::Done], &target).unwrap();
        assert_eq!(read_manifest(&target).unwrap().images, ["a:1"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_archive_of_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("kept.zip");
        fs::write(&target, "nonsense").unwrap();
        assert!(read_manifest(&target).is_err());
        written(vec![Piece::Member("other".into()), Piece::Done], &target).unwrap();
        assert!(read_manifest(&target).is_err());
        written(vec![Piece::Member(MANIFEST.into()), manifest(2), Piece::Done], &target).unwrap();
        assert!(read_manifest(&target).unwrap_err().to_string().contains("newer"));
    }
}
