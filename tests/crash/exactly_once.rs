//! Once each, from end to end, though the broker is killed again and again and
//! everybody repeats whatever was not answered:
//!
//! ```text
//! publisher ─▶ jobs ─tx worker─▶ results ─worker with confirms─▶ final
//!              (copies out)  └─▶ audit   (copies out)            (copies out)
//! ```
//!
//! The first worker publishes and acks in one transaction, which is one record
//! of the log. The second one publishes, waits for the confirm, then acks: what
//! it repeats is a copy to the last queue. In `audit`, which knows no copies,
//! each message shows that its job was there once and was done once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use leveret_protocol::FieldTable;
use leveret_protocol::method::*;
use parking_lot::Mutex;

use super::body::MessageId;
use super::process::Broker;
use super::random::Random;
use super::site::{Crash, Site};
use super::wire::{Event, Gone, Wire};

const KNOWING_COPIES: [&str; 3] = ["jobs", "results", "final"];
const AUDIT: &str = "audit";

/// How long the broker is killed again and again.
const LOAD: Duration = Duration::from_secs(6);
/// How long what is under way may take to arrive after that.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(40);
/// Publishes of the publisher that wait for their confirms.
const WINDOW: usize = 100;
/// Less than the queues remember.
const MESSAGES_MAX: u64 = 50_000;
/// How workers call themselves.
const WORKER: &str = "worker";
/// Jobs that a worker does at once.
const JOBS_AT_ONCE: u16 = 20;

/// What the clients share.
struct Scene {
    /// Where the broker of the moment listens.
    address: Mutex<SocketAddr>,
    /// Nothing new is published any more.
    ending: AtomicBool,
    /// Workers end.
    ended: AtomicBool,
}

