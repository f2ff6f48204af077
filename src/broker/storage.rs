//! What keeps a node's state: definitions, the message log, and the memory that
//! waiting messages may take before they are read back from disk.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::model::{NameHash, Page, Progress, QueueId, Ticket, Verdict};
use crate::store::metadata::{
    self, Definitions, Health, Metadata, MetadataError, VhostDefinitions,
};
use crate::store::{
    Disk, NewRecord, Opened, PageContent, PageOutJob, RecoveredQueue, Report, Returned, Settled,
    Store, StoreError, StoreSettings, definitions_file,
};

use super::{Clock, Durability, Waiters};

/// A node's storage.
pub struct Storage {
    clock: Clock,
    metadata: Metadata,
    store: Store,
    waiters: Arc<Waiters>,
    /// Positions in the log that build on definitions which were not durable
    /// when they were appended.
    gates: Mutex<VecDeque<Gate>>,
    any_gates: AtomicBool,
    /// Deleted durable queues whose deletion was not durable yet.
    deleted: Mutex<VecDeque<Deleted>>,
    /// Octets that waiting messages may take in memory.
    hot_bytes: u64,
    /// Octets that they take.
    resident_bytes: AtomicU64,
    /// Of those, what is being written out.
    writing_bytes: AtomicU64,
    /// Messages that consumers were handed.
    handed_out: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    log: Ticket,
    definitions: Ticket,
}

/// A deleted queue that a crash would bring back.
#[derive(Clone, Copy, Debug)]
struct Deleted {
    queue: QueueId,
    /// Of its deletion.
    definitions: Ticket,
    /// It would be brought back without messages.
    is_empty: bool,
}

/// What a data directory held.
#[derive(Debug)]
pub struct Recovered {
    /// Virtual hosts, exchanges, queues and bindings.
    pub definitions: Definitions,
    /// What each durable queue had.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// What recovery met.
    pub report: Report,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be opened, or another broker has it.
    #[error("cannot use the data directory {path}: {cause}")]
    Directory {
        /// Where.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The definitions.
    #[error("the definitions in the data directory {path}: {cause}")]
    Definitions {
        /// Where.
        path: String,
        /// Why.
        cause: MetadataError,
    },
    /// The messages.
    #[error("the messages in the data directory {path}: {cause}")]
    Messages {
        /// Where.
        path: String,
        /// Why.
        cause: StoreError,
    },
}

impl Storage {
    /// Opens a data directory, created if it is missing, and recovers what is
    /// in it. `hot_bytes` is what messages that wait may take in memory.
    ///
    /// # Errors
    /// If it is another broker's, cannot be read or written, or is of a newer
    /// version.
    pub fn open(
        directory: &Path,
        settings: &StoreSettings,
        hot_bytes: u64,
    ) -> Result<(Arc<Self>, Recovered), StorageError> {
        let path = directory.display().to_string();
        let failed = |cause| StorageError::Directory {
            path: path.clone(),
            cause,
        };
        let files = Arc::new(Disk::open(directory).map_err(failed)?);
        let (metadata, definitions) =
            definitions_file(&*files)
                .and_then(Metadata::open)
                .map_err(|cause| StorageError::Definitions {
                    path: path.clone(),
                    cause,
                })?;
        let ids: Vec<QueueId> = definitions
            .vhosts
            .iter()
            .flat_map(VhostDefinitions::store_ids)
            .collect();
        let waiters = Arc::new(Waiters::default());
        let observed = Arc::clone(&waiters);
        let opened = Store::open(files, settings, &ids, Box::new(move || observed.wake()));
        let Opened {
            store,
            queues,
            report,
        } = opened.map_err(|cause| StorageError::Messages { path, cause })?;
        let storage = Arc::new(Self {
            clock: Clock::start(),
            metadata,
            store,
            waiters,
            gates: Mutex::default(),
            any_gates: AtomicBool::new(false),
            deleted: Mutex::default(),
            hot_bytes,
            resident_bytes: AtomicU64::new(0),
            handed_out: AtomicU64::new(0),
            writing_bytes: AtomicU64::new(0),
        });
        let observer = Arc::downgrade(&storage);
        storage.metadata.subscribe(move || {
            if let Some(storage) = observer.upgrade() {
                storage.forget_deleted();
                storage.waiters.wake();
            }
        });
        let queues = queues
            .into_iter()
            .map(|queue| (queue.queue, queue))
            .collect();
        let recovered = Recovered {
            definitions,
            queues,
            report,
        };
        Ok((storage, recovered))
    }

    /// The node's clock, which began when this was opened.
    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// The definitions.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Why nothing is stored any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let store = self.store.failure().map(str::to_owned);
        store.or_else(|| self.metadata.failed())
    }

    /// Writes down all that waits and ends.
    pub fn close(&self) {
        self.metadata.close();
        self.store.close();
    }

    /// Ends as if the process had been killed: what is not written is lost.
    #[cfg(test)]
    pub(super) fn abandon(&self) {
        self.store.abandon();
        self.metadata.close();
    }

    /// A durable queue is new.
    pub(super) fn register(&self, queue: QueueId) {
        self.store.register(queue);
    }

    /// A queue is gone, and the catalog has said so. The messages of a durable
    /// one go once that is durable: until then a crash would bring it back.
    pub(super) fn forget(&self, queue: QueueId, durable: bool) {
        if !durable {
            self.store.forget(queue, false);
            return;
        }
        let definitions = self.metadata.submitted();
        self.deleted.lock().push_back(Deleted {
            queue,
            definitions,
            is_empty: false,
        });
        self.forget_deleted();
    }

