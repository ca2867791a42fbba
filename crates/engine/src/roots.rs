//! Bind mounts: the files and directories of the laptop that are kept alike with their copies in the environment.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytesize::ByteSize;
use overside_config::write_atomically;
use overside_docker_api::{HostBind, IfMissing, Laptop};
use overside_model::{ErrorCode, MountDecision, MountState, MountStatus, Problem, Settings, agent::FILES};
use overside_sync::{Flushed, Limits, Phase, Setup, Sync};
use overside_sync_core::{Halt, IGNORE_FILE, Mode, RelativePath, Side, wire::Kind};
use overside_tunnel::{Link, LinkState};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};

use crate::{hub::Hub, mounts::Files};

/// How long a flush may take before the caller goes on without it.
const FLUSH: Duration = Duration::from_secs(60);
/// How long a root may take to end.
const END: Duration = Duration::from_secs(5);
/// Pause before another stream where one was of no use.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// Files of a status that are named.
const NAMED: usize = 20;

/// This machine, as paths go.
const HERE: Laptop<'static> = Laptop { own_socket: "", windows: cfg!(windows) };

/// A root as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    path: PathBuf,
    file: bool,
    /// Every container that has it mounted may only read.
    read_only: bool,
    /// Paths in it that none of them sees.
    masks: Vec<String>,
    /// Paths of files in it that containers have mounted by themselves.
    #[serde(default)]
    held: Vec<String>,
    /// It may have more than the limits allow: somebody has said so.
    #[serde(default)]
    allowed: bool,
}

impl Remembered {
    fn held(&self) -> Vec<RelativePath> {
        self.held.iter().filter_map(|held| RelativePath::new(held.as_bytes())).collect()
    }
}

struct Root {
    remembered: Remembered,
    mode: Mode,
    sync: Arc<Sync>,
}

/// All roots of one environment.
pub(crate) struct Roots {
    hub: Weak<Hub>,
    /// Remembered roots, common states and files on their way.
    directory: PathBuf,
    roots: Mutex<BTreeMap<PathBuf, Root>>,
    link: watch::Receiver<LinkState>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Roots").finish_non_exhaustive()
    }
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::MountFailed, format!("cannot mount {}: {reason}", path.display()), "")
}

/// The same path below the place of all roots, if it can be one.
fn below(path: &Path) -> Option<RelativePath> {
    let place = HERE.place_of(path.to_str()?);
    let rest = place.strip_prefix(overside_model::agent::LAPTOP_FILES)?;
    RelativePath::new(rest.trim_matches('/').as_bytes())
}

impl Roots {
    /// Those that an earlier daemon had are taken up again.
    pub(crate) fn new(hub: &Arc<Hub>, directory: PathBuf, link: &Link) -> Self {
        let roots = Self {
            hub: Arc::downgrade(hub),
            directory,
            roots: Mutex::default(),
            link: link.state(),
            stop: CancellationToken::new(),
        };
        if let Err(error) = fs_err::create_dir_all(&roots.directory) {
            tracing::warn!(%error, "what both sides of bind mounts have in common will not be kept");
        }
        let remembered: Vec<Remembered> =
            fs_err::read(roots.list()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let settings = hub.settings();
        for remembered in remembered {
            let path = remembered.path.clone();
            if let Err(problem) = roots.begin(&mut roots.lock(), remembered, &settings) {
                tracing::warn!(%problem, path = %path.display(), "a bind mount is not taken up again");
            }
        }
        roots
    }

    /// The hub tells the status of roots while it is locked, so that nobody may ask it for anything who has locked them.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Root>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> PathBuf {
        self.directory.join("mounts.json")
    }

    fn remember(&self, roots: &BTreeMap<PathBuf, Root>) -> Result<(), Problem> {
        let remembered: Vec<&Remembered> = roots.values().map(|root| &root.remembered).collect();
        let text = serde_json::to_vec_pretty(&remembered).map_err(|error| unusable(&self.list(), error))?;
        write_atomically(&self.list(), &text).map_err(|error| unusable(&self.list(), error))
    }

