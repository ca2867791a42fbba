//! How many tests passed, failed and were skipped, as the test runners' own closing lines say.

use std::{fmt, ops::AddAssign};

/// Counts of one or more runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    /// Adds `3 passed`, `1 timed out` and the like; other words do not count.
    fn add(&mut self, part: &str) {
        let Some((number, what)) = part.trim().split_once(' ') else { return };
        let Ok(number) = number.parse::<u64>() else { return };
        match what.split(" (").next().unwrap_or_default().trim() {
            "passed" => self.passed += number,
            "failed" | "timed out" | "exec failed" => self.failed += number,
            "skipped" | "ignored" | "todo" => self.skipped += number,
            _ => {}
        }
    }
}

/// `Summary [ 0.1s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`
pub(super) fn nextest(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter(|line| line.trim_start().starts_with("Summary [")) {
        let counts = line.split_once(" run: ").map_or("", |(_, counts)| counts);
        without_brackets(counts).split(',').for_each(|part| tally.add(part));
    }
    tally
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
pub(super) fn libtest(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let counts = line.split_once(". ").map_or("", |(_, counts)| counts);
        counts.split(';').for_each(|part| tally.add(part));
    }
    tally
}

/// `Tests  1 failed | 12 passed | 1 skipped (14)`
pub(super) fn vitest(output: &str) -> Tally {
    let mut tally = Tally::default();
    for counts in output.lines().filter_map(|line| line.trim_start().strip_prefix("Tests  ")) {
        counts.split('|').for_each(|part| tally.add(part));
    }
    tally
}

/// `12 passed, 0 failed, 1 skipped` as the last line
pub(super) fn closing_line(output: &str) -> Tally {
    let mut tally = Tally::default();
    output.lines().last().unwrap_or_default().split(',').for_each(|part| tally.add(part));
    tally
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|character| {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_nextest_is_understood_with_every_kind_of_failure() {
        let output = "noise\n     Summary [   3.210s] 16/17 tests run: 12 passed (1 slow, 1 flaky), 2 failed, 1 timed out, \
                      1 exec failed, 3 skipped\n";
        assert_eq!(nextest(output), Tally { passed: 12, failed: 4, skipped: 3 });
    }

    #[test]
    fn results_of_several_plain_test_programs_are_added() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.00s\n";
        assert_eq!(libtest(output), Tally { passed: 4, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_summary_of_vitest_is_understood() {
        let output = " Test Files  2 passed (2)\n      Tests  1 failed | 12 passed | 1 skipped (14)\n";
        assert_eq!(vitest(output), Tally { passed: 12, failed: 1, skipped: 1 });
    }

    #[test]
    fn a_closing_line_like_ours_is_understood() {
        assert_eq!(
            closing_line("3 passed of old\n12 passed, 2 failed, 1 skipped\n"),
            Tally { passed: 12, failed: 2, skipped: 1 }
        );
    }

    #[test]
    fn the_closing_line_has_one_form() {
        assert_eq!(Tally { passed: 12, failed: 0, skipped: 1 }.to_string(), "12 passed, 0 failed, 1 skipped");
    }
}
