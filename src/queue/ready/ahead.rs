//! The log between its front and its tail: runs in memory and runs in pages.
//!
//! ```text
//! front │ resident ─ requested ─ resident │ paged ─ paged ─ paged ─ … │ tail
//!       └───────────── window ────────────┘
//! ```
//!
//! Invariants: the places ascend; a run in the window is in memory or was
//! requested; the first one behind the window is paged. A paged run takes the
//! same few octets whatever it holds.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

use super::run::Run;
use crate::model::{MEMORY_OVERHEAD_BYTES, Message, Page, Sequence};
use crate::queue::{Loaded, PageIn};

/// The runs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    slots: VecDeque<Slot>,
    /// How many of the slots are the window.
    window: usize,
    /// Memory of the window, that of requested runs included.
    window_bytes: u64,
    /// Memory of the runs in memory.
    resident_bytes: u64,
    /// Messages.
    count: u64,
}

/// A run in a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagedRun {
    first: Sequence,
    stored_bytes: u64,
    /// Not zero also because that keeps a slot at 48 octets.
    count: NonZeroU32,
    page: Page,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) page: Page,
    /// Messages that were not in it.
    pub(super) lost: u64,
    /// Octets that the run was thought to have, as stored.
    pub(super) expected_bytes: u64,
    /// Octets that it has.
    pub(super) stored_bytes: u64,
}

#[derive(Debug)]
enum Slot {
    Resident(Box<Run>),
    Paged(PagedRun),
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether there are runs that were not even requested.
    pub(super) fn has_paged(&self) -> bool {
        self.window < self.slots.len()
    }

    /// Whether the oldest run is one that was not even requested, or there is
    /// none.
    pub(super) fn window_is_empty(&self) -> bool {
        self.window == 0
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Place of the oldest message.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.slots.front().map(Slot::first)
    }

    /// The oldest run, if it is not in memory.
    pub(super) fn missing(&self) -> Option<PageIn> {
        match self.slots.front()? {
            Slot::Resident(_) => None,
            Slot::Paged(paged) => Some(paged.page_in()),
        }
    }

    /// Takes out the oldest run, if it is in memory.
    pub(super) fn take_front(&mut self) -> Option<Run> {
        match self.slots.pop_front()? {
            Slot::Resident(run) => {
                debug_assert!(self.window > 0, "what is in memory first is in the window");
                self.window -= 1;
                self.window_bytes -= run.memory_bytes();
                self.resident_bytes -= run.memory_bytes();
                self.count -= run.len();
                self.shrink();
                Some(*run)
            }
            paged => {
                self.slots.push_front(paged);
                None
            }
        }
    }

    /// The oldest message, if it is in memory.
    pub(super) fn head(&self) -> Option<&Message> {
        match self.slots.front()? {
            Slot::Resident(run) => run.peek(),
            Slot::Paged(_) => None,
        }
    }

    /// Octets of the bodies of those in memory, counted; `paged` gets all octets of
    /// each run that is not, by its name.
    pub(super) fn count_bodies(&self, paged: &mut BTreeMap<Sequence, u64>) -> u64 {
        let mut bytes = 0;
        for slot in &self.slots {
            match slot {
                Slot::Resident(run) => bytes += run.body_bytes(),
                Slot::Paged(run) => {
                    paged.insert(run.first, run.stored_bytes);
                }
            }
        }
        bytes
    }

    /// Takes out the message in that place, if it is in memory.
    pub(super) fn remove(&mut self, place: Sequence) -> Option<Message> {
        let behind = self.slots.partition_point(|slot| slot.first() <= place);
        let index = behind.checked_sub(1)?;
        let Slot::Resident(run) = self.slots.get_mut(index)? else {
            return None;
        };
        let message = run.remove(place)?;
        let memory_bytes = message.memory_bytes() as u64;
        self.resident_bytes -= memory_bytes;
        self.count -= 1;
        let emptied = run.is_empty();
        // A restored queue has runs in memory behind ones in pages.
        let in_window = index < self.window;
        if in_window {
            self.window_bytes -= memory_bytes;
        }
        if emptied {
            self.slots.remove(index);
            self.window -= usize::from(in_window);
            self.widen();
        }
        Some(message)
    }

    /// Whether there is a paged run of that name.
    pub(super) fn has_run(&self, first: Sequence) -> bool {
        let index = self.slots.binary_search_by_key(&first, Slot::first);
        index.is_ok_and(|index| matches!(self.slots.get(index), Some(Slot::Paged(_))))
    }

    /// The run of that name, if it is in a page and outside of the window.
    pub(super) fn only_paged(&self, first: Sequence) -> Option<PageIn> {
        let index = self.slots.binary_search_by_key(&first, Slot::first).ok()?;
        match self.slots.get(index)? {
            Slot::Paged(paged) if index >= self.window => Some(paged.page_in()),
            _ => None,
        }
    }

    /// A message of a paged run outside of the window is not to be there any
    /// more: the page, if it was the last of it.
    pub(super) fn lose(&mut self, first: Sequence, stored_bytes: u64) -> Option<Page> {
        let index = self.slots.binary_search_by_key(&first, Slot::first).ok()?;
        let Slot::Paged(paged) = self.slots.get_mut(index)? else {
            return None;
        };
        self.count -= 1;
        paged.stored_bytes = paged.stored_bytes.saturating_sub(stored_bytes);
        if let Some(count) = NonZeroU32::new(paged.count.get() - 1) {
            paged.count = count;
            return None;
        }
        let page = paged.page;
        self.slots.remove(index);
        self.widen();
        Some(page)
    }

