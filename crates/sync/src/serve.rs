//! The environment's side: does what the laptop says, until it says nothing more.

mod intake;
mod turn;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use overside_sync_core::{
    Digest, RelativePath, Rules, Side,
    wire::{Answer, BLOCK, Has, Kind, LONGEST, MOST_CHUNKS, PROTOCOL, Question},
};

use self::{
    intake::{Intake, Task, WAITING},
    turn::Turn,
};
use crate::{
    chunks::{self, Index},
    delta::{Delta, Part},
    endpoint::{Endpoint, Failure},
    files::{Owner, make_directories, path_of},
    frames::{Receiver, Sender},
    lock,
    root::Near,
    scan::Changes,
};

/// After so many steps at most it is looked at once what else has changed; after more, when the laptop asks.
const LOOKED_AT: usize = 1000;

type Answers<W> = Arc<Mutex<Sender<W, Answer>>>;

/// Serves one root below `roots`; `stages` is a directory on the same file system.
///
/// # Errors
/// The stream's, and those of the file system that leave nothing to go on with; they are told to the laptop as well.
pub fn serve(reader: impl Read, writer: impl Write + Send + 'static, roots: &Path, stages: &Path) -> io::Result<()> {
    let mut questions = Receiver::<_, Question>::new(reader)?;
    let answers: Answers<_> = Arc::new(Mutex::new(Sender::new(writer)?));
    let result = converse(&mut questions, &answers, roots, stages);
    tell_end(&answers, &result);
    result
}

