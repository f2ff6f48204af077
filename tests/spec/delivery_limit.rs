//! Messages that come back too often (`x-delivery-limit`): counted and given up
//! as RabbitMQ's quorum queues do, on any queue.

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Properties};

use crate::dead_letters::{pair, reject};
use crate::deaths::{death, deaths};
use crate::support::actions::Delivery;
use crate::support::client::Client;
use crate::support::features::with_headers;
use crate::support::leveret_only;

fn delivery_limit(returns: i64) -> (&'static str, FieldValue) {
    ("x-delivery-limit", returns.into())
}

/// How often a delivery says that its message came back.
fn count(delivery: &Delivery) -> Option<i64> {
    delivery
        .header("x-delivery-count")
        .and_then(FieldValue::as_integer)
}

#[test]
fn each_redelivery_says_how_many_came_before() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(3)]);
    client.fill(queue, &["x"]);
    client.consume(1, queue, false);
    for due in [None, Some(1), Some(2), Some(3)] {
        let delivery = client.delivery(1);
        assert_eq!((delivery.text(), count(&delivery)), ("x", due));
        assert_eq!(delivery.redelivered, due.is_some());
        client.nack(1, delivery.tag, false, true);
    }
    let delivery = client.await_message(1, dead);
    assert_eq!(delivery.text(), "x");
    assert_eq!(
        deaths(&delivery),
        [death(1, "delivery_limit", queue, "", &[queue])]
    );
    for (name, value) in [
        ("x-first-death-reason", "delivery_limit"),
        ("x-first-death-queue", queue),
        ("x-first-death-exchange", ""),
    ] {
        assert_eq!(delivery.header(name), Some(&value.into()), "{name}");
    }
    assert_eq!(delivery.header("x-delivery-count"), None);
    assert_eq!(client.look_up(queue), Some((0, 1)));
}

#[test]
fn gets_are_counted_as_consumers_are() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(1)]);
    client.fill(queue, &["x"]);
    for due in [None, Some(1)] {
        let delivery = client.await_unsettled(1, queue);
        assert_eq!(
            (count(&delivery), delivery.redelivered),
            (due, due.is_some())
        );
        let requeue = BasicReject {
            delivery_tag: delivery.tag,
            requeue: true,
        };
        client.send(1, &requeue);
    }
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn a_limit_of_0_lets_nothing_come_back() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(0)]);
    client.fill(queue, &["x"]);
    let delivery = client.await_unsettled(1, queue);
    client.nack(1, delivery.tag, false, true);
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn a_limit_of_minus_1_is_none() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, _) = pair(&[delivery_limit(-1)]);
    client.fill(queue, &["x"]);
    for returned in 0..30 {
        let delivery = client.await_unsettled(1, queue);
        assert_eq!(delivery.redelivered, returned > 0);
        client.nack(1, delivery.tag, false, true);
    }
    client.await_ready(queue, 1);
}

#[test]
fn a_lost_channel_or_connection_counts() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(2)]);
    client.fill(queue, &["seen", "behind it"]);
    for due in [None, Some(1), Some(2)] {
        client.open_channel(2);
        client.consume(2, queue, false);
        for text in ["seen", "behind it"] {
            let delivery = client.delivery(2);
            assert_eq!((delivery.text(), count(&delivery)), (text, due));
        }
        client.close_channel(2);
    }
    client.await_ready(dead, 2);
    assert_eq!(client.drain(1, dead), ["seen", "behind it"]);
}

#[test]
fn recover_counts() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(1)]);
    client.fill(queue, &["x"]);
    client.await_unsettled(1, queue);
    client.ok(1, &BasicRecover { requeue: true });
    let again = client.await_unsettled(1, queue);
    assert_eq!(count(&again), Some(1));
    client.ok(1, &BasicRecover { requeue: true });
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn each_message_is_counted_for_itself() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(1)]);
    client.fill(queue, &["a"]);
    client.open_channel(2);
    client.consume(2, queue, false);
    let first = client.delivery(2);
    client.nack(2, first.tag, false, true);
    let again = client.delivery(2);
    assert_eq!((again.text(), count(&again)), ("a", Some(1)));
    client.fill(queue, &["b"]);
    let other = client.delivery(2);
    assert_eq!((other.text(), count(&other)), ("b", None));
    client.nack(2, 0, true, true);
    assert_eq!(client.await_message(1, dead).text(), "a");
    let last = client.delivery(2);
    assert_eq!((last.text(), count(&last)), ("b", Some(1)));
}