    /// Keeps a root alike from now on.
    fn begin(
        &self,
        roots: &mut BTreeMap<PathBuf, Root>,
        remembered: Remembered,
        settings: &Settings,
    ) -> Result<(), Problem> {
        let path = remembered.path.clone();
        let mode = mode(&remembered, settings);
        let root = below(&path).ok_or_else(|| unusable(&path, "its path is too long or too deep"))?;
        let name = blake3::hash(root.as_bytes()).to_hex();
        // A link to a file is mounted as the file that it leads to now, as Docker does; no link is followed later.
        let is_link = remembered.file && path.is_symlink();
        let link_target = is_link.then(|| fs_err::canonicalize(&path).ok()).flatten();
        let setup = Setup {
            laptop: link_target.unwrap_or_else(|| path.clone()),
            kind: if remembered.file { Kind::File } else { Kind::Directory },
            root,
            mode,
            masks: self.masks(&remembered, roots),
            held: remembered.held(),
            ancestor: self.directory.join(name.as_str()),
            stage: self.directory.join(format!("{name}.stage")),
            limits: if remembered.allowed {
                Limits::ALLOWED
            } else {
                Limits { entries: settings.mount_max_files, bytes: settings.mount_max_bytes }
            },
        };
        let weak = self.hub.clone();
        let changed = move || {
            if let Some(hub) = weak.upgrade() {
                hub.show();
            }
        };
        let sync = Sync::start(setup, changed).map_err(|error| unusable(&path, error))?;
        let sync = Arc::new(sync);
        tokio::spawn(keep_connected(self.link.clone(), Arc::downgrade(&sync), self.stop.clone()));
        roots.insert(path, Root { remembered, mode, sync });
        Ok(())
    }

    /// What containers have over it, and roots of their own that lie within.
    fn masks(&self, remembered: &Remembered, roots: &BTreeMap<PathBuf, Root>) -> Vec<RelativePath> {
        let own = remembered.masks.iter().filter_map(|mask| RelativePath::new(mask.as_bytes()));
        let within = roots.keys().filter(|other| **other != remembered.path).filter_map(|other| {
            let rest = other.strip_prefix(&remembered.path).ok()?;
            RelativePath::new(rest.to_str()?.replace('\\', "/").as_bytes())
        });
        own.chain(within).collect()
    }

    /// Makes a root for a bind, or finds the one that it lies in.
    fn put(&self, bind: &HostBind, is_file: bool, settings: &Settings) -> Result<String, Problem> {
        let given = PathBuf::from(&bind.path);
        if given.parent().is_none() {
            return Err(Problem::new(
                ErrorCode::MountFailed,
                format!("cannot mount {}: the whole of this machine is not brought into an environment", bind.path),
                "Mount the directory that the container needs.",
            ));
        }
        let mut roots = self.lock();
        let around = roots.keys().rev().find(|root| given.starts_with(root) && **root != given).cloned();
        let mut path = given;
        if let Some(around) = around {
            // Links on the way mean something else in the environment.
            let real = fs_err::canonicalize(&path).map_err(|error| unusable(&path, error))?;
            let real_root = fs_err::canonicalize(&around).map_err(|error| unusable(&around, error))?;
            let rest = path.strip_prefix(&around).unwrap_or(&path);
            if real == real_root.join(rest) {
                let Some(root) = roots.get_mut(&around) else { return Err(unusable(&path, "it is gone")) };
                let before = root.remembered.clone();
                root.remembered.read_only &= bind.read_only;
                let held = rest.to_string_lossy().replace('\\', "/");
                if is_file && !root.remembered.held.contains(&held) {
                    root.remembered.held.push(held);
                }
                if root.remembered != before {
                    self.reshape(&mut roots, &around, settings);
                    self.remember(&roots)?;
                }
                return Ok(HERE.place_of(&bind.path));
            }
            let plain = real.to_str().and_then(|real| HERE.plain(real));
            path = plain.ok_or_else(|| unusable(&path, "what it leads to has no place in an environment"))?.into();
        }
        let place = HERE.place_of(&path.to_string_lossy());
        // One that did not begin is begun anew: settings or files may be others by now.
        let stands = |root: &Root| matches!(root.sync.status().phase, Phase::TooMuch { .. } | Phase::Failed(_));
        if roots.get(&path).is_some_and(stands) {
            roots.remove(&path);
        }
        if let Some(root) = roots.get_mut(&path) {
            let before = root.remembered.clone();
            root.remembered.read_only &= bind.read_only;
            root.remembered.masks.retain(|mask| bind.masks.contains(mask));
            if root.remembered != before {
                self.reshape(&mut roots, &path, settings);
                self.remember(&roots)?;
            }
            return Ok(place);
        }
        let remembered = Remembered {
            path: path.clone(),
            file: is_file,
            read_only: bind.read_only,
            masks: bind.masks.clone(),
            held: Vec::new(),
            allowed: false,
        };
        self.begin(&mut roots, remembered, settings)?;
        // One that it lies in leaves it alone from now on.
        let around: Vec<PathBuf> =
            roots.keys().filter(|root| path.starts_with(root) && **root != path).cloned().collect();
        around.iter().for_each(|around| self.reshape(&mut roots, around, settings));
        self.remember(&roots)?;
        Ok(place)
    }

