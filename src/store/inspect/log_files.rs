//! What the log's files hold, record by record, beside what recovery makes of
//! them: how many of each kind, what was settled, and what a damaged place may
//! have cost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use foldhash::HashMap;
use serde::Serialize;

use crate::model::{Message, QueueId, Sequence, SequenceRange};
use crate::store::error::StoreError;
use crate::store::files::Files;
use crate::store::log::{
    self, Damage, DamageKind, FILE_HEADER_BYTES, HEADER_BYTES, Header, Messages, RecordKind, Run,
    log_name, log_number,
};
use crate::store::ranges::RangeSet;
use crate::store::segment::MessageBuilder;

use super::read_only::ReadOnly;
use super::{DamageSummary, counted, offset_in, place_text};

/// What a log file holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogSummary {
    /// Octets up to the end of its last record.
    pub used_bytes: u64,
    /// Records with messages.
    pub message_records: u64,
    /// Records with settlements and returns.
    pub settlement_records: u64,
    /// Checkpoints.
    pub checkpoint_records: u64,
    /// Messages, settled ones and copies included.
    pub messages: u64,
    /// The index of its first record.
    pub first_index: Option<u64>,
    /// The index of its last record.
    pub last_index: Option<u64>,
}

/// All files of the log.
#[derive(Debug, Default)]
pub(super) struct LogSurvey {
    /// By number.
    pub(super) files: BTreeMap<u64, LogSummary>,
    /// What records say is settled.
    pub(super) settled: HashMap<QueueId, RangeSet>,
    /// Queues that messages went to.
    pub(super) queues: BTreeSet<QueueId>,
    /// Whole records that cannot be understood, which recovery passes over.
    pub(super) senseless: Vec<DamageSummary>,
    gaps: Vec<Gap>,
}

/// Octets between two records, or behind the last one.
#[derive(Debug)]
struct Gap {
    file: u64,
    octets: Range<usize>,
    /// The indexes that are missing, where both sides are there.
    indexes: Option<Range<u64>>,
    /// What its beginning still says.
    remains: Option<String>,
}

/// Reads all files of the log, one at a time.
///
/// # Errors
/// If one cannot be read.
pub(super) fn survey(files: &ReadOnly) -> Result<LogSurvey, StoreError> {
    let mut survey = LogSurvey::default();
    for number in numbers(files)? {
        let name = log_name(number);
        let octets = files.read(&name).map_err(StoreError::io(&name))?;
        survey.read_file(number, &octets);
    }
    Ok(survey)
}

