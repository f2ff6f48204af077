//! What happens by itself: messages die or are due, consumers are too slow, the
//! queue is too full or nobody uses it.

use super::{Run, State, Time, after, at};
use crate::model::{DeathReason, Overflow, QueueRules};
use crate::queue::ConsumerSlot;

/// How long before its first message is due a page of the schedule is read.
const READ_BEFORE: Time = 2_000;

impl Run {
    pub(super) fn tick(&mut self) {
        let unused = self.queue.tick(at(self.now));
        self.passed();
        assert_eq!(unused, self.is_unused(), "whether nobody uses the queue");
    }

    pub(super) fn set_rules(&mut self, rules: QueueRules) {
        if rules.expires.is_some() && self.rules.expires.is_none() {
            self.used_at = self.now;
        }
        if rules.consumer_timeout.is_none() {
            for entry in &mut self.messages {
                if let State::Unsettled { since, .. } = &mut entry.state {
                    *since = None;
                }
            }
        }
        if rules.max_length_bytes.is_some() && self.rules.max_length_bytes.is_none() {
            self.count_bodies();
        }
        self.queue.set_rules(rules.clone(), at(self.now));
        self.rules = QueueRules {
            max_priority: self.rules.max_priority,
            single_active_consumer: self.rules.single_active_consumer,
            group_header: self.rules.group_header.take(),
            deduplication: self.rules.deduplication.take(),
            ..rules
        };
        assert_eq!(self.queue.rules(), &self.rules);
        self.passed();
    }

    /// The counting of bodies begins. Of messages in pages all octets count.
    fn count_bodies(&mut self) {
        for index in 0..self.messages.len() {
            let resident = self.is_resident(self.messages[index].number);
            let entry = &mut self.messages[index];
            entry.counted_bytes = if resident {
                entry.body_bytes
            } else {
                entry.message.stored_bytes() as u64
            };
        }
    }

    /// All that was due until now has been done.
    fn passed(&mut self) {
        self.gather_letters();
        self.end_slow_consumers();
        self.release(self.now + 1);
        self.expire(self.now + 1);
        self.resume_channels();
    }

    /// What was due before now has been done, by a command that needs it; whether
    /// nothing dead is left.
    pub(super) fn catch_up(&mut self) -> bool {
        self.gather_letters();
        self.release(self.now);
        self.expire(self.now)
    }

    pub(super) fn is_unused(&self) -> bool {
        let expires = self.rules.expires;
        self.consumers.is_empty()
            && expires.is_some_and(|expires| after(self.used_at, expires) <= self.now)
    }

    /// What waits in memory joins the others, by time and then by place.
    fn release(&mut self, until: Time) {
        let mut due: Vec<(Time, usize)> = Vec::new();
        for (index, entry) in self.messages.iter().enumerate() {
            if let State::Scheduled { due: time, .. } = entry.state
                && time < until
                && self.is_resident(entry.number)
            {
                due.push((time, index));
            }
        }
        due.sort_unstable();
        let next = self.queue.backlog.next().0;
        for (time, index) in due {
            let entry = &mut self.messages[index];
            entry.aside = entry.group.is_some() && entry.holds_group();
            entry.unknown_to_group = false;
            entry.state = State::Ready;
            // What was tried before has its place.
            if entry.deliver_at == Some(time) {
                self.released += 1;
                entry.released = Some((next, self.released));
                entry.in_log = false;
            }
        }
    }

    fn end_slow_consumers(&mut self) {
        let Some(timeout) = self.rules.consumer_timeout else {
            assert!(self.queue.timed_out().is_empty());
            return;
        };
        let mut ended = Vec::new();
        let mut index = 0;
        while let Some(entry) = self.messages.get(index) {
            if let State::Unsettled {
                slot,
                consumer: Some(serial),
                since: Some(since),
                ..
            } = entry.state
                && since + timeout <= self.now
            {
                let number = entry.number;
                self.taken.push(slot);
                self.requeue(index, true, false);
                ended.push(serial);
                let stays = self
                    .messages
                    .get(index)
                    .is_some_and(|one| one.number == number);
                index += usize::from(stays);
            } else {
                index += 1;
            }
        }
        let mut slots: Vec<ConsumerSlot> = Vec::new();
        self.consumers.retain(|slot, consumer| {
            let slow = ended.contains(&consumer.serial);
            if slow {
                slots.push(ConsumerSlot(*slot));
            }
            !slow
        });
        if !slots.is_empty() {
            self.used_at = self.now;
            self.hand_over();
        }
        let mut said = std::mem::take(self.queue.timed_out());
        said.sort_unstable_by_key(|slot| slot.0);
        assert_eq!(said, slots, "consumers that were too slow");
    }

