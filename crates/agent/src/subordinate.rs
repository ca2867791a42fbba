//! Ids for an environment: a range that nobody else on the machine uses (root), or the user's subordinate ids (rootless).

/// Ids that an environment gets as root: enough for every image.
pub(crate) const RANGE: u32 = 0x1_0000;

/// First id of the environments' own part of the id space: systemd's list of ids leaves 1879048192 to 2147483647 unused,
/// and Debian, Fedora and LXD hand out subordinate ids far below (<https://systemd.io/UIDS-GIDS/>).
const PREFERRED: u32 = 0x7000_0000;

/// Most environments side by side; with [`RANGE`] ids each they fill the unused part exactly.
pub(crate) const SLOTS: u32 = 4096;

/// A contiguous range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    /// The first id.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
}

impl IdRange {
    fn end(self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.end() <= self.end()
    }

    fn overlaps(self, other: Self) -> bool {
        u64::from(self.first) < other.end() && u64::from(other.first) < self.end()
    }
}

/// Parses `/proc/self/uid_map`: the ids that exist in this user namespace.
pub(crate) fn parse_map(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let first = fields.next()?.parse().ok()?;
        let _outside = fields.next()?;
        Some(IdRange { first, count: fields.next()?.parse().ok()? })
    };
    text.lines().filter_map(range).collect()
}

/// Parses `/etc/subuid` or `/etc/subgid`: owner and range of every line that is well-formed.
pub(crate) fn parse_subordinate(text: &str) -> Vec<(&str, IdRange)> {
    let entry = |line| {
        let mut fields = str::split(line, ':');
        let (owner, first, count) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        Some((owner, IdRange { first, count }))
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(entry).collect()
}

/// The ids of the environment in `slot`: within `available`, and overlapping nothing in `taken`.
///
/// In a container with an id map of its own the preferred part may not exist; the ranges are then counted down from the top
/// of the largest map entry, staying clear of its lowest ids, which are the container's own.
pub(crate) fn range_of_slot(slot: u32, available: &[IdRange], taken: &[IdRange]) -> Option<IdRange> {
    let preferred = IdRange { first: PREFERRED.checked_add(slot.checked_mul(RANGE)?)?, count: RANGE };
    let candidate = if available.iter().any(|range| range.contains(preferred)) {
        preferred
    } else {
        let largest = available.iter().max_by_key(|range| range.count)?;
        let down = RANGE.checked_mul(slot.checked_add(1)?)?;
        let first = u32::try_from(largest.end().checked_sub(u64::from(down))?).ok()?;
        IdRange { first, count: RANGE }
    };
    let own = IdRange { first: 0, count: RANGE };
    let free = available.iter().any(|range| range.contains(candidate))
        && !candidate.overlaps(own)
        && !taken.iter().any(|range| range.overlaps(candidate));
    free.then_some(candidate)
}

/// The largest range that the file gives to the user, by name or by number.
pub(crate) fn range_of_user(text: &str, name: Option<&str>, uid: u32) -> Option<IdRange> {
    let number = uid.to_string();
    parse_subordinate(text)
        .into_iter()
        .filter(|(owner, _)| Some(*owner) == name || *owner == number)
        .map(|(_, range)| range)
        .max_by_key(|range| range.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: IdRange = IdRange { first: 0, count: u32::MAX };

    #[test]
    fn slots_have_disjoint_ranges_in_the_unused_part() {
        let first = range_of_slot(0, &[WHOLE], &[]).unwrap();
        let second = range_of_slot(1, &[WHOLE], &[]).unwrap();
        assert_eq!(first, IdRange { first: 0x7000_0000, count: 65_536 });
        assert!(!first.overlaps(second));
        let last = range_of_slot(SLOTS - 1, &[WHOLE], &[]).unwrap();
        assert_eq!(last.end(), 0x8000_0000);
    }

    #[test]
    fn a_range_that_somebody_was_given_is_not_used() {
        let taken = IdRange { first: 0x7001_8000, count: 10 };
        assert!(range_of_slot(0, &[WHOLE], &[taken]).is_some());
        assert!(range_of_slot(1, &[WHOLE], &[taken]).is_none());
        assert!(range_of_slot(2, &[WHOLE], &[taken]).is_some());
    }

    #[test]
    fn in_a_container_ranges_are_counted_down_from_the_top_of_its_map() {
        let map = parse_map("         0    1000000 1000000000\n");
        assert_eq!(range_of_slot(0, &map, &[]).unwrap().first, 1_000_000_000 - 65_536);
        let small = parse_map("0 100000 65536");
        assert_eq!(range_of_slot(0, &small, &[]), None, "its only ids are the container's own");
    }

    #[test]
    fn subordinate_ids_are_found_by_name_and_by_number() {
        let file = "# comment\nalice:100000:65536\nbroken:x:1\n1001:165536:65536\nalice:300000:100\n";
        assert_eq!(range_of_user(file, Some("alice"), 1000).unwrap().first, 100_000);
        assert_eq!(range_of_user(file, Some("bob"), 1001).unwrap().first, 165_536);
        assert_eq!(range_of_user(file, Some("bob"), 1002), None);
        assert_eq!(parse_subordinate(file).len(), 3);
    }
}
