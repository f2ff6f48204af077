//! Dead letters between queues, in memory and over a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use leveret_protocol::header::{BASIC_CLASS_ID, Properties};
use leveret_protocol::{ContentHeader, Writer};

use super::forwarder::Forwarder;
use super::*;
use crate::broker::{
    Access, BindRequest, ConnectionLimits, ExchangeRequest, InMemory, Incoming, Node, Publisher,
    QueueRequest, Requester, Rulebook, Storage, Vhost, Wakes,
};
use crate::config::Users;
use crate::model::{Body, ConnectionId, Destination, FieldTable, FieldValue, Now};
use crate::queue::{Got, Outcome};
use crate::store::StoreSettings;

fn requester() -> Requester {
    Requester {
        connection: ConnectionId(1),
        user: "guest".into(),
        connection_name: "".into(),
    }
}

/// A broker without a forwarder of its own, so that tests say when it works.
struct World {
    node: Arc<Node>,
    vhost: Arc<Vhost>,
    forwarder: Forwarder,
    wakes: Wakes,
}

impl World {
    fn new(node: Arc<Node>) -> Self {
        Self {
            vhost: node.ensure_vhost(&"/".into()),
            forwarder: Forwarder::new(Arc::clone(&node)),
            node,
            wakes: Wakes::default(),
        }
    }

    fn in_memory() -> Self {
        let access = Access::new(Users::default());
        let node = Node::new(
            access,
            ConnectionLimits::default(),
            [],
            Arc::new(InMemory::default()),
        );
        Self::new(node)
    }

    fn open(directory: &Path) -> Self {
        let settings = StoreSettings {
            log_bytes: 1 << 20,
            ..StoreSettings::default()
        };
        let (storage, found) = Storage::open(directory, &settings, 1 << 20).expect("it opens");
        let access = Access::new(Users::default());
        let node = Node::recover(
            access,
            ConnectionLimits::default(),
            Rulebook::default(),
            [],
            storage,
            found,
        );
        Self::new(node.expect("what was stored can be restored"))
    }

    /// Declares a durable queue whose dead letters go to that exchange, with
    /// that key if there is one.
    fn declare(&self, name: &str, exchange: Option<&str>, key: Option<&str>) {
        self.declare_as(name, true, exchange, key);
    }

    fn declare_as(&self, name: &str, durable: bool, exchange: Option<&str>, key: Option<&str>) {
        let mut arguments = FieldTable::new();
        if let Some(exchange) = exchange {
            arguments.insert("x-dead-letter-exchange", exchange);
        }
        if let Some(key) = key {
            arguments.insert("x-dead-letter-routing-key", key);
        }
        self.declare_with(name, durable, arguments);
    }

