//! Messages that come back: to their place, to a later time, or as dead letters.

use super::classic::Queue;
use super::groups::{GroupKey, Rank};
use super::ready::Queued;
use crate::model::{
    CANCEL_HEADER, DeathReason, FieldValue, Growth, Message, Retry, RetryOf, Sequence,
};

impl Queue {
    /// Puts a message back that was handed out. `redelivered`: a client may have
    /// seen it. `refused`: it said so.
    pub(super) fn requeue(
        &mut self,
        mut queued: Queued,
        redelivered: bool,
        refused: bool,
        now: u64,
    ) {
        if !redelivered {
            self.put_back(queued);
            return;
        }
        queued.deliveries = queued.deliveries.saturating_add(1);
        let limit = self.rules.delivery_limit;
        if limit.is_some_and(|limit| queued.deliveries > limit) {
            self.bury(queued, DeathReason::DeliveryLimit);
            return;
        }
        let due = self
            .rules
            .retry
            .filter(|retry| applies(retry.of, refused))
            .map_or(0, |retry| {
                now + delay(&retry, queued.sequence, queued.deliveries)
            });
        self.journal
            .give_back(queued.sequence, queued.deliveries, due);
        if due > now {
            self.schedule.insert(due, queued);
        } else {
            self.put_back(queued);
        }
    }

    /// A message's time has come.
    pub(super) fn release(&mut self, due: u64, queued: Queued) {
        if let Some(groups) = &self.groups
            && let Some(key) = groups.key(&queued.message)
            && groups.is_held_by(key, queued.sequence)
        {
            self.put_back(queued);
            return;
        }
        // What its publisher scheduled comes in the order of its time; what was
        // tried before has its place.
        if queued.message.deliver_at() == Some(due) {
            self.backlog.release(queued);
        } else {
            self.backlog.put_back(queued);
        }
    }

    /// Takes back the scheduled messages that `message` names.
    pub(super) fn cancel_scheduled(&mut self, message: &Message) {
        let Some(FieldValue::LongStr(id)) = message.header_value(CANCEL_HEADER) else {
            return;
        };
        for place in self.schedule.cancel(&id) {
            self.take_back(place);
        }
    }

    /// The scheduled message in that place is taken back.
    pub(super) fn take_back(&mut self, place: Sequence) {
        self.settled += 1;
        self.journal.settle(place);
        self.backlog.forget(place);
        self.free_group_of(place);
    }

    /// Finds the next message whose group is free; those before it are set aside.
    #[cold]
    pub(super) fn line_up(&mut self) -> Option<Lined> {
        let groups = self.groups.as_mut()?;
        loop {
            let aside = groups.first();
            let Some(rank) = self.backlog.next_rank() else {
                return aside.map(Lined::Aside);
            };
            if let Some(first) = aside
                && first < rank
            {
                return Some(Lined::Aside(first));
            }
            let Some(key) = groups.key(self.backlog.peek()?) else {
                return Some(Lined::Head(None));
            };
            if !groups.is_held(key) {
                return Some(Lined::Head(Some(key)));
            }
            if groups.is_full() {
                return aside.map(Lined::Aside);
            }
            let queued = self.backlog.pop()?;
            let of_queue = self.rules.message_ttl;
            let deadline = super::deadlines::deadline(&queued.message, of_queue);
            groups.set_aside(key, rank, queued, deadline);
        }
    }

    /// Takes out the next message whose group is free.
    #[cold]
    pub(super) fn take_next_of_groups(&mut self) -> Option<Queued> {
        match self.line_up()? {
            Lined::Aside(rank) => self.groups.as_mut()?.take(rank),
            Lined::Head(key) => {
                let queued = self.backlog.pop()?;
                if let Some(key) = key {
                    self.groups.as_mut()?.hold(key, queued.sequence);
                }
                Some(queued)
            }
        }
    }

    /// The next message that could be handed out.
    #[cold]
    pub(super) fn peek_next(&mut self) -> Option<&Message> {
        if self.groups.is_none() {
            return self.backlog.peek();
        }
        match self.line_up()? {
            Lined::Aside(rank) => self.groups.as_ref()?.message(rank),
            Lined::Head(_) => self.backlog.peek(),
        }
    }

    /// Takes out the message at the head, whatever its group.
    pub(super) fn take_head(&mut self) -> Option<Queued> {
        let aside = self.groups.as_ref().and_then(|groups| groups.first_rank());
        match (aside, self.backlog.next_rank()) {
            (Some(aside), head) if head.is_none_or(|head| aside < head) => {
                self.groups.as_mut()?.take_out(aside)
            }
            _ => self.backlog.pop(),
        }
    }

