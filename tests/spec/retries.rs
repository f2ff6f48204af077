//! Messages that wait longer and longer before they are tried again
//! (`x-retry-delay` and others), without ladders of queues.

use std::time::{Duration, Instant};

use leveret_protocol::FieldValue;

use crate::dead_letters::{pair, reject};
use crate::support::client::Client;
use crate::support::leveret_only;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn each_try_waits_twice_as_long_and_the_last_one_is_a_death() {
    leveret_only!("RabbitMQ 3.10 has no delayed retries");
    let (mut client, queue, dead) = pair(&[
        ("x-retry-delay", 100.into()),
        ("x-delivery-limit", 3.into()),
    ]);
    client.fill(queue, &["x"]);
    client.consume(1, queue, false);
    let mut refused = None::<Instant>;
    for (tries, least) in [(0, 0), (1, 100), (2, 200), (3, 400)] {
        let delivery = client.delivery(1);
        if let Some(refused) = refused {
            assert!(refused.elapsed() >= ms(least), "try {tries}");
        }
        let count = delivery.header("x-delivery-count");
        let count = count.and_then(FieldValue::as_integer);
        assert_eq!(count.unwrap_or(0), tries);
        refused = Some(Instant::now());
        client.nack(1, delivery.tag, false, true);
    }
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn others_go_on_while_a_message_waits() {
    leveret_only!("RabbitMQ 3.10 has no delayed retries");
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-retry-delay", "300ms".into())]);
    client.fill(queue, &["a", "b", "c"]);
    client.qos(1, 1, false);
    client.consume(1, queue, false);
    let first = client.delivery(1);
    client.nack(1, first.tag, false, true);
    for text in ["b", "c", "a"] {
        let delivery = client.delivery(1);
        assert_eq!(delivery.text(), text);
        client.ack(1, delivery.tag, false);
    }
}

#[test]
fn a_lost_consumer_is_a_failed_try_too() {
    leveret_only!("RabbitMQ 3.10 has no delayed retries");
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-retry-delay", 200.into())]);
    client.fill(queue, &["x"]);
    client.open_channel(2);
    client.consume(2, queue, false);
    client.delivery(2);
    client.close_channel(2);
    assert_eq!(client.look_up(queue), Some((0, 0)), "it waits");
    client.await_ready(queue, 1);
}

#[test]
fn only_refused_messages_wait_where_that_is_asked_for() {
    leveret_only!("RabbitMQ 3.10 has no delayed retries");
    let mut client = Client::with_channel();
    let queue = client.queue_with(
        1,
        &[
            ("x-delayed-retry-type", "failed".into()),
            ("x-delayed-retry-min", 60_000.into()),
        ],
    );
    client.fill(queue, &["x"]);
    client.open_channel(2);
    client.consume(2, queue, false);
    client.delivery(2);
    client.close_channel(2);
    client.await_ready(queue, 1);
    let delivery = client.get(1, queue, false).expect("it is there");
    client.nack(1, delivery.tag, false, true);
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((0, 0)), "it waits");
}

#[test]
fn a_rejection_without_requeue_does_not_wait() {
    leveret_only!("RabbitMQ 3.10 has no delayed retries");
    let (mut client, queue, dead) = pair(&[("x-retry-delay", 60_000.into())]);
    client.fill(queue, &["x"]);
    let delivery = client.await_unsettled(1, queue);
    reject(&mut client, delivery.tag);
    assert_eq!(client.await_message(1, dead).text(), "x");
}
