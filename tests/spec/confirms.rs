//! Publisher confirms (WIRE.md section 5).

use leveret_protocol::method::*;
use leveret_protocol::{Method, Properties, content};

use crate::support::client::Client;
use crate::support::{leveret_only, matched};

#[test]
fn tags_run_from_1_from_confirm_select() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.publish(1, "", queue, "before, not counted");
    client.ok(1, &ConfirmSelect::default());
    client.publish(1, "", queue, "one");
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!(ack.delivery_tag, 1));
    client.ok(1, &ConfirmSelect::default());
    client.publish(1, "", queue, "two");
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!(ack.delivery_tag, 2));
}

#[test]
fn each_channel_counts_for_itself() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    let queue = client.temp_queue(1);
    for channel in [1, 2] {
        client.ok(channel, &ConfirmSelect::default());
    }
    for channel in [1, 2, 1, 2] {
        client.publish(channel, "", queue, "x");
    }
    client.expect_acks(1, 2);
    client.expect_acks(2, 2);
}

#[test]
fn every_message_of_a_burst_is_confirmed_once() {
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    for _ in 0..2_000 {
        client.publish(1, "", queue, "burst");
    }
    let mut acked = vec![false; 2_001];
    acked[0] = true;
    let mut lowest = 1;
    while acked.contains(&false) {
        let ack = matched!(client.next_method(1), Method::BasicAck(ack) => ack);
        let tag = ack.delivery_tag as usize;
        let first = if ack.multiple { lowest } else { tag };
        for (at, seen) in acked.iter_mut().enumerate().take(tag + 1).skip(first) {
            assert!(!*seen || ack.multiple, "{at} is acked twice");
            *seen = true;
        }
        assert!(acked[tag]);
        while acked.get(lowest) == Some(&true) {
            lowest += 1;
        }
    }
    client.sync(1);
    client.expect_nothing(1);
    assert_eq!(client.look_up(queue), Some((2_000, 0)));
}

#[test]
fn what_came_together_is_confirmed_together_and_in_order() {
    leveret_only!("RabbitMQ coalesces as it happens, and in no order");
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    let mut burst = Vec::new();
    for _ in 0..1_000 {
        let publish = BasicPublish {
            routing_key: queue,
            ..BasicPublish::default()
        };
        content::encode(&mut burst, 1, &publish, &[0, 0], b"burst", 131_072);
    }
    client.send_bytes(&burst);
    let (mut acks, mut last) = (0, 0);
    while last < 1_000 {
        let ack = matched!(client.next_method(1), Method::BasicAck(ack) => ack);
        assert!(ack.delivery_tag > last, "{ack:?} after {last}");
        assert!(
            ack.multiple || ack.delivery_tag == last + 1,
            "{ack:?} after {last}"
        );
        (acks, last) = (acks + 1, ack.delivery_tag);
    }
    assert!(acks <= 100, "{acks} acks for one write");
}

#[test]
fn an_unroutable_message_is_acked_at_once() {
    let mut client = Client::confirming();
    client.publish(1, "amq.direct", "to nobody", "lost");
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!(ack.delivery_tag, 1));
}

#[test]
fn an_unroutable_mandatory_message_is_returned_before_it_is_acked() {
    let mut client = Client::confirming();
    let publish = BasicPublish {
        exchange: "amq.direct",
        routing_key: "to nobody",
        mandatory: true,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &Properties::default(), b"come back");
    let returned = client.next(1);
    matched!(returned.method, Method::BasicReturn(_) => ());
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!((ack.delivery_tag, ack.multiple), (1, false)));
}

#[test]
fn returns_and_acks_keep_their_order_in_a_burst() {
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    for at in 1..=100 {
        let routing_key = if at % 3 == 0 { "to nobody" } else { queue };
        let publish = BasicPublish {
            routing_key,
            mandatory: true,
            ..BasicPublish::default()
        };
        let properties = Properties {
            message_id: Some(at.to_string()),
            ..Properties::default()
        };
        client.publish_with(1, &publish, &properties, b"x");
    }
    let (mut returned, mut acked) = (Vec::new(), vec![false; 101]);
    acked[0] = true;
    while acked.contains(&false) {
        let incoming = client.next(1);
        match (incoming.method, incoming.content) {
            (Method::BasicReturn(_), Some(content)) => {
                let at: usize = content
                    .properties
                    .message_id
                    .and_then(|id| id.parse().ok())
                    .expect("our id");
                assert!(!acked[at], "{at} is acked before it is returned");
                returned.push(at);
            }
            (Method::BasicAck(ack), None) => {
                let tag = ack.delivery_tag as usize;
                let first = if ack.multiple { 1 } else { tag };
                acked[first..=tag].fill(true);
                let due = returned.last().copied().unwrap_or(0);
                assert!(
                    (first..=tag).all(|at| at % 3 != 0 || at <= due),
                    "{ack:?} before its return"
                );
            }
            other => panic!("expected a return or an ack, got {other:?}"),
        }
    }
    assert_eq!(returned, (1..=33).map(|at| at * 3).collect::<Vec<_>>());
}

#[test]
fn a_message_to_several_queues_has_one_confirm() {
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "fanout");
    let queues = [(); 3].map(|()| client.bound_queue(1, exchange, ""));
    client.publish(1, exchange, "", "to all");
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!(ack.delivery_tag, 1));
    for queue in queues {
        assert_eq!(client.drain(1, queue), ["to all"]);
    }
    client.expect_nothing(1);
}

#[test]
fn a_persistent_message_to_a_durable_queue_is_confirmed() {
    let mut client = Client::confirming();
    let queue = crate::support::broker::unique("durable");
    client.declare(
        1,
        &QueueDeclare {
            queue,
            durable: true,
            ..QueueDeclare::default()
        },
    );
    let properties = Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    };
    client.publish_properties(1, "", queue, &properties, "keep");
    matched!(client.next_method(1), Method::BasicAck(ack) => assert_eq!(ack.delivery_tag, 1));
    assert_eq!(client.delete_queue(1, queue), 1);
}

#[test]
fn a_queue_deleted_meanwhile_counts_as_done() {
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    for _ in 0..500 {
        client.publish(1, "", queue, "x");
    }
    client.send(
        1,
        &QueueDelete {
            queue,
            nowait: true,
            ..QueueDelete::default()
        },
    );
    for _ in 0..500 {
        client.publish(1, "", queue, "x");
    }
    client.expect_acks(1, 1_000);
}

#[test]
fn confirms_are_refused_to_a_transactional_channel_and_the_reverse() {
    let mut client = Client::with_channel();
    client.ok(1, &TxSelect {});
    client.refused(
        1,
        &ConfirmSelect::default(),
        406,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
    client.ok(1, &ConfirmSelect::default());
    client.refused(
        1,
        &TxSelect {},
        406,
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    );
}

#[test]
fn confirms_are_not_for_clients_to_send() {
    let mut client = Client::with_channel();
    client.ack(1, 1, false);
    let ids = client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
    assert_eq!(ids, (60, 80));
}
