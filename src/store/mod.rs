//! What survives: the write-ahead log, segments, recovery, metadata.
//!
//! It knows queues by their [`QueueId`] and messages by their [`Sequence`](crate::model::Sequence), and
//! nothing of exchanges, consumers or channels. `docs/storage.md` describes
//! every octet on disk.
//!
//! ```text
//! append, settle ─▶ pending ─▶ log thread ── one write, one sync ──▶ confirms
//!                                 │ ledger: what is settled, what is paged
//!                                 ▼
//!                         old files given back or carried on
//! page_out ───────▶ pager thread ── segments, scratch files
//! page_in  ───────▶ reader threads
//! ```
//!
//! A message of a durable queue is in the log, in a segment, or in both; a file
//! of the log goes once all in it is settled, durably in a segment, or written
//! again at the end of the log.

mod database;
mod error;
mod files;
mod inspect;
mod ledger;
mod log;
pub mod metadata;
mod names;
mod octets;
mod ranges;
mod recovery;
mod segment;
mod settings;
mod shared;
mod sparse;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::model::{Message, NameHash, Page, Progress, QueueId, Ticket};

pub use database::{DEFINITIONS_NAME, definitions_file};
pub use error::StoreError;
pub use files::{Disk, Files, StoreFile};
pub use inspect::{
    DamageSummary, DefinitionsSummary, FileKind, FileSummary, InspectError, Inspection, LogSummary,
    PlaceRange, QueueSummary, Repaired, RepairedQueue, SegmentSummary, inspect, repair,
};
pub use log::{Damage, DamageKind, Names, NewRecord, Returned, Run, Settled};
pub use recovery::{RecoveredContent, RecoveredQueue, RecoveredRun, Report};
pub use segment::{PageContent, PageOutJob, PageSource};
pub use settings::StoreSettings;
pub use shared::Observer;

use log::{LogSettings, LogWriter, SpareFiles};
use segment::{Job, Pager, Registry, syncing};
use shared::{Control, Shared, Stop, Watch};

/// The store of one data directory. Its threads end with [`Store::close`].
pub struct Store {
    shared: Arc<Shared>,
    /// Held by whoever writes the log.
    writer: Arc<Mutex<LogWriter>>,
    /// Reads of all connections so far, and how many they were at the last
    /// commit that somebody asked for.
    reads: AtomicU64,
    reads_at_commit: AtomicU64,
    registry: Arc<Registry>,
    pager: Sender<Job>,
    readers: Mutex<Option<Sender<Read>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A page to be read.
struct Read {
    page: Page,
    done: Box<dyn FnOnce(PageContent) + Send>,
}

/// An open store with what was in it.
#[derive(Debug)]
pub struct Opened {
    /// The store, ready to be used.
    pub store: Store,
    /// What each queue had, for those that were asked for.
    pub queues: Vec<RecoveredQueue>,
    /// What recovery met.
    pub report: Report,
}

impl Store {
    /// Opens the store and recovers what is in it. `queues` are the durable
    /// queues that exist: what belongs to others is removed.
    ///
    /// `observer` is called whenever [`Store::progress`] has moved.
    ///
    /// # Errors
    /// If files cannot be read or written, or are of a newer version.
    pub fn open(
        files: Arc<dyn Files>,
        settings: &StoreSettings,
        queues: &[QueueId],
        observer: Observer,
    ) -> Result<Opened, StoreError> {
        let shared = Shared::new(observer);
        let registry = Arc::new(Registry::new(Arc::clone(&files)));
        let recovery = recovery::recover(&files, &registry, queues)?;
        let capacity = files
            .capacity_bytes()
            .map_err(StoreError::io("the file system"))?;
        let (file_bytes, log_bytes) = settings.log_sizes(capacity);
        let spares = Arc::new(SpareFiles::new(file_bytes));
        adopt_spares(&*files, &spares)?;
        let (pager, jobs) = mpsc::channel();
        let mut writer = LogWriter::new(
            Arc::clone(&shared),
            Arc::clone(&files),
            Arc::clone(&spares),
            pager.clone(),
            LogSettings {
                fsync: settings.fsync,
                log_bytes,
                segment_bytes: settings.segment_bytes,
            },
            recovery.ledger,
            recovery.older,
            recovery.last_number,
            recovery.last_index,
        );
        writer.start().map_err(StoreError::io("the log"))?;
        let writer = Arc::new(Mutex::new(writer));
        let log = {
            let (writer, shared) = (Arc::clone(&writer), Arc::clone(&shared));
            move || write_log(&writer, &shared)
        };
        let (syncer, sync_thread) = syncing(Arc::clone(&files), Arc::clone(&shared));
        let paging = Pager::new(
            files,
            Arc::clone(&shared),
            Arc::clone(&registry),
            spares,
            syncer,
            settings.segment_bytes,
            recovery.next_segment,
        );
        let (readers, reads) = mpsc::channel();
        let mut threads = vec![
            spawn("log", watched(&shared, log))?,
            spawn("pager", watched(&shared, move || paging.run(&jobs)))?,
            // Ends with the pager.
            spawn("sync", watched(&shared, move || sync_thread.run()))?,
        ];
        let reads = Arc::new(Mutex::new(reads));
        for _ in 0..READERS {
            let (reads, registry) = (Arc::clone(&reads), Arc::clone(&registry));
            threads.push(spawn("reader", move || read_pages(&reads, &registry))?);
        }
        let store = Self {
            shared,
            writer,
            reads: AtomicU64::new(0),
            reads_at_commit: AtomicU64::new(0),
            registry,
            pager,
            readers: Mutex::new(Some(readers)),
            threads: Mutex::new(threads),
        };
        Ok(Opened {
            store,
            queues: recovery.queues,
            report: recovery.report,
        })
    }

