//! What a request says about files of the laptop: changed so that it means the environment's, or refused.
//!
//! An engine that is told to bind a path of the laptop finds nothing there and silently makes an empty directory (an old
//! trap). The Docker socket is what can be changed: tools that start containers of their own (Testcontainers' Ryuk, CI
//! runners) mount the socket that they speak to themselves, and mean the engine behind it. Every other path is refused until
//! the laptop's files can be brought into the environment.

use crate::json::{Document, Part};

/// The engine's socket inside the environment.
const ENGINE_SOCKET: &str = "/run/docker.sock";

/// Names by which tools know the engine's socket. The doubled slash is how Windows tools keep it from being rewritten.
const KNOWN_SOCKETS: [&str; 3] = ["/var/run/docker.sock", "/run/docker.sock", "//var/run/docker.sock"];

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
    /// It binds a path of the laptop.
    #[error("cannot mount {path}: this version of Overside does not bring files of this machine into the environment")]
    HostPath {
        /// The path on the laptop.
        path: String,
    },
}

impl Refusal {
    /// What the user can do instead.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotJson | Self::Ambiguous { .. } => "",
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

/// Changes the body so that it means the environment, and leaves every other byte as it is. `own_socket` is the socket that
/// the client is connected to, which means the engine too. None if nothing has to change.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn rewrite_body(kind: BodyKind, body: &[u8], own_socket: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let (document, root) = Document::parse(body)?;
    let mut rewriter = Rewriter { own_socket, document };
    match kind {
        BodyKind::Container => {
            // Engines before 23.0 take the host configuration's members from the top level where there is no other.
            rewriter.host_config(root)?;
            if let Some(host_config) = root.member("HostConfig")? {
                rewriter.host_config(host_config)?;
            }
        }
        BodyKind::Start => rewriter.host_config(root)?,
        BodyKind::Volume => volume_driver(root, "Driver", "DriverOpts")?,
        BodyKind::Service => {
            if let Some(template) = root.member("TaskTemplate")?
                && let Some(container) = template.member("ContainerSpec")?
            {
                rewriter.mounts(container)?;
            }
        }
    }
    Ok(rewriter.document.finish())
}

struct Rewriter<'a> {
    own_socket: &'a str,
    document: Document<'a>,
}

impl<'a> Rewriter<'a> {
    fn means_engine(&self, path: &str) -> bool {
        KNOWN_SOCKETS.contains(&path) || (path == self.own_socket && !path.is_empty())
    }

    fn host_config(&mut self, host_config: Part<'a>) -> Result<(), Refusal> {
        self.binds(host_config)?;
        self.mounts(host_config)
    }

    fn binds(&mut self, host_config: Part<'a>) -> Result<(), Refusal> {
        for bind in elements(host_config, "Binds")? {
            let Some(text) = bind.text()? else { continue };
            let Some(source) = host_source(&text) else { continue };
            if !self.means_engine(source) {
                return Err(Refusal::HostPath { path: source.to_owned() });
            }
            if source != ENGINE_SOCKET {
                self.document.replace(bind, &format!("{ENGINE_SOCKET}{}", &text[source.len()..]));
            }
        }
        Ok(())
    }

