//! The store's side of the model test: pages in memory, and what the journal
//! says against what happened.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::Restart;
use super::{NOW, Run, State, number};
use crate::model::{Message, Page, Sequence};
use crate::queue::{
    ConsumerSlot, Loaded, PageIn, PageOut, Queue, Restored, RestoredContent, RestoredRun,
};

/// What a store and the host's requests to it would hold.
#[derive(Default)]
pub(super) struct Store {
    /// By offset: those that the queue keeps.
    pub(super) pages: BTreeMap<u64, Vec<(u64, Message)>>,
    next_page: u64,
    pub(super) writing: Vec<PageOut>,
    /// Requested; some of them were read otherwise, or purged.
    pub(super) reading: Vec<PageIn>,
    /// Messages that the journal has not called gone.
    pub(super) live: BTreeSet<u64>,
    /// What the journal has to say of requeued messages.
    pub(super) returned: Vec<(Sequence, u32)>,
    /// The last command may name places that hold no message.
    pub(super) purged: bool,
}

impl Store {
    fn add_page(&mut self, messages: Vec<(u64, Message)>) -> Page {
        let offset = self.next_page;
        self.next_page += 1;
        self.pages.insert(offset, messages);
        page(offset)
    }
}

impl Run {
    pub(super) fn page_out(&mut self, partial: bool) {
        let Some(out) = self.queue.page_out(partial) else {
            return;
        };
        assert_eq!(
            places(&out).next().map(|(place, _)| place),
            Some(out.first.0)
        );
        for (place, message) in places(&out) {
            assert_eq!(number(message), place, "the place of a message");
            assert!(self.is_resident(place), "it is in a page already");
        }
        let twice = self.store.writing.iter().any(|other| {
            let mut other = places(other);
            other.any(|(place, _)| place == out.first.0)
        });
        assert!(!twice, "it is being written already");
        let older = self.messages.iter().filter(|entry| {
            entry.in_log && entry.state == State::Ready && entry.number < out.first.0
        });
        if self.store.pages.is_empty() {
            let head: usize = older.map(|entry| entry.message.memory_bytes()).sum();
            assert!(
                head as u64 >= self.limits.head_bytes,
                "the head left memory"
            );
        }
        self.store.writing.push(out);
    }

    pub(super) fn written(&mut self, pick: usize, success: bool) {
        if self.store.writing.is_empty() {
            return;
        }
        let pick = pick % self.store.writing.len();
        let out = self.store.writing.remove(pick);
        let messages = places(&out)
            .map(|(place, message)| (place, message.clone()))
            .collect();
        let page = success.then(|| self.store.add_page(messages));
        let kept = self.queue.paged_out(out.first, page);
        let Some(page) = page else {
            assert!(!kept, "there is no page to keep");
            return;
        };
        if !kept {
            self.store.pages.remove(&page.offset);
        }
    }

    pub(super) fn page_wanted(&mut self) {
        while let Some(wanted) = self.queue.page_wanted() {
            let twice = self.store.reading.contains(&wanted);
            assert!(!twice, "it was requested already");
            self.check_page(wanted);
            self.store.reading.push(wanted);
        }
    }

    pub(super) fn read(&mut self, pick: usize, damage: u8) {
        if !self.store.reading.is_empty() {
            let pick = pick % self.store.reading.len();
            let wanted = self.store.reading.remove(pick);
            self.paged_in(wanted, damage);
        }
    }

    pub(super) fn read_missing(&mut self, damage: u8) {
        if let Some(wanted) = self.queue.head_missing() {
            self.check_page(wanted);
            self.paged_in(wanted, damage);
        }
    }

    fn paged_in(&mut self, wanted: PageIn, damage: u8) {
        // Where the page is gone, what was read of it is of no use.
        let Some(content) = self.store.pages.get(&wanted.page.offset) else {
            let messages = vec![Message::single("", "q", b"", &[0; 8])];
            let loaded = Loaded::new(messages, None);
            return self.queue.paged_in(wanted.first, loaded);
        };
        let damaged = |index: usize| damage & (1 << (index % 8)) != 0;
        let (bad, good): (Vec<_>, Vec<_>) = content
            .clone()
            .into_iter()
            .enumerate()
            .partition(|(index, _)| damaged(*index));
        for (_, (place, _)) in bad {
            self.lost += 1;
            self.store.live.remove(&place);
            self.messages.retain(|entry| entry.number != place);
        }
        let (sequences, messages): (Vec<_>, Vec<_>) = good
            .into_iter()
            .map(|(_, (place, message))| (Sequence(place), message))
            .unzip();
        let consecutive = (wanted.first.0..).map(Sequence);
        let listed = !sequences
            .iter()
            .copied()
            .eq(consecutive.take(sequences.len()));
        let loaded = Loaded::new(messages, listed.then_some(sequences));
        self.queue.paged_in(wanted.first, loaded);
    }

