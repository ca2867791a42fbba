//! Containers from creation to removal.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use bollard::{
    body_full, body_stream,
    models::{ContainerUpdateBody, HostConfig, Mount, MountType, PortBinding, RestartPolicy, RestartPolicyNameEnum},
    query_parameters as query,
};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::kit::{Check, archive, bytes_of, check, unpacked, words};

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    life(&mut list);
    looks(&mut list);
    archives(&mut list);
    refusals(&mut list);
    list
}

fn life(list: &mut Vec<Check>) {
    let group = "containers";
    check(list, group, "a container runs to its end and tells its code", async |kit| {
        let id = kit.run("exit 7").await?;
        kit.record(kit.ended(&id).await?)
    });
    check(list, group, "wait for the next exit, begun before the start", async |kit| {
        let id = kit.create("exit 3", |_| {}).await?;
        let options = query::WaitContainerOptionsBuilder::default().condition("next-exit").build();
        let mut waiting = Box::pin(kit.docker.wait_container(&id, Some(options)));
        let (answer, started) = tokio::join!(waiting.next(), async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            kit.start(&id).await
        });
        started?;
        kit.told(answer.context("no answer")?.map(|answer| answer.status_code))
    });
    check(list, group, "a second start changes nothing", async |kit| {
        let id = kit.sleeper().await?;
        kit.told(kit.docker.start_container(&id, None).await)
    });
    check(list, group, "stop, restart, kill with a signal", async |kit| {
        let id = kit.sleeper().await?;
        kit.docker.restart_container(&id, Some(query::RestartContainerOptionsBuilder::default().t(5).build())).await?;
        let stop = query::StopContainerOptionsBuilder::default().t(5).build();
        kit.docker.stop_container(&id, Some(stop.clone())).await?;
        kit.told(kit.docker.stop_container(&id, Some(stop)).await)?;
        kit.start(&id).await?;
        let kill = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        kit.docker.kill_container(&id, Some(kill.clone())).await?;
        kit.record(kit.ended(&id).await?)?;
        kit.told(kit.docker.kill_container(&id, Some(kill)).await)
    });
    check(list, group, "pause and unpause", async |kit| {
        let id = kit.sleeper().await?;
        kit.docker.pause_container(&id).await?;
        let state = kit.docker.inspect_container(&id, None).await?.state.context("no state")?;
        kit.record([state.paused, state.running])?;
        kit.told(kit.docker.pause_container(&id).await)?;
        kit.docker.unpause_container(&id).await?;
        kit.told(kit.docker.unpause_container(&id).await)
    });
    check(list, group, "rename, also to a name that is taken", async |kit| {
        let id = kit.create_named(Some("bollard-one"), "true", |_| {}).await?;
        kit.create_named(Some("bollard-two"), "true", |_| {}).await?;
        let to = |name: &str| query::RenameContainerOptionsBuilder::default().name(name).build();
        kit.docker.rename_container(&id, to("bollard-three")).await?;
        kit.record(kit.docker.inspect_container("bollard-three", None).await?.name)?;
        kit.told(kit.docker.rename_container(&id, to("bollard-two")).await)
    });
    check(list, group, "update of limits", async |kit| {
        let id = kit.sleeper().await?;
        let policy = RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None };
        let update = ContainerUpdateBody {
            cpu_shares: Some(512),
            pids_limit: Some(64),
            restart_policy: Some(policy),
            ..Default::default()
        };
        kit.told(kit.docker.update_container(&id, update).await)?;
        let config = kit.docker.inspect_container(&id, None).await?.host_config.context("no configuration")?;
        kit.record(json!([config.cpu_shares, config.pids_limit]))
    });
    check(list, group, "remove: refused while it runs, forced, twice", async |kit| {
        let id = kit.sleeper().await?;
        let remove = |force| query::RemoveContainerOptionsBuilder::default().force(force).build();
        kit.told(kit.docker.remove_container(&id, Some(remove(false))).await)?;
        kit.told(kit.docker.remove_container(&id, Some(remove(true))).await)?;
        kit.told(kit.docker.remove_container(&id, Some(remove(true))).await)
    });
    check(list, group, "a container that removes itself", async |kit| {
        let host_config = HostConfig { auto_remove: Some(true), ..Default::default() };
        let id = kit.create("exit 4", |body| body.host_config = Some(host_config)).await?;
        let options = query::WaitContainerOptionsBuilder::default().condition("removed").build();
        let mut waiting = Box::pin(kit.docker.wait_container(&id, Some(options)));
        let (answer, started) = tokio::join!(waiting.next(), kit.start(&id));
        started?;
        kit.told(answer.context("no answer")?.map(|answer| answer.status_code))?;
        kit.told(kit.docker.inspect_container(&id, None).await)
    });
    check(list, group, "prune by label", async |kit| {
        let labels = HashMap::from([("bollard".to_owned(), "old".to_owned())]);
        kit.create("true", |body| body.labels = Some(labels)).await?;
        kit.create("true", |_| {}).await?;
        let filters = HashMap::from([("label", vec!["bollard=old"])]);
        let pruned = kit
            .docker
            .prune_containers(Some(query::PruneContainersOptionsBuilder::default().filters(&filters).build()));
        kit.record(pruned.await?.containers_deleted.map(|deleted| deleted.len()))
    });
}

