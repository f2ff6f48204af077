//! Any sequence of commands against a naive model: a list of the messages that
//! are not gone, each with its state. The model does not know how the queue picks
//! a consumer; it says for each delivery whether it was allowed, and after each
//! [`Queue::deliver`] whether something was left undone. Paging and restarts
//! change nothing of what is delivered, in what order and how it is flagged.
//!
//! `PROPTEST_CASES` raises the number of cases.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use self::operation::{Operation, operation};
use self::store::Store;
use super::paging::Limits;
use super::*;
use crate::model::{ConnectionId, ConsumerKey, Message, Now, QueueSettings, Sequence};

mod operation;
mod state;
mod store;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(1_000),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_queue_does_what_the_model_says(
        auto_delete in any::<bool>(),
        durable in any::<bool>(),
        (run_bytes, head_bytes, more_bytes) in (1..300_u64, 0..300_u64, 1..300_u64),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let settings = QueueSettings { auto_delete, durable, ..QueueSettings::default() };
        let mut run = Run::new(settings, Limits {
            run_bytes,
            head_bytes,
            read_ahead_bytes: head_bytes + more_bytes,
        });
        for operation in operations {
            run.apply(operation);
            run.compare();
        }
        run.drain();
    }
}

/// The queue, the model of it, and a host that does its duties.
struct Run {
    queue: Queue,
    settings: QueueSettings,
    limits: Limits,
    store: Store,
    /// Ready and unsettled ones, by number.
    messages: Vec<Entry>,
    /// Number of the next message, which is also its place.
    next: u64,
    enqueued: u64,
    settled: u64,
    purged: u64,
    lost: u64,
    /// By slot; a cancelled one leaves at once.
    consumers: BTreeMap<u32, Consumer>,
    channels: Vec<Channel>,
    serial: u32,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    message: Message,
    state: State,
    deliveries: u32,
    /// It was not handed out yet since the queue was made.
    in_log: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Ready,
    /// Held by the consumer of that serial, or by a get.
    Unsettled {
        slot: UnsettledSlot,
        consumer: Option<u32>,
        channel: Option<usize>,
    },
}

#[derive(Debug)]
struct Consumer {
    serial: u32,
    priority: i32,
    prefetch: Option<u32>,
    no_ack: bool,
    exclusive: bool,
    channel: Option<usize>,
    parked: bool,
    /// How often each other consumer of the same priority was served since this
    /// one last was, or last could not take.
    passed_over: BTreeMap<u32, u32>,
}

struct Channel {
    credit: Arc<ChannelCredit>,
    limit: u32,
}

