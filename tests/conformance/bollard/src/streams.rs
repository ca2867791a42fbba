//! Attach, logs and statistics.

use anyhow::Context as _;
use bollard::{models::HostConfig, query_parameters as query};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::kit::{Check, all, check, told_apart};

fn everything() -> query::AttachContainerOptionsBuilder {
    query::AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true)
}

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    attach(&mut list);
    logs(&mut list);
    stats(&mut list);
    list
}

fn attach(list: &mut Vec<Check>) {
    let group = "attach";
    check(list, group, "output told apart, from before the start", async |kit| {
        let id = kit.create("echo out; echo err >&2", |_| {}).await?;
        let attached = kit.docker.attach_container(&id, Some(everything().build())).await?;
        kit.start(&id).await?;
        kit.record(told_apart(attached.output).await?)
    });
    check(list, group, "input ends with a half-close, output still comes", async |kit| {
        let id = kit
            .create("cat; sleep 0.3; echo after", |body| {
                body.open_stdin = Some(true);
                body.stdin_once = Some(true);
            })
            .await?;
        let mut attached = kit.docker.attach_container(&id, Some(everything().build())).await?;
        kit.start(&id).await?;
        attached.input.write_all(b"one\ntwo\n").await?;
        attached.input.shutdown().await?;
        kit.record(told_apart(attached.output).await?)
    });
    check(list, group, "a megabyte in and out at once", async |kit| {
        let id = kit
            .create("cat", |body| {
                body.open_stdin = Some(true);
                body.stdin_once = Some(true);
            })
            .await?;
        let mut attached = kit.docker.attach_container(&id, Some(everything().build())).await?;
        kit.start(&id).await?;
        let sent = "0123456789abcde\n".repeat(65_536);
        let data = sent.clone();
        let writing = async move {
            attached.input.write_all(data.as_bytes()).await?;
            attached.input.shutdown().await
        };
        let (written, read) = tokio::join!(writing, told_apart(attached.output));
        written?;
        kit.record(read?["out"] == sent)
    });
    check(list, group, "a terminal, its size changed", async |kit| {
        let id = kit
            .create("read line; stty size; echo got $line", |body| {
                body.tty = Some(true);
                body.open_stdin = Some(true);
            })
            .await?;
        let mut attached = kit.docker.attach_container(&id, Some(everything().build())).await?;
        kit.start(&id).await?;
        kit.docker
            .resize_container_tty(&id, query::ResizeContainerTTYOptionsBuilder::default().h(22).w(88).build())
            .await?;
        attached.input.write_all(b"word\n").await?;
        kit.record(told_apart(attached.output).await?)
    });
    check(list, group, "what was said before, with its end", async |kit| {
        let id = kit.run("echo before").await?;
        kit.ended(&id).await?;
        let options = query::AttachContainerOptionsBuilder::default().logs(true).stdout(true).build();
        kit.record(told_apart(kit.docker.attach_container(&id, Some(options)).await?.output).await?)
    });
    check(list, group, "by a WebSocket", async |kit| {
        let id = kit
            .create("read line; echo got $line", |body| {
                body.tty = Some(true);
                body.open_stdin = Some(true);
            })
            .await?;
        kit.start(&id).await?;
        let mut attached = kit.docker.attach_container_websocket(&id, Some(everything().build())).await?;
        attached.input.write_all(b"word\n").await?;
        attached.input.flush().await?;
        let mut text = String::new();
        while !text.contains("got word") {
            text.push_str(&attached.output.next().await.context("it ended early")??.to_string());
        }
        kit.record(text)
    });
    check(list, group, "one that nobody reads holds nothing up", async |kit| {
        let id = kit.run("while :; do echo 0123456789012345678901234567890123456789; done").await?;
        let attached = kit.docker.attach_container(&id, Some(everything().build())).await?;
        for _ in 0..20 {
            kit.docker.ping().await?;
        }
        drop(attached);
        kit.docker.kill_container(&id, None).await?;
        kit.record(kit.ended(&id).await?)
    });
}

