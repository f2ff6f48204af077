//! Acks, nacks, rejects, recover, and what a lost consumer leaves (WIRE.md section 6).

use leveret_protocol::Method;
use leveret_protocol::method::*;

use crate::support::client::Client;
use crate::support::matched;

/// A channel with the texts delivered and nothing settled, tags from 1.
fn unsettled(texts: &[&str]) -> (Client, &'static str) {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, texts);
    for text in texts {
        assert_eq!(
            client.get(1, queue, false).expect("a message").text(),
            *text
        );
    }
    (client, queue)
}

/// Closes channel 1, so that what is unsettled comes back, and takes it all.
fn left_over(client: &mut Client, queue: &str) -> Vec<String> {
    client.close_channel(1);
    client.open_channel(1);
    client.drain(1, queue)
}

#[test]
fn an_ack_settles_one_delivery() {
    let (mut client, queue) = unsettled(&["a", "b", "c"]);
    client.ack(1, 2, false);
    assert_eq!(left_over(&mut client, queue), ["a", "c"]);
}

#[test]
fn a_multiple_ack_settles_all_up_to_its_tag() {
    let (mut client, queue) = unsettled(&["a", "b", "c"]);
    client.ack(1, 2, true);
    assert_eq!(left_over(&mut client, queue), ["c"]);
}

#[test]
fn a_multiple_ack_of_tag_0_settles_everything() {
    let (mut client, queue) = unsettled(&["a", "b", "c"]);
    client.ack(1, 0, true);
    client.ack(1, 0, true);
    assert_eq!(left_over(&mut client, queue), [""; 0]);
}

#[test]
fn a_multiple_nack_of_tag_0_returns_everything() {
    let (mut client, queue) = unsettled(&["a", "b", "c"]);
    client.nack(1, 0, true, true);
    client.await_ready(queue, 3);
    assert_eq!(client.drain(1, queue), ["a", "b", "c"]);
}

#[test]
fn a_multiple_ack_covers_consumers_and_gets() {
    let mut client = Client::with_channel();
    let (first, second) = (client.temp_queue(1), client.temp_queue(1));
    client.fill(first, &["a", "b"]);
    client.fill(second, &["c"]);
    client.consume(1, first, false);
    client.texts(1, 2);
    assert_eq!(client.get(1, second, false).expect("a message").tag, 3);
    client.ack(1, 3, true);
    client.close_channel(1);
    assert_eq!(
        (client.look_up(first), client.look_up(second)),
        (Some((0, 0)), Some((0, 0)))
    );
}

#[test]
fn a_tag_that_is_not_outstanding_is_406() {
    let unknown = |tag: u64| format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    for tag in [0, 2, 3, u64::MAX] {
        let (mut client, queue) = unsettled(&["a", "b"]);
        client.ack(1, 2, false);
        client.refused(
            1,
            &BasicAck {
                delivery_tag: tag,
                multiple: false,
            },
            406,
            &unknown(tag),
        );
        client.await_ready(queue, 1);
    }
    let (mut client, _) = unsettled(&["a"]);
    client.refused(
        1,
        &BasicNack {
            delivery_tag: 7,
            ..BasicNack::default()
        },
        406,
        &unknown(7),
    );
    client.refused(
        1,
        &BasicReject {
            delivery_tag: 8,
            requeue: true,
        },
        406,
        &unknown(8),
    );
    client.refused(
        1,
        &BasicAck {
            delivery_tag: 9,
            multiple: true,
        },
        406,
        &unknown(9),
    );
}

