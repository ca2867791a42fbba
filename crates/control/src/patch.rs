//! Deltas of the status: JSON merge patches (RFC 7396) of its top level.

use serde_json::{Map, Value};

/// The members of `new` that differ from `old`. Members that are gone become null, as RFC 7396 has it; a status always has
/// all of its members, so that null is also what an absent value of one looks like.
pub(crate) fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    changed
        .map(|(name, value)| (name.clone(), value.clone()))
        .chain(gone.map(|name| (name.clone(), Value::Null)))
        .collect()
}

/// Puts the members of `patch` over those of `state`. Applying the same patch again changes nothing.
pub(crate) fn apply(state: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        state.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_difference_applied_gives_the_new_state() {
        let old = map(&json!({"state": "idle", "error": null, "ports": [1]}));
        let new = map(&json!({"state": "running", "error": null, "ports": []}));
        let patch = difference(&old, &new);
        assert_eq!(Value::Object(patch.clone()), json!({"state": "running", "ports": []}));
        let mut state = old;
        apply(&mut state, patch.clone());
        apply(&mut state, patch);
        assert_eq!(state, new);
    }
}
