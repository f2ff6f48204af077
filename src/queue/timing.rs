//! What happens at its time: messages that die or are due, a queue that is too
//! full, a consumer that holds a message too long.
//!
//! The queue says when something is next to be done ([`Queue::next_due`]); its
//! host wakes it then ([`Queue::tick`]). Whatever else happens at or after that
//! moment sees to it first, so that nothing is delivered that is dead.

use super::classic::Queue;
use super::deadlines::{after, from_when};
use super::ready::Queued;
use super::unsettled::{Held, Holder};
use crate::model::{DeathReason, Message, Now, Overflow};

impl Queue {
    /// When [`Queue::tick`] is to be called, in milliseconds since 1970; `None`
    /// if nothing is to be done by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        (self.due < u64::MAX).then_some(self.due)
    }

    /// Does what is due at that moment; whether the queue is unused for so long
    /// that it is to be deleted.
    pub fn tick(&mut self, now: Now) -> bool {
        let now = now.millis();
        self.end_slow_consumers(now);
        // What dies at this very moment had its chance: the host delivers first.
        self.work_off(now + 1);
        self.arm();
        self.check();
        self.is_unused(now)
    }

    /// The queue was declared again: it is in use.
    pub fn touch(&mut self, now: Now) {
        self.used_at = now.millis();
        if self.is_timed() {
            self.arm();
        }
    }

    /// Lets go what is too much, as dead letters; the host asks after it has
    /// delivered what consumers can take.
    pub fn enforce_limits(&mut self) {
        if self.rules.overflow != Overflow::DropHead {
            return;
        }
        while self.exceeds_limits() && !self.letters_wait() {
            let Some(queued) = self.take_head() else {
                break;
            };
            self.bury(queued, DeathReason::MaxLength);
        }
        self.check();
    }

    /// Whether a body of that size is too much, whoever waits for it.
    pub(super) fn is_full_for(&self, body_bytes: usize) -> bool {
        let full = |limit: Option<u64>, more: u64| limit.is_some_and(|limit| more > limit);
        full(self.rules.max_length, self.ready() + 1)
            || full(
                self.rules.max_length_bytes,
                self.body_bytes() + body_bytes as u64,
            )
    }

    /// Whether anything is ever to be done by itself.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.due < u64::MAX
            || self.rules.message_ttl.is_some()
            || self.rules.expires.is_some()
            || self.rules.consumer_timeout.is_some()
            || !self.schedule.is_empty()
            || self.backlog.has_deadlines()
    }

    /// Whether something was due before that moment.
    #[inline]
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.due < u64::MAX && self.due < now.millis()
    }

    /// Finds out when something is next to be done.
    pub(super) fn arm(&mut self) {
        let mut due = u64::MAX;
        if !self.letters_wait() {
            if let Some(ttl) = self.rules.message_ttl {
                for (_, head) in self.backlog.heads() {
                    due = due.min(after(from_when(head), ttl));
                }
            }
            due = due.min(self.backlog.first_deadline().unwrap_or(u64::MAX));
            if let Some(groups) = &self.groups {
                due = due.min(groups.first_deadline().unwrap_or(u64::MAX));
            }
        }
        due = due.min(self.schedule.first().unwrap_or(u64::MAX));
        if let Some(expires) = self.rules.expires
            && self.consumers.len() == 0
        {
            due = due.min(after(self.used_at, expires));
        }
        if let Some(timeout) = self.rules.consumer_timeout
            && let Some((since, _, _)) = self.unsettled.oldest()
        {
            due = due.min(since.saturating_add(timeout));
        }
        self.due = due;
    }

    /// Does what was due before `until`: the dead leave, what waited for its
    /// time joins the others. Whether nothing dead is left.
    pub(super) fn work_off(&mut self, until: u64) -> bool {
        while let Some((due, queued)) = self.schedule.pop(until.saturating_sub(1)) {
            self.release(due, queued);
        }
        if let Some(page) = self.schedule.page_wanted(until) {
            self.visits.push(page);
        }
        let done = self.bury_dead(until);
        self.arm();
        done
    }

    fn is_unused(&self, now: u64) -> bool {
        self.rules
            .expires
            .is_some_and(|expires| after(self.used_at, expires) <= now)
            && self.consumers.len() == 0
    }

    /// Whether so many dead letters are on their way that no more may die.
    fn letters_wait(&self) -> bool {
        self.letters_out >= LETTERS_MAX
    }

    fn bury_dead(&mut self, until: u64) -> bool {
        if let Some(ttl) = self.rules.message_ttl {
            let levels: Vec<u8> = self.backlog.heads().map(|(level, _)| level).collect();
            for level in levels {
                while self
                    .backlog
                    .head_of(level)
                    .is_some_and(|head| is_dead(head, ttl, until))
                {
                    if self.letters_wait() {
                        return false;
                    }
                    let Some(queued) = self.backlog.pop_of(level) else {
                        break;
                    };
                    self.bury(queued, DeathReason::Expired);
                }
            }
        }
        loop {
            if self.letters_wait() {
                return false;
            }
            let Some(queued) = self.pop_dead(until) else {
                break;
            };
            self.bury(queued, DeathReason::Expired);
        }
        if let Some(page) = self.backlog.visit_before(until) {
            self.visits.push(page);
        }
        true
    }

    fn pop_dead(&mut self, until: u64) -> Option<Queued> {
        if let Some(queued) = self.backlog.pop_dead(until) {
            return Some(queued);
        }
        self.groups.as_mut()?.pop_dead(until)
    }

    fn exceeds_limits(&self) -> bool {
        let exceeds = |limit: Option<u64>, have: u64| limit.is_some_and(|limit| have > limit);
        exceeds(self.rules.max_length, self.ready())
            || exceeds(self.rules.max_length_bytes, self.body_bytes())
    }

    fn body_bytes(&self) -> u64 {
        let aside = self.groups.as_ref().map_or(0, |groups| groups.body_bytes());
        self.backlog.body_bytes().unwrap_or(0) + aside
    }

    /// Takes away what consumers held too long, and ends them.
    fn end_slow_consumers(&mut self, now: u64) {
        let Some(timeout) = self.rules.consumer_timeout else {
            return;
        };
        while let Some((since, slot, consumer)) = self.unsettled.oldest()
            && since.saturating_add(timeout) <= now
        {
            let Some(Held { queued, .. }) = self.unsettled.take_away(slot) else {
                break;
            };
            self.requeue(queued, true, false, now);
            self.consumers.give_back(consumer, 1, now);
            if self.consumers.cancel(consumer).is_some() {
                self.used_at = now;
                self.timed_out.push(consumer);
            }
        }
    }

    /// A message that was taken out is dead: it goes to the dead letter
    /// exchange, if there is one.
    pub(super) fn bury(&mut self, queued: Queued, reason: DeathReason) {
        if !self.has_dead_letters() || self.unsettled.is_full() {
            self.let_go(&queued);
            return;
        }
        self.backlog.forget(queued.sequence);
        if self.groups.is_some() {
            self.free_group(&queued);
        }
        let message = queued.message.clone();
        let holder = Holder::Letter;
        let slot = self.unsettled.insert(Held { queued, holder });
        self.letters_out += 1;
        self.letters.push(super::DeadLetter {
            slot,
            message,
            reason,
        });
    }

    pub(super) fn has_dead_letters(&self) -> bool {
        self.rules.dead_letter_exchange.is_some()
    }
}

fn is_dead(message: &Message, ttl: u64, until: u64) -> bool {
    after(from_when(message), ttl) < until
}

/// Dead letters that may be on their way; they are in memory.
const LETTERS_MAX: u64 = 4_096;
