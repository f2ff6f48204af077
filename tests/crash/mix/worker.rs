//! Consumers of queues with features.

use std::convert::Infallible;
use std::time::Duration;

use leveret_protocol::method::*;

use super::super::body::MessageId;
use super::super::load::Truth;
use super::super::random::Random;
use super::super::wire::{Event, Gone, Wire};
use super::ledger::{Seen, Settlement, Verdict};
use super::order::Reader;
use super::{Features, MIXES, MixIndex, Place};

const PREFETCH: u16 = 30;

/// Settlements after which a consumer asks for a sign that they were read.
const SETTLEMENTS_PER_ROUND_TRIP: usize = 16;

/// How long a consumer without work waits for some.
const IDLE: Duration = Duration::from_millis(3);

/// A consumer.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    pub queue: MixIndex,
    pub place: Place,
    /// Of those of its queue, with the others numbered from 0.
    pub number: usize,
    pub is_alone: bool,
    pub temper: Temper,
}

/// What it does with messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Temper {
    /// Takes its prefetch and settles nothing.
    pub holds: bool,
    /// Rejects one in so many; none if that is 0.
    pub rejects: usize,
    /// Gives one in so many back.
    pub returns: usize,
    /// Leaves after about so many, with some unsettled, and comes again.
    pub leaves: usize,
}

impl Worker {
    /// Some consumers of each queue, or none.
    pub fn choose(features: &[Features; MIXES], random: &mut Random) -> Vec<Self> {
        let mut workers = Vec::new();
        for (queue, features) in features.iter().enumerate() {
            let several = features.groups || features.single_active;
            let count = match random.below(5) {
                0 => 0,
                _ if several => 2 + random.below(2),
                _ => 1,
            };
            let rejects = features.dead_letters && !random.one_in(3);
            let returns = features.returns() && !random.one_in(3);
            let temper = Temper {
                holds: random.one_in(8),
                rejects: if rejects { 2 + random.below(8) } else { 0 },
                returns: if returns { 2 + random.below(8) } else { 0 },
                leaves: if features.single_active { 40 } else { 0 },
            };
            workers.extend((0..count).map(|number| Self {
                queue,
                place: Place::Source,
                number,
                is_alone: count == 1,
                temper,
            }));
            if features.dead_letters && random.one_in(2) {
                workers.push(Self {
                    queue,
                    place: Place::Grave,
                    number: 0,
                    is_alone: true,
                    temper: Temper {
                        holds: random.one_in(5),
                        ..Temper::default()
                    },
                });
            }
        }
        workers
    }

    /// Consumes until the broker is gone.
    pub fn run(
        self,
        wire: &mut Wire,
        truth: &Truth,
        random: &mut Random,
    ) -> Result<Infallible, Gone> {
        let mut shift = Shift {
            worker: self,
            truth,
            random,
            held: Vec::new(),
            settled: Vec::new(),
            asked_about: Vec::new(),
            asking: false,
        };
        loop {
            shift.run(wire)?;
        }
    }
}

/// From when a consumer comes until it leaves.
struct Shift<'a> {
    worker: Worker,
    truth: &'a Truth,
    random: &'a mut Random,
    /// Read and not settled, with their tags.
    held: Vec<(u64, MessageId)>,
    /// Settled since the last round trip began, and before it.
    settled: Vec<Settlement>,
    asked_about: Vec<Settlement>,
    asking: bool,
}

impl Shift<'_> {
    fn run(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        wire.ok(&BasicQos {
            prefetch_count: PREFETCH,
            ..BasicQos::default()
        })?;
        wire.ok(&BasicConsume {
            queue: self.worker.place.name(self.worker.queue),
            ..BasicConsume::default()
        })?;
        let Temper { leaves, holds, .. } = self.worker.temper;
        // A single active consumer settles late, so that it leaves some behind.
        let backlog = if leaves > 0 {
            1 + self.random.below(8)
        } else {
            1
        };
        loop {
            match wire.next(IDLE)? {
                Some(Event::Delivery {
                    tag,
                    redelivered,
                    body,
                }) => self.take(tag, redelivered, &body),
                Some(Event::QueueOk { .. }) => self.answered(),
                Some(other) => return Err(Gone::Refused(format!("{other:?} for a consumer"))),
                None => self.ask(wire, 1),
            }
            if !holds && self.held.len() >= backlog {
                self.settle_all(wire);
            }
            self.ask(wire, SETTLEMENTS_PER_ROUND_TRIP);
            if leaves > 0 && !self.asking && self.random.one_in(leaves) {
                return self.leave(wire);
            }
        }
    }

    fn take(&mut self, tag: u64, redelivered: bool, body: &[u8]) {
        let Worker {
            queue,
            place,
            number,
            is_alone,
            ..
        } = self.worker;
        let reader = if is_alone {
            Reader::Alone
        } else {
            Reader::OneOf(number)
        };
        let seen = Seen {
            queue,
            place,
            body,
            redelivered,
            reader,
        };
        let id = self.truth.mix(|ledger| ledger.deliver(seen));
        self.held.extend(id.map(|id| (tag, id)));
    }

    fn settle_all(&mut self, wire: &mut Wire) {
        let Worker {
            queue,
            place,
            number,
            temper,
            ..
        } = self.worker;
        for (delivery_tag, id) in std::mem::take(&mut self.held) {
            let mut one_in = |times: usize| times > 0 && self.random.one_in(times);
            let verdict = if one_in(temper.rejects) {
                Verdict::Reject
            } else if one_in(temper.returns) {
                Verdict::Return
            } else {
                Verdict::Ack
            };
            let settlement = self
                .truth
                .mix(|ledger| ledger.settle(queue, place, id, verdict, number));
            self.settled.push(settlement);
            if verdict == Verdict::Ack {
                wire.put(
                    1,
                    &BasicAck {
                        delivery_tag,
                        multiple: false,
                    },
                );
            } else {
                wire.put(
                    1,
                    &BasicNack {
                        delivery_tag,
                        multiple: false,
                        requeue: verdict == Verdict::Return,
                    },
                );
            }
        }
    }

    /// Asks for an answer behind the settlements, if there are that many.
    fn ask(&mut self, wire: &mut Wire, least: usize) {
        if self.asking || self.settled.len() < least {
            return;
        }
        self.asked_about = std::mem::take(&mut self.settled);
        self.asking = true;
        wire.put(
            1,
            &QueueDeclare {
                queue: self.worker.place.name(self.worker.queue),
                passive: true,
                ..QueueDeclare::default()
            },
        );
    }

    fn answered(&mut self) {
        let read = std::mem::take(&mut self.asked_about);
        let queue = self.worker.queue;
        self.truth.mix(|ledger| ledger.settled(queue, &read));
        self.asking = false;
    }

    /// Closes its channel; what was on its way to it counts as never read.
    fn leave(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        let Worker { queue, number, .. } = self.worker;
        let held: Vec<_> = self.held.drain(..).map(|(_, id)| id).collect();
        self.truth.mix(|ledger| ledger.leave(queue, number, &held));
        wire.close_channel()?;
        wire.forget();
        self.asked_about = std::mem::take(&mut self.settled);
        self.answered();
        wire.open_channel()
    }
}
