//! What the last engine told of itself while it was fresh, for answers while there is none.

use std::path::Path;

use overside_config::write_atomically;
use overside_tunnel::Link;
use serde_json::{Map, Value, json};

use crate::docker;

/// Headers of `_ping` by which clients choose their API version and builder.
const PING_HEADERS: [&str; 6] = ["api-version", "docker-experimental", "ostype", "builder-version", "swarm", "server"];
/// Numbers in `/info` that are zero for a fresh engine, whatever has happened by the time of the question.
const COUNTS: [&str; 5] = ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images"];

/// Reads the facts that an earlier daemon kept.
pub(crate) fn load(path: &Path) -> Value {
    fs_err::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
}

/// Keeps the facts. Losing them costs one wake-up.
pub(crate) fn save(path: &Path, facts: &Value) {
    if let Err(error) = write_atomically(path, facts.to_string().as_bytes()) {
        tracing::warn!(%error, "cannot keep the engine's facts");
    }
}

/// Asks a fresh engine.
pub(crate) async fn ask(link: &Link) -> Result<Value, overside_model::Problem> {
    let (headers, _) = docker::get(link, "/_ping").await?;
    let ping: Map<String, Value> = headers
        .iter()
        .filter(|(name, _)| PING_HEADERS.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.into())))
        .collect();
    let version = docker::get_json(link, "/version").await?;
    let mut info = docker::get_json(link, "/info").await?;
    if let Some(info) = info.as_object_mut() {
        for count in COUNTS {
            info.insert(count.to_owned(), 0.into());
        }
    }
    Ok(json!({ "ping": ping, "version": version, "info": info }))
}
