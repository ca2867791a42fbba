//! What a request says about files of the laptop: changed so that it means the environment's, or refused.
//!
//! An engine that is told to bind a path of the laptop finds nothing there and silently makes an empty directory (an old
//! trap). The Docker socket is what can be changed: tools that start containers of their own (Testcontainers' Ryuk, CI
//! runners) mount the socket that they speak to themselves, and mean the engine behind it. Every other path is refused until
//! the laptop's files can be brought into the environment.

use serde_json::Value;

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
            Self::NotJson => "",
            Self::HostPath { .. } => "Use a named volume, `docker cp` or a build with COPY.",
        }
    }
}

/// Which kind of body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `POST /containers/create`.
    Container,
    /// `POST /volumes/create`.
    Volume,
    /// `POST /services/create` and `/services/{id}/update`.
    Service,
}

/// Changes the body so that it means the environment. `own_socket` is the socket that the client is connected to, which means
/// the engine too. None if nothing has to change: the body is then to be forwarded byte for byte.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn rewrite_body(kind: BodyKind, body: &[u8], own_socket: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let mut json: Value = serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?;
    let mut rewriter = Rewriter { own_socket, changed: false };
    match kind {
        BodyKind::Container => {
            if let Some(host_config) = member(&mut json, "HostConfig") {
                rewriter.binds(host_config)?;
                rewriter.mounts(host_config)?;
            }
        }
        BodyKind::Volume => volume_driver(&mut json, "Driver", "DriverOpts")?,
        BodyKind::Service => {
            let template = member(&mut json, "TaskTemplate");
            if let Some(container) = template.and_then(|template| member(template, "ContainerSpec")) {
                rewriter.mounts(container)?;
            }
        }
    }
    Ok(rewriter.changed.then(|| json.to_string().into_bytes()))
}

struct Rewriter<'a> {
    own_socket: &'a str,
    changed: bool,
}

impl Rewriter<'_> {
    fn means_engine(&self, path: &str) -> bool {
        KNOWN_SOCKETS.contains(&path) || (path == self.own_socket && !path.is_empty())
    }

    fn binds(&mut self, host_config: &mut Value) -> Result<(), Refusal> {
        for bind in elements(host_config, "Binds") {
            let Some(text) = bind.as_str() else { continue };
            let Some(source) = host_source(text) else { continue };
            if !self.means_engine(source) {
                return Err(Refusal::HostPath { path: source.to_owned() });
            }
            if source != ENGINE_SOCKET {
                *bind = format!("{ENGINE_SOCKET}{}", &text[source.len()..]).into();
                self.changed = true;
            }
        }
        Ok(())
    }

    fn mounts(&mut self, value: &mut Value) -> Result<(), Refusal> {
        for mount in elements(value, "Mounts") {
            match member(mount, "Type").and_then(|kind| kind.as_str()) {
                Some("bind") => {
                    let Some(source) = member(mount, "Source") else { continue };
                    let path = source.as_str().unwrap_or_default();
                    if !self.means_engine(path) {
                        return Err(Refusal::HostPath { path: path.to_owned() });
                    }
                    if path != ENGINE_SOCKET {
                        *source = ENGINE_SOCKET.into();
                        self.changed = true;
                    }
                }
                Some("volume") => {
                    let options = member(mount, "VolumeOptions");
                    if let Some(config) = options.and_then(|options| member(options, "DriverConfig")) {
                        volume_driver(config, "Name", "Options")?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A member by name, in any case: Go's JSON decoder, and so the engine, takes it in any case too.
fn member<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let object = value.as_object_mut()?;
    // Where a name stands twice in different cases, the engine takes the last one.
    object.iter_mut().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next_back()
}

fn elements<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    member(value, name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A volume of the local driver with `o=bind` is a bind mount in disguise.
fn volume_driver(value: &mut Value, driver: &str, options: &str) -> Result<(), Refusal> {
    let local =
        member(value, driver).and_then(|name| name.as_str()).is_none_or(|name| name.is_empty() || name == "local");
    let Some(options) = member(value, options).filter(|_| local) else { return Ok(()) };
    let flags = member(options, "o").and_then(|flags| flags.as_str()).unwrap_or_default();
    if flags.split(',').any(|flag| matches!(flag, "bind" | "rbind")) {
        let path = member(options, "device").and_then(|device| device.as_str()).unwrap_or_default().to_owned();
        return Err(Refusal::HostPath { path });
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
    use serde_json::json;

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