fn looks(list: &mut Vec<Check>) {
    let group = "containers";
    check(list, group, "inspect tells what was asked for", async |kit| {
        let ports = HashMap::from([("80/tcp".to_owned(), Some(vec![PortBinding::default()]))]);
        let host_config = HostConfig {
            memory: Some(64 << 20),
            port_bindings: Some(ports),
            binds: Some(words(&["bollard-data:/data:ro"])),
            mounts: Some(vec![Mount {
                target: Some("/scratch".to_owned()),
                typ: Some(MountType::TMPFS),
                ..Default::default()
            }]),
            cap_add: Some(words(&["NET_ADMIN"])),
            ..Default::default()
        };
        let id = kit
            .create_named(Some("bollard-full"), "true", |body| {
                body.env = Some(words(&["A=b", "C="]));
                body.user = Some("root".to_owned());
                body.working_dir = Some("/tmp".to_owned());
                body.exposed_ports = Some(words(&["80/tcp"]));
                body.host_config = Some(host_config);
            })
            .await?;
        let seen = kit
            .docker
            .inspect_container(&id, Some(query::InspectContainerOptionsBuilder::default().size(true).build()))
            .await?;
        let config = seen.config.context("no configuration")?;
        kit.record(json!([seen.name, config.env, config.user, config.working_dir, config.exposed_ports]))?;
        let host = seen.host_config.context("no host configuration")?;
        kit.record(json!([host.memory, host.binds, host.mounts, host.cap_add, host.port_bindings]))?;
        // The engine has them in no order.
        let mounts: BTreeMap<_, _> = seen
            .mounts
            .unwrap_or_default()
            .into_iter()
            .map(|mount| (mount.destination.unwrap_or_default(), (mount.name, mount.rw)))
            .collect();
        kit.record(mounts)
    });
    check(list, group, "the socket as a bind source is told as it was asked for", async |kit| {
        let host_config =
            HostConfig { binds: Some(words(&["/run/docker.sock:/var/run/docker.sock"])), ..Default::default() };
        let id =
            kit.create("ls -l /var/run/docker.sock | head -c 1", |body| body.host_config = Some(host_config)).await?;
        kit.record(kit.docker.inspect_container(&id, None).await?.host_config.and_then(|config| config.binds))?;
        kit.start(&id).await?;
        kit.record(kit.ended(&id).await?)
    });
    check(list, group, "lists with filters", async |kit| {
        kit.create_named(Some("bollard-listed"), "true", |_| {}).await?;
        kit.sleeper().await?;
        let count = async |all: bool, filters: &HashMap<&str, Vec<&str>>| {
            let options = query::ListContainersOptionsBuilder::default().all(all).size(true).filters(filters).build();
            anyhow::Ok(kit.docker.list_containers(Some(options)).await?.len())
        };
        let none = HashMap::new();
        let named = HashMap::from([("name", vec!["bollard-listed"]), ("status", vec!["created"])]);
        kit.record([count(false, &none).await?, count(true, &none).await?, count(true, &named).await?])?;
        let nonsense = HashMap::from([("nonsense", vec!["x"])]);
        let options = query::ListContainersOptionsBuilder::default().filters(&nonsense).build();
        kit.told(kit.docker.list_containers(Some(options)).await.map(|found| found.len()))
    });
    check(list, group, "top", async |kit| {
        let id = kit.sleeper().await?;
        let top = kit
            .docker
            .top_processes(&id, Some(query::TopOptionsBuilder::default().ps_args("-o pid,args").build()))
            .await?;
        let commands = top.processes.unwrap_or_default().into_iter().filter_map(|row| row.into_iter().nth(1));
        kit.record(json!([top.titles, commands.filter(|command| command.starts_with("sh ")).count()]))
    });
    check(list, group, "changes", async |kit| {
        let id = kit.run("echo x > /new; rm /etc/group; mkdir /made").await?;
        kit.ended(&id).await?;
        let mut changes = serde_json::to_value(kit.docker.container_changes(&id).await?)?;
        if let Some(changes) = changes.as_array_mut() {
            changes.sort_by_key(|change| change["Path"].to_string());
        }
        kit.record(changes)
    });
    check(list, group, "checkpoints are as far away as with the engine itself", async |kit| {
        let id = kit.sleeper().await?;
        kit.told(kit.docker.list_checkpoints(&id, None).await.map(|found| found.len()))
    });
}

