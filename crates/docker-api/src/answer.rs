//! Answers that Overside gives itself, in the engine's own words.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::{IdleAnswer, Route, route::Class};

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers besides the content's type and length.
    pub headers: Vec<(String, String)>,
    /// The content's type.
    pub content_type: Cow<'static, str>,
    /// The body.
    pub body: Vec<u8>,
}

/// The engine's form of an error: `{"message": …}`.
pub fn error_body(message: &str) -> Vec<u8> {
    let mut body = json!({ "message": message }).to_string().into_bytes();
    body.push(b'\n');
    body
}

/// The answer to a passive call while there is no engine, or None where only an engine knows it.
///
/// `facts` is what the last engine told while it was fresh: an object with `ping` (its headers), `version` and `info`.
pub fn answer_without_engine(route: &Route<'_>, facts: &Value) -> Option<LocalAnswer> {
    let Class::Passive(answer) = route.class else { return None };
    let headers = engine_headers(facts)?;
    let name = route.name.unwrap_or_default();
    let (status, body) = match answer {
        IdleAnswer::Ping => {
            return Some(LocalAnswer {
                status: 200,
                headers,
                content_type: "text/plain; charset=utf-8".into(),
                body: b"OK".into(),
            });
        }
        IdleAnswer::Version => (200, facts.get("version").filter(|value| value.is_object())?.to_string()),
        IdleAnswer::Info => (200, facts.get("info").filter(|value| value.is_object())?.to_string()),
        IdleAnswer::EmptyArray => (200, "[]".to_owned()),
        IdleAnswer::NoVolumes => (200, r#"{"Volumes":[],"Warnings":null}"#.to_owned()),
        IdleAnswer::NoContainer => (404, json!({ "message": format!("No such container: {name}") }).to_string()),
        IdleAnswer::NoImage => (404, json!({ "message": format!("No such image: {}", tagged(name)) }).to_string()),
        IdleAnswer::NoVolume => (404, json!({ "message": format!("get {name}: no such volume") }).to_string()),
    };
    Some(LocalAnswer { status, headers, content_type: "application/json".into(), body: format!("{body}\n").into() })
}

/// The headers by which clients recognise the engine's API version. Without them a client would fall back to an old API for
/// the rest of its command, so that without them nothing is answered locally.
pub fn engine_headers(facts: &Value) -> Option<Vec<(String, String)>> {
    let ping = facts.get("ping")?.as_object()?;
    let headers: Vec<_> =
        ping.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("api-version")).then_some(headers)
}

/// The API of the oldest engine that environments have. Newer ones speak it as well, up to Docker 28.
const OLDEST_API: &str = "1.41";

/// API versions by the engine's version, from the Engine API's version history; the first that is not newer counts.
const API_VERSIONS: [((u32, u32), &str); 12] = [
    ((29, 0), "1.52"),
    ((28, 3), "1.51"),
    ((28, 2), "1.50"),
    ((28, 1), "1.49"),
    ((28, 0), "1.48"),
    ((27, 2), "1.47"),
    ((27, 0), "1.46"),
    ((26, 0), "1.45"),
    ((25, 0), "1.44"),
    ((24, 0), "1.43"),
    ((23, 0), "1.42"),
    ((20, 10), OLDEST_API),
];

/// The facts that are known of an engine by its version only: enough for `_ping`. A newer engine than the table's is taken for
/// the table's newest, whose API it speaks as well. None for one that is older.
pub fn facts_of_version(version: &str) -> Option<Value> {
    let mut numbers = version.split(['.', '+', '-', '~']).map(str::parse::<u32>);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let (_, api) = API_VERSIONS.iter().find(|(since, _)| *since <= version)?;
    Some(facts_of_api(api))
}

/// The facts for a `_ping` while nothing at all is known of the engine that will be: it must be answered, and wakes nothing.
pub fn facts_of_any() -> Value {
    facts_of_api(OLDEST_API)
}

fn facts_of_api(version: &str) -> Value {
    let mut ping = json!({ "api-version": version, "docker-experimental": "false", "ostype": "linux" });
    // The oldest engine names no builder, and its client then takes the one before BuildKit.
    if version != OLDEST_API {
        ping["builder-version"] = "2".into();
        ping["swarm"] = "inactive".into();
    }
    json!({ "ping": ping })
}

/// An image's name as the engine repeats it: with the tag that it assumed.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn facts() -> Value {
        json!({ "ping": { "Api-Version": "1.41", "Ostype": "linux" }, "version": { "Version": "20.10" } })
    }

    #[test]
    fn passive_calls_are_answered_as_a_fresh_engine_would() {
        let text = |method, path| {
            let answer = answer_without_engine(&Route::find(&method, path), &facts())?;
            Some((answer.status, String::from_utf8(answer.body).unwrap()))
        };
        assert_eq!(text(Method::GET, "/_ping"), Some((200, "OK".to_owned())));
        assert_eq!(text(Method::GET, "/v1.41/version"), Some((200, "{\"Version\":\"20.10\"}\n".to_owned())));
        assert_eq!(text(Method::GET, "/v1.41/containers/json"), Some((200, "[]\n".to_owned())));
        let missing = "{\"message\":\"No such image: busybox:latest\"}\n".to_owned();
        assert_eq!(text(Method::GET, "/images/busybox/json"), Some((404, missing)));
    }

    #[test]
    fn a_version_alone_is_enough_for_a_ping_and_for_nothing_else() {
        let api = |version| Some(facts_of_version(version)?["ping"]["api-version"].as_str().unwrap().to_owned());
        assert_eq!(api("20.10.24+dfsg1").as_deref(), Some("1.41"));
        assert_eq!(api("28.5.2").as_deref(), Some("1.51"));
        assert_eq!(api("27.1.1").as_deref(), Some("1.46"));
        assert_eq!(api("31.0.0-rc.1").as_deref(), Some("1.52"));
        for unknown in ["19.03.1", "", "master", "20"] {
            assert_eq!(api(unknown), None, "{unknown}");
        }
        let builder = |facts: Value| facts["ping"].get("builder-version").cloned();
        assert_eq!((builder(facts_of_any()), builder(facts_of_version("20.10.24").unwrap())), (None, None));
        let facts = facts_of_version("28.5.2").unwrap();
        assert_eq!(builder(facts.clone()), Some("2".into()));
        let answered = |path| answer_without_engine(&Route::find(&Method::GET, path), &facts).is_some();
        assert!(answered("/_ping") && answered("/containers/json"));
        assert!(!answered("/version") && !answered("/info"));
    }

    #[test]
    fn what_was_never_seen_is_not_made_up() {
        assert_eq!(answer_without_engine(&Route::find(&Method::GET, "/info"), &facts()), None);
        assert_eq!(answer_without_engine(&Route::find(&Method::GET, "/_ping"), &json!({})), None);
        assert_eq!(answer_without_engine(&Route::find(&Method::GET, "/containers/json"), &json!({})), None);
        assert_eq!(answer_without_engine(&Route::find(&Method::POST, "/containers/create"), &facts()), None);
    }
}
