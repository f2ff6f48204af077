//! What of a batch goes to the log: messages that are to survive, each once,
//! with the places that they were given in their queues.

use std::sync::Arc;

use crate::model::{Deduplication, Message, NameHash, Now, QueueId, Sequence, Ticket};
use crate::queue::Published;
use crate::store::{Names, NewRecord, Run, Settled};

use super::super::{QueueHost, Storage, Wakes};

/// Gives messages that no client publishes to a queue, draining the list, and
/// writes down those that are to survive.
pub(in crate::broker) fn deliver(
    storage: Option<&Arc<Storage>>,
    host: &Arc<QueueHost>,
    messages: &mut Vec<Message>,
    now: Now,
    wakes: &mut Wakes,
) {
    let mut record = RecordDraft::default();
    let storage = storage.filter(|_| host.is_stored());
    if storage.is_some() {
        for (position, message) in messages.iter().enumerate() {
            record.choose(position as u32, position, message);
        }
    }
    let published = host.publish(messages, now, wakes);
    if let Some(storage) = storage {
        record.published(host, published);
        record.append(storage, &[]);
    }
}

/// A record that is being put together.
#[derive(Debug, Default)]
pub(in super::super) struct RecordDraft {
    messages: Vec<Message>,
    runs: Vec<Run>,
    /// The number in the record of each message of the batch.
    numbers: Vec<u32>,
    /// Messages that go to the queue at hand: where in its batch, and their
    /// numbers in the record.
    chosen: Vec<(u32, u32)>,
    /// Whether a queue did not take one: it may be in the record for nothing.
    any_left_out: bool,
    /// Names that queues remember from now on.
    names: Vec<Names>,
    /// Names of copies that were left out.
    repeated: Vec<(QueueId, NameHash)>,
}

impl RecordDraft {
    /// A message of the batch goes to the queue at hand.
    pub(super) fn choose(&mut self, number: u32, position: usize, message: &Message) {
        if !message.persistent() {
            return;
        }
        let number = number as usize;
        if self.numbers.len() <= number {
            self.numbers.resize(number + 1, NOT_CHOSEN);
        }
        let in_record = match self.numbers.get_mut(number) {
            Some(known) if *known == NOT_CHOSEN => {
                *known = self.messages.len() as u32;
                self.messages.push(Message::clone(message));
                *known
            }
            Some(known) => *known,
            None => return,
        };
        self.chosen.push((position as u32, in_record));
    }

    /// The queue at hand has taken its messages, as far as it says; `None` if it
    /// was deleted.
    pub(super) fn published(&mut self, host: &QueueHost, published: Option<Published>) {
        if let (Some(published), Some(rule)) = (&published, &host.settings().rules.deduplication) {
            let (named, repeated) = (published.named.clone(), &published.repeated);
            self.named(host.id(), rule, named, repeated);
        }
        self.placed(host.id(), published);
    }

    /// The queue at hand has taken its messages, but for those that are named;
    /// `None` if it was deleted.
    fn placed(&mut self, queue: QueueId, published: Option<Published>) {
        let Some(Published {
            first, unplaced, ..
        }) = published
        else {
            self.any_left_out |= !self.chosen.is_empty();
            self.chosen.clear();
            return;
        };
        let mut unplaced = unplaced.iter().map(|(position, _)| *position).peekable();
        for (position, message) in self.chosen.drain(..) {
            while unplaced.next_if(|left_out| *left_out < position).is_some() {}
            if unplaced.peek() == Some(&position) {
                self.any_left_out = true;
                continue;
            }
            let place = first.0 + u64::from(position);
            match self.runs.last_mut() {
                Some(last)
                    if last.queue == queue
                        && last.first.0 + u64::from(last.count) == place
                        && last.message + last.count == message =>
                {
                    last.count += 1;
                }
                _ => self.runs.push(Run {
                    queue,
                    first: Sequence(place),
                    message,
                    count: 1,
                }),
            }
        }
    }

    /// A queue or an exchange has told messages by their names.
    pub(super) fn named(
        &mut self,
        queue: QueueId,
        rule: &Deduplication,
        seen: Vec<(u64, NameHash)>,
        repeated: &[NameHash],
    ) {
        if let Some(last) = self.names.last_mut()
            && last.queue == queue
        {
            last.seen.extend(seen);
        } else if !seen.is_empty() {
            self.names.push(Names {
                queue,
                count_max: rule.count,
                time_max: rule.time.unwrap_or_default(),
                seen,
            });
        }
        let repeated = repeated.iter().map(|name| (queue, *name));
        self.repeated.extend(repeated);
    }

    /// Appends what a connection has read, if there is anything in it; the next
    /// record begins.
    pub(super) fn append_read(&mut self, storage: &Storage, settled: &[Settled]) -> Ticket {
        let ticket = if self.is_empty() && settled.is_empty() {
            Ticket(0)
        } else {
            storage.append_read(&self.record(settled))
        };
        self.clear();
        ticket
    }

