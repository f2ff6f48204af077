//! A queue and those who read it: runs the state machine under a lock and
//! carries its deliveries to the consumers' outboxes.
//!
//! The lock is held for a batch, never across an await. Deliveries are pushed
//! while it is held, because two batches must not overtake each other on their
//! way; whoever is to be woken is woken after.
//!
//! What the queue notes for its store is passed on under the same lock, in
//! `settle_with_store`, so that the store hears of everything in order; messages
//! that died go to [`DeadLetters`] there.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{
    BrokerError, ConnectionId, ConsumerKey, Entity, Message, Now, QueueId, QueueName, QueueRules,
    QueueSettings, VhostName,
};
use crate::queue::{
    ConsumerSlot, ConsumerSpec, Counts, Delivery, Get, Got, LagReport, Outcome, Published, Queue,
    Restored, UnsettledSlot,
};
use crate::store::Settled;

use super::ledger::Ledger;
use super::timers::Timers;
use super::{Clock, DeadLetters, Outbox, Storage, Wakes};

mod as_delivered;
mod handing_out;
mod paging;

/// One queue.
#[derive(Debug)]
pub struct QueueHost {
    id: QueueId,
    name: QueueName,
    vhost: VhostName,
    settings: QueueSettings,
    /// `None` if everything lives in memory only.
    storage: Option<Arc<Storage>>,
    clock: Clock,
    timers: Arc<Timers>,
    dead_letters: Arc<DeadLetters>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// By [`ConsumerSlot`].
    readers: Vec<Option<Reader>>,
    /// Deliveries of the current batch; kept for its memory.
    deliveries: Vec<Delivery>,
    /// Nothing goes in any more, and what comes out is nobody's.
    deleted: bool,
    /// When it is woken next, in milliseconds since 1970.
    armed: Option<u64>,
    /// What its waiting messages take in memory, as the storage knows it.
    resident_bytes: u64,
    /// Settlements on their way to the store; kept for its memory.
    settled: Vec<Settled>,
}

#[derive(Debug)]
struct Reader {
    serial: u32,
    outbox: Arc<Outbox>,
    staged: Vec<Delivery>,
}

/// A consumer that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cancelled {
    /// It was the last of an auto-delete queue, which goes with it.
    pub delete_queue: bool,
}

impl QueueHost {
    pub(super) fn new(
        id: QueueId,
        name: QueueName,
        vhost: VhostName,
        settings: QueueSettings,
        rules: QueueRules,
        restored: Option<Restored>,
        ledger: &Ledger,
    ) -> Arc<Self> {
        let now = ledger.clock().now();
        let ruled = QueueSettings {
            rules,
            ..settings.clone()
        };
        let queue = match restored {
            Some(restored) => Queue::restore(ruled, restored, now),
            None => Queue::new(ruled, now),
        };
        let host = Arc::new(Self {
            id,
            name,
            vhost,
            state: Mutex::new(State {
                queue,
                readers: Vec::new(),
                deliveries: Vec::new(),
                deleted: false,
                armed: None,
                resident_bytes: 0,
                settled: Vec::new(),
            }),
            settings,
            storage: ledger.storage().cloned(),
            clock: ledger.clock(),
            timers: Arc::clone(ledger.timers()),
            dead_letters: Arc::clone(ledger.dead_letters()),
        });
        if let Some(storage) = &host.storage
            && host.settings.durable
        {
            storage.register(id);
        }
        let mut wakes = Wakes::default();
        host.carry_out(&mut host.state.lock(), now, &mut wakes);
        wakes.fire();
        host
    }

    /// A number that no other queue of this broker ever has.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// Its virtual host's name.
    #[must_use]
    pub fn vhost(&self) -> &VhostName {
        &self.vhost
    }

    /// As declared.
    #[must_use]
    pub fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// How error texts name it.
    #[must_use]
    pub fn entity(&self) -> Entity {
        Entity::Queue(self.name.clone(), self.vhost.clone())
    }

