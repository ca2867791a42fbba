//! What the tray shows, as values: tests compare them, and each platform only draws them.

#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

use overside_model::{AwakeReason, ErrorCode, Moment, MountState, MountStatus, Problem, PromptReason, State, Status};

use crate::{
    link::{Link, Seen, minutes_left},
    now::Now,
    words::Words,
};

/// Longest text of a row in the menu, in characters. The window shows all of it.
const LONGEST: usize = 72;
/// Most rows of a list in the menu.
const MOST: usize = 3;
/// The icons of a suspended environment, by the minutes that it has left; beyond them a pause sign.
const SUSPENDED: [&str; 9] = [
    "suspended-1",
    "suspended-2",
    "suspended-3",
    "suspended-4",
    "suspended-5",
    "suspended-6",
    "suspended-7",
    "suspended-8",
    "suspended-9",
];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a click asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Turn on.
    Enable,
    /// Turn off.
    Disable {
        /// Also where that deletes what still runs.
        force: bool,
    },
    /// Suspend the environment now.
    Idle,
    /// Answer a prompt: ask me again later.
    Later,
    /// Resume the suspended environment.
    Resume,
    /// Start again after a failure.
    Retry,
    /// Start the daemon.
    StartDaemon,
    /// End the daemon, which has no environment, and start the one that is installed.
    RestartDaemon,
    /// Put the command that selects Overside's Docker context on the clipboard.
    CopyContext,
    /// Open the window, or bring it to the front.
    OpenWindow,
    /// The same, on the page of settings.
    OpenSettings,
    /// The same, on the page of mounts.
    OpenMounts,
    /// End the desktop app. The daemon goes on.
    Quit,
}

/// One row of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Words that cannot be chosen.
    Text(String),
    /// A line.
    Separator,
    /// Something to choose.
    Choice {
        /// What is written.
        label: String,
        /// What it does.
        action: Action,
    },
}

/// All of the tray.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The icon's name in icons/tray.
    pub icon: &'static str,
    /// A question waits for the user.
    pub attention: bool,
    /// One line: program and state.
    pub title: String,
    /// What the state means, one or two sentences.
    pub detail: String,
    /// The menu, from the top.
    pub menu: Vec<Item>,
}

/// Something that was chosen in the menu and refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What was chosen.
    pub action: Action,
    /// Why it was refused.
    pub problem: Problem,
}

/// Everything that the tray is drawn from, but the time.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The link to the daemon.
    pub seen: Seen,
    /// What was refused of late.
    pub refused: Option<Refused>,
    /// The texts of the user's language.
    pub words: Arc<Words>,
}

impl Scene {
    /// The tray at one moment. Session time and usage in the menu are of that moment: it is made anew when it is opened.
    pub fn view(&self, now: &Now) -> View {
        let title = self.words.fill("menu.state", &[("state", self.words.text(&format!("state.{}", self.face())))]);
        let mut menu = vec![Item::Text(title.clone())];
        menu.extend(self.told(now).into_iter().map(Item::Text));
        menu.push(Item::Separator);
        menu.extend(self.offered());
        menu.extend(self.refusal());
        menu.push(Item::Separator);
        if self.seen.link.status().is_some() {
            menu.push(self.choice("menu.copy-context", Action::CopyContext));
        }
        menu.push(self.choice("menu.window", Action::OpenWindow));
        menu.push(self.choice("menu.settings", Action::OpenSettings));
        menu.push(Item::Separator);
        menu.push(self.choice("menu.quit", Action::Quit));
        View { icon: self.icon(now.moment), attention: self.prompt().is_some(), title, detail: self.detail(now), menu }
    }

    /// When icon or title change by time alone.
    pub fn next_change(&self, now: Moment) -> Option<Moment> {
        let end = self.countdown()?;
        let left = minutes_left(end, now);
        (left > 1).then(|| end - Duration::from_mins(left - 1))
    }

