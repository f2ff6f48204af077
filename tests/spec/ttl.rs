//! Messages that live for a time only (WIRE.md section 3), and the values of
//! both times that a queue may have.

use std::time::{Duration, Instant};

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Properties};

use crate::dead_letters::pair;
use crate::support::broker::leak;
use crate::support::client::Client;
use crate::support::features::{dead_letters_to, expiring, pass, table};
use crate::support::{leveret_only, matched};

/// Ten years, the longest time that RabbitMQ takes.
const LONGEST: i64 = 315_360_000_000;

fn ttl(milliseconds: i64) -> (&'static str, FieldValue) {
    ("x-message-ttl", FieldValue::I64(milliseconds))
}

fn expires(milliseconds: i64) -> (&'static str, FieldValue) {
    ("x-expires", FieldValue::I64(milliseconds))
}

/// Waits until the queue has nothing ready, which must not be before `least`
/// has passed since `start`, nor after `most`.
#[track_caller]
fn emptied_between(client: &mut Client, queue: &str, start: Instant, least: u64, most: u64) {
    client.await_ready(queue, 0);
    let took = start.elapsed();
    let bounds = Duration::from_millis(least)..Duration::from_millis(most);
    assert!(bounds.contains(&took), "{took:?}");
}

#[test]
fn messages_live_as_long_as_their_queue_says() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[ttl(500)]);
    let start = Instant::now();
    client.fill(queue, &["a", "b", "c"]);
    assert_eq!(client.look_up(queue), Some((3, 0)));
    emptied_between(&mut client, queue, start, 500, 4_000);
    assert!(client.get(1, queue, true).is_none());
}

#[test]
fn a_message_lives_as_long_as_it_says_itself() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let start = Instant::now();
    client.put(queue, &expiring("200"), "short-lived");
    emptied_between(&mut client, queue, start, 200, 3_000);
}

#[test]
fn the_smaller_of_both_times_holds() {
    let mut client = Client::with_channel();
    for (queues, own) in [(300, "60000"), (60_000, "300")] {
        let queue = client.queue_with(1, &[ttl(queues)]);
        let start = Instant::now();
        client.put(queue, &expiring(own), "x");
        emptied_between(&mut client, queue, start, 300, 3_000);
    }
}

#[test]
fn each_message_has_its_own_time() {
    let (mut client, queue, dead) = pair(&[ttl(1_000)]);
    client.consume(1, dead, true);
    client.fill(queue, &["early"]);
    pass(700);
    let start = Instant::now();
    client.fill(queue, &["late"]);
    assert_eq!(client.delivery(1).text(), "early");
    assert!(start.elapsed() < Duration::from_millis(1_000));
    assert_eq!(client.delivery(1).text(), "late");
    assert!(start.elapsed() >= Duration::from_millis(1_000));
}

#[test]
fn a_message_keeps_its_expiration_property_while_it_lives() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[ttl(60_000)]);
    for text in ["60000", "+60000", "060000"] {
        client.put(queue, &expiring(text), "x");
        let delivery = client.get(1, queue, true).expect("a message");
        assert_eq!(delivery.content.properties, expiring(text));
    }
    client.fill(queue, &["without"]);
    let delivery = client.get(1, queue, true).expect("a message");
    assert_eq!(delivery.content.properties, Properties::default());
}

#[test]
fn the_longest_times_are_not_over_at_once() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[ttl(LONGEST), expires(LONGEST)]);
    client.put(queue, &expiring("315360000000"), "a");
    client.fill(queue, &["b"]);
    pass(50);
    assert_eq!(client.drain(1, queue), ["a", "b"]);
}

#[test]
fn a_ttl_of_0_keeps_nothing_for_later() {
    let mut client = Client::with_channel();
    let (by_queue, by_message) = (client.queue_with(1, &[ttl(0)]), client.temp_queue(1));
    client.fill(by_queue, &["x"]);
    client.put(by_message, &expiring("0"), "x");
    for queue in [by_queue, by_message] {
        assert!(client.get(1, queue, true).is_none());
        assert_eq!(client.look_up(queue), Some((0, 0)));
    }
}

