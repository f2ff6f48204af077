//! What the model knows without asking the queue.

use super::{Run, State};
use crate::queue::UnsettledSlot;

impl Run {
    pub(super) fn something_can_go(&self) -> bool {
        let at_hand = self.oldest_ready().is_some() && self.queue.head_missing().is_none();
        at_hand && self.consumers.keys().any(|slot| self.can_take(*slot))
    }

    pub(super) fn can_take(&self, slot: u32) -> bool {
        let consumer = &self.consumers[&slot];
        let held = self.count(|state| {
            matches!(state, State::Unsettled { consumer: Some(serial), .. } if serial == consumer.serial)
        });
        let channel_has_credit = consumer.channel.is_none_or(|channel| {
            let limit = self.channels[channel].limit;
            limit == 0 || self.held_by_channel(channel) < limit
        });
        !consumer.parked
            && (consumer.no_ack
                || channel_has_credit
                    && consumer
                        .prefetch
                        .is_none_or(|prefetch| held < u64::from(prefetch)))
    }

    pub(super) fn held_by_channel(&self, of: usize) -> u32 {
        self.count(|state| matches!(state, State::Unsettled { channel, .. } if channel == Some(of)))
            as u32
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = UnsettledSlot> {
        self.messages.iter().filter_map(|entry| match entry.state {
            State::Unsettled { slot, .. } => Some(slot),
            _ => None,
        })
    }

    pub(super) fn oldest_ready(&self) -> Option<usize> {
        self.messages
            .iter()
            .position(|entry| entry.state == State::Ready)
    }

    pub(super) fn count(&self, matches: impl Fn(State) -> bool) -> u64 {
        self.messages
            .iter()
            .filter(|entry| matches(entry.state))
            .count() as u64
    }

    pub(super) fn pick_consumer(&self, pick: usize) -> Option<u32> {
        let slots: Vec<u32> = self.consumers.keys().copied().collect();
        (!slots.is_empty()).then(|| slots[pick % slots.len()])
    }
}
