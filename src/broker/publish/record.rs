//! What of a batch goes to the log: messages that are to survive, each once,
//! with the places that they were given in their queues.

use std::sync::Arc;

use crate::model::{Message, Now, QueueId, Sequence, Ticket};
use crate::store::{Run, Settled};

use super::{QueueHost, Storage, Wakes};

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
    let first = host.publish(messages, now, wakes);
    if let Some(storage) = storage {
        record.placed(host.id(), first);
        record.append(storage, &[]);
    }
}

/// A record that is being put together.
#[derive(Debug, Default)]
pub(super) struct RecordDraft {
    messages: Vec<Message>,
    runs: Vec<Run>,
    /// The number in the record of each message of the batch.
    numbers: Vec<u32>,
    /// Messages that go to the queue at hand: where in its batch, and their
    /// numbers in the record.
    chosen: Vec<(u32, u32)>,
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

    /// The queue at hand has taken its messages, from this place on; `None` if
    /// it was deleted.
    pub(super) fn placed(&mut self, queue: QueueId, first: Option<Sequence>) {
        let Some(first) = first else {
            self.chosen.clear();
            return;
        };
        for (position, message) in self.chosen.drain(..) {
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

    /// Appends the record, if there is anything in it.
    pub(super) fn append(&mut self, storage: &Storage, settled: &[Settled]) -> Ticket {
        if self.runs.is_empty() && settled.is_empty() {
            self.clear();
            return Ticket(0);
        }
        let ticket = storage.append(settled, &self.runs, &self.messages);
        self.clear();
        ticket
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.runs.clear();
        self.numbers.clear();
    }
}

const NOT_CHOSEN: u32 = u32::MAX;