#[test]
fn a_ttl_of_0_is_long_enough_for_a_consumer_that_is_ready() {
    let mut client = Client::with_channel();
    let (by_queue, by_message) = (client.queue_with(1, &[ttl(0)]), client.temp_queue(1));
    client.qos(1, 1, false);
    for queue in [by_queue, by_message] {
        client.consume(1, queue, false);
        client.put(queue, &expiring("0"), "taken");
        let taken = client.delivery(1);
        assert_eq!(taken.text(), "taken");
        client.put(queue, &expiring("0"), "the consumer is busy");
        client.await_ready(queue, 0);
        client.ack(1, taken.tag, false);
        client.sync(1);
        client.expect_nothing(1);
    }
}

#[test]
fn what_a_consumer_has_does_not_expire() {
    let (mut client, queue, dead) = pair(&[ttl(400)]);
    client.fill(queue, &["held", "waits"]);
    let held = client.get(1, queue, false).expect("a message");
    assert_eq!(client.await_message(1, dead).text(), "waits");
    client.ack(1, held.tag, false);
    client.sync(1);
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

#[test]
fn a_requeued_message_does_not_get_its_time_again() {
    let (mut client, queue, dead) = pair(&[ttl(400)]);
    client.fill(queue, &["held", "waits"]);
    let held = client.get(1, queue, false).expect("a message");
    assert_eq!(client.await_message(1, dead).text(), "waits");
    client.nack(1, held.tag, false, true);
    assert!(client.get(1, queue, true).is_none(), "its time is over");
    assert_eq!(client.await_message(1, dead).text(), "held");
}

#[test]
fn a_message_requeued_in_time_expires_when_it_would_have() {
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    let [exchange, key] = dead_letters_to(dead);
    let queue = client.queue_with(1, &[exchange, key]);
    let start = Instant::now();
    client.put(queue, &expiring("600"), "x");
    let own = Instant::now();
    let mut rounds = 0;
    while let Some(delivery) = client.get(1, queue, false) {
        pass(20);
        client.nack(1, delivery.tag, false, true);
        rounds += 1;
        assert!(own.elapsed() < Duration::from_secs(3), "it stays");
    }
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert!(rounds > 1, "it was requeued");
    assert_eq!(client.await_message(1, dead).text(), "x");
}

#[test]
fn a_get_does_not_see_what_has_expired() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[ttl(50)]);
    for _ in 0..5 {
        client.fill(queue, &["a", "b", "c"]);
        pass(150);
        assert!(client.get(1, queue, true).is_none());
    }
}

#[test]
fn a_consumer_does_not_see_what_has_expired() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[ttl(100)]);
    client.qos(1, 1, false);
    client.consume(1, queue, false);
    client.fill(queue, &["a", "b", "c"]);
    let first = client.delivery(1);
    assert_eq!(first.text(), "a");
    client.await_ready(queue, 0);
    client.ack(1, first.tag, false);
    client.fill(queue, &["d"]);
    assert_eq!(client.delivery(1).text(), "d");
}

#[test]
fn a_late_consumer_gets_what_is_still_alive() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[ttl(60_000)]);
    client.put(queue, &expiring("50"), "a");
    client.put(queue, &expiring("50"), "b");
    client.fill(queue, &["c"]);
    pass(150);
    client.consume(1, queue, true);
    assert_eq!(client.delivery(1).text(), "c");
    client.sync(1);
    client.expect_nothing(1);
}

#[test]
fn expired_messages_go_to_the_dead_letter_exchange_in_order() {
    let (mut client, queue, dead) = pair(&[ttl(200)]);
    let start = Instant::now();
    client.fill(queue, &["a", "b", "c"]);
    client.consume(1, dead, true);
    assert_eq!(client.texts(1, 3), ["a", "b", "c"]);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn the_time_of_a_message_in_a_transaction_runs_from_its_commit() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.ok(1, &TxSelect {});
    client.publish_properties(1, "", queue, &expiring("200"), "x");
    pass(250);
    let start = Instant::now();
    client.ok(1, &TxCommit {});
    emptied_between(&mut client, queue, start, 200, 3_000);
}

#[test]
fn a_message_expires_behind_one_that_lives_longer() {
    leveret_only!("RabbitMQ looks at the head of a queue only");
    let (mut client, queue, dead) = pair(&[]);
    client.fill(queue, &["for ever"]);
    client.put(queue, &expiring("60000"), "long");
    let start = Instant::now();
    client.put(queue, &expiring("200"), "short");
    client.put(queue, &expiring("300"), "middle");
    client.consume(1, dead, true);
    for (text, least) in [("short", 200), ("middle", 300)] {
        assert_eq!(client.delivery(1).text(), text);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(least), "{text}: {took:?}");
        // One hundred for the timer, the rest for a busy machine.
        assert!(
            took < Duration::from_millis(least + 1_000),
            "{text}: {took:?}"
        );
    }
    assert_eq!(client.drain(1, queue), ["for ever", "long"]);
}

