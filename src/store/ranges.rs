//! Sets of places, kept as the ranges that they form.
//!
//! A queue settles mostly in order, so its settled places are one range and a
//! few beside it, however many messages went through.

use std::collections::BTreeMap;

use crate::model::{Sequence, SequenceRange};

/// A set of [`Sequence`]s. Ranges neither overlap nor touch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct RangeSet {
    /// The end of each range by its first place.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a range; what of it is there already is fine.
    pub(super) fn insert(&mut self, range: SequenceRange) {
        let (mut first, mut end) = (range.first.0, range.end.0);
        if first >= end {
            return;
        }
        // The common case: it goes on where the last one ended.
        if let Some(mut last) = self.ranges.last_entry()
            && *last.key() <= first
            && *last.get() >= first
        {
            let until = last.get_mut();
            *until = end.max(*until);
            return;
        }
        if let Some((&before, &until)) = self.ranges.range(..=first).next_back()
            && until >= first
        {
            if until >= end {
                return;
            }
            first = before;
            end = end.max(until);
        }
        while let Some((&next, &until)) = self.ranges.range(first..=end).next() {
            end = end.max(until);
            self.ranges.remove(&next);
        }
        self.ranges.insert(first, end);
    }

    /// Whether all of a range is in the set; an empty one always is.
    pub(super) fn contains_all(&self, range: SequenceRange) -> bool {
        range.first.0 >= range.end.0
            || self
                .ranges
                .range(..=range.first.0)
                .next_back()
                .is_some_and(|(_, &until)| until >= range.end.0)
    }

    /// Whether any place of a range is in the set.
    pub(super) fn contains_any(&self, range: SequenceRange) -> bool {
        range.count() > 0 && self.gaps(range).next() != Some(range)
    }

    /// Whether one place is in the set.
    pub(super) fn contains(&self, place: Sequence) -> bool {
        self.contains_all(SequenceRange::new(place, 1))
    }

    /// The parts of a range that are not in the set, in order.
    pub(super) fn gaps(&self, range: SequenceRange) -> impl Iterator<Item = SequenceRange> {
        let (mut at, end) = (range.first.0, range.end.0);
        let before = self.ranges.range(..=at).next_back();
        let inside = self
            .ranges
            .range(at.saturating_add(1)..end.max(at.saturating_add(1)));
        let mut covered = before.into_iter().chain(inside);
        std::iter::from_fn(move || {
            loop {
                if at >= end {
                    return None;
                }
                let Some((&first, &until)) = covered.next() else {
                    let gap = (at, end);
                    at = end;
                    return Some(gap);
                };
                let gap = (at, first.min(end));
                at = at.max(until);
                if gap.0 < gap.1 {
                    return Some(gap);
                }
            }
        })
        .map(|(first, end)| SequenceRange {
            first: Sequence(first),
            end: Sequence(end),
        })
    }

    /// How many places of a range are not in the set.
    pub(super) fn missing(&self, range: SequenceRange) -> u64 {
        self.gaps(range).map(SequenceRange::count).sum()
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = SequenceRange> {
        self.ranges.iter().map(|(&first, &end)| SequenceRange {
            first: Sequence(first),
            end: Sequence(end),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, count: u64) -> SequenceRange {
        SequenceRange::new(Sequence(first), count)
    }

    proptest! {
        #[test]
        fn is_what_a_set_of_places_is(
            inserted in prop::collection::vec((0_u64..60, 0_u64..12), 0..40),
            asked in prop::collection::vec((0_u64..70, 0_u64..20), 1..20),
        ) {
            let (mut set, mut naive) = (RangeSet::default(), BTreeSet::new());
            for (first, count) in inserted {
                set.insert(range(first, count));
                naive.extend(first..first + count);
            }
            for (first, count) in asked {
                let missing: Vec<u64> =
                    (first..first + count).filter(|place| !naive.contains(place)).collect();
                prop_assert_eq!(set.contains_all(range(first, count)), missing.is_empty());
                prop_assert_eq!(set.missing(range(first, count)), missing.len() as u64);
                let any = (missing.len() as u64) < count;
                prop_assert_eq!(set.contains_any(range(first, count)), any);
                let gaps: Vec<u64> = set
                    .gaps(range(first, count))
                    .flat_map(|gap| gap.first.0..gap.end.0)
                    .collect();
                prop_assert_eq!(gaps, missing);
            }
            let ranges: Vec<_> = set.iter().collect();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end < pair[1].first, "they touch: {:?}", pair);
            }
        }
    }
}