fn numbers(files: &ReadOnly) -> Result<Vec<u64>, StoreError> {
    let names = files.names().map_err(StoreError::io("its directory"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| log_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl LogSurvey {
    fn read_file(&mut self, number: u64, octets: &[u8]) {
        let mut summary = LogSummary::default();
        let mut expected = FILE_HEADER_BYTES;
        let scan = log::scan(octets, number, &mut 0, |header, payload| {
            let start = offset_in(octets, payload).saturating_sub(HEADER_BYTES);
            if start > expected {
                self.gaps.push(Gap {
                    file: number,
                    octets: expected..start,
                    indexes: summary
                        .last_index
                        .map(|last| last.saturating_add(1)..header.index),
                    remains: remains(octets, expected, number),
                });
            }
            expected = start + header.record_bytes();
            summary.first_index.get_or_insert(header.index);
            summary.last_index = Some(header.index);
            if !self.read_record(header, payload, &mut summary) {
                self.senseless.push(DamageSummary {
                    file: log_name(number),
                    offset: start as u64,
                    bytes: (expected - start) as u64,
                    kind: DamageKind::Lost,
                    cost: format!("the whole record {} makes no sense", header.index),
                });
            }
        });
        summary.used_bytes = scan.used;
        if expected < octets.len() {
            self.gaps.push(Gap {
                file: number,
                octets: expected..octets.len(),
                indexes: None,
                remains: remains(octets, expected, number),
            });
        }
        self.files.insert(number, summary);
    }

    /// `false` if the record makes no sense.
    fn read_record(&mut self, header: &Header, payload: &[u8], summary: &mut LogSummary) -> bool {
        let layout = header.layout;
        let settled = match header.kind {
            RecordKind::Messages => {
                summary.message_records += 1;
                let Some(read) = log::read_messages(layout, payload) else {
                    return false;
                };
                summary.messages += read.messages.len() as u64;
                self.queues.extend(read.runs.iter().map(|run| run.queue));
                read.settled
            }
            RecordKind::Settled => {
                summary.settlement_records += 1;
                let Some(read) = log::read_settlements(layout, payload) else {
                    return false;
                };
                read.settled
            }
            RecordKind::Checkpoint => {
                summary.checkpoint_records += 1;
                let Some(checkpoint) = log::read_checkpoint(layout, payload) else {
                    return false;
                };
                for state in checkpoint.queues {
                    let known = self.settled.entry(state.queue).or_default();
                    state.settled.into_iter().for_each(|one| known.insert(one));
                }
                return true;
            }
        };
        for one in settled {
            self.settled.entry(one.queue).or_default().insert(one.range);
        }
        true
    }

    /// What a damaged place of a log file has cost.
    pub(super) fn cost(&self, name: &str, damage: &Damage) -> String {
        let number = log_number(name);
        if damage.from == damage.to {
            return match self.cut_off(number) {
                Some(count) => format!("{} cut off the end of the file", records(count)),
                None => "the end of the file was cut off".to_owned(),
            };
        }
        let gap = self
            .gaps
            .iter()
            .find(|gap| Some(gap.file) == number && gap.octets.start as u64 == damage.from);
        let indexes = gap.and_then(|gap| gap.indexes.clone());
        let what = match (damage.kind, indexes.filter(|indexes| !indexes.is_empty())) {
            (DamageKind::Torn, _) => {
                "unfinished when the broker stopped, or damaged: nothing behind it was durable"
                    .to_owned()
            }
            (DamageKind::Lost, Some(indexes)) => format!(
                "{} from index {} on",
                records(indexes.end - indexes.start),
                indexes.start
            ),
            (DamageKind::Lost, None) => "records that were durable".to_owned(),
        };
        match gap.and_then(|gap| gap.remains.as_ref()) {
            Some(remains) => format!("{what}; it begins with {remains}"),
            None => what,
        }
    }

    /// How many records a file lost at its end, as the next one tells.
    fn cut_off(&self, number: Option<u64>) -> Option<u64> {
        let number = number?;
        let last = self.files.get(&number)?.last_index?;
        let next = self.files.get(&number.saturating_add(1))?.first_index?;
        next.checked_sub(last.saturating_add(1))
    }
}

/// Messages of these places, from the log.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn find_messages(
    files: &ReadOnly,
    wanted: &HashMap<QueueId, RangeSet>,
) -> Result<HashMap<QueueId, BTreeMap<Sequence, Message>>, StoreError> {
    let mut found: HashMap<QueueId, BTreeMap<Sequence, Message>> = HashMap::default();
    if wanted.is_empty() {
        return Ok(found);
    }
    for number in numbers(files)? {
        let name = log_name(number);
        let octets = files.read(&name).map_err(StoreError::io(&name))?;
        log::scan(&octets, number, &mut 0, |header, payload| {
            if header.kind == RecordKind::Messages
                && let Some(messages) = log::read_messages(header.layout, payload)
            {
                for run in &messages.runs {
                    if let Some(wanted) = wanted.get(&run.queue) {
                        take(&messages, run, wanted, found.entry(run.queue).or_default());
                    }
                }
            }
        });
    }
    Ok(found)
}

fn take(
    messages: &Messages<'_>,
    run: &Run,
    wanted: &RangeSet,
    found: &mut BTreeMap<Sequence, Message>,
) {
    for index in 0..run.count {
        let place = Sequence(run.first.0.saturating_add(index.into()));
        let stored = messages.messages.get((run.message + index) as usize);
        if let Some(stored) = stored.filter(|_| wanted.contains(place)) {
            let mut builder = MessageBuilder::default();
            builder.push(stored);
            found.extend(builder.finish().pop().map(|message| (place, message)));
        }
    }
}

/// What the beginning of a damaged place still says, which may itself be wrong.
fn remains(octets: &[u8], at: usize, number: u64) -> Option<String> {
    let rest = octets.get(at..)?;
    let header = Header::decode(rest).filter(|header| header.file == number)?;
    let payload = rest.get(HEADER_BYTES..)?;
    let payload = payload.get(..header.payload_bytes as usize);
    Some(match header.kind {
        RecordKind::Checkpoint => "a checkpoint".to_owned(),
        RecordKind::Settled => "settlements: what they settled may be delivered again".to_owned(),
        RecordKind::Messages => {
            match payload.and_then(|payload| log::read_messages(header.layout, payload)) {
                None => "messages".to_owned(),
                Some(messages) => format!(
                    "{}, as far as it can be read to {}",
                    counted(messages.messages.len() as u64, "message"),
                    runs_text(&messages.runs)
                ),
            }
        }
    })
}

fn runs_text(runs: &[Run]) -> String {
    let mut texts: Vec<String> = runs
        .iter()
        .take(RUNS_SHOWN)
        .map(|run| {
            let places = SequenceRange::new(run.first, run.count.into());
            format!("{} of queue {}", place_text(places), run.queue.0)
        })
        .collect();
    if runs.len() > RUNS_SHOWN {
        texts.push("more".to_owned());
    }
    texts.join(", ")
}

fn records(count: u64) -> String {
    counted(count, "record")
}

/// Runs of a damaged record that are named.
const RUNS_SHOWN: usize = 4;
