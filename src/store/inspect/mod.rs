//! Looking into the data directory of a stopped broker: what is there, what is
//! damaged, and saving what can be saved into another directory.
//!
//! What is shown is what recovery itself finds, on files that it cannot change.
//! Memory follows the log and the number of pages, not the messages in them:
//! log files and pages are read one at a time.

mod definitions;
mod log_files;
mod read_only;
mod repair;
mod segments;
mod summary;

use std::io;
use std::path::Path;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{QueueId, SequenceRange};

use super::error::StoreError;
use super::files::Files;
use super::log::{DamageKind, QueueState, log_number};
use super::metadata::{MetadataError, VhostDefinitions};
use super::ranges::RangeSet;
use super::recovery::{self, RecoveredContent, Recovery};
use super::segment::{Registry, segment_number};

use definitions::{Names, ReadDefinitions};
use log_files::LogSurvey;
use read_only::ReadOnly;
use segments::BadEntry;

pub use definitions::DefinitionsSummary;
pub use log_files::LogSummary;
pub use repair::{Repaired, RepairedQueue, repair};
pub use segments::SegmentSummary;
pub use summary::{DamageSummary, FileKind, FileSummary, Inspection, PlaceRange, QueueSummary};

/// Why a directory cannot be inspected or repaired.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It cannot be read, or a broker has it.
    #[error("{path}: {cause}")]
    Directory {
        /// Which one.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// Nothing in it is a broker's.
    #[error("{0} is no data directory: none of its files is a broker's")]
    Foreign(String),
    /// Its files cannot be read or are of a newer version.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The definitions are of a newer version, or those of the new directory
    /// cannot be written.
    #[error("{0}")]
    Definitions(#[from] MetadataError),
    /// The new directory is not empty.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// The new directory would be in the one that is not to be changed.
    #[error("{target} lies in {directory}, in which nothing is to be changed")]
    Inside {
        /// The new one.
        target: String,
        /// The one that is repaired.
        directory: String,
    },
    /// The new directory's disk is full or broken.
    #[error("cannot write what was saved, and {target} is not complete: {cause}")]
    Written {
        /// The new one.
        target: String,
        /// Why.
        cause: String,
    },
}

/// What was found, with what is needed to read it.
struct Found {
    files: Arc<ReadOnly>,
    registry: Registry,
    recovery: Recovery,
    survey: LogSurvey,
    definitions: Result<ReadDefinitions, MetadataError>,
    names: Names,
    /// What recovery would write down of each queue.
    states: HashMap<QueueId, QueueState>,
}

/// Looks at the data directory of a stopped broker. With `verify`, every
/// message is read and its checksum compared.
///
/// # Errors
/// If it cannot be read, or a broker has it open.
pub fn inspect(directory: &Path, verify: bool) -> Result<Inspection, InspectError> {
    let found = find(directory)?;
    let damages = damages(&found, verify)?.damages;
    Ok(summary::inspection(&found, damages, verify)?)
}

fn find(directory: &Path) -> Result<Found, InspectError> {
    let path = directory.display().to_string();
    let failed = |cause| InspectError::Directory {
        path: path.clone(),
        cause,
    };
    let files = Arc::new(ReadOnly::open(directory).map_err(failed)?);
    let known = files.names().map_err(failed)?;
    if known
        .iter()
        .all(|name| FileKind::of(name) == FileKind::Other)
    {
        return Err(InspectError::Foreign(path));
    }
    let survey = log_files::survey(&files)?;
    let definitions = match ReadDefinitions::read(&files) {
        // They are sound, and what this version makes of the rest may not be.
        Err(newer @ MetadataError::Newer { .. }) => return Err(newer.into()),
        other => other,
    };
    let names = definitions.as_ref().map(ReadDefinitions::names);
    let names = names.unwrap_or_default();
    let ids: Vec<QueueId> = match &definitions {
        Ok(read) => {
            let vhosts = read.definitions.vhosts.iter();
            vhosts.flat_map(VhostDefinitions::store_ids).collect()
        }
        Err(_) => mentioned(&survey, &known),
    };
    let shared: Arc<dyn Files> = Arc::clone(&files) as _;
    let registry = Registry::new(Arc::clone(&shared));
    let recovery = recovery::recover(&shared, &registry, &ids)?;
    let states = recovery.ledger.states();
    Ok(Found {
        states: states
            .into_iter()
            .map(|state| (state.queue, state))
            .collect(),
        files,
        registry,
        recovery,
        survey,
        definitions,
        names,
    })
}

/// Queues that segments or the log speak of.
fn mentioned(survey: &LogSurvey, names: &[String]) -> Vec<QueueId> {
    let segments = names.iter().filter_map(|name| segment_number(name));
    let segments = segments.filter(|one| !one.scratch).map(|one| one.queue);
    let mut ids: Vec<QueueId> = survey.queues.iter().copied().chain(segments).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Damaged places, and the messages of durable queues that they cost.
struct Damages {
    damages: Vec<DamageSummary>,
    /// Places in pages whose messages are damaged there, not settled, and not
    /// found elsewhere by recovery.
    lost: HashMap<QueueId, RangeSet>,
}

fn damages(found: &Found, verify: bool) -> Result<Damages, StoreError> {
    let bad = match verify {
        true => segments::verify(&found.files)?,
        false => Vec::new(),
    };
    let mut damages = Vec::new();
    for (file, damage) in &found.recovery.report.damages {
        let within = |bad: &BadEntry| {
            bad.name == *file && (damage.from..damage.to).contains(&bad.octets.start)
        };
        if bad.iter().any(within) {
            // Which messages of the page it is comes below.
            continue;
        }
        let cost = match (log_number(file), damage.kind) {
            (Some(_), _) => found.survey.cost(file, damage),
            (None, DamageKind::Torn) => {
                "a page that was unfinished when the broker stopped: the log has its messages"
                    .to_owned()
            }
            (None, DamageKind::Lost) => {
                "pages that were durable; of their messages there is what the log has".to_owned()
            }
        };
        damages.push(DamageSummary {
            file: file.clone(),
            offset: damage.from,
            bytes: damage.to - damage.from,
            kind: damage.kind,
            cost,
        });
    }
    damages.extend(found.survey.senseless.iter().cloned());
    let lost = page_damages(found, &bad, &mut damages)?;
    Ok(Damages { damages, lost })
}

fn page_damages(
    found: &Found,
    bad: &[BadEntry],
    damages: &mut Vec<DamageSummary>,
) -> Result<HashMap<QueueId, RangeSet>, StoreError> {
    let mut lost: HashMap<QueueId, RangeSet> = HashMap::default();
    let mut each = Vec::with_capacity(bad.len());
    let (none, mut resident) = (RangeSet::default(), HashMap::default());
    for one in bad {
        let elsewhere = resident
            .entry(one.queue)
            .or_insert_with(|| found.in_log(one.queue));
        let settled = found.survey.settled.get(&one.queue).unwrap_or(&none);
        let ranges = match found.states.contains_key(&one.queue) {
            true => one.lost(settled, elsewhere),
            false => Vec::new(),
        };
        for range in &ranges {
            lost.entry(one.queue).or_default().insert(*range);
        }
        each.push(ranges);
    }
    let in_log = log_files::find_messages(&found.files, &lost)?;
    for (one, ranges) in bad.iter().zip(each) {
        let count: u64 = ranges.iter().map(|range| range.count()).sum();
        let saved = in_log.get(&one.queue).map_or(0, |messages| {
            let of = |range: &SequenceRange| messages.range(range.first..range.end).count();
            ranges.iter().map(of).sum::<usize>() as u64
        });
        let queue = found.label(one.queue);
        let mut cost = match ranges.first() {
            None if !found.states.contains_key(&one.queue) => {
                format!("nothing: there is no {queue}")
            }
            None => "nothing: it is settled, or the log has it".to_owned(),
            Some(first) => {
                let more = if ranges.len() > 1 { " and more" } else { "" };
                let (messages, places) = (counted(count, "message"), place_text(*first));
                format!("{messages} of {queue}, {places}{more}")
            }
        };
        if saved > 0 {
            cost.push_str(&format!(
                "; the log still has {saved}, which --repair saves"
            ));
        }
        damages.push(DamageSummary {
            file: one.name.clone(),
            offset: one.octets.start,
            bytes: one.octets.end - one.octets.start,
            kind: DamageKind::Lost,
            cost,
        });
    }
    Ok(lost)
}

impl Found {
    /// The places of a queue whose messages recovery took out of the log.
    fn in_log(&self, id: QueueId) -> RangeSet {
        let mut places = RangeSet::default();
        let queues = self.recovery.queues.iter();
        for run in queues
            .filter(|one| one.queue == id)
            .flat_map(|one| &one.runs)
        {
            if let RecoveredContent::Resident(messages) = &run.content {
                for (place, _) in messages {
                    places.insert(SequenceRange::new(*place, 1));
                }
            }
        }
        places
    }

    /// Places that are neither settled nor there.
    fn unaccounted(&self, id: QueueId) -> Vec<SequenceRange> {
        let none = RangeSet::default();
        let settled = self.survey.settled.get(&id).unwrap_or(&none);
        let state = self.states.get(&id);
        let without_message = state.into_iter().flat_map(|state| &state.settled);
        without_message
            .flat_map(|range| settled.gaps(*range).collect::<Vec<_>>())
            .collect()
    }

    /// The first place of a queue that is not settled.
    fn oldest(&self, id: QueueId) -> u64 {
        let first = self.states.get(&id).and_then(|state| state.settled.first());
        first.map_or(0, |range| if range.first.0 == 0 { range.end.0 } else { 0 })
    }

    fn label(&self, id: QueueId) -> String {
        match self.names.get(&id) {
            Some((vhost, name)) => format!("queue '{name}' in vhost '{vhost}'"),
            None => format!("queue {}", id.0),
        }
    }
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

fn place_text(places: SequenceRange) -> String {
    match places.count() {
        1 => format!("place {}", places.first.0),
        _ => format!(
            "places {} to {}",
            places.first.0,
            places.end.0.saturating_sub(1)
        ),
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
