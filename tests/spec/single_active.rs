//! Queues that serve one consumer at a time, and the next when it goes.

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Method};

use crate::support::broker::{leak, unique};
use crate::support::client::Client;
use crate::support::features::{table, urgent};
use crate::support::matched;

fn single_active() -> (&'static str, FieldValue) {
    ("x-single-active-consumer", true.into())
}

/// A client with channels 1 to 4 and a queue with one active consumer.
fn client_and_queue() -> (Client, &'static str) {
    let mut client = Client::with_channel();
    for channel in 2..=4 {
        client.open_channel(channel);
    }
    let queue = client.queue_with(1, &[single_active()]);
    (client, queue)
}

/// A consumer of that priority on that channel.
#[track_caller]
fn consume_with_priority(client: &mut Client, channel: u16, queue: &str, priority: i32) {
    let consume = BasicConsume {
        queue,
        no_ack: true,
        arguments: table(&[("x-priority", FieldValue::I32(priority))]),
        ..BasicConsume::default()
    };
    client.consume_with(channel, &consume);
}

/// Asserts that nothing has been delivered on those channels.
#[track_caller]
fn silent(client: &mut Client, channels: &[u16]) {
    for channel in channels {
        client.sync(*channel);
        client.expect_nothing(*channel);
    }
}

#[test]
fn only_the_first_consumer_is_served() {
    let (mut client, queue) = client_and_queue();
    for channel in 2..=4 {
        client.consume(channel, queue, true);
    }
    client.fill(queue, &["a", "b", "c", "d"]);
    assert_eq!(client.texts(2, 4), ["a", "b", "c", "d"]);
    silent(&mut client, &[3, 4]);
    assert_eq!(client.look_up(queue), Some((0, 3)), "all are counted");
}

#[test]
fn what_waits_goes_to_the_first_that_comes() {
    let (mut client, queue) = client_and_queue();
    client.fill(queue, &["a", "b"]);
    client.consume(2, queue, true);
    client.consume(3, queue, true);
    assert_eq!(client.texts(2, 2), ["a", "b"]);
    silent(&mut client, &[3]);
}

#[test]
fn others_wait_even_if_the_active_one_takes_no_more() {
    let (mut client, queue) = client_and_queue();
    client.qos(2, 1, false);
    client.consume(2, queue, false);
    client.consume(3, queue, true);
    client.fill(queue, &["a", "b"]);
    let first = client.delivery(2);
    assert_eq!(first.text(), "a");
    silent(&mut client, &[2, 3]);
    assert_eq!(client.look_up(queue), Some((1, 2)));
    client.ack(2, first.tag, false);
    assert_eq!(client.delivery(2).text(), "b");
}

#[test]
fn others_wait_on_the_same_channel_too() {
    let (mut client, queue) = client_and_queue();
    let first = client.consume(2, queue, true);
    let second = client.consume(2, queue, true);
    client.fill(queue, &["a", "b"]);
    assert_eq!(
        [
            client.delivery(2).consumer_tag,
            client.delivery(2).consumer_tag
        ],
        [first; 2]
    );
    client.cancel(2, first);
    client.fill(queue, &["c"]);
    assert_eq!(client.delivery(2).consumer_tag, second);
}

#[test]
fn after_a_cancel_the_next_in_order_of_coming_is_served() {
    let (mut client, queue) = client_and_queue();
    let tags = [2, 3, 4].map(|channel| client.consume(channel, queue, true));
    for (channel, tag) in [(2, tags[0]), (3, tags[1])] {
        client.fill(queue, &["x"]);
        assert_eq!(client.delivery(channel).text(), "x");
        client.cancel(channel, tag);
    }
    client.fill(queue, &["x"]);
    assert_eq!(client.delivery(4).text(), "x");
    silent(&mut client, &[2, 3]);
}

#[test]
fn a_waiting_consumer_that_goes_changes_nothing() {
    let (mut client, queue) = client_and_queue();
    let [_, waiting, _] = [2, 3, 4].map(|channel| client.consume(channel, queue, true));
    client.cancel(3, waiting);
    client.fill(queue, &["a"]);
    assert_eq!(client.delivery(2).text(), "a");
    client.close_channel(2);
    client.fill(queue, &["b"]);
    assert_eq!(client.delivery(4).text(), "b");
}

