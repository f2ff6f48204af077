//! The log's one writer: group commit. Everything that came in while the last
//! sync ran goes into the next write, and is decided with its sync.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use foldhash::HashSet;

use crate::model::{Fsync, NameHash, QueueId, Sequence, SequenceRange, Ticket};
use crate::store::files::{self, Files};
use crate::store::ledger::{Done, Ledger};
use crate::store::octets::{self, ALIGNMENT};
use crate::store::segment::{Job, SegmentEvent};
use crate::store::shared::{Control, Pending, Record, Shared, Stop};
use crate::store::sparse::{Move, Sparse};

use super::carry::Carry;
use super::files::{LogFiles, OldFile};
use super::payload::{NewRecord, Settled, put_checkpoint, put_messages, put_settlements};
use super::record::{FLAG_CARRIED, FLAG_CLEAN, HEADER_BYTES, Header, Layout, RecordKind};
use super::spare::{SPARES_KEPT_BACK, SpareFiles, Urgency};

/// How the log is written.
#[derive(Clone, Debug)]
pub(in crate::store) struct LogSettings {
    pub(in crate::store) fsync: Fsync,
    /// Octets of all files above which the oldest is emptied.
    pub(in crate::store) log_bytes: u64,
    /// Octets of a segment.
    pub(in crate::store) segment_bytes: u64,
}

/// What writes the log: one at a time, mostly the log's thread.
pub(in crate::store) struct LogWriter {
    shared: Arc<Shared>,
    pub(super) ledger: Ledger,
    pub(super) log: LogFiles,
    pub(super) spares: Arc<SpareFiles>,
    pub(super) pager: Sender<Job>,
    pub(super) settings: LogSettings,
    pub(super) log_bytes_max: u64,
    pub(super) carry: Option<Carry>,
    /// When files are emptied again to make room, while that is worth a try.
    pub(super) reclaim_at: Option<Instant>,
    last_index: u64,
    synced_index: u64,
    last_sync: Instant,
    last_sweep: Instant,
    /// Room was last found missing; not tried again at once.
    pub(super) full_since: Option<Instant>,
    /// Segments that are not needed any more.
    done: Vec<Done>,
    sparse: Sparse,
    /// What is being written; empty between two rounds.
    taken: Pending,
    /// What syncs took lately.
    sync_took: Duration,
}

impl LogWriter {
    #[allow(clippy::too_many_arguments, reason = "what recovery found, each once")]
    pub(in crate::store) fn new(
        shared: Arc<Shared>,
        files: Arc<dyn Files>,
        spares: Arc<SpareFiles>,
        pager: Sender<Job>,
        settings: LogSettings,
        ledger: Ledger,
        older: VecDeque<OldFile>,
        last_number: u64,
        last_index: u64,
    ) -> Self {
        Self {
            shared,
            ledger,
            log: LogFiles::new(files, Arc::clone(&spares), older, last_number),
            spares,
            pager,
            log_bytes_max: settings.log_bytes,
            sparse: Sparse::new(settings.segment_bytes),
            settings,
            carry: None,
            reclaim_at: None,
            last_index,
            synced_index: last_index,
            last_sync: Instant::now(),
            last_sweep: Instant::now(),
            full_since: None,
            done: Vec::new(),
            taken: Pending::default(),
            sync_took: Duration::ZERO,
        }
    }

    /// Begins the first file of this life, so that whatever was written before
    /// is left as it was found.
    ///
    /// # Errors
    /// If it cannot be created or written.
    pub(in crate::store) fn start(&mut self) -> io::Result<()> {
        let is_fresh = self.log.oldest().is_none();
        match self.roll(0, Urgency::Settlements) {
            Err(error) if files::is_full(&error) => {
                self.log.release_superseded(&self.ledger)?;
                self.roll(0, Urgency::Settlements)?;
            }
            other => other?,
        }
        if !is_fresh && self.spares.count() < SPARES_KEPT_BACK {
            // On a full disk this file is what the next start depends on.
            self.spares.assume_full();
        }
        self.log.sync()?;
        self.synced_index = self.last_index;
        self.log.release_blank()?;
        self.log.release_done(&self.ledger)
    }

