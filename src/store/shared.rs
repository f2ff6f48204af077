//! What submitters, the log's thread and the pager share.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use foldhash::HashMap;
use parking_lot::{Condvar, Mutex};

use crate::model::{NameHash, Progress, QueueId, SequenceRange, Ticket, TicketRange};

use super::log::{
    HEADER_BYTES, Names, NewRecord, QueueState, RecordKind, Returned, Run, Settled, put_messages,
};
use super::octets;
use super::segment::SegmentEvent;

/// The store's shared state.
pub(super) struct Shared {
    pending: Mutex<Pending>,
    /// Wakes the log's thread.
    work: Condvar,
    /// All up to here is decided.
    decided: AtomicU64,
    /// Held while that moves and while the store fails: nothing is decided after
    /// a failure.
    deciding: Mutex<()>,
    has_decided: Condvar,
    failed: Mutex<Arc<[TicketRange]>>,
    /// Why the store is dead, once it is.
    failure: OnceLock<String>,
    /// Octets that wait for the log's thread.
    pending_bytes: AtomicU64,
    /// Writing pages has just failed.
    pub(super) paging_stalled: AtomicBool,
    events: Mutex<Vec<SegmentEvent>>,
    pub(super) refused_names: RefusedNames,
    /// Something was appended of which the log's thread was not told.
    unannounced: AtomicBool,
    observer: Observer,
}

/// Called when the log has come further or has failed.
pub type Observer = Box<dyn Fn() + Send + Sync>;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Whole records but for their headers, which the log's thread fills in.
    pub(super) buffer: Vec<u8>,
    /// Octets that the buffer had lately, at most.
    buffer_used: usize,
    pub(super) records: Vec<Record>,
    /// The places that the records' messages went to.
    pub(super) runs: Vec<(QueueId, SequenceRange)>,
    pub(super) settled: Vec<Settled>,
    pub(super) returned: Vec<Returned>,
    /// When the oldest settlement came that waits.
    pub(super) settled_since: Option<Instant>,
    pub(super) controls: Vec<Control>,
    last_ticket: u64,
    /// Whether the log's thread waits to be woken.
    idle: bool,
    stop: Option<Stop>,
}

/// A record in the buffer.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) ticket: Ticket,
    /// Where in the buffer it begins.
    pub(super) start: usize,
    pub(super) payload_bytes: u32,
    pub(super) payload_crc: u32,
    pub(super) kind: RecordKind,
    /// How many of the runs are its own.
    pub(super) runs: usize,
    /// Settlements that are part of it.
    pub(super) settled: Vec<Settled>,
    pub(super) names: Vec<Names>,
    /// Names without which it does not count.
    pub(super) repeated: Vec<(QueueId, NameHash)>,
}

/// Names that are in no record of the log, because it refused theirs.
#[derive(Debug, Default)]
pub(super) struct RefusedNames {
    /// Hardly ever: nobody locks it for nothing.
    any: AtomicBool,
    queues: Mutex<HashMap<QueueId, Vec<NameHash>>>,
}

/// Queues that come and go.
#[derive(Clone, Debug)]
pub(super) enum Control {
    Register(QueueId),
    Forget(QueueId),
    /// All messages of a queue are settled.
    Empty(QueueId),
    /// What another directory knows of a queue, which the next checkpoint
    /// writes down.
    Restore(QueueState),
}

/// How the log's thread ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// All is written down, and that the stop was clean.
    Clean,
    /// What waits is dropped, as if the process had been killed.
    #[cfg(test)]
    Abrupt,
}

impl Shared {
    pub(super) fn new(observer: Observer) -> Arc<Self> {
        Arc::new(Self {
            pending: Mutex::default(),
            work: Condvar::new(),
            decided: AtomicU64::new(0),
            deciding: Mutex::default(),
            has_decided: Condvar::new(),
            failed: Mutex::default(),
            failure: OnceLock::new(),
            pending_bytes: AtomicU64::new(0),
            paging_stalled: AtomicBool::new(false),
            events: Mutex::default(),
            refused_names: RefusedNames::default(),
            unannounced: AtomicBool::new(false),
            observer,
        })
    }

