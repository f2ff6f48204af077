//! Dead letters on their way from the queue that they died in to the exchange
//! that its rules name.
//!
//! ```text
//! Queue::letters ─post─▶ waiting ─Forwarder─▶ copies in their queues
//!      the original is unsettled ───────────▶ settled, in the same record
//! ```
//!
//! A queue's host posts its letters under the queue's lock, so they keep their
//! order; one task for the whole node moves them, with no lock held. Until then
//! a letter is an unsettled message of its queue, which is where a restart
//! finds it, and which lets no more die while it has some thousands of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{DeathReason, ExchangeName, Message, QueueName, QueueRules, VhostName};
use crate::queue::{DeadLetter, UnsettledSlot};

use super::QueueHost;

mod drops;
mod forwarder;
mod headers;

#[cfg(test)]
mod tests;

pub use forwarder::forward_dead_letters;

/// The dead letters of a node that are on their way.
#[derive(Debug, Default)]
pub struct DeadLetters {
    waiting: Mutex<VecDeque<Letter>>,
    posted: Notify,
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

/// What became of dead letters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeadLetterCounts {
    /// Letters that left their queues.
    pub forwarded: u64,
    /// Of those, how many a queue refused or none got: the exchange was missing,
    /// led nowhere or in a circle.
    pub dropped: u64,
}

/// A message that died, and where it goes by the rules of that moment.
#[derive(Debug)]
struct Letter {
    /// Gone, if the queue was deleted meanwhile: the letter still goes.
    source: Weak<QueueHost>,
    queue: QueueName,
    vhost: VhostName,
    slot: UnsettledSlot,
    message: Message,
    reason: DeathReason,
    exchange: Option<ExchangeName>,
    routing_key: Option<Arc<str>>,
}

impl DeadLetters {
    /// What became of those that are not on their way any more.
    #[must_use]
    pub fn counts(&self) -> DeadLetterCounts {
        DeadLetterCounts {
            forwarded: self.forwarded.load(Ordering::Acquire),
            dropped: self.dropped.load(Ordering::Acquire),
        }
    }

    /// Takes the letters of a queue, which is locked and has those rules.
    pub(super) fn post(
        &self,
        source: &Arc<QueueHost>,
        vhost: &VhostName,
        rules: &QueueRules,
        letters: &mut Vec<DeadLetter>,
    ) {
        let letter = |dead: DeadLetter| Letter {
            source: Arc::downgrade(source),
            queue: source.name().clone(),
            vhost: vhost.clone(),
            slot: dead.slot,
            message: dead.message,
            reason: dead.reason,
            exchange: rules.dead_letter_exchange.clone(),
            routing_key: rules.dead_letter_routing_key.clone(),
        };
        self.waiting.lock().extend(letters.drain(..).map(letter));
        self.posted.notify_one();
    }

    /// Takes out the oldest, up to a number and size that are moved at once.
    fn take(&self, taken: &mut Vec<Letter>) {
        let mut bytes = 0;
        let mut waiting = self.waiting.lock();
        while taken.len() < LETTERS_AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some(letter) = waiting.pop_front()
        {
            bytes += letter.message.stored_bytes();
            taken.push(letter);
        }
        if waiting.is_empty() && waiting.capacity() > CAPACITY_KEPT {
            *waiting = VecDeque::new();
        }
    }

    /// A letter came to nothing, or was refused.
    fn count_drop(&self) {
        self.dropped.fetch_add(1, Ordering::AcqRel);
    }

    /// So many have arrived, whatever became of them.
    fn arrived(&self, letters: usize) {
        self.forwarded.fetch_add(letters as u64, Ordering::AcqRel);
    }
}

/// Letters that are moved with one look at each queue and one record.
const LETTERS_AT_ONCE: usize = 1_024;
/// Octets of those after which no more are added.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// Letters for which there stays room when all are gone.
const CAPACITY_KEPT: usize = 4_096;