    /// Does what is due; `false` if that was the last.
    pub(in crate::store) fn work(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        let stop = self.shared.take(&mut taken);
        #[cfg(test)]
        if stop == Some(Stop::Abrupt) {
            return false;
        }
        if self.shared.failure().is_some() {
            // Somebody has met one: nothing is decided after that.
            return false;
        }
        if let Err(error) = self.round(&mut taken) {
            // Nothing is known of what was written before: no second try.
            self.shared.fail(&format!("cannot write the log: {error}"));
            return false;
        }
        taken.reset();
        self.taken = taken;
        if stop == Some(Stop::Clean) {
            if let Err(error) = self.finish() {
                self.shared.fail(&format!("cannot end the log: {error}"));
            }
            return false;
        }
        true
    }

    /// Writes and decides what waits, if that is one message only and quickly
    /// done; whether it was.
    pub(in crate::store) fn commit_one(&mut self) -> bool {
        let is_quick = self.carry.is_none()
            && self.full_since.is_none()
            && self.sync_took < QUICK_SYNC
            && self.shared.failure().is_none();
        // No other file has to be begun for it, nor for settlements with it.
        let room = self.log.room().saturating_sub(self.log.reserve()) / 2;
        let mut taken = std::mem::take(&mut self.taken);
        if !is_quick || !self.shared.take_one(&mut taken, room) {
            self.taken = taken;
            return false;
        }
        self.controls(&mut taken);
        if let Err(error) = self.group(&mut taken) {
            self.shared.fail(&format!("cannot write the log: {error}"));
        }
        taken.reset();
        self.taken = taken;
        true
    }

    /// When there is something to do at the latest.
    pub(in crate::store) fn deadline(&self) -> Instant {
        let idle = Instant::now() + SWEEP_EVERY;
        match self.settings.fsync {
            _ if self.carry.is_some() && !self.is_full() => Instant::now(),
            _ if let Some(at) = self.reclaim_at => at.min(idle),
            Fsync::Interval(interval) if self.synced_index < self.last_index => {
                idle.min(self.last_sync + interval)
            }
            _ => idle,
        }
    }

    fn controls(&mut self, taken: &mut Pending) {
        for control in taken.controls.drain(..) {
            match control {
                Control::Register(queue) => self.ledger.register(queue),
                Control::Restore(state) => self.ledger.restore(&state),
                Control::Forget(queue) => {
                    self.ledger.forget(queue);
                    self.shared.refused_names.take(queue);
                    let _ = self.pager.send(Job::Forget(queue));
                }
                Control::Empty(queue) => {
                    let of_queue = taken.runs.iter().filter(|(of, _)| *of == queue);
                    let waiting = of_queue.map(|(_, places)| places.end);
                    let end = waiting.chain(self.ledger.next(queue)).max();
                    let all = end.map(|end| SequenceRange {
                        first: Sequence(0),
                        end,
                    });
                    taken
                        .settled
                        .extend(all.map(|range| Settled { queue, range }));
                }
            }
        }
    }

    fn round(&mut self, taken: &mut Pending) -> io::Result<()> {
        self.controls(taken);
        self.segment_events();
        self.group(taken)?;
        self.sync_if_due()?;
        if self.last_sweep.elapsed() >= SWEEP_EVERY {
            self.last_sweep = Instant::now();
            self.done.extend(self.ledger.settled_segments());
            self.log.release_done(&self.ledger)?;
            if let Some(Move {
                queue,
                file,
                places,
                pages,
            }) = self.sparse.look(&mut self.ledger)
            {
                let _ = self.pager.send(Job::Move {
                    queue,
                    file,
                    places,
                    pages,
                });
            }
        }
        for Done { queue, file, pages } in self.done.drain(..) {
            let _ = self.pager.send(Job::Remove { queue, file, pages });
        }
        self.carry_on()
    }

