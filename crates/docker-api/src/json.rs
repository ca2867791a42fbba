//! JSON as the engine's decoder (Go's `encoding/json`) takes it, and edits that leave every other byte as it is.
//!
//! That decoder takes a member's name in any case, also the two letters outside of ASCII that fold into it. Where a name
//! stands twice, objects are merged and the rest is replaced: what a body means can then no longer be told from one of both.
//! Nobody writes such a body but to be read differently by two readers, so that it is refused.

use std::{fmt, ops::Range};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::Refusal;

/// A whole document that is looked at in places, and the changes to it.
pub(crate) struct Document<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Document<'a> {
    /// The document and its root.
    pub(crate) fn parse(body: &'a [u8]) -> Result<(Self, Part<'a>), Refusal> {
        let text = str::from_utf8(body).map_err(|_| Refusal::NotJson)?;
        let root = serde_json::from_str(text).map_err(|_| Refusal::NotJson)?;
        Ok((Self { text, edits: Vec::new() }, Part(root)))
    }

    /// Puts a string in the place of a part of this document.
    pub(crate) fn replace(&mut self, part: Part<'a>, text: &str) {
        self.put(part, serde_json::Value::from(text).to_string());
    }

    /// Puts JSON in the place of a part of this document.
    pub(crate) fn put(&mut self, part: Part<'a>, json: String) {
        // The part is a piece of the document's own text.
        let start = part.0.get().as_ptr().addr() - self.text.as_ptr().addr();
        self.edits.push((start..start + part.0.get().len(), json));
    }

    /// The changed document; None if nothing was changed.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_by_key(|(place, _)| place.start);
        let mut changed = String::with_capacity(self.text.len());
        let mut at = 0;
        for (place, text) in &self.edits {
            changed.push_str(&self.text[at..place.start]);
            changed.push_str(text);
            at = place.end;
        }
        changed.push_str(&self.text[at..]);
        Some(changed.into_bytes())
    }
}

/// A value somewhere in a document.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a>(&'a RawValue);

impl<'a> Part<'a> {
    /// The member that the engine takes for `name`. None if there is none, or null, or this is no object.
    pub(crate) fn member(self, name: &str) -> Result<Option<Part<'a>>, Refusal> {
        self.only(name, |key| folds_to(key, name))
    }

    /// The entry of a map: its keys are the user's, and mean themselves only.
    pub(crate) fn entry(self, key: &str) -> Result<Option<Part<'a>>, Refusal> {
        self.only(key, |other| other == key)
    }

    fn only(self, name: &str, fits: impl Fn(&str) -> bool) -> Result<Option<Part<'a>>, Refusal> {
        let mut found = self.entries()?.into_iter().filter(|(key, _)| fits(key)).map(|(_, value)| value);
        let first = found.next();
        if found.next().is_some() {
            return Err(Refusal::Ambiguous { name: name.to_owned() });
        }
        Ok(first.filter(|part| part.0.get() != "null"))
    }

    /// The entries of a map in their order; none if this is no object.
    pub(crate) fn entries(self) -> Result<Vec<(String, Part<'a>)>, Refusal> {
        if !self.0.get().starts_with('{') {
            return Ok(Vec::new());
        }
        let Members(members) = serde_json::from_str(self.0.get()).map_err(|_| Refusal::NotJson)?;
        Ok(members.into_iter().map(|(key, value)| (key, Part(value))).collect())
    }

    /// The value as it stands in the document.
    pub(crate) fn json(self) -> &'a str {
        self.0.get()
    }

    /// The elements of an array; none if this is no array.
    pub(crate) fn elements(self) -> Result<Vec<Part<'a>>, Refusal> {
        if !self.0.get().starts_with('[') {
            return Ok(Vec::new());
        }
        let elements: Vec<&RawValue> = serde_json::from_str(self.0.get()).map_err(|_| Refusal::NotJson)?;
        Ok(elements.into_iter().map(Part).collect())
    }

    /// The text of a string; None if this is none.
    pub(crate) fn text(self) -> Result<Option<String>, Refusal> {
        if !self.0.get().starts_with('"') {
            return Ok(None);
        }
        serde_json::from_str(self.0.get()).map(Some).map_err(|_| Refusal::NotJson)
    }
}

/// An object's members in their order, each as often as it stands there.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Whether the engine takes `key` for the ASCII name.
fn folds_to(key: &str, name: &str) -> bool {
    let folded = key.chars().map(|character| match character {
        'ſ' => 's',
        // The sign of the unit kelvin, which looks like a K.
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(name.chars().map(|character| character.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_leaves_every_other_byte_as_it_is() {
        let body = "{ \"a\" :\t[\"x\", 1e999, \"\\ud800\"],\n \"a2\":-0, \"b\": \"y\" }";
        let (mut document, root) = Document::parse(body.as_bytes()).unwrap();
        document.replace(root.member("B").unwrap().unwrap(), "an \"end\"");
        document.replace(root.member("a").unwrap().unwrap().elements().unwrap()[0], "longer");
        let changed = String::from_utf8(document.finish().unwrap()).unwrap();
        assert_eq!(changed, body.replace("\"x\"", "\"longer\"").replace("\"y\"", "\"an \\\"end\\\"\""));
    }

    #[test]
    fn a_name_is_what_the_engine_takes_for_it() {
        for key in ["Binds", "binds", "BINDS", "bindſ", "\\u0042inds", "Bind\\u017f"] {
            let body = format!("{{\"{key}\": 1}}");
            let (_, root) = Document::parse(body.as_bytes()).unwrap();
            assert!(root.member("Binds").unwrap().is_some(), "{key}");
        }
        for key in ["Bınds", "Bİnds", "Binds ", "Bind", ""] {
            let body = format!("{{\"{key}\": 1}}");
            let (_, root) = Document::parse(body.as_bytes()).unwrap();
            assert!(root.member("Binds").unwrap().is_none(), "{key}");
        }
        assert!(folds_to("TAS\u{212a}TEMPLATE", "TaskTemplate"));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let (_, root) = Document::parse(br#"{"Binds": ["a:/a"], "binds": null}"#).unwrap();
        assert!(matches!(root.member("Binds"), Err(Refusal::Ambiguous { .. })));
        let (_, root) = Document::parse(br#"{"o": "bind", "O": "ro"}"#).unwrap();
        assert_eq!(root.entry("o").unwrap().unwrap().text(), Ok(Some("bind".to_owned())));
    }

    #[test]
    fn nesting_beyond_any_stack_is_passed_over() {
        let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        let body = format!("{{\"Future\": {deep}, \"Binds\": 1}}");
        let (_, root) = Document::parse(body.as_bytes()).unwrap();
        assert!(root.member("Binds").unwrap().is_some());
    }
}
