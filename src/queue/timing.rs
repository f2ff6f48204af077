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
        while self.exceeds_limits_with(0, 0) && !self.letters_wait() {
            let Some(queued) = self.take_head() else {
                break;
            };
            self.bury(queued, DeathReason::MaxLength);
        }
        if self.is_timed() {
            self.arm();
        }
        self.check();
    }

    /// Whether a body of that size is too much, whoever waits for it.
    pub(super) fn is_full_for(&self, body_bytes: usize) -> bool {
        self.exceeds_limits_with(1, body_bytes as u64)
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
            || self.has_deadlines_aside()
    }

    /// Whether a message dies that was set aside, which the backlog may never
    /// have had: it waited for its time since before a restart.
    fn has_deadlines_aside(&self) -> bool {
        let groups = self.groups.as_ref();
        groups.is_some_and(|groups| groups.first_deadline().is_some())
    }

    /// Whether something was due before that moment.
    #[inline]
    pub(super) fn is_due(&self, now: Now) -> bool {
        let due = self.due.min(self.death);
        due < u64::MAX && due < now.millis()
    }

    /// Finds out when something is next to be done.
    pub(super) fn arm(&mut self) {
        self.death = self.first_death();
        let mut due = u64::MAX;
        if !self.letters_wait() {
            let own = self.backlog.first_deadline();
            due = self.death.min(own.unwrap_or(u64::MAX));
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

    /// Whether its oldest messages go by themselves, if nobody takes them.
    pub(super) fn lets_oldest_go(&self) -> bool {
        let drops = self.rules.overflow == Overflow::DropHead;
        self.rules.message_ttl.is_some() || (drops && self.exceeds_limits_with(0, 0))
    }

    /// Whether so many dead letters are on their way that no more may die.
    fn letters_wait(&self) -> bool {
        self.letters_out >= self.limits.letters
    }

    /// When the first message in memory dies.
    fn first_death(&self) -> u64 {
        let ttl = self.rules.message_ttl;
        let heads = ttl.into_iter().flat_map(|ttl| {
            let heads = self.backlog.heads();
            heads.map(move |(_, head)| after(from_when(head), ttl))
        });
        let groups = self.groups.as_ref();
        let aside = groups.and_then(|groups| groups.first_deadline());
        let own = self.backlog.first_deadline_in_memory();
        heads.chain(aside).chain(own).min().unwrap_or(u64::MAX)
    }

    /// Buries what was dead before `until`; whether all of it.
    fn bury_dead(&mut self, until: u64) -> bool {
        while self.first_death() < until {
            if self.letters_wait() {
                return false;
            }
            let Some(queued) = self.pop_dead(until) else {
                break;
            };
            self.bury(queued, DeathReason::Expired);
        }
        if !self.letters_wait()
            && let Some(page) = self.backlog.visit_before(until)
        {
            self.visits.push(page);
        }
        true
    }

    fn pop_dead(&mut self, until: u64) -> Option<Queued> {
        if let Some(ttl) = self.rules.message_ttl {
            let mut heads = self.backlog.heads();
            let dead = heads.find(|(_, head)| is_dead(head, ttl, until));
            if let Some((level, _)) = dead {
                drop(heads);
                return self.backlog.pop_of(level);
            }
        }
        let own = self.backlog.pop_dead(until);
        own.or_else(|| self.groups.as_mut()?.pop_dead(until))
    }

    /// Buries those that are next and were dead before `until`, though others
    /// stood before them that were not: where messages had to wait for their
    /// time. Whether what is next then is at hand and not dead.
    #[cold]
    pub(super) fn bury_next(&mut self, until: u64) -> bool {
        while self.next_is_dead(until) {
            if self.letters_wait() {
                return false;
            }
            let Some(queued) = self.take_next() else {
                return false;
            };
            self.bury(queued, DeathReason::Expired);
        }
        self.peek_next().is_some()
    }

    /// Whether what is next was dead before `until`.
    pub(super) fn next_is_dead(&mut self, until: u64) -> bool {
        let Some(ttl) = self.rules.message_ttl else {
            return false;
        };
        let next = self.peek_next();
        next.is_some_and(|message| is_dead(message, ttl, until))
    }

    /// Whether it has too much, with so many messages and octets of bodies more.
    fn exceeds_limits_with(&self, messages: u64, body_bytes: u64) -> bool {
        let (length, octets) = (self.rules.max_length, self.rules.max_length_bytes);
        length.is_some_and(|limit| self.ready() + messages > limit)
            || octets.is_some_and(|limit| self.body_bytes() + body_bytes > limit)
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
