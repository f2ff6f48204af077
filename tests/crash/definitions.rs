//! The truth about definitions: what was declared, bound, deleted and purged.
//!
//! One client changes them, one operation at a time, so after a crash the broker
//! must be in the state of all answered operations, or in that and the one that
//! was under way: nothing in between.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use leveret_protocol::FieldTable;
use leveret_protocol::method::*;

use super::ledger::{QUEUES, TARGETS};
use super::mix::{self, Features};
use super::random::Random;
use super::wire::{Event, Gone, Wire};
use super::written::Written;

/// Queues, exchanges and keys that come and go.
const CHURN_QUEUES: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];
const CHURN_EXCHANGES: [&str; 4] = ["churn.0", "churn.1", "churn.2", "churn.3"];
const CHURN_KEYS: [&str; 3] = ["red", "green", "blue"];

/// Changes of one load: a client without limit would only measure itself.
const CHURN_OPERATIONS_MAX: usize = 400;

/// A name of one of the tables, or of the load's exchanges.
type Name = &'static str;

/// A change.
#[derive(Clone, Debug)]
pub enum Operation {
    DeclareQueue(Name),
    DeclareMix(Name, FieldTable),
    DeleteQueue(Name),
    DeclareExchange(Name, &'static str),
    DeleteExchange(Name),
    Bind(Binding),
    Unbind(Binding),
    /// A message with that number.
    Publish(Name, u64),
    Purge(Name),
}

/// Exchange, queue, key.
type Binding = (Name, Name, Name);

/// All definitions, and the numbers of the messages in the queues that come and go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct World {
    exchanges: BTreeSet<Name>,
    queues: BTreeMap<Name, Vec<u64>>,
    /// Of the exchanges that come and go.
    bindings: BTreeSet<Binding>,
}

/// What must be there.
#[derive(Default)]
pub struct Definitions {
    world: World,
    /// Asked for and not answered.
    under_way: Option<Operation>,
    /// What recent purges dropped: a crash may bring it back.
    purged: BTreeMap<Name, (Instant, Vec<u64>)>,
    features: [Features; mix::MIXES],
    /// What the load needs and is there.
    set_up: usize,
    last_number: u64,
    /// Changes answered.
    pub changes: u64,
}

impl World {
    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::DeclareQueue(queue) | Operation::DeclareMix(queue, _) => {
                self.queues.entry(queue).or_default();
            }
            Operation::DeleteQueue(queue) => {
                self.queues.remove(queue);
                self.bindings.retain(|binding| binding.1 != queue);
            }
            Operation::DeclareExchange(exchange, _) => {
                self.exchanges.insert(exchange);
            }
            Operation::DeleteExchange(exchange) => {
                self.exchanges.remove(exchange);
                self.bindings.retain(|binding| binding.0 != exchange);
            }
            Operation::Bind(binding) if CHURN_EXCHANGES.contains(&binding.0) => {
                self.bindings.insert(binding);
            }
            Operation::Bind(_) => {}
            Operation::Unbind(binding) => {
                self.bindings.remove(&binding);
            }
            Operation::Publish(queue, number) => {
                if let Some(numbers) = self.queues.get_mut(queue) {
                    numbers.push(number);
                }
            }
            Operation::Purge(queue) => {
                if let Some(numbers) = self.queues.get_mut(queue) {
                    numbers.clear();
                }
            }
        }
    }

    /// A change that this world allows.
    fn random_operation(&self, random: &mut Random, number: u64) -> Operation {
        let queue = *random.pick(&CHURN_QUEUES);
        let exchange_at = random.below(CHURN_EXCHANGES.len());
        let exchange = CHURN_EXCHANGES[exchange_at];
        let binding = (exchange, queue, *random.pick(&CHURN_KEYS));
        if !self.queues.contains_key(queue) {
            return Operation::DeclareQueue(queue);
        }
        if !self.exchanges.contains(exchange) {
            let kind = ["direct", "topic"][exchange_at % 2];
            return Operation::DeclareExchange(exchange, kind);
        }
        match random.below(20) {
            0..6 => Operation::Publish(queue, number),
            6..13 if self.bindings.contains(&binding) => Operation::Unbind(binding),
            6..13 => Operation::Bind(binding),
            13..15 => Operation::Purge(queue),
            15..18 => Operation::DeleteQueue(queue),
            _ => Operation::DeleteExchange(exchange),
        }
    }
}