    /// The broker stops in some way and the queue comes back.
    pub(super) fn restart(&mut self, restart: Restart) {
        let slots: Vec<u32> = self.consumers.keys().copied().collect();
        for slot in slots {
            self.queue.cancel(ConsumerSlot(slot), NOW);
        }
        self.consumers.clear();
        self.store.pages.clear();
        self.store.writing.clear();
        self.store.reading.clear();
        self.next += restart.gap;
        let below = self
            .messages
            .get(restart.redelivered)
            .map_or(self.next, |entry| entry.number);
        let below = if restart.redelivered == 0 { 0 } else { below };
        let mut deliveries = BTreeMap::new();
        for entry in &mut self.messages {
            entry.state = State::Ready;
            entry.in_log = true;
            if !restart.counts_known {
                entry.deliveries = 0;
            } else if entry.deliveries > 0 {
                deliveries.insert(Sequence(entry.number), (entry.deliveries, 0));
            }
            entry.deliveries = entry.deliveries.max(u32::from(entry.number < below));
        }
        let restored = Restored {
            next: Sequence(self.next),
            redelivered_below: Sequence(below),
            deliveries,
            runs: self.restored_runs(&restart.runs),
        };
        self.queue = Queue::with_limits(self.settings.clone(), restored, self.limits);
        self.enqueued = self.messages.len() as u64;
        (self.settled, self.purged, self.lost) = (0, 0, 0);
    }

    fn restored_runs(&mut self, shapes: &[(usize, bool)]) -> Vec<RestoredRun> {
        let mut runs = Vec::new();
        let mut messages = self.messages.as_slice();
        for (length, paged) in shapes.iter().cycle() {
            let (run, rest) = messages.split_at((*length).min(messages.len()));
            messages = rest;
            let Some(first) = run.first() else {
                break;
            };
            let stored = run.iter().map(|entry| entry.message.stored_bytes());
            let messages = run
                .iter()
                .map(|entry| (entry.number, entry.message.clone()));
            runs.push(RestoredRun {
                first: Sequence(first.number),
                count: run.len() as u64,
                stored_bytes: stored.sum::<usize>() as u64,
                content: if *paged {
                    RestoredContent::Paged(self.store.add_page(messages.collect()))
                } else {
                    let places = messages.map(|(place, message)| (Sequence(place), message));
                    RestoredContent::Resident(places.collect())
                },
            });
        }
        runs
    }

    /// The journal says what happened, once, and memory is counted right.
    pub(super) fn compare_store(&mut self) {
        let purged = std::mem::take(&mut self.store.purged);
        let mut returned = std::mem::take(&mut self.store.returned);
        let journal = self.queue.journal();
        if self.settings.durable {
            for range in journal.settled.drain(..) {
                assert!(range.count() > 0);
                for place in range.first.0..range.end.0 {
                    let was_live = self.store.live.remove(&place);
                    assert!(was_live || purged, "message {place} went twice");
                }
            }
            journal.returned.sort_unstable();
            returned.sort_unstable();
            assert_eq!(journal.returned, returned);
            let live = self.messages.iter().map(|entry| entry.number);
            assert!(live.eq(self.store.live.iter().copied()), "what is live");
        } else {
            assert!(journal.settled.is_empty() && journal.returned.is_empty());
        }
        for page in journal.freed.drain(..) {
            let page = self.store.pages.remove(&page.offset);
            assert!(page.is_some(), "a page was freed twice");
        }
        self.queue.journal().clear();

        let ready = self
            .messages
            .iter()
            .filter(|entry| entry.state == State::Ready && self.is_resident(entry.number));
        let memory: usize = ready.map(|entry| entry.message.memory_bytes()).sum();
        assert_eq!(self.queue.resident_bytes(), memory as u64);

        let missing = self.queue.head_missing();
        let oldest = self.oldest_ready().map(|index| self.messages[index].number);
        let resident = oldest.is_none_or(|oldest| self.is_resident(oldest));
        assert_eq!(missing.is_none(), resident, "whether a page has to be read");
    }

    fn check_page(&self, wanted: PageIn) {
        let page = self.store.pages.get(&wanted.page.offset);
        let first = page.and_then(|page| page.first()).map(|one| one.0);
        assert_eq!(first, Some(wanted.first.0), "the page of that run");
        assert_eq!(wanted.page, self::page(wanted.page.offset));
    }

    fn is_resident(&self, place: u64) -> bool {
        let mut paged = self.store.pages.values().flatten();
        !paged.any(|(paged, _)| *paged == place)
    }
}

fn places(out: &PageOut) -> impl Iterator<Item = (u64, &Message)> {
    out.messages().map(|(place, message)| (place.0, message))
}

fn page(offset: u64) -> Page {
    Page {
        file: offset % 3,
        offset,
        bytes: 100,
    }
}
