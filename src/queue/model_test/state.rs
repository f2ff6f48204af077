//! What the model knows without asking the queue.

use super::message::Spec;
use super::{Run, Time, after};
use crate::model::{Message, QueueRules};
use crate::queue::UnsettledSlot;

/// A message that is not gone.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its place.
    pub(super) number: u64,
    pub(super) message: Message,
    pub(super) level: u8,
    pub(super) group: Option<u8>,
    /// Its `message-id`.
    pub(super) id: Option<u8>,
    pub(super) body_bytes: u64,
    /// As what its body counts: of one that is in a page since a restart all
    /// octets do.
    pub(super) counted_bytes: u64,
    /// When its time in the queue began.
    pub(super) from: Time,
    /// Its own deadline.
    pub(super) deadline: Option<Time>,
    /// When it was to be delivered.
    pub(super) deliver_at: Option<Time>,
    /// Where it stands since its time has come: behind what had a place then.
    pub(super) released: Option<(u64, u64)>,
    pub(super) deliveries: u32,
    pub(super) state: State,
    /// Until when it waits, though its page was restored as one of ready ones.
    pub(super) waits_until: Time,
    /// Its page was looked through and it was not in it.
    pub(super) unreadable: bool,
    /// It was not handed out yet since the queue was made.
    pub(super) in_log: bool,
    /// It stands with its group, where each one's time is known: it came back,
    /// or the queue looked at it while its group was held.
    pub(super) aside: bool,
    /// It was tried before and is in a page of those that wait since a restart:
    /// its group does not know of it. That much of its order a restart may cost.
    pub(super) unknown_to_group: bool,
    /// It was taken back; that is found when its page is read.
    pub(super) taken_back: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Ready,
    /// Waits for its time; `again` if it was out and holds its group.
    Scheduled {
        due: Time,
        again: bool,
    },
    /// Held by the consumer of that serial, or by a get.
    Unsettled {
        slot: UnsettledSlot,
        consumer: Option<u32>,
        channel: Option<usize>,
        since: Option<Time>,
    },
    /// On its way to the dead letter exchange.
    Letter {
        slot: UnsettledSlot,
    },
}

/// Where a message stands: by falling priority, then by place or by when its
/// time came.
pub(super) type Rank = (u8, u64, u64);

/// What is to be delivered next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    Nothing,
    /// The message with that index.
    Message(usize),
    /// A page has to be read to know.
    Missing,
}