impl Definitions {
    pub fn new(features: [Features; mix::MIXES]) -> Self {
        Self {
            features,
            ..Self::default()
        }
    }

    /// Declares what the load needs and was not declared yet. What was, must
    /// be there without being asked for again.
    pub fn set_up(&mut self, wire: &mut Wire, findings: &mut Vec<String>) -> Result<(), Gone> {
        if self.under_way.is_some() {
            // Else two of them could be open at the next crash.
            self.compare(wire, findings)?;
        }
        let operations = needs_of_the_load(&self.features);
        while let Some(operation) = operations.get(self.set_up) {
            self.change(wire, operation.clone())?;
            self.set_up += 1;
        }
        Ok(())
    }

    /// One random change.
    fn churn_once(&mut self, wire: &mut Wire, random: &mut Random) -> Result<(), Gone> {
        self.last_number += 1;
        let operation = self.world.random_operation(random, self.last_number);
        self.change(wire, operation)
    }

    fn change(&mut self, wire: &mut Wire, operation: Operation) -> Result<(), Gone> {
        self.under_way = Some(operation.clone());
        let fresh = matches!(operation, Operation::DeclareQueue(queue) | Operation::DeclareMix(queue, _)
            if !self.world.queues.contains_key(queue));
        perform(wire, &operation, fresh)?;
        if let Operation::Purge(queue) = operation {
            let dropped = &self.world.queues[queue];
            let fresh = || (Instant::now(), Vec::new());
            let purged = self.purged.entry(queue).or_insert_with(fresh);
            purged.0 = Instant::now();
            purged.1.extend(dropped);
        } else if let Operation::DeleteQueue(queue) = operation {
            self.purged.remove(queue);
        }
        self.world.apply(&operation);
        self.under_way = None;
        self.changes += 1;
        Ok(())
    }

    /// The broker died at that time; what is too old to come back is forgotten.
    pub fn ended(&mut self, at: Instant, crashed: bool, written: Written) {
        self.purged
            .retain(|_, (purged, _)| crashed && !written.has(*purged, at));
    }

    /// Compares with what the broker has after a restart, and goes on from there.
    pub fn compare(&mut self, wire: &mut Wire, findings: &mut Vec<String>) -> Result<(), Gone> {
        let found = look_around(wire)?;
        let mut with_last = self.world.clone();
        if let Some(operation) = &self.under_way {
            with_last.apply(operation);
        }
        if !self.fits(&found, &self.world) && !self.fits(&found, &with_last) {
            let (under_way, purged) = (&self.under_way, &self.purged);
            findings.push(format!(
                "definitions differ: expected\n    {:?}\nperhaps with {under_way:?}, purged \
                 lately {purged:?}, and found\n    {found:?}",
                self.world
            ));
        }
        self.world = found;
        self.under_way = None;
        self.purged.clear();
        Ok(())
    }

    /// Whether what was found is what was expected, but for recent purges.
    fn fits(&self, found: &World, expected: &World) -> bool {
        let mut expected = expected.clone();
        for (queue, (_, dropped)) in &self.purged {
            let (Some(numbers), Some(expects)) =
                (found.queues.get(queue), expected.queues.get_mut(queue))
            else {
                continue;
            };
            let returned = numbers.iter().filter(|number| dropped.contains(number));
            let mut merged: Vec<u64> = returned.copied().collect();
            merged.append(expects);
            *expects = merged;
        }
        found == &expected
    }
}

