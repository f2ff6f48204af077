//! Consumers: started, served in turn, limited, cancelled (WIRE.md section 6).

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method};

use crate::support::broker::{leak, unique};
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::matched;

fn consume(queue: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue,
        ..BasicConsume::default()
    }
}

fn priority(value: i64) -> FieldTable {
    [("x-priority", FieldValue::I64(value))]
        .into_iter()
        .collect()
}

#[test]
fn consume_ok_precedes_the_first_delivery() {
    let mut client = Client::with_channel();
    for _ in 0..20 {
        let queue = client.temp_queue(1);
        client.fill(queue, &["waiting"]);
        let tag = matched!(client.call(1, &consume(queue)), Method::BasicConsumeOk(ok) => ok.consumer_tag);
        let delivery = client.delivery(1);
        assert_eq!(
            (
                delivery.consumer_tag,
                delivery.exchange,
                delivery.routing_key
            ),
            (tag, "", queue)
        );
    }
}

#[test]
fn the_server_chooses_a_tag_if_the_client_does_not() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let first = client.consume(1, queue, true);
    let second = client.consume(1, queue, true);
    assert_ne!(first, second);
    assert!(
        first.starts_with("amq.ctag-") && second.starts_with("amq.ctag-"),
        "{first}"
    );
    let own = BasicConsume {
        consumer_tag: "mine",
        ..consume(queue)
    };
    assert_eq!(client.consume_with(1, &own), "mine");
}

#[test]
fn a_tag_used_twice_on_a_channel_is_530() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.open_channel(2);
    let tagged = BasicConsume {
        consumer_tag: "t",
        ..consume(queue)
    };
    client.consume_with(1, &tagged);
    client.consume_with(2, &tagged);
    client.fatal(
        1,
        &tagged,
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 't'",
    );
}

#[test]
fn delivery_tags_count_deliveries_and_gets_of_the_channel() {
    let mut client = Client::with_channel();
    let (queue, other) = (client.temp_queue(1), client.temp_queue(1));
    client.fill(queue, &["1", "2"]);
    client.fill(other, &["3", "4"]);
    client.consume(1, queue, true);
    assert_eq!([client.delivery(1).tag, client.delivery(1).tag], [1, 2]);
    assert_eq!(client.get(1, other, true).expect("a message").tag, 3);
    assert_eq!(client.get(1, other, false).expect("a message").tag, 4);
    client.open_channel(2);
    client.fill(other, &["5"]);
    assert_eq!(client.get(2, other, true).expect("a message").tag, 1);
}

#[test]
fn consumers_are_served_round_robin() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    for channel in [2, 3, 4] {
        client.open_channel(channel);
        client.consume(channel, queue, true);
    }
    client.fill(queue, &["a", "b", "c", "d", "e", "f"]);
    let mut shares: Vec<_> = [2, 3, 4].map(|channel| client.texts(channel, 2)).into();
    shares.sort();
    assert_eq!(shares, [["a", "d"], ["b", "e"], ["c", "f"]]);
}

#[test]
fn consumers_of_several_connections_share_a_queue() {
    let mut first = Client::with_channel();
    let mut second = Client::with_channel();
    let queue = first.shared_queue(1);
    first.consume(1, queue, true);
    second.consume(1, queue, true);
    first.fill(queue, &["a", "b", "c", "d"]);
    assert_eq!(first.texts(1, 2), ["a", "c"]);
    assert_eq!(second.texts(1, 2), ["b", "d"]);
}

#[test]
fn prefetch_holds_deliveries_back_until_something_is_settled() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c", "d"]);
    client.qos(1, 2, false);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 2), ["a", "b"]);
    assert_eq!(client.look_up(queue), Some((2, 1)));
    client.expect_nothing(1);
    client.ack(1, 1, false);
    assert_eq!(client.texts(1, 1), ["c"]);
    client.nack(1, 2, false, false);
    assert_eq!(client.texts(1, 1), ["d"]);
}

#[test]
fn prefetch_holds_for_later_consumers_each_its_own() {
    let mut client = Client::with_channel();
    let (early, late, later) = (
        client.temp_queue(1),
        client.temp_queue(1),
        client.temp_queue(1),
    );
    for queue in [early, late, later] {
        client.fill(queue, &["a", "b", "c"]);
    }
    client.consume(1, early, false);
    assert_eq!(client.texts(1, 3), ["a", "b", "c"]);
    client.qos(1, 1, false);
    client.consume(1, late, false);
    client.consume(1, later, false);
    assert_eq!(client.texts(1, 2), ["a", "a"]);
    assert_eq!(
        (client.look_up(late), client.look_up(later)),
        (Some((2, 1)), Some((2, 1)))
    );
    client.fill(early, &["d"]);
    assert_eq!(
        client.texts(1, 1),
        ["d"],
        "the earlier consumer has no limit"
    );
}