impl Scene {
    /// Connects and works, over and over, until the work is done.
    fn insist(&self, mut work: impl FnMut(Wire) -> Result<(), Gone>) {
        loop {
            let address = *self.address.lock();
            match Wire::open(address).and_then(&mut work) {
                Ok(()) => return,
                Err(Gone::Closed(_)) => thread::sleep(Duration::from_millis(2)),
                Err(gone) => panic!("{gone}"),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

fn body(number: u64) -> Vec<u8> {
    let id = MessageId {
        producer: 0,
        sequence: number,
    };
    id.body(64)
}

#[track_caller]
fn number(body: &[u8]) -> u64 {
    MessageId::of(body).expect("a whole body").sequence
}

/// Publishes numbers until the end is near, and each again, with the others that
/// were not confirmed, until it is. Connections end now and then, so that copies
/// meet messages that are still on their way to the log.
fn publish(scene: &Scene, seed: u64) -> u64 {
    let mut random = Random::new(&[seed, 1]);
    let mut next = 0;
    let mut open = BTreeSet::new();
    scene.insist(|mut wire| {
        wire.ok(&ConfirmSelect::default())?;
        let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
        let mut tag = 0;
        let mut send = |wire: &mut Wire, number: u64, sent: &mut BTreeMap<u64, u64>| {
            tag += 1;
            sent.insert(tag, number);
            wire.put_named("jobs", format!("job {number}"), &body(number));
        };
        for number in &open {
            send(&mut wire, *number, &mut sent);
        }
        loop {
            let goes_on = !scene.ending.load(Ordering::Acquire) && next < MESSAGES_MAX;
            while goes_on && open.len() < WINDOW {
                open.insert(next);
                send(&mut wire, next, &mut sent);
                next += 1;
            }
            if open.is_empty() {
                return Ok(());
            }
            if random.one_in(100) {
                wire.flush()?;
                return Err(Gone::Closed("on purpose".to_owned()));
            }
            let (last, multiple, acked) = match wire.await_next()? {
                Event::Confirm {
                    tag,
                    multiple,
                    acked,
                } => (tag, multiple, acked),
                other => panic!("{other:?}"),
            };
            let first = if multiple { 0 } else { last };
            let answered: Vec<u64> = sent.range(first..=last).map(|(tag, _)| *tag).collect();
            for tag in answered {
                let number = sent.remove(&tag).expect("it is there");
                if acked {
                    open.remove(&number);
                } else {
                    send(&mut wire, number, &mut sent);
                }
            }
        }
    });
    next
}

/// Delivery tags and the numbers of their messages.
type Taken = Vec<(u64, u64)>;

/// Consumes; each time, what has come so far. What comes meanwhile is handled
/// the next time.
fn consume(
    scene: &Scene,
    wire: &mut Wire,
    queue: &str,
    mut handle: impl FnMut(&mut Wire, Taken) -> Result<Taken, Gone>,
) -> Result<(), Gone> {
    wire.ok(&BasicQos {
        prefetch_count: JOBS_AT_ONCE,
        ..BasicQos::default()
    })?;
    wire.ok(&BasicConsume {
        queue,
        consumer_tag: WORKER,
        ..BasicConsume::default()
    })?;
    let mut taken = Vec::new();
    while !scene.is_over() {
        let wait = match taken.is_empty() {
            true => Duration::from_millis(20),
            false => Duration::ZERO,
        };
        match wire.next(wait)? {
            Some(Event::Delivery { tag, body, .. }) => {
                taken.push((tag, number(&body)));
                if taken.len() < JOBS_AT_ONCE.into() {
                    continue;
                }
            }
            None => {}
            Some(other) => panic!("{other:?}"),
        }
        if !taken.is_empty() {
            taken = handle(wire, std::mem::take(&mut taken))?;
        }
    }
    // What was handed out by now is done too.
    wire.ok(&BasicCancel {
        consumer_tag: WORKER,
        ..BasicCancel::default()
    })?;
    loop {
        while let Some(event) = wire.next(Duration::ZERO)? {
            match event {
                Event::Delivery { tag, body, .. } => taken.push((tag, number(&body))),
                other => panic!("{other:?}"),
            }
        }
        if taken.is_empty() {
            break;
        }
        taken = handle(wire, std::mem::take(&mut taken))?;
    }
    // An answered call is behind all acks.
    wire.ok(&BasicQos::default())
}

fn ack(wire: &mut Wire, tag: u64) {
    wire.put(
        1,
        &BasicAck {
            delivery_tag: tag,
            multiple: false,
        },
    );
}

/// Does jobs: results and acks in one transaction.
fn work_in_transactions(scene: &Scene) {
    scene.insist(|mut wire| {
        wire.ok(&TxSelect {})?;
        consume(scene, &mut wire, "jobs", |wire, jobs| {
            for (tag, number) in jobs {
                wire.put_named("results", format!("result {number}"), &body(number));
                wire.put_named(AUDIT, format!("result {number}"), &body(number));
                ack(wire, tag);
            }
            wire.ok(&TxCommit {})?;
            Ok(Taken::new())
        })
    });
}

/// Passes results on: publishes, waits for the confirms, acks.
fn work_with_confirms(scene: &Scene) {
    scene.insist(|mut wire| {
        wire.ok(&ConfirmSelect::default())?;
        let mut published = 0;
        consume(scene, &mut wire, "results", |wire, results| {
            for (_, number) in &results {
                wire.put_named("final", format!("final {number}"), &body(*number));
            }
            published += results.len() as u64;
            let mut more = Taken::new();
            let mut confirmed = published - results.len() as u64;
            while confirmed < published {
                match wire.await_next()? {
                    Event::Confirm {
                        tag,
                        multiple,
                        acked,
                    } => {
                        assert!(acked, "there is room, and nothing is repeated at once");
                        confirmed = if multiple { tag } else { confirmed + 1 };
                    }
                    Event::Delivery { tag, body, .. } => more.push((tag, number(&body))),
                    other => panic!("{other:?}"),
                }
            }
            for (tag, _) in results {
                ack(wire, tag);
            }
            Ok(more)
        })
    });
}

fn declare(broker: &Broker) {
    let mut wire = Wire::open(broker.address()).expect("a connection");
    let knowing = FieldTable::from_iter([("x-message-deduplication", true)]);
    for queue in KNOWING_COPIES.into_iter().chain([AUDIT]) {
        let arguments = match queue {
            AUDIT => FieldTable::new(),
            _ => knowing.clone(),
        };
        let declare = QueueDeclare {
            queue,
            durable: true,
            arguments,
            ..QueueDeclare::default()
        };
        wire.ok(&declare).expect("it is declared");
    }
}

/// How often each number is in that queue.
fn drain(wire: &mut Wire, queue: &str) -> BTreeMap<u64, u32> {
    let mut found: BTreeMap<u64, u32> = BTreeMap::new();
    let get = BasicGet {
        queue,
        no_ack: true,
        ..BasicGet::default()
    };
    let mut more = true;
    while more {
        (0..64).for_each(|_| wire.put(1, &get));
        for _ in 0..64 {
            match wire.await_next().expect("the broker lives") {
                Event::Delivery { body, .. } => *found.entry(number(&body)).or_default() += 1,
                Event::GetEmpty => more = false,
                other => panic!("{other:?}"),
            }
        }
    }
    found
}

/// Waits until all publishes up to that one are confirmed.
fn await_confirms(wire: &mut Wire, last: u64) {
    let mut confirmed = 0;
    while confirmed < last {
        match wire.await_next().expect("the broker lives") {
            Event::Confirm { tag, acked, .. } => {
                assert!(acked, "{tag}");
                confirmed = tag;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Queues and exchanges alike, after a kill and after a clean stop.
#[test]
fn what_was_seen_is_known_after_a_restart() {
    let site = Site::directory();
    let mut broker = Broker::listening(&site.data_dir());
    declare(&broker);
    let mut wire = Wire::open(broker.address()).expect("a connection");
    let exchange = ExchangeDeclare {
        exchange: "once",
        kind: "fanout",
        durable: true,
        arguments: FieldTable::from_iter([("x-message-deduplication", true)]),
        ..ExchangeDeclare::default()
    };
    wire.ok(&exchange).expect("it is declared");
    let bind = QueueBind {
        queue: AUDIT,
        exchange: "once",
        ..QueueBind::default()
    };
    wire.ok(&bind).expect("it is bound");
    for life in 0..4 {
        let mut wire = Wire::open(broker.address()).expect("a connection");
        wire.ok(&ConfirmSelect::default()).expect("confirms");
        for number in 0..=life {
            for (exchange, queue) in [("", "jobs"), ("once", "")] {
                wire.put_named_to(exchange, queue, format!("{number}"), &body(number));
            }
        }
        await_confirms(&mut wire, 2 * (life + 1));
        for queue in ["jobs", AUDIT] {
            let found = drain(&mut wire, queue);
            assert_eq!(found, BTreeMap::from([(life, 1)]), "{queue}, life {life}");
        }
        // What was taken is gone for good once what came later is confirmed.
        wire.put_named("results", format!("{life}"), &body(life));
        await_confirms(&mut wire, 2 * (life + 1) + 1);
        match life % 2 {
            0 => drop(broker.kill()),
            _ => broker.stop(),
        }
        broker = Broker::listening(&site.data_dir());
    }
}

#[test]
fn each_message_comes_through_once_however_often_the_broker_is_killed() {
    let mut site = Site::directory();
    let mut broker = Broker::listening(&site.data_dir());
    declare(&broker);
    let scene = Arc::new(Scene {
        address: Mutex::new(broker.address()),
        ending: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    let mut workers = Vec::new();
    for work in [work_in_transactions, work_with_confirms] {
        for _ in 0..2 {
            let scene = Arc::clone(&scene);
            workers.push(thread::spawn(move || work(&scene)));
        }
    }
    let seed = super::random::seed();
    let (tell, told) = mpsc::channel();
    let publisher = Arc::clone(&scene);
    let publisher = thread::spawn(move || tell.send(publish(&publisher, seed)));

    let mut random = Random::new(&[seed]);
    let until = Instant::now() + LOAD;
    let mut kills = 0;
    while Instant::now() < until {
        thread::sleep(random.time(20, 700));
        site.crash(broker, Crash::Kill);
        kills += 1;
        broker = Broker::listening(&site.data_dir());
        *scene.address.lock() = broker.address();
    }
    scene.ending.store(true, Ordering::Release);
    let published = told.recv_timeout(ARRIVAL_LIMIT);
    let published = published.expect("what was published is confirmed");
    publisher
        .join()
        .expect("no panic")
        .expect("it is waited for");

    let mut wire = Wire::open(broker.address()).expect("a connection");
    let deadline = Instant::now() + ARRIVAL_LIMIT;
    let ready = |wire: &mut Wire, queue| wire.look_up(queue).expect("it lives").unwrap_or(0);
    while u64::from(ready(&mut wire, "final")) < published
        || ready(&mut wire, "jobs") + ready(&mut wire, "results") > 0
    {
        assert!(
            Instant::now() < deadline,
            "of {published} only {} arrived, {} are in the audit",
            ready(&mut wire, "final"),
            ready(&mut wire, AUDIT)
        );
        thread::sleep(Duration::from_millis(5));
    }
    scene.ended.store(true, Ordering::Release);
    for worker in workers {
        worker.join().expect("no panic");
    }
    eprintln!("{published} messages, {kills} kills");
    assert!(published > 100, "only {published}");
    for queue in [AUDIT, "final"] {
        let found = drain(&mut wire, queue);
        let repeated: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
        assert!(repeated.is_empty(), "{queue}: {repeated:?}");
        assert_eq!(found.len() as u64, published, "{queue}");
    }
    for queue in ["jobs", "results"] {
        assert!(drain(&mut wire, queue).is_empty(), "{queue}");
    }
}
