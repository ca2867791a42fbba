//! The Docker CLI's context `overside`: made and selected while Overside is on, the previous one restored afterwards.
//!
//! The CLI's store is `contexts/meta/<sha256 of the name>/meta.json` and the member `currentContext` of `config.json`, both
//! under `DOCKER_CONFIG` or `~/.docker`. Everything else in these files is the user's and is kept as it is.

mod target;

use std::{
    env, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use target::{ChosenBy, Target};

use crate::write_atomically;

/// Name of the context.
const NAME: &str = "overside";
/// What the CLI calls the context that is no context.
const DEFAULT: &str = "default";

/// Why the Docker CLI's configuration could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// No `DOCKER_CONFIG` and no home directory.
    #[error("there is neither DOCKER_CONFIG nor a home directory")]
    NoDirectory,
    /// The CLI's file is not JSON; it is left as it is.
    #[error("{} is not valid JSON and is left as it is: {source}", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// The file's top level is not an object.
    #[error("{} is not a JSON object and is left as it is", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The context of one Overside.
#[derive(Debug, Clone)]
pub struct DockerContext {
    docker_config: PathBuf,
    socket: PathBuf,
    memory: PathBuf,
}

impl DockerContext {
    /// The context that leads to `socket`; `memory` is the file that remembers which context was current before.
    ///
    /// # Errors
    /// [`ContextError::NoDirectory`].
    pub fn new(socket: &Path, memory: &Path) -> Result<Self, ContextError> {
        let docker_config = env::var_os("DOCKER_CONFIG")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .or_else(|| dirs::home_dir().map(|home| home.join(".docker")))
            .ok_or(ContextError::NoDirectory)?;
        Ok(Self::at(docker_config, socket, memory))
    }

    /// As [`Self::new`], with the CLI's directory given.
    pub fn at(docker_config: impl Into<PathBuf>, socket: &Path, memory: &Path) -> Self {
        Self { docker_config: docker_config.into(), socket: socket.to_owned(), memory: memory.to_owned() }
    }

    /// Makes the context and makes it current. The context that was current is remembered first, so that a crash at any
    /// point leaves enough to restore it. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ContextError`]; a file that is not understood is left as it is.
    pub fn select(&self) -> Result<(), ContextError> {
        self.write_meta()?;
        let mut config = self.read_config()?;
        let current = config.get("currentContext").and_then(Value::as_str).unwrap_or(DEFAULT).to_owned();
        if current == NAME {
            return Ok(());
        }
        write_atomically(&self.memory, json!({ "previous": current }).to_string().as_bytes())?;
        config.insert("currentContext".to_owned(), NAME.into());
        self.write_config(&config)
    }

    /// Makes the previous context current again, unless the user has chosen another one in the meantime. Without a memory
    /// of a previous one it does nothing; a previous one that is gone by now becomes the default.
    ///
    /// # Errors
    /// [`ContextError`]; the memory is then kept for the next attempt.
    pub fn restore(&self) -> Result<(), ContextError> {
        let previous = match fs_err::read(&self.memory) {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut config = self.read_config()?;
        if config.get("currentContext").and_then(Value::as_str) == Some(NAME) {
            let previous = previous.as_ref().and_then(|memory| memory.get("previous")).and_then(Value::as_str);
            match previous.filter(|name| *name != DEFAULT && self.meta(name).exists()) {
                Some(name) => config.insert("currentContext".to_owned(), name.into()),
                None => config.shift_remove("currentContext"),
            };
            self.write_config(&config)?;
        }
        fs_err::remove_file(&self.memory)?;
        Ok(())
    }

    fn meta(&self, name: &str) -> PathBuf {
        let digest = Sha256::digest(name.as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.docker_config.join("contexts").join("meta").join(hex).join("meta.json")
    }

    fn write_meta(&self) -> Result<(), ContextError> {
        let scheme = if cfg!(windows) { "npipe" } else { "unix" };
        let meta = json!({
            "Name": NAME,
            "Metadata": { "Description": "Engine elsewhere, through Overside" },
            "Endpoints": { "docker": { "Host": format!("{scheme}://{}", self.socket.display()), "SkipTLSVerify": false } },
        });
        let path = self.meta(NAME);
        let text = meta.to_string();
        if fs_err::read(&path).is_ok_and(|present| present == text.as_bytes()) {
            return Ok(());
        }
        Ok(write_atomically(&path, text.as_bytes())?)
    }

    fn config_file(&self) -> PathBuf {
        self.docker_config.join("config.json")
    }

    fn read_config(&self) -> Result<Map<String, Value>, ContextError> {
        let path = self.config_file();
        let bytes = match fs_err::read(&path) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => return Ok(Map::new()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(error.into()),
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(config)) => Ok(config),
            Ok(_) => Err(ContextError::NotAnObject { path }),
            Err(source) => Err(ContextError::NotJson { path, source }),
        }
    }

    fn write_config(&self, config: &Map<String, Value>) -> Result<(), ContextError> {
        // The CLI indents with tabs; a diff of the user's dotfiles shows only what changed.
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(config, &mut serializer).map_err(io::Error::from)?;
        // A config.json that is a link into a dotfiles repository stays one.
        let path = fs_err::canonicalize(self.config_file()).unwrap_or_else(|_| self.config_file());
        Ok(write_atomically(&path, &bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        context: DockerContext,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let context =
            DockerContext::at(path.join("docker"), Path::new("/run/x/docker.sock"), &path.join("memory.json"));
        Fixture { directory, context }
    }

    impl Fixture {
        fn write(&self, text: &str) {
            fs_err::create_dir_all(self.directory.path().join("docker")).unwrap();
            fs_err::write(self.context.config_file(), text).unwrap();
        }
        fn config(&self) -> Value {
            serde_json::from_slice(&fs_err::read(self.context.config_file()).unwrap()).unwrap()
        }
    }

    #[test]
    fn everything_else_in_the_users_file_survives_selecting_and_restoring() {
        let f = fixture();
        f.write(r#"{"auths":{"r":{"auth":"eA=="}},"credsStore":"pass","future":{"b":1,"a":2}}"#);
        let before = f.config();
        f.context.select().unwrap();
        assert_eq!(f.config()["currentContext"], "overside");
        assert_eq!(f.config()["future"], before["future"]);
        f.context.restore().unwrap();
        assert_eq!(f.config(), before);
    }

    #[test]
    fn the_previous_context_comes_back_if_it_still_exists() {
        let f = fixture();
        f.write(r#"{"currentContext":"work"}"#);
        let meta = f.context.meta("work");
        fs_err::create_dir_all(meta.parent().unwrap()).unwrap();
        fs_err::write(&meta, "{}").unwrap();
        f.context.select().unwrap();
        f.context.select().unwrap();
        f.context.restore().unwrap();
        assert_eq!(f.config()["currentContext"], "work");
        f.context.select().unwrap();
        fs_err::remove_file(&meta).unwrap();
        f.context.restore().unwrap();
        assert_eq!(f.config().get("currentContext"), None);
    }

    #[test]
    fn a_context_that_the_user_chose_in_the_meantime_is_left_alone() {
        let f = fixture();
        f.context.select().unwrap();
        f.write(r#"{"currentContext":"other"}"#);
        f.context.restore().unwrap();
        assert_eq!(f.config()["currentContext"], "other");
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_as_it_is() {
        let f = fixture();
        f.write("{ not json");
        assert!(matches!(f.context.select(), Err(ContextError::NotJson { .. })));
        assert_eq!(fs_err::read_to_string(f.context.config_file()).unwrap(), "{ not json");
    }
}
