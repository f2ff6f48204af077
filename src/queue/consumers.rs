//! The consumers of a queue: who may take the next message.
//!
//! ```text
//!            credit used up              park
//!   Able ◀──────────────────▶ Waiting ─────────▶ Parked     Able ──park──▶ Parked
//!            credit given back           resume: Able, or Waiting without credit
//!   any ──silence──▶ Silent
//!   any ──cancel──▶ Leaving (only while it holds unsettled messages)
//! ```
//!
//! Where there is a single active consumer, all others stand by, whatever
//! happens to them. When it ends, the one of the highest priority that has
//! waited longest takes over.
//!
//! Exactly the able ones are in the [`Rotation`]. The credit of a channel is
//! shared with other queues, so it is asked for when the consumer's turn comes;
//! one that gets none waits to be resumed.

use std::sync::Arc;

use slab::Slab;

use super::rotation::Rotation;
use super::{ChannelCredit, ConsumeRefused, StalledConsumer};
use crate::model::{ConsumerKey, FieldTable};

/// Which of a queue's consumers; valid until it is cancelled.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConsumerSlot(pub u32);

/// What a consumer asked for.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// Who it is.
    pub key: ConsumerKey,
    /// Whether deliveries count as settled at once.
    pub no_ack: bool,
    /// Whether it wants the queue for itself.
    pub exclusive: bool,
    /// `x-priority`: higher ones are served first.
    pub priority: i32,
    /// Deliveries that it may hold unsettled; `None` is unlimited.
    pub prefetch: Option<u32>,
    /// The limit that it shares with the other consumers of its channel.
    pub channel_credit: Option<Arc<ChannelCredit>>,
    /// The arguments as given, for listings.
    pub arguments: Arc<FieldTable>,
}

/// The consumers by slot.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Slab<Consumer>,
    rotation: Rotation,
    /// Those that were not cancelled.
    current: u32,
    /// Whether one gets everything.
    single_active: bool,
    active: Option<ConsumerSlot>,
    /// How many ever came.
    joined: u64,
}

/// Who takes a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    pub(super) slot: ConsumerSlot,
    pub(super) no_ack: bool,
}

#[derive(Debug)]
struct Consumer {
    spec: ConsumerSpec,
    standing: Standing,
    /// Deliveries that it holds unsettled.
    held: u32,
    /// Its number among all that ever came.
    joined: u64,
    /// When it last settled something, or got the first that it holds, in
    /// milliseconds since 1970.
    active_at: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Another one is the single active consumer.
    Standby,
    /// In the rotation.
    Able,
    /// Out of credit, its own or the channel's.
    Waiting,
    /// Its outbox is full.
    Parked,
    /// About to be cancelled, and what it held about to come back: it gets none
    /// of it, and nobody takes over before.
    Silent,
    /// Cancelled; kept so that its credit can be given back.
    Leaving,
}

