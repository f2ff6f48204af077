//! Which messages are copies of earlier ones.
//!
//! A message's name is a header's value or its `message-id`; names are
//! remembered as 128-bit hashes, so many and so long. A name that is forgotten
//! makes room, and its message would be taken again.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{Deduplication, FieldValue, Message};

/// The names that a queue remembers.
#[derive(Debug)]
pub(super) struct Memory {
    rule: Deduplication,
    /// When each was seen, in milliseconds since 1970.
    seen: HashMap<NameHash, u64>,
    /// In the order in which they were seen.
    order: VecDeque<(u64, NameHash)>,
}

/// A name's hash. With a hundred million of them the chance that any two are
/// the same is 10⁻²³.
type NameHash = u128;

impl Memory {
    pub(super) fn new(rule: Deduplication) -> Self {
        Self {
            rule,
            seen: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether the message's name is remembered; it is from now on. A message
    /// without one never is.
    pub(super) fn is_known(&mut self, message: &Message, now: u64) -> bool {
        let Some(name) = name(&self.rule, message) else {
            return false;
        };
        self.forget(now);
        if self.seen.contains_key(&name) {
            return true;
        }
        while self.order.len() as u64 >= self.rule.count.max(1) {
            self.forget_first();
        }
        self.seen.insert(name, now);
        self.order.push_back((now, name));
        false
    }

    /// Forgets what is too old.
    fn forget(&mut self, now: u64) {
        let Some(time) = self.rule.time else {
            return;
        };
        while let Some((seen, _)) = self.order.front()
            && seen.saturating_add(time) <= now
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.seen.remove(&name);
        }
    }
}

fn name(rule: &Deduplication, message: &Message) -> Option<NameHash> {
    match message.header_value(&rule.header) {
        Some(FieldValue::LongStr(text) | FieldValue::Bytes(text)) => Some(hash(&text)),
        Some(other) => other.as_integer().map(|number| hash(&number.to_be_bytes())),
        None => message.message_id().map(|id| hash(id.as_bytes())),
    }
}

fn hash(octets: &[u8]) -> NameHash {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        octets.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}