#[test]
fn a_global_prefetch_is_shared_by_the_channels_consumers() {
    let mut client = Client::with_channel();
    let (first, second) = (client.temp_queue(1), client.temp_queue(1));
    for queue in [first, second] {
        client.fill(queue, &["a", "b", "c"]);
    }
    client.qos(1, 2, true);
    client.consume(1, first, false);
    assert_eq!(client.texts(1, 2), ["a", "b"]);
    client.consume(1, second, false);
    assert_eq!(client.look_up(second), Some((3, 1)));
    client.expect_nothing(1);
    client.ack(1, 2, true);
    let taken = client.texts(1, 2);
    assert!(
        taken
            .iter()
            .all(|text| ["a", "b", "c"].contains(&text.as_str())),
        "{taken:?}"
    );
    let left = [first, second].map(|queue| client.look_up(queue).expect("a queue").0);
    assert_eq!(left[0] + left[1], 2, "{left:?}");
    client.expect_nothing(1);
}

#[test]
fn a_global_prefetch_may_be_changed_at_run_time() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c", "d", "e", "f"]);
    client.qos(1, 1, true);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 1), ["a"]);
    client.qos(1, 3, true);
    assert_eq!(client.texts(1, 2), ["b", "c"]);
    client.qos(1, 1, true);
    client.ack(1, 1, false);
    client.ack(1, 2, false);
    client.sync(1);
    assert_eq!(
        client.look_up(queue),
        Some((3, 1)),
        "one is still out, which is the limit"
    );
    client.qos(1, 0, true);
    assert_eq!(client.texts(1, 3), ["d", "e", "f"]);
}

#[test]
fn both_kinds_of_prefetch_hold_at_once() {
    let mut client = Client::with_channel();
    let (first, second) = (client.temp_queue(1), client.temp_queue(1));
    for queue in [first, second] {
        client.fill(queue, &["a", "b", "c"]);
    }
    client.qos(1, 2, false);
    client.qos(1, 3, true);
    client.consume(1, first, false);
    assert_eq!(client.texts(1, 2), ["a", "b"]);
    client.consume(1, second, false);
    assert_eq!(client.texts(1, 1), ["a"]);
    assert_eq!(
        (client.look_up(first), client.look_up(second)),
        (Some((1, 1)), Some((2, 1)))
    );
    client.expect_nothing(1);
}

#[test]
fn prefetch_does_not_hold_consumers_without_acks() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c"]);
    client.qos(1, 1, false);
    client.consume(1, queue, true);
    assert_eq!(client.texts(1, 3), ["a", "b", "c"]);
}

#[test]
fn a_consumer_without_credit_is_passed_over() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.qos(1, 1, false);
    client.consume(1, queue, false);
    client.open_channel(2);
    client.consume(2, queue, true);
    client.fill(queue, &["a", "b", "c", "d"]);
    assert_eq!(client.texts(1, 1), ["a"]);
    assert_eq!(client.texts(2, 3), ["b", "c", "d"]);
}

#[test]
fn a_prefetch_by_octets_is_540() {
    let client = Client::with_channel();
    let qos = BasicQos {
        prefetch_size: 1,
        ..BasicQos::default()
    };
    client.fatal(1, &qos, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)");
}

#[test]
fn a_consumer_of_higher_priority_is_served_first_while_it_has_credit() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    for (channel, arguments) in [(2, priority(-1)), (3, FieldTable::new()), (4, priority(10))] {
        client.open_channel(channel);
        client.qos(channel, 2, false);
        client.consume_with(
            channel,
            &BasicConsume {
                arguments,
                ..consume(queue)
            },
        );
    }
    client.fill(queue, &["a", "b", "c", "d", "e"]);
    assert_eq!(client.texts(4, 2), ["a", "b"]);
    assert_eq!(client.texts(3, 2), ["c", "d"]);
    assert_eq!(client.texts(2, 1), ["e"]);
}

#[test]
fn a_priority_that_is_no_integer_is_406() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let arguments = [("x-priority", "high")].into_iter().collect();
    client.send(
        1,
        &BasicConsume {
            arguments,
            ..consume(queue)
        },
    );
    client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - invalid arg 'x-priority' for *",
    );
}