    fn declare_with(&self, name: &str, durable: bool, arguments: FieldTable) {
        let request = QueueRequest {
            name,
            durable,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        let declared = self.vhost.declare_queue(request, &requester());
        declared.expect("nothing stands against it");
    }

    fn exchange(&self, name: &str, kind: &str, internal: bool) {
        let request = ExchangeRequest {
            name,
            kind,
            durable: true,
            auto_delete: false,
            internal,
            arguments: FieldTable::new(),
        };
        let declared = self.vhost.declare_exchange(request, &requester());
        declared.expect("nothing stands against it");
    }

    fn bind(&self, exchange: &str, queue: &str, key: &str) {
        let request = BindRequest {
            source: exchange,
            destination: Destination::Queue(queue.into()),
            routing_key: key,
            arguments: FieldTable::new(),
        };
        let (now, mut wakes) = (self.node.now(), Wakes::default());
        let bound = self.vhost.bind(request, &requester(), now, &mut wakes);
        bound.expect("both are there");
    }

    fn delete(&mut self, name: &str) {
        let (name, wakes) = (name.into(), &mut self.wakes);
        let deleted = self
            .vhost
            .delete_queue(&name, false, false, &requester(), wakes);
        deleted.expect("nothing stands against it");
    }

    fn queue(&self, name: &str) -> Arc<QueueHost> {
        self.vhost.find_queue(name).expect("it was declared")
    }

    /// Publishes persistent messages to a queue by its name.
    fn publish<T: AsRef<[u8]>>(&mut self, queue: &str, bodies: impl IntoIterator<Item = T>) {
        let mut publisher = Publisher::new(
            self.node.clock(),
            Arc::clone(&self.vhost),
            Arc::clone(self.node.reply_targets()),
            requester(),
        );
        let mut envelope = Vec::new();
        let mut writer = Writer::new(&mut envelope);
        writer.shortstr("");
        writer.shortstr(queue);
        let properties = Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        };
        let mut octets = Vec::new();
        properties.encode(&mut octets);
        for body in bodies {
            let mut header = Vec::new();
            let content = ContentHeader {
                class_id: BASIC_CLASS_ID,
                body_bytes: body.as_ref().len() as u64,
                properties: &octets,
            };
            content.encode(&mut header);
            let incoming = Incoming {
                channel: 1,
                envelope: &envelope,
                header: &header,
                body: Body::Slice(body.as_ref()),
                persistent: true,
                notable: false,
            };
            let published = publisher.publish(&incoming, &mut self.wakes);
            assert_eq!(published, Ok(true));
        }
        let ticket = publisher.flush(&[], &mut self.wakes);
        self.await_stored(ticket);
    }

    /// Waits, as a connection does before it confirms.
    fn await_stored(&self, ticket: crate::model::Ticket) {
        use crate::model::Verdict;
        let started = std::time::Instant::now();
        while self.node.durability().progress().verdict(ticket) != Verdict::Stored {
            assert!(started.elapsed().as_secs() < 20, "it is not stored");
            std::thread::yield_now();
        }
    }

    fn get(&mut self, queue: &str) -> Option<Got> {
        let now = self.node.now();
        self.queue(queue).get(false, now, &mut self.wakes)
    }

    /// Rejects all that is ready in a queue, in order, at once.
    fn reject_all(&mut self, queue: &str) {
        let got = std::iter::from_fn(|| self.get(queue));
        let slots: Vec<UnsettledSlot> = got.filter_map(|got| got.unsettled).collect();
        assert!(!slots.is_empty(), "there is something to reject");
        let now = self.node.now();
        self.queue(queue)
            .settle(&slots, Outcome::Discard, now, &mut self.wakes);
    }

    /// Lets all that is ready in a queue die of something else.
    fn let_die(&mut self, queue: &str, reason: DeathReason) {
        let host = self.queue(queue);
        let got = std::iter::from_fn(|| self.get(queue));
        let mut letters: Vec<DeadLetter> = got
            .filter_map(|got| {
                Some(DeadLetter {
                    slot: got.unsettled?,
                    message: got.message,
                    reason,
                })
            })
            .collect();
        let (vhost, rules) = (self.vhost.name(), &host.settings().rules);
        let posted = self.node.dead_letters();
        posted.post(&host, vhost, rules, &mut letters);
    }

    /// Moves letters until none is left, those that are made meanwhile too.
    async fn forward(&mut self) {
        while self.forwarder.move_some() {
            assert!(self.forwarder.write_down().await, "the store works");
        }
    }

    /// Ready and unsettled messages of a queue.
    fn counts(&self, queue: &str) -> (u64, u64) {
        let counts = self.queue(queue).counts();
        (counts.ready, counts.unsettled)
    }

    /// Takes all messages out of a queue, as texts.
    fn drain(&mut self, queue: &str) -> Vec<String> {
        let (host, now) = (self.queue(queue), self.node.now());
        let got = std::iter::from_fn(|| host.get(true, now, &mut self.wakes));
        got.map(|got| body(&got.message)).collect()
    }

    fn counted(&self) -> (u64, u64) {
        let DeadLetterCounts { forwarded, dropped } = self.node.dead_letters().counts();
        (forwarded, dropped)
    }
}

