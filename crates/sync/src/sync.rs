//! The laptop's side: keeps one root and its copy in the environment alike.

mod ancestor;
mod conversation;
mod cycle;

use std::{
    fmt,
    io::{self, Read, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use overside_sync_core::{Halt, Mode, RelativePath, Side, wire::Kind};

use self::{
    conversation::{Conversation, Ended, Lost},
    cycle::{Cycle, Extent, Outcome, Trouble},
};
use crate::lock;

/// After a change others follow: an editor's save is several.
const GATHER: Duration = Duration::from_millis(3);
/// How often everything is looked at although nothing was told: hints can be lost.
const WHOLE_EVERY: Duration = Duration::from_secs(600);
/// The same where not every directory can be watched.
const UNWATCHED: Duration = Duration::from_secs(3);
/// Pauses between attempts while files are being changed.
const AGAIN: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// Failed attempts after which everything is looked at, whatever was told.
const SURE: usize = 2;
/// Attempts before a flush says what it could not bring.
const ATTEMPTS: usize = 5;

/// How much a root may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

impl Limits {
    /// Where a person has said that it may be as large as it is. What the environment may tell stays bounded.
    pub const ALLOWED: Self = Self { entries: 10_000_000, bytes: u64::MAX };
}

/// What is kept alike, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// On this machine; absolute.
    pub laptop: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Below the place of all roots in the environment.
    pub root: RelativePath,
    /// Which way changes go.
    pub mode: Mode,
    /// Paths at which containers have other things mounted.
    pub masks: Vec<RelativePath>,
    /// Files in it that containers have mounted by themselves: in the environment they are written into, not replaced.
    pub held: Vec<RelativePath>,
    /// File that keeps what both had in common last.
    pub ancestor: PathBuf,
    /// Directory for files on their way, of this sync's own.
    pub stage: PathBuf,
    /// How much may be brought at first, and taken back.
    pub limits: Limits,
}

/// How far something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that have arrived.
    pub files: u64,
    /// Files in all.
    pub all_files: u64,
    /// Bytes that have arrived.
    pub bytes: u64,
    /// Bytes in all.
    pub all_bytes: u64,
}

/// What it is at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not connected to the environment.
    #[default]
    Waiting,
    /// Both sides are read.
    Reading,
    /// Files are on their way.
    Bringing(Progress),
    /// Both sides are alike, as far as is known.
    Alike,
    /// A root asks for a person.
    Halted(Side, Halt),
    /// More than the limits allow, with the largest directories of it.
    TooMuch {
        /// Entries in all.
        entries: u64,
        /// Bytes in all.
        bytes: u64,
        /// Path, entries and bytes.
        largest: Vec<(RelativePath, u64, u64)>,
    },
    /// It does not go on.
    Failed(String),
}

/// What can be told of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is at.
    pub phase: Phase,
    /// Entries on the laptop, as last read.
    pub entries: u64,
    /// Bytes of files there.
    pub bytes: u64,
    /// Versions that were kept beside others and are still there.
    pub conflicts: Vec<RelativePath>,
    /// What cannot be brought, and why.
    pub problems: Vec<(RelativePath, String)>,
    /// Lines of the file of rules that are no pattern.
    pub invalid_rules: Vec<(usize, String)>,
}

/// How a flush ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flushed {
    /// Both sides were alike after it began.
    Done,
    /// These could not be brought.
    Left(Vec<(RelativePath, String)>),
    /// A person is asked first; the phase says what.
    Stands {
        /// The environment has something that the laptop has never had.
        unsaved: bool,
    },
    /// The sync has ended.
    Ended,
}

type Told = Box<dyn FnOnce(Flushed) + Send>;

/// Whether the environment has a place for the root, and who waits for that.
#[derive(Default)]
struct Place {
    made: bool,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

enum Command {
    Changed(Side),
    Connect(Box<dyn Read + Send>, Box<dyn Write + Send>, Ended),
    /// The connection of this number is gone.
    Lost(u64),
    Owner(u32, u32),
    Shape(Mode, Vec<RelativePath>, Vec<RelativePath>),
    Flush(Told),
    /// A person has decided what a halted sync is to do.
    GoOn {
        restore: bool,
    },
    /// A person lets it be as large as it is.
    Allow,
    End,
}

/// Keeps a root and its copy alike until it is dropped.
pub struct Sync {
    commands: mpsc::Sender<Command>,
    status: Arc<Mutex<Status>>,
    place: Arc<Mutex<Place>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl fmt::Debug for Sync {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sync").finish_non_exhaustive()
    }
}

impl Sync {
    /// Begins. `changed` is called when the status has changed.
    ///
    /// # Errors
    /// The stage cannot be made, or the system gives no thread.
    pub fn start(setup: Setup, changed: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let status = Arc::new(Mutex::new(Status::default()));
        let hint = commands.clone();
        let cycle = Cycle::new(setup, Arc::clone(&status), Box::new(changed), move || {
            let _ = hint.send(Command::Changed(Side::Laptop));
        })?;
        let sender = commands.clone();
        let place = Arc::new(Mutex::new(Place::default()));
        let driver = Driver::new(cycle, sender, Arc::clone(&place));
        let thread = thread::Builder::new().name("sync".to_owned()).spawn(move || driver.run(&received))?;
        Ok(Self { commands, status, place, thread: Mutex::new(Some(thread)) })
    }

