//! Runs one target under libFuzzer, whose options are the arguments.

#![no_main]

use std::cell::RefCell;

use overside_fuzz::{Target, target};

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new(target(&std::env::var("OVERSIDE_FUZZ_TARGET").unwrap_or_default()));
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET.with_borrow_mut(|target| target(input));
});
