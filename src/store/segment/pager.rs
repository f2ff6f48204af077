//! The thread that writes pages, has them made durable and removes files, so that
//! neither queues nor group commits wait for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::model::{Message, Page, PageTag, QueueId, Sequence, SequenceRange, Ticket};
use crate::store::files::{self, Files, StoreFile};
use crate::store::log::{self, SpareFiles};
use crate::store::shared::Shared;

use super::page::{SEGMENT_HEADER_BYTES, encode_page, segment_header};
use super::registry::{Registry, scratch_name, segment_name};
use super::syncing::{Dirty, Round, Syncer};

/// Messages to be written, in the order of their places, which the pager goes
/// through on its own thread.
pub trait PageSource: Send {
    /// Calls `take` with each of them.
    fn each(&self, take: &mut dyn FnMut(Sequence, &Message));
}

/// Messages of a queue to be written.
pub struct PageOutJob {
    /// Whose they are.
    pub queue: QueueId,
    /// Whether they are to survive a restart.
    pub durable: bool,
    /// The place of the first.
    pub first: Sequence,
    /// Kept with the page.
    pub tag: PageTag,
    /// Themselves.
    pub messages: Box<dyn PageSource>,
    /// Called with the page once it is written, or with nothing if it could not
    /// be: then the messages stay where they are.
    pub done: Box<dyn FnOnce(Option<Page>) + Send>,
}

/// Something for the thread to do.
pub(in crate::store) enum Job {
    PageOut {
        job: PageOutJob,
        /// To be written once the log has decided so far.
        after: Ticket,
    },
    /// A page of a scratch file is not needed any more.
    Free(Page),
    /// All that the log knows to be in a file is settled: so many pages.
    Remove {
        queue: QueueId,
        file: u64,
        pages: u64,
    },
    /// Little is left of a file, as far as the log knows its pages: the messages
    /// in these places of so many pages.
    Move {
        queue: QueueId,
        file: u64,
        places: Vec<SequenceRange>,
        pages: u64,
    },
    /// A queue was deleted.
    Forget(QueueId),
    /// The log wants a prepared file.
    Prepare,
    Stop,
}

/// What the log is to know of segments.
#[derive(Debug)]
pub(in crate::store) enum SegmentEvent {
    Written {
        queue: QueueId,
        file: u64,
        places: Vec<SequenceRange>,
        bytes: u64,
    },
    Synced {
        queue: QueueId,
        file: u64,
        durable_bytes: u64,
        places: Vec<SequenceRange>,
    },
    Removed {
        queue: QueueId,
        file: u64,
    },
    /// What is left of it could not be written elsewhere.
    NotMoved {
        queue: QueueId,
        file: u64,
        again: bool,
    },
}

/// A row of files in which pages are written. What was moved out of older files
/// is likely to stay for long, so it does not go among what has just come.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Lane {
    Durable(QueueId),
    Moved(QueueId),
    Scratch(QueueId),
}

impl Lane {
    fn queue(self) -> QueueId {
        match self {
            Self::Durable(queue) | Self::Moved(queue) | Self::Scratch(queue) => queue,
        }
    }

    fn is_durable(self) -> bool {
        !matches!(self, Self::Scratch(_))
    }
}

/// The thread's state.
pub(in crate::store) struct Pager {
    files: Arc<dyn Files>,
    shared: Arc<Shared>,
    pub(super) registry: Arc<Registry>,
    spares: Arc<SpareFiles>,
    segment_bytes: u64,
    next_file: u64,
    /// The files that pages are appended to.
    open: HashMap<Lane, Open>,
    /// Pages that are still needed, by scratch file.
    scratch_pages: HashMap<u64, u32>,
    /// Pages of durable queues in each file written to since the start.
    durable_pages: HashMap<u64, u64>,
    /// Files with pages that no round of syncs has yet.
    dirty: HashMap<u64, Dirty>,
    dirty_bytes: u64,
    /// When the first of those pages was written.
    dirty_since: Option<Instant>,
    /// Whether a file was created since names were last made durable.
    names_dirty: bool,
    /// Pages are not written before then: the last try failed.
    stalled_until: Option<Instant>,
    syncer: Syncer,
    buffer: Vec<u8>,
}

struct Open {
    file: u64,
    handle: Arc<dyn StoreFile>,
    used_bytes: u64,
}

impl Pager {
    pub(in crate::store) fn new(
        files: Arc<dyn Files>,
        shared: Arc<Shared>,
        registry: Arc<Registry>,
        spares: Arc<SpareFiles>,
        syncer: Syncer,
        segment_bytes: u64,
        next_file: u64,
    ) -> Self {
        Self {
            files,
            shared,
            registry,
            spares,
            segment_bytes,
            next_file,
            open: HashMap::default(),
            scratch_pages: HashMap::default(),
            durable_pages: HashMap::default(),
            dirty: HashMap::default(),
            dirty_bytes: 0,
            dirty_since: None,
            names_dirty: false,
            stalled_until: None,
            syncer,
            buffer: Vec::new(),
        }
    }

