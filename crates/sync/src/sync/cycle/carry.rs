//! Carrying a plan out: contents travel in either direction, and steps are done on both sides.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs::File as OpenFile,
    io::{self, Read, Seek},
    time::{Duration, Instant},
};

use overside_sync_core::{
    CONFLICT, Digest, Entry, File, Node, Plan, RelativePath, Seen, Step,
    wire::{Answer, BLOCK, Chunk, Kind, Question},
};

use super::{Cycle, Phase, Progress, Trouble};
use crate::{
    chunks::{self, Index},
    endpoint::{FEW, Failure, new_content},
    files::read_exact_at,
    sync::conversation::{Conversation, invalid},
};

/// Files that are asked for before the first of them has arrived, and bytes of them.
const ASKED: (usize, u64) = (256, 16 << 20);
/// Progress is told no more often.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Contents of so many bytes are sent without looking whether the other side has them under another name.
const SENT_SOONER: u64 = 64 << 10;
/// Room that is left on the laptop's disk.
const SPARE: u64 = 256 << 20;

/// What lies together is said in parts of about so many bytes.
const LONGEST_REUSE: u32 = 256 << 20;

/// A content that the laptop lacks.
struct Wanted {
    /// Where the environment has it.
    path: RelativePath,
    size: u64,
    /// Where an older version of it may lie here.
    at: RelativePath,
}

impl Cycle {
    pub(super) fn carry_out(
        &mut self,
        conversation: &mut Conversation,
        mut plan: Plan,
        seen: Option<&Seen>,
        most: u64,
    ) -> Result<Vec<Failure>, Trouble> {
        let mut failures = Vec::new();
        self.keep_file_beside(conversation, &plan)?;
        if !plan.laptop.is_empty() {
            let planned = std::mem::take(&mut plan.laptop);
            let by_other_names = seen.map(|seen| seen.steps_on_laptop(&planned, self.laptop.tree()));
            let steps = by_other_names.as_ref().unwrap_or(&planned);
            self.pull(conversation, steps)?;
            let (changes, failed) = self.laptop.apply(steps);
            self.note(&changes);
            failures.extend(self.learn(&planned, steps, failed));
        }
        if !plan.environment.is_empty() {
            self.push(conversation, plan.environment)?;
            failures.extend(conversation.take(&mut self.environment, most)?);
        }
        Ok(failures)
    }

    /// A single file has no place beside it in the tree; the environment's version comes to lie there all the same.
    fn keep_file_beside(&mut self, conversation: &mut Conversation, plan: &Plan) -> Result<(), Trouble> {
        if self.setup.kind != Kind::File || !plan.conflicts.contains(&RelativePath::ROOT) {
            return Ok(());
        }
        let Some(Node::File(theirs)) = self.environment.clone() else { return Ok(()) };
        let Some(name) = self.setup.laptop.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            return Ok(());
        };
        let wanted = Wanted { path: RelativePath::ROOT, size: theirs.size, at: RelativePath::ROOT };
        self.fetch(conversation, BTreeMap::from([(theirs.digest, wanted)]))?;
        let digits: String = theirs.digest.0[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{name}{CONFLICT}{digits}");
        Ok(self.laptop.keep_beside(&theirs.digest, &name)?)
    }

    /// Fetches what the laptop lacks.
    fn pull(&mut self, conversation: &mut Conversation, steps: &[Step]) -> Result<(), Trouble> {
        let here = elsewhere(steps, self.laptop.tree());
        let lacks = lacking(steps, &here);
        let there = places(&lacks, self.environment.as_ref());
        let wanted: BTreeMap<Digest, Wanted> = lacks
            .into_iter()
            .filter_map(|(step, file)| {
                let path = there.get(&file.digest)?.clone();
                Some((file.digest, Wanted { path, size: file.size, at: step.path.clone() }))
            })
            .collect();
        let bytes = wanted.values().fold(0_u64, |sum, wanted| sum.saturating_add(wanted.size));
        let room = self.laptop.room().unwrap_or(u64::MAX).saturating_sub(SPARE);
        if bytes > room {
            // The steps say so, each for itself, and the next cycle tries again.
            tracing::warn!(bytes, room, "the laptop's disk has no room for what containers wrote");
            return Ok(());
        }
        self.fetch(conversation, wanted)
    }

