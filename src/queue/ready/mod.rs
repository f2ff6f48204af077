//! Ready messages of one priority: a log in the order of arrival, and beside it
//! what came back or was due later.
//!
//! ```text
//! returned   front │ ahead: in memory, requested, paged │ tail
//!    ▲         │                                           ▲
//! put back    pop                                       append
//! ```
//!
//! What is beside the log has a position in it: a message that was requeued
//! its place, one that had to wait for its time the place that the next message
//! would have got. A map is looked into only while something is in it.
//!
//! Front and the window of `ahead` are the head: what is delivered next and
//! stays in memory. While the head is all that there is and is short, messages
//! are appended to the front itself: such a queue is one deque.

mod ahead;
mod before;
mod run;
mod tail;

use std::collections::BTreeMap;
use std::collections::vec_deque::Drain;

use self::ahead::{Ahead, Arrived, PagedRun};
pub(super) use self::before::DeliveredBefore;
pub(super) use self::run::{Places, Run, Size};
use self::tail::{Tail, Written};
use super::paging::Limits;
use super::{Journal, Loaded, PageIn, PageOut};
use crate::model::{Message, Page, Sequence};

/// A message with what its queue knows of it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) sequence: Sequence,
    pub(super) message: Message,
    /// How often a client may have seen it; above 0 it is flagged `redelivered`.
    pub(super) deliveries: u32,
}

impl Queued {
    /// A message that nobody was handed yet.
    pub(super) fn new(sequence: Sequence, message: Message) -> Self {
        Self {
            sequence,
            message,
            deliveries: 0,
        }
    }
}

/// Where a message stands among the others of its priority: just before the one
/// with that place; those that stand before the same one, in the order of the
/// second number. A message that did not have to wait for its time stands at its
/// own place, [behind those](AT_ITS_PLACE).
pub(super) type Position = (Sequence, u64);

/// The second number of the position of a message at its own place.
pub(super) const AT_ITS_PLACE: u64 = u64::MAX;

/// The messages of one priority that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// By position.
    returned: BTreeMap<Position, Queued>,
    returned_memory_bytes: u64,
    front: Run,
    ahead: Ahead,
    tail: Tail,
    /// Octets of all of them, as stored.
    bytes: u64,
    limits: Limits,
}

/// What a run that could leave memory became.
#[derive(Debug)]
pub(super) enum LeftMemory {
    /// It is in its page now.
    Paged,
    /// It stays; the page is not needed.
    Kept,
    /// It is not here any more, and the page is not needed.
    Gone,
}