    /// Works until it is told to stop.
    pub(in crate::store) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let wait = match self.dirty_since {
                Some(since) => (since + SYNC_AFTER).saturating_duration_since(Instant::now()),
                None => IDLE,
            };
            let job = jobs.recv_timeout(wait);
            if self
                .stalled_until
                .is_some_and(|until| until <= Instant::now())
            {
                self.stalled_until = None;
                self.shared.paging_stalled.store(false, Ordering::Release);
            }
            match job {
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let due = self
                .dirty_since
                .is_some_and(|since| since.elapsed() >= SYNC_AFTER);
            if self.dirty_bytes >= SYNC_BYTES {
                // Not more than that beside what is on its way.
                self.syncer.wait();
                self.begin_sync();
            } else if due && self.syncer.is_idle() {
                self.begin_sync();
            } else if due {
                self.dirty_since = Some(Instant::now());
            }
        }
        self.sync();
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::PageOut { job, after } => {
                // Those that were sent before the first one failed wait as well.
                if self.stalled_until.is_none() && self.shared.wait_decided(after) {
                    self.page_out(job);
                } else {
                    (job.done)(None);
                }
            }
            Job::Free(page) => self.free(page),
            Job::Remove { queue, file, pages } => {
                // Where pages came in since, it is asked for again.
                if self.has_only(file, pages) {
                    self.remove(queue, file);
                }
            }
            Job::Move {
                queue,
                file,
                places,
                pages,
            } => {
                if self.has_only(file, pages) {
                    self.move_segment(queue, file, &places);
                } else {
                    // What the log did not know of would be taken for settled.
                    let again = true;
                    self.segment_event(SegmentEvent::NotMoved { queue, file, again });
                }
            }
            Job::Forget(queue) => {
                self.open.retain(|lane, _| lane.queue() != queue);
                self.registry.forget_gone(queue);
                for file in self.registry.of_queue(queue) {
                    self.remove(queue, file);
                }
            }
            Job::Prepare => {
                if let Err(error) = log::prepare_spares(&*self.files, &self.spares) {
                    // The log would be the next to fail.
                    self.shared
                        .fail(&format!("cannot prepare a log file: {error}"));
                }
            }
            Job::Stop => {}
        }
    }

    fn page_out(&mut self, job: PageOutJob) {
        let PageOutJob {
            queue,
            durable,
            first,
            tag,
            messages,
            done,
        } = job;
        let lane = match durable {
            true => Lane::Durable(queue),
            false => Lane::Scratch(queue),
        };
        // The messages are let go of last, here and not where `done` leads.
        match self.write_page(lane, first, tag, &*messages) {
            Ok(page) => done(Some(page)),
            Err(error) => {
                self.stalled_until = Some(Instant::now() + IDLE);
                self.shared.paging_stalled.store(true, Ordering::Release);
                if files::is_full(&error) {
                    tracing::warn!(%error, "no room to write messages out; they stay in memory");
                } else {
                    tracing::error!(%error, "cannot write messages out; they stay in memory");
                }
                done(None);
            }
        }
    }

    pub(super) fn write_page(
        &mut self,
        lane: Lane,
        first: Sequence,
        tag: PageTag,
        messages: &dyn PageSource,
    ) -> io::Result<Page> {
        let queue = lane.queue();
        let open = match self.open.remove(&lane) {
            Some(open) if open.used_bytes < self.segment_bytes => open,
            _ => self.create(queue, lane.is_durable())?,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let (_, places) = encode_page(&mut buffer, queue, open.file, first, tag, messages);
        let written = open.handle.write_at(&buffer, open.used_bytes);
        let page = Page {
            file: open.file,
            offset: open.used_bytes,
            bytes: buffer.len() as u32,
        };
        if buffer.capacity() > BUFFER_KEPT_BYTES {
            buffer = Vec::new();
        }
        self.buffer = buffer;
        if let Err(error) = written {
            // A disk that is full should not be filled by failing.
            if open.used_bytes == SEGMENT_HEADER_BYTES as u64 {
                let _ = self.registry.remove(open.file);
            } else {
                let _ = open.handle.set_len(open.used_bytes);
            }
            return Err(error);
        }
        let used_bytes = open.used_bytes + u64::from(page.bytes);
        if lane.is_durable() {
            self.written(queue, &open, used_bytes, places);
        } else {
            *self.scratch_pages.entry(open.file).or_default() += 1;
        }
        if self.open.len() >= OPEN_MAX {
            // Whoever writes next begins a new file: better many small files
            // than many open ones.
            self.open.clear();
        }
        self.open.insert(lane, Open { used_bytes, ..open });
        Ok(page)
    }

    fn written(
        &mut self,
        queue: QueueId,
        open: &Open,
        used_bytes: u64,
        places: Vec<SequenceRange>,
    ) {
        *self.durable_pages.entry(open.file).or_default() += 1;
        self.dirty_since.get_or_insert_with(Instant::now);
        self.dirty_bytes += used_bytes - open.used_bytes;
        let dirty = self.dirty.entry(open.file).or_insert_with(|| Dirty {
            file: open.file,
            queue,
            handle: Arc::clone(&open.handle),
            used_bytes,
            places: Vec::new(),
        });
        dirty.used_bytes = used_bytes;
        dirty.places.extend_from_slice(&places);
        self.segment_event(SegmentEvent::Written {
            queue,
            file: open.file,
            places,
            bytes: used_bytes - open.used_bytes,
        });
    }

    /// Whether a file has no more pages than the log knew of.
    fn has_only(&self, file: u64, pages: u64) -> bool {
        let written = self.durable_pages.get(&file);
        written.is_none_or(|written| *written <= pages)
    }

    pub(super) fn segment_event(&self, event: SegmentEvent) {
        self.shared.segment_event(event);
    }

    /// Pages go into another file from now on, if they went into this one.
    pub(super) fn begin_other_file(&mut self, file: u64) {
        self.open.retain(|_, open| open.file != file);
    }

    fn create(&mut self, queue: QueueId, durable: bool) -> io::Result<Open> {
        let file = self.next_file;
        let name = if durable {
            segment_name(queue, file)
        } else {
            scratch_name(queue, file)
        };
        let handle = self.files.create(&name)?;
        self.next_file += 1;
        self.registry
            .add(queue, file, !durable, Some(Arc::clone(&handle)));
        if let Err(error) = handle.write_at(&segment_header(queue, file), 0) {
            // Leaves nothing behind that could not be written to.
            let _ = self.registry.remove(file);
            return Err(error);
        }
        self.names_dirty |= durable;
        Ok(Open {
            file,
            handle,
            used_bytes: SEGMENT_HEADER_BYTES as u64,
        })
    }

    /// Has pages made durable that are not; the log is told. No others may be on
    /// their way.
    fn begin_sync(&mut self) {
        self.dirty_since = None;
        self.dirty_bytes = 0;
        if !self.dirty.is_empty() {
            self.syncer.begin(Round {
                files: self.dirty.drain().map(|(_, dirty)| dirty).collect(),
                names: std::mem::take(&mut self.names_dirty),
            });
        }
    }

    /// Makes all pages durable; `false` if that failed, and the store with it.
    pub(super) fn sync(&mut self) -> bool {
        let before = self.syncer.wait();
        self.begin_sync();
        self.syncer.wait() && before
    }

    fn free(&mut self, page: Page) {
        let Some(pages) = self.scratch_pages.get_mut(&page.file) else {
            return;
        };
        *pages -= 1;
        if *pages > 0 {
            return;
        }
        self.scratch_pages.remove(&page.file);
        self.open.retain(|_, open| open.file != page.file);
        self.remove_file(page.file);
    }

    pub(super) fn remove(&mut self, queue: QueueId, file: u64) {
        self.scratch_pages.remove(&file);
        self.durable_pages.remove(&file);
        self.dirty.remove(&file);
        self.begin_other_file(file);
        if self.remove_file(file) {
            self.shared
                .segment_event(SegmentEvent::Removed { queue, file });
        }
    }

    fn remove_file(&self, file: u64) -> bool {
        self.registry.remove(file).unwrap_or_else(|error| {
            tracing::error!(file, %error, "cannot remove a segment");
            false
        })
    }
}

impl fmt::Debug for PageOutJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageOutJob")
            .field("queue", &self.queue)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

impl PageSource for Vec<(Sequence, Message)> {
    fn each(&self, take: &mut dyn FnMut(Sequence, &Message)) {
        self.iter()
            .for_each(|(place, message)| take(*place, message));
    }
}

/// How long pages may wait until they are durable.
const SYNC_AFTER: Duration = Duration::from_millis(if cfg!(test) { 3 } else { 500 });
/// Octets that may wait for it.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;
/// How long a failure to write keeps pages in memory.
const IDLE: Duration = Duration::from_secs(1);
/// Files that are appended to at the same time.
const OPEN_MAX: usize = 256;
/// Capacity up to which the buffer's memory is kept.
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;
