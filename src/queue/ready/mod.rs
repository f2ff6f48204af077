//! Ready messages: a log in the order of arrival, and beside it what was
//! requeued.
//!
//! ```text
//! returned   front │ ahead: in memory, requested, paged │ tail
//!    ▲         │                                           ▲
//! requeue     pop                                       append
//! ```
//!
//! A message's place is its [`Sequence`]. Whatever was handed out is older than
//! all that is in the log; therefore what comes back is delivered before the
//! log goes on, and the order is kept by looking into a map only while
//! something is in it.
//!
//! Front and the window of `ahead` are the head: what is delivered next and
//! stays in memory. While the head is all that there is and is short, messages
//! are appended to the front itself: such a queue is one deque.

mod ahead;
mod before;
mod run;
mod tail;

use std::collections::BTreeMap;

use self::ahead::{Ahead, Arrived, PagedRun};
use self::before::DeliveredBefore;
pub(super) use self::run::Run;
use self::run::Size;
use self::tail::{Tail, Written};
use super::paging::Limits;
use super::{Journal, Loaded, PageIn, PageOut, Restored, RestoredContent};
use crate::model::{Message, Page, Sequence, SequenceRange};

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
    /// All older than the log.
    returned: BTreeMap<Sequence, Returned>,
    returned_memory_bytes: u64,
    front: Run,
    ahead: Ahead,
    tail: Tail,
    /// Where the log ends.
    next: Sequence,
    before: DeliveredBefore,
    /// Octets of all of them, as stored.
    bytes: u64,
    limits: Limits,
}

#[derive(Debug)]
struct Returned {
    message: Message,
    deliveries: u32,
}

impl Ready {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The messages that a store kept. The pages of runs without any go to
    /// `journal`.
    pub(super) fn restore(restored: Restored, limits: Limits, journal: &mut Journal) -> Self {
        let mut ready = Self::new(limits);
        ready.next = restored.next;
        ready.before = DeliveredBefore::new(restored.redelivered_below, restored.deliveries);
        let is_paged = |content: &RestoredContent| matches!(content, RestoredContent::Paged(_));
        let mut paged_left = restored
            .runs
            .iter()
            .filter(|run| is_paged(&run.content))
            .count();
        for run in restored.runs {
            let end = SequenceRange::new(run.first, run.count).end;
            ready.next = ready.next.max(end);
            match run.content {
                RestoredContent::Paged(page) => {
                    paged_left -= 1;
                    match PagedRun::new(run.first, run.count, run.stored_bytes, page) {
                        Some(paged) => {
                            ready.bytes += run.stored_bytes;
                            ready.ahead.push_paged(paged);
                        }
                        None => journal.freed.push(page),
                    }
                }
                RestoredContent::Resident(messages) => {
                    // Only what is newer than all pages can be paged out.
                    ready.put_behind(messages, paged_left > 0);
                }
            }
        }
        ready
    }

    /// How many messages wait, wherever they are.
    pub(super) fn len(&self) -> u64 {
        self.returned.len() as u64 + self.front.len() + self.ahead.count() + self.tail.count()
    }

