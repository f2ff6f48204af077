//! What is there after a restart, and what is not.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::broker::{
    Access, BindRequest, ConnectionLimits, Definition, ExchangeRequest, InMemory, Incoming, Node,
    Publisher, QueueRequest, Requester, Rulebook, Storage, Vhost, Wakes,
};
use crate::config::Users;
use crate::model::{
    Body, BrokerError, ConnectionId, Destination, ExchangeKind, ExchangeName, ExchangeSettings,
    FieldTable, Now, QueueId, QueueName, QueueSettings, Ticket, VhostName,
};
use crate::routing::{Binding, EVENT_EXCHANGE, TRACE_EXCHANGE};
use crate::store::StoreSettings;
use crate::store::metadata::{Change, Definitions, Metadata, Verdict};

/// A data directory, and a broker that comes and goes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    fn start(&self) -> Arc<Node> {
        recover(&self.path()).expect("what was stored can be restored")
    }

    /// What is stored, with no broker running.
    fn stored(&self) -> Definitions {
        open_metadata(&self.path()).1
    }
}

/// Ends a broker, with its threads: one of them may be the last to hold the
/// directory.
fn stop(node: Arc<Node>) {
    node.storage().expect("it writes").close();
}

fn recover(path: &Path) -> Result<Arc<Node>, crate::model::BrokerError> {
    recover_with(path, Rulebook::default())
}

fn recover_with(path: &Path, rulebook: Rulebook) -> Result<Arc<Node>, crate::model::BrokerError> {
    let (storage, found) =
        Storage::open(path, &StoreSettings::default(), 1 << 20).expect("it opens");
    Node::recover(
        Access::new(Users::default()),
        ConnectionLimits::default(),
        rulebook,
        [VhostName::from("/")],
        storage,
        found,
    )
}

/// The definitions alone.
fn open_metadata(path: &Path) -> (Metadata, Definitions) {
    let files = crate::store::Disk::open(path).expect("a folder");
    let backend = crate::store::definitions_file(&files).expect("it opens");
    Metadata::open(backend).expect("it opens")
}

fn vhost(node: &Node) -> Arc<Vhost> {
    node.vhost(&"/".into()).expect("it is always there")
}

fn requester(connection: u64) -> Requester {
    Requester {
        connection: ConnectionId(connection),
        user: "guest".into(),
        connection_name: "".into(),
    }
}

fn declare_queue(vhost: &Vhost, name: &str, durable: bool) -> QueueId {
    let request = QueueRequest {
        name,
        durable,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    };
    vhost
        .declare_queue(request, &requester(1))
        .expect("nothing stands against it");
    let host = vhost.find_queue(name).expect("it was just declared");
    host.id()
}

fn exchange(name: &str, durable: bool, auto_delete: bool) -> ExchangeRequest<'_> {
    ExchangeRequest {
        name,
        kind: "topic",
        durable,
        auto_delete,
        internal: false,
        arguments: FieldTable::new(),
    }
}

fn to_queue<'a>(source: &'a str, queue: &str, key: &'a str) -> BindRequest<'a> {
    BindRequest {
        source,
        destination: Destination::Queue(queue.into()),
        routing_key: key,
        arguments: FieldTable::new(),
    }
}

fn to_exchange<'a>(source: &'a str, exchange: &str) -> BindRequest<'a> {
    BindRequest {
        destination: Destination::Exchange(exchange.into()),
        ..to_queue(source, "", "#")
    }
}

fn bind(vhost: &Vhost, request: BindRequest<'_>, requester: &Requester) -> Result<(), BrokerError> {
    let mut wakes = Wakes::default();
    let bound = vhost.bind(request, requester, Now::default(), &mut wakes);
    wakes.fire();
    bound
}

fn delete_queue(vhost: &Vhost, name: &str, connection: u64) {
    let mut wakes = Wakes::default();
    let asked = requester(connection);
    let _ = vhost.delete_queue(&name.into(), false, false, &asked, &mut wakes);
    wakes.fire();
}

/// What of a virtual host is durable, or all of it.
#[derive(Debug, PartialEq)]
struct View {
    exchanges: Vec<(ExchangeName, ExchangeSettings)>,
    queues: Vec<(QueueName, QueueId, QueueSettings)>,
    /// By source, those of one in their order.
    bindings: Vec<Binding>,
}

