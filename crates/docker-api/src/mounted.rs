//! What the engine tells of mounts: the places of the laptop's files that a container has, and the volumes that are such.

use overside_model::agent::LAPTOP_FILES;
use serde_json::Value;

use crate::paths::below;

/// Most mounts that are read of one container, and most volumes of one environment.
const MOST: usize = 65_536;

/// What a container mounts from outside, as an inspection or a list tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Places of the laptop's files.
    pub places: Vec<String>,
    /// Names of volumes, some of which may be such places as well.
    pub volumes: Vec<String>,
}

impl Mounted {
    /// Reads one container, out of an inspection or a list. What makes no sense is left out.
    pub fn of(container: &Value) -> Self {
        let mut mounted = Self::default();
        // What it has, also of other containers (`--volumes-from`), from its creation on.
        for mount in container["Mounts"].as_array().into_iter().flatten().take(MOST) {
            match mount["Type"].as_str() {
                Some("bind") => mounted.places.extend(place(&mount["Source"])),
                Some("volume") => mounted.volumes.extend(mount["Name"].as_str().map(str::to_owned)),
                _ => {}
            }
        }
        // What it brought along.
        for mount in container["HostConfig"]["Mounts"].as_array().into_iter().flatten().take(MOST) {
            mounted.places.extend(device(&mount["VolumeOptions"]["DriverConfig"]["Options"]));
        }
        mounted.places.sort_unstable();
        mounted.places.dedup();
        mounted
    }
}

/// The place that a path is, if it is one of the laptop's files.
fn place(path: &Value) -> Option<String> {
    path.as_str().filter(|path| below(path, LAPTOP_FILES).is_some()).map(str::to_owned)
}

/// The place that a volume's options bind.
fn device(options: &Value) -> Option<String> {
    let binds = options["o"].as_str()?.split(',').any(|flag| matches!(flag, "bind" | "rbind"));
    place(&options["device"]).filter(|_| binds)
}

/// The names of all volumes that bind a place, and the places, out of `GET /volumes`.
pub fn bound_volumes(list: &Value) -> Vec<(String, String)> {
    let bound = |volume: &Value| Some((volume["Name"].as_str()?.to_owned(), device(&volume["Options"])?));
    list["Volumes"].as_array().into_iter().flatten().take(MOST).filter_map(bound).collect()
}

/// The identifier of what was created, or the name where that is the identifier, out of the engine's answer.
pub fn created(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    answer["Id"].as_str().or(answer["Name"].as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_places_of_a_container_are_told_by_what_it_mounts() {
        let driver = json!({"Options": {"o": "bind", "device": "/.overside/laptop/home/v", "type": "none"}});
        let container = json!({
            "Mounts": [
                {"Type": "bind", "Source": "/.overside/laptop/home/me", "Destination": "/app"},
                {"Type": "bind", "Source": "/.overside/laptops", "Destination": "/x"},
                {"Type": "bind", "Source": "/proc", "Destination": "/host/proc"},
                {"Type": "volume", "Name": "data", "Source": "/.overside/laptop/not", "Destination": "/data"},
                {"Type": "tmpfs"}, 7,
            ],
            "HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"DriverConfig": driver}}, null]},
        });
        let mounted = Mounted::of(&container);
        assert_eq!(mounted.places, ["/.overside/laptop/home/me", "/.overside/laptop/home/v"]);
        assert_eq!(mounted.volumes, ["data"]);
        for nothing in [json!(null), json!([]), json!({"Mounts": 1}), json!({"HostConfig": {"Mounts": {}}})] {
            assert_eq!(Mounted::of(&nothing), Mounted::default());
        }
    }

    #[test]
    fn a_volume_that_binds_a_place_is_told_from_others() {
        let list = json!({"Volumes": [
            {"Name": "a", "Options": {"o": "ro,bind", "device": "/.overside/laptop/a"}},
            {"Name": "b", "Options": {"o": "ro", "device": "/.overside/laptop/b"}},
            {"Name": "c", "Options": {"o": "bind", "device": "/srv"}},
            {"Name": "d", "Options": null},
        ]});
        assert_eq!(bound_volumes(&list), [("a".to_owned(), "/.overside/laptop/a".to_owned())]);
        assert!(bound_volumes(&json!({"Volumes": null})).is_empty());
    }

    #[test]
    fn what_was_created_is_known_by_the_answer() {
        assert_eq!(created(br#"{"Id":"abc","Warnings":[]}"#).as_deref(), Some("abc"));
        assert_eq!(created(br#"{"CreatedAt":"x","Name":"v"}"#).as_deref(), Some("v"));
        assert_eq!(created(b"abc"), None);
    }
}
