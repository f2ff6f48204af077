//! `basic.get` (WIRE.md section 6).

use leveret_protocol::Method;
use leveret_protocol::method::*;

use crate::support::client::Client;
use crate::support::matched;

#[test]
fn get_on_an_empty_queue_says_so() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    matched!(client.call(1, &BasicGet { queue, ..BasicGet::default() }), Method::BasicGetEmpty(_) => ());
}

#[test]
fn get_takes_the_oldest_message_and_says_how_many_are_left() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c"]);
    for (text, left, tag) in [("a", 2, 1), ("b", 1, 2), ("c", 0, 3)] {
        let delivery = client.get(1, queue, false).expect("a message");
        assert_eq!(
            (delivery.text(), delivery.message_count, delivery.tag),
            (text, Some(left), tag)
        );
        assert_eq!(
            (
                delivery.exchange,
                delivery.routing_key,
                delivery.redelivered
            ),
            ("", queue, false)
        );
    }
    assert!(client.get(1, queue, false).is_none());
}

#[test]
fn get_shows_exchange_and_key_of_the_publish() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "topic");
    let queue = client.bound_queue(1, exchange, "#");
    client.publish_confirmed(&[(exchange, "some.key", "x")]);
    let delivery = client.get(1, queue, true).expect("a message");
    assert_eq!(
        (delivery.exchange, delivery.routing_key),
        (exchange, "some.key")
    );
}

#[test]
fn get_without_ack_settles_at_once() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a"]);
    assert!(client.get(1, queue, true).is_some());
    client.close_channel(1);
    client.open_channel(1);
    assert!(client.get(1, queue, true).is_none());
}

#[test]
fn get_with_ack_returns_the_message_with_the_channel() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a"]);
    assert!(!client.get(1, queue, false).expect("a message").redelivered);
    client.close_channel(1);
    client.open_channel(1);
    assert!(client.get(1, queue, true).expect("a message").redelivered);
}

#[test]
fn get_ignores_prefetch() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c"]);
    client.qos(1, 1, true);
    for text in ["a", "b", "c"] {
        assert_eq!(client.get(1, queue, false).expect("a message").text(), text);
    }
}

#[test]
fn get_of_a_large_message_is_whole() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let body = "0123456789".repeat(50_000);
    client.fill(queue, &[&body]);
    assert_eq!(client.get(1, queue, true).expect("a message").text(), body);
}
