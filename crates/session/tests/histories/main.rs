//! Random histories: whatever happens in whatever order, the machine does what the model says, and the promises hold.
//!
//! `OVERSIDE_HISTORIES` says how many (100 000 without it), `OVERSIDE_HISTORY` runs a single one, by the number that a failure
//! has named. The same number is always the same history.

mod model;
mod steps;
mod trial;

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use model::Numbers;
use steps::{Draw, Step};

const HISTORIES: u64 = 100_000;
/// How many a thread takes at a time.
const BATCH: u64 = 1000;

#[expect(clippy::disallowed_methods, reason = "how long to look is the developer's choice, not the machine's")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A panic of the machine's is a fault like any other.
fn fault(seed: u64, numbers: Numbers, steps: &[Step]) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| trial::run(seed, numbers, steps)));
    outcome.unwrap_or_else(|_| Err("it panicked; see above".to_owned())).err()
}

/// Leaves out steps, many at once first, for as long as what is left still fails.
fn shrunk(seed: u64, numbers: Numbers, mut steps: Vec<Step>) -> Vec<Step> {
    let mut length = steps.len();
    while length > 0 {
        let mut from = 0;
        let before = steps.len();
        while from < steps.len() {
            let end = (from + length).min(steps.len());
            let fewer = [&steps[..from], &steps[end..]].concat();
            if fault(seed, numbers, &fewer).is_some() {
                steps = fewer;
            } else {
                from = end;
            }
        }
        if length > 1 {
            length /= 2;
        } else if steps.len() == before {
            break;
        }
    }
    steps
}

fn history(seed: u64) -> (Numbers, Vec<Step>) {
    let mut draw = Draw(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    (steps::numbers(&mut draw), steps::history(&mut draw))
}

/// Runs one history; returns the report of its failure.
fn report(seed: u64) -> Option<String> {
    let (numbers, steps) = history(seed);
    fault(seed, numbers, &steps)?;
    let fewer = shrunk(seed, numbers, steps);
    let fault = fault(seed, numbers, &fewer)?;
    let steps: Vec<String> = fewer.iter().enumerate().map(|(index, step)| format!("  {index}: {step:?}")).collect();
    Some(format!("history {seed} (OVERSIDE_HISTORY={seed} runs it alone)\n{numbers:?}\n{}\n{fault}", steps.join("\n")))
}

#[test]
fn the_machine_does_what_the_model_says_in_every_history() {
    let (first, end) = match variable("OVERSIDE_HISTORY") {
        Some(one) => (one, one + 1),
        None => (0, variable("OVERSIDE_HISTORIES").unwrap_or(HISTORIES)),
    };
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let look = || {
        while !failed.load(Ordering::Relaxed) {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= end {
                return None;
            }
            if from > 0 && from.is_multiple_of(1_000_000) {
                println!("{from} histories of {end}");
            }
            if let Some(report) = (from..end.min(from + BATCH)).find_map(report) {
                failed.store(true, Ordering::Relaxed);
                return Some(report);
            }
        }
        None
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let reports: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().unwrap_or_else(|_| Some("a thread panicked".into())))
            .collect()
    });
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
}

#[test]
fn histories_reach_every_state_and_every_deadline() {
    let (mut states, mut deadlines) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for seed in 0..3000 {
        let (numbers, steps) = history(seed);
        let seen = trial::seen(seed, numbers, &steps);
        states.extend(seen.iter().map(|(state, _)| state.name()));
        deadlines.extend(seen.iter().filter_map(|(_, deadline)| deadline.map(|deadline| deadline.name())));
    }
    assert_eq!((states.len(), deadlines.len()), (7, 9), "{states:?} {deadlines:?}");
}
