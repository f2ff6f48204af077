//! Ordered groups: of all messages with the same group, one is out at a time.
//!
//! ```text
//! backlog ──▶ its group is free: handed out, and the group is held
//!        └──▶ its group is held: set aside, behind the others of the group
//! settled ──▶ the group is free: its first message that was set aside is next
//! ```
//!
//! A message that comes back, at once or after a delay, holds its group until it
//! is handed out again, so that its group's order is kept. How many messages can
//! be set aside is bounded: where groups are few and slow, the queue waits.

use std::collections::hash_map::{DefaultHasher, Entry, HashMap};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::deadlines::deadline;
use super::ready::{Position, Queued};
use crate::model::{FieldValue, Message, Sequence};

/// A group's name, hashed. Two groups that share a number are one: that costs
/// parallelism and breaks nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct GroupKey(u64);

/// Where a message stands among those that are next: by falling priority, then
/// by position.
pub(super) type Rank = (u8, Position);

/// The groups of a queue.
#[derive(Debug)]
pub(super) struct Groups {
    header: Arc<str>,
    groups: HashMap<GroupKey, Group>,
    /// Messages that were set aside.
    aside: BTreeMap<Rank, Aside>,
    /// The first ones of groups that are free.
    runnable: BTreeSet<Rank>,
    /// When those that were set aside die.
    deadlines: BTreeSet<(u64, Rank)>,
    memory_bytes: u64,
    stored_bytes: u64,
    body_bytes: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// The place of the message that is out, or waits to be tried again.
    holder: Option<Sequence>,
    /// Of more of them. After a restart it may be found late that a message
    /// waits, when another one of the group is out already.
    other_holders: Vec<Sequence>,
    /// What was set aside.
    waiting: BTreeSet<Rank>,
}

#[derive(Debug)]
struct Aside {
    queued: Queued,
    key: GroupKey,
    deadline: Option<u64>,
}

impl Group {
    fn is_held_by(&self, place: Sequence) -> bool {
        self.holder == Some(place) || self.other_holders.contains(&place)
    }

    fn hold(&mut self, place: Sequence) {
        if self.is_held_by(place) {
            return;
        }
        if let Some(before) = self.holder.replace(place) {
            self.other_holders.push(before);
        }
    }

    fn let_go(&mut self, place: Sequence) {
        if self.holder == Some(place) {
            self.holder = self.other_holders.pop();
        } else {
            self.other_holders.retain(|other| *other != place);
        }
    }
}

impl Groups {
    pub(super) fn new(header: Arc<str>) -> Self {
        Self {
            header,
            groups: HashMap::new(),
            aside: BTreeMap::new(),
            runnable: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            memory_bytes: 0,
            stored_bytes: 0,
            body_bytes: 0,
        }
    }

    /// The group of a message; `None` if it has none and goes as it comes.
    pub(super) fn key(&self, message: &Message) -> Option<GroupKey> {
        let mut hasher = DefaultHasher::new();
        match message.header_value(&self.header)? {
            FieldValue::LongStr(text) | FieldValue::Bytes(text) => text.hash(&mut hasher),
            FieldValue::Bool(value) => value.hash(&mut hasher),
            other => other.as_integer()?.hash(&mut hasher),
        }
        Some(GroupKey(hasher.finish()))
    }

    /// How many messages were set aside.
    pub(super) fn len(&self) -> u64 {
        self.aside.len() as u64
    }

    /// Octets of those, as stored.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Memory of those.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Octets of their bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether no more can be set aside.
    pub(super) fn is_full(&self) -> bool {
        self.aside.len() >= ASIDE_MAX || self.memory_bytes >= ASIDE_BYTES_MAX
    }

    /// The best rank of the messages that were set aside and can go.
    pub(super) fn first(&self) -> Option<Rank> {
        self.runnable.first().copied()
    }

    /// The best rank of all that were set aside.
    pub(super) fn first_rank(&self) -> Option<Rank> {
        self.aside.keys().next().copied()
    }

    /// Takes out the message of that rank, which is not to be delivered.
    pub(super) fn take_out(&mut self, rank: Rank) -> Option<Queued> {
        let (queued, key) = self.remove(rank)?;
        self.tidy(key);
        Some(queued)
    }

    /// Takes out the message of that rank, which can go; it holds its group.
    pub(super) fn take(&mut self, rank: Rank) -> Option<Queued> {
        let (queued, key) = self.remove(rank)?;
        if let Some(group) = self.groups.get_mut(&key) {
            group.hold(queued.sequence);
        }
        Some(queued)
    }

    /// Holds the group for a message that is at hand and of a better rank than
    /// what was set aside.
    pub(super) fn hold(&mut self, key: GroupKey, place: Sequence) {
        let group = self.groups.entry(key).or_default();
        group.hold(place);
        if let Some(first) = group.waiting.first() {
            self.runnable.remove(first);
        }
    }

    /// Whether a message of the group is out, or waits to be tried again.
    pub(super) fn is_held(&self, key: GroupKey) -> bool {
        let group = self.groups.get(&key);
        group.is_some_and(|group| group.holder.is_some())
    }

