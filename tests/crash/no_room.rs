//! Museum 12, seen by clients: a small disk fills up, is drained and fills up
//! again, with a ledger of every message. What was confirmed comes exactly once
//! and in order, the broker never ends by itself, and it starts on a disk that
//! has no octet left, however often it is killed there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use leveret_protocol::method::*;

use super::body::MessageId;
use super::disk::Disk;
use super::process::Broker;
use super::random::Random;
use super::wire::{Event, Wire};

const DISK_BYTES: u64 = 64 << 20;
const PRODUCERS: u16 = 3;
const QUEUES: [&str; 3] = ["often", "rare", "gone"];
/// Publishes of one producer that wait for their confirms.
const WINDOW: usize = 16;
/// How long filling, draining or waiting for room may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Publishers are blocked within 100 ms; the rest is for a debug build on a
/// busy machine.
const BLOCKED_WITHIN: Duration = Duration::from_millis(100 + 400);
const DISK_FREE_MIN: u64 = 6 << 20;

/// A broker on a small disk, its publishers and what they know.
struct Scene {
    /// `None` between two lives.
    broker: Option<Broker>,
    disk: Disk,
    config: PathBuf,
    producers: Vec<Producer>,
    /// What was published and not found yet.
    sent: BTreeMap<MessageId, Sent>,
    /// By producer and queue: what comes next must be younger.
    last: BTreeMap<(u16, &'static str), u64>,
}

#[derive(Clone, Copy)]
struct Sent {
    persistent: bool,
    /// It must be there: confirmed, and not lost by a restart.
    owed: bool,
}

/// A connection that publishes. Sequence numbers go on in the next one.
struct Producer {
    id: u16,
    wire: Wire,
    random: Random,
    next: u64,
    /// Delivery tag 1 is this one.
    first: u64,
    open: Vec<u64>,
    blocked: bool,
    refused: u32,
    /// Confirms since the last refusal.
    in_a_row: u32,
}

/// Half of all goes to the first queue; only one in sixteen to the second, so
/// that it has messages in every file of the log.
fn queue_of(id: MessageId) -> &'static str {
    match id.sequence % 16 {
        0..8 => QUEUES[0],
        8 => QUEUES[1],
        _ => QUEUES[2],
    }
}

impl Producer {
    fn new(id: u16, broker: &Broker, next: u64) -> Self {
        let mut wire = Wire::open_informed(broker.address()).expect("a connection");
        wire.ok(&ConfirmSelect::default()).expect("confirms");
        Self {
            id,
            wire,
            random: Random::new(&[id.into(), next]),
            next,
            first: next,
            open: Vec::new(),
            blocked: false,
            refused: 0,
            in_a_row: 0,
        }
    }

    fn publish(&mut self, sent: &mut BTreeMap<MessageId, Sent>) {
        while self.open.len() < WINDOW && !self.blocked {
            let id = MessageId {
                producer: self.id,
                sequence: self.next,
            };
            let persistent = !self.random.one_in(8);
            let kib = 1 << self.random.below(7);
            let body = id.body(kib * 1024 - self.random.below(512));
            self.wire.put_publish("", queue_of(id), persistent, &body);
            let owed = false;
            sent.insert(id, Sent { persistent, owed });
            self.open.push(self.next);
            self.next += 1;
        }
    }

    /// Takes what the broker has said.
    fn listen(&mut self, sent: &mut BTreeMap<MessageId, Sent>) {
        let wait = Duration::from_millis(1);
        while let Some(event) = self.wire.next(wait).expect("the broker lives") {
            match event {
                Event::Blocked => self.blocked = true,
                Event::Unblocked => self.blocked = false,
                Event::Confirm {
                    tag,
                    multiple,
                    acked,
                } => self.confirm(tag, multiple, acked, sent),
                other => panic!("{other:?}"),
            }
        }
    }

    fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        acked: bool,
        sent: &mut BTreeMap<MessageId, Sent>,
    ) {
        let (producer, last) = (self.id, self.first + tag - 1);
        let is_answered = |open: &u64| *open == last || (multiple && *open < last);
        for sequence in self.open.extract_if(.., |open| is_answered(open)) {
            let id = MessageId { producer, sequence };
            match acked {
                true => self.in_a_row += 1,
                false => (self.refused, self.in_a_row) = (self.refused + 1, 0),
            }
            // It may have been found before the confirm was read.
            if let Some(sent) = sent.get_mut(&id) {
                sent.owed = acked;
            }
        }
    }
}

