//! The numbers that the life cycle runs by.

use std::time::Duration;

use overside_model::Settings;

/// The settings that the life cycle depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Inactivity before Running becomes Suspended.
    pub idle_timeout: Duration,
    /// Time in Suspended before deletion.
    pub grace_period: Duration,
    /// Longest time that a start may take.
    pub start_timeout: Duration,
    /// Inactivity after which the user is asked, if the idle timeout is longer.
    pub prompt_after: Duration,
    /// Time of a session after which the user is asked whether it is still needed.
    pub long_every: Duration,
    /// The same once the day's usage has passed the limit.
    pub long_every_over_limit: Duration,
    /// Time to answer that question before the session is suspended.
    pub long_answer_within: Duration,
    /// Usage of a day beyond which the user is asked more often.
    pub daily_limit: Duration,
    /// Beyond that nothing runs any more until the day ends.
    pub hard_stop: bool,
}

impl From<&Settings> for Rules {
    fn from(settings: &Settings) -> Self {
        Self {
            idle_timeout: settings.idle_timeout,
            grace_period: settings.grace_period,
            start_timeout: settings.start_timeout,
            prompt_after: settings.prompt_after,
            long_every: settings.long_every,
            long_every_over_limit: settings.long_every_over_limit,
            long_answer_within: settings.long_answer_within,
            daily_limit: settings.daily_limit,
            hard_stop: false,
        }
    }
}

/// How long a call is refused after the given number of failed starts in a row (at least one) before the next one tries
/// again: 1 s, doubling to 30 s.
pub fn retry_pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_failures_doubles_up_to_half_a_minute() {
        let pauses: Vec<_> = [1, 2, 3, 5, 6, 1000].map(|failures| retry_pause(failures).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 16, 30, 30]);
    }
}
