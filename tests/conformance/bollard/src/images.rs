//! Images: made without a registry, built, tagged, moved, removed.

use std::collections::HashMap;

use anyhow::Context as _;
use bollard::{body_full, body_stream, models::ContainerConfig, query_parameters as query};
use futures_util::{Stream, StreamExt as _};
use serde_json::json;

use crate::kit::{Check, IMAGE, Kit, all, archive, bytes_of, check, unpacked, words};

fn remove() -> Option<query::RemoveImageOptions> {
    Some(query::RemoveImageOptionsBuilder::default().force(true).build())
}

/// The lines of a build without the names of containers in between.
async fn told_by(
    building: impl Stream<Item = Result<bollard::models::BuildInfo, bollard::errors::Error>>,
    kit: &Kit,
) -> anyhow::Result<()> {
    let mut building = Box::pin(building);
    let mut said = String::new();
    let mut refused = None;
    while let Some(line) = building.next().await {
        match line {
            // Output of a step comes in any pieces.
            Ok(line) => said.push_str(&line.stream.unwrap_or_default()),
            Err(error) => refused = Some(error),
        }
    }
    let machinery = ["Running in", "intermediate container", "DEPRECATED"];
    let lines = said.lines().filter(|line| !machinery.iter().any(|words| line.contains(words)));
    kit.record(lines.collect::<Vec<_>>())?;
    refused.map_or(Ok(()), |error| kit.told(Err::<(), _>(error)))
}

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    looks(&mut list);
    moves(&mut list);
    builds(&mut list);
    list
}

fn looks(list: &mut Vec<Check>) {
    let group = "images";
    check(list, group, "list, inspect, history", async |kit| {
        let images = kit.docker.list_images(Some(query::ListImagesOptionsBuilder::default().all(true).build())).await?;
        kit.record(images.iter().map(|image| &image.repo_tags).collect::<Vec<_>>())?;
        let image = kit.docker.inspect_image(IMAGE).await?;
        kit.record(json!([image.repo_tags, image.os, image.architecture, image.root_fs.map(|root| root.typ)]))?;
        kit.record(kit.docker.image_history(IMAGE).await?.len())
    });
    check(list, group, "tag and remove", async |kit| {
        let tag = |repo: &str, tag: &str| query::TagImageOptionsBuilder::default().repo(repo).tag(tag).build();
        kit.docker.tag_image(IMAGE, Some(tag("bollard-tagged", "2"))).await?;
        kit.record(kit.docker.inspect_image("bollard-tagged:2").await?.repo_tags)?;
        kit.told(kit.docker.tag_image(IMAGE, Some(tag("No/Good", "2"))).await)?;
        kit.told(kit.docker.tag_image("nothing", Some(tag("bollard-tagged", "3"))).await)?;
        kit.told(kit.docker.remove_image("bollard-tagged:2", remove(), None).await)?;
        kit.told(kit.docker.remove_image("bollard-tagged:2", remove(), None).await)
    });
    check(list, group, "unknown images", async |kit| {
        kit.told(kit.docker.inspect_image("nothing").await)?;
        kit.told(kit.docker.image_history("nothing").await)?;
        let mut export = Box::pin(kit.docker.export_image("nothing"));
        kit.told(export.next().await.context("no answer")?.map(|bytes| bytes.len()))
    });
    check(list, group, "an image in use is not removed", async |kit| {
        kit.docker
            .tag_image(IMAGE, Some(query::TagImageOptionsBuilder::default().repo("bollard-used").tag("1").build()))
            .await?;
        kit.create("true", |body| body.image = Some("bollard-used:1".to_owned())).await?;
        let options = query::RemoveImageOptionsBuilder::default().force(false).build();
        kit.told(kit.docker.remove_image("bollard-used:1", Some(options), None).await)
    });
    check(list, group, "prune", async |kit| {
        let filters = HashMap::from([("dangling", vec!["true"])]);
        let options = query::PruneImagesOptionsBuilder::default().filters(&filters).build();
        kit.record(kit.docker.prune_images(Some(options)).await?.images_deleted)?;
        kit.told(kit.docker.prune_build(None::<query::PruneBuildOptions>).await.map(|pruned| pruned.caches_deleted))
    });
    check(list, group, "a commit with changes", async |kit| {
        let id = kit.run("echo committed > /file").await?;
        kit.ended(&id).await?;
        let options = query::CommitContainerOptionsBuilder::default()
            .container(&id)
            .repo("bollard-committed")
            .tag("1")
            .comment("a comment")
            .author("somebody")
            .changes("ENV A=b")
            .build();
        let config = ContainerConfig { cmd: Some(words(&["cat", "/file"])), ..Default::default() };
        kit.docker.commit_container(options, config).await?;
        let image = kit.docker.inspect_image("bollard-committed:1").await?;
        let config = image.config.context("no configuration")?;
        kit.record(json!([image.author, image.comment, config.env, config.cmd]))
    });
}