impl Scene {
    fn new(store: &str) -> Option<Self> {
        let disk = Disk::of_size(DISK_BYTES)?;
        let config = disk.path().join("leveret.toml");
        fs::write(&config, format!("[store]\n{store}\n")).expect("there is room");
        let broker = Broker::configured(&disk.path().join("data"), &config);
        let mut scene = Self {
            disk,
            config,
            broker: Some(broker),
            producers: Vec::new(),
            sent: BTreeMap::new(),
            last: BTreeMap::new(),
        };
        let mut wire = scene.client();
        for queue in QUEUES {
            wire.ok(&durable(queue)).expect("a queue");
        }
        scene.connect();
        Some(scene)
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("it runs")
    }

    fn client(&self) -> Wire {
        Wire::open(self.broker().address()).expect("a connection")
    }

    fn connect(&mut self) {
        let next = |id: u16| {
            self.producers
                .get(usize::from(id))
                .map_or(0, |one| one.next)
        };
        let producers = (0..PRODUCERS).map(|id| Producer::new(id, self.broker(), next(id)));
        self.producers = producers.collect();
    }

    /// Publishes until all producers are as far as that.
    #[track_caller]
    fn publish_until(&mut self, what: &str, done: impl Fn(&Producer) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !self.producers.iter().all(&done) {
            let late = Instant::now() > deadline;
            assert!(
                !late,
                "{what} takes too long:\n{}",
                self.broker().log().tail()
            );
            for producer in &mut self.producers {
                producer.publish(&mut self.sent);
                producer.listen(&mut self.sent);
            }
        }
    }

    /// Listens only, until all producers are as far as that.
    #[track_caller]
    fn listen_until(&mut self, what: &str, done: impl Fn(&Producer) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !self.producers.iter().all(&done) {
            let late = Instant::now() > deadline;
            assert!(
                !late,
                "{what} takes too long:\n{}",
                self.broker().log().tail()
            );
            for producer in &mut self.producers {
                producer.listen(&mut self.sent);
            }
        }
    }

    /// Publishes until nothing is taken any more; no message is under way then.
    #[track_caller]
    fn fill_until_refused(&mut self) {
        self.publish_until("filling the disk", |one| one.refused > 20);
        self.listen_until("refusing the rest", |one| one.open.is_empty());
    }

    /// Publishes until the producers are told that there is no more room.
    #[track_caller]
    fn fill_until_blocked(&mut self) {
        let deadline = Instant::now() + LIMIT;
        let mut low_since = None;
        while !self.producers.iter().all(|one| one.blocked) {
            let late = Instant::now() > deadline;
            assert!(!late, "it is never full:\n{}", self.broker().log().tail());
            if low_since.is_none() && self.disk.free_bytes() < DISK_FREE_MIN {
                low_since = Some(Instant::now());
            }
            for producer in &mut self.producers {
                producer.publish(&mut self.sent);
                producer.listen(&mut self.sent);
            }
        }
        let took = low_since.map(|since: Instant| since.elapsed());
        assert!(took < Some(BLOCKED_WITHIN), "blocked after {took:?}");
    }

    /// Kills the broker and starts it again, that many times.
    #[track_caller]
    fn kill(&mut self, times: u32) {
        for _ in 0..times {
            let data_dir = self.disk.path().join("data");
            let (_, ended) = self.broker.take().expect("it runs").kill();
            assert!(ended.is_none(), "it ended by itself: {ended:?}");
            self.broker = Some(Broker::configured(&data_dir, &self.config));
        }
        for sent in self.sent.values_mut() {
            sent.owed &= sent.persistent;
        }
        self.connect();
    }

