//! Clients at work: producers with confirms, consumers of several manners, a
//! transactional worker and one that changes definitions. Each ends when its
//! connection does.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use leveret_protocol::method::*;

use super::body::{MessageId, random_bytes};
use super::definitions::{self, Definitions};
use super::ledger::{Ledger, QUEUES, QueueIndex, TARGETS, TX_A, TX_B, TX_IN, Target};
use super::mix::{self, Features, MIXES, MixIndex, SOURCES, Worker};
use super::process::Log;
use super::random::Random;
use super::wire::{Event, Gone, Wire};
use super::written::Written;

pub const PRODUCERS: usize = 8;

/// Confirms that a producer lets be outstanding.
const WINDOW: usize = 100;

const PREFETCH: u16 = 50;

/// Acks that a consumer sends before it asks for a sign that they were read.
const ACKS_PER_ROUND_TRIP: usize = 16;

/// How long a worker without work waits for some.
const IDLE: Duration = Duration::from_millis(3);

/// How a consumer takes messages.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    AckEach,
    /// `multiple`, after that many.
    AckMany(usize),
    /// Puts one in three back when it sees it for the first time.
    Requeue,
    /// Takes its prefetch and never acks.
    Hold,
    /// `basic.get` and an ack.
    Get,
}

/// What runs in one life of a broker.
#[derive(Clone, Debug)]
pub struct Load {
    pub seed: u64,
    /// Messages of each producer at most.
    pub messages_max: usize,
    /// Spreads them over that time, so that the end finds them publishing;
    /// else they come as fast as they can.
    pub paced_over: Option<Duration>,
    /// More large bodies.
    pub heavy: bool,
    /// Queues that are consumed, by one client each.
    pub consumers: Vec<(QueueIndex, Manner)>,
    pub transactions: bool,
    pub churn: bool,
    /// Consumers of queues with features.
    pub workers: Vec<Worker>,
}

/// What is known, shared by all clients.
#[derive(Default)]
pub struct Truth {
    pub ledger: Mutex<Ledger>,
    pub mix: Mutex<mix::Ledger>,
    pub definitions: Mutex<Definitions>,
    /// Of the broker that runs.
    written: Mutex<Written>,
    /// The last sequence of each producer; the last two are of transactions.
    sequences: Mutex<[u64; PRODUCERS + 2]>,
}

/// When a client ended and why.
pub type ClientEnd = (Instant, String, Gone);

/// Where a message was sent.
#[derive(Clone, Copy)]
enum Sent {
    To(&'static Target),
    ToMix(MixIndex),
}

/// A message that awaits its confirm: by that tag, sent then.
type Outstanding = (u64, Instant, MessageId, Sent);

impl Truth {
    /// Of a directory that is empty, whose queues will have these features.
    pub fn new(features: [Features; MIXES]) -> Self {
        Self {
            mix: Mutex::new(mix::Ledger::new(features)),
            definitions: Mutex::new(Definitions::new(features)),
            ..Self::default()
        }
    }

    /// The broker died at that moment, or was stopped.
    pub fn ended(&self, at: Instant, crashed: bool) {
        let written = std::mem::take(&mut *self.written.lock().expect("no panic"));
        let mut definitions = self.definitions.lock().expect("no panic");
        definitions.ended(at, crashed, written);
        self.ledger(|ledger| ledger.ended(at, crashed, written));
        self.mix(|ledger| ledger.ended(at, crashed, written));
    }

    pub fn mix<T>(&self, action: impl FnOnce(&mut mix::Ledger) -> T) -> T {
        action(&mut self.mix.lock().expect("no panic"))
    }

    fn next_id(&self, producer: usize) -> MessageId {
        let mut sequences = self.sequences.lock().expect("no panic");
        sequences[producer] += 1;
        MessageId {
            producer: producer as u16,
            sequence: sequences[producer],
        }
    }

    fn ledger<T>(&self, action: impl FnOnce(&mut Ledger) -> T) -> T {
        action(&mut self.ledger.lock().expect("no panic"))
    }
}

impl Load {
    /// Messages that each producer may have sent by then.
    fn due_after(&self, elapsed: Duration) -> usize {
        let part = match self.paced_over {
            Some(time) => elapsed.div_duration_f64(time).min(1.0),
            None => 1.0,
        };
        (self.messages_max as f64 * part) as usize
    }

