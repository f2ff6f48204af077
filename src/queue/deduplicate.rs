//! Which messages are copies of earlier ones.
//!
//! A message's name is a header's value or its `message-id`; names are
//! remembered as hashes, so many and so long. A name that is forgotten makes
//! room, and its message would be taken again.
//!
//! Whether a name outlives the process is up to the message that brought it:
//! the name of a message that is written down is part of the same record of the
//! log. Until that is durable a copy must not be confirmed either, so whoever
//! finds one learns whether to ask the log ([`Known::Stored`]).

use std::collections::VecDeque;

use foldhash::{HashMap, HashSet};
use leveret_protocol::header::PropertyScan;
use leveret_protocol::{Limits, table};

use crate::model::{Deduplication, NameHash};

/// The names that a queue or an exchange remembers.
#[derive(Debug)]
pub struct Memory {
    rule: Deduplication,
    seen: HashMap<NameHash, Known>,
    /// In the order in which they were seen: when, in milliseconds since 1970.
    order: VecDeque<(u64, NameHash)>,
}

/// What is known of a name that was seen before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// It is in the log, or is to be.
    Stored,
    /// It is nowhere else.
    InMemory,
}

impl Memory {
    /// Remembers what a store kept, oldest first.
    #[must_use]
    pub fn new(rule: Deduplication, names: Vec<(u64, NameHash)>) -> Self {
        let stored = names.iter().map(|(_, name)| (*name, Known::Stored));
        let mut memory = Self {
            seen: stored.collect(),
            order: names.into(),
            rule,
        };
        memory.make_room(memory.rule.count.max(1));
        memory
    }

    /// The name of a message with these properties, if it has one.
    #[must_use]
    pub fn name(&self, properties: &PropertyScan<'_>) -> Option<NameHash> {
        name(&self.rule, properties)
    }

    /// What is known of a name; it is remembered from now on.
    pub fn take(&mut self, name: NameHash, as_new: Known, now: u64) -> Option<Known> {
        self.forget_old(now);
        if let Some(known) = self.seen.get(&name) {
            return Some(*known);
        }
        self.make_room(self.rule.count.max(1) - 1);
        self.seen.insert(name, as_new);
        self.order.push_back((now, name));
        None
    }

    /// Forgets names that were to be in the log and are not.
    pub fn forget(&mut self, names: &[NameHash]) {
        let gone: HashSet<NameHash> = names
            .iter()
            .filter(|name| self.seen.remove(*name).is_some())
            .copied()
            .collect();
        if !gone.is_empty() {
            self.order.retain(|(_, name)| !gone.contains(name));
        }
    }

    fn forget_old(&mut self, now: u64) {
        let Some(time) = self.rule.time else {
            return;
        };
        while let Some((seen, _)) = self.order.front()
            && seen.saturating_add(time) <= now
        {
            self.forget_first();
        }
    }

    fn make_room(&mut self, most: u64) {
        while self.order.len() as u64 > most {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.seen.remove(&name);
        }
    }
}

fn name(rule: &Deduplication, properties: &PropertyScan<'_>) -> Option<NameHash> {
    let headers = properties.headers.unwrap_or_default();
    let header = table::find_raw(headers, &rule.header).ok().flatten();
    match header {
        Some(value) if matches!(value.letter(), b'S' | b'x') => Some(NameHash::of(value.octets())),
        Some(value) => {
            let number = value.decode(&Limits::default()).ok()?.as_integer()?;
            Some(NameHash::of(&number.to_be_bytes()))
        }
        None => properties.message_id.map(|id| NameHash::of(id.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{FieldTable, FieldValue, Properties};

    use super::*;

    fn rule(count: u64, time: Option<u64>) -> Deduplication {
        Deduplication {
            header: "x-deduplication-header".into(),
            count,
            time,
        }
    }

    fn hash(number: u8) -> NameHash {
        NameHash::of(&[number])
    }

    /// Of these numbers, those that are new.
    fn new_ones(memory: &mut Memory, now: u64, numbers: &[u8]) -> Vec<u8> {
        let mut new = numbers.to_vec();
        new.retain(|number| memory.take(hash(*number), Known::Stored, now).is_none());
        new
    }

    #[test]
    fn the_last_so_many_names_are_known() {
        let mut memory = Memory::new(rule(2, None), Vec::new());
        assert_eq!(new_ones(&mut memory, 0, &[1, 2, 1, 2]), [1, 2]);
        assert_eq!(new_ones(&mut memory, 0, &[3, 2, 1, 3]), [3, 1]);
        assert_eq!(memory.order.len(), memory.seen.len());
    }

    #[test]
    fn a_name_is_known_for_so_long_since_it_was_first_seen() {
        let mut memory = Memory::new(rule(100, Some(10)), Vec::new());
        assert_eq!(new_ones(&mut memory, 0, &[1]), [1]);
        assert_eq!(new_ones(&mut memory, 9, &[1, 2]), [2]);
        assert_eq!(new_ones(&mut memory, 10, &[1, 2]), [1]);
    }

    #[test]
    fn names_of_an_earlier_life_keep_their_times() {
        let names = vec![(0, hash(1)), (5, hash(2)), (6, hash(3))];
        let mut memory = Memory::new(rule(2, Some(10)), names);
        assert!(new_ones(&mut memory, 14, &[2, 3]).is_empty());
        assert_eq!(new_ones(&mut memory, 15, &[3, 2]), [2]);
    }

    #[test]
    fn what_the_log_refused_is_new_again_and_keeps_no_room() {
        let mut memory = Memory::new(rule(3, None), Vec::new());
        new_ones(&mut memory, 0, &[1, 2, 3]);
        memory.forget(&[hash(2), hash(9)]);
        assert_eq!(new_ones(&mut memory, 0, &[1, 3, 2]), [2]);
        assert!(new_ones(&mut memory, 0, &[1, 3]).is_empty());
    }

    #[test]
    fn a_copy_is_known_as_what_came_first() {
        let mut memory = Memory::new(rule(3, None), Vec::new());
        assert_eq!(memory.take(hash(1), Known::InMemory, 0), None);
        let again = memory.take(hash(1), Known::Stored, 0);
        assert_eq!(again, Some(Known::InMemory));
    }

    #[test]
    fn names_are_texts_octets_or_numbers_and_else_the_message_id() {
        let rule = rule(1, None);
        let named = |value: Option<FieldValue>| {
            let header = |value| FieldTable::from_iter([("x-deduplication-header", value)]);
            let properties = Properties {
                headers: value.map(header),
                message_id: Some("id".to_owned()),
                ..Properties::default()
            };
            let mut octets = Vec::new();
            properties.encode(&mut octets);
            name(&rule, &PropertyScan::new(&octets).expect("well formed"))
        };
        let of = |octets: &[u8]| Some(NameHash::of(octets));
        assert_eq!(named(Some("a".into())), of(b"a"));
        assert_eq!(named(Some(FieldValue::Bytes(b"a".to_vec()))), of(b"a"));
        assert_eq!(named(Some(FieldValue::U8(7))), named(Some(7_i64.into())));
        assert_eq!(named(Some(true.into())), None);
        assert_eq!(named(None), of(b"id"));
    }
}
