//! Exchanges, bindings and alternates as a whole.

use super::*;
use crate::routing::{BindRefused, Needs, Removed};

use ExchangeKind::{Direct, Fanout, Headers, Topic};

#[test]
fn every_vhost_has_the_exchanges_of_rabbitmq() {
    let table = RoutingTable::new();
    let exchanges: Vec<_> = table
        .exchanges()
        .map(|(name, settings)| (name.as_str(), settings.kind, settings.internal))
        .collect();
    assert_eq!(
        exchanges,
        [
            ("", Direct, false),
            ("amq.direct", Direct, false),
            ("amq.fanout", Fanout, false),
            ("amq.headers", Headers, false),
            ("amq.match", Headers, false),
            ("amq.rabbitmq.trace", Topic, true),
            ("amq.topic", Topic, false),
        ]
    );
}

#[test]
fn binding_needs_its_ends() {
    let mut table = RoutingTable::new();
    for (shows, source, destination, refused) in [
        ("no source", "none", queue("q"), BindRefused::SourceMissing),
        (
            "no destination",
            "amq.direct",
            exchange("none"),
            BindRefused::DestinationMissing,
        ),
        (
            "neither",
            "none",
            exchange("none"),
            BindRefused::SourceMissing,
        ),
        (
            "from the default exchange",
            "",
            queue("q"),
            BindRefused::DefaultExchange,
        ),
        (
            "to the default exchange",
            "amq.direct",
            exchange(""),
            BindRefused::DefaultExchange,
        ),
    ] {
        assert_eq!(
            table.bind(binding(source, destination, "k")),
            Err(refused),
            "{shows}"
        );
    }
}

#[test]
fn a_binding_is_all_of_source_destination_key_and_arguments() {
    let mut table = RoutingTable::new();
    let (a, b) = (("a", FieldValue::I32(1)), ("b", FieldValue::F64(f64::NAN)));
    let with = |arguments: &[_]| binding_with("amq.direct", queue("q"), "k", headers(arguments));
    assert_eq!(table.bind(with(&[a.clone(), b.clone()])), Ok(true));
    assert_eq!(
        table.bind(with(&[b.clone(), a.clone()])),
        Ok(false),
        "in another order"
    );
    assert_eq!(
        table.bind(with(std::slice::from_ref(&a))),
        Ok(true),
        "with other arguments"
    );
    let wider = ("a", FieldValue::I64(1));
    assert_eq!(table.bind(with(&[wider])), Ok(true), "of another width");
    assert_eq!(table.bindings().count(), 3);
    assert_eq!(queues(&table, "amq.direct", "k"), ["q"]);

    assert!(table.unbind(&with(&[b, a])).existed);
    assert!(
        !table.unbind(&with(&[])).existed,
        "there is none without arguments"
    );
    assert_eq!(table.bindings_to(&queue("q")).count(), 2);
}

#[test]
fn a_clone_stays_what_it_was() {
    let mut table = RoutingTable::new();
    bind(&mut table, "amq.topic", queue("q1"), "a.#");
    let before = table.clone();
    bind(&mut table, "amq.topic", queue("q2"), "a.*");
    table.unbind(&binding("amq.topic", queue("q1"), "a.#"));
    assert_eq!(queues(&before, "amq.topic", "a.b"), ["q1"]);
    assert_eq!(queues(&table, "amq.topic", "a.b"), ["q2"]);
}

#[test]
fn exchanges_lead_to_exchanges_and_cycles_end() {
    let mut table = table_of(&[("a", Fanout), ("b", Direct), ("c", Topic)]);
    bind(&mut table, "a", exchange("b"), "");
    bind(&mut table, "b", exchange("c"), "k");
    bind(&mut table, "c", exchange("a"), "#");
    bind(&mut table, "c", exchange("c"), "#");
    for (source, name) in [("a", "qa"), ("b", "qb"), ("c", "qc")] {
        bind(&mut table, source, queue(name), "k");
    }
    assert_eq!(queues(&table, "a", "k"), ["qa", "qb", "qc"]);
    assert_eq!(queues(&table, "c", "k"), ["qc", "qa", "qb"]);
    assert_eq!(queues(&table, "a", "other"), ["qa"]);
    assert_eq!(queues(&table, "c", "other"), ["qa"]);
}

