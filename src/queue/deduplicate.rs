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
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use leveret_protocol::header::{NameScan, PROPERTIES_OFFSET};
use leveret_protocol::{Limits, table};

use crate::model::{Deduplication, NameHash};

/// The names that a queue or an exchange remembers.
///
/// They stand in the order in which they were seen. The tables to look them up
/// have only their numbers, and nothing is ever taken out of one: a number below
/// the first, or of a name that was forgotten, finds nothing. Once all of the
/// old table's are below the first it is emptied, and becomes the young one. So
/// a new name costs two look-ups that mostly see no more of a table than an
/// octet per name, which the processor has at hand.
#[derive(Debug)]
pub struct Memory {
    rule: Deduplication,
    seen: VecDeque<Seen>,
    /// The number of the first of them.
    first: u32,
    /// How many of them were not forgotten.
    known: usize,
    /// The numbers from `young_from` on, by the hash of their names.
    young: HashTable<u32>,
    young_from: u32,
    /// Those before.
    old: HashTable<u32>,
    hasher: RandomState,
    /// What was looked up of the messages at hand.
    ahead: Vec<Option<LookedUp>>,
}

/// A name that was looked up.
#[derive(Clone, Copy, Debug)]
struct LookedUp {
    name: NameHash,
    hash: u64,
    number: Option<u32>,
}

/// A name that was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When, in milliseconds since 1970.
    at: u64,
    name: NameHash,
    /// `None` once it is forgotten before its time.
    known: Option<Known>,
}

/// What is known of a name that was seen before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// It is in the log, or is to be.
    Stored,
    /// It is nowhere else.
    InMemory,
}

impl Known {
    /// What is known of a new name.
    pub(super) fn as_new(is_stored: bool) -> Self {
        match is_stored {
            true => Self::Stored,
            false => Self::InMemory,
        }
    }
}

impl Memory {
    /// Remembers what a store kept, oldest first.
    #[must_use]
    pub fn new(rule: Deduplication, names: Vec<(u64, NameHash)>) -> Self {
        let mut memory = Self {
            seen: VecDeque::new(),
            first: 0,
            known: 0,
            young: HashTable::new(),
            young_from: 0,
            old: HashTable::new(),
            hasher: RandomState::default(),
            rule,
            ahead: Vec::new(),
        };
        for (at, name) in names {
            // It was forgotten in between: the last time counts.
            memory.forget(&[name]);
            memory.insert_one(at, name, Known::Stored);
        }
        memory
    }

    /// The name of a message with that content header, if it has one.
    #[must_use]
    pub fn name(&self, header: &[u8]) -> Option<NameHash> {
        name(&self.rule, header.get(PROPERTIES_OFFSET..)?)
    }

    /// How many names it remembers at most.
    fn most(&self) -> usize {
        let most = usize::try_from(self.rule.count).unwrap_or(usize::MAX);
        most.clamp(1, NAMES_MAX)
    }

    /// What is known of a name; it is remembered from now on.
    pub fn take(&mut self, name: NameHash, as_new: Known, now: u64) -> Option<Known> {
        self.forget_old(now);
        self.insert_one(now, name, as_new)
    }

