//! Refusing what would name files of the wrong machine.
//!
//! An engine that is told to bind a path of the laptop finds nothing there and silently makes an empty directory (an old
//! trap). Until a request can be rewritten so that the laptop's files are in the environment, it is refused.

use serde_json::Value;

/// Why a request is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not the JSON object that the route takes.
    #[error("the request's body is not a JSON object")]
    NotAnObject,
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
            Self::NotAnObject => "",
            Self::HostPath { .. } => "Use a named volume, `docker cp` or a build with COPY.",
        }
    }
}

/// Looks at the body of `POST /containers/create`.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn check_container_create(body: &[u8]) -> Result<(), Refusal> {
    let body = object(body)?;
    let Some(host_config) = member(&body, "HostConfig") else { return Ok(()) };
    for bind in array(host_config, "Binds") {
        if let Some(path) = bind.as_str().and_then(host_source) {
            return Err(Refusal::HostPath { path });
        }
    }
    mounts(host_config)
}

/// Looks at the body of `POST /volumes/create`.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn check_volume_create(body: &[u8]) -> Result<(), Refusal> {
    volume_driver(&object(body)?, "Driver", "DriverOpts")
}

/// Looks at the body of `POST /services/create` and `/services/{id}/update`.
///
/// # Errors
/// [`Refusal`], and the request must then not be forwarded.
pub fn check_service_spec(body: &[u8]) -> Result<(), Refusal> {
    let body = object(body)?;
    let container = member(&body, "TaskTemplate").and_then(|template| member(template, "ContainerSpec"));
    container.map_or(Ok(()), mounts)
}

fn object(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).ok().filter(Value::is_object).ok_or(Refusal::NotAnObject)
}

/// A member by name, in any case: Go's JSON decoder, and so the engine, takes it in any case too.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    // Where a name stands twice in different cases, the engine takes the last one.
    object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next_back()
}

fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    member(value, name).and_then(Value::as_array).into_iter().flatten()
}

fn mounts(value: &Value) -> Result<(), Refusal> {
    for mount in array(value, "Mounts") {
        match member(mount, "Type").and_then(Value::as_str) {
            Some("bind") => {
                let path = member(mount, "Source").and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(Refusal::HostPath { path });
            }
            Some("volume") => {
                if let Some(config) = member(mount, "VolumeOptions").and_then(|options| member(options, "DriverConfig"))
                {
                    volume_driver(config, "Name", "Options")?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A volume of the local driver with `o=bind` is a bind mount in disguise.
fn volume_driver(value: &Value, driver: &str, options: &str) -> Result<(), Refusal> {
    let local = member(value, driver).and_then(Value::as_str).is_none_or(|name| name.is_empty() || name == "local");
    let Some(options) = member(value, options).filter(|_| local) else { return Ok(()) };
    let flags = member(options, "o").and_then(Value::as_str).unwrap_or_default();
    if flags.split(',').any(|flag| matches!(flag, "bind" | "rbind")) {
        let path = member(options, "device").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Err(Refusal::HostPath { path });
    }
    Ok(())
}

/// The source of a bind in `-v` syntax if it is a path rather than a volume's name.
fn host_source(bind: &str) -> Option<String> {
    let windows_drive =
        bind.as_bytes().get(1) == Some(&b':') && bind.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    let source = if windows_drive {
        let end = bind[2..].find(':').map_or(bind.len(), |at| at + 2);
        // `a:/b` is the one-letter volume a; a drive is followed by a slash and another target.
        if end == bind.len() {
            return None;
        }
        &bind[..end]
    } else {
        bind.split_once(':').map(|(source, _)| source)?
    };
    let volume_name =
        !source.is_empty() && !source.contains(['/', '\\']) && source != "." && source != ".." && source != "~";
    (!volume_name).then(|| source.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn create(host_config: Value) -> Result<(), Refusal> {
        check_container_create(json!({ "Image": "x", "HostConfig": host_config }).to_string().as_bytes())
    }

    #[test]
    fn a_path_of_the_laptop_is_refused_in_every_spelling() {
        let volume = |name: &str| json!({"Name": name, "Options": {"type": "none", "o": "ro,bind", "device": "/src"}});
        for host_config in [
            json!({"Binds": ["data:/data", "/src:/app"]}),
            json!({"binds": ["./src:/app:ro"]}),
            json!({"Binds": ["C:\\src:/app"]}),
            json!({"Binds": ["C:/src:/app"]}),
            json!({"Mounts": [{"Type": "bind", "Source": "/src", "Target": "/app"}]}),
            json!({"Mounts": [{"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": volume("local")}}]}),
        ] {
            assert!(matches!(create(host_config.clone()), Err(Refusal::HostPath { .. })), "{host_config}");
        }
        let body = json!({"Name": "v", "DriverOpts": {"o": "bind", "device": "/src"}});
        assert_eq!(
            check_volume_create(body.to_string().as_bytes()),
            Err(Refusal::HostPath { path: "/src".to_owned() })
        );
    }

    #[test]
    fn volumes_and_temporary_file_systems_pass() {
        for host_config in [
            Value::Null,
            json!({}),
            json!({"Binds": null, "Mounts": null}),
            json!({"Binds": ["data:/data:ro", "a:/b", "/anonymous"]}),
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/t"}, {"Type": "volume", "Source": "v", "Target": "/v"}]}),
        ] {
            assert_eq!(create(host_config.clone()), Ok(()), "{host_config}");
        }
        let nfs = json!({"Name": "v", "DriverOpts": {"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}});
        assert_eq!(check_volume_create(nfs.to_string().as_bytes()), Ok(()));
    }

    #[test]
    fn a_service_is_looked_at_too() {
        let spec = json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/src"}]}}});
        assert!(check_service_spec(spec.to_string().as_bytes()).is_err());
        assert_eq!(check_service_spec(b"{}"), Ok(()));
    }

    #[test]
    fn what_is_not_an_object_is_refused_rather_than_passed_on() {
        for body in ["", "[]", "{", "null", "\"x\""] {
            assert_eq!(check_container_create(body.as_bytes()), Err(Refusal::NotAnObject));
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_a_check_panic(body in proptest::collection::vec(any::<u8>(), 0..200), bind in "\\PC{0,20}") {
            let _ = check_container_create(&body);
            let _ = check_volume_create(&body);
            let _ = create(json!({"Binds": [bind]}));
        }
    }
}