#[test]
fn a_delivery_without_acks_cannot_be_acked() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a"]);
    client.consume(1, queue, true);
    let tag = client.delivery(1).tag;
    let ack = BasicAck {
        delivery_tag: tag,
        multiple: false,
    };
    client.refused(1, &ack, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn tags_belong_to_their_channel() {
    let (mut client, _) = unsettled(&["a"]);
    client.open_channel(2);
    let ack = BasicAck {
        delivery_tag: 1,
        multiple: false,
    };
    client.refused(2, &ack, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn what_is_rejected_without_requeue_is_gone() {
    let (mut client, queue) = unsettled(&["a", "b", "c", "d"]);
    client.send(
        1,
        &BasicReject {
            delivery_tag: 1,
            requeue: false,
        },
    );
    client.nack(1, 3, true, false);
    assert_eq!(left_over(&mut client, queue), ["d"]);
}

#[test]
fn a_requeued_message_returns_to_its_place_and_is_flagged() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c", "d"]);
    let tags = [(); 3].map(|()| client.get(1, queue, false).expect("a message").tag);
    client.nack(1, tags[2], false, true);
    client.send(
        1,
        &BasicReject {
            delivery_tag: tags[0],
            requeue: true,
        },
    );
    client.await_ready(queue, 3);
    let order: Vec<_> = std::iter::from_fn(|| client.get(1, queue, true))
        .map(|delivery| (delivery.text().to_owned(), delivery.redelivered))
        .collect();
    let expected =
        [("a", true), ("c", true), ("d", false)].map(|(text, flag)| (text.to_owned(), flag));
    assert_eq!(order, expected);
    client.nack(1, tags[1], false, true);
    client.await_ready(queue, 1);
    assert_eq!(client.drain(1, queue), ["b"]);
}

#[test]
fn a_requeued_message_goes_to_a_consumer_that_waits() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a"]);
    client.consume(1, queue, false);
    let first = client.delivery(1);
    assert!(!first.redelivered);
    client.nack(1, first.tag, false, true);
    let second = client.delivery(1);
    assert_eq!(
        (second.text(), second.redelivered, second.tag),
        ("a", true, first.tag + 1)
    );
}

#[test]
fn closing_a_channel_returns_what_is_unsettled_in_order_and_flagged() {
    let (mut client, queue) = unsettled(&["a", "b", "c"]);
    client.fill(queue, &["d"]);
    client.ack(1, 2, false);
    client.close_channel(1);
    client.open_channel(1);
    for (text, redelivered) in [("a", true), ("c", true), ("d", false)] {
        let delivery = client.get(1, queue, true).expect("a message");
        assert_eq!((delivery.text(), delivery.redelivered), (text, redelivered));
    }
}

#[test]
fn losing_a_connection_returns_what_is_unsettled_in_order() {
    let mut watcher = Client::with_channel();
    let mut client = Client::with_channel();
    let queue = crate::support::broker::unique("lost");
    watcher.declare(
        1,
        &QueueDeclare {
            queue,
            ..QueueDeclare::default()
        },
    );
    let bodies: Vec<_> = (0..1_000).map(|at| at.to_string()).collect();
    let texts: Vec<_> = bodies.iter().map(String::as_str).collect();
    watcher.fill(queue, &texts);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 1_000), bodies);
    client.drop_socket();
    watcher.await_ready(queue, 1_000);
    assert_eq!(watcher.drain(1, queue), bodies);
    watcher.delete_queue(1, queue);
}

#[test]
fn a_channel_that_is_closed_for_an_error_returns_what_is_unsettled() {
    let (mut client, queue) = unsettled(&["a", "b"]);
    let missing = QueueDeclare {
        queue: "nowhere",
        passive: true,
        ..QueueDeclare::default()
    };
    client.refused(
        1,
        &missing,
        404,
        "NOT_FOUND - no queue 'nowhere' in vhost '/'",
    );
    client.await_ready(queue, 2);
    assert_eq!(client.drain(1, queue), ["a", "b"]);
}

#[test]
fn recover_redelivers_everything_unsettled_of_the_channel() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c"]);
    client.consume(1, queue, false);
    client.texts(1, 3);
    client.ack(1, 1, false);
    client.send(1, &BasicRecover { requeue: true });
    client.next_where(1, |method| matches!(method, Method::BasicRecoverOk(_)));
    for (text, tag) in [("b", 4), ("c", 5)] {
        let delivery = client.delivery(1);
        assert_eq!(
            (delivery.text(), delivery.tag, delivery.redelivered),
            (text, tag, true)
        );
    }
}

#[test]
fn recover_async_does_the_same_without_an_answer() {
    let (mut client, queue) = unsettled(&["a", "b"]);
    client.send(1, &BasicRecoverAsync { requeue: true });
    client.sync(1);
    client.expect_nothing(1);
    client.await_ready(queue, 2);
    let delivery = client.get(1, queue, true).expect("a message");
    assert_eq!((delivery.text(), delivery.redelivered), ("a", true));
}

#[test]
fn recover_without_requeue_is_540() {
    let client = Client::with_channel();
    client.fatal(
        1,
        &BasicRecover { requeue: false },
        540,
        "NOT_IMPLEMENTED - requeue=false",
    );
}

#[test]
fn what_is_settled_in_any_order_is_counted_once() {
    // RELIABILITY.md, bug museum 26 and 32: ready, unsettled and settled add up.
    let bodies: Vec<_> = (0..60).map(|at| at.to_string()).collect();
    let texts: Vec<_> = bodies.iter().map(String::as_str).collect();
    let (mut client, queue) = unsettled(&texts);
    for tag in 1..=60 {
        match tag % 4 {
            0 => client.ack(1, tag, false),
            1 => client.nack(1, tag, false, true),
            2 => client.send(
                1,
                &BasicReject {
                    delivery_tag: tag,
                    requeue: false,
                },
            ),
            _ => {}
        }
    }
    client.send(1, &BasicRecover { requeue: true });
    matched!(client.next_method(1), Method::BasicRecoverOk(_) => ());
    client.await_ready(queue, 30);
    let expected: Vec<_> = (1..=60)
        .filter(|tag| tag % 4 == 1 || tag % 4 == 3)
        .map(|tag| (tag - 1).to_string())
        .collect();
    assert_eq!(client.drain(1, queue), expected);
}
