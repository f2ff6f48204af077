//! The exchange types of RabbitMQ's plugins: consistent hash, random, modulus
//! hash, recent history, delayed.

use std::collections::BTreeMap;
use std::time::Instant;

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method, Properties};

use crate::support::actions::Delivery;
use crate::support::broker::{leak, unique};
use crate::support::client::{Client, PATIENCE};
use crate::support::{leveret_only, matched};

fn declare<'a>(
    exchange: &'a str,
    kind: &'a str,
    arguments: &[(&str, FieldValue)],
) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        exchange,
        kind,
        auto_delete: true,
        arguments: arguments.iter().cloned().collect(),
        ..ExchangeDeclare::default()
    }
}

/// A fresh exchange, gone with its last binding.
#[track_caller]
fn exchange(client: &mut Client, kind: &str, arguments: &[(&str, FieldValue)]) -> &'static str {
    let exchange = unique(kind);
    client.ok(1, &declare(exchange, kind, arguments));
    exchange
}

/// Publishes so many messages, made from their numbers, and waits for them.
#[track_caller]
fn publish_all(
    client: &mut Client,
    exchange: &str,
    count: u64,
    message: impl Fn(u64) -> (String, Properties),
) {
    client.open_channel(2);
    client.ok(2, &ConfirmSelect::default());
    for number in 0..count {
        let (key, properties) = message(number);
        client.publish_properties(2, exchange, &key, &properties, &number.to_string());
    }
    client.expect_acks(2, count);
    client.close_channel(2);
}

fn with_key(number: u64) -> (String, Properties) {
    (format!("key-{number}"), Properties::default())
}

fn with_headers(entries: &[(&str, FieldValue)]) -> Properties {
    Properties {
        headers: Some(entries.iter().cloned().collect()),
        ..Properties::default()
    }
}