fn body(message: &Message) -> String {
    let octets = match message.body() {
        Body::Slice(octets) => octets.to_vec(),
        Body::Chunks(chunks) => chunks.concat(),
    };
    String::from_utf8(octets).expect("tests send text")
}

/// A data directory, and what a crash would leave of it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn start(&self) -> World {
        World::open(&self.path())
    }

    /// A copy of the files as they are while the broker runs: what a restart
    /// would find if it were killed now.
    fn killed_now(&self) -> Place {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).expect("a folder");
            for entry in fs::read_dir(from).expect("it is there") {
                let entry = entry.expect("it can be read");
                let to = to.join(entry.file_name());
                if entry.file_type().expect("it has one").is_dir() {
                    copy(&entry.path(), &to);
                } else if let Err(error) = fs::copy(entry.path(), &to) {
                    // The store prepares and removes files all the time.
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                }
            }
        }
        let place = Place::new();
        copy(&self.path(), &place.path());
        place
    }
}

#[tokio::test]
async fn a_rejected_message_moves_with_its_body_and_the_keys_of_the_rules() {
    let mut world = World::in_memory();
    world.declare("in", Some(""), Some("dead"));
    world.declare("dead", None, None);
    world.publish("in", ["a", "b"]);
    world.reject_all("in");
    assert_eq!(world.counts("dead"), (0, 0), "they wait to be moved");
    world.forward().await;
    assert_eq!(world.counts("in"), (0, 0));
    let got = world.get("dead").expect("it has come");
    assert_eq!(body(&got.message), "a");
    assert_eq!(got.deliveries, 0);
    assert!(got.message.persistent());
    assert_eq!(got.message.exchange(), "");
    assert_eq!(got.message.routing_key(), "dead");
    assert!(got.message.header_value("x-death").is_some());
    assert_eq!(world.drain("dead"), ["b"]);
    assert_eq!(world.counted(), (2, 0));
}

#[tokio::test]
async fn letters_keep_their_order_however_many_there_are() {
    let mut world = World::in_memory();
    world.declare("in", Some("amq.fanout"), None);
    world.declare("one", None, None);
    world.declare_as("two", false, None, None);
    world.bind("amq.fanout", "one", "");
    world.bind("amq.fanout", "two", "");
    let bodies: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    world.publish("in", &bodies);
    world.reject_all("in");
    world.forward().await;
    assert_eq!(world.drain("one"), bodies);
    assert_eq!(world.drain("two"), bodies);
    assert_eq!(world.counts("in"), (0, 0));
}

#[tokio::test]
async fn large_bodies_and_small_ones_move_alike() {
    let mut world = World::in_memory();
    world.declare("in", Some(""), Some("dead"));
    world.declare("dead", None, None);
    let bodies: Vec<String> = [1, 40_000, 3, 100_000, 0]
        .into_iter()
        .map(|length| "x".repeat(length))
        .collect();
    world.publish("in", &bodies);
    world.reject_all("in");
    world.forward().await;
    assert_eq!(world.drain("dead"), bodies);
}

#[tokio::test]
async fn what_leads_nowhere_is_dropped_and_counted() {
    let mut world = World::in_memory();
    world.declare("missing", Some("no such exchange"), None);
    world.declare("unbound", Some("amq.direct"), None);
    world.declare("unnamed", Some(""), Some("no such queue"));
    for queue in ["missing", "unbound", "unnamed"] {
        world.publish(queue, ["a"]);
        world.reject_all(queue);
        world.forward().await;
        assert_eq!(world.counts(queue), (0, 0), "{queue}");
    }
    assert_eq!(world.counted(), (3, 3));
}

#[tokio::test]
async fn an_internal_exchange_takes_dead_letters() {
    let mut world = World::in_memory();
    world.exchange("dlx", "topic", true);
    world.declare("in", Some("dlx"), None);
    world.declare("dead", None, None);
    world.bind("dlx", "dead", "#");
    world.publish("in", ["a"]);
    world.reject_all("in");
    world.forward().await;
    let got = world.get("dead").expect("it has come");
    assert_eq!(
        (got.message.exchange(), got.message.routing_key()),
        ("dlx", "in")
    );
}