    pub(super) fn enforce_limits(&mut self) {
        self.queue.enforce_limits();
        self.gather_letters();
        while self.drops_head() {
            let in_order = self.in_order();
            let Some(head) = in_order.first() else {
                break;
            };
            if self.head_is_missing() {
                break;
            }
            self.bury(*head, DeathReason::MaxLength);
        }
        let rejects = self.rules.overflow != Overflow::DropHead;
        assert!(
            rejects || self.letters.is_empty(),
            "one too many was dropped"
        );
    }

    fn drops_head(&self) -> bool {
        self.rules.overflow == Overflow::DropHead && self.is_too_full(0, 0) && !self.letters_wait()
    }

    fn head_is_missing(&self) -> bool {
        let Some(head) = self.in_order().first().map(|index| &self.messages[*index]) else {
            return false;
        };
        let page = self.store.first_page();
        page.is_some_and(|page| page < head.rank()) || !self.is_resident(head.number)
    }

    /// After the host has done its duty, nothing is left that is due, and the
    /// queue knows when it will have something to do.
    pub(super) fn check_done(&mut self) {
        let unused = self.is_unused();
        let next_due = self.queue.next_due();
        assert!(
            unused || next_due.is_none_or(|due| due > self.now),
            "it is {} and something is due at {next_due:?} already",
            self.now
        );
        assert!(self.letters_wait() || self.dying(self.now + 1).is_empty());
        assert!(
            !self.drops_head() || self.head_is_missing(),
            "too much is left"
        );
        let dead_wait = self.letters_wait() && !self.dying(self.now).is_empty();
        assert!(dead_wait || !self.something_can_go());
    }

    /// The queue says in time when something is to be done.
    pub(super) fn check_next_due(&self) {
        let next = self.next_event();
        let said = self.queue.next_due();
        assert!(
            next.is_none_or(|next| said.is_some_and(|said| said <= next)),
            "it is {}, something is due at {next:?}, and the queue says {said:?}",
            self.now
        );
    }

    fn next_event(&self) -> Option<Time> {
        let mut events = Vec::new();
        if let Some(timeout) = self.rules.consumer_timeout {
            let held = self.messages.iter().filter_map(|entry| match entry.state {
                State::Unsettled {
                    since,
                    consumer: Some(_),
                    ..
                } => since,
                _ => None,
            });
            events.extend(held.map(|since| since + timeout));
        }
        if let Some(expires) = self.rules.expires
            && self.consumers.is_empty()
        {
            events.push(after(self.used_at, expires));
        }
        let nothing_read = self.store.reading.is_empty() && self.queue.visits.is_empty();
        let mut levels = Vec::new();
        for index in self.in_order() {
            let entry = &self.messages[index];
            let resident = self.is_resident(entry.number);
            if self.letters_wait() {
                continue;
            }
            if resident || (nothing_read && !entry.unreadable) {
                events.extend(entry.deadline);
            }
            let at_head = !levels.contains(&entry.level) && !self.page_before(entry);
            if !entry.aside {
                levels.push(entry.level);
            }
            if let Some(ttl) = self.rules.message_ttl
                && resident
                && (at_head || entry.aside)
            {
                events.push(after(entry.from, ttl));
            }
        }
        for entry in &self.messages {
            if let State::Scheduled { due, .. } = entry.state {
                if self.is_resident(entry.number) {
                    events.push(due);
                } else if nothing_read {
                    events.push(due.saturating_sub(READ_BEFORE));
                }
            }
        }
        events.into_iter().min()
    }
}
