//! Queues that serve the most urgent messages first.

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Method, Properties};

use crate::deaths::{death, deaths, sorted};
use crate::support::client::Client;
use crate::support::features::{dead_letters_to, expiring, pass, urgent};
use crate::support::{leveret_only, matched};

fn max_priority(most: i64) -> (&'static str, FieldValue) {
    ("x-max-priority", most.into())
}

/// Publishes each text with its priority and waits until the queue has it.
#[track_caller]
fn fill(client: &mut Client, queue: &str, messages: &[(u8, &str)]) {
    for (priority, body) in messages {
        client.put(queue, &urgent(*priority), body);
    }
}

#[test]
fn the_most_urgent_goes_first_and_the_order_holds_within() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(10)]);
    let messages = [
        (1, "a"),
        (5, "b"),
        (1, "c"),
        (10, "d"),
        (5, "e"),
        (0, "f"),
        (10, "g"),
    ];
    fill(&mut client, queue, &messages);
    assert_eq!(client.look_up(queue), Some((7, 0)));
    assert_eq!(client.drain(1, queue), ["d", "g", "b", "e", "a", "c", "f"]);
    fill(&mut client, queue, &messages);
    client.consume(1, queue, true);
    assert_eq!(client.texts(1, 7), ["d", "g", "b", "e", "a", "c", "f"]);
}

#[test]
fn a_message_without_a_priority_is_of_priority_0() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(10)]);
    client.fill(queue, &["a"]);
    fill(&mut client, queue, &[(1, "b"), (0, "c")]);
    client.fill(queue, &["d"]);
    let first = client.get(1, queue, true).expect("a message");
    assert_eq!((first.text(), first.message_count), ("b", Some(3)));
    assert_eq!(first.content.properties.priority, Some(1));
    let second = client.get(1, queue, true).expect("a message");
    assert_eq!(
        (second.text(), second.content.properties.priority),
        ("a", None)
    );
    assert_eq!(client.drain(1, queue), ["c", "d"]);
}

#[test]
fn a_priority_above_the_queues_most_counts_as_that() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(5)]);
    fill(
        &mut client,
        queue,
        &[(5, "a"), (255, "b"), (6, "c"), (4, "d"), (5, "e")],
    );
    let first = client.get(1, queue, true).expect("a message");
    assert_eq!(first.text(), "a");
    let second = client.get(1, queue, true).expect("a message");
    assert_eq!(
        (second.text(), second.content.properties.priority),
        ("b", Some(255))
    );
    assert_eq!(client.drain(1, queue), ["c", "e", "d"]);
}

#[test]
fn all_255_levels_are_apart() {
    let mut client = Client::confirming();
    let queue = client.queue_with(1, &[max_priority(255)]);
    // Levels in an order that is neither up nor down.
    for at in 0..=255u8 {
        let level = at.wrapping_mul(97);
        client.publish_properties(1, "", queue, &urgent(level), &level.to_string());
    }
    client.expect_acks(1, 256);
    client.open_channel(2);
    client.consume(2, queue, true);
    let due: Vec<String> = (0..=255).rev().map(|level| level.to_string()).collect();
    assert_eq!(client.texts(2, 256), due);
}

#[test]
fn without_priorities_a_queue_keeps_its_order() {
    let mut client = Client::with_channel();
    let plain = client.temp_queue(1);
    let zero = client.queue_with(1, &[max_priority(0)]);
    for queue in [plain, zero] {
        fill(&mut client, queue, &[(0, "a"), (9, "b"), (5, "c")]);
        assert_eq!(client.drain(1, queue), ["a", "b", "c"]);
    }
}

#[test]
fn a_requeued_message_returns_to_its_place_in_its_level() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(3)]);
    fill(
        &mut client,
        queue,
        &[(1, "a"), (1, "b"), (3, "c"), (3, "d")],
    );
    let held: Vec<_> = (0..4)
        .map(|_| client.get(1, queue, false).expect("a message"))
        .collect();
    fill(&mut client, queue, &[(3, "e"), (2, "f"), (1, "g")]);
    for at in [3, 0, 2, 1] {
        client.nack(1, held[at].tag, false, true);
    }
    client.await_ready(queue, 7);
    assert_eq!(client.drain(1, queue), ["c", "d", "e", "f", "a", "b", "g"]);
}

#[test]
fn a_closed_channel_returns_each_message_to_its_level() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(3)]);
    fill(&mut client, queue, &[(0, "a"), (3, "b"), (1, "c")]);
    client.open_channel(2);
    client.consume(2, queue, false);
    assert_eq!(client.texts(2, 3), ["b", "c", "a"]);
    client.close_channel(2);
    fill(&mut client, queue, &[(2, "d")]);
    let first = client.get(1, queue, true).expect("a message");
    assert_eq!((first.text(), first.redelivered), ("b", true));
    assert_eq!(client.drain(1, queue), ["d", "c", "a"]);
}

#[test]
fn what_a_consumer_has_is_not_called_back_for_more_urgent_ones() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(3)]);
    client.qos(1, 2, false);
    client.consume(1, queue, false);
    fill(
        &mut client,
        queue,
        &[(0, "a"), (0, "b"), (0, "c"), (3, "d"), (1, "e")],
    );
    assert_eq!(client.texts(1, 2), ["a", "b"]);
    client.ack(1, 2, true);
    assert_eq!(client.texts(1, 2), ["d", "e"]);
    client.ack(1, 4, true);
    assert_eq!(client.texts(1, 1), ["c"]);
}

