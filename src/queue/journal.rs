//! What a store has to know of a queue: which messages are gone, which came
//! back, which pages nobody reads any more.
//!
//! Only a durable queue writes down what becomes of its messages; pages are
//! given back whatever the queue is.

use super::ready::Places;
use crate::model::{Page, Sequence, SequenceRange};

/// What happened since the host drained it last.
///
/// Every message that leaves a durable queue by a settlement, by a delivery
/// that needs none or by a purge is in `settled` once. One that came back and
/// left after that is in both lists: `settled` has the last word.
#[derive(Debug)]
pub struct Journal {
    /// Messages that are gone. The range of a purge may cover places that hold
    /// no message any more: the gaps of a restored queue and what was lost.
    pub settled: Vec<SequenceRange>,
    /// Messages that were requeued and that a client may have seen.
    pub returned: Vec<Returned>,
    /// Pages that the queue will not ask for again, each once. What of them is
    /// not settled is in memory, and still has to survive a restart.
    pub freed: Vec<Page>,
    durable: bool,
}

/// A message that came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Returned {
    /// Where it is.
    pub place: Sequence,
    /// How often it was delivered by now.
    pub deliveries: u32,
    /// Until when it has to wait, in milliseconds since 1970; 0 if it has not.
    pub due: u64,
}

impl Journal {
    pub(super) fn new(durable: bool) -> Self {
        Self {
            settled: Vec::new(),
            returned: Vec::new(),
            freed: Vec::new(),
            durable,
        }
    }

    /// Whether there is nothing to do for the store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.returned.is_empty() && self.freed.is_empty()
    }

    /// Forgets all that was noted.
    pub fn clear(&mut self) {
        self.settled.clear();
        self.returned.clear();
        self.freed.clear();
    }

    /// The message in that place is gone.
    #[inline]
    pub(super) fn settle(&mut self, place: Sequence) {
        if self.durable {
            self.settle_range(SequenceRange::new(place, 1));
        }
    }

    /// The messages in those places are gone.
    pub(super) fn settle_places(&mut self, places: Places<'_>) {
        match places {
            Places::Range(range) => self.settle_range(range),
            listed if self.durable => listed.for_each(|place| self.settle(place)),
            Places::Listed(_) => {}
        }
    }

    /// The messages in those places are gone.
    pub(super) fn settle_range(&mut self, range: SequenceRange) {
        if !self.durable || range.count() == 0 {
            return;
        }
        match self.settled.last_mut() {
            Some(last) if last.end == range.first => last.end = range.end,
            _ => self.settled.push(range),
        }
    }

    /// The message in that place came back.
    pub(super) fn give_back(&mut self, place: Sequence, deliveries: u32, due: u64) {
        if self.durable {
            self.returned.push(Returned {
                place,
                deliveries,
                due,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_follow_each_other_are_one_range() {
        let mut journal = Journal::new(true);
        for place in [3, 4, 5, 7, 8, 6] {
            journal.settle(Sequence(place));
        }
        journal.settle_range(SequenceRange::new(Sequence(7), 0));
        let range = |first, count| SequenceRange::new(Sequence(first), count);
        assert_eq!(journal.settled, [range(3, 3), range(7, 2), range(6, 1)]);
    }

    #[test]
    fn a_queue_that_does_not_last_notes_nothing() {
        let mut journal = Journal::new(false);
        journal.settle(Sequence(0));
        journal.settle_range(SequenceRange::new(Sequence(1), 9));
        journal.give_back(Sequence(10), 1, 0);
        assert!(journal.is_empty());
    }
}
