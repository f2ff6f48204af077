//! Bindings and what the four exchange types make of them (WIRE.md sections 4 and 5).

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Properties};

use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::leveret_only;

/// Publishes with headers and tells whether the bound queue got the message.
fn matches(client: &mut Client, exchange: &str, queue: &str, headers: FieldTable) -> bool {
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    client.publish_properties(1, exchange, "", &properties, "x");
    client.expect_ack(1);
    client.get(1, queue, true).is_some()
}

fn table(entries: &[(&str, FieldValue)]) -> FieldTable {
    entries.iter().cloned().collect()
}

#[test]
fn a_direct_exchange_matches_equal_keys() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    let red = client.bound_queue(1, exchange, "red");
    let both = client.bound_queue(1, exchange, "red");
    client.bind(1, both, exchange, "blue");
    client.publish_confirmed(&[
        (exchange, "red", "r"),
        (exchange, "blue", "b"),
        (exchange, "Red", "-"),
        (exchange, "", "-"),
    ]);
    assert_eq!(client.drain(1, red), ["r"]);
    assert_eq!(client.drain(1, both), ["r", "b"]);
}

#[test]
fn a_fanout_exchange_ignores_keys() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    let queues = ["", "key", "other"].map(|key| client.bound_queue(1, exchange, key));
    client.publish_confirmed(&[(exchange, "", "1"), (exchange, "any", "2")]);
    for queue in queues {
        assert_eq!(client.drain(1, queue), ["1", "2"]);
    }
}

#[test]
fn a_topic_exchange_matches_words() {
    let mut client = Client::with_channel();
    for (shows, pattern, key, expected) in [
        ("a key without wildcards", "stock.nyse", "stock.nyse", true),
        (
            "* stands for exactly one word",
            "stock.*",
            "stock.nyse",
            true,
        ),
        ("* does not stand for none", "stock.*", "stock", false),
        (
            "* does not stand for two",
            "stock.*",
            "stock.nyse.ibm",
            false,
        ),
        ("* stands for an empty word", "stock.*", "stock.", true),
        ("# stands for none", "stock.#", "stock", true),
        ("# stands for many", "stock.#", "stock.nyse.ibm.now", true),
        ("# alone matches all", "#", "a.b.c", true),
        ("# alone matches the empty key", "#", "", true),
        ("* alone does not match two", "*", "a.b", false),
        ("# in the middle", "a.#.z", "a.z", true),
        ("# in the middle, many", "a.#.z", "a.b.c.z", true),
        ("# in the middle, the end differs", "a.#.z", "a.b.c", false),
        ("several #", "#.b.#.d.#", "a.b.c.d.e", true),
        ("several #, wrong order", "#.d.#.b.#", "a.b.c.d.e", false),
        ("# and *", "#.*", "a.b", true),
        ("*.# needs one", "*.#", "a", true),
        ("case matters", "stock.*", "Stock.nyse", false),
        ("a wildcard is a whole word", "st*ck", "stock", false),
        ("a wildcard in the key is a word", "a.b", "a.*", false),
    ] {
        let exchange = client.temp_exchange(1, "topic");
        let queue = client.bound_queue(1, exchange, pattern);
        client.publish_confirmed(&[(exchange, key, "x")]);
        assert_eq!(
            client.get(1, queue, true).is_some(),
            expected,
            "{shows}: {pattern} {key}"
        );
        client.delete_queue(1, queue);
    }
}

#[test]
fn many_hashes_against_a_long_key_stay_fast() {
    leveret_only!("RabbitMQ tries every combination of words");
    // RELIABILITY.md, bug museum 37.
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "topic");
    let pattern = format!("{}.z", ["#"; 8].join(".a."));
    let queue = client.bound_queue(1, exchange, &pattern);
    let key = ["a"; 120].join(".");
    let began = std::time::Instant::now();
    let messages = [(exchange, key.as_str(), "no"); 100];
    client.publish_confirmed(&messages);
    assert!(client.get(1, queue, true).is_none());
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}

