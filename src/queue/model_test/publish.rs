//! Publishing: what is taken, what is refused, what is a copy.

use super::message::{Name, Spec};
use super::{Entry, Run, State, Time, at};
use crate::model::{DeathReason, NameHash, Overflow};
use crate::queue::{Published, Unplaced};

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
        let (mut new, mut copies) = (Vec::new(), Vec::new());
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
            if let Some(id) = spec.takes_back {
                unplaced.push((position as u32, Unplaced::Command));
                self.settled += 1;
                self.take_back(id);
                continue;
            }
            let entry = Entry::new(number, &spec, message, &self.rules, self.now);
            if self.rules.may_refuse() && self.is_too_full(1, entry.body_bytes) {
                unplaced.push((position as u32, Unplaced::Refused));
                refused.push(entry);
            } else if self.is_copy(&spec, &mut new) {
                copies.extend(spec.known_as());
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
        self.compare_names(&published, &new, &copies);
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

    /// Whether a message of that name is remembered; it is from now on, and is
    /// `new` then.
    fn is_copy(&mut self, spec: &Spec, new: &mut Vec<Name>) -> bool {
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
        new.push(name);
        false
    }

    /// A durable queue says which names are to be written down with their
    /// messages, and which ones must have been.
    fn compare_names(&mut self, published: &Published, new: &[Name], copies: &[Name]) {
        if !self.settings.durable {
            assert!(published.named.is_empty() && published.repeated.is_empty());
            return;
        }
        assert_eq!(published.named.len(), new.len(), "names to be written down");
        for ((at, hash), name) in published.named.iter().zip(new) {
            assert_eq!(*at, self.now);
            match self.hash(*name) {
                Some(known) => assert_eq!(known, *hash, "the hash of {name:?}"),
                None => self.hashes.push((*name, *hash)),
            }
            self.named.push((self.now, *name));
        }
        let repeated: Vec<NameHash> = copies.iter().filter_map(|one| self.hash(*one)).collect();
        assert_eq!(published.repeated, repeated);
    }

    fn hash(&self, name: Name) -> Option<NameHash> {
        let mut hashes = self.hashes.iter();
        let found = hashes.find(|(known, _)| *known == name);
        found.map(|(_, hash)| *hash)
    }

    /// The log has refused the message that a name came with.
    pub(super) fn refuse_name(&mut self, pick: usize) {
        if !self.settings.durable || self.names.is_empty() {
            return;
        }
        let (_, name) = self.names[pick % self.names.len()];
        let hash = self.hash(name).expect("it was written down");
        self.queue.forget_names(&[hash]);
        self.names.retain(|(_, known)| *known != name);
        let last = self.named.iter().rposition(|(_, known)| *known == name);
        self.named.remove(last.expect("it was written down"));
    }

    /// The names that the store gives back, the last one of each name counting.
    pub(super) fn restored_names(&mut self) -> Vec<(Time, NameHash)> {
        let Some(rule) = &self.rules.deduplication else {
            return Vec::new();
        };
        let most = rule.count.max(1) as usize;
        for (at, name) in &self.named {
            self.names.retain(|(_, known)| known != name);
            self.names.push_back((*at, *name));
        }
        while self.names.len() > most {
            self.names.pop_front();
        }
        let named = self.named.iter();
        named
            .map(|(at, name)| (*at, self.hash(*name).expect("it was written down")))
            .collect()
    }
}
