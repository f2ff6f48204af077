//! Copies of messages that a queue has had before (`x-message-deduplication`):
//! confirmed and left out, whoever sends them and whatever became of the first.

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Properties};

use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::features::{Arguments, dead_letters_to, pass, table, with_headers};
use crate::support::leveret_only;

const ON: (&str, FieldValue) = ("x-message-deduplication", FieldValue::Bool(true));

/// A queue that knows copies.
fn queue_with(more: Arguments<'_>) -> (Client, &'static str) {
    let mut client = Client::confirming();
    let arguments: Vec<_> = [ON].iter().chain(more).cloned().collect();
    let queue = client.queue_with(1, &arguments);
    (client, queue)
}

fn with_id(id: &str) -> Properties {
    Properties {
        message_id: Some(id.to_owned()),
        ..Properties::default()
    }
}

fn with_key(key: impl Into<FieldValue>) -> Properties {
    with_headers(&[("x-deduplication-header", key.into())])
}

/// Publishes these under those names, in one go, and waits for the confirms.
#[track_caller]
fn publish(client: &mut Client, queue: &str, messages: &[(&str, &str)]) {
    client.open_channel(5);
    client.ok(5, &ConfirmSelect::default());
    for (id, body) in messages {
        client.publish_properties(5, "", queue, &with_id(id), body);
    }
    client.expect_acks(5, messages.len() as u64);
    client.close_channel(5);
}

#[test]
fn a_copy_is_confirmed_and_left_out() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[]);
    let messages = [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")];
    publish(&mut client, queue, &messages);
    assert_eq!(client.look_up(queue), Some((2, 0)));
    publish(&mut client, queue, &messages);
    assert_eq!(client.drain(1, queue), ["1", "2"]);
}

#[test]
fn a_name_is_known_after_its_message_is_gone() {
    leveret_only!("RabbitMQ's plugin forgets it then");
    let (mut client, queue) = queue_with(&[]);
    publish(&mut client, queue, &[("a", "1")]);
    assert_eq!(client.drain(1, queue), ["1"]);
    publish(&mut client, queue, &[("a", "2"), ("b", "3")]);
    assert_eq!(client.drain(1, queue), ["3"]);
}

#[test]
fn messages_without_a_name_are_no_copies() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[]);
    client.fill(queue, &["x", "x"]);
    assert_eq!(client.drain(1, queue), ["x", "x"]);
}

#[test]
fn a_header_names_a_message_before_its_message_id() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[]);
    let both = |key: &str, id: &str| Properties {
        message_id: Some(id.to_owned()),
        ..with_key(key)
    };
    client.put(queue, &both("a", "1"), "first");
    client.put(queue, &both("a", "2"), "same key");
    client.put(queue, &both("b", "1"), "same id");
    client.put(queue, &with_key(7), "a number");
    client.put(queue, &with_key(7), "the same number");
    let expected = ["first", "same id", "a number"];
    assert_eq!(client.drain(1, queue), expected);
}

#[test]
fn the_header_may_have_another_name() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[("x-deduplication-header", "order".into())]);
    let order = |order: &str| with_headers(&[("order", order.into())]);
    client.put(queue, &order("1"), "a");
    client.put(queue, &order("1"), "b");
    client.put(queue, &with_key("1"), "c");
    client.put(queue, &with_key("1"), "d");
    assert_eq!(client.drain(1, queue), ["a", "c", "d"]);
}

#[test]
fn the_last_so_many_names_are_known() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[("x-cache-size", 2.into())]);
    for (id, body) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "-"), ("a", "4")] {
        client.put(queue, &with_id(id), body);
    }
    assert_eq!(client.drain(1, queue), ["1", "2", "3", "4"]);
}

#[test]
fn a_name_is_known_for_so_long() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[("x-cache-ttl", 300.into())]);
    client.put(queue, &with_id("a"), "1");
    client.put(queue, &with_id("a"), "2");
    pass(310);
    client.put(queue, &with_id("a"), "3");
    assert_eq!(client.drain(1, queue), ["1", "3"]);
}

#[test]
fn each_queue_has_its_own_names() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[]);
    let plain = client.temp_queue(1);
    let exchange = client.temp_exchange(1, "fanout");
    client.bind(1, queue, exchange, "");
    client.bind(1, plain, exchange, "");
    for body in ["1", "2"] {
        client.publish_properties(1, exchange, "", &with_id("a"), body);
    }
    client.expect_acks(1, 2);
    assert_eq!(client.drain(1, queue), ["1"]);
    assert_eq!(client.drain(1, plain), ["1", "2"]);
}

#[test]
fn a_copy_is_not_unroutable() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[]);
    let mandatory = BasicPublish {
        routing_key: queue,
        mandatory: true,
        ..BasicPublish::default()
    };
    for _ in 0..2 {
        client.publish_with(1, &mandatory, &with_id("a"), b"x");
    }
    client.expect_acks(1, 2);
    client.expect_nothing(1);
}

#[test]
fn a_full_queue_refuses_a_message_and_does_not_remember_it() {
    leveret_only!("RabbitMQ needs a plugin");
    let limits = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish".into()),
    ];
    let (mut client, queue) = queue_with(&limits);
    client.put(queue, &with_id("a"), "1");
    client.publish_properties(1, "", queue, &with_id("b"), "2");
    assert!(
        matches!(
            client.next_method(1),
            leveret_protocol::Method::BasicNack(_)
        ),
        "it is full"
    );
    assert_eq!(client.drain(1, queue), ["1"]);
    client.put(queue, &with_id("b"), "3");
    assert_eq!(client.drain(1, queue), ["3"]);
}

