//! What may come after what, in one life of a broker.

use std::collections::HashMap;

use super::super::body::MessageId;
use super::{Features, Label};

/// Who takes messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reader {
    /// The only consumer.
    Alone,
    /// One of several, by its number.
    OneOf(usize),
    /// `basic.get`, asked for at that moment, while nobody else is there.
    Getter { asked: u64 },
}

impl Reader {
    /// Which of the consumers.
    pub fn number(self) -> usize {
        match self {
            Self::OneOf(number) => number,
            Self::Alone | Self::Getter { .. } => 0,
        }
    }
}

/// What the source of a queue has delivered since its broker started.
#[derive(Debug, Default)]
pub struct Order {
    /// By producer, priority and group: the last that came for the first time.
    newest: HashMap<(u16, u8, Option<u8>), u64>,
    /// By group and producer: the last that came.
    last_of_group: HashMap<(u8, u16), u64>,
    /// What is out of each group.
    out: HashMap<u8, MessageId>,
    /// The single active consumer, and the last that came by producer and
    /// priority since it became that.
    active: Option<usize>,
    last: HashMap<(u16, u8), u64>,
}

impl Order {
    /// A message has come; what is wrong with that.
    pub fn deliver(
        &mut self,
        features: &Features,
        label: &Label,
        id: MessageId,
        redelivered: bool,
        reader: Reader,
    ) -> Option<String> {
        let MessageId { producer, sequence } = id;
        let level = features.level(label);
        if let Some(group) = label.group {
            // Whoever settles notes it before he sends it, so two that are out
            // by these notes were out at the broker.
            if let Some(other) = self.out.insert(group, id) {
                return Some(format!("{other:?} of the same group {group} is out"));
            }
            let last = self.last_of_group.entry((group, producer)).or_default();
            let before = std::mem::replace(last, sequence);
            if sequence < before {
                return Some(format!("out of order in group {group}, after {before}"));
            }
        }
        if let Reader::OneOf(number) = reader
            && features.single_active
        {
            let active = *self.active.get_or_insert(number);
            if active != number {
                return Some(format!("{number} gets it while {active} is active"));
            }
            let last = self.last.entry((producer, level)).or_default();
            let before = std::mem::replace(last, sequence);
            if sequence <= before {
                return Some(format!("out of order, after {before}"));
            }
        }
        // What several consumers get is noted in any order.
        let is_one_list = !matches!(reader, Reader::OneOf(_)) || features.single_active;
        if is_one_list && !redelivered && label.delay.is_none() {
            let key = (producer, level, label.group);
            let newest = self.newest.entry(key).or_default();
            let before = std::mem::replace(newest, sequence);
            if sequence <= before {
                return Some(format!("out of order, after {before} for the first time"));
            }
        }
        None
    }

    /// A message is about to be settled, or given back.
    pub fn settle(&mut self, label: &Label, id: MessageId) {
        if let Some(group) = label.group
            && self.out.get(&group) == Some(&id)
        {
            self.out.remove(&group);
        }
    }

    /// That consumer is about to leave; what it held comes back.
    pub fn leave(&mut self, number: usize) {
        if self.active == Some(number) {
            self.active = None;
            self.last.clear();
        }
    }
}
