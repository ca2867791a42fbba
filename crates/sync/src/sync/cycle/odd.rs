//! Cycles where the laptop's file system is not like the environment's: both sides are compared as `sync-core` sees them then.
//! On an ordinary file system nothing here does anything.

use std::time::Instant;

use overside_sync_core::{HeldBack, Node, RelativePath, Seen, Side, Step, View, agree};

use super::{Cycle, Trouble};
use crate::{endpoint::Failure, sync::conversation::Conversation};

impl Cycle {
    /// Both sides as they are to be compared; none if as they are.
    pub(super) fn see(&self) -> Option<Seen> {
        let view = View { traits: self.laptop.traits(), unfit: &self.unfit, mode: self.setup.mode };
        let (laptop, environment) = (self.laptop.tree(), self.environment.as_ref());
        (!view.is_ordinary()).then(|| view.of(self.ancestor.as_ref(), laptop, environment))
    }

    /// The two sides that are compared.
    pub(super) fn sides<'a>(&'a self, seen: Option<&'a Seen>) -> (Option<&'a Node>, Option<&'a Node>) {
        match seen {
            Some(seen) => (seen.laptop.as_ref(), seen.environment.as_ref()),
            None => (self.laptop.tree(), self.environment.as_ref()),
        }
    }

    /// Finds out what both sides have in common now. Returns how they are seen.
    pub(super) fn agree(&mut self) -> Option<Seen> {
        let mut seen = self.see();
        let changed = match &mut seen {
            None => agree(&mut self.ancestor, self.laptop.tree(), self.environment.as_mut()),
            Some(seen) => {
                let forgot = seen.forget(&mut self.ancestor);
                let changed = agree(&mut self.ancestor, seen.laptop.as_ref(), seen.environment.as_mut());
                // What is alike without being seen as something else is shared, too, so that it is not looked at again.
                agree(&mut self.ancestor.clone(), self.laptop.tree(), self.environment.as_mut());
                changed || forgot
            }
        };
        if changed {
            self.unkept.get_or_insert_with(Instant::now);
        }
        seen
    }

    /// Renames on each side what has a new name on the other that is the same name here. Returns what could not be renamed;
    /// nothing else is done with that.
    pub(super) fn rename(&mut self, conversation: &mut Conversation) -> Result<Vec<Failure>, Trouble> {
        let mut failures = Vec::new();
        // What lies in a directory is looked at when that is done.
        while failures.is_empty()
            && let Some(seen) = self.see().filter(|seen| !seen.renames.is_empty())
        {
            for rename in &seen.renames {
                let failure = match rename.side {
                    None => None,
                    Some(Side::Laptop) => {
                        let path = seen.on_laptop(&rename.directory).child(&rename.from);
                        // One that can never be renamed here gets its old name back there.
                        let failure = self.laptop.rename(&path, &rename.to).err();
                        failure.filter(|failure| failure.passes)
                    }
                    Some(Side::Environment) => {
                        let path = rename.directory.child(&rename.from);
                        conversation.rename(&mut self.environment, &path, &rename.to)?
                    }
                };
                if failure.is_none() {
                    self.unkept.get_or_insert_with(Instant::now);
                    Node::rename(&mut self.ancestor, &rename.directory, &rename.common, &rename.to);
                }
                failures.extend(failure);
            }
        }
        Ok(failures)
    }

    /// What failed of the laptop's steps, by the environment's names: those of `planned`, which are in the same order. What can
    /// never be done is remembered instead, so that its content is not fetched again and again.
    pub(super) fn learn(&mut self, planned: &[Step], steps: &[Step], failed: Vec<Failure>) -> Vec<Failure> {
        let mut failures = Vec::new();
        for failure in failed {
            let at = steps.iter().position(|step| step.path == failure.path);
            let path = at.and_then(|at| planned.get(at)).map_or_else(|| failure.path.clone(), |step| step.path.clone());
            match failure.held {
                Some(held) => drop(self.unfit.insert(path, held)),
                None => failures.push(Failure { path, ..failure }),
            }
        }
        failures
    }
}

/// What was not brought, and why: what failed, and contents that the laptop cannot have.
pub(super) fn left(failures: &[Failure], seen: Option<&Seen>) -> Vec<(RelativePath, String)> {
    let failed = failures.iter().map(|failure| (failure.path.clone(), failure.reason.clone()));
    let held = held_back(seen).iter().filter(|(_, reason)| reason.has_content());
    failed.chain(held.map(|(path, reason)| (path.clone(), reason.to_string()))).collect()
}

/// What of the environment the laptop cannot have.
pub(super) fn held_back(seen: Option<&Seen>) -> &[(RelativePath, HeldBack)] {
    seen.map_or(&[], |seen| &seen.held_back)
}
