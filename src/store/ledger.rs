//! What the log knows of each queue: which places are settled, which lie in
//! segments, and so which records are still needed. Kept by the log's thread
//! alone, from the records that go by; a checkpoint writes it down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use foldhash::HashMap;

use crate::model::{QueueId, Sequence, SequenceRange};

use super::log::{CameBack, Checkpoint, Names, QueueState};
use super::names::NameLedger;
use super::ranges::RangeSet;

/// All durable queues.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    queues: HashMap<QueueId, QueueLedger>,
    pub(super) names: NameLedger,
}

/// One durable queue.
#[derive(Debug, Default)]
pub(super) struct QueueLedger {
    /// Behind the last place that was ever given out.
    next: Sequence,
    redelivered_below: Sequence,
    /// Settled, or never to be needed: messages that were not persistent.
    settled: RangeSet,
    returned: BTreeMap<Sequence, CameBack>,
    /// Settled, or durably in segments: no log file is needed for these places.
    covered: RangeSet,
    /// In the order in which they were begun.
    segments: VecDeque<Segment>,
}

/// One segment file as the ledger knows it.
#[derive(Debug)]
struct Segment {
    file: u64,
    /// The places of its pages, without those in front that were found settled.
    places: VecDeque<SequenceRange>,
    durable_bytes: u64,
    /// How many pages it is known to have.
    pages: u64,
    /// Messages of these pages, settled ones too, and octets.
    messages: u64,
    bytes: u64,
    /// Messages that were not settled when it was last looked at.
    unsettled: Option<u64>,
    moving: Moving,
}

/// Whether what is left of a segment is being written elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moving {
    No,
    Now,
    /// It has damaged messages, which are kept where they are.
    Never,
}

/// How well a segment's octets are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentUse {
    /// Octets of the file.
    pub(super) file_bytes: u64,
    /// Of those, octets of messages that are not settled, about.
    pub(super) live_bytes: u64,
    /// How many pieces had to be looked at to know that.
    pub(super) pieces: usize,
    /// Whether hardly anything was settled since it was last looked at.
    pub(super) at_rest: bool,
}

/// A segment that is not needed any more, as far as its places are known here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) queue: QueueId,
    pub(super) file: u64,
    pub(super) pages: u64,
}

impl Segment {
    fn new(file: u64) -> Self {
        Self {
            file,
            places: VecDeque::new(),
            durable_bytes: 0,
            pages: 0,
            messages: 0,
            bytes: 0,
            unsettled: None,
            moving: Moving::No,
        }
    }

    fn add(&mut self, places: &[SequenceRange], bytes: u64) {
        self.pages += 1;
        self.bytes += bytes;
        for range in places {
            self.messages += range.count();
            match self.places.back_mut() {
                Some(last) if last.end == range.first => last.end = range.end,
                _ => self.places.push_back(*range),
            }
        }
    }

    /// Passes over what is settled; whether anything was, and nothing is left.
    fn pass_settled(&mut self, settled: &RangeSet) -> bool {
        let before = self.places.len();
        while let Some(first) = self.places.front()
            && settled.contains_all(*first)
        {
            self.places.pop_front();
        }
        before > 0 && self.places.is_empty()
    }

    fn done(&self, queue: QueueId) -> Done {
        Done {
            queue,
            file: self.file,
            pages: self.pages,
        }
    }
}

impl Ledger {
    /// A queue is there from now on; what comes for others is ignored.
    pub(super) fn register(&mut self, queue: QueueId) {
        self.queues.entry(queue).or_default();
    }

    /// A queue is there, as a checkpoint or recovery has it.
    pub(super) fn restore(&mut self, state: &QueueState) {
        let queue = self.queues.entry(state.queue).or_default();
        queue.next = queue.next.max(state.next);
        queue.redelivered_below = queue.redelivered_below.max(state.redelivered_below);
        for range in &state.settled {
            queue.settled.insert(*range);
            queue.covered.insert(*range);
        }
        queue.returned.extend(state.returned.iter().copied());
    }

