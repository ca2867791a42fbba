//! One cycle: read, reconcile, carry, do.

mod carry;
mod odd;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use overside_sync_core::{
    Count, Entry, Halt, HeldBack, IGNORE_FILE, Intents, Mode, Node, RelativePath, Rules, Seen, Side, halt, is_conflict,
    reconcile, unchanged,
    wire::{Kind, Question},
    without_removed,
};

use self::odd::{held_back, left};
use super::{
    Limits, Phase, Progress, Setup, Status,
    ancestor::Kept,
    conversation::{Conversation, Lost},
};
use crate::{
    endpoint::{Endpoint, Failure},
    lock, memory,
    scan::Changes,
};

/// Plans of one cycle: what is done may make room for what was held back.
const ROUNDS: usize = 4;
/// Problems that are told.
const PROBLEMS: usize = 100;
/// The common state is written so seldom that one part in so many of the time goes into it.
const KEEPING_PART: u32 = 20;
/// How long the one in the file may be the older one at most.
const KEEP_WITHIN: Duration = Duration::from_secs(5);
/// After so many steps much memory was used for a while.
const MANY: usize = 10_000;
/// After so long it outlives the machine, too: whoever waits for a command does not wait for the disk.
const DURABLE_WITHIN: Duration = Duration::from_secs(5);

/// What of both sides is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything.
    Whole,
    /// What was changed on both sides up to now.
    Now,
    /// What is said to have changed on both sides.
    Both,
    /// What is said to have changed on the laptop: that the environment has changed, its side of a step notices.
    Laptop,
}

/// Why a cycle did not end.
pub(super) enum Trouble {
    /// The other side is gone, or makes no sense.
    Lost(io::Error),
    /// This machine's file system refuses.
    Local(io::Error),
}