    /// The message does not hold its group any more.
    #[cold]
    pub(super) fn free_group(&mut self, queued: &Queued) {
        if let Some(groups) = &mut self.groups
            && let Some(key) = groups.key(&queued.message)
        {
            groups.free(key, queued.sequence);
        }
    }

    /// The message in that place is gone without having been looked at.
    #[cold]
    pub(super) fn free_group_of(&mut self, place: Sequence) {
        if let Some(groups) = &mut self.groups {
            groups.free_place(place);
        }
    }

    /// Until when a restored message has to wait, if it has.
    pub(super) fn due_of_restored(
        &self,
        place: Sequence,
        message: &Message,
        now: u64,
    ) -> Option<u64> {
        let known = self.backlog.due_before_restart(place);
        let due = if known > 0 {
            known
        } else {
            message.deliver_at()?
        };
        (due > now).then_some(due)
    }

    pub(super) fn schedule_restored(&mut self, due: u64, sequence: Sequence, message: Message) {
        let is_retry = self.backlog.due_before_restart(sequence) > 0;
        let queued = Queued {
            sequence,
            message,
            deliveries: self.backlog.recall(sequence),
        };
        if is_retry {
            self.wait_again(due, queued);
        } else {
            self.schedule.insert(due, queued);
        }
    }

    /// A message waits again that did so before the restart.
    pub(super) fn wait_again(&mut self, due: u64, queued: Queued) {
        if let Some(groups) = &mut self.groups
            && let Some(key) = groups.key(&queued.message)
        {
            groups.hold(key, queued.sequence);
        }
        self.schedule.insert(due, queued);
    }

    fn put_back(&mut self, queued: Queued) {
        if let Some(groups) = &mut self.groups
            && let Some(key) = groups.key(&queued.message)
        {
            let level = self.backlog.level(&queued.message);
            let rank = (u8::MAX - level, self.backlog.position(queued.sequence));
            let place = queued.sequence;
            let deadline = super::deadlines::deadline(&queued.message, self.rules.message_ttl);
            groups.set_aside(key, rank, queued, deadline);
            groups.free(key, place);
            return;
        }
        self.backlog.put_back(queued);
    }
}

/// Where the next message is whose group is free.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lined {
    /// It was set aside.
    Aside(Rank),
    /// At the head of the backlog; its group, if it has one.
    Head(Option<GroupKey>),
}

fn applies(of: RetryOf, refused: bool) -> bool {
    match of {
        RetryOf::All => true,
        RetryOf::Failed => refused,
        RetryOf::Returned => !refused,
    }
}

/// How long a message waits that came back for the `deliveries`-th time. The
/// jitter is drawn from its place, so that the same things always happen in the
/// same way.
fn delay(retry: &Retry, place: Sequence, deliveries: u32) -> u64 {
    let tries = deliveries.saturating_sub(1).min(1_000);
    let grown = retry.delay as f64
        * match retry.growth {
            Growth::Factor(factor) => f64::from(factor).powi(tries as i32),
            Growth::Linear => f64::from(tries) + 1.0,
        };
    let capped = grown.min(retry.max_delay as f64);
    let spread = scatter(place.0 ^ (u64::from(deliveries) << 48));
    let jittered = capped * (1.0 + f64::from(retry.jitter) * (2.0 * spread - 1.0));
    // Negative and infinite numbers saturate.
    (jittered as u64).min(retry.max_delay)
}

/// A number from 0 to 1 that says nothing about its neighbours' (SplitMix64).
fn scatter(seed: u64) -> f64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(jitter: f32) -> Retry {
        Retry {
            delay: 1_000,
            growth: Growth::Factor(2.0),
            max_delay: 10_000,
            jitter,
            of: RetryOf::All,
        }
    }

    #[test]
    fn each_try_waits_twice_as_long_up_to_a_limit() {
        let delays: Vec<u64> = (1..=6)
            .map(|tries| delay(&retry(0.0), Sequence(5), tries))
            .collect();
        assert_eq!(delays, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn jitter_spreads_what_failed_together() {
        let delays: Vec<u64> = (0..1_000)
            .map(|place| delay(&retry(0.5), Sequence(place), 2))
            .collect();
        assert!(delays.iter().all(|delay| (1_000..=3_000).contains(delay)));
        let early = delays.iter().filter(|delay| **delay < 2_000).count();
        assert!((400..600).contains(&early), "{early} of 1000 come early");
    }
}
