//! Paths of requests.

use http::Method;
use overside_docker_api::{Class, IdleAnswer, Route, decode_path};
use regex::Regex;

use crate::{
    Target,
    engine::{Router, cleaned, decoded},
    script::Script,
};

/// The bytes are a path.
pub(crate) fn routes() -> Target {
    let judge = Judge::new();
    Box::new(move |path| judge.check(&String::from_utf8_lossy(path)))
}

/// The bytes are decisions about a path of known pieces.
pub(crate) fn grammar() -> Target {
    let judge = Judge::new();
    Box::new(move |script| {
        let mut script = Script(script);
        let mut path = String::new();
        while !script.is_over() && path.len() < 200 {
            path.push_str(script.one_of(PIECES));
        }
        judge.check(&path);
    })
}

const PIECES: &[&str] = &[
    "/",
    "/v1.41",
    "/v1.23",
    "/v1.",
    "/v",
    "1.24",
    ".",
    "..",
    "//",
    "/containers",
    "/create",
    "/volumes",
    "/services",
    "/update",
    "/start",
    "/json",
    "/images",
    "/attach",
    "/ws",
    "/exec",
    "/session",
    "/grpc",
    "/_ping",
    "/events",
    "/info",
    "/version",
    "/x",
    "%2f",
    "%2F",
    "%63",
    "%2e",
    "%",
    "%zz",
    "%00",
    "%0a",
    "%ff",
    "\u{17f}",
    "containers/create",
    "a%2fb",
];

struct Judge {
    router: Router,
    passive: Vec<(Class, Regex)>,
}

impl Judge {
    fn new() -> Self {
        let passive = [
            (IdleAnswer::Ping, "/_ping"),
            (IdleAnswer::Version, "/version"),
            (IdleAnswer::Info, "/info"),
            (IdleAnswer::EmptyArray, "/(containers|images)/json"),
            (IdleAnswer::NoVolumes, "/volumes"),
            (IdleAnswer::NoContainer, "(?s)/containers/.+/(json|stats|logs|top)"),
            (IdleAnswer::NoImage, "(?s)/images/.+/(json|history)"),
            (IdleAnswer::NoVolume, "(?s)/volumes/.+"),
        ];
        let whole = |path: &str| Regex::new(&format!(r"\A(/v[0-9.]+)?(?:{path})\z")).unwrap();
        let passive = passive.into_iter().map(|(answer, path)| (Class::Passive(answer), whole(path))).collect();
        Self { router: Router::new(), passive }
    }

    fn check(&self, path: &str) {
        let ours = decode_path(path);
        let post = Route::find(&Method::POST, &ours);
        let get = Route::find(&Method::GET, &ours);
        assert_eq!(get.body, None, "{path}");
        for method in [Method::PUT, Method::DELETE, Method::CONNECT, Method::OPTIONS] {
            assert_eq!(Route::find(&method, &ours).class, Class::Waking, "{path}");
        }
        let Some(theirs) = decoded(path) else { return };
        assert_eq!(ours, theirs, "decoded from {path}");
        let clean = cleaned(&theirs);
        if theirs.starts_with('/') {
            // Where the engine would read such a body, also only after a redirection, it is looked at.
            if let Some(kind) = self.router.kind(&clean) {
                assert_eq!(post.body, Some(kind), "{path}");
            }
        }
        if clean != theirs {
            assert_eq!((post.class, get.class), (Class::Waking, Class::Waking), "{path} is redirected");
            return;
        }
        if let Class::Passive(_) = get.class {
            let expected = self.passive.iter().find(|(_, route)| route.is_match(&theirs));
            assert_eq!(Some(get.class), expected.map(|(class, _)| *class), "{path}");
        }
        if let Some(name) = get.name {
            assert!(theirs.contains(name) && !name.is_empty());
        }
    }
}
