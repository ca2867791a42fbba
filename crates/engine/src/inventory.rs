//! What is in an environment and would be lost with it.

use overside_model::{Problem, Work, WorkKind};
use overside_tunnel::Link;
use serde_json::Value;

use crate::docker;

/// Most things of a kind that are named.
const MOST: usize = 200;

/// Asks the engine. Images that a registry has are not named: they can be had again.
pub(crate) async fn survey(link: &Link) -> Result<Vec<Work>, Problem> {
    let (containers, volumes, images) = tokio::try_join!(
        docker::get_json(link, "/containers/json?all=1"),
        docker::get_json(link, "/volumes"),
        docker::get_json(link, "/images/json"),
    )?;
    Ok(found(&containers, &volumes, &images))
}

fn found(containers: &Value, volumes: &Value, images: &Value) -> Vec<Work> {
    fn list(value: &Value) -> &[Value] {
        value.as_array().map_or(&[], |list| list.get(..MOST).unwrap_or(list))
    }
    let work = |kind: WorkKind, name: &str| Work { kind, name: name.to_owned(), kept_in: None };
    let containers = list(containers).iter().filter_map(|container| {
        let name = container.pointer("/Names/0")?.as_str()?.trim_start_matches('/');
        let running = container.get("State").and_then(Value::as_str) == Some("running");
        Some(work(if running { WorkKind::RunningContainer } else { WorkKind::Container }, name))
    });
    let volumes = list(volumes.get("Volumes").unwrap_or(&Value::Null))
        .iter()
        .filter_map(|volume| Some(work(WorkKind::Volume, volume.get("Name")?.as_str()?)));
    let images = list(images).iter().filter_map(|image| {
        let known = list(image.get("RepoDigests").unwrap_or(&Value::Null));
        let elsewhere = known.iter().filter_map(Value::as_str).any(|digest| !digest.starts_with("<none>"));
        let tag = list(image.get("RepoTags").unwrap_or(&Value::Null)).first()?.as_str()?;
        (!elsewhere && !tag.starts_with("<none>")).then(|| work(WorkKind::Image, tag))
    });
    containers.chain(volumes).chain(images).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_volumes_and_images_that_exist_nowhere_else_are_named() {
        let containers = json!([
            { "Names": ["/web"], "State": "running" },
            { "Names": ["/done"], "State": "exited" },
        ]);
        let volumes = json!({ "Volumes": [{ "Name": "data" }], "Warnings": null });
        let images = json!([
            { "RepoTags": ["mine:1"], "RepoDigests": null },
            { "RepoTags": ["old:1"], "RepoDigests": ["<none>@<none>"] },
            { "RepoTags": ["busybox:latest"], "RepoDigests": ["busybox@sha256:00"] },
            { "RepoTags": ["<none>:<none>"], "RepoDigests": [] },
            { "RepoTags": null },
        ]);
        let names: Vec<_> = found(&containers, &volumes, &images).into_iter().map(|w| (w.kind, w.name)).collect();
        let expected = [
            (WorkKind::RunningContainer, "web"),
            (WorkKind::Container, "done"),
            (WorkKind::Volume, "data"),
            (WorkKind::Image, "mine:1"),
            (WorkKind::Image, "old:1"),
        ];
        assert_eq!(names, expected.map(|(kind, name)| (kind, name.to_owned())));
    }

    #[test]
    fn answers_of_another_form_name_nothing() {
        assert_eq!(found(&json!({}), &json!([1]), &json!([{ "RepoTags": [7] }])), []);
        assert_eq!(found(&Value::Null, &json!({ "Volumes": null }), &json!("x")), []);
    }
}
