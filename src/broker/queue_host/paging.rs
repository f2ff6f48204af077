//! The queue and its store: what became of messages is written down, runs of
//! them are written out while memory is short and read back ahead of need.

use std::sync::Arc;

use crate::model::{Message, Now, Page, Sequence, SequenceRange};
use crate::queue::{Loaded, PageIn, PageOut};
use crate::store::{PageContent, PageOutJob, PageSource, Returned, Settled};

use super::super::{Durability, Wakes};
use super::{QueueHost, State};

/// A run on its way to the store.
struct Written(PageOut);

impl PageSource for Written {
    fn each(&self, take: &mut dyn FnMut(Sequence, &Message)) {
        self.0
            .messages()
            .for_each(|(place, message)| take(place, message));
    }
}

impl QueueHost {
    /// Passes on what has died in the queue and what it has noted, asks for what
    /// it will need and, if memory is short, has messages written out. To be
    /// called with the lock held, after everything that the queue was told.
    #[inline]
    pub(super) fn settle_with_store(self: &Arc<Self>, state: &mut State) {
        if !state.queue.letters().is_empty() {
            self.post_letters(state);
        }
        let journal = state.queue.journal();
        let Some(storage) = &self.storage else {
            if !journal.is_empty() {
                journal.clear();
            }
            return;
        };
        if !journal.is_empty() {
            self.write_down(state);
        }
        self.count_resident(state);
        // While memory is short, what nobody waits for is not read ahead: it
        // would only have other messages written out.
        let ahead = !storage.memory_is_short() || state.queue.counts().consumers > 0;
        while let Some(wanted) = state.queue.page_wanted(ahead) {
            self.page_in(wanted);
        }
        self.page_out(state, false);
    }

    #[cold]
    fn post_letters(self: &Arc<Self>, state: &mut State) {
        let mut letters = std::mem::take(state.queue.letters());
        let rules = state.queue.rules();
        self.dead_letters
            .post(self, &self.vhost, rules, &mut letters);
        // Given back for its memory.
        *state.queue.letters() = letters;
    }

    /// Has messages written out until memory is no longer short, the last ones
    /// too that came.
    pub(in super::super) fn relieve(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.deleted {
            self.page_out(&mut state, true);
        }
    }

    /// Octets of memory that its waiting messages take.
    pub(in super::super) fn resident_bytes(&self) -> u64 {
        self.state.lock().resident_bytes
    }

    pub(super) fn count_resident(&self, state: &mut State) {
        let resident = state.queue.resident_bytes();
        if let Some(storage) = &self.storage
            && resident != state.resident_bytes
        {
            storage.resident_changed(state.resident_bytes, resident);
            state.resident_bytes = resident;
        }
    }

    pub(super) fn write_down(&self, state: &mut State) {
        let State { queue, settled, .. } = state;
        let (id, journal) = (self.id, queue.journal());
        if let Some(storage) = &self.storage {
            if !journal.settled.is_empty() || !journal.returned.is_empty() {
                settled.extend(journal.settled.iter().map(|range| Settled {
                    queue: id,
                    range: *range,
                }));
                let returned: Vec<Returned> = journal
                    .returned
                    .iter()
                    .map(|returned| Returned {
                        queue: id,
                        place: returned.place,
                        deliveries: returned.deliveries,
                        due: returned.due,
                    })
                    .collect();
                storage.settle(settled, &returned);
                settled.clear();
            }
            for page in &journal.freed {
                storage.free(*page);
            }
        }
        journal.clear();
    }

    fn page_out(self: &Arc<Self>, state: &mut State, partial: bool) {
        let Some(storage) = &self.storage else {
            return;
        };
        while storage.is_over() {
            let Some(run) = state.queue.page_out(partial) else {
                return;
            };
            let (first, tag, bytes) = (run.first, run.tag, run.memory_bytes());
            let host = Arc::clone(self);
            let job = PageOutJob {
                queue: self.id,
                durable: self.settings.durable,
                first,
                tag,
                messages: Box::new(Written(run)),
                done: Box::new(move |page| host.paged_out(first, page, bytes)),
            };
            storage.page_out(job, bytes);
        }
    }

    /// Messages were written out; `None` if they could not be.
    fn paged_out(self: &Arc<Self>, first: Sequence, page: Option<Page>, bytes: u64) {
        let Some(storage) = &self.storage else {
            return;
        };
        let mut state = self.state.lock();
        // A deleted queue's files go as a whole.
        if !state.deleted {
            let kept = state.queue.paged_out(first, page);
            if let Some(page) = page.filter(|_| !kept) {
                storage.free(page);
            }
            self.settle_with_store(&mut state);
        }
        drop(state);
        storage.paged_out(bytes);
    }

    fn page_in(self: &Arc<Self>, wanted: PageIn) {
        if let Some(storage) = &self.storage {
            let host = Arc::clone(self);
            let done = Box::new(move |content| host.paged_in(wanted, content));
            storage.page_in(wanted.page, done);
        }
    }

    /// Messages were read; consumers get them at once.
    fn paged_in(self: &Arc<Self>, wanted: PageIn, content: PageContent) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if !state.deleted {
            let now = self.clock.now();
            self.take_in(&mut state, wanted, content, now);
            self.carry_out(&mut state, now, &mut wakes);
        }
        drop(state);
        wakes.fire();
    }

    /// Reads what the next message is in, for somebody who cannot wait for it.
    pub(super) fn read_at_once(&self, state: &mut State, missing: PageIn, now: Now) {
        let content = match &self.storage {
            Some(storage) => storage.read_page(missing.page),
            None => PageContent::default(),
        };
        self.take_in(state, missing, content, now);
    }

    fn take_in(&self, state: &mut State, wanted: PageIn, content: PageContent, now: Now) {
        let PageContent {
            messages,
            places,
            damaged,
            stored_bytes,
            ..
        } = content;
        if !damaged.is_empty() {
            let (queue, vhost) = (self.name.as_str(), self.vhost.as_str());
            let lost = damaged.len();
            tracing::error!(queue, vhost, lost, "messages are damaged on disk and lost");
            // Nothing waits for them any more.
            let settled: Vec<Settled> = damaged
                .into_iter()
                .map(|place| Settled {
                    queue: self.id,
                    range: SequenceRange::new(place, 1),
                })
                .collect();
            if let Some(storage) = &self.storage
                && self.settings.durable
            {
                storage.settle(&settled, &[]);
            }
        }
        let loaded = Loaded {
            messages,
            sequences: places,
            stored_bytes,
        };
        state.queue.paged_in(wanted, loaded, now);
    }
}
