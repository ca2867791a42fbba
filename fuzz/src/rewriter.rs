//! Bodies that may name files of the laptop.

use std::collections::BTreeMap;

use overside_docker_api::{BodyKind, Laptop, Refusal, laptop_binds, rewrite_body};
use serde_json::{Value, json};

use crate::{
    Target,
    engine::{Json, bound_paths, cleaned},
    script::Script,
};

const OWN: &str = "/run/user/1000/overside/docker.sock";
const ENGINE: &str = "/run/docker.sock";
/// What all places in the environment begin with in these targets.
const PLACE: &str = "/place/of";
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
    let laptop = Laptop { own_socket: OWN, windows: false };
    for kind in KINDS {
        let bound = laptop_binds(kind, body, laptop);
        let result = rewrite_body(kind, body, laptop, &BTreeMap::new());
        if let Ok(changed) = &result {
            assert!(bound.as_ref().is_ok_and(|bound| bound.binds.is_empty()));
            assert_harmless(kind, changed.as_deref().unwrap_or(body));
        }
        compare(kind, body, &result, false);
        // With a place for everything, nothing but what cannot be understood is refused.
        let placed = bound
            .as_ref()
            .map(|bound| bound.binds.iter().map(|bind| (bind.path.clone(), format!("{PLACE}{}", bind.path))).collect());
        let placed = placed.map_err(Clone::clone).and_then(|places| rewrite_body(kind, body, laptop, &places));
        assert_eq!(placed.as_ref().err(), bound.as_ref().err());
        if let Ok(changed) = &placed {
            assert_harmless(kind, changed.as_deref().unwrap_or(body));
        }
        compare(kind, body, &placed, true);
        // The other kind of laptop at least stays upright.
        let _ = laptop_binds(kind, body, Laptop { own_socket: OWN, windows: true });
    }
}

/// Whatever the engine reads out of the body, it is no path of the laptop.
pub(crate) fn assert_harmless(kind: BodyKind, forwarded: &[u8]) {
    // What this parser does not take (numbers too large, nesting too deep, halves of surrogates) is left to the other checks.
    let Ok(json) = serde_json::from_slice::<Json>(forwarded) else { return };
    for path in bound_paths(kind, &json) {
        let harmless =
            path.is_empty() || path.starts_with(PLACE) || path.starts_with('/') && fate(&path) != Fate::Laptop;
        assert!(harmless, "{kind:?} binds {path}: {}", String::from_utf8_lossy(forwarded));
    }
}

/// What becomes of a path.
#[derive(PartialEq, Eq)]
enum Fate {
    Engine,
    Stays,
    Laptop,
}

fn fate(path: &str) -> Fate {
    if path == OWN {
        return Fate::Engine;
    }
    let clean = cleaned(path);
    let clean = if clean == "/" { "/" } else { clean.trim_end_matches('/') };
    let parts: Vec<&str> = clean.split('/').skip(1).collect();
    match parts.as_slice() {
        ["run" | "var", ..] if matches!(clean, "/run/docker.sock" | "/var/run/docker.sock") => Fate::Engine,
        [""] | ["run"] | ["var", "run"] | ["proc" | "sys" | "dev", ..] => Fate::Stays,
        ["lib", "modules", ..] | ["usr", "lib", "modules", ..] | ["var", "lib", "docker" | "containerd", ..] => {
            Fate::Stays
        }
        ["run", engine, ..] | ["var", "run", engine, ..] if *engine == "containerd" || engine.starts_with("docker") => {
            Fate::Stays
        }
        _ if !path.starts_with('/') => Fate::Stays,
        _ => Fate::Laptop,
    }
}

/// Compares with an editor of parsed JSON, for bodies that mean the same to every reader.
fn compare(kind: BodyKind, body: &[u8], result: &Result<Option<Vec<u8>>, Refusal>, placed: bool) {
    let (Ok(every), Ok(mut expected)) = (serde_json::from_slice::<Json>(body), serde_json::from_slice::<Value>(body))
    else {
        return;
    };
    if !is_plain(&every) {
        return;
    }
    let refused = edit(kind, &mut expected, placed);
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
fn edit(kind: BodyKind, body: &mut Value, placed: bool) -> bool {
    let host_config = |value: &mut Value| host_config(value, placed);
    match kind {
        BodyKind::Container => {
            host_config(body) || body.as_object_mut().is_some_and(|body| any(body, "hostconfig", host_config))
        }
        BodyKind::Start => host_config(body),
        BodyKind::Volume => is_disguised(body, "driver", "driveropts", placed),
        BodyKind::Service => body.as_object_mut().is_some_and(|body| {
            any(body, "tasktemplate", |template| {
                template
                    .as_object_mut()
                    .is_some_and(|template| any(template, "containerspec", |spec| mounts(spec, placed)))
            })
        }),
    }
}

fn any(object: &mut serde_json::Map<String, Value>, name: &str, mut look: impl FnMut(&mut Value) -> bool) -> bool {
    object.iter_mut().any(|(key, value)| key.to_ascii_lowercase() == name && look(value))
}

/// Puts what becomes of a path, and what follows it, in the place of the text; true if it should be refused.
fn lead(text: &mut Value, path: &str, rest: &str, placed: bool) -> bool {
    match fate(path) {
        _ if !path.starts_with('/') => return false,
        Fate::Engine => *text = json!(format!("{ENGINE}{rest}")),
        Fate::Stays => {}
        Fate::Laptop if placed => *text = json!(format!("{PLACE}{}{rest}", cleaned(path).trim_end_matches('/'))),
        Fate::Laptop => return true,
    }
    false
}

fn host_config(value: &mut Value, placed: bool) -> bool {
    let Some(object) = value.as_object_mut() else { return false };
    let bound = any(object, "binds", |binds| {
        binds.as_array_mut().is_some_and(|binds| {
            binds.iter_mut().any(|bind| {
                let text = bind.as_str().unwrap_or_default().to_owned();
                text.find(':').is_some_and(|colon| lead(bind, &text[..colon], &text[colon..], placed))
            })
        })
    });
    bound || mounts(value, placed)
}

fn mounts(value: &mut Value, placed: bool) -> bool {
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
                        let path = source.as_str().unwrap_or_default().to_owned();
                        lead(source, &path, "", placed)
                    });
                }
                of_kind("volume", mount)
                    && any(mount, "volumeoptions", |options| {
                        options.as_object_mut().is_some_and(|options| {
                            any(options, "driverconfig", |config| is_disguised(config, "name", "options", placed))
                        })
                    })
            })
        })
    })
}

fn is_disguised(value: &mut Value, driver: &str, options: &str, placed: bool) -> bool {
    let Some(object) = value.as_object_mut() else { return false };
    let foreign = any(object, driver, |name| name.as_str().is_some_and(|name| !matches!(name, "" | "local")));
    !foreign
        && any(object, options, |options| {
            let binds = options["o"]
                .as_str()
                .is_some_and(|flags| flags.split(',').any(|flag| ["bind", "rbind"].contains(&flag)));
            let Some(device) = options.get_mut("device").filter(|_| binds) else { return false };
            let path = device.as_str().unwrap_or_default().to_owned();
            !path.is_empty() && (!path.starts_with('/') || lead(device, &path, "", placed))
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
    "BindOptions",
    "Volumes",
    "Tmpfs",
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
    "/proc:/host/proc:ro",
    "/proc/../src",
    "/sys/../run//docker/x:/y",
    "CreateMountpoint",
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
