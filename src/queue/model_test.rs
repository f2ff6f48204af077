//! Any sequence of commands against a naive model: a list of the messages that
//! are not gone, each with its state. The model does not know how the queue picks
//! a consumer; it says for each delivery whether it was allowed, and after each
//! [`Queue::deliver`] whether something was left undone.
//!
//! `PROPTEST_CASES` raises the number of cases.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{ConnectionId, ConsumerKey, Message, Now, QueueSettings};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(1_000),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_queue_does_what_the_model_says(
        auto_delete in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let mut run = Run::new(auto_delete);
        for operation in operations {
            run.apply(operation);
            run.compare();
        }
        run.drain();
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Publish {
        sizes: Vec<u8>,
    },
    Consume {
        priority: i32,
        prefetch: Option<u32>,
        no_ack: bool,
        exclusive: bool,
        channel: Option<usize>,
    },
    Cancel {
        pick: usize,
    },
    CancelStale {
        slot: u32,
    },
    Park {
        pick: usize,
    },
    Resume {
        pick: usize,
    },
    ResumeStale {
        slot: u32,
    },
    SetLimit {
        channel: usize,
        limit: u32,
    },
    Get {
        no_ack: bool,
    },
    Settle {
        picks: Vec<usize>,
        outcome: Outcome,
    },
    SettleStale {
        slot: u32,
        outcome: Outcome,
    },
    Purge,
    Deliver {
        budget_bytes: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let pick = || any::<prop::sample::Index>().prop_map(|index| index.index(usize::MAX));
    prop_oneof![
        6 => prop::collection::vec(0..40_u8, 0..6).prop_map(|sizes| Publish { sizes }),
        3 => (
            -1..=1_i32,
            prop::option::weighted(0.7, 1..4_u32),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.05),
            prop::option::of(0..CHANNELS),
        ).prop_map(|(priority, prefetch, no_ack, exclusive, channel)| Consume {
            priority, prefetch, no_ack, exclusive, channel,
        }),
        1 => pick().prop_map(|pick| Cancel { pick }),
        1 => (0..12_u32).prop_map(|slot| CancelStale { slot }),
        1 => pick().prop_map(|pick| Park { pick }),
        2 => pick().prop_map(|pick| Resume { pick }),
        1 => (0..12_u32).prop_map(|slot| ResumeStale { slot }),
        1 => (0..CHANNELS, 0..5_u32).prop_map(|(channel, limit)| SetLimit { channel, limit }),
        2 => any::<bool>().prop_map(|no_ack| Get { no_ack }),
        6 => (prop::collection::vec(pick(), 1..5), outcome())
            .prop_map(|(picks, outcome)| Settle { picks, outcome }),
        1 => (0..40_u32, outcome()).prop_map(|(slot, outcome)| SettleStale { slot, outcome }),
        1 => Just(Purge),
        8 => prop_oneof![Just(0), 0..200_usize, Just(usize::MAX)]
            .prop_map(|budget_bytes| Deliver { budget_bytes }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Discard),
        any::<bool>().prop_map(|redelivered| Outcome::Requeue { redelivered }),
    ]
}

/// The queue, the model of it, and a host that does its duties.
struct Run {
    queue: Queue,
    auto_delete: bool,
    /// Ready and unsettled ones, by number.
    messages: Vec<Entry>,
    published: u64,
    settled: u64,
    purged: u64,
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
    redelivered: bool,
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
    fn new(auto_delete: bool) -> Self {
        let settings = QueueSettings {
            auto_delete,
            ..QueueSettings::default()
        };
        let channel = |_| Channel {
            credit: Arc::default(),
            limit: 0,
        };
        Self {
            queue: Queue::new(settings),
            auto_delete,
            messages: Vec::new(),
            published: 0,
            settled: 0,
            purged: 0,
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
                assert_eq!(self.queue.purge(), purged);
            }
            Operation::Deliver { budget_bytes } => {
                self.deliver(budget_bytes);
            }
        }
    }

    fn publish(&mut self, sizes: &[u8]) {
        let mut messages = Vec::new();
        for size in sizes {
            // The body begins with the message's number.
            let number = self.published;
            self.published += 1;
            let mut body = number.to_be_bytes().to_vec();
            body.resize(8 + *size as usize, 0);
            let message = Message::single("", "q", b"", &body);
            messages.push(message.clone());
            self.messages.push(Entry {
                number,
                message,
                state: State::Ready,
                redelivered: false,
            });
        }
        let capacity = messages.capacity();
        self.queue.publish(&mut messages, NOW);
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
            delete_queue: self.auto_delete && self.consumers.is_empty(),
        };
        assert_eq!(self.queue.cancel(ConsumerSlot(slot), NOW), Some(cancelled));
    }

    fn get(&mut self, no_ack: bool) {
        let got = self.queue.get(no_ack, NOW).message();
        let Some(oldest) = self.oldest_ready() else {
            assert!(got.is_none(), "got a message that is not there");
            return;
        };
        let got = got.expect("a message is ready");
        self.take(oldest, &got.message, got.redelivered);
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
            if let Outcome::Requeue { redelivered } = outcome {
                entry.state = State::Ready;
                entry.redelivered |= redelivered;
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
        self.take(oldest, &delivery.message, delivery.redelivered);
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
            number,
            redelivered: flag,
            ..
        } = self.messages[oldest];
        assert_eq!(self::number(message), number, "out of order");
        assert_eq!(redelivered, flag, "redelivered flag of message {number}");
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
        let ready = |entry: &&Entry| entry.state == State::Ready;
        let ready_bytes = self
            .messages
            .iter()
            .filter(ready)
            .map(|entry| entry.message.stored_bytes());
        assert_eq!(
            self.queue.counts(),
            Counts {
                ready: self.count(|state| state == State::Ready),
                ready_bytes: ready_bytes.sum::<usize>() as u64,
                unsettled: self.count(|state| matches!(state, State::Unsettled { .. })),
                consumers: self.consumers.len() as u32,
                enqueued: self.published,
                settled: self.settled,
                purged: self.purged,
                lost: 0,
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
            while self.deliver(64) {}
            let unsettled: Vec<_> = self.unsettled().collect();
            self.settle(&unsettled, Outcome::Ack);
            self.compare();
        }
        assert!(self.messages.is_empty(), "the queue did not drain");
    }

    fn something_can_go(&self) -> bool {
        self.oldest_ready().is_some() && self.consumers.keys().any(|slot| self.can_take(*slot))
    }

    fn can_take(&self, slot: u32) -> bool {
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

    fn held_by_channel(&self, of: usize) -> u32 {
        self.count(|state| matches!(state, State::Unsettled { channel, .. } if channel == Some(of)))
            as u32
    }

    fn unsettled(&self) -> impl Iterator<Item = UnsettledSlot> {
        self.messages.iter().filter_map(|entry| match entry.state {
            State::Unsettled { slot, .. } => Some(slot),
            _ => None,
        })
    }

    fn oldest_ready(&self) -> Option<usize> {
        self.messages
            .iter()
            .position(|entry| entry.state == State::Ready)
    }

    fn count(&self, matches: impl Fn(State) -> bool) -> u64 {
        self.messages
            .iter()
            .filter(|entry| matches(entry.state))
            .count() as u64
    }

    fn pick_consumer(&self, pick: usize) -> Option<u32> {
        let slots: Vec<u32> = self.consumers.keys().copied().collect();
        (!slots.is_empty()).then(|| slots[pick % slots.len()])
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
