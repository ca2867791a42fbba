//! What the daemon does around a call of a Docker client, so that ports and files are as the client expects them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use http::Method;
use overside_docker_api::{BodyKind, Bound, Container, LocalAnswer, Route, User, created, parameter};
use overside_model::Problem;
use overside_proxy::{Around, Call, Flush, Keep};

use crate::{
    bind_sources,
    containers::{Publishing, abandon, inspect},
    docker,
    environment::Environment,
};

/// Longest file of users or groups that is read, in bytes.
const MAX_USERS: usize = 1 << 20;

/// What a call does, as far as ports and files depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Something is created by a body that may bind files.
    Creates,
    /// A container starts.
    Starts,
    /// A container ends and starts.
    Restarts,
    /// A container ends, or is removed.
    Ends,
    /// A command is prepared in a container that runs.
    Prepares,
    /// Files are copied out of a container.
    CopiesFrom,
    /// Files are copied into a container.
    CopiesTo,
}

impl Deed {
    fn of(method: &Method, route: &Route<'_>) -> Option<Self> {
        match route.shape {
            "/containers/{}/start" => Some(Self::Starts),
            "/containers/{}/restart" => Some(Self::Restarts),
            "/containers/{}/stop" | "/containers/{}/kill" => Some(Self::Ends),
            "/containers/{}" if method == Method::DELETE => Some(Self::Ends),
            "/containers/{}/exec" => Some(Self::Prepares),
            "/containers/{}/archive" if method == Method::PUT => Some(Self::CopiesTo),
            "/containers/{}/archive" => Some(Self::CopiesFrom),
            _ => route.body.map(|_| Self::Creates),
        }
    }
}

/// Places in the environment, once they are known.
type Places = Arc<Mutex<Vec<String>>>;

/// One call that something is done around.
pub(crate) struct Errand {
    environment: Arc<Environment>,
    deed: Deed,
    body: Option<BodyKind>,
    /// The container, as the client says it; empty where the call has none.
    name: String,
    /// Where the call changes which containers run.
    publishing: Option<Publishing>,
    /// Those of what is created.
    places: Places,
}

impl Errand {
    /// For a call that goes to this environment; None if nothing is to be done around it.
    pub(crate) fn of(call: &Call<'_>, environment: &Arc<Environment>) -> Option<Self> {
        let deed = Deed::of(call.method, &call.route)?;
        let name = call.route.name.unwrap_or_default().to_owned();
        let publishing = matches!(deed, Deed::Starts | Deed::Restarts | Deed::Ends).then(|| Publishing {
            environment: environment.clone(),
            name: name.clone(),
            begins: deed != Deed::Ends,
            reserved: Mutex::default(),
        });
        let environment = environment.clone();
        Some(Self { environment, deed, body: call.route.body, name, publishing, places: Places::default() })
    }

    /// Takes the answer to a call that creates something, so that what it has of the laptop is known without asking for it.
    pub(crate) fn keep(&self, call: &Call<'_>) -> Option<Keep> {
        let bindings = self.environment.containers.bindings.clone();
        let places = self.places.clone();
        let places = move || std::mem::take(&mut *places.lock().unwrap_or_else(PoisonError::into_inner));
        match self.body.filter(|_| self.deed == Deed::Creates)? {
            BodyKind::Container => {
                let name = parameter(call.query.unwrap_or_default(), "name").unwrap_or_default().into_owned();
                Some(Box::new(move |answer: LocalAnswer| {
                    let places = places();
                    if let Some(id) = created(&answer.body).filter(|_| !places.is_empty()) {
                        bindings.created(&id, &name, places);
                    }
                }))
            }
            BodyKind::Volume => Some(Box::new(move |answer: LocalAnswer| {
                if let Some((name, place)) = created(&answer.body).zip(places().pop()) {
                    bindings.volume_created(name, place);
                }
            })),
            BodyKind::Start | BodyKind::Service => None,
        }
    }

    /// The places that a container has.
    fn learn(&self, container: &Container) -> Vec<String> {
        self.environment.containers.bindings.learn(&container.id, &container.name, &container.mounted)
    }

    /// Waits until a container that does not run finds its files as they are on the laptop.
    async fn ready(&self, container: &Container, places: &[String]) -> Result<(), Problem> {
        if places.is_empty() {
            return Ok(());
        }
        self.environment.files().ready(places, owner(&self.environment, container).await).await
    }

    /// A container begins: `container` is as it was before.
    async fn begin(&self, container: &Container) -> Result<(), Problem> {
        let places = self.learn(container);
        if let Some(publishing) = &self.publishing {
            publishing.before(container).await?;
        }
        self.ready(container, &places).await
    }
}

#[async_trait]
impl Around for Errand {
    async fn before(&self) -> Result<(), Problem> {
        let link = &self.environment.link;
        match self.deed {
            Deed::Starts | Deed::Restarts => {
                // That there is no such container, the engine says.
                let Some(container) = inspect(link, &self.name).await? else { return Ok(()) };
                let begun = self.begin(&container).await;
                if begun.is_err() {
                    abandon(link, &container).await;
                }
                begun
            }
            Deed::CopiesFrom | Deed::CopiesTo => {
                // The engine mounts what a container has for as long as it copies.
                if self.environment.containers.bindings.of_container(&self.name).is_empty() {
                    return Ok(());
                }
                match inspect(link, &self.name).await?.filter(|container| !container.running) {
                    Some(container) => self.ready(&container, &self.learn(&container)).await,
                    None => {
                        self.environment.containers.bindings.refresh(&self.name).await;
                        Ok(())
                    }
                }
            }
            Deed::Prepares => {
                self.environment.containers.bindings.refresh(&self.name).await;
                Ok(())
            }
            Deed::Creates | Deed::Ends => Ok(()),
        }
    }

