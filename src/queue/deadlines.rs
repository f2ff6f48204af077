//! When messages die that have a TTL of their own (`expiration`).
//!
//! Those in memory are known one by one. Of a run in a page only its earliest
//! deadline is known: when that has come the page is read, what has died is
//! taken out of account, and the rest stays where it is.
//!
//! The TTL of a queue is no matter of this: there messages die in the order in
//! which they came, and whoever looks at the head sees it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Message, Sequence};

/// The deadlines of a queue's ready messages, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    in_memory: BTreeSet<(u64, Sequence)>,
    /// Runs in pages by their earliest deadline; named by their first place.
    paged: BTreeSet<(u64, Sequence)>,
    due_of_paged: BTreeMap<Sequence, u64>,
    /// Messages that died in their pages.
    gone: BTreeSet<Sequence>,
    /// The run that is being read to see what has died.
    visiting: Option<Sequence>,
    /// There was a message with a deadline.
    in_use: bool,
}

/// When a message dies that has a TTL of its own.
pub(super) fn own_deadline(message: &Message) -> Option<u64> {
    let ttl = message.expiration()?;
    Some(after(from_when(message), ttl))
}

/// When a message dies in a queue with that TTL.
pub(super) fn deadline(message: &Message, of_queue: Option<u64>) -> Option<u64> {
    let of_queue = of_queue.map(|ttl| after(from_when(message), ttl));
    of_queue.into_iter().chain(own_deadline(message)).min()
}

/// So many milliseconds after a moment that is known to the millisecond, and
/// not earlier: what was left of that millisecond is added, too.
pub(super) fn after(moment: u64, milliseconds: u64) -> u64 {
    let rest = u64::from(milliseconds > 0);
    moment.saturating_add(milliseconds).saturating_add(rest)
}

/// When a message's time in its queue begins.
pub(super) fn from_when(message: &Message) -> u64 {
    message.deliver_at().unwrap_or_else(|| message.arrived())
}

impl Deadlines {
    /// Whether there ever was a message with a deadline.
    pub(super) fn in_use(&self) -> bool {
        self.in_use
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<u64> {
        let paged = self.paged.first().filter(|_| self.visiting.is_none());
        let first = self.in_memory.first().into_iter().chain(paged);
        first.map(|(due, _)| *due).min()
    }

    /// The earliest of those in memory.
    pub(super) fn first_in_memory(&self) -> Option<u64> {
        self.in_memory.first().map(|(due, _)| *due)
    }

    /// A message is in memory and ready.
    pub(super) fn add(&mut self, place: Sequence, message: &Message) {
        if let Some(due) = own_deadline(message) {
            self.in_memory.insert((due, place));
            self.in_use = true;
        }
    }

    /// It is not any more.
    #[cold]
    pub(super) fn remove(&mut self, place: Sequence, message: &Message) {
        if let Some(due) = own_deadline(message) {
            self.in_memory.remove(&(due, place));
        }
    }

    /// Takes out the earliest message in memory that is due before `until`.
    pub(super) fn pop_before(&mut self, until: u64) -> Option<Sequence> {
        if self.in_memory.first()?.0 >= until {
            return None;
        }
        self.in_memory.pop_first().map(|(_, place)| place)
    }

    /// A run went into a page.
    pub(super) fn add_paged(&mut self, first: Sequence, due: u64) {
        if due > 0 {
            self.paged.insert((due, first));
            self.due_of_paged.insert(first, due);
            self.in_use = true;
        }
    }

    /// A run is not only in a page any more.
    pub(super) fn remove_paged(&mut self, first: Sequence) {
        if let Some(due) = self.due_of_paged.remove(&first) {
            self.paged.remove(&(due, first));
        }
    }

    /// The next run to be read for what has died in it before `until`.
    pub(super) fn visit_before(&mut self, until: u64) -> Option<Sequence> {
        let (due, first) = *self.paged.first()?;
        if due >= until || self.visiting.is_some() {
            return None;
        }
        self.remove_paged(first);
        self.visiting = Some(first);
        Some(first)
    }

    /// Whether that run was to be read for what has died in it; not any more.
    pub(super) fn end_visit(&mut self, first: Sequence) -> bool {
        self.visiting.take_if(|visited| *visited == first).is_some()
    }

    /// A message died in its page.
    pub(super) fn bury_paged(&mut self, place: Sequence) {
        self.gone.insert(place);
    }

    /// Whether no message died in its page.
    pub(super) fn none_gone(&self) -> bool {
        self.gone.is_empty()
    }

    /// Whether that message died in its page.
    pub(super) fn is_gone(&self, place: Sequence) -> bool {
        self.gone.contains(&place)
    }

    /// The page with that message is not needed any more.
    pub(super) fn forget_gone(&mut self, place: Sequence) {
        self.gone.remove(&place);
    }

    pub(super) fn clear(&mut self) {
        *self = Self {
            in_use: self.in_use,
            ..Self::default()
        };
    }
}
