//! What it costs to find a message's queues, and to change the table while a
//! snapshot is out.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use leveret::model::{Destination, ExchangeKind, ExchangeSettings, FieldTable, FieldValue};
use leveret::routing::{Binding, Publish, Routed, RoutingTable};

fn bind(table: &mut RoutingTable, source: &str, queue: &str, key: &str) {
    bind_with(table, source, queue, key, FieldTable::new());
}

fn bind_with(table: &mut RoutingTable, source: &str, queue: &str, key: &str, with: FieldTable) {
    let binding = Binding {
        source: source.into(),
        destination: Destination::Queue(queue.into()),
        routing_key: key.into(),
        arguments: Arc::new(with),
    };
    table.bind(binding).expect("a binding that is in order");
}

/// Measures one message to one exchange; says how many queues it reaches.
fn route(
    c: &mut Criterion,
    name: &str,
    table: &RoutingTable,
    to: &str,
    key: &str,
    with: &FieldTable,
) {
    let mut routed = Routed::default();
    table.route(to, &Publish::new(&[key], with), &mut routed);
    let name = format!("{name}, reaching {}", routed.queues.len());
    c.bench_function(&name, |bencher| {
        bencher.iter(|| {
            let keys = [black_box(key)];
            table.route(black_box(to), &Publish::new(&keys, with), &mut routed);
        });
    });
}

fn by_key(c: &mut Criterion) {
    let none = FieldTable::new();
    let mut table = RoutingTable::new();
    bind(&mut table, "amq.direct", "tasks", "tasks");
    route(c, "direct 1", &table, "amq.direct", "tasks", &none);
    for n in 1..10_000 {
        bind(
            &mut table,
            "amq.direct",
            &format!("queue {n}"),
            &format!("key.{n}"),
        );
    }
    route(c, "direct 10,000", &table, "amq.direct", "key.5000", &none);
    route(
        c,
        "direct 10,000",
        &table,
        "amq.direct",
        "no such key",
        &none,
    );

    for n in 0..10 {
        bind(&mut table, "amq.fanout", &format!("queue {n}"), "");
    }
    route(c, "fanout 10", &table, "amq.fanout", "", &none);
    for n in 10..1_000 {
        bind(&mut table, "amq.fanout", &format!("queue {n}"), "");
    }
    route(c, "fanout 1,000", &table, "amq.fanout", "", &none);
}

/// Types of which one binding takes a message.
fn picking(c: &mut Criterion) {
    let none = FieldTable::new();
    for kind in [
        ExchangeKind::ConsistentHash,
        ExchangeKind::ModulusHash,
        ExchangeKind::Random,
    ] {
        let mut table = RoutingTable::new();
        table.declare_exchange("x".into(), ExchangeSettings::new(kind));
        let mut bound = 0;
        for bindings in [10, 1_000, 10_000] {
            for n in bound..bindings {
                bind(&mut table, "x", &format!("queue {n}"), "1");
            }
            bound = bindings;
            route(c, &format!("{kind} {bindings}"), &table, "x", "key", &none);
        }
    }
}

/// Patterns as devices in rooms have them, with each kind of wildcard.
fn topic_table(bindings: usize) -> RoutingTable {
    let mut table = RoutingTable::new();
    for n in 0..bindings {
        let (room, device) = (n / 50, n % 50);
        let pattern = match n % 5 {
            0 => format!("room{room}.device{device}.*"),
            1 => format!("room{room}.device{device}.temperature"),
            2 => format!("room{room}.device{device}.#"),
            3 => format!("*.device{device}.alarm{room}"),
            _ => format!("#.alarm{room}.device{device}"),
        };
        bind(&mut table, "amq.topic", &format!("queue {n}"), &pattern);
    }
    table
}

