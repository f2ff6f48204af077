//! The store as the last run left it: which messages are where, which are
//! settled, what is damaged.
//!
//! The log is read as a whole, segments only by their pages' headers, so the
//! time that it takes follows the log and not the backlog. Pages that no
//! checkpoint calls durable are read and verified: the log still has what they
//! hold.

mod gathering;
mod segments;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{Message, NameHash, Page, PageTag, QueueId, Sequence, SequenceRange};

use super::error::StoreError;
use super::files::{Files, read_all};
use super::ledger::Ledger;
use super::log::{
    self, Damage, FLAG_CLEAN, FORMAT_VERSION, FileHeader, Header, OldFile, QueueState, RecordKind,
    read_file_header,
};
use super::segment::{MessageBuilder, Registry};

use gathering::Gathering;
pub(super) use segments::{next_page, page_at, read_page_octets};

/// What a queue had when the store was last closed or killed.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// Which queue.
    pub queue: QueueId,
    /// The place that its next message gets.
    pub next: Sequence,
    /// A client may have seen what lies below.
    pub redelivered_below: Sequence,
    /// Of messages that came back: how often they were delivered, and when they
    /// are due again, in milliseconds since 1970 (0: at once).
    pub deliveries: BTreeMap<Sequence, (u32, u64)>,
    /// Its messages, in the order of each run's first place; pages may have gaps
    /// in which places of other runs lie.
    pub runs: Vec<RecoveredRun>,
    /// Names that it remembers, with the times at which they were seen, in
    /// milliseconds since 1970; oldest first.
    pub names: Vec<(u64, NameHash)>,
}

/// Messages of a queue, in the order of their places.
#[derive(Debug)]
pub struct RecoveredRun {
    /// The place of the first.
    pub first: Sequence,
    /// How many there are.
    pub count: u64,
    /// Octets of them, as stored, about.
    pub stored_bytes: u64,
    /// What their page was tagged with.
    pub tag: PageTag,
    /// The places of all of them, ascending, if they are in a page.
    pub places: Option<Vec<SequenceRange>>,
    /// Where they are.
    pub content: RecoveredContent,
}

/// Where recovered messages are.
#[derive(Debug)]
pub enum RecoveredContent {
    /// Here.
    Resident(Vec<(Sequence, Message)>),
    /// In a segment.
    Paged(Page),
}

/// What recovery found, for the log and for people.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether the last run ended as it should, or there was none.
    pub clean: bool,
    /// Records in the log.
    pub records: u64,
    /// Octets of the log that were read.
    pub log_bytes: u64,
    /// Messages of durable queues that are there.
    pub messages: u64,
    /// Places that hold nothing readable: the file's name, and where in it.
    pub damages: Vec<(String, Damage)>,
}

/// All that recovery hands over.
pub(super) struct Recovery {
    pub(super) ledger: Ledger,
    pub(super) older: VecDeque<OldFile>,
    pub(super) last_number: u64,
    pub(super) last_index: u64,
    pub(super) next_segment: u64,
    pub(super) queues: Vec<RecoveredQueue>,
    pub(super) report: Report,
}

struct Recovering<'a> {
    files: &'a dyn Files,
    registry: &'a Registry,
    queues: HashMap<QueueId, Gathering>,
    /// Durable octets of segment files, as the last checkpoints have it.
    durable: HashMap<u64, u64>,
    report: Report,
    older: VecDeque<OldFile>,
    last_index: u64,
    next_segment: u64,
    was_clean: bool,
}

/// Reads everything. `queues` are those that are known: what belongs to others
/// is removed.
pub(super) fn recover(
    files: &Arc<dyn Files>,
    registry: &Registry,
    queues: &[QueueId],
) -> Result<Recovery, StoreError> {
    let mut recovering = Recovering {
        files: &**files,
        registry,
        queues: queues
            .iter()
            .map(|id| (*id, Gathering::default()))
            .collect(),
        durable: HashMap::default(),
        report: Report::default(),
        older: VecDeque::new(),
        last_index: 0,
        next_segment: 0,
        was_clean: true,
    };
    let names = files.names().map_err(StoreError::io("its directory"))?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| log::log_number(name))
        .collect();
    numbers.sort_unstable();
    for number in &numbers {
        recovering.read_log(*number)?;
    }
    recovering.report.clean = recovering.was_clean;
    recovering.sync_log()?;
    for name in &names {
        recovering.read_segment(name)?;
    }
    recovering.find_transient()?;
    for index in 0..recovering.older.len() {
        recovering.read_messages(index)?;
    }
    recovering.finish(numbers.last().copied().unwrap_or(0))
}

