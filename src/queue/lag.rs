//! How far behind a queue's consumers are: how long messages waited, how long
//! consumers held them, and who holds some without getting anywhere.
//!
//! Samples are taken, because every message would cost too much: of each
//! delivery in one go the first and the last message stand for all of it, and
//! of those that are held one at a time is followed.

use crate::model::{ConsumerKey, Message};

use super::UnsettledSlot;

/// How long something took: so many times below each bound. Bound N is 2^N
/// milliseconds; the last bucket has the rest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    /// The counts, by bound.
    pub buckets: [u64; BUCKETS],
}

/// How far behind a queue's consumers are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LagReport {
    /// Milliseconds since the oldest ready message came; `None` if there is
    /// none, or if it has to be read first.
    pub oldest_age: Option<u64>,
    /// How long messages waited before they were delivered.
    pub in_queue: Histogram,
    /// How long consumers took to settle them.
    pub to_settle: Histogram,
    /// Consumers that hold messages and have settled none for a while.
    pub stalled: Vec<StalledConsumer>,
}

/// A consumer that holds messages without settling any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StalledConsumer {
    /// Who it is.
    pub key: ConsumerKey,
    /// How many it holds.
    pub held: u32,
    /// For how many milliseconds it has settled none.
    pub since: u64,
}

/// What a queue measures.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Half a kilobyte that a queue without traffic can do without.
    histograms: Option<Box<Histograms>>,
    /// The message that is followed, and when it was handed out.
    followed: Option<(UnsettledSlot, u64)>,
}

#[derive(Debug, Default)]
struct Histograms {
    in_queue: Histogram,
    to_settle: Histogram,
}

impl Histogram {
    /// Counts something that took so many milliseconds, as often as that.
    pub(super) fn add(&mut self, milliseconds: u64, times: u64) {
        let bound = (u64::BITS - milliseconds.leading_zeros()) as usize;
        if let Some(count) = self.buckets.get_mut(bound.min(BUCKETS - 1)) {
            *count += times;
        }
    }
}

impl Lag {
    /// So many messages were delivered in one go.
    pub(super) fn delivered(&mut self, first: &Message, last: &Message, count: usize, now: u64) {
        let half = (count / 2) as u64;
        for (message, times) in [(first, count as u64 - half), (last, half)] {
            let arrived = message.arrived();
            if arrived > 0 {
                let histograms = self.histograms.get_or_insert_default();
                histograms.in_queue.add(now.saturating_sub(arrived), times);
            }
        }
    }

    /// A consumer holds that message from now on.
    #[inline]
    pub(super) fn held(&mut self, slot: UnsettledSlot, now: u64) {
        if self.followed.is_none() {
            self.followed = Some((slot, now));
        }
    }

    /// That message is settled.
    #[inline]
    pub(super) fn settled(&mut self, slot: UnsettledSlot, now: u64) {
        if let Some((followed, since)) = self.followed
            && followed == slot
        {
            let histograms = self.histograms.get_or_insert_default();
            histograms.to_settle.add(now.saturating_sub(since), 1);
            self.followed = None;
        }
    }

    pub(super) fn in_queue(&self) -> Histogram {
        let histograms = self.histograms.as_ref();
        histograms.map_or_else(Histogram::default, |both| both.in_queue)
    }

    pub(super) fn to_settle(&self) -> Histogram {
        let histograms = self.histograms.as_ref();
        histograms.map_or_else(Histogram::default, |both| both.to_settle)
    }
}

/// Up to 2^30 milliseconds, twelve days, and what is above.
const BUCKETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_by_powers_of_two() {
        let mut histogram = Histogram::default();
        for milliseconds in [0, 1, 2, 3, 4, 1_000, u64::MAX] {
            histogram.add(milliseconds, 1);
        }
        let counted: Vec<_> = histogram
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bound, count)| (bound, *count))
            .collect();
        assert_eq!(counted, [(0, 1), (1, 1), (2, 2), (3, 1), (10, 1), (31, 1)]);
    }
}