/// Changes definitions until the broker dies.
pub fn churn(
    wire: &mut Wire,
    definitions: &mut Definitions,
    random: &mut Random,
) -> Result<Infallible, Gone> {
    wire.ok(&ConfirmSelect::default())?;
    for _ in 0..CHURN_OPERATIONS_MAX {
        definitions.churn_once(wire, random)?;
    }
    loop {
        wire.await_next()?;
    }
}

/// Queues, exchanges and bindings of the load, in an order that works.
fn needs_of_the_load(features: &[Features; mix::MIXES]) -> Vec<Operation> {
    let mut operations: Vec<_> = QUEUES.map(Operation::DeclareQueue).into();
    operations.extend(mix::GRAVES.map(Operation::DeclareQueue));
    for (queue, features) in features.iter().enumerate() {
        let arguments = features.arguments(queue);
        operations.push(Operation::DeclareMix(mix::SOURCES[queue], arguments));
    }
    operations.push(Operation::DeclareExchange("load.direct", "direct"));
    operations.push(Operation::DeclareExchange("load.fanout", "fanout"));
    for target in TARGETS.iter().filter(|target| !target.exchange.is_empty()) {
        for queue in target.queues {
            let binding = (target.exchange, QUEUES[*queue], target.routing_key);
            operations.push(Operation::Bind(binding));
        }
    }
    operations
}

/// Asks for a change and waits for its answer. A fresh queue must be empty.
fn perform(wire: &mut Wire, operation: &Operation, fresh: bool) -> Result<(), Gone> {
    match *operation {
        Operation::DeclareQueue(queue) => declare(wire, queue, FieldTable::new(), fresh),
        Operation::DeclareMix(queue, ref arguments) => {
            declare(wire, queue, arguments.clone(), fresh)
        }
        Operation::DeleteQueue(queue) => wire.ok(&QueueDelete {
            queue,
            ..QueueDelete::default()
        }),
        Operation::DeclareExchange(exchange, kind) => wire.ok(&ExchangeDeclare {
            exchange,
            kind,
            durable: true,
            ..ExchangeDeclare::default()
        }),
        Operation::DeleteExchange(exchange) => wire.ok(&ExchangeDelete {
            exchange,
            ..ExchangeDelete::default()
        }),
        Operation::Bind((exchange, queue, routing_key)) => wire.ok(&QueueBind {
            queue,
            exchange,
            routing_key,
            ..QueueBind::default()
        }),
        Operation::Unbind((exchange, queue, routing_key)) => wire.ok(&QueueUnbind {
            queue,
            exchange,
            routing_key,
            ..QueueUnbind::default()
        }),
        Operation::Publish(queue, number) => {
            wire.put_publish("", queue, true, number.to_string().as_bytes());
            await_confirm(wire)
        }
        Operation::Purge(queue) => wire.ok(&QueuePurge {
            queue,
            ..QueuePurge::default()
        }),
    }
}

fn declare(wire: &mut Wire, queue: Name, arguments: FieldTable, fresh: bool) -> Result<(), Gone> {
    let declare = QueueDeclare {
        queue,
        durable: true,
        arguments,
        ..QueueDeclare::default()
    };
    match wire.call(&declare)? {
        Event::QueueOk { messages } if messages == 0 || !fresh => Ok(()),
        other => Err(Gone::Refused(format!("{other:?} for a fresh {queue}"))),
    }
}

/// The confirm of the one message under way, returned or not.
fn await_confirm(wire: &mut Wire) -> Result<(), Gone> {
    loop {
        match wire.await_next()? {
            Event::Confirm { acked: true, .. } => return Ok(()),
            Event::Returned { .. } => {}
            other => return Err(Gone::Refused(format!("{other:?} instead of a confirm"))),
        }
    }
}