#[test]
fn the_alternate_is_for_what_no_binding_takes() {
    let mut table = table_of(&[("lost", Fanout), ("dead end", Direct)]);
    table.declare_exchange("main".into(), with_alternate(Direct, "lost"));
    bind(&mut table, "lost", queue("unrouted"), "");
    bind(&mut table, "main", queue("q"), "k");
    bind(&mut table, "main", exchange("dead end"), "gone");
    bind(&mut table, "main", exchange("main"), "self");
    bind(&mut table, "amq.fanout", exchange("main"), "");
    for (shows, source, key, reached) in [
        ("a binding matched", "main", "k", &["q"][..]),
        ("none did", "main", "x", &["unrouted"]),
        ("one did, though no queue is behind it", "main", "gone", &[]),
        ("one did, though only back to itself", "main", "self", &[]),
        (
            "also where another exchange leads to it",
            "amq.fanout",
            "x",
            &["unrouted"],
        ),
    ] {
        assert_eq!(queues(&table, source, key), reached, "{shows}");
    }
}

#[test]
fn alternates_may_be_missing_in_a_circle_or_the_default() {
    let mut table = RoutingTable::new();
    table.declare_exchange("to nothing".into(), with_alternate(Direct, "missing"));
    table.declare_exchange("round".into(), with_alternate(Direct, "and round"));
    table.declare_exchange("and round".into(), with_alternate(Direct, "round"));
    table.declare_exchange("to default".into(), with_alternate(Direct, ""));
    for source in ["to nothing", "round", "to default", "no such exchange"] {
        assert!(queues(&table, source, "q").is_empty(), "{source}");
    }
}

#[test]
fn auto_delete_goes_with_the_last_binding() {
    let mut table = RoutingTable::new();
    table.declare_exchange("x".into(), auto_delete(Direct));
    bind(&mut table, "amq.fanout", exchange("x"), "");
    assert!(
        table
            .unbind(&binding("amq.fanout", exchange("x"), ""))
            .existed
    );
    assert!(
        table.exchange("x").is_some(),
        "never had a binding as a source"
    );

    bind(&mut table, "x", queue("q"), "1");
    bind(&mut table, "x", queue("q"), "2");
    let kept = Removed {
        existed: true,
        auto_deleted: vec![],
    };
    assert_eq!(table.unbind(&binding("x", queue("q"), "1")), kept);
    let gone = Removed {
        existed: true,
        auto_deleted: vec!["x".into()],
    };
    assert_eq!(table.unbind(&binding("x", queue("q"), "2")), gone);
    assert!(table.exchange("x").is_none());
    assert_eq!(
        table.unbind(&binding("x", queue("q"), "2")),
        Removed::default()
    );
}

#[test]
fn auto_delete_goes_on_through_what_led_to_it() {
    let mut table = table_of(&[("stays", Direct)]);
    for name in ["a", "b", "c"] {
        table.declare_exchange(name.into(), auto_delete(Direct));
    }
    bind(&mut table, "stays", exchange("a"), "");
    bind(&mut table, "a", exchange("b"), "");
    bind(&mut table, "b", exchange("c"), "");
    bind(&mut table, "c", queue("q"), "");
    bind(&mut table, "a", exchange("a"), "self");

    let mut by_queue = table.clone();
    assert_eq!(by_queue.delete_queue("q"), ["c".into(), "b".into()]);
    assert!(by_queue.exchange_in_use("a"), "it is still bound to itself");

    let removed = table.delete_exchange("b");
    assert_eq!(
        removed,
        Removed {
            existed: true,
            auto_deleted: vec![]
        }
    );
    assert_eq!(table.bindings_of_source("a").count(), 1);
    assert_eq!(table.bindings_of_source("c").count(), 1);
    let removed = table.unbind(&binding("a", exchange("a"), "self"));
    assert_eq!(removed.auto_deleted, ["a".into()]);
    assert!(!table.exchange_in_use("stays"));
    assert_eq!(table.delete_exchange("b"), Removed::default());
}