impl Ready {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// How many messages wait, wherever they are.
    pub(super) fn len(&self) -> u64 {
        self.returned.len() as u64 + self.front.len() + self.ahead.count() + self.tail.count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.len() == 0
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

    /// Appends the messages in order, from this place on, and leaves the vec
    /// empty.
    pub(super) fn append(&mut self, first: Sequence, messages: &mut Vec<Message>) {
        let size = Size::of(messages);
        self.bytes += size.stored_bytes;
        // What would make runs of its own is divided in the tail.
        if self.takes_into_front(size.memory_bytes) {
            self.front.append(first, messages, size.memory_bytes);
        } else {
            self.tail
                .append(first, messages, size, self.limits.run_bytes);
        }
    }

    /// Appends one message.
    pub(super) fn push(&mut self, place: Sequence, message: Message) {
        self.bytes += message.stored_bytes() as u64;
        if self.takes_into_front(message.memory_bytes() as u64) {
            self.front.push(place, message);
        } else {
            self.tail.push(place, message, self.limits.run_bytes);
        }
    }

    /// Appends restored messages, to the tail unless there are pages behind.
    pub(super) fn restore_resident(
        &mut self,
        messages: impl IntoIterator<Item = (Sequence, Message)>,
        pages_behind: bool,
    ) {
        let mut run = Run::default();
        for (place, message) in messages {
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

    /// Appends a restored run in a page; whether there is anything in it.
    pub(super) fn restore_paged(
        &mut self,
        first: Sequence,
        count: u64,
        stored_bytes: u64,
        page: Page,
    ) -> bool {
        let Some(paged) = PagedRun::new(first, count, stored_bytes, page) else {
            return false;
        };
        self.bytes += stored_bytes;
        self.ahead.push_paged(paged);
        true
    }

    /// Whether the oldest message can be taken out: there is one, and it is in
    /// memory.
    #[inline]
    pub(super) fn at_hand(&mut self) -> bool {
        !self.front.is_empty() || self.returned_is_next() || self.advance()
    }

    /// The run with the oldest message, if that has to be read first.
    pub(super) fn missing(&self) -> Option<PageIn> {
        if self.front.is_empty() && !self.returned_is_next() {
            self.ahead.missing()
        } else {
            None
        }
    }

    /// Position of the oldest message, if it is [at hand](Self::at_hand).
    pub(super) fn next_position(&mut self) -> Option<Position> {
        if !self.at_hand() {
            return None;
        }
        if self.returned_is_next() {
            self.returned.keys().next().copied()
        } else {
            Some((self.front.first(), AT_ITS_PLACE))
        }
    }

    /// The oldest message, if it is [at hand](Self::at_hand).
    pub(super) fn peek(&mut self) -> Option<&Message> {
        if !self.at_hand() {
            return None;
        }
        if self.returned_is_next() {
            self.returned.values().next().map(|queued| &queued.message)
        } else {
            self.front.peek()
        }
    }

    /// The oldest message, if it is in memory and looking takes no step.
    pub(super) fn head(&self) -> Option<&Message> {
        if self.returned_is_next() {
            self.returned.values().next().map(|queued| &queued.message)
        } else {
            let log = self.front.peek().or_else(|| self.ahead.head());
            log.or_else(|| self.tail.head().filter(|_| self.ahead.is_empty()))
        }
    }

    /// Takes out the oldest, if it is [at hand](Self::at_hand).
    // Called, it costs a delivery 6 %.
    #[inline(always)]
    pub(super) fn pop(&mut self, before: &mut DeliveredBefore) -> Option<Queued> {
        if !self.returned.is_empty() && self.returned_is_next() {
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
            deliveries: before.recall(sequence),
        })
    }

    /// How many of the oldest messages can be [taken out](Self::take_run) in one
    /// go, up to `count_max`; no more than come to `bytes_max` octets, but one.
    /// None if they have to be looked at one by one.
    #[inline]
    pub(super) fn run_at_hand(&mut self, count_max: usize, bytes_max: usize) -> (usize, Size) {
        if !self.returned.is_empty() || (self.front.is_empty() && !self.advance()) {
            return (0, Size::default());
        }
        self.front.measure(count_max, bytes_max)
    }

    /// Place of the first message of the run at hand.
    pub(super) fn run_start(&self) -> Sequence {
        self.front.first()
    }

    /// Takes the run out that was [found at hand](Self::run_at_hand).
    pub(super) fn take_run(
        &mut self,
        count: usize,
        size: Size,
    ) -> (Places<'_>, Drain<'_, Message>) {
        self.bytes -= size.stored_bytes;
        self.front.take(count, size)
    }

    /// Puts a message beside the log, at that position.
    pub(super) fn put_back(&mut self, position: Position, queued: Queued) {
        self.bytes += queued.message.stored_bytes() as u64;
        self.returned_memory_bytes += queued.message.memory_bytes() as u64;
        let before = self.returned.insert(position, queued);
        debug_assert!(before.is_none(), "two messages in one place");
    }

    /// Takes out the message in that place, which is beside the log at
    /// `position` or in memory somewhere in the log.
    pub(super) fn remove(
        &mut self,
        place: Sequence,
        position: Position,
        before: &mut DeliveredBefore,
    ) -> Option<Queued> {
        if let Some(queued) = self.returned.remove(&position) {
            self.bytes -= queued.message.stored_bytes() as u64;
            self.returned_memory_bytes -= queued.message.memory_bytes() as u64;
            return Some(queued);
        }
        let found = if place >= self.front.first() && !self.front.is_empty() {
            self.front.remove(place)
        } else {
            None
        };
        let found = found
            .or_else(|| self.ahead.remove(place))
            .or_else(|| self.tail.remove(place));
        let message = found?;
        self.bytes -= message.stored_bytes() as u64;
        Some(Queued {
            sequence: place,
            message,
            deliveries: before.recall(place),
        })
    }

    /// A message of a paged run has died without being read into memory; whether
    /// the run is empty with that, and its page not needed.
    pub(super) fn lose_paged(&mut self, first: Sequence, stored_bytes: u64) -> Option<Page> {
        self.bytes -= stored_bytes;
        self.ahead.lose(first, stored_bytes)
    }

    /// Whether that run is in a page.
    pub(super) fn has_paged(&self, first: Sequence) -> bool {
        self.ahead.has_run(first)
    }

    /// Whether that run is in a page that nobody has asked for to deliver it.
    pub(super) fn is_only_paged(&self, first: Sequence) -> bool {
        self.ahead.only_paged(first).is_some()
    }

    /// That run, if it is in a page that nobody has asked for to deliver it.
    pub(super) fn only_paged(&self, first: Sequence) -> Option<PageIn> {
        self.ahead.only_paged(first)
    }

    /// Drops all of them, without reading any; how many there were. The pages
    /// go to `freed`.
    pub(super) fn clear(&mut self, freed: &mut Vec<Page>) -> u64 {
        let count = self.len();
        self.returned.clear();
        self.returned_memory_bytes = 0;
        self.front.clear();
        self.ahead.clear(freed);
        self.tail.clear();
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

    /// A run was written, or could not be.
    pub(super) fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> LeftMemory {
        self.fill_head();
        match self.tail.paged_out(first, page) {
            Written::Paged(paged) => {
                self.ahead.push_paged(paged);
                LeftMemory::Paged
            }
            Written::Kept => LeftMemory::Kept,
            Written::Gone => LeftMemory::Gone,
        }
    }

    /// The run of the tail of that name, which is being written.
    pub(super) fn tail_run(&self, first: Sequence) -> Option<&Run> {
        self.tail.run(first)
    }

    /// The next run to read ahead.
    #[inline]
    pub(super) fn page_wanted(&mut self) -> Option<PageIn> {
        if !self.ahead.has_paged() || self.head_bytes() >= self.limits.read_ahead_bytes {
            return None;
        }
        self.ahead.request()
    }

    /// The run with the oldest messages, if it is in a page and nobody has asked
    /// for it.
    pub(super) fn oldest_wanted(&mut self) -> Option<PageIn> {
        if self.front.is_empty() && self.ahead.window_is_empty() {
            self.ahead.request()
        } else {
            None
        }
    }

    /// A run was read; how many of its messages were lost. `None` if it is not
    /// waited for any more.
    pub(super) fn paged_in(
        &mut self,
        first: Sequence,
        loaded: Loaded,
        journal: &mut Journal,
    ) -> Option<u64> {
        let end = self.tail.first().unwrap_or(Sequence(u64::MAX));
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

    /// Octets of the bodies of those in memory; `paged` gets all octets of each run
    /// that is not, by its name.
    pub(super) fn count_bodies(&self, paged: &mut BTreeMap<Sequence, u64>) -> u64 {
        let returned = self.returned.values().map(|queued| &queued.message);
        let returned = returned.map(Message::body_bytes).sum::<usize>() as u64;
        returned + self.front.body_bytes() + self.ahead.count_bodies(paged) + self.tail.body_bytes()
    }

    /// Place of the oldest message; of those beside the log, too.
    pub(super) fn oldest(&self) -> Option<Sequence> {
        let beside = self.returned.values().map(|queued| queued.sequence).min();
        beside.into_iter().chain(self.start()).min()
    }

    /// Where the log begins.
    fn start(&self) -> Option<Sequence> {
        if self.front.is_empty() {
            self.ahead.first().or_else(|| self.tail.first())
        } else {
            Some(self.front.first())
        }
    }

    #[inline]
    fn returned_is_next(&self) -> bool {
        !self.returned.is_empty() && self.returned_comes_first()
    }

    #[cold]
    fn returned_comes_first(&self) -> bool {
        let first = self.returned.keys().next();
        first.is_some_and(|(place, _)| self.start().is_none_or(|start| *place <= start))
    }

    fn takes_into_front(&self, memory_bytes: u64) -> bool {
        self.front.memory_bytes() < self.limits.head_bytes
            && memory_bytes <= self.limits.run_bytes
            && self.tail.is_empty()
            && self.ahead.is_empty()
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
        let (_, queued) = self.returned.pop_first()?;
        self.bytes -= queued.message.stored_bytes() as u64;
        self.returned_memory_bytes -= queued.message.memory_bytes() as u64;
        Some(queued)
    }
}
