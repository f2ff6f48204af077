//! Queues of a limited length: what goes and what is refused when they are full.

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Method, Properties};

use crate::deaths::{death, deaths};
use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::features::{Arguments, dead_letters_to, table};
use crate::support::matched;

fn max_length(messages: i64) -> (&'static str, FieldValue) {
    ("x-max-length", messages.into())
}

fn max_bytes(octets: i64) -> (&'static str, FieldValue) {
    ("x-max-length-bytes", octets.into())
}

fn overflow(what: &'static str) -> (&'static str, FieldValue) {
    ("x-overflow", what.into())
}

/// Publishes texts to a queue and waits for their confirms: which were acked.
#[track_caller]
fn offer(client: &mut Client, queue: &str, bodies: &[&str]) -> Vec<bool> {
    client.open_channel(7);
    client.ok(7, &ConfirmSelect::default());
    for body in bodies {
        client.publish(7, "", queue, body);
    }
    let verdicts = verdicts(client, 7, bodies.len());
    client.close_channel(7);
    verdicts
}

/// The confirms of the messages 1 to `count` on that channel: which were acked.
#[track_caller]
fn verdicts(client: &mut Client, channel: u16, count: usize) -> Vec<bool> {
    let mut verdicts = vec![None; count];
    while verdicts.contains(&None) {
        let (tag, multiple, acked) = match client.next_method(channel) {
            Method::BasicAck(ack) => (ack.delivery_tag, ack.multiple, true),
            Method::BasicNack(nack) => (nack.delivery_tag, nack.multiple, false),
            other => panic!("expected a confirm, got {other:?}"),
        };
        let last = tag as usize;
        let first = if multiple { 1 } else { last };
        for verdict in &mut verdicts[first - 1..last] {
            verdict.get_or_insert(acked);
        }
    }
    verdicts.into_iter().flatten().collect()
}

#[test]
fn a_full_queue_drops_its_oldest_messages() {
    let mut client = Client::with_channel();
    for more in [vec![], vec![overflow("drop-head")]] {
        let queue = client.queue_with(1, &[&[max_length(2)], &more[..]].concat());
        assert_eq!(
            offer(&mut client, queue, &["a", "b", "c", "d"]),
            [true; 4],
            "what is dropped later was taken"
        );
        assert_eq!(client.look_up(queue), Some((2, 0)));
        assert_eq!(client.drain(1, queue), ["c", "d"]);
    }
}

#[test]
fn a_limit_in_octets_counts_the_bodies_of_what_is_ready() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_bytes(10)]);
    let heavy = Properties {
        content_type: Some("x".repeat(200)),
        headers: Some(table(&[("h", FieldValue::from("y".repeat(200).as_str()))])),
        ..Properties::default()
    };
    client.put(queue, &heavy, "12345");
    client.put(queue, &heavy, "67890");
    assert_eq!(
        client.look_up(queue),
        Some((2, 0)),
        "ten octets are allowed"
    );
    client.fill(queue, &[""]);
    assert_eq!(client.look_up(queue), Some((3, 0)), "no octet more");
    client.fill(queue, &["!"]);
    assert_eq!(client.drain(1, queue), ["67890", "", "!"]);
    client.fill(queue, &["a", "b", "123456789"]);
    assert_eq!(client.drain(1, queue), ["b", "123456789"]);
}

#[test]
fn a_message_above_the_limit_in_octets_empties_the_queue_and_goes_itself() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_bytes(10)]);
    client.fill(queue, &["a", "b", "12345678901"]);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    client.fill(queue, &["c"]);
    assert_eq!(client.drain(1, queue), ["c"]);
}

#[test]
fn both_limits_hold_at_once() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(3), max_bytes(10)]);
    client.fill(queue, &["a", "b", "c", "d"]);
    assert_eq!(client.drain(1, queue), ["b", "c", "d"]);
    client.fill(queue, &["aaaa", "bbbb", "cccc"]);
    assert_eq!(client.drain(1, queue), ["bbbb", "cccc"]);
}