    /// A durable queue is there from now on: what is appended for it is kept.
    pub fn register(&self, queue: QueueId) {
        self.shared.control(Control::Register(queue));
    }

    /// What another directory knows of a queue. It is durable once the store
    /// was closed.
    pub(in crate::store) fn restore(&self, state: log::QueueState) {
        self.shared.control(Control::Restore(state));
    }

    /// A queue is gone, with all that is stored of it.
    pub fn forget(&self, queue: QueueId, durable: bool) {
        if durable {
            self.shared.control(Control::Forget(queue));
        } else {
            let _ = self.pager.send(Job::Forget(queue));
        }
    }

    /// All messages of a durable queue that are there are settled. For one that
    /// nobody appends to any more.
    pub fn empty(&self, queue: QueueId) {
        self.shared.control(Control::Empty(queue));
    }

    /// Appends messages with the places that they went to, and settlements that
    /// count with them or not at all, as one record. Durable once
    /// [`Store::progress`] has reached the ticket.
    pub fn append(&self, settled: &[Settled], runs: &[Run], messages: &[Message]) -> Ticket {
        self.append_record(&NewRecord {
            settled,
            runs,
            messages,
            ..NewRecord::default()
        })
    }

    /// The same of a record that has names too.
    pub fn append_record(&self, record: &NewRecord<'_>) -> Ticket {
        self.shared.append(record, true)
    }

    /// Names of a queue whose records were refused since this was asked last:
    /// shown before the refusal is.
    #[must_use]
    pub fn refused_names(&self, queue: QueueId) -> Vec<NameHash> {
        self.shared.refused_names.take(queue)
    }

    /// The same, for somebody who calls [`Store::commit`] soon. Until then it is
    /// written only if something else is.
    pub fn append_to_commit(&self, record: &NewRecord<'_>) -> Ticket {
        self.shared.append(record, false)
    }

    /// Has written what [`Store::append_to_commit`] appended. With `wait`, the
    /// caller writes and syncs it himself, if it is alone and the disk is quick:
    /// to wake another thread and to be woken by it takes nearly as long as that.
    /// Whether he did.
    ///
    /// To be called after every read, so that it is known how many there are:
    /// where there is other work, none of its threads waits for the disk.
    pub fn commit(&self, wait: bool) -> bool {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        if !self.shared.take_unannounced() {
            return false;
        }
        let before = self.reads_at_commit.swap(reads, Ordering::Relaxed);
        let is_quiet = reads.saturating_sub(before) <= QUIET_READS;
        if wait
            && is_quiet
            && let Some(mut writer) = self.writer.try_lock()
        {
            let _watch = Watch(Arc::clone(&self.shared));
            if writer.commit_one() {
                return true;
            }
        }
        self.shared.announce();
        false
    }

    /// Writes settlements and returns down, within a few milliseconds.
    pub fn settle(&self, settled: &[Settled], returned: &[Returned]) {
        self.shared.settle(settled, returned);
    }

    /// Writes consecutive messages of a queue into a page.
    pub fn page_out(&self, job: PageOutJob) {
        // What the log does not have yet must not survive in a page alone: it
        // may be part of a transaction.
        let after = match job.durable {
            true => self.shared.last_ticket(),
            false => Ticket(0),
        };
        let job = Job::PageOut { job, after };
        if let Err(mpsc::SendError(Job::PageOut { job, .. })) = self.pager.send(job) {
            (job.done)(None);
        }
    }

