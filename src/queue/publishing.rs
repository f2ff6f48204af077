//! Messages that a queue has to look at one by one before it takes them.

use super::classic::Queue;
use super::deduplicate::Known;
use super::ready::Queued;
use super::{Published, Unplaced};
use crate::model::{DeathReason, Message, Overflow};

impl Queue {
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
        let Some(memory) = &mut self.memory else {
            return Ok(());
        };
        let Some(name) = memory.name(&message.properties()) else {
            return Ok(());
        };
        let as_new = match self.settings.durable && message.persistent() {
            true => Known::Stored,
            false => Known::InMemory,
        };
        match memory.take(name, as_new, now) {
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
}