    fn fetch(&mut self, conversation: &mut Conversation, wanted: BTreeMap<Digest, Wanted>) -> Result<(), Trouble> {
        let durable = wanted.len() <= FEW;
        let mut progress = begin(wanted.values().map(|wanted| wanted.size));
        let mut waiting = wanted.into_iter();
        let (mut asked, mut asked_bytes) = (VecDeque::new(), 0);
        loop {
            while asked.len() < ASKED.0 && (asked.is_empty() || asked_bytes < ASKED.1) {
                let Some((digest, wanted)) = waiting.next() else { break };
                let base = self.want(conversation, digest, &wanted)?;
                asked_bytes += wanted.size;
                asked.push_back((digest, wanted.size, base));
            }
            conversation.flush()?;
            let Some((digest, size, base)) = asked.pop_front() else { return Ok(()) };
            let mut incoming = self.laptop.receive(digest, size)?;
            // What a part was to be made of may have changed: the digest of the whole tells.
            let mut spoilt = false;
            loop {
                let more = match conversation.answer()? {
                    Answer::Data(bytes) => {
                        if incoming.is_too_long(bytes.len()) {
                            self.laptop.abandon(&incoming);
                            return Err(invalid("a file is longer than it was said to be").into());
                        }
                        incoming.write(&bytes)?;
                        bytes.len() as u64
                    }
                    Answer::Reuse { offset, length } => {
                        let Some(base) = base.as_ref().filter(|_| !incoming.is_too_long(length as usize)) else {
                            self.laptop.abandon(&incoming);
                            return Err(invalid("a file is made of what is not there").into());
                        };
                        if !spoilt && let Err(error) = incoming.reuse(base, offset, length) {
                            if error.kind() != io::ErrorKind::UnexpectedEof {
                                return Err(error.into());
                            }
                            spoilt = true;
                        }
                        u64::from(length)
                    }
                    Answer::Complete if !spoilt => {
                        self.laptop.complete(incoming, durable)?;
                        break;
                    }
                    Answer::Complete | Answer::Abandon => {
                        self.laptop.abandon(&incoming);
                        break;
                    }
                    _ => return Err(invalid("a file was expected").into()),
                };
                progress.bytes += more;
            }
            asked_bytes -= size;
            progress.files += 1;
            self.tell_progress(progress);
        }
    }

    /// Asks for a content, and returns the file here that it may be made of.
    fn want(
        &self,
        conversation: &mut Conversation,
        digest: Digest,
        wanted: &Wanted,
    ) -> Result<Option<OpenFile>, Trouble> {
        let mut base = None;
        if let Some(known) = self.laptop.file(&wanted.at)
            && let Some(average) = chunks::average(known.size, wanted.size)
            && let Ok(Some(file)) = self.laptop.supply(&wanted.at, &known.digest)
            && let Ok(chunks) = chunks::list(&file, known.size, average)
        {
            for chunk in chunks {
                conversation.ask(&Question::Chunk(chunk))?;
            }
            base = Some((file, average));
        }
        let (path, size) = (wanted.path.clone(), wanted.size);
        let average = base.as_ref().map(|(_, average)| *average);
        conversation.ask(&Question::Supply { path, digest, size, average })?;
        Ok(base.map(|(file, _)| file))
    }

    fn tell_progress(&mut self, progress: Progress) {
        let is_last = progress.files == progress.all_files;
        if is_last || self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            self.tell(|status| status.phase = Phase::Bringing(progress));
        }
    }

    /// Sends the steps of the environment, each with the content that it lacks, and has them done.
    fn push(&mut self, conversation: &mut Conversation, steps: Vec<Step>) -> Result<(), Trouble> {
        let there = elsewhere(&steps, self.environment.as_ref());
        let here = places(&lacking(&steps, &there), self.laptop.tree());
        let mut uses: HashMap<Digest, u32> = HashMap::new();
        for file in steps.iter().filter_map(new_content) {
            *uses.entry(file.digest).or_default() += 1;
        }
        // Before anything changes there.
        for (digest, path) in there {
            let uses = uses.remove(&digest).unwrap_or_default();
            conversation.ask(&Question::Own { path, digest, uses })?;
        }
        let sizes: BTreeMap<Digest, u64> =
            steps.iter().filter_map(new_content).map(|file| (file.digest, file.size)).collect();
        let mut progress = begin(sizes.iter().filter(|(digest, _)| uses.contains_key(digest)).map(|(_, size)| *size));
        for step in steps {
            if let Some(file) = new_content(&step)
                && let Some(uses) = uses.remove(&file.digest)
            {
                let place = here.get(&file.digest);
                // What cannot be sent is missed by its step, which tells.
                if let Some(Ok(Some(source))) = place.map(|path| self.laptop.supply(path, &file.digest)) {
                    self.send(conversation, &step, file, source, uses, &mut progress)?;
                }
                progress.files += 1;
                self.tell_progress(progress);
            }
            conversation.ask(&Question::Step(step))?;
        }
        conversation.ask(&Question::Apply)?;
        Ok(conversation.flush()?)
    }

    /// Sends one content: whole, or what the environment's version of the file lacks.
    fn send(
        &self,
        conversation: &mut Conversation,
        step: &Step,
        new: &File,
        file: OpenFile,
        uses: u32,
        progress: &mut Progress,
    ) -> Result<(), Trouble> {
        let (digest, size) = (new.digest, new.size);
        let base = match &step.old {
            Some(Entry::File(old)) => chunks::average(old.size, size).map(|average| (old, average)),
            _ => None,
        };
        if let Some((old, average)) = base {
            conversation.ask_base(&step.path, old.digest, average)?;
            // Both sides at the same time.
            let chunks = chunks::list(&file, size, average);
            let known = conversation.base(old.size)?;
            if let (Some(known), Ok(chunks)) = (known, chunks) {
                conversation.ask(&Question::Content { digest, size, uses })?;
                return send_chunks(conversation, &file, &chunks, &known, progress);
            }
        }
        conversation.ask(&Question::Content { digest, size, uses })?;
        let mut file = file;
        file.rewind()?;
        let mut file = file.take(size);
        let mut buffer = vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK)).max(1)];
        let end = loop {
            match file.read(&mut buffer) {
                Ok(0) => break Question::Complete,
                Ok(count) => {
                    conversation.ask(&Question::Data(buffer[..count].to_vec()))?;
                    progress.bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break Question::Abandon,
            }
        };
        Ok(conversation.ask(&end)?)
    }
}