#[test]
fn a_redeclared_exchange_keeps_its_bindings() {
    let mut table = table_of(&[("x", Direct)]);
    bind(&mut table, "x", queue("q"), "a.*");
    table.declare_exchange("x".into(), with_alternate(Direct, "amq.fanout"));
    assert_eq!(queues(&table, "x", "a.*"), ["q"]);
    table.declare_exchange("x".into(), ExchangeSettings::new(Topic));
    assert_eq!(queues(&table, "x", "a.b"), ["q"]);
}

#[test]
fn headers_matter_where_a_headers_exchange_may_be_reached() {
    let mut table = table_of(&[("by binding", Direct), ("before", Fanout), ("h", Headers)]);
    table.declare_exchange("by alternate".into(), with_alternate(Direct, "h"));
    bind(&mut table, "by binding", exchange("h"), "k");
    bind(&mut table, "before", exchange("by binding"), "");
    for (name, reads) in [
        ("h", true),
        ("by binding", true),
        ("before", true),
        ("by alternate", true),
        ("amq.direct", false),
        ("", false),
        ("missing", false),
    ] {
        assert_eq!(table.needs(name).any(Needs::HEADERS), reads, "{name}");
    }
    let mut routed = Routed::default();
    let none = FieldTable::new();
    table.route("by binding", &Publish::new(&["k"], &none), &mut routed);
    assert_eq!(routed.needs, Needs::HEADERS);
    table.route("by binding", &Publish::new(&["other"], &none), &mut routed);
    assert_eq!(routed.needs, Needs::NOTHING, "this key does not lead there");
}

#[test]
fn an_explanation_reads_well() {
    let mut table = table_of(&[("lost", Fanout), ("sorted", Headers)]);
    table.declare_exchange("logs".into(), with_alternate(Topic, "lost"));
    bind(&mut table, "logs", queue("errors"), "logs.*.error");
    bind(&mut table, "logs", queue("db"), "#.db.#");
    bind(&mut table, "logs", queue("audit"), "audit.#");
    bind(&mut table, "logs", exchange("sorted"), "logs.#");
    bind(&mut table, "lost", queue("unrouted"), "");
    let pdf = headers(&[
        ("x-match", "any".into()),
        ("format", "pdf".into()),
        ("size", FieldValue::Void),
    ]);
    table
        .bind(binding_with("sorted", queue("documents"), "", pdf))
        .expect("a good x-match");

    let sent = headers(&[("format", "pdf".into())]);
    let explained = |exchange: &str, key: &str| {
        let explanation = table.explain(exchange, &Publish::new(&[key], &sent));
        explanation.to_string()
    };
    assert_eq!(
        explained("logs", "logs.db.error"),
        "exchange 'logs' (topic), published to:\n  \
           to queue 'db': pattern `#.db.#` matches `logs.db.error`: # = logs, # = error\n  \
           to exchange 'sorted': pattern `logs.#` matches `logs.db.error`: # = db.error\n  \
           to queue 'errors': pattern `logs.*.error` matches `logs.db.error`: * = db\n  \
           1 other binding does not match\n\
         exchange 'sorted' (headers), bound to 'logs':\n  \
           to queue 'documents': x-match any, 1 of 2 met: `format` is 'pdf'\n\
         reaches 'db', 'errors', 'documents'\n"
    );
    assert_eq!(
        explained("logs", "x"),
        "exchange 'logs' (topic), published to:\n  \
           none of its 4 bindings matches\n  \
           so its alternate 'lost' is taken\n\
         exchange 'lost' (fanout), the alternate of 'logs':\n  \
           to queue 'unrouted': a fanout exchange takes every message\n\
         reaches 'unrouted'\n"
    );
    assert_eq!(
        explained("amq.direct", "x"),
        "exchange 'amq.direct' (direct), published to:\n  \
           it has no bindings\n  \
           and it has no alternate exchange\n\
         reaches no queue\n"
    );
    assert_eq!(
        explained("", "tasks"),
        "the default exchange takes each key as the name of a queue\n\
         reaches 'tasks'\n"
    );
    assert_eq!(
        explained("nowhere", "x"),
        "there is no exchange 'nowhere'\n"
    );
}
