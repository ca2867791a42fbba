//! Engine labels that must not reach clients.

use serde_json::Value;

/// Compose takes an engine with a label of this prefix for Docker Desktop, and calls the socket that the label names.
const DESKTOP: &str = "com.docker.desktop.";

/// The body of `GET /info` without the labels by which Compose recognises Docker Desktop. None if there are none: the body is
/// then to be forwarded byte for byte.
pub fn without_desktop_labels(info: &[u8]) -> Option<Vec<u8>> {
    let mut info: Value = serde_json::from_slice(info).ok()?;
    let labels = info.get_mut("Labels")?.as_array_mut()?;
    let before = labels.len();
    labels.retain(|label| !label.as_str().is_some_and(|label| label.starts_with(DESKTOP)));
    (labels.len() < before).then(|| info.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_does_not_take_the_engine_for_docker_desktop() {
        let info = br#"{"ID":"x","Labels":["a=b","com.docker.desktop.address=unix:///x.sock"],"NCPU":2}"#;
        let stripped = without_desktop_labels(info).unwrap();
        assert_eq!(stripped, br#"{"ID":"x","Labels":["a=b"],"NCPU":2}"#);
    }

    #[test]
    fn an_answer_without_such_labels_is_left_as_it_is() {
        for info in [&br#"{"Labels":["a=b"]}"#[..], br#"{"Labels":null}"#, b"{}", b"[]", b"not json", b""] {
            assert_eq!(without_desktop_labels(info), None);
        }
    }
}
