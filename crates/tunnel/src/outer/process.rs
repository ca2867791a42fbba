//! A command on the other host.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use overside_io::BoxedStream;
use russh::{Channel, ChannelMsg, client::Msg};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, join},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes of output on the way to a reader.
const BUFFER: usize = 256 * 1024;
/// Bytes of standard error, and of a finished command's output, that are kept.
const KEPT: usize = 256 * 1024;

/// A command that runs.
pub struct Process {
    /// Its standard output.
    pub stdout: DuplexStream,
    stdin: Stdin,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// None while it runs; then its exit status, where it has one.
    end: watch::Receiver<Option<Option<u32>>>,
}

/// Dropped, it ends the channel: a command that nobody waits for is told by its broken pipes.
struct Stdin {
    writer: Box<dyn AsyncWrite + Unpin + Send>,
    _held: DropGuard,
}

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status; none where a signal or the connection's end ended it.
    pub status: Option<u32>,
    /// Its standard output, the beginning where it was endless.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("end", &*self.end.borrow()).finish_non_exhaustive()
    }
}

impl Process {
    pub(super) fn of(channel: Channel<Msg>) -> Self {
        let (mut reader, writer) = channel.split();
        let dropped = CancellationToken::new();
        let stdin = Stdin { writer: Box::new(writer.make_writer()), _held: dropped.clone().drop_guard() };
        let (stdout, mut out) = tokio::io::duplex(BUFFER);
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = watch::channel(None);
        let errors = stderr.clone();
        tokio::spawn(async move {
            let mut status = None;
            loop {
                let message = tokio::select! {
                    message = reader.wait() => message,
                    () = dropped.cancelled() => break,
                };
                let Some(message) = message else { break };
                match message {
                    // A reader that has gone wants nothing more, but the channel must be drained all the same.
                    ChannelMsg::Data { data } => drop(out.write_all(&data).await),
                    ChannelMsg::ExtendedData { data, .. } => {
                        let mut kept = errors.lock().unwrap_or_else(PoisonError::into_inner);
                        let room = KEPT.saturating_sub(kept.len());
                        kept.extend_from_slice(&data[..data.len().min(room)]);
                    }
                    ChannelMsg::Eof => drop(out.shutdown().await),
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    ChannelMsg::Close => break,
                    _ => {}
                }
            }
            // Closed by us too, or sshd would count the session on.
            let _ = writer.close().await;
            ended.send_replace(Some(status));
        });
        Self { stdout, stdin, stderr, end }
    }

    /// Writes to its standard input, and ends that unless `more` is to come.
    ///
    /// # Errors
    /// The command or the connection has ended.
    pub async fn write(&mut self, input: &[u8], more: bool) -> io::Result<()> {
        self.stdin.write_all(input).await?;
        if more { self.stdin.flush().await } else { self.stdin.shutdown().await }
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for its end; the exit status, where it has one. Its output must be read meanwhile, or dropped.
    pub async fn ended(&mut self) -> Option<u32> {
        let end = self.end.wait_for(Option::is_some).await;
        end.ok().and_then(|end| *end).flatten()
    }

    /// Its standard input and output as one stream.
    pub fn into_stream(self) -> BoxedStream {
        Box::new(join(self.stdout, self.stdin))
    }

    pub(super) async fn finish(mut self, input: &[u8]) -> io::Result<Ran> {
        let (mut stdin, mut stdout) = (self.stdin, self.stdout);
        let feed = async {
            // A command that does not read everything is none the worse for it; its status tells.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        };
        let read = async {
            let mut output = Vec::new();
            (&mut stdout).take(KEPT as u64).read_to_end(&mut output).await?;
            drop(stdout);
            let end = self.end.wait_for(Option::is_some).await;
            io::Result::Ok((output, end.ok().and_then(|end| *end).flatten()))
        };
        tokio::pin!(read);
        // A command that has ended takes no input any more, and nobody says so to who waits to write it.
        let (stdout, status) = tokio::select! {
            ran = &mut read => ran,
            () = feed => read.await,
        }?;
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ran { status, stdout, stderr })
    }
}
