//! Any sequence of commands against a naive model: a list of the messages that
//! are not gone, each with its state. The model does not know how the queue picks
//! a consumer; it says for each delivery whether it was allowed, and after each
//! [`Queue::deliver`] whether something was left undone. Paging and restarts
//! change nothing of what is delivered, in what order and how it is flagged.
//!
//! Time passes by an operation. Where the host is prompt, it does its duty after
//! each command, as the broker's does; where it is not, whatever happens late
//! must be as if it had happened in time.
//!
//! `PROPTEST_CASES` raises the number of cases.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use self::message::{Name, number};
use self::operation::{Operation, late_operation, operation};
use self::rules::{Features, features, late_features};
use self::state::{Entry, State};
use self::store::Store;
use super::paging::Limits;
use super::*;
use crate::model::{DeathReason, NameHash, Now, QueueRules, QueueSettings};

mod compare;
mod consumers;
pub(super) mod message;
mod operation;
mod publish;
mod restart;
mod rules;
mod settle;
mod state;
mod store;
mod time;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(1_000),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_queue_does_what_the_model_says(
        (auto_delete, durable, prompt) in any::<(bool, bool, bool)>(),
        limits in limits(),
        features in features(),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let settings = QueueSettings {
            auto_delete,
            durable,
            rules: features.rules.clone(),
            ..QueueSettings::default()
        };
        Run::new(settings, features, prompt, limits).run(operations);
    }

    /// Messages that wait, come back and are paged, over many restarts.
    #[test]
    fn what_waits_does_what_the_model_says(
        (durable, prompt) in any::<(bool, bool)>(),
        limits in limits(),
        features in late_features(),
        operations in prop::collection::vec(late_operation(), 1..80),
    ) {
        let settings = QueueSettings {
            durable,
            rules: features.rules.clone(),
            ..QueueSettings::default()
        };
        Run::new(settings, features, prompt, limits).run(operations);
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let letters = prop_oneof![1..6_u64, Just(4_096)];
    let limits = (1..500_u64, 0..500_u64, 1..500_u64, letters);
    limits.prop_map(|(run_bytes, head_bytes, more_bytes, letters)| Limits {
        run_bytes,
        head_bytes,
        read_ahead_bytes: head_bytes + more_bytes,
        letters,
    })
}

/// Milliseconds since 1970.
type Time = u64;

/// The queue, the model of it, and a host that does its duties.
struct Run {
    queue: Queue,
    settings: QueueSettings,
    features: Features,
    rules: QueueRules,
    limits: Limits,
    prompt: bool,
    now: Time,
    store: Store,
    /// Those that are not gone, by place.
    messages: Vec<Entry>,
    /// The place of the next message.
    next: u64,
    /// How many messages' time has come.
    released: u64,
    /// What died since the last command, as the queue says.
    letters: BTreeMap<u64, (UnsettledSlot, DeathReason)>,
    /// Slots whose messages were taken away from their consumers.
    taken: Vec<UnsettledSlot>,
    /// Names that are remembered, the oldest first.
    names: VecDeque<(Time, Name)>,
    /// Names that were written down with their messages, the oldest first.
    named: Vec<(Time, Name)>,
    /// What the queue calls names.
    hashes: Vec<(Name, NameHash)>,
    /// When the queue was last in use.
    used_at: Time,
    enqueued: u64,
    duplicates: u64,
    settled: u64,
    purged: u64,
    lost: u64,
    /// How probable it is that all retries waited for the middle of what they may.
    chance_of_middle: f64,
    /// One of them did not.
    off_middle: bool,
    /// By slot; a cancelled one leaves at once.
    consumers: BTreeMap<u32, Consumer>,
    /// The single active consumer.
    active: Option<u32>,
    channels: Vec<Channel>,
    serial: u32,
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
    fn new(settings: QueueSettings, features: Features, prompt: bool, limits: Limits) -> Self {
        let channel = |_| Channel {
            credit: Arc::default(),
            limit: 0,
        };
        let queue = Queue::with_limits(settings.clone(), Restored::default(), limits, at(START));
        Self {
            queue,
            rules: settings.rules.clone(),
            settings,
            features,
            limits,
            prompt,
            now: START,
            store: Store::default(),
            messages: Vec::new(),
            next: 0,
            released: 0,
            letters: BTreeMap::new(),
            taken: Vec::new(),
            names: VecDeque::new(),
            named: Vec::new(),
            hashes: Vec::new(),
            used_at: START,
            enqueued: 0,
            duplicates: 0,
            settled: 0,
            purged: 0,
            lost: 0,
            chance_of_middle: 1.0,
            off_middle: false,
            consumers: BTreeMap::new(),
            active: None,
            channels: (0..CHANNELS).map(channel).collect(),
            serial: 0,
        }
    }

