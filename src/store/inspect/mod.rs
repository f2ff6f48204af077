//! Looking into the data directory of a stopped broker: what is there, what is
//! damaged, and saving what can be saved into another directory.
//!
//! What is shown is what recovery itself finds, on files that it cannot change.

mod read_only;
mod repair;

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use serde::Serialize;

use crate::model::QueueId;

use super::database::DEFINITIONS_NAME;
use super::error::StoreError;
use super::files::Files;
use super::log::{self, RecordKind, log_number};
use super::metadata::{Definitions, Metadata, MetadataError};
use super::recovery::{self, RecoveredContent, RecoveredQueue, Recovery};
use super::segment::{Registry, segment_number};

use read_only::ReadOnly;
pub use repair::{Repaired, repair};

/// What a data directory holds.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Its files, by name.
    pub files: Vec<FileSummary>,
    /// Its durable queues, by number.
    pub queues: Vec<QueueSummary>,
    /// Whether the last run ended as it should.
    pub clean: bool,
    /// Why the definitions cannot be read, if that is so: names are missing
    /// then.
    pub definitions_error: Option<String>,
    /// Places that hold nothing whole.
    pub damages: Vec<DamageSummary>,
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
    /// Whole records in a log file.
    pub records: u64,
    /// Messages in a log file, settled ones and copies included.
    pub messages: u64,
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
    /// The place that its next message gets.
    pub next: u64,
}

/// A place that holds nothing whole.
#[derive(Debug, Serialize)]
pub struct DamageSummary {
    /// In which file.
    pub file: String,
    /// From this octet.
    pub offset: u64,
    /// So many of them.
    pub bytes: u64,
    /// What it means.
    pub meaning: String,
}

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
    /// Its files cannot be read or are of a newer version.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The definitions of the new directory cannot be written.
    #[error("{0}")]
    Definitions(#[from] MetadataError),
    /// The new directory is not empty.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// The new directory's disk is full or broken.
    #[error("cannot write what was saved: {0}")]
    Written(String),
}

/// What was found, with what is needed to read it.
struct Found {
    files: Arc<ReadOnly>,
    registry: Registry,
    recovery: Recovery,
    definitions: Result<Definitions, MetadataError>,
}

/// Looks at the data directory of a stopped broker. With `verify`, every
/// message is read and its checksum compared.
///
/// # Errors
/// If it cannot be read, or a broker has it open.
pub fn inspect(directory: &Path, verify: bool) -> Result<Inspection, InspectError> {
    let found = find(directory)?;
    let mut damages = Vec::new();
    for (file, damage) in &found.recovery.report.damages {
        let meaning = match damage.kind {
            log::DamageKind::Lost => "what was here had been made durable and is lost",
            log::DamageKind::Torn => "unfinished when the broker stopped, or damaged",
        };
        damages.push(DamageSummary {
            file: file.clone(),
            offset: damage.from,
            bytes: damage.to - damage.from,
            meaning: meaning.to_owned(),
        });
    }
    if verify {
        verify_pages(&found, &mut damages);
    }
    let names = found.definitions.as_ref().ok();
    let queues = found.recovery.queues.iter();
    Ok(Inspection {
        files: summaries(&found.files)?,
        queues: queues.map(|queue| queue_summary(queue, names)).collect(),
        clean: found.recovery.report.clean,
        definitions_error: found.definitions.as_ref().err().map(ToString::to_string),
        damages,
    })
}

fn find(directory: &Path) -> Result<Found, InspectError> {
    let failed = |cause| InspectError::Directory {
        path: directory.display().to_string(),
        cause,
    };
    let files = Arc::new(ReadOnly::open(directory).map_err(failed)?);
    let definitions = read_definitions(&files);
    let ids = match &definitions {
        Ok(definitions) => defined_queues(definitions),
        Err(_) => mentioned_queues(&files)?,
    };
    let shared: Arc<dyn Files> = Arc::clone(&files) as _;
    let registry = Registry::new(Arc::clone(&shared));
    let recovery = recovery::recover(&shared, &registry, &ids)?;
    Ok(Found {
        files,
        registry,
        recovery,
        definitions,
    })
}

/// The definitions, read from a copy in memory: opening a database may write.
fn read_definitions(files: &ReadOnly) -> Result<Definitions, MetadataError> {
    let octets = files.read(DEFINITIONS_NAME)?;
    let copy = InMemoryBackend::new();
    copy.set_len(octets.len() as u64)?;
    copy.write(0, &octets)?;
    let (_, definitions) = Metadata::open(copy)?;
    Ok(definitions)
}

