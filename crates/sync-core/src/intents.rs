//! What a plan was about to bring, for whoever is interrupted while it is carried out.

use serde::{Deserialize, Serialize};

use crate::{
    path::RelativePath,
    reconcile::{Plan, Step},
    tree::{Entry, Node},
};

/// What the steps of a plan bring to each side. Each of them is on the other side when the plan is made: if it
/// is found at its place later, both had it in common, whatever the other side has become since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intents {
    laptop: Vec<(RelativePath, Entry)>,
    environment: Vec<(RelativePath, Entry)>,
}

impl Intents {
    /// Those of a plan for two sides. What is new to both, as a version that is kept beside another, is none.
    pub fn of(plan: &Plan, laptop: Option<&Node>, environment: Option<&Node>) -> Self {
        let brought = |steps: &[Step], source: Option<&Node>| {
            let brings = |step: &Step| {
                let entry = step.new.clone().filter(|entry| at(source, &step.path).as_ref() == Some(entry))?;
                Some((step.path.clone(), entry))
            };
            steps.iter().filter_map(brings).collect()
        };
        Self { laptop: brought(&plan.laptop, environment), environment: brought(&plan.environment, laptop) }
    }

    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.laptop.is_empty() && self.environment.is_empty()
    }

    /// Makes what has arrived a part of what both sides had in common last. To be called with both sides as they are found after
    /// an interruption, when what they still have in common is known. Returns whether the ancestor has become another one.
    pub fn settle(&self, ancestor: &mut Option<Node>, laptop: Option<&Node>, environment: Option<&Node>) -> bool {
        let mut changed = false;
        for (intents, target, source) in [(&self.laptop, laptop, environment), (&self.environment, environment, laptop)]
        {
            for (path, entry) in intents {
                // Where both are alike that is known already.
                let has = |tree| at(tree, path).as_ref() == Some(entry);
                if has(target) && !has(source) && !has(ancestor.as_ref()) {
                    changed |= Node::set(ancestor, path, Some(entry.clone()));
                }
            }
        }
        changed
    }
}

fn at(tree: Option<&Node>, path: &RelativePath) -> Option<Entry> {
    tree?.get(path).map(Node::entry)
}
