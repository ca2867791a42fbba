//! Hears what the laptop says and takes its contents in, while another thread does what was said before: writing files and
//! putting them in their places cost about the same, so that many small ones come in half the time.

use std::{
    fs::File,
    io::{self, Read},
    sync::mpsc::{Receiver as Tasks, SyncSender},
};

use overside_sync_core::{Digest, wire::Question};

use super::invalid;
use crate::{
    frames::Receiver,
    stage::{Inbox, Incoming, Received},
};

/// Tasks that are handed over together, since waking a thread costs more than most of them.
const TOGETHER: usize = 32;
/// So often they may wait: each may hold a file open.
pub(super) const WAITING: usize = 4;

/// What is to be done by the thread that has the root, in order.
pub(super) enum Task {
    Ask(Question),
    /// So many steps will need a content.
    Need(Digest, u32),
    Received(Received),
}

pub(super) struct Intake<'a, R> {
    pub(super) questions: &'a mut Receiver<R, Question>,
    pub(super) inbox: Inbox,
    pub(super) tasks: SyncSender<Vec<Task>>,
    /// The answers to each [`Question::Base`].
    pub(super) bases: Tasks<Option<File>>,
}

/// The other thread has ended, and says why itself.
struct Ended;

impl<R: Read> Intake<'_, R> {
    /// Hears it until the laptop says nothing more.
    pub(super) fn run(self) -> io::Result<()> {
        let Self { questions, inbox, tasks, bases } = self;
        let mut waiting = Vec::new();
        let hand_over = |waiting: &mut Vec<Task>| match waiting.is_empty() {
            true => Ok(()),
            false => tasks.send(std::mem::take(waiting)).map_err(|_| Ended),
        };
        let (mut incoming, mut base): (Option<Incoming>, Option<File>) = (None, None);
        loop {
            if (waiting.len() >= TOGETHER || questions.is_drained()) && hand_over(&mut waiting).is_err() {
                return Ok(());
            }
            let Some(question) = questions.receive()? else { return Ok(()) };
            match question {
                Question::Open { .. } => return Err(invalid("the root is open")),
                Question::Content { digest, size, uses } => {
                    waiting.push(Task::Need(digest, uses));
                    incoming = Some(inbox.receive(digest, size)?);
                }
                Question::Data(bytes) => {
                    if let Some(incoming) = &mut incoming {
                        incoming.write(&bytes)?;
                    }
                }
                Question::Complete => {
                    // One that was changed on its way is missed by the step that wants it.
                    if let Some(incoming) = incoming.take()
                        && let Some(received) = inbox.complete(incoming, false)?
                    {
                        waiting.push(Task::Received(received));
                    }
                }
                Question::Abandon => incoming.take().iter().for_each(|incoming| inbox.abandon(incoming)),
                Question::Reuse { offset, length } => {
                    if let Some(mut made) = incoming.take() {
                        // A file that was cut meanwhile has less: what was to be made of it is missed by the step that wants it.
                        match base.as_ref().map(|base| made.reuse(base, offset, length)) {
                            Some(Ok(())) => incoming = Some(made),
                            Some(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                            _ => inbox.abandon(&made),
                        }
                    }
                }
                Question::Base { .. } => {
                    waiting.push(Task::Ask(question));
                    let Ok(found) = hand_over(&mut waiting).and_then(|()| bases.recv().map_err(|_| Ended)) else {
                        return Ok(());
                    };
                    base = found;
                }
                question => {
                    if matches!(question, Question::Apply) {
                        base = None;
                    }
                    waiting.push(Task::Ask(question));
                }
            }
        }
    }
}