impl Recovering<'_> {
    /// First pass over a log file: what is settled.
    fn read_log(&mut self, number: u64) -> Result<(), StoreError> {
        let name = log::log_name(number);
        let handle = self.files.open(&name).map_err(StoreError::io(&name))?;
        let octets = read_all(&*handle).map_err(StoreError::io(&name))?;
        if let FileHeader::Whole { version, .. } = read_file_header(&octets)
            && version > FORMAT_VERSION
        {
            return Err(StoreError::newer(&name, version, FORMAT_VERSION));
        }
        let mut file = OldFile {
            number,
            handle,
            capacity: octets.len() as u64,
            used: 0,
            places: HashMap::default(),
            has_checkpoint: false,
        };
        let mut last_index = self.last_index;
        let before = self.older.back().map(|file| (file.number, file.used));
        let mut cut_off = None;
        let scan = log::scan(&octets, number, &mut last_index, |header, payload| {
            if let Some((_, used)) = before.filter(|(before, _)| before + 1 == number)
                && file.used == 0
                && header.synced > self.last_index
            {
                cut_off = Some(used);
            }
            file.used = octets.len() as u64;
            if !self.apply(header, payload, &mut file) {
                tracing::error!(name, index = header.index, "a whole record makes no sense");
            }
        });
        if let Some(used) = cut_off {
            // Records that were durable before this file was begun.
            let lost = Damage {
                from: used,
                to: used,
                kind: log::DamageKind::Lost,
            };
            self.damaged(&log::log_name(number - 1), lost, &[]);
        }
        self.last_index = last_index;
        file.used = scan.used;
        self.report.records += scan.records;
        self.report.log_bytes += scan.used;
        for damage in scan.damages {
            self.was_clean = false;
            self.damaged(&name, damage, &octets);
        }
        self.older.push_back(file);
        Ok(())
    }

    /// What was read may have come from the system's cache: a process that was
    /// killed had no time to sync it, not even where it had written that it ends
    /// cleanly. It counts from here on.
    fn sync_log(&self) -> Result<(), StoreError> {
        match self.older.back() {
            Some(last) => {
                let name = log::log_name(last.number);
                last.handle.sync().map_err(StoreError::io(&name))
            }
            None => Ok(()),
        }
    }

    fn apply(&mut self, header: &Header, payload: &[u8], file: &mut OldFile) -> bool {
        self.was_clean = false;
        match header.kind {
            RecordKind::Messages => {
                let Some(messages) = log::read_messages(header.layout, payload) else {
                    return false;
                };
                for run in &messages.runs {
                    let places = SequenceRange::new(run.first, run.count.into());
                    if let Some(queue) = self.queues.get_mut(&run.queue) {
                        queue.next = queue.next.max(places.end);
                        file.add_places(run.queue, places);
                    }
                }
                self.settle(&messages.settled);
                self.remember(&messages.names, file.number);
            }
            RecordKind::Settled => {
                let Some(settlements) = log::read_settlements(header.layout, payload) else {
                    return false;
                };
                self.settle(&settlements.settled);
                for one in settlements.returned {
                    if let Some(queue) = self.queues.get_mut(&one.queue) {
                        // It may be written before its message, which is then
                        // missing: another one must not get its place.
                        queue.next = queue.next.max(one.place.behind());
                        let known = queue.returned.entry(one.place).or_default();
                        *known = (one.deliveries, one.due).max(*known);
                    }
                }
            }
            RecordKind::Checkpoint => {
                let Some(checkpoint) = log::read_checkpoint(header.layout, payload) else {
                    return false;
                };
                file.has_checkpoint = true;
                self.remember(&checkpoint.names, file.number);
                for state in checkpoint.queues {
                    self.restore(state);
                }
                self.was_clean = header.flags & FLAG_CLEAN != 0;
            }
        }
        true
    }

    fn remember(&mut self, names: &[log::Names], file: u64) {
        for of_queue in names {
            if let Some(queue) = self.queues.get_mut(&of_queue.queue) {
                queue.names.add(of_queue, file);
            }
        }
    }

    fn settle(&mut self, settled: &[log::Settled]) {
        for one in settled {
            if let Some(queue) = self.queues.get_mut(&one.queue) {
                queue.next = queue.next.max(one.range.end);
                queue.settled.insert(one.range);
            }
        }
    }

    fn restore(&mut self, state: QueueState) {
        // A new file must not be taken for one of the same number of which a
        // checkpoint says that it is durable.
        for (file, _) in &state.segments {
            self.next_segment = self.next_segment.max(file + 1);
        }
        let Some(queue) = self.queues.get_mut(&state.queue) else {
            return;
        };
        queue.next = queue.next.max(state.next);
        queue.redelivered_below = queue.redelivered_below.max(state.redelivered_below);
        for range in state.settled {
            queue.settled.insert(range);
        }
        for (place, came_back) in state.returned {
            let known = queue.returned.entry(place).or_default();
            *known = came_back.max(*known);
        }
        for (file, durable_bytes) in state.segments {
            let known = self.durable.entry(file).or_default();
            *known = durable_bytes.max(*known);
        }
    }

    fn cut(&mut self, name: &str, from: u64, to: u64) {
        let kind = log::DamageKind::Torn;
        tracing::info!(
            name,
            from,
            "an unfinished page is left out; the log has its messages"
        );
        let damage = Damage { from, to, kind };
        self.report.damages.push((name.to_owned(), damage));
    }

    fn damaged(&mut self, name: &str, damage: Damage, octets: &[u8]) {
        let (from, to) = (damage.from as usize, damage.to as usize);
        if damage.kind == log::DamageKind::Torn {
            tracing::warn!(
                name,
                from,
                "the log ends in an unfinished record, which is left out"
            );
            self.report.damages.push((name.to_owned(), damage));
            return;
        }
        self.keep_aside(name, damage, octets.get(from..to).unwrap_or_default());
    }

    /// Reports a damaged place and copies it into a file of its own.
    fn keep_aside(&mut self, name: &str, damage: Damage, octets: &[u8]) {
        let aside = format!("damaged-{name}-{:x}", damage.from);
        let kept = self
            .files
            .create(&aside)
            .and_then(|file| file.write_at(octets, 0));
        let kept = kept.map_or_else(|error| error.to_string(), |()| aside);
        tracing::error!(
            name,
            from = damage.from,
            to = damage.to,
            kept,
            "a damaged place: what was there is lost"
        );
        self.report.damages.push((name.to_owned(), damage));
    }

    /// Second pass over a log file: messages that are only there.
    fn read_messages(&mut self, index: usize) -> Result<(), StoreError> {
        let Some(file) = self.older.get(index) else {
            return Ok(());
        };
        let needed = file.places.iter().any(|(queue, places)| {
            self.queues
                .get(queue)
                .is_some_and(|queue| queue.needs_any(*places))
        });
        if !needed {
            return Ok(());
        }
        let name = log::log_name(file.number);
        let octets = read_all(&*file.handle).map_err(StoreError::io(&name))?;
        let queues = &mut self.queues;
        log::scan(&octets, file.number, &mut 0, |header, payload| {
            if header.kind == RecordKind::Messages
                && let Some(messages) = log::read_messages(header.layout, payload)
            {
                take_messages(&messages, queues);
            }
        });
        Ok(())
    }

    fn finish(mut self, last_number: u64) -> Result<Recovery, StoreError> {
        let clean = self.report.clean;
        let mut ledger = Ledger::default();
        let mut queues = Vec::new();
        let mut found: Vec<(QueueId, Gathering)> = self.queues.drain().collect();
        found.sort_unstable_by_key(|(queue, _)| *queue);
        for (id, gathering) in found {
            let queue = gathering.finish(id, clean, self.registry, &mut ledger)?;
            self.report.messages += queue.runs.iter().map(|run| run.count).sum::<u64>();
            queues.push(queue);
        }
        for file in &mut self.older {
            file.places
                .retain(|queue, places| ledger.needs_any(*queue, *places));
        }
        Ok(Recovery {
            ledger,
            older: self.older,
            last_number,
            last_index: self.last_index,
            next_segment: self.next_segment,
            queues,
            report: self.report,
        })
    }
}