#[test]
fn headers_match_all_by_default() {
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "headers");
    let queue = client.temp_queue(1);
    client.bind_with(
        1,
        queue,
        exchange,
        "",
        table(&[("colour", "red".into()), ("size", FieldValue::I32(5))]),
    );
    for (shows, headers, expected) in [
        (
            "all present",
            table(&[("colour", "red".into()), ("size", FieldValue::I32(5))]),
            true,
        ),
        (
            "more present",
            table(&[
                ("colour", "red".into()),
                ("size", FieldValue::I32(5)),
                ("x", true.into()),
            ]),
            true,
        ),
        ("one missing", table(&[("colour", "red".into())]), false),
        (
            "one differs",
            table(&[("colour", "blue".into()), ("size", FieldValue::I32(5))]),
            false,
        ),
        (
            "another width",
            table(&[("colour", "red".into()), ("size", FieldValue::I64(5))]),
            true,
        ),
        ("none", FieldTable::new(), false),
    ] {
        assert_eq!(
            matches(&mut client, exchange, queue, headers),
            expected,
            "{shows}"
        );
    }
}

#[test]
fn headers_match_any_if_asked_to() {
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "headers");
    let queue = client.temp_queue(1);
    let arguments = table(&[
        ("x-match", "any".into()),
        ("colour", "red".into()),
        ("size", FieldValue::I32(5)),
    ]);
    client.bind_with(1, queue, exchange, "", arguments);
    for (shows, headers, expected) in [
        ("one", table(&[("colour", "red".into())]), true),
        (
            "the other",
            table(&[("size", FieldValue::I32(5)), ("colour", "blue".into())]),
            true,
        ),
        ("none", table(&[("colour", "blue".into())]), false),
        ("no headers", FieldTable::new(), false),
    ] {
        assert_eq!(
            matches(&mut client, exchange, queue, headers),
            expected,
            "{shows}"
        );
    }
}

#[test]
fn a_void_value_means_that_the_header_must_exist() {
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "headers");
    let queue = client.temp_queue(1);
    client.bind_with(
        1,
        queue,
        exchange,
        "",
        table(&[("colour", FieldValue::Void)]),
    );
    assert!(matches(
        &mut client,
        exchange,
        queue,
        table(&[("colour", "any".into())])
    ));
    assert!(!matches(
        &mut client,
        exchange,
        queue,
        table(&[("size", FieldValue::I32(1))])
    ));
}

#[test]
fn headers_that_begin_with_x_count_only_in_the_with_x_forms() {
    let mut client = Client::confirming();
    for (form, without_x, with_x) in [
        ("all", true, true),
        ("all-with-x", false, true),
        ("any", true, true),
        ("any-with-x", true, true),
    ] {
        let exchange = client.temp_exchange(1, "headers");
        let queue = client.temp_queue(1);
        let arguments = table(&[
            ("x-match", form.into()),
            ("colour", "red".into()),
            ("x-trace", "on".into()),
        ]);
        client.bind_with(1, queue, exchange, "", arguments);
        let red = table(&[("colour", "red".into())]);
        assert_eq!(
            matches(&mut client, exchange, queue, red),
            without_x,
            "{form}"
        );
        let both = table(&[("colour", "red".into()), ("x-trace", "on".into())]);
        assert_eq!(
            matches(&mut client, exchange, queue, both),
            with_x,
            "{form}"
        );
        let traced = table(&[("x-trace", "on".into())]);
        assert_eq!(
            matches(&mut client, exchange, queue, traced),
            form == "any-with-x",
            "{form}"
        );
        client.delete_queue(1, queue);
    }
}

#[test]
fn a_binding_without_arguments_matches_every_message() {
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "headers");
    let queue = client.bound_queue(1, exchange, "ignored");
    assert!(matches(&mut client, exchange, queue, FieldTable::new()));
    assert!(matches(
        &mut client,
        exchange,
        queue,
        table(&[("any", "thing".into())])
    ));
}

#[test]
fn an_unknown_x_match_is_406() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let arguments = table(&[("x-match", "some".into())]);
    client.send(
        1,
        &QueueBind {
            queue,
            exchange: "amq.headers",
            arguments,
            ..QueueBind::default()
        },
    );
    client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - Invalid x-match field value *",
    );
}

#[test]
fn a_queue_bound_twice_gets_a_message_once() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "topic");
    let queue = client.bound_queue(1, exchange, "a.*");
    client.bind(1, queue, exchange, "a.*");
    client.bind(1, queue, exchange, "#");
    client.publish_confirmed(&[(exchange, "a.b", "once")]);
    assert_eq!(client.drain(1, queue), ["once"]);
    // The same binding made twice is one binding.
    client.ok(
        1,
        &QueueUnbind {
            queue,
            exchange,
            routing_key: "a.*",
            ..QueueUnbind::default()
        },
    );
    client.ok(
        1,
        &QueueUnbind {
            queue,
            exchange,
            routing_key: "#",
            ..QueueUnbind::default()
        },
    );
    let text =
        crate::support::broker::leak(format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'"));
    client.publish(1, exchange, "a.b", "gone with its last binding");
    client.expect_channel_close(1, 404, text);
}

