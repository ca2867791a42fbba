//! What belongs to a swarm, without one and with one; plugins.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use bollard::{
    models::{
        ConfigSpec, NodeSpec, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, SecretSpec, ServiceSpec, ServiceSpecMode,
        ServiceSpecModeReplicated, SwarmInitRequest, TaskSpec, TaskSpecContainerSpec,
    },
    query_parameters as query,
};
use serde_json::json;

use crate::kit::{Check, IMAGE, Kit, check, words};

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    check(&mut list, "swarm", "without one, everything of it is refused", without);
    check(&mut list, "swarm", "from its beginning to its end", async |kit| {
        let request = SwarmInitRequest {
            listen_addr: Some("127.0.0.1:2377".to_owned()),
            advertise_addr: Some("127.0.0.1".to_owned()),
            ..Default::default()
        };
        let begun = kit.docker.init_swarm(request.clone()).await;
        let went = begun.is_ok();
        kit.told(begun.map(|_| "a node"))?;
        if !went {
            return Ok(());
        }
        let result = inside(&kit, request).await;
        let options = query::LeaveSwarmOptionsBuilder::default().force(true).build();
        kit.told(kit.docker.leave_swarm(Some(options)).await)?;
        // It stays behind, also with the engine itself.
        let _ = kit.docker.remove_network("docker_gwbridge").await;
        result
    });
    check(&mut list, "plugins", "none, and what is not there", async |kit| {
        let docker = &kit.docker;
        kit.told(docker.list_plugins(None).await)?;
        kit.told(docker.inspect_plugin("nothing").await)?;
        kit.told(docker.enable_plugin("nothing", None).await)?;
        kit.told(docker.disable_plugin("nothing", None).await)?;
        kit.told(docker.remove_plugin("nothing", None).await)?;
        kit.told(docker.set_plugin_config("nothing", words(&["A=b"])).await)
    });
    list
}

fn secret(name: &str) -> SecretSpec {
    SecretSpec { name: Some(name.to_owned()), data: Some("c2VjcmV0".to_owned()), ..Default::default() }
}

fn config(name: &str) -> ConfigSpec {
    ConfigSpec { name: Some(name.to_owned()), data: Some("Y29uZmln".to_owned()), ..Default::default() }
}

fn service(name: &str, replicas: i64) -> ServiceSpec {
    let container = TaskSpecContainerSpec {
        image: Some(IMAGE.to_owned()),
        command: Some(words(&["sh", "-c", "sleep 100"])),
        ..Default::default()
    };
    let replicated = ServiceSpecModeReplicated { replicas: Some(replicas) };
    ServiceSpec {
        name: Some(name.to_owned()),
        task_template: Some(TaskSpec { container_spec: Some(container), ..Default::default() }),
        mode: Some(ServiceSpecMode { replicated: Some(replicated), ..Default::default() }),
        ..Default::default()
    }
}

async fn without(kit: Kit) -> Result<()> {
    let docker = &kit.docker;
    kit.told(docker.inspect_swarm().await)?;
    kit.told(docker.leave_swarm(None).await)?;
    kit.told(docker.list_nodes(None).await)?;
    kit.told(docker.inspect_node("self").await)?;
    kit.told(docker.list_services(None).await)?;
    kit.told(docker.create_service(service("bollard-none", 1), None).await)?;
    kit.told(docker.inspect_service("nothing", None).await)?;
    kit.told(docker.delete_service("nothing").await)?;
    kit.told(docker.list_tasks(None).await)?;
    kit.told(docker.inspect_task("nothing").await)?;
    kit.told(docker.list_secrets(None).await)?;
    kit.told(docker.create_secret(secret("bollard-none")).await)?;
    kit.told(docker.list_configs(None).await)?;
    kit.told(docker.create_config(config("bollard-none")).await)
}

