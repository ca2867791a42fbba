//! What dockerd makes of a request, written down a second time and in another way: its router's expressions, and its JSON
//! decoder with members that stand twice, in any case.

use std::fmt;

use overside_docker_api::BodyKind;
use regex::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

/// JSON with every member of an object, also those of the same name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// Null, numbers, booleans.
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Json::Array(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Unicode's simple folding as far as it leads into ASCII.
fn fold(name: &str) -> String {
    name.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase()
}

impl Json {
    /// All values that the decoder may read a struct's member from.
    fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        let members = if let Self::Object(members) = self { members.as_slice() } else { &[] };
        members.iter().filter(move |(key, _)| fold(key) == fold(name)).map(|(_, value)| value)
    }

    fn elements(&self) -> &[Self] {
        if let Self::Array(elements) = self { elements } else { &[] }
    }

    fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }
}

/// Every path of the machine that the engine could be told to bind by this body. More than it would: of what stands twice,
/// both count.
pub(crate) fn bound_paths(kind: BodyKind, body: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    let mut host_config = |value: &Json| {
        for bind in value.members("Binds").flat_map(Json::elements) {
            // Linux: what is before the first colon, if it is absolute.
            let (source, _) = bind.text().split_once(':').unwrap_or_default();
            paths.extend(source.starts_with('/').then(|| source.to_owned()));
        }
        paths.extend(mounted(value));
    };
    match kind {
        BodyKind::Container => {
            host_config(body);
            body.members("HostConfig").for_each(host_config);
        }
        BodyKind::Start => host_config(body),
        BodyKind::Volume => paths.extend(driven(body, "Driver", "DriverOpts")),
        BodyKind::Service => {
            let specs = body.members("TaskTemplate").flat_map(|template| template.members("ContainerSpec"));
            paths.extend(specs.flat_map(mounted));
        }
    }
    paths
}

fn mounted(owner: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    for mount in owner.members("Mounts").flat_map(Json::elements) {
        for kind in mount.members("Type") {
            if kind.text() == "bind" {
                // What is not absolute it refuses.
                let sources = mount.members("Source").map(Json::text).filter(|source| source.starts_with('/'));
                paths.extend(sources.map(str::to_owned));
            } else if kind.text() == "volume" {
                let options = mount.members("VolumeOptions");
                let configs = options.flat_map(|options| options.members("DriverConfig"));
                paths.extend(configs.flat_map(|config| driven(config, "Name", "Options")));
            }
        }
    }
    paths
}

fn driven(owner: &Json, driver: &str, options: &str) -> Vec<String> {
    let local = |name: &Json| matches!(name.text(), "" | "local");
    if owner.members(driver).next().is_some() && !owner.members(driver).any(local) {
        return Vec::new();
    }
    let entries = |name| {
        let maps = owner.members(options).filter_map(|map| if let Json::Object(map) = map { Some(map) } else { None });
        maps.flatten().filter(move |(key, _)| key == name).map(|(_, value)| value.text())
    };
    let binds = entries("o").any(|flags| flags.split(',').any(|flag| flag == "bind" || flag == "rbind"));
    let devices = entries("device").map(str::to_owned).chain(Some(String::new()));
    if binds { devices.collect() } else { Vec::new() }
}

/// What the engine's router makes of the path of a POST, by the expressions that gorilla/mux compiles its templates to.
pub(crate) struct Router {
    routes: Vec<(Regex, BodyKind)>,
    start: Regex,
}

impl Router {
    pub(crate) fn new() -> Self {
        let route = |path: &str| Regex::new(&format!(r"\A(?:/v(?P<version>[0-9.]+))?{path}\z")).unwrap();
        let routes = vec![
            (route("/containers/create"), BodyKind::Container),
            (route("/volumes/create"), BodyKind::Volume),
            (route("/services/create"), BodyKind::Service),
            (route("/services/[^/]+/update"), BodyKind::Service),
        ];
        Self { routes, start: route("/containers/.*/start") }
    }

    /// The kind of body that is read on this path, which is decoded and clean.
    pub(crate) fn kind(&self, path: &str) -> Option<BodyKind> {
        if let Some((_, kind)) = self.routes.iter().find(|(route, _)| route.is_match(path)) {
            return Some(*kind);
        }
        let version = self.start.captures(path)?.name("version")?;
        is_less(version.as_str(), "1.24").then_some(BodyKind::Start)
    }
}

/// The engine's own comparison of versions.
fn is_less(one: &str, other: &str) -> bool {
    let numbers = |version: &str| {
        version.split('.').map(|part| part.parse().unwrap_or(if part.is_empty() { 0 } else { i64::MAX })).collect()
    };
    let (mut one, mut other): (Vec<i64>, Vec<i64>) = (numbers(one), numbers(other));
    let length = one.len().max(other.len());
    one.resize(length, 0);
    other.resize(length, 0);
    one < other
}

/// The decoded path of a request's target; None where the engine answers that it is malformed.
pub(crate) fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path to which the router redirects, or the path itself.
pub(crate) fn cleaned(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
        if segment == ".." {
            kept.pop();
        } else {
            kept.push(segment);
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}