impl Run {
    fn new(settings: QueueSettings, limits: Limits) -> Self {
        let channel = |_| Channel {
            credit: Arc::default(),
            limit: 0,
        };
        Self {
            queue: Queue::with_limits(settings.clone(), Restored::default(), limits, NOW),
            settings,
            limits,
            store: Store::default(),
            messages: Vec::new(),
            next: 0,
            enqueued: 0,
            settled: 0,
            purged: 0,
            lost: 0,
            consumers: BTreeMap::new(),
            channels: (0..CHANNELS).map(channel).collect(),
            serial: 0,
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Publish { sizes } => self.publish(&sizes),
            Operation::Consume {
                priority,
                prefetch,
                no_ack,
                exclusive,
                channel,
            } => {
                self.serial += 1;
                self.consume(Consumer {
                    serial: self.serial,
                    priority,
                    prefetch,
                    no_ack,
                    exclusive,
                    channel,
                    parked: false,
                    passed_over: BTreeMap::new(),
                });
            }
            Operation::Cancel { pick } => {
                if let Some(slot) = self.pick_consumer(pick) {
                    self.cancel(slot);
                }
            }
            Operation::CancelStale { slot } => {
                if !self.consumers.contains_key(&slot) {
                    assert_eq!(self.queue.cancel(ConsumerSlot(slot), NOW), None);
                }
            }
            Operation::Park { pick } => {
                if let Some(slot) = self.pick_consumer(pick) {
                    self.queue.park(ConsumerSlot(slot));
                    self.consumers.get_mut(&slot).unwrap().parked = true;
                }
            }
            Operation::Resume { pick } => {
                if let Some(slot) = self.pick_consumer(pick) {
                    self.queue.resume(ConsumerSlot(slot));
                    self.consumers.get_mut(&slot).unwrap().parked = false;
                }
            }
            Operation::ResumeStale { slot } => {
                if !self.consumers.contains_key(&slot) {
                    self.queue.park(ConsumerSlot(slot));
                    self.queue.resume(ConsumerSlot(slot));
                }
            }
            Operation::SetLimit { channel, limit } => {
                self.channels[channel].limit = limit;
                self.channels[channel].credit.set_limit(limit);
                self.resume_channels();
            }
            Operation::Get { no_ack } => self.get(no_ack),
            Operation::Settle { picks, outcome } => {
                let mut slots = Vec::new();
                for pick in picks {
                    let unsettled: Vec<_> = self
                        .unsettled()
                        .filter(|slot| !slots.contains(slot))
                        .collect();
                    if !unsettled.is_empty() {
                        slots.push(unsettled[pick % unsettled.len()]);
                    }
                }
                self.settle(&slots, outcome);
            }
            Operation::SettleStale { slot, outcome } => {
                if self.unsettled().all(|used| used.0 != slot) {
                    self.queue.settle(&[UnsettledSlot(slot)], outcome, NOW);
                }
            }
            Operation::Purge => {
                let before = self.messages.len();
                self.messages.retain(|entry| entry.state != State::Ready);
                let purged = (before - self.messages.len()) as u64;
                self.purged += purged;
                self.store.purged = true;
                assert_eq!(self.queue.purge(), purged);
            }
            Operation::Deliver { budget_bytes } => {
                self.deliver(budget_bytes);
            }
            Operation::PageOut { partial } => self.page_out(partial),
            Operation::Written { pick, success } => self.written(pick, success),
            Operation::PageWanted => self.page_wanted(),
            Operation::Read { pick, damage } => self.read(pick, damage),
            Operation::ReadMissing { damage } => self.read_missing(damage),
            Operation::Restart(restart) => self.restart(restart),
        }
    }

    fn publish(&mut self, sizes: &[u8]) {
        let mut messages = Vec::new();
        for size in sizes {
            // The body begins with the message's number.
            let number = self.next;
            self.next += 1;
            self.enqueued += 1;
            self.store.live.insert(number);
            let mut body = number.to_be_bytes().to_vec();
            body.resize(8 + *size as usize, 0);
            let message = Message::single("", "q", b"", &body);
            messages.push(message.clone());
            self.messages.push(Entry {
                number,
                message,
                state: State::Ready,
                deliveries: 0,
                in_log: true,
            });
        }
        let capacity = messages.capacity();
        let first = self.queue.publish(&mut messages, NOW);
        assert_eq!(first.first.0 + sizes.len() as u64, self.next);
        assert!(messages.is_empty() && messages.capacity() == capacity);
    }

    fn consume(&mut self, consumer: Consumer) {
        let spec = ConsumerSpec {
            key: key(consumer.serial),
            no_ack: consumer.no_ack,
            exclusive: consumer.exclusive,
            priority: consumer.priority,
            prefetch: consumer.prefetch,
            channel_credit: consumer
                .channel
                .map(|channel| Arc::clone(&self.channels[channel].credit)),
            arguments: Arc::default(),
        };
        let exclusive = consumer.exclusive || self.consumers.values().any(|other| other.exclusive);
        match self.queue.consume(spec, NOW) {
            Ok(slot) => {
                assert!(
                    self.consumers.is_empty() || !exclusive,
                    "shared an exclusive queue"
                );
                let before = self.consumers.insert(slot.0, consumer);
                assert!(before.is_none(), "two consumers in one slot");
            }
            Err(ConsumeRefused::ExclusiveUse) => {
                assert!(
                    exclusive && !self.consumers.is_empty(),
                    "refused without a reason"
                );
            }
        }
    }