async fn inside(kit: &Kit, again: SwarmInitRequest) -> Result<()> {
    let docker = &kit.docker;
    kit.told(docker.init_swarm(again).await)?;
    let swarm = docker.inspect_swarm().await?;
    let version = swarm.version.and_then(|version| version.index).context("no version")?;
    let spec = swarm.spec.context("no specification")?;
    kit.record(json!([spec.name, spec.orchestration]))?;
    let options = query::UpdateSwarmOptionsBuilder::default().version(i64::try_from(version)?).build();
    kit.told(docker.update_swarm(spec.clone(), options.clone()).await)?;
    // The same version once more is too old.
    kit.told(docker.update_swarm(spec, options).await)?;
    nodes(kit).await?;
    kept(kit).await?;
    services(kit).await
}

async fn nodes(kit: &Kit) -> Result<()> {
    let docker = &kit.docker;
    let node = docker.list_nodes(None).await?.into_iter().next().context("no node")?;
    let id = node.id.context("no id")?;
    let node = docker.inspect_node(&id).await?;
    kit.record(json!([node.spec, node.manager_status.map(|status| status.leader)]))?;
    let version = node.version.and_then(|version| version.index).context("no version")?;
    let spec = NodeSpec {
        role: Some(NodeSpecRoleEnum::MANAGER),
        availability: Some(NodeSpecAvailabilityEnum::ACTIVE),
        labels: Some(HashMap::from([("a".to_owned(), "b".to_owned())])),
        ..Default::default()
    };
    let options = query::UpdateNodeOptionsBuilder::default().version(i64::try_from(version)?).build();
    kit.told(docker.update_node(&id, spec, options).await)?;
    kit.record(docker.inspect_node(&id).await?.spec)?;
    kit.told(docker.delete_node("nothing", None).await)
}

async fn kept(kit: &Kit) -> Result<()> {
    let docker = &kit.docker;
    let id = docker.create_secret(secret("bollard-secret")).await?.id;
    let seen = docker.inspect_secret(&id).await?;
    kit.record(&seen.spec)?;
    let version = i64::try_from(seen.version.and_then(|version| version.index).context("no version")?)?;
    let spec = SecretSpec {
        data: None,
        labels: Some(HashMap::from([("a".to_owned(), "b".to_owned())])),
        ..secret("bollard-secret")
    };
    let options = query::UpdateSecretOptionsBuilder::default().version(version).build();
    kit.told(docker.update_secret(&id, spec, options).await)?;
    kit.told(docker.create_secret(secret("bollard-secret")).await)?;
    kit.record(docker.list_secrets(None).await?.len())?;
    kit.told(docker.delete_secret(&id).await)?;
    kit.told(docker.delete_secret("nothing").await)?;
    let id = docker.create_config(config("bollard-config")).await?.id;
    kit.record(docker.inspect_config(&id).await?.spec)?;
    kit.record(docker.list_configs(None).await?.len())?;
    kit.told(docker.delete_config(&id).await)?;
    kit.told(docker.inspect_config(&id).await)
}

async fn services(kit: &Kit) -> Result<()> {
    let docker = &kit.docker;
    docker.create_service(service("bollard-service", 1), None).await?;
    let running = |tasks: &[bollard::models::Task]| {
        tasks.iter().any(|task| {
            let state = task.status.as_ref().and_then(|status| status.state);
            state == Some(bollard::models::TaskState::RUNNING)
        })
    };
    let mut tasks = docker.list_tasks(None).await?;
    while !running(&tasks) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tasks = docker.list_tasks(None).await?;
    }
    let task = tasks.first().and_then(|task| task.id.as_deref()).context("a task without an id")?;
    kit.record(docker.inspect_task(task).await?.slot)?;
    let seen = docker.inspect_service("bollard-service", None).await?;
    kit.record(seen.spec)?;
    let version = i32::try_from(seen.version.and_then(|version| version.index).context("no version")?)?;
    let options = query::UpdateServiceOptionsBuilder::default().version(version).build();
    kit.told(docker.update_service("bollard-service", service("bollard-service", 0), options.clone(), None).await)?;
    kit.told(docker.update_service("bollard-service", service("bollard-service", 2), options, None).await)?;
    kit.record(docker.list_services(None).await?.len())?;
    kit.told(docker.delete_service("bollard-service").await)?;
    kit.told(docker.inspect_service("bollard-service", None).await)
}
