//! Queues that go when nobody uses them (WIRE.md section 3). The values of the
//! argument are tried in `ttl`.

use std::time::{Duration, Instant};

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Method};

use crate::dead_letters::pair;
use crate::support::broker::{leak, unique};
use crate::support::client::{Client, PATIENCE};
use crate::support::features::{pass, table};
use crate::support::matched;

fn expires(milliseconds: i64) -> (&'static str, FieldValue) {
    ("x-expires", FieldValue::I64(milliseconds))
}

#[test]
fn a_queue_cannot_expire_at_once() {
    let mut client = Client::with_channel();
    client.argument_refused(&[expires(0)], "x-expires", "{value_zero,0}");
}

#[test]
fn an_unused_queue_expires_with_its_messages() {
    let mut client = Client::with_channel();
    let start = Instant::now();
    let queue = client.queue_with(1, &[expires(300)]);
    // Being published to is no use of a queue: this is how it is watched.
    assert!(client.exists(queue));
    client.await_expiry(queue);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(client.look_up(queue), None);
}

#[test]
fn a_durable_queue_expires_as_well() {
    let mut client = Client::with_channel();
    let queue = unique("durable");
    let declare = QueueDeclare {
        queue,
        durable: true,
        arguments: table(&[expires(200)]),
        ..QueueDeclare::default()
    };
    client.declare(1, &declare);
    client.await_expiry(queue);
    // The name is free for any other queue.
    let other = QueueDeclare {
        queue,
        exclusive: true,
        ..QueueDeclare::default()
    };
    assert_eq!(client.declare(1, &other), (queue, 0, 0));
}

#[test]
fn an_expired_queue_takes_its_bindings_along() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[expires(500)]);
    let exchange = client.temp_exchange(1, "fanout");
    client.bind(1, queue, exchange, "");
    client.await_expiry(queue);
    let passive = ExchangeDeclare {
        exchange,
        kind: "fanout",
        passive: true,
        ..ExchangeDeclare::default()
    };
    let text = leak(format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'"));
    client.refused(1, &passive, 404, text);
}

/// Does something every now and then for two lives of a queue, which must
/// be there all the time, and from then on is to be left to expire.
#[track_caller]
fn kept_alive_by(act: impl Fn(&mut Client, &str)) {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[expires(800)]);
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < Duration::from_millis(1_700) {
        last = Instant::now();
        act(&mut client, queue);
        assert!(client.exists(queue));
        pass(20);
    }
    client.await_expiry(queue);
    assert!(last.elapsed() >= Duration::from_millis(800));
}

#[test]
fn a_get_is_a_use_of_a_queue() {
    kept_alive_by(|client, queue| drop(client.get(1, queue, true)));
}

#[test]
fn a_declare_is_a_use_of_a_queue() {
    kept_alive_by(|client, queue| {
        let again = QueueDeclare {
            queue,
            exclusive: true,
            arguments: table(&[expires(800)]),
            ..QueueDeclare::default()
        };
        client.declare(1, &again);
    });
}

#[test]
fn a_passive_declare_is_a_use_of_a_queue() {
    kept_alive_by(|client, queue| assert!(client.look_up(queue).is_some()));
}

#[test]
fn binding_purging_and_settling_are_no_use_of_a_queue() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[expires(800)]);
    client.fill(queue, &["x"; 100]);
    let mut held = Vec::new();
    // The time runs from here at the earliest.
    let start = Instant::now();
    for _ in 0..100 {
        held.push(client.get(1, queue, false).expect("a message").tag);
    }
    while client.exists(queue) {
        assert!(start.elapsed() < PATIENCE, "it stays");
        if let Some(tag) = held.pop() {
            client.nack(1, tag, false, tag % 2 == 0);
        }
        // Each of these is refused if the queue goes just now.
        client.open_channel(2);
        let bind = QueueBind {
            queue,
            exchange: "amq.fanout",
            ..QueueBind::default()
        };
        let purge = QueuePurge {
            queue,
            ..QueuePurge::default()
        };
        let answer = match client.call(2, &bind) {
            Method::QueueBindOk(_) => client.call(2, &purge),
            other => other,
        };
        match answer {
            Method::ChannelClose(_) => client.send(2, &ChannelCloseOk {}),
            other => {
                matched!(other, Method::QueuePurgeOk(_) => client.close_channel(2));
            }
        }
        pass(20);
    }
    assert!(start.elapsed() >= Duration::from_millis(800));
}

#[test]
fn a_consumer_is_a_use_of_a_queue_as_long_as_it_stays() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[expires(500)]);
    client.open_channel(2);
    let tag = client.consume(2, queue, true);
    pass(800);
    assert!(client.exists(queue));
    assert_eq!(client.delivery(2).text(), "anybody?");
    let start = Instant::now();
    client.cancel(2, tag);
    client.await_expiry(queue);
    assert!(start.elapsed() >= Duration::from_millis(500));
}

#[test]
fn a_lost_consumer_leaves_its_queue_to_expire() {
    let mut client = Client::with_channel();
    let queue = unique("left");
    let declare = QueueDeclare {
        queue,
        arguments: table(&[expires(500)]),
        ..QueueDeclare::default()
    };
    client.declare(1, &declare);
    let mut consumer = Client::with_channel();
    consumer.consume(1, queue, false);
    let mut other = Client::with_channel();
    other.consume(1, queue, false);
    consumer.drop_socket();
    pass(800);
    assert!(client.exists(queue), "one is left");
    let start = Instant::now();
    other.drop_socket();
    client.await_expiry(queue);
    assert!(start.elapsed() >= Duration::from_millis(500));
}

#[test]
fn an_unsettled_message_does_not_keep_its_queue() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[expires(500)]);
    client.fill(queue, &["x"]);
    let held = client.get(1, queue, false).expect("a message");
    client.await_expiry(queue);
    // Settling what is gone with its queue is no error.
    client.ack(1, held.tag, false);
    client.sync(1);
    client.expect_nothing(1);
}

#[test]
fn an_expired_queue_does_not_dead_letter_its_messages() {
    let (mut client, queue, dead) = pair(&[expires(100)]);
    client.fill(queue, &["a", "b"]);
    client.await_expiry(queue);
    assert_eq!(client.look_up(dead), Some((0, 0)));
}