fn topic(c: &mut Criterion) {
    let none = FieldTable::new();
    for bindings in [10, 10_000, 100_000] {
        let table = topic_table(bindings);
        for key in [
            "room0.device1.temperature",
            "room0.device5.x",
            "cellar.device0.pressure",
        ] {
            route(
                c,
                &format!("topic {bindings}, {key}"),
                &table,
                "amq.topic",
                key,
                &none,
            );
        }
    }
    let mut table = RoutingTable::new();
    bind(
        &mut table,
        "amq.topic",
        "q",
        &format!("{}.end", ["#.a"; 8].join(".")),
    );
    let key = ["a"; 32].join(".");
    route(
        c,
        "topic 8 # against 32 words",
        &table,
        "amq.topic",
        &key,
        &none,
    );
    bind(&mut table, "amq.topic", "q", &["#"; 8].join("."));
    route(
        c,
        "topic 8 # and 8 bare # against 32 words",
        &table,
        "amq.topic",
        &key,
        &none,
    );
}

fn headers(c: &mut Criterion) {
    let mut table = RoutingTable::new();
    let sent = |n: i64| -> FieldTable {
        let text = FieldValue::from;
        [
            ("format", text("pdf")),
            ("type", text("report")),
            ("customer", FieldValue::I64(n)),
        ]
        .into_iter()
        .collect()
    };
    for n in 0..1_000 {
        let mut arguments = sent(n);
        arguments.insert("x-match", "all");
        bind_with(
            &mut table,
            "amq.headers",
            &format!("queue {n}"),
            "",
            arguments,
        );
    }
    route(
        c,
        "headers all 1,000",
        &table,
        "amq.headers",
        "",
        &sent(500),
    );
    for n in 0..1_000 {
        let mut arguments = FieldTable::new();
        arguments.insert("x-match", "any");
        arguments.insert("customer", n);
        arguments.insert("vendor", n);
        bind_with(
            &mut table,
            "amq.headers",
            &format!("queue {n}"),
            "",
            arguments,
        );
    }
    route(
        c,
        "headers all 1,000 and any 1,000",
        &table,
        "amq.headers",
        "",
        &sent(500),
    );
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("changes");
    group.sample_size(10);
    group.bench_function("10,000 topic binds, a snapshot after each", |bencher| {
        bencher.iter(|| {
            let mut table = RoutingTable::new();
            let mut snapshot = table.clone();
            for n in 0..10_000 {
                bind(
                    &mut table,
                    "amq.topic",
                    &format!("queue {n}"),
                    &format!("a.b{n}.c"),
                );
                snapshot = table.clone();
            }
            snapshot
        });
    });
    group.bench_function(
        "10,000 topic binds of one queue, a snapshot after each",
        |bencher| {
            bencher.iter(|| {
                let mut table = RoutingTable::new();
                let mut snapshot = table.clone();
                for n in 0..10_000 {
                    bind(&mut table, "amq.topic", "queue", &format!("a.b{n}.c"));
                    snapshot = table.clone();
                }
                snapshot
            });
        },
    );
    let full = topic_table(100_000);
    group.bench_function(
        "a bind and an unbind among 100,000, a snapshot after each",
        |bencher| {
            let binding = Binding {
                source: "amq.topic".into(),
                destination: Destination::Queue("one more".into()),
                routing_key: "room7.device100.#".into(),
                arguments: Arc::default(),
            };
            let mut table = full.clone();
            bencher.iter(|| {
                table
                    .bind(binding.clone())
                    .expect("a binding that is in order");
                let bound = table.clone();
                table.unbind(&binding);
                (bound, table.clone())
            });
        },
    );
    group.bench_function("deleting a queue with 10,000 bindings", |bencher| {
        let mut table = RoutingTable::new();
        for n in 0..10_000 {
            bind(&mut table, "amq.topic", "queue", &format!("a.b{n}.c"));
        }
        let delete = |mut table: RoutingTable| {
            table.delete_queue("queue");
            table
        };
        bencher.iter_batched(|| table.clone(), delete, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, by_key, topic, headers, picking, changes);
criterion_main!(benches);
