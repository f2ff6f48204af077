//! Saving what is whole into a new data directory, in order and with places,
//! deliveries and flags kept, a page at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use foldhash::HashMap;
use serde::Serialize;

use crate::model::{
    Message, PageTag, QueueId, QueueName, QueueSettings, Sequence, SequenceRange, Ticket, Verdict,
    VhostName,
};
use crate::store::database::{DEFINITIONS_NAME, definitions_file};
use crate::store::files::{Disk, Files};
use crate::store::log::{NewRecord, Run};
use crate::store::metadata::{self, Change, Metadata, VhostDefinitions};
use crate::store::ranges::RangeSet;
use crate::store::recovery::{RecoveredContent, RecoveredQueue};
use crate::store::segment::{PageContent, PageOutJob};
use crate::store::settings::StoreSettings;
use crate::store::{Opened, Store};

use super::log_files::find_messages;
use super::summary::{DamageSummary, PlaceRange, place_ranges};
use super::{Damages, Found, InspectError, damages, find};

/// What was saved and what was not.
#[derive(Debug, Serialize)]
pub struct Repaired {
    /// Messages that the new directory has.
    pub saved: u64,
    /// Messages that are damaged wherever they are.
    pub lost: u64,
    /// Places that are neither settled nor there: their messages were not
    /// persistent, or are lost.
    pub unaccounted: u64,
    /// Whether the definitions could not be read: the queues are called
    /// `recovered-` and their numbers, in virtual host `/`.
    pub renamed: bool,
    /// The queues of the new directory.
    pub queues: Vec<RepairedQueue>,
    /// Damaged places of the old one.
    pub damages: Vec<DamageSummary>,
}

/// One queue of the new directory.
#[derive(Debug, Serialize)]
pub struct RepairedQueue {
    /// Its number.
    pub id: u64,
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Messages that it has.
    pub saved: u64,
    /// Messages that are damaged wherever they are.
    pub lost: u64,
    /// The first of their places.
    pub lost_places: Vec<PlaceRange>,
    /// Places that are neither settled nor there.
    pub unaccounted: u64,
    /// The first of them.
    pub unaccounted_places: Vec<PlaceRange>,
}

/// A new directory that is being written.
struct Target {
    path: String,
    store: Store,
}

/// Messages of one queue that are in no page, by their places.
type Loose = BTreeMap<Sequence, Message>;

/// Writes what can be saved of a data directory into a new one, which a broker
/// can be started on. The first one is not changed.
///
/// # Errors
/// If the first cannot be read, or the second is not empty, lies in the first
/// or cannot be written.
pub fn repair(directory: &Path, target: &Path) -> Result<Repaired, InspectError> {
    check_target(directory, target)?;
    let mut found = find(directory)?;
    let Damages { damages, lost } = damages(&found, true)?;
    // A page that is damaged may have been written while the log still has all.
    let mut in_log = find_messages(&found.files, &lost)?;
    let renamed = found.definitions.is_err();
    if renamed {
        found.rename_queues();
    }

    let path = target.display().to_string();
    let failed = |cause: io::Error| InspectError::Directory {
        path: path.clone(),
        cause,
    };
    let files = Arc::new(Disk::open(target).map_err(failed)?);
    if renamed {
        name_queues(&*files, &found, &path)?;
    } else {
        let octets = found.files.read(DEFINITIONS_NAME).map_err(failed)?;
        let file = files.create(DEFINITIONS_NAME).map_err(failed)?;
        file.write_at(&octets, 0).map_err(failed)?;
        file.sync().map_err(failed)?;
        files.sync_names().map_err(failed)?;
    }
    let ids: Vec<QueueId> = found.kept_ids().collect();
    let settings = StoreSettings::default();
    let Opened { store, .. } = Store::open(files, &settings, &ids, Box::new(|| {}))?;
    let target = Target { path, store };
    let mut queues = Vec::new();
    for id in found.kept_ids() {
        target.save_names(&found, id)?;
    }
    for queue in &found.recovery.queues {
        if let Some((vhost, name)) = found.names.get(&queue.queue) {
            let in_log = in_log.remove(&queue.queue).unwrap_or_default();
            let lost = still_lost(&lost, queue.queue, &in_log);
            let saved = target.save_queue(&found, queue, in_log, &lost)?;
            let unaccounted = found.unaccounted(queue.queue);
            queues.push(RepairedQueue {
                id: queue.queue.0,
                vhost: vhost.clone(),
                name: name.clone(),
                saved,
                lost: total(&lost),
                lost_places: place_ranges(&lost),
                unaccounted: total(&unaccounted),
                unaccounted_places: place_ranges(&unaccounted),
            });
        }
    }
    target.store.close();
    if let Some(cause) = target.store.failure() {
        return Err(target.written(cause));
    }
    Ok(Repaired {
        saved: queues.iter().map(|queue| queue.saved).sum(),
        lost: queues.iter().map(|queue| queue.lost).sum(),
        unaccounted: queues.iter().map(|queue| queue.unaccounted).sum(),
        renamed,
        queues,
        damages,
    })
}