/// Tells the laptop why it does not go on.
fn tell_end<W: Write>(answers: &Answers<W>, result: &io::Result<()>) {
    if let Err(error) = result {
        let mut answers = lock(answers);
        let _ = answers.send(&Answer::Broken { reason: error.to_string() });
        let _ = answers.flush();
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn converse<W: Write + Send + 'static>(
    questions: &mut Receiver<impl Read, Question>,
    answers: &Answers<W>,
    roots: &Path,
    stages: &Path,
) -> io::Result<()> {
    let Some(Question::Open { protocol, root, kind }) = questions.receive()? else {
        return Err(invalid("a root must be named first"));
    };
    if protocol != PROTOCOL {
        return Err(invalid("the two sides speak different versions"));
    }
    // What the steps themselves change is not worth a scan of its own.
    let quiet = Arc::new(AtomicBool::new(false));
    let name = blake3::hash(root.as_bytes()).to_hex();
    let stage = stages.join(name.as_str());
    make_directories(stages)?;
    // Before the root is looked at.
    let turn = Turn::take(stages, &format!("{name}.turn"))?;
    let endpoint = open(&root, kind, roots, &stage, answers, &quiet)?;
    lock(answers).send(&Answer::Opened)?;
    lock(answers).flush()?;
    let (tasks, waiting) = mpsc::sync_channel(WAITING);
    let (found, bases) = mpsc::channel();
    let intake = Intake { questions, inbox: endpoint.inbox().try_clone()?, tasks, bases };
    thread::scope(|scope| {
        let working = thread::Builder::new().name("sync-files".to_owned()).spawn_scoped(scope, move || {
            let result = work(endpoint, &turn, &waiting, &found, answers, &quiet);
            // At once: the laptop waits for an answer, and this program for the laptop.
            tell_end(answers, &result);
            result
        })?;
        let heard = intake.run();
        let worked = working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        heard.and(worked)
    })
}

/// Does what the laptop says.
fn work<W: Write + Send + 'static>(
    mut endpoint: Endpoint,
    turn: &Turn,
    waiting: &mpsc::Receiver<Vec<Task>>,
    bases: &mpsc::Sender<Option<File>>,
    answers: &Answers<W>,
    quiet: &AtomicBool,
) -> io::Result<()> {
    let (mut steps, mut later) = (0, Changes::new());
    // The chunks that the laptop has of the file that it wants next.
    let (mut chunks, mut near) = (Index::default(), Near::default());
    let (mut tasks, mut held) = (Vec::new().into_iter(), None);
    loop {
        let Some(task) = tasks.next() else {
            drop(held.take());
            // What was supplied goes together, until there is nothing to be done.
            let next = match waiting.try_recv() {
                Err(mpsc::TryRecvError::Empty) => {
                    lock(answers).flush()?;
                    waiting.recv().ok()
                }
                next => next.ok(),
            };
            let Some(next) = next else { break };
            tasks = next.into_iter();
            continue;
        };
        let question = match task {
            Task::Need(digest, uses) => {
                endpoint.need(digest, uses);
                continue;
            }
            Task::Received(received) => {
                endpoint.keep(received);
                continue;
            }
            Task::Ask(question) => question,
        };
        match question {
            // Many in a row are done in one go.
            Question::Step(_) if held.is_some() => {}
            Question::Owner { .. }
            | Question::Own { .. }
            | Question::Step(_)
            | Question::Rename { .. }
            | Question::Apply => {
                drop(held.take());
                held = Some(turn.hold()?);
            }
            // While the laptop is being answered nobody is kept waiting.
            _ => drop(held.take()),
        }
        match question {
            Question::Rules { text, masks, held } => {
                endpoint.set_rules(Rules::new(&text, masks).0);
                endpoint.set_held(held);
            }
            Question::Owner { user, group } => {
                endpoint.set_owner(Owner::new(user, group))?;
            }
            Question::Scan { whole } => {
                near.forget();
                let mut changes = std::mem::take(&mut later);
                // The laptop may count on all that was done before it asks.
                changes.extend(endpoint.scan(whole || !endpoint.is_prompt())?);
                tell(&mut lock(answers), changes, Vec::new(), endpoint.is_watched())?;
            }
            Question::Own { path, digest, uses } => {
                endpoint.need(digest, uses);
                endpoint.own(&path, &digest);
            }
            Question::Base { path, digest, average } => {
                let base = match average {
                    Some(average) => list(&mut lock(answers), &endpoint, &path, &digest, average)?,
                    None => endpoint.supply(&mut near, &path, &digest).unwrap_or_default(),
                };
                if bases.send(base).is_err() {
                    break;
                }
            }
            Question::Step(step) => {
                quiet.store(true, Ordering::Relaxed);
                steps += 1;
                endpoint.step(&step);
            }
            Question::Rename { path, to } => {
                let failures = endpoint.rename(&path, &to).err().into_iter().collect();
                drop(held.take());
                tell(&mut lock(answers), Changes::new(), failures, endpoint.is_watched())?;
            }
            Question::Apply => {
                near.forget();
                let (changes, failures) = endpoint.finish();
                drop(held.take());
                quiet.store(false, Ordering::Relaxed);
                let few = std::mem::take(&mut steps) <= LOOKED_AT;
                // Told when the laptop asks next: what a step has brought was common to both sides once, and what somebody made of
                // it since is a newer version, no other one.
                later.extend(if few { endpoint.scan(false)? } else { Changes::new() });
                if !few || !later.is_empty() {
                    lock(answers).send(&Answer::Changed)?;
                }
                tell(&mut lock(answers), changes, failures, endpoint.is_watched())?;
            }
            Question::Chunk(chunk) if chunks.len() < MOST_CHUNKS => chunks.add(chunk),
            Question::Chunk(_) => return Err(invalid("too many chunks of a file")),
            Question::Supply { path, digest, size, has } => {
                let known = std::mem::take(&mut chunks);
                let file = endpoint.supply(&mut near, &path, &digest).unwrap_or_default();
                let mut answers = lock(answers);
                let delta = match (has, &file) {
                    (Has::Version(old), Some(_)) => endpoint.compare(&old, &digest, size),
                    (Has::Chunks(average), Some(file)) => {
                        let chunks = chunks::list(file, size, average).ok();
                        chunks.map(|chunks| Delta::of_chunks(&chunks, &known))
                    }
                    _ => None,
                };
                match (file, has, delta) {
                    (Some(file), Has::Nothing, _) => supply(&mut answers, file, size)?,
                    (Some(file), _, Some(delta)) => supply_delta(&mut answers, &file, &delta)?,
                    _ => answers.send(&Answer::Abandon)?,
                }
            }
            // The intake's own.
            Question::Open { .. }
            | Question::Content { .. }
            | Question::Data(_)
            | Question::Reuse { .. }
            | Question::Complete
            | Question::Abandon => {}
        }
    }
    Ok(())
}

