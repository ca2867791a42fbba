//! Bodies that may name files of the laptop.

use overside_docker_api::{BodyKind, Refusal, rewrite_body};
use serde_json::{Value, json};

use crate::{
    Target,
    engine::{Json, bound_paths},
    script::Script,
};

const OWN: &str = "/run/user/1000/overside/docker.sock";
const ENGINE: &str = "/run/docker.sock";
const SOCKETS: [&str; 4] = [OWN, ENGINE, "/var/run/docker.sock", "//var/run/docker.sock"];
const KINDS: [BodyKind; 4] = [BodyKind::Container, BodyKind::Start, BodyKind::Volume, BodyKind::Service];

/// The bytes are a body.
pub(crate) fn rewriter() -> Target {
    Box::new(check)
}

/// The bytes are decisions about a body that is JSON.
pub(crate) fn grammar() -> Target {
    Box::new(|script| {
        let mut body = String::new();
        value(&mut Script(script), 0, &mut body);
        check(body.as_bytes());
    })
}

fn check(body: &[u8]) {
    for kind in KINDS {
        let result = rewrite_body(kind, body, OWN);
        if let Ok(changed) = &result {
            let forwarded = changed.as_deref().unwrap_or(body);
            assert_harmless(kind, forwarded);
        }
        compare(kind, body, result);
    }
}

/// Whatever the engine reads out of the body, it is no path of the laptop.
pub(crate) fn assert_harmless(kind: BodyKind, forwarded: &[u8]) {
    // What this parser does not take (numbers too large, nesting too deep, halves of surrogates) is left to the other checks.
    let Ok(json) = serde_json::from_slice::<Json>(forwarded) else { return };
    for path in bound_paths(kind, &json) {
        assert!(path == ENGINE || path.is_empty(), "{kind:?} binds {path}: {}", String::from_utf8_lossy(forwarded));
    }
}

/// Compares with an editor of parsed JSON, for bodies that mean the same to every reader.
fn compare(kind: BodyKind, body: &[u8], result: Result<Option<Vec<u8>>, Refusal>) {
    let (Ok(every), Ok(mut expected)) = (serde_json::from_slice::<Json>(body), serde_json::from_slice::<Value>(body))
    else {
        return;
    };
    if !is_plain(&every) {
        return;
    }
    let refused = edit(kind, &mut expected);
    match result {
        Ok(changed) => {
            assert!(!refused, "{kind:?} should be refused: {}", String::from_utf8_lossy(body));
            let changed: Value = serde_json::from_slice(changed.as_deref().unwrap_or(body)).unwrap();
            assert_eq!(changed, expected, "{kind:?}");
        }
        Err(refusal) => assert!(refused, "{kind:?} refused by {refusal}: {}", String::from_utf8_lossy(body)),
    }
}

/// Whether no object has two names that any reader takes for the same.
fn is_plain(json: &Json) -> bool {
    match json {
        Json::Object(members) => {
            let mut names: Vec<_> = members.iter().map(|(name, _)| name.to_lowercase()).collect();
            names.sort();
            let told_apart = names.windows(2).all(|pair| pair[0] != pair[1]);
            told_apart && members.iter().all(|(name, value)| name.is_ascii() && is_plain(value))
        }
        Json::Array(elements) => elements.iter().all(is_plain),
        _ => true,
    }
}

/// Changes parsed JSON as the rewriter should change its text; true if it should refuse it.
fn edit(kind: BodyKind, body: &mut Value) -> bool {
    match kind {
        BodyKind::Container => {
            host_config(body) || body.as_object_mut().is_some_and(|body| any(body, "hostconfig", host_config))
        }
        BodyKind::Start => host_config(body),
        BodyKind::Volume => is_disguised(body, "driver", "driveropts"),
        BodyKind::Service => body.as_object_mut().is_some_and(|body| {
            any(body, "tasktemplate", |template| {
                template.as_object_mut().is_some_and(|template| any(template, "containerspec", mounts))
            })
        }),
    }
}

fn any(object: &mut serde_json::Map<String, Value>, name: &str, mut look: impl FnMut(&mut Value) -> bool) -> bool {
    object.iter_mut().any(|(key, value)| key.to_ascii_lowercase() == name && look(value))
}

fn host_config(value: &mut Value) -> bool {
    let Some(object) = value.as_object_mut() else { return false };
    let bound = any(object, "binds", |binds| {
        binds.as_array_mut().is_some_and(|binds| {
            binds.iter_mut().any(|bind| {
                let Some(text) = bind.as_str().map(str::to_owned) else { return false };
                for socket in SOCKETS {
                    if let Some(rest) = text.strip_prefix(socket).filter(|rest| rest.starts_with(':')) {
                        *bind = json!(format!("{ENGINE}{rest}"));
                        return false;
                    }
                }
                names_path(&text)
            })
        })
    });
    bound || mounts(value)
}