#[test]
fn a_bad_expiration_is_406() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    for (expiration, why) in [
        ("", "no_integer"),
        ("soon", "no_integer"),
        (" 1", "no_integer"),
        ("-", "no_integer"),
        ("1.5", "{leftover_string,\".5\"}"),
        ("1 ", "{leftover_string,\" \"}"),
        ("10s", "{leftover_string,\"s\"}"),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ] {
        for routing_key in [queue, "nobody"] {
            client.publish_properties(1, "", routing_key, &expiring(expiration), "x");
            let text = leak(format!(
                "PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"
            ));
            let ids = client.expect_channel_close(1, 406, text);
            assert_eq!(ids, (60, 40));
            client.open_channel(1);
        }
    }
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn a_bad_expiration_is_refused_before_the_commit() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.ok(1, &TxSelect {});
    client.publish_properties(1, "", queue, &expiring("never"), "x");
    let text = "PRECONDITION_FAILED - invalid expiration 'never': no_integer";
    client.expect_channel_close(1, 406, text);
}

#[test]
fn a_time_to_live_is_an_integer_from_0_to_ten_years() {
    let mut client = Client::with_channel();
    for (value, why) in [
        (FieldValue::I32(-1), "{value_negative,-1}"),
        (
            FieldValue::I64(i64::MIN),
            "{value_negative,-9223372036854775808}",
        ),
        (
            FieldValue::I64(LONGEST + 1),
            "{value_too_large,315360000001}",
        ),
        (FieldValue::from("100"), "\"expected integer, got longstr\""),
        (FieldValue::F64(100.0), "\"expected integer, got double\""),
        (FieldValue::F32(100.0), "\"expected integer, got float\""),
        (FieldValue::Bool(true), "\"expected integer, got bool\""),
        (
            FieldValue::Timestamp(100),
            "\"expected integer, got timestamp\"",
        ),
        (
            FieldValue::Bytes(vec![1]),
            "\"expected integer, got binary\"",
        ),
        (FieldValue::Array(vec![]), "\"expected integer, got array\""),
        (FieldValue::Void, "\"expected integer, got void\""),
    ] {
        for name in ["x-message-ttl", "x-expires"] {
            client.argument_refused(&[(name, value.clone())], name, why);
        }
    }
    for value in [
        FieldValue::U8(200),
        FieldValue::I16(20_000),
        FieldValue::U16(60_000),
        FieldValue::U32(u32::MAX),
        FieldValue::I64(LONGEST),
    ] {
        let queue = client.queue_with(1, &[("x-message-ttl", value.clone()), ("x-expires", value)]);
        client.delete_queue(1, queue);
    }
}

#[test]
fn of_two_bad_times_the_queues_own_is_named() {
    let mut client = Client::with_channel();
    client.argument_refused(&[ttl(-1), expires(-1)], "x-expires", "{value_negative,-1}");
}

#[test]
fn a_queue_declared_again_with_another_time_is_406() {
    let mut client = Client::with_channel();
    for (name, other) in [
        ("x-message-ttl", "x-expires"),
        ("x-expires", "x-message-ttl"),
    ] {
        let minute = (name, FieldValue::I32(60_000));
        let queue = client.queue_with(1, std::slice::from_ref(&minute));
        let hour = (name, FieldValue::I32(3_600_000));
        client.argument_differs(
            queue,
            std::slice::from_ref(&hour),
            name,
            "'3600000'",
            "'60000'",
        );
        let current = "the value '60000' of type 'signedint'";
        client.argument_differs(queue, &[], name, "none", current);
        client.argument_differs(queue, &[(name, "x".into())], name, "'x'", "'60000'");
        let received = "the value '3600000' of type 'signedint'";
        let both = [minute, (other, FieldValue::I32(3_600_000))];
        client.argument_differs(queue, &both, other, received, "none");
    }
}

#[test]
fn times_may_be_declared_as_any_integer() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-message-ttl", FieldValue::U8(100))]);
    let again = QueueDeclare {
        queue,
        exclusive: true,
        arguments: table(&[ttl(100)]),
        ..QueueDeclare::default()
    };
    matched!(client.declare(1, &again), (_, 0, 0) => ());
}
