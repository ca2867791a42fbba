//! Engine labels that must not reach clients.

use crate::json::{Document, Part};

/// Compose takes an engine with a label of this prefix for Docker Desktop, and calls the socket that the label names.
const DESKTOP: &str = "com.docker.desktop.";

/// The body of `GET /info` without the labels by which Compose recognises Docker Desktop, and otherwise byte for byte. None if
/// there are none.
pub fn without_desktop_labels(info: &[u8]) -> Option<Vec<u8>> {
    let (mut document, root) = Document::parse(info).ok()?;
    let labels = root.member("Labels").ok()??;
    let all = labels.elements().ok()?;
    let misleads = |label: &Part<'_>| matches!(label.text(), Ok(Some(text)) if text.starts_with(DESKTOP));
    if !all.iter().any(misleads) {
        return None;
    }
    let kept: Vec<&str> = all.iter().filter(|label| !misleads(label)).map(|label| label.json()).collect();
    document.put(labels, format!("[{}]", kept.join(",")));
    document.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_does_not_take_the_engine_for_docker_desktop() {
        let info = br#"{"ID":"x","Labels":["a=b","com.docker.desktop.address=unix:///x.sock"], "MemTotal":117777777777777777777777777e3}"#;
        let stripped = without_desktop_labels(info).unwrap();
        assert_eq!(stripped, br#"{"ID":"x","Labels":["a=b"], "MemTotal":117777777777777777777777777e3}"#);
    }

    #[test]
    fn an_answer_without_such_labels_is_left_as_it_is() {
        for info in [&br#"{"Labels":["a=b"]}"#[..], br#"{"Labels":null}"#, b"{}", b"[]", b"not json", b""] {
            assert_eq!(without_desktop_labels(info), None);
        }
    }
}