    /// Writes one group and decides it.
    fn group(&mut self, taken: &mut Pending) -> io::Result<()> {
        if taken.records.is_empty() && taken.settled.is_empty() && taken.returned.is_empty() {
            return Ok(());
        }
        let mut failed = Vec::new();
        let last = taken.records.last().map(|record| record.ticket);
        self.messages(taken, &mut failed)?;
        self.settlements(taken)?;
        if self.settings.fsync == Fsync::Always {
            self.sync()?;
        }
        if let Some(last) = last {
            self.shared.decide(last, &failed);
        }
        Ok(())
    }

    /// Writes the records with messages, as many at once as the file takes.
    fn messages(&mut self, taken: &mut Pending, failed: &mut Vec<Ticket>) -> io::Result<()> {
        let buffer_end = taken.buffer.len();
        // The end mark behind the last record. Those before the last have the
        // header of the next one there, of which nothing is filled in yet.
        taken.buffer.extend_from_slice(&[0; ALIGNMENT]);
        let mut next = 0;
        let mut runs = 0;
        let mut is_new = false;
        while let Some(first) = taken.records.get(next) {
            let start = first.start;
            let end_of = |index: usize| {
                let following = taken.records.get(index + 1);
                following.map_or(buffer_end, |record| record.start)
            };
            if first.may_be_void() && first.lacks_names(&self.ledger) {
                runs += first.runs;
                next += 1;
                self.refuse(std::slice::from_ref(first), failed);
                continue;
            }
            let room = self.log.room();
            let (mut until, reserve) = (next, self.log.reserve());
            while until < taken.records.len() {
                // What goes before may have the names that it needs.
                if until > next && taken.records[until].may_be_void() {
                    break;
                }
                // A record that has a file to itself may fill it.
                let kept = if is_new && until == next { 0 } else { reserve };
                if (end_of(until) - start) as u64 > room.saturating_sub(kept) {
                    break;
                }
                until += 1;
            }
            if until == next {
                let bytes = (end_of(next) - start) as u64;
                self.settlements_before_new_file(taken)?;
                if !self.make_room(bytes, Urgency::Messages)? {
                    self.refuse(&taken.records[next..], failed);
                    return Ok(());
                }
                is_new = true;
                continue;
            }
            is_new = false;
            let end = end_of(until - 1);
            let octets = taken.buffer.get_mut(start..end + ALIGNMENT);
            let octets = octets.unwrap_or_default();
            self.fill_in(octets, start, &taken.records[next..until]);
            self.log.append(octets)?;
            for record in &taken.records[next..until] {
                for (queue, places) in taken.runs.get(runs..runs + record.runs).unwrap_or_default()
                {
                    self.ledger.appended(*queue, *places);
                    self.log.add_places(*queue, *places);
                }
                runs += record.runs;
                self.settle(&record.settled);
                if record.lacks_names(&self.ledger) {
                    // It is written all the same: who publishes it again will
                    // find it there.
                    failed.push(record.ticket);
                }
                for names in &record.names {
                    self.ledger.named(names, self.log.number());
                }
            }
            next = until;
        }
        Ok(())
    }

    /// These records are not written. Their names are given back before anybody
    /// hears of it and publishes again.
    fn refuse(&self, records: &[Record], failed: &mut Vec<Ticket>) {
        for record in records {
            self.shared.refused_names.add(&record.names);
            failed.push(record.ticket);
        }
    }

    /// Writes the names of an older file again; `false` if there is no room.
    pub(super) fn move_names(&mut self, file: u64) -> io::Result<bool> {
        let Some(payload) = self.names_of(file) else {
            return Ok(true);
        };
        let fits = self.has_room(payload.len()) || self.make_room_for(payload.len())?;
        if !fits || !self.write_record(RecordKind::Messages, FLAG_CARRIED, &payload)? {
            return Ok(false);
        }
        self.names_moved(file);
        Ok(true)
    }