    fn mounts(&mut self, owner: Part<'a>) -> Result<(), Refusal> {
        for mount in elements(owner, "Mounts")? {
            match text(mount, "Type")?.as_deref() {
                Some("bind") => {
                    let Some(source) = mount.member("Source")? else { continue };
                    // Without a path it is the engine's to refuse.
                    let Some(path) = source.text()?.filter(|path| !path.is_empty()) else { continue };
                    if !self.means_engine(&path) {
                        return Err(Refusal::HostPath { path });
                    }
                    if path != ENGINE_SOCKET {
                        self.document.replace(source, ENGINE_SOCKET);
                    }
                }
                Some("volume") => {
                    if let Some(options) = mount.member("VolumeOptions")?
                        && let Some(config) = options.member("DriverConfig")?
                    {
                        volume_driver(config, "Name", "Options")?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn elements<'a>(owner: Part<'a>, name: &str) -> Result<Vec<Part<'a>>, Refusal> {
    owner.member(name)?.map_or(Ok(Vec::new()), Part::elements)
}

fn text(owner: Part<'_>, name: &str) -> Result<Option<String>, Refusal> {
    owner.member(name)?.map_or(Ok(None), Part::text)
}

/// A volume of the local driver with `o=bind` is a bind mount in disguise.
fn volume_driver(owner: Part<'_>, driver: &str, options: &str) -> Result<(), Refusal> {
    let driver = text(owner, driver)?.unwrap_or_default();
    let Some(options) = owner.member(options)?.filter(|_| driver.is_empty() || driver == "local") else {
        return Ok(());
    };
    let entry = |key| options.entry(key)?.map_or(Ok(None), Part::text);
    let flags = entry("o")?.unwrap_or_default();
    if flags.split(',').any(|flag| matches!(flag, "bind" | "rbind")) {
        return Err(Refusal::HostPath { path: entry("device")?.unwrap_or_default() });
    }
    Ok(())
}

/// The source of a bind in `-v` syntax if it is a path rather than a volume's name.
fn host_source(bind: &str) -> Option<&str> {
    let bytes = bind.as_bytes();
    let drive = bytes.get(1) == Some(&b':') && bytes.first().is_some_and(u8::is_ascii_alphabetic);
    // `a:/b` is the one-letter volume a; after a drive there are a path and a colon before the target.
    let colon = if drive { bind[2..].find(':').map(|at| at + 2) } else { bind.find(':') };
    let source = &bind[..colon?];
    let names_volume = !source.is_empty() && !source.contains(['/', '\\']) && !matches!(source, "." | ".." | "~");
    (!names_volume).then_some(source)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const OWN: &str = "/run/user/1000/overside/docker.sock";

    fn create(host_config: &Value) -> Result<Option<Value>, Refusal> {
        let body = json!({ "Image": "x", "HostConfig": host_config, "FutureKnob": {"b": 1, "a": 2} });
        let rewritten = rewrite_body(BodyKind::Container, body.to_string().as_bytes(), OWN)?;
        Ok(rewritten.map(|body| serde_json::from_slice(&body).unwrap()))
    }

    #[test]
    fn a_path_of_the_laptop_is_refused_in_every_spelling() {
        let volume = |name: &str| json!({"Name": name, "Options": {"type": "none", "o": "ro,bind", "device": "/src"}});
        for host_config in [
            json!({"Binds": ["data:/data", "/src:/app"]}),
            json!({"binds": ["./src:/app:ro"]}),
            json!({"Binds": ["C:\\src:/app"]}),
            json!({"Binds": ["C:/src:/app"]}),
            json!({"Binds": ["/var/run/docker.sock.d:/x"]}),
            json!({"Mounts": [{"Type": "bind", "Source": "/src", "Target": "/app"}]}),
            json!({"Mounts": [{"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": volume("local")}}]}),
        ] {
            assert!(matches!(create(&host_config), Err(Refusal::HostPath { .. })), "{host_config}");
        }
        let body = json!({"Name": "v", "DriverOpts": {"o": "bind", "device": "/src"}});
        let refused = rewrite_body(BodyKind::Volume, body.to_string().as_bytes(), OWN);
        assert_eq!(refused, Err(Refusal::HostPath { path: "/src".to_owned() }));
    }

    #[test]
    fn volumes_and_temporary_file_systems_pass_byte_for_byte() {
        for host_config in [
            Value::Null,
            json!({}),
            json!({"Binds": null, "Mounts": null}),
            json!({"Binds": ["data:/data:ro", "a:/b", "/anonymous"]}),
            json!({"Binds": ["/run/docker.sock:/var/run/docker.sock"]}),
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/t"}, {"Type": "volume", "Source": "v", "Target": "/v"}]}),
        ] {
            assert_eq!(create(&host_config), Ok(None), "{host_config}");
        }
        let nfs = json!({"Name": "v", "DriverOpts": {"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}});
        assert_eq!(rewrite_body(BodyKind::Volume, nfs.to_string().as_bytes(), OWN), Ok(None));
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
    fn a_service_is_looked_at_too() {
        let spec = json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/src"}]}}});
        assert!(rewrite_body(BodyKind::Service, spec.to_string().as_bytes(), OWN).is_err());
        assert_eq!(rewrite_body(BodyKind::Service, b"{}", OWN), Ok(None));
    }

    #[test]
    fn a_name_that_only_the_engine_would_recognise_hides_nothing() {
        for body in [
            r#"{"HoſtConfig":{"Binds":["/src:/x"]}}"#,
            r#"{"HostConfig":{"Bind\u017f":["/src:/x"]}}"#,
            r#"{"HostConfig":{"Mountſ":[{"TYPE":"bind","ſource":"/src","Target":"/x"}]}}"#,
        ] {
            let refused = rewrite_body(BodyKind::Container, body.as_bytes(), OWN);
            assert!(matches!(refused, Err(Refusal::HostPath { .. })), "{body}");
        }
        let body =
            "{\"Tas\u{212a}Template\":{\"ContainerSpec\":{\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/src\"}]}}}";
        let refused = rewrite_body(BodyKind::Service, body.as_bytes(), OWN);
        assert!(matches!(refused, Err(Refusal::HostPath { .. })));
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
            let refused = rewrite_body(BodyKind::Container, body.as_bytes(), OWN);
            assert!(matches!(refused, Err(Refusal::Ambiguous { .. })), "{body}");
        }
        let twice = r#"{"Labels":{"a":"1","A":"2"},"Env":[],"Env":["x"],"HostConfig":{"Binds":["v1:/x"]}}"#;
        assert_eq!(rewrite_body(BodyKind::Container, twice.as_bytes(), OWN), Ok(None), "not ours to judge");
    }

    #[test]
    fn the_forms_of_old_engines_are_looked_at_too() {
        for body in [r#"{"Image":"x","Binds":["/src:/x"]}"#, r#"{"Binds":["/src:/x"],"HostConfig":null}"#] {
            let refused = rewrite_body(BodyKind::Container, body.as_bytes(), OWN);
            assert_eq!(refused, Err(Refusal::HostPath { path: "/src".to_owned() }), "{body}");
        }
        let started = rewrite_body(BodyKind::Start, br#"{"Binds":["/src:/x"]}"#, OWN);
        assert_eq!(started, Err(Refusal::HostPath { path: "/src".to_owned() }));
    }

    #[test]
    fn a_change_leaves_every_other_byte_as_it_is() {
        let body = "{\"Memory\" : -0, \"Future\":1e999, \"Env\":[\"\\ud800\"],\n\"HostConfig\":{\"Binds\":[\"v1:/v\", \"/var/run/docker.sock:/s\"]} }";
        let changed = rewrite_body(BodyKind::Container, body.as_bytes(), OWN).unwrap().unwrap();
        assert_eq!(String::from_utf8(changed).unwrap(), body.replace("/var/run/docker.sock", "/run/docker.sock"));
    }

    #[test]
    fn what_is_not_json_is_refused_rather_than_passed_on() {
        let trailing = r#"{"HostConfig":{}} {"HostConfig":{"Binds":["/src:/app"]}}"#;
        for body in ["", "{", trailing, "{\"a\":\"\u{7f}\", }"] {
            assert_eq!(rewrite_body(BodyKind::Container, body.as_bytes(), OWN), Err(Refusal::NotJson), "{body}");
        }
        assert_eq!(rewrite_body(BodyKind::Container, b"{\"a\":\"\xff\"}", OWN), Err(Refusal::NotJson));
    }

    #[test]
    fn json_without_anything_in_it_is_the_engines_to_refuse() {
        for body in ["[]", "null", "\"x\"", "1"] {
            assert_eq!(rewrite_body(BodyKind::Container, body.as_bytes(), OWN), Ok(None), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_the_rewriter_panic(body in proptest::collection::vec(any::<u8>(), 0..200), bind in "\\PC{0,20}") {
            for kind in [BodyKind::Container, BodyKind::Volume, BodyKind::Service] {
                let _ = rewrite_body(kind, &body, OWN);
            }
            let _ = create(&json!({"Binds": [bind]}));
        }

        #[test]
        fn no_path_but_a_sockets_reaches_the_engine(bind in "[a-z./:~\\\\]{0,24}") {
            if let Ok(changed) = create(&json!({"Binds": [bind.clone()]})) {
                let forwarded = changed.map_or(bind, |body| body["HostConfig"]["Binds"][0].as_str().unwrap().to_owned());
                let source = forwarded.split_once(':').map_or("", |(source, _)| source);
                prop_assert!(source == ENGINE_SOCKET || !source.contains(['/', '\\']), "{}", forwarded);
            }
        }
    }
}
