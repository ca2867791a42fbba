//! Carrying a plan out: contents travel in either direction, and steps are done on both sides.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs::File as OpenFile,
    io::{self, Read, Seek},
    time::{Duration, Instant},
};

use overside_sync_core::{
    CONFLICT, Digest, Entry, File, Node, Plan, RelativePath, Seen, Step,
    wire::{Answer, BLOCK, Has, Kind, Question},
};

use super::{Cycle, Phase, Progress, Trouble};
use crate::{
    chunks,
    delta::{Delta, Part},
    endpoint::{FEW, Failure, new_content},
    files::SYNCS_AT_ONCE,
    root::Near,
    sync::conversation::{Conversation, Lost, invalid},
};

/// Files that are asked for before the first of them has arrived, and bytes of them.
const ASKED: (usize, u64) = (1024, 16 << 20);
/// Progress is told no more often.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Contents of so many bytes are sent without looking whether the other side has them under another name.
const SENT_SOONER: u64 = 64 << 10;
/// Room that is left on the laptop's disk.
const SPARE: u64 = 256 << 20;

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
        // As they lie there, so that each directory is opened once.
        let mut waiting: Vec<_> = wanted.into_iter().map(|(digest, wanted)| (digest, wanted, true)).collect();
        waiting.sort_by(|(_, one, _), (_, other, _)| one.path.cmp(&other.path));
        let mut waiting = VecDeque::from(waiting);
        let (mut asked, mut asked_bytes, mut near) = (VecDeque::new(), 0, Near::default());
        loop {
            // Many together, so that they are few packets.
            let asks_more = asked.len() <= ASKED.0 / 2;
            while asks_more && asked.len() < ASKED.0 && (asked.is_empty() || asked_bytes < ASKED.1) {
                let Some((digest, wanted, as_version)) = waiting.pop_front() else { break };
                let (base, has) = self.want(conversation, &mut near, digest, &wanted, as_version)?;
                asked_bytes += wanted.size;
                asked.push_back((digest, wanted, base, has));
            }
            conversation.flush()?;
            let Some((digest, wanted, base, has)) = asked.pop_front() else { return Ok(()) };
            let size = wanted.size;
            asked_bytes -= size;
            let mut incoming = self.laptop.inbox().receive(digest, size)?;
            // What a part was to be made of may have changed: the digest of the whole tells.
            let mut spoilt = false;
            let begun = progress.bytes;
            let is_there = loop {
                let more = match conversation.answer()? {
                    Answer::Data(bytes) => {
                        if incoming.is_too_long(bytes.len()) {
                            self.laptop.inbox().abandon(&incoming);
                            return Err(invalid("a file is longer than it was said to be").into());
                        }
                        incoming.write(&bytes)?;
                        bytes.len() as u64
                    }
                    Answer::Reuse { offset, length } => {
                        let Some(base) = base.as_ref().filter(|_| !incoming.is_too_long(length as usize)) else {
                            self.laptop.inbox().abandon(&incoming);
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
                        // Where many come they are written out together.
                        let received = self.laptop.inbox().complete(incoming, durable || !SYNCS_AT_ONCE)?;
                        received.into_iter().for_each(|received| self.laptop.keep(received));
                        break true;
                    }
                    Answer::Complete | Answer::Abandon => {
                        self.laptop.inbox().abandon(&incoming);
                        break false;
                    }
                    _ => return Err(invalid("a file was expected").into()),
                };
                progress.bytes += more;
            };
            // It does not know what has changed since that version.
            if !is_there && matches!(has, Has::Version(_)) {
                progress.bytes = begun;
                waiting.push_front((digest, wanted, false));
                continue;
            }
            progress.files += 1;
            self.tell_progress(progress);
        }
    }

    /// Asks for a content, and returns the file here that it may be made of. Its chunks are told unless the environment may know
    /// by its version alone what has changed.
    fn want(
        &self,
        conversation: &mut Conversation,
        near: &mut Near,
        digest: Digest,
        wanted: &Wanted,
        as_version: bool,
    ) -> Result<(Option<OpenFile>, Has), Trouble> {
        let (mut base, mut has) = (None, Has::Nothing);
        if let Some(known) = self.laptop.file(&wanted.at)
            && let Some(average) = chunks::average(known.size, wanted.size)
            && let Ok(Some(file)) = self.laptop.supply(near, &wanted.at, &known.digest)
        {
            if as_version {
                (base, has) = (Some(file), Has::Version(known.digest));
            } else if let Ok(chunks) = chunks::list(&file, known.size, average) {
                for chunk in chunks {
                    conversation.ask(&Question::Chunk(chunk))?;
                }
                (base, has) = (Some(file), Has::Chunks(average));
            }
        }
        let (path, size) = (wanted.path.clone(), wanted.size);
        conversation.ask(&Question::Supply { path, digest, size, has })?;
        Ok((base, has))
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
        let mut near = Near::default();
        for step in steps {
            if let Some(file) = new_content(&step)
                && let Some(uses) = uses.remove(&file.digest)
            {
                let place = here.get(&file.digest);
                // What cannot be sent is missed by its step, which tells.
                if let Some(Ok(Some(source))) = place.map(|path| self.laptop.supply(&mut near, path, &file.digest)) {
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
        if let Some(Entry::File(old)) = &step.old {
            let (path, old_digest) = (&step.path, old.digest);
            if let Some(delta) = self.laptop.compare(&old_digest, &digest, size) {
                conversation.ask(&Question::Base { path: path.clone(), digest: old_digest, average: None })?;
                conversation.ask(&Question::Content { digest, size, uses })?;
                return Ok(send_delta(conversation, &file, &delta, progress)?);
            }
            if let Some(average) = chunks::average(old.size, size) {
                conversation.ask_base(path, old_digest, average)?;
                // Both sides at the same time.
                let chunks = chunks::list(&file, size, average);
                let known = conversation.base(old.size)?;
                if let (Some(known), Ok(chunks)) = (known, chunks) {
                    conversation.ask(&Question::Content { digest, size, uses })?;
                    return Ok(send_delta(conversation, &file, &Delta::of_chunks(&chunks, &known), progress)?);
                }
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
fn send_delta(
    conversation: &mut Conversation,
    file: &OpenFile,
    delta: &Delta,
    progress: &mut Progress,
) -> Result<(), Lost> {
    let is_whole = delta.say(file, |part| {
        progress.bytes += part.length();
        conversation.ask(&match part {
            Part::Old { offset, length } => Question::Reuse { offset, length },
            Part::New(bytes) => Question::Data(bytes),
        })
    })?;
    conversation.ask(&if is_whole { Question::Complete } else { Question::Abandon })
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
