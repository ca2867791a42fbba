//! Being a plugin of the Docker CLI: `docker overside …` runs a program called `docker-overside`.

use std::{env, ffi::OsString, path::Path};

use serde_json::{Value, json};

/// The argument by which the Docker CLI asks a plugin what it is.
const METADATA: &str = "docker-cli-plugin-metadata";

/// How this program was called.
pub(crate) enum Invocation {
    /// By the Docker CLI, to learn what it is.
    Metadata,
    /// To do something.
    Command(Vec<OsString>),
}

/// The arguments, without the plugin's own name that the Docker CLI puts before them.
pub(crate) fn arguments() -> Invocation {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let plugin =
        arguments.first().and_then(|name| Path::new(name).file_stem()).is_some_and(|stem| stem == "docker-overside");
    if plugin {
        match arguments.get(1).and_then(|argument| argument.to_str()) {
            Some(METADATA) => return Invocation::Metadata,
            Some("overside") => {
                arguments.remove(1);
            }
            _ => {}
        }
    }
    Invocation::Command(arguments)
}

/// What the Docker CLI shows in its help.
pub(crate) fn metadata() -> Value {
    json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "Overside",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": "The engine elsewhere",
    })
}
