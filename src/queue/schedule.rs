//! Messages that wait for their time: published with a delay, or given back and
//! to be tried again later.
//!
//! ```text
//! soon: in memory, by time │ far: pages of what comes later, by their first
//! ```
//!
//! While memory is short, the latest leave it, sorted by time, so that a page
//! holds messages whose times lie close together; it is read again shortly
//! before the first of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::ready::{Queued, Run};
use super::{Loaded, PageIn, PageOut};
use crate::model::{ALONE_OVERHEAD_BYTES, Message, Page, PageTag, Sequence};

/// The class of pages that hold messages that wait for their time.
pub(super) const SCHEDULED_CLASS: u8 = u8::MAX;

/// The messages that wait for their time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    soon: BTreeMap<Due, Queued>,
    /// By the first time in it and its name.
    far: BTreeMap<Due, Batch>,
    /// Those of the first that are being written, by name.
    writing: BTreeMap<Sequence, Vec<Due>>,
    /// The batch that is being read.
    reading: Option<Due>,
    /// Those in memory or in batches that have a `message-id`, by its hash.
    by_id: BTreeSet<(u64, Due)>,
    /// Messages in batches that were taken back.
    cancelled: BTreeSet<Sequence>,
    /// Names that were taken back while there were batches of which the names
    /// are not known.
    names_to_cancel: BTreeSet<u64>,
    /// Messages that were taken back when they were read.
    taken_back: Vec<Sequence>,
    /// How many batches there are of which the names are not known.
    nameless: usize,
    /// What is known of messages in batches beyond what their headers say.
    tries: BTreeMap<Sequence, (u32, u64)>,
    count: u64,
    memory_bytes: u64,
}

/// When, in milliseconds since 1970, and which: a message's place or a batch's
/// name.
type Due = (u64, Sequence);

#[derive(Debug)]
struct Batch {
    page: Page,
    /// The places of its messages, ascending.
    places: Box<[Sequence]>,
    /// It comes from a store: what is in it was not looked at yet.
    nameless: bool,
}

impl Schedule {
    /// How many wait.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Memory of those that are in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// When the first of them is due, or has to be read.
    pub(super) fn first(&self) -> Option<u64> {
        let soon = self.soon.keys().next().map(|(due, _)| *due);
        let far = self.far.keys().next().filter(|_| self.reading.is_none());
        let far = far.map(|(due, _)| due.saturating_sub(READ_AHEAD));
        soon.into_iter().chain(far).min()
    }

    /// When that message is due, if it waits in memory.
    #[cfg(test)]
    pub(super) fn due_of(&self, place: Sequence) -> Option<u64> {
        let mut soon = self.soon.keys();
        soon.find(|(_, of)| *of == place).map(|(due, _)| *due)
    }

    /// The places of all of them, unordered.
    pub(super) fn places(&self) -> impl Iterator<Item = Sequence> {
        let batches = self.far.values().flat_map(|batch| batch.places.iter());
        let soon = self.soon.values().map(|queued| queued.sequence);
        soon.chain(batches.copied())
    }

    /// A message is to wait until then.
    pub(super) fn insert(&mut self, due: u64, queued: Queued) {
        self.count += 1;
        // Those that came with it go at other times, and would be kept by it.
        let message = queued.message.alone();
        self.take_in(due, Queued { message, ..queued });
    }

    /// Takes out the first message that is due, with the moment at which it was.
    pub(super) fn pop(&mut self, now: u64) -> Option<(u64, Queued)> {
        let (due, _) = *self.soon.keys().next()?;
        if due > now {
            return None;
        }
        let (key, queued) = self.soon.pop_first()?;
        if let Some(name) = name(&queued.message) {
            self.by_id.remove(&(name, key));
        }
        self.count -= 1;
        self.memory_bytes -= memory_bytes(&queued.message);
        Some((due, queued))
    }

