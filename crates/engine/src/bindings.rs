//! Which containers of one environment have files of the laptop. Whoever hears of the end of one that has none waits for
//! nothing, and costs the engine no call.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use overside_docker_api::Mounted;
use overside_model::Problem;
use tokio::{task::JoinHandle, time::timeout};

use crate::{hub::Hub, mounts::Files};

/// Containers that are gone and still known: clients hear of their end later than the engine's events tell of it.
const MOST_GONE: usize = 256;
/// Commands in containers that are known. A command that waits longer than so many others ends without a flush of its own.
const MOST_EXECS: usize = 1024;

/// How long a command in a container that runs waits for what was changed on the laptop before it.
const FRESH: Duration = Duration::from_secs(10);

/// What is known of one environment's mounts.
pub(crate) struct Bindings {
    hub: Weak<Hub>,
    files: Arc<dyn Files>,
    known: Mutex<Known>,
    /// Why the last flush did not bring everything.
    problem: Mutex<Option<Problem>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that have places, the latest last.
    containers: VecDeque<Entry>,
    /// Places that volumes bind, by the volume's name.
    volumes: BTreeMap<String, String>,
    /// Commands in containers by identifier, and their container's places.
    execs: VecDeque<(String, Vec<String>)>,
}

#[derive(Debug)]
struct Entry {
    id: String,
    name: String,
    places: Vec<String>,
    gone: bool,
}