    /// Octets of all of them, as stored.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory of those that are in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.returned_memory_bytes
            + self.front.memory_bytes()
            + self.ahead.resident_bytes()
            + self.tail.memory_bytes()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.front.capacity() + self.ahead.capacity() + self.tail.capacity()
    }

    /// Appends the messages in order and leaves the vec empty; the place of the
    /// first.
    pub(super) fn append(&mut self, messages: &mut Vec<Message>) -> Sequence {
        let size = Size::of(messages);
        let first = self.next;
        self.next.0 += messages.len() as u64;
        self.bytes += size.stored_bytes;
        // What would make runs of its own is divided in the tail.
        let short = self.front.memory_bytes() < self.limits.head_bytes
            && size.memory_bytes <= self.limits.run_bytes;
        if short && self.tail.is_empty() && self.ahead.is_empty() {
            self.front.append(first, messages, size.memory_bytes);
        } else {
            self.tail
                .append(first, messages, size, self.limits.run_bytes);
        }
        first
    }

    /// Whether the oldest message can be taken out: there is one, and it is in
    /// memory.
    #[inline]
    pub(super) fn at_hand(&mut self) -> bool {
        !self.front.is_empty() || !self.returned.is_empty() || self.advance()
    }

    /// The run with the oldest message, if that has to be read first.
    pub(super) fn missing(&self) -> Option<PageIn> {
        if self.returned.is_empty() && self.front.is_empty() {
            self.ahead.missing()
        } else {
            None
        }
    }

    /// Takes out the oldest, if it is [at hand](Self::at_hand).
    // Called, it costs a delivery 6 %.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Queued> {
        if !self.returned.is_empty() {
            return self.pop_returned();
        }
        if self.front.is_empty() {
            self.advance();
        }
        let (sequence, message) = self.front.pop()?;
        self.bytes -= message.stored_bytes() as u64;
        Some(Queued {
            sequence,
            message,
            deliveries: self.before.recall(sequence),
        })
    }

    /// Puts a message that was taken out back to its place.
    pub(super) fn put_back(&mut self, queued: Queued) {
        let Queued {
            sequence,
            message,
            deliveries,
        } = queued;
        debug_assert!(sequence < self.start(), "requeued before it was taken out");
        self.bytes += message.stored_bytes() as u64;
        self.returned_memory_bytes += message.memory_bytes() as u64;
        let returned = Returned {
            message,
            deliveries,
        };
        let before = self.returned.insert(sequence, returned);
        debug_assert!(before.is_none(), "two messages in one place");
    }

    /// Drops all of them, without reading any; how many there were.
    pub(super) fn clear(&mut self, journal: &mut Journal) -> u64 {
        let count = self.len();
        for place in self.returned.keys() {
            journal.settle(*place);
        }
        let (first, end) = (self.start(), self.next);
        journal.settle_range(SequenceRange { first, end });
        self.returned.clear();
        self.returned_memory_bytes = 0;
        self.front.clear();
        self.ahead.clear(&mut journal.freed);
        self.tail.clear();
        self.before.clear();
        self.bytes = 0;
        count
    }

    /// Returns memory once a backlog is gone.
    #[inline]
    pub(super) fn shrink(&mut self) {
        self.front.shrink();
    }

    /// The oldest run of the tail that is not being written, never of the head;
    /// the open run only if `partial`.
    pub(super) fn page_out(&mut self, partial: bool) -> Option<PageOut> {
        self.fill_head();
        let partial = partial && !self.head_is_short();
        self.tail.page_out(partial, self.limits.run_bytes)
    }

    /// A run was written, or could not be. Whether the page is kept.
    pub(super) fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> bool {
        self.fill_head();
        match self.tail.paged_out(first, page) {
            Written::Paged(paged) => {
                self.ahead.push_paged(paged);
                true
            }
            Written::Kept | Written::Gone => false,
        }
    }

    /// The next run to read ahead.
    #[inline]
    pub(super) fn page_wanted(&mut self) -> Option<PageIn> {
        if !self.ahead.has_paged() || self.head_bytes() >= self.limits.read_ahead_bytes {
            return None;
        }
        self.ahead.request()
    }

    /// A run was read; how many of its messages were lost. `None` if it is not
    /// waited for any more.
    pub(super) fn paged_in(
        &mut self,
        first: Sequence,
        loaded: Loaded,
        journal: &mut Journal,
    ) -> Option<u64> {
        let end = self.tail.first().unwrap_or(self.next);
        let Arrived {
            page,
            lost,
            expected_bytes,
            stored_bytes,
        } = self.ahead.load(first, loaded, end)?;
        self.bytes -= expected_bytes;
        self.bytes += stored_bytes;
        journal.freed.push(page);
        Some(lost)
    }

    /// Where the log begins.
    fn start(&self) -> Sequence {
        if self.front.is_empty() {
            let first = self.ahead.first().or_else(|| self.tail.first());
            first.unwrap_or(self.next)
        } else {
            self.front.first()
        }
    }

    /// What the head has in memory or waits for.
    fn head_bytes(&self) -> u64 {
        self.front.memory_bytes() + self.ahead.window_bytes()
    }

    /// Whether what is behind the head belongs into it.
    fn head_is_short(&self) -> bool {
        !self.ahead.has_paged() && self.head_bytes() < self.limits.head_bytes
    }

    /// Moves closed runs from the tail into the head while that is short.
    fn fill_head(&mut self) {
        while self.head_is_short()
            && let Some(run) = self.tail.take_closed(self.limits.run_bytes)
        {
            self.ahead.push_resident(run);
        }
    }

    /// Makes the next run the front, whose messages are gone. Whether it was in
    /// memory.
    #[cold]
    fn advance(&mut self) -> bool {
        debug_assert!(self.front.is_empty(), "messages were passed over");
        let run = if self.ahead.is_empty() {
            self.tail.take_front()
        } else {
            self.ahead.take_front()
        };
        let found = run.is_some();
        if let Some(run) = run {
            self.front = run;
        }
        found
    }

    #[cold]
    fn pop_returned(&mut self) -> Option<Queued> {
        let (sequence, returned) = self.returned.pop_first()?;
        let Returned {
            message,
            deliveries,
        } = returned;
        self.bytes -= message.stored_bytes() as u64;
        self.returned_memory_bytes -= message.memory_bytes() as u64;
        Some(Queued {
            sequence,
            message,
            deliveries,
        })
    }

    /// Appends restored messages, to the tail unless there are pages behind.
    fn put_behind(&mut self, messages: Vec<(Sequence, Message)>, pages_behind: bool) {
        let mut run = Run::default();
        for (place, message) in messages {
            self.next = self.next.max(Sequence(place.0.saturating_add(1)));
            self.bytes += message.stored_bytes() as u64;
            if pages_behind {
                run.push(place, message);
            } else {
                self.tail.push(place, message, self.limits.run_bytes);
            }
        }
        if !run.is_empty() {
            self.ahead.push_resident(run);
        }
    }
}