fn view(vhost: &Vhost, all: bool) -> View {
    let routing = vhost.routing();
    let exchange_counts = |name: &ExchangeName| {
        let settings = routing.exchange(name.as_str());
        settings.is_some_and(|settings| all || settings.durable)
    };
    let queue_counts = |name: &QueueName| {
        let host = vhost.find_queue(name.as_str());
        host.is_some_and(|host| all || host.settings().durable)
    };
    let counts = |binding: &&Binding| {
        exchange_counts(&binding.source)
            && match &binding.destination {
                Destination::Queue(name) => queue_counts(name),
                Destination::Exchange(name) => exchange_counts(name),
            }
    };
    let hosts = vhost.queues.read();
    let hosts = hosts.values().filter(|host| all || host.settings().durable);
    let mut queues: Vec<_> = hosts
        .map(|host| {
            let (name, settings) = (host.name().clone(), host.settings().clone());
            (name, host.id(), settings)
        })
        .collect();
    queues.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let exchanges = routing.exchanges();
    View {
        exchanges: exchanges
            .filter(|(name, _)| exchange_counts(name))
            .map(|(name, settings)| (name.clone(), settings.clone()))
            .collect(),
        queues,
        bindings: routing.bindings().filter(counts).cloned().collect(),
    }
}

#[test]
fn durable_things_survive_and_others_do_not() {
    let place = Place::new();
    let node = place.start();
    let host = vhost(&node);
    for (name, durable) in [("kept", true), ("lost", false)] {
        declare_queue(&host, name, durable);
        host.declare_exchange(
            exchange(&format!("x-{name}"), durable, false),
            &requester(1),
        )
        .expect("it is new");
    }
    let exclusive = QueueRequest {
        name: "mine",
        durable: true,
        exclusive: true,
        auto_delete: false,
        arguments: FieldTable::new(),
    };
    host.declare_queue(exclusive, &requester(1)).expect("new");
    for source in ["amq.topic", "x-kept", "x-lost"] {
        for queue in ["kept", "lost", "mine"] {
            bind(&host, to_queue(source, queue, "k"), &requester(1)).expect("both are there");
        }
    }
    bind(&host, to_exchange("amq.topic", "amq.fanout"), &requester(1))
        .expect("both are always there");
    let metadata = node.storage().expect("it writes").metadata();
    assert_eq!(
        metadata.wait(node.durability().definitions_ticket()),
        Verdict::Durable
    );
    let before = view(&host, false);
    drop(host);
    stop(node);

    let node = place.start();
    assert_eq!(
        node.durability().definitions_ticket(),
        Ticket(0),
        "nothing is written again"
    );
    let after = view(&vhost(&node), true);
    assert_eq!(after, before);
    assert_eq!(after.bindings.len(), 3);
    let names: Vec<_> = after
        .queues
        .iter()
        .map(|(name, ..)| name.as_str())
        .collect();
    assert_eq!(names, ["kept"]);
}

#[test]
fn what_needs_no_disk_is_not_written() {
    let place = Place::new();
    let node = place.start();
    let host = vhost(&node);
    declare_queue(&host, "lost", false);
    host.declare_exchange(exchange("lost", false, false), &requester(1))
        .expect("it is new");
    bind(&host, to_queue("amq.topic", "lost", "k"), &requester(1)).expect("both are there");
    bind(&host, to_queue("lost", "lost", "k"), &requester(1)).expect("both are there");
    delete_queue(&host, "lost", 1);
    host.delete_exchange(&"lost".into(), false, &requester(1))
        .expect("it is not the broker's own");
    assert_eq!(node.durability().definitions_ticket(), Ticket(0));

    declare_queue(&host, "kept", true);
    bind(&host, to_queue("amq.topic", "kept", "k"), &requester(1)).expect("both are there");
    assert_eq!(node.durability().definitions_ticket(), Ticket(2));
    declare_queue(&host, "kept", true);
    bind(&host, to_queue("amq.topic", "kept", "k"), &requester(1)).expect("both are there");
    assert_eq!(
        node.durability().definitions_ticket(),
        Ticket(2),
        "it was there already"
    );

    let memory_only = Node::new(
        Access::new(Users::default()),
        ConnectionLimits::default(),
        ["/".into()],
        Arc::new(InMemory::default()),
    );
    declare_queue(&vhost(&memory_only), "q", true);
    assert_eq!(memory_only.durability().definitions_ticket(), Ticket(0));
    assert!(memory_only.storage().is_none());
}