#[tokio::test]
async fn queues_may_send_letters_to_each_other_and_themselves() {
    let mut world = World::in_memory();
    world.declare("a", Some(""), Some("b"));
    world.declare("b", Some(""), Some("a"));
    world.publish("a", ["x", "y"]);
    for _ in 0..3 {
        world.reject_all("a");
        world.forward().await;
        assert_eq!((world.counts("a"), world.counts("b")), ((0, 0), (2, 0)));
        world.reject_all("b");
        world.forward().await;
        assert_eq!((world.counts("a"), world.counts("b")), ((2, 0), (0, 0)));
    }
    assert_eq!(world.drain("a"), ["x", "y"]);

    world.declare("self", Some(""), Some("self"));
    world.publish("self", ["x", "y"]);
    world.reject_all("self");
    world.forward().await;
    assert_eq!(world.drain("self"), ["x", "y"]);
}

#[tokio::test]
async fn a_cycle_ends_unless_somebody_rejects() {
    let mut world = World::in_memory();
    world.declare("wait", Some(""), Some("work"));
    world.declare("work", Some(""), Some("wait"));
    world.publish("work", ["x"]);
    world.reject_all("work");
    world.forward().await;
    world.let_die("wait", DeathReason::Expired);
    world.forward().await;
    assert_eq!(world.counts("work"), (1, 0), "it was rejected in between");
    world.let_die("work", DeathReason::Expired);
    world.forward().await;
    assert_eq!(
        (world.counts("work"), world.counts("wait")),
        ((0, 0), (0, 0))
    );
    assert_eq!(world.counted(), (3, 1));
}

#[tokio::test]
async fn a_cycle_is_one_queues_and_not_the_others() {
    let mut world = World::in_memory();
    world.declare("in", Some("amq.fanout"), None);
    world.declare("out", None, None);
    world.bind("amq.fanout", "in", "");
    world.bind("amq.fanout", "out", "");
    world.publish("in", ["x"]);
    world.let_die("in", DeathReason::MaxLength);
    world.forward().await;
    assert_eq!((world.counts("in"), world.counts("out")), ((0, 0), (1, 0)));
}

#[tokio::test]
async fn letters_of_a_queue_that_is_deleted_still_go() {
    let mut world = World::in_memory();
    world.declare("in", Some(""), Some("dead"));
    world.declare("dead", None, None);
    world.publish("in", ["a"]);
    world.reject_all("in");
    world.delete("in");
    world.declare("in", None, None);
    world.publish("in", ["new"]);
    world.forward().await;
    assert_eq!(world.drain("dead"), ["a"]);
    assert_eq!(world.drain("in"), ["new"], "a namesake is not touched");
}

#[tokio::test]
async fn a_crash_finds_a_letter_in_one_queue() {
    let place = Place::new();
    let mut world = place.start();
    world.declare("in", Some(""), Some("dead"));
    world.declare("dead", None, None);
    world.publish("in", ["a", "b", "c"]);
    let found = |place: Place| {
        let mut world = place.start();
        (world.drain("in"), world.drain("dead"))
    };
    let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
    world.reject_all("in");
    assert_eq!(found(place.killed_now()), (all(), vec![]), "rejected");
    assert!(world.forwarder.move_some());
    assert_eq!(world.counts("dead"), (3, 0));
    assert_eq!(
        found(place.killed_now()),
        (all(), vec![]),
        "not written down"
    );
    assert!(world.forwarder.write_down().await);
    assert_eq!(found(place.killed_now()), (vec![], all()), "written down");
    drop(world);
    assert_eq!(found(place), (vec![], all()), "stopped");
}

