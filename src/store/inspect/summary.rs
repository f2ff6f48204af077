//! What an inspection says, for people and for programs.

use serde::{Serialize, Serializer};

use crate::model::{Sequence, SequenceRange};
use crate::store::database::DEFINITIONS_NAME;
use crate::store::error::StoreError;
use crate::store::files::Files;
use crate::store::log::{self, DamageKind, log_number};
use crate::store::ranges::RangeSet;
use crate::store::recovery::{RecoveredContent, RecoveredQueue};
use crate::store::segment::segment_number;

use super::{DefinitionsSummary, Found, LogSummary, SegmentSummary, segments};

/// What a data directory holds.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Its files, by name.
    pub files: Vec<FileSummary>,
    /// What the definitions hold, where they can be read.
    pub definitions: Option<DefinitionsSummary>,
    /// Why they cannot: names are missing then.
    pub definitions_error: Option<String>,
    /// Its durable queues, by number.
    pub queues: Vec<QueueSummary>,
    /// Whether the last run ended as it should.
    pub clean: bool,
    /// Whether every message was read.
    pub verified: bool,
    /// Places that hold nothing whole.
    pub damages: Vec<DamageSummary>,
    /// What else a person should know.
    pub warnings: Vec<String>,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct FileSummary {
    /// Its name.
    pub name: String,
    /// Octets in it.
    pub bytes: u64,
    /// What it is for.
    pub kind: FileKind,
    /// What a log file holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSummary>,
    /// What a segment holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentSummary>,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Records.
    Log,
    /// Prepared for the log.
    Spare,
    /// A durable queue's pages.
    Segment,
    /// Pages that do not survive a start.
    Scratch,
    /// The definitions' database.
    Definitions,
    /// Keeps a second broker out.
    Lock,
    /// A damaged place, kept aside.
    Damaged,
    /// None of the store's.
    Other,
}

/// One durable queue.
#[derive(Debug, Serialize)]
pub struct QueueSummary {
    /// Its number.
    pub id: u64,
    /// Its virtual host, where the definitions can be read.
    pub vhost: Option<String>,
    /// Its name, likewise.
    pub name: Option<String>,
    /// Messages that are there.
    pub messages: u64,
    /// Of those, how many are in the log.
    pub in_log: u64,
    /// Of those, how many are in segments.
    pub in_segments: u64,
    /// The place of its oldest message.
    pub oldest: Option<u64>,
    /// When that arrived, in milliseconds since 1970, where it is known.
    pub oldest_arrived: Option<u64>,
    /// The place that its next message gets.
    pub next: u64,
    /// Messages below this place may have been seen by a client.
    pub redelivered_below: u64,
    /// Messages that came back from a client.
    pub returned: u64,
    /// Of those, how many are not to be delivered before a certain time.
    pub returned_due: u64,
    /// Places that records call settled.
    pub settled: u64,
    /// Ranges that they form.
    pub settled_ranges: u64,
    /// Places that are neither settled nor there: their messages were not
    /// persistent, or are lost.
    pub unaccounted: u64,
    /// The first of them.
    pub unaccounted_places: Vec<PlaceRange>,
}

/// Consecutive places of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct PlaceRange {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// A place that holds nothing whole.
#[derive(Clone, Debug, Serialize)]
pub struct DamageSummary {
    /// In which file.
    pub file: String,
    /// From this octet.
    pub offset: u64,
    /// So many of them.
    pub bytes: u64,
    /// Whether it had been durable.
    #[serde(serialize_with = "damage_kind")]
    pub kind: DamageKind,
    /// What it costs.
    pub cost: String,
}

pub(super) fn inspection(
    found: &Found,
    damages: Vec<DamageSummary>,
    verified: bool,
) -> Result<Inspection, StoreError> {
    let definitions = found.definitions.as_ref();
    let files = files(found)?;
    let warnings = warnings(found, &files);
    // Exchanges that remember names have ids as well.
    let is_queue =
        |queue: &&RecoveredQueue| definitions.is_err() || found.names.contains_key(&queue.queue);
    let queues = found.recovery.queues.iter().filter(is_queue);
    Ok(Inspection {
        files,
        definitions: definitions.ok().map(|read| read.summary()),
        definitions_error: definitions.err().map(ToString::to_string),
        queues: queues.map(|queue| queue_summary(found, queue)).collect(),
        clean: found.recovery.report.clean,
        verified,
        damages,
        warnings,
    })
}

fn files(found: &Found) -> Result<Vec<FileSummary>, StoreError> {
    let names = found.files.names();
    let names = names.map_err(StoreError::io("its directory"))?;
    let summary = |name: String| {
        let segment = segment_number(&name)
            .map(|of| segments::summary(&found.files, &name, of))
            .transpose();
        let log = log_number(&name).and_then(|number| found.survey.files.get(&number));
        Ok(FileSummary {
            bytes: found.files.bytes(&name).map_err(StoreError::io(&name))?,
            kind: FileKind::of(&name),
            log: log.cloned(),
            segment: segment.map_err(StoreError::io(&name))?,
            name,
        })
    };
    names.into_iter().map(summary).collect()
}