#[test]
fn purge_and_delete_count_all_levels() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(3)]);
    let messages = [(0, "a"), (3, "b"), (1, "c")];
    fill(&mut client, queue, &messages);
    let purge = QueuePurge {
        queue,
        ..QueuePurge::default()
    };
    matched!(client.call(1, &purge), Method::QueuePurgeOk(ok) => assert_eq!(ok.message_count, 3));
    assert!(client.get(1, queue, true).is_none());
    fill(&mut client, queue, &messages);
    assert_eq!(client.delete_queue(1, queue), 3);
}

#[test]
fn a_full_queue_drops_what_would_be_served_next() {
    // As RabbitMQ documents: the head goes, which is the most urgent.
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    let limits = [max_priority(3), ("x-max-length", FieldValue::I32(3))];
    let queue = client.queue_with(1, &[&dead_letters_to(dead)[..], &limits].concat());
    fill(
        &mut client,
        queue,
        &[(3, "a"), (1, "b"), (1, "c"), (2, "d"), (3, "e"), (0, "f")],
    );
    client.await_ready(dead, 3);
    assert_eq!(client.drain(1, dead), ["a", "e", "d"]);
    assert_eq!(client.drain(1, queue), ["b", "c", "f"]);
}

#[test]
fn a_queue_full_of_octets_drops_what_would_be_served_next() {
    let mut client = Client::with_channel();
    let limits = [max_priority(3), ("x-max-length-bytes", FieldValue::I32(6))];
    let queue = client.queue_with(1, &limits);
    fill(
        &mut client,
        queue,
        &[(3, "aa"), (1, "bb"), (2, "cc"), (3, "ddd")],
    );
    assert_eq!(client.drain(1, queue), ["cc", "bb"]);
}

#[test]
fn a_full_queue_that_refuses_does_so_whatever_the_priority() {
    let mut client = Client::confirming();
    let queue = client.queue_with(
        1,
        &[
            max_priority(3),
            ("x-max-length", FieldValue::I32(1)),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    client.publish_properties(1, "", queue, &urgent(0), "a");
    matched!(client.next_method(1), Method::BasicAck(_) => ());
    client.publish_properties(1, "", queue, &urgent(3), "b");
    matched!(client.next_method(1), Method::BasicNack(_) => ());
    assert_eq!(client.drain(1, queue), ["a"]);
}

fn perishable(priority: u8) -> Properties {
    Properties {
        priority: Some(priority),
        ..expiring("50")
    }
}

#[test]
fn the_most_urgent_expires_in_its_time() {
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    let queue = client.queue_with(
        1,
        &[&dead_letters_to(dead)[..], &[max_priority(3)]].concat(),
    );
    client.put(queue, &perishable(3), "c");
    client.put(queue, &perishable(2), "d");
    fill(&mut client, queue, &[(1, "a"), (0, "b")]);
    client.await_ready(queue, 2);
    client.await_ready(dead, 2);
    for (text, priority) in [("c", 3), ("d", 2)] {
        let delivery = client.await_message(1, dead);
        let properties = &delivery.content.properties;
        assert_eq!(
            (delivery.text(), properties.priority),
            (text, Some(priority))
        );
        let mut due = death(1, "expired", queue, "", &[queue]);
        due.insert("original-expiration", "50");
        assert_eq!(deaths(&delivery), [sorted(&due)]);
    }
    assert_eq!(client.drain(1, queue), ["a", "b"]);
}

#[test]
fn messages_expire_in_every_level() {
    leveret_only!("RabbitMQ does not look behind the head");
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_priority(3)]);
    fill(&mut client, queue, &[(2, "a"), (1, "b")]);
    for level in [0, 1, 2, 3] {
        client.put(queue, &perishable(level), "gone soon");
    }
    client.await_ready(queue, 2);
    assert_eq!(client.drain(1, queue), ["a", "b"]);
}

#[test]
fn a_queues_time_to_live_holds_for_every_level() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(
        1,
        &[max_priority(3), ("x-message-ttl", FieldValue::I32(50))],
    );
    fill(&mut client, queue, &[(0, "a"), (3, "b"), (1, "c")]);
    pass(150);
    assert!(client.get(1, queue, true).is_none());
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn the_most_is_an_integer_from_0_to_255() {
    let mut client = Client::with_channel();
    for (value, why) in [
        (FieldValue::I32(-1), "{value_negative,-1}"),
        (FieldValue::I32(256), "{max_value_exceeded,256}"),
        (
            FieldValue::I64(i64::MAX),
            "{max_value_exceeded,9223372036854775807}",
        ),
        (FieldValue::from("10"), "\"expected integer, got longstr\""),
        (FieldValue::F64(10.0), "\"expected integer, got double\""),
        (FieldValue::Bool(true), "\"expected integer, got bool\""),
        (FieldValue::Void, "\"expected integer, got void\""),
    ] {
        client.argument_refused(&[("x-max-priority", value)], "x-max-priority", why);
    }
    for value in [FieldValue::I8(0), FieldValue::U8(255), FieldValue::I64(255)] {
        client.queue_with(1, &[("x-max-priority", value)]);
    }
}

#[test]
fn a_queue_declared_again_with_another_most_is_406() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-max-priority", FieldValue::I32(5))]);
    client.argument_differs(queue, &[max_priority(6)], "x-max-priority", "'6'", "'5'");
    let five = "the value '5' of type 'signedint'";
    client.argument_differs(queue, &[], "x-max-priority", "none", five);
    let plain = client.temp_queue(1);
    let five = [("x-max-priority", FieldValue::U8(5))];
    let received = "the value '5' of type 'unsignedbyte'";
    client.argument_differs(plain, &five, "x-max-priority", received, "none");
}