    /// Takes everything out of a queue and compares.
    #[track_caller]
    fn drain(&mut self, queue: &'static str) {
        let mut wire = self.client();
        let deadline = Instant::now() + LIMIT;
        let mut empty = false;
        while !empty {
            assert!(Instant::now() < deadline, "'{queue}' is never empty");
            let get = BasicGet {
                queue,
                ..BasicGet::default()
            };
            (0..GETS).for_each(|_| wire.put(1, &get));
            let mut last_tag = None;
            for _ in 0..GETS {
                match wire.await_next().expect("consumers go on") {
                    Event::Delivery { tag, body, .. } => {
                        last_tag = Some(tag);
                        self.found(queue, &body);
                    }
                    Event::GetEmpty => empty = true,
                    other => panic!("{other:?}"),
                }
            }
            if let Some(delivery_tag) = last_tag {
                let multiple = true;
                wire.put(
                    1,
                    &BasicAck {
                        delivery_tag,
                        multiple,
                    },
                );
            }
        }
        // An answered call is behind all acks. It defines nothing, so it is not
        // held.
        wire.ok(&BasicQos::default()).expect("it answers");
        self.lost_nothing(queue);
    }

    #[track_caller]
    fn found(&mut self, queue: &'static str, body: &[u8]) {
        let id = MessageId::of(body).expect("a whole body");
        assert_eq!(queue_of(id), queue);
        let sent = self.sent.remove(&id);
        assert!(sent.is_some(), "{id:?} was taken before");
        let last = self.last.insert((id.producer, queue), id.sequence);
        assert!(last < Some(id.sequence), "{id:?} after {last:?}");
    }

    #[track_caller]
    fn lost_nothing(&self, queue: &str) {
        let is_owed = |(id, sent): &(&MessageId, &Sent)| sent.owed && queue_of(**id) == queue;
        let lost: Vec<_> = self.sent.iter().filter(is_owed).collect::<Vec<_>>();
        let lost: Vec<_> = lost.iter().map(|(id, _)| id).collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
    }

    /// Messages of a queue go without having been looked at.
    fn dropped(&mut self, queue: &str) {
        self.sent.retain(|id, _| queue_of(*id) != queue);
    }

    /// Takes what the disk still has, to the last block.
    #[track_caller]
    fn take_the_rest(&self) {
        let path = self.disk.path().join(BALLAST);
        let ballast = fs::File::create(path).expect("a name");
        let deadline = Instant::now() + LIMIT;
        let mut at = 0;
        // What the broker tries to make and cannot takes room for a moment.
        while self.disk.free_bytes() > FREE_BYTES {
            assert!(Instant::now() < deadline, "something is always free");
            while ballast.write_all_at(&[1; 4096], at).is_ok() {
                at += 4096;
            }
        }
    }

    fn give_the_rest_back(&self) {
        // There may be none.
        let _ = fs::remove_file(self.disk.path().join(BALLAST));
    }

    /// Publishing works, in a moment if not now, without anybody's help.
    #[track_caller]
    fn takes_messages_again(&mut self) {
        for producer in &mut self.producers {
            (producer.refused, producer.in_a_row) = (0, 0);
        }
        self.publish_until("taking messages again", |one| one.in_a_row >= 50);
        self.listen_until("confirming the rest", |one| one.open.is_empty());
    }

    /// The end: nothing is left out, and the broker stops as it should.
    #[track_caller]
    fn finish(mut self) {
        QUEUES.into_iter().for_each(|queue| self.drain(queue));
        self.producers.clear();
        self.broker.take().expect("it runs").stop();
    }
}

fn durable(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue,
        durable: true,
        ..QueueDeclare::default()
    }
}

#[test]
fn museum_12_publishers_are_told_when_the_disk_is_full_and_when_it_is_not() {
    let Some(mut scene) = Scene::new(&format!("disk_free_min = \"{DISK_FREE_MIN}B\"")) else {
        return;
    };
    for round in 0..10 {
        scene.fill_until_blocked();
        if round % 4 == 3 {
            scene.kill(2);
            // Whoever publishes is told, and what he sent waits.
            scene.publish_until("telling publishers", |one| one.blocked);
        }
        QUEUES.into_iter().for_each(|queue| scene.drain(queue));
        scene.listen_until("unblocking", |one| !one.blocked);
        scene.listen_until("taking what waited", |one| one.open.is_empty());
        let refused: u32 = scene.producers.iter().map(|one| one.refused).sum();
        assert_eq!(refused, 0, "nothing has to be refused");
    }
    scene.finish();
}

