//! Histories: what can happen, drawn from a number.

use overside_session::CallKind;

use crate::model::Numbers;

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Person,
    /// A program that the user said never counts.
    NeverCounts,
    /// A program that the user said always counts.
    AlwaysCounts,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Time passes, with every deadline kept.
    Pass(u64),
    /// The laptop sleeps; whether the timer is the first to notice.
    Sleep {
        seconds: u64,
        timer_first: bool,
    },
    Enable,
    Disable,
    IdleNow,
    Resume,
    Later,
    Retry,
    Adopted,
    Lost,
    Call(CallKind, Caller),
    EndCall(usize),
    /// Calls that wait look at the gate: one of them, or all.
    LookAtGate(usize),
    AllLookAtGate,
    Containers(usize),
    /// The effect that is under way ends.
    Answer {
        good: bool,
    },
    /// An effect that was cancelled long ago ends after all.
    AnswerOld {
        back: u64,
        good: bool,
    },
}

/// A sequence of numbers that is the same for the same seed (splitmix64).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `least` to below `below`.
    pub(crate) fn range(&mut self, least: u64, below: u64) -> u64 {
        least + self.next() % (below - least)
    }

    fn index(&mut self, below: u64) -> usize {
        usize::try_from(self.range(0, below)).unwrap_or_default()
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

pub(crate) fn numbers(draw: &mut Draw) -> Numbers {
    let limit = draw.range(20, 300);
    Numbers {
        idle: draw.range(5, 40),
        grace: draw.range(0, 30),
        start: draw.range(3, 20),
        prompt_after: draw.range(3, 45),
        long: draw.range(30, 200),
        long_over_limit: draw.range(15, 80),
        answer: draw.range(3, 25),
        limit,
        hard: draw.one_in(3),
        day: draw.range(150, 900),
        used: if draw.one_in(4) { draw.range(0, limit + 20) } else { 0 },
    }
}

pub(crate) fn history(draw: &mut Draw) -> Vec<Step> {
    let length = draw.range(1, 60);
    let mut steps = vec![Step::Enable];
    steps.extend((0..length).map(|_| step(draw)));
    steps
}

fn step(draw: &mut Draw) -> Step {
    let kinds = [
        CallKind::Work,
        CallKind::Work,
        CallKind::Work,
        CallKind::Question,
        CallKind::Question,
        CallKind::Probe,
        CallKind::Ping,
        CallKind::Events,
    ];
    match draw.range(0, 100) {
        0..=17 => Step::Pass(draw.range(0, 12)),
        18..=25 => Step::Pass(draw.range(0, 70)),
        26..=29 => Step::Sleep { seconds: draw.range(1, 140), timer_first: draw.one_in(2) },
        30..=31 => Step::Enable,
        32 => Step::Disable,
        33..=34 => Step::IdleNow,
        35 => Step::Resume,
        36..=39 => Step::Later,
        40..=41 => Step::Retry,
        42 => Step::Adopted,
        43 => Step::Lost,
        44..=60 => {
            let kind = kinds[draw.index(8)];
            let caller = [Caller::Person, Caller::Person, Caller::NeverCounts, Caller::AlwaysCounts][draw.index(4)];
            Step::Call(kind, caller)
        }
        61..=68 => Step::EndCall(draw.index(6)),
        69..=71 => Step::LookAtGate(draw.index(6)),
        72..=77 => Step::AllLookAtGate,
        78..=82 => Step::Containers(draw.index(3)),
        83..=97 => Step::Answer { good: !draw.one_in(6) },
        _ => Step::AnswerOld { back: draw.range(1, 4), good: draw.one_in(2) },
    }
}
