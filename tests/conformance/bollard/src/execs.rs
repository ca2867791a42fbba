//! Commands in running containers.

use anyhow::{Context as _, bail};
use bollard::{
    exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults},
    query_parameters as query,
};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::kit::{Check, check, told_apart};

pub(crate) fn checks() -> Vec<Check> {
    let mut list = Vec::new();
    let group = "execs";
    for tty in [false, true] {
        let way = if tty { "with a terminal" } else { "without a terminal" };
        check(&mut list, group, format!("{way}: output and code"), async move |kit| {
            let id = kit.sleeper().await?;
            kit.record(kit.exec(&id, "echo out; echo err >&2; exit 3", tty).await?)
        });
        check(&mut list, group, format!("{way}: a dialogue"), async move |kit| {
            let id = kit.sleeper().await?;
            let options = CreateExecOptions {
                cmd: Some(vec!["sh", "-c", "while read line; do echo got-$line; done"]),
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                tty: Some(tty),
                ..Default::default()
            };
            let exec = kit.docker.create_exec(&id, options).await?.id;
            let start = StartExecOptions { tty, ..Default::default() };
            let StartExecResults::Attached { mut output, mut input } =
                kit.docker.start_exec(&exec, Some(start)).await?
            else {
                bail!("it was detached")
            };
            for word in ["one", "two"] {
                input.write_all(format!("{word}\n").as_bytes()).await?;
                let mut text = String::new();
                while !text.contains(&format!("got-{word}\n")) && !text.contains(&format!("got-{word}\r\n")) {
                    text.push_str(&output.next().await.context("it ended early")??.to_string());
                }
                kit.record(text)?;
            }
            Ok(())
        });
    }
    check(&mut list, group, "input ends with a half-close", async |kit| {
        let id = kit.sleeper().await?;
        let options = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", "cat; echo after; exit 5"]),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = kit.docker.create_exec(&id, options).await?.id;
        let StartExecResults::Attached { output, mut input } = kit.docker.start_exec(&exec, None).await? else {
            bail!("it was detached")
        };
        input.write_all(b"input\n").await?;
        input.shutdown().await?;
        kit.record(told_apart(output).await?)?;
        kit.record(kit.docker.inspect_exec(&exec).await?.exit_code)
    });
    check(&mut list, group, "the size of a terminal", async |kit| {
        let id = kit.sleeper().await?;
        let options = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", "read line; stty size"]),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            tty: Some(true),
            ..Default::default()
        };
        let exec = kit.docker.create_exec(&id, options).await?.id;
        let start = StartExecOptions { tty: true, ..Default::default() };
        let StartExecResults::Attached { output, mut input } = kit.docker.start_exec(&exec, Some(start)).await? else {
            bail!("it was detached")
        };
        kit.docker.resize_exec(&exec, ResizeExecOptions { height: 33, width: 99 }).await?;
        input.write_all(b"\n").await?;
        kit.record(told_apart(output).await?)
    });
    check(&mut list, group, "detached", async |kit| {
        let id = kit.sleeper().await?;
        let options = CreateExecOptions { cmd: Some(vec!["sh", "-c", "echo x > /tmp/done"]), ..Default::default() };
        let exec = kit.docker.create_exec(&id, options).await?.id;
        let start = StartExecOptions { detach: true, ..Default::default() };
        let detached = matches!(kit.docker.start_exec(&exec, Some(start)).await?, StartExecResults::Detached);
        while kit.docker.inspect_exec(&exec).await?.running.unwrap_or(false) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        kit.record(json!([detached, kit.docker.inspect_exec(&exec).await?.exit_code]))
    });
    check(&mut list, group, "user, directory, variables", async |kit| {
        let id = kit.sleeper().await?;
        let options = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", "id -u; pwd; echo $A"]),
            attach_stdout: Some(true),
            user: Some("1000:1000"),
            working_dir: Some("/tmp"),
            env: Some(vec!["A=b"]),
            ..Default::default()
        };
        let exec = kit.docker.create_exec(&id, options).await?.id;
        let StartExecResults::Attached { output, .. } = kit.docker.start_exec(&exec, None).await? else {
            bail!("it was detached")
        };
        kit.record(told_apart(output).await?)?;
        let seen = kit.docker.inspect_exec(&exec).await?;
        kit.record(json!([seen.process_config, seen.open_stdin, seen.running]))
    });
    check(&mut list, group, "refusals", async |kit| {
        let id = kit.sleeper().await?;
        let options = || CreateExecOptions { cmd: Some(vec!["true"]), attach_stdout: Some(true), ..Default::default() };
        kit.told(kit.docker.create_exec("nobody", options()).await)?;
        kit.told(kit.docker.create_exec(&id, CreateExecOptions::<&str>::default()).await)?;
        kit.told(kit.docker.inspect_exec("nothing").await)?;
        kit.told(kit.docker.start_exec("nothing", None).await.map(|_| ()))?;
        let exec = kit.docker.create_exec(&id, options()).await?.id;
        if let StartExecResults::Attached { output, .. } = kit.docker.start_exec(&exec, None).await? {
            told_apart(output).await?;
        }
        kit.told(kit.docker.start_exec(&exec, None).await.map(|_| ()))?;
        let paused = query::StopContainerOptionsBuilder::default().t(5).build();
        kit.docker.stop_container(&id, Some(paused)).await?;
        kit.told(kit.docker.create_exec(&id, options()).await)
    });
    check(&mut list, group, "a program that is not there", async |kit| {
        let id = kit.sleeper().await?;
        let options =
            CreateExecOptions { cmd: Some(vec!["/no/such"]), attach_stdout: Some(true), ..Default::default() };
        let exec = kit.docker.create_exec(&id, options).await?.id;
        if let StartExecResults::Attached { output, .. } = kit.docker.start_exec(&exec, None).await? {
            kit.record(told_apart(output).await?)?;
        }
        kit.record(kit.docker.inspect_exec(&exec).await?.exit_code)
    });
    check(&mut list, group, "twenty at once", async |kit| {
        let id = kit.sleeper().await?;
        let script = |n: usize| format!("echo {n}; exit {n}");
        let scripts: Vec<_> = (0..20).map(script).collect();
        let said =
            futures_util::future::try_join_all(scripts.iter().map(|script| kit.exec(&id, script, false))).await?;
        kit.record(said)
    });
    list
}
