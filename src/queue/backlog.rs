//! All ready messages of a queue: one list of them for each priority in use.
//!
//! A queue without priorities has one list, and pays nothing for the others.
//! Places are numbered through all lists. Where a message stands among the
//! others of its priority is its place, unless it had to wait for its time.

mod pages;

use std::collections::BTreeMap;
use std::collections::vec_deque::Drain;

use super::deadlines::Deadlines;
use super::groups::Rank;
use super::paging::Limits;
use super::ready::{AT_ITS_PLACE, DeliveredBefore, Places, Position, Queued, Ready, Size};
use super::{Journal, PageIn};
use crate::model::{Message, Page, PageTag, Sequence, SequenceRange};

pub(super) use pages::Arrival;

/// The messages that wait, the most urgent first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Of priority 0.
    base: Ready,
    /// Of the priorities above it; none is empty.
    above: BTreeMap<u8, Ready>,
    /// The highest priority that counts.
    max_priority: u8,
    /// The place of the next message.
    next: Sequence,
    before: DeliveredBefore,
    /// Where messages stand that had to wait for their time.
    moved: BTreeMap<Sequence, Position>,
    /// How many those were.
    released: u64,
    deadlines: Deadlines,
    /// Octets of the bodies, if somebody wants to know.
    body_bytes: Option<u64>,
    /// What was counted of each run in a page, then.
    paged_bodies: BTreeMap<Sequence, PagedBodies>,
    limits: Limits,
}

impl Backlog {
    pub(super) fn new(
        limits: Limits,
        max_priority: u8,
        next: Sequence,
        before: DeliveredBefore,
    ) -> Self {
        Self {
            base: Ready::new(limits),
            max_priority,
            next,
            before,
            limits,
            ..Self::default()
        }
    }

    /// How many messages wait, wherever they are.
    #[inline]
    pub(super) fn len(&self) -> u64 {
        self.base.len() + self.above.values().map(Ready::len).sum::<u64>()
    }

    /// Octets of all of them, as stored.
    pub(super) fn bytes(&self) -> u64 {
        self.base.bytes() + self.above.values().map(Ready::bytes).sum::<u64>()
    }