    /// Takes back the messages of that `message-id`; their places. Those in
    /// batches that a store kept are taken back when they are read.
    pub(super) fn cancel(&mut self, id: &[u8]) -> Vec<Sequence> {
        let name = hash(id);
        let all = (0, Sequence(0))..=(u64::MAX, Sequence(u64::MAX));
        let (first, last) = ((name, *all.start()), (name, *all.end()));
        let found: Vec<(u64, Due)> = self.by_id.range(first..=last).copied().collect();
        if self.nameless > 0 {
            self.names_to_cancel.insert(name);
        }
        let mut places = Vec::with_capacity(found.len());
        for entry in found {
            let (_, (due, place)) = entry;
            self.by_id.remove(&entry);
            self.count -= 1;
            places.push(place);
            match self.soon.remove(&(due, place)) {
                Some(queued) => self.memory_bytes -= memory_bytes(&queued.message),
                None => {
                    self.cancelled.insert(place);
                    self.tries.remove(&place);
                }
            }
        }
        places
    }

    /// Messages that turned out to be taken back when they were read.
    pub(super) fn taken_back(&mut self) -> Vec<Sequence> {
        std::mem::take(&mut self.taken_back)
    }

    /// The next batch to be read.
    pub(super) fn page_wanted(&mut self, now: u64) -> Option<PageIn> {
        if self.reading.is_some() {
            return None;
        }
        let (key, batch) = self.far.first_key_value()?;
        if key.0.saturating_sub(READ_AHEAD) > now {
            return None;
        }
        self.reading = Some(*key);
        Some(PageIn {
            first: key.1,
            page: batch.page,
        })
    }

    /// A batch was read; which of its messages were lost. `None` if that page is
    /// not waited for: others had the same name.
    pub(super) fn paged_in(
        &mut self,
        wanted: PageIn,
        loaded: &mut Loaded,
    ) -> Option<BTreeSet<Sequence>> {
        let PageIn { first, page } = wanted;
        let far = &self.far;
        let reading = self.reading.take_if(|key| {
            let batch = far.get(key);
            key.1 == first && batch.is_some_and(|batch| batch.page == page)
        })?;
        let batch = self.far.remove(&reading)?;
        let places: Vec<Sequence> = loaded.places(first).collect();
        let mut lost: BTreeSet<Sequence> = batch.places.iter().copied().collect();
        for (place, message) in places.into_iter().zip(loaded.messages.drain(..)) {
            // Nothing is taken that should not be there.
            if !lost.remove(&place) {
                continue;
            }
            if self.cancelled.remove(&place) {
                continue;
            }
            if batch.nameless
                && name(&message).is_some_and(|name| self.names_to_cancel.contains(&name))
            {
                self.count -= 1;
                self.taken_back.push(place);
                continue;
            }
            let (deliveries, due) = self.tries.remove(&place).unwrap_or((0, 0));
            let due = if due == 0 {
                message.deliver_at().unwrap_or(0)
            } else {
                due
            };
            self.take_in(
                due,
                Queued {
                    sequence: place,
                    message,
                    deliveries,
                },
            );
        }
        // Of what was lost, some may have been taken back.
        lost.retain(|place| !self.cancelled.remove(place));
        if !lost.is_empty() {
            // Nobody can take them back any more.
            self.by_id.retain(|(_, (_, place))| !lost.contains(place));
            lost.iter().for_each(|place| {
                self.tries.remove(place);
            });
        }
        self.count -= lost.len() as u64;
        if batch.nameless {
            self.nameless -= 1;
            if self.nameless == 0 {
                self.names_to_cancel.clear();
            }
        }
        Some(lost)
    }

