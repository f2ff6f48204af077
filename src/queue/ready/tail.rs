//! The newest messages of the log, in runs that may be written to pages.
//!
//! ```text
//! run (closed, being written) ─ run (closed) ─ run (open: it takes what comes)
//! ```
//!
//! A run is closed by what it holds, by another one behind it, or while it is
//! being written.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ahead::PagedRun;
use super::run::{Run, Size};
use crate::model::{Message, Page, Sequence};
use crate::queue::PageOut;

/// The runs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    runs: VecDeque<TailRun>,
    count: u64,
    memory_bytes: u64,
}

/// What becomes of a run that was written.
#[derive(Debug)]
pub(super) enum Written {
    /// The oldest one, which leaves for its page.
    Paged(PagedRun),
    /// It stays in memory: it was not written, or one before it was not.
    Kept,
    /// It is not here any more.
    Gone,
}

#[derive(Debug, Default)]
struct TailRun {
    /// Shared with whoever writes it.
    run: Arc<Run>,
    stored_bytes: u64,
    /// Its name while it is being written: its first place when that began.
    writing: Option<Sequence>,
    /// Messages left it since then, so that its page is not to be kept.
    spoilt: bool,
}

impl Tail {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.runs.iter().map(|run| run.run.capacity()).sum()
    }

    /// Octets of the bodies, counted.
    pub(super) fn body_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.run.body_bytes()).sum()
    }

    /// The oldest message.
    pub(super) fn head(&self) -> Option<&Message> {
        self.runs.front()?.run.peek()
    }

    /// Place of the oldest message.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.runs.front().map(|run| run.run.first())
    }

    /// Appends consecutive messages, leaving the vec empty; `size` is what they
    /// come to. Runs are closed at `run_bytes`; what comes at once is divided
    /// only if it is more than that.
    pub(super) fn append(
        &mut self,
        place: Sequence,
        messages: &mut Vec<Message>,
        size: Size,
        run_bytes: u64,
    ) {
        if let Some(open) = self.runs.back_mut()
            && open.writing.is_none()
            && open.run.memory_bytes() < run_bytes
            && size.memory_bytes <= run_bytes
        {
            self.count += messages.len() as u64;
            self.memory_bytes += size.memory_bytes;
            open.stored_bytes += size.stored_bytes;
            open.own().append(place, messages, size.memory_bytes);
            return;
        }
        if messages.is_empty() {
            return;
        }
        if size.memory_bytes <= run_bytes {
            self.count += messages.len() as u64;
            self.memory_bytes += size.memory_bytes;
            let mut run = TailRun {
                stored_bytes: size.stored_bytes,
                ..TailRun::default()
            };
            run.own().append(place, messages, size.memory_bytes);
            self.runs.push_back(run);
            return;
        }
        let places = (place.0..).map(Sequence);
        for (place, message) in places.zip(messages.drain(..)) {
            self.push(place, message, run_bytes);
        }
    }

    /// Appends a message, with or without a gap before it.
    pub(super) fn push(&mut self, place: Sequence, message: Message, run_bytes: u64) {
        if self
            .runs
            .back()
            .is_none_or(|last| last.is_closed(run_bytes))
        {
            self.runs.push_back(TailRun::default());
        }
        if let Some(open) = self.runs.back_mut() {
            self.count += 1;
            self.memory_bytes += message.memory_bytes() as u64;
            open.stored_bytes += message.stored_bytes() as u64;
            open.own().push(place, message);
        }
    }

    /// Takes out the oldest run.
    pub(super) fn take_front(&mut self) -> Option<Run> {
        let TailRun { run, .. } = self.runs.pop_front()?;
        self.count -= run.len();
        self.memory_bytes -= run.memory_bytes();
        self.shrink();
        // Copied only if it is being written at this moment.
        Some(Arc::unwrap_or_clone(run))
    }

    /// Takes out the oldest run if it is closed.
    pub(super) fn take_closed(&mut self, run_bytes: u64) -> Option<Run> {
        let oldest = self.runs.front()?;
        if self.runs.len() == 1 && !oldest.is_closed(run_bytes) {
            return None;
        }
        self.take_front()
    }

    /// The oldest run that is not being written; the open one only if `partial`.
    pub(super) fn page_out(&mut self, partial: bool, run_bytes: u64) -> Option<PageOut> {
        let index = self.runs.iter().position(|run| run.writing.is_none())?;
        let last = index + 1 == self.runs.len();
        let run = self.runs.get_mut(index)?;
        if last && !partial && !run.is_closed(run_bytes) {
            return None;
        }
        run.writing = Some(run.run.first());
        Some(PageOut::new(Arc::clone(&run.run)))
    }

    /// Ends the writing of a run. Only the oldest one may leave, because what
    /// is paged is older than the tail; another one can be tried again.
    pub(super) fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> Written {
        let mut runs = self.runs.iter_mut().enumerate();
        let Some((index, run)) = runs.find(|(_, run)| run.writing == Some(first)) else {
            return Written::Gone;
        };
        run.writing = None;
        let spoilt = std::mem::take(&mut run.spoilt);
        let (stored_bytes, count) = (run.stored_bytes, run.run.len());
        let (0, Some(page), false) = (index, page, spoilt) else {
            return Written::Kept;
        };
        let Some(paged) = PagedRun::new(first, count, stored_bytes, page) else {
            return Written::Kept;
        };
        if let Some(written) = self.runs.pop_front() {
            self.count -= count;
            self.memory_bytes -= written.run.memory_bytes();
            self.shrink();
        }
        Written::Paged(paged)
    }

    /// The run of that name, which is being written.
    pub(super) fn run(&self, first: Sequence) -> Option<&Run> {
        let run = self.runs.iter().find(|run| run.writing == Some(first))?;
        Some(&run.run)
    }

    /// Takes out the message in that place.
    pub(super) fn remove(&mut self, place: Sequence) -> Option<Message> {
        let behind = self.runs.partition_point(|run| run.run.first() <= place);
        let index = behind.checked_sub(1)?;
        let run = self.runs.get_mut(index)?;
        let message = run.own().remove(place)?;
        run.spoilt = run.writing.is_some();
        run.stored_bytes -= message.stored_bytes() as u64;
        self.count -= 1;
        self.memory_bytes -= message.memory_bytes() as u64;
        if run.run.is_empty() {
            self.runs.remove(index);
        }
        Some(message)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn shrink(&mut self) {
        if self.runs.len() < self.runs.capacity() / 8 {
            self.runs.shrink_to(self.runs.len() * 4);
        }
    }
}

impl TailRun {
    /// To be changed: nobody else has it, unless its writer has not let go yet.
    fn own(&mut self) -> &mut Run {
        Arc::make_mut(&mut self.run)
    }

    fn is_closed(&self, run_bytes: u64) -> bool {
        self.writing.is_some() || self.run.memory_bytes() >= run_bytes
    }
}