    fn run(mut self, operations: Vec<Operation>) {
        for operation in operations {
            self.apply(operation);
            if self.prompt {
                self.do_duty();
            }
            self.compare();
        }
        self.drain();
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Publish { specs } => self.publish(&specs),
            Operation::Advance { millis } => self.now += millis,
            Operation::Tick => self.tick(),
            Operation::EnforceLimits => self.enforce_limits(),
            Operation::Touch => {
                self.queue.touch(at(self.now));
                self.used_at = self.now;
            }
            Operation::SettleLetters { picks } => {
                let slots = self.pick_slots(&picks, |state| matches!(state, State::Letter { .. }));
                self.settle(&slots, Outcome::Ack);
            }
            Operation::RefuseName { pick } => self.refuse_name(pick),
            Operation::SetRules(rules) => self.set_rules(*rules),
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
                    let cancelled = self.queue.cancel(ConsumerSlot(slot), at(self.now));
                    assert_eq!(cancelled, None);
                }
            }
            Operation::Park { pick } => {
                if let Some(slot) = self.pick_consumer(pick) {
                    self.queue.park(ConsumerSlot(slot));
                    // One that stands by has got nothing that could fill its outbox.
                    let stands_by = self.active.is_some_and(|active| active != slot);
                    self.consumers.get_mut(&slot).unwrap().parked = !stands_by;
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
                let slots =
                    self.pick_slots(&picks, |state| matches!(state, State::Unsettled { .. }));
                self.settle(&slots, outcome);
            }
            Operation::SettleTaken { outcome } => {
                let taken = std::mem::take(&mut self.taken);
                self.settle(&taken, outcome);
            }
            Operation::SettleStale { slot, outcome } => {
                if !self.is_used(UnsettledSlot(slot)) {
                    self.queue
                        .settle(&[UnsettledSlot(slot)], outcome, at(self.now));
                }
            }
            Operation::Purge => self.purge(),
            Operation::Deliver { budget_bytes } => {
                self.deliver(budget_bytes);
            }
            Operation::PageOut { partial } => self.page_out(partial),
            Operation::Written { pick, success } => self.written(pick, success),
            Operation::PageWanted { ahead } => self.page_wanted(ahead),
            Operation::Read { pick, damage } => self.read(pick, damage),
            Operation::ReadMissing { damage } => self.read_missing(damage),
            Operation::Restart(restart) => self.restart(restart),
        }
    }

    /// What the broker's queue host does after each command.
    fn do_duty(&mut self) {
        let is_due = |queue: &Queue, now| queue.next_due().filter(|due| *due <= now);
        while self.deliver(usize::MAX) {}
        loop {
            let before = (self.queue.next_due(), self.queue.counts());
            while let Some(due) = is_due(&self.queue, self.now) {
                self.tick();
                while self.deliver(usize::MAX) {}
                if self.queue.next_due() == Some(due) {
                    break;
                }
            }
            self.enforce_limits();
            // Otherwise the timer goes off at once.
            let after = (self.queue.next_due(), self.queue.counts());
            if is_due(&self.queue, self.now).is_none() || after == before {
                break;
            }
        }
        self.check_done();
    }

    fn purge(&mut self) {
        let before = self.messages.len();
        self.messages.retain(|entry| entry.state != State::Ready);
        let purged = (before - self.messages.len()) as u64;
        self.purged += purged;
        self.store.purged = true;
        assert_eq!(self.queue.purge(), purged);
    }

    /// Once nothing disturbs it any more, every message reaches a consumer.
    fn drain(&mut self) {
        for channel in 0..CHANNELS {
            self.apply(Operation::SetLimit { channel, limit: 0 });
        }
        for pick in 0..self.consumers.len() {
            self.apply(Operation::Resume { pick });
        }
        let expected = self.messages.len();
        for _ in 0..=2 * expected + 4 {
            if self.consumers.is_empty() {
                self.apply(Operation::Consume {
                    priority: 0,
                    prefetch: Some(1),
                    no_ack: false,
                    exclusive: false,
                    channel: None,
                });
            }
            self.page_wanted(true);
            while !self.store.reading.is_empty() {
                self.read(0, 0);
            }
            self.read_missing(0);
            self.do_duty();
            self.compare();
            let unsettled: Vec<_> = self.slots(|_| true).collect();
            self.settle(&unsettled, Outcome::Ack);
            let taken = std::mem::take(&mut self.taken);
            self.settle(&taken, Outcome::Ack);
            self.compare();
            if unsettled.is_empty() {
                // Only what waits for its time is left, or for something that does.
                self.now = self.queue.next_due().unwrap_or(self.now).max(self.now);
            }
        }
        assert!(self.messages.is_empty(), "the queue did not drain");
        while !self.store.writing.is_empty() {
            self.written(0, true);
        }
        assert!(!self.store.has_pages(), "pages are left");
        assert!(
            self.off_middle || self.chance_of_middle > 1e-9,
            "no retry was spread"
        );
    }
}

fn at(time: Time) -> Now {
    Now(Duration::from_millis(time))
}

/// That much later, but never early: the rest of a millisecond counts as one.
fn after(time: Time, millis: u64) -> Time {
    time + millis + u64::from(millis > 0)
}

/// `PROPTEST_CASES`, or `few`.
fn cases(few: u32) -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => few,
    }
}

const CHANNELS: usize = 2;
const START: Time = 1_000_000;
