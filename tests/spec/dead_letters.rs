//! Where what queues give up goes: their dead-letter exchange (WIRE.md
//! section 7). What a message tells of it is in `deaths`.

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Properties};

use crate::deaths::{death, deaths};
use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::features::{dead_letters_to, pass, table, with_headers};

/// Texts as one value of a table.
pub fn texts(values: &[&str]) -> FieldValue {
    FieldValue::Array(values.iter().map(|&value| value.into()).collect())
}

/// Takes the next message off a queue and rejects it.
#[track_caller]
pub fn reject_next(client: &mut Client, queue: &str) {
    let delivery = client.get(1, queue, false).expect("a message");
    reject(client, delivery.tag);
}

/// Rejects a delivery on channel 1, to die.
pub fn reject(client: &mut Client, delivery_tag: u64) {
    let reject = BasicReject {
        delivery_tag,
        requeue: false,
    };
    client.send(1, &reject);
}

/// A client, a queue whose dead letters go to another, and that other.
pub fn pair(more: &[(&'static str, FieldValue)]) -> (Client, &'static str, &'static str) {
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    let arguments = [&dead_letters_to(dead), more].concat();
    let queue = client.queue_with(1, &arguments);
    (client, queue, dead)
}

#[test]
fn a_multiple_nack_lets_all_die_in_order() {
    let (mut client, queue, dead) = pair(&[]);
    client.fill(queue, &["a", "b", "c"]);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 3), ["a", "b", "c"]);
    client.nack(1, 2, true, false);
    client.await_ready(dead, 2);
    assert_eq!(client.drain(1, dead), ["a", "b"]);
}

#[test]
fn a_thousand_messages_die_in_order() {
    let bodies: Vec<String> = (0..1_000).map(|at| at.to_string()).collect();
    for rule in [
        ("x-message-ttl", FieldValue::I32(300)),
        ("x-max-length", FieldValue::I32(0)),
    ] {
        let (mut client, queue, dead) = pair(&[rule]);
        for body in &bodies {
            client.publish(1, "", queue, body);
        }
        client.open_channel(2);
        client.consume(2, dead, true);
        assert_eq!(client.texts(2, 1_000), bodies);
        assert_eq!(client.look_up(queue), Some((0, 0)));
    }
}

#[test]
fn without_a_key_of_its_own_a_queue_keeps_all_keys_of_a_message() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    let dead = ["key", "copy", "blind"].map(|key| client.bound_queue(1, exchange, key));
    let queue = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into())]);
    let incoming = client.temp_exchange(1, "direct");
    client.bind(1, queue, incoming, "key");
    let copies = texts(&["copy"]);
    let headers = with_headers(&[("CC", copies.clone()), ("BCC", texts(&["blind"]))]);
    client.publish_properties(1, incoming, "key", &headers, "x");
    client.await_ready(queue, 1);
    reject_next(&mut client, queue);
    for reached in dead {
        let delivery = client.await_message(1, reached);
        assert_eq!((delivery.exchange, delivery.routing_key), (exchange, "key"));
        assert_eq!(delivery.header("CC"), Some(&copies));
        assert_eq!(delivery.header("BCC"), None);
    }
}

#[test]
fn a_dead_letter_routing_key_stands_for_all_keys_of_a_message() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    let dead = client.bound_queue(1, exchange, "graveyard");
    let others = ["key", "copy", "blind"].map(|key| client.bound_queue(1, exchange, key));
    let queue = client.queue_with(
        1,
        &[
            ("x-dead-letter-exchange", exchange.into()),
            ("x-dead-letter-routing-key", "graveyard".into()),
        ],
    );
    let incoming = client.temp_exchange(1, "direct");
    client.bind(1, queue, incoming, "key");
    let headers = with_headers(&[("CC", texts(&["copy"])), ("BCC", texts(&["blind"]))]);
    client.publish_properties(1, incoming, "key", &headers, "x");
    client.await_ready(queue, 1);
    reject_next(&mut client, queue);
    let delivery = client.await_message(1, dead);
    assert_eq!(
        (delivery.exchange, delivery.routing_key),
        (exchange, "graveyard")
    );
    assert_eq!(delivery.header("CC"), None);
    assert_eq!(
        deaths(&delivery),
        [death(1, "rejected", queue, incoming, &["key", "copy"])]
    );
    for other in others {
        assert_eq!(client.look_up(other), Some((0, 0)));
    }
}

#[test]
fn a_large_body_survives() {
    let (mut client, queue, dead) = pair(&[]);
    let body: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let publish = BasicPublish {
        routing_key: queue,
        ..BasicPublish::default()
    };
    for body in [&body[..], b""] {
        client.publish_with(1, &publish, &Properties::default(), body);
        client.await_ready(queue, 1);
        reject_next(&mut client, queue);
        assert!(client.await_message(1, dead).content.body == body);
    }
}