fn logs(list: &mut Vec<Check>) {
    let group = "logs";
    let both = || query::LogsOptionsBuilder::default().stdout(true).stderr(true);
    check(list, group, "whole, one way only, the last lines", async move |kit| {
        let id = kit.run("seq 5; echo err >&2").await?;
        kit.ended(&id).await?;
        kit.record(told_apart(kit.docker.logs(&id, Some(both().build()))).await?)?;
        kit.record(told_apart(kit.docker.logs(&id, Some(both().stdout(false).build()))).await?)?;
        kit.record(told_apart(kit.docker.logs(&id, Some(both().stderr(false).tail("2").build()))).await?)
    });
    check(list, group, "followed to the end", async move |kit| {
        let id = kit.run("seq 3; sleep 0.3; seq 4 6; sleep 0.3").await?;
        kit.record(told_apart(kit.docker.logs(&id, Some(both().follow(true).build()))).await?)
    });
    check(list, group, "with times", async move |kit| {
        let id = kit.run("echo line").await?;
        kit.ended(&id).await?;
        let said = told_apart(kit.docker.logs(&id, Some(both().timestamps(true).build()))).await?;
        kit.record(said["out"].as_str().and_then(|text| text.split_once(' ')).map(|(_, rest)| rest.to_owned()))
    });
    check(list, group, "of a terminal", async move |kit| {
        let id = kit.create("echo console", |body| body.tty = Some(true)).await?;
        kit.start(&id).await?;
        kit.ended(&id).await?;
        kit.record(told_apart(kit.docker.logs(&id, Some(both().build()))).await?)
    });
    check(list, group, "ten thousand lines", async move |kit| {
        // dockerd 20.10 now and then ends a stream that follows before it has sent the last lines of a container that ends.
        let id = kit.run("seq 10000").await?;
        kit.ended(&id).await?;
        let lines = all(kit.docker.logs(&id, Some(both().follow(true).build()))).await?;
        kit.record(lines.iter().map(|line| line.as_ref().len()).sum::<usize>())
    });
    check(list, group, "asked for neither way", async |kit| {
        let id = kit.run("true").await?;
        kit.ended(&id).await?;
        let mut answers = Box::pin(kit.docker.logs(&id, Some(query::LogsOptionsBuilder::default().build())));
        kit.told(answers.next().await.context("no answer")?.map(|part| part.to_string()))
    });
    check(list, group, "of a driver that keeps none", async move |kit| {
        let config = bollard::models::HostConfigLogConfig { typ: Some("none".to_owned()), config: None };
        let host_config = HostConfig { log_config: Some(config), ..Default::default() };
        let id = kit.create("echo lost", |body| body.host_config = Some(host_config)).await?;
        kit.start(&id).await?;
        kit.ended(&id).await?;
        let mut answers = Box::pin(kit.docker.logs(&id, Some(both().build())));
        kit.told(answers.next().await.context("no answer")?.map(|part| part.to_string()))
    });
}

fn stats(list: &mut Vec<Check>) {
    let group = "stats";
    check(list, group, "once", async |kit| {
        let id = kit.sleeper().await?;
        let options = query::StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let stats = all(kit.docker.stats(&id, Some(options))).await?;
        let first = serde_json::to_value(stats.first().context("no statistics")?)?;
        kit.record(json!([stats.len(), first.as_object().map(|first| first.keys().collect::<Vec<_>>())]))
    });
    check(list, group, "as a stream that is left", async |kit| {
        let id = kit.sleeper().await?;
        let mut stats =
            Box::pin(kit.docker.stats(&id, Some(query::StatsOptionsBuilder::default().stream(true).build())));
        for _ in 0..2 {
            let now = stats.next().await.context("it ended early")??;
            kit.record([now.name.is_some(), now.memory_stats.is_some(), now.pids_stats.is_some()])?;
        }
        Ok(())
    });
}