#[test]
fn a_rejection_is_still_a_rejection() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(5)]);
    client.fill(queue, &["x"]);
    let first = client.await_unsettled(1, queue);
    client.nack(1, first.tag, false, true);
    let second = client.await_unsettled(1, queue);
    reject(&mut client, second.tag);
    let delivery = client.await_message(1, dead);
    assert_eq!(
        deaths(&delivery),
        [death(1, "rejected", queue, "", &[queue])]
    );
}

#[test]
fn without_a_dead_letter_exchange_what_came_back_too_often_is_gone() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[delivery_limit(1)]);
    client.fill(queue, &["x", "next"]);
    for text in ["x", "x", "next"] {
        let delivery = client.await_unsettled(1, queue);
        assert_eq!(delivery.text(), text);
        client.nack(1, delivery.tag, false, true);
        client.sync(1);
    }
    client.await_ready(queue, 1);
}

#[test]
fn a_count_of_the_publisher_is_replaced_while_the_queue_has_one_and_kept_otherwise() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, dead) = pair(&[delivery_limit(1)]);
    let headers = [
        ("x-delivery-count", FieldValue::I32(9)),
        ("own", true.into()),
    ];
    client.put(queue, &with_headers(&headers), "x");
    client.open_channel(2);
    client.consume(2, queue, false);
    for due in [9, 1] {
        let delivery = client.delivery(2);
        assert_eq!(count(&delivery), Some(due));
        assert_eq!(delivery.header("own"), Some(&true.into()));
        client.nack(2, delivery.tag, false, true);
    }
    assert_eq!(count(&client.await_message(1, dead)), Some(9));
}

#[test]
fn properties_survive_the_count() {
    leveret_only!("RabbitMQ counts in quorum queues");
    let (mut client, queue, _) = pair(&[delivery_limit(1)]);
    let properties = Properties {
        content_type: Some("text/plain".to_owned()),
        headers: None,
        delivery_mode: Some(2),
        correlation_id: Some("c".to_owned()),
        message_id: Some("m".to_owned()),
        timestamp: Some(1_700_000_000),
        ..Properties::default()
    };
    client.put(queue, &properties, "the body");
    client.consume(1, queue, false);
    let first = client.delivery(1);
    assert_eq!(first.content.properties, properties);
    client.nack(1, first.tag, false, true);
    let mut second = client.delivery(1);
    assert_eq!((second.text(), count(&second)), ("the body", Some(1)));
    let headers = second.content.properties.headers.take().expect("headers");
    assert_eq!(headers.len(), 1);
    assert_eq!(second.content.properties, properties);
}

#[test]
fn a_queue_without_a_limit_adds_no_header() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["x"]);
    for redelivered in [false, true, true] {
        let delivery = client.await_unsettled(1, queue);
        assert_eq!(delivery.redelivered, redelivered);
        assert_eq!(delivery.content.properties, Properties::default());
        client.nack(1, delivery.tag, false, true);
    }
}

#[test]
fn a_limit_is_an_integer_from_minus_1() {
    leveret_only!("RabbitMQ knows the argument for quorum queues only");
    let mut client = Client::with_channel();
    for (value, why) in [
        (FieldValue::I32(-2), "{value_negative,-2}"),
        (FieldValue::from("3"), "\"expected integer, got longstr\""),
        (FieldValue::Bool(true), "\"expected integer, got bool\""),
    ] {
        client.argument_refused(&[("x-delivery-limit", value)], "x-delivery-limit", why);
    }
    for value in [FieldValue::U8(3), FieldValue::I64(i64::MAX)] {
        client.queue_with(1, &[("x-delivery-limit", value)]);
    }
}
