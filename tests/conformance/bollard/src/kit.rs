//! What the checks share: a client whose calls are noted, short words for what most of them do, and the record.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use bollard::{
    Docker, body_full,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, LogsOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::{Value, json};

/// The image that every check runs.
pub(crate) const IMAGE: &str = "bollard-base:1";

const APPLETS: &[&str] = &[
    "cat", "echo", "env", "false", "head", "id", "ls", "mkdir", "printf", "rm", "seq", "sh", "sleep", "stty", "true",
    "wc",
];

/// One check.
pub(crate) struct Check {
    pub(crate) group: &'static str,
    pub(crate) title: String,
    pub(crate) work: Work,
}

pub(crate) type Work = Box<dyn FnOnce(Kit) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>>;

/// Adds a check to a list.
pub(crate) fn check<F: Future<Output = Result<()>> + Send + 'static>(
    list: &mut Vec<Check>,
    group: &'static str,
    title: impl Into<String>,
    work: impl FnOnce(Kit) -> F + 'static,
) {
    list.push(Check { group, title: title.into(), work: Box::new(|kit| Box::pin(work(kit))) });
}

/// What one check has to work with.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) docker: Docker,
    values: Arc<Mutex<Vec<Value>>>,
    calls: Arc<Mutex<BTreeSet<String>>>,
}

impl Kit {
    /// A client of the socket that speaks the engine's own version.
    pub(crate) async fn new(socket: &str) -> Result<Self> {
        let calls = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = calls.clone();
        let docker = Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?.with_request_modifier(move |request| {
            let target = request.uri().path_and_query().map_or("", |target| target.as_str());
            let call = format!("{} {target}", request.method());
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(call);
            request
        });
        Ok(Self { docker, values: Arc::default(), calls })
    }

    /// Notes what was seen, to be compared.
    pub(crate) fn record(&self, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)?;
        self.values.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        Ok(())
    }

    /// Notes the engine's words of an error, or what it accepted.
    pub(crate) fn told<T: Serialize>(&self, result: Result<T, Error>) -> Result<()> {
        match result {
            Ok(value) => self.record(json!(["accepted", value])),
            Err(Error::DockerResponseServerError { status_code, message }) => {
                self.record(json!([status_code, message]))
            }
            Err(Error::DockerStreamError { error }) => self.record(json!(["in the stream", error])),
            Err(Error::DockerContainerWaitError { error, code }) => self.record(json!(["waited", error, code])),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn seen(&self) -> (Vec<Value>, Vec<String>) {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (values, self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect())
    }

    /// Makes a container that runs a script, changed as wanted. Gives its id.
    pub(crate) async fn create(&self, script: &str, change: impl FnOnce(&mut ContainerCreateBody)) -> Result<String> {
        self.create_named(None, script, change).await
    }

    pub(crate) async fn create_named(
        &self,
        name: Option<&str>,
        script: &str,
        change: impl FnOnce(&mut ContainerCreateBody),
    ) -> Result<String> {
        let mut body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(words(&["sh", "-c", script])),
            host_config: Some(HostConfig::default()),
            ..Default::default()
        };
        change(&mut body);
        let options = name.map(|name| CreateContainerOptionsBuilder::default().name(name).build());
        Ok(self.docker.create_container(options, body).await?.id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<()> {
        Ok(self.docker.start_container(id, None).await?)
    }

    /// A container that runs the script.
    pub(crate) async fn run(&self, script: &str) -> Result<String> {
        let id = self.create(script, |_| {}).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// A container that stays until it is told to end, and is ready for that.
    pub(crate) async fn sleeper(&self) -> Result<String> {
        let id = self.run("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done").await?;
        let options = LogsOptionsBuilder::default().follow(true).stdout(true).build();
        let mut logs = Box::pin(self.docker.logs(&id, Some(options)));
        logs.next().await.context("it said nothing")??;
        Ok(id)
    }

    /// Waits until the container has ended; gives its code.
    pub(crate) async fn ended(&self, id: &str) -> Result<i64> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut waiting = Box::pin(self.docker.wait_container(id, Some(options)));
        match waiting.next().await.context("no answer to the wait")? {
            Ok(answer) => Ok(answer.status_code),
            Err(Error::DockerContainerWaitError { code, .. }) => Ok(code),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a command in a container. Gives its output and its code.
    pub(crate) async fn exec(&self, id: &str, script: &str, tty: bool) -> Result<(Value, Option<i64>)> {
        let options = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", script]),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            ..Default::default()
        };
        let exec = self.docker.create_exec(id, options).await?.id;
        let started = self.docker.start_exec(&exec, Some(StartExecOptions { tty, ..Default::default() })).await?;
        let StartExecResults::Attached { output, .. } = started else { bail!("it was detached") };
        let said = told_apart(output).await?;
        Ok((said, self.docker.inspect_exec(&exec).await?.exit_code))
    }

    /// Imports the base image.
    pub(crate) async fn import(&self) -> Result<()> {
        let (repository, tag) = IMAGE.split_once(':').context("the image has no tag")?;
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(repository).tag(tag).build();
        let importing = self.docker.create_image(Some(options), Some(body_full(base()?)), None);
        all(importing).await.map(drop)
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Every item of a stream.
pub(crate) async fn all<T>(stream: impl Stream<Item = Result<T, Error>>) -> Result<Vec<T>> {
    let mut stream = Box::pin(stream);
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item?);
    }
    Ok(items)
}

/// All bytes of a stream.
pub(crate) async fn bytes_of(stream: impl Stream<Item = Result<Bytes, Error>>) -> Result<Vec<u8>> {
    Ok(all(stream).await?.concat())
}

/// What came by each way, however it was cut.
pub(crate) async fn told_apart(stream: impl Stream<Item = Result<LogOutput, Error>>) -> Result<Value> {
    let (mut out, mut err, mut console) = (Vec::new(), Vec::new(), Vec::new());
    for part in all(stream).await? {
        match part {
            LogOutput::StdOut { message } => out.extend_from_slice(&message),
            LogOutput::StdErr { message } => err.extend_from_slice(&message),
            LogOutput::Console { message } | LogOutput::StdIn { message } => console.extend_from_slice(&message),
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(json!({ "out": text(&out), "err": text(&err), "console": text(&console) }))
}

/// A tar archive of files with their contents.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Result<Bytes> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut tar, path, content, 0o644)?;
    }
    Ok(tar.into_inner()?.into())
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    Ok(tar.append_data(&mut header, path, content)?)
}

/// The files of a tar archive: path and length.
pub(crate) fn unpacked(bytes: &[u8]) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let entry = entry?;
        files.push((entry.path()?.display().to_string(), entry.size()));
    }
    files.sort();
    Ok(files)
}

/// A root file system with a shell: made of the machine's busybox, since there is no registry.
fn base() -> Result<Bytes> {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox =
        places.iter().find_map(|place| fs_err::read(place).ok()).context("busybox-static is not installed")?;
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "bin/busybox", &busybox, 0o755)?;
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    append(&mut tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644)?;
    append(&mut tar, "etc/group", b"root:x:0:\n", 0o644)?;
    append(&mut tar, "tmp/.keep", b"", 0o644)?;
    Ok(tar.into_inner()?.into())
}