/// What the broker has. Bindings are found by sending transient messages
/// through them, which are taken off again; other messages stay.
fn look_around(wire: &mut Wire) -> Result<World, Gone> {
    let mut world = World::default();
    let mixes = mix::SOURCES.iter().chain(&mix::GRAVES);
    for queue in QUEUES.iter().chain(&CHURN_QUEUES).chain(mixes) {
        if wire.look_up(queue)?.is_some() {
            world.queues.insert(queue, Vec::new());
        }
    }
    for exchange in ["load.direct", "load.fanout"]
        .iter()
        .chain(&CHURN_EXCHANGES)
    {
        if wire.has_exchange(exchange)? {
            world.exchanges.insert(exchange);
        }
    }
    wire.ok(&ConfirmSelect::default())?;
    for exchange in CHURN_EXCHANGES {
        for key in CHURN_KEYS {
            if world.exchanges.contains(exchange) {
                wire.put_publish(exchange, key, false, format!("{exchange}:{key}").as_bytes());
                await_confirm(wire)?;
            }
        }
    }
    for queue in CHURN_QUEUES {
        if world.queues.contains_key(queue) {
            look_into(wire, queue, &mut world)?;
        }
    }
    Ok(world)
}

/// Reads one of the queues that come and go.
fn look_into(wire: &mut Wire, queue: Name, world: &mut World) -> Result<(), Gone> {
    let mut kept = Vec::new();
    loop {
        let get = BasicGet {
            queue,
            ..BasicGet::default()
        };
        wire.put(1, &get);
        let (tag, body) = match wire.await_next()? {
            Event::GetEmpty => break,
            Event::Delivery { tag, body, .. } => (tag, body),
            other => return Err(Gone::Refused(format!("{other:?} instead of a message"))),
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        if let Ok(number) = text.parse() {
            world.queues.entry(queue).or_default().push(number);
            kept.push(tag);
            continue;
        }
        let names = text.split_once(':').and_then(|(exchange, key)| {
            let exchange = CHURN_EXCHANGES.into_iter().find(|name| *name == exchange)?;
            Some((exchange, CHURN_KEYS.into_iter().find(|name| *name == key)?))
        });
        let Some((exchange, key)) = names else {
            return Err(Gone::Refused(format!("'{text}' in {queue}")));
        };
        world.bindings.insert((exchange, queue, key));
        wire.put(
            1,
            &BasicAck {
                delivery_tag: tag,
                multiple: false,
            },
        );
    }
    for delivery_tag in kept {
        wire.put(
            1,
            &BasicReject {
                delivery_tag,
                requeue: true,
            },
        );
    }
    // An answer behind them: the messages are back.
    wire.look_up(queue).map(|_| ())
}

#[test]
fn only_what_was_under_way_or_purged_lately_may_differ() {
    let world = |numbers: &[u64]| World {
        queues: BTreeMap::from([("c0", numbers.to_vec())]),
        ..World::default()
    };
    let mut definitions = Definitions {
        world: world(&[3]),
        ..Definitions::default()
    };
    assert!(definitions.fits(&world(&[3]), &definitions.world));
    assert!(!definitions.fits(&world(&[]), &definitions.world), "lost");
    assert!(!definitions.fits(&World::default(), &definitions.world));
    assert!(!definitions.fits(&world(&[1, 2, 3]), &definitions.world));

    let purged = Instant::now();
    definitions.purged.insert("c0", (purged, vec![1, 2]));
    definitions.ended(purged, true, Written::default());
    assert!(definitions.fits(&world(&[1, 2, 3]), &definitions.world));
    assert!(definitions.fits(&world(&[3]), &definitions.world));
    assert!(
        !definitions.fits(&world(&[3, 1]), &definitions.world),
        "order"
    );
    let later = purged + Duration::from_secs(2);
    definitions.ended(later, true, Written::default());
    assert!(!definitions.fits(&world(&[1, 2, 3]), &definitions.world));
}
