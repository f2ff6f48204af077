//! A queue as its store kept it over a restart.

use std::collections::BTreeMap;

use super::RestoredContent;
use super::classic::Queue;
use super::ready::Queued;
use super::schedule::SCHEDULED_CLASS;
use crate::model::{Message, Sequence};

impl Queue {
    pub(super) fn take_restored(&mut self, runs: Vec<super::RestoredRun>, now: u64) {
        let paged = |content: &RestoredContent| matches!(content, RestoredContent::Paged(_));
        let mut pages: BTreeMap<(u8, Sequence), Sequence> = BTreeMap::new();
        for run in runs.iter().filter(|run| paged(&run.content)) {
            pages.insert((run.tag.class, run.first), run.end());
        }
        for run in runs {
            self.backlog.raise_next(run.end());
            match run.content {
                RestoredContent::Paged(page) => {
                    if run.tag.class == SCHEDULED_CLASS {
                        let places = run.places();
                        for place in &places {
                            let due = self.backlog.due_before_restart(*place);
                            let deliveries = self.backlog.recall(*place);
                            if deliveries > 0 {
                                self.schedule.remember(*place, deliveries, due);
                            }
                        }
                        self.schedule
                            .restore_paged(run.first, places, page, run.tag);
                    } else if !self.backlog.restore_paged(
                        run.first,
                        run.count,
                        run.stored_bytes,
                        page,
                        run.tag,
                    ) {
                        self.journal.freed.push(page);
                    }
                }
                RestoredContent::Resident(messages) => {
                    let mut ready = Vec::with_capacity(messages.len());
                    for (sequence, message) in messages {
                        self.backlog.raise_next(sequence.behind());
                        match self.due_of_restored(sequence, &message, now) {
                            Some(due) => self.schedule_restored(due, sequence, message),
                            None if self.is_amid_page(&pages, sequence, &message) => {
                                let deliveries = self.backlog.recall(sequence);
                                self.backlog.put_back(Queued {
                                    sequence,
                                    message,
                                    deliveries,
                                });
                            }
                            None => ready.push((sequence, message)),
                        }
                    }
                    // Runs come in the order of their first places.
                    let behind = |class: u8| {
                        let all = (class, run.first)..=(class, Sequence(u64::MAX));
                        pages.range(all).next().is_some()
                    };
                    self.backlog.restore_resident(ready, behind);
                }
            }
        }
    }

    /// Whether a page holds messages that come before and after it: it had to
    /// wait while they were written.
    fn is_amid_page(
        &self,
        pages: &BTreeMap<(u8, Sequence), Sequence>,
        place: Sequence,
        message: &Message,
    ) -> bool {
        let level = self.backlog.level(message);
        let before = pages.range(..(level, place)).next_back();
        before.is_some_and(|((class, _), end)| *class == level && place < *end)
    }
}