impl Consumers {
    pub(super) fn new(single_active: bool) -> Self {
        Self {
            single_active,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.current
    }

    /// Adds a consumer, last in turn on its priority.
    pub(super) fn add(&mut self, spec: ConsumerSpec) -> Result<ConsumerSlot, ConsumeRefused> {
        // Who wants a queue for himself is no single active consumer, as RabbitMQ
        // has it, even where there is no other.
        let taken = (self.current > 0 && (spec.exclusive || self.has_exclusive()))
            || (self.single_active && spec.exclusive);
        if taken {
            return Err(ConsumeRefused::ExclusiveUse);
        }
        self.joined += 1;
        let mut consumer = Consumer {
            spec,
            standing: Standing::Waiting,
            held: 0,
            joined: self.joined,
            active_at: 0,
        };
        // More consumers than 32 bits count would take half a terabyte.
        let slot = ConsumerSlot(self.slots.vacant_key() as u32);
        if self.single_active {
            if self.active.is_some() {
                consumer.standing = Standing::Standby;
            } else {
                self.active = Some(slot);
            }
        }
        enable(&mut self.rotation, slot, &mut consumer);
        self.slots.insert(consumer);
        self.current += 1;
        Ok(slot)
    }

    /// Ends a consumer; who it was, unless it has ended before.
    pub(super) fn cancel(&mut self, slot: ConsumerSlot) -> Option<ConsumerKey> {
        let consumer = current(&mut self.slots, slot)?;
        let key = consumer.spec.key;
        if consumer.standing == Standing::Able {
            self.rotation.leave(slot, consumer.spec.priority);
        }
        consumer.standing = Standing::Leaving;
        self.current -= 1;
        self.drop_if_settled(slot);
        if self.active == Some(slot) {
            self.promote();
        }
        Some(key)
    }

    /// Who a consumer is, unless it has ended.
    pub(super) fn key(&self, slot: ConsumerSlot) -> Option<ConsumerKey> {
        let consumer = self.slots.get(slot.0 as usize)?;
        (consumer.standing != Standing::Leaving).then_some(consumer.spec.key)
    }

    /// The single active consumer, if the queue has one.
    pub(super) fn active(&self) -> Option<ConsumerSlot> {
        self.active
    }

    /// Those that hold messages and have settled none for so many milliseconds.
    pub(super) fn stalled(&self, now: u64, patience: u64) -> Vec<StalledConsumer> {
        let holders = self.slots.iter().filter(|(_, one)| one.held > 0);
        holders
            .map(|(_, one)| StalledConsumer {
                key: one.spec.key,
                held: one.held,
                since: now.saturating_sub(one.active_at),
            })
            .filter(|one| one.since >= patience)
            .collect()
    }

    /// Has the next one take over from the single active consumer.
    fn promote(&mut self) {
        let standby = self
            .slots
            .iter()
            .filter(|(_, consumer)| consumer.standing == Standing::Standby);
        let next = standby
            .max_by_key(|(_, one)| (one.spec.priority, std::cmp::Reverse(one.joined)))
            .map(|(slot, _)| ConsumerSlot(slot as u32));
        self.active = next;
        if let Some(slot) = next
            && let Some(consumer) = current(&mut self.slots, slot)
        {
            consumer.standing = Standing::Waiting;
            enable(&mut self.rotation, slot, consumer);
        }
    }

    pub(super) fn park(&mut self, slot: ConsumerSlot) {
        let Some(consumer) = current(&mut self.slots, slot) else {
            return;
        };
        match consumer.standing {
            Standing::Standby | Standing::Silent => return,
            Standing::Able => self.rotation.leave(slot, consumer.spec.priority),
            _ => {}
        }
        consumer.standing = Standing::Parked;
    }

    /// Gives a consumer nothing more; it is still there until it is cancelled.
    pub(super) fn silence(&mut self, slot: ConsumerSlot) {
        let Some(consumer) = current(&mut self.slots, slot) else {
            return;
        };
        if consumer.standing == Standing::Able {
            self.rotation.leave(slot, consumer.spec.priority);
        }
        consumer.standing = Standing::Silent;
    }

    pub(super) fn resume(&mut self, slot: ConsumerSlot) {
        let Some(consumer) = current(&mut self.slots, slot) else {
            return;
        };
        if consumer.standing == Standing::Parked {
            consumer.standing = Standing::Waiting;
        }
        enable(&mut self.rotation, slot, consumer);
    }

    /// Whether somebody may be able to take; the credit of channels is not
    /// asked for.
    pub(super) fn any_able(&self) -> bool {
        !self.rotation.is_empty()
    }

    /// Picks who takes the next message, takes the credit for it and passes the
    /// turn on.
    #[inline]
    pub(super) fn take_turn(&mut self, now: u64) -> Option<Taker> {
        loop {
            let slot = self.rotation.turn()?;
            let consumer = current(&mut self.slots, slot)?;
            debug_assert_eq!(consumer.standing, Standing::Able);
            let spec = &consumer.spec;
            if spec.no_ack {
                self.rotation.advance();
                return Some(Taker { slot, no_ack: true });
            }
            let channel_credit = spec.channel_credit.as_deref();
            if channel_credit.is_none_or(ChannelCredit::take) {
                if consumer.held == 0 {
                    consumer.active_at = now;
                }
                consumer.held += 1;
                if consumer.has_credit() {
                    self.rotation.advance();
                } else {
                    consumer.standing = Standing::Waiting;
                    self.rotation.leave(slot, consumer.spec.priority);
                }
                let no_ack = false;
                return Some(Taker { slot, no_ack });
            }
            consumer.standing = Standing::Waiting;
            self.rotation.leave(slot, consumer.spec.priority);
        }
    }

    /// Whose turn it is if nobody shares it, and how many messages he can take at
    /// most, as far as it is known without the credit of his channel.
    #[inline]
    pub(super) fn alone_in_turn(&self) -> Option<(Taker, u32)> {
        let slot = self.rotation.only()?;
        let consumer = self.slots.get(slot.0 as usize)?;
        let no_ack = consumer.spec.no_ack;
        let room = match consumer.spec.prefetch {
            Some(prefetch) if !no_ack => prefetch.saturating_sub(consumer.held),
            _ => u32::MAX,
        };
        Some((Taker { slot, no_ack }, room))
    }

    /// Takes the credit for up to `wanted` messages of the consumer that is
    /// [alone in turn](Self::alone_in_turn); of how many.
    pub(super) fn take_turns(&mut self, slot: ConsumerSlot, wanted: u32, now: u64) -> u32 {
        let Some(consumer) = current(&mut self.slots, slot) else {
            return 0;
        };
        let credit = consumer.spec.channel_credit.as_deref();
        let taken = credit.map_or(wanted, |credit| credit.take_up_to(wanted));
        if consumer.held == 0 && taken > 0 {
            consumer.active_at = now;
        }
        consumer.held += taken;
        if !consumer.has_credit() {
            consumer.standing = Standing::Waiting;
            self.rotation.leave(slot, consumer.spec.priority);
        }
        taken
    }

    /// Gives back the credit of `count` deliveries, also that of a consumer
    /// which is cancelled by now.
    pub(super) fn give_back(&mut self, slot: ConsumerSlot, count: u32, now: u64) {
        let Some(consumer) = self.slots.get_mut(slot.0 as usize) else {
            debug_assert!(false, "a consumer with unsettled messages was dropped");
            return;
        };
        debug_assert!(consumer.held >= count, "credit was given back twice");
        consumer.held -= count;
        consumer.active_at = now;
        if let Some(credit) = &consumer.spec.channel_credit {
            credit.give_back(count);
        }
        enable(&mut self.rotation, slot, consumer);
        self.drop_if_settled(slot);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConsumerSlot, &ConsumerSpec)> {
        self.slots
            .iter()
            .filter(|(_, consumer)| consumer.standing != Standing::Leaving)
            .map(|(slot, consumer)| (ConsumerSlot(slot as u32), &consumer.spec))
    }

    /// Whether the one consumer that there is wants no other.
    fn has_exclusive(&self) -> bool {
        self.current == 1 && self.iter().any(|(_, spec)| spec.exclusive)
    }

    fn drop_if_settled(&mut self, slot: ConsumerSlot) {
        let key = slot.0 as usize;
        let settled =
            |consumer: &Consumer| consumer.standing == Standing::Leaving && consumer.held == 0;
        if self.slots.get(key).is_some_and(settled) {
            self.slots.remove(key);
        }
        if self.slots.is_empty() {
            *self = Self {
                joined: self.joined,
                ..Self::new(self.single_active)
            };
        }
    }
}

impl Consumer {
    fn has_credit(&self) -> bool {
        self.spec
            .prefetch
            .is_none_or(|prefetch| self.held < prefetch)
            || self.spec.no_ack
    }
}

/// The channel outlives the queue: what a deleted queue had out must not count
/// against the limit for ever.
impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(credit) = &self.spec.channel_credit {
            credit.give_back(self.held);
        }
    }
}

/// The consumer in `slot`, unless there is none or it is cancelled.
#[inline]
fn current(slots: &mut Slab<Consumer>, slot: ConsumerSlot) -> Option<&mut Consumer> {
    slots
        .get_mut(slot.0 as usize)
        .filter(|consumer| consumer.standing != Standing::Leaving)
}

/// Lets a waiting consumer take its turn again if it has credit of its own.
fn enable(rotation: &mut Rotation, slot: ConsumerSlot, consumer: &mut Consumer) {
    if consumer.standing == Standing::Waiting && consumer.has_credit() {
        consumer.standing = Standing::Able;
        rotation.enter(slot, consumer.spec.priority);
    }
}