#[test]
fn a_disk_without_room_is_drained_purged_and_filled_again() {
    let Some(mut scene) = Scene::new("disk_free_min = \"0B\"\nhot_size = \"1MiB\"") else {
        return;
    };
    for round in 0..5 {
        scene.fill_until_refused();
        if round % 2 == 0 {
            scene.take_the_rest();
            scene.kill(3);
        }
        let mut wire = scene.client();
        match round {
            1 => {
                let purge = QueuePurge {
                    queue: "gone",
                    ..QueuePurge::default()
                };
                wire.ok(&purge).expect("a purge needs no room");
                scene.dropped("gone");
            }
            2 => {
                let delete = QueueDelete {
                    queue: "gone",
                    ..QueueDelete::default()
                };
                wire.ok(&delete).expect("deleting needs no room");
                wire.ok(&durable("gone")).expect("there is room now");
                scene.dropped("gone");
            }
            _ => {}
        }
        QUEUES.into_iter().for_each(|queue| scene.drain(queue));
        scene.takes_messages_again();
        scene.give_the_rest_back();
    }
    scene.finish();
}

/// A few messages in each file of the log do not keep all the others' room.
#[test]
fn messages_that_stay_do_not_hold_the_room_of_those_that_went() {
    let Some(mut scene) = Scene::new("disk_free_min = \"0B\"") else {
        return;
    };
    for _ in 0..2 {
        scene.fill_until_refused();
        scene.take_the_rest();
        scene.drain("often");
        scene.drain("gone");
        scene.takes_messages_again();
        scene.give_the_rest_back();
    }
    scene.finish();
}

/// The same before the disk is full.
#[test]
fn messages_that_stay_do_not_keep_publishers_blocked() {
    let Some(mut scene) = Scene::new(&format!("disk_free_min = \"{DISK_FREE_MIN}B\"")) else {
        return;
    };
    for _ in 0..2 {
        scene.fill_until_blocked();
        scene.drain("often");
        scene.drain("gone");
        scene.listen_until("unblocking", |one| !one.blocked);
        scene.takes_messages_again();
    }
    scene.finish();
}

/// Definitions that find no room are held, nobody else is, and even a queue's
/// deletion, which waits behind them, makes room for all.
#[test]
fn declares_on_a_full_disk_are_held_until_there_is_room() {
    let Some(mut scene) = Scene::new("disk_free_min = \"0B\"") else {
        return;
    };
    scene.fill_until_refused();
    scene.take_the_rest();
    let mut declarer = scene.client();
    let deadline = Instant::now() + LIMIT;
    for number in 0.. {
        assert!(Instant::now() < deadline, "there is always room");
        let names: Vec<_> = (0..100)
            .map(|one| format!("{number}-{one}-{LONG}"))
            .collect();
        names
            .iter()
            .for_each(|name| declarer.put(1, &durable(name)));
        let answers = names.iter().map_while(|_| {
            let event = declarer.next(HELD_AFTER).expect("the broker lives");
            event.inspect(|event| assert!(matches!(event, Event::QueueOk { .. }), "{event:?}"))
        });
        if answers.count() < names.len() {
            break;
        }
    }
    scene.drain("rare");
    let mut wire = scene.client();
    let delete = QueueDelete {
        queue: "often",
        ..QueueDelete::default()
    };
    wire.ok(&delete).expect("it makes its own room");
    scene.dropped("often");
    let held = declarer.next(LIMIT).expect("the broker lives");
    assert!(matches!(held, Some(Event::QueueOk { .. })), "{held:?}");
    wire.ok(&durable("often")).expect("there is room");
    scene.takes_messages_again();
    scene.kill(1);
    scene.finish();
}

/// The file that takes what the disk has left.
const BALLAST: &str = "ballast";
/// What the file system may keep for itself.
const FREE_BYTES: u64 = 128 * 1024;
/// Asked for at once.
const GETS: usize = 16;
/// Without an answer for so long, a declare waits for room.
const HELD_AFTER: Duration = Duration::from_secs(2);
/// Makes definitions take room.
const LONG: &str = "a-name-that-is-long-enough-to-fill-a-page-of-the-database-with-few-of-its-kind-\
                    and-so-is-told-at-some-length";
