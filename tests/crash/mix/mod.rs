//! Queues with features, mixed into the load: some of a directory's queues have
//! priorities, dead letters, retries, groups and the like, several at a time,
//! and their messages delays and expirations.
//!
//! Each has a second queue for its dead letters. What is promised is told by
//! [`ledger`] (where a message may be) and [`order`] (after which others).

mod drain;
mod ledger;
mod order;
mod worker;

#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use leveret_protocol::{FieldTable, FieldValue, Properties};

use super::random::Random;

pub use drain::Drain;
pub use ledger::Ledger;
pub use worker::Worker;

/// Queues with features.
pub const MIXES: usize = 4;

/// The queues that are published to, by [`MixIndex`].
pub const SOURCES: [&str; MIXES] = ["mix-0", "mix-1", "mix-2", "mix-3"];

/// Where their dead letters go.
pub const GRAVES: [&str; MIXES] = ["mix-0.dead", "mix-1.dead", "mix-2.dead", "mix-3.dead"];

/// A queue of [`SOURCES`], with the one of [`GRAVES`].
pub type MixIndex = usize;

/// What a queue is declared as, and what its messages are given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    pub max_priority: Option<u8>,
    pub dead_letters: bool,
    pub delivery_limit: Option<u32>,
    pub retry_ms: Option<u64>,
    pub groups: bool,
    pub single_active: bool,
    /// Above that, publishes are refused.
    pub max_length: Option<u32>,
    /// Some messages are to come later.
    pub delays: bool,
    /// Some messages die soon.
    pub expirations: bool,
}

/// What a message was published with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Label {
    pub priority: Option<u8>,
    pub group: Option<u8>,
    /// Milliseconds, given as a delay or as a moment.
    pub delay: Option<u64>,
    pub as_moment: bool,
    pub expiration: Option<u64>,
    /// When it was sent, in milliseconds since 1970.
    pub sent: u64,
}

/// One of the two queues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    Source,
    Grave,
}

/// Milliseconds since 1970.
pub fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_millis() as u64
}

impl Place {
    pub fn name(self, queue: MixIndex) -> &'static str {
        match self {
            Self::Source => SOURCES[queue],
            Self::Grave => GRAVES[queue],
        }
    }
}

impl Features {
    /// Four queues, each of another kind, with something of the others.
    pub fn choose(random: &mut Random) -> [Self; MIXES] {
        let mut kinds: Vec<usize> = (0..KINDS).collect();
        std::array::from_fn(|_| {
            let kind = kinds.swap_remove(random.below(kinds.len()));
            Self::of_kind(kind, random)
        })
    }

    fn of_kind(kind: usize, random: &mut Random) -> Self {
        let groups = kind == GROUPS;
        let single_active = kind == SINGLE_ACTIVE;
        let mut also = |this: usize, once_in: usize| kind == this || random.one_in(once_in);
        let limits_deliveries = also(DELIVERY_LIMIT, 5);
        let mut features = Self {
            groups,
            single_active,
            dead_letters: also(DEAD_LETTERS, 2) || limits_deliveries,
            ..Self::default()
        };
        // Where they would leave no order to check, they are left out.
        let has_priorities = also(PRIORITIES, 5) && !groups;
        let retries = (also(RETRIES, 3) || kind == DELIVERY_LIMIT) && !single_active;
        let is_limited = also(MAX_LENGTH, 6);
        features.delays = also(DELAYS, 4) && !groups && !single_active;
        features.expirations = features.dead_letters && also(DEAD_LETTERS, 2);
        features.max_priority = has_priorities.then(|| 1 + random.below(9) as u8);
        features.retry_ms = retries.then(|| *random.pick(&[50, 200, 600, 1_500, 2_500]));
        features.delivery_limit = limits_deliveries.then(|| 1 + random.below(4) as u32);
        features.max_length = is_limited.then(|| 10 + random.below(150) as u32);
        features
    }

    /// Whether messages are given back to wait for another try.
    pub fn returns(&self) -> bool {
        !self.single_active
    }

    /// What the queue is declared with.
    pub fn arguments(&self, queue: MixIndex) -> FieldTable {
        let mut table = FieldTable::new();
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                table.insert(name, FieldValue::I64(value as i64));
            }
        };
        number("x-max-priority", self.max_priority.map(u64::from));
        number("x-delivery-limit", self.delivery_limit.map(u64::from));
        number("x-retry-delay", self.retry_ms);
        number("x-retry-factor", self.retry_ms.map(|_| 1));
        number("x-max-length", self.max_length.map(u64::from));
        if self.max_length.is_some() {
            table.insert("x-overflow", "reject-publish");
        }
        if self.dead_letters {
            table.insert("x-dead-letter-exchange", "");
            table.insert("x-dead-letter-routing-key", GRAVES[queue]);
        }
        if self.groups {
            table.insert("x-group-header", GROUP_HEADER);
        }
        if self.single_active {
            table.insert("x-single-active-consumer", true);
        }
        table
    }

    /// What the next message is given.
    pub fn label(&self, random: &mut Random) -> Label {
        let mut one_in = |use_it: bool, times: usize| use_it && random.one_in(times);
        let delayed = one_in(self.delays, 4);
        let expires = one_in(self.expirations, 4);
        let alone = one_in(self.groups, 6);
        Label {
            priority: self
                .max_priority
                .map(|max| random.below(usize::from(max) + 2) as u8),
            group: (self.groups && !alone).then(|| random.below(6) as u8),
            delay: delayed.then(|| 20 + random.below(600) as u64),
            as_moment: random.one_in(2),
            expiration: expires.then(|| 5 + random.below(400) as u64),
            sent: wall(),
        }
    }

    /// The priority that counts.
    pub fn level(&self, label: &Label) -> u8 {
        let max = self.max_priority.unwrap_or(0);
        label.priority.unwrap_or(0).min(max)
    }
}

impl Label {
    /// As properties of a persistent message.
    pub fn properties(&self) -> Properties {
        let mut headers = FieldTable::new();
        match self.delay {
            Some(delay) if self.as_moment => {
                headers.insert("x-deliver-at", FieldValue::I64((self.sent + delay) as i64));
            }
            Some(delay) => headers.insert("x-delay", FieldValue::I64(delay as i64)),
            None => {}
        }
        if let Some(group) = self.group {
            headers.insert(GROUP_HEADER, FieldValue::I64(group.into()));
        }
        Properties {
            delivery_mode: Some(2),
            priority: self.priority,
            expiration: self.expiration.map(|time| time.to_string()),
            headers: Some(headers).filter(|headers| !headers.is_empty()),
            ..Properties::default()
        }
    }
}

const GROUP_HEADER: &str = "account";

// Kinds of queues.
const PRIORITIES: usize = 0;
const DEAD_LETTERS: usize = 1;
const RETRIES: usize = 2;
const DELIVERY_LIMIT: usize = 3;
const DELAYS: usize = 4;
const GROUPS: usize = 5;
const SINGLE_ACTIVE: usize = 6;
const MAX_LENGTH: usize = 7;
const KINDS: usize = 8;