    /// Refuses another connection's exclusive queue.
    ///
    /// # Errors
    /// 405
    pub fn check_owner(&self, connection: ConnectionId) -> Result<(), BrokerError> {
        match self.settings.exclusive {
            Some(owner) if owner != connection => Err(BrokerError::QueueLocked(self.entity())),
            _ => Ok(()),
        }
    }

    /// Messages and consumers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.lock().queue.counts()
    }

    /// How far behind its consumers are; who has settled nothing for `patience`
    /// milliseconds is named.
    #[must_use]
    pub fn lag(&self, now: Now, patience: u64) -> LagReport {
        self.state.lock().queue.lag(now, patience)
    }

    /// Takes messages, draining the list. A deleted queue drops them: whoever
    /// published them was routed before it went. Where they are.
    pub fn publish(
        self: &Arc<Self>,
        messages: &mut Vec<Message>,
        now: Now,
        wakes: &mut Wakes,
    ) -> Option<Published> {
        let mut state = self.state.lock();
        if state.deleted {
            messages.clear();
            return None;
        }
        if self.settings.rules.deduplication.is_some()
            && let Some(storage) = &self.storage
        {
            state.queue.forget_names(&storage.refused_names(self.id));
        }
        let published = if state.queue.rules().may_refuse() {
            self.publish_each(&mut state, messages, now, wakes)
        } else {
            state.queue.publish(messages, now)
        };
        self.carry_out(&mut state, now, wakes);
        Some(published)
    }

    /// Publishes one message after the other, and lets consumers take what they
    /// can in between: what they take does not fill the queue.
    fn publish_each(
        self: &Arc<Self>,
        state: &mut State,
        messages: &mut Vec<Message>,
        now: Now,
        wakes: &mut Wakes,
    ) -> Published {
        let mut all: Option<Published> = None;
        let mut one = Vec::with_capacity(1);
        for (position, message) in messages.drain(..).enumerate() {
            one.push(message);
            let published = state.queue.publish(&mut one, now);
            self.hand_out(state, now, wakes);
            let all = all.get_or_insert_with(|| Published {
                first: published.first,
                ..Published::default()
            });
            debug_assert_eq!(
                published.first.0,
                all.first.0 + position as u64,
                "places follow each other while the queue is locked"
            );
            let unplaced = published.unplaced.into_iter();
            all.unplaced
                .extend(unplaced.map(|(_, why)| (position as u32, why)));
            all.named.extend(published.named);
            all.repeated.extend(published.repeated);
        }
        all.unwrap_or_default()
    }

    /// Whether persistent messages that it takes are to be written down.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.settings.durable && self.storage.is_some()
    }

    /// Adds a consumer. What it is owed is handed out at once.
    ///
    /// # Errors
    /// 404 if the queue has just gone, 403 if someone has it for himself.
    pub fn consume(
        self: &Arc<Self>,
        spec: ConsumerSpec,
        outbox: &Arc<Outbox>,
        now: Now,
        wakes: &mut Wakes,
    ) -> Result<ConsumerSlot, BrokerError> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(BrokerError::no_queue(&self.name, &self.vhost));
        }
        let serial = spec.key.serial;
        let slot = state
            .queue
            .consume(spec, now)
            .map_err(|_| BrokerError::ExclusiveUse(self.entity()))?;
        let index = slot.0 as usize;
        if state.readers.len() <= index {
            state.readers.resize_with(index + 1, || None);
        }
        state.readers[index] = Some(Reader {
            serial,
            outbox: Arc::clone(outbox),
            staged: Vec::new(),
        });
        self.carry_out(&mut state, now, wakes);
        Ok(slot)
    }

    /// Ends a consumer, named by its connection's serial too: it may have been
    /// ended for holding a message too long, and its slot be another's. Nothing
    /// more is pushed for it after this.
    pub fn cancel(
        self: &Arc<Self>,
        consumer: ConsumerSlot,
        key: ConsumerKey,
        now: Now,
        wakes: &mut Wakes,
    ) -> Cancelled {
        let mut state = self.state.lock();
        if state.deleted {
            return Cancelled {
                delete_queue: false,
            };
        }
        if state.queue.consumer(consumer) != Some(key) {
            return Cancelled {
                delete_queue: false,
            };
        }
        if let Some(reader) = state.readers.get_mut(consumer.0 as usize) {
            *reader = None;
        }
        let cancelled = state.queue.cancel(consumer, now);
        self.carry_out(&mut state, now, wakes);
        Cancelled {
            delete_queue: cancelled.is_some_and(|cancelled| cancelled.delete_queue),
        }
    }

    /// Pushes nothing more for a consumer that is about to be cancelled, named as
    /// for [`QueueHost::cancel`].
    pub fn silence(&self, consumer: ConsumerSlot, key: ConsumerKey) {
        let mut state = self.state.lock();
        if !state.deleted && state.queue.consumer(consumer) == Some(key) {
            state.queue.silence(consumer);
        }
    }

    /// Lets a consumer go on that waited for room in its outbox or on its
    /// channel.
    pub fn resume(self: &Arc<Self>, consumer: ConsumerSlot, now: Now, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        if !state.deleted {
            state.queue.resume(consumer);
            self.carry_out(&mut state, now, wakes);
        }
    }

    /// Takes one message out for a `basic.get`.
    pub fn get(self: &Arc<Self>, no_ack: bool, now: Now, wakes: &mut Wakes) -> Option<Got> {
        let mut state = self.state.lock();
        if state.deleted {
            return None;
        }
        let got = loop {
            match state.queue.get(no_ack, now) {
                Get::Message(mut got) => {
                    let counts = state.queue.rules().counts_deliveries();
                    self.dress(&mut got.message, got.deliveries, counts);
                    break Some(got);
                }
                Get::Empty => break None,
                // Read ahead of the getters, so that this is rare.
                Get::Missing(missing) => self.read_at_once(&mut state, missing, now),
            }
        };
        self.carry_out(&mut state, now, wakes);
        got
    }

    /// Settles messages; what that makes possible is handed out.
    pub fn settle(
        self: &Arc<Self>,
        slots: &[UnsettledSlot],
        outcome: Outcome,
        now: Now,
        wakes: &mut Wakes,
    ) {
        let mut state = self.state.lock();
        if !state.deleted {
            state.queue.settle(slots, outcome, now);
            self.carry_out(&mut state, now, wakes);
        }
    }

    /// Settles messages as part of a transaction: what is to be written down is
    /// appended to `settled` and counts with the rest of it.
    pub fn settle_in_transaction(
        self: &Arc<Self>,
        slots: &[UnsettledSlot],
        outcome: Outcome,
        settled: &mut Vec<Settled>,
        now: Now,
        wakes: &mut Wakes,
    ) {
        let mut state = self.state.lock();
        if !state.deleted {
            state.queue.settle(slots, outcome, now);
            if self.is_stored() {
                let queue = self.id;
                let ranges = state.queue.journal().settled.drain(..);
                settled.extend(ranges.map(|range| Settled { queue, range }));
            }
            self.carry_out(&mut state, now, wakes);
        }
    }

    /// The rules that it goes by: its arguments' and its policies'.
    #[must_use]
    pub fn rules(&self) -> QueueRules {
        self.state.lock().queue.rules().clone()
    }

    /// Drops all ready messages; how many.
    pub fn purge(self: &Arc<Self>, now: Now, wakes: &mut Wakes) -> u64 {
        let mut state = self.state.lock();
        if state.deleted {
            0
        } else {
            let count = state.queue.purge();
            self.carry_out(&mut state, now, wakes);
            count
        }
    }

    /// Goes by other rules from now on.
    pub(super) fn set_rules(self: &Arc<Self>, rules: QueueRules, now: Now, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        if !state.deleted && *state.queue.rules() != rules {
            state.queue.set_rules(rules, now);
            self.carry_out(&mut state, now, wakes);
        }
    }

    /// It was declared again: it is in use.
    pub(super) fn touch(&self, now: Now) {
        self.state.lock().queue.touch(now);
    }

    /// Does what is due; whether the queue is to be deleted, because it is
    /// unused for so long.
    pub(super) fn tick(self: &Arc<Self>, now: Now, wakes: &mut Wakes) -> bool {
        let mut state = self.state.lock();
        if state.deleted {
            return false;
        }
        state.armed = None;
        let unused = state.queue.tick(now);
        self.carry_out(&mut state, now, wakes);
        unused
    }

    /// Ends the queue if nothing speaks against it; how many messages went.
    ///
    /// # Errors
    /// 406 if it is in use or not empty and that was a condition.
    pub(super) fn delete(
        &self,
        if_unused: bool,
        if_empty: bool,
        wakes: &mut Wakes,
    ) -> Result<u64, BrokerError> {
        let mut state = self.state.lock();
        if state.deleted {
            return Ok(0);
        }
        let counts = state.queue.counts();
        let refuse = |why: &str| {
            Err(BrokerError::Precondition(format!(
                "{} {why}",
                self.entity()
            )))
        };
        if if_unused && counts.consumers > 0 {
            return refuse("in use");
        }
        if if_empty && counts.ready > 0 {
            return refuse("not empty");
        }
        state.deleted = true;
        if let Some(armed) = state.armed.take() {
            self.timers.leave(self.id, armed);
        }
        let readers = std::mem::take(&mut state.readers);
        let queue = std::mem::replace(
            &mut state.queue,
            Queue::new(self.settings.clone(), self.clock.now()),
        );
        self.count_resident(&mut state);
        // Freeing many messages takes its time: nobody waits for the lock
        // meanwhile. It also gives channels their credit back, so it comes
        // before the word that makes them use it.
        drop(state);
        drop(queue);
        for reader in readers.into_iter().flatten() {
            let serial = reader.serial;
            reader.outbox.cancel(serial, wakes);
        }
        Ok(counts.ready)
    }

    /// Whether its auto-delete queue still has no consumer, asked by whoever is
    /// to delete it.
    pub(super) fn is_unused(&self) -> bool {
        self.state.lock().queue.counts().consumers == 0
    }

    /// Carries out what a command has made possible or due. To be called with
    /// the lock held, after everything that the queue was told.
    #[inline]
    fn carry_out(self: &Arc<Self>, state: &mut State, now: Now, wakes: &mut Wakes) {
        self.hand_out(state, now, wakes);
        if !state.queue.is_plain() {
            self.keep_rules(state, now, wakes);
        }
        self.settle_with_store(state);
    }

    /// Does what is due, lets go what is too much, and has the queue woken when
    /// the next thing is due.
    #[cold]
    fn keep_rules(self: &Arc<Self>, state: &mut State, now: Now, wakes: &mut Wakes) {
        // What is released can be delivered, and what is delivered makes room.
        while let Some(due) = state.queue.next_due().filter(|due| *due <= now.millis()) {
            state.queue.tick(now);
            self.hand_out(state, now, wakes);
            if state.queue.next_due() == Some(due) {
                break;
            }
        }
        state.queue.enforce_limits();
        let State { queue, readers, .. } = state;
        for consumer in queue.timed_out().drain(..) {
            let reader = readers.get_mut(consumer.0 as usize).and_then(Option::take);
            if let Some(Reader { serial, outbox, .. }) = reader {
                tracing::warn!(
                    queue = self.name.as_str(),
                    vhost = self.vhost.as_str(),
                    "a consumer held a message for too long and is cancelled"
                );
                outbox.cancel(serial, wakes);
            }
        }
        if let Some(due) = state.queue.next_due()
            && state.armed.is_none_or(|armed| due < armed)
        {
            self.timers.enter(self, due, state.armed);
            state.armed = Some(due);
        }
    }
}