    /// Ends it, and blocks until it writes nothing any more. In the midst of a cycle that takes until the cycle's end, or its
    /// stream's.
    pub fn end(&self) {
        self.command(Command::End);
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a sync's thread panicked");
        }
    }

    /// Speaks with the environment over a stream from now on. `ended` is called when it is of no use any more, also where that
    /// is for a reason on this side: another one is to be connected then.
    pub fn connect(
        &self,
        reader: Box<dyn Read + Send>,
        writer: Box<dyn Write + Send>,
        ended: impl FnOnce() + Send + 'static,
    ) {
        self.command(Command::Connect(reader, writer, Ended(Some(Box::new(ended)))));
    }

    /// Calls once the environment has a place for the root, empty as it may be.
    pub fn when_placed(&self, then: impl FnOnce() + Send + 'static) {
        let mut place = lock(&self.place);
        if place.made {
            drop(place);
            then();
        } else {
            place.waiting.push(Box::new(then));
        }
    }

    /// Gives the files in the environment to this user.
    pub fn set_owner(&self, user: u32, group: u32) {
        self.command(Command::Owner(user, group));
    }

    /// Which way changes go from now on, what is ignored besides the file of rules, and which files are written into.
    pub fn set_shape(&self, mode: Mode, masks: Vec<RelativePath>, held: Vec<RelativePath>) {
        self.command(Command::Shape(mode, masks, held));
    }

    /// Brings all that either side has now to the other, and says when that is done. It waits for a connection.
    pub fn flush(&self, done: impl FnOnce(Flushed) + Send + 'static) {
        if let Err(mpsc::SendError(Command::Flush(done))) = self.commands.send(Command::Flush(Box::new(done))) {
            done(Flushed::Ended);
        }
    }

    /// Goes on after a halt: what is missing is restored from the other side, or it is meant, and the other side follows.
    pub fn go_on(&self, restore: bool) {
        self.command(Command::GoOn { restore });
    }

    /// Begins although there is more than the limits allow.
    pub fn allow(&self) {
        self.command(Command::Allow);
    }

    /// What it is at.
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    fn command(&self, command: Command) {
        // A thread that has ended is told in the status.
        let _ = self.commands.send(command);
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.command(Command::End);
    }
}

/// The thread's own state: when to do what.
struct Driver {
    cycle: Cycle,
    commands: mpsc::Sender<Command>,
    conversation: Option<Conversation>,
    connections: u64,
    owner: Option<(u32, u32)>,
    changed: [bool; 2],
    /// The first reading of a connection is still to be done.
    whole: bool,
    flushes: Vec<Told>,
    failed: usize,
    last_whole: Instant,
    place: Arc<Mutex<Place>>,
}

impl Driver {
    fn new(cycle: Cycle, commands: mpsc::Sender<Command>, place: Arc<Mutex<Place>>) -> Self {
        Self {
            cycle,
            commands,
            conversation: None,
            connections: 0,
            owner: None,
            changed: [false; 2],
            whole: false,
            flushes: Vec::new(),
            failed: 0,
            last_whole: Instant::now(),
            place,
        }
    }

    fn run(mut self, received: &mpsc::Receiver<Command>) {
        loop {
            match received.recv_timeout(self.wait()) {
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.is_due() {
                // What comes in the same moment belongs to it.
                let until = Instant::now() + GATHER;
                let mut ends = false;
                while let Ok(command) = received.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    match command {
                        Command::End => ends = true,
                        command => self.take(command),
                    }
                }
                if ends {
                    break;
                }
                self.work();
            }
            self.cycle.catch_up();
        }
        self.cycle.make_durable();
        for done in self.flushes {
            done(Flushed::Ended);
        }
    }

    fn wait(&self) -> Duration {
        let rest = self.cycle.due().unwrap_or(WHOLE_EVERY);
        if self.conversation.is_none() {
            return rest;
        }
        if self.failed > 0 {
            return rest.min(AGAIN[(self.failed - 1).min(AGAIN.len() - 1)]);
        }
        rest.min(self.whole_every().saturating_sub(self.last_whole.elapsed()))
    }