    /// Appends the record, if there is anything in it; the next one begins.
    pub(in super::super) fn append(&mut self, storage: &Storage, settled: &[Settled]) -> Ticket {
        let ticket = if self.is_empty() && settled.is_empty() {
            Ticket(0)
        } else {
            self.append_again(storage, settled)
        };
        self.clear();
        ticket
    }

    /// Whether no message is to be written down, or to be found there.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.names.is_empty() && self.repeated.is_empty()
    }

    /// Appends the record and keeps it, because the log may refuse it.
    pub(in super::super) fn append_again(
        &mut self,
        storage: &Storage,
        settled: &[Settled],
    ) -> Ticket {
        let ticket = storage.append(&self.record(settled));
        // The second time, what they are copies of has had its chance: it was
        // refused, and whoever published it knows.
        self.repeated.clear();
        ticket
    }

    /// The record as the log takes it.
    fn record<'a>(&'a mut self, settled: &'a [Settled]) -> NewRecord<'a> {
        if std::mem::take(&mut self.any_left_out) {
            self.drop_unused();
        }
        NewRecord {
            settled,
            runs: &self.runs,
            messages: &self.messages,
            names: &self.names,
            repeated: &self.repeated,
        }
    }

    /// The next record begins.
    pub(in super::super) fn clear(&mut self) {
        self.messages.clear();
        self.runs.clear();
        self.numbers.clear();
        self.names.clear();
        self.repeated.clear();
        self.any_left_out = false;
    }

    /// Takes out messages that no queue has taken.
    fn drop_unused(&mut self) {
        let mut used = vec![false; self.messages.len()];
        for run in &self.runs {
            let (first, end) = (run.message as usize, (run.message + run.count) as usize);
            used.get_mut(first..end).unwrap_or_default().fill(true);
        }
        // How many of those in front of each are kept.
        let kept: Vec<u32> = used
            .iter()
            .scan(0, |kept, used| {
                let before = *kept;
                *kept += u32::from(*used);
                Some(before)
            })
            .collect();
        for run in &mut self.runs {
            // Whatever a run names is used, so it stays in one piece.
            run.message = kept.get(run.message as usize).copied().unwrap_or_default();
        }
        let mut used = used.into_iter();
        self.messages.retain(|_| used.next().unwrap_or(true));
    }
}

const NOT_CHOSEN: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Unplaced;

    fn persistent() -> Message {
        use crate::model::{BlockBuilder, Body, Traits};
        let mut builder = BlockBuilder::default();
        builder.push(b"\0\x01q", &[], Body::Slice(b"x"), Traits::new(true));
        Message::new(std::sync::Arc::new(builder.finish()), 0)
    }

    fn run(queue: u64, first: u64, message: u32, count: u32) -> Run {
        Run {
            queue: QueueId(queue),
            first: Sequence(first),
            message,
            count,
        }
    }

    /// What a queue says that has such messages of a batch left out.
    fn published(first: u64, unplaced: &[(u32, Unplaced)]) -> Option<Published> {
        Some(Published {
            first: Sequence(first),
            unplaced: unplaced.to_vec(),
            ..Published::default()
        })
    }

    #[test]
    fn what_a_queue_did_not_take_is_not_in_its_runs() {
        let mut record = RecordDraft::default();
        let messages: Vec<Message> = (0..6).map(|_| persistent()).collect();
        for (number, message) in messages.iter().enumerate() {
            record.choose(number as u32, number, message);
        }
        let left_out = [
            (0, Unplaced::Refused),
            (3, Unplaced::Duplicate),
            (4, Unplaced::Refused),
        ];
        record.placed(QueueId(1), published(10, &left_out));
        // The other queue takes two of them, one of which the first one refused.
        record.choose(2, 0, &messages[2]);
        record.choose(4, 1, &messages[4]);
        record.placed(QueueId(2), published(7, &[]));
        assert_eq!(
            record.runs,
            [
                run(1, 11, 1, 2),
                run(1, 15, 5, 1),
                run(2, 7, 2, 1),
                run(2, 8, 4, 1)
            ]
        );
        record.drop_unused();
        assert_eq!(
            record.runs,
            [
                run(1, 11, 0, 2),
                run(1, 15, 3, 1),
                run(2, 7, 1, 1),
                run(2, 8, 2, 1)
            ]
        );
        assert_eq!(record.messages.len(), 4);
    }

    #[test]
    fn a_record_of_what_was_refused_alone_is_empty() {
        let mut record = RecordDraft::default();
        record.choose(0, 0, &persistent());
        record.placed(QueueId(1), published(0, &[(0, Unplaced::Refused)]));
        assert!(record.is_empty());
        record.clear();
        record.choose(0, 0, &persistent());
        record.placed(QueueId(1), published(1, &[]));
        assert_eq!(record.runs, [run(1, 1, 0, 1)], "the next one is as ever");
    }
}
