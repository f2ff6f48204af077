//! The store's side of the model test: pages in memory, and what the journal
//! says against what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::state::{Next, Rank};
use super::{Entry, Run, State, Time, at, number};
use crate::model::{DeathReason, Message, Page, Sequence};
use crate::queue::schedule::ENTRY_BYTES;
use crate::queue::{Counts, Loaded, PageIn, PageOut};

/// What a store and the host's requests to it would hold.
#[derive(Default)]
pub(super) struct Store {
    /// By offset: those that the queue keeps.
    pages: BTreeMap<u64, Stored>,
    /// In how many of them a message is.
    paged: HashMap<u64, u32>,
    next_page: u64,
    /// Those that were there at the restart.
    pub(super) restored: BTreeSet<u64>,
    pub(super) writing: Vec<PageOut>,
    /// Requested; some of them were read otherwise, or purged.
    pub(super) reading: Vec<PageIn>,
    /// Messages that the journal has not called gone.
    pub(super) live: BTreeSet<u64>,
    /// What the journal has to say of requeued messages.
    pub(super) returned: Vec<(Sequence, u32, Time)>,
    /// The last command may name places that hold no message.
    pub(super) purged: bool,
}

/// A page.
pub(super) struct Stored {
    class: u8,
    messages: Vec<(u64, Message)>,
}

impl Store {
    pub(super) fn add_page(&mut self, class: u8, messages: Vec<(u64, Message)>) -> Page {
        let offset = self.next_page;
        self.next_page += 1;
        for (place, _) in &messages {
            *self.paged.entry(*place).or_default() += 1;
        }
        self.pages.insert(offset, Stored { class, messages });
        page(offset)
    }

    /// Whether that message waits in a page that nobody has read since the restart.
    pub(super) fn is_unread_since_restart(&self, place: u64) -> bool {
        let restored = self.restored.iter().filter_map(|page| self.pages.get(page));
        let mut waiting = restored.filter(|page| page.class == SCHEDULED);
        waiting.any(|page| page.messages.iter().any(|(of, _)| *of == place))
    }

    /// Whether there was such a page.
    fn remove_page(&mut self, offset: u64) -> bool {
        let Some(page) = self.pages.remove(&offset) else {
            return false;
        };
        for (place, _) in &page.messages {
            *self.paged.entry(*place).or_default() -= 1;
        }
        true
    }

    pub(super) fn has_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    /// The broker stops: what was on its way to and from it is not, and all is
    /// stored anew.
    pub(super) fn stop(&mut self) {
        self.pages.clear();
        self.restored.clear();
        self.paged.clear();
        self.writing.clear();
        self.reading.clear();
    }

    /// The first rank that a message in a page can have, of those that are ready.
    pub(super) fn first_page(&self) -> Option<Rank> {
        self.ranks().min()
    }

    pub(super) fn first_page_of(&self, level: u8) -> Option<Rank> {
        self.ranks().filter(|rank| rank.0 == u8::MAX - level).min()
    }

