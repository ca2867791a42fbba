//! The ordered table of routes.
//!
//! A path may carry a version prefix (`/v1.41`) or none; both are kept as they are on the way to the engine, whatever the
//! version, and stripped only for finding the route. A route that the table does not have passes through and wakes.

use http::Method;

use crate::BodyKind;

/// What the session needs to know about a call before it is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Asks, and can be answered without an engine while there is none: does not wake. Whether it counts while an engine
    /// runs is the session's rule.
    Passive(IdleAnswer),
    /// Needs the engine, and its connection counts as activity for as long as it lasts.
    Waking,
    /// A held `/events` stream: neither wakes nor counts; is held until an engine is there.
    Events,
    /// Turns into a raw stream both ways: attach, exec.
    Hijack,
    /// Turns into HTTP/2 both ways: BuildKit's session and its gRPC API.
    H2c,
}

/// The answer that is known although there is no engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleAnswer {
    /// The headers of the last engine's `_ping`.
    Ping,
    /// The last engine's `/version`.
    Version,
    /// The last engine's `/info` from the moment when it was fresh.
    Info,
    /// `[]`.
    EmptyArray,
    /// `{"Volumes":[],"Warnings":null}`.
    NoVolumes,
    /// 404: there is no such container.
    NoContainer,
    /// 404: there is no such image.
    NoImage,
    /// 404: there is no such volume.
    NoVolume,
}

/// A call's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// What the call needs.
    pub class: Class,
    /// The part of the path that a `{}` of the template stands for: a name or id, possibly with slashes (images).
    pub name: Option<&'a str>,
    /// The body, where it must be looked at before it may be forwarded.
    pub body: Option<BodyKind>,
}

struct Row {
    methods: &'static [Method],
    template: &'static str,
    class: Class,
    body: Option<BodyKind>,
}

const fn row(methods: &'static [Method], template: &'static str, class: Class) -> Row {
    Row { methods, template, class, body: None }
}

const fn rewritten(template: &'static str, body: BodyKind) -> Row {
    Row { methods: POST, template, class: Class::Waking, body: Some(body) }
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
/// The WebSocket form of attach is a GET.
const GET: &[Method] = &[Method::GET];

/// The first row that fits decides. Rows are only needed where a route is not simply [`Class::Waking`].
const TABLE: &[Row] = &[
    row(READ, "/_ping", Class::Passive(IdleAnswer::Ping)),
    row(READ, "/version", Class::Passive(IdleAnswer::Version)),
    row(READ, "/info", Class::Passive(IdleAnswer::Info)),
    row(READ, "/events", Class::Events),
    row(READ, "/containers/json", Class::Passive(IdleAnswer::EmptyArray)),
    row(READ, "/images/json", Class::Passive(IdleAnswer::EmptyArray)),
    row(READ, "/volumes", Class::Passive(IdleAnswer::NoVolumes)),
    row(READ, "/containers/{}/json", Class::Passive(IdleAnswer::NoContainer)),
    row(READ, "/containers/{}/stats", Class::Passive(IdleAnswer::NoContainer)),
    row(READ, "/containers/{}/logs", Class::Passive(IdleAnswer::NoContainer)),
    row(READ, "/containers/{}/top", Class::Passive(IdleAnswer::NoContainer)),
    row(READ, "/images/{}/json", Class::Passive(IdleAnswer::NoImage)),
    row(READ, "/images/{}/history", Class::Passive(IdleAnswer::NoImage)),
    row(READ, "/volumes/{}", Class::Passive(IdleAnswer::NoVolume)),
    row(POST, "/containers/{}/attach", Class::Hijack),
    row(GET, "/containers/{}/attach/ws", Class::Hijack),
    row(POST, "/exec/{}/start", Class::Hijack),
    row(POST, "/session", Class::H2c),
    row(POST, "/grpc", Class::H2c),
    rewritten("/containers/create", BodyKind::Container),
    rewritten("/volumes/create", BodyKind::Volume),
    rewritten("/services/create", BodyKind::Service),
    rewritten("/services/{}/update", BodyKind::Service),
];

impl<'a> Route<'a> {
    /// Finds the route of a request by its method and the path of its URI (without the query).
    pub fn find(method: &Method, path: &'a str) -> Self {
        let bare = without_version(path);
        for row in TABLE {
            if !row.methods.contains(method) {
                continue;
            }
            if let Some(name) = matches(row.template, bare) {
                return Self { class: row.class, name: Some(name).filter(|name| !name.is_empty()), body: row.body };
            }
        }
        Self { class: Class::Waking, name: None, body: None }
    }
}

/// The path without its version prefix.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v") else { return path };
    let Some(slash) = rest.find('/') else { return path };
    let version = &rest[..slash];
    let numeric = version.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric { &rest[slash..] } else { path }
}

/// The text that the template's `{}` stands for (empty without one), if the template fits the path.
fn matches<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = template.split_once("{}") else { return (template == path).then_some("") };
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    // Only images have names with slashes; elsewhere a slash means another, longer route.
    let fits = !name.is_empty() && (template.starts_with("/images/") || !name.contains('/'));
    fits.then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(method: Method, path: &str) -> Class {
        Route::find(&method, path).class
    }

    #[test]
    fn a_version_prefix_of_any_version_does_not_change_the_route() {
        for prefix in ["", "/v1.24", "/v1.41", "/v1.999", "/v2"] {
            assert_eq!(class(Method::GET, &format!("{prefix}/_ping")), Class::Passive(IdleAnswer::Ping));
            assert_eq!(class(Method::POST, &format!("{prefix}/exec/abc/start")), Class::Hijack);
            assert_eq!(class(Method::POST, &format!("{prefix}/session")), Class::H2c);
        }
    }

    #[test]
    fn what_the_table_does_not_know_wakes_and_passes_through() {
        for path in ["/", "", "/v1.41", "/vx/_ping", "/containers", "/containers/a/b/json", "/brand/new"] {
            assert_eq!(class(Method::GET, path), Class::Waking, "{path}");
        }
        assert_eq!(class(Method::POST, "/containers/x/json"), Class::Waking);
        assert_eq!(class(Method::DELETE, "/images/x/json"), Class::Waking);
    }

    #[test]
    fn the_name_in_a_path_may_hold_slashes_for_images_only() {
        let route = Route::find(&Method::GET, "/v1.41/images/library/busybox:latest/json");
        assert_eq!((route.class, route.name), (Class::Passive(IdleAnswer::NoImage), Some("library/busybox:latest")));
        assert_eq!(Route::find(&Method::GET, "/containers/web/json").name, Some("web"));
    }

    #[test]
    fn bodies_that_name_files_of_the_laptop_are_looked_at() {
        let check = |path| Route::find(&Method::POST, path).body;
        assert_eq!(check("/v1.47/containers/create"), Some(BodyKind::Container));
        assert_eq!(check("/volumes/create"), Some(BodyKind::Volume));
        assert_eq!(check("/services/web/update"), Some(BodyKind::Service));
        assert_eq!(check("/containers/x/start"), None);
    }

    proptest! {
        #[test]
        fn no_path_makes_the_table_panic(path in "\\PC*") {
            Route::find(&Method::GET, &path);
            Route::find(&Method::POST, &path);
        }
    }
}
