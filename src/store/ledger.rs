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
}

/// A segment that is not needed any more, as far as its places are known here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) queue: QueueId,
    pub(super) file: u64,
    pub(super) pages: u64,
}

impl Segment {
    fn add(&mut self, places: &[SequenceRange]) {
        for range in places {
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
            let known = queue.returned.entry(place).or_default();
            *known = came_back.max(*known);
        }
    }

    /// A page with these places was written into a segment.
    pub(super) fn page_written(&mut self, queue: QueueId, file: u64, places: &[SequenceRange]) {
        let Some(queue) = self.queues.get_mut(&queue) else {
            return;
        };
        if let Some(last) = places.last() {
            queue.next = queue.next.max(last.end);
        }
        // Mostly it is the one that was begun last.
        match queue.segments.iter_mut().rev().find(|one| one.file == file) {
            Some(segment) => {
                segment.add(places);
                segment.pages += 1;
            }
            None => queue.segments.push_back(Segment {
                file,
                places: places.iter().copied().collect(),
                durable_bytes: 0,
                pages: 1,
            }),
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