    /// Sets up what is missing and works until the broker of that log is gone.
    pub fn run(&self, log: &Log, truth: &Truth) -> Vec<ClientEnd> {
        let Some(address) = log.address() else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        let set_up = Wire::open(address).and_then(|mut wire| {
            let mut definitions = truth.definitions.lock().expect("no panic");
            definitions.set_up(&mut wire, &mut findings)
        });
        truth.ledger(|ledger| ledger.findings.append(&mut findings));
        if let Err(gone) = set_up {
            return vec![(Instant::now(), "setting up".to_owned(), gone)];
        }
        let producers = (0..PRODUCERS).map(Role::Producer);
        let consumers = self.consumers.iter();
        let consumers = consumers.map(|(queue, manner)| Role::Consumer(*queue, *manner));
        let mut roles: Vec<_> = producers.chain(consumers).collect();
        roles.extend(self.workers.iter().map(|worker| Role::Worker(*worker)));
        roles.extend(self.transactions.then_some(Role::Transactions));
        roles.extend(self.churn.then_some(Role::Churn));
        std::thread::scope(|scope| {
            let clients: Vec<_> = roles
                .iter()
                .map(|role| scope.spawn(move || role.run(self, address, truth)))
                .collect();
            let ends = clients.into_iter();
            ends.map(|client| client.join().expect("clients do not panic"))
                .collect()
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Producer(usize),
    Consumer(QueueIndex, Manner),
    Worker(Worker),
    Transactions,
    Churn,
}

impl Role {
    fn run(self, load: &Load, address: SocketAddr, truth: &Truth) -> ClientEnd {
        let client = match self {
            Self::Producer(producer) => producer,
            Self::Consumer(queue, _) => 100 + queue,
            Self::Worker(worker) => 300 + 10 * worker.queue + worker.number,
            Self::Transactions => 200,
            Self::Churn => 201,
        };
        let mut random = Random::new(&[load.seed, client as u64]);
        let ended = Wire::open(address).and_then(|mut wire| match self {
            Self::Producer(producer) => produce(&mut wire, load, producer, truth, &mut random),
            Self::Consumer(queue, Manner::Get) => get(&mut wire, queue, truth),
            Self::Consumer(queue, manner) => Consumer::new(queue, manner, truth).run(&mut wire),
            Self::Worker(worker) => worker.run(&mut wire, truth, &mut random),
            Self::Transactions => transact(&mut wire, truth, &mut random),
            Self::Churn => {
                let mut definitions = truth.definitions.lock().expect("no panic");
                definitions::churn(&mut wire, &mut definitions, &mut random)
            }
        });
        let Err(gone) = ended;
        (Instant::now(), format!("{self:?}"), gone)
    }
}

fn produce(
    wire: &mut Wire,
    load: &Load,
    producer: usize,
    truth: &Truth,
    random: &mut Random,
) -> Result<Infallible, Gone> {
    wire.ok(&ConfirmSelect::default())?;
    let mut outstanding: VecDeque<Outstanding> = VecDeque::new();
    let mut last_tag = 0;
    let began = Instant::now();
    loop {
        let due = load.due_after(began.elapsed()) - last_tag as usize;
        let room = WINDOW - outstanding.len();
        for _ in 0..due.min(room).min(1 + random.below(20)) {
            let now = Instant::now();
            let id = truth.next_id(producer);
            let body = id.body(random_bytes(random, load.heavy));
            let at = random.below(TARGETS.len() + MIXES);
            let sent = match TARGETS.get(at) {
                Some(target) => {
                    truth.ledger(|ledger| ledger.publish(id, body.len(), target.queues));
                    wire.put_publish(target.exchange, target.routing_key, true, &body);
                    Sent::To(target)
                }
                None => {
                    let queue = at - TARGETS.len();
                    let label = truth.mix(|ledger| {
                        let label = ledger.features(queue).label(random);
                        ledger.publish(queue, id, body.len(), label);
                        label
                    });
                    wire.put_publish_with("", SOURCES[queue], &label.properties(), &body);
                    Sent::ToMix(queue)
                }
            };
            last_tag += 1;
            outstanding.push_back((last_tag, now, id, sent));
        }
        wire.flush()?;
        let idle = due == 0 || room == 0;
        let mut within = if idle { IDLE } else { Duration::ZERO };
        while let Some(event) = wire.next(within)? {
            take_confirm(event, &mut outstanding, truth)?;
            within = Duration::ZERO;
        }
    }
}

/// Confirms come in the order of their tags, each once.
fn take_confirm(
    event: Event,
    outstanding: &mut VecDeque<Outstanding>,
    truth: &Truth,
) -> Result<(), Gone> {
    let (tag, multiple, acked) = match event {
        Event::Confirm {
            tag,
            multiple,
            acked,
        } => (tag, multiple, acked),
        Event::Returned { routing_key, .. } => {
            let finding = format!("binding lost: a message for '{routing_key}' came back");
            truth.ledger(|ledger| ledger.find(finding));
            return Ok(());
        }
        other => return Err(Gone::Refused(format!("{other:?} for a producer"))),
    };
    let first = outstanding.front().map_or(0, |(first, ..)| *first);
    let last = outstanding.back().map_or(0, |(last, ..)| *last);
    let in_order = if multiple { tag >= first } else { tag == first };
    if !in_order || tag > last {
        let text = format!("confirm {tag} (multiple: {multiple}) while {first} to {last} are due");
        return Err(Gone::Refused(text));
    }
    while let Some((_, at, id, sent)) = outstanding.pop_front_if(|(due, ..)| *due <= tag) {
        if acked {
            truth.written.lock().expect("no panic").confirmed(at);
        }
        match sent {
            Sent::To(target) if acked => truth.ledger(|ledger| ledger.confirm(id, target.queues)),
            Sent::To(_) => {}
            Sent::ToMix(queue) => truth.mix(|ledger| ledger.answered(queue, id, acked)),
        }
    }
    Ok(())
}

/// One queue's only consumer.
struct Consumer<'a> {
    queue: QueueIndex,
    manner: Manner,
    truth: &'a Truth,
    /// The last sequence of each producer that came for the first time.
    newest: HashMap<u16, u64>,
    /// Read and not acked, where several are acked together.
    held: Vec<(u64, MessageId)>,
    /// Acked since the last round trip began, and before it.
    acked: Vec<MessageId>,
    asked_about: Vec<MessageId>,
    asking: bool,
}

impl<'a> Consumer<'a> {
    fn new(queue: QueueIndex, manner: Manner, truth: &'a Truth) -> Self {
        Self {
            queue,
            manner,
            truth,
            newest: HashMap::new(),
            held: Vec::new(),
            acked: Vec::new(),
            asked_about: Vec::new(),
            asking: false,
        }
    }

    fn run(mut self, wire: &mut Wire) -> Result<Infallible, Gone> {
        wire.ok(&BasicQos {
            prefetch_size: 0,
            prefetch_count: PREFETCH,
            global: false,
        })?;
        wire.ok(&BasicConsume {
            queue: QUEUES[self.queue],
            ..BasicConsume::default()
        })?;
        loop {
            match wire.next(IDLE)? {
                Some(Event::Delivery {
                    tag,
                    redelivered,
                    body,
                }) => self.take(wire, tag, redelivered, &body),
                Some(Event::QueueOk { .. }) => {
                    let read = std::mem::take(&mut self.asked_about);
                    self.truth
                        .ledger(|ledger| ledger.ack_read(self.queue, read));
                    self.asking = false;
                }
                Some(other) => return Err(Gone::Refused(format!("{other:?} for a consumer"))),
                None => self.ask(wire, 1),
            }
            self.ask(wire, ACKS_PER_ROUND_TRIP);
        }
    }

    fn take(&mut self, wire: &mut Wire, tag: u64, redelivered: bool, body: &[u8]) {
        let Some(id) = self.deliver(body, redelivered) else {
            return;
        };
        match self.manner {
            Manner::AckEach | Manner::Get => self.ack(wire, tag, false, &[id]),
            Manner::AckMany(count) => {
                self.held.push((tag, id));
                if self.held.len() >= count {
                    let ids: Vec<_> = self.held.drain(..).map(|(_, id)| id).collect();
                    self.ack(wire, tag, true, &ids);
                }
            }
            Manner::Requeue if !redelivered && id.sequence.is_multiple_of(3) => wire.put(
                1,
                &BasicNack {
                    delivery_tag: tag,
                    multiple: false,
                    requeue: true,
                },
            ),
            Manner::Requeue => self.ack(wire, tag, false, &[id]),
            Manner::Hold => {}
        }
    }

    /// Notes a delivery. What comes for the first time comes in the order of
    /// its publishing.
    fn deliver(&mut self, body: &[u8], redelivered: bool) -> Option<MessageId> {
        let queue = self.queue;
        self.truth.ledger(|ledger| {
            let id = ledger.deliver(queue, body, redelivered)?;
            if !redelivered {
                let newest = self.newest.entry(id.producer).or_default();
                if id.sequence <= *newest {
                    let name = QUEUES[queue];
                    ledger.find(format!("out of order: {id:?} after {newest} in {name}"));
                }
                *newest = id.sequence;
            }
            Some(id)
        })
    }

    fn ack(&mut self, wire: &mut Wire, delivery_tag: u64, multiple: bool, ids: &[MessageId]) {
        self.truth.ledger(|ledger| {
            for id in ids {
                ledger.ack(self.queue, *id);
            }
        });
        wire.put(
            1,
            &BasicAck {
                delivery_tag,
                multiple,
            },
        );
        self.acked.extend(ids);
    }

    /// Asks for an answer behind the acks, if there are that many.
    fn ask(&mut self, wire: &mut Wire, least: usize) {
        if self.asking || self.acked.len() < least {
            return;
        }
        self.asked_about = std::mem::take(&mut self.acked);
        self.asking = true;
        let passive = QueueDeclare {
            queue: QUEUES[self.queue],
            passive: true,
            ..QueueDeclare::default()
        };
        wire.put(1, &passive);
    }
}

/// Takes messages one by one.
fn get(wire: &mut Wire, queue: QueueIndex, truth: &Truth) -> Result<Infallible, Gone> {
    let mut consumer = Consumer::new(queue, Manner::Get, truth);
    let method = BasicGet {
        queue: QUEUES[queue],
        ..BasicGet::default()
    };
    loop {
        // Its answer comes behind the ack of the message before.
        let before = std::mem::take(&mut consumer.acked);
        wire.put(1, &method);
        let answer = wire.await_next()?;
        truth.ledger(|ledger| ledger.ack_read(queue, before));
        match answer {
            Event::Delivery {
                tag,
                redelivered,
                body,
            } => consumer.take(wire, tag, redelivered, &body),
            Event::GetEmpty => {
                if let Some(event) = wire.next(IDLE)? {
                    return Err(Gone::Refused(format!("{event:?} for nothing")));
                }
            }
            other => return Err(Gone::Refused(format!("{other:?} instead of a message"))),
        }
    }
}

/// Moves messages from one queue to two others, each in a transaction; some are
/// rolled back before.
fn transact(wire: &mut Wire, truth: &Truth, random: &mut Random) -> Result<Infallible, Gone> {
    let get = BasicGet {
        queue: QUEUES[TX_IN],
        ..BasicGet::default()
    };
    wire.ok(&TxSelect {})?;
    loop {
        wire.put(1, &get);
        let (tag, input) = match wire.await_next()? {
            Event::Delivery {
                tag,
                redelivered,
                body,
            } => {
                let input = truth.ledger(|ledger| ledger.deliver(TX_IN, &body, redelivered));
                let Some(input) = input else { continue };
                (tag, input)
            }
            Event::GetEmpty => {
                wire.next(IDLE)?;
                continue;
            }
            other => return Err(Gone::Refused(format!("{other:?} instead of a message"))),
        };
        if random.one_in(5) {
            // Never published as far as the ledger knows.
            let id = truth.next_id(PRODUCERS + 1);
            put_transaction(wire, id, 100, tag);
            wire.ok(&TxRollback {})?;
        }
        let id = truth.next_id(PRODUCERS);
        let bytes = random_bytes(random, false);
        truth.ledger(|ledger| ledger.commit(id, bytes, input));
        put_transaction(wire, id, bytes, tag);
        wire.ok(&TxCommit {})?;
        truth.ledger(|ledger| ledger.committed(id, input));
    }
}

fn put_transaction(wire: &mut Wire, id: MessageId, bytes: usize, delivery_tag: u64) {
    let body = id.body(bytes);
    for queue in [TX_A, TX_B] {
        wire.put_publish("", QUEUES[queue], true, &body);
    }
    wire.put(
        1,
        &BasicAck {
            delivery_tag,
            multiple: false,
        },
    );
}
