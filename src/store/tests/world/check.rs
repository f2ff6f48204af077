//! What a reopened store has, held against what it owes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Message, Page, QueueId, Sequence, Ticket, Verdict};
use crate::store::tests::first_loss;
use crate::store::{Opened, PageContent, RecoveredContent, RecoveredQueue, Store};

use super::{
    Came, End, Held, NAMES_MAX, Named, Queue, Record, Settlement, World, arrival, body, class,
    has_lists, tag,
};

/// What a reopened store has of a queue.
struct Found {
    messages: BTreeMap<u64, (String, Message)>,
    pages: Vec<(Page, Vec<u64>)>,
    damaged: Vec<Sequence>,
}

impl World {
    /// Compares a reopened store with what it owes. From here on what it has
    /// counts, no more and no less.
    pub(in crate::store::tests) fn check(&mut self, opened: &Opened) {
        let mut found: BTreeMap<QueueId, Found> = opened
            .queues
            .iter()
            .filter(|queue| self.queues.contains_key(&queue.queue))
            .map(|queue| (queue.queue, found(&opened.store, queue)))
            .collect();
        assert!(found.keys().eq(self.queues.keys()), "{:?}", found.keys());
        // However a process ends, what was durable is there.
        assert_eq!(first_loss(opened), None, "{:?}", opened.report);
        for recovered in &opened.queues {
            let id = recovered.queue;
            let Some(found) = found.get(&id) else {
                // Another world's.
                continue;
            };
            assert!(found.damaged.is_empty(), "{id:?}: {:?}", found.damaged);
            self.check_queue(id, recovered, found);
            self.check_names(id, recovered);
            if !opened.report.clean {
                assert_eq!(recovered.redelivered_below, recovered.next);
            }
        }
        for (index, record) in self.records.iter().enumerate() {
            let counts = self.check_record(record, &found);
            self.check_names_of_record(index, counts, &opened.queues);
        }
        if matches!(self.end, End::Clean) {
            assert!(opened.report.clean, "{:?}", opened.report);
        }
        for recovered in &opened.queues {
            let queue = self.queues.get_mut(&recovered.queue);
            if let (Some(queue), Some(found)) = (queue, found.remove(&recovered.queue)) {
                queue.adopt(recovered, found);
            }
        }
        self.records.clear();
        self.last_ticket = Ticket(0);
        self.end = End::Abrupt(None);
        self.was_full = false;
    }

    fn check_queue(&self, id: QueueId, recovered: &RecoveredQueue, found: &Found) {
        let queue = &self.queues[&id];
        let mut least_next = queue.opened_next;
        for (place, (body, _)) in &found.messages {
            let held = queue.held.get(place);
            let held = held.unwrap_or_else(|| panic!("{id:?}: where is place {place} from?"));
            assert_eq!(*body, held.body, "{id:?} place {place}");
            assert!(held.came != Came::Transient, "{id:?} place {place}");
            let settled = held.settled.iter().any(|one| self.is_settled(one));
            assert!(!settled, "{id:?}: place {place} is settled and came back");
            least_next = least_next.max(place + 1);
        }
        for (place, held) in &queue.held {
            if self.is_stored(held) {
                least_next = least_next.max(place + 1);
                let there = found.messages.contains_key(place) || !held.settled.is_empty();
                assert!(there, "{id:?}: place {place} is lost");
            }
            if held.settled.iter().any(|one| self.is_settled(one)) {
                least_next = least_next.max(place + 1);
            }
            if found.messages.contains_key(place) {
                let known = recovered.deliveries.get(&Sequence(*place)).copied();
                let known = known.unwrap_or_default();
                let sure = |(_, after): &&((u32, u64), Ticket)| self.is_written_after(*after);
                let least = held.returned.iter().filter(sure).map(|one| one.0).max();
                let mut told = held.returned.iter().map(|one| one.0);
                assert!(known >= least.unwrap_or(held.came_back), "{place}");
                assert!(
                    known == held.came_back || told.any(|told| told == known),
                    "{place}"
                );
            }
        }
        let next = recovered.next.0;
        assert!(next >= least_next, "{id:?}: next is {next} < {least_next}");
    }