/// Which message is in which queue; each must be in exactly one.
#[track_caller]
fn places(client: &mut Client, queues: &[&'static str], count: u64) -> BTreeMap<u64, &'static str> {
    let mut places = BTreeMap::new();
    for queue in queues {
        for body in client.drain(1, queue) {
            let number = body.parse().expect("a number");
            assert_eq!(places.insert(number, *queue), None, "{number} came twice");
        }
    }
    assert!(places.keys().copied().eq(0..count), "each came once");
    places
}

fn count(places: &BTreeMap<u64, &'static str>, queue: &str) -> usize {
    places.values().filter(|place| **place == queue).count()
}

#[test]
fn a_consistent_hash_spreads_keys_by_weight_and_keeps_them() {
    let mut client = Client::with_channel();
    let exchange = exchange(&mut client, "x-consistent-hash", &[]);
    let queues = ["1", "1", "2"].map(|weight| client.bound_queue(1, exchange, weight));
    publish_all(&mut client, exchange, 1_000, with_key);
    let before = places(&mut client, &queues, 1_000);
    for (queue, due) in queues.into_iter().zip([250, 250, 500]) {
        let found = count(&before, queue);
        assert!(found.abs_diff(due) < 100, "{found} where {due} are due");
    }
    publish_all(&mut client, exchange, 1_000, with_key);
    assert_eq!(places(&mut client, &queues, 1_000), before);

    let new = client.bound_queue(1, exchange, "1");
    publish_all(&mut client, exchange, 1_000, with_key);
    let all = [queues[0], queues[1], queues[2], new];
    let after = places(&mut client, &all, 1_000);
    for (number, place) in &after {
        assert!(*place == new || before[number] == *place, "{number} moved");
    }
    assert!(count(&after, new).abs_diff(200) < 100);
}

#[test]
fn keys_of_a_queue_that_leaves_a_consistent_hash_are_spread_and_the_others_stay() {
    leveret_only!("RabbitMQ numbers the buckets again, which moves most keys");
    let mut client = Client::with_channel();
    let exchange = exchange(&mut client, "x-consistent-hash", &[]);
    let queues = ["1"; 4].map(|weight| client.bound_queue(1, exchange, weight));
    publish_all(&mut client, exchange, 500, with_key);
    let before = places(&mut client, &queues, 500);
    client.delete_queue(1, queues[0]);
    publish_all(&mut client, exchange, 500, with_key);
    let after = places(&mut client, &queues[1..], 500);
    for (number, place) in before.iter().filter(|(_, place)| **place != queues[0]) {
        assert_eq!(after[number], *place, "{number} moved");
    }
}

#[test]
fn a_consistent_hash_looks_at_a_header_if_told_so() {
    let mut client = Client::with_channel();
    let arguments = [("hash-header", "customer".into())];
    let exchange = exchange(&mut client, "x-consistent-hash", &arguments);
    let queues = ["1"; 4].map(|weight| client.bound_queue(1, exchange, weight));
    let customer =
        |number: u64| with_headers(&[("customer", format!("c{number}").as_str().into())]);
    publish_all(&mut client, exchange, 400, |number| {
        (format!("key-{number}"), customer(number % 100))
    });
    let found = places(&mut client, &queues, 400);
    for (number, place) in &found {
        assert_eq!(found[&(number % 100)], *place, "one customer, one queue");
    }
    for queue in queues {
        assert!(count(&found, queue) > 0, "100 customers go everywhere");
    }
    // Without it all are alike.
    publish_all(&mut client, exchange, 20, with_key);
    let found = places(&mut client, &queues, 20);
    assert!(found.values().all(|place| *place == found[&0]));
}

#[test]
fn a_consistent_hash_looks_at_a_property_if_told_so() {
    let with_message_id = |text: &str| Properties {
        message_id: Some(text.to_owned()),
        ..Properties::default()
    };
    let with_correlation_id = |text: &str| Properties {
        correlation_id: Some(text.to_owned()),
        ..Properties::default()
    };
    let with_timestamp = |text: &str| Properties {
        timestamp: Some(1_000_000 + text.len() as u64 * 7_919),
        ..Properties::default()
    };
    let mut client = Client::with_channel();
    for (property, properties) in [
        (
            "message_id",
            &with_message_id as &dyn Fn(&str) -> Properties,
        ),
        ("correlation_id", &with_correlation_id),
        ("timestamp", &with_timestamp),
    ] {
        let arguments = [("hash-property", property.into())];
        let exchange = exchange(&mut client, "x-consistent-hash", &arguments);
        let queues = ["1"; 4].map(|weight| client.bound_queue(1, exchange, weight));
        publish_all(&mut client, exchange, 400, |number| {
            let text = "x".repeat(1 + number as usize % 100);
            (format!("key-{number}"), properties(&text))
        });
        let found = places(&mut client, &queues, 400);
        for (number, place) in &found {
            assert_eq!(found[&(number % 100)], *place, "{property}");
        }
        for queue in queues {
            assert!(count(&found, queue) > 0, "{property} goes everywhere");
        }
    }
}

#[test]
fn cc_does_not_count_for_a_consistent_hash() {
    let mut client = Client::with_channel();
    let exchange = exchange(&mut client, "x-consistent-hash", &[]);
    let queues = ["1"; 4].map(|weight| client.bound_queue(1, exchange, weight));
    publish_all(&mut client, exchange, 40, |number| {
        let cc = FieldValue::Array(vec![format!("cc-{number}").as_str().into()]);
        ("same".to_owned(), with_headers(&[("CC", cc)]))
    });
    let found = places(&mut client, &queues, 40);
    assert!(found.values().all(|place| *place == found[&0]));
}

#[test]
fn weights_that_are_none_are_406() {
    let mut client = Client::with_channel();
    let exchange = unique("weighed");
    let plain = ExchangeDeclare {
        auto_delete: false,
        ..declare(exchange, "x-consistent-hash", &[])
    };
    client.ok(1, &plain);
    let queue = client.temp_queue(1);
    for (routing_key, text) in [
        ("0", "The binding key must be greater than 0"),
        ("-1", "The binding key must be greater than 0"),
        ("a", "The binding key must be an integer: <<\"a\">>"),
        ("", "The binding key must be an integer: <<>>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
    ] {
        let bind = QueueBind {
            queue,
            exchange,
            routing_key,
            ..QueueBind::default()
        };
        client.refused(1, &bind, 406, &format!("PRECONDITION_FAILED - {text}"));
    }
    client.bind(1, queue, exchange, "+3");
    client.publish_confirmed(&[(exchange, "any", "it has one binding")]);
    assert_eq!(client.drain(1, queue), ["it has one binding"]);
    client.delete_exchange(1, exchange);
}

#[test]
fn arguments_that_a_plugin_does_not_take_are_406() {
    let mut client = Client::with_channel();
    let length = "x-recent-history-length";
    let (hash, history) = ("x-consistent-hash", "x-recent-history");
    let not_positive = |shown: &str| {
        leak(format!(
            "Invalid argument {shown}, '{length}' must be a positive integer"
        ))
    };
    for (kind, arguments, text) in [
        (
            hash,
            &[("hash-property", "app_id".into())][..],
            "Unsupported property: app_id",
        ),
        (
            hash,
            &[
                ("hash-header", "h".into()),
                ("hash-property", "message_id".into()),
            ],
            "hash-header and hash-property are mutually exclusive",
        ),
        (history, &[(length, FieldValue::I32(0))], not_positive("0")),
        (
            history,
            &[(length, FieldValue::I32(-1))],
            not_positive("-1"),
        ),
        (history, &[(length, "5".into())], not_positive("<<\"5\">>")),
        (history, &[(length, true.into())], not_positive("true")),
    ] {
        let bad = declare(unique("bad"), kind, arguments);
        client.refused(1, &bad, 406, &format!("PRECONDITION_FAILED - {text}"));
    }
}

#[test]
fn arguments_of_plugins_are_not_compared() {
    let mut client = Client::with_channel();
    let arguments = [("hash-header", "one".into())];
    let exchange = exchange(&mut client, "x-consistent-hash", &arguments);
    let other = declare(
        exchange,
        "x-consistent-hash",
        &[("hash-header", "other".into())],
    );
    client.ok(1, &other);
    client.delete_exchange(1, exchange);
}

#[test]
fn random_gives_each_message_to_one_queue() {
    let mut client = Client::with_channel();
    let exchange = exchange(&mut client, "x-random", &[]);
    let queues = ["", "", "", ""].map(|key| client.bound_queue(1, exchange, key));
    let same = |_| ("same".to_owned(), Properties::default());
    publish_all(&mut client, exchange, 1_000, same);
    let found = places(&mut client, &queues, 1_000);
    for queue in queues {
        let found = count(&found, queue);
        assert!(found.abs_diff(250) < 100, "{found} where 250 are due");
    }
    // So are messages with headers and keys in CC.
    let headers = with_headers(&[("CC", FieldValue::Array(vec!["other".into()]))]);
    publish_all(&mut client, exchange, 100, |_| {
        ("same".to_owned(), headers.clone())
    });
    let found = places(&mut client, &queues, 100);
    for queue in queues {
        assert!(count(&found, queue) > 0);
    }
}

#[test]
fn a_modulus_hash_keeps_a_key_with_its_queue() {
    let mut client = Client::with_channel();
    let exchange = exchange(&mut client, "x-modulus-hash", &[]);
    let queues = ["", "", "", ""].map(|key| client.bound_queue(1, exchange, key));
    publish_all(&mut client, exchange, 400, with_key);
    let before = places(&mut client, &queues, 400);
    for queue in queues {
        let found = count(&before, queue);
        assert!(found.abs_diff(100) < 60, "{found} where 100 are due");
    }
    publish_all(&mut client, exchange, 400, with_key);
    assert_eq!(places(&mut client, &queues, 400), before);
}

#[test]
fn what_no_binding_can_take_comes_back() {
    let mut client = Client::confirming();
    for kind in [
        "x-consistent-hash",
        "x-random",
        "x-modulus-hash",
        "x-recent-history",
    ] {
        let exchange = exchange(&mut client, kind, &[]);
        let publish = BasicPublish {
            exchange,
            routing_key: "k",
            mandatory: true,
            ..BasicPublish::default()
        };
        client.publish_with(1, &publish, &Properties::default(), b"lost");
        let returned = matched!(client.next_method(1), Method::BasicReturn(returned) => returned);
        assert_eq!(returned.reply_text, "NO_ROUTE", "{kind}");
        client.expect_ack(1);
        client.delete_exchange(1, exchange);
    }
}

/// The texts and where they were published to.
fn shown(deliveries: &[Delivery]) -> Vec<(&str, &str, &str)> {
    let shown = deliveries
        .iter()
        .inspect(|delivery| assert!(!delivery.redelivered));
    shown
        .map(|delivery| (delivery.text(), delivery.exchange, delivery.routing_key))
        .collect()
}

/// Takes messages off a queue until so many have come.
#[track_caller]
fn take(client: &mut Client, queue: &str, count: usize) -> Vec<Delivery> {
    let deadline = Instant::now() + PATIENCE;
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < deadline, "only {taken:?}");
        taken.extend(client.get(1, queue, true));
    }
    taken
}

#[test]
fn a_history_gives_its_last_messages_to_a_new_queue() {
    let mut client = Client::with_channel();
    let arguments = [("x-recent-history-length", FieldValue::I32(3))];
    let exchange = exchange(&mut client, "x-recent-history", &arguments);
    let bound = client.bound_queue(1, exchange, "");
    let not_stored = |value: FieldValue| with_headers(&[("x-recent-history-no-store", value)]);
    publish_all(&mut client, exchange, 5, |number| {
        let properties = match number {
            // Only true means it.
            2 => not_stored(FieldValue::I32(1)),
            3 => not_stored(true.into()),
            _ => Properties::default(),
        };
        (format!("k{number}"), properties)
    });
    let all = client.drain(1, bound);
    assert_eq!(all, ["0", "1", "2", "3", "4"], "it routes them all");

    let late = client.bound_queue(1, exchange, "late");
    let found = take(&mut client, late, 3);
    let expected = [
        ("1", exchange, "k1"),
        ("2", exchange, "k2"),
        ("4", exchange, "k4"),
    ];
    assert_eq!(shown(&found), expected);
    let kept = found[1].header("x-recent-history-no-store");
    assert_eq!(kept, Some(&FieldValue::I32(1)), "it comes as it was sent");

    client.bind(1, late, exchange, "late");
    assert!(client.get(1, late, true).is_none(), "nothing new was bound");
    client.bind(1, late, exchange, "again");
    assert_eq!(shown(&take(&mut client, late, 3)), expected);
    client.publish_confirmed(&[(exchange, "k5", "5")]);
    assert_eq!(client.drain(1, late), ["5"], "once, though bound twice");
}

#[test]
fn a_history_holds_twenty_messages_unless_told_otherwise() {
    let mut client = Client::with_channel();
    let exchange = exchange(&mut client, "x-recent-history", &[]);
    publish_all(&mut client, exchange, 25, with_key);
    let queue = client.bound_queue(1, exchange, "");
    let found = take(&mut client, queue, 20);
    let texts: Vec<_> = found.iter().map(Delivery::text).collect();
    let expected: Vec<_> = (5..25).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    assert!(client.get(1, queue, true).is_none());
}

#[test]
fn a_history_keeps_what_reaches_it_through_other_exchanges() {
    let mut client = Client::with_channel();
    let front = client.temp_exchange(1, "fanout");
    let history = exchange(&mut client, "x-recent-history", &[]);
    client.bind_exchange(1, history, front, "");
    client.publish_confirmed(&[(front, "k", "through the front")]);
    let queue = client.bound_queue(1, history, "");
    let found = take(&mut client, queue, 1);
    assert_eq!(shown(&found), [("through the front", front, "k")]);
}

#[test]
fn a_history_goes_with_its_exchange() {
    let mut client = Client::with_channel();
    let name = unique("history");
    for _ in 0..2 {
        client.ok(1, &declare(name, "x-recent-history", &[]));
        let queue = client.bound_queue(1, name, "");
        assert!(client.get(1, queue, true).is_none());
        client.publish_confirmed(&[(name, "k", "kept")]);
        // Its last binding, and the exchange with it.
        client.delete_queue(1, queue);
    }
    for _ in 0..2 {
        client.ok(1, &declare(name, "x-recent-history", &[]));
        let queue = client.bound_queue(1, name, "");
        assert!(client.get(1, queue, true).is_none());
        client.publish_confirmed(&[(name, "k", "kept")]);
        client.delete_exchange(1, name);
    }
}

#[test]
fn a_new_exchange_passes_a_history_on() {
    leveret_only!("RabbitMQ 3.10 gives it in reverse");
    let mut client = Client::with_channel();
    let history = exchange(&mut client, "x-recent-history", &[]);
    let direct = client.temp_exchange(1, "direct");
    let odd = client.bound_queue(1, direct, "odd");
    let even = client.bound_queue(1, direct, "even");
    publish_all(&mut client, history, 10, |number| {
        let key = if number % 2 == 0 { "even" } else { "odd" };
        (key.to_owned(), Properties::default())
    });
    client.bind_exchange(1, direct, history, "");
    assert_eq!(client.drain(1, odd), ["1", "3", "5", "7", "9"]);
    assert_eq!(client.drain(1, even), ["0", "2", "4", "6", "8"]);
}

#[test]
fn a_history_may_be_bound_to_an_exchange_that_leads_nowhere() {
    leveret_only!("RabbitMQ 3.10 closes the connection with 541");
    let mut client = Client::with_channel();
    let history = exchange(&mut client, "x-recent-history", &[]);
    client.publish_confirmed(&[(history, "k", "kept")]);
    let direct = client.temp_exchange(1, "direct");
    client.bind_exchange(1, direct, history, "");
}

#[test]
fn a_queue_bound_while_messages_come_gets_each_once_and_in_order() {
    leveret_only!("RabbitMQ promises nothing here");
    const COUNT: u64 = 3_000;
    let mut publisher = Client::confirming();
    let mut other = Client::with_channel();
    let arguments = [("x-recent-history-length", FieldValue::I64(1 << 40))];
    let history = exchange(&mut other, "x-recent-history", &arguments);
    let first = other.bound_queue(1, history, "");
    let publishing = std::thread::spawn(move || {
        for number in 0..COUNT {
            publisher.publish(1, history, "k", &number.to_string());
        }
        publisher.expect_acks(1, COUNT);
    });
    let mut queues = vec![first];
    while !publishing.is_finished() && queues.len() < 200 {
        queues.push(other.bound_queue(1, history, ""));
    }
    publishing.join().expect("all were confirmed");
    let expected: Vec<_> = (0..COUNT).map(|number| number.to_string()).collect();
    let step = queues.len().div_ceil(10);
    for queue in queues.iter().step_by(step) {
        let found = other.drain(1, queue);
        let right = found
            .iter()
            .zip(&expected)
            .take_while(|(is, due)| is == due);
        let (right, all) = (right.count(), found.len());
        assert!(found == expected, "{queue}: {right} of {all} are right");
    }
}

#[test]
fn a_transaction_is_kept_when_it_is_committed() {
    leveret_only!("RabbitMQ keeps what is rolled back, too");
    let mut client = Client::with_channel();
    let history = exchange(&mut client, "x-recent-history", &[]);
    client.ok(1, &TxSelect {});
    client.publish(1, history, "k", "withdrawn");
    client.ok(1, &TxRollback {});
    client.publish(1, history, "k", "kept");
    client.ok(1, &TxCommit {});
    let queue = client.bound_queue(1, history, "");
    let found = take(&mut client, queue, 1);
    assert_eq!(shown(&found), [("kept", history, "k")]);
    assert!(client.get(1, queue, true).is_none());
}

#[test]
fn a_delayed_exchange_routes_as_the_type_that_it_names() {
    leveret_only!("the plugin does not ship with RabbitMQ");
    let mut client = Client::with_channel();
    let arguments = [("x-delayed-type", "topic".into())];
    let topic = exchange(&mut client, "x-delayed-message", &arguments);
    let queue = client.bound_queue(1, topic, "a.*");
    client.publish_confirmed(&[(topic, "a.b", "one"), (topic, "b", "two")]);
    assert_eq!(client.drain(1, queue), ["one"]);
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{topic}' in vhost '/': \
         received 'topic' but current is 'x-delayed-message'"
    );
    client.refused(1, &declare(topic, "topic", &[]), 406, &text);

    let arguments = [("x-delayed-type", "x-consistent-hash".into())];
    let hash = exchange(&mut client, "x-delayed-message", &arguments);
    let bind = QueueBind {
        queue,
        exchange: hash,
        routing_key: "a",
        ..QueueBind::default()
    };
    let text = "PRECONDITION_FAILED - The binding key must be an integer: <<\"a\">>";
    client.refused(1, &bind, 406, text);
    client.delete_exchange(1, hash);
}

#[test]
fn a_delayed_exchange_without_a_type_is_406() {
    leveret_only!("the plugin does not ship with RabbitMQ");
    let mut client = Client::with_channel();
    let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    let itself = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
    for (argument, text) in [
        (None, missing),
        (Some(FieldValue::I32(1)), missing),
        (Some("odd".into()), "unknown exchange type 'odd'"),
        (Some("x-delayed-message".into()), itself),
    ] {
        let arguments: FieldTable = argument
            .into_iter()
            .map(|value| ("x-delayed-type", value))
            .collect();
        let bad = ExchangeDeclare {
            arguments,
            ..declare(unique("bad"), "x-delayed-message", &[])
        };
        client.refused(1, &bad, 406, &format!("PRECONDITION_FAILED - {text}"));
    }
}
