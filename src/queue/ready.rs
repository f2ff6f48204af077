//! Ready messages: a log in the order of arrival, and beside it what was
//! requeued.
//!
//! A message's place is its [`Sequence`]. The log holds consecutive ones, so it
//! keeps only the first. Whatever was handed out is older than all that is in
//! the log; therefore what comes back is delivered before the log goes on, and
//! the order is kept by looking into a map only while something is in it.

use std::collections::{BTreeMap, VecDeque};

use crate::model::Message;

/// A message's place in its queue, counted from 0; kept over requeues.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Sequence(u64);

/// A message with what its queue knows of it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) sequence: Sequence,
    pub(super) message: Message,
    /// How often a client may have seen it; above 0 it is flagged `redelivered`.
    pub(super) deliveries: u32,
}

impl Queued {
    /// Whether a client may have seen it.
    #[inline]
    pub(super) fn redelivered(&self) -> bool {
        self.deliveries > 0
    }
}

/// The messages that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ready {
    log: VecDeque<Message>,
    /// Of the log's first message.
    log_start: Sequence,
    /// All below `log_start`.
    returned: BTreeMap<Sequence, Returned>,
    bytes: u64,
}

#[derive(Debug)]
struct Returned {
    message: Message,
    deliveries: u32,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.log.len() + self.returned.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.returned.is_empty()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.log.capacity()
    }

    /// Octets of all of them, as stored.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the messages in order and leaves the vec empty.
    pub(super) fn append(&mut self, messages: &mut Vec<Message>) {
        let bytes = messages.iter().map(Message::stored_bytes).sum::<usize>();
        self.bytes += bytes as u64;
        self.log.extend(messages.drain(..));
    }

    /// Takes out the oldest.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Queued> {
        if !self.returned.is_empty() {
            return self.pop_returned();
        }
        let message = self.log.pop_front()?;
        let sequence = self.log_start;
        self.log_start.0 += 1;
        self.bytes -= message.stored_bytes() as u64;
        let deliveries = 0;
        Some(Queued {
            sequence,
            message,
            deliveries,
        })
    }

    #[cold]
    fn pop_returned(&mut self) -> Option<Queued> {
        let (sequence, returned) = self.returned.pop_first()?;
        self.bytes -= returned.message.stored_bytes() as u64;
        Some(Queued {
            sequence,
            message: returned.message,
            deliveries: returned.deliveries,
        })
    }

    /// Puts a message that was taken out back to its place.
    pub(super) fn put_back(&mut self, queued: Queued) {
        let Queued {
            sequence,
            message,
            deliveries,
        } = queued;
        debug_assert!(
            sequence < self.log_start,
            "requeued before it was taken out"
        );
        self.bytes += message.stored_bytes() as u64;
        let returned = Returned {
            message,
            deliveries,
        };
        let before = self.returned.insert(sequence, returned);
        debug_assert!(before.is_none(), "two messages in one place");
    }

    /// Drops all of them; how many there were.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.len();
        self.log_start.0 += self.log.len() as u64;
        self.log.clear();
        self.returned.clear();
        self.bytes = 0;
        count
    }

    /// Returns memory once a backlog is gone. Acting at an eighth and leaving
    /// room for four times the rest costs each message a small constant, however
    /// the length swings.
    pub(super) fn shrink(&mut self) {
        let (waiting, capacity) = (self.log.len(), self.log.capacity());
        if capacity > LOG_CAPACITY_KEPT && waiting < capacity / 8 {
            self.log.shrink_to(LOG_CAPACITY_KEPT.max(waiting * 4));
        }
    }
}

/// Messages for which the log keeps room when it is empty (16 octets each).
const LOG_CAPACITY_KEPT: usize = 1024;
