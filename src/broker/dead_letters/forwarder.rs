//! Moves dead letters: copies into the queues behind the dead letter exchange,
//! and the originals out of theirs.
//!
//! A move is one record of the log, copies and settlements, or nothing: after a
//! crash a letter is in one place. In memory it is two steps, each queue locked
//! by itself: first the copies go in, then the originals out. Should the log
//! have no room, the record is appended again until it has, and nothing else is
//! moved meanwhile: letters wait where a restart would find them.
//!
//! A copy may make further letters, in the queue that it came from too. They
//! are posted like any others and taken up in another round.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use leveret_protocol::Writer;

use crate::model::{ConnectionId, Now, QueueId, QueueName, Ticket, Verdict};
use crate::queue::Outcome;
use crate::routing::{Publish, Routed};
use crate::store::Settled;

use super::super::properties::identifiers;
use super::super::publish::{Batch, Target, history_length};
use super::super::random::Dice;
use super::super::{Durability, Node, Outbox, Vhost, Wakes};
use super::drops::{Drop, DropLog};
use super::headers::{Death, Forwarded};
use super::{DeadLetters, Letter};

/// Works until it is dropped or nothing can be stored any more.
pub async fn forward_dead_letters(node: Arc<Node>) {
    let letters = Arc::clone(node.dead_letters());
    let mut forwarder = Forwarder::new(node);
    loop {
        letters.posted.notified().await;
        while forwarder.move_some() {
            if !forwarder.write_down().await {
                return;
            }
            // Those who got something have their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// What moves letters, some at a time.
pub(super) struct Forwarder {
    node: Arc<Node>,
    letters: Arc<DeadLetters>,
    taken: Vec<Letter>,
    batch: Batch,
    targets: Vec<Target>,
    target_by_queue: HashMap<QueueId, u32>,
    /// Of the letter at hand.
    own_targets: Vec<u32>,
    routed: Routed,
    envelope: Vec<u8>,
    /// The letters that were copied, by their numbers in the batch.
    copied: Vec<usize>,
    /// Originals that go with the record.
    settled: Vec<Settled>,
    wakes: Wakes,
    drops: DropLog,
    /// For exchanges that draw.
    dice: Dice,
    /// The store wakes connections, by their outboxes.
    alarm_clock: Arc<Outbox>,
}

impl Forwarder {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self {
            letters: Arc::clone(node.dead_letters()),
            node,
            taken: Vec::new(),
            batch: Batch::default(),
            targets: Vec::new(),
            target_by_queue: HashMap::default(),
            own_targets: Vec::new(),
            routed: Routed::default(),
            envelope: Vec::new(),
            copied: Vec::new(),
            settled: Vec::new(),
            wakes: Wakes::default(),
            drops: DropLog::default(),
            dice: Dice::new(),
            alarm_clock: Outbox::new(ConnectionId(0), 0),
        }
    }

    /// Moves some of the letters that wait, if any do. What is to be written
    /// down of it then waits for [`Forwarder::write_down`].
    pub(super) fn move_some(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        self.letters.take(&mut taken);
        let now = self.node.now();
        self.batch.arrived(now);
        for (index, letter) in taken.iter().enumerate() {
            self.copy(index, letter, now);
        }
        self.batch.flush(&mut self.targets, &mut self.wakes);
        for number in self.batch.refused() {
            if let Some(letter) = self.copied.get(*number as usize)
                && let Some(letter) = taken.get(*letter)
            {
                let exchange = letter.exchange.as_ref();
                let target = exchange.map_or("", |name| name.as_str());
                self.drops.note(Drop::Refused, letter, target);
                self.letters.count_drop();
            }
        }
        self.settle(&mut taken, now);
        self.wakes.fire();
        self.copied.clear();
        self.targets.clear();
        self.target_by_queue.clear();
        let any = !taken.is_empty();
        self.letters.arrived(taken.len());
        taken.clear();
        self.taken = taken;
        any
    }

    /// Sends a copy of a letter on its way to the queues.
    fn copy(&mut self, index: usize, letter: &Letter, now: Now) {
        let vhost = self.node.vhost(&letter.vhost);
        let (Some(exchange), Some(vhost)) = (&letter.exchange, vhost) else {
            self.letters.count_drop();
            return;
        };
        let exchange = exchange.as_str();
        let routing = vhost.routing();
        if !exchange.is_empty() && routing.exchange(exchange).is_none() {
            self.drops.note(Drop::NoExchange, letter, exchange);
            self.letters.count_drop();
            return;
        }
        let death = Death {
            queue: letter.queue.as_str(),
            reason: letter.reason,
            seconds: now.0.as_secs(),
            routing_key: letter.routing_key.as_deref(),
        };
        let copy = Forwarded::new(&letter.message, &death);
        let keys: Vec<&str> = copy.routing_keys.iter().map(String::as_str).collect();
        let mut routed = std::mem::take(&mut self.routed);
        let publish = Publish {
            identifiers: identifiers(letter.message.header()).unwrap_or_default(),
            random: self.dice.roll(),
            ..Publish::new(&keys, &copy.headers)
        };
        routing.route(exchange, &publish, &mut routed);
        self.find_targets(letter, &vhost, &copy, &routed.queues);
        self.envelope.clear();
        let mut writer = Writer::new(&mut self.envelope);
        writer.shortstr(exchange);
        writer.shortstr(keys.first().copied().unwrap_or_default());
        let body = letter.message.body();
        if !routed.histories.is_empty() {
            let mut alone = Batch::default();
            alone.arrived(now);
            alone.store(&self.envelope, &copy.header, body, copy.traits);
            let kept = alone.into_single();
            for (name, message) in routed.histories.iter().zip(std::iter::repeat(kept)) {
                if let Some(message) = message {
                    let length = history_length(&routing, name.as_str());
                    vhost.histories.lock().push(name, length, message);
                }
            }
        }
        self.routed = routed;
        if self.own_targets.is_empty() {
            self.letters.count_drop();
            return;
        }
        let number = self
            .batch
            .store(&self.envelope, &copy.header, body, copy.traits);
        debug_assert_eq!(
            number as usize,
            self.copied.len(),
            "the batch has these copies and no others"
        );
        self.copied.push(index);
        self.batch
            .enqueue(number, &self.own_targets, &mut self.targets);
    }

    /// Fills `own_targets`.
    fn find_targets(
        &mut self,
        letter: &Letter,
        vhost: &Vhost,
        copy: &Forwarded,
        queues: &[QueueName],
    ) {
        self.own_targets.clear();
        for queue in queues {
            let Some(host) = vhost.find_queue(queue.as_str()) else {
                continue;
            };
            if copy.is_cycle(queue.as_str()) {
                self.drops.note(Drop::Cycle, letter, queue.as_str());
                continue;
            }
            let targets = &mut self.targets;
            let target = *self.target_by_queue.entry(host.id()).or_insert_with(|| {
                targets.push(Target::new(host));
                (targets.len() - 1) as u32
            });
            self.own_targets.push(target);
        }
    }

    /// Settles the originals, each queue's at once.
    fn settle(&mut self, taken: &mut [Letter], now: Now) {
        taken.sort_by_key(|letter| letter.source.as_ptr() as usize);
        let mut slots = Vec::new();
        for of_queue in taken.chunk_by(|a, b| a.source.ptr_eq(&b.source)) {
            let Some(host) = of_queue.first().and_then(|one| one.source.upgrade()) else {
                continue;
            };
            slots.clear();
            slots.extend(of_queue.iter().map(|letter| letter.slot));
            host.settle_in_transaction(
                &slots,
                Outcome::Ack,
                &mut self.settled,
                now,
                &mut self.wakes,
            );
        }
    }

    /// Has the store write down what was moved last, however long that takes;
    /// `false` if it never will.
    pub(super) async fn write_down(&mut self) -> bool {
        let node = Arc::clone(&self.node);
        let Some(storage) = node.storage() else {
            return true;
        };
        if self.batch.record().is_empty() {
            // Settlements alone have room kept back for them, and make some.
            if !self.settled.is_empty() {
                storage.settle(&self.settled, &[]);
            }
        } else {
            let (record, settled) = (self.batch.record(), &self.settled);
            let append = || record.append_again(storage, settled);
            if !until_stored(node.durability(), &self.alarm_clock, append).await {
                return false;
            }
        }
        self.batch.record().clear();
        self.settled.clear();
        true
    }
}

/// Appends a record, and again while the log has no room for it; `false` if
/// nothing is stored any more.
async fn until_stored(
    durability: &dyn Durability,
    alarm_clock: &Arc<Outbox>,
    mut append: impl FnMut() -> Ticket,
) -> bool {
    let mut was_refused = false;
    loop {
        let ticket = append();
        let progress = loop {
            durability.waiters().add(alarm_clock);
            let progress = durability.progress();
            match progress.verdict(ticket) {
                Verdict::Pending => alarm_clock.urgent().await,
                Verdict::Stored => return true,
                Verdict::Failed => break progress,
            }
        };
        if progress.stopped {
            return false;
        }
        if !std::mem::replace(&mut was_refused, true) {
            tracing::warn!("dead letters wait for room in the log");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// How often it is tried whether there is room again.
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::super::Waiters;
    use super::*;
    use crate::model::{Progress, TicketRange};

    /// A store that decides each ticket at once, and refuses the first ones.
    #[derive(Debug, Default)]
    struct Full {
        refuses: u64,
        dies: bool,
        appended: AtomicU64,
        waiters: Waiters,
    }

    impl Durability for Full {
        fn progress(&self) -> Progress {
            let refused = TicketRange {
                first: Ticket(1),
                last: Ticket(self.refuses),
            };
            Progress {
                durable: Ticket(self.appended.load(Ordering::Relaxed)),
                failed: [refused].into(),
                stopped: self.dies,
            }
        }

        fn definitions_ticket(&self) -> Ticket {
            Ticket(0)
        }

        fn definitions_verdict(&self, _ticket: Ticket) -> Verdict {
            Verdict::Stored
        }

        fn waiters(&self) -> &Waiters {
            &self.waiters
        }
    }

    #[tokio::test]
    async fn a_record_that_finds_no_room_is_appended_again_until_it_does() {
        for (refuses, dies, appended, is_stored) in [
            (0, false, 1, true),
            (2, false, 3, true),
            (1, true, 1, false),
        ] {
            let store = Full {
                refuses,
                dies,
                ..Full::default()
            };
            let append = || Ticket(store.appended.fetch_add(1, Ordering::Relaxed) + 1);
            let alarm_clock = Outbox::new(ConnectionId(0), 0);
            let stored = until_stored(&store, &alarm_clock, append).await;
            assert_eq!(stored, is_stored);
            assert_eq!(store.appended.load(Ordering::Relaxed), appended);
        }
    }
}
