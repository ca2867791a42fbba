//! The ordered table of routes.
//!
//! A path may carry a version prefix (`/v1.41`) or none; both are kept as they are on the way to the engine, whatever the
//! version, and stripped only for finding the route. A route that the table does not have passes through and wakes.
//!
//! A route must be found wherever the engine's router (gorilla/mux) finds it, or a body that has to be looked at would go
//! past: that router takes the decoded path, takes digits and points in any order for a version, and answers a path with
//! empty or dotted segments with a redirection.

use std::borrow::Cow;

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
    /// The answer is JSON values that tell of progress, where an error may be among them as the last.
    pub progress: bool,
    /// The path's form with `{}` for a name, the same for all that ask the same; empty for routes without a row.
    pub shape: &'static str,
}

struct Row {
    methods: &'static [Method],
    template: &'static str,
    class: Class,
    body: Option<BodyKind>,
    /// The first API version (the minor number, of version 1) for which the row does not hold.
    until: Option<u64>,
    progress: bool,
}

const fn row(methods: &'static [Method], template: &'static str, class: Class) -> Row {
    Row { methods, template, class, body: None, until: None, progress: false }
}

const fn rewritten(template: &'static str, body: BodyKind) -> Row {
    Row { methods: POST, template, class: Class::Waking, body: Some(body), until: None, progress: false }
}

const fn rewritten_until(minor: u64, template: &'static str, body: BodyKind) -> Row {
    Row { methods: POST, template, class: Class::Waking, body: Some(body), until: Some(minor), progress: false }
}

const fn progress(template: &'static str) -> Row {
    Row { methods: POST, template, class: Class::Waking, body: None, until: None, progress: true }
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
/// The WebSocket form of attach is a GET.
const GET: &[Method] = &[Method::GET];
const DELETE: &[Method] = &[Method::DELETE];
const ARCHIVE: &[Method] = &[Method::GET, Method::HEAD, Method::PUT];

/// The first row that fits decides. Rows are only needed where a route is not simply [`Class::Waking`], or where something
/// has to be done around the call: containers that begin or end change which ports are published, and the laptop's files are to
/// be there for one that begins, and back for whoever hears of an end.
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
    row(READ, "/services", Class::Waking),
    row(READ, "/services/{}", Class::Waking),
    row(READ, "/tasks", Class::Waking),
    row(READ, "/tasks/{}", Class::Waking),
    row(READ, "/system/df", Class::Waking),
    row(POST, "/containers/{}/attach", Class::Hijack),
    row(GET, "/containers/{}/attach/ws", Class::Hijack),
    row(POST, "/exec/{}/start", Class::Hijack),
    row(POST, "/session", Class::H2c),
    row(POST, "/grpc", Class::H2c),
    rewritten("/containers/create", BodyKind::Container),
    rewritten_until(24, "/containers/{}/start", BodyKind::Start),
    row(POST, "/containers/{}/start", Class::Waking),
    row(POST, "/containers/{}/restart", Class::Waking),
    row(POST, "/containers/{}/stop", Class::Waking),
    row(POST, "/containers/{}/kill", Class::Waking),
    row(DELETE, "/containers/{}", Class::Waking),
    row(POST, "/containers/{}/wait", Class::Waking),
    row(POST, "/containers/{}/exec", Class::Waking),
    row(ARCHIVE, "/containers/{}/archive", Class::Waking),
    rewritten("/volumes/create", BodyKind::Volume),
    rewritten("/services/create", BodyKind::Service),
    rewritten("/services/{}/update", BodyKind::Service),
    progress("/build"),
    progress("/images/create"),
    progress("/images/load"),
    progress("/images/{}/push"),
    progress("/plugins/pull"),
    progress("/plugins/{}/upgrade"),
    progress("/plugins/{}/push"),
];

impl<'a> Route<'a> {
    /// Finds the route of a request by its method and the decoded path of its URI (without the query), see [`decode_path`].
    pub fn find(method: &Method, path: &'a str) -> Self {
        let unknown = Self { class: Class::Waking, name: None, body: None, progress: false, shape: "" };
        match clean(path) {
            Cow::Borrowed(path) => match look_up(method, path) {
                Some((row, name)) => Self {
                    class: row.class,
                    name: Some(name).filter(|name| !name.is_empty()),
                    body: row.body,
                    progress: row.progress,
                    shape: row.template,
                },
                None => unknown,
            },
            // The engine redirects to the clean path. Should one ever not, it does not see what was not looked at.
            Cow::Owned(path) => Self { body: look_up(method, &path).and_then(|(row, _)| row.body), ..unknown },
        }
    }
}

