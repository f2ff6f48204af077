//! What waits for one connection's task: the only way from a queue to a client.
//!
//! Queues push while they hold their own lock, so deliveries of one queue come
//! in order; the connection's task swaps the whole list out. An outbox holds at
//! most about its limit: the push that fills it parks the consumer
//! in its queue, and the task resumes it once it has written enough. So a slow
//! client costs its prefetch and this much, and nobody else waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{ConnectionId, Message};
use crate::queue::{ConsumerSlot, Delivery};

use super::QueueHost;

/// Something for a connection's task to pass on.
#[derive(Debug)]
pub enum Outgoing {
    /// The next so many of the deliveries, for one of its consumers.
    Deliver {
        /// Which consumer.
        serial: u32,
        /// How many.
        count: usize,
    },
    /// The broker ended a consumer.
    ConsumerCancelled {
        /// Which one.
        serial: u32,
    },
    /// The connection is to end, and why (320).
    Close(Arc<str>),
}

/// One connection's mailbox.
#[derive(Debug)]
pub struct Outbox {
    connection: ConnectionId,
    /// Octets of messages from which it counts as full.
    bytes_max: usize,
    state: Mutex<State>,
    wake: Notify,
    /// Told of what does not wait until the client has read more: a close, and
    /// what the store or the alarms have new.
    urgent: Notify,
    /// Whether the connection is to end.
    closes: AtomicBool,
    /// Whether it is among those that the store wakes.
    waits: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Outgoing>,
    /// The deliveries that the events tell of, in their order.
    deliveries: Vec<Delivery>,
    bytes: usize,
    /// Consumers that wait for room.
    parked: Vec<(Arc<QueueHost>, ConsumerSlot)>,
    /// Whether the task was woken and has not come yet.
    woken: bool,
}

/// Outboxes to wake once no lock is held.
#[derive(Debug, Default)]
pub struct Wakes(Vec<Arc<Outbox>>);

impl Outbox {
    /// An empty one that is full from `bytes_max` octets on.
    #[must_use]
    pub fn new(connection: ConnectionId, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            connection,
            bytes_max,
            state: Mutex::default(),
            wake: Notify::new(),
            urgent: Notify::new(),
            closes: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Tells a consumer that the broker has ended it.
    pub fn cancel(self: &Arc<Self>, serial: u32, wakes: &mut Wakes) {
        self.push(Outgoing::ConsumerCancelled { serial }, wakes);
    }

    /// Has the connection end.
    pub fn close(self: &Arc<Self>, reason: Arc<str>, wakes: &mut Wakes) {
        self.push(Outgoing::Close(reason), wakes);
        self.closes.store(true, Ordering::Release);
        self.urgent.notify_one();
    }

    /// Appends a message that comes from no queue and is settled by nothing.
    pub fn answer(self: &Arc<Self>, serial: u32, message: Message, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        state.bytes += message.stored_bytes() + OVERHEAD_BYTES;
        state.deliveries.push(Delivery {
            consumer: ConsumerSlot(0),
            unsettled: None,
            message,
            deliveries: 0,
        });
        state.events.push(Outgoing::Deliver { serial, count: 1 });
        wakes.add(self, &mut state);
    }

    /// Appends deliveries of one consumer, draining them. `false` if the outbox
    /// is full now: the queue then parks the consumer, and the outbox resumes it.
    pub(super) fn deliver(
        self: &Arc<Self>,
        serial: u32,
        deliveries: &mut Vec<Delivery>,
        from: &Arc<QueueHost>,
        consumer: ConsumerSlot,
        wakes: &mut Wakes,
    ) -> bool {
        let count = deliveries.len();
        let bytes = deliveries.iter().map(|one| one.message.stored_bytes());
        let bytes = bytes.sum::<usize>() + count * OVERHEAD_BYTES;
        let mut state = self.state.lock();
        state.bytes += bytes;
        state.deliveries.append(deliveries);
        match state.events.last_mut() {
            Some(Outgoing::Deliver {
                serial: last,
                count: before,
            }) if *last == serial => *before += count,
            _ => state.events.push(Outgoing::Deliver { serial, count }),
        }
        wakes.add(self, &mut state);
        let full = state.bytes >= self.bytes_max;
        if full {
            state.parked.push((Arc::clone(from), consumer));
        }
        !full
    }

    /// Takes everything out, into empty lists.
    pub fn take(&self, events: &mut Vec<Outgoing>, deliveries: &mut Vec<Delivery>) {
        debug_assert!(
            events.is_empty() && deliveries.is_empty(),
            "what was taken before is not handled yet"
        );
        let mut state = self.state.lock();
        state.woken = false;
        state.bytes = 0;
        std::mem::swap(&mut state.events, events);
        std::mem::swap(&mut state.deliveries, deliveries);
    }

    fn push(self: &Arc<Self>, event: Outgoing, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        state.bytes += OVERHEAD_BYTES;
        state.events.push(event);
        wakes.add(self, &mut state);
    }

    /// Consumers that may go on, now that there is room.
    pub fn take_parked(&self) -> Vec<(Arc<QueueHost>, ConsumerSlot)> {
        std::mem::take(&mut self.state.lock().parked)
    }

    /// Completes when something was pushed since the last [`Outbox::take`].
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Completes when the connection was nudged or is to end, since the last
    /// time.
    pub async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Whether the connection was told to end.
    #[must_use]
    pub fn close_asked(&self) -> bool {
        self.closes.load(Ordering::Acquire)
    }

    /// Has the connection's task look at the store and the alarms again.
    pub fn nudge(&self) {
        self.urgent.notify_one();
    }

    /// Whether it did not wait for the store before.
    pub(super) fn start_waiting(&self) -> bool {
        !self.waits.swap(true, Ordering::AcqRel)
    }

    /// The store has come further.
    pub(super) fn waited(&self) {
        self.waits.store(false, Ordering::Release);
        self.nudge();
    }
}

impl Wakes {
    /// Wakes all that were pushed to.
    pub fn fire(&mut self) {
        for outbox in self.0.drain(..) {
            outbox.wake.notify_one();
        }
    }

    /// Whether there is nobody to wake.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, outbox: &Arc<Outbox>, state: &mut State) {
        if !state.woken {
            state.woken = true;
            self.0.push(Arc::clone(outbox));
        }
    }
}

/// What an event counts beside a message's octets.
const OVERHEAD_BYTES: usize = 64;
