//! What the engine tells of itself.

use std::collections::HashMap;

use anyhow::Context as _;
use bollard::query_parameters::{DataUsageOptions, EventsOptionsBuilder};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::kit::{Check, all, check};

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().map(|object| object.keys().collect()).unwrap_or_default()
}

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    let group = "system";
    check(&mut list, group, "ping", async |kit| kit.record(kit.docker.ping().await?));
    check(&mut list, group, "version", async |kit| {
        let version = kit.docker.version().await?;
        kit.record([version.version, version.api_version, version.min_api_version, version.os, version.arch])
    });
    check(&mut list, group, "info", async |kit| {
        let info = serde_json::to_value(kit.docker.info().await?)?;
        kit.record(keys(&info))?;
        kit.record(json!([
            info["Driver"],
            info["OSType"],
            info["Plugins"],
            info["SecurityOptions"],
            info["Swarm"]["LocalNodeState"]
        ]))
    });
    check(&mut list, group, "disk usage", async |kit| {
        let volume = bollard::models::VolumeCreateRequest { name: Some("bollard-df".to_owned()), ..Default::default() };
        kit.docker.create_volume(volume).await?;
        let id = kit.run("true").await?;
        kit.ended(&id).await?;
        let usage = serde_json::to_value(kit.docker.df(None::<DataUsageOptions>).await?)?;
        kit.record(keys(&usage))
    });
    check(&mut list, group, "events of the past end by themselves", async |kit| {
        let since = now()?;
        let id = kit.create_named(Some("bollard-past"), "true", |_| {}).await?;
        kit.start(&id).await?;
        kit.ended(&id).await?;
        let filters = HashMap::from([("container", vec![id.as_str()]), ("event", vec!["create", "start", "die"])]);
        let until = (now()? + 1).to_string();
        let options = EventsOptionsBuilder::default().since(&since.to_string()).until(&until).filters(&filters).build();
        for event in all(kit.docker.events(Some(options))).await? {
            kit.record(json!([event.typ, event.action, event.actor.and_then(|actor| actor.attributes)]))?;
        }
        Ok(())
    });
    check(&mut list, group, "events come while they are listened to", async |kit| {
        let filters = HashMap::from([("type", vec!["network"]), ("event", vec!["create", "destroy"])]);
        let mut events = Box::pin(kit.docker.events(Some(EventsOptionsBuilder::default().filters(&filters).build())));
        let hearing = async {
            let mut told = Vec::new();
            while told.len() < 2 {
                let event = events.next().await.context("the stream ended")??;
                // Nothing tells when the stream has begun: it may be in the middle of a network's life.
                if !told.is_empty() || event.action.as_deref() == Some("create") {
                    told.push(json!([event.action, event.actor.and_then(|actor| actor.attributes?.remove("name"))]));
                }
            }
            kit.record(told)
        };
        // Without an end of its own: it is dropped once both events were heard.
        let making = async {
            let failed: anyhow::Error = loop {
                let network =
                    bollard::models::NetworkCreateRequest { name: "bollard-told".to_owned(), ..Default::default() };
                if let Err(error) = kit.docker.create_network(network).await {
                    break error.into();
                }
                if let Err(error) = kit.docker.remove_network("bollard-told").await {
                    break error.into();
                }
            };
            failed
        };
        let heard = tokio::select! {
            heard = hearing => heard,
            failed = making => Err(failed),
        };
        // The last one was perhaps being made; there is none if not.
        let _ = kit.docker.remove_network("bollard-told").await;
        heard
    });
    check(&mut list, group, "forty calls at once", async |kit| {
        let calls = futures_util::future::try_join_all((0..40).map(|_| kit.docker.ping())).await?;
        kit.record(calls)
    });
    list
}

/// Seconds by the clock of this machine, which is the engine's as well.
fn now() -> anyhow::Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}
