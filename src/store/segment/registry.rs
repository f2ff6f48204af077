//! Which segment files there are, and open handles for a few of them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::model::{Page, QueueId, Sequence};
use crate::store::files::{Files, StoreFile};
use crate::store::ranges::RangeSet;

use super::page::{PAGE_HEADER_BYTES, PageContent, PageHeader, read_page};

/// The segment files, by number.
#[derive(Debug)]
pub(in crate::store) struct Registry {
    files: Arc<dyn Files>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<u64, Known>,
    /// Files with open handles, oldest first.
    open: VecDeque<u64>,
    /// Places that were settled, or not persistent, when the store was opened:
    /// a page written before still has them.
    gone: HashMap<QueueId, Arc<RangeSet>>,
    /// Where pages are that were written again, by what their queues call them.
    moved: HashMap<PageName, Page>,
    /// Names of pages that are in a file now, by its number.
    moved_into: HashMap<u64, Vec<PageName>>,
}

/// A page's file, and where in it.
type PageName = (u64, u64);

fn name_of(page: Page) -> PageName {
    (page.file, page.offset)
}

#[derive(Clone, Debug)]
struct Known {
    queue: QueueId,
    scratch: bool,
    handle: Option<Arc<dyn StoreFile>>,
}

/// A segment file's name.
pub(in crate::store) fn segment_name(queue: QueueId, file: u64) -> String {
    format!("queue-{:016x}-{file:016x}.seg", queue.0)
}

/// The name of a segment file that does not survive.
pub(in crate::store) fn scratch_name(queue: QueueId, file: u64) -> String {
    format!("scratch-{:016x}-{file:016x}.seg", queue.0)
}

/// A segment file's name, taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct SegmentNumber {
    pub(in crate::store) queue: QueueId,
    pub(in crate::store) file: u64,
    /// It does not survive.
    pub(in crate::store) scratch: bool,
}

/// What a segment file's name says; `None` if it is none.
pub(in crate::store) fn segment_number(name: &str) -> Option<SegmentNumber> {
    let (kind, numbers) = name.strip_suffix(".seg")?.split_once('-')?;
    let scratch = match kind {
        "queue" => false,
        "scratch" => true,
        _ => return None,
    };
    let (queue, file) = numbers.split_once('-')?;
    Some(SegmentNumber {
        queue: QueueId(u64::from_str_radix(queue, 16).ok()?),
        file: u64::from_str_radix(file, 16).ok()?,
        scratch,
    })
}

impl Registry {
    pub(in crate::store) fn new(files: Arc<dyn Files>) -> Self {
        Self {
            files,
            state: Mutex::default(),
        }
    }

    pub(in crate::store) fn add(
        &self,
        queue: QueueId,
        file: u64,
        scratch: bool,
        handle: Option<Arc<dyn StoreFile>>,
    ) {
        let mut state = self.state.lock();
        if handle.is_some() {
            state.opened(file);
        }
        let known = Known {
            queue,
            scratch,
            handle,
        };
        state.known.insert(file, known);
    }

    /// Pages of a queue that were written in a former life hold places that are
    /// not there any more.
    pub(in crate::store) fn set_gone(&self, queue: QueueId, gone: RangeSet) {
        self.state.lock().gone.insert(queue, Arc::new(gone));
    }

    /// Removes a file; `false` if it is not known.
    pub(in crate::store) fn remove(&self, file: u64) -> io::Result<bool> {
        let mut state = self.state.lock();
        let Some(known) = state.known.remove(&file) else {
            return Ok(false);
        };
        for name in state.moved_into.remove(&file).unwrap_or_default() {
            state.moved.remove(&name);
        }
        drop(state);
        self.files.remove(&known.name(file))?;
        Ok(true)
    }

    /// Pages were written again: whoever asks for one of them gets what is there
    /// now.
    pub(in crate::store) fn redirect(&self, moves: &[(Page, Page)]) {
        let mut state = self.state.lock();
        let state = &mut *state;
        // Those that had been moved into that file before have come on with it.
        let files: HashSet<u64> = moves.iter().map(|(from, _)| from.file).collect();
        let before = files
            .iter()
            .filter_map(|file| state.moved_into.remove(file));
        let before: Vec<PageName> = before.flatten().collect();
        let to: HashMap<PageName, Page> = moves
            .iter()
            .map(|(from, to)| (name_of(*from), *to))
            .collect();
        for name in before {
            if let Some(now) = state.moved.get_mut(&name) {
                *now = to.get(&name_of(*now)).copied().unwrap_or(*now);
                state.moved_into.entry(now.file).or_default().push(name);
            }
        }
        for (name, to) in to {
            state.moved.insert(name, to);
            state.moved_into.entry(to.file).or_default().push(name);
        }
    }

    /// Whether a page was written again.
    pub(in crate::store) fn is_moved(&self, page: Page) -> bool {
        self.state.lock().moved.contains_key(&name_of(page))
    }

    /// The numbers of a queue's files.
    pub(in crate::store) fn of_queue(&self, queue: QueueId) -> Vec<u64> {
        let state = self.state.lock();
        let of_queue = state.known.iter().filter(|(_, known)| known.queue == queue);
        of_queue.map(|(file, _)| *file).collect()
    }

