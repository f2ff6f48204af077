//! Settling and dying: what becomes of a message that was handed out, and of
//! one that nobody wants.

use super::state::Next;
use super::{Run, State, Time, at, number};
use crate::model::{DeathReason, Growth, Retry, RetryOf, Sequence};
use crate::queue::{ConsumerSlot, Outcome, UnsettledSlot};

impl Run {
    pub(super) fn pick_slots(
        &self,
        picks: &[usize],
        which: fn(State) -> bool,
    ) -> Vec<UnsettledSlot> {
        let mut slots = Vec::new();
        for pick in picks {
            let left: Vec<_> = self
                .slots(which)
                .filter(|slot| !slots.contains(slot))
                .collect();
            if !left.is_empty() {
                slots.push(left[pick % left.len()]);
            }
        }
        slots
    }

    pub(super) fn settle(&mut self, slots: &[UnsettledSlot], outcome: Outcome) {
        self.queue.settle(slots, outcome, at(self.now));
        self.gather_letters();
        for slot in slots {
            self.taken.retain(|taken| taken != slot);
            let held = self
                .messages
                .iter()
                .position(|one| one.slot() == Some(*slot));
            let Some(index) = held else {
                continue;
            };
            match outcome {
                Outcome::Requeue {
                    redelivered,
                    refused,
                } => self.requeue(index, redelivered, refused),
                Outcome::Discard
                    if matches!(self.messages[index].state, State::Unsettled { .. }) =>
                {
                    self.bury(index, DeathReason::Rejected);
                }
                Outcome::Ack | Outcome::Discard => self.gone(index),
            }
        }
        self.resume_channels();
    }

    pub(super) fn requeue(&mut self, index: usize, redelivered: bool, refused: bool) {
        let entry = &mut self.messages[index];
        entry.state = State::Ready;
        entry.aside = entry.group.is_some();
        if !redelivered {
            return;
        }
        entry.deliveries += 1;
        let (place, deliveries) = (Sequence(entry.number), entry.deliveries);
        let limit = self.rules.delivery_limit;
        if limit.is_some_and(|limit| deliveries > limit) {
            self.bury(index, DeathReason::DeliveryLimit);
            return;
        }
        let mut due = 0;
        if let Some(retry) = self.retry(refused) {
            let delay = self.drawn(&retry, place, deliveries);
            due = self.now + delay;
            if delay > 0 {
                let entry = &mut self.messages[index];
                entry.state = State::Scheduled { due, again: true };
                entry.aside = false;
            }
        }
        self.store.returned.push((place, deliveries, due));
    }

    fn retry(&self, refused: bool) -> Option<Retry> {
        self.rules.retry.filter(|retry| match retry.of {
            RetryOf::All => true,
            RetryOf::Failed => refused,
            RetryOf::Returned => !refused,
        })
    }

    /// How long the queue says that it waits: a number within the jitter, and not
    /// always the one in the middle.
    fn drawn(&mut self, retry: &Retry, place: Sequence, deliveries: u32) -> u64 {
        let due = self.queue.schedule.due_of(place);
        let delay = due.map_or(0, |due| due - self.now);
        let middle = retry_delay(retry, deliveries);
        let spread = middle as f64 * f64::from(retry.jitter);
        let least = (middle as f64 - spread) as u64;
        let most = (middle as f64 + spread) as u64;
        let at_most = most.min(retry.max_delay);
        assert!(
            least <= delay && delay <= at_most,
            "message {} waits for {delay} ms, not for {least} to {at_most}",
            place.0
        );
        if most == at_most {
            self.chance_of_middle *= 1.0 / (most - least + 1) as f64;
            self.off_middle |= delay != middle;
        }
        delay
    }

    /// The host's duty after credit of a channel may have come back: resume its
    /// consumers, except where their outbox is full.
    pub(super) fn resume_channels(&mut self) {
        for (slot, consumer) in &self.consumers {
            if consumer.channel.is_some() && !consumer.parked {
                self.queue.resume(ConsumerSlot(*slot));
            }
        }
    }

