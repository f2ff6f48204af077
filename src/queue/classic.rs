//! The classic queue: control flow between its parts.
//!
//! Implements AMQP 0-9-1 `basic.*` as RabbitMQ's classic queues do: FIFO, round
//! robin among consumers with credit, higher `x-priority` first, requeue to the
//! original position; and the rules that [`QueueRules`] adds. Invariant: what
//! was enqueued is ready, scheduled, unsettled, settled, purged or lost, and
//! exactly one of them.

use std::collections::BTreeSet;

use super::backlog::Backlog;
use super::consumers::{Consumers, Taker};
use super::deduplicate::Memory;
use super::groups::Groups;
use super::lag::Lag;
use super::paging::Limits;
use super::ready::{DeliveredBefore, Queued};
use super::schedule::Schedule;
use super::unsettled::{Held, Holder, Unsettled};
use super::{
    Cancelled, ConsumeRefused, ConsumerSlot, ConsumerSpec, Counts, DeadLetter, Delivery, Get, Got,
    Journal, LagReport, Outcome, PageIn, Published, Restored, UnsettledSlot,
};
use crate::model::{
    ConsumerKey, DeathReason, Message, NameHash, Now, QueueRules, QueueSettings, Sequence,
};

/// A classic queue.
#[derive(Debug)]
pub struct Queue {
    pub(super) settings: QueueSettings,
    pub(super) rules: QueueRules,
    pub(super) backlog: Backlog,
    pub(super) schedule: Schedule,
    pub(super) groups: Option<Box<Groups>>,
    pub(super) memory: Option<Box<Memory>>,
    pub(super) unsettled: Unsettled,
    pub(super) consumers: Consumers,
    pub(super) journal: Journal,
    pub(super) lag: Lag,
    pub(super) letters: Vec<DeadLetter>,
    /// Whether its rules are any.
    pub(super) has_rules: bool,
    /// Letters that are on their way.
    pub(super) letters_out: u64,
    /// Consumers that were ended for holding a message too long.
    pub(super) timed_out: Vec<ConsumerSlot>,
    /// Names of runs that are being written. One whose messages were handed out
    /// meanwhile may come back under the same name, to wait for its time.
    pub(super) pages_out: BTreeSet<Sequence>,
    /// Pages to be read for what is due in them.
    pub(super) visits: Vec<PageIn>,
    /// When something is next to be done, in milliseconds since 1970.
    pub(super) due: u64,
    /// When the first message in memory dies, though it may have to wait for room
    /// among the letters.
    pub(super) death: u64,
    /// When the queue was last in use, if it goes when it is not.
    pub(super) used_at: u64,
    pub(super) limits: Limits,
    pub(super) enqueued: u64,
    pub(super) settled: u64,
    pub(super) duplicates: u64,
    pub(super) purged: u64,
    pub(super) lost: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: QueueSettings, now: Now) -> Self {
        Self::restore(settings, Restored::default(), now)
    }

    /// A queue as the store kept it: all its messages are ready, or wait for
    /// their time.
    #[must_use]
    pub fn restore(settings: QueueSettings, restored: Restored, now: Now) -> Self {
        Self::with_limits(settings, restored, Limits::default(), now)
    }

    pub(super) fn with_limits(
        settings: QueueSettings,
        restored: Restored,
        limits: Limits,
        now: Now,
    ) -> Self {
        let rules = settings.rules.clone();
        let before = DeliveredBefore::new(restored.redelivered_below, restored.deliveries);
        let max_priority = rules.max_priority.unwrap_or(0);
        let mut queue = Self {
            journal: Journal::new(settings.durable),
            settings,
            backlog: Backlog::new(limits, max_priority, restored.next, before),
            schedule: Schedule::default(),
            groups: rules
                .group_header
                .clone()
                .map(|header| Box::new(Groups::new(header))),
            memory: rules
                .deduplication
                .clone()
                .map(|rule| Box::new(Memory::new(rule, restored.names))),
            unsettled: Unsettled::default(),
            consumers: Consumers::new(rules.single_active_consumer),
            lag: Lag::default(),
            letters: Vec::new(),
            letters_out: 0,
            timed_out: Vec::new(),
            pages_out: BTreeSet::new(),
            visits: Vec::new(),
            due: u64::MAX,
            death: u64::MAX,
            used_at: now.millis(),
            limits,
            enqueued: 0,
            settled: 0,
            duplicates: 0,
            purged: 0,
            lost: 0,
            has_rules: !rules.is_plain(),
            rules,
        };
        queue
            .backlog
            .count_bodies(queue.rules.max_length_bytes.is_some());
        queue.take_restored(restored.runs, now.millis());
        queue.enqueued = queue.ready() + queue.schedule.len();
        queue.arm();
        queue
    }

    /// What it was declared as.
    #[must_use]
    pub fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// The rules that it goes by.
    #[must_use]
    pub fn rules(&self) -> &QueueRules {
        &self.rules
    }

    /// Goes by other rules from now on: a policy has changed. What only a
    /// declare can say stays: priorities, the single active consumer, groups
    /// and deduplication.
    pub fn set_rules(&mut self, rules: QueueRules, now: Now) {
        if rules.expires.is_some() && self.rules.expires.is_none() {
            self.used_at = now.millis();
        }
        if rules.consumer_timeout.is_none() {
            self.unsettled.forget_times();
        }
        self.rules = QueueRules {
            max_priority: self.rules.max_priority,
            single_active_consumer: self.rules.single_active_consumer,
            group_header: self.rules.group_header.take(),
            deduplication: self.rules.deduplication.take(),
            ..rules
        };
        self.has_rules = !self.rules.is_plain();
        self.backlog
            .count_bodies(self.rules.max_length_bytes.is_some());
        if let Some(groups) = &mut self.groups {
            groups.set_ttl(self.rules.message_ttl);
        }
        self.tick(now);
    }

    /// How far behind its consumers are. One that has settled nothing for
    /// `patience` milliseconds is named.
    #[must_use]
    pub fn lag(&self, now: Now, patience: u64) -> LagReport {
        let now = now.millis();
        let heads = self.backlog.heads().map(|(_, head)| head.arrived());
        LagReport {
            oldest_age: heads.min().map(|arrived| now.saturating_sub(arrived)),
            in_queue: self.lag.in_queue(),
            to_settle: self.lag.to_settle(),
            stalled: self.consumers.stalled(now, patience),
        }
    }

    /// Whether nothing in it is ever to be done by itself.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.has_rules && !self.is_timed()
    }

    /// How much there is of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let aside = self
            .groups
            .as_ref()
            .map_or(0, |groups| groups.stored_bytes());
        Counts {
            ready: self.ready(),
            ready_bytes: self.backlog.bytes() + aside,
            scheduled: self.schedule.len(),
            unsettled: self.unsettled.len() as u64 - self.letters_out,
            consumers: self.consumers.len(),
            enqueued: self.enqueued,
            settled: self.settled,
            duplicates: self.duplicates,
            purged: self.purged,
            lost: self.lost,
        }
    }

    /// How many messages could be delivered.
    #[inline]
    pub(super) fn ready(&self) -> u64 {
        let aside = self.groups.as_ref().map_or(0, |groups| groups.len());
        self.backlog.len() + aside
    }

    /// Appends the messages in order and leaves the vec empty, with its
    /// capacity, for reuse.
    ///
    /// Where a queue refuses what is too much, consumers are to be served
    /// between two messages: it is told one at a time.
    pub fn publish(&mut self, messages: &mut Vec<Message>, now: Now) -> Published {
        self.enqueued += messages.len() as u64;
        let special = || messages.iter().any(|one| one.traits().is_special());
        let published = if !self.rules.may_refuse() && !special() {
            self.publish_alike(messages, now.millis())
        } else {
            self.publish_each(messages, now.millis())
        };
        if self.is_timed() {
            self.arm();
        }
        self.check();
        published
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// An exclusive consumer and others exclude each other.
    pub fn consume(
        &mut self,
        spec: ConsumerSpec,
        now: Now,
    ) -> Result<ConsumerSlot, ConsumeRefused> {
        self.used_at = now.millis();
        let slot = self.consumers.add(spec)?;
        self.arm();
        Ok(slot)
    }

    /// Ends a consumer. Its unsettled messages stay out until they are settled
    /// (`basic.cancel`). `None` if it has ended before.
    pub fn cancel(&mut self, consumer: ConsumerSlot, now: Now) -> Option<Cancelled> {
        let key = self.consumers.cancel(consumer)?;
        self.used_at = now.millis();
        self.arm();
        let delete_queue = self.settings.auto_delete && self.consumers.len() == 0;
        Some(Cancelled { key, delete_queue })
    }

    /// Gives a consumer nothing more until it is cancelled. What it holds can
    /// come back meanwhile: where it is the single active one, nobody gets that,
    /// or what stands behind it.
    pub fn silence(&mut self, consumer: ConsumerSlot) {
        self.consumers.silence(consumer);
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

    /// Takes the next ready message without being a consumer (`basic.get`).
    pub fn get(&mut self, no_ack: bool, now: Now) -> Get {
        self.used_at = now.millis();
        if self.is_due(now) && !self.work_off(now.millis()) {
            return Get::Empty;
        }
        if !no_ack && self.unsettled.is_full() {
            return Get::Empty;
        }
        if !self.live_at_hand(now.millis()) {
            return self.missing_for_get(now.millis());
        }
        let Some(queued) = self.take_next() else {
            return Get::Empty;
        };
        self.backlog.shrink();
        let deliveries = queued.deliveries;
        let (unsettled, message) = self.hand_out(queued, no_ack, Holder::Getter, now.millis());
        self.arm();
        self.check();
        Get::Message(Got {
            message,
            unsettled,
            deliveries,
            ready_left: self.ready(),
        })
    }

    /// Settles messages and gives their credit back. Slots that are not in use
    /// are passed over.
    pub fn settle(&mut self, slots: &[UnsettledSlot], outcome: Outcome, now: Now) {
        // Credit goes back once for each run of messages of one consumer.
        let moment = now.millis();
        let mut run: Option<(ConsumerSlot, u32)> = None;
        for &slot in slots {
            let Some(Held { queued, holder }) = self.unsettled.remove(slot) else {
                continue;
            };
            self.lag.settled(slot, moment);
            match outcome {
                Outcome::Ack => self.let_go(&queued),
                Outcome::Discard if self.has_dead_letters() && holder != Holder::Letter => {
                    self.bury(queued, DeathReason::Rejected);
                }
                Outcome::Discard => self.let_go(&queued),
                Outcome::Requeue {
                    redelivered,
                    refused,
                } => {
                    self.requeue(queued, redelivered, refused, moment);
                }
            }
            let consumer = match holder {
                Holder::Consumer(consumer) => consumer,
                Holder::Getter => continue,
                Holder::Letter => {
                    self.letters_out -= 1;
                    continue;
                }
            };
            run = match run {
                Some((same, count)) if same == consumer => Some((same, count + 1)),
                before => {
                    self.end_run(before, now);
                    Some((consumer, 1))
                }
            };
        }
        self.end_run(run, now);
        self.unsettled.shrink();
        if self.is_timed() {
            self.arm();
        }
        self.check();
    }

    /// Hands out messages to consumers with credit that are not parked, until
    /// there is none of either or the messages come to `budget_bytes`, but at
    /// least one; appends them to `deliveries`. Whether more could go: messages
    /// that have to be read first cannot.
    pub fn deliver(
        &mut self,
        budget_bytes: usize,
        now: Now,
        deliveries: &mut Vec<Delivery>,
    ) -> bool {
        if self.is_due(now) && !self.work_off(now.millis()) {
            return false;
        }
        // Worked out once: this is the loop that all messages go through.
        let moment = now.millis();
        let before = deliveries.len();
        let mut bytes = 0;
        while bytes < budget_bytes
            && let Some(taken) = self.deliver_run(budget_bytes - bytes, moment, deliveries)
        {
            bytes += taken;
        }
        let mut first = bytes == 0;
        while (first || bytes < budget_bytes) && self.live_at_hand(moment) {
            if self.unsettled.is_full() {
                return false;
            }
            let Some(Taker { slot, no_ack }) = self.consumers.take_turn(moment) else {
                break;
            };
            let Some(queued) = self.take_next() else {
                if !no_ack {
                    self.consumers.give_back(slot, 1, moment);
                }
                return false;
            };
            first = false;
            bytes += queued.message.stored_bytes();
            let count = queued.deliveries;
            let (unsettled, message) =
                self.hand_out(queued, no_ack, Holder::Consumer(slot), moment);
            deliveries.push(Delivery {
                consumer: slot,
                unsettled,
                message,
                deliveries: count,
            });
        }
        let handed_out = deliveries.get(before..).unwrap_or_default();
        if let (Some(first), Some(last)) = (handed_out.first(), handed_out.last()) {
            self.lag
                .delivered(&first.message, &last.message, handed_out.len(), moment);
        }
        self.backlog.shrink();
        // This may set messages aside, and others are at the head then.
        let more = self.at_hand() && self.consumers.any_able();
        if self.is_timed() {
            self.arm();
        }
        self.check();
        more
    }

    /// Drops the ready messages, also those that are not in memory; how many
    /// there were. Those that wait for their time stay.
    pub fn purge(&mut self) -> u64 {
        let count = self.ready();
        let kept = self.schedule.places().chain(self.unsettled.places());
        let mut others: Vec<Sequence> = kept.collect();
        if let Some(groups) = &mut self.groups {
            for queued in groups.drain() {
                self.journal.settle(queued.sequence);
                others.push(queued.sequence);
            }
        }
        others.sort_unstable();
        self.backlog.clear(&mut self.journal, &others);
        self.backlog.shrink();
        let schedule = &self.schedule;
        self.visits.retain(|page| schedule.is_reading(page.first));
        self.purged += count;
        if self.is_timed() {
            self.arm();
        }
        self.check();
        count
    }

    /// Forgets the names of messages that the log refused: they were not
    /// confirmed, and are no copies when they come again.
    pub fn forget_names(&mut self, names: &[NameHash]) {
        if let Some(memory) = &mut self.memory {
            memory.forget(names);
        }
    }

    /// What the store has to know; the host drains it after each command.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Messages that died since this was asked last; the host asks after each
    /// command.
    pub fn letters(&mut self) -> &mut Vec<DeadLetter> {
        &mut self.letters
    }

    /// Consumers that were ended because they held a message too long; the host
    /// asks after each tick and tells them.
    pub fn timed_out(&mut self) -> &mut Vec<ConsumerSlot> {
        &mut self.timed_out
    }

    /// Octets of memory of the waiting messages that are in memory, about.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let aside = self
            .groups
            .as_ref()
            .map_or(0, |groups| groups.resident_bytes());
        self.backlog.resident_bytes() + self.schedule.resident_bytes() + aside
    }

    /// The consumers, parked ones included.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerSlot, &ConsumerSpec)> {
        self.consumers.iter()
    }

    /// Who the consumer in that slot is, unless it has ended.
    #[must_use]
    pub fn consumer(&self, slot: ConsumerSlot) -> Option<ConsumerKey> {
        self.consumers.key(slot)
    }

    /// The consumer that gets everything, if the queue has a single active one.
    #[must_use]
    pub fn single_active(&self) -> Option<ConsumerSlot> {
        self.consumers.active()
    }

    /// Whether there is something next.
    #[inline]
    fn at_hand(&mut self) -> bool {
        match &self.groups {
            None => self.backlog.at_hand(),
            Some(_) => self.line_up().is_some(),
        }
    }

    /// The same, of what was not dead before that moment: what has died goes, if
    /// it may.
    #[inline]
    fn live_at_hand(&mut self, until: u64) -> bool {
        self.at_hand() && (self.rules.message_ttl.is_none() || self.bury_next(until))
    }

    /// Why nothing is at hand for a `basic.get`.
    fn missing_for_get(&mut self, now: u64) -> Get {
        self.arm();
        self.check();
        if self.next_is_dead(now) {
            return Get::Empty;
        }
        self.backlog.missing().map_or(Get::Empty, Get::Missing)
    }

    /// Takes out what is next.
    #[inline(always)]
    pub(super) fn take_next(&mut self) -> Option<Queued> {
        if self.groups.is_some() {
            return self.take_next_of_groups();
        }
        self.backlog.pop()
    }

    // Whether it is inlined otherwise hangs on code elsewhere, for 6 %.
    #[inline(always)]
    fn hand_out(
        &mut self,
        queued: Queued,
        no_ack: bool,
        holder: Holder,
        now: u64,
    ) -> (Option<UnsettledSlot>, Message) {
        if no_ack {
            self.let_go(&queued);
            return (None, queued.message);
        }
        let message = Message::clone(&queued.message);
        let place = queued.sequence;
        let slot = self.unsettled.insert(Held { queued, holder });
        self.lag.held(slot, now);
        if self.rules.consumer_timeout.is_some() {
            self.unsettled.note_time(now, slot, place);
        }
        (Some(slot), message)
    }

    /// A message that was taken out is done with.
    #[inline(always)]
    pub(super) fn let_go(&mut self, queued: &Queued) {
        self.settled += 1;
        self.journal.settle(queued.sequence);
        self.backlog.forget(queued.sequence);
        if self.groups.is_some() {
            self.free_group(queued);
        }
    }

    fn end_run(&mut self, run: Option<(ConsumerSlot, u32)>, now: Now) {
        if let Some((consumer, count)) = run {
            self.consumers.give_back(consumer, count, now.millis());
        }
    }

    /// Messages for which the ready log and the unsettled ones have room.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> (usize, usize) {
        (self.backlog.capacity(), self.unsettled.capacity())
    }

    pub(super) fn check(&self) {
        debug_assert_eq!(
            self.ready() + self.schedule.len() + self.unsettled.len() as u64,
            self.enqueued - self.settled - self.purged - self.lost,
            "a message was lost or counted twice"
        );
    }
}
