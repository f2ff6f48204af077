//! When each message is due (no I/O, no clock).
//!
//! The messages of all producers together are spaced evenly: message `k` is due `k / rate`
//! seconds after the start, and producer `p` of `P` sends the messages `p, p + P, p + 2P …`.
//! A due time never moves: a producer that was held up sends what it missed at once, and
//! those messages keep the time at which they should have gone.

/// Hands out one producer's due times.
#[derive(Clone, Debug)]
pub struct Pacer {
    start_ns: u64,
    rate: u64,
    producers: u64,
    /// Number of the next message among those of all producers.
    next: u64,
    /// Messages per wake-up: 1 unless the rate is too high for that.
    batch: u64,
}

impl Pacer {
    /// The plan of one producer for `rate` messages per second of all `producers`.
    pub fn new(start_ns: u64, rate: u64, producer: u16, producers: u16) -> Self {
        let (rate, producers) = (rate.max(1), u64::from(producers.max(1)));
        Self {
            start_ns,
            rate,
            producers,
            next: u64::from(producer),
            batch: (WAKE_INTERVAL_NS * rate / (producers * NS_PER_S)).max(1),
        }
    }

    /// When the next message is due.
    #[inline]
    pub fn next_due_ns(&self) -> u64 {
        self.due_ns(self.next)
    }

    /// The next message's due time if it has come; that message is then spent.
    #[inline]
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_due_ns();
        (due_ns <= now_ns).then(|| {
            self.next += self.producers;
            due_ns
        })
    }

    /// When to wake up: the next due time, or at high rates that of the last message of a
    /// batch, as no thread can sleep for a microsecond.
    #[inline]
    pub fn wake_ns(&self) -> u64 {
        self.due_ns(self.next + (self.batch - 1) * self.producers)
    }

    fn due_ns(&self, number: u64) -> u64 {
        // In two steps, so that the product stays far below 2^64.
        let (seconds, rest) = (number / self.rate, number % self.rate);
        self.start_ns + seconds * NS_PER_S + rest * NS_PER_S / self.rate
    }
}

const NS_PER_S: u64 = 1_000_000_000;
/// Waking up more often than this costs more than the messages do.
const WAKE_INTERVAL_NS: u64 = 50_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_producers_alternate() {
        let mut first = Pacer::new(1_000, 4, 0, 2);
        let mut second = Pacer::new(1_000, 4, 1, 2);
        let late = 10 * NS_PER_S;
        let quarter = NS_PER_S / 4;
        for number in [0, 2, 4, 6] {
            assert_eq!(first.take_due(late), Some(1_000 + number * quarter));
            assert_eq!(second.take_due(late), Some(1_000 + (number + 1) * quarter));
        }
    }

    #[test]
    fn nothing_goes_early() {
        let mut pacer = Pacer::new(500, 1_000, 0, 1);
        assert_eq!(pacer.take_due(499), None);
        assert_eq!(pacer.take_due(500), Some(500));
        assert_eq!(pacer.take_due(1_000_499), None);
        assert_eq!(pacer.wake_ns(), 1_000_500);
    }

    #[test]
    fn what_was_missed_keeps_its_time() {
        let mut pacer = Pacer::new(0, 1_000, 0, 1);
        let missed: Vec<u64> = std::iter::from_fn(|| pacer.take_due(3_500_000)).collect();
        assert_eq!(missed, [0, 1_000_000, 2_000_000, 3_000_000]);
    }

    #[test]
    fn high_rates_wake_for_a_batch() {
        let pacer = Pacer::new(0, 1_000_000, 0, 1);
        assert_eq!(pacer.wake_ns(), 49_000);
        assert_eq!(pacer.next_due_ns(), 0);
    }

    proptest! {
        #[test]
        fn a_second_holds_the_rate(rate in 1u64..3_000_000, producers in 1u16..40, second in 0u64..100_000) {
            let producer = (rate % u64::from(producers)) as u16;
            let mut pacer = Pacer::new(0, rate, producer, producers);
            // The first number of this producer that falls into that second.
            pacer.next += (rate * second).div_ceil(u64::from(producers)) * u64::from(producers);
            let first_ns = pacer.next_due_ns();
            let per_producer = rate / u64::from(producers);
            pacer.next += per_producer * u64::from(producers);
            let elapsed = pacer.next_due_ns() - first_ns;
            let ideal = per_producer * u64::from(producers) * NS_PER_S / rate;
            prop_assert!(elapsed.abs_diff(ideal) <= 1);
        }
    }
}