impl Entry {
    pub(super) fn new(
        number: u64,
        spec: &Spec,
        message: Message,
        rules: &QueueRules,
        now: Time,
    ) -> Self {
        let deliver_at = spec.deliver_at(now);
        let from = deliver_at.unwrap_or(now);
        let max = rules.max_priority.unwrap_or(0);
        Self {
            number,
            level: spec.priority.unwrap_or(0).min(max),
            group: spec.group.filter(|_| rules.group_header.is_some()),
            id: spec.id(),
            body_bytes: 8 + u64::from(spec.size),
            counted_bytes: 8 + u64::from(spec.size),
            from,
            deadline: spec.ttl.map(|ttl| after(from, ttl)),
            deliver_at,
            released: None,
            deliveries: 0,
            state: match deliver_at {
                Some(due) => State::Scheduled { due, again: false },
                None => State::Ready,
            },
            waits_until: 0,
            unreadable: false,
            in_log: deliver_at.is_none(),
            aside: false,
            unknown_to_group: false,
            taken_back: false,
            message,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn rank(&self) -> Rank {
        let (place, order) = self.released.unwrap_or((self.number, u64::MAX));
        (u8::MAX - self.level, place, order)
    }

    pub(super) fn slot(&self) -> Option<UnsettledSlot> {
        match self.state {
            State::Unsettled { slot, .. } | State::Letter { slot } => Some(slot),
            State::Ready | State::Scheduled { .. } => None,
        }
    }

    /// Whether others of its group have to wait for it.
    pub(super) fn holds_group(&self) -> bool {
        match self.state {
            State::Unsettled { .. } => true,
            State::Scheduled { again, .. } => again && !self.unknown_to_group,
            State::Ready | State::Letter { .. } => false,
        }
    }
}

impl Run {
    /// Ready messages by rank.
    pub(super) fn in_order(&self) -> Vec<usize> {
        let mut ready: Vec<usize> = (0..self.messages.len())
            .filter(|index| self.messages[*index].is_ready())
            .collect();
        ready.sort_by_key(|index| self.messages[*index].rank());
        ready
    }

    /// What a consumer would get now.
    pub(super) fn next_up(&self) -> Next {
        let page = self.store.first_page();
        for index in self.in_order() {
            let entry = &self.messages[index];
            if page.is_some_and(|page| page < entry.rank()) || !self.is_resident(entry.number) {
                return Next::Missing;
            }
            if entry.group.is_none_or(|group| !self.is_held(group)) {
                return Next::Message(index);
            }
        }
        page.map_or(Next::Nothing, |_| Next::Missing)
    }

    fn is_held(&self, group: u8) -> bool {
        let mut of_group = self.messages.iter().filter(|one| one.group == Some(group));
        of_group.any(Entry::holds_group)
    }

    /// Messages in memory that are dead before `until`: those whose own time is
    /// over, and of those whose time in the queue is, the ones at the head of each
    /// priority and the ones that were set aside.
    pub(super) fn dying(&self, until: Time) -> Vec<usize> {
        let mut dying = Vec::new();
        let mut live_heads = Vec::new();
        for index in self.in_order() {
            let entry = &self.messages[index];
            let resident = self.is_resident(entry.number);
            let own = entry.deadline.is_some_and(|deadline| deadline < until);
            let at_head = !live_heads.contains(&entry.level) && !self.page_before(entry);
            let seen = at_head || entry.aside;
            if resident && (own || seen && self.is_too_old(entry, until)) {
                dying.push(index);
            } else if !entry.aside {
                live_heads.push(entry.level);
            }
        }
        dying
    }

    pub(super) fn page_before(&self, entry: &Entry) -> bool {
        let page = self.store.first_page_of(entry.level);
        page.is_some_and(|page| page < entry.rank())
    }

    /// Whether its time in the queue is over.
    pub(super) fn is_too_old(&self, entry: &Entry, until: Time) -> bool {
        let ttl = self.rules.message_ttl;
        ttl.is_some_and(|ttl| after(entry.from, ttl) < until)
    }

    pub(super) fn letters_wait(&self) -> bool {
        self.letters_out() >= self.limits.letters
    }

    pub(super) fn letters_out(&self) -> u64 {
        self.count(|state| matches!(state, State::Letter { .. }))
    }

    /// Whether more is ready than may be.
    pub(super) fn is_too_full(&self, more: u64, more_bytes: u64) -> bool {
        let ready = || self.messages.iter().filter(|entry| entry.is_ready());
        let bytes: u64 = ready().map(|entry| entry.counted_bytes).sum();
        let exceeds = |limit: Option<u64>, have: u64| limit.is_some_and(|limit| have > limit);
        exceeds(self.rules.max_length, ready().count() as u64 + more)
            || exceeds(self.rules.max_length_bytes, bytes + more_bytes)
    }

    pub(super) fn something_can_go(&self) -> bool {
        matches!(self.next_up(), Next::Message(_))
            && self.consumers.keys().any(|slot| self.can_take(*slot))
    }

    pub(super) fn can_take(&self, slot: u32) -> bool {
        let consumer = &self.consumers[&slot];
        let held = self.count(|state| {
            matches!(state, State::Unsettled { consumer: Some(serial), .. } if serial == consumer.serial)
        });
        let channel_has_credit = consumer.channel.is_none_or(|channel| {
            let limit = self.channels[channel].limit;
            limit == 0 || self.held_by_channel(channel) < limit
        });
        !consumer.parked
            && self.active.is_none_or(|active| active == slot)
            && (consumer.no_ack
                || channel_has_credit
                    && consumer
                        .prefetch
                        .is_none_or(|prefetch| held < u64::from(prefetch)))
    }

    pub(super) fn held_by_channel(&self, of: usize) -> u32 {
        self.count(|state| matches!(state, State::Unsettled { channel, .. } if channel == Some(of)))
            as u32
    }

    pub(super) fn slots(&self, which: fn(State) -> bool) -> impl Iterator<Item = UnsettledSlot> {
        let entries = self.messages.iter().filter(move |entry| which(entry.state));
        entries.filter_map(Entry::slot)
    }

    /// Whether somebody will settle it.
    pub(super) fn is_used(&self, slot: UnsettledSlot) -> bool {
        self.taken.contains(&slot) || self.slots(|_| true).any(|used| used == slot)
    }

    pub(super) fn count(&self, matches: impl Fn(State) -> bool) -> u64 {
        self.messages
            .iter()
            .filter(|entry| matches(entry.state))
            .count() as u64
    }

    pub(super) fn pick_consumer(&self, pick: usize) -> Option<u32> {
        let slots: Vec<u32> = self.consumers.keys().copied().collect();
        (!slots.is_empty()).then(|| slots[pick % slots.len()])
    }
}
