//! Telling programs that ask the same thing on a timer from people and tools at work.
//!
//! A poller is known by its rhythm alone: one program asks one question again and again, at intervals so even that no hand
//! and no work makes them. Until it is known its calls count like any other; a call outside of the rhythm always counts.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use overside_model::{IgnoredPoller, Moment};

/// A program that makes calls, as far as the system or the program itself tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// The program, as `status` names it.
    pub program: String,
    /// Its name and those of the programs that started it, for the settings that overrule recognition.
    pub names: Vec<String>,
}

/// What the user has said of programs, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrules {
    /// Their calls always count.
    pub always_count: Vec<String>,
    /// Their questions never count.
    pub never_count: Vec<String>,
}

impl Overrules {
    /// Whether the client's questions are polling for certain (true), are not for certain (false), or depend.
    fn say(&self, client: &Client) -> Option<bool> {
        let named = |list: &[String]| list.iter().any(|name| client.names.iter().any(|own| same_program(name, own)));
        if named(&self.always_count) {
            return Some(false);
        }
        named(&self.never_count).then_some(true)
    }
}

/// Programs are named without caring about case or Windows' extension.
fn same_program(one: &str, other: &str) -> bool {
    fn bare(name: &str) -> &str {
        let cut = name.len().checked_sub(4).filter(|cut| name.is_char_boundary(*cut));
        cut.filter(|cut| name[*cut..].eq_ignore_ascii_case(".exe")).map_or(name, |cut| &name[..cut])
    }
    bare(one).eq_ignore_ascii_case(bare(other))
}

/// Questions of a kind that come closer together than this are one beat: tools ask for every container in turn.
const BURST: Duration = Duration::from_millis(150);
/// The slowest rhythm that is taken for one.
const SLOWEST: Duration = Duration::from_mins(10);
/// A program at work may ask quickly and evenly for a while: the rhythm has to last at least as long as this.
const LASTING: Duration = Duration::from_secs(8);
/// Intervals that are looked at, and how many of them may be uneven: one beat that is late makes two.
const BEATS: usize = 12;
const UNEVEN: usize = 2;
/// How far an interval may be from the middle one while a rhythm is being learned, as a part of it and at least.
const LEARNING: (u32, Duration) = (20, Duration::from_millis(60));
/// The same once it is known: the machine may be busy.
const KNOWN: (u32, Duration) = (4, Duration::from_millis(300));
/// Beats that may be left out once a rhythm is known.
const MISSED: u32 = 3;
/// Rhythms kept at once; the one that has been silent for longest makes room.
const MOST: usize = 512;

/// One program asking one question.
#[derive(Debug, Clone, Default)]
struct Rhythm {
    beat: Option<Moment>,
    intervals: VecDeque<Duration>,
    /// When the intervals that are looked at began, as long as they have been even.
    even_since: Option<Moment>,
    known: bool,
}

fn near(value: Duration, target: Duration, (part, least): (u32, Duration)) -> bool {
    value.abs_diff(target) <= (target / part).max(least)
}

impl Rhythm {
    /// The middle interval.
    fn period(&self) -> Duration {
        let mut sorted: Vec<_> = self.intervals.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// Takes a call in. Tells whether it belongs to a known rhythm.
    fn take(&mut self, now: Moment) -> bool {
        let Some(beat) = self.beat else {
            self.beat = Some(now);
            return false;
        };
        let gap = now.since(beat);
        if gap < BURST {
            return self.known;
        }
        if self.known {
            let period = self.period();
            if (1..=MISSED).any(|beats| near(gap, period * beats, KNOWN)) {
                self.beat = Some(now);
                if near(gap, period, KNOWN) {
                    self.learn(gap);
                }
                return true;
            }
            if gap < period {
                // Somebody else uses the same program in between; the rhythm goes on.
                return false;
            }
            *self = Self::default();
        }
        self.beat = Some(now);
        self.learn(gap);
        if self.is_even() {
            let since = *self.even_since.get_or_insert(now - self.intervals.iter().sum());
            self.known = now.since(since) >= LASTING;
        } else {
            self.even_since = None;
        }
        self.known
    }

    fn learn(&mut self, gap: Duration) {
        if self.intervals.len() == BEATS {
            self.intervals.pop_front();
        }
        self.intervals.push_back(gap);
    }

    fn is_even(&self) -> bool {
        let period = self.period();
        let even = self.intervals.iter().filter(|interval| near(**interval, period, LEARNING)).count();
        self.intervals.len() == BEATS && even >= BEATS - UNEVEN && period <= SLOWEST
    }
}

/// All rhythms, and how many calls were ignored for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pollers {
    overrules: Overrules,
    rhythms: BTreeMap<(String, String), Rhythm>,
    ignored: BTreeMap<String, u64>,
}

impl Pollers {
    pub(crate) fn overrule(&mut self, overrules: Overrules) {
        self.overrules = overrules;
    }

    /// A question of a client's. `shape` is what it asks, without names. Tells whether it is polling.
    pub(crate) fn is_poll(&mut self, now: Moment, client: &Client, shape: &str) -> bool {
        let key = (client.program.clone(), shape.to_owned());
        if !self.rhythms.contains_key(&key) && self.rhythms.len() >= MOST {
            let oldest = self.rhythms.iter().min_by_key(|(_, rhythm)| rhythm.beat).map(|(key, _)| key.clone());
            self.rhythms.remove(&oldest.unwrap_or_default());
        }
        let even = self.rhythms.entry(key).or_default().take(now);
        let poll = self.overrules.say(client).unwrap_or(even);
        if poll {
            *self.ignored.entry(client.program.clone()).or_default() += 1;
        }
        poll
    }

