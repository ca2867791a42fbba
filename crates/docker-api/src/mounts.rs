//! What a request says about files of the laptop: told to whoever brings them into the environment, and changed so that it
//! means their places there, or refused.
//!
//! An engine that is told to bind a path of the laptop finds nothing there and silently makes an empty directory (an old
//! trap): so a path that has no place in the environment is never passed on. The Docker socket needs none: tools that start
//! containers of their own (Testcontainers' Ryuk, CI runners) mount the socket that they speak to themselves, and mean the
//! engine behind it.

use std::collections::BTreeMap;

use crate::{
    binds::Finder,
    json::Document,
    paths::{ENGINE, Laptop, Meaning, below},
};

/// Why a request is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not JSON, so that nobody can say what it would mount.
    #[error("the request's body is not valid JSON")]
    NotJson,
    /// It says something twice, so that nobody can say which of both the engine takes.
    #[error("the request's body has {name} twice")]
    Ambiguous {
        /// The member's name.
        name: String,
    },
    /// It binds a path of the laptop that has no place in the environment.
    #[error("cannot mount {path}: this version of Overside does not bring files of this machine into the environment")]
    HostPath {
        /// The path on the laptop.
        path: String,
    },
    /// It binds what can only be something that is never brought into an environment.
    #[error("cannot mount {path}: {reason}")]
    NoSuchKind {
        /// The path, as it was given.
        path: String,
        /// What it would be.
        reason: &'static str,
    },
}

impl Refusal {
    /// What the user can do instead.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotJson | Self::Ambiguous { .. } | Self::NoSuchKind { .. } => "",
            Self::HostPath { .. } => "Use a named volume, `docker cp` or a build with COPY.",
        }
    }
}

/// Which kind of body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `POST /containers/create`.
    Container,
    /// `POST /containers/{id}/start`, which took a host configuration before API 1.24.
    Start,
    /// `POST /volumes/create`.
    Volume,
    /// `POST /services/create` and `/services/{id}/update`.
    Service,
}

/// What happens where there is no such file on the laptop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// A directory is made, as for `-v`.
    Create,
    /// The request is refused, as for `--mount`.
    Refuse,
    /// Nothing yet: the engine says what is wrong when it comes to it. So for volumes, whose device may be made until a
    /// container uses them.
    Leave,
}

/// A file or directory of the laptop that a request binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBind {
    /// As the client wrote it.
    pub source: String,
    /// The same as a clean, absolute path in the laptop's own spelling.
    pub path: String,
    /// Where it is to be in the container; empty for a volume that no container uses yet.
    pub target: String,
    /// The container may not write there.
    pub read_only: bool,
    /// What happens if it is not there.
    pub if_missing: IfMissing,
    /// It is the device of a volume, into which the engine may copy an image's files as soon as a container is created.
    pub through_volume: bool,
    /// Paths in it, with slashes, that the container does not see, because volumes and temporary file systems lie over them.
    pub masks: Vec<String>,
}

/// What a body says of files outside of its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// The laptop's.
    pub binds: Vec<HostBind>,
    /// Names of the volumes that it uses.
    pub volumes: Vec<String>,
}

/// Finds what a body binds of the laptop.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn laptop_binds(kind: BodyKind, body: &[u8], laptop: Laptop<'_>) -> Result<Bound, Refusal> {
    let (_, root) = Document::parse(body)?;
    let found = Finder::find(kind, root, laptop)?;
    let mut bound = Bound { binds: Vec::new(), volumes: found.volumes };
    for place in found.places {
        if let Meaning::Laptop(path) = place.meaning {
            bound.binds.push(HostBind { path, ..place.bind });
        }
    }
    for over in &found.over {
        // A container sees what is bound closest to it.
        let depth = |bind: &HostBind| below(over, &bind.target).filter(|rest| !rest.is_empty()).map(str::len);
        let nearest = bound.binds.iter_mut().filter(|bind| !bind.target.is_empty());
        if let Some(bind) = nearest.filter(|bind| depth(bind).is_some()).min_by_key(|bind| depth(bind))
            && let Some(mask) = below(over, &bind.target)
        {
            bind.masks.push(mask.to_owned());
        }
    }
    for bind in &mut bound.binds {
        bind.masks.sort_unstable();
        bind.masks.dedup();
    }
    Ok(bound)
}