    /// A queue was deleted, and all of it with it.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
        self.names.forget(queue);
    }

    /// The place that a queue's next message gets, as far as is known here.
    pub(super) fn next(&self, queue: QueueId) -> Option<Sequence> {
        self.queues.get(&queue).map(|queue| queue.next)
    }

    /// Places were given to messages.
    pub(super) fn appended(&mut self, queue: QueueId, places: SequenceRange) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.next = queue.next.max(places.end);
        }
    }

    /// Names were written to a file of the log.
    pub(super) fn named(&mut self, names: &Names, file: u64) {
        if self.queues.contains_key(&names.queue) {
            self.names.note(names, file);
        }
    }

    /// Places were settled; segments that are not needed any more are given to
    /// `done`.
    pub(super) fn settle(&mut self, id: QueueId, places: SequenceRange, done: &mut Vec<Done>) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        queue.next = queue.next.max(places.end);
        queue.settled.insert(places);
        queue.covered.insert(places);
        if !queue.returned.is_empty() {
            let in_range: Vec<Sequence> = queue
                .returned
                .range(places.first..places.end)
                .map(|(place, _)| *place)
                .collect();
            for place in in_range {
                queue.returned.remove(&place);
            }
        }
        if let Some(first) = queue.segments.front_mut()
            && first.pass_settled(&queue.settled)
        {
            done.push(first.done(id));
        }
    }

    /// A message went back.
    pub(super) fn returned(&mut self, queue: QueueId, place: Sequence, came_back: CameBack) {
        if let Some(queue) = self.queues.get_mut(&queue)
            && !queue.settled.contains(place)
        {
            queue.next = queue.next.max(place.behind());
            let known = queue.returned.entry(place).or_default();
            *known = came_back.max(*known);
        }
    }

    /// A page with these places and so many octets was written into a segment.
    pub(super) fn page_written(
        &mut self,
        queue: QueueId,
        file: u64,
        places: &[SequenceRange],
        bytes: u64,
    ) {
        let Some(queue) = self.queues.get_mut(&queue) else {
            return;
        };
        if let Some(last) = places.last() {
            queue.next = queue.next.max(last.end);
        }
        // Mostly it is the one that was begun last.
        let known = queue.segments.iter().rposition(|one| one.file == file);
        let index = known.unwrap_or_else(|| {
            queue.segments.push_back(Segment::new(file));
            queue.segments.len() - 1
        });
        if let Some(segment) = queue.segments.get_mut(index) {
            segment.add(places, bytes);
        }
    }

    /// Pages are durable: their places, and how far the file is.
    pub(super) fn pages_synced(
        &mut self,
        queue: QueueId,
        file: u64,
        durable_bytes: u64,
        places: &[SequenceRange],
    ) {
        let Some(queue) = self.queues.get_mut(&queue) else {
            return;
        };
        for range in places {
            queue.covered.insert(*range);
        }
        if let Some(segment) = queue.segments.iter_mut().rev().find(|one| one.file == file) {
            segment.durable_bytes = segment.durable_bytes.max(durable_bytes);
        }
    }

    /// A segment's file is gone.
    pub(super) fn segment_removed(&mut self, queue: QueueId, file: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.segments.retain(|segment| segment.file != file);
        }
    }

    /// All segments in which everything is settled, also those that became so
    /// behind one that is not.
    pub(super) fn settled_segments(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        for (id, queue) in &mut self.queues {
            for segment in &mut queue.segments {
                segment.pass_settled(&queue.settled);
                if segment.places.is_empty() {
                    done.push(segment.done(*id));
                }
            }
        }
        done
    }

    /// All segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = (QueueId, u64)> {
        let queues = self.queues.iter();
        queues.flat_map(|(id, queue)| queue.segments.iter().map(|one| (*id, one.file)))
    }

    /// Looks at how well a segment is used; `None` if it is not there, or is to
    /// stay as it is.
    pub(super) fn look_at(&mut self, queue: QueueId, file: u64) -> Option<SegmentUse> {
        let queue = self.queues.get_mut(&queue)?;
        let segment = queue.segments.iter_mut().find(|one| one.file == file)?;
        if segment.moving != Moving::No {
            return None;
        }
        let (mut unsettled, mut pieces) = (0, segment.places.len());
        for range in &segment.places {
            for gap in queue.settled.gaps(*range) {
                unsettled += gap.count();
                pieces += 1;
            }
        }
        let before = segment.unsettled.replace(unsettled);
        let settled_since = before.map(|before| before.saturating_sub(unsettled));
        Some(SegmentUse {
            file_bytes: segment.durable_bytes.max(segment.bytes),
            live_bytes: segment.bytes * unsettled / segment.messages.max(1),
            pieces,
            at_rest: settled_since.is_some_and(|settled| settled <= segment.messages / 16),
        })
    }

    /// What is left of a segment is written elsewhere from now on: these places,
    /// of so many pages.
    pub(super) fn begin_move(
        &mut self,
        queue: QueueId,
        file: u64,
    ) -> Option<(Vec<SequenceRange>, u64)> {
        let queue = self.queues.get_mut(&queue)?;
        let segment = queue.segments.iter_mut().find(|one| one.file == file)?;
        segment.moving = Moving::Now;
        let places = segment.places.iter();
        let unsettled = places.flat_map(|range| queue.settled.gaps(*range));
        Some((unsettled.collect(), segment.pages))
    }

    /// It was not, and whether that can be tried again.
    pub(super) fn not_moved(&mut self, queue: QueueId, file: u64, again: bool) {
        let queue = self.queues.get_mut(&queue);
        let mut segments = queue.into_iter().flat_map(|queue| &mut queue.segments);
        if let Some(segment) = segments.find(|one| one.file == file) {
            segment.moving = if again { Moving::No } else { Moving::Never };
        }
    }

    pub(super) fn is_moving(&self, queue: QueueId, file: u64) -> bool {
        let queue = self.queues.get(&queue);
        let mut segments = queue.into_iter().flat_map(|queue| &queue.segments);
        segments.any(|one| one.file == file && one.moving == Moving::Now)
    }

    /// Whether a message must be kept in the log: not settled and not in a
    /// segment.
    pub(super) fn needs(&self, queue: QueueId, place: Sequence) -> bool {
        self.queues
            .get(&queue)
            .is_some_and(|queue| !queue.covered.contains(place))
    }

    /// Whether the log must keep any message of a range.
    pub(super) fn needs_any(&self, queue: QueueId, places: SequenceRange) -> bool {
        self.queues
            .get(&queue)
            .is_some_and(|queue| !queue.covered.contains_all(places))
    }

    /// How many messages of a range the log must keep.
    pub(super) fn needed(&self, queue: QueueId, places: SequenceRange) -> u64 {
        self.queues
            .get(&queue)
            .map_or(0, |queue| queue.covered.missing(places))
    }

    /// A checkpoint, with the names of these files.
    pub(super) fn checkpoint(&self, files: &BTreeSet<u64>) -> Checkpoint {
        Checkpoint {
            queues: self.states(),
            names: self.names.of_files(files),
        }
    }

    /// All queues, for a checkpoint.
    pub(super) fn states(&self) -> Vec<QueueState> {
        let mut states: Vec<QueueState> = self
            .queues
            .iter()
            .map(|(id, queue)| QueueState {
                queue: *id,
                next: queue.next,
                redelivered_below: queue.redelivered_below,
                settled: queue.settled.iter().collect(),
                returned: queue
                    .returned
                    .iter()
                    .map(|(place, came_back)| (*place, *came_back))
                    .collect(),
                segments: queue
                    .segments
                    .iter()
                    .map(|segment| (segment.file, segment.durable_bytes))
                    .collect(),
            })
            .collect();
        states.sort_unstable_by_key(|state| state.queue);
        states
    }
}