/// A parameter's value in the query of a URI, decoded; the first, where it is there more than once.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The path of a URI with its percent-encoding undone, as the engine routes by it. Bytes that are no UTF-8 become U+FFFD.
pub fn decode_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    loop {
        rest = match rest {
            [b'%', high, low, rest @ ..] if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                decoded.push(high << 4 | low);
                rest
            }
            // The engine refuses a request with anything else after a percent sign.
            [byte, rest @ ..] => {
                decoded.push(*byte);
                rest
            }
            [] => break,
        };
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// The path without empty and dotted segments; borrowed if it has none.
fn clean(path: &str) -> Cow<'_, str> {
    let Some(inner) = path.strip_prefix('/') else { return Cow::Borrowed(path) };
    let mut segments = inner.split('/').rev();
    let last = segments.next().unwrap_or_default();
    let unclean = |segment: &str| matches!(segment, "" | "." | "..");
    if !segments.any(unclean) && (last.is_empty() || !unclean(last)) {
        return Cow::Borrowed(path);
    }
    let mut kept = Vec::new();
    for segment in inner.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    Cow::Owned(format!("/{}", kept.join("/")))
}

fn look_up<'a>(method: &Method, path: &'a str) -> Option<(&'static Row, &'a str)> {
    let (version, bare) = split_version(path);
    TABLE
        .iter()
        .filter(|row| row.methods.contains(method) && row.until.is_none_or(|minor| is_before(version, minor)))
        .find_map(|row| Some((row, matches(row, bare)?)))
}

/// The version of the path's prefix, if it has one, and the path without it.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let split = path.strip_prefix("/v").and_then(|rest| rest.find('/').map(|slash| rest.split_at(slash)));
    match split {
        Some((version, bare))
            if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            (Some(version), bare)
        }
        _ => (None, path),
    }
}

/// Whether the engine takes the version for one before 1.`minor`. Without one it takes its own newest.
fn is_before(version: Option<&str>, minor: u64) -> bool {
    let Some(version) = version else { return false };
    let mut numbers = version.split('.').map(|part| {
        // To the engine nothing is zero, and what is too large is the largest.
        if part.is_empty() { 0 } else { part.parse().unwrap_or(u64::MAX) }
    });
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (1, minor)
}

/// The text that the template's `{}` stands for (empty without one), if the template fits the path.
fn matches<'a>(row: &Row, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = row.template.split_once("{}") else { return (row.template == path).then_some("") };
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    // Images have names with slashes, and by an old link a container may; elsewhere a slash means another, longer route.
    let slashes = row.body.is_some() || row.template.starts_with("/images/");
    (!name.is_empty() && (slashes || !name.contains('/'))).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_whole_name_and_decoded() {
        let query = "names=x&name=a%2Db&name=c&empty";
        assert_eq!(parameter(query, "name").as_deref(), Some("a-b"));
        assert_eq!(parameter(query, "empty").as_deref(), Some(""));
        assert_eq!(parameter(query, "nam"), None);
        assert_eq!(parameter("", "name"), None);
    }

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

    /// What dockerd 20.10 and 28.5 answered: the first group creates a container, the second is redirected.
    #[test]
    fn a_path_that_the_engine_takes_for_another_is_taken_for_it_here() {
        let body = |path| Route::find(&Method::POST, &decode_path(path)).body;
        for path in [
            "/%63ontainers/create",
            "/containers%2Fcreate",
            "/v1.41%2fcontainers/create",
            "/%761.41/containers/create",
            "/v1%2e41/containers/create",
            "/v1.41./containers/create",
            "/v1.41.0/containers/create",
            "/v01.41/containers/create",
            "//containers/create",
            "/v1.41//containers/create",
            "/v1.41/./containers/create",
            "/v1.41/../containers/create",
            "/v1.41/%2e%2e/containers/create",
        ] {
            assert_eq!(body(path), Some(BodyKind::Container), "{path}");
        }
        // Nothing is there.
        for path in ["/containers/create/", "/containers/create%0a", "/V1.41/containers/create", "/v/containers/create"]
        {
            assert_eq!(body(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_that_the_engine_redirects_is_not_answered_locally() {
        for path in ["//_ping", "/images/../x/json", "/v1.41/containers/./json", "/containers//json", "/_ping/."] {
            assert_eq!(class(Method::GET, path), Class::Waking, "{path}");
        }
    }

    #[test]
    fn the_body_of_a_start_is_looked_at_where_the_engine_takes_one() {
        let body = |path| Route::find(&Method::POST, path).body;
        for path in ["/v1.23/containers/x/start", "/v1/containers/x/start", "/v1..41/containers/a/b/start"] {
            assert_eq!(body(path), Some(BodyKind::Start), "{path}");
        }
        for path in ["/v1.24/containers/x/start", "/v1.41./containers/x/start", "/v2/containers/x/start"] {
            assert_eq!(body(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_the_table_panic(path in "\\PC*") {
            Route::find(&Method::GET, &path);
            Route::find(&Method::POST, &decode_path(&path));
        }
    }
}
