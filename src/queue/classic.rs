//! The classic queue: control flow between its parts.
//!
//! Implements AMQP 0-9-1 `basic.*` as RabbitMQ's classic queues do: FIFO, round
//! robin among consumers with credit, higher `x-priority` first, requeue to the
//! original position. Invariant: what was enqueued is ready, unsettled, settled,
//! purged or lost, and exactly one of them.

use super::consumers::{Consumers, Taker};
use super::paging::Limits;
use super::ready::{Queued, Ready};
use super::unsettled::{Held, Unsettled};
use super::{
    Cancelled, ConsumeRefused, ConsumerSlot, ConsumerSpec, Counts, DeadLetter, Delivery, Get, Got,
    Journal, Loaded, Outcome, PageIn, PageOut, Published, Restored, UnsettledSlot,
};
use crate::model::{DeathReason, Message, Now, Page, QueueRules, QueueSettings, Sequence};

/// A classic queue.
#[derive(Debug)]
pub struct Queue {
    settings: QueueSettings,
    ready: Ready,
    unsettled: Unsettled,
    consumers: Consumers,
    journal: Journal,
    rules: QueueRules,
    letters: Vec<DeadLetter>,
    enqueued: u64,
    settled: u64,
    purged: u64,
    lost: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: QueueSettings) -> Self {
        Self::restore(settings, Restored::default())
    }

    /// A queue as the store kept it: all its messages are ready.
    #[must_use]
    pub fn restore(settings: QueueSettings, restored: Restored) -> Self {
        Self::with_limits(settings, restored, Limits::default())
    }

    pub(super) fn with_limits(settings: QueueSettings, restored: Restored, limits: Limits) -> Self {
        let mut journal = Journal::new(settings.durable);
        let ready = Ready::restore(restored, limits, &mut journal);
        let rules = settings.rules.clone();
        Self {
            settings,
            enqueued: ready.len(),
            ready,
            unsettled: Unsettled::default(),
            consumers: Consumers::default(),
            journal,
            rules,
            letters: Vec::new(),
            settled: 0,
            purged: 0,
            lost: 0,
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
            ready: self.ready.len(),
            ready_bytes: self.ready.bytes(),
            unsettled: self.unsettled.len() as u64,
            consumers: self.consumers.len(),
            enqueued: self.enqueued,
            settled: self.settled,
            purged: self.purged,
            lost: self.lost,
        }
    }

    /// Appends the messages in order and leaves the vec empty, with its
    /// capacity, for reuse. The place of the first one; the others follow.
    pub fn publish(&mut self, messages: &mut Vec<Message>, _now: Now) -> Published {
        self.enqueued += messages.len() as u64;
        let first = self.ready.append(messages);
        self.check();
        Published {
            first,
            unplaced: Vec::new(),
        }
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
    pub fn get(&mut self, no_ack: bool, _now: Now) -> Get {
        if !no_ack && self.unsettled.is_full() {
            return Get::Empty;
        }
        let Some(queued) = self.ready.pop() else {
            return self.ready.missing().map_or(Get::Empty, Get::Missing);
        };
        self.ready.shrink();
        let redelivered = queued.redelivered();
        let (unsettled, message) = self.hand_out(queued, no_ack, None);
        self.check();
        Get::Message(Got {
            message,
            unsettled,
            redelivered,
            ready_left: self.ready.len(),
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
                Outcome::Discard if self.rules.dead_letter_exchange.is_some() => {
                    let message = Message::clone(&queued.message);
                    let held = Held {
                        queued,
                        consumer: None,
                    };
                    self.letters.push(DeadLetter {
                        slot: self.unsettled.insert(held),
                        message,
                        reason: DeathReason::Rejected,
                    });
                }
                Outcome::Ack | Outcome::Discard => {
                    self.settled += 1;
                    self.journal.settle(queued.sequence);
                }
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
    /// least one; appends them to `deliveries`. Whether more could go: messages
    /// that have to be read first cannot.
    pub fn deliver(
        &mut self,
        budget_bytes: usize,
        _now: Now,
        deliveries: &mut Vec<Delivery>,
    ) -> bool {
        let mut bytes = 0;
        let mut first = true;
        while (first || bytes < budget_bytes) && self.ready.at_hand() {
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
        self.ready.at_hand() && self.consumers.any_able()
    }

    /// Drops the ready messages, also those that are not in memory; how many
    /// there were.
    pub fn purge(&mut self) -> u64 {
        let count = self.ready.clear(&mut self.journal);
        self.ready.shrink();
        self.purged += count;
        self.check();
        count
    }

    /// The rules that it goes by.
    #[must_use]
    pub fn rules(&self) -> &QueueRules {
        &self.rules
    }

    /// Goes by other rules from now on: a policy has changed.
    pub fn set_rules(&mut self, rules: QueueRules, _now: Now) {
        self.rules = rules;
    }

    /// Messages that died since this was asked last; the host asks after each
    /// command.
    pub fn letters(&mut self) -> &mut Vec<DeadLetter> {
        &mut self.letters
    }

    /// What the store has to know; the host drains it after each command.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Octets of memory of the ready messages that are in memory, about.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.ready.resident_bytes()
    }

    /// The oldest run that can leave memory and is not being written yet; what
    /// is delivered next stays. The run that still takes messages is closed for
    /// it only if `partial`. Several may be out at a time.
    pub fn page_out(&mut self, partial: bool) -> Option<PageOut> {
        self.ready.page_out(partial)
    }

    /// The run that begins with `first` was written to that page; `None` if it
    /// could not be: it stays and may be asked for again. Whether the page is
    /// kept. Otherwise its messages stay in memory, or are gone, and the caller
    /// frees it.
    ///
    /// Runs leave in their order: the page of one is refused while an older one
    /// is in memory.
    pub fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> bool {
        self.ready.paged_out(first, page)
    }

    /// The next run to read, while less is at hand than consumers may soon
    /// need; asked in a loop after each command that takes messages.
    #[inline]
    pub fn page_wanted(&mut self) -> Option<PageIn> {
        self.ready.page_wanted()
    }

    /// The run without which no message can be taken, though some are ready. It
    /// may be on its way already ([`Queue::page_wanted`]); to read it twice does
    /// no harm.
    #[must_use]
    pub fn head_missing(&self) -> Option<PageIn> {
        self.ready.missing()
    }

    /// The run that begins with `first` was read, as far as it could be; the
    /// rest of it is lost. Its page is freed by the [`Journal`]. A run that was
    /// purged or read meanwhile is ignored.
    pub fn paged_in(&mut self, first: Sequence, loaded: Loaded) {
        let lost = self.ready.paged_in(first, loaded, &mut self.journal);
        self.lost += lost.unwrap_or(0);
        self.check();
    }

    /// The consumers, parked ones included.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerSlot, &ConsumerSpec)> {
        self.consumers.iter()
    }

    // Whether it is inlined otherwise hangs on code elsewhere, for 6 %.
    #[inline(always)]
    fn hand_out(
        &mut self,
        queued: Queued,
        no_ack: bool,
        consumer: Option<ConsumerSlot>,
    ) -> (Option<UnsettledSlot>, Message) {
        if no_ack {
            self.settled += 1;
            self.journal.settle(queued.sequence);
            return (None, queued.message);
        }
        let message = Message::clone(&queued.message);
        let slot = self.unsettled.insert(Held { queued, consumer });
        (Some(slot), message)
    }

    fn requeue(&mut self, mut queued: Queued, redelivered: bool) {
        if redelivered {
            queued.deliveries = queued.deliveries.saturating_add(1);
            self.journal.give_back(queued.sequence, queued.deliveries);
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
            self.ready.len() + self.unsettled.len() as u64,
            self.enqueued - self.settled - self.purged - self.lost,
            "a message was lost or counted twice"
        );
    }
}