    pub(super) fn gather_letters(&mut self) {
        for letter in std::mem::take(self.queue.letters()) {
            let number = number(&letter.message);
            let slot = (letter.slot, letter.reason);
            let before = self.letters.insert(number, slot);
            assert!(before.is_none(), "message {number} died twice");
        }
    }

    /// All messages of that id that wait for their time are gone, those that are
    /// tried again as well. Of those that wait in pages since a restart that is
    /// found when they are read.
    pub(super) fn take_back(&mut self, id: u8) {
        let mut index = 0;
        while let Some(entry) = self.messages.get_mut(index) {
            let waits = matches!(entry.state, State::Scheduled { .. });
            if !waits || entry.id != Some(id) {
                index += 1;
            } else if self.store.is_unread_since_restart(entry.number) {
                entry.taken_back = true;
                index += 1;
            } else {
                self.gone(index);
            }
        }
    }

    /// A message has died: it is a letter if there is an exchange for those.
    pub(super) fn bury(&mut self, index: usize, reason: DeathReason) {
        let number = self.messages[index].number;
        if self.rules.dead_letter_exchange.is_none() {
            self.gone(index);
            return;
        }
        let letter = self.letters.remove(&number);
        let (slot, said) = letter.unwrap_or_else(|| panic!("message {number} is no letter"));
        assert_eq!(said, reason, "why message {number} died");
        let entry = &mut self.messages[index];
        entry.state = State::Ready;
        entry.aside = false;
        assert!(!self.is_used(slot), "two messages in one slot");
        self.messages[index].state = State::Letter { slot };
    }

    pub(super) fn gone(&mut self, index: usize) {
        self.messages.remove(index);
        self.settled += 1;
    }

    /// Has those die that are dead before `until`; whether all of them have.
    /// Where letters wait, which ones die first is the queue's affair.
    pub(super) fn expire(&mut self, until: Time) -> bool {
        loop {
            let dying = self.dying(until);
            let Some(first) = dying.first() else {
                return true;
            };
            let is_letter = |index: &&usize| {
                let letter = self.letters.get(&self.messages[**index].number);
                letter.is_some_and(|(_, reason)| *reason == DeathReason::Expired)
            };
            let index = if self.rules.dead_letter_exchange.is_none() {
                Some(first).filter(|_| !self.letters_wait())
            } else {
                dying.iter().find(is_letter)
            };
            match index {
                Some(index) => self.bury(*index, DeathReason::Expired),
                None => {
                    let who = &self.messages[*first];
                    assert!(self.letters_wait(), "{} did not die", who.number);
                    return false;
                }
            }
        }
    }

    /// Has the next one die, and those that are next then, whose time in the
    /// queue was over before now, though they were not at the head.
    ///
    /// `settled`: how many messages the queue has settled by now that the model
    /// has not yet.
    pub(super) fn pass_over_dead(&mut self, settled: u64) {
        while let Next::Message(index) = self.next_up()
            && self.is_too_old(&self.messages[index], self.now)
            && !self.letters_wait()
        {
            let number = self.messages[index].number;
            let died = if self.rules.dead_letter_exchange.is_some() {
                self.letters.contains_key(&number)
            } else {
                self.queue.counts().settled > self.settled + settled
            };
            if !died {
                return;
            }
            self.bury(index, DeathReason::Expired);
        }
    }
}

/// How long a message waits without jitter that came back for the
/// `deliveries`-th time.
fn retry_delay(retry: &Retry, deliveries: u32) -> u64 {
    let mut delay = retry.delay;
    for _ in 1..deliveries {
        delay = match retry.growth {
            Growth::Linear => delay + retry.delay,
            Growth::Factor(factor) => (delay as f64 * f64::from(factor)) as u64,
        };
        delay = delay.min(retry.max_delay);
    }
    delay.min(retry.max_delay)
}
