//! What goes between a queue and its store: runs of messages that are written,
//! read back, and found at a restart. The queue reads and writes nothing
//! itself; its host does.
//!
//! ```text
//! page_out ─▶ (the store writes) ─▶ paged_out      memory ──▶ page
//! page_wanted ─▶ (the store reads) ─▶ paged_in     page ──▶ memory
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ready::{Queued, Run};
use crate::model::{Message, NameHash, Page, PageTag, Sequence, SequenceRange};

/// A run to be written; the answer is [`Queue::paged_out`](super::Queue::paged_out).
///
/// It shares the run with the queue, so that neither giving it out nor letting
/// it go looks at single messages while the queue is locked: whoever writes it
/// lets it go last.
#[derive(Clone, Debug)]
pub struct PageOut {
    /// Place of the first message, which names the run.
    pub first: Sequence,
    /// What is to be kept with the page.
    pub tag: PageTag,
    run: Arc<Run>,
}

/// What was found in a page that was read for the dead in it.
#[derive(Debug, Default)]
pub(super) struct Visit {
    /// Those whose time had come.
    pub(super) dead: Vec<Queued>,
}

impl PageOut {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Self {
            first: run.first(),
            tag: PageTag::default(),
            run,
        }
    }

    /// The messages in order, at least one, each with its place. Only a restored
    /// queue has gaps.
    pub fn messages(&self) -> impl Iterator<Item = (Sequence, &Message)> {
        self.run.iter()
    }

    /// Octets of memory that they take.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.run.memory_bytes()
    }
}

/// A run to be read; the answer is [`Queue::paged_in`](super::Queue::paged_in).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageIn {
    /// Names the run.
    pub first: Sequence,
    /// Where it is.
    pub page: Page,
}

/// A run as it was read. What is missing or not in order counts as lost.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The messages in order.
    pub messages: Vec<Message>,
    /// The place of each; `None` if they are consecutive from the run's first.
    pub sequences: Option<Vec<Sequence>>,
    /// What they come to, as [`Message::stored_bytes`] counts them; counted by
    /// whoever read them, because the queue is locked when it gets them.
    pub stored_bytes: u64,
}

impl Loaded {
    /// The place of each message; `first` names the run.
    pub(super) fn places(&self, first: Sequence) -> impl Iterator<Item = Sequence> {
        let listed = self.sequences.as_ref();
        (0..self.messages.len()).map(move |index| match listed {
            Some(listed) => listed.get(index).copied().unwrap_or(first),
            None => Sequence(first.0 + index as u64),
        })
    }

    /// What was read, counted.
    #[must_use]
    pub fn new(messages: Vec<Message>, sequences: Option<Vec<Sequence>>) -> Self {
        let bytes = messages.iter().map(Message::stored_bytes).sum::<usize>();
        Self {
            messages,
            sequences,
            stored_bytes: bytes as u64,
        }
    }
}

/// What a store kept of a queue over a restart.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Where publishing goes on; behind all that there is.
    pub next: Sequence,
    /// Messages before this may have been delivered, whatever is known of
    /// them: the broker did not stop in order.
    pub redelivered_below: Sequence,
    /// Deliveries that are known, and until when the message has to wait, in
    /// milliseconds since 1970; 0 if it has not.
    pub deliveries: BTreeMap<Sequence, (u32, u64)>,
    /// The messages, all of them ready; ascending, without overlap.
    pub runs: Vec<RestoredRun>,
    /// The names by which copies are told, with the times at which they were
    /// seen; oldest first.
    pub names: Vec<(u64, NameHash)>,
}

/// Some of a restored queue's messages.
#[derive(Clone, Debug)]
pub struct RestoredRun {
    /// Place of the first one, which names the run.
    pub first: Sequence,
    /// How many there are; gaps do not count.
    pub count: u64,
    /// Octets of all of them, as [`Message::stored_bytes`] counts them.
    pub stored_bytes: u64,
    /// What was kept with the page, if it is in one.
    pub tag: PageTag,
    /// The places of all of them, ascending, unless they are consecutive.
    pub places: Option<Vec<SequenceRange>>,
    /// Where they are.
    pub content: RestoredContent,
}

impl RestoredRun {
    /// The place behind the last one.
    pub(super) fn end(&self) -> Sequence {
        let last = self.places.as_ref().and_then(|places| places.last());
        last.map_or_else(
            || SequenceRange::new(self.first, self.count).end,
            |last| last.end,
        )
    }

    /// The place of each message.
    pub(super) fn places(&self) -> Vec<Sequence> {
        let consecutive = [SequenceRange::new(self.first, self.count)];
        let ranges = self.places.as_deref().unwrap_or(&consecutive);
        ranges
            .iter()
            .flat_map(|range| (range.first.0..range.end.0).map(Sequence))
            .take(self.count as usize)
            .collect()
    }
}

/// Where a restored queue's messages are.
#[derive(Clone, Debug)]
pub enum RestoredContent {
    /// Here.
    Resident(Vec<(Sequence, Message)>),
    /// In the store.
    Paged(Page),
}

/// How much of a queue is in memory, mostly counted by [`Message::memory_bytes`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A run is closed when it has so much.
    pub(super) run_bytes: u64,
    /// What is delivered next and is never paged out.
    pub(super) head_bytes: u64,
    /// Pages are read until so much is at hand or on its way.
    pub(super) read_ahead_bytes: u64,
    /// Dead letters that may be on their way; they are in memory.
    pub(super) letters: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            run_bytes: RUN_BYTES,
            head_bytes: HEAD_BYTES,
            read_ahead_bytes: READ_AHEAD_BYTES,
            letters: LETTERS_MAX,
        }
    }
}

const RUN_BYTES: u64 = 512 * 1024;
const HEAD_BYTES: u64 = 1024 * 1024;
const READ_AHEAD_BYTES: u64 = 2 * 1024 * 1024;
const LETTERS_MAX: u64 = 4_096;