#[test]
fn an_exclusive_consumer_keeps_others_out() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let text = leak(format!(
        "ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    ));
    let exclusive = BasicConsume {
        exclusive: true,
        ..consume(queue)
    };
    let tag = client.consume_with(1, &exclusive);
    client.open_channel(2);
    client.refused(2, &consume(queue), 403, text);
    client.refused(2, &exclusive, 403, text);
    assert!(client.get(2, queue, true).is_none(), "a get is no consumer");
    client.cancel(1, tag);
    client.consume_with(2, &consume(queue));
    client.refused(1, &exclusive, 403, text);
}

#[test]
fn an_exclusive_consumer_goes_with_its_channel_or_connection() {
    let mut client = Client::with_channel();
    let mut owner = Client::with_channel();
    owner.open_channel(2);
    let queue = unique("left");
    client.declare(
        1,
        &QueueDeclare {
            queue,
            ..QueueDeclare::default()
        },
    );
    let exclusive = BasicConsume {
        exclusive: true,
        ..consume(queue)
    };
    let text = leak(format!(
        "ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    ));
    for channel in [2, 1] {
        owner.consume_with(channel, &exclusive);
        client.refused(1, &consume(queue), 403, text);
        if channel == 2 {
            owner.close_channel(channel);
        }
    }
    owner.drop_socket();
    client.await_queue(queue, |found| found == Some((0, 0)));
    client.consume_with(1, &exclusive);
    client.delete_queue(1, queue);
}

#[test]
fn no_local_has_no_effect() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.consume_with(
        1,
        &BasicConsume {
            no_local: true,
            no_ack: true,
            ..consume(queue)
        },
    );
    client.publish(1, "", queue, "my own");
    assert_eq!(client.delivery(1).text(), "my own");
}

#[test]
fn cancelling_an_unknown_tag_is_fine() {
    let mut client = Client::with_channel();
    client.cancel(1, "never seen");
}

#[test]
fn after_cancel_nothing_is_delivered_and_the_tag_is_free() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let tagged = BasicConsume {
        consumer_tag: "t",
        no_ack: true,
        ..consume(queue)
    };
    for body in ["a", "b", "c"] {
        client.consume_with(1, &tagged);
        client.cancel(1, "t");
        client.fill(queue, &[body]);
        assert_eq!(client.drain(1, queue), [body]);
    }
}

#[test]
fn what_a_cancelled_consumer_has_stays_out_until_it_is_settled() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b"]);
    let tag = client.consume(1, queue, false);
    assert_eq!(client.texts(1, 2), ["a", "b"]);
    client.cancel(1, tag);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    client.ack(1, 1, false);
    client.nack(1, 2, false, true);
    client.await_ready(queue, 1);
    assert_eq!(client.drain(1, queue), ["b"]);
}

#[test]
fn a_consumer_is_told_when_its_queue_is_deleted() {
    let mut owner = Client::with_channel();
    let mut client = Client::with_channel();
    let queue = owner.shared_queue(1);
    let tag = client.consume(1, queue, true);
    owner.delete_queue(1, queue);
    matched!(client.next_method(1), Method::BasicCancel(cancel) => {
        assert_eq!((cancel.consumer_tag, cancel.nowait), (tag, true));
    });
    // The channel lives on, and the tag is free.
    let queue = client.temp_queue(1);
    client.consume_with(
        1,
        &BasicConsume {
            consumer_tag: tag,
            ..consume(queue)
        },
    );
}

#[test]
fn a_consumer_that_cannot_hear_it_is_not_told() {
    let mut owner = Client::with_channel();
    let mut client = Client::connect_with(&Login {
        capabilities: &[],
        ..Login::default()
    });
    client.open_channel(1);
    let queue = owner.shared_queue(1);
    client.consume(1, queue, true);
    owner.delete_queue(1, queue);
    assert_eq!(client.look_up(queue), None);
    client.sync(1);
    client.expect_nothing(1);
}

#[test]
fn consumers_that_come_and_go_with_one_tag_miss_nothing() {
    // RELIABILITY.md, bug museum 34 and 32: churn with a fixed tag, and a
    // requeue beside a cancel.
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let tagged = BasicConsume {
        consumer_tag: "fixed",
        ..consume(queue)
    };
    client.fill(queue, &["a", "b", "c"]);
    for _ in 0..100 {
        client.consume_with(1, &tagged);
        assert_eq!(client.texts(1, 3), ["a", "b", "c"]);
        client.nack(1, 0, true, true);
        client.cancel(1, "fixed");
        // What went out again before the cancel is still out.
        client.nack(1, 0, true, true);
    }
    client.await_ready(queue, 3);
    assert_eq!(client.drain(1, queue), ["a", "b", "c"]);
}