    /// Memory of those that are in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.base.resident_bytes() + self.above.values().map(Ready::resident_bytes).sum::<u64>()
    }

    /// Octets of the bodies, if they are counted. Of messages that were in pages
    /// when the counting began, or at the start, all octets count as body until
    /// they are read.
    pub(super) fn body_bytes(&self) -> Option<u64> {
        self.body_bytes
    }

    /// Counts the bodies' octets from now on, or not any more.
    pub(super) fn count_bodies(&mut self, wanted: bool) {
        match (wanted, self.body_bytes) {
            (true, None) => {
                let mut paged = BTreeMap::new();
                let resident: u64 = self.lists().map(|list| list.count_bodies(&mut paged)).sum();
                self.body_bytes = Some(resident + paged.values().sum::<u64>());
                for (first, stored_bytes) in paged {
                    self.count_page(first, stored_bytes, false);
                }
            }
            (false, _) => {
                self.body_bytes = None;
                self.paged_bodies.clear();
            }
            (true, Some(_)) => {}
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.base.capacity() + self.above.values().map(Ready::capacity).sum::<usize>()
    }

    /// The place that the next message gets.
    pub(super) fn next(&self) -> Sequence {
        self.next
    }

    /// Places below this one are given.
    pub(super) fn raise_next(&mut self, next: Sequence) {
        self.next = self.next.max(next);
    }

    /// Gives out a place without putting a message there.
    pub(super) fn skip_place(&mut self) -> Sequence {
        let place = self.next;
        self.next.0 += 1;
        place
    }

    /// Appends the messages in order, of whatever priority, none with a
    /// deadline; leaves the vec empty. The place of the first; the others follow.
    #[inline]
    pub(super) fn append(&mut self, messages: &mut Vec<Message>) -> Sequence {
        let first = self.next;
        if self.max_priority > 0 {
            messages.drain(..).for_each(|message| {
                self.push(message);
            });
            return first;
        }
        self.next.0 += messages.len() as u64;
        if let Some(bytes) = &mut self.body_bytes {
            let bodies = messages.iter().map(Message::body_bytes);
            *bytes += bodies.sum::<usize>() as u64;
        }
        self.base.append(first, messages);
        first
    }

    /// Appends a message; its place.
    pub(super) fn push(&mut self, message: Message) -> Sequence {
        let place = self.skip_place();
        self.count_in(place, &message);
        self.list_for(&message).push(place, message);
        place
    }

    /// Messages that a store kept, of whatever priority.
    pub(super) fn restore_resident(
        &mut self,
        messages: Vec<(Sequence, Message)>,
        pages_behind: impl Fn(u8) -> bool,
    ) {
        let mut by_level: BTreeMap<u8, Vec<(Sequence, Message)>> = BTreeMap::new();
        for (place, message) in messages {
            self.count_in(place, &message);
            let level = self.level(&message);
            by_level.entry(level).or_default().push((place, message));
        }
        for (level, messages) in by_level {
            self.list(level)
                .restore_resident(messages, pages_behind(level));
        }
    }

    /// A run in a page that a store kept; whether the page is needed.
    pub(super) fn restore_paged(
        &mut self,
        first: Sequence,
        count: u64,
        stored_bytes: u64,
        page: Page,
        tag: PageTag,
    ) -> bool {
        if count == 0 {
            return false;
        }
        self.count_page(first, stored_bytes, false);
        if let Some(bytes) = &mut self.body_bytes {
            *bytes += stored_bytes;
        }
        let kept = self
            .list(tag.class)
            .restore_paged(first, count, stored_bytes, page);
        if kept {
            self.deadlines.add_paged(first, tag.due);
        }
        kept
    }

    /// Whether the next message can be taken out: there is one, and it is in
    /// memory.
    #[inline]
    pub(super) fn at_hand(&mut self) -> bool {
        if self.above.is_empty() {
            return self.base.at_hand();
        }
        self.above_at_hand()
    }

    #[cold]
    fn above_at_hand(&mut self) -> bool {
        let top = self.above.last_entry();
        top.is_some_and(|mut top| top.get_mut().at_hand())
    }

    /// The run with the next message, if that has to be read first.
    pub(super) fn missing(&self) -> Option<PageIn> {
        self.top().missing()
    }

    /// The rank of the next message; where that has to be read first, no other
    /// one has a better rank than this.
    pub(super) fn next_rank(&mut self) -> Option<Rank> {
        let (level, top) = match self.above.last_entry() {
            None => (0, &mut self.base),
            Some(top) => (*top.key(), top.into_mut()),
        };
        let position = match top.missing() {
            Some(missing) => (missing.first, AT_ITS_PLACE),
            None => top.next_position()?,
        };
        Some((u8::MAX - level, position))
    }

    /// The next message, if it is [at hand](Self::at_hand).
    pub(super) fn peek(&mut self) -> Option<&Message> {
        match self.above.last_entry() {
            None => self.base.peek(),
            Some(top) => top.into_mut().peek(),
        }
    }

    /// Whether there ever was a message with a TTL of its own.
    pub(super) fn has_deadlines(&self) -> bool {
        self.deadlines.in_use()
    }

    /// Whether messages may have to wait since before the restart.
    pub(super) fn knows_waiting(&self) -> bool {
        !self.before.is_empty()
    }

    /// Until when a message has to wait since before the restart; 0 if it has
    /// not.
    pub(super) fn due_before_restart(&self, place: Sequence) -> u64 {
        self.before.due(place)
    }

    /// The oldest message of each priority, if it is in memory.
    pub(super) fn heads(&self) -> impl Iterator<Item = (u8, &Message)> {
        std::iter::once((0, &self.base))
            .chain(self.above.iter().map(|(level, list)| (*level, list)))
            .filter_map(|(level, list)| Some((level, list.head()?)))
    }

    /// Takes out the next message, if it is [at hand](Self::at_hand).
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Queued> {
        if !self.above.is_empty() {
            return self.pop_above();
        }
        let queued = self.base.pop(&mut self.before)?;
        if queued.message.traits().expires() {
            self.deadlines.remove(queued.sequence, &queued.message);
        }
        if self.body_bytes.is_some() {
            self.count_out(&queued.message);
        }
        Some(queued)
    }

    /// How many of the next messages can be [taken out](Self::take_run) in one go,
    /// up to `count_max`; no more than come to `bytes_max` octets, but one. None
    /// if they have to be looked at one by one.
    pub(super) fn run_at_hand(&mut self, count_max: usize, bytes_max: usize) -> (usize, Size) {
        let one_by_one =
            self.deadlines.in_use() || self.body_bytes.is_some() || !self.moved.is_empty();
        if one_by_one {
            return (0, Size::default());
        }
        let top = match self.above.last_entry() {
            None => &mut self.base,
            Some(top) => top.into_mut(),
        };
        let (count, size) = top.run_at_hand(count_max, bytes_max);
        if count == 0 || !self.before.is_past(top.run_start()) {
            return (0, Size::default());
        }
        (count, size)
    }

    /// Takes the run out that was [found at hand](Self::run_at_hand), and gives
    /// its places and messages to `take`.
    #[inline]
    pub(super) fn take_run(
        &mut self,
        (count, size): (usize, Size),
        take: impl FnOnce(Places<'_>, Drain<'_, Message>),
    ) {
        let Some(mut top) = self.above.last_entry() else {
            let (places, messages) = self.base.take_run(count, size);
            return take(places, messages);
        };
        let (places, messages) = top.get_mut().take_run(count, size);
        take(places, messages);
        if top.get().is_empty() {
            top.remove();
        }
    }

    /// Takes out the oldest message of that priority, if it is in memory.
    pub(super) fn pop_of(&mut self, level: u8) -> Option<Queued> {
        let list = match level {
            0 => &mut self.base,
            _ => self.above.get_mut(&level)?,
        };
        if !list.at_hand() {
            return None;
        }
        let queued = list.pop(&mut self.before)?;
        if list.is_empty() && level > 0 {
            self.above.remove(&level);
        }
        self.deadlines.remove(queued.sequence, &queued.message);
        self.count_out(&queued.message);
        Some(queued)
    }

    /// Puts a message that was taken out back to where it stood.
    pub(super) fn put_back(&mut self, queued: Queued) {
        let position = self.position(queued.sequence);
        self.count_in(queued.sequence, &queued.message);
        self.list_for(&queued.message).put_back(position, queued);
    }

    /// Puts a message behind all others whose time has come.
    pub(super) fn release(&mut self, queued: Queued) {
        self.released += 1;
        let position = (self.next, self.released);
        self.moved.insert(queued.sequence, position);
        self.put_back(queued);
    }

    /// A message that was taken out is not coming back.
    #[inline]
    pub(super) fn forget(&mut self, place: Sequence) {
        if !self.moved.is_empty() {
            self.moved.remove(&place);
        }
    }

    /// Where the message stands, or stood when it was taken out.
    pub(super) fn position(&self, place: Sequence) -> Position {
        self.moved
            .get(&place)
            .copied()
            .unwrap_or((place, AT_ITS_PLACE))
    }

    /// The first deadline of messages that have one of their own.
    pub(super) fn first_deadline(&self) -> Option<u64> {
        self.deadlines.first()
    }

    /// The first one of those in memory.
    pub(super) fn first_deadline_in_memory(&self) -> Option<u64> {
        self.deadlines.first_in_memory()
    }

    /// Takes out a message in memory whose own deadline lies before `until`.
    pub(super) fn pop_dead(&mut self, until: u64) -> Option<Queued> {
        while let Some(place) = self.deadlines.pop_before(until) {
            let position = self.position(place);
            let lists = std::iter::once(&mut self.base).chain(self.above.values_mut());
            let mut found = None;
            for list in lists {
                found = list.remove(place, position, &mut self.before);
                if found.is_some() {
                    break;
                }
            }
            if let Some(queued) = found {
                self.above.retain(|_, list| !list.is_empty());
                self.count_out(&queued.message);
                return Some(queued);
            }
        }
        None
    }

    /// The next page to be read for what has died in it before `until`.
    pub(super) fn visit_before(&mut self, until: u64) -> Option<PageIn> {
        while let Some(first) = self.deadlines.visit_before(until) {
            let found = self.lists().find_map(|list| list.only_paged(first));
            if found.is_some() {
                return found;
            }
            self.deadlines.end_visit(first);
        }
        None
    }

    /// Drops all of them; how many there were. The places of `others`, ascending,
    /// are not theirs.
    pub(super) fn clear(&mut self, journal: &mut Journal, others: &[Sequence]) -> u64 {
        let count = self.len();
        if count > 0 {
            let oldest = self.lists().filter_map(Ready::oldest).min();
            let mut from = oldest.unwrap_or(self.next);
            for other in others.iter().copied() {
                if other < from {
                    continue;
                }
                journal.settle_range(SequenceRange {
                    first: from,
                    end: other,
                });
                from = other.behind();
            }
            let end = self.next;
            if from < end {
                journal.settle_range(SequenceRange { first: from, end });
            }
        }
        self.base.clear(&mut journal.freed);
        for list in self.above.values_mut() {
            list.clear(&mut journal.freed);
        }
        self.above.clear();
        self.moved
            .retain(|place, _| others.binary_search(place).is_ok());
        self.deadlines.clear();
        self.body_bytes = self.body_bytes.map(|_| 0);
        self.paged_bodies.clear();
        count
    }

    /// Returns memory once a backlog is gone.
    #[inline]
    pub(super) fn shrink(&mut self) {
        self.base.shrink();
        if !self.above.is_empty() {
            self.above.values_mut().for_each(Ready::shrink);
        }
    }

    /// Takes out messages that have to wait since before the restart, of those
    /// that were read just now.
    pub(super) fn pop_waiting(&mut self, now: u64, places: &[Sequence]) -> Vec<(u64, Queued)> {
        let mut waiting = Vec::new();
        if self.before.is_empty() {
            return waiting;
        }
        for place in places {
            let due = self.before.due(*place);
            if due <= now {
                continue;
            }
            let lists = std::iter::once(&mut self.base).chain(self.above.values_mut());
            let mut found = None;
            for list in lists {
                found = list.remove(*place, (*place, AT_ITS_PLACE), &mut self.before);
                if found.is_some() {
                    break;
                }
            }
            if let Some(queued) = found {
                self.deadlines.remove(*place, &queued.message);
                self.count_out(&queued.message);
                waiting.push((due, queued));
            }
        }
        self.above.retain(|_, list| !list.is_empty());
        waiting
    }

    /// How often a message was delivered before the restart.
    pub(super) fn recall(&mut self, place: Sequence) -> u32 {
        self.before.recall(place)
    }

    fn lists(&self) -> impl Iterator<Item = &Ready> {
        std::iter::once(&self.base).chain(self.above.values())
    }

    fn top(&self) -> &Ready {
        self.above.values().next_back().unwrap_or(&self.base)
    }

    #[cold]
    fn pop_above(&mut self) -> Option<Queued> {
        let level = *self.above.keys().next_back()?;
        self.pop_of(level)
    }

    /// The priority of a message, as far as it counts.
    pub(super) fn level(&self, message: &Message) -> u8 {
        match self.max_priority {
            0 => 0,
            max => message.priority().min(max),
        }
    }

    fn list(&mut self, level: u8) -> &mut Ready {
        match level {
            0 => &mut self.base,
            _ => {
                let limits = self.limits;
                self.above
                    .entry(level)
                    .or_insert_with(|| Ready::new(limits))
            }
        }
    }

    fn list_for(&mut self, message: &Message) -> &mut Ready {
        self.list(self.level(message))
    }

    fn drop_empty(&mut self, level: u8) {
        if level > 0 && self.above.get(&level).is_some_and(Ready::is_empty) {
            self.above.remove(&level);
        }
    }

    fn count_in(&mut self, place: Sequence, message: &Message) {
        if message.traits().expires() {
            self.deadlines.add(place, message);
        }
        if let Some(bytes) = &mut self.body_bytes {
            *bytes += message.body_bytes() as u64;
        }
    }

    fn count_out(&mut self, message: &Message) {
        if let Some(bytes) = self.body_bytes {
            self.body_bytes = Some(bytes.saturating_sub(message.body_bytes() as u64));
        }
    }

    /// Remembers what is counted of a run that is in a page.
    fn count_page(&mut self, first: Sequence, bytes: u64, exact: bool) {
        if self.body_bytes.is_some() {
            self.paged_bodies
                .insert(first, PagedBodies { bytes, exact });
        }
    }

    /// A message died in its page.
    fn count_out_of_page(&mut self, first: Sequence, message: &Message) {
        if let Some(paged) = self.paged_bodies.get_mut(&first)
            && let Some(bytes) = &mut self.body_bytes
        {
            let counted = if paged.exact {
                message.body_bytes()
            } else {
                message.stored_bytes()
            };
            let counted = (counted as u64).min(paged.bytes);
            paged.bytes -= counted;
            *bytes = bytes.saturating_sub(counted);
        }
    }

    /// A run came out of its page: what it holds counts now.
    fn recount_page(&mut self, first: Sequence, messages: &[Message]) {
        if let Some(paged) = self.paged_bodies.remove(&first)
            && let Some(bytes) = &mut self.body_bytes
        {
            let bodies = messages.iter().map(Message::body_bytes).sum::<usize>();
            *bytes = bytes.saturating_sub(paged.bytes) + bodies as u64;
        }
    }
}

/// What counts as the bodies of a run in a page.
#[derive(Clone, Copy, Debug)]
struct PagedBodies {
    bytes: u64,
    /// Whether it is the bodies, and not all octets.
    exact: bool,
}