#[test]
fn unsettled_messages_do_not_count() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(2)]);
    client.fill(queue, &["a", "b"]);
    for _ in 0..2 {
        client.get(1, queue, false).expect("a message");
    }
    client.fill(queue, &["c", "d"]);
    assert_eq!(client.look_up(queue), Some((2, 0)));
    client.fill(queue, &["e"]);
    assert_eq!(client.drain(1, queue), ["d", "e"]);
}

#[test]
fn a_requeue_into_a_full_queue_drops_the_head() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(2)]);
    client.fill(queue, &["a", "b"]);
    let held = client.get(1, queue, false).expect("a message");
    client.fill(queue, &["c"]);
    client.nack(1, held.tag, false, true);
    client.sync(1);
    client.await_ready(queue, 2);
    assert_eq!(client.drain(1, queue), ["b", "c"]);
}

#[test]
fn consumers_that_take_at_once_see_everything() {
    let mut client = Client::with_channel();
    let bodies: Vec<String> = (0..50).map(|at| at.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    for length in [1, 0] {
        let queue = client.queue_with(1, &[max_length(length), max_bytes(length)]);
        client.consume(1, queue, false);
        assert_eq!(offer(&mut client, queue, &bodies), [true; 50]);
        assert_eq!(client.texts(1, 50), bodies);
    }
}

#[test]
fn a_length_of_0_keeps_nothing_for_later() {
    let mut client = Client::with_channel();
    for limit in [max_length(0), max_bytes(0)] {
        let queue = client.queue_with(1, &[limit]);
        assert_eq!(offer(&mut client, queue, &["a", "b"]), [true; 2]);
        assert_eq!(client.look_up(queue), Some((0, 0)));
    }
}

#[test]
fn a_full_queue_may_refuse_what_comes() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(2), overflow("reject-publish")]);
    let acked = offer(&mut client, queue, &["a", "b", "c", "d"]);
    assert_eq!(acked, [true, true, false, false]);
    assert_eq!(client.look_up(queue), Some((2, 0)));
    assert_eq!(client.get(1, queue, true).expect("a message").text(), "a");
    assert_eq!(offer(&mut client, queue, &["e", "f"]), [true, false]);
    assert_eq!(client.drain(1, queue), ["b", "e"]);
}

#[test]
fn a_refusal_leaves_earlier_and_later_confirms_alone() {
    let mut client = Client::confirming();
    let queue = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    client.publish(1, "", queue, "a");
    client.expect_ack(1);
    client.publish(1, "", queue, "b");
    matched!(client.next_method(1), Method::BasicNack(nack) => assert_eq!(nack.delivery_tag, 2));
    assert!(client.get(1, queue, true).is_some());
    client.publish(1, "", queue, "c");
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!(ack.delivery_tag, 3));
}

#[test]
fn a_limit_in_octets_refuses_what_does_not_fit() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_bytes(10), overflow("reject-publish")]);
    assert_eq!(
        offer(&mut client, queue, &["123456", "12345", "1234", "", "1"]),
        [true, false, true, true, false]
    );
    assert_eq!(client.drain(1, queue), ["123456", "1234", ""]);
    assert_eq!(
        offer(&mut client, queue, &["12345678901", "x"]),
        [false, true]
    );
}

#[test]
fn without_confirms_what_is_refused_is_lost_without_a_word() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    for body in ["a", "b", "c"] {
        client.publish(1, "", queue, body);
    }
    client.sync(1);
    assert_eq!(client.drain(1, queue), ["a"]);
    client.expect_nothing(1);
}

#[test]
fn unsettled_messages_do_not_count_for_a_refusal() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    client.fill(queue, &["a"]);
    let held = client.get(1, queue, false).expect("a message");
    assert_eq!(offer(&mut client, queue, &["b", "c"]), [true, false]);
    // It comes back whatever the limit, and nothing goes for it.
    client.nack(1, held.tag, false, true);
    client.await_ready(queue, 2);
    assert_eq!(offer(&mut client, queue, &["d"]), [false]);
    assert_eq!(client.drain(1, queue), ["a", "b"]);
}