#[test]
fn who_listens_to_the_broker_itself_does_so_after_a_restart() {
    let place = Place::new();
    let node = place.start();
    let host = vhost(&node);
    declare_queue(&host, "q", true);
    for exchange in [TRACE_EXCHANGE, EVENT_EXCHANGE] {
        bind(&host, to_queue(exchange, "q", "#"), &requester(1)).expect("both are there");
    }
    drop(host);
    stop(node);

    let node = place.start();
    let host = vhost(&node);
    assert!(host.is_traced());
    let routing = host.routing();
    let sources: Vec<&str> = routing
        .bindings()
        .map(|binding| binding.source.as_str())
        .collect();
    assert_eq!(sources, [EVENT_EXCHANGE, TRACE_EXCHANGE]);
    // A queue that is new is told of.
    declare_queue(&host, "later", false);
    assert_eq!(node.notices().take_event_keys(), ["queue.created"]);
}

#[test]
fn a_queue_that_comes_again_is_another_one() {
    let place = Place::new();
    let node = place.start();
    let host = vhost(&node);
    let first = declare_queue(&host, "q", true);
    delete_queue(&host, "q", 1);
    let second = declare_queue(&host, "q", true);
    assert_ne!(first, second);
    delete_queue(&host, "q", 1);
    let other = node.ensure_vhost(&"other".into());
    assert!(
        declare_queue(&other, "q", true) > second,
        "of the whole node"
    );
    drop((host, other));
    stop(node);

    let node = place.start();
    let third = declare_queue(&vhost(&node), "q", true);
    let other = node.vhost(&"other".into()).expect("it was needed");
    let others = other.find_queue("q").expect("it is durable");
    assert!(third > others.id());
}

#[test]
fn auto_delete_exchanges_go_from_disk_as_well() {
    for gone in ["queue", "binding", "exchange", "file"] {
        let place = Place::new();
        let node = place.start();
        let host = vhost(&node);
        declare_queue(&host, "q", true);
        for name in ["a", "b"] {
            host.declare_exchange(exchange(name, true, true), &requester(1))
                .expect("it is new");
        }
        host.declare_exchange(exchange("last", true, false), &requester(1))
            .expect("it is new");
        // Each lives by its binding to the next.
        for (source, destination) in [("a", "b"), ("b", "last")] {
            bind(&host, to_exchange(source, destination), &requester(1)).expect("both are there");
        }
        // So do bindings to one that goes.
        bind(&host, to_exchange("amq.topic", "a"), &requester(1)).expect("both are there");
        match gone {
            "exchange" => host.delete_exchange(&"last".into(), false, &requester(1)),
            "binding" => host.unbind(to_exchange("b", "last"), &requester(1)),
            "file" => {
                let unbind = Definition::Unbind(Binding {
                    source: "b".into(),
                    destination: Destination::Exchange("last".into()),
                    routing_key: "#".into(),
                    arguments: Arc::default(),
                });
                node.define(vec![("/".into(), unbind)])
            }
            _ => {
                bind(&host, to_queue("b", "q", "k"), &requester(1)).expect("both are there");
                host.unbind(to_exchange("b", "last"), &requester(1))
                    .expect("it was there");
                delete_queue(&host, "q", 1);
                Ok(())
            }
        }
        .expect("nothing stands against it");
        let left = view(&host, false);
        drop(host);
        stop(node);

        let stored = place.stored();
        let [of] = &stored.vhosts[..] else {
            panic!("{stored:?}");
        };
        assert!(of.bindings.is_empty(), "{gone}: {:?}", of.bindings);
        let names: Vec<_> = of.exchanges.iter().map(|(name, _)| name.as_str()).collect();
        let expected: &[&str] = if gone == "exchange" { &[] } else { &["last"] };
        assert_eq!(names, expected, "{gone}");
        assert_eq!(of.queues.len(), usize::from(gone != "queue"), "{gone}");
        assert_eq!(view(&vhost(&place.start()), true), left, "{gone}");
    }
}

#[test]
fn a_file_is_written_at_once_and_stands_against_what_is_stored() {
    let place = Place::new();
    let node = place.start();
    let logs = |kind| Definition::Exchange("logs".into(), ExchangeSettings::new(kind));
    let durable = QueueSettings {
        durable: true,
        ..QueueSettings::default()
    };
    let bind = Definition::Bind(Binding {
        source: "logs".into(),
        destination: Destination::Queue("q".into()),
        routing_key: "k".into(),
        arguments: Arc::default(),
    });
    let file = vec![
        (VhostName::from("/"), logs(ExchangeKind::Topic)),
        ("other".into(), logs(ExchangeKind::Topic)),
        ("/".into(), Definition::Queue("q".into(), durable)),
        ("/".into(), bind),
    ];
    node.define(file.clone()).expect("there is nothing else");
    assert_eq!(node.durability().definitions_ticket(), Ticket(1));
    node.define(file.clone()).expect("it is the same");
    assert_eq!(node.durability().definitions_ticket(), Ticket(1));
    let before = view(&vhost(&node), false);
    stop(node);

    let node = place.start();
    assert_eq!(view(&vhost(&node), true), before);
    node.define(file).expect("it is the same");
    assert_eq!(node.durability().definitions_ticket(), Ticket(0));
    let changed = node.define(vec![("/".into(), logs(ExchangeKind::Direct))]);
    assert_eq!(
        changed.expect_err("it is stored as another").to_string(),
        "inequivalent arg 'type' for exchange 'logs' in vhost '/': received 'direct' but current \
         is 'topic'"
    );
    assert!(node.vhost(&"other".into()).is_some());
}

