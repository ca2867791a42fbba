//! What keeps a session awake.

use std::collections::BTreeMap;

use overside_model::AwakeReason;

use crate::pollers::Client;

/// A call or stream, from its arrival to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActivityId(pub u64);

/// What a call is to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// Asks whether somebody is there (`_ping`), as every client does first and `docker context` does without ever asking
    /// more: neither wakes nor resumes, does not count, and is answered at once in every state.
    Ping,
    /// Asks for what hardly changes (`version`, `info`): never wakes, resumes a suspended environment, does not count.
    Probe,
    /// Asks for what there is (lists, inspection): does not wake an idle session; counts.
    Question,
    /// A held event stream: waits for an engine without waking or resuming one; does not count.
    Events,
    /// Everything else: wakes, and counts for as long as it lasts.
    Work,
}

impl CallKind {
    const fn counts(self) -> bool {
        matches!(self, Self::Question | Self::Work)
    }

    /// Whether a timer may make such calls without anybody at work.
    pub(crate) const fn may_be_poll(self) -> bool {
        matches!(self, Self::Probe | Self::Question)
    }
}

/// A call as it arrives.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What it is to the session.
    pub kind: CallKind,
    /// What `status` calls its kind where it keeps the session awake: `call`, `stream`, `build` or `connection`.
    pub label: &'static str,
    /// What `status` calls it: method and path.
    pub detail: &'a str,
    /// What it asks, without names: the same for every container.
    pub shape: &'a str,
    /// Who makes it.
    pub client: &'a Client,
}

#[derive(Debug)]
struct Activity {
    kind: CallKind,
    poll: bool,
    reason: AwakeReason,
    /// Whether it waits for the environment to run.
    waiting: bool,
}

impl Activity {
    const fn counts(&self) -> bool {
        self.kind.counts() && !self.poll
    }
}

/// All calls and streams under way, and the running containers.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    calls: BTreeMap<ActivityId, Activity>,
    containers: Vec<String>,
    next: u64,
}

impl Activities {
    pub(crate) fn begin(&mut self, call: &Call<'_>, poll: bool) -> ActivityId {
        let id = ActivityId(self.next);
        self.next += 1;
        let reason = AwakeReason { kind: call.label.to_owned(), detail: call.detail.to_owned() };
        self.calls.insert(id, Activity { kind: call.kind, poll, reason, waiting: true });
        id
    }

    /// What a call that is under way is, and whether it is polling.
    pub(crate) fn kind(&self, id: ActivityId) -> Option<(CallKind, bool)> {
        self.calls.get(&id).map(|activity| (activity.kind, activity.poll))
    }

    /// Ends a call; tells whether it counted.
    pub(crate) fn end(&mut self, id: ActivityId) -> bool {
        self.calls.remove(&id).is_some_and(|activity| activity.counts() && !activity.waiting)
    }

    /// Marks a call as waiting for the environment, or as let through.
    pub(crate) fn set_waiting(&mut self, id: ActivityId, waiting: bool) {
        if let Some(activity) = self.calls.get_mut(&id) {
            activity.waiting = waiting;
        }
    }

    /// Lets every waiting call through.
    pub(crate) fn admit_all(&mut self) {
        for activity in self.calls.values_mut() {
            activity.waiting = false;
        }
    }

    /// Whether a call waits that an environment would be started or resumed for.
    pub(crate) fn someone_waits(&self) -> bool {
        self.calls.values().any(|activity| activity.waiting && activity.kind == CallKind::Work)
    }

    /// Whether a call waits that a suspended environment would be resumed for.
    pub(crate) fn someone_waits_for_resume(&self) -> bool {
        self.calls.values().any(|activity| activity.waiting && activity.kind != CallKind::Events)
    }

    /// Tells whether that is a change.
    pub(crate) fn set_containers(&mut self, names: Vec<String>) -> bool {
        let changed = self.containers != names;
        self.containers = names;
        changed
    }

    pub(crate) fn keeps_awake(&self) -> bool {
        !self.containers.is_empty() || self.calls.values().any(|call| call.counts() && !call.waiting)
    }

    /// What keeps the session awake: containers first, then calls in the order in which they came.
    pub(crate) fn reasons(&self) -> Vec<AwakeReason> {
        let container = |name: &String| AwakeReason { kind: "container".to_owned(), detail: name.clone() };
        let calls = self.calls.values().filter(|call| call.counts() && !call.waiting).map(|call| call.reason.clone());
        self.containers.iter().map(container).chain(calls).collect()
    }
}