#[test]
fn a_consumer_makes_room_but_none_where_nothing_is_allowed() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    client.consume(1, queue, true);
    for body in ["a", "b", "c"] {
        assert_eq!(offer(&mut client, queue, &[body]), [true]);
        assert_eq!(client.delivery(1).text(), body);
    }
    for limit in [max_length(0), max_bytes(0)] {
        let queue = client.queue_with(1, &[limit, overflow("reject-publish")]);
        client.consume(1, queue, true);
        assert_eq!(offer(&mut client, queue, &["refused"]), [false]);
    }
}

#[test]
fn a_message_that_one_of_its_queues_refuses_is_nacked_and_reaches_the_others() {
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "fanout");
    let roomy = client.bound_queue(1, exchange, "");
    let full = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    client.bind(1, full, exchange, "");
    for body in ["a", "b"] {
        client.publish(1, exchange, "", body);
    }
    assert_eq!(verdicts(&mut client, 1, 2), [true, false]);
    assert_eq!(client.drain(1, full), ["a"]);
    client.await_ready(roomy, 2);
    assert_eq!(client.drain(1, roomy), ["a", "b"]);
}

#[test]
fn every_message_of_a_burst_is_acked_or_nacked_once() {
    let mut client = Client::confirming();
    let queue = client.queue_with(1, &[max_length(100), overflow("reject-publish")]);
    for at in 0..1_000 {
        client.publish(1, "", queue, &at.to_string());
    }
    let acked = verdicts(&mut client, 1, 1_000);
    let due: Vec<bool> = (0..1_000).map(|at| at < 100).collect();
    assert_eq!(acked, due);
    client.sync(1);
    client.expect_nothing(1);
    let kept: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    assert_eq!(client.drain(1, queue), kept);
}

#[test]
fn a_refused_mandatory_message_was_routed_and_does_not_come_back() {
    let mut client = Client::confirming();
    let queue = client.queue_with(1, &[max_length(0), overflow("reject-publish")]);
    let publish = BasicPublish {
        routing_key: queue,
        mandatory: true,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &Properties::default(), b"x");
    matched!(client.next_method(1), Method::BasicNack(nack) => assert_eq!(nack.delivery_tag, 1));
    client.sync(1);
    client.expect_nothing(1);
}

#[test]
fn a_transaction_that_a_full_queue_refuses_in_part_is_406() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    let other = client.temp_queue(1);
    client.ok(1, &TxSelect {});
    for (queue, body) in [(queue, "a"), (queue, "b"), (other, "c")] {
        client.publish(1, "", queue, body);
    }
    let text = "PRECONDITION_FAILED - partial tx completion";
    client.refused(1, &TxCommit {}, 406, text);
    assert_eq!(client.drain(1, queue), ["a"]);
    assert_eq!(client.drain(1, other), ["c"]);
}

#[test]
fn what_is_refused_dies_only_where_that_is_asked_for() {
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    for (kind, dies) in [("reject-publish", false), ("reject-publish-dlx", true)] {
        let limit = [max_length(1), overflow(kind)];
        let queue = client.queue_with(1, &[&dead_letters_to(dead)[..], &limit].concat());
        let acked = offer(&mut client, queue, &["a", "b"]);
        assert_eq!(acked, [true, false], "{kind}");
        assert_eq!(client.drain(1, queue), ["a"]);
        if dies {
            let delivery = client.await_message(1, dead);
            assert_eq!(delivery.text(), "b");
            assert_eq!(deaths(&delivery), [death(1, "maxlen", queue, "", &[queue])]);
        }
        assert_eq!(client.look_up(dead), Some((0, 0)), "{kind}");
    }
}

#[test]
fn reject_publish_dlx_refuses_without_an_exchange_as_well() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[max_length(1), overflow("reject-publish-dlx")]);
    assert_eq!(offer(&mut client, queue, &["a", "b"]), [true, false]);
}

#[test]
fn an_overflow_without_a_limit_does_nothing() {
    let mut client = Client::with_channel();
    for kind in ["drop-head", "reject-publish", "reject-publish-dlx"] {
        let queue = client.queue_with(1, &[overflow(kind)]);
        assert_eq!(offer(&mut client, queue, &["a", "b"]), [true; 2]);
        assert_eq!(client.drain(1, queue), ["a", "b"]);
    }
}