/// Changes the body so that it means the environment, and leaves every other byte as it is. `places` has the place in the
/// environment of each [`HostBind::path`]. None if nothing has to change.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn rewrite_body(
    kind: BodyKind,
    body: &[u8],
    laptop: Laptop<'_>,
    places: &BTreeMap<String, String>,
) -> Result<Option<Vec<u8>>, Refusal> {
    let (mut document, root) = Document::parse(body)?;
    for found in Finder::find(kind, root, laptop)?.places {
        let source = &found.bind.source;
        let place = match &found.meaning {
            Meaning::Engine => ENGINE,
            Meaning::Environment(_) if !laptop.windows => continue,
            Meaning::Environment(path) => path,
            Meaning::Laptop(path) => {
                places.get(path).ok_or_else(|| Refusal::HostPath { path: source.clone() })?.as_str()
            }
            Meaning::Relative => continue,
        };
        if place != source {
            document.replace(found.part, &format!("{place}{}", found.rest));
        }
    }
    Ok(document.finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const OWN: &str = "/run/user/1000/overside/docker.sock";
    const LAPTOP: Laptop<'static> = Laptop { own_socket: OWN, windows: false };
    const WINDOWS: Laptop<'static> = Laptop { own_socket: "", windows: true };

    fn rewritten(kind: BodyKind, body: &str, places: &[(&str, &str)]) -> Result<Option<Vec<u8>>, Refusal> {
        let places = places.iter().map(|(path, place)| ((*path).to_owned(), (*place).to_owned())).collect();
        rewrite_body(kind, body.as_bytes(), LAPTOP, &places)
    }

    fn create(host_config: &Value) -> Result<Option<Value>, Refusal> {
        let body = json!({ "Image": "x", "HostConfig": host_config, "FutureKnob": {"b": 1, "a": 2} });
        let rewritten = rewritten(BodyKind::Container, &body.to_string(), &[])?;
        Ok(rewritten.map(|body| serde_json::from_slice(&body).unwrap()))
    }

    fn bound(kind: BodyKind, body: &Value, laptop: Laptop<'_>) -> Bound {
        laptop_binds(kind, body.to_string().as_bytes(), laptop).unwrap()
    }

    /// What every bind is in short.
    fn short(bound: &Bound) -> Vec<String> {
        let short = |bind: &HostBind| {
            let mode = if bind.read_only { "ro" } else { "rw" };
            format!(
                "{} {} {} {mode} {:?} {}",
                bind.source,
                bind.path,
                bind.target,
                bind.if_missing,
                bind.masks.join(",")
            )
        };
        bound.binds.iter().map(short).collect()
    }

    #[test]
    fn every_spelling_of_a_bind_is_found() {
        let volume = json!({"Name": "local", "Options": {"type": "none", "o": "ro,bind", "device": "/dev5"}});
        let body = json!({
            "Binds": ["/old:/old"],
            "HostConfig": {
                "Binds": ["data:/data", "/src/../src/:/app", "/ro:/ro:z,ro", "/proc:/host/proc", "/nowhere", "/x:rw"],
                "Mounts": [
                    {"Type": "bind", "Source": "/m", "Target": "/m/", "ReadOnly": true},
                    {"Type": "bind", "Source": "/n", "Target": "/n", "BindOptions": {"CreateMountpoint": true}},
                    {"Type": "bind", "Source": "/sys", "Target": "/sys"},
                    {"Type": "volume", "Source": "cache", "Target": "/v", "VolumeOptions": {"DriverConfig": volume}},
                ],
            },
        });
        let bound = bound(BodyKind::Container, &body, LAPTOP);
        assert_eq!(
            short(&bound),
            [
                "/old /old /old rw Create ",
                "/src/../src/ /src /app rw Create ",
                "/ro /ro /ro ro Create ",
                "/x /x  rw Leave ",
                "/m /m /m ro Refuse ",
                "/n /n /n rw Create ",
                "/dev5 /dev5 /v ro Leave ",
            ]
        );
        assert_eq!(bound.volumes, ["data", "cache"]);
        assert!(bound.binds.iter().all(|bind| bind.through_volume == (bind.source == "/dev5")));
    }

    #[test]
    fn volumes_and_services_bind_too() {
        let volume = json!({"Name": "v", "DriverOpts": {"o": "bind", "device": "/src", "type": "none"}});
        assert_eq!(short(&bound(BodyKind::Volume, &volume, LAPTOP)), ["/src /src  rw Leave "]);
        let service = json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [
            {"Type": "bind", "Source": "/src", "Target": "/app"},
            {"Type": "volume", "Target": "/app/cache"},
        ]}}});
        assert_eq!(short(&bound(BodyKind::Service, &service, LAPTOP)), ["/src /src /app rw Refuse cache"]);
        let start = json!({"Binds": ["/src:/app"]});
        assert_eq!(short(&bound(BodyKind::Start, &start, LAPTOP)), ["/src /src /app rw Create "]);
        let nfs = json!({"Name": "v", "DriverOpts": {"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}});
        assert_eq!(bound(BodyKind::Volume, &nfs, LAPTOP), Bound::default());
        let relative = json!({"DriverOpts": {"o": "bind", "device": "src"}}).to_string();
        assert!(matches!(laptop_binds(BodyKind::Volume, relative.as_bytes(), LAPTOP), Err(Refusal::NoSuchKind { .. })));
    }

    #[test]
    fn volumes_over_a_part_of_a_bind_mask_it() {
        let body = json!({
            "Volumes": {"/app/.cache": {}, "/elsewhere": {}},
            "HostConfig": {
                "Binds": ["/p:/app", "/p/web:/app/web", "/app/node_modules", "deps:/app/web/deps/./x", "v:/appendix"],
                "Tmpfs": {"/app/tmp": ""},
                "Mounts": [{"Type": "tmpfs", "Target": "/app/web/run"}, {"Type": "volume", "Target": "/app"}],
            },
        });
        assert_eq!(
            short(&bound(BodyKind::Container, &body, LAPTOP)),
            ["/p /p /app rw Create .cache,node_modules,tmp", "/p/web /p/web /app/web rw Create deps/x,run"]
        );
    }

    #[test]
    fn a_bind_of_windows_is_told_from_a_volume_of_one_letter() {
        let body = json!({"HostConfig": {"Binds": [
            r"C:\src:/app:ro", "c:/src:/a", r"\\?\C:\src:/b", "/c/src:/d", "//c/src:/e", "a:/b", "a:/b:ro", "v:/c",
            r"C:\nowhere", "//var/run/docker.sock:/s",
        ]}});
        assert_eq!(
            short(&bound(BodyKind::Container, &body, WINDOWS)),
            [
                r"C:\src C:\src /app ro Create ",
                r"c:/src C:\src /a rw Create ",
                r"\\?\C:\src C:\src /b rw Create ",
                r"/c/src C:\src /d rw Create ",
                r"//c/src C:\src /e rw Create ",
            ]
        );
        let text = body.to_string();
        let places = BTreeMap::from([(r"C:\src".to_owned(), "/p".to_owned())]);
        let changed = rewrite_body(BodyKind::Container, text.as_bytes(), WINDOWS, &places).unwrap().unwrap();
        let changed: Value = serde_json::from_slice(&changed).unwrap();
        let expected = json!([
            "/p:/app:ro",
            "/p:/a",
            "/p:/b",
            "/p:/d",
            "/p:/e",
            "a:/b",
            "a:/b:ro",
            "v:/c",
            r"C:\nowhere",
            "/run/docker.sock:/s",
        ]);
        assert_eq!(changed["HostConfig"]["Binds"], expected);
        let share = json!({"HostConfig": {"Binds": [r"\\server\share:/app"]}}).to_string();
        assert!(matches!(
            laptop_binds(BodyKind::Container, share.as_bytes(), WINDOWS),
            Err(Refusal::NoSuchKind { .. })
        ));
    }

    #[test]
    fn every_bind_is_led_to_its_place_and_nothing_else_changes() {
        let body = r#"{ "Labels" :{"a":"/src:/app"}, "HostConfig": {"Binds":["/src/:/app:ro","/proc:/p", "v:/v"],
            "Mounts":[{"Type":"bind","Source":"\/src\/x","Target":"/y","Future":-0}]}}"#;
        let places = [("/src", "/.overside/laptop/src"), ("/src/x", "/.overside/laptop/src/x")];
        let changed = rewritten(BodyKind::Container, body, &places).unwrap().unwrap();
        let expected = body
            .replace("\"/src/:/app:ro\"", "\"/.overside/laptop/src:/app:ro\"")
            .replace(r#""\/src\/x""#, "\"/.overside/laptop/src/x\"");
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
        let volume = r#"{"DriverOpts":{"o":"bind","device":"/src"}}"#;
        let changed = rewritten(BodyKind::Volume, volume, &places).unwrap().unwrap();
        assert_eq!(String::from_utf8(changed).unwrap(), volume.replace("/src", "/.overside/laptop/src"));
    }

    #[test]
    fn a_path_without_a_place_is_refused_in_every_spelling() {
        let volume = |name: &str| json!({"Name": name, "Options": {"type": "none", "o": "ro,bind", "device": "/src"}});
        for host_config in [
            json!({"Binds": ["data:/data", "/src:/app"]}),
            json!({"binds": ["/src:/app:ro"]}),
            json!({"Binds": ["/src:app"]}),
            json!({"Binds": ["/var/lib/dockers:/x"]}),
            json!({"Mounts": [{"Type": "bind", "Source": "/src", "Target": "/app"}]}),
            json!({"Mounts": [{"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": volume("local")}}]}),
        ] {
            assert!(matches!(create(&host_config), Err(Refusal::HostPath { .. })), "{host_config}");
        }
        let body = json!({"Name": "v", "DriverOpts": {"o": "bind", "device": "/src"}});
        let refused = rewritten(BodyKind::Volume, &body.to_string(), &[("/other", "/place")]);
        assert_eq!(refused, Err(Refusal::HostPath { path: "/src".to_owned() }));
    }

    #[test]
    fn volumes_and_what_the_engine_refuses_by_itself_pass_byte_for_byte() {
        for host_config in [
            Value::Null,
            json!({}),
            json!({"Binds": null, "Mounts": null}),
            json!({"Binds": ["data:/data:ro", "a:/b", "/anonymous"]}),
            json!({"Binds": ["./src:/a", "~:/b", ":/c", "C:\\src:/app"]}),
            json!({"Binds": ["/run/docker.sock:/var/run/docker.sock", "/proc:/host/proc:ro", "/:/rootfs:ro,rslave"]}),
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/t"}, {"Type": "volume", "Source": "v", "Target": "/v"}]}),
            json!({"Mounts": [{"Type": "bind", "Source": "src", "Target": "/t"}]}),
        ] {
            assert_eq!(create(&host_config), Ok(None), "{host_config}");
        }
    }

    #[test]
    fn the_docker_socket_under_any_of_its_names_means_the_environments_engine() {
        for source in ["/var/run/docker.sock", "//var/run/docker.sock", OWN] {
            let body = create(&json!({"Binds": [format!("{source}:/var/run/docker.sock:ro")]})).unwrap().unwrap();
            assert_eq!(body["HostConfig"]["Binds"][0], "/run/docker.sock:/var/run/docker.sock:ro");
            assert_eq!(body["FutureKnob"], json!({"b": 1, "a": 2}), "an unknown member survives");
            let mount = json!({"Mounts": [{"Type": "bind", "Source": source, "Target": "/s", "ReadOnly": true}]});
            let body = create(&mount).unwrap().unwrap();
            let expected = json!({"Type": "bind", "Source": "/run/docker.sock", "Target": "/s", "ReadOnly": true});
            assert_eq!(body["HostConfig"]["Mounts"][0], expected);
        }
    }

    #[test]
    fn a_name_that_only_the_engine_would_recognise_hides_nothing() {
        for body in [
            r#"{"HoſtConfig":{"Binds":["/src:/x"]}}"#,
            r#"{"HostConfig":{"Bind\u017f":["/src:/x"]}}"#,
            r#"{"HostConfig":{"Mountſ":[{"TYPE":"bind","ſource":"/src","Target":"/x"}]}}"#,
        ] {
            let refused = rewritten(BodyKind::Container, body, &[]);
            assert!(matches!(refused, Err(Refusal::HostPath { .. })), "{body}");
        }
        let body =
            "{\"Tas\u{212a}Template\":{\"ContainerSpec\":{\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/src\"}]}}}";
        assert!(matches!(rewritten(BodyKind::Service, body, &[]), Err(Refusal::HostPath { .. })));
    }

    #[test]
    fn a_member_that_stands_twice_hides_nothing() {
        // The engine merges objects and reuses elements of arrays: each of these makes a bind mount there.
        for body in [
            r#"{"HostConfig":{"Binds":["/src:/x"]},"HostConfig":{}}"#,
            r#"{"HostConfig":{"Binds":["/src:/x"]},"hostconfig":{}}"#,
            r#"{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/src","Target":"/x"}],"Mounts":[{}]}}"#,
            r#"{"HostConfig":{"Mounts":[{"Type":"volume","Type":"bind","Source":"/src","Target":"/x"}]}}"#,
        ] {
            let refused = rewritten(BodyKind::Container, body, &[("/src", "/place")]);
            assert!(matches!(refused, Err(Refusal::Ambiguous { .. })), "{body}");
        }
        let twice = r#"{"Labels":{"a":"1","A":"2"},"Env":[],"Env":["x"],"HostConfig":{"Binds":["v1:/x"]}}"#;
        assert_eq!(rewritten(BodyKind::Container, twice, &[]), Ok(None), "not ours to judge");
    }

    #[test]
    fn a_change_leaves_every_other_byte_as_it_is() {
        let body = "{\"Memory\" : -0, \"Future\":1e999, \"Env\":[\"\\ud800\"],\n\"HostConfig\":{\"Binds\":[\"v1:/v\", \"/var/run/docker.sock:/s\"]} }";
        let changed = rewritten(BodyKind::Container, body, &[]).unwrap().unwrap();
        assert_eq!(String::from_utf8(changed).unwrap(), body.replace("/var/run/docker.sock", "/run/docker.sock"));
    }

    #[test]
    fn what_is_not_json_is_refused_rather_than_passed_on() {
        let trailing = r#"{"HostConfig":{}} {"HostConfig":{"Binds":["/src:/app"]}}"#;
        for body in ["", "{", trailing, "{\"a\":\"\u{7f}\", }"] {
            assert_eq!(rewritten(BodyKind::Container, body, &[]), Err(Refusal::NotJson), "{body}");
        }
        let refused = rewrite_body(BodyKind::Container, b"{\"a\":\"\xff\"}", LAPTOP, &BTreeMap::new());
        assert_eq!(refused, Err(Refusal::NotJson));
    }

    #[test]
    fn json_without_anything_in_it_is_the_engines_to_refuse() {
        for body in ["[]", "null", "\"x\"", "1"] {
            assert_eq!(rewritten(BodyKind::Container, body, &[]), Ok(None), "{body}");
        }
        assert_eq!(rewritten(BodyKind::Service, "{}", &[]), Ok(None));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_rewriter_panic(body in proptest::collection::vec(any::<u8>(), 0..200), bind in "\\PC{0,20}") {
            for kind in [BodyKind::Container, BodyKind::Start, BodyKind::Volume, BodyKind::Service] {
                let _ = rewrite_body(kind, &body, LAPTOP, &BTreeMap::new());
            }
            let body = json!({"HostConfig": {"Binds": [bind]}}).to_string();
            for laptop in [LAPTOP, WINDOWS] {
                let _ = laptop_binds(BodyKind::Container, body.as_bytes(), laptop);
                let _ = rewrite_body(BodyKind::Container, body.as_bytes(), laptop, &BTreeMap::new());
            }
        }

        #[test]
        fn a_path_of_the_laptop_reaches_the_engine_as_its_place_only(bind in "[a-z./:~\\\\]{0,24}", placed: bool) {
            let body = json!({"HostConfig": {"Binds": [bind]}}).to_string();
            let found = laptop_binds(BodyKind::Container, body.as_bytes(), LAPTOP).unwrap();
            let places = found.binds.iter().filter(|_| placed).map(|bind| (bind.path.clone(), "/place".to_owned()));
            let changed = rewrite_body(BodyKind::Container, body.as_bytes(), LAPTOP, &places.collect());
            let Ok(changed) = changed else {
                prop_assert!(!placed && !found.binds.is_empty());
                return Ok(());
            };
            let forwarded = changed.unwrap_or(body.into_bytes());
            let forwarded: Value = serde_json::from_slice(&forwarded).unwrap();
            let forwarded = forwarded["HostConfig"]["Binds"][0].as_str().unwrap();
            // As the engine splits it.
            let source = forwarded.split_once(':').map_or("", |(source, _)| source);
            let is_own = matches!(LAPTOP.meaning(source), Ok(Meaning::Environment(_) | Meaning::Engine));
            prop_assert!(!source.starts_with('/') || is_own || source == "/place", "{}", forwarded);
        }
    }
}
