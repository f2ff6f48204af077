//! Saving what is whole into a new data directory, in order and with its places
//! kept, a page at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use serde::Serialize;

use crate::model::{
    Message, Progress, QueueId, QueueName, QueueSettings, Sequence, SequenceRange, Ticket, Verdict,
    VhostName,
};
use crate::store::database::{DEFINITIONS_NAME, definitions_file};
use crate::store::files::{Disk, Files};
use crate::store::log::{Returned, Run, Settled};
use crate::store::metadata::{self, Change, Metadata};
use crate::store::recovery::{RecoveredContent, RecoveredQueue};
use crate::store::segment::{PageContent, PageOutJob};
use crate::store::settings::StoreSettings;
use crate::store::{Opened, Store};

use super::{Found, InspectError, find};

/// What was saved.
#[derive(Debug, Serialize)]
pub struct Repaired {
    /// Messages that the new directory has.
    pub saved: u64,
    /// Messages that were damaged.
    pub lost: u64,
    /// Whether the definitions could not be read: the queues are called
    /// `recovered-` and their numbers, in virtual host `/`.
    pub renamed: bool,
}

/// Writes what can be saved of a data directory into a new one, which a broker
/// can be started on. The first one is not changed.
///
/// # Errors
/// If the first cannot be read, or the second is not empty or cannot be
/// written.
pub fn repair(directory: &Path, target: &Path) -> Result<Repaired, InspectError> {
    let found = find(directory)?;
    let path = target.display().to_string();
    let failed = |cause: io::Error| InspectError::Directory {
        path: path.clone(),
        cause,
    };
    if let Ok(mut entries) = std::fs::read_dir(target)
        && entries.next().is_some()
    {
        return Err(InspectError::NotEmpty(path));
    }
    let files = Arc::new(Disk::open(target).map_err(failed)?);
    let renamed = found.definitions.is_err();
    if renamed {
        name_queues(&*files, &found.recovery.queues)?;
    } else {
        let octets = found.files.read(DEFINITIONS_NAME).map_err(failed)?;
        let file = files.create(DEFINITIONS_NAME).map_err(failed)?;
        file.write_at(&octets, 0).map_err(failed)?;
        file.sync().map_err(failed)?;
        files.sync_names().map_err(failed)?;
    }
    let ids: Vec<QueueId> = found.recovery.queues.iter().map(|one| one.queue).collect();
    let settings = StoreSettings::default();
    let Opened { store, .. } = Store::open(files, &settings, &ids, Box::new(|| {}))?;
    let (mut saved, mut lost) = (0, 0);
    for queue in &found.recovery.queues {
        let (whole, damaged) = save_queue(&found, queue, &store)?;
        saved += whole;
        lost += damaged;
    }
    let seen = |queue: &RecoveredQueue| queue.redelivered_below > Sequence(0);
    if found.recovery.queues.iter().any(seen) {
        store.close_unclean();
    } else {
        store.close();
    }
    match store.failure() {
        Some(cause) => Err(InspectError::Written(cause.to_owned())),
        None => Ok(Repaired {
            saved,
            lost,
            renamed,
        }),
    }
}

/// Definitions for queues whose own cannot be read.
fn name_queues(files: &dyn Files, queues: &[RecoveredQueue]) -> Result<(), InspectError> {
    let (metadata, _) = Metadata::open(definitions_file(files)?)?;
    let vhost = VhostName::from("/");
    let mut changes = vec![Change::PutVhost(vhost.clone())];
    for queue in queues {
        let settings = QueueSettings {
            durable: true,
            ..QueueSettings::default()
        };
        let name = QueueName::from(format!("recovered-{}", queue.queue.0));
        changes.push(Change::PutQueue(vhost.clone(), name, queue.queue, settings));
    }
    let ticket = metadata.submit(changes);
    match metadata.wait(ticket) {
        metadata::Verdict::Durable => Ok(()),
        metadata::Verdict::Pending | metadata::Verdict::Failed => {
            let cause = metadata.failed().unwrap_or_default();
            Err(InspectError::Written(cause))
        }
    }
}