    async fn place(&self, bound: Bound) -> Result<BTreeMap<String, String>, Problem> {
        let bindings = &self.environment.containers.bindings;
        let files = bindings.files();
        let of_volumes = bindings.of_volumes(&bound.volumes);
        if bound.binds.is_empty() && of_volumes.is_empty() {
            return Ok(BTreeMap::new());
        }
        bind_sources::look(&bound.binds).await?;
        let places = if bound.binds.is_empty() { Vec::new() } else { files.place(&bound.binds).await? };
        let at_once = match self.body {
            // The engine may copy an image's files into volumes that it takes for empty.
            Some(BodyKind::Container) => {
                let through = bound.binds.iter().zip(&places).filter(|(bind, _)| bind.through_volume);
                through.map(|(_, place)| place.clone()).chain(of_volumes.iter().cloned()).collect()
            }
            // What is created runs without another call.
            Some(BodyKind::Start | BodyKind::Service) => places.clone(),
            Some(BodyKind::Volume) | None => Vec::new(),
        };
        if !at_once.is_empty() {
            files.ready(&at_once, None).await?;
        }
        let all = places.iter().cloned().chain(of_volumes).collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(bound.binds.into_iter().map(|bind| bind.path).zip(places).collect())
    }

    async fn after(&self, succeeded: bool) -> Result<(), Problem> {
        let published = match &self.publishing {
            Some(publishing) => publishing.after(succeeded).await,
            None => Ok(()),
        };
        let bindings = &self.environment.containers.bindings;
        match self.deed {
            // One that had ended by itself has written as well.
            Deed::Ends => bindings.flush(&bindings.of_container(&self.name)).await,
            Deed::Restarts | Deed::CopiesTo if succeeded => bindings.flush(&bindings.of_container(&self.name)).await,
            _ => {}
        }
        published
    }
}

/// Takes the answer to a call that prepares a command, so that it is known in whose container that runs.
pub(crate) fn keep_exec(call: &Call<'_>, environment: &Arc<Environment>) -> Option<Keep> {
    let name = call.route.name.filter(|_| call.route.shape == "/containers/{}/exec")?;
    let bindings = environment.containers.bindings.clone();
    let places = Some(bindings.of_container(name)).filter(|places| !places.is_empty())?;
    Some(Box::new(move |answer: LocalAnswer| {
        if let Some(id) = created(&answer.body) {
            bindings.exec_created(id, places);
        }
    }))
}

/// What has to be on the laptop before the client hears of an end.
pub(crate) fn flush(call: &Call<'_>, environment: &Arc<Environment>) -> Option<Flush> {
    let of_exec = match call.route.shape {
        "/containers/{}/wait" | "/containers/{}/attach" | "/containers/{}/attach/ws" => false,
        "/exec/{}/start" => true,
        _ => return None,
    };
    let name = call.route.name?.to_owned();
    let bindings = environment.containers.bindings.clone();
    // Looked up at the end: a client waits for a container before it starts it.
    Some(Box::new(move || {
        let places = if of_exec { bindings.of_exec(&name) } else { bindings.of_container(&name) };
        bindings.begin_flush(places)
    }))
}

/// Who a container's processes are; None for root, and for whom the engine does not find either.
async fn owner(environment: &Environment, container: &Container) -> Option<(u32, u32)> {
    let user = match User::of(&container.user) {
        User::Named { group } => {
            let read = async |path| {
                let file = docker::file(&environment.link, &container.id, path, MAX_USERS).await;
                file.unwrap_or_else(|problem| {
                    tracing::debug!(%problem, path, "a container's users are not known");
                    None
                })
            };
            let users = read("/etc/passwd").await.unwrap_or_default();
            let groups = if group { read("/etc/group").await.unwrap_or_default() } else { String::new() };
            User::resolve(&container.user, &users, &groups)?
        }
        user => user,
    };
    match user {
        User::Numbers(uid, gid) => Some((uid, gid)),
        User::Root | User::Named { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_begin_or_end_containers_or_bind_files_are_known_by_their_route() {
        let deed = |method: Method, path: &str| Deed::of(&method, &Route::find(&method, path));
        for (method, path, expected) in [
            (Method::POST, "/v1.41/containers/x/start", Deed::Starts),
            (Method::POST, "/v1.20/containers/x/start", Deed::Starts),
            (Method::POST, "/containers/x/restart", Deed::Restarts),
            (Method::POST, "/containers/x/kill", Deed::Ends),
            (Method::DELETE, "/containers/x", Deed::Ends),
            (Method::POST, "/containers/x/exec", Deed::Prepares),
            (Method::PUT, "/containers/x/archive", Deed::CopiesTo),
            (Method::HEAD, "/containers/x/archive", Deed::CopiesFrom),
            (Method::POST, "/containers/create", Deed::Creates),
            (Method::POST, "/volumes/create", Deed::Creates),
        ] {
            assert_eq!(deed(method, path), Some(expected), "{path}");
        }
        assert_eq!(deed(Method::POST, "/containers/x/wait"), None);
        assert_eq!(deed(Method::GET, "/containers/x/json"), None);
    }
}