    /// Whether both sides notice every change.
    fn is_watched(&self) -> bool {
        self.cycle.is_watched() && self.conversation.as_ref().is_some_and(Conversation::is_watched)
    }

    fn whole_every(&self) -> Duration {
        if self.is_watched() { WHOLE_EVERY } else { UNWATCHED }
    }

    fn is_due(&self) -> bool {
        self.conversation.is_some()
            && (self.whole
                || self.changed != [false; 2]
                || !self.flushes.is_empty()
                || self.failed > 0
                || self.last_whole.elapsed() >= self.whole_every())
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Changed(side) => self.changed[usize::from(side == Side::Environment)] = true,
            Command::Connect(reader, writer, ended) => {
                self.connections += 1;
                let number = self.connections;
                let commands = self.commands.clone();
                let changed = {
                    let commands = commands.clone();
                    move || drop(commands.send(Command::Changed(Side::Environment)))
                };
                let lost = move || drop(commands.send(Command::Lost(number)));
                match Conversation::begin(reader, writer, changed, lost, ended) {
                    Ok(mut conversation) => match self.cycle.open(&mut conversation, self.owner) {
                        Ok(()) => {
                            self.conversation = Some(conversation);
                            self.whole = true;
                            let waiting = {
                                let mut place = lock(&self.place);
                                place.made = true;
                                std::mem::take(&mut place.waiting)
                            };
                            waiting.into_iter().for_each(|then| then());
                        }
                        Err(Lost(error)) => self.cycle.fail(&error),
                    },
                    Err(error) => self.cycle.fail(&error),
                }
            }
            // Where it ended on this side, the status says why.
            Command::Lost(number) if number == self.connections && self.conversation.is_some() => self.lose(),
            Command::Lost(_) | Command::End => {}
            Command::Owner(user, group) => {
                self.owner = Some((user, group));
                if let Some(conversation) = &mut self.conversation
                    && conversation.set_owner(user, group).is_err()
                {
                    self.lose();
                }
            }
            Command::Shape(mode, masks, held) => {
                if self.cycle.set_shape(mode, masks, held) {
                    self.whole = true;
                }
            }
            Command::Flush(done) => self.flushes.push(done),
            Command::Allow => {
                self.cycle.allow();
                self.whole = true;
            }
            Command::GoOn { restore } => {
                self.cycle.go_on(restore);
                self.whole = true;
            }
        }
    }

    fn lose(&mut self) {
        self.conversation = None;
        self.failed = 0;
        self.cycle.lose();
    }

    /// One cycle, and what follows from it.
    fn work(&mut self) {
        let flushes = self.flushes.len();
        // Whoever waits for all may count on what is noticed, if all is noticed.
        let whole = self.whole
            || (flushes > 0 && !self.is_watched())
            || self.failed >= SURE
            || self.last_whole.elapsed() >= self.whole_every();
        let environment = self.changed[1] || self.failed > 0;
        let Some(conversation) = &mut self.conversation else { return };
        self.changed = [false; 2];
        let extent = match (flushes > 0, environment) {
            _ if whole => Extent::Whole,
            (true, _) => Extent::Now,
            (false, true) => Extent::Both,
            (false, false) => Extent::Laptop,
        };
        match self.cycle.run(conversation, extent) {
            Ok(outcome) => {
                if whole {
                    self.whole = false;
                    self.last_whole = Instant::now();
                }
                let left = match outcome {
                    Outcome::Alike => {
                        self.failed = 0;
                        Flushed::Done
                    }
                    Outcome::Stands { unsaved } => {
                        self.failed = 0;
                        Flushed::Stands { unsaved }
                    }
                    Outcome::Left(left) => {
                        self.failed = 0;
                        Flushed::Left(left)
                    }
                    Outcome::Again(left) => {
                        self.failed += 1;
                        if self.failed < ATTEMPTS {
                            return;
                        }
                        Flushed::Left(left)
                    }
                };
                // What was brought is kept already, whatever happens to this process: before it was brought, as intents.
                for done in self.flushes.drain(..flushes) {
                    done(left.clone());
                }
            }
            Err(Trouble::Lost(error)) => {
                tracing::debug!(%error, "a sync's conversation ended");
                self.lose();
                if error.kind() == io::ErrorKind::InvalidData {
                    self.cycle.fail(&error);
                }
            }
            Err(Trouble::Local(error)) => {
                // What was asked and not heard is of no use any more.
                self.lose();
                self.cycle.fail(&error);
                for done in self.flushes.drain(..flushes) {
                    done(Flushed::Left(vec![(RelativePath::ROOT, error.to_string())]));
                }
            }
        }
    }
}
