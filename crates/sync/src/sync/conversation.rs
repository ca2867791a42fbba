//! The laptop's end of a conversation with the environment, which is not trusted: whatever it answers, memory stays bounded.

use std::{
    io::{self, Read, Write},
    sync::mpsc,
    thread,
};

use overside_sync_core::{
    Digest, Name, Node, RelativePath,
    wire::{Answer, MOST_CHUNKS, PROTOCOL, Question},
};

use crate::{
    chunks::Index,
    endpoint::Failure,
    frames::{Receiver, Sender},
};

/// Answers that wait to be read; each is as long as a message at most.
const WAITING: usize = 32;
/// Most reasons of failed steps that are kept.
const FAILURES: usize = 10_000;

pub(super) struct Conversation {
    questions: Sender<Box<dyn Write + Send>, Question>,
    answers: mpsc::Receiver<io::Result<Answer>>,
    watched: bool,
    _ended: Ended,
}

/// Tells that a conversation is over.
pub(super) struct Ended(pub(super) Option<Box<dyn FnOnce() + Send>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell();
        }
    }
}

/// The stream is gone, or the environment says what makes no sense: this conversation is over.
#[derive(Debug)]
pub(super) struct Lost(pub(super) io::Error);

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

pub(super) fn invalid(what: impl Into<String>) -> Lost {
    Lost(io::Error::new(io::ErrorKind::InvalidData, what.into()))
}

impl Conversation {
    /// `changed` is called when the environment has something new, `lost` when it says nothing more; `ended` tells when this is
    /// dropped.
    pub(super) fn begin(
        reader: Box<dyn Read + Send>,
        writer: Box<dyn Write + Send>,
        changed: impl Fn() + Send + 'static,
        lost: impl FnOnce() + Send + 'static,
        ended: Ended,
    ) -> io::Result<Self> {
        let mut receiver = Receiver::<_, Answer>::new(reader)?;
        let (sender, answers) = mpsc::sync_channel(WAITING);
        thread::Builder::new().name("sync-reader".to_owned()).spawn(move || {
            loop {
                let answer = match receiver.receive() {
                    Ok(Some(Answer::Changed)) => {
                        changed();
                        continue;
                    }
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) => Err(error),
                };
                let ends = answer.is_err();
                if sender.send(answer).is_err() || ends {
                    break;
                }
            }
            lost();
        })?;
        Ok(Self { questions: Sender::new(writer)?, answers, watched: false, _ended: ended })
    }

    pub(super) fn ask(&mut self, question: &Question) -> Result<(), Lost> {
        Ok(self.questions.send(question)?)
    }

    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        Ok(self.questions.flush()?)
    }

    pub(super) fn answer(&mut self) -> Result<Answer, Lost> {
        match self.answers.recv() {
            Ok(Ok(Answer::Broken { reason })) => Err(invalid(format!("the environment's side says: {reason}"))),
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    pub(super) fn open(&mut self, root: &RelativePath, kind: overside_sync_core::wire::Kind) -> Result<(), Lost> {
        self.ask(&Question::Open { protocol: PROTOCOL, root: root.clone(), kind })?;
        self.flush()?;
        match self.answer()? {
            Answer::Opened => Ok(()),
            _ => Err(invalid("the environment's side does not open the root")),
        }
    }

    pub(super) fn set_owner(&mut self, user: u32, group: u32) -> Result<(), Lost> {
        self.ask(&Question::Owner { user, group })?;
        self.flush()
    }

    /// Gives an entry of the environment another name. Returns why that was not done.
    pub(super) fn rename(
        &mut self,
        tree: &mut Option<Node>,
        path: &RelativePath,
        to: &Name,
    ) -> Result<Option<Failure>, Lost> {
        self.ask(&Question::Rename { path: path.clone(), to: to.clone() })?;
        self.flush()?;
        let failure = self.take(tree, 0)?.pop();
        if failure.is_none()
            && let Some((directory, name)) = path.split()
        {
            Node::rename(tree, &directory, &name, to);
        }
        Ok(failure)
    }

    /// Whether the environment notices every change, by its own account.
    pub(super) const fn is_watched(&self) -> bool {
        self.watched
    }

    /// Takes in what a scan or steps have found, into a tree of at most `most` entries.
    pub(super) fn take(&mut self, tree: &mut Option<Node>, most: u64) -> Result<Vec<Failure>, Lost> {
        let (mut failures, mut told) = (Vec::new(), 0_u64);
        loop {
            match self.answer()? {
                Answer::Scanned { watched } => {
                    self.watched = watched;
                    break;
                }
                Answer::Failed { path, reason, passes } if failures.len() < FAILURES => {
                    failures.push(Failure { path, reason, passes, held: None });
                }
                Answer::Failed { .. } => {}
                Answer::Entry { path, entry } => {
                    told += 1;
                    if told > most.saturating_mul(4) {
                        return Err(invalid("the environment tells of more files than mounts.max-files allows"));
                    }
                    // An entry for which there is no directory can only be part of something that is gone again.
                    Node::set(tree, &path, entry);
                }
                _ => return Err(invalid("the environment answers something else than was asked")),
            }
        }
        if told > most / 2 && tree.as_ref().is_some_and(|tree| tree.count().entries > most) {
            return Err(invalid("the environment has more files than mounts.max-files allows"));
        }
        Ok(failures)
    }

    /// Asks of which chunks a file consists that the environment has.
    pub(super) fn ask_base(&mut self, path: &RelativePath, digest: Digest, average: u32) -> Result<(), Lost> {
        self.ask(&Question::Base { path: path.clone(), digest, average: Some(average) })?;
        self.flush()
    }

    /// The answer, for a file of `size` bytes; none if the environment does not say.
    pub(super) fn base(&mut self, size: u64) -> Result<Option<Index>, Lost> {
        let mut index = Index::default();
        loop {
            match self.answer()? {
                Answer::Chunk(chunk) => {
                    index.add(chunk);
                    if chunk.length == 0 || index.end() > size || index.len() > MOST_CHUNKS {
                        return Err(invalid("the chunks of a file are not what they can be"));
                    }
                }
                Answer::Complete => return Ok(Some(index)),
                Answer::Abandon => return Ok(None),
                _ => return Err(invalid("the chunks of a file were expected")),
            }
        }
    }
}