    /// Appends a messages record. Unless `announce`, the log's thread is not
    /// told yet.
    pub(super) fn append(&self, new: &NewRecord<'_>, announce: bool) -> Ticket {
        let mut pending = self.pending.lock();
        pending.last_ticket += 1;
        let ticket = Ticket(pending.last_ticket);
        let start = pending.buffer.len();
        pending.buffer.reserve(HEADER_BYTES + new.bytes_about());
        pending.buffer.resize(start + HEADER_BYTES, 0);
        put_messages(&mut pending.buffer, new);
        let payload = pending.buffer.get(start + HEADER_BYTES..);
        let payload = payload.unwrap_or_default();
        let record = Record {
            ticket,
            start,
            payload_bytes: payload.len() as u32,
            payload_crc: crc32c::crc32c(payload),
            kind: RecordKind::Messages,
            runs: new.runs.len(),
            settled: new.settled.to_vec(),
            names: new.names.to_vec(),
            repeated: new.repeated.to_vec(),
        };
        octets::pad(&mut pending.buffer);
        pending.records.push(record);
        let places = |run: &Run| (run.queue, SequenceRange::new(run.first, run.count.into()));
        pending.runs.extend(new.runs.iter().map(places));
        let waiting = pending.buffer.len() as u64;
        self.pending_bytes.store(waiting, Ordering::Release);
        if announce {
            self.wake(&mut pending);
        } else {
            self.unannounced.store(true, Ordering::Release);
        }
        ticket
    }

    /// Whether something is still to be announced, which from now on is the
    /// caller's to do.
    pub(super) fn take_unannounced(&self) -> bool {
        self.unannounced.load(Ordering::Acquire) && self.unannounced.swap(false, Ordering::AcqRel)
    }

    /// Tells the log's thread that there is work.
    pub(super) fn announce(&self) {
        self.wake(&mut self.pending.lock());
    }

    /// Adds settlements, which are written within a few milliseconds.
    pub(super) fn settle(&self, settled: &[Settled], returned: &[Returned]) {
        let mut pending = self.pending.lock();
        for one in settled {
            match pending.settled.last_mut() {
                Some(last) if last.queue == one.queue && last.range.end == one.range.first => {
                    last.range.end = one.range.end;
                }
                _ => pending.settled.push(*one),
            }
        }
        pending.returned.extend_from_slice(returned);
        if pending.settled_since.is_none() {
            pending.settled_since = Some(Instant::now());
            self.wake(&mut pending);
        }
    }

    pub(super) fn control(&self, control: Control) {
        self.pending.lock().controls.push(control);
    }

    pub(super) fn stop(&self, stop: Stop) {
        let mut pending = self.pending.lock();
        pending.stop = Some(stop);
        self.wake(&mut pending);
    }

    fn wake(&self, pending: &mut Pending) {
        if std::mem::take(&mut pending.idle) {
            self.work.notify_one();
        }
    }

    /// Waits for work until `deadline`; settlements alone are left to gather
    /// until they are due.
    pub(super) fn wait_for_work(&self, deadline: Instant) {
        let mut pending = self.pending.lock();
        loop {
            let now = Instant::now();
            let due = pending.settled_since.map(|since| since + SETTLE_WITHIN);
            let ready = !pending.records.is_empty()
                || due.is_some_and(|due| due <= now)
                || pending.stop.is_some()
                || now >= deadline;
            if ready {
                break;
            }
            let until = due.map_or(deadline, |due| due.min(deadline));
            pending.idle = true;
            self.work.wait_until(&mut pending, until);
            pending.idle = false;
        }
    }

    /// Takes all that waits into `taken`, which must be empty. How to stop, once
    /// nothing is left.
    pub(super) fn take(&self, taken: &mut Pending) -> Option<Stop> {
        let mut pending = self.pending.lock();
        self.take_all(&mut pending, taken);
        taken.stop
    }

    /// The same, if what waits is one record with one message in so many octets
    /// at most, and nobody wants to stop.
    pub(super) fn take_one(&self, taken: &mut Pending, bytes_max: u64) -> bool {
        let mut pending = self.pending.lock();
        let is_one = pending.records.len() == 1
            && pending.runs.iter().all(|(_, places)| places.count() == 1)
            && pending.buffer.len() as u64 <= bytes_max.min(ONE_BYTES_MAX)
            && pending.stop.is_none();
        if is_one {
            self.take_all(&mut pending, taken);
        }
        is_one
    }

    fn take_all(&self, pending: &mut Pending, taken: &mut Pending) {
        let (last_ticket, idle) = (pending.last_ticket, pending.idle);
        std::mem::swap(pending, taken);
        pending.last_ticket = last_ticket;
        pending.idle = idle;
        pending.stop = taken.stop;
        self.pending_bytes.store(0, Ordering::Release);
    }

    /// Gives settlements back that could not be written for want of room.
    pub(super) fn put_back(&self, settled: &mut Vec<Settled>, returned: &mut Vec<Returned>) {
        let mut pending = self.pending.lock();
        // Before those that came since, which may speak of the same places.
        settled.append(&mut pending.settled);
        returned.append(&mut pending.returned);
        pending.settled = std::mem::take(settled);
        pending.returned = std::mem::take(returned);
        pending.settled_since = Some(Instant::now());
    }

    /// How far the log is.
    pub(super) fn progress(&self) -> Progress {
        // Nothing is decided after a failure, so that is looked at first: what
        // was refused because of it must not be called durable by a later look.
        let stopped = self.failure.get().is_some();
        // The failed ones are shown before the position, so they are read after.
        let durable = Ticket(self.decided.load(Ordering::Acquire));
        Progress {
            durable,
            failed: Arc::clone(&self.failed.lock()),
            stopped,
        }
    }