#[test]
fn a_full_queue_refuses_dead_letters_silently() {
    let mut client = Client::with_channel();
    let dead = client.queue_with(1, &[max_length(1), overflow("reject-publish")]);
    let queue = client.queue_with(1, &dead_letters_to(dead));
    client.fill(queue, &["a", "b"]);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 2), ["a", "b"]);
    client.nack(1, 0, true, false);
    client.await_ready(dead, 1);
    assert_eq!(client.drain(1, dead), ["a"]);
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

#[test]
fn a_limit_is_an_integer_from_0() {
    let mut client = Client::with_channel();
    for name in ["x-max-length", "x-max-length-bytes"] {
        for (value, why) in [
            (FieldValue::I32(-1), "{value_negative,-1}"),
            (FieldValue::from("10"), "\"expected integer, got longstr\""),
            (FieldValue::F64(10.0), "\"expected integer, got double\""),
            (FieldValue::Bool(true), "\"expected integer, got bool\""),
            (FieldValue::Void, "\"expected integer, got void\""),
        ] {
            client.argument_refused(&[(name, value)], name, why);
        }
        for value in [
            FieldValue::U8(1),
            FieldValue::I16(1),
            FieldValue::I64(i64::MAX),
        ] {
            let queue = client.queue_with(1, &[(name, value)]);
            client.fill(queue, &["x"]);
            assert_eq!(client.drain(1, queue), ["x"]);
        }
    }
}

#[test]
fn an_overflow_is_one_of_three_words() {
    let mut client = Client::with_channel();
    for (value, why) in [
        (FieldValue::from("drop"), "invalid_overflow"),
        (FieldValue::from(""), "invalid_overflow"),
        (FieldValue::from("Drop-Head"), "invalid_overflow"),
        (FieldValue::I32(1), "{unacceptable_type,signedint}"),
        (FieldValue::Bool(true), "{unacceptable_type,bool}"),
        (
            FieldValue::Bytes(b"drop-head".to_vec()),
            "{unacceptable_type,binary}",
        ),
    ] {
        client.argument_refused(&[("x-overflow", value)], "x-overflow", why);
    }
}

#[test]
fn a_queue_declared_again_with_another_limit_is_406() {
    let mut client = Client::with_channel();
    for (name, other) in [
        ("x-max-length", "x-max-length-bytes"),
        ("x-max-length-bytes", "x-max-length"),
    ] {
        let queue = client.queue_with(1, &[(name, FieldValue::I32(10))]);
        client.argument_differs(queue, &[(name, FieldValue::U8(11))], name, "'11'", "'10'");
        let both = [(name, FieldValue::I32(10)), (other, FieldValue::I32(10))];
        let ten = "the value '10' of type 'signedint'";
        client.argument_differs(queue, &both, other, ten, "none");
        client.argument_differs(queue, &[], name, "none", ten);
    }
    let queue = client.queue_with(1, &[overflow("drop-head")]);
    let refusing = [overflow("reject-publish")];
    client.argument_differs(
        queue,
        &refusing,
        "x-overflow",
        "'reject-publish'",
        "'drop-head'",
    );
    let current = "the value 'drop-head' of type 'longstr'";
    client.argument_differs(queue, &[], "x-overflow", "none", current);
}

#[test]
fn a_durable_queue_has_its_limits_too() {
    let mut client = Client::with_channel();
    let persistent = Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let durable = |arguments: Arguments<'_>| QueueDeclare {
        queue: unique("durable"),
        durable: true,
        arguments: table(arguments),
        ..QueueDeclare::default()
    };
    let (dropping, ..) = client.declare(1, &durable(&[max_length(2)]));
    let refusing = [max_length(2), overflow("reject-publish")];
    let (refusing, ..) = client.declare(1, &durable(&refusing));
    for (queue, acked, kept) in [
        (dropping, [true, true, true], ["b", "c"]),
        (refusing, [true, true, false], ["a", "b"]),
    ] {
        client.open_channel(2);
        client.ok(2, &ConfirmSelect::default());
        for body in ["a", "b", "c"] {
            client.publish_properties(2, "", queue, &persistent, body);
        }
        assert_eq!(verdicts(&mut client, 2, 3), acked);
        client.close_channel(2);
        assert_eq!(client.drain(1, queue), kept);
        client.delete_queue(1, queue);
    }
}