/// Not only later: what dies while a queue is restored is a dead letter of its
/// policy.
#[test]
fn stored_queues_and_exchanges_go_by_the_policies_from_the_start() {
    let place = Place::new();
    let (metadata, _) = open_metadata(&place.path());
    let queue = QueueSettings {
        durable: true,
        arguments: Arc::new(FieldTable::from_iter([("x-message-ttl", 1_000)])),
        ..QueueSettings::default()
    };
    metadata.submit(vec![
        Change::PutVhost("/".into()),
        Change::PutExchange(
            "/".into(),
            "x".into(),
            ExchangeSettings::new(ExchangeKind::Direct),
        ),
        Change::PutQueue("/".into(), "q".into(), QueueId(1), queue),
    ]);
    drop(metadata);
    let file = crate::topology::BrokerFile::parse(
        "leveret.toml",
        "[[policy]]\nname = \"p\"\npattern = \"\"\n\
         definition = { dead-letter-exchange = \"dead\", alternate-exchange = \"lost\" }\n",
    );
    let rulebook = file.expect("the file is right").topology.rulebook;
    let node = recover_with(&place.path(), rulebook).expect("what was stored can be restored");
    let host = vhost(&node).find_queue("q").expect("it is stored");
    let rules = host.rules();
    assert_eq!(rules.message_ttl, Some(1_000));
    assert_eq!(rules.dead_letter_exchange, Some("dead".into()));
    let routing = vhost(&node).routing();
    for name in ["x", "amq.direct"] {
        let exchange = routing.exchange(name).expect("it is there");
        assert_eq!(exchange.alternate, Some("lost".into()), "{name}");
    }
}

#[test]
fn stored_settings_are_read_by_the_rules_for_clients() {
    let place = Place::new();
    let (metadata, _) = open_metadata(&place.path());
    let alternate = FieldTable::from_iter([("alternate-exchange", "other")]);
    let settings = ExchangeSettings {
        arguments: Arc::new(alternate),
        ..ExchangeSettings::new(ExchangeKind::Direct)
    };
    metadata.submit(vec![
        Change::PutVhost("/".into()),
        Change::PutExchange("/".into(), "x".into(), settings),
    ]);
    drop(metadata);
    let node = place.start();
    let host = vhost(&node);
    let routing = host.routing();
    let restored = routing.exchange("x").expect("it is stored");
    assert_eq!(restored.alternate, Some("other".into()));
    drop(routing);
    drop(host);
    stop(node);

    let (metadata, _) = open_metadata(&place.path());
    let bad = QueueSettings {
        durable: true,
        arguments: Arc::new(FieldTable::from_iter([("x-queue-mode", "odd")])),
        ..QueueSettings::default()
    };
    let put = Change::PutQueue("/".into(), "q".into(), QueueId(1), bad);
    metadata.submit(vec![put]);
    drop(metadata);
    let error = recover(&place.path()).expect_err("no client could declare it");
    assert!(
        error.to_string().contains("queue 'q' in vhost '/'"),
        "{error}"
    );
}

#[test]
fn a_binding_that_leads_nowhere_is_removed() {
    let place = Place::new();
    let node = place.start();
    let host = vhost(&node);
    declare_queue(&host, "q", true);
    bind(&host, to_queue("amq.topic", "q", "k"), &requester(1)).expect("both are there");
    let metadata = node.storage().expect("it writes").metadata();
    metadata.submit(vec![Change::DeleteQueue("/".into(), "q".into())]);
    drop(host);
    stop(node);
    assert_eq!(place.stored().vhosts[0].bindings.len(), 1);
    let node = place.start();
    assert_eq!(vhost(&node).routing().bindings().count(), 0);
    stop(node);
    assert_eq!(place.stored().vhosts[0].bindings.len(), 0);
}