    fn cancel(&mut self, slot: u32) {
        let consumer = self.consumers.remove(&slot).unwrap();
        let cancelled = Cancelled {
            key: key(consumer.serial),
            delete_queue: self.settings.auto_delete && self.consumers.is_empty(),
        };
        assert_eq!(self.queue.cancel(ConsumerSlot(slot), NOW), Some(cancelled));
    }

    fn get(&mut self, no_ack: bool) {
        let missing = self.queue.head_missing();
        let got = match self.queue.get(no_ack, NOW) {
            Get::Message(got) => got,
            Get::Empty => {
                assert!(self.oldest_ready().is_none(), "a message is ready");
                return;
            }
            Get::Missing(page) => {
                assert_eq!(Some(page), missing, "the host would read another one");
                return;
            }
        };
        let oldest = self.oldest_ready().expect("got what is not there");
        self.take(oldest, &got.message, got.deliveries > 0);
        self.hand_out(oldest, got.unsettled, None);
        assert_eq!(got.unsettled.is_none(), no_ack);
        assert_eq!(got.ready_left, self.count(|state| state == State::Ready));
    }

    fn settle(&mut self, slots: &[UnsettledSlot], outcome: Outcome) {
        let before = self.messages.len();
        self.messages.retain_mut(|entry| {
            if !matches!(entry.state, State::Unsettled { slot, .. } if slots.contains(&slot)) {
                return true;
            }
            if let Outcome::Requeue { redelivered, .. } = outcome {
                entry.state = State::Ready;
                if redelivered {
                    entry.deliveries += 1;
                    let place = Sequence(entry.number);
                    self.store.returned.push((place, entry.deliveries));
                }
                return true;
            }
            false
        });
        self.settled += (before - self.messages.len()) as u64;
        self.queue.settle(slots, outcome, NOW);
        self.resume_channels();
    }

    /// The host's duty after credit of a channel may have come back: resume its
    /// consumers, except where their outbox is full.
    fn resume_channels(&mut self) {
        for (slot, consumer) in &self.consumers {
            if consumer.channel.is_some() && !consumer.parked {
                self.queue.resume(ConsumerSlot(*slot));
            }
        }
    }

    fn deliver(&mut self, budget_bytes: usize) -> bool {
        let something_can_go = self.something_can_go();
        let mut deliveries = Vec::new();
        let more = self.queue.deliver(budget_bytes, NOW, &mut deliveries);
        assert_eq!(
            !deliveries.is_empty(),
            something_can_go,
            "at least one if any can go"
        );
        let mut bytes = 0;
        for (index, delivery) in deliveries.iter().enumerate() {
            assert!(index == 0 || bytes < budget_bytes, "the budget was used up");
            bytes += delivery.message.stored_bytes();
            self.delivered(delivery);
        }
        if bytes < budget_bytes || !more {
            assert!(
                !self.something_can_go(),
                "a message and a consumer wait for each other"
            );
        }
        more
    }