#[test]
fn bindings_differ_by_their_arguments() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    let queue = client.bound_queue(1, exchange, "k");
    let arguments = table(&[("note", "second".into())]);
    client.bind_with(1, queue, exchange, "k", arguments.clone());
    client.ok(
        1,
        &QueueUnbind {
            queue,
            exchange,
            routing_key: "k",
            ..QueueUnbind::default()
        },
    );
    client.publish_confirmed(&[(exchange, "k", "still bound")]);
    assert_eq!(client.drain(1, queue), ["still bound"]);
    client.ok(
        1,
        &QueueUnbind {
            queue,
            exchange,
            routing_key: "k",
            arguments,
            ..QueueUnbind::default()
        },
    );
}

#[test]
fn removing_a_binding_that_is_not_there_is_fine() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let exchange = "amq.direct";
    client.ok(
        1,
        &QueueUnbind {
            queue,
            exchange,
            routing_key: "none",
            ..QueueUnbind::default()
        },
    );
    let unbind = ExchangeUnbind {
        destination: "amq.fanout",
        source: exchange,
        routing_key: "none",
        ..ExchangeUnbind::default()
    };
    client.ok(1, &unbind);
}

#[test]
fn binding_to_what_is_not_there_is_404() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let no_exchange = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.refused(
        1,
        &QueueBind {
            queue,
            exchange: "nowhere",
            ..QueueBind::default()
        },
        404,
        no_exchange,
    );
    let bind = ExchangeBind {
        destination: "nowhere",
        source: "amq.direct",
        ..ExchangeBind::default()
    };
    client.refused(1, &bind, 404, no_exchange);
    let bind = ExchangeBind {
        destination: "amq.direct",
        source: "nowhere",
        ..ExchangeBind::default()
    };
    client.refused(1, &bind, 404, no_exchange);
}

#[test]
fn exchanges_may_feed_exchanges() {
    let mut client = Client::with_channel();
    let logs = client.temp_exchange(1, "topic");
    let errors = client.temp_exchange(1, "fanout");
    client.bind_exchange(1, errors, logs, "*.error");
    let queue = client.bound_queue(1, errors, "");
    client.publish_confirmed(&[(logs, "disk.error", "full"), (logs, "disk.info", "fine")]);
    let delivery = client.get(1, queue, true).expect("a message");
    assert_eq!(
        (delivery.exchange, delivery.routing_key),
        (logs, "disk.error"),
        "as first published"
    );
    assert_eq!(client.drain(1, queue), [""; 0]);
    client.ok(
        1,
        &ExchangeUnbind {
            destination: errors,
            source: logs,
            routing_key: "*.error",
            ..ExchangeUnbind::default()
        },
    );
    client.delete_exchange(1, errors);
}

#[test]
fn a_circle_of_exchanges_delivers_once() {
    let mut client = Client::with_channel();
    let names = [
        client.temp_exchange(1, "fanout"),
        client.temp_exchange(1, "fanout"),
        client.temp_exchange(1, "fanout"),
    ];
    for at in 0..3 {
        client.bind_exchange(1, names[at], names[(at + 1) % 3], "");
    }
    client.bind_exchange(1, names[0], names[0], "itself");
    let queue = client.temp_queue(1);
    for name in names {
        client.bind(1, queue, name, "");
    }
    client.publish_confirmed(&[(names[1], "", "round")]);
    assert_eq!(client.drain(1, queue), ["round"]);
    for name in names {
        client.delete_exchange(1, name);
    }
}

#[test]
fn bindings_go_with_their_queue_and_their_exchange() {
    let mut client = Client::with_channel();
    let exchange = unique("stays");
    client.ok(
        1,
        &ExchangeDeclare {
            exchange,
            kind: "fanout",
            ..ExchangeDeclare::default()
        },
    );
    let queue = client.bound_queue(1, exchange, "");
    client.delete_queue(1, queue);
    client.declare(
        1,
        &QueueDeclare {
            queue,
            exclusive: true,
            ..QueueDeclare::default()
        },
    );
    client.publish_confirmed(&[(exchange, "", "nobody")]);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    client.bind(1, queue, exchange, "");
    client.delete_exchange(1, exchange);
    client.ok(
        1,
        &ExchangeDeclare {
            exchange,
            kind: "fanout",
            ..ExchangeDeclare::default()
        },
    );
    client.publish_confirmed(&[(exchange, "", "nobody")]);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    client.delete_exchange(1, exchange);
}