/// Saves that ran at the same time once overtook each other.
#[test]
fn many_at_once_leave_on_disk_what_they_left_in_memory() {
    let place = Place::new();
    for round in 0..3 {
        let node = place.start();
        let threads: Vec<_> = (0..50)
            .map(|seed| {
                let node = Arc::clone(&node);
                thread::spawn(move || stir(&node, round * 50 + seed))
            })
            .collect();
        for thread in threads {
            thread.join().expect("it does not panic");
        }
        let names = ["/", "other"].map(VhostName::from);
        let before = names.clone().map(|name| {
            let vhost = node.vhost(&name).expect("it was used");
            view(&vhost, false)
        });
        let metadata = node.storage().expect("it writes").metadata();
        assert_eq!(
            metadata.wait(node.durability().definitions_ticket()),
            Verdict::Durable
        );
        stop(node);
        let node = place.start();
        let after = names.map(|name| {
            let vhost = node.vhost(&name).expect("it was used");
            view(&vhost, true)
        });
        assert_eq!(after, before);
        let bindings = after.iter().map(|view| view.bindings.len());
        assert!(bindings.sum::<usize>() > 0, "there is something to compare");
    }
}

/// Declares, binds, unbinds and deletes a few names over and over.
fn stir(node: &Node, seed: u64) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    let asked = requester(seed + 1);
    for _ in 0..60 {
        let vhost = node.ensure_vhost(&["/", "other"][below(2) as usize].into());
        let queue = format!("q{}", below(6));
        let source = ["amq.topic", "x0", "x1", "x2", "x3", "x4"][below(6) as usize];
        let key = ["a", "b.*", "#"][below(3) as usize];
        // Refusals are part of it: names are not there, or are something else.
        match below(7) {
            0 | 1 => {
                let request = QueueRequest {
                    name: &queue,
                    durable: below(3) > 0,
                    exclusive: below(8) == 0,
                    auto_delete: false,
                    arguments: FieldTable::new(),
                };
                let _ = vhost.declare_queue(request, &asked);
            }
            2 => drop(
                vhost
                    .declare_exchange(exchange(source, below(3) > 0, below(2) == 0), &requester(1)),
            ),
            3 => drop(bind(&vhost, to_queue(source, &queue, key), &asked)),
            4 => {
                let destination = format!("x{}", below(5));
                drop(bind(&vhost, to_exchange(source, &destination), &asked));
            }
            5 => drop(vhost.unbind(to_queue(source, &queue, key), &asked)),
            _ if below(2) == 0 => delete_queue(&vhost, &queue, seed + 1),
            _ => drop(vhost.delete_exchange(&source.into(), false, &requester(1))),
        }
    }
    let mut wakes = Wakes::default();
    for name in ["/", "other"] {
        if let Some(vhost) = node.vhost(&name.into()) {
            vhost.delete_exclusive_queues(asked.connection, &mut wakes);
        }
    }
    wakes.fire();
}

/// A history lives in memory; what a queue got from it is the queue's.
#[test]
fn what_a_queue_got_from_a_history_survives_with_it() {
    let place = Place::new();
    let node = place.start();
    let host = vhost(&node);
    let history = ExchangeRequest {
        kind: "x-recent-history",
        ..exchange("history", true, false)
    };
    host.declare_exchange(history, &requester(1))
        .expect("it is new");
    let mut wakes = Wakes::default();
    let replies = Arc::clone(node.reply_targets());
    let mut publisher = Publisher::new(
        crate::broker::Clock::start(),
        Arc::clone(&host),
        replies,
        requester(1),
    );
    for persistent in [true, false] {
        let incoming = Incoming {
            channel: 1,
            envelope: b"\x07history\x01k",
            header: &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0],
            body: Body::Slice(b"body"),
            persistent,
            notable: false,
        };
        let routed = publisher.publish(&incoming, &mut wakes);
        assert_eq!(routed, Ok(false), "nothing is bound yet");
    }
    publisher.flush(&[], &mut wakes);
    for name in ["queue", "other"] {
        declare_queue(&host, name, true);
    }
    bind(&host, to_queue("history", "queue", ""), &requester(1)).expect("both are there");
    let ready = |vhost: &Vhost, name: &str| {
        let host = vhost.find_queue(name).expect("it is durable");
        host.counts().ready
    };
    assert_eq!(ready(&host, "queue"), 2);
    drop((publisher, host));
    stop(node);

    let host = vhost(&place.start());
    assert_eq!(ready(&host, "queue"), 1, "one of them was persistent");
    bind(&host, to_queue("history", "other", ""), &requester(1)).expect("both are there");
    assert_eq!(ready(&host, "other"), 0);
}