    fn reshape(&self, roots: &mut BTreeMap<PathBuf, Root>, path: &Path, settings: &Settings) {
        let Some(masks) = roots.get(path).map(|root| self.masks(&root.remembered, roots)) else { return };
        if let Some(root) = roots.get_mut(path) {
            root.mode = mode(&root.remembered, settings);
            root.sync.set_shape(root.mode, masks, root.remembered.held());
        }
    }

    /// The roots that these places lie in; all of them for none.
    fn at(&self, places: &[String], writable: bool) -> Vec<(PathBuf, Arc<Sync>)> {
        let roots = self.lock();
        let concerned = |path: &Path| {
            let root = HERE.place_of(&path.to_string_lossy());
            places.is_empty() || places.iter().any(|place| Path::new(place).starts_with(&root))
        };
        roots
            .iter()
            .filter(|(path, root)| concerned(path) && !(writable && root.mode == Mode::OneWay))
            .map(|(path, root)| (path.clone(), root.sync.clone()))
            .collect()
    }

    async fn flush_at(&self, places: &[String]) -> Result<(), Problem> {
        let mut left = Vec::new();
        let flushes = self.at(places, true).into_iter().map(|(path, sync)| async move {
            let flushed = timeout(FLUSH, flush(&sync)).await;
            (path, sync, flushed)
        });
        for (path, sync, flushed) in futures_util::future::join_all(flushes).await {
            match flushed {
                Ok(Flushed::Done) => {}
                Ok(Flushed::Left(files)) => {
                    left.extend(files.into_iter().map(|(file, why)| format!("{}/{file} ({why})", path.display())));
                }
                Ok(Flushed::Stands { unsaved: false }) => {}
                Ok(Flushed::Stands { .. } | Flushed::Ended) => {
                    left.push(stands(&path, &sync.status().phase).message);
                }
                Err(_) => left.push(format!("{} (not within {} s)", path.display(), FLUSH.as_secs())),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let count = left.len();
        left.truncate(NAMED);
        Err(Problem::new(
            ErrorCode::FilesLeft,
            format!("{count} of what containers wrote is not on this machine: {}", left.join(", ")),
            "See `overside mounts`; the files are in the environment for as long as it is there.",
        ))
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Which way changes go: a person's settings and what containers may do decide.
fn mode(remembered: &Remembered, settings: &Settings) -> Mode {
    let one_way = settings.mount_one_way.iter().any(|directory| remembered.path.starts_with(directory));
    if remembered.read_only || one_way { Mode::OneWay } else { Mode::TwoWay }
}

async fn flush(sync: &Sync) -> Flushed {
    let (sender, done) = oneshot::channel();
    sync.flush(move |flushed| {
        // Nobody waits any more.
        let _ = sender.send(flushed);
    });
    done.await.unwrap_or(Flushed::Ended)
}

/// Gives the sync a stream for as long as there is a connection, and a new one for each that comes after.
async fn keep_connected(mut link: watch::Receiver<LinkState>, sync: Weak<Sync>, stop: CancellationToken) {
    let connect = async {
        loop {
            let state = link.borrow_and_update().clone();
            match state {
                LinkState::Gone(_) => return,
                LinkState::Down { .. } => {}
                LinkState::Up(connection) => match connection.open(FILES).await {
                    Ok(stream) => {
                        let (over, ended) = oneshot::channel::<()>();
                        {
                            let Some(sync) = sync.upgrade() else { return };
                            let (reader, writer) = tokio::io::split(stream);
                            let (reader, writer) = (SyncIoBridge::new(reader), SyncIoBridge::new(writer));
                            sync.connect(Box::new(reader), Box::new(writer), move || drop(over));
                        }
                        // It is dropped, not sent.
                        let _ = ended.await;
                        if !connection.is_ended() {
                            tokio::time::sleep(CONNECT_AGAIN).await;
                            continue;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a bind mount's stream cannot be opened"),
                },
            }
            if link.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = connect => {}
    }
}

#[async_trait]
impl Files for Roots {
    async fn place(&self, binds: &[HostBind]) -> Result<Vec<String>, Problem> {
        let settings = self.hub.upgrade().map(|hub| hub.settings()).unwrap_or_default();
        let mut places = Vec::new();
        let mut begun = Vec::new();
        for bind in binds {
            let path = PathBuf::from(&bind.path);
            let metadata = match fs_err::tokio::metadata(&path).await {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound && bind.if_missing == IfMissing::Leave => {
                    places.push(HERE.place_of(&bind.path));
                    continue;
                }
                Err(error) => return Err(unusable(&path, error)),
            };
            if !metadata.is_dir() && !metadata.is_file() {
                return Err(Problem::new(
                    ErrorCode::MountFailed,
                    format!("cannot mount {}: it is neither a file nor a directory", bind.path),
                    "Sockets, devices and pipes of this machine do not exist in an environment.",
                ));
            }
            let place = self.put(bind, metadata.is_file(), &settings)?;
            begun.push(place.clone());
            places.push(place);
        }
        // The engine looks for the place as soon as it hears of it.
        for place in begun {
            for (path, sync) in self.at(std::slice::from_ref(&place), false) {
                if HERE.place_of(&path.to_string_lossy()) == place {
                    wait_for_place(&path, &sync).await?;
                } else if let Flushed::Stands { .. } | Flushed::Ended = flush(&sync).await {
                    // What lies in another mount is there when that is.
                    return Err(stands(&path, &sync.status().phase));
                }
            }
        }
        Ok(places)
    }

    async fn resume(&self, places: &[String]) {
        let unknown: Vec<&String> =
            places.iter().filter(|place| self.at(std::slice::from_ref(*place), false).is_empty()).collect();
        for place in unknown {
            tracing::warn!(place, "a container has something mounted that is not kept alike any more");
        }
    }

    async fn ready(&self, places: &[String], owner: Option<(u32, u32)>) -> Result<(), Problem> {
        if places.is_empty() {
            return Ok(());
        }
        let waits = self.at(places, false).into_iter().map(|(path, sync)| async move {
            if let Some((user, group)) = owner {
                sync.set_owner(user, group);
            }
            match flush(&sync).await {
                Flushed::Done => Ok(()),
                Flushed::Left(left) => {
                    tracing::warn!(?left, path = %path.display(), "some files are not in the environment");
                    Ok(())
                }
                Flushed::Stands { .. } | Flushed::Ended => Err(stands(&path, &sync.status().phase)),
            }
        });
        futures_util::future::join_all(waits).await.into_iter().collect()
    }

    fn status(&self) -> Vec<MountStatus> {
        self.lock().iter().map(|(path, root)| status(path, &root.sync, root.mode == Mode::OneWay)).collect()
    }

    fn decide(&self, decision: &MountDecision) -> Result<(), Problem> {
        let mut roots = self.lock();
        let root = roots.get_mut(Path::new(&decision.path)).ok_or_else(|| {
            let message = format!("{} is not mounted", decision.path);
            Problem::new(ErrorCode::UnknownName, message, "See `overside mounts`.")
        })?;
        if !matches!(root.sync.status().phase, Phase::TooMuch { .. }) {
            root.sync.go_on(decision.restore);
            return Ok(());
        }
        if !decision.restore {
            let message = format!("{} is larger than allowed; nothing of it is to be deleted", decision.path);
            let hint = format!("`overside mounts allow {}` brings it all the same.", decision.path);
            return Err(Problem::new(ErrorCode::MountTooLarge, message, hint));
        }
        root.remembered.allowed = true;
        root.sync.allow();
        self.remember(&roots)
    }

    async fn flush(&self, places: &[String]) -> Result<(), Problem> {
        self.flush_at(places).await
    }

    async fn end(&self) {
        self.stop.cancel();
        let roots = std::mem::take(&mut *self.lock());
        let ended = tokio::task::spawn_blocking(move || roots.values().for_each(|root| root.sync.end()));
        if timeout(END, ended).await.is_err() {
            tracing::warn!("a bind mount is still at work while its session's directory is deleted");
        }
    }
}

/// The first reading of the environment's side makes the place.
async fn wait_for_place(path: &Path, sync: &Sync) -> Result<(), Problem> {
    let (sender, opened) = oneshot::channel();
    sync.when_placed(move || {
        let _ = sender.send(());
    });
    timeout(FLUSH, opened)
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| unusable(path, "the environment does not make a place for it"))
}

/// Why a root does not go on.
fn stands(path: &Path, phase: &Phase) -> Problem {
    let shown = path.display();
    match phase {
        Phase::TooMuch { entries, bytes, largest } => {
            let largest: Vec<String> = largest
                .iter()
                .map(|(path, entries, bytes)| format!("{path} ({entries} files, {})", bytesize(*bytes)))
                .collect();
            Problem::new(
                ErrorCode::MountTooLarge,
                format!(
                    "{shown} has {entries} files and {}, more than mounts.max-files or mounts.max-bytes allows; \
                     most of it is in {}",
                    bytesize(*bytes),
                    largest.join(", ")
                ),
                format!(
                    "Name what the container does not need in .oversideignore there (as in .dockerignore), or bring it all \
                     the same: `overside mounts allow {shown}`. `overside settings set mounts.max-files …` raises the limit."
                ),
            )
        }
        Phase::Halted(side, halt) => {
            let side = match side {
                Side::Laptop => "on this machine",
                Side::Environment => "in the environment",
            };
            let what = match halt {
                Halt::Vanished => "is gone",
                Halt::Emptied => "is empty",
                Halt::ChangedKind => "has become something else",
            };
            Problem::new(
                ErrorCode::MountFailed,
                format!("{shown} {what} {side}, and is not synced until you decide"),
                format!(
                    "`overside mounts restore {shown}` brings it back from the other side, `overside mounts accept {shown}` \
                     deletes it there, too."
                ),
            )
        }
        Phase::Failed(reason) => unusable(path, reason),
        _ => unusable(path, "the environment is gone"),
    }
}

fn bytesize(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

fn status(path: &Path, sync: &Sync, read_only: bool) -> MountStatus {
    let now = sync.status();
    let (state, problem) = match &now.phase {
        Phase::Waiting => (MountState::Waiting, None),
        Phase::Reading => (MountState::Scanning, None),
        Phase::Bringing(_) => (MountState::Syncing, None),
        Phase::Alike => (MountState::Synced, None),
        phase @ (Phase::Halted(..) | Phase::TooMuch { .. }) => (MountState::Halted, Some(stands(path, phase))),
        phase @ Phase::Failed(_) => (MountState::Failed, Some(stands(path, phase))),
    };
    let progress = match now.phase {
        Phase::Bringing(progress) => Some(progress),
        _ => None,
    };
    let rules = now.invalid_rules.iter().map(|(line, reason)| format!("{IGNORE_FILE}, line {line}: {reason}"));
    let files = now.problems.iter().map(|(path, reason)| format!("{path}: {reason}"));
    let path = path.to_string_lossy().into_owned();
    MountStatus {
        state,
        read_only,
        files: now.entries,
        bytes: now.bytes,
        left_files: progress.map_or(0, |progress| progress.all_files - progress.files),
        left_bytes: progress.map_or(0, |progress| progress.all_bytes.saturating_sub(progress.bytes)),
        conflicts: now.conflicts.iter().take(NAMED).map(ToString::to_string).collect(),
        problems: rules.chain(files).take(NAMED).collect(),
        problem,
        path,
    }
}
