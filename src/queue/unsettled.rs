//! Messages that were handed out and wait for their settlement.

use slab::Slab;

use super::ConsumerSlot;
use super::ready::Queued;

/// Which of a queue's unsettled messages; valid until it is settled, which
/// whoever holds it does exactly once.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UnsettledSlot(pub u32);

/// The unsettled messages by slot.
#[derive(Debug)]
pub(super) struct Unsettled {
    entries: Slab<Held>,
    /// Entries left when returning memory was last tried, since there were many.
    tried_at: usize,
}

/// An unsettled message and whose credit it holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) queued: Queued,
    /// `None` for a `basic.get`.
    pub(super) consumer: Option<ConsumerSlot>,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Whether there is no slot left.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= UNSETTLED_MAX
    }

    pub(super) fn insert(&mut self, held: Held) -> UnsettledSlot {
        debug_assert!(!self.is_full(), "slots are 32 bits wide");
        UnsettledSlot(self.entries.insert(held) as u32)
    }

    /// `None` for a slot that is not in use.
    pub(super) fn remove(&mut self, slot: UnsettledSlot) -> Option<Held> {
        self.entries.try_remove(slot.0 as usize)
    }

    /// Returns memory once a burst is settled. Entries cannot move, so one that
    /// stands far behind holds the memory; after a vain attempt the next waits
    /// until half of the rest is gone, so that each costs a message little.
    pub(super) fn shrink(&mut self) {
        let (held, capacity) = (self.entries.len(), self.entries.capacity());
        if capacity <= CAPACITY_KEPT || held > capacity / 8 {
            self.tried_at = usize::MAX;
            return;
        }
        if held <= self.tried_at / 2 {
            self.entries.shrink_to_fit();
            self.tried_at = held;
        }
    }
}

impl Default for Unsettled {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            tried_at: usize::MAX,
        }
    }
}

/// Slots are 32 bits wide.
const UNSETTLED_MAX: usize = u32::MAX as usize;
/// Entries for which there stays room when all is settled (32 octets each).
const CAPACITY_KEPT: usize = 1024;