/// Opens the root, and makes it if it is not there.
fn open<W: Write + Send + 'static>(
    root: &RelativePath,
    kind: Kind,
    roots: &Path,
    stage: &Path,
    answers: &Answers<W>,
    quiet: &Arc<AtomicBool>,
) -> io::Result<Endpoint> {
    let path = path_of(roots, root);
    match kind {
        Kind::Directory => make_directories(&path)?,
        Kind::File => {
            if let Some(parent) = path.parent() {
                make_directories(parent)?;
            }
            match fs_err::OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    let (told, quiet) = (Arc::downgrade(answers), Arc::clone(quiet));
    let changed = move || {
        if !quiet.load(Ordering::Relaxed)
            && let Some(answers) = told.upgrade()
        {
            let mut answers = lock(&answers);
            // A stream that is gone ends the conversation elsewhere.
            let _ = answers.send(&Answer::Changed);
            let _ = answers.flush();
        }
    };
    Endpoint::open(path, kind, stage, Side::Environment, changed)
}

fn tell<W: Write>(
    answers: &mut Sender<W, Answer>,
    changes: Changes,
    failures: Vec<Failure>,
    watched: bool,
) -> io::Result<()> {
    for Failure { path, mut reason, passes, .. } in failures {
        let mut end = reason.len().min(LONGEST / 64);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        answers.send(&Answer::Failed { path, reason, passes })?;
    }
    for (path, entry) in changes {
        answers.send(&Answer::Entry { path, entry })?;
    }
    answers.send(&Answer::Scanned { watched })?;
    answers.flush()
}

/// Tells the chunks of a file, and returns it.
fn list<W: Write>(
    answers: &mut Sender<W, Answer>,
    endpoint: &Endpoint,
    path: &RelativePath,
    digest: &Digest,
    average: u32,
) -> io::Result<Option<File>> {
    let size = endpoint.file(path).map_or(0, |known| known.size);
    let file = endpoint.supply(&mut Near::default(), path, digest).unwrap_or_default();
    let listed = match &file {
        Some(file) => chunks::list(file, size, average).ok().filter(|chunks| chunks.len() <= MOST_CHUNKS),
        None => None,
    };
    match listed {
        Some(chunks) => {
            chunks.into_iter().try_for_each(|chunk| answers.send(&Answer::Chunk(chunk)))?;
            answers.send(&Answer::Complete)?;
        }
        None => answers.send(&Answer::Abandon)?,
    }
    answers.flush()?;
    Ok(file)
}

/// Sends what of a file the laptop lacks, and says the rest.
fn supply_delta<W: Write>(answers: &mut Sender<W, Answer>, file: &File, delta: &Delta) -> io::Result<()> {
    let is_whole = delta.say(file, |part| {
        answers.send(&match part {
            Part::Old { offset, length } => Answer::Reuse { offset, length },
            Part::New(bytes) => Answer::Data(bytes),
        })
    })?;
    answers.send(&if is_whole { Answer::Complete } else { Answer::Abandon })
}

/// Sends a file.
fn supply<W: Write>(answers: &mut Sender<W, Answer>, file: File, size: u64) -> io::Result<()> {
    let mut file = file.take(size);
    let mut buffer = vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK)).max(1)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return answers.send(&Answer::Complete),
            Ok(count) => answers.send(&Answer::Data(buffer[..count].to_vec()))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return answers.send(&Answer::Abandon),
        }
    }
}