fn take_messages(messages: &log::Messages<'_>, queues: &mut HashMap<QueueId, Gathering>) {
    // A message that several queues need is made once.
    let mut wanted = vec![false; messages.messages.len()];
    let each = |run: &log::Run| {
        let (first, message) = (run.first.0, run.message);
        (0..run.count).map(move |index| {
            let place = Sequence(first + u64::from(index));
            (place, (message + index) as usize)
        })
    };
    for run in &messages.runs {
        let Some(queue) = queues.get(&run.queue) else {
            continue;
        };
        for (place, message) in each(run) {
            if queue.needs(place)
                && let Some(wanted) = wanted.get_mut(message)
            {
                *wanted = true;
            }
        }
    }
    let mut builder = MessageBuilder::default();
    let mut numbers = vec![None; wanted.len()];
    let mut count = 0;
    for (index, stored) in messages.messages.iter().enumerate() {
        if wanted.get(index).copied().unwrap_or(false)
            && let Some(number) = numbers.get_mut(index)
        {
            builder.push(stored);
            *number = Some(count);
            count += 1;
        }
    }
    let made = builder.finish();
    for run in &messages.runs {
        let Some(queue) = queues.get_mut(&run.queue) else {
            continue;
        };
        for (place, message) in each(run) {
            let number = numbers.get(message).copied().flatten();
            if queue.needs(place)
                && let Some(message) = number.and_then(|number: usize| made.get(number))
            {
                queue.resident.push((place, message.clone()));
            }
        }
    }
}