    /// All up to here is decided; `failed` of it could not be written.
    pub(super) fn decide(&self, up_to: Ticket, failed: &[Ticket]) {
        let deciding = self.deciding.lock();
        if self.failure.get().is_some() {
            return;
        }
        if !failed.is_empty() {
            let mut all = self.failed.lock();
            let mut ranges = all.to_vec();
            for ticket in failed {
                match ranges.last_mut() {
                    Some(last) if last.last.0 + 1 == ticket.0 => last.last = *ticket,
                    _ => ranges.push(TicketRange {
                        first: *ticket,
                        last: *ticket,
                    }),
                }
            }
            *all = ranges.into();
        }
        self.decided.store(up_to.0, Ordering::Release);
        drop(deciding);
        self.has_decided.notify_all();
        (self.observer)();
    }

    /// The last ticket that was given out.
    pub(super) fn last_ticket(&self) -> Ticket {
        Ticket(self.pending.lock().last_ticket)
    }

    /// Waits until all up to `ticket` is decided; `false` if it never will be.
    pub(super) fn wait_decided(&self, ticket: Ticket) -> bool {
        let mut deciding = self.deciding.lock();
        while self.decided.load(Ordering::Acquire) < ticket.0 {
            if self.failure.get().is_some() {
                return false;
            }
            self.has_decided.wait(&mut deciding);
        }
        true
    }

    /// The store is dead from here on.
    pub(super) fn fail(&self, cause: &str) {
        let deciding = self.deciding.lock();
        let is_first = self.failure.set(cause.to_owned()).is_ok();
        drop(deciding);
        if is_first {
            tracing::error!(cause, "the store has failed: nothing is confirmed any more");
        }
        self.has_decided.notify_all();
        (self.observer)();
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Acquire)
    }

    pub(super) fn segment_event(&self, event: SegmentEvent) {
        self.events.lock().push(event);
    }

    pub(super) fn segment_events(&self) -> Vec<SegmentEvent> {
        std::mem::take(&mut *self.events.lock())
    }
}

impl RefusedNames {
    /// These are not in the log.
    pub(super) fn add(&self, names: &[Names]) {
        if names.is_empty() {
            return;
        }
        let mut queues = self.queues.lock();
        for of_queue in names {
            let refused = queues.entry(of_queue.queue).or_default();
            refused.extend(of_queue.seen.iter().map(|(_, name)| *name));
        }
        self.any.store(true, Ordering::Release);
    }

    /// Takes out those of a queue.
    pub(super) fn take(&self, queue: QueueId) -> Vec<NameHash> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut queues = self.queues.lock();
        let names = queues.remove(&queue).unwrap_or_default();
        self.any.store(!queues.is_empty(), Ordering::Release);
        names
    }
}

impl Pending {
    /// Empties it. A large buffer's memory is kept while it is made use of: under
    /// load the next one would be as large, and growing it again costs publishers
    /// more than what they write.
    pub(super) fn reset(&mut self) {
        let before = self.buffer_used - self.buffer_used / 8;
        self.buffer_used = before.max(self.buffer.len());
        self.buffer.clear();
        let wanted = BUFFER_KEPT_BYTES.max(4 * self.buffer_used);
        if self.buffer.capacity() > wanted {
            self.buffer = Vec::new();
        }
        self.records.clear();
        self.runs.clear();
        self.settled.clear();
        self.returned.clear();
        self.controls.clear();
        self.settled_since = None;
        self.idle = false;
    }
}

/// Declares the store dead if the thread that has it ends in a panic: somebody
/// would wait for that thread for ever.
pub(super) struct Watch(pub(super) Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("one of its threads has panicked");
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("decided", &self.decided)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// How long a settlement may wait to be written with others.
const SETTLE_WITHIN: std::time::Duration = std::time::Duration::from_millis(20);
/// Capacity up to which a buffer's memory is kept.
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Octets up to which a record is written by whoever waits for it.
const ONE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_stays_while_it_is_used_and_goes_when_nothing_comes() {
        let mut pending = Pending::default();
        let large = 8 * BUFFER_KEPT_BYTES;
        for used in [large, 1, large / 2, 0, large] {
            pending.buffer.resize(used, 0);
            pending.reset();
            assert!(pending.buffer.is_empty());
            assert!(pending.buffer.capacity() >= large, "after {used} octets");
        }
        let idle = (1..=100).find(|_| {
            pending.reset();
            pending.buffer.capacity() == 0
        });
        assert!(idle.is_some(), "it is kept for ever");
        pending.buffer.resize(BUFFER_KEPT_BYTES, 0);
        (0..100).for_each(|_| pending.reset());
        assert!(pending.buffer.capacity() > 0, "a common one stays");
    }
}