#[tokio::test]
async fn a_crash_finds_an_expired_message_in_one_queue() {
    let place = Place::new();
    let mut world = place.start();
    let hour = 3_600_000;
    world.declare_with(
        "in",
        true,
        FieldTable::from_iter([
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "dead".into()),
            ("x-message-ttl", FieldValue::I64(hour)),
        ]),
    );
    world.declare("dead", None, None);
    world.publish("in", ["a", "b"]);
    let found = |place: Place| {
        let mut world = place.start();
        (world.drain("in"), world.drain("dead"))
    };
    let all = || ["a", "b"].map(str::to_owned).to_vec();
    let later = Now(world.node.now().0 + Duration::from_secs(7_200));
    world.queue("in").tick(later, &mut world.wakes);
    assert_eq!(world.counts("in"), (0, 0), "they have expired");
    assert_eq!(found(place.killed_now()), (all(), vec![]));
    world.forward().await;
    assert_eq!(found(place.killed_now()), (vec![], all()));
}

#[tokio::test]
async fn what_was_dropped_or_is_not_to_last_does_not_come_back() {
    let place = Place::new();
    let mut world = place.start();
    world.declare("to nowhere", Some("no such exchange"), None);
    world.declare("to memory", Some(""), Some("memory"));
    world.declare_as("memory", false, None, None);
    world.declare_as("from memory", false, Some(""), Some("disk"));
    world.declare("disk", None, None);
    for queue in ["to nowhere", "to memory", "from memory"] {
        world.publish(queue, [queue]);
        world.reject_all(queue);
    }
    world.forward().await;
    assert_eq!(world.drain("memory"), ["to memory"]);
    drop(world);
    let mut world = place.start();
    for queue in ["to nowhere", "to memory"] {
        assert_eq!(world.counts(queue), (0, 0), "{queue}");
    }
    assert_eq!(world.drain("disk"), ["from memory"]);
}

/// The forwarder as a broker runs it, with everything under way at once, until
/// the broker is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_letters_go_round() {
    let place = Place::new();
    let bodies: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let mut world = place.start();
    world.declare("a", Some(""), Some("b"));
    world.declare("b", Some(""), Some("a"));
    world.publish("a", &bodies);
    for moves in [30, 3_000, 300] {
        let task = tokio::spawn(forward_dead_letters(Arc::clone(&world.node)));
        let stop = Arc::new(AtomicBool::new(false));
        let rejecting = ["a", "b"].map(|name| reject(&world, name, &stop));
        while world.counted().0 < moves {
            tokio::task::yield_now().await;
        }
        world.node.storage().expect("it has one").abandon();
        stop.store(true, Ordering::Relaxed);
        for thread in rejecting {
            thread.join().expect("it does not panic");
        }
        task.abort();
        assert!(task.await.is_err(), "it works until it is dropped");
        drop(world);
        world = place.start();
        let mut found = ready(&world, "a");
        found.extend(ready(&world, "b"));
        found.sort_unstable();
        let mut all = bodies.clone();
        all.sort_unstable();
        assert_eq!(found, all, "after {moves} moves");
    }
}

/// Rejects whatever comes into a queue.
fn reject(world: &World, name: &str, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (host, node, stop) = (world.queue(name), Arc::clone(&world.node), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut wakes = Wakes::default();
        while !stop.load(Ordering::Relaxed) {
            let got = host.get(false, node.now(), &mut wakes);
            match got.and_then(|got| got.unsettled) {
                Some(slot) => host.settle(&[slot], Outcome::Discard, node.now(), &mut wakes),
                None => std::thread::yield_now(),
            }
        }
    })
}

/// The messages that are ready in a queue, which keeps them.
fn ready(world: &World, name: &str) -> Vec<String> {
    let (host, now) = (world.queue(name), world.node.now());
    let mut wakes = Wakes::default();
    let got: Vec<Got> = std::iter::from_fn(|| host.get(false, now, &mut wakes)).collect();
    let slots: Vec<UnsettledSlot> = got.iter().filter_map(|got| got.unsettled).collect();
    let back = Outcome::Requeue {
        redelivered: false,
        refused: false,
    };
    host.settle(&slots, back, now, &mut wakes);
    got.iter().map(|got| body(&got.message)).collect()
}
