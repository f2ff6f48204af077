//! All ready messages of a queue: one list of them for each priority in use.
//!
//! A queue without priorities has one list, and pays nothing for the others.
//! Places are numbered through all lists. Where a message stands among the
//! others of its priority is its place, unless it had to wait for its time.

use std::collections::BTreeMap;

use super::deadlines::{Deadlines, own_deadline};
use super::groups::Rank;
use super::paging::{Limits, Visit};
use super::ready::{AT_ITS_PLACE, DeliveredBefore, LeftMemory, Position, Queued, Ready};
use super::{Journal, Loaded, PageIn, PageOut};
use crate::model::{Message, Page, PageTag, Sequence, SequenceRange};

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

    /// Whether messages of all priorities go into one list.
    pub(super) fn is_one_list(&self) -> bool {
        self.max_priority == 0
    }

    /// Appends the messages in order, of whatever priority, none with a
    /// deadline; leaves the vec empty. The place of the first; the others follow.
    #[inline]
    pub(super) fn append(&mut self, messages: &mut Vec<Message>) -> Sequence {
        let first = self.next;
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
                from = Sequence(other.0 + 1);
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

    /// A run that can leave memory, of the lowest priority that has one.
    pub(super) fn page_out(&mut self, partial: bool) -> Option<PageOut> {
        let timed = self.deadlines.in_use();
        let lists = std::iter::once((0, &mut self.base))
            .chain(self.above.iter_mut().map(|(level, list)| (*level, list)));
        for (class, list) in lists {
            if let Some(mut run) = list.page_out(partial) {
                run.tag.class = class;
                if timed {
                    let deadlines = run.messages().filter_map(|(_, one)| own_deadline(one));
                    run.tag.due = deadlines.min().unwrap_or(0);
                }
                return Some(run);
            }
        }
        None
    }

    /// A run was written, or could not be. Whether the page is kept; `None` if
    /// no run of that name is waited for.
    pub(super) fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> bool {
        let timed = self.deadlines.in_use();
        let lists = std::iter::once(&mut self.base).chain(self.above.values_mut());
        for list in lists {
            let Some(run) = list.tail_run(first) else {
                continue;
            };
            let bodies = run.iter().map(|(_, one)| one.body_bytes() as u64);
            let bodies = self.body_bytes.map(|_| bodies.sum::<u64>());
            let own: Vec<(Sequence, Message)> = if timed {
                run.iter()
                    .filter(|(_, message)| message.traits().expires())
                    .map(|(place, message)| (place, message.clone()))
                    .collect()
            } else {
                Vec::new()
            };
            match list.paged_out(first, page) {
                LeftMemory::Paged => {
                    for (place, message) in &own {
                        self.deadlines.remove(*place, message);
                    }
                    let due = own.iter().filter_map(|(_, one)| own_deadline(one)).min();
                    self.deadlines.add_paged(first, due.unwrap_or(0));
                    self.count_page(first, bodies.unwrap_or(0), true);
                    return true;
                }
                LeftMemory::Kept => {
                    for (place, message) in &own {
                        self.deadlines.add(*place, message);
                    }
                    return false;
                }
                LeftMemory::Gone => {}
            }
        }
        false
    }

    /// The next run to read ahead, of the most urgent messages first.
    #[inline]
    pub(super) fn page_wanted(&mut self) -> Option<PageIn> {
        if self.above.is_empty() {
            return self.base.page_wanted();
        }
        let mut lists = self.above.values_mut().rev();
        lists
            .find_map(Ready::page_wanted)
            .or_else(|| self.base.page_wanted())
    }

    /// A run was read, at that moment.
    pub(super) fn paged_in(
        &mut self,
        first: Sequence,
        mut loaded: Loaded,
        now: u64,
        journal: &mut Journal,
    ) -> Arrival {
        let lists = std::iter::once((0, &mut self.base))
            .chain(self.above.iter_mut().map(|(level, list)| (*level, list)));
        let mut level = None;
        for (of, list) in lists {
            if list.has_paged(first) {
                level = Some(of);
                break;
            }
        }
        let visited = self.deadlines.end_visit(first);
        let Some(level) = level else {
            return Arrival::Ignored;
        };
        let only_paged = self.list(level).is_only_paged(first);
        if visited && only_paged {
            return Arrival::Visited(self.visit(level, first, loaded, now, journal));
        }
        self.deadlines.remove_paged(first);
        if !self.deadlines.none_gone() {
            self.leave_out_gone(first, &mut loaded);
        }
        self.recount_page(first, &loaded.messages);
        let own: Vec<(Sequence, Message)> = loaded
            .places(first)
            .zip(&loaded.messages)
            .filter(|(_, message)| message.traits().expires())
            .map(|(place, message)| (place, message.clone()))
            .collect();
        let Some(lost) = self.list(level).paged_in(first, loaded, journal) else {
            return Arrival::Ignored;
        };
        for (place, message) in &own {
            self.deadlines.add(*place, message);
        }
        self.drop_empty(level);
        Arrival::Loaded { lost }
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

    /// Sees what of a run that stays in its page has died.
    fn visit(
        &mut self,
        level: u8,
        first: Sequence,
        loaded: Loaded,
        now: u64,
        journal: &mut Journal,
    ) -> Visit {
        let mut visit = Visit::default();
        let mut next_due = u64::MAX;
        let places: Vec<Sequence> = loaded.places(first).collect();
        let mut page = None;
        for (place, message) in places.iter().copied().zip(loaded.messages) {
            let Some(due) = own_deadline(&message).filter(|_| !self.deadlines.is_gone(place))
            else {
                continue;
            };
            if due > now {
                next_due = next_due.min(due);
                continue;
            }
            let stored_bytes = message.stored_bytes() as u64;
            page = self.list(level).lose_paged(first, stored_bytes);
            self.deadlines.bury_paged(place);
            self.count_out_of_page(first, &message);
            let deliveries = self.before.recall(place);
            visit.dead.push(Queued {
                sequence: place,
                message,
                deliveries,
            });
        }
        if let Some(page) = page {
            journal.freed.push(page);
            self.recount_page(first, &[]);
            for place in places {
                self.deadlines.forget_gone(place);
            }
        } else if next_due < u64::MAX {
            self.deadlines.add_paged(first, next_due);
        }
        self.drop_empty(level);
        visit
    }

    fn leave_out_gone(&mut self, first: Sequence, loaded: &mut Loaded) {
        let places: Vec<Sequence> = loaded.places(first).collect();
        if !places.iter().any(|place| self.deadlines.is_gone(*place)) {
            return;
        }
        let messages = std::mem::take(&mut loaded.messages);
        let mut kept = Vec::with_capacity(places.len());
        for (place, message) in places.into_iter().zip(messages) {
            if self.deadlines.is_gone(place) {
                self.deadlines.forget_gone(place);
                loaded.stored_bytes -= message.stored_bytes() as u64;
            } else {
                kept.push(place);
                loaded.messages.push(message);
            }
        }
        loaded.sequences = Some(kept);
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

/// What a page was read for.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Nobody waits for it any more.
    Ignored,
    /// Its messages are in memory, but for so many that were not in it.
    Loaded { lost: u64 },
    /// It was looked through for the dead.
    Visited(Visit),
}
