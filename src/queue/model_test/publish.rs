//! Publishing: what is taken, what is refused, what is a copy.

use super::message::Spec;
use super::{Entry, Run, State, at};
use crate::model::{DeathReason, Overflow};
use crate::queue::Unplaced;

impl Run {
    pub(super) fn publish(&mut self, specs: &[Spec]) {
        if self.prompt && self.rules.may_refuse() {
            // What is refused is known before the next one: consumers take first.
            for spec in specs {
                self.publish_at_once(std::slice::from_ref(spec));
                while self.deliver(usize::MAX) {}
            }
            return;
        }
        self.publish_at_once(specs);
    }

    fn publish_at_once(&mut self, specs: &[Spec]) {
        let first = self.queue.backlog.next().0;
        assert!(first >= self.next, "places are never used again");
        let mut messages = Vec::new();
        let mut unplaced = Vec::new();
        let mut refused = Vec::new();
        for (position, spec) in specs.iter().enumerate() {
            let spec = Spec {
                ttl: spec.ttl.filter(|_| self.features.expiring),
                later: spec.later.filter(|_| self.features.scheduled),
                ..spec.clone()
            };
            let number = first + position as u64;
            let message = spec.message(number, self.now);
            messages.push(message.clone());
            self.enqueued += 1;
            let entry = Entry::new(number, &spec, message, &self.rules, self.now);
            if self.rules.may_refuse() && self.is_too_full(1, entry.body_bytes) {
                unplaced.push((position as u32, Unplaced::Refused));
                refused.push(entry);
            } else if self.is_copy(&spec) {
                unplaced.push((position as u32, Unplaced::Duplicate));
                self.enqueued -= 1;
                self.duplicates += 1;
            } else {
                self.store.live.insert(number);
                self.messages.push(entry);
            }
        }
        self.next = first + specs.len() as u64;
        let capacity = messages.capacity();
        let published = self.queue.publish(&mut messages, at(self.now));
        self.gather_letters();
        assert_eq!(published.first.0, first);
        assert_eq!(published.unplaced, unplaced);
        assert!(messages.is_empty() && messages.capacity() == capacity);
        for entry in refused {
            self.refused(entry);
        }
    }

    /// A refused message is a dead letter, or nothing.
    fn refused(&mut self, entry: Entry) {
        if self.rules.overflow != Overflow::RejectPublishDeadLetter {
            self.settled += 1;
            return;
        }
        // The store is told that it is gone, though it never was there.
        self.store.live.insert(entry.number);
        let number = entry.number;
        let behind = self.messages.partition_point(|one| one.number < number);
        self.messages.insert(
            behind,
            Entry {
                state: State::Ready,
                ..entry
            },
        );
        self.bury(behind, DeathReason::MaxLength);
    }

    /// Whether a message of that name is remembered; it is from now on.
    fn is_copy(&mut self, spec: &Spec) -> bool {
        let (Some(rule), Some(name)) = (&self.rules.deduplication, spec.known_as()) else {
            return false;
        };
        if let Some(time) = rule.time {
            self.names.retain(|(seen, _)| seen + time > self.now);
        }
        if self.names.iter().any(|(_, known)| *known == name) {
            return true;
        }
        while self.names.len() as u64 >= rule.count.max(1) {
            self.names.pop_front();
        }
        self.names.push_back((self.now, name));
        false
    }
}
