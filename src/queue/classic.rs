//! The classic queue: control flow between its parts.
//!
//! Implements AMQP 0-9-1 `basic.*` as RabbitMQ's classic queues do: FIFO, round
//! robin among consumers with credit, higher `x-priority` first, requeue to the
//! original position. Invariant: what was enqueued is ready, unsettled, settled
//! or purged, and exactly one of them.

use super::consumers::{Consumers, Taker};
use super::ready::{Queued, Ready};
use super::unsettled::{Held, Unsettled};
use super::{
    Cancelled, ConsumeRefused, ConsumerSlot, ConsumerSpec, Counts, Delivery, Got, Outcome,
    UnsettledSlot,
};
use crate::model::{Message, Now, QueueSettings};

/// A classic queue.
#[derive(Debug)]
pub struct Queue {
    settings: QueueSettings,
    ready: Ready,
    unsettled: Unsettled,
    consumers: Consumers,
    enqueued: u64,
    settled: u64,
    purged: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            ready: Ready::default(),
            unsettled: Unsettled::default(),
            consumers: Consumers::default(),
            enqueued: 0,
            settled: 0,
            purged: 0,
        }
    }

    /// What it was declared as.
    #[must_use]
    pub fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// How much there is of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.len() as u64,
            ready_bytes: self.ready.bytes(),
            unsettled: self.unsettled.len() as u64,
            consumers: self.consumers.len(),
            enqueued: self.enqueued,
            settled: self.settled,
            purged: self.purged,
        }
    }

    /// Appends the messages in order and leaves the vec empty, with its
    /// capacity, for reuse.
    pub fn publish(&mut self, messages: &mut Vec<Message>, _now: Now) {
        self.enqueued += messages.len() as u64;
        self.ready.append(messages);
        self.check();
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// An exclusive consumer and others exclude each other.
    pub fn consume(
        &mut self,
        spec: ConsumerSpec,
        _now: Now,
    ) -> Result<ConsumerSlot, ConsumeRefused> {
        self.consumers.add(spec)
    }

    /// Ends a consumer. Its unsettled messages stay out until they are settled
    /// (`basic.cancel`). `None` if it has ended before.
    pub fn cancel(&mut self, consumer: ConsumerSlot, _now: Now) -> Option<Cancelled> {
        let key = self.consumers.cancel(consumer)?;
        let delete_queue = self.settings.auto_delete && self.consumers.len() == 0;
        Some(Cancelled { key, delete_queue })
    }

    /// Leaves a consumer out until it is resumed: its outbox is full.
    pub fn park(&mut self, consumer: ConsumerSlot) {
        self.consumers.park(consumer);
    }

    /// Serves a consumer again: its outbox has room, or its channel has credit
    /// again.
    pub fn resume(&mut self, consumer: ConsumerSlot) {
        self.consumers.resume(consumer);
    }

    /// Takes the oldest ready message without being a consumer (`basic.get`).
    pub fn get(&mut self, no_ack: bool, _now: Now) -> Option<Got> {
        if !no_ack && self.unsettled.is_full() {
            return None;
        }
        let queued = self.ready.pop()?;
        self.ready.shrink();
        let redelivered = queued.redelivered();
        let (unsettled, message) = self.hand_out(queued, no_ack, None);
        self.check();
        Some(Got {
            message,
            unsettled,
            redelivered,
            ready_left: self.ready.len() as u64,
        })
    }

    /// Settles messages and gives their credit back. Slots that are not in use
    /// are passed over.
    pub fn settle(&mut self, slots: &[UnsettledSlot], outcome: Outcome, _now: Now) {
        // Credit goes back once for each run of messages of one consumer.
        let mut run: Option<(ConsumerSlot, u32)> = None;
        for &slot in slots {
            let Some(Held { queued, consumer }) = self.unsettled.remove(slot) else {
                continue;
            };
            match outcome {
                Outcome::Ack | Outcome::Discard => self.settled += 1,
                Outcome::Requeue { redelivered } => self.requeue(queued, redelivered),
            }
            let Some(consumer) = consumer else {
                continue;
            };
            run = match run {
                Some((same, count)) if same == consumer => Some((same, count + 1)),
                before => {
                    self.end_run(before);
                    Some((consumer, 1))
                }
            };
        }
        self.end_run(run);
        self.unsettled.shrink();
        self.check();
    }

    /// Hands out messages to consumers with credit that are not parked, until
    /// there is none of either or the messages come to `budget_bytes`, but at
    /// least one; appends them to `deliveries`. Whether more could go.
    pub fn deliver(
        &mut self,
        budget_bytes: usize,
        _now: Now,
        deliveries: &mut Vec<Delivery>,
    ) -> bool {
        let mut bytes = 0;
        let mut first = true;
        while !self.ready.is_empty() && (first || bytes < budget_bytes) {
            if self.unsettled.is_full() {
                return false;
            }
            let Some(Taker { slot, no_ack }) = self.consumers.take_turn() else {
                break;
            };
            let Some(queued) = self.ready.pop() else {
                break;
            };
            first = false;
            bytes += queued.message.stored_bytes();
            let redelivered = queued.redelivered();
            let (unsettled, message) = self.hand_out(queued, no_ack, Some(slot));
            deliveries.push(Delivery {
                consumer: slot,
                unsettled,
                message,
                redelivered,
            });
        }
        self.ready.shrink();
        self.check();
        !self.ready.is_empty() && self.consumers.any_able()
    }

    /// Drops the ready messages; how many there were.
    pub fn purge(&mut self) -> u64 {
        let count = self.ready.clear() as u64;
        self.ready.shrink();
        self.purged += count;
        self.check();
        count
    }

    /// The consumers, parked ones included.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerSlot, &ConsumerSpec)> {
        self.consumers.iter()
    }

    #[inline]
    fn hand_out(
        &mut self,
        queued: Queued,
        no_ack: bool,
        consumer: Option<ConsumerSlot>,
    ) -> (Option<UnsettledSlot>, Message) {
        if no_ack {
            self.settled += 1;
            return (None, queued.message);
        }
        let message = Message::clone(&queued.message);
        let slot = self.unsettled.insert(Held { queued, consumer });
        (Some(slot), message)
    }

    fn requeue(&mut self, mut queued: Queued, redelivered: bool) {
        if redelivered {
            queued.deliveries = queued.deliveries.saturating_add(1);
        }
        self.ready.put_back(queued);
    }

    fn end_run(&mut self, run: Option<(ConsumerSlot, u32)>) {
        if let Some((consumer, count)) = run {
            self.consumers.give_back(consumer, count);
        }
    }

    /// Messages for which the ready log and the unsettled ones have room.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> (usize, usize) {
        (self.ready.capacity(), self.unsettled.capacity())
    }

    fn check(&self) {
        debug_assert_eq!(
            self.ready.len() as u64 + self.unsettled.len() as u64,
            self.enqueued - self.settled - self.purged,
            "a message was lost or counted twice"
        );
    }
}
