//! What the user is told without having looked: one notification at a time, as values. Tests compare them, and each platform
//! only shows them.
//!
//! There is one place for all of them, and the most urgent one has it: a question, then work that is about to be lost or was,
//! then a suspension, then files that wait for a decision, then a failure. What was told once is not told again, not even by another process after this one: what
//! was told is a value too, to be kept in a file.

pub mod file;
#[cfg(test)]
mod tests;

use std::time::Duration;

use overside_model::{ErrorCode, Moment, PromptReason, State, Status, Work};
use serde::{Deserialize, Serialize};

use crate::{
    link::Seen,
    menu::{Action, halted},
    now::Now,
    words::Words,
};

/// Two ends of a countdown that are no further apart are one: seconds are rounded on their way.
const SAME: Duration = Duration::from_secs(5);

/// What a notification is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Subject {
    /// A question waits for its answer.
    Prompt {
        /// The session.
        session: Option<String>,
        /// What is asked.
        reason: PromptReason,
        /// When silence suspends.
        ends: Moment,
    },
    /// The environment is suspended.
    Suspended {
        /// The session.
        session: Option<String>,
        /// When the environment is deleted.
        ends: Moment,
        /// Work would be lost with it.
        loses: bool,
    },
    /// Unfinished work was deleted with its environment.
    Deleted {
        /// The session.
        session: Option<String>,
    },
    /// Mounts wait for a decision.
    Halted {
        /// Their paths.
        paths: Vec<String>,
    },
    /// Something failed.
    Failure {
        /// What.
        code: ErrorCode,
        /// In words.
        message: String,
    },
}

impl Subject {
    /// The same matter, though its end may have moved.
    fn continues(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Prompt { session: a, reason: b, .. }, Self::Prompt { session: c, reason: d, .. }) => {
                (a, b) == (c, d)
            }
            (Self::Suspended { session: a, loses: b, .. }, Self::Suspended { session: c, loses: d, .. }) => {
                (a, b) == (c, d)
            }
            _ => self == earlier,
        }
    }

    const fn ends(&self) -> Option<Moment> {
        match self {
            Self::Prompt { ends, .. } | Self::Suspended { ends, .. } => Some(*ends),
            Self::Deleted { .. } | Self::Halted { .. } | Self::Failure { .. } => None,
        }
    }

    /// The very same, end included.
    fn repeats(&self, earlier: &Self) -> bool {
        let close = match (self.ends(), earlier.ends()) {
            (Some(a), Some(b)) => a.since(b).max(b.since(a)) <= SAME,
            (a, b) => a == b,
        };
        self.continues(earlier) && close
    }
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub subject: Subject,
    /// The icon's name in icons/tray.
    pub icon: &'static str,
    /// One line.
    pub title: String,
    /// What there is to say, one or two sentences of plain text.
    pub body: String,
    /// What can be answered, from the left.
    pub buttons: Vec<(Action, String)>,
    /// It stays until it is answered or no longer holds.
    pub urgent: bool,
}

/// What is to be done about notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Everything is as it should be.
    Nothing,
    /// Show this one, in place of the one before.
    Show(Notice),
    /// Take away the one that is shown: it no longer holds.
    Withdraw,
}

/// What was told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    subject: Subject,
    /// It is on the screen, as far as anybody knows.
    open: bool,
    /// It has held ever since. Not so after another matter, and in the eyes of a process that was just started.
    #[serde(skip)]
    holds: bool,
}

impl Told {
    /// The same, no longer on the screen.
    #[must_use]
    pub fn closed(self) -> Self {
        Self { open: false, ..self }
    }
}

/// Work that is gone, until something new begins.
#[derive(Debug, Clone)]
struct Gone {
    session: Option<String>,
    names: Vec<String>,
}

/// Decides what is told.
#[derive(Debug, Default)]
pub struct Notices {
    told: Option<Told>,
    /// What the last status named as lost at its end, if it was of a suspended environment.
    at_risk: Option<Gone>,
    gone: Option<Gone>,
}

impl Notices {
    /// Goes on after what an earlier process told.
    pub fn after(told: Option<Told>) -> Self {
        Self { told, ..Self::default() }
    }

    /// What was told last, to be kept.
    pub const fn told(&self) -> Option<&Told> {
        self.told.as_ref()
    }

    /// The user has closed what was shown, or answered it. It does not come back.
    pub const fn closed(&mut self) {
        if let Some(told) = &mut self.told {
            told.open = false;
        }
    }

    /// The link has changed.
    pub fn see(&mut self, seen: &Seen, now: &Now, words: &Words) -> Change {
        let wanted = seen.link.status().and_then(|status| {
            self.remember(status);
            status.desktop.notifications.then(|| self.wanted(status, seen, now, words))?
        });
        let Some(notice) = wanted else {
            return self.without(seen.link.state());
        };
        let subject = notice.subject.clone();
        match &mut self.told {
            Some(told) if subject.repeats(&told.subject) => {
                let newly_here = told.open && !std::mem::replace(&mut told.holds, true);
                // An earlier process has shown it, and its buttons went with that process.
                if newly_here { Change::Show(notice) } else { Change::Nothing }
            }
            Some(told) if told.holds && subject.continues(&told.subject) => {
                told.subject = subject;
                if told.open { Change::Show(notice) } else { Change::Nothing }
            }
            _ => {
                self.told = Some(Told { subject, open: true, holds: true });
                Change::Show(notice)
            }
        }
    }