/// Writes one queue; how many messages are there, and how many are damaged.
fn save_queue(
    found: &Found,
    queue: &RecoveredQueue,
    store: &Store,
) -> Result<(u64, u64), InspectError> {
    let id = queue.queue;
    let (mut saved, mut lost) = (0, 0);
    let mut behind = Sequence(0);
    for run in &queue.runs {
        let messages = match &run.content {
            RecoveredContent::Resident(messages) => messages.clone(),
            RecoveredContent::Paged(page) => {
                // What cannot be read at all counts as damaged.
                let content = found.registry.read(*page).unwrap_or_default();
                page_messages(run.first, content)
            }
        };
        lost += run.count.saturating_sub(messages.len() as u64);
        saved += messages.len() as u64;
        for (place, _) in &messages {
            settle_gap(store, id, behind, *place);
            behind = Sequence(place.0 + 1);
        }
        match run.content {
            RecoveredContent::Resident(_) => append(store, id, &messages)?,
            RecoveredContent::Paged(_) => write_page(store, id, messages)?,
        }
    }
    settle_gap(store, id, behind, queue.next);
    let returned: Vec<Returned> = queue
        .deliveries
        .iter()
        .map(|(place, deliveries)| Returned {
            queue: id,
            place: *place,
            deliveries: *deliveries,
        })
        .collect();
    store.settle(&[], &returned);
    Ok((saved, lost))
}

fn page_messages(first: Sequence, content: PageContent) -> Vec<(Sequence, Message)> {
    let consecutive = (first.0..).map(Sequence);
    match content.places {
        Some(places) => places.into_iter().zip(content.messages).collect(),
        None => consecutive.zip(content.messages).collect(),
    }
}

/// Places between messages hold nothing.
fn settle_gap(store: &Store, queue: QueueId, from: Sequence, to: Sequence) {
    if from < to {
        let range = SequenceRange {
            first: from,
            end: to,
        };
        store.settle(&[Settled { queue, range }], &[]);
    }
}

fn append(
    store: &Store,
    queue: QueueId,
    messages: &[(Sequence, Message)],
) -> Result<(), InspectError> {
    for batch in messages.chunks(BATCH) {
        let mut runs: Vec<Run> = Vec::new();
        for (index, (place, _)) in batch.iter().enumerate() {
            match runs.last_mut() {
                Some(last) if last.first.0 + u64::from(last.count) == place.0 => last.count += 1,
                _ => runs.push(Run {
                    queue,
                    first: *place,
                    message: index as u32,
                    count: 1,
                }),
            }
        }
        let batch: Vec<Message> = batch.iter().map(|(_, message)| message.clone()).collect();
        let ticket = store.append(&[], &runs, &batch);
        wait(store, ticket)?;
    }
    Ok(())
}

fn wait(store: &Store, ticket: Ticket) -> Result<(), InspectError> {
    loop {
        let progress: Progress = store.progress();
        match progress.verdict(ticket) {
            Verdict::Stored => return Ok(()),
            Verdict::Pending => std::thread::sleep(std::time::Duration::from_micros(100)),
            Verdict::Failed => {
                let cause = store.failure().unwrap_or("no room");
                return Err(InspectError::Written(cause.to_owned()));
            }
        }
    }
}

fn write_page(
    store: &Store,
    queue: QueueId,
    messages: Vec<(Sequence, Message)>,
) -> Result<(), InspectError> {
    let Some((first, _)) = messages.first() else {
        return Ok(());
    };
    let (done, written) = mpsc::channel();
    store.page_out(PageOutJob {
        queue,
        durable: true,
        first: *first,
        messages: Box::new(messages),
        done: Box::new(move |page| {
            // Nobody waits any more once another page has failed.
            let _ = done.send(page);
        }),
    });
    match written.recv() {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(_) => Err(InspectError::Written("no room".to_owned())),
    }
}

/// Messages of one record.
const BATCH: usize = 1_000;