fn defined_queues(definitions: &Definitions) -> Vec<QueueId> {
    let queues = definitions.vhosts.iter().flat_map(|vhost| &vhost.queues);
    queues.map(|(_, id, _)| *id).collect()
}

/// Queues that segments or the log speak of.
fn mentioned_queues(files: &ReadOnly) -> Result<Vec<QueueId>, InspectError> {
    let mut ids = Vec::new();
    for name in files.names().map_err(StoreError::io("its directory"))? {
        if let Some(segment) = segment_number(&name).filter(|segment| !segment.scratch) {
            ids.push(segment.queue);
        }
        let Some(number) = log_number(&name) else {
            continue;
        };
        let octets = files.read(&name).map_err(StoreError::io(&name))?;
        log::scan(&octets, number, &mut 0, |header, payload| {
            if header.kind == RecordKind::Messages
                && let Some(messages) = log::read_messages(payload)
            {
                ids.extend(messages.runs.iter().map(|run| run.queue));
            }
        });
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(ids)
}

fn verify_pages(found: &Found, damages: &mut Vec<DamageSummary>) {
    for queue in &found.recovery.queues {
        for run in &queue.runs {
            let RecoveredContent::Paged(page) = run.content else {
                continue;
            };
            let meaning = match found.registry.read(page) {
                Ok(content) if content.damaged.is_empty() => continue,
                Ok(content) => {
                    let places: Vec<String> = content
                        .damaged
                        .iter()
                        .take(10)
                        .map(|place| place.0.to_string())
                        .collect();
                    let (count, places) = (content.damaged.len(), places.join(", "));
                    format!("a page with {count} damaged messages, at the places {places}")
                }
                Err(error) => format!("a page of {} messages that is lost: {error}", run.count),
            };
            damages.push(DamageSummary {
                file: super::segment::segment_name(queue.queue, page.file),
                offset: page.offset,
                bytes: page.bytes.into(),
                meaning,
            });
        }
    }
}

fn queue_summary(queue: &RecoveredQueue, names: Option<&Definitions>) -> QueueSummary {
    let named = names.and_then(|definitions| {
        definitions.vhosts.iter().find_map(|vhost| {
            let found = vhost.queues.iter().find(|(_, id, _)| *id == queue.queue);
            found.map(|(name, ..)| (vhost.name.to_string(), name.to_string()))
        })
    });
    let (mut in_log, mut in_segments) = (0, 0);
    for run in &queue.runs {
        match run.content {
            RecoveredContent::Resident(_) => in_log += run.count,
            RecoveredContent::Paged(_) => in_segments += run.count,
        }
    }
    let (vhost, name) = named.unzip();
    QueueSummary {
        id: queue.queue.0,
        vhost,
        name,
        messages: in_log + in_segments,
        in_log,
        in_segments,
        oldest: queue.runs.first().map(|run| run.first.0),
        next: queue.next.0,
    }
}

fn summaries(files: &ReadOnly) -> Result<Vec<FileSummary>, InspectError> {
    let names = files.names().map_err(StoreError::io("its directory"))?;
    names
        .into_iter()
        .map(|name| {
            let bytes = files.bytes(&name).map_err(StoreError::io(&name))?;
            let (mut records, mut messages) = (0, 0);
            if let Some(number) = log_number(&name) {
                let octets = files.read(&name).map_err(StoreError::io(&name))?;
                log::scan(&octets, number, &mut 0, |header, payload| {
                    records += 1;
                    if header.kind == RecordKind::Messages {
                        let read = log::read_messages(payload);
                        messages += read.map_or(0, |read| read.messages.len() as u64);
                    }
                });
            }
            Ok(FileSummary {
                kind: kind(&name),
                name,
                bytes,
                records,
                messages,
            })
        })
        .collect()
}

fn kind(name: &str) -> FileKind {
    match segment_number(name) {
        Some(segment) if segment.scratch => FileKind::Scratch,
        Some(_) => FileKind::Segment,
        None if log_number(name).is_some() => FileKind::Log,
        None if log::is_spare(name) => FileKind::Spare,
        None if name == DEFINITIONS_NAME => FileKind::Definitions,
        None if name == "lock" => FileKind::Lock,
        None if name.starts_with("damaged-") => FileKind::Damaged,
        None => FileKind::Other,
    }
}
