//! A client of an agent: russh, and Docker's own CLI through it.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
};

use overside_model::agent::{ENGINE_SOCKET, Message, Operation, Request, SUBSYSTEM};
use russh::{
    Channel, ChannelMsg, client,
    keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{UnixListener, UnixStream},
    process::Command,
    time::timeout,
};

use crate::environment::{Home, LONG, Running};

struct Pinned(String);

impl client::Handler for Pinned {
    type Error = russh::Error;
    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(matches!(key, PublicKeyOrCertificate::PublicKey { key, .. } if key.to_openssh().unwrap() == self.0))
    }
}

/// A logged-in connection.
pub(crate) struct Client(Arc<client::Handle<Pinned>>);

impl Client {
    pub(crate) async fn connect(running: &Running, home: &Home) -> Self {
        Self::try_connect(running, &home.key).await.expect("the session's key is let in")
    }

    /// `None` if the key is refused.
    pub(crate) async fn try_connect(running: &Running, key: &PrivateKey) -> Option<Self> {
        let stream = UnixStream::connect(&running.facts().socket).await.unwrap();
        let pinned = Pinned(running.facts().host_key.clone());
        let mut handle = client::connect_stream(Arc::default(), stream, pinned).await.unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
        let result = handle.authenticate_publickey("overside", key).await.unwrap();
        result.success().then(|| Self(Arc::new(handle)))
    }

    pub(crate) async fn engine(&self) -> Channel<client::Msg> {
        self.0.channel_open_direct_streamlocal(ENGINE_SOCKET).await.unwrap()
    }

    pub(crate) fn handle(&self) -> &client::Handle<impl client::Handler> {
        &self.0
    }

    pub(crate) async fn tcp(&self, host: &str, port: u32) -> Result<Channel<client::Msg>, russh::Error> {
        self.0.channel_open_direct_tcpip(host, port, "127.0.0.1", 1).await
    }

    pub(crate) async fn agent(&self) -> Subsystem {
        let channel = self.0.channel_open_session().await.unwrap();
        channel.request_subsystem(true, SUBSYSTEM).await.unwrap();
        Subsystem { channel, buffer: Vec::new(), next: 1 }
    }

    /// Docker's CLI, on a local socket that is forwarded to the engine.
    pub(crate) fn docker(&self, directory: &Path) -> Docker {
        let socket = directory.join("docker.sock");
        let _ = fs_err::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let handle = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let handle = Arc::clone(&handle);
                tokio::spawn(async move {
                    let channel = handle.channel_open_direct_streamlocal(ENGINE_SOCKET).await?;
                    copy_bidirectional(&mut stream, &mut channel.into_stream()).await?;
                    Ok::<(), russh::Error>(())
                });
            }
        });
        Docker { directory: directory.to_owned() }
    }

    pub(crate) async fn disconnect(self) {
        self.0.disconnect(russh::Disconnect::ByApplication, "", "").await.unwrap();
    }
}

/// The agent's own subsystem.
pub(crate) struct Subsystem {
    channel: Channel<client::Msg>,
    buffer: Vec<u8>,
    next: u64,
}

impl Subsystem {
    pub(crate) async fn ask(&mut self, operation: Operation) -> Message {
        let request = Request { id: self.next, operation };
        self.next += 1;
        self.send(&serde_json::to_string(&request).unwrap()).await;
        self.message().await.expect("an answer")
    }

    pub(crate) async fn done(&mut self, operation: Operation) {
        let id = self.next;
        assert_eq!(self.ask(operation).await, Message::Done { id });
    }

    pub(crate) async fn send(&self, line: &str) {
        self.channel.data(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next message; `None` at the end of the channel.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            match timeout(LONG, self.channel.wait()).await.expect("a message in time")? {
                ChannelMsg::Data { data } => self.buffer.extend_from_slice(&data),
                ChannelMsg::Close => return None,
                _ => {}
            }
        }
    }
}

/// Docker's CLI for one environment.
pub(crate) struct Docker {
    directory: PathBuf,
}

impl Docker {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("DOCKER_CONFIG", &self.directory);
        command.env("DOCKER_HOST", format!("unix://{}", self.directory.join("docker.sock").display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn try_run(&self, arguments: &[&str]) -> Output {
        timeout(LONG, self.command(arguments).output()).await.expect("docker in time").unwrap()
    }

    /// What it prints, if it succeeds.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        check(arguments, self.try_run(arguments).await)
    }

    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        check(arguments, timeout(LONG, child.wait_with_output()).await.expect("docker in time").unwrap())
    }

    /// Makes the image `bb` out of the machine's static busybox.
    pub(crate) async fn import_busybox(&self) {
        let root = self.directory.join("bb");
        fs_err::create_dir_all(root.join("bin")).unwrap();
        for directory in ["proc", "sys", "dev", "tmp", "etc"] {
            fs_err::create_dir_all(root.join(directory)).unwrap();
        }
        fs_err::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in
            ["sh", "cat", "echo", "sleep", "find", "ps", "httpd", "id", "touch", "mount", "wc", "mkdir", "grep"]
        {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let archive = self.directory.join("bb.tar");
        let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
        assert!(tar.await.unwrap().success());
        self.run(&["import", archive.to_str().unwrap(), "bb"]).await;
    }
}

fn check(arguments: &[&str], output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "docker {arguments:?}: {} {out} {err}", output.status);
    out.into_owned()
}
