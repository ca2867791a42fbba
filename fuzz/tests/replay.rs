//! Every target with every input that is kept, and with random ones for a moment.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use overside_fuzz::{TARGETS, target};
use rand::{RngExt as _, rngs::SmallRng};

/// How long each target gets random inputs.
const MOMENT: Duration = Duration::from_millis(500);
/// Longest random input.
const LONGEST: usize = 4096;

fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [here.join("corpus").join(name), here.join("artifacts").join(name)];
    let files = places.iter().filter_map(|place| fs_err::read_dir(place).ok()).flatten();
    let mut inputs: Vec<_> = files
        .map(|file| file.unwrap_or_else(|error| panic!("{error}")).path())
        .map(|path| (path.clone(), fs_err::read(&path).unwrap_or_else(|error| panic!("{error}"))))
        .collect();
    inputs.sort();
    inputs
}

fn replay(name: &str) {
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "fuzz/corpus/{name} has no inputs");
    let mut run = target(name);
    for (path, input) in &inputs {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(input)));
        outcome.unwrap_or_else(|cause| {
            eprintln!("the input was {}", path.display());
            resume_unwind(cause)
        });
    }
    let mut rng: SmallRng = rand::make_rng();
    let (end, mut count) = (Instant::now() + MOMENT, 0);
    while Instant::now() < end {
        let input = random(&mut rng, &inputs);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
        outcome.unwrap_or_else(|cause| {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-crash"));
            // The panic tells the rest, should this fail.
            let _ = fs_err::write(&kept, &input);
            eprintln!("the input is in {}; as a file in fuzz/corpus/{name} it is tried in every run", kept.display());
            resume_unwind(cause)
        });
        count += 1;
    }
    println!("{name}: {} inputs that are kept, {count} random ones", inputs.len());
}

/// A kept input with some changes, or noise.
fn random(rng: &mut SmallRng, inputs: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    if rng.random_ratio(1, 4) {
        let length = rng.random_range(0..100);
        return (0..length).map(|_| rng.random()).collect();
    }
    let mut bytes = inputs[rng.random_range(0..inputs.len())].1.clone();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 => bytes.insert(at, rng.random()),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => drop(bytes.drain(at..(at + rng.random_range(0..20)).min(bytes.len()))),
            3 => {
                let other = &inputs[rng.random_range(0..inputs.len())].1;
                let start = rng.random_range(0..=other.len());
                let end = (start + rng.random_range(0..40)).min(other.len());
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            _ => {
                let end = (at + rng.random_range(0..40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

replayed! {
    rewriter rewriter_grammar routes routes_grammar frames frames_round_trip bundle bundle_round_trip messages settings
    facts answers proxy proxy_grammar sync_stream sync_answers
}
