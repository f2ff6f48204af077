//! Messages that were handed out and wait for their settlement.

use std::collections::VecDeque;

use slab::Slab;

use super::ConsumerSlot;
use super::ready::Queued;
use crate::model::Sequence;

/// Which of a queue's unsettled messages; valid until it is settled, which
/// whoever holds it does exactly once.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UnsettledSlot(pub u32);

/// The unsettled messages by slot.
#[derive(Debug)]
pub(super) struct Unsettled {
    entries: Slab<Entry>,
    /// Slots whose messages were taken away from who still holds them.
    taken: usize,
    /// Since when each is held, where somebody wants to know: in milliseconds
    /// since 1970, in their order; with the place, as slots are used again.
    held_since: VecDeque<(u64, UnsettledSlot, Sequence)>,
    /// The last of those times, by slot: a message that came back and was handed
    /// out again may have got the same slot.
    last_times: Vec<u64>,
    /// Entries left when returning memory was last tried, since there were many.
    tried_at: usize,
}

#[derive(Debug)]
enum Entry {
    Held(Held),
    /// The message is somewhere else by now. Whoever holds the slot does not
    /// know it yet, so that the slot is not given to another message.
    Taken,
}

/// An unsettled message and who has it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) queued: Queued,
    pub(super) holder: Holder,
}

/// Who has an unsettled message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Holder {
    /// A consumer, whose credit it has.
    Consumer(ConsumerSlot),
    /// Who asked for it by a `basic.get`.
    Getter,
    /// Nobody: it is on its way to the dead letter exchange.
    Letter,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.taken
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Whether there is no slot left.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= UNSETTLED_MAX
    }

    /// How many slots are left.
    pub(super) fn room(&self) -> u32 {
        UNSETTLED_MAX.saturating_sub(self.entries.len()) as u32
    }

    pub(super) fn insert(&mut self, held: Held) -> UnsettledSlot {
        debug_assert!(!self.is_full(), "slots are 32 bits wide");
        UnsettledSlot(self.entries.insert(Entry::Held(held)) as u32)
    }

    /// `None` for a slot that is not in use, or whose message was taken away.
    pub(super) fn remove(&mut self, slot: UnsettledSlot) -> Option<Held> {
        match self.entries.try_remove(slot.0 as usize)? {
            Entry::Held(held) => Some(held),
            Entry::Taken => {
                self.taken -= 1;
                None
            }
        }
    }

    /// Takes a message away from whoever holds it.
    pub(super) fn take_away(&mut self, slot: UnsettledSlot) -> Option<Held> {
        let entry = self.entries.get_mut(slot.0 as usize)?;
        match std::mem::replace(entry, Entry::Taken) {
            Entry::Held(held) => {
                self.taken += 1;
                Some(held)
            }
            Entry::Taken => None,
        }
    }

    /// The places of all of them, unordered.
    pub(super) fn places(&self) -> impl Iterator<Item = Sequence> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Held(held) => Some(held.queued.sequence),
            Entry::Taken => None,
        })
    }

    /// Remembers since when a message is held.
    pub(super) fn note_time(&mut self, now: u64, slot: UnsettledSlot, place: Sequence) {
        self.held_since.push_back((now, slot, place));
        let index = slot.0 as usize;
        if self.last_times.len() <= index {
            self.last_times.resize(index + 1, 0);
        }
        if let Some(last) = self.last_times.get_mut(index) {
            *last = now;
        }
        // One that is held for long must not keep the others' memory.
        if self.held_since.len() > 2 * self.entries.len() + CAPACITY_KEPT {
            let entries = &self.entries;
            self.held_since.retain(|(_, slot, place)| {
                matches!(entries.get(slot.0 as usize),
                    Some(Entry::Held(held)) if held.queued.sequence == *place)
            });
        }
    }

    /// Which message that a consumer has is held for longest, and since when.
    pub(super) fn oldest(&mut self) -> Option<(u64, UnsettledSlot, ConsumerSlot)> {
        loop {
            let (since, slot, place) = *self.held_since.front()?;
            if let Some(Entry::Held(held)) = self.entries.get(slot.0 as usize)
                && held.queued.sequence == place
                && self.last_times.get(slot.0 as usize) == Some(&since)
                && let Holder::Consumer(consumer) = held.holder
            {
                return Some((since, slot, consumer));
            }
            self.held_since.pop_front();
        }
    }

    /// Forgets since when messages are held.
    pub(super) fn forget_times(&mut self) {
        self.held_since = VecDeque::new();
        self.last_times = Vec::new();
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
            taken: 0,
            held_since: VecDeque::new(),
            last_times: Vec::new(),
            tried_at: usize::MAX,
        }
    }
}

/// Slots are 32 bits wide.
const UNSETTLED_MAX: usize = u32::MAX as usize;
/// Entries for which there stays room when all is settled (40 octets each).
const CAPACITY_KEPT: usize = 1024;
