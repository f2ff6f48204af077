//! The limit that `basic.qos` with `global` sets: one for all consumers of a
//! channel, whatever queues they read. Queues run in parallel, so the count is
//! atomic; a queue that finds nothing left skips the consumer, and whoever
//! gives credit back resumes the channel's consumers afterwards.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A limit shared by all consumers of one channel (`basic.qos` with `global`),
/// whatever queues they read. Created with each channel, so that the limit can
/// be set, changed and lifted while consumers run.
///
/// Deliveries count while there is no limit too: one that is set later holds
/// for what is out already. `basic.get` and consumers without ack do not count.
#[derive(Debug, Default)]
pub struct ChannelCredit {
    /// 0 is unlimited.
    limit: AtomicU32,
    held: AtomicU32,
    /// A consumer found no credit.
    short: AtomicBool,
}

// Whoever finds no credit says so and then looks once more; whoever gives credit
// back looks for that afterwards. In the one order of sequentially consistent
// operations one of the two sees the other, so that nobody waits in vain.
impl ChannelCredit {
    /// Deliveries that the channel's consumers may hold together; 0 is unlimited.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::SeqCst)
    }

    /// Sets the limit; 0 lifts it. Where more is held already, nothing is
    /// delivered until it has fallen below. The channel's consumers are to be
    /// resumed afterwards.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Deliveries that are held.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::SeqCst)
    }

    /// Takes credit for one delivery; false if there is none, which is
    /// remembered for [`ChannelCredit::was_short`].
    #[must_use]
    pub fn take(&self) -> bool {
        if self.try_take() {
            return true;
        }
        self.short.store(true, Ordering::SeqCst);
        self.try_take()
    }

    /// Takes credit for up to `wanted` deliveries; for how many.
    #[must_use]
    pub fn take_up_to(&self, wanted: u32) -> u32 {
        let limit = self.limit();
        if limit == 0 {
            self.held.fetch_add(wanted, Ordering::SeqCst);
            return wanted;
        }
        let mut taken = 0;
        let _held = self
            .held
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                taken = wanted.min(limit.saturating_sub(held));
                Some(held + taken)
            });
        taken
    }

    /// Gives back the credit of `count` deliveries. Where the credit
    /// [was short](ChannelCredit::was_short), the channel's consumers are to be
    /// resumed afterwards.
    pub fn give_back(&self, count: u32) {
        let held = self.held.fetch_sub(count, Ordering::SeqCst);
        debug_assert!(held >= count, "credit was given back that nobody took");
    }

    /// Whether a consumer found no credit since this was asked last.
    #[must_use]
    pub fn was_short(&self) -> bool {
        self.short.load(Ordering::SeqCst) && self.short.swap(false, Ordering::SeqCst)
    }

    fn try_take(&self) -> bool {
        let limit = self.limit();
        if limit == 0 {
            self.held.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        self.held
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                (held < limit).then_some(held + 1)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_found_nothing_left_is_remembered_once() {
        let credit = ChannelCredit::default();
        credit.set_limit(1);
        assert!(credit.take() && !credit.was_short());
        assert!(!credit.take());
        credit.give_back(1);
        assert!(credit.was_short() && !credit.was_short());
    }

    #[test]
    fn no_more_than_the_limit_is_taken() {
        let credit = ChannelCredit::default();
        credit.set_limit(2);
        assert!(credit.take());
        assert!(credit.take());
        assert!(!credit.take());
        credit.give_back(1);
        assert!(credit.take());
    }

    #[test]
    fn a_limit_set_later_counts_what_is_out() {
        let credit = ChannelCredit::default();
        assert!((0..5).all(|_| credit.take()), "0 is unlimited");
        credit.set_limit(5);
        assert!(!credit.take());
        credit.set_limit(0);
        assert!(credit.take());
        assert_eq!(credit.held(), 6);
    }
}