/// Whether a bind's text begins with what only a path can be.
fn names_path(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let drive = parts[0].len() == 1 && parts[0].as_bytes()[0].is_ascii_alphabetic();
    match parts.as_slice() {
        [_] => false,
        // A drive and its path come before another colon, or it is a volume of one letter.
        [_, second, _, ..] if drive => second.contains(['/', '\\']),
        [_, ..] if drive => false,
        [first, ..] => first.is_empty() || first.contains(['/', '\\']) || matches!(*first, "." | ".." | "~"),
        [] => false,
    }
}

fn mounts(value: &mut Value) -> bool {
    let Some(object) = value.as_object_mut() else { return false };
    any(object, "mounts", |mounts| {
        mounts.as_array_mut().is_some_and(|mounts| {
            mounts.iter_mut().any(|mount| {
                let Some(mount) = mount.as_object_mut() else { return false };
                let of_kind = |kind: &str, mount: &mut serde_json::Map<String, Value>| {
                    any(mount, "type", |value| value.as_str() == Some(kind))
                };
                if of_kind("bind", mount) {
                    return any(mount, "source", |source| {
                        let path = source.as_str().unwrap_or_default();
                        if path.is_empty() {
                            return false;
                        }
                        let known = SOCKETS.contains(&path);
                        if known {
                            *source = json!(ENGINE);
                        }
                        !known
                    });
                }
                of_kind("volume", mount)
                    && any(mount, "volumeoptions", |options| {
                        options.as_object_mut().is_some_and(|options| {
                            any(options, "driverconfig", |config| is_disguised(config, "name", "options"))
                        })
                    })
            })
        })
    })
}

fn is_disguised(value: &mut Value, driver: &str, options: &str) -> bool {
    let Some(object) = value.as_object_mut() else { return false };
    let foreign = any(object, driver, |name| name.as_str().is_some_and(|name| !matches!(name, "" | "local")));
    !foreign
        && any(object, options, |options| {
            options["o"].as_str().is_some_and(|flags| flags.split(',').any(|flag| ["bind", "rbind"].contains(&flag)))
        })
}

const NAMES: &[&str] = &[
    "HostConfig",
    "hostconfig",
    "HO\u{17f}TCONFIG",
    "Binds",
    "binds",
    "Bind\\u017f",
    "Mounts",
    "mounts",
    "Type",
    "type",
    "Source",
    "SOURCE",
    "\u{17f}ource",
    "Target",
    "VolumeOptions",
    "DriverConfig",
    "Name",
    "Options",
    "Driver",
    "DriverOpts",
    "o",
    "O",
    "device",
    "TaskTemplate",
    "Tas\u{212a}Template",
    "ContainerSpec",
    "Labels",
    "Env",
    "Image",
    "\\u0042inds",
    "",
];
const TEXTS: &[&str] = &[
    "bind",
    "volume",
    "tmpfs",
    "BIND",
    "local",
    "",
    "/src",
    "/src:/app",
    "data:/data",
    "/var/run/docker.sock:/s:ro",
    "/var/run/docker.sock",
    "//var/run/docker.sock:/s",
    "/run/docker.sock:/s",
    "/run/docker.sock",
    "C:/src:/app",
    "a:/b",
    "c:\\\\src:/app",
    ".:/a",
    "~:/a",
    ":/a",
    "/",
    "bind,ro",
    "ro",
    "rbind",
    "none",
    "\\ud800",
    "\\u002fsrc:/app",
    "nfs",
    "::",
    "/run/user/1000/overside/docker.sock:/s",
    "/var/run/docker.sock/../x:/s",
    "\\ud83d\\ude00:/x",
];

/// Writes one value. What leads deeper is written often, so that short scripts get somewhere.
fn value(script: &mut Script<'_>, depth: usize, out: &mut String) {
    let choice = if depth == 0 { 0 } else { script.byte() % 8 };
    match choice {
        0..3 if depth < 8 => {
            out.push('{');
            for index in 0..script.byte() % 5 {
                out.push_str(if index > 0 { "," } else { "" });
                let name = script.one_of(NAMES);
                out.push_str(&format!("\"{name}\":"));
                // Lists of texts and lists of objects are what the names above mostly stand for.
                match script.byte() % 4 {
                    0 => value(script, depth + 1, out),
                    1 => list(script, depth, out, |script, _, out| text(script, out)),
                    2 => list(script, depth, out, value),
                    _ => text(script, out),
                }
            }
            out.push('}');
        }
        3 if depth < 8 => list(script, depth, out, value),
        4 => out.push_str(script.one_of(&["null", "0", "-0", "1e999", "true", "1.5", "18446744073709551616"])),
        _ => text(script, out),
    }
}

fn list(script: &mut Script<'_>, depth: usize, out: &mut String, each: fn(&mut Script<'_>, usize, &mut String)) {
    out.push('[');
    for index in 0..script.byte() % 4 {
        out.push_str(if index > 0 { " ," } else { "" });
        each(script, depth + 1, out);
    }
    out.push(']');
}

fn text(script: &mut Script<'_>, out: &mut String) {
    let text = script.one_of(TEXTS);
    out.push_str(&format!("\"{text}\""));
}