    /// The names that no younger file has than that one, as a record.
    pub(super) fn names_of(&self, file: u64) -> Option<Vec<u8>> {
        let names = self.ledger.names.of_files(&BTreeSet::from([file]));
        if names.is_empty() {
            return None;
        }
        let mut payload = Vec::new();
        let record = NewRecord {
            names: &names,
            ..NewRecord::default()
        };
        put_messages(&mut payload, &record);
        Some(payload)
    }

    /// That record was written.
    pub(super) fn names_moved(&mut self, file: u64) {
        let (files, number) = (BTreeSet::from([file]), self.log.number());
        self.ledger.names.moved(&files, number);
    }

    /// Writes the headers of records, each at its place.
    fn fill_in(&mut self, octets: &mut [u8], start: usize, records: &[Record]) {
        for record in records {
            self.last_index += 1;
            let header = Header {
                layout: Layout::V2,
                kind: record.kind,
                flags: 0,
                payload_bytes: record.payload_bytes,
                payload_crc: record.payload_crc,
                file: self.log.number(),
                index: self.last_index,
                synced: self.synced_index,
            };
            octets::overwrite(octets, record.start - start, &header.encode());
        }
    }

    fn settlements(&mut self, taken: &mut Pending) -> io::Result<()> {
        let Some(payload) = settlements_payload(taken) else {
            return Ok(());
        };
        if self.write_record(RecordKind::Settled, 0, &payload)? {
            self.settled(taken);
        } else {
            self.shared
                .put_back(&mut taken.settled, &mut taken.returned);
        }
        Ok(())
    }

    /// Writes settlements into the file that there is, if it takes them: where
    /// another has to be made first, whoever acked must not wait for that. They
    /// may be of messages that come behind them.
    fn settlements_before_new_file(&mut self, taken: &mut Pending) -> io::Result<()> {
        if let Some(payload) = settlements_payload(taken)
            && record_bytes(payload.len()) <= self.log.room()
        {
            self.put_record(RecordKind::Settled, 0, &payload)?;
            self.settled(taken);
        }
        Ok(())
    }

    /// These settlements were written.
    fn settled(&mut self, taken: &mut Pending) {
        for returned in taken.returned.drain(..) {
            let came_back = (returned.deliveries, returned.due);
            self.ledger
                .returned(returned.queue, returned.place, came_back);
        }
        self.settle(&taken.settled);
        taken.settled.clear();
    }

    fn settle(&mut self, settled: &[Settled]) {
        for one in settled {
            self.ledger.settle(one.queue, one.range, &mut self.done);
        }
    }

    /// Appends one record of the log's own; `false` if there is no room.
    pub(super) fn write_record(
        &mut self,
        kind: RecordKind,
        flags: u8,
        payload: &[u8],
    ) -> io::Result<bool> {
        let bytes = record_bytes(payload.len());
        if self.log.room() < bytes && !self.make_room(bytes, Urgency::Settlements)? {
            return Ok(false);
        }
        self.put_record(kind, flags, payload)?;
        Ok(true)
    }

    /// Appends one record of the log's own to the current file, which has room.
    pub(super) fn put_record(
        &mut self,
        kind: RecordKind,
        flags: u8,
        payload: &[u8],
    ) -> io::Result<()> {
        self.last_index += 1;
        let header = Header {
            layout: Layout::V2,
            kind,
            flags,
            payload_bytes: payload.len() as u32,
            payload_crc: crc32c::crc32c(payload),
            file: self.log.number(),
            index: self.last_index,
            synced: self.synced_index,
        };
        let mut record = Vec::with_capacity(header.record_bytes() + ALIGNMENT);
        record.extend_from_slice(&header.encode());
        record.extend_from_slice(payload);
        octets::pad(&mut record);
        record.extend_from_slice(&[0; ALIGNMENT]);
        self.log.append(&record)
    }