fn archives(list: &mut Vec<Check>) {
    let group = "archives";
    let into = |path: &str| query::UploadToContainerOptionsBuilder::default().path(path).build();
    let from = |path: &str| query::DownloadFromContainerOptionsBuilder::default().path(path).build();
    check(list, group, "files go in and come out", async move |kit| {
        let id = kit.create("cat /tmp/put", |_| {}).await?;
        let tar = archive(&[("put", b"content\n"), ("deep/er", b"x")])?;
        kit.docker.upload_to_container(&id, Some(into("/tmp")), body_full(tar)).await?;
        let back = bytes_of(kit.docker.download_from_container(&id, Some(from("/tmp")))).await?;
        kit.record(unpacked(&back)?)
    });
    check(list, group, "a stream goes in", async move |kit| {
        let id = kit.create("true", |_| {}).await?;
        let content = vec![7; 3 << 20];
        let tar = archive(&[("large", &content)])?;
        let pieces: Vec<_> = tar.chunks(10_000).map(bytes::Bytes::copy_from_slice).collect();
        let body = body_stream(futures_util::stream::iter(pieces));
        kit.docker.upload_to_container(&id, Some(into("/tmp")), body).await?;
        let back = bytes_of(kit.docker.download_from_container(&id, Some(from("/tmp/large")))).await?;
        kit.record(unpacked(&back)?)
    });
    check(list, group, "what a path is", async |kit| {
        let id = kit.create("true", |_| {}).await?;
        let of = |path: &str| query::ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let stat = kit.docker.get_container_archive_info(&id, Some(of("/bin/sh"))).await?;
        kit.record(json!([stat.name, stat.size, stat.link_target]))?;
        kit.told(kit.docker.get_container_archive_info(&id, Some(of("/nothing"))).await.map(|stat| stat.name))
    });
    check(list, group, "places that are not there", async move |kit| {
        let id = kit.create("true", |_| {}).await?;
        let tar = archive(&[("put", b"x")])?;
        kit.told(kit.docker.upload_to_container(&id, Some(into("/nowhere")), body_full(tar)).await)?;
        let mut stream = Box::pin(kit.docker.download_from_container(&id, Some(from("/nothing"))));
        kit.told(stream.next().await.context("no answer")?.map(|bytes| bytes.len()))
    });
    check(list, group, "export of a container", async |kit| {
        let id = kit.run("echo exported > /tmp/file").await?;
        kit.ended(&id).await?;
        let files = unpacked(&bytes_of(kit.docker.export_container(&id)).await?)?;
        kit.record(
            files
                .iter()
                .filter(|(path, _)| path.starts_with("tmp/") || path.starts_with("etc/pass"))
                .collect::<Vec<_>>(),
        )
    });
}

fn refusals(list: &mut Vec<Check>) {
    let group = "refusals";
    check(list, group, "unknown containers", async |kit| {
        let docker = &kit.docker;
        kit.told(docker.inspect_container("nobody", None).await)?;
        kit.told(docker.start_container("nobody", None).await)?;
        kit.told(docker.remove_container("nobody", None).await)?;
        kit.told(docker.top_processes("nobody", None).await)?;
        kit.told(docker.container_changes("nobody").await)?;
        kit.told(docker.pause_container("nobody").await)?;
        kit.told(docker.attach_container("nobody", None).await.map(|_| ()))?;
        let mut logs = Box::pin(docker.logs("nobody", Some(query::LogsOptionsBuilder::default().stdout(true).build())));
        kit.told(logs.next().await.context("no answer")?.map(|part| part.to_string()))
    });
    check(list, group, "an unknown image", async |kit| {
        let made = kit.docker.create_container(
            None,
            bollard::models::ContainerCreateBody { image: Some("nothing".to_owned()), ..Default::default() },
        );
        kit.told(made.await)
    });
    check(list, group, "configurations that make no sense", async |kit| {
        let with = |host_config: HostConfig| bollard::models::ContainerCreateBody {
            image: Some(crate::kit::IMAGE.to_owned()),
            cmd: Some(words(&["true"])),
            host_config: Some(host_config),
            ..Default::default()
        };
        kit.told(
            kit.docker.create_container(None, with(HostConfig { memory: Some(1000), ..Default::default() })).await,
        )?;
        let mode = HostConfig { network_mode: Some("container:nobody".to_owned()), ..Default::default() };
        kit.told(kit.docker.create_container(None, with(mode)).await)?;
        let mount = Mount { typ: Some(MountType::VOLUME), source: Some("bollard-v".to_owned()), ..Default::default() };
        kit.told(
            kit.docker
                .create_container(None, with(HostConfig { mounts: Some(vec![mount]), ..Default::default() }))
                .await,
        )?;
        let options = query::CreateContainerOptionsBuilder::default().name("no/name").build();
        kit.told(kit.docker.create_container(Some(options), with(HostConfig::default())).await)
    });
    check(list, group, "a program that is not there", async |kit| {
        let id = kit.create("", |body| body.cmd = Some(words(&["/no/such/program"]))).await?;
        kit.told(kit.docker.start_container(&id, None).await)
    });
}