#[test]
fn a_consumer_that_comes_back_is_last() {
    let (mut client, queue) = client_and_queue();
    let [first, second, _] = [2, 3, 4].map(|channel| client.consume(channel, queue, true));
    client.cancel(2, first);
    client.consume(2, queue, true);
    client.fill(queue, &["a"]);
    assert_eq!(client.delivery(3).text(), "a");
    client.cancel(3, second);
    client.fill(queue, &["b"]);
    assert_eq!(client.delivery(4).text(), "b");
    client.close_channel(4);
    client.fill(queue, &["c"]);
    assert_eq!(client.delivery(2).text(), "c");
}

#[test]
fn a_closed_channel_hands_over_what_it_had_not_settled() {
    let (mut client, queue) = client_and_queue();
    client.consume(2, queue, false);
    client.consume(3, queue, true);
    client.fill(queue, &["a", "b", "c"]);
    assert_eq!(client.texts(2, 3), ["a", "b", "c"]);
    client.ack(2, 1, false);
    client.close_channel(2);
    for text in ["b", "c"] {
        let delivery = client.delivery(3);
        assert_eq!((delivery.text(), delivery.redelivered), (text, true));
    }
}

#[test]
fn what_a_closed_channel_held_comes_before_what_waited_behind_it() {
    let (mut client, queue) = client_and_queue();
    client.qos(2, 2, false);
    client.consume(2, queue, false);
    client.consume(3, queue, true);
    client.fill(queue, &["a", "b", "c", "d"]);
    assert_eq!(client.texts(2, 2), ["a", "b"]);
    client.close_channel(2);
    let taken = [(); 4].map(|()| client.delivery(3));
    let taken = taken
        .each_ref()
        .map(|delivery| (delivery.text(), delivery.redelivered));
    assert_eq!(
        taken,
        [("a", true), ("b", true), ("c", false), ("d", false)]
    );
}

#[test]
fn a_lost_connection_hands_over_to_another() {
    let mut client = Client::with_channel();
    let queue = unique("shared");
    let declare = QueueDeclare {
        queue,
        auto_delete: true,
        arguments: table(&[single_active()]),
        ..QueueDeclare::default()
    };
    client.declare(1, &declare);
    let mut others = [(); 3].map(|()| Client::with_channel());
    for other in &mut others {
        other.consume(1, queue, false);
    }
    client.consume(1, queue, false);
    client.fill(queue, &["a", "b"]);
    for mut other in others {
        assert_eq!(other.texts(1, 2), ["a", "b"]);
        other.drop_socket();
    }
    assert_eq!(client.texts(1, 2), ["a", "b"]);
}

#[test]
fn the_next_is_served_while_the_cancelled_one_still_holds_messages() {
    let (mut client, queue) = client_and_queue();
    let first = client.consume(2, queue, false);
    client.consume(3, queue, false);
    client.fill(queue, &["a", "b"]);
    assert_eq!(client.texts(2, 2), ["a", "b"]);
    client.cancel(2, first);
    client.fill(queue, &["c"]);
    assert_eq!(client.delivery(3).text(), "c");
    client.ack(2, 1, false);
    client.nack(2, 2, false, true);
    let back = client.delivery(3);
    assert_eq!((back.text(), back.redelivered), ("b", true));
}

#[test]
fn a_requeued_message_goes_to_the_active_one_again() {
    let (mut client, queue) = client_and_queue();
    client.consume(2, queue, false);
    client.consume(3, queue, false);
    client.fill(queue, &["a"]);
    for redelivered in [false, true, true] {
        let delivery = client.delivery(2);
        assert_eq!((delivery.text(), delivery.redelivered), ("a", redelivered));
        client.nack(2, delivery.tag, false, true);
    }
    silent(&mut client, &[3]);
}

#[test]
fn a_get_is_served_whoever_is_active() {
    let (mut client, queue) = client_and_queue();
    client.qos(2, 1, false);
    client.consume(2, queue, false);
    client.consume(3, queue, false);
    client.fill(queue, &["a", "b", "c"]);
    assert_eq!(client.delivery(2).text(), "a");
    assert_eq!(client.get(3, queue, true).expect("a message").text(), "b");
    assert_eq!(client.get(1, queue, true).expect("a message").text(), "c");
}