    /// Appends a run that is in memory.
    pub(super) fn push_resident(&mut self, run: Run) {
        debug_assert!(!run.is_empty(), "nobody would take it out");
        self.resident_bytes += run.memory_bytes();
        self.count += run.len();
        self.slots.push_back(Slot::Resident(Box::new(run)));
        self.widen();
    }

    /// Appends a run that is in a page.
    pub(super) fn push_paged(&mut self, paged: PagedRun) {
        self.count += paged.count();
        self.slots.push_back(Slot::Paged(paged));
    }

    /// Takes the next paged run into the window; it is to be read.
    pub(super) fn request(&mut self) -> Option<PageIn> {
        let Slot::Paged(paged) = *self.slots.get(self.window)? else {
            debug_assert!(false, "what is in memory here is in the window");
            return None;
        };
        self.window += 1;
        self.window_bytes += paged.memory_bytes();
        self.widen();
        Some(paged.page_in())
    }

    /// Puts the run of that name into memory; the log behind begins at `end`.
    /// `None` if it is not here or already loaded.
    pub(super) fn load(
        &mut self,
        first: Sequence,
        loaded: Loaded,
        end: Sequence,
    ) -> Option<Arrived> {
        let index = self.slots.binary_search_by_key(&first, Slot::first).ok()?;
        let end = self.slots.get(index + 1).map_or(end, Slot::first);
        let slot = self.slots.get_mut(index)?;
        let Slot::Paged(paged) = *slot else {
            return None;
        };
        let (run, stored_bytes) = paged.fill(loaded, end);
        let lost = paged.count() - run.len();
        self.count -= lost;
        self.resident_bytes += run.memory_bytes();
        if index < self.window {
            self.window_bytes -= paged.memory_bytes();
            self.window_bytes += run.memory_bytes();
        }
        if run.is_empty() {
            self.slots.remove(index);
            self.window -= usize::from(index < self.window);
        } else {
            *slot = Slot::Resident(Box::new(run));
        }
        self.widen();
        Some(Arrived {
            page: paged.page,
            lost,
            expected_bytes: paged.stored_bytes,
            stored_bytes,
        })
    }

    /// Drops all runs; their pages go to `freed`.
    pub(super) fn clear(&mut self, freed: &mut Vec<Page>) {
        let slots = std::mem::take(self).slots;
        freed.extend(slots.iter().filter_map(|slot| match slot {
            Slot::Resident(_) => None,
            Slot::Paged(paged) => Some(paged.page),
        }));
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let room = |slot: &Slot| match slot {
            Slot::Resident(run) => run.capacity(),
            Slot::Paged(_) => 0,
        };
        self.slots.iter().map(room).sum()
    }

    /// Restores the window's invariant after runs came into memory.
    fn widen(&mut self) {
        while let Some(Slot::Resident(run)) = self.slots.get(self.window) {
            self.window += 1;
            self.window_bytes += run.memory_bytes();
        }
    }

    fn shrink(&mut self) {
        let (held, capacity) = (self.slots.len(), self.slots.capacity());
        if capacity > SLOTS_KEPT && held < capacity / 8 {
            self.slots.shrink_to(SLOTS_KEPT.max(held * 4));
        }
    }
}

impl PagedRun {
    /// `None` if there are no messages in it.
    pub(super) fn new(first: Sequence, count: u64, stored_bytes: u64, page: Page) -> Option<Self> {
        // A page has no more octets than 32 bits count, so neither messages.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Some(Self {
            first,
            stored_bytes,
            count: NonZeroU32::new(count)?,
            page,
        })
    }

    fn count(&self) -> u64 {
        u64::from(self.count.get())
    }

    fn page_in(&self) -> PageIn {
        PageIn {
            first: self.first,
            page: self.page,
        }
    }

    /// What it will take in memory, about.
    fn memory_bytes(&self) -> u64 {
        self.stored_bytes + self.count() * MESSAGE_OVERHEAD_BYTES
    }

    /// The run out of what was read, with its octets as stored. No more is
    /// taken than should be there, and nothing that would break the order.
    fn fill(&self, loaded: Loaded, end: Sequence) -> (Run, u64) {
        let whole = loaded.sequences.is_none()
            && loaded.messages.len() as u64 == self.count()
            && self.first.0 + self.count() <= end.0;
        if whole {
            let memory_bytes = loaded.stored_bytes + self.count() * MESSAGE_OVERHEAD_BYTES;
            let run = Run::consecutive(self.first, loaded.messages, memory_bytes);
            return (run, loaded.stored_bytes);
        }
        let mut run = Run::default();
        let mut stored_bytes = 0;
        let consecutive = (self.first.0..).map(Sequence);
        let places = loaded
            .sequences
            .unwrap_or_else(|| consecutive.take(loaded.messages.len()).collect());
        let mut next = self.first;
        for (place, message) in places.into_iter().zip(loaded.messages) {
            if place < next || place >= end || run.len() >= self.count() {
                continue;
            }
            next = place.behind();
            stored_bytes += message.stored_bytes() as u64;
            run.push(place, message);
        }
        (run, stored_bytes)
    }
}

impl Slot {
    fn first(&self) -> Sequence {
        match self {
            Self::Resident(run) => run.first(),
            Self::Paged(paged) => paged.first,
        }
    }
}

/// What a message takes in memory beside its octets.
const MESSAGE_OVERHEAD_BYTES: u64 = MEMORY_OVERHEAD_BYTES as u64;
/// Runs for which there stays room when all are gone.
const SLOTS_KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_million_paged_messages_take_two_megabytes() {
        assert!(size_of::<Slot>() <= 48, "{}", size_of::<Slot>());
    }
}