    pub(in crate::store) fn forget_gone(&self, queue: QueueId) {
        self.state.lock().gone.remove(&queue);
    }

    /// Whether a page's file is of the kind that is gone at the next start.
    pub(in crate::store) fn is_scratch(&self, file: u64) -> bool {
        let state = self.state.lock();
        state.known.get(&file).is_some_and(|known| known.scratch)
    }

    /// Reads a page. What is damaged in it is left out and kept aside.
    ///
    /// # Errors
    /// If the file cannot be read or is not known, or the page's own header is
    /// damaged.
    pub(in crate::store) fn read(&self, page: Page) -> io::Result<PageContent> {
        let asked_for = page;
        let (page, handle, queue, gone) = self.find(page)?;
        let mut octets = vec![0; page.bytes as usize];
        let count = handle.read_at(&mut octets, page.offset)?;
        octets.truncate(count);
        let header = PageHeader::decode(&octets)
            .filter(|header| header.queue == queue && header.file == page.file)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its header is damaged"));
        let header = match header {
            Ok(header) => header,
            Err(error) => {
                self.keep_aside(page, &octets);
                return Err(error);
            }
        };
        let payload = octets
            .get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + header.payload_bytes as usize)
            .unwrap_or_else(|| octets.get(PAGE_HEADER_BYTES..).unwrap_or_default());
        // What was not persistent did not survive, like what was settled.
        let is_gone = |place| gone.as_ref().is_some_and(|gone| gone.contains(place));
        let mut content = read_page(&header, payload, |place, _| !is_gone(place));
        let had_damaged = !content.damaged.is_empty();
        content.damaged.retain(|place| !is_gone(*place));
        if page != asked_for {
            // It may begin with another place than the page that was asked for.
            let consecutive = (header.first.0..).map(Sequence);
            let count = content.messages.len();
            content
                .places
                .get_or_insert_with(|| consecutive.take(count).collect());
        }
        // Settled ones alone are no loss.
        if !content.is_whole && (!had_damaged || !content.damaged.is_empty()) {
            self.keep_aside(page, &octets);
        }
        Ok(content)
    }

    /// A file to read from.
    ///
    /// # Errors
    /// If it is not known or cannot be opened.
    pub(in crate::store) fn open(&self, file: u64) -> io::Result<Arc<dyn StoreFile>> {
        let mut state = self.state.lock();
        let known = state.known(file)?;
        self.handle(&mut state, file, &known)
    }

    /// Copies a damaged page into a file of its own, for whoever may want to
    /// look at it.
    fn keep_aside(&self, page: Page, octets: &[u8]) {
        let name = format!("damaged-{:016x}-{:x}", page.file, page.offset);
        let kept = self
            .files
            .create(&name)
            .and_then(|file| file.write_at(octets, 0));
        match kept {
            Ok(()) => tracing::error!(
                file = page.file,
                offset = page.offset,
                name,
                "damaged messages in a segment; the page is kept aside"
            ),
            Err(error) => {
                tracing::error!(file = page.file, offset = page.offset, %error, "damaged messages in a segment; the page cannot be kept aside")
            }
        }
    }

    /// Where a page is now. All of it is looked up at once: the file may be
    /// gone the next moment, but can be read for as long as it is open.
    #[allow(clippy::type_complexity, reason = "four things of one look-up")]
    fn find(
        &self,
        page: Page,
    ) -> io::Result<(Page, Arc<dyn StoreFile>, QueueId, Option<Arc<RangeSet>>)> {
        let mut state = self.state.lock();
        let page = state.moved.get(&name_of(page)).copied().unwrap_or(page);
        let known = state.known(page.file)?;
        let gone = state.gone.get(&known.queue).cloned();
        let handle = self.handle(&mut state, page.file, &known)?;
        Ok((page, handle, known.queue, gone))
    }

    fn handle(
        &self,
        state: &mut State,
        file: u64,
        known: &Known,
    ) -> io::Result<Arc<dyn StoreFile>> {
        if let Some(handle) = &known.handle {
            return Ok(Arc::clone(handle));
        }
        let handle = self.files.open(&known.name(file))?;
        if let Some(known) = state.known.get_mut(&file) {
            known.handle = Some(Arc::clone(&handle));
        }
        state.opened(file);
        Ok(handle)
    }
}

impl State {
    fn known(&self, file: u64) -> io::Result<Known> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such segment");
        self.known.get(&file).cloned().ok_or_else(missing)
    }

    fn opened(&mut self, file: u64) {
        self.open.push_back(file);
        while self.open.len() > HANDLES_MAX {
            if let Some(oldest) = self.open.pop_front()
                && let Some(known) = self.known.get_mut(&oldest)
            {
                known.handle = None;
            }
        }
    }
}

impl Known {
    fn name(&self, file: u64) -> String {
        if self.scratch {
            scratch_name(self.queue, file)
        } else {
            segment_name(self.queue, file)
        }
    }
}

/// Segment files that are kept open.
const HANDLES_MAX: usize = 128;