    /// A new session counts anew.
    pub(crate) fn forget_counts(&mut self) {
        self.ignored.clear();
    }

    pub(crate) fn ignored(&self) -> Vec<IgnoredPoller> {
        let row = |(program, calls): (&String, &u64)| IgnoredPoller { program: program.clone(), calls: *calls };
        self.ignored.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    const LIST: &str = "GET /containers/json";

    fn client(program: &str) -> Client {
        Client { program: program.to_owned(), names: vec![program.to_owned()] }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(1_000_000 + milliseconds))
    }

    /// Asks at these moments; tells which of the calls were polling.
    fn asked(pollers: &mut Pollers, moments: impl IntoIterator<Item = u64>) -> Vec<bool> {
        moments.into_iter().map(|moment| pollers.is_poll(at(moment), &client("tool"), LIST)).collect()
    }

    #[test]
    fn a_question_at_even_intervals_is_polling_after_twelve_of_them() {
        for period in [1000, 30_000] {
            let calls = asked(&mut Pollers::default(), (0..20).map(|n| n * period));
            assert_eq!(calls.iter().position(|poll| *poll), Some(12));
            assert!(calls[12..].iter().all(|poll| *poll));
        }
    }

    #[test]
    fn a_busy_machine_does_not_hide_a_rhythm() {
        let late = [0, 1010, 2040, 2990, 4210, 5020, 6010, 7000, 8040, 9020, 10_010, 11_030, 12_000, 13_210, 14_010];
        assert!(asked(&mut Pollers::default(), late)[12..].iter().all(|poll| *poll));
    }

    #[test]
    fn a_burst_of_questions_is_one_beat() {
        let bursts = (0..15).flat_map(|n| (0..5).map(move |k| n * 1000 + k * 20));
        let calls = asked(&mut Pollers::default(), bursts);
        assert!(calls[12 * 5..].iter().all(|poll| *poll), "{calls:?}");
    }

    #[test]
    fn a_call_between_the_beats_counts_and_does_not_disturb_the_rhythm() {
        let mut pollers = Pollers::default();
        asked(&mut pollers, (0..14).map(|n| n * 2000));
        assert_eq!(asked(&mut pollers, [27_000, 28_000, 30_000]), [false, true, true]);
    }

    #[test]
    fn a_beat_may_be_missed_but_a_call_long_after_the_rhythm_has_ended_counts() {
        let mut pollers = Pollers::default();
        asked(&mut pollers, (0..13).map(|n| n * 1000));
        assert_eq!(asked(&mut pollers, [14_000]), [true]);
        assert_eq!(asked(&mut pollers, [60_000, 61_000, 62_000]), [false, false, false]);
    }

    #[test]
    fn programs_and_questions_have_rhythms_of_their_own() {
        let mut pollers = Pollers::default();
        asked(&mut pollers, (0..14).map(|n| n * 1000));
        assert!(!pollers.is_poll(at(14_000), &client("other"), LIST));
        assert!(!pollers.is_poll(at(14_000), &client("tool"), "GET /images/json"));
        assert!(pollers.is_poll(at(14_000), &client("tool"), LIST));
    }

    #[test]
    fn a_tool_that_asks_quickly_for_a_moment_is_at_work() {
        assert!(asked(&mut Pollers::default(), (0..30).map(|n| n * 250)).iter().all(|poll| !poll));
    }

    #[test]
    fn the_user_overrules_by_the_name_of_the_program_or_of_what_started_it() {
        let mut pollers = Pollers::default();
        let docker = Client { program: "docker (code)".into(), names: vec!["docker".into(), "Code.exe".into()] };
        pollers.overrule(Overrules { always_count: vec![], never_count: vec!["code".into()] });
        assert!(pollers.is_poll(at(0), &docker, LIST));
        pollers.overrule(Overrules { always_count: vec!["CODE".into()], never_count: vec!["docker".into()] });
        assert!((0..20).all(|n| !pollers.is_poll(at(1000 * n), &docker, LIST)), "counting wins");
    }

    #[test]
    fn ignored_calls_are_counted_by_program() {
        let mut pollers = Pollers::default();
        asked(&mut pollers, (0..15).map(|n| n * 1000));
        assert_eq!(pollers.ignored(), [IgnoredPoller { program: "tool".into(), calls: 3 }]);
    }

    #[test]
    fn many_programs_do_not_fill_the_memory() {
        let mut pollers = Pollers::default();
        for n in 0..2000 {
            pollers.is_poll(at(n), &client(&format!("p{n}")), LIST);
        }
        assert_eq!(pollers.rhythms.len(), MOST);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

        /// A person presses the keys again within one to twenty seconds; the intervals of people differ by far more than
        /// a twentieth (here: by a tenth at the least, either way). The draws are always the same: that none of all possible
        /// hands ever is that even cannot be.
        #[test]
        fn a_person_who_types_the_same_command_again_and_again_is_never_taken_for_a_poller(
            pace in 1000_u64..20_000,
            swings in proptest::collection::vec((10_u64..60, any::<bool>()), 1..60),
        ) {
            let mut now = 0;
            let moments: Vec<u64> = swings.into_iter().map(|(percent, later)| {
                let swing = pace * percent / 100;
                now += if later { pace + swing } else { pace - swing };
                now
            }).collect();
            prop_assert!(asked(&mut Pollers::default(), moments).iter().all(|poll| !poll));
        }

        #[test]
        fn every_steady_program_is_found_whatever_its_period(
            period in 300_u64..590_000,
            delays in proptest::collection::vec(0_u64..30, 60),
        ) {
            let moments = delays.iter().enumerate().map(|(n, delay)| n as u64 * period + delay);
            prop_assert!(asked(&mut Pollers::default(), moments)[59]);
        }
    }
}