    /// Whether pages are not to be written for now: the last try failed.
    #[must_use]
    pub fn paging_stalled(&self) -> bool {
        self.shared.paging_stalled.load(Ordering::Acquire)
    }

    /// Reads a page on another thread, which calls `done`. What cannot be read
    /// is missing in what comes.
    pub fn page_in(&self, page: Page, done: Box<dyn FnOnce(PageContent) + Send>) {
        let mut read = Read { page, done };
        if let Some(readers) = &*self.readers.lock() {
            match readers.send(read) {
                Ok(()) => return,
                Err(mpsc::SendError(unread)) => read = unread,
            }
        }
        // Nobody waits for it any more: the store is closed.
        drop(read);
    }

    /// Reads a page at once.
    #[must_use]
    pub fn read_page(&self, page: Page) -> PageContent {
        read_page(&self.registry, page)
    }

    /// A page is not needed any more, although its messages may not be settled:
    /// they are in memory, or their queue is not durable.
    pub fn free(&self, page: Page) {
        if self.registry.is_scratch(page.file) {
            let _ = self.pager.send(Job::Free(page));
        }
    }

    /// How far the log is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// Whether more waits to be written than is good.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.shared.pending_bytes() > BEHIND_BYTES
    }

    /// Why the store is dead, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure()
    }

    /// Writes all that waits and ends cleanly. What comes after is lost.
    pub fn close(&self) {
        self.stop(Stop::Clean);
    }

    /// Ends as if the process had been killed, but for the threads.
    #[cfg(test)]
    pub(crate) fn abandon(&self) {
        self.stop(Stop::Abrupt);
    }

    fn stop(&self, stop: Stop) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        // Pages first: the last checkpoint says which are durable.
        let _ = self.pager.send(Job::Stop);
        let mut threads = threads.into_iter();
        let log = threads.next();
        let pager = threads.next();
        join(pager);
        self.shared.stop(stop);
        join(log);
        self.readers.lock().take();
        threads.for_each(|reader| join(Some(reader)));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

fn write_log(writer: &Mutex<LogWriter>, shared: &Shared) {
    loop {
        let deadline = writer.lock().deadline();
        shared.wait_for_work(deadline);
        if !writer.lock().work() {
            return;
        }
    }
}

/// Work of a thread that the store is dead without.
fn watched<W: FnOnce() + Send>(shared: &Arc<Shared>, work: W) -> impl FnOnce() + Send + use<W> {
    let watch = Watch(Arc::clone(shared));
    move || {
        let _watch = watch;
        work();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new()
        .name(format!("leveret-{name}"))
        .spawn(work)
        .map_err(StoreError::io("a thread"))
}

fn join(thread: Option<JoinHandle<()>>) {
    // The last owner may be one of these threads, which cannot wait for itself.
    if let Some(thread) = thread
        && thread.thread().id() != thread::current().id()
        && thread.join().is_err()
    {
        tracing::error!("a thread of the store has panicked");
    }
}

fn read_pages(reads: &Mutex<Receiver<Read>>, registry: &Registry) {
    loop {
        let read = reads.lock().recv();
        let Ok(Read { page, done }) = read else {
            return;
        };
        done(read_page(registry, page));
    }
}

fn read_page(registry: &Registry, page: Page) -> PageContent {
    registry.read(page).unwrap_or_else(|error: io::Error| {
        let Page { file, offset, .. } = page;
        tracing::error!(file, offset, %error, "cannot read a page: its messages are lost");
        PageContent {
            places: Some(Vec::new()),
            ..PageContent::default()
        }
    })
}

/// Takes up files that an earlier run had prepared, and removes those that it
/// was preparing.
fn adopt_spares(files: &dyn Files, spares: &SpareFiles) -> Result<(), StoreError> {
    let names = files.names().map_err(StoreError::io("its directory"))?;
    for name in names {
        log::remove_unfinished(files, &name).map_err(StoreError::io(&name))?;
        if !log::is_spare(&name) {
            continue;
        }
        let handle = files.open(&name).map_err(StoreError::io(&name))?;
        let length = handle.len().map_err(StoreError::io(&name))?;
        if let Some(extra) = spares.adopt(name, handle, length) {
            let name = extra.name;
            files.remove(&name).map_err(StoreError::io(&name))?;
        }
    }
    Ok(())
}

/// Reads between two commits up to which a connection's thread waits for the
/// disk itself: its own, and those of a consumer that acknowledges.
const QUIET_READS: u64 = 8;
/// Threads that read pages.
const READERS: usize = 2;
/// Octets that may wait for the log before those who add to it are held up.
const BEHIND_BYTES: u64 = 8 * 1024 * 1024;