    /// The latest messages, if there are enough to leave memory. `taken`: names
    /// that are used.
    pub(super) fn page_out(
        &mut self,
        run_bytes: u64,
        taken: &BTreeSet<Sequence>,
    ) -> Option<PageOut> {
        if self.memory_bytes < 2 * run_bytes || !self.writing.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let latest = self
            .soon
            .iter()
            .rev()
            .take(self.soon.len().saturating_sub(1));
        let mut leaving: Vec<_> = latest
            .take_while(|(_, queued)| {
                let room = bytes < run_bytes;
                bytes += memory_bytes(&queued.message);
                room
            })
            .collect();
        let (first_due, _) = *leaving.last()?.0;
        leaving.sort_unstable_by_key(|(_, queued)| queued.sequence);
        let mut run = Run::default();
        for (_, queued) in &leaving {
            run.push(queued.sequence, queued.message.clone());
        }
        if taken.contains(&run.first()) {
            return None;
        }
        let leaving = leaving.into_iter().map(|(due, _)| *due).collect();
        let mut page_out = PageOut::new(Arc::new(run));
        page_out.tag = PageTag {
            class: SCHEDULED_CLASS,
            due: first_due,
        };
        self.writing.insert(page_out.first, leaving);
        Some(page_out)
    }

    /// A batch was written, or could not be. Whether the page is kept; `None` if
    /// no batch of that name was to be written.
    pub(super) fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> Option<bool> {
        let leaving = self.writing.remove(&first)?;
        // What was due or taken back meanwhile keeps the others in memory.
        let all_wait = leaving.iter().all(|due| self.soon.contains_key(due));
        let Some(page) = page.filter(|_| all_wait) else {
            return Some(false);
        };
        let mut places = Vec::with_capacity(leaving.len());
        let mut first_due = u64::MAX;
        for (due, place) in leaving {
            let Some(queued) = self.soon.remove(&(due, place)) else {
                continue;
            };
            places.push(place);
            first_due = first_due.min(due);
            self.memory_bytes -= memory_bytes(&queued.message);
            if queued.deliveries > 0 {
                self.tries.insert(place, (queued.deliveries, due));
            }
        }
        let batch = Batch {
            page,
            places: places.into(),
            nameless: false,
        };
        self.far.insert((first_due, first), batch);
        Some(true)
    }

    /// What is known of a message in a batch beyond what its headers say: how
    /// often it was delivered, and when it is due if that is not 0.
    pub(super) fn remember(&mut self, place: Sequence, deliveries: u32, due: u64) {
        self.tries.insert(place, (deliveries, due));
    }

    /// A batch that a store kept.
    pub(super) fn restore_paged(
        &mut self,
        first: Sequence,
        places: Vec<Sequence>,
        page: Page,
        tag: PageTag,
    ) {
        self.count += places.len() as u64;
        self.nameless += 1;
        let batch = Batch {
            page,
            places: places.into(),
            nameless: true,
        };
        self.far.insert((tag.due, first), batch);
    }

    /// Whether the batch of that name is being read.
    pub(super) fn is_reading(&self, first: Sequence) -> bool {
        self.reading.is_some_and(|(_, name)| name == first)
    }

    fn take_in(&mut self, due: u64, queued: Queued) {
        self.memory_bytes += memory_bytes(&queued.message);
        if let Some(name) = name(&queued.message) {
            self.by_id.insert((name, (due, queued.sequence)));
        }
        self.soon.insert((due, queued.sequence), queued);
    }
}

/// The hash of a message's `message-id`.
fn name(message: &Message) -> Option<u64> {
    let name = message.properties().message_id;
    name.map(|id| hash(id.as_bytes()))
}

fn hash(id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn memory_bytes(message: &Message) -> u64 {
    (message.stored_bytes() + ENTRY_BYTES) as u64
}

/// Milliseconds before its first message is due at which a batch is read.
const READ_AHEAD: u64 = 2_000;
/// What a message takes beside its octets: its block, and its entry in a map
/// whose nodes are two thirds full.
pub(super) const ENTRY_BYTES: usize = ALONE_OVERHEAD_BYTES + 72;
