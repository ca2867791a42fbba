//! The agent's subsystem: requests and their answers, and what the agent tells by itself, one line of JSON each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use overside_model::agent::{MAX_LINE, Message, Operation, Request, SUBSYSTEM};
use russh::client::Handle;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, WriteHalf},
    sync::{oneshot, watch},
};

use crate::connection::{Handler, TunnelError};

/// What the agent tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerNews {
    /// The session goes on on another computer.
    TakenOver {
        /// That computer's name, as it calls itself.
        computer: String,
    },
    /// The engine has ended by itself, and the environment with it.
    EngineEnded {
        /// How, with the log's last lines.
        detail: String,
    },
}

type Answer = Result<(), TunnelError>;

pub(crate) struct Operations {
    writer: tokio::sync::Mutex<WriteHalf<russh::ChannelStream<russh::client::Msg>>>,
    pending: Arc<Mutex<Pending>>,
    news: watch::Receiver<Option<PeerNews>>,
}

#[derive(Default)]
struct Pending {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    ended: bool,
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken() -> TunnelError {
    TunnelError::Broken("the agent's subsystem ended".to_owned())
}

impl Operations {
    pub(crate) async fn open(handle: &Handle<Handler>) -> Result<Self, TunnelError> {
        let channel = handle.channel_open_session().await?;
        channel.request_subsystem(true, SUBSYSTEM).await?;
        let (reader, writer) = tokio::io::split(channel.into_stream());
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (tell, news) = watch::channel(None);
        let answered = pending.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(reader);
            while let Some(message) = next_message(&mut reader).await {
                match message {
                    Message::Done { id } => answer(&answered, id, Ok(())),
                    Message::Failed { id, problem } => answer(&answered, id, Err(TunnelError::Operation(problem))),
                    Message::TakenOver { computer } => {
                        tell.send_replace(Some(PeerNews::TakenOver { computer }));
                    }
                    Message::EngineEnded { detail } => {
                        tell.send_replace(Some(PeerNews::EngineEnded { detail }));
                    }
                }
            }
            let mut pending = lock(&answered);
            pending.ended = true;
            pending.waiting.clear();
        });
        Ok(Self { writer: tokio::sync::Mutex::new(writer), pending, news })
    }

    pub(crate) async fn request(&self, operation: Operation) -> Result<(), TunnelError> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut pending = lock(&self.pending);
            if pending.ended {
                return Err(broken());
            }
            pending.next += 1;
            let id = pending.next;
            pending.waiting.insert(id, sender);
            id
        };
        let mut line = serde_json::to_vec(&Request { id, operation }).map_err(|_| broken())?;
        line.push(b'\n');
        self.writer.lock().await.write_all(&line).await.map_err(|_| broken())?;
        receiver.await.map_err(|_| broken())?
    }

    pub(crate) fn news(&self) -> watch::Receiver<Option<PeerNews>> {
        self.news.clone()
    }
}

fn answer(pending: &Mutex<Pending>, id: u64, answer: Answer) {
    if let Some(waiting) = lock(pending).waiting.remove(&id) {
        // The asker may have gone.
        let _ = waiting.send(answer);
    }
}

/// The next message; None at the end, or when the agent sends what is none.
async fn next_message(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Message> {
    let mut line = Vec::new();
    reader.take(MAX_LINE as u64).read_until(b'\n', &mut line).await.ok()?;
    if line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(&line)
        .inspect_err(|error| tracing::warn!(%error, "the agent sent a line that is not understood"))
        .ok()
}