#[test]
fn a_fanout_of_dead_letters_reaches_all_its_queues() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    let dead = [(); 2].map(|()| client.bound_queue(1, exchange, ""));
    let queue = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into())]);
    client.fill(queue, &["x"]);
    reject_next(&mut client, queue);
    for reached in dead {
        let delivery = client.await_message(1, reached);
        assert_eq!(
            (delivery.text(), delivery.exchange, delivery.routing_key),
            ("x", exchange, queue)
        );
        assert_eq!(
            deaths(&delivery),
            [death(1, "rejected", queue, "", &[queue])]
        );
    }
}

#[test]
fn a_missing_dead_letter_exchange_drops_and_may_come_later() {
    let mut client = Client::with_channel();
    let exchange = unique("later");
    let queue = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into())]);
    client.fill(queue, &["lost", "found"]);
    reject_next(&mut client, queue);
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((1, 0)));
    let declare = ExchangeDeclare {
        exchange,
        kind: "fanout",
        auto_delete: true,
        ..ExchangeDeclare::default()
    };
    client.ok(1, &declare);
    let dead = client.bound_queue(1, exchange, "");
    reject_next(&mut client, queue);
    assert_eq!(client.await_message(1, dead).text(), "found");
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

#[test]
fn dead_letters_that_reach_no_queue_are_dropped() {
    let (mut client, queue, dead) = pair(&[]);
    client.delete_queue(1, dead);
    client.fill(queue, &["lost"]);
    reject_next(&mut client, queue);
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn an_alternate_exchange_takes_dead_letters_without_a_queue() {
    let mut client = Client::with_channel();
    let alternate = client.temp_exchange(1, "fanout");
    let dead = client.bound_queue(1, alternate, "");
    let exchange = unique("with-alternate");
    let declare = ExchangeDeclare {
        exchange,
        kind: "direct",
        arguments: table(&[("alternate-exchange", alternate.into())]),
        ..ExchangeDeclare::default()
    };
    client.ok(1, &declare);
    let queue = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into())]);
    client.fill(queue, &["x"]);
    reject_next(&mut client, queue);
    let delivery = client.await_message(1, dead);
    assert_eq!((delivery.exchange, delivery.text()), (exchange, "x"));
    client.delete_exchange(1, exchange);
}

#[test]
fn the_default_exchange_takes_a_dead_letter_back_to_its_own_queue() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-dead-letter-exchange", "".into())]);
    client.fill(queue, &["x"]);
    for count in 1..=3 {
        let delivery = client.await_unsettled(1, queue);
        reject(&mut client, delivery.tag);
        let back = client.await_unsettled(1, queue);
        assert_eq!(
            deaths(&back),
            [death(count, "rejected", queue, "", &[queue])]
        );
        client.nack(1, back.tag, false, true);
    }
}

#[test]
fn a_cycle_without_a_rejection_ends() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(
        1,
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-message-ttl", FieldValue::I32(20)),
        ],
    );
    client.fill(queue, &["x"]);
    client.await_ready(queue, 0);
    let (there, back) = (unique("there"), unique("back"));
    for (queue, other) in [(there, back), (back, there)] {
        let [exchange, key] = dead_letters_to(other);
        let declare = QueueDeclare {
            queue,
            exclusive: true,
            arguments: table(&[exchange, key, ("x-message-ttl", FieldValue::I32(20))]),
            ..QueueDeclare::default()
        };
        client.declare(1, &declare);
    }
    client.fill(there, &["x"]);
    client.await_ready(there, 0);
    client.await_ready(back, 0);
    // It was in both, and nothing takes it round again.
    pass(100);
    for queue in [queue, there, back] {
        assert_eq!(client.look_up(queue), Some((0, 0)));
    }
}

#[test]
fn a_cycle_ends_only_for_the_queues_that_it_has_been_in() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    let queue = client.queue_with(
        1,
        &[
            ("x-dead-letter-exchange", exchange.into()),
            ("x-message-ttl", FieldValue::I32(20)),
        ],
    );
    client.bind(1, queue, exchange, "");
    let other = client.bound_queue(1, exchange, "");
    client.fill(queue, &["x"]);
    assert_eq!(client.await_message(1, other).text(), "x");
    pass(100);
    for queue in [queue, other] {
        assert_eq!(client.look_up(queue), Some((0, 0)));
    }
}

#[test]
fn a_rejection_before_a_cycle_does_not_keep_it_going() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    let seen = client.bound_queue(1, exchange, "");
    let short = ("x-message-ttl", FieldValue::I32(20));
    let cycle = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into()), short]);
    client.bind(1, cycle, exchange, "");
    let first = client.queue_with(1, &dead_letters_to(cycle));
    client.fill(first, &["x"]);
    reject_next(&mut client, first);
    let delivery = client.await_message(1, seen);
    let due = [
        death(1, "expired", cycle, "", &[cycle]),
        death(1, "rejected", first, "", &[first]),
    ];
    assert_eq!(deaths(&delivery), due);
    pass(100);
    for queue in [cycle, seen] {
        assert_eq!(client.look_up(queue), Some((0, 0)));
    }
}