    /// The name under which message files know what goes on.
    fn face(&self) -> &'static str {
        if self.prompt().is_some() { "prompt" } else { self.seen.link.face() }
    }

    fn prompt(&self) -> Option<PromptReason> {
        Some(self.seen.link.status()?.prompt.as_ref()?.reason)
    }

    /// What counts down for everybody to see.
    fn countdown(&self) -> Option<Moment> {
        self.seen.prompt_ends().or_else(|| self.seen.grace_ends())
    }

    fn icon(&self, now: Moment) -> &'static str {
        if let (None, Some(end)) = (self.prompt(), self.seen.grace_ends()) {
            let minutes = usize::try_from(minutes_left(end, now)).unwrap_or(usize::MAX);
            return SUSPENDED.get(minutes - 1).copied().unwrap_or("suspended");
        }
        match self.face() {
            "connecting" => "away",
            face => face,
        }
    }

    fn detail(&self, now: &Now) -> String {
        let meaning = match self.prompt() {
            Some(reason) => self.words.why_asked(reason).to_owned(),
            None => self.words.text(&format!("state.{}.detail", self.face())).to_owned(),
        };
        match self.countdown().map(|end| self.left(end, now)) {
            Some(left) => format!("{meaning} {left}"),
            None => meaning,
        }
    }

    /// What is told below the title, row by row.
    fn told(&self, now: &Now) -> Vec<String> {
        let status = match &self.seen.link {
            Link::Connecting => return Vec::new(),
            Link::Away { problem } if problem.code == ErrorCode::DaemonIncompatible => {
                return self.sentences(problem);
            }
            // That none answers is what the title says.
            Link::Away { .. } => return Vec::new(),
            Link::Here { status } => status,
        };
        let words = &self.words;
        let mut rows = Vec::new();
        rows.extend(self.prompt().map(|reason| self.words.why_asked(reason).to_owned()));
        rows.extend(self.countdown().map(|end| self.left(end, now)));
        rows.extend(status.error.iter().flat_map(|problem| self.sentences(problem)));
        rows.extend(
            status
                .progress
                .as_ref()
                .map(|progress| short(words.find(&format!("step.{}", progress.step)).unwrap_or(&progress.detail))),
        );
        if status.state == State::Suspended {
            rows.extend(self.not_saved(status));
        }
        let halted = halted(status);
        if !halted.is_empty() {
            rows.push(short(&words.fill("menu.halted", &[("names", &words.list(&halted))])));
        }
        rows.extend(self.awake(status));
        if let (None, Some(seconds)) = (status.prompt.as_ref(), status.idle_in_seconds) {
            let left = words.minutes(minutes_left(self.seen.end_of(seconds), now.moment));
            rows.push(words.fill("menu.suspends-in", &[("time", &left)]));
        }
        rows.extend(
            session_seconds(status, now)
                .map(|seconds| words.fill("menu.session", &[("time", &words.minutes(seconds / 60))])),
        );
        let passed = if status.state == State::Running { now.moment.since(self.seen.at).as_secs() } else { 0 };
        let used = words.minutes((status.usage.today_seconds + passed) / 60);
        let limit = words.minutes(status.usage.limit_seconds / 60);
        rows.push(words.fill("menu.today", &[("used", &used), ("limit", &limit)]));
        if status.version != VERSION {
            let daemon = if status.version.is_empty() { "?" } else { &status.version };
            rows.push(words.fill("menu.other-version", &[("daemon", &short(daemon)), ("app", VERSION)]));
        }
        rows
    }

    /// What is left until the session is suspended, or the environment deleted.
    fn left(&self, end: Moment, now: &Now) -> String {
        let key = if self.prompt().is_some() { "menu.suspends-in" } else { "menu.deleted-in" };
        self.words.fill(key, &[("time", &self.words.minutes(minutes_left(end, now.moment)))])
    }

    fn not_saved(&self, status: &Status) -> Option<String> {
        let names: Vec<String> =
            status.at_risk.iter().filter(|work| work.kept_in.is_none()).map(|work| work.name.clone()).collect();
        let text = || self.words.fill("menu.not-saved", &[("names", &self.words.list(&names))]);
        (!names.is_empty()).then(|| short(&text()))
    }

    fn awake(&self, status: &Status) -> Vec<String> {
        let words = &self.words;
        let row = |reason: &AwakeReason| {
            let kind = words.find(&format!("awake.{}", reason.kind)).unwrap_or(&reason.kind);
            short(&words.fill("menu.awake", &[("kind", kind), ("detail", &reason.detail)]))
        };
        let mut rows: Vec<String> = status.awake_because.iter().take(MOST).map(row).collect();
        if status.awake_because.len() > MOST {
            let more = status.awake_because.len() - MOST;
            rows.push(words.fill("menu.and-more", &[("count", &more.to_string())]).trim_start().to_owned());
        }
        rows
    }

    /// What can be done now.
    fn offered(&self) -> Vec<Item> {
        let status = match &self.seen.link {
            Link::Connecting => return Vec::new(),
            Link::Away { .. } => return vec![self.choice("menu.start-daemon", Action::StartDaemon)],
            Link::Here { status } => status,
        };
        let mut offered = Vec::new();
        if status.prompt.is_some() {
            offered.push(self.choice("menu.later", Action::Later));
        }
        if !halted(status).is_empty() {
            offered.push(self.choice("menu.mounts", Action::OpenMounts));
        }
        match status.state {
            State::Running => offered.push(self.choice("menu.idle", Action::Idle)),
            State::Suspended => offered.push(self.choice("menu.resume", Action::Resume)),
            State::Failed => offered.push(self.choice("menu.retry", Action::Retry)),
            State::Stopped | State::Idle | State::Starting | State::Stopping => {}
        }
        offered.push(match status.state {
            State::Stopped => self.choice("menu.enable", Action::Enable),
            _ => self.choice("menu.disable", Action::Disable { force: false }),
        });
        // A daemon that ends takes its environment with it.
        if status.version != VERSION && status.session.is_none() {
            offered.push(self.choice("menu.restart-daemon", Action::RestartDaemon));
        }
        offered
    }

    fn refusal(&self) -> Vec<Item> {
        let Some(refused) = &self.refused else { return Vec::new() };
        let mut items: Vec<Item> = self.sentences(&refused.problem).into_iter().map(Item::Text).collect();
        let is_on = self.seen.link.state().is_some_and(|state| state != State::Stopped);
        if is_on && matches!(refused.action, Action::Disable { .. }) {
            items.push(self.choice("problem.force", Action::Disable { force: true }));
        }
        items
    }

    /// A problem and its next step, a row each.
    fn sentences(&self, problem: &Problem) -> Vec<String> {
        self.words.problem(problem).iter().map(|text| short(text)).collect()
    }

    fn choice(&self, key: &str, action: Action) -> Item {
        Item::Choice { label: self.words.text(key).to_owned(), action }
    }
}

/// Mounts that go on only when a person has decided how.
pub fn halted(status: &Status) -> Vec<String> {
    let halts = |mount: &&MountStatus| mount.state == MountState::Halted;
    status.mounts.iter().filter(halts).map(|mount| mount.path.clone()).collect()
}

/// How long the session has been going on, by the wall; none where it began in what is now the future.
fn session_seconds(status: &Status, now: &Now) -> Option<u64> {
    let started: jiff::Timestamp = status.session.as_ref()?.started_at.parse().ok()?;
    now.wall.timestamp().duration_since(started).as_secs().try_into().ok()
}

/// One row of a menu, whatever the text is.
fn short(text: &str) -> String {
    let one_line = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    if text.chars().count() <= LONGEST {
        return one_line.collect();
    }
    one_line.take(LONGEST - 1).chain(['…']).collect()
}