    /// There is nothing to tell.
    fn without(&mut self, state: Option<State>) -> Change {
        let Some(told) = &mut self.told else { return Change::Nothing };
        let by_another = !std::mem::take(&mut told.holds);
        match (&told.subject, state) {
            // An earlier process has told it, and nothing has begun since.
            (Subject::Deleted { .. }, Some(State::Idle)) if by_another && told.open => return Change::Nothing,
            _ => {}
        }
        let open = std::mem::take(&mut told.open);
        if state == Some(State::Running) {
            // What failed before can fail anew.
            self.told.take_if(|told| matches!(told.subject, Subject::Failure { .. }));
        }
        if open { Change::Withdraw } else { Change::Nothing }
    }

    /// Keeps what the next status may no longer tell.
    fn remember(&mut self, status: &Status) {
        let session = session(status);
        let before = self.at_risk.take();
        match status.state {
            State::Suspended => {
                let names = unsaved(&status.at_risk);
                self.at_risk = (!names.is_empty()).then_some(Gone { session, names });
            }
            State::Stopping => self.at_risk = before,
            // Its grace period is over, or it was lost.
            State::Idle => self.gone = before.or_else(|| self.gone.take()),
            // Who turns off has been asked.
            State::Starting | State::Running | State::Stopped => self.gone = None,
            State::Failed => {}
        }
    }

    fn wanted(&self, status: &Status, seen: &Seen, now: &Now, words: &Words) -> Option<Notice> {
        prompt(status, seen, now, words)
            .or_else(|| self.deleted(words))
            .or_else(|| suspended(status, seen, now, words))
            .or_else(|| mounts(status, words))
            .or_else(|| failure(status, words))
    }

    fn deleted(&self, words: &Words) -> Option<Notice> {
        let gone = self.gone.as_ref()?;
        Some(Notice {
            subject: Subject::Deleted { session: gone.session.clone() },
            icon: "failed",
            title: words.text("notice.deleted.title").to_owned(),
            body: words.fill("notice.deleted", &[("names", &words.list(&gone.names))]),
            buttons: Vec::new(),
            urgent: true,
        })
    }
}

fn session(status: &Status) -> Option<String> {
    status.session.as_ref().map(|session| session.id.to_string())
}

fn unsaved(work: &[Work]) -> Vec<String> {
    work.iter().filter(|work| work.kept_in.is_none()).map(|work| work.name.clone()).collect()
}

fn prompt(status: &Status, seen: &Seen, now: &Now, words: &Words) -> Option<Notice> {
    let reason = status.prompt.as_ref()?.reason;
    let ends = seen.prompt_ends()?;
    let why = words.why_asked(reason);
    Some(Notice {
        subject: Subject::Prompt { session: session(status), reason, ends },
        icon: "prompt",
        title: words.fill("menu.state", &[("state", words.text("state.prompt"))]),
        body: words.fill("notice.prompt", &[("why", why), ("time", &time(ends, now))]),
        buttons: buttons(words, &[(Action::Later, "menu.later"), (Action::Idle, "menu.idle")]),
        urgent: true,
    })
}

fn suspended(status: &Status, seen: &Seen, now: &Now, words: &Words) -> Option<Notice> {
    let ends = seen.grace_ends()?;
    let names = unsaved(&status.at_risk);
    let loses = !names.is_empty();
    let key = if loses { "notice.suspended.loses" } else { "notice.suspended" };
    Some(Notice {
        subject: Subject::Suspended { session: session(status), ends, loses },
        icon: "suspended",
        title: words.fill("menu.state", &[("state", words.text("state.suspended"))]),
        body: words.fill(key, &[("time", &time(ends, now)), ("names", &words.list(&names))]),
        buttons: buttons(words, &[(Action::Resume, "menu.resume")]),
        urgent: loses,
    })
}

fn mounts(status: &Status, words: &Words) -> Option<Notice> {
    let paths = halted(status);
    if paths.is_empty() {
        return None;
    }
    let body = words.fill("notice.halted", &[("names", &words.list(&paths))]);
    Some(Notice {
        subject: Subject::Halted { paths },
        icon: "prompt",
        title: words.text("notice.halted.title").to_owned(),
        body,
        buttons: buttons(words, &[(Action::OpenMounts, "menu.mounts")]),
        urgent: true,
    })
}

/// A failed start, what keeps an environment from being deleted, and what ends a session from outside. Other problems mend themselves or were asked for: the icon and the
/// menu are enough.
fn failure(status: &Status, words: &Words) -> Option<Notice> {
    let problem = status.error.as_ref()?;
    let failed = status.state == State::Failed;
    let waits = problem.code == ErrorCode::FilesLeft;
    if !failed && !waits && !matches!(problem.code, ErrorCode::EnvironmentLost | ErrorCode::FairUse) {
        return None;
    }
    let answers: &[(Action, &str)] = match problem.code {
        _ if failed => &[(Action::Retry, "menu.retry")],
        ErrorCode::FilesLeft => &[(Action::OpenMounts, "menu.mounts")],
        _ => &[],
    };
    Some(Notice {
        subject: Subject::Failure { code: problem.code, message: problem.message.clone() },
        icon: "failed",
        title: words.text("notice.failure.title").to_owned(),
        body: words.failure(problem),
        buttons: buttons(words, answers),
        urgent: waits,
    })
}

fn buttons(words: &Words, buttons: &[(Action, &str)]) -> Vec<(Action, String)> {
    buttons.iter().map(|(action, key)| (*action, words.text(key).to_owned())).collect()
}

/// What a clock on the wall shows at that moment: unlike what is left, it stays true while it is read.
fn time(moment: Moment, now: &Now) -> String {
    let wall = now.wall.checked_add(moment.since(now.moment)).unwrap_or_else(|_| now.wall.clone());
    wall.strftime("%H:%M").to_string()
}
