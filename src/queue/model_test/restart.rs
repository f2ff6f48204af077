//! The broker stops in some way and the queue comes back.

use std::collections::BTreeMap;

use super::operation::Restart;
use super::store::SCHEDULED;
use super::{Entry, Run, State, at};
use crate::model::{PageTag, Sequence, SequenceRange};
use crate::queue::{ConsumerSlot, Queue, Restored, RestoredContent, RestoredRun};

impl Run {
    pub(super) fn restart(&mut self, restart: Restart) {
        let slots: Vec<u32> = self.consumers.keys().copied().collect();
        for slot in slots {
            self.queue.cancel(ConsumerSlot(slot), at(self.now));
        }
        self.consumers.clear();
        self.active = None;
        self.taken.clear();
        self.names.clear();
        if !restart.names_kept {
            self.named.clear();
        }
        let names = self.restored_names();
        self.used_at = self.now;
        self.store.stop();
        self.next = self.queue.backlog.next().0 + restart.gap;
        let below = self
            .messages
            .get(restart.redelivered)
            .map_or(self.next, |entry| entry.number);
        let below = if restart.redelivered == 0 { 0 } else { below };
        let mut deliveries = BTreeMap::new();
        for entry in &mut self.messages {
            let retry = match entry.state {
                State::Scheduled { due, again: true } => due,
                _ => entry.waits_until,
            };
            let retry = if restart.counts_known { retry } else { 0 };
            if !restart.counts_known {
                entry.deliveries = 0;
            } else if entry.deliveries > 0 {
                deliveries.insert(Sequence(entry.number), (entry.deliveries, retry));
            }
            entry.deliveries = entry.deliveries.max(u32::from(entry.number < below));
            entry.in_log = true;
            entry.aside = false;
            entry.unknown_to_group = false;
            entry.taken_back = false;
            entry.released = None;
            entry.unreadable = false;
            entry.waits_until = retry;
            entry.state = State::Ready;
        }
        let runs = self.restored_runs(&restart.runs);
        let restored = Restored {
            next: Sequence(self.next),
            redelivered_below: Sequence(below),
            deliveries,
            runs,
            names,
        };
        let settings = crate::model::QueueSettings {
            rules: self.rules.clone(),
            ..self.settings.clone()
        };
        self.queue = Queue::with_limits(settings, restored, self.limits, at(self.now));
        self.enqueued = self.messages.len() as u64;
        self.duplicates = 0;
        (self.settled, self.purged, self.lost) = (0, 0, 0);
    }

    /// Gives the messages back in runs, some of them in pages of one class each.
    fn restored_runs(&mut self, shapes: &[(usize, bool)]) -> Vec<RestoredRun> {
        let mut runs = Vec::new();
        let mut left: Vec<usize> = (0..self.messages.len()).collect();
        for (length, paged) in shapes.iter().cycle() {
            let Some(first) = left.first() else {
                break;
            };
            let class = self.class(*first);
            let mut run = Vec::new();
            left.retain(|index| {
                let takes = run.len() < *length && (!paged || self.class(*index) == class);
                if takes {
                    run.push(*index);
                }
                !takes
            });
            runs.push(if *paged {
                self.restored_page(class, &run)
            } else {
                self.restored_resident(&run)
            });
        }
        runs
    }

    /// Of which class the page is that a message may be in: the one of its
    /// priority, or of those that waited for their time.
    fn class(&self, index: usize) -> u8 {
        let entry = &self.messages[index];
        let due = entry.deliver_at.unwrap_or(0);
        let was_out = entry.waits_until > 0;
        let has_waited = due > 0 || was_out;
        let must_wait = due > self.now && !was_out;
        if must_wait || (has_waited && entry.number.is_multiple_of(2)) {
            SCHEDULED
        } else {
            entry.level
        }
    }

    fn restored_page(&mut self, class: u8, run: &[usize]) -> RestoredRun {
        let mut due = None;
        for index in run {
            let entry = &mut self.messages[*index];
            entry.counted_bytes = entry.message.stored_bytes() as u64;
            let event = if class == SCHEDULED {
                let (due, again) = due_of(entry);
                entry.state = State::Scheduled { due, again };
                entry.unknown_to_group = again;
                entry.waits_until = 0;
                Some(due)
            } else {
                entry.deadline
            };
            due = due.into_iter().chain(event).min();
        }
        let messages = run.iter().map(|index| {
            let entry = &self.messages[*index];
            (entry.number, entry.message.clone())
        });
        let messages = messages.collect();
        let page = self.store.add_page(class, messages);
        self.store.restored.insert(page.offset);
        let content = RestoredContent::Paged(page);
        let due = due.unwrap_or(0);
        self.restored(run, PageTag { class, due }, content)
    }

    fn restored_resident(&mut self, run: &[usize]) -> RestoredRun {
        let mut messages = Vec::new();
        for index in run {
            let entry = &mut self.messages[*index];
            let (due, again) = due_of(entry);
            if due > self.now {
                entry.state = State::Scheduled { due, again };
                entry.in_log = false;
            }
            entry.waits_until = 0;
            entry.counted_bytes = entry.body_bytes;
            messages.push((Sequence(entry.number), entry.message.clone()));
        }
        self.restored(run, PageTag::default(), RestoredContent::Resident(messages))
    }

    fn restored(&self, run: &[usize], tag: PageTag, content: RestoredContent) -> RestoredRun {
        let entries = || run.iter().map(|index| &self.messages[*index]);
        let stored = entries().map(|entry| entry.message.stored_bytes());
        let places: Vec<SequenceRange> = entries()
            .map(|entry| SequenceRange::new(Sequence(entry.number), 1))
            .collect();
        RestoredRun {
            tag,
            first: places[0].first,
            count: run.len() as u64,
            stored_bytes: stored.sum::<usize>() as u64,
            places: Some(places),
            content,
        }
    }
}

/// When a message is due that comes out of the store, and whether it was out
/// before.
fn due_of(entry: &Entry) -> (u64, bool) {
    match entry.waits_until {
        0 => (entry.deliver_at.unwrap_or(0), false),
        due => (due, true),
    }
}