/// What the environment lacks is sent, the rest is said.
fn send_chunks(
    conversation: &mut Conversation,
    file: &OpenFile,
    chunks: &[Chunk],
    known: &Index,
    progress: &mut Progress,
) -> Result<(), Trouble> {
    let (mut at, mut reused): (u64, Option<(u64, u32)>) = (0, None);
    let mut buffer = vec![0; BLOCK];
    for chunk in chunks {
        let found = known.find(chunk);
        // What lies together is said together.
        match (found, &mut reused) {
            (Some(offset), Some((start, length)))
                if *start + u64::from(*length) == offset && *length < LONGEST_REUSE =>
            {
                *length += chunk.length;
            }
            (found, reused) => {
                if let Some((offset, length)) = reused.take() {
                    conversation.ask(&Question::Reuse { offset, length })?;
                }
                *reused = found.map(|offset| (offset, chunk.length));
            }
        }
        if found.is_none() {
            let (mut from, end) = (at, at + u64::from(chunk.length));
            while from < end {
                let part = &mut buffer[..BLOCK.min((end - from) as usize)];
                if read_exact_at(file, part, from).is_err() {
                    return Ok(conversation.ask(&Question::Abandon)?);
                }
                conversation.ask(&Question::Data(part.to_vec()))?;
                from += part.len() as u64;
            }
        }
        at += u64::from(chunk.length);
        progress.bytes += u64::from(chunk.length);
    }
    if let Some((offset, length)) = reused {
        conversation.ask(&Question::Reuse { offset, length })?;
    }
    Ok(conversation.ask(&Question::Complete)?)
}

fn begin(sizes: impl Iterator<Item = u64>) -> Progress {
    let mut progress = Progress::default();
    for size in sizes {
        progress.all_files += 1;
        progress.all_bytes = progress.all_bytes.saturating_add(size);
    }
    progress
}

/// Where the side that the steps are for has contents already under other names. So little that it is sent sooner than found is
/// not looked for.
fn elsewhere(steps: &[Step], tree: Option<&Node>) -> BTreeMap<Digest, RelativePath> {
    let files = || steps.iter().filter_map(new_content);
    if files().fold(0_u64, |sum, file| sum.saturating_add(file.size)) <= SENT_SOONER {
        return BTreeMap::new();
    }
    tree.map(|tree| tree.find(&files().map(|file| file.digest).collect())).unwrap_or_default()
}

/// The steps whose contents are not there.
fn lacking<'a>(steps: &'a [Step], there: &BTreeMap<Digest, RelativePath>) -> Vec<(&'a Step, &'a File)> {
    steps
        .iter()
        .filter_map(|step| Some((step, new_content(step)?)))
        .filter(|(_, file)| !there.contains_key(&file.digest))
        .collect()
}

/// Where the side that the contents come from has them; most lie at the step's own path.
fn places(steps: &[(&Step, &File)], tree: Option<&Node>) -> BTreeMap<Digest, RelativePath> {
    let Some(tree) = tree else { return BTreeMap::new() };
    let (mut found, mut missing) = (BTreeMap::new(), BTreeSet::new());
    for (step, file) in steps {
        if matches!(tree.get(&step.path), Some(Node::File(there)) if there.digest == file.digest) {
            found.insert(file.digest, step.path.clone());
        } else {
            missing.insert(file.digest);
        }
    }
    missing.retain(|digest| !found.contains_key(digest));
    found.extend(tree.find(&missing));
    found
}