fn moves(list: &mut Vec<Check>) {
    let group = "images";
    check(list, group, "save and load", async |kit| {
        let saved = bytes_of(kit.docker.export_image(IMAGE)).await?;
        kit.record(unpacked(&saved)?.iter().any(|(path, _)| path == "manifest.json"))?;
        let options = query::ImportImageOptionsBuilder::default().build();
        let loaded = all(kit.docker.import_image(options, body_full(saved.into()), None)).await?;
        kit.record(loaded.into_iter().map(|line| line.stream).collect::<Vec<_>>())
    });
    check(list, group, "save two and load them as a stream", async |kit| {
        kit.docker
            .tag_image(IMAGE, Some(query::TagImageOptionsBuilder::default().repo("bollard-second").tag("1").build()))
            .await?;
        let saved = bytes_of(kit.docker.export_images(&[IMAGE, "bollard-second:1"])).await?;
        kit.docker.remove_image("bollard-second:1", remove(), None).await?;
        let pieces: Vec<_> =
            saved.chunks(50_000).map(bytes::Bytes::copy_from_slice).map(Ok::<_, std::io::Error>).collect();
        let options = query::ImportImageOptionsBuilder::default().build();
        let loading = kit.docker.import_image_stream(options, futures_util::stream::iter(pieces), None);
        let mut lines: Vec<_> = all(loading).await?.into_iter().map(|line| line.stream).collect();
        lines.sort();
        kit.record(lines)?;
        kit.record(kit.docker.inspect_image("bollard-second:1").await.is_ok())
    });
    check(list, group, "what is no image is not loaded", async |kit| {
        let options = query::ImportImageOptionsBuilder::default().build();
        let mut loading = Box::pin(kit.docker.import_image(options, body_full("no tar".into()), None));
        while let Some(line) = loading.next().await {
            kit.told(line.map(|line| line.stream))?;
        }
        Ok(())
    });
    check(list, group, "import with changes", async |kit| {
        let options = query::CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo("bollard-imported")
            .tag("1")
            .message("a message")
            .changes(words(&["CMD /x"]))
            .build();
        let root = archive(&[("x", b"content")])?;
        let lines = all(kit.docker.create_image(Some(options), Some(body_full(root)), None)).await?;
        kit.record(lines.into_iter().map(|line| line.status).collect::<Vec<_>>())?;
        kit.record(kit.docker.inspect_image("bollard-imported:1").await?.config.and_then(|config| config.cmd))
    });
}

fn builds(list: &mut Vec<Check>) {
    let group = "builds";
    let options = |name: &str| query::BuildImageOptionsBuilder::default().t(name).rm(true).forcerm(true);
    let dockerfile = |lines: &str| format!("FROM {IMAGE}\n{lines}");
    check(list, group, "with files, arguments and labels", async move |kit| {
        let file = dockerfile("ARG WORD\nCOPY file /\nRUN cat /file && echo $WORD\nENV A=b\n");
        let context = archive(&[("Dockerfile", file.as_bytes()), ("file", b"in the context\n")])?;
        let options = options("bollard-built")
            .buildargs(&HashMap::from([("WORD", "argument")]))
            .labels(&HashMap::from([("made", "here")]))
            .build();
        told_by(kit.docker.build_image(options, None, Some(body_full(context))), &kit).await?;
        let config = kit.docker.inspect_image("bollard-built").await?.config.context("no configuration")?;
        kit.record(json!([config.env, config.labels]))
    });
    check(list, group, "from a stream, another file, one stage", async move |kit| {
        let file = format!("FROM {IMAGE} AS first\nRUN echo one\nFROM first\nRUN echo two\n");
        let context = archive(&[("other/File", file.as_bytes())])?;
        let pieces: Vec<_> = context.chunks(100).map(bytes::Bytes::copy_from_slice).collect();
        let options = options("bollard-staged").dockerfile("other/File").target("first").build();
        told_by(kit.docker.build_image(options, None, Some(body_stream(futures_util::stream::iter(pieces)))), &kit)
            .await
    });
    check(list, group, "a step that fails", async move |kit| {
        let context = archive(&[("Dockerfile", dockerfile("RUN exit 5\n").as_bytes())])?;
        told_by(kit.docker.build_image(options("bollard-failed").build(), None, Some(body_full(context))), &kit).await
    });
    check(list, group, "a file that makes no sense", async move |kit| {
        let context = archive(&[("Dockerfile", dockerfile("NONSENSE\n").as_bytes())])?;
        told_by(kit.docker.build_image(options("bollard-nonsense").build(), None, Some(body_full(context))), &kit).await
    });
    check(list, group, "no file", async move |kit| {
        let context = archive(&[("file", b"x")])?;
        told_by(kit.docker.build_image(options("bollard-none").build(), None, Some(body_full(context))), &kit).await
    });
}