    /// The message of that rank.
    pub(super) fn message(&self, rank: Rank) -> Option<&Message> {
        self.aside.get(&rank).map(|aside| &aside.queued.message)
    }

    /// Whether that message was set aside.
    #[cfg(test)]
    pub(super) fn has_aside(&self, place: Sequence) -> bool {
        let mut aside = self.aside.values();
        aside.any(|one| one.queued.sequence == place)
    }

    /// Goes by another TTL of the queue.
    pub(super) fn set_ttl(&mut self, of_queue: Option<u64>) {
        self.deadlines.clear();
        for (rank, aside) in &mut self.aside {
            aside.deadline = deadline(&aside.queued.message, of_queue);
            self.deadlines
                .extend(aside.deadline.map(|deadline| (deadline, *rank)));
        }
    }

    /// Whether that message holds its group.
    pub(super) fn is_held_by(&self, key: GroupKey, place: Sequence) -> bool {
        let group = self.groups.get(&key);
        group.is_some_and(|group| group.is_held_by(place))
    }

    /// Sets a message aside; it dies at that time.
    pub(super) fn set_aside(
        &mut self,
        key: GroupKey,
        rank: Rank,
        queued: Queued,
        deadline: Option<u64>,
    ) {
        self.memory_bytes += queued.message.memory_bytes() as u64;
        self.stored_bytes += queued.message.stored_bytes() as u64;
        self.body_bytes += queued.message.body_bytes() as u64;
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, rank));
        }
        let group = self.groups.entry(key).or_default();
        if group.holder.is_none()
            && let Some(first) = group.waiting.first()
        {
            self.runnable.remove(first);
        }
        group.waiting.insert(rank);
        if group.holder.is_none()
            && let Some(first) = group.waiting.first()
        {
            self.runnable.insert(*first);
        }
        let aside = Aside {
            queued,
            key,
            deadline,
        };
        self.aside.insert(rank, aside);
    }

    /// The message that holds the group does so no longer.
    pub(super) fn free(&mut self, key: GroupKey, place: Sequence) {
        let Entry::Occupied(mut entry) = self.groups.entry(key) else {
            return;
        };
        let group = entry.get_mut();
        if !group.is_held_by(place) {
            return;
        }
        group.let_go(place);
        if group.holder.is_some() {
            return;
        }
        match group.waiting.first() {
            Some(first) => {
                self.runnable.insert(*first);
            }
            None => {
                entry.remove();
            }
        }
    }

    /// The message in that place, which may hold a group, is gone without having
    /// been looked at.
    pub(super) fn free_place(&mut self, place: Sequence) {
        let mut groups = self.groups.iter();
        let held = groups.find(|(_, group)| group.is_held_by(place));
        if let Some((key, _)) = held {
            self.free(*key, place);
        }
    }

    /// When the first of the messages that were set aside dies.
    pub(super) fn first_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out a message that was set aside and whose deadline lies before
    /// `until`.
    pub(super) fn pop_dead(&mut self, until: u64) -> Option<Queued> {
        let (deadline, rank) = *self.deadlines.first()?;
        if deadline >= until {
            return None;
        }
        let (queued, key) = self.remove(rank)?;
        self.tidy(key);
        Some(queued)
    }

    /// Takes out all that were set aside.
    pub(super) fn drain(&mut self) -> Vec<Queued> {
        self.runnable.clear();
        self.deadlines.clear();
        self.memory_bytes = 0;
        self.stored_bytes = 0;
        self.body_bytes = 0;
        self.groups.retain(|_, group| {
            group.waiting.clear();
            group.holder.is_some()
        });
        let aside = std::mem::take(&mut self.aside).into_values();
        aside.map(|one| one.queued).collect()
    }

    fn remove(&mut self, rank: Rank) -> Option<(Queued, GroupKey)> {
        let Aside {
            queued,
            key,
            deadline,
        } = self.aside.remove(&rank)?;
        self.memory_bytes -= queued.message.memory_bytes() as u64;
        self.stored_bytes -= queued.message.stored_bytes() as u64;
        self.body_bytes -= queued.message.body_bytes() as u64;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, rank));
        }
        self.runnable.remove(&rank);
        if let Some(group) = self.groups.get_mut(&key) {
            group.waiting.remove(&rank);
        }
        Some((queued, key))
    }

    /// After a message was taken out that did not hold its group.
    fn tidy(&mut self, key: GroupKey) {
        let Entry::Occupied(entry) = self.groups.entry(key) else {
            return;
        };
        let group = entry.get();
        match group.waiting.first() {
            Some(first) if group.holder.is_none() => {
                self.runnable.insert(*first);
            }
            None if group.holder.is_none() => {
                entry.remove();
            }
            _ => {}
        }
    }
}

/// Messages that can be set aside.
const ASIDE_MAX: usize = 20_000;
/// Octets of memory that they may take.
const ASIDE_BYTES_MAX: u64 = 32 * 1024 * 1024;
