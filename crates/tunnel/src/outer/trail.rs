//! What was found on the way, hop by hop.

use std::time::Instant;

use overside_model::{Hop, Problem};

/// Notes hops with the time that each of them took.
#[derive(Debug)]
pub struct Trail {
    hops: Vec<Hop>,
    since: Instant,
}

impl Default for Trail {
    fn default() -> Self {
        Self { hops: Vec::new(), since: Instant::now() }
    }
}

impl Trail {
    /// A hop that works.
    pub fn passed(&mut self, name: &str, detail: impl Into<String>) {
        self.push(Hop::passed(name, detail));
    }

    /// A hop that works, with something to know.
    pub fn noted(&mut self, name: &str, detail: impl Into<String>, hint: impl Into<String>) {
        self.push(Hop::noted(name, detail, hint));
    }

    /// A hop that does not work.
    pub fn failed(&mut self, name: &str, problem: &Problem) {
        self.push(Hop::failed(name, problem.clone()));
    }

    /// A hop that took place somewhere else.
    pub fn push(&mut self, mut hop: Hop) {
        let took = self.since.elapsed().as_millis();
        hop.took_ms = Some(u64::try_from(took).unwrap_or(u64::MAX));
        self.hops.push(hop);
        self.since = Instant::now();
    }

    /// All hops; those of `names` that were not reached are there as skipped.
    pub fn into_hops(mut self, names: &[&str]) -> Vec<Hop> {
        for name in names {
            if !self.hops.iter().any(|hop| hop.name == *name) {
                self.hops.push(Hop::skipped(name, ""));
            }
        }
        self.hops
    }
}