impl Known {
    /// What a client means by a name, an identifier or the beginning of one. What exists comes before what is gone.
    fn find(&self, name: &str) -> Option<&Entry> {
        let name = name.trim_start_matches('/');
        let rank = |entry: &Entry| {
            let exact = entry.id == name || entry.name == name;
            (exact || entry.id.starts_with(name)).then_some((entry.gone, !exact))
        };
        let ranked = self.containers.iter().rev().filter_map(|entry| Some((rank(entry)?, entry)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    fn put(&mut self, id: &str, name: &str, places: Vec<String>) {
        self.containers.retain(|entry| entry.id != id);
        if !places.is_empty() {
            self.containers.push_back(Entry { id: id.to_owned(), name: name.to_owned(), places, gone: false });
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.containers.iter_mut().find(|entry| entry.id == id) {
            entry.gone = true;
        }
        let gone = self.containers.iter().filter(|entry| entry.gone).count();
        if gone > MOST_GONE
            && let Some(oldest) = self.containers.iter().position(|entry| entry.gone)
        {
            self.containers.remove(oldest);
        }
    }

    fn places(&self, mounted: &Mounted) -> Vec<String> {
        let of_volumes = mounted.volumes.iter().filter_map(|name| self.volumes.get(name));
        let mut places: Vec<String> = mounted.places.iter().chain(of_volumes).cloned().collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl Bindings {
    /// Nothing is known yet.
    pub(crate) fn new(hub: Weak<Hub>, files: Arc<dyn Files>) -> Self {
        Self { hub, files, known: Mutex::default(), problem: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who brings files.
    pub(crate) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// Takes what a reading of the whole environment says, in the place of all that was known, and goes on with it.
    pub(crate) async fn read(&self, volumes: Vec<(String, String)>, containers: Vec<(String, String, Mounted)>) {
        let places = {
            let mut known = self.known();
            known.volumes = volumes.into_iter().collect();
            for entry in &mut known.containers {
                entry.gone = true;
            }
            for (id, name, mounted) in containers {
                let places = known.places(&mounted);
                known.put(&id, &name, places);
            }
            let used = known.containers.iter().filter(|entry| !entry.gone).flat_map(|entry| &entry.places);
            let mut places: Vec<String> = used.chain(known.volumes.values()).cloned().collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        self.files.resume(&places).await;
    }

    /// Takes what an inspection says of a container, and returns the places that it has.
    pub(crate) fn learn(&self, id: &str, name: &str, mounted: &Mounted) -> Vec<String> {
        let mut known = self.known();
        let places = known.places(mounted);
        known.put(id, name, places.clone());
        places
    }

    /// A container was created with these places.
    pub(crate) fn created(&self, id: &str, name: &str, places: Vec<String>) {
        self.known().put(id, name, places);
    }

    /// A container is gone; who waits for its end still finds its places.
    pub(crate) fn removed(&self, id: &str) {
        self.known().remove(id);
    }

    /// A volume was created that binds this place.
    pub(crate) fn volume_created(&self, name: String, place: String) {
        self.known().volumes.insert(name, place);
    }

    pub(crate) fn volume_removed(&self, name: &str) {
        self.known().volumes.remove(name);
    }

    /// Places of those of these volumes that bind some.
    pub(crate) fn of_volumes(&self, names: &[String]) -> Vec<String> {
        let known = self.known();
        names.iter().filter_map(|name| known.volumes.get(name).cloned()).collect()
    }

    /// A command was prepared in a container with these places.
    pub(crate) fn exec_created(&self, id: String, places: Vec<String>) {
        let execs = &mut self.known().execs;
        execs.push_back((id, places));
        if execs.len() > MOST_EXECS {
            execs.pop_front();
        }
    }

    /// The places of a container, by whatever a client calls it.
    pub(crate) fn of_container(&self, name: &str) -> Vec<String> {
        self.known().find(name).map(|entry| entry.places.clone()).unwrap_or_default()
    }

    /// The places of the container in which a command runs.
    pub(crate) fn of_exec(&self, id: &str) -> Vec<String> {
        let known = self.known();
        known.execs.iter().find(|(known, _)| known == id).map(|(_, places)| places.clone()).unwrap_or_default()
    }

    /// Waits until what was written at these places is on the laptop. What stays behind is told in the status: what a client
    /// asked for has happened all the same.
    pub(crate) async fn flush(&self, places: &[String]) {
        if places.is_empty() {
            return;
        }
        let problem = self.files.flush(places).await.err();
        if let Some(problem) = &problem {
            tracing::warn!(%problem, "what containers wrote is not all on the laptop");
        }
        let changed = {
            let mut present = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = *present != problem;
            *present = problem;
            changed
        };
        if changed && let Some(hub) = self.hub.upgrade() {
            hub.show();
        }
    }

    /// Waits until a container that runs has what was changed on the laptop before. Where that cannot be, or takes long, the
    /// container goes on with what it has.
    pub(crate) async fn refresh(&self, container: &str) {
        let places = self.of_container(container);
        if places.is_empty() {
            return;
        }
        match timeout(FRESH, self.files.ready(&places, None)).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::debug!(%problem, container, "a command finds what was there before"),
            Err(_) => tracing::debug!(container, "a command does not wait for all that has changed"),
        }
    }

    /// Waits for files of containers as a task; None if there is nothing to wait for.
    pub(crate) fn begin_flush(self: &Arc<Self>, places: Vec<String>) -> Option<JoinHandle<()>> {
        if places.is_empty() {
            return None;
        }
        let bindings = self.clone();
        Some(tokio::spawn(async move { bindings.flush(&places).await }))
    }

    /// Why the last flush did not bring everything.
    pub(crate) fn problem(&self) -> Option<Problem> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bindings").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use overside_docker_api::HostBind;
    use overside_model::{MountDecision, MountStatus};

    use super::*;

    struct Idle;

    #[async_trait]
    impl Files for Idle {
        async fn place(&self, _: &[HostBind]) -> Result<Vec<String>, Problem> {
            Ok(Vec::new())
        }
        async fn resume(&self, _: &[String]) {}
        async fn ready(&self, _: &[String], _: Option<(u32, u32)>) -> Result<(), Problem> {
            Ok(())
        }
        async fn flush(&self, _: &[String]) -> Result<(), Problem> {
            Ok(())
        }
        async fn end(&self) {}
        fn status(&self) -> Vec<MountStatus> {
            Vec::new()
        }
        fn decide(&self, _: &MountDecision) -> Result<(), Problem> {
            Ok(())
        }
    }

    fn bindings() -> Bindings {
        Bindings::new(Weak::new(), Arc::new(Idle))
    }

    fn mounted(places: &[&str], volumes: &[&str]) -> Mounted {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Mounted { places: owned(places), volumes: owned(volumes) }
    }

    #[test]
    fn a_container_is_found_by_all_that_clients_call_it_also_when_it_is_gone() {
        let bindings = bindings();
        bindings.learn("abc123", "web", &mounted(&["/a"], &[]));
        bindings.learn("def456", "abc", &mounted(&["/b"], &[]));
        for name in ["abc123", "web", "/web", "abc12"] {
            assert_eq!(bindings.of_container(name), ["/a"], "{name}");
        }
        assert_eq!(bindings.of_container("abc"), ["/b"], "a name comes before the beginning of an identifier");
        bindings.removed("abc123");
        assert_eq!(bindings.of_container("web"), ["/a"]);
        bindings.learn("fff", "web", &mounted(&["/new"], &[]));
        assert_eq!(bindings.of_container("web"), ["/new"], "the name's present owner");
        assert_eq!(bindings.of_container("abc123"), ["/a"]);
        assert!(bindings.of_container("other").is_empty());
    }

    #[test]
    fn containers_that_are_gone_are_forgotten_one_day() {
        let bindings = bindings();
        bindings.learn("kept", "kept", &mounted(&["/k"], &[]));
        for index in 0..=MOST_GONE {
            let id = format!("id{index}.");
            bindings.learn(&id, &id, &mounted(&["/a"], &[]));
            bindings.removed(&id);
        }
        assert!(bindings.of_container("id0.").is_empty());
        assert_eq!(bindings.of_container("id1."), ["/a"]);
        assert_eq!(bindings.of_container("kept"), ["/k"]);
    }

    #[test]
    fn volumes_that_bind_a_place_count_as_the_place() {
        let bindings = bindings();
        bindings.volume_created("data".to_owned(), "/d".to_owned());
        assert_eq!(bindings.learn("a", "a", &mounted(&["/d", "/x"], &["data", "other"])), ["/d", "/x"]);
        assert_eq!(bindings.of_volumes(&["other".to_owned(), "data".to_owned()]), ["/d"]);
        bindings.volume_removed("data");
        assert!(bindings.learn("b", "b", &mounted(&[], &["data"])).is_empty());
    }

    #[test]
    fn a_command_has_its_containers_places() {
        let bindings = bindings();
        for index in 0..=MOST_EXECS {
            bindings.exec_created(format!("e{index}"), vec![format!("/{index}")]);
        }
        assert!(bindings.of_exec("e0").is_empty());
        assert_eq!(bindings.of_exec("e1"), ["/1"]);
    }

    #[test]
    fn where_nothing_is_mounted_nothing_is_waited_for() {
        let bindings = Arc::new(bindings());
        assert!(bindings.learn("a", "a", &mounted(&[], &[])).is_empty());
        assert!(bindings.begin_flush(bindings.of_container("a")).is_none());
    }
}