    /// One delivery: the oldest message, to a consumer of the highest priority
    /// that can take, and nobody passed over twice in favour of the same one.
    fn delivered(&mut self, delivery: &Delivery) {
        let able: Vec<u32> = self
            .consumers
            .keys()
            .copied()
            .filter(|slot| self.can_take(*slot))
            .collect();
        let slot = delivery.consumer.0;
        assert!(able.contains(&slot), "delivered to somebody without credit");
        let priority = |slot: u32| self.consumers[&slot].priority;
        let highest = able.iter().copied().map(priority).max();
        assert_eq!(
            Some(priority(slot)),
            highest,
            "a higher priority was passed over"
        );

        let oldest = self.oldest_ready().expect("a message is ready");
        self.take(oldest, &delivery.message, delivery.deliveries > 0);
        let taker = &self.consumers[&slot];
        assert_eq!(delivery.unsettled.is_none(), taker.no_ack);
        let (serial, priority) = (taker.serial, taker.priority);
        let holder = (serial, taker.channel);
        self.hand_out(oldest, delivery.unsettled, Some(holder));

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

    fn take(&mut self, oldest: usize, message: &Message, redelivered: bool) {
        let Entry {
            number, deliveries, ..
        } = self.messages[oldest];
        self.messages[oldest].in_log = false;
        assert_eq!(self::number(message), number, "out of order");
        assert_eq!(
            redelivered,
            deliveries > 0,
            "redelivered flag of message {number}"
        );
    }

    fn hand_out(
        &mut self,
        oldest: usize,
        slot: Option<UnsettledSlot>,
        holder: Option<(u32, Option<usize>)>,
    ) {
        let Some(slot) = slot else {
            self.messages.remove(oldest);
            self.settled += 1;
            return;
        };
        assert!(
            self.unsettled().all(|used| used != slot),
            "two messages in one slot"
        );
        let (consumer, channel) = holder.unzip();
        let channel = channel.flatten();
        self.messages[oldest].state = State::Unsettled {
            slot,
            consumer,
            channel,
        };
    }

    /// What stays true after every operation.
    fn compare(&mut self) {
        self.compare_store();
        let ready = |entry: &&Entry| entry.state == State::Ready;
        let ready_bytes = self
            .messages
            .iter()
            .filter(ready)
            .map(|entry| entry.message.stored_bytes());
        assert_eq!(
            self.queue.counts(),
            Counts {
                scheduled: 0,
                ready: self.count(|state| state == State::Ready),
                ready_bytes: ready_bytes.sum::<usize>() as u64,
                unsettled: self.count(|state| matches!(state, State::Unsettled { .. })),
                consumers: self.consumers.len() as u32,
                enqueued: self.enqueued,
                settled: self.settled,
                purged: self.purged,
                lost: self.lost,
            }
        );
        for (channel, Channel { credit, .. }) in self.channels.iter().enumerate() {
            assert_eq!(
                credit.held(),
                self.held_by_channel(channel),
                "credit of channel {channel}"
            );
        }
        let listed: Vec<_> = self
            .queue
            .consumers()
            .map(|(slot, spec)| (slot.0, spec.key))
            .collect();
        let expected: Vec<_> = self
            .consumers
            .iter()
            .map(|(slot, consumer)| (*slot, key(consumer.serial)))
            .collect();
        assert_eq!(listed, expected);
        let unable: Vec<u32> = self
            .consumers
            .keys()
            .copied()
            .filter(|slot| !self.can_take(*slot))
            .collect();
        for slot in unable {
            self.consumers.get_mut(&slot).unwrap().passed_over.clear();
        }
    }

    /// Once nothing disturbs it any more, every message reaches a consumer.
    fn drain(&mut self) {
        for channel in 0..CHANNELS {
            self.apply(Operation::SetLimit { channel, limit: 0 });
        }
        for pick in 0..self.consumers.len() {
            self.apply(Operation::Resume { pick });
        }
        if self.consumers.is_empty() {
            self.apply(Operation::Consume {
                priority: 0,
                prefetch: Some(1),
                no_ack: false,
                exclusive: true,
                channel: None,
            });
        }
        for _ in 0..=self.messages.len() {
            self.page_wanted();
            while !self.store.reading.is_empty() {
                self.read(0, 0);
            }
            self.read_missing(0);
            while self.deliver(64) {}
            let unsettled: Vec<_> = self.unsettled().collect();
            self.settle(&unsettled, Outcome::Ack);
            self.compare();
        }
        assert!(self.messages.is_empty(), "the queue did not drain");
        while !self.store.writing.is_empty() {
            self.written(0, true);
        }
        assert!(self.store.pages.is_empty(), "pages are left");
    }
}

fn key(serial: u32) -> ConsumerKey {
    ConsumerKey {
        connection: ConnectionId(1),
        serial,
    }
}

fn number(message: &Message) -> u64 {
    let crate::model::Body::Slice(body) = message.body() else {
        panic!("a small body is one slice");
    };
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

/// `PROPTEST_CASES`, or `few`.
fn cases(few: u32) -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => few,
    }
}

const CHANNELS: usize = 2;
const NOW: Now = Now(std::time::Duration::ZERO);