fn warnings(found: &Found, files: &[FileSummary]) -> Vec<String> {
    let mut warnings = Vec::new();
    if !found.files.is_locked() {
        warnings.push("there is no lock file: a broker could be using the directory".to_owned());
    }
    if found
        .definitions
        .as_ref()
        .is_ok_and(|read| read.needs_repair)
    {
        let text = "the definitions were not closed: the next start puts them in order";
        warnings.push(text.to_owned());
    }
    let unreadable = found.files.unreadable();
    if let Some((file, offset)) = unreadable.first() {
        warnings.push(format!(
            "blocks that the disk cannot read, of which the first is at octet {offset} of {file}: {}",
            unreadable.len()
        ));
    }
    let is_nobodys = |file: &&FileSummary| {
        let of = file
            .segment
            .as_ref()
            .filter(|_| file.kind == FileKind::Segment);
        of.is_some_and(|of| !found.states.keys().any(|id| id.0 == of.queue))
    };
    let nobodys = files.iter().filter(is_nobodys).count();
    if nobodys > 0 {
        warnings.push(format!(
            "segments of queues that do not exist, which the next start removes: {nobodys}"
        ));
    }
    warnings
}

fn queue_summary(found: &Found, queue: &RecoveredQueue) -> QueueSummary {
    let (mut in_log, mut in_segments) = (0, 0);
    for run in &queue.runs {
        match run.content {
            RecoveredContent::Resident(_) => in_log += run.count,
            RecoveredContent::Paged(_) => in_segments += run.count,
        }
    }
    let (vhost, name) = found.names.get(&queue.queue).cloned().unzip();
    let none = RangeSet::default();
    let settled = found.survey.settled.get(&queue.queue).unwrap_or(&none);
    let unaccounted = found.unaccounted(queue.queue);
    let oldest = (in_log + in_segments > 0).then(|| found.oldest(queue.queue));
    let arrived = oldest.and_then(|place| arrival(found, queue, Sequence(place)));
    let is_due_later = |came_back: &&(u32, u64)| came_back.1 > 0;
    QueueSummary {
        id: queue.queue.0,
        vhost,
        name,
        messages: in_log + in_segments,
        in_log,
        in_segments,
        oldest,
        oldest_arrived: arrived.filter(|arrived| *arrived > 0),
        next: queue.next.0,
        redelivered_below: queue.redelivered_below.0,
        returned: queue.deliveries.len() as u64,
        returned_due: queue.deliveries.values().filter(is_due_later).count() as u64,
        settled: settled.iter().map(SequenceRange::count).sum(),
        settled_ranges: settled.iter().count() as u64,
        unaccounted: unaccounted.iter().map(|range| range.count()).sum(),
        unaccounted_places: place_ranges(&unaccounted),
    }
}

/// When a message arrived.
fn arrival(found: &Found, queue: &RecoveredQueue, place: Sequence) -> Option<u64> {
    let runs = queue.runs.iter();
    let mut runs = runs.take_while(|run| run.first <= place);
    runs.find_map(|run| match &run.content {
        RecoveredContent::Resident(messages) => {
            let at = messages.binary_search_by_key(&place, |(place, _)| *place);
            Some(messages.get(at.ok()?)?.1.arrived())
        }
        RecoveredContent::Paged(page) => {
            let content = found.registry.read(*page).ok()?;
            let at = match content.places {
                Some(places) => places.binary_search(&place).ok()?,
                None => usize::try_from(place.0 - run.first.0).ok()?,
            };
            Some(content.messages.get(at)?.arrived())
        }
    })
}

/// The first ranges: there may be one for every other message.
pub(super) fn place_ranges(ranges: &[SequenceRange]) -> Vec<PlaceRange> {
    let shown = ranges.iter().take(RANGES_SHOWN_MAX);
    shown
        .map(|range| PlaceRange {
            first: range.first.0,
            count: range.count(),
        })
        .collect()
}

impl FileKind {
    /// What a file of that name is for.
    #[must_use]
    pub(super) fn of(name: &str) -> Self {
        match segment_number(name) {
            Some(segment) if segment.scratch => Self::Scratch,
            Some(_) => Self::Segment,
            None if log_number(name).is_some() => Self::Log,
            None if log::is_spare(name) => Self::Spare,
            None if name == DEFINITIONS_NAME => Self::Definitions,
            None if name == "lock" => Self::Lock,
            None if name.starts_with("damaged-") => Self::Damaged,
            None => Self::Other,
        }
    }
}

fn damage_kind<S: Serializer>(kind: &DamageKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match kind {
        DamageKind::Lost => "lost",
        DamageKind::Torn => "torn",
    })
}

/// Ranges of places that are listed.
const RANGES_SHOWN_MAX: usize = 100;