#[test]
fn a_transaction_may_hold_copies() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, queue) = queue_with(&[]);
    client.open_channel(2);
    client.ok(2, &TxSelect {});
    for (id, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        client.publish_properties(2, "", queue, &with_id(id), body);
    }
    client.ok(2, &TxCommit {});
    client.publish_properties(2, "", queue, &with_id("c"), "4");
    client.ok(2, &TxRollback {});
    client.publish_properties(2, "", queue, &with_id("c"), "5");
    client.ok(2, &TxCommit {});
    assert_eq!(client.drain(1, queue), ["1", "2", "5"]);
}

#[test]
fn a_copy_is_no_dead_letter() {
    leveret_only!("RabbitMQ needs a plugin");
    let mut client = Client::confirming();
    let dead = client.temp_queue(1);
    let [exchange, key] = dead_letters_to(dead);
    let queue = client.queue_with(1, &[ON, exchange, key]);
    client.put(queue, &with_id("a"), "1");
    client.put(queue, &with_id("a"), "2");
    client.await_ready(queue, 1);
    let delivery = client.get(1, queue, false).expect("a message");
    client.nack(1, delivery.tag, false, false);
    assert_eq!(client.await_message(1, dead).text(), "1");
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

/// A fanout exchange that knows copies, with a queue bound to it.
fn exchange_with(kind: &str, arguments: Arguments<'_>) -> (Client, &'static str, &'static str) {
    let mut client = Client::confirming();
    let exchange = unique("once");
    let declare = ExchangeDeclare {
        exchange,
        kind,
        auto_delete: true,
        arguments: table(arguments),
        ..ExchangeDeclare::default()
    };
    client.ok(1, &declare);
    let queue = client.bound_queue(1, exchange, "");
    (client, exchange, queue)
}

#[test]
fn a_copy_goes_nowhere_from_an_exchange() {
    leveret_only!("RabbitMQ needs a plugin");
    for (kind, argument) in [
        ("fanout", ON),
        ("direct", ON),
        ("topic", ON),
        ("x-message-deduplication", ("x-cache-size", 1_000.into())),
    ] {
        let (mut client, exchange, queue) = exchange_with(kind, &[argument]);
        let mandatory = BasicPublish {
            exchange,
            mandatory: true,
            ..BasicPublish::default()
        };
        for (id, body) in [("a", "1"), ("a", "2"), ("b", "3")] {
            client.publish_with(1, &mandatory, &with_id(id), body.as_bytes());
        }
        client.publish_with(1, &mandatory, &with_key("a"), b"4");
        client.publish_with(1, &mandatory, &with_key("c"), b"5");
        client.publish(1, exchange, "", "6");
        client.publish(1, exchange, "", "7");
        client.expect_acks(1, 7);
        assert_eq!(client.drain(1, queue), ["1", "3", "5", "6", "7"], "{kind}");
    }
}

#[test]
fn what_an_exchange_could_not_route_is_no_copy() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, exchange, queue) = exchange_with("direct", &[ON]);
    client.publish_properties(1, exchange, "nowhere", &with_id("a"), "1");
    client.publish_properties(1, exchange, "", &with_id("a"), "2");
    client.expect_acks(1, 2);
    assert_eq!(client.drain(1, queue), ["2"]);
}

#[test]
fn what_a_queue_refused_is_no_copy_to_the_exchange() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, exchange, _) = exchange_with("direct", &[ON]);
    let limits = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish".into()),
    ];
    let full = client.queue_with(1, &limits);
    client.bind(1, full, exchange, "full");
    client.publish_properties(1, exchange, "full", &with_id("a"), "1");
    client.expect_ack(1);
    client.publish_properties(1, exchange, "full", &with_id("b"), "2");
    assert!(
        matches!(
            client.next_method(1),
            leveret_protocol::Method::BasicNack(_)
        ),
        "it is full"
    );
    assert_eq!(client.drain(1, full), ["1"]);
    for body in ["3", "4"] {
        client.publish_properties(1, exchange, "full", &with_id("b"), body);
        client.expect_ack(1);
    }
    assert_eq!(client.drain(1, full), ["3"]);
}

#[test]
fn a_new_exchange_of_the_same_name_knows_nothing() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, exchange, _) = exchange_with("fanout", &[ON]);
    client.publish_properties(1, exchange, "", &with_id("a"), "1");
    client.expect_ack(1);
    client.delete_exchange(1, exchange);
    let again = ExchangeDeclare {
        exchange,
        kind: "fanout",
        arguments: table(&[ON]),
        ..ExchangeDeclare::default()
    };
    client.ok(1, &again);
    let queue = client.bound_queue(1, exchange, "");
    client.publish_properties(1, exchange, "", &with_id("a"), "2");
    client.expect_ack(1);
    assert_eq!(client.drain(1, queue), ["2"]);
    client.delete_exchange(1, exchange);
}

#[test]
fn copies_in_a_transaction_go_nowhere_from_an_exchange() {
    leveret_only!("RabbitMQ needs a plugin");
    let (mut client, exchange, queue) = exchange_with("fanout", &[ON]);
    client.open_channel(2);
    client.ok(2, &TxSelect {});
    for (id, body) in [("a", "1"), ("a", "2")] {
        client.publish_properties(2, exchange, "", &with_id(id), body);
    }
    client.ok(2, &TxRollback {});
    for (id, body) in [("a", "3"), ("a", "4")] {
        client.publish_properties(2, exchange, "", &with_id(id), body);
    }
    client.ok(2, &TxCommit {});
    assert_eq!(client.drain(1, queue), ["3"]);
}
