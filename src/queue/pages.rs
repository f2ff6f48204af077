//! Runs of a queue's messages that leave memory and come back.

use super::backlog::Arrival;
use super::classic::Queue;
use super::{Loaded, PageIn, PageOut};
use crate::model::{DeathReason, Now, Page, Sequence};

impl Queue {
    /// A run that can leave memory and is not being written yet; what is
    /// delivered next stays. The run that still takes messages is closed for it
    /// only if `partial`. Several may be out at a time.
    pub fn page_out(&mut self, partial: bool) -> Option<PageOut> {
        let taken = &self.pages_out;
        let scheduled = self.schedule.page_out(self.limits.run_bytes, taken);
        let run = scheduled.or_else(|| self.backlog.page_out(partial))?;
        self.pages_out.insert(run.first);
        Some(run)
    }

    /// The run that begins with `first` was written to that page; `None` if it
    /// could not be: it stays and may be asked for again. Whether the page is
    /// kept. Otherwise its messages stay in memory, or are gone, and the caller
    /// frees it.
    ///
    /// Runs leave in their order: the page of one is refused while an older one
    /// is in memory.
    pub fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> bool {
        self.pages_out.remove(&first);
        let kept = match self.schedule.paged_out(first, page) {
            Some(kept) => kept,
            None => self.backlog.paged_out(first, page),
        };
        if self.is_timed() {
            self.arm();
        }
        kept
    }

    /// The next run to read: something in it is due, or it has what the queue
    /// itself lets go next; if `ahead`, also while less is at hand than consumers
    /// may soon need. Asked in a loop after each command.
    #[inline]
    pub fn page_wanted(&mut self, ahead: bool) -> Option<PageIn> {
        if let Some(visit) = self.visits.pop() {
            return Some(visit);
        }
        if ahead {
            return self.backlog.page_wanted();
        }
        if self.lets_oldest_go() {
            return self.backlog.oldest_wanted();
        }
        None
    }

    /// The run without which no message can be taken, though some are ready. It
    /// may be on its way already ([`Queue::page_wanted`]); to read it twice does
    /// no harm.
    #[must_use]
    pub fn head_missing(&self) -> Option<PageIn> {
        self.backlog.missing()
    }

    /// That run was read, as far as it could be; the rest of it is lost. Its page
    /// is freed by the [`Journal`](super::Journal). A run that was purged or read
    /// meanwhile is ignored.
    pub fn paged_in(&mut self, wanted: PageIn, mut loaded: Loaded, now: Now) {
        let now = now.millis();
        let first = wanted.first;
        self.visits.retain(|visit| *visit != wanted);
        if let Some(lost) = self.schedule.paged_in(wanted, &mut loaded) {
            self.journal.freed.push(wanted.page);
            self.lost += lost.len() as u64;
            for place in lost {
                self.free_group_of(place);
            }
            for place in self.schedule.taken_back() {
                self.take_back(place);
            }
            self.arm();
            self.check();
            return;
        }
        let places: Vec<Sequence> = if self.backlog.knows_waiting() {
            loaded.places(first).collect()
        } else {
            Vec::new()
        };
        match self.backlog.paged_in(first, loaded, now, &mut self.journal) {
            Arrival::Ignored => {}
            Arrival::Loaded { lost } => {
                self.lost += lost;
                for (due, queued) in self.backlog.pop_waiting(now, &places) {
                    self.wait_again(due, queued);
                }
            }
            Arrival::Visited(visit) => {
                for queued in visit.dead {
                    self.bury(queued, DeathReason::Expired);
                }
            }
        }
        if self.is_timed() {
            self.arm();
        }
        self.check();
    }
}
