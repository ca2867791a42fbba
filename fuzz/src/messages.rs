//! What is read from the agent, from its client, from an engine and from the settings file.

use std::fmt::Debug;

use http::Method;
use overside_docker_api::{
    Container, Restorer, Route, User, answer_without_engine, bound_volumes, created, decode_path, first_file,
    without_desktop_labels,
};
use overside_model::{
    Settings, Status,
    agent::{EnvironmentSpec, Message, Report, Request},
};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use crate::Target;

/// The bytes are one line between agent, provider and tunnel.
pub(crate) fn messages() -> Target {
    Box::new(|line| {
        reads::<EnvironmentSpec>(line);
        reads::<Report>(line);
        reads::<Request>(line);
        reads::<Message>(line);
        // What the shells read.
        let _ = serde_json::from_slice::<Status>(line);
    })
}

/// What is understood is written as it was meant.
fn reads<T: Serialize + DeserializeOwned + PartialEq + Debug>(line: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(line) else { return };
    let written = serde_json::to_vec(&value).unwrap();
    assert!(!written.contains(&b'\n'), "a message is one line");
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), value);
}

/// The bytes are a settings file.
pub(crate) fn settings() -> Target {
    Box::new(|file| {
        let Ok(json) = serde_json::from_slice::<Value>(file) else { return };
        match Settings::from_json(&json) {
            Ok(settings) => {
                let written = settings.to_json();
                assert_eq!(Settings::from_json(&written), Ok(settings), "{written}");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    })
}

/// The bytes are an engine's `/info`, or what was kept of one.
pub(crate) fn facts() -> Target {
    Box::new(|info| {
        if let Some(stripped) = without_desktop_labels(info) {
            assert!(serde_json::from_slice::<IgnoredAny>(&stripped).is_ok(), "no JSON any more");
            let (Ok(before), Ok(after)) =
                (serde_json::from_slice::<Value>(info), serde_json::from_slice::<Value>(&stripped))
            else {
                return;
            };
            // The engine has its name in one case only; what is compared is how it names them.
            if before["Labels"].as_array().is_none() {
                return;
            }
            let mut expected = before;
            let labels = expected["Labels"].as_array_mut().unwrap();
            labels.retain(|label| !label.as_str().is_some_and(|label| label.starts_with("com.docker.desktop.")));
            assert_eq!(after, expected);
        }
        let Ok(facts) = serde_json::from_slice::<Value>(info) else { return };
        for path in ["/_ping", "/info", "/version", "/containers/json", "/images/x%2fy/json", "/volumes/v"] {
            if let Some(answer) = answer_without_engine(&Route::find(&Method::GET, &decode_path(path)), &facts) {
                assert!(matches!(answer.status, 200 | 404));
            }
        }
    })
}

/// The bytes are an answer of an engine's: as it streams by, and as the daemon reads it.
pub(crate) fn answers() -> Target {
    Box::new(|answer| {
        for windows in [false, true] {
            let mut restorer = Restorer::new(windows);
            let mut whole = restorer.feed(answer).unwrap_or_else(|| answer.to_vec());
            whole.extend(restorer.finish());
            for length in [1, 2, 7] {
                let (mut restorer, mut pieces) = (Restorer::new(windows), Vec::new());
                for piece in answer.chunks(length) {
                    pieces.extend(restorer.feed(piece).unwrap_or_else(|| piece.to_vec()));
                }
                pieces.extend(restorer.finish());
                assert_eq!(pieces, whole, "in pieces of {length}");
            }
        }
        if let Ok(json) = serde_json::from_slice::<Value>(answer) {
            Container::of(&json);
            bound_volumes(&json);
        }
        created(answer);
        first_file(answer);
        let text = String::from_utf8_lossy(answer);
        let (user, files) = text.split_once('\n').unwrap_or_default();
        User::of(user);
        User::resolve(user, files, files);
    })
}
