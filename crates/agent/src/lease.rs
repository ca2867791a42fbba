//! The dead-man's switch: when an environment without contact to its client is over. Pure; `now` is an argument.

use std::time::Duration;

use overside_model::{Moment, agent::LeaseTerms};

/// How often an environment that outlives its grace period only because something runs in it is looked at again.
const RECHECK: Duration = Duration::from_secs(5);

/// What the lease says of an environment that has been without contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is over.
    Over,
    /// It goes on; ask again at this moment, with a fresh look at what runs.
    Until(Moment),
}

/// Judges an environment that has been out of contact since `since`.
///
/// `busy`: a container or a build runs and is not frozen. Something that ends meanwhile, or starts anew by a restart policy,
/// changes the term, so that every judgement before the longest term is provisional.
pub(crate) fn judge(terms: LeaseTerms, since: Moment, now: Moment, busy: bool) -> Verdict {
    let grace = since + Duration::from_millis(terms.grace_ms);
    let lost_contact = since + Duration::from_millis(terms.lost_contact_ms);
    let end = if busy { lost_contact } else { grace };
    if now >= end {
        Verdict::Over
    } else if busy && now >= grace {
        Verdict::Until(end.min(now + RECHECK))
    } else if now < grace.min(lost_contact) {
        Verdict::Until(grace.min(lost_contact))
    } else {
        Verdict::Until(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: LeaseTerms = LeaseTerms { grace_ms: 300_000, lost_contact_ms: 1_800_000 };

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(1_000 + seconds))
    }

    #[test]
    fn an_idle_environment_is_over_when_its_grace_is() {
        assert_eq!(judge(TERMS, at(0), at(0), false), Verdict::Until(at(300)));
        assert_eq!(judge(TERMS, at(0), at(299), false), Verdict::Until(at(300)));
        assert_eq!(judge(TERMS, at(0), at(300), false), Verdict::Over);
    }

    #[test]
    fn a_busy_environment_lives_until_contact_counts_as_lost() {
        assert_eq!(judge(TERMS, at(0), at(10), true), Verdict::Until(at(300)), "what runs is asked when grace is over");
        assert_eq!(judge(TERMS, at(0), at(300), true), Verdict::Until(at(305)));
        assert_eq!(judge(TERMS, at(0), at(1_798), true), Verdict::Until(at(1_800)));
        assert_eq!(judge(TERMS, at(0), at(1_800), true), Verdict::Over);
    }

    #[test]
    fn an_environment_whose_last_container_ends_after_the_grace_is_over_at_the_next_look() {
        assert_eq!(judge(TERMS, at(0), at(900), true), Verdict::Until(at(905)));
        assert_eq!(judge(TERMS, at(0), at(905), false), Verdict::Over);
    }

    #[test]
    fn a_sleep_longer_than_the_lease_ends_it() {
        assert_eq!(judge(TERMS, at(0), at(100_000), true), Verdict::Over);
    }

    #[test]
    fn a_lost_contact_term_shorter_than_the_grace_is_kept_to() {
        let terms = LeaseTerms { grace_ms: 300_000, lost_contact_ms: 0 };
        assert_eq!(judge(terms, at(0), at(0), true), Verdict::Over);
        assert_eq!(judge(terms, at(0), at(1), false), Verdict::Until(at(300)));
    }
}