#[test]
fn what_is_crowded_out_does_not_come_back_to_the_same_queue() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(
        1,
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-max-length", FieldValue::I32(1)),
        ],
    );
    client.fill(queue, &["a", "b", "c"]);
    pass(100);
    assert_eq!(client.drain(1, queue), ["c"]);
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn an_internal_exchange_takes_dead_letters() {
    let mut client = Client::with_channel();
    let exchange = unique("internal");
    let declare = ExchangeDeclare {
        exchange,
        kind: "fanout",
        internal: true,
        auto_delete: true,
        ..ExchangeDeclare::default()
    };
    client.ok(1, &declare);
    let dead = client.bound_queue(1, exchange, "");
    let queue = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into())]);
    client.fill(queue, &["x"]);
    reject_next(&mut client, queue);
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn settled_messages_do_not_die() {
    let (mut client, queue, dead) = pair(&[]);
    client.fill(queue, &["acked", "taken", "requeued"]);
    let acked = client.get(1, queue, false).expect("a message");
    client.ack(1, acked.tag, false);
    assert!(client.get(1, queue, true).is_some());
    let requeued = client.get(1, queue, false).expect("a message");
    client.nack(1, requeued.tag, false, true);
    client.await_ready(queue, 1);
    client.close_channel(1);
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

#[test]
fn purging_and_deleting_let_nothing_die() {
    let (mut client, queue, dead) = pair(&[]);
    client.fill(queue, &["a", "b"]);
    let purge = QueuePurge {
        queue,
        ..QueuePurge::default()
    };
    client.ok(1, &purge);
    client.fill(queue, &["c"]);
    assert_eq!(client.delete_queue(1, queue), 1);
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

#[test]
fn without_a_dead_letter_exchange_what_dies_is_gone() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-max-length", FieldValue::I32(1))]);
    client.fill(queue, &["a", "b"]);
    reject_next(&mut client, queue);
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn a_rejection_in_a_transaction_waits_for_its_commit() {
    let (mut client, queue, dead) = pair(&[]);
    client.fill(queue, &["x"]);
    client.ok(1, &TxSelect {});
    let delivery = client.get(1, queue, false).expect("a message");
    reject(&mut client, delivery.tag);
    client.sync(1);
    assert_eq!(client.look_up(dead), Some((0, 0)));
    client.ok(1, &TxRollback {});
    assert_eq!(client.look_up(dead), Some((0, 0)));
    reject(&mut client, delivery.tag);
    client.ok(1, &TxCommit {});
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn a_dead_letter_routing_key_needs_an_exchange() {
    let mut client = Client::with_channel();
    client.argument_refused(
        &[("x-dead-letter-routing-key", "k".into())],
        "x-dead-letter-routing-key",
        "routing_key_but_no_dlx_defined",
    );
}

#[test]
fn dead_letter_arguments_are_texts() {
    let mut client = Client::with_channel();
    for (value, kind) in [
        (FieldValue::I32(1), "signedint"),
        (FieldValue::I64(1), "long"),
        (FieldValue::Bool(true), "bool"),
        (FieldValue::Bytes(vec![1]), "binary"),
        (FieldValue::Table(FieldTable::new()), "table"),
        (FieldValue::Array(vec![]), "array"),
        (FieldValue::Void, "void"),
    ] {
        let queue = unique("refused");
        let declare = QueueDeclare {
            queue,
            exclusive: true,
            arguments: table(&[("x-dead-letter-exchange", value.clone())]),
            ..QueueDeclare::default()
        };
        let text = format!(
            "PRECONDITION_FAILED - invalid type '{kind}' for arg 'x-dead-letter-exchange' \
             in queue '{queue}' in vhost '/'"
        );
        client.refused(1, &declare, 406, &text);
        client.argument_refused(
            &[
                ("x-dead-letter-exchange", "".into()),
                ("x-dead-letter-routing-key", value),
            ],
            "x-dead-letter-routing-key",
            &format!("{{unacceptable_type,{kind}}}"),
        );
    }
}

#[test]
fn a_queue_declared_again_with_other_dead_letters_is_406() {
    let mut client = Client::with_channel();
    let (exchange, key) = ("x-dead-letter-exchange", "x-dead-letter-routing-key");
    let both = |to: &'static str, by: &'static str| [(exchange, to.into()), (key, by.into())];
    let queue = client.queue_with(1, &both("a", "b"));
    client.argument_differs(queue, &both("c", "b"), exchange, "'c'", "'a'");
    client.argument_differs(queue, &both("a", "c"), key, "'c'", "'b'");
    let current = "the value 'a' of type 'longstr'";
    client.argument_differs(queue, &[], exchange, "none", current);
    let plain = client.temp_queue(1);
    client.argument_differs(plain, &both("a", "b"), exchange, current, "none");
}