    /// Of the youngest names, those that must be there, and none that nobody
    /// told.
    fn check_names(&self, id: QueueId, recovered: &RecoveredQueue) {
        let (queue, found) = (&self.queues[&id], &recovered.names);
        assert!(found.len() as u64 <= NAMES_MAX, "{id:?}: {}", found.len());
        assert!(found.is_sorted(), "{id:?}: {found:?}");
        for (time, name) in found {
            let told = queue.names.get(time).map(|named| named.name);
            assert_eq!(told, Some(*name), "{id:?}: a name of {time}");
        }
        for (time, named) in &queue.names {
            let is_owed = named.came == Came::Before
                || matches!(named.came, Came::With(record) if self.is_durable(record))
                || named.repeated.iter().any(|record| self.is_durable(*record));
            if is_owed {
                let there = is_named(recovered, *time);
                assert_ne!(there, Some(false), "{id:?}: the name of {time} is lost");
            }
        }
    }

    /// Names are there if their messages are.
    fn check_names_of_record(
        &self,
        index: usize,
        counts: Option<bool>,
        recovered: &[RecoveredQueue],
    ) {
        let Some(counts) = counts else {
            return;
        };
        for recovered in recovered {
            let Some(queue) = self.queues.get(&recovered.queue) else {
                continue;
            };
            for (time, named) in &queue.names {
                if named.came == Came::With(index)
                    && let Some(there) = is_named(recovered, *time)
                {
                    assert_eq!(there, counts, "{:?}: the name of {time}", recovered.queue);
                }
            }
        }
    }