    fn ranks(&self) -> impl Iterator<Item = Rank> {
        let pages = self.pages.values().filter(|page| page.class != SCHEDULED);
        pages.filter_map(|page| Some((u8::MAX - page.class, page.messages.first()?.0, u64::MAX)))
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
        let mut due = None;
        for (place, message) in places(&out) {
            assert_eq!(number(message), place, "the place of a message");
            assert!(self.is_resident(place), "it is in a page already");
            let entry = self.messages.iter().find(|entry| entry.number == place);
            let entry = entry.expect("what leaves memory is there");
            let event = match entry.state {
                State::Scheduled { due, .. } => {
                    assert_eq!(out.tag.class, SCHEDULED);
                    Some(due)
                }
                state => {
                    assert_eq!((state, out.tag.class), (State::Ready, entry.level));
                    entry.deadline
                }
            };
            due = due.into_iter().chain(event).min();
        }
        assert_eq!(out.tag.due, due.unwrap_or(0), "when something is due in it");
        let mut writing = self.store.writing.iter();
        assert!(
            writing.all(|other| other.first != out.first),
            "two runs of one name are being written"
        );
        if self.store.pages.is_empty() && out.tag.class != SCHEDULED {
            let older = self.messages.iter().filter(|entry| {
                let of_list = entry.in_log && !entry.aside && entry.level == out.tag.class;
                of_list && entry.is_ready() && entry.number < out.first.0
            });
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
        let page = success.then(|| self.store.add_page(out.tag.class, messages));
        let kept = self.queue.paged_out(out.first, page);
        let Some(page) = page else {
            assert!(!kept, "there is no page to keep");
            return;
        };
        if !kept {
            self.store.remove_page(page.offset);
        }
    }

    pub(super) fn page_wanted(&mut self, ahead: bool) {
        while let Some(wanted) = self.queue.page_wanted(ahead) {
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
        let before = self.queue.counts();
        // Where the page is gone, what was read of it is of no use.
        let Some(stored) = self.store.pages.get(&wanted.page.offset) else {
            let messages = vec![Message::single("", "q", b"", &[0; 8])];
            let loaded = Loaded::new(messages, None);
            self.queue.paged_in(wanted, loaded, at(self.now));
            assert_eq!(self.queue.counts(), before, "a page that is gone was taken");
            return;
        };
        let damaged = |index: usize| damage & (1 << (index % 8)) != 0;
        let class = stored.class;
        let (bad, good): (Vec<_>, Vec<_>) = stored
            .messages
            .clone()
            .into_iter()
            .enumerate()
            .partition(|(index, _)| damaged(*index));
        let bad: Vec<u64> = bad.into_iter().map(|(_, (place, _))| place).collect();
        let (sequences, messages): (Vec<_>, Vec<_>) = good
            .into_iter()
            .map(|(_, (place, message))| (Sequence(place), message))
            .unzip();
        let read: Vec<u64> = sequences.iter().map(|place| place.0).collect();
        let consecutive = (wanted.first.0..).map(Sequence);
        let listed = !sequences
            .iter()
            .copied()
            .eq(consecutive.take(sequences.len()));
        let loaded = Loaded::new(messages, listed.then_some(sequences));
        self.queue.paged_in(wanted, loaded, at(self.now));
        self.gather_letters();
        let freed = self.queue.journal().freed.contains(&wanted.page);
        self.free_pages();
        if class == SCHEDULED {
            if freed {
                self.lose(&bad);
                self.end_taken_back(&read);
                self.wait_again(&read);
            }
        } else if self.was_visit(freed, &read, &bad, before) {
            self.bury_visited(&read);
            for entry in &mut self.messages {
                entry.unreadable |= bad.contains(&entry.number);
            }
        } else {
            self.lose(&bad);
            self.wait_again(&read);
        }
    }

    /// Whether the page was looked through for the dead and not taken into memory.
    /// One that holds nothing but those is not kept.
    fn was_visit(&self, freed: bool, read: &[u64], bad: &[u64], before: Counts) -> bool {
        let counts = self.queue.counts();
        let live = |place: &&u64| self.messages.iter().any(|entry| entry.number == **place);
        let count = read.iter().filter(live).count() as u64;
        let unread = bad.iter().filter(live).count();
        let emptied = unread == 0 && counts.ready + count == before.ready;
        !freed || (emptied && counts.scheduled == before.scheduled && count > 0)
    }

    fn bury_visited(&mut self, read: &[u64]) {
        let now = self.now;
        let dead = |entry: &Entry| {
            let dead = entry.deadline.is_some_and(|deadline| deadline <= now);
            dead && read.contains(&entry.number)
        };
        while let Some(index) = self
            .messages
            .iter()
            .position(|one| one.is_ready() && dead(one))
        {
            self.bury(index, DeathReason::Expired);
        }
    }

    /// Of what was read, some was taken back before.
    fn end_taken_back(&mut self, read: &[u64]) {
        let is_taken_back = |entry: &Entry| entry.taken_back && read.contains(&entry.number);
        while let Some(index) = self.messages.iter().position(is_taken_back) {
            self.gone(index);
        }
    }

    fn lose(&mut self, bad: &[u64]) {
        let live = &mut self.store.live;
        let lost = &mut self.lost;
        self.messages.retain(|entry| {
            // Those that died in the page are letters by now.
            let is_lost = bad.contains(&entry.number) && entry.slot().is_none();
            if is_lost {
                live.remove(&entry.number);
                *lost += 1;
            }
            !is_lost
        });
    }

    /// What was restored as ready and has to wait does so now that it is known.
    fn wait_again(&mut self, read: &[u64]) {
        for entry in &mut self.messages {
            let due = std::mem::take(&mut entry.waits_until);
            if read.contains(&entry.number) {
                entry.counted_bytes = entry.body_bytes;
            }
            if !read.contains(&entry.number) {
                entry.waits_until = due;
            } else if due > self.now && entry.is_ready() {
                entry.state = State::Scheduled { due, again: true };
                entry.in_log = false;
            }
        }
    }

    /// The store frees the pages that nobody will read any more.
    fn free_pages(&mut self) {
        for page in self.queue.journal().freed.drain(..) {
            let was_there = self.store.remove_page(page.offset);
            assert!(was_there, "a page was freed twice");
        }
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
            let mut noted: Vec<_> = journal
                .returned
                .iter()
                .map(|one| (one.place, one.deliveries, one.due))
                .collect();
            noted.sort_unstable();
            returned.sort_unstable();
            assert_eq!(noted, returned);
            let live = self.messages.iter().map(|entry| entry.number);
            assert!(live.eq(self.store.live.iter().copied()), "what is live");
        } else {
            assert!(journal.settled.is_empty() && journal.returned.is_empty());
        }
        self.free_pages();
        self.queue.journal().clear();

        let resident = self
            .messages
            .iter()
            .filter(|one| self.is_resident(one.number));
        let memory = resident.map(|entry| match entry.state {
            State::Ready => entry.message.memory_bytes(),
            State::Scheduled { .. } => entry.message.stored_bytes() + ENTRY_BYTES,
            State::Unsettled { .. } | State::Letter { .. } => 0,
        });
        assert_eq!(self.queue.resident_bytes(), memory.sum::<usize>() as u64);

        if self.rules.group_header.is_none() {
            let missing = self.queue.head_missing();
            let expected = self.next_up() == Next::Missing;
            assert_eq!(missing.is_some(), expected, "whether a page has to be read");
        }
    }

    fn check_page(&self, wanted: PageIn) {
        let page = self.store.pages.get(&wanted.page.offset);
        let first = page.and_then(|page| page.messages.first()).map(|one| one.0);
        assert_eq!(first, Some(wanted.first.0), "the page of that run");
        assert_eq!(wanted.page, self::page(wanted.page.offset));
    }

    pub(super) fn is_resident(&self, place: u64) -> bool {
        self.store.paged.get(&place).is_none_or(|pages| *pages == 0)
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

/// The class of pages with messages that wait for their time.
pub(super) const SCHEDULED: u8 = u8::MAX;
