//! Networks and volumes.

use std::collections::HashMap;

use anyhow::Context as _;
use bollard::{
    models::{
        EndpointSettings, HostConfig, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
        NetworkDisconnectRequest, VolumeCreateRequest,
    },
    query_parameters as query,
};
use serde_json::json;

use crate::kit::{Check, check, words};

fn network(name: &str) -> NetworkCreateRequest {
    NetworkCreateRequest { name: name.to_owned(), ..Default::default() }
}

fn volume(name: &str) -> VolumeCreateRequest {
    VolumeCreateRequest { name: Some(name.to_owned()), ..Default::default() }
}

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    networks(&mut list);
    volumes(&mut list);
    list
}

fn networks(list: &mut Vec<Check>) {
    let group = "networks";
    check(list, group, "create with a subnet, inspect, list, remove", async |kit| {
        let config = IpamConfig {
            subnet: Some("10.77.0.0/24".to_owned()),
            gateway: Some("10.77.0.1".to_owned()),
            ..Default::default()
        };
        let request = NetworkCreateRequest {
            labels: Some(HashMap::from([("made".to_owned(), "here".to_owned())])),
            ipam: Some(Ipam { config: Some(vec![config]), ..Default::default() }),
            internal: Some(true),
            ..network("bollard-net")
        };
        kit.docker.create_network(request).await?;
        let seen = kit.docker.inspect_network("bollard-net", None).await?;
        kit.record(json!([
            seen.name,
            seen.driver,
            seen.scope,
            seen.internal,
            seen.labels,
            seen.ipam.and_then(|ipam| ipam.config)
        ]))?;
        let filters = HashMap::from([("label", vec!["made=here"])]);
        let options = query::ListNetworksOptionsBuilder::default().filters(&filters).build();
        kit.record(
            kit.docker.list_networks(Some(options)).await?.into_iter().map(|each| each.name).collect::<Vec<_>>(),
        )?;
        kit.told(kit.docker.remove_network("bollard-net").await)?;
        kit.told(kit.docker.remove_network("bollard-net").await)
    });
    check(list, group, "connect with a name, disconnect", async |kit| {
        kit.docker.create_network(network("bollard-joined")).await?;
        let id = kit.sleeper().await?;
        let endpoint = EndpointSettings { aliases: Some(words(&["alias"])), ..Default::default() };
        let connect = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
        kit.docker.connect_network("bollard-joined", connect).await?;
        kit.record(kit.docker.inspect_network("bollard-joined", None).await?.containers.unwrap_or_default().len())?;
        kit.told(kit.docker.remove_network("bollard-joined").await)?;
        let leave = || NetworkDisconnectRequest { container: id.clone(), force: Some(false) };
        kit.told(kit.docker.disconnect_network("bollard-joined", leave()).await)?;
        kit.told(kit.docker.disconnect_network("bollard-joined", leave()).await)
    });
    check(list, group, "prune", async |kit| {
        kit.docker.create_network(network("bollard-unused")).await?;
        let pruned = kit.docker.prune_networks(None).await?;
        kit.record(pruned.networks_deleted)
    });
    check(list, group, "refusals", async |kit| {
        kit.told(kit.docker.inspect_network("nowhere", None).await)?;
        kit.told(kit.docker.remove_network("bridge").await)?;
        kit.told(
            kit.docker
                .create_network(NetworkCreateRequest { driver: Some("nonsense".to_owned()), ..network("bollard-x") })
                .await,
        )?;
        let nobody = NetworkConnectRequest { container: "nobody".to_owned(), endpoint_config: None };
        kit.told(kit.docker.connect_network("bridge", nobody).await)
    });
}

fn volumes(list: &mut Vec<Check>) {
    let group = "volumes";
    check(list, group, "create, inspect, list, remove", async |kit| {
        let labels = HashMap::from([("made".to_owned(), "here".to_owned())]);
        let made =
            kit.docker.create_volume(VolumeCreateRequest { labels: Some(labels), ..volume("bollard-one") }).await?;
        kit.record(json!([made.name, made.driver, made.labels, made.mountpoint]))?;
        kit.record(kit.docker.inspect_volume("bollard-one").await?.scope)?;
        let filters = HashMap::from([("label", vec!["made=here"])]);
        let options = query::ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = kit.docker.list_volumes(Some(options)).await?.volumes.unwrap_or_default();
        kit.record(listed.into_iter().map(|each| each.name).collect::<Vec<_>>())?;
        kit.told(kit.docker.remove_volume("bollard-one", None::<query::RemoveVolumeOptions>).await)?;
        kit.told(kit.docker.remove_volume("bollard-one", None::<query::RemoveVolumeOptions>).await)
    });
    check(list, group, "what one container wrote the next one reads", async |kit| {
        let bound = || Some(HostConfig { binds: Some(words(&["bollard-shared:/data"])), ..Default::default() });
        let writer = kit.create("echo kept > /data/file", |body| body.host_config = bound()).await?;
        kit.start(&writer).await?;
        kit.ended(&writer).await?;
        let reader = kit.create("cat /data/file", |body| body.host_config = bound()).await?;
        kit.start(&reader).await?;
        kit.ended(&reader).await?;
        let options = query::LogsOptionsBuilder::default().stdout(true).build();
        kit.record(crate::kit::told_apart(kit.docker.logs(&reader, Some(options))).await?)?;
        kit.told(kit.docker.remove_volume("bollard-shared", None::<query::RemoveVolumeOptions>).await)
    });
    check(list, group, "a file system of memory as a volume", async |kit| {
        let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = VolumeCreateRequest { driver_opts: Some(HashMap::from(options)), ..volume("bollard-memory") };
        kit.record(kit.docker.create_volume(request).await?.options)
    });
    check(list, group, "prune", async |kit| {
        kit.docker.create_volume(volume("bollard-unused")).await?;
        let pruned = kit.docker.prune_volumes(None::<query::PruneVolumesOptions>).await?;
        let count = pruned.volumes_deleted.context("nothing was told")?.len();
        kit.record(count)
    });
    check(list, group, "refusals", async |kit| {
        kit.told(kit.docker.inspect_volume("nothing").await)?;
        kit.told(kit.docker.create_volume(volume("/no/name")).await)?;
        kit.told(
            kit.docker
                .create_volume(VolumeCreateRequest { driver: Some("nonsense".to_owned()), ..volume("bollard-x") })
                .await,
        )
    });
}
