//! Messages that a queue has to look at one by one before it takes them.

use super::classic::Queue;
use super::deduplicate::Known;
use super::ready::Queued;
use super::{Published, Unplaced};
use crate::model::{DeathReason, Message, NameHash, Overflow};

impl Queue {
    /// Takes messages that nothing speaks against, unless they are copies.
    #[inline]
    pub(super) fn publish_alike(&mut self, messages: &mut Vec<Message>, now: u64) -> Published {
        let mut published = Published {
            first: self.backlog.next(),
            ..Published::default()
        };
        if self.memory.is_some() {
            self.find_copies(messages, now, &mut published);
        }
        if published.unplaced.is_empty() {
            self.backlog.append(messages);
            return published;
        }
        let mut copies = published.unplaced.iter().map(|(position, _)| *position);
        let mut copy = copies.next();
        for (position, message) in messages.drain(..).enumerate() {
            if copy == Some(position as u32) {
                copy = copies.next();
                self.backlog.skip_place();
                self.enqueued -= 1;
                self.duplicates += 1;
            } else {
                self.backlog.push(message);
            }
        }
        published
    }

    /// Notes which messages are copies.
    fn find_copies(&mut self, messages: &[Message], now: u64, published: &mut Published) {
        let Some(memory) = &mut self.memory else {
            return;
        };
        let durable = self.settings.durable;
        let as_new = |position: usize| {
            let is_stored = durable && messages.get(position).is_some_and(Message::persistent);
            Known::as_new(is_stored)
        };
        let headers = messages.iter().map(Message::header);
        memory.take_all(headers, now, as_new, |position, name, known| {
            if let Err(why) = note(name, as_new(position), known, now, published) {
                published.unplaced.push((position as u32, why));
            }
        });
    }

    /// Takes messages that have to be looked at one by one.
    #[cold]
    pub(super) fn publish_each(&mut self, messages: &mut Vec<Message>, now: u64) -> Published {
        let mut published = Published {
            first: self.backlog.next(),
            ..Published::default()
        };
        for (position, message) in messages.drain(..).enumerate() {
            if message.traits().cancels() {
                self.backlog.skip_place();
                self.settled += 1;
                published
                    .unplaced
                    .push((position as u32, Unplaced::Command));
                self.cancel_scheduled(&message);
                continue;
            }
            if let Err(why) = self.admit(&message, now, &mut published) {
                let sequence = self.backlog.skip_place();
                published.unplaced.push((position as u32, why));
                if why == Unplaced::Refused
                    && self.rules.overflow == Overflow::RejectPublishDeadLetter
                {
                    self.bury(Queued::new(sequence, message), DeathReason::MaxLength);
                } else if why == Unplaced::Duplicate {
                    self.enqueued -= 1;
                    self.duplicates += 1;
                } else {
                    self.settled += 1;
                }
                continue;
            }
            match message.deliver_at().filter(|due| *due > now) {
                Some(due) => {
                    let sequence = self.backlog.skip_place();
                    self.schedule.insert(due, Queued::new(sequence, message));
                }
                None => {
                    self.backlog.push(message);
                }
            }
        }
        published
    }

    /// Whether a message may come in. What it is called is noted in `published`,
    /// if the log is to know.
    fn admit(
        &mut self,
        message: &Message,
        now: u64,
        published: &mut Published,
    ) -> Result<(), Unplaced> {
        if self.rules.may_refuse() && self.is_full_for(message.body_bytes()) {
            return Err(Unplaced::Refused);
        }
        self.admit_new(message, now, published)
    }

    /// Whether a message may come in that there is room for.
    fn admit_new(
        &mut self,
        message: &Message,
        now: u64,
        published: &mut Published,
    ) -> Result<(), Unplaced> {
        let Some(memory) = &mut self.memory else {
            return Ok(());
        };
        let Some(name) = memory.name(message.header()) else {
            return Ok(());
        };
        let as_new = Known::as_new(self.settings.durable && message.persistent());
        let known = memory.take(name, as_new, now);
        note(name, as_new, known, now, published)
    }
}

/// Notes a name, if the log is to know of it; an error if its message is a copy.
fn note(
    name: NameHash,
    as_new: Known,
    known: Option<Known>,
    now: u64,
    published: &mut Published,
) -> Result<(), Unplaced> {
    match known {
        None if as_new == Known::Stored => published.named.push((now, name)),
        None => {}
        Some(Known::Stored) => {
            published.repeated.push(name);
            return Err(Unplaced::Duplicate);
        }
        Some(Known::InMemory) => return Err(Unplaced::Duplicate),
    }
    Ok(())
}