    /// The same of messages with these content headers, one after the other:
    /// `taken` is called for each that has a name. `as_new` says what is to be
    /// known of one that is new, by its number.
    ///
    /// Hashes are worked out and looked up for some of them at once, so that the
    /// processor need not wait for one before it begins with the next.
    pub fn take_all<'a>(
        &mut self,
        headers: impl Iterator<Item = &'a [u8]>,
        now: u64,
        as_new: impl Fn(usize) -> Known,
        mut taken: impl FnMut(usize, NameHash, Option<Known>),
    ) {
        self.forget_old(now);
        let mut ahead = std::mem::take(&mut self.ahead);
        let (mut headers, mut number) = (headers.peekable(), 0);
        while headers.peek().is_some() {
            ahead.clear();
            self.exchange_tables();
            for header in headers.by_ref().take(AHEAD) {
                let name = self.name(header);
                ahead.push(name.map(|name| LookedUp {
                    name,
                    hash: 0,
                    number: None,
                }));
            }
            for one in ahead.iter_mut().flatten() {
                *one = self.look_up(one.name);
            }
            // A bit for every name that came in since, or for several of them.
            let mut since = 0_u64;
            for one in &mut ahead {
                if let Some(one) = one {
                    let bit = 1 << (one.hash >> (u64::BITS - 6));
                    if since & bit != 0 {
                        *one = self.look_up(one.name);
                    }
                    since |= bit;
                    taken(number, one.name, self.insert(now, one, as_new(number)));
                }
                number += 1;
            }
        }
        self.ahead = ahead;
    }

    /// Makes the old table the young one once nothing in it is found any more; not
    /// between a look-up and what it is for.
    fn exchange_tables(&mut self) {
        if self.young.len() >= YOUNG_MIN && !is_below(self.first, self.young_from) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.young_from = self.first.wrapping_add(self.seen.len() as u32);
        }
    }

    #[inline]
    fn look_up(&self, name: NameHash) -> LookedUp {
        let hash = self.hasher.hash_one(name);
        let same = |number: &u32| self.at(*number).is_some_and(|seen| seen.is(name));
        let old = self.old.find(hash, same);
        let number = old.or_else(|| self.young.find(hash, same)).copied();
        LookedUp { name, hash, number }
    }

    fn at(&self, number: u32) -> Option<&Seen> {
        self.seen.get(number.wrapping_sub(self.first) as usize)
    }

    fn insert_one(&mut self, at: u64, name: NameHash, known: Known) -> Option<Known> {
        self.exchange_tables();
        let looked_up = self.look_up(name);
        self.insert(at, &looked_up, known)
    }

    #[inline]
    fn insert(&mut self, at: u64, looked_up: &LookedUp, known: Known) -> Option<Known> {
        let LookedUp { name, hash, number } = *looked_up;
        // Those that came in between may have pushed it out.
        if let Some(seen) = number.and_then(|number| self.at(number))
            && seen.is(name)
        {
            return seen.known;
        }
        let (seen, first, hasher) = (&self.seen, self.first, &self.hasher);
        let place = |number: &u32| match seen.get(number.wrapping_sub(first) as usize) {
            Some(seen) => hasher.hash_one(seen.name),
            // It finds nothing any more, wherever it is.
            None => hasher.hash_one(number),
        };
        let number = first.wrapping_add(seen.len() as u32);
        self.young.insert_unique(hash, number, place);
        let known = Some(known);
        self.seen.push_back(Seen { at, name, known });
        self.known += 1;
        while self.known > self.most() {
            self.forget_first();
        }
        None
    }

    /// Forgets names that were to be in the log and are not.
    pub fn forget(&mut self, names: &[NameHash]) {
        for name in names {
            if let Some(seen) = self.find(*name) {
                seen.known = None;
                self.known -= 1;
            }
        }
        self.close_gaps();
    }

    fn find(&mut self, name: NameHash) -> Option<&mut Seen> {
        let number = self.look_up(name).number?;
        let index = number.wrapping_sub(self.first);
        self.seen.get_mut(index as usize)
    }

    fn forget_old(&mut self, now: u64) {
        let Some(time) = self.rule.time else {
            return;
        };
        while let Some(seen) = self.seen.front()
            && seen.at.saturating_add(time) <= now
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(seen) = self.seen.pop_front() {
            self.first = self.first.wrapping_add(1);
            self.known -= usize::from(seen.known.is_some());
        }
    }

    /// Gives the room back of names that were forgotten before their time, once
    /// there are more of them than of others.
    fn close_gaps(&mut self) {
        if self.seen.len() <= 2 * self.known + GAPS_MAX {
            return;
        }
        let seen = std::mem::take(&mut self.seen);
        self.known = 0;
        self.young.clear();
        self.old.clear();
        for Seen { at, name, known } in seen {
            if let Some(known) = known {
                self.insert_one(at, name, known);
            }
        }
    }
}

impl Seen {
    fn is(&self, name: NameHash) -> bool {
        self.name == name && self.known.is_some()
    }
}

/// Whether a number is lower than another one, in the order in which they were
/// given: they begin again at 0.
fn is_below(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) > u32::MAX / 2
}

fn name(rule: &Deduplication, properties: &[u8]) -> Option<NameHash> {
    let properties = NameScan::new(properties).ok()?;
    let header = properties
        .headers
        .and_then(|headers| table::find_raw(headers, &rule.header).ok().flatten());
    match header {
        Some(value) if matches!(value.letter(), b'S' | b'x') => Some(NameHash::of(value.octets())),
        Some(value) => {
            let number = value.decode(&Limits::default()).ok()?.as_integer()?;
            Some(NameHash::of(&number.to_be_bytes()))
        }
        None => properties.message_id.map(NameHash::of),
    }
}

