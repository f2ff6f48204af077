//! Deliveries of many messages in one go, where they are all alike: what most
//! queues do most of the time.
//!
//! A run is what a consumer that shares its turn with nobody takes of messages
//! that have to be looked at for nothing. It is the same as taking them one by
//! one, which [`Queue::deliver`] does with all others.

use super::ready::Queued;
use super::unsettled::{Held, Holder};
use super::{Delivery, Queue};
use crate::model::Message;

impl Queue {
    /// Hands out messages that come to about `budget_bytes`, at least one; to how
    /// many octets they come. `None` if the next message has to be looked at by
    /// itself, or there is none, or nobody to take it.
    pub(super) fn deliver_run(
        &mut self,
        budget_bytes: usize,
        now: u64,
        deliveries: &mut Vec<Delivery>,
    ) -> Option<usize> {
        let one_by_one = self.groups.is_some()
            || self.rules.message_ttl.is_some()
            || self.rules.consumer_timeout.is_some();
        if one_by_one {
            return None;
        }
        let (taker, room) = self.consumers.alone_in_turn()?;
        let room = room.min(self.unsettled.room()) as usize;
        let (mut count, mut size) = self.backlog.run_at_hand(room, budget_bytes);
        if count == 0 {
            return None;
        }
        let consumer = taker.slot;
        if taker.no_ack {
            let journal = &mut self.journal;
            self.backlog.take_run((count, size), |places, messages| {
                deliveries.extend(messages.map(|message| Delivery {
                    consumer,
                    unsettled: None,
                    message,
                    deliveries: 0,
                }));
                journal.settle_places(places);
            });
            self.settled += count as u64;
            return Some(size.stored_bytes as usize);
        }
        let taken = self.consumers.take_turns(consumer, count as u32, now) as usize;
        if taken < count {
            (count, size) = self.backlog.run_at_hand(taken, budget_bytes);
        }
        if taken == 0 {
            return None;
        }
        let (unsettled, lag) = (&mut self.unsettled, &mut self.lag);
        self.backlog.take_run((count, size), |places, messages| {
            deliveries.extend(messages.zip(places).map(|(message, place)| {
                let held = Held {
                    queued: Queued::new(place, Message::clone(&message)),
                    holder: Holder::Consumer(consumer),
                };
                let slot = unsettled.insert(held);
                lag.held(slot, now);
                Delivery {
                    consumer,
                    unsettled: Some(slot),
                    message,
                    deliveries: 0,
                }
            }));
        });
        Some(size.stored_bytes as usize)
    }
}