    /// Called whenever something was deleted or the definitions have come further
    /// or found no room.
    fn forget_deleted(&self) {
        let mut deleted = self.deleted.lock();
        let durable = self.metadata.durable();
        while let Some(front) = deleted.front()
            && front.definitions <= durable
        {
            self.store.forget(front.queue, true);
            deleted.pop_front();
        }
        if !deleted.is_empty() && matches!(self.metadata.health(), Health::Stalled(_)) {
            // Deletions wait for room, and their messages may be what takes it.
            for one in deleted.iter_mut().filter(|one| !one.is_empty) {
                self.store.empty(one.queue);
                one.is_empty = true;
            }
        }
    }

    /// Appends messages and settlements to the log as one record.
    pub(super) fn append(&self, record: &NewRecord<'_>) -> Ticket {
        self.gated(self.store.append_record(record))
    }

    /// The same, for a connection that calls [`Durability::commit`] once its read
    /// is worked through.
    pub(super) fn append_read(&self, record: &NewRecord<'_>) -> Ticket {
        // More than one is no client that waits for each.
        if record.messages.len() != 1 {
            return self.append(record);
        }
        self.gated(self.store.append_to_commit(record))
    }

    /// Notes which definitions what was just appended builds on.
    fn gated(&self, log: Ticket) -> Ticket {
        let definitions = self.metadata.submitted();
        if self.metadata.durable() < definitions {
            let mut gates = self.gates.lock();
            gates.push_back(Gate { log, definitions });
            self.any_gates.store(true, Ordering::Release);
        }
        log
    }

    /// Names of a queue that are in no record, because the log refused it.
    pub(super) fn refused_names(&self, queue: QueueId) -> Vec<NameHash> {
        self.store.refused_names(queue)
    }

    /// Writes settlements and returns down.
    pub(super) fn settle(&self, settled: &[Settled], returned: &[Returned]) {
        self.store.settle(settled, returned);
    }

    /// A page is not needed any more.
    pub(super) fn free(&self, page: Page) {
        self.store.free(page);
    }

    /// Has a page read.
    pub(super) fn page_in(&self, page: Page, done: Box<dyn FnOnce(PageContent) + Send>) {
        self.store.page_in(page, done);
    }

    /// Reads a page at once.
    pub(super) fn read_page(&self, page: Page) -> PageContent {
        self.store.read_page(page)
    }

    /// A queue's waiting messages take more or less memory.
    pub(super) fn resident_changed(&self, before: u64, now: u64) {
        if now >= before {
            self.resident_bytes
                .fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.resident_bytes
                .fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Consumers were handed messages.
    pub(super) fn hand_out(&self, messages: usize) {
        self.handed_out
            .fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Whether waiting messages take more memory than they should.
    pub(super) fn is_over(&self) -> bool {
        let resident = self.resident_bytes.load(Ordering::Relaxed);
        let writing = self.writing_bytes.load(Ordering::Relaxed);
        resident.saturating_sub(writing) > self.hot_bytes && !self.store.paging_stalled()
    }

    /// Has messages written out that take so much memory.
    pub(super) fn page_out(&self, job: PageOutJob, memory_bytes: u64) {
        self.writing_bytes
            .fetch_add(memory_bytes, Ordering::Relaxed);
        self.store.page_out(job);
    }

    /// Messages were written out, or could not be.
    pub(super) fn paged_out(&self, memory_bytes: u64) {
        self.writing_bytes
            .fetch_sub(memory_bytes, Ordering::Relaxed);
    }
}

impl Durability for Storage {
    fn commit(&self, wait: bool) -> bool {
        self.store.commit(wait)
    }

    fn progress(&self) -> Progress {
        let mut progress = self.store.progress();
        if self.any_gates.load(Ordering::Acquire) {
            let durable = self.metadata.durable();
            let mut gates = self.gates.lock();
            while gates
                .front()
                .is_some_and(|gate| gate.definitions <= durable)
            {
                gates.pop_front();
            }
            match gates.front() {
                Some(gate) => progress.durable = progress.durable.min(Ticket(gate.log.0 - 1)),
                None => self.any_gates.store(false, Ordering::Release),
            }
        }
        progress.stopped |= self.metadata.failed().is_some();
        progress
    }

    fn definitions_ticket(&self) -> Ticket {
        self.metadata.submitted()
    }

    fn definitions_verdict(&self, ticket: Ticket) -> Verdict {
        match self.metadata.verdict(ticket) {
            metadata::Verdict::Pending => Verdict::Pending,
            metadata::Verdict::Durable => Verdict::Stored,
            metadata::Verdict::Failed => Verdict::Failed,
        }
    }

    fn is_behind(&self) -> bool {
        self.store.is_behind() || self.writing_bytes.load(Ordering::Relaxed) > WRITING_BYTES_MAX
    }

    fn memory_is_short(&self) -> bool {
        // Less than from which on they are written out: where consumers keep up
        // with a publisher that waits for them a little, nothing need be.
        let resident = self.resident_bytes.load(Ordering::Relaxed);
        resident > self.hot_bytes / 4 * 3
    }

    fn handed_out(&self) -> u64 {
        self.handed_out.load(Ordering::Relaxed)
    }

    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Octets being written out from which on publishers are held up.
const WRITING_BYTES_MAX: u64 = 32 * 1024 * 1024;
