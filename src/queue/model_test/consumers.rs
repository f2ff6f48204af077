//! Consumers and what they get.

use std::sync::Arc;

use super::state::Next;
use super::{CHANNELS, Consumer, Run, State, at, number};
use crate::model::{ConnectionId, ConsumerKey, Message, Sequence};
use crate::queue::{
    Cancelled, ConsumeRefused, ConsumerSlot, ConsumerSpec, Delivery, Get, UnsettledSlot,
};

impl Run {
    pub(super) fn consume(&mut self, consumer: Consumer) {
        let spec = ConsumerSpec {
            key: key(consumer.serial),
            no_ack: consumer.no_ack,
            exclusive: consumer.exclusive,
            priority: consumer.priority,
            prefetch: consumer.prefetch,
            channel_credit: consumer
                .channel
                .map(|channel| Arc::clone(&self.channels[channel % CHANNELS].credit)),
            arguments: Arc::default(),
        };
        self.used_at = self.now;
        let single = self.rules.single_active_consumer;
        let has_exclusive = self.consumers.values().any(|other| other.exclusive);
        let refused =
            (consumer.exclusive && (single || !self.consumers.is_empty())) || has_exclusive;
        match self.queue.consume(spec, at(self.now)) {
            Ok(slot) => {
                assert!(!refused, "shared an exclusive queue");
                let before = self.consumers.insert(slot.0, consumer);
                assert!(before.is_none(), "two consumers in one slot");
                if single && self.active.is_none() {
                    self.active = Some(slot.0);
                }
            }
            Err(ConsumeRefused::ExclusiveUse) => assert!(refused, "refused without a reason"),
        }
    }

    pub(super) fn cancel(&mut self, slot: u32) {
        let consumer = self.consumers.remove(&slot).unwrap();
        let cancelled = Cancelled {
            key: key(consumer.serial),
            delete_queue: self.settings.auto_delete && self.consumers.is_empty(),
        };
        self.used_at = self.now;
        self.hand_over();
        let said = self.queue.cancel(ConsumerSlot(slot), at(self.now));
        assert_eq!(said, Some(cancelled));
    }

    /// If the single active consumer is gone, the one of the highest priority
    /// takes over that came first.
    pub(super) fn hand_over(&mut self) {
        let gone = self
            .active
            .is_some_and(|active| !self.consumers.contains_key(&active));
        if gone {
            let next = self
                .consumers
                .iter()
                .min_by_key(|(_, one)| (-one.priority, one.serial));
            self.active = next.map(|(slot, _)| *slot);
        }
    }

    pub(super) fn get(&mut self, no_ack: bool) {
        self.take_one(no_ack);
        self.note_aside();
    }

    fn take_one(&mut self, no_ack: bool) {
        let missing = self.queue.head_missing();
        let got = self.queue.get(no_ack, at(self.now));
        self.used_at = self.now;
        let nothing_dead = self.catch_up();
        self.pass_over_dead(u64::from(no_ack && matches!(got, Get::Message(_))));
        let got = match got {
            Get::Message(got) => got,
            Get::Empty => {
                let next = self.next_up();
                assert!(next == Next::Nothing || !nothing_dead || self.letters_wait());
                return;
            }
            Get::Missing(page) => {
                assert_eq!(self.next_up(), Next::Missing);
                // What has died may have been before it.
                assert!(missing.is_none() || Some(page) == self.queue.head_missing());
                return;
            }
        };
        assert!(nothing_dead, "something dead has to go first");
        let next = self.take(&got.message, got.deliveries);
        self.hand_out(next, got.unsettled, None);
        assert_eq!(got.unsettled.is_none(), no_ack);
        assert_eq!(got.ready_left, self.count(|state| state == State::Ready));
    }