    /// All or nothing; which, if that can be told.
    fn check_record(&self, record: &Record, found: &BTreeMap<QueueId, Found>) -> Option<bool> {
        let is_there = |(id, place): &(QueueId, u64)| -> Option<bool> {
            Some(found.get(id)?.messages.contains_key(place))
        };
        let undisturbed = |(id, place): &&(QueueId, u64)| {
            let held = self.queues.get(id).and_then(|queue| queue.held.get(place));
            held.is_some_and(|held| held.settled.is_empty())
        };
        let there: BTreeSet<bool> = record
            .places
            .iter()
            .filter(undisturbed)
            .filter_map(is_there)
            .collect();
        assert!(
            self.was_full || there.len() < 2,
            "half a record: {:?}",
            record.places
        );
        if let End::Abrupt(Some(progress)) = &self.end
            && !progress.stopped
            && progress.verdict(record.ticket) == Verdict::Failed
        {
            // Its settlements do not count, whatever pages have.
            // It may have been written out all the same.
            let logged = |(id, place): &(QueueId, u64)| {
                let found = found.get(id);
                found.is_some_and(|found| {
                    let paged = found.pages.iter().any(|page| page.1.contains(place));
                    found.messages.contains_key(place) && !paged
                })
            };
            let any = record.places.iter().any(logged);
            assert!(!any, "what was refused is there: {:?}", record.places);
            return Some(false);
        }
        for (id, place) in &record.settles {
            let Some(held) = self.queues.get(id).and_then(|queue| queue.held.get(place)) else {
                continue;
            };
            let back = is_there(&(*id, *place));
            if there.contains(&true) {
                assert_ne!(back, Some(true), "settled in a record that counts");
            } else if there.contains(&false) && held.settled.len() == 1 && self.is_stored(held) {
                assert_eq!(back, Some(true), "settled in a record that does not count");
            }
        }
        match (there.contains(&true), there.contains(&false)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    fn is_stored(&self, held: &Held) -> bool {
        match held.came {
            Came::Before => true,
            Came::With(record) => self.is_durable(record),
            Came::Transient => false,
        }
    }

    fn is_durable(&self, record: usize) -> bool {
        match &self.end {
            End::Clean => true,
            End::Abrupt(progress) => progress.as_ref().is_some_and(|progress| {
                progress.verdict(self.records[record].ticket) == Verdict::Stored
            }),
        }
    }

    fn is_settled(&self, settlement: &Settlement) -> bool {
        match settlement {
            Settlement::After(ticket) => self.is_written_after(*ticket),
            Settlement::With(record) => self.is_durable(*record),
        }
    }

    /// Whether what was told after this ticket was given out is durable.
    fn is_written_after(&self, ticket: Ticket) -> bool {
        match &self.end {
            End::Clean => true,
            End::Abrupt(_) => {
                let later = |record: &usize| self.records[*record].ticket > ticket;
                let mut records = (0..self.records.len()).rev().take_while(later);
                !self.was_full && records.any(|record| self.is_durable(record))
            }
        }
    }
}

impl Queue {
    fn adopt(&mut self, recovered: &RecoveredQueue, found: Found) {
        self.held.clear();
        self.next = recovered.next.0;
        self.opened_next = self.next;
        for (place, (body, message)) in found.messages {
            let came_back = recovered.deliveries.get(&Sequence(place)).copied();
            let held = Held {
                message,
                class: class(recovered.queue, &body),
                body,
                came: Came::Before,
                settled: Vec::new(),
                came_back: came_back.unwrap_or_default(),
                returned: Vec::new(),
                paged: found
                    .pages
                    .iter()
                    .any(|(_, places)| places.contains(&place)),
            };
            self.held.insert(place, held);
        }
        self.pages = found.pages;
        let names = recovered.names.iter().map(|(time, name)| {
            let named = Named {
                name: *name,
                came: Came::Before,
                repeated: Vec::new(),
            };
            (*time, named)
        });
        self.names = names.collect();
    }
}

/// Whether a name is there; `None` if it may be forgotten by now.
fn is_named(recovered: &RecoveredQueue, time: u64) -> Option<bool> {
    let names = &recovered.names;
    let there = names.iter().any(|(seen, _)| *seen == time);
    let is_old =
        || names.len() as u64 == NAMES_MAX && names.first().is_some_and(|one| time < one.0);
    (there || !is_old()).then_some(there)
}

/// All of a queue, each place once and each list in order.
fn found(store: &Store, queue: &RecoveredQueue) -> Found {
    let mut found = Found {
        messages: BTreeMap::new(),
        pages: Vec::new(),
        damaged: Vec::new(),
    };
    let id = queue.queue;
    let (mut behind, mut run_first) = (0, 0);
    for run in &queue.runs {
        assert!(run.first.0 >= run_first, "{id:?} {:?}", run.first);
        run_first = run.first.0;
        let messages: BTreeMap<u64, (String, Message)> = match &run.content {
            RecoveredContent::Resident(messages) => messages
                .iter()
                .map(|(place, message)| (place.0, (body(message), message.clone())))
                .collect(),
            RecoveredContent::Paged(page) => {
                let content = store.read_page(*page);
                found.damaged.extend_from_slice(&content.damaged);
                let messages = messages_of(run.first.0, &content);
                if let Some((body, _)) = messages.values().next() {
                    // Moved, it may begin later than when it was tagged.
                    let tagged = tag(class(id, body), run.first.0);
                    assert_eq!(run.tag.class, tagged.class, "{id:?}");
                    let earliest = tag(tagged.class, 0);
                    let due = earliest.due..=tagged.due;
                    assert!(due.contains(&run.tag.due), "{id:?} {:?}", run.tag);
                }
                found
                    .pages
                    .push((*page, messages.keys().copied().collect()));
                messages
            }
        };
        if found.damaged.is_empty() {
            assert_eq!(messages.len() as u64, run.count, "{id:?} {:?}", run.first);
        }
        for (place, message) in messages {
            assert!(place >= run.first.0, "{id:?} {place}");
            assert!(place >= behind || has_lists(id), "{id:?} {place}");
            behind = place + 1;
            assert_eq!(message.1.arrived(), arrival(&message.0), "{id:?} {place}");
            let before = found.messages.insert(place, message);
            assert!(before.is_none(), "{id:?} has place {place} twice");
        }
    }
    found
}

pub(super) fn messages_of(first: u64, content: &PageContent) -> BTreeMap<u64, (String, Message)> {
    let places: Vec<u64> = match &content.places {
        Some(places) => places.iter().map(|place| place.0).collect(),
        None => (first..first + content.messages.len() as u64).collect(),
    };
    let messages = content.messages.iter();
    let messages = messages.map(|message| (body(message), message.clone()));
    places.into_iter().zip(messages).collect()
}
