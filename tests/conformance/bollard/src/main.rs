//! bollard's calls against the engine behind `CONFORMANCE_SOCKET`, one after the other.
//!
//! Each check appends a line of JSON to the file in `CONFORMANCE_BOLLARD_RECORD`, in the form of the suite's other clients:
//! group, title, outcome, why, values, calls, seconds. `tests/conformance/run.py` compares the lines of two engines. An
//! argument chooses checks by a part of their names.

mod containers;
mod execs;
mod images;
mod kit;
mod networks;
mod streams;
mod swarm;
mod system;

use std::{
    env,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use kit::{IMAGE, Kit};
use serde_json::json;

/// How long one check may take.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let socket = env::var("CONFORMANCE_SOCKET").context("CONFORMANCE_SOCKET names no socket")?;
    let chosen = env::args().nth(1).unwrap_or_default();
    let mut record = match env::var_os("CONFORMANCE_BOLLARD_RECORD") {
        Some(path) => Some(fs_err::OpenOptions::new().create(true).append(true).open(std::path::PathBuf::from(path))?),
        None => None,
    };
    let plain = Kit::new(&socket).await?;
    plain.import().await?;
    let mut failed = 0;
    let groups = [
        system::checks(),
        containers::checks(),
        streams::checks(),
        execs::checks(),
        images::checks(),
        networks::checks(),
        swarm::checks(),
    ];
    for check in groups.into_iter().flatten().filter(|check| check.title.contains(&chosen)) {
        let kit = Kit::new(&socket).await?;
        let begun = Instant::now();
        // A task of its own: a check that panics is one that failed.
        let outcome = tokio::time::timeout(LIMIT, tokio::spawn((check.work)(kit.clone()))).await;
        let why = match outcome {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(format!("{error:#}")),
            Ok(Err(panic)) => Some(panic.to_string()),
            Err(_) => Some(format!("it took longer than {LIMIT:?}")),
        };
        let (values, calls) = kit.seen();
        let seconds = begun.elapsed().as_secs_f64();
        println!("{} {}: {} ({seconds:.2} s)", check.group, check.title, why.as_deref().unwrap_or("passed"));
        failed += u32::from(why.is_some());
        let line = json!({
            "group": format!("bollard/{}", check.group),
            "title": check.title,
            "outcome": if why.is_none() { "passed" } else { "failed" },
            "why": why.unwrap_or_default(),
            "values": values,
            "calls": calls,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        });
        if let Some(record) = &mut record {
            writeln!(record, "{line}")?;
        }
        tidy(&plain).await?;
    }
    plain.docker.remove_image(IMAGE, Some(RemoveImageOptionsBuilder::default().force(true).build()), None).await?;
    if failed > 0 {
        bail!("{failed} checks failed");
    }
    Ok(())
}

/// Removes what a check has made.
async fn tidy(kit: &Kit) -> Result<()> {
    let docker = &kit.docker;
    for container in docker.list_containers(Some(ListContainersOptionsBuilder::default().all(true).build())).await? {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        // It may be going away by itself.
        let _ = docker.remove_container(container.id.as_deref().unwrap_or_default(), Some(options)).await;
    }
    for network in docker.list_networks(None).await? {
        if network.name.is_some_and(|name| name.starts_with("bollard")) {
            docker.remove_network(&network.id.unwrap_or_default()).await?;
        }
    }
    for volume in
        docker.list_volumes(None::<bollard::query_parameters::ListVolumesOptions>).await?.volumes.unwrap_or_default()
    {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        docker.remove_volume(&volume.name, Some(options)).await?;
    }
    for image in docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await? {
        for tag in image.repo_tags.iter().filter(|tag| tag.starts_with("bollard-") && *tag != IMAGE) {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            docker.remove_image(tag, Some(options), None).await?;
        }
    }
    Ok(())
}