/// Nothing may be there that is overwritten, and nothing may come to lie in the
/// directory that is not to be changed.
fn check_target(directory: &Path, target: &Path) -> Result<(), InspectError> {
    let path = target.display().to_string();
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |cause| InspectError::Directory { path, cause }
    };
    match fs::read_dir(target) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(InspectError::NotEmpty(path));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(target)(error)),
    }
    let directory = fs::canonicalize(directory).map_err(failed(directory))?;
    let existing = existing_ancestor(target).map_err(failed(target))?;
    if existing.starts_with(&directory) {
        return Err(InspectError::Inside {
            target: path,
            directory: directory.display().to_string(),
        });
    }
    Ok(())
}

/// The nearest directory above that is there, without links and dots.
fn existing_ancestor(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    for ancestor in absolute.ancestors() {
        match fs::canonicalize(ancestor) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Ok(absolute)
}

impl Found {
    /// Ids of queues and exchanges that the new directory has.
    fn kept_ids(&self) -> impl Iterator<Item = QueueId> {
        let vhosts = self
            .definitions
            .iter()
            .flat_map(|read| &read.definitions.vhosts);
        let renamed = match self.definitions {
            Ok(_) => Vec::new(),
            Err(_) => self.names.keys().copied().collect(),
        };
        vhosts.flat_map(VhostDefinitions::store_ids).chain(renamed)
    }

    /// Names for queues whose own cannot be read: those with messages.
    fn rename_queues(&mut self) {
        let with_messages = self
            .recovery
            .queues
            .iter()
            .filter(|one| !one.runs.is_empty());
        let name = |id: QueueId| (RECOVERED_VHOST.to_owned(), format!("recovered-{}", id.0));
        self.names = with_messages
            .map(|one| (one.queue, name(one.queue)))
            .collect();
    }
}

/// Definitions for queues whose own cannot be read.
fn name_queues(files: &dyn Files, found: &Found, path: &str) -> Result<(), InspectError> {
    let (metadata, _) = Metadata::open(definitions_file(files)?)?;
    let mut changes = vec![Change::PutVhost(VhostName::from(RECOVERED_VHOST))];
    for (id, (vhost, name)) in &found.names {
        let settings = QueueSettings {
            durable: true,
            ..QueueSettings::default()
        };
        let (vhost, name) = (vhost.as_str().into(), QueueName::from(name.as_str()));
        changes.push(Change::PutQueue(vhost, name, *id, settings));
    }
    let ticket = metadata.submit(changes);
    match metadata.wait(ticket) {
        metadata::Verdict::Durable => Ok(()),
        metadata::Verdict::Pending | metadata::Verdict::Failed => Err(InspectError::Written {
            target: path.to_owned(),
            cause: metadata.failed().unwrap_or_default(),
        }),
    }
}

/// Lost places of a queue that the log has no copy of.
fn still_lost(
    lost: &HashMap<QueueId, RangeSet>,
    queue: QueueId,
    in_log: &Loose,
) -> Vec<SequenceRange> {
    let mut saved = RangeSet::default();
    for place in in_log.keys() {
        saved.insert(SequenceRange::new(*place, 1));
    }
    let lost = lost.get(&queue).into_iter().flat_map(RangeSet::iter);
    lost.flat_map(|range| saved.gaps(range).collect::<Vec<_>>())
        .collect()
}

fn total(ranges: &[SequenceRange]) -> u64 {
    ranges.iter().map(|range| range.count()).sum()
}

impl Target {
    /// Writes one queue; how many messages it has.
    fn save_queue(
        &self,
        found: &Found,
        queue: &RecoveredQueue,
        in_log: Loose,
        lost: &[SequenceRange],
    ) -> Result<u64, InspectError> {
        let id = queue.queue;
        let mut state = found.states.get(&id).cloned().unwrap_or_default();
        state.queue = id;
        state.segments = Vec::new();
        state.settled.extend_from_slice(lost);
        let mut gone = RangeSet::default();
        lost.iter().for_each(|range| gone.insert(*range));
        state.returned.retain(|(place, _)| !gone.contains(*place));
        self.store.restore(state);

        let mut loose = in_log;
        for run in &queue.runs {
            if let RecoveredContent::Resident(messages) = &run.content {
                loose.extend(messages.iter().cloned());
            }
        }
        let mut saved = 0;
        for run in &queue.runs {
            let RecoveredContent::Paged(page) = run.content else {
                continue;
            };
            // What cannot be read at all was found damaged before.
            let content = found.registry.read(page).unwrap_or_default();
            let damaged = content.damaged.clone();
            let mut messages = page_messages(run.first, content);
            // Back to where they were, in order.
            messages.extend(damaged.iter().filter_map(|place| loose.remove_entry(place)));
            messages.sort_by_key(|(place, _)| *place);
            saved += messages.len() as u64;
            self.write_page(id, run.tag, messages)?;
        }
        saved += loose.len() as u64;
        self.append(id, loose)?;
        Ok(saved)
    }

    /// Writes what copies of messages are told by.
    fn save_names(&self, found: &Found, id: QueueId) -> Result<(), InspectError> {
        let Some(names) = found.recovery.ledger.names.of_queue(id) else {
            return Ok(());
        };
        let record = NewRecord {
            names: &[names],
            ..NewRecord::default()
        };
        self.wait(self.store.append_record(&record))
    }

    /// Appends messages to the log, some at a time.
    fn append(&self, queue: QueueId, messages: Loose) -> Result<(), InspectError> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (place, message) in messages {
            match runs.last_mut() {
                Some(last) if last.first.0 + u64::from(last.count) == place.0 => last.count += 1,
                _ => runs.push(Run {
                    queue,
                    first: place,
                    message: batch.len() as u32,
                    count: 1,
                }),
            }
            bytes += message.stored_bytes();
            batch.push(message);
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_MESSAGES {
                self.wait(self.store.append(&[], &runs, &batch))?;
                runs.clear();
                batch.clear();
                bytes = 0;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.wait(self.store.append(&[], &runs, &batch))
    }

    fn wait(&self, ticket: Ticket) -> Result<(), InspectError> {
        loop {
            match self.store.progress().verdict(ticket) {
                Verdict::Stored => return Ok(()),
                Verdict::Pending => thread::sleep(Duration::from_micros(100)),
                Verdict::Failed => {
                    return Err(self.written(self.store.failure().unwrap_or("no room")));
                }
            }
        }
    }

    fn write_page(
        &self,
        queue: QueueId,
        tag: PageTag,
        messages: Vec<(Sequence, Message)>,
    ) -> Result<(), InspectError> {
        let Some((first, _)) = messages.first() else {
            return Ok(());
        };
        let (done, written) = mpsc::channel();
        self.store.page_out(PageOutJob {
            queue,
            durable: true,
            first: *first,
            tag,
            messages: Box::new(messages),
            done: Box::new(move |page| {
                // Nobody waits any more once another page has failed.
                let _ = done.send(page);
            }),
        });
        match written.recv() {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(self.written(self.store.failure().unwrap_or("no room"))),
        }
    }

    fn written(&self, cause: &str) -> InspectError {
        InspectError::Written {
            target: self.path.clone(),
            cause: cause.to_owned(),
        }
    }
}

fn page_messages(first: Sequence, content: PageContent) -> Vec<(Sequence, Message)> {
    let consecutive = (first.0..).map(Sequence);
    match content.places {
        Some(places) => places.into_iter().zip(content.messages).collect(),
        None => consecutive.zip(content.messages).collect(),
    }
}

const RECOVERED_VHOST: &str = "/";
/// Messages of one record, and octets from which on it takes no more.
const BATCH_MESSAGES: usize = 1_000;
const BATCH_BYTES: usize = 1024 * 1024;
