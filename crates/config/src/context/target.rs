//! Where a `docker` that is started here would go, and who says so.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ContextError, DEFAULT, DockerContext};

/// Where the default context leads.
const WELL_KNOWN: &str = if cfg!(windows) { "npipe:////./pipe/docker_engine" } else { "unix:///var/run/docker.sock" };

/// Who decides where `docker` goes; the first of these that says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The variable `DOCKER_HOST`.
    HostVariable,
    /// The variable `DOCKER_CONTEXT`.
    ContextVariable,
    /// The context that is current.
    Current,
    /// Nobody.
    Default,
}

/// Where `docker` goes without `--host` and `--context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who says so.
    pub chosen_by: ChosenBy,
    /// The context's name.
    pub context: String,
    /// The engine's address, as the context or the variable has it. None where there is no such context.
    pub host: Option<String>,
}

impl DockerContext {
    /// Where `docker` goes with these values of `DOCKER_HOST` and `DOCKER_CONTEXT`. Nothing is connected, and nothing written.
    ///
    /// # Errors
    /// [`ContextError`] where the CLI's files are not understood.
    pub fn target(&self, host: Option<&str>, context: Option<&str>) -> Result<Target, ContextError> {
        let said = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
        if let Some(host) = said(host) {
            return Ok(Target { chosen_by: ChosenBy::HostVariable, context: DEFAULT.to_owned(), host: Some(host) });
        }
        let (chosen_by, context) = if let Some(name) = said(context) {
            (ChosenBy::ContextVariable, name)
        } else {
            let config = self.read_config()?;
            match said(config.get("currentContext").and_then(Value::as_str)) {
                Some(name) => (ChosenBy::Current, name),
                None => (ChosenBy::Default, DEFAULT.to_owned()),
            }
        };
        let host = if context == DEFAULT { Some(WELL_KNOWN.to_owned()) } else { self.host_of(&context)? };
        Ok(Target { chosen_by, context, host })
    }

    /// The address in a context's file.
    fn host_of(&self, context: &str) -> Result<Option<String>, ContextError> {
        let path = self.meta(context);
        let Ok(bytes) = fs_err::read(&path) else { return Ok(None) };
        let meta: Value = serde_json::from_slice(&bytes).map_err(|source| ContextError::NotJson { path, source })?;
        Ok(meta.pointer("/Endpoints/docker/Host").and_then(Value::as_str).map(str::to_owned))
    }
}

impl Target {
    /// Whether it ends at `socket`, through links as well.
    pub fn leads_to(&self, socket: &Path) -> bool {
        let host = self.host.as_deref().unwrap_or_default();
        let Some(path) = ["unix://", "npipe://"].iter().find_map(|scheme| host.strip_prefix(scheme)) else {
            return false;
        };
        let real = |path: &Path| fs_err::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
        Path::new(path) == socket || real(Path::new(path)) == real(socket)
    }

    /// The address as it can be shown: without the user and the password that it may have.
    pub fn shown(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        let (scheme, rest) = host.split_once("://").unwrap_or_default();
        // The last @ of the authority: a password may have one, too.
        let authority = rest.find('/').unwrap_or(rest.len());
        Some(match rest[..authority].rfind('@') {
            Some(end) => format!("{scheme}://{}", &rest[end + 1..]),
            None if rest.is_empty() => "an address that docker does not understand".to_owned(),
            None => host.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        context: DockerContext,
        socket: PathBuf,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let context = DockerContext::at(directory.path().join("docker"), &socket, &directory.path().join("memory"));
        Fixture { directory, context, socket }
    }

    #[test]
    fn the_variables_come_before_the_current_context_and_that_before_the_default() {
        let f = fixture();
        let target = f.context.target(None, Some("")).unwrap();
        assert_eq!((target.chosen_by, target.host.as_deref()), (ChosenBy::Default, Some(WELL_KNOWN)));
        assert!(!target.leads_to(&f.socket));
        f.context.select().unwrap();
        let target = f.context.target(None, None).unwrap();
        assert_eq!((target.chosen_by, target.context.as_str()), (ChosenBy::Current, "overside"));
        assert!(target.leads_to(&f.socket));
        let target = f.context.target(None, Some("default")).unwrap();
        assert_eq!((target.chosen_by, target.host.as_deref()), (ChosenBy::ContextVariable, Some(WELL_KNOWN)));
        let target = f.context.target(Some("tcp://other:2375"), Some("overside")).unwrap();
        assert_eq!((target.chosen_by, target.leads_to(&f.socket)), (ChosenBy::HostVariable, false));
    }

    #[test]
    fn a_context_that_is_gone_leads_nowhere() {
        let f = fixture();
        let target = f.context.target(None, Some("gone")).unwrap();
        assert_eq!((target.host.as_deref(), target.leads_to(&f.socket)), (None, false));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_socket_leads_to_it() {
        let f = fixture();
        fs_err::write(&f.socket, "").unwrap();
        let link = f.directory.path().join("link.sock");
        fs_err::os::unix::fs::symlink(&f.socket, &link).unwrap();
        let host = format!("unix://{}", link.display());
        assert!(f.context.target(Some(&host), None).unwrap().leads_to(&f.socket));
    }

    #[test]
    fn an_address_is_shown_without_its_user_and_password() {
        let shown = |host: &str| fixture().context.target(Some(host), None).unwrap().shown().unwrap();
        assert_eq!(shown("tcp://ann:p@ss@other:2375/a@b"), "tcp://other:2375/a@b");
        assert_eq!(shown("ssh://ann@other"), "ssh://other");
        assert_eq!(shown("unix:///run/d@cker.sock"), "unix:///run/d@cker.sock");
        assert!(!shown("hunter2").contains("hunter2"));
    }
}
