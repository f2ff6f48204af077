//! From the queue to the outboxes of its consumers.

use std::sync::Arc;

use crate::model::Now;
use crate::queue::{ConsumerSlot, Delivery};

use super::super::Wakes;
use super::{QueueHost, Reader, State};

impl QueueHost {
    /// Moves deliveries from the queue to the outboxes until nobody can take
    /// more.
    pub(super) fn hand_out(self: &Arc<Self>, state: &mut State, now: Now, wakes: &mut Wakes) {
        let State {
            queue,
            readers,
            deliveries,
            ..
        } = state;
        let counts = queue.rules().counts_deliveries();
        loop {
            let more = queue.deliver(HAND_OUT_BYTES, now, deliveries);
            let Some(first) = deliveries.first().map(|one| one.consumer) else {
                break;
            };
            if let Some(storage) = &self.storage {
                storage.hand_out(deliveries.len());
            }
            for delivery in &mut *deliveries {
                self.dress(&mut delivery.message, delivery.deliveries, counts);
            }
            let full = |consumer| queue.park(consumer);
            if deliveries.iter().all(|one| one.consumer == first) {
                self.send(readers, first, deliveries, full, wakes);
            } else {
                self.send_to_several(readers, deliveries, full, wakes);
            }
            if !more {
                break;
            }
        }
    }

    /// Puts deliveries into the outbox of the one consumer that they are for.
    fn send(
        self: &Arc<Self>,
        readers: &[Option<Reader>],
        consumer: ConsumerSlot,
        deliveries: &mut Vec<Delivery>,
        full: impl FnOnce(ConsumerSlot),
        wakes: &mut Wakes,
    ) {
        let Some(Some(reader)) = readers.get(consumer.0 as usize) else {
            debug_assert!(false, "deliveries to a consumer that is not there");
            deliveries.clear();
            return;
        };
        let (serial, outbox) = (reader.serial, &reader.outbox);
        if !outbox.deliver(serial, deliveries, self, consumer, wakes) {
            full(consumer);
        }
    }

    /// Puts deliveries into their consumers' outboxes, in one piece for each.
    fn send_to_several(
        self: &Arc<Self>,
        readers: &mut [Option<Reader>],
        deliveries: &mut Vec<Delivery>,
        mut full: impl FnMut(ConsumerSlot),
        wakes: &mut Wakes,
    ) {
        let (mut first, mut end) = (usize::MAX, 0);
        for delivery in deliveries.drain(..) {
            let index = delivery.consumer.0 as usize;
            let Some(Some(reader)) = readers.get_mut(index) else {
                debug_assert!(false, "a delivery to a consumer that is not there");
                continue;
            };
            reader.staged.push(delivery);
            (first, end) = (first.min(index), end.max(index + 1));
        }
        for (index, reader) in readers.iter_mut().enumerate().take(end).skip(first) {
            let Some(reader) = reader.as_mut().filter(|one| !one.staged.is_empty()) else {
                continue;
            };
            let consumer = ConsumerSlot(index as u32);
            let (serial, staged) = (reader.serial, &mut reader.staged);
            if !reader.outbox.deliver(serial, staged, self, consumer, wakes) {
                full(consumer);
            }
        }
    }
}

/// How much one round hands out before full outboxes are looked at.
const HAND_OUT_BYTES: usize = 64 * 1024;