#[test]
fn a_consumer_of_higher_priority_does_not_push_the_active_one_out() {
    let (mut client, queue) = client_and_queue();
    consume_with_priority(&mut client, 2, queue, 1);
    consume_with_priority(&mut client, 3, queue, 5);
    client.fill(queue, &["a", "b"]);
    assert_eq!(client.texts(2, 2), ["a", "b"]);
    silent(&mut client, &[3]);
}

#[test]
fn of_those_that_wait_the_highest_priority_is_next() {
    let (mut client, queue) = client_and_queue();
    client.open_channel(5);
    for (channel, priority) in [(2, 1), (3, 0), (4, 7), (5, 7)] {
        consume_with_priority(&mut client, channel, queue, priority);
    }
    for channel in [2, 4, 5, 3] {
        client.fill(queue, &["x"]);
        assert_eq!(client.delivery(channel).text(), "x");
        client.close_channel(channel);
    }
}

#[test]
fn no_consumer_can_be_exclusive() {
    let (mut client, queue) = client_and_queue();
    let exclusive = BasicConsume {
        queue,
        exclusive: true,
        ..BasicConsume::default()
    };
    let text = leak(format!(
        "ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    ));
    client.refused(2, &exclusive, 403, text);
    client.consume(3, queue, true);
    client.refused(2, &exclusive, 403, text);
    client.fill(queue, &["a"]);
    assert_eq!(client.delivery(3).text(), "a");
}

#[test]
fn an_auto_delete_queue_goes_with_the_last_of_all_its_consumers() {
    let (mut client, _) = client_and_queue();
    let queue = unique("shared");
    let declare = QueueDeclare {
        queue,
        auto_delete: true,
        arguments: table(&[single_active()]),
        ..QueueDeclare::default()
    };
    client.declare(1, &declare);
    client.consume(2, queue, true);
    client.consume(3, queue, true);
    client.close_channel(2);
    assert_eq!(client.look_up(queue), Some((0, 1)));
    client.close_channel(3);
    client.await_gone(queue);
}

#[test]
fn all_consumers_are_told_when_the_queue_is_deleted() {
    let (mut client, queue) = client_and_queue();
    let tags = [2, 3].map(|channel| client.consume(channel, queue, true));
    client.delete_queue(1, queue);
    for (channel, tag) in [(2, tags[0]), (3, tags[1])] {
        matched!(client.next_method(channel), Method::BasicCancel(cancel) => {
            assert_eq!(cancel.consumer_tag, tag);
        });
    }
}

#[test]
fn the_active_one_gets_the_most_urgent_first() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(
        1,
        &[single_active(), ("x-max-priority", FieldValue::I32(5))],
    );
    for (priority, body) in [(1, "a"), (5, "b"), (3, "c")] {
        client.put(queue, &urgent(priority), body);
    }
    for channel in [2, 3] {
        client.open_channel(channel);
        client.consume(channel, queue, true);
    }
    assert_eq!(client.texts(2, 3), ["b", "c", "a"]);
    silent(&mut client, &[3]);
}

#[test]
fn a_queue_that_says_false_serves_all_in_turn() {
    let mut client = Client::with_channel();
    let queue = client.queue_with(1, &[("x-single-active-consumer", false.into())]);
    for channel in [2, 3] {
        client.open_channel(channel);
        client.consume(channel, queue, true);
    }
    client.fill(queue, &["a", "b", "c", "d"]);
    assert_eq!(client.texts(2, 2), ["a", "c"]);
    assert_eq!(client.texts(3, 2), ["b", "d"]);
}

#[test]
fn the_argument_is_a_boolean() {
    let mut client = Client::with_channel();
    let name = "x-single-active-consumer";
    for (value, why) in [
        (FieldValue::I32(1), "{unacceptable_type,signedint}"),
        (FieldValue::from("true"), "{unacceptable_type,longstr}"),
        (FieldValue::Void, "{unacceptable_type,void}"),
    ] {
        client.argument_refused(&[(name, value)], name, why);
    }
    let queue = client.queue_with(1, &[single_active()]);
    client.argument_differs(queue, &[(name, false.into())], name, "'false'", "'true'");
    let current = "the value 'true' of type 'bool'";
    client.argument_differs(queue, &[], name, "none", current);
    let explicit = client.queue_with(1, &[(name, false.into())]);
    let current = "the value 'false' of type 'bool'";
    client.argument_differs(explicit, &[], name, "none", current);
}
