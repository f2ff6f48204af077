//! Runs on their way to pages and back: which list they are of, what of them has
//! a time to die, and what has died in its page.

use super::Backlog;
use crate::model::{Message, Page, Sequence};
use crate::queue::deadlines::own_deadline;
use crate::queue::paging::Visit;
use crate::queue::ready::{LeftMemory, Queued, Ready};
use crate::queue::{Journal, Loaded, PageIn, PageOut};

/// What a page was read for.
#[derive(Debug)]
pub(in crate::queue) enum Arrival {
    /// Nobody waits for it any more.
    Ignored,
    /// Its messages are in memory, but for so many that were not in it.
    Loaded { lost: u64 },
    /// It was looked through for the dead.
    Visited(Visit),
}

impl Backlog {
    /// A run that can leave memory, of the lowest priority that has one.
    pub(in crate::queue) fn page_out(&mut self, partial: bool) -> Option<PageOut> {
        let timed = self.deadlines.in_use();
        let lists = std::iter::once((0, &mut self.base))
            .chain(self.above.iter_mut().map(|(level, list)| (*level, list)));
        for (class, list) in lists {
            if let Some(mut run) = list.page_out(partial) {
                run.tag.class = class;
                if timed {
                    let deadlines = run.messages().filter_map(|(_, one)| own_deadline(one));
                    run.tag.due = deadlines.min().unwrap_or(0);
                }
                return Some(run);
            }
        }
        None
    }

    /// A run was written, or could not be. Whether the page is kept; `None` if
    /// no run of that name is waited for.
    pub(in crate::queue) fn paged_out(&mut self, first: Sequence, page: Option<Page>) -> bool {
        let timed = self.deadlines.in_use();
        let lists = std::iter::once(&mut self.base).chain(self.above.values_mut());
        for list in lists {
            let Some(run) = list.tail_run(first) else {
                continue;
            };
            let bodies = run.iter().map(|(_, one)| one.body_bytes() as u64);
            let bodies = self.body_bytes.map(|_| bodies.sum::<u64>());
            let own: Vec<(Sequence, Message)> = if timed {
                run.iter()
                    .filter(|(_, message)| message.traits().expires())
                    .map(|(place, message)| (place, message.clone()))
                    .collect()
            } else {
                Vec::new()
            };
            match list.paged_out(first, page) {
                LeftMemory::Paged => {
                    for (place, message) in &own {
                        self.deadlines.remove(*place, message);
                    }
                    let due = own.iter().filter_map(|(_, one)| own_deadline(one)).min();
                    self.deadlines.add_paged(first, due.unwrap_or(0));
                    self.count_page(first, bodies.unwrap_or(0), true);
                    return true;
                }
                LeftMemory::Kept => {
                    for (place, message) in &own {
                        self.deadlines.add(*place, message);
                    }
                    return false;
                }
                LeftMemory::Gone => {}
            }
        }
        false
    }

    /// The next run to read ahead, of the most urgent messages first.
    #[inline]
    pub(in crate::queue) fn page_wanted(&mut self) -> Option<PageIn> {
        if self.above.is_empty() {
            return self.base.page_wanted();
        }
        self.first_of_lists(Ready::page_wanted)
    }

    /// The run with the oldest messages of a priority of which none are in memory
    /// or on their way.
    pub(in crate::queue) fn oldest_wanted(&mut self) -> Option<PageIn> {
        self.first_of_lists(Ready::oldest_wanted)
    }

    /// What the list of the highest priority has that has any.
    fn first_of_lists(&mut self, of: fn(&mut Ready) -> Option<PageIn>) -> Option<PageIn> {
        let mut lists = self.above.values_mut().rev();
        lists.find_map(of).or_else(|| of(&mut self.base))
    }

    /// A run was read, at that moment.
    pub(in crate::queue) fn paged_in(
        &mut self,
        first: Sequence,
        mut loaded: Loaded,
        now: u64,
        journal: &mut Journal,
    ) -> Arrival {
        let lists = std::iter::once((0, &mut self.base))
            .chain(self.above.iter_mut().map(|(level, list)| (*level, list)));
        let mut level = None;
        for (of, list) in lists {
            if list.has_paged(first) {
                level = Some(of);
                break;
            }
        }
        let visited = self.deadlines.end_visit(first);
        let Some(level) = level else {
            return Arrival::Ignored;
        };
        let only_paged = self.list(level).is_only_paged(first);
        if visited && only_paged {
            return Arrival::Visited(self.visit(level, first, loaded, now, journal));
        }
        self.deadlines.remove_paged(first);
        if !self.deadlines.none_gone() {
            self.leave_out_gone(first, &mut loaded);
        }
        self.recount_page(first, &loaded.messages);
        let own: Vec<(Sequence, Message)> = loaded
            .places(first)
            .zip(&loaded.messages)
            .filter(|(_, message)| message.traits().expires())
            .map(|(place, message)| (place, message.clone()))
            .collect();
        let Some(lost) = self.list(level).paged_in(first, loaded, journal) else {
            return Arrival::Ignored;
        };
        for (place, message) in &own {
            self.deadlines.add(*place, message);
        }
        self.drop_empty(level);
        Arrival::Loaded { lost }
    }

    /// Sees what of a run that stays in its page has died.
    fn visit(
        &mut self,
        level: u8,
        first: Sequence,
        loaded: Loaded,
        now: u64,
        journal: &mut Journal,
    ) -> Visit {
        let mut visit = Visit::default();
        let mut next_due = u64::MAX;
        let places: Vec<Sequence> = loaded.places(first).collect();
        let mut page = None;
        for (place, message) in places.iter().copied().zip(loaded.messages) {
            let Some(due) = own_deadline(&message).filter(|_| !self.deadlines.is_gone(place))
            else {
                continue;
            };
            if due > now {
                next_due = next_due.min(due);
                continue;
            }
            let stored_bytes = message.stored_bytes() as u64;
            page = self.list(level).lose_paged(first, stored_bytes);
            self.deadlines.bury_paged(place);
            self.count_out_of_page(first, &message);
            let deliveries = self.before.recall(place);
            visit.dead.push(Queued {
                sequence: place,
                message,
                deliveries,
            });
        }
        if let Some(page) = page {
            journal.freed.push(page);
            self.recount_page(first, &[]);
            for place in places {
                self.deadlines.forget_gone(place);
            }
        } else if next_due < u64::MAX {
            self.deadlines.add_paged(first, next_due);
        }
        self.drop_empty(level);
        visit
    }

    fn leave_out_gone(&mut self, first: Sequence, loaded: &mut Loaded) {
        let places: Vec<Sequence> = loaded.places(first).collect();
        if !places.iter().any(|place| self.deadlines.is_gone(*place)) {
            return;
        }
        let messages = std::mem::take(&mut loaded.messages);
        let mut kept = Vec::with_capacity(places.len());
        for (place, message) in places.into_iter().zip(messages) {
            if self.deadlines.is_gone(place) {
                self.deadlines.forget_gone(place);
                loaded.stored_bytes -= message.stored_bytes() as u64;
            } else {
                kept.push(place);
                loaded.messages.push(message);
            }
        }
        loaded.sequences = Some(kept);
    }
}