/// Names are numbered by 32 bits.
const NAMES_MAX: usize = u32::MAX as usize / 8;
/// Tables are not exchanged for fewer names than that.
const YOUNG_MIN: usize = 64;
/// Messages whose names are looked up at once.
const AHEAD: usize = 32;
/// So many forgotten names may keep their room.
const GAPS_MAX: usize = 64;

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
        assert_eq!(memory.seen.len(), 2);
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
    fn a_name_that_came_twice_in_an_earlier_life_counts_from_the_last_time() {
        let names = vec![(0, hash(1)), (5, hash(2)), (8, hash(1))];
        let mut memory = Memory::new(rule(10, Some(10)), names);
        assert_eq!(new_ones(&mut memory, 16, &[1, 2]), [2]);
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
    fn names_that_are_refused_again_and_again_take_no_more_room() {
        let mut memory = Memory::new(rule(100, None), Vec::new());
        new_ones(&mut memory, 0, &[1]);
        for round in 0..10_000_u64 {
            let name = NameHash::of(&round.to_be_bytes());
            assert_eq!(memory.take(name, Known::Stored, 0), None);
            memory.forget(&[name]);
        }
        assert!(memory.seen.len() <= GAPS_MAX + 2, "{}", memory.seen.len());
        assert!(new_ones(&mut memory, 0, &[1]).is_empty());
    }

    #[test]
    fn whatever_comes_exactly_the_youngest_are_known() {
        let name = |number: u64| NameHash::of(&number.to_be_bytes());
        let mut memory = Memory::new(rule(100, None), Vec::new());
        // Near the end of the numbers, so that they begin again.
        memory.first = u32::MAX - 700;
        memory.young_from = memory.first;
        let mut model: VecDeque<u64> = VecDeque::new();
        let mut dice = 1_u64;
        for round in 0..20_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = (dice >> 33) % 300;
            let is_copy = model.contains(&number);
            if round % 7 == 0 && is_copy {
                memory.forget(&[name(number)]);
                model.retain(|other| *other != number);
                continue;
            }
            let known = memory.take(name(number), Known::Stored, 0);
            assert_eq!(known.is_some(), is_copy, "{number} in round {round}");
            if !is_copy {
                model.push_back(number);
                model.drain(..model.len().saturating_sub(100));
            }
        }
        assert!(memory.young.len() + memory.old.len() < 1_000);
    }

    #[test]
    fn many_at_once_are_taken_as_one_after_the_other() {
        let header = |number: u64| {
            let properties = Properties {
                message_id: Some(number.to_string()),
                ..Properties::default()
            };
            let mut octets = vec![0; PROPERTIES_OFFSET];
            properties.encode(&mut octets);
            octets
        };
        let [mut many, mut each] = [(); 2].map(|()| Memory::new(rule(70, None), Vec::new()));
        let mut dice = 1_u64;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) % sides
        };
        for round in 0..2_000 {
            let count = roll(100);
            let headers: Vec<_> = (0..count).map(|_| header(roll(200))).collect();
            let as_new = |number: usize| Known::as_new(number.is_multiple_of(3));
            let mut taken = Vec::new();
            let all = headers.iter().map(Vec::as_slice);
            many.take_all(all, round, as_new, |number, name, known| {
                taken.push((number, name, known));
            });
            let numbered = headers.iter().enumerate();
            let expected: Vec<_> = numbered
                .map(|(number, header)| {
                    let name = each.name(header).expect("it has one");
                    (number, name, each.take(name, as_new(number), round))
                })
                .collect();
            assert_eq!(taken, expected, "round {round}");
        }
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
            name(&rule, &octets)
        };
        let of = |octets: &[u8]| Some(NameHash::of(octets));
        assert_eq!(named(Some("a".into())), of(b"a"));
        assert_eq!(named(Some(FieldValue::Bytes(b"a".to_vec()))), of(b"a"));
        assert_eq!(named(Some(FieldValue::U8(7))), named(Some(7_i64.into())));
        assert_eq!(named(Some(true.into())), None);
        assert_eq!(named(None), of(b"id"));
    }
}
