//! A disk that fills up: publishers are blocked or refused, consumers go on,
//! nothing that was confirmed is lost, and all goes on when there is room.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use leveret_protocol::method::*;

use super::disk::Disk;
use super::process::Broker;
use super::random::Random;
use super::wire::{Event, Wire};

const DISK_BYTES: u64 = 64 << 20;
/// Publishes that wait for their confirms.
const WINDOW: u64 = 20;
/// Without a confirm for so long, the publisher is blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Messages that the disk has room for at least.
const FILLED: usize = 500;
/// How long one filling or draining may take.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// A publisher's side of a round.
struct Filled {
    /// Still connected, with publishes that may be under way.
    wire: Wire,
    /// The number of its first publish.
    first: u64,
    /// Numbers in the order of their publishes that have no answer yet.
    open: Vec<u64>,
    refused: bool,
}

struct Filler {
    random: Random,
    next: u64,
    confirmed: BTreeSet<u64>,
    /// Published and perhaps there.
    possible: BTreeSet<u64>,
}

impl Filler {
    /// Publishes until nothing is confirmed any more.
    fn fill(&mut self, broker: &Broker) -> Filled {
        let mut wire = Wire::open(broker.address()).expect("a connection");
        wire.ok(&ConfirmSelect::default()).expect("confirms");
        let (first, deadline) = (self.next, Instant::now() + ROUND_LIMIT);
        let mut open = Vec::new();
        let mut refused = false;
        loop {
            assert!(Instant::now() < deadline, "it never fills up");
            while (open.len() as u64) < WINDOW && !refused {
                let bytes = *self.random.pick(&[1_000, 8_000, 60_000]);
                let mut body = self.next.to_be_bytes().to_vec();
                body.resize(bytes, self.next as u8);
                wire.put_publish("", "full", true, &body);
                open.push(self.next);
                self.possible.insert(self.next);
                self.next += 1;
            }
            match wire.next(BLOCKED_AFTER).expect("the broker lives") {
                Some(event) => refused |= self.confirm(&event, first, &mut open),
                None => {
                    return Filled {
                        wire,
                        first,
                        open,
                        refused,
                    };
                }
            }
        }
    }

    /// Takes an answer; whether it refuses.
    fn confirm(&mut self, event: &Event, first: u64, open: &mut Vec<u64>) -> bool {
        let Event::Confirm {
            tag,
            multiple,
            acked,
        } = *event
        else {
            panic!("{event:?} instead of a confirm");
        };
        let last = first + tag - 1;
        open.retain(|number| {
            let answered = *number == last || (multiple && *number < last);
            // What was freed while the queue was drained may be confirmed late.
            if answered && acked && self.possible.contains(number) {
                self.confirmed.insert(*number);
            }
            !answered
        });
        !acked
    }

    /// Takes everything out and compares.
    fn drain(&mut self, broker: &Broker) {
        let mut wire = Wire::open(broker.address()).expect("a connection");
        let deadline = Instant::now() + ROUND_LIMIT;
        let get = BasicGet {
            queue: "full",
            ..BasicGet::default()
        };
        let mut last = None;
        let mut found = BTreeSet::new();
        loop {
            assert!(Instant::now() < deadline, "it is never empty");
            wire.put(1, &get);
            match wire.await_next().expect("consumers go on") {
                Event::Delivery { tag, body, .. } => {
                    let number = body.first_chunk().map(|octets| u64::from_be_bytes(*octets));
                    let number = number.expect("a whole body");
                    assert!(body[8..].iter().all(|octet| *octet == number as u8));
                    assert!(last < Some(number), "{number} after {last:?}");
                    assert!(self.possible.contains(&number), "{number} was settled");
                    last = Some(number);
                    found.insert(number);
                    let ack = BasicAck {
                        delivery_tag: tag,
                        multiple: false,
                    };
                    wire.put(1, &ack);
                }
                Event::GetEmpty => break,
                other => panic!("{other:?}"),
            }
        }
        // An answered call is behind all acks.
        wire.look_up("full").expect("it answers");
        let lost: Vec<_> = self.confirmed.difference(&found).collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
        self.confirmed.clear();
        self.possible.retain(|number| !found.contains(number));
    }
}

fn rounds(disk_free_min: &str, is_blocked: bool, count: u32) {
    let Some(disk) = Disk::of_size(DISK_BYTES) else {
        return;
    };
    let config = disk.path().join("leveret.toml");
    let file = format!("[store]\ndisk_free_min = \"{disk_free_min}\"\n");
    fs::write(&config, file).expect("there is room");
    let data_dir = disk.path().join("data");
    let mut broker = Broker::configured(&data_dir, &config);
    let mut wire = Wire::open(broker.address()).expect("a connection");
    let declare = QueueDeclare {
        queue: "full",
        durable: true,
        ..QueueDeclare::default()
    };
    wire.ok(&declare).expect("a queue");
    drop(wire);
    let mut filler = Filler {
        random: Random::new(&[0xf011]),
        next: 0,
        confirmed: BTreeSet::new(),
        possible: BTreeSet::new(),
    };
    for round in 0..count {
        let mut filled = filler.fill(&broker);
        // Room comes back a moment after the queue was drained.
        let deadline = Instant::now() + ROUND_LIMIT;
        while filled.refused && filler.confirmed.len() < FILLED && Instant::now() < deadline {
            filled = filler.fill(&broker);
        }
        let log = broker.log().tail();
        assert_eq!(filled.refused, !is_blocked, "round {round}: {log}");
        assert_eq!(!filled.open.is_empty(), is_blocked, "round {round}: {log}");
        assert!(filler.confirmed.len() >= FILLED, "round {round}: {log}");
        if round % 3 == 1 {
            // Killed while it is full, it starts on what is left of the disk.
            drop(filled);
            broker.kill();
            broker = Broker::configured(&data_dir, &config);
            filler.drain(&broker);
            continue;
        }
        filler.drain(&broker);
        // What waited is taken now that there is room.
        let Filled {
            mut wire,
            first,
            mut open,
            ..
        } = filled;
        while !open.is_empty() {
            let event = wire.await_next().expect("there is room");
            let refused = filler.confirm(&event, first, &mut open);
            assert!(!refused, "round {round}: there is room");
        }
    }
    let log = broker.log().clone();
    broker.stop();
    let log = log.whole();
    assert_eq!(log.contains("low on disk"), is_blocked, "{log}");
}

#[test]
fn publishers_are_blocked_before_the_disk_is_full_and_go_on_after() {
    rounds("8MiB", true, 10);
}

#[test]
fn a_disk_that_is_full_refuses_messages_and_takes_them_when_there_is_room() {
    // However full the disk is, there is more than nothing.
    rounds("0B", false, 5);
}