    pub(super) fn deliver(&mut self, budget_bytes: usize) -> bool {
        let mut deliveries = Vec::new();
        let more = self
            .queue
            .deliver(budget_bytes, at(self.now), &mut deliveries);
        let nothing_dead = self.catch_up();
        let mut bytes = 0;
        for (index, delivery) in deliveries.iter().enumerate() {
            assert!(nothing_dead, "something dead has to go first");
            assert!(index == 0 || bytes < budget_bytes, "the budget was used up");
            bytes += delivery.message.stored_bytes();
            let to_come = deliveries[index..].iter();
            let settled = to_come.filter(|one| one.unsettled.is_none()).count();
            self.pass_over_dead(settled as u64);
            self.delivered(delivery);
        }
        self.pass_over_dead(0);
        self.note_aside();
        let done = deliveries.is_empty() || bytes < budget_bytes || !more;
        if done && nothing_dead && !self.next_is_dead() {
            assert!(
                !self.something_can_go(),
                "a message and a consumer wait for each other"
            );
        }
        more && !deliveries.is_empty()
    }

    /// How many messages the queue looks at while their groups are held is its own
    /// affair.
    fn note_aside(&mut self) {
        for index in 0..self.messages.len() {
            if self.is_set_aside(index) {
                let entry = &mut self.messages[index];
                assert!(entry.is_ready() && entry.group.is_some());
                entry.aside = true;
            }
        }
    }

    /// Whether the queue says that it stands with its group.
    pub(super) fn is_set_aside(&self, index: usize) -> bool {
        let place = Sequence(self.messages[index].number);
        let groups = self.queue.groups.as_ref();
        groups.is_some_and(|groups| groups.has_aside(place))
    }

    /// Whether the next one is dead and has to wait because too many letters are
    /// on their way.
    fn next_is_dead(&self) -> bool {
        let Next::Message(index) = self.next_up() else {
            return false;
        };
        self.letters_wait() && self.is_too_old(&self.messages[index], self.now)
    }

    /// One delivery: what is next, to a consumer of the highest priority that
    /// can take, and nobody passed over twice in favour of the same one.
    fn delivered(&mut self, delivery: &Delivery) {
        let able: Vec<u32> = self
            .consumers
            .keys()
            .copied()
            .filter(|slot| self.can_take(*slot))
            .collect();
        let slot = delivery.consumer.0;
        assert!(
            able.contains(&slot),
            "delivered to somebody who cannot take"
        );
        let priority = |slot: u32| self.consumers[&slot].priority;
        let highest = able.iter().copied().map(priority).max();
        assert_eq!(
            Some(priority(slot)),
            highest,
            "a higher priority was passed over"
        );

        let next = self.take(&delivery.message, delivery.deliveries);
        let taker = &self.consumers[&slot];
        assert_eq!(delivery.unsettled.is_none(), taker.no_ack);
        let (serial, priority) = (taker.serial, taker.priority);
        let holder = (serial, taker.channel);
        self.hand_out(next, delivery.unsettled, Some(holder));

        for (other, consumer) in &mut self.consumers {
            if *other == slot {
                consumer.passed_over.clear();
            } else if consumer.priority == priority && able.contains(other) {
                let times = consumer.passed_over.entry(serial).or_default();
                *times += 1;
                assert!(
                    *times <= 1,
                    "{serial} was served twice, {} not once",
                    consumer.serial
                );
            }
        }
    }

    /// Takes out what is next, which is this one.
    fn take(&mut self, message: &Message, deliveries: u32) -> usize {
        let Next::Message(index) = self.next_up() else {
            panic!("{} came, and nothing is next", number(message));
        };
        let entry = &mut self.messages[index];
        entry.in_log = false;
        entry.aside = false;
        assert_eq!(number(message), entry.number, "out of order");
        assert_eq!(
            deliveries, entry.deliveries,
            "deliveries of message {}",
            entry.number
        );
        assert!(entry.deadline.is_none_or(|deadline| deadline >= self.now));
        let entry = &self.messages[index];
        assert!(!self.is_too_old(entry, self.now), "it was dead");
        index
    }

    fn hand_out(
        &mut self,
        index: usize,
        slot: Option<UnsettledSlot>,
        holder: Option<(u32, Option<usize>)>,
    ) {
        let Some(slot) = slot else {
            self.gone(index);
            return;
        };
        assert!(!self.is_used(slot), "two messages in one slot");
        let (consumer, channel) = holder.unzip();
        self.messages[index].state = State::Unsettled {
            slot,
            consumer,
            channel: channel.flatten(),
            since: self.rules.consumer_timeout.map(|_| self.now),
        };
    }
}

pub(super) fn key(serial: u32) -> ConsumerKey {
    ConsumerKey {
        connection: ConnectionId(1),
        serial,
    }
}