    fn sync_if_due(&mut self) -> io::Result<()> {
        match self.settings.fsync {
            Fsync::Interval(interval) if self.last_sync.elapsed() >= interval => self.sync(),
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.synced_index < self.last_index {
            let start = Instant::now();
            self.log.sync()?;
            self.synced_index = self.last_index;
            self.sync_took = (self.sync_took * 7 + start.elapsed()) / 8;
        }
        self.last_sync = Instant::now();
        Ok(())
    }

    fn segment_events(&mut self) {
        for event in self.shared.segment_events() {
            match event {
                SegmentEvent::Written {
                    queue,
                    file,
                    places,
                    bytes,
                } => self.ledger.page_written(queue, file, &places, bytes),
                SegmentEvent::Synced {
                    queue,
                    file,
                    durable_bytes,
                    places,
                } => self
                    .ledger
                    .pages_synced(queue, file, durable_bytes, &places),
                SegmentEvent::Removed { queue, file } => self.ledger.segment_removed(queue, file),
                SegmentEvent::NotMoved { queue, file, again } => {
                    self.ledger.not_moved(queue, file, again);
                }
            }
        }
    }

    /// The last checkpoint: it says that nothing was cut off.
    fn finish(&mut self) -> io::Result<()> {
        self.segment_events();
        let mut checkpoint = Vec::new();
        // The names are in older files.
        put_checkpoint(&mut checkpoint, &self.ledger.checkpoint(&BTreeSet::new()));
        if !self.write_record(RecordKind::Checkpoint, FLAG_CLEAN, &checkpoint)? {
            tracing::warn!("no room to write down a clean stop");
        }
        self.log.sync()
    }
}

impl Record {
    /// Whether it may come to nothing, because names are not there: then what
    /// it settles must not be settled either.
    fn may_be_void(&self) -> bool {
        !self.repeated.is_empty() && !self.settled.is_empty()
    }

    /// Whether names that were taken for copies are neither in the log, up to
    /// here, nor its own.
    fn lacks_names(&self, ledger: &Ledger) -> bool {
        if self.repeated.is_empty() {
            return false;
        }
        let names = self.names.iter();
        let own: HashSet<(QueueId, NameHash)> = names
            .flat_map(|names| names.seen.iter().map(|(_, name)| (names.queue, *name)))
            .collect();
        let missing = |(queue, name): &(QueueId, NameHash)| {
            !ledger.names.knows(*queue, name) && !own.contains(&(*queue, *name))
        };
        self.repeated.iter().any(missing)
    }
}

/// Octets of a record with such a payload.
pub(super) fn record_bytes(payload_bytes: usize) -> u64 {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT) as u64
}

/// What was settled and what came back, as a record; `None` if nothing was.
fn settlements_payload(taken: &mut Pending) -> Option<Vec<u8>> {
    if taken.settled.is_empty() && taken.returned.is_empty() {
        return None;
    }
    merge(&mut taken.settled);
    let mut payload = Vec::new();
    put_settlements(&mut payload, &taken.settled, &taken.returned);
    Some(payload)
}

/// Joins what belongs together, whoever settled it.
fn merge(settled: &mut Vec<Settled>) {
    settled.sort_by_key(|one| (one.queue, one.range.first));
    settled.dedup_by(|next, kept| {
        let joins = next.queue == kept.queue && next.range.first <= kept.range.end;
        if joins {
            kept.range.end = kept.range.end.max(next.range.end);
        }
        joins
    });
}

/// How often files are looked at that may not be needed any more.
const SWEEP_EVERY: Duration = Duration::from_millis(if cfg!(test) { 3 } else { 250 });
/// What syncs may take lately for somebody to wait for one who has other things
/// to do.
const QUICK_SYNC: Duration = Duration::from_micros(500);
