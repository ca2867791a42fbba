//! Filters that name files of the laptop.

use serde_json::{Map, Value};

use crate::paths::{Laptop, Meaning};

impl Laptop<'_> {
    /// The query of a list of containers (`GET /containers/json`), so that `volume=PATH` finds those that have a file or
    /// directory of the laptop mounted, too. Its place is added to the path and does not replace it: the same filter asks for
    /// what containers see at that path. None if nothing in it is such a path, or it makes no sense: the engine says so.
    pub fn with_places(self, query: &str) -> Option<String> {
        let mut changed = false;
        let mut new = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (name == "filters").then(|| self.filters_with_places(&value)).flatten() {
                Some(filters) => {
                    changed = true;
                    new.append_pair(&name, &filters);
                }
                None => {
                    new.append_pair(&name, &value);
                }
            }
        }
        changed.then(|| new.finish())
    }

    fn filters_with_places(self, filters: &str) -> Option<String> {
        let mut filters: Map<String, Value> = serde_json::from_str(filters).ok()?;
        let place = |path: &str| match self.meaning(path) {
            Ok(Meaning::Laptop(path)) => Some(self.place_of(&path)),
            _ => None,
        };
        let places = match filters.get_mut("volume")? {
            Value::Object(asked) => {
                let places: Vec<String> = asked.keys().filter_map(|path| place(path)).collect();
                asked.extend(places.iter().map(|place| (place.clone(), Value::Bool(true))));
                places
            }
            // As clients of old versions write it.
            Value::Array(asked) => {
                let places: Vec<String> = asked.iter().filter_map(|path| place(path.as_str()?)).collect();
                asked.extend(places.iter().cloned().map(Value::String));
                places
            }
            _ => return None,
        };
        (!places.is_empty()).then(|| Value::Object(filters).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: Laptop<'static> = Laptop { own_socket: "", windows: false };
    const WINDOWS: Laptop<'static> = Laptop { own_socket: "", windows: true };

    fn asked(laptop: Laptop<'_>, filters: &str) -> Option<String> {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("all", "1")
            .append_pair("filters", filters)
            .finish();
        let new = laptop.with_places(&query)?;
        let pairs: Vec<_> = form_urlencoded::parse(new.as_bytes()).into_owned().collect();
        assert_eq!(pairs[0], ("all".to_owned(), "1".to_owned()));
        Some(pairs[1].1.clone())
    }

    #[test]
    fn containers_are_found_by_the_laptops_path_and_by_what_they_see() {
        assert_eq!(
            asked(UNIX, r#"{"status":{"running":true},"volume":{"/home/me/a b/":true}}"#).as_deref(),
            Some(r#"{"status":{"running":true},"volume":{"/home/me/a b/":true,"/.overside/laptop/home/me/a b":true}}"#)
        );
        assert_eq!(
            asked(UNIX, r#"{"volume":["/home/me"]}"#).as_deref(),
            Some(r#"{"volume":["/home/me","/.overside/laptop/home/me"]}"#)
        );
        assert_eq!(
            asked(WINDOWS, r#"{"volume":{"C:\\work":true}}"#).as_deref(),
            Some(r#"{"volume":{"C:\\work":true,"/.overside/laptop/C/work":true}}"#)
        );
    }

    #[test]
    fn other_filters_go_to_the_engine_byte_for_byte() {
        for filters in [
            r#"{"volume":{"data":true}}"#,
            r#"{"volume":{"/proc":true}}"#,
            r#"{"name":{"/home/me":true}}"#,
            r#"{"volume":7}"#,
            "[]",
            "no json",
            "",
        ] {
            assert_eq!(asked(UNIX, filters), None, "{filters}");
        }
        assert_eq!(UNIX.with_places("all=1"), None);
        assert_eq!(UNIX.with_places(""), None);
    }
}