impl From<Lost> for Trouble {
    fn from(Lost(error): Lost) -> Self {
        Self::Lost(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

/// How a cycle ended.
pub(super) enum Outcome {
    /// Both sides are alike.
    Alike,
    /// Something was changed meanwhile.
    Again(Vec<(RelativePath, String)>),
    /// Something cannot be done.
    Left(Vec<(RelativePath, String)>),
    /// A person is asked first.
    Stands {
        /// The environment has something that the laptop has never had.
        unsaved: bool,
    },
}

pub(super) struct Cycle {
    setup: Setup,
    laptop: Endpoint,
    environment: Option<Node>,
    ancestor: Option<Node>,
    /// The same on the disk.
    kept: Kept,
    /// What was being brought when a cycle was interrupted.
    intents: Arc<Intents>,
    /// Since when it is newer than the one on the disk.
    unkept: Option<Instant>,
    /// How long it took to write it last.
    keeping: Duration,
    /// Since when what was written may not be on the disk.
    undurable: Option<Instant>,
    /// Memory that was used for a while is still to be given back.
    was_large: bool,
    /// Versions that were kept beside others, on the laptop.
    conflicts: BTreeSet<RelativePath>,
    /// What there was on the laptop when it was counted last, when that was, how long it took, and whether it has changed.
    count: Count,
    counted: Instant,
    counting: Duration,
    uncounted: bool,
    /// The text of the file of rules; none while what is ignored is still to be told to both sides.
    rules: Option<String>,
    /// What of the environment the laptop's file system refused when that was tried.
    unfit: BTreeMap<RelativePath, HeldBack>,
    /// What a person has decided: whether to restore.
    decided: Option<bool>,
    /// When progress was told last.
    told: Option<Instant>,
    status: Arc<Mutex<Status>>,
    changed: Box<dyn Fn() + Send>,
}

impl Cycle {
    pub(super) fn new(
        setup: Setup,
        status: Arc<Mutex<Status>>,
        changed: Box<dyn Fn() + Send>,
        hint: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let laptop = Endpoint::open(setup.laptop.clone(), setup.kind, &setup.stage, Side::Laptop, hint)?;
        let kept = Kept::read(setup.ancestor.clone());
        let mut cycle = Self {
            setup,
            laptop,
            environment: None,
            ancestor: kept.tree().cloned(),
            intents: Arc::clone(kept.intents()),
            kept,
            unkept: None,
            keeping: Duration::ZERO,
            undurable: None,
            was_large: false,
            conflicts: BTreeSet::new(),
            count: Count::default(),
            counted: Instant::now(),
            counting: Duration::ZERO,
            uncounted: false,
            rules: None,
            unfit: BTreeMap::new(),
            decided: None,
            told: None,
            status,
            changed,
        };
        cycle.read_rules();
        Ok(cycle)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.laptop.is_watched()
    }

    /// Begins with a new connection.
    pub(super) fn open(&mut self, conversation: &mut Conversation, owner: Option<(u32, u32)>) -> Result<(), Lost> {
        self.tell(|status| status.phase = Phase::Reading);
        conversation.open(&self.setup.root, self.setup.kind)?;
        self.environment = None;
        self.send_rules(conversation)?;
        if let Some((user, group)) = owner {
            conversation.set_owner(user, group)?;
        }
        conversation.flush()
    }

    pub(super) fn lose(&mut self) {
        self.environment = None;
        self.tell(|status| status.phase = Phase::Waiting);
    }

    pub(super) fn fail(&self, error: &io::Error) {
        tracing::warn!(%error, root = %self.setup.laptop.display(), "a bind mount is not synced");
        self.tell(|status| status.phase = Phase::Failed(error.to_string()));
    }

    /// Returns whether everything has to be read.
    pub(super) fn set_shape(&mut self, mode: Mode, masks: Vec<RelativePath>, held: Vec<RelativePath>) -> bool {
        let changed = self.setup.mode != mode || self.setup.masks != masks || self.setup.held != held;
        if changed {
            (self.setup.mode, self.setup.masks, self.setup.held) = (mode, masks, held);
            // Sent with the next cycle.
            self.rules = None;
        }
        changed
    }

    pub(super) const fn allow(&mut self) {
        self.setup.limits = Limits::ALLOWED;
    }

    pub(super) const fn go_on(&mut self, restore: bool) {
        self.decided = Some(restore);
    }

    /// When the common state is to be written: at once where that is quick, since what a daemon forgets that is killed looks as
    /// if both sides had changed it.
    pub(super) fn keep_due(&self) -> Option<Duration> {
        let after = self.keeping.saturating_mul(KEEPING_PART).min(KEEP_WITHIN);
        self.unkept.map(|since| after.saturating_sub(since.elapsed()))
    }

    /// When something is to be done besides cycles.
    pub(super) fn due(&self) -> Option<Duration> {
        [self.keep_due(), self.count_due(), self.durable_due()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn catch_up(&mut self) {
        if self.keep_due() == Some(Duration::ZERO) {
            self.keep();
        }
        if self.durable_due() == Some(Duration::ZERO) {
            self.make_durable();
        }
        if self.was_large && self.unkept.is_none() {
            self.was_large = false;
            memory::give_back();
        }
        if self.count_due() == Some(Duration::ZERO) {
            self.count();
            let count = self.count;
            self.tell(|status| (status.entries, status.bytes) = (count.entries, count.bytes));
        }
    }

    fn durable_due(&self) -> Option<Duration> {
        self.undurable.map(|since| DURABLE_WITHIN.saturating_sub(since.elapsed()))
    }

    /// When the laptop's files are to be counted: as seldom that it costs nothing to speak of.
    fn count_due(&self) -> Option<Duration> {
        let after = self.counting.saturating_mul(KEEPING_PART);
        self.uncounted.then(|| after.saturating_sub(self.counted.elapsed()))
    }

    fn count(&mut self) {
        let begun = Instant::now();
        self.count = self.laptop.tree().map(Node::count).unwrap_or_default();
        (self.uncounted, self.counting, self.counted) = (false, begun.elapsed(), Instant::now());
    }

    /// Takes notice of what has changed on the laptop.
    fn note(&mut self, changes: &Changes) {
        self.uncounted |= !changes.is_empty();
        for (path, entry) in changes {
            if !matches!(entry, Some(Entry::Directory(_))) && !self.conflicts.is_empty() {
                self.conflicts.retain(|conflict| !conflict.is_within(path));
            }
            if entry.is_some() && path.split().is_some_and(|(_, name)| is_conflict(name.as_bytes())) {
                self.conflicts.insert(path.clone());
            }
        }
    }

    /// Reads the laptop's side.
    fn scan(&mut self, whole: bool) -> io::Result<()> {
        if self.laptop.tree().is_none() {
            // Everything is told anew.
            self.conflicts.clear();
        }
        let changes = self.laptop.scan(whole)?;
        self.note(&changes);
        Ok(())
    }

    /// Writes it, if it is newer than the one in the file.
    pub(super) fn keep(&mut self) {
        if self.unkept.take().is_none() {
            return;
        }
        let begun = Instant::now();
        self.undurable.get_or_insert(begun);
        if let Err(error) = self.kept.write(self.ancestor.as_ref(), &self.intents)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "what both sides have in common is not kept");
        }
        self.keeping = begun.elapsed();
    }

    /// Brings it to the disk.
    pub(super) fn make_durable(&mut self) {
        self.keep();
        if self.undurable.take().is_some()
            && let Err(error) = self.kept.sync()
        {
            tracing::warn!(%error, "what both sides have in common may not outlive this machine");
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        {
            let mut status = lock(&self.status);
            let before = status.clone();
            change(&mut status);
            if *status == before {
                return;
            }
        }
        (self.changed)();
    }

    /// Reads the file of rules; returns whether it says something new.
    fn read_rules(&mut self) -> bool {
        let text = self.laptop.text(IGNORE_FILE);
        if self.rules.as_ref() == Some(&text) {
            return false;
        }
        let (rules, invalid) = Rules::new(&text, self.setup.masks.clone());
        self.laptop.set_rules(rules);
        self.rules = Some(text);
        let invalid = invalid.into_iter().map(|invalid| (invalid.line, invalid.reason)).collect();
        self.tell(|status| status.invalid_rules = invalid);
        true
    }

    fn send_rules(&self, conversation: &mut Conversation) -> Result<(), Lost> {
        conversation.ask(&Question::Rules {
            text: self.rules.clone().unwrap_or_default(),
            masks: self.setup.masks.clone(),
            held: self.setup.held.clone(),
        })
    }

    /// Whether the first reading would bring more than is allowed.
    fn is_too_much(&self) -> io::Result<bool> {
        if self.ancestor.is_some() {
            return Ok(false);
        }
        let measured = self.laptop.measure()?;
        let Some(total) = measured.get(&RelativePath::ROOT) else { return Ok(false) };
        let limits = self.setup.limits;
        if total.entries <= limits.entries && total.bytes <= limits.bytes {
            return Ok(false);
        }
        let by_bytes = total.bytes > limits.bytes;
        let largest = largest(&measured, by_bytes);
        self.tell(|status| {
            status.phase = Phase::TooMuch { entries: total.entries, bytes: total.bytes, largest };
        });
        Ok(true)
    }

    pub(super) fn run(&mut self, conversation: &mut Conversation, extent: Extent) -> Result<Outcome, Trouble> {
        let mut extent = extent;
        if self.read_rules() {
            self.send_rules(conversation)?;
            extent = Extent::Whole;
        }
        if self.laptop.tree().is_none() && self.is_too_much()? {
            return Ok(Outcome::Stands { unsaved: false });
        }
        let most = self.setup.limits.entries.saturating_mul(2);
        if extent != Extent::Laptop || self.environment.is_none() {
            conversation.ask(&Question::Scan { whole: extent == Extent::Whole })?;
            conversation.flush()?;
            // Both sides at the same time.
            let late = extent == Extent::Now && !self.laptop.is_prompt();
            let scanned = self.scan(extent == Extent::Whole || late);
            conversation.take(&mut self.environment, most)?;
            scanned?;
        } else {
            self.scan(false)?;
        }
        self.first_file();
        let mut failures = self.rename(conversation)?;
        let mut seen = self.agree();
        self.settle(seen.as_ref());
        let (laptop, environment) = self.sides(seen.as_ref());
        if let Some((side, kind)) = halt(self.ancestor.as_ref(), laptop, environment) {
            let unsaved =
                !unchanged(self.ancestor.as_ref(), environment) && (side, kind) != (Side::Environment, Halt::Emptied);
            match self.decided.take() {
                None => {
                    self.tell(|status| status.phase = Phase::Halted(side, kind));
                    return Ok(Outcome::Stands { unsaved });
                }
                Some(true) => {
                    self.ancestor = None;
                    self.laptop.restore_root()?;
                    self.scan(true)?;
                    seen = self.see();
                }
                Some(false) => {}
            }
        }
        for _ in 0..ROUNDS {
            let (laptop, environment) = self.sides(seen.as_ref());
            let plan = reconcile(self.ancestor.as_ref(), laptop, environment, self.setup.mode);
            if plan.is_empty() {
                break;
            }
            self.intents = Arc::new(Intents::of(&plan, laptop, environment));
            self.was_large |= plan.laptop.len() + plan.environment.len() > MANY;
            let kept = without_removed(self.ancestor.as_ref(), &plan);
            self.kept.write(kept.as_ref(), &self.intents)?;
            self.unkept.get_or_insert_with(Instant::now);
            failures.extend(self.carry_out(conversation, plan, seen.as_ref(), most)?);
            self.intents = Arc::default();
            let after = self.agree();
            let is_as_before = !failures.is_empty() || held_back(after.as_ref()) == held_back(seen.as_ref());
            seen = after;
            if is_as_before {
                break;
            }
        }
        self.tell_result(&failures, seen.as_ref());
        let left = left(&failures, seen.as_ref());
        Ok(if left.is_empty() {
            Outcome::Alike
        } else if failures.iter().any(|failure| failure.passes) {
            Outcome::Again(left)
        } else {
            Outcome::Left(left)
        })
    }

    /// The place that was made for a single file is no version of it.
    fn first_file(&mut self) {
        if self.setup.kind == Kind::File
            && self.ancestor.is_none()
            && matches!(&self.environment, Some(Node::File(file)) if file.size == 0)
        {
            self.ancestor = self.environment.clone();
        }
    }

    /// What arrived before an interruption was in common, though nobody was told.
    fn settle(&mut self, seen: Option<&Seen>) {
        if self.intents.is_empty() || self.laptop.tree().is_none() || self.environment.is_none() {
            return;
        }
        let (intents, mut ancestor) = (std::mem::take(&mut self.intents), self.ancestor.take());
        let (laptop, environment) = self.sides(seen);
        let changed = intents.settle(&mut ancestor, laptop, environment);
        self.ancestor = ancestor;
        if changed {
            self.unkept.get_or_insert_with(Instant::now);
        }
    }

    fn tell_result(&mut self, failures: &[Failure], seen: Option<&Seen>) {
        if self.count_due() == Some(Duration::ZERO) {
            self.count();
        }
        let (count, conflicts) = (self.count, self.conflicts.iter().take(PROBLEMS).cloned().collect());
        let held = held_back(seen).iter();
        let problems = failures
            .iter()
            .filter(|failure| !failure.passes)
            .map(|failure| (failure.path.clone(), failure.reason.clone()))
            .chain(held.map(|(path, reason)| (path.clone(), reason.to_string())))
            .take(PROBLEMS)
            .collect();
        self.tell(|status| {
            status.phase = Phase::Alike;
            (status.entries, status.bytes) = (count.entries, count.bytes);
            status.conflicts = conflicts;
            status.problems = problems;
        });
    }
}

/// The three largest directories, none within another. One of which most lies in a single directory is passed over for that.
fn largest(measured: &BTreeMap<RelativePath, Count>, by_bytes: bool) -> Vec<(RelativePath, u64, u64)> {
    let size = |count: &Count| if by_bytes { count.bytes } else { count.entries };
    let mut sorted: Vec<_> = measured.iter().filter(|(path, _)| !path.is_root()).collect();
    sorted.sort_by_key(|(path, count)| (std::cmp::Reverse(size(count)), path.names().count()));
    let mut found: Vec<(RelativePath, u64, u64)> = Vec::new();
    for (path, count) in sorted {
        if found.len() == 3 {
            break;
        }
        if !found.iter().any(|(other, ..)| path.is_within(other)) {
            found.push((path.clone(), count.entries, count.bytes));
        }
    }
    found
}
