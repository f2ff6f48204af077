//! Peers that break off, send rubbish or do not read: they harm themselves and
//! nobody else (RELIABILITY.md sections 1 and 2).

use leveret_protocol::frame::{self, PROTOCOL_HEADER};
use leveret_protocol::method::*;
use leveret_protocol::{FrameKind, Method, Properties};

use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::matched;
use crate::support::witness::Witness;

/// Repeatable rubbish (xorshift).
struct Rubbish(u64);

impl Rubbish {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

#[test]
fn a_handshake_that_breaks_off_anywhere_leaves_nothing_behind() {
    let mut witness = Witness::new();
    let login = Login::default();
    for steps in 0..5 {
        let mut client = Client::dial();
        if steps > 0 {
            client.send_bytes(&PROTOCOL_HEADER[..4]);
        }
        if steps > 1 {
            client.send_bytes(&PROTOCOL_HEADER[4..]);
            matched!(client.next_method(0), Method::ConnectionStart(_) => ());
        }
        if steps > 2 {
            client.log_in(&login);
        }
        if steps > 3 {
            client.tune_ok(2047, 131_072, 0);
        }
        client.reset();
    }
    witness.undisturbed();
    Client::with_channel().sync(1);
}

#[test]
fn half_open_connections_do_not_keep_others_out() {
    let mut witness = Witness::new();
    let idle: Vec<_> = (0..200).map(|_| Client::dial()).collect();
    Client::with_channel().sync(1);
    witness.undisturbed();
    drop(idle);
}

#[test]
fn rubbish_after_login_ends_that_connection_only() {
    let mut witness = Witness::new();
    let mut rubbish = Rubbish(0x1eaf_1e55);
    for _ in 0..40 {
        let mut client = Client::with_channel();
        let mut octets = rubbish.octets(64);
        // No frame type, so that the connection cannot wait for more.
        octets[0] |= 0x80;
        client.send_bytes(&octets);
        matched!(client.next_method(0), Method::ConnectionClose(close) => {
            assert_eq!(close.reply_code, 501, "{}", close.reply_text);
        });
    }
    witness.undisturbed();
}

#[test]
fn a_valid_conversation_with_octets_changed_harms_nobody() {
    let mut witness = Witness::new();
    let mut rubbish = Rubbish(42);
    let mut conversation = Vec::new();
    frame::encode_method(
        &mut conversation,
        1,
        &QueueDeclare {
            exclusive: true,
            ..QueueDeclare::default()
        },
    );
    frame::encode_method(
        &mut conversation,
        1,
        &BasicConsume {
            no_ack: true,
            ..BasicConsume::default()
        },
    );
    frame::encode_method(
        &mut conversation,
        1,
        &BasicPublish {
            exchange: "amq.fanout",
            ..BasicPublish::default()
        },
    );
    frame::encode(
        &mut conversation,
        FrameKind::Header,
        1,
        &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0],
    );
    frame::encode(&mut conversation, FrameKind::Body, 1, b"abc");
    frame::encode_method(&mut conversation, 1, &TxSelect {});
    for _ in 0..100 {
        let mut spoilt = conversation.clone();
        for _ in 0..=rubbish.below(3) {
            let at = rubbish.below(spoilt.len());
            spoilt[at] = rubbish.below(256) as u8;
        }
        let mut client = Client::with_channel();
        client.send_bytes(&spoilt);
        client.reset();
    }
    witness.undisturbed();
}

#[test]
fn a_message_that_breaks_off_reaches_nobody() {
    // RELIABILITY.md, bug museum 8.
    let mut witness = Witness::new();
    let mut watcher = Client::with_channel();
    let queue = watcher.temp_queue(1);
    let mut rubbish = Rubbish(8);
    let mut message = Vec::new();
    frame::encode_method(
        &mut message,
        1,
        &BasicPublish {
            routing_key: queue,
            ..BasicPublish::default()
        },
    );
    frame::encode(
        &mut message,
        FrameKind::Header,
        1,
        &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0x27, 0x10, 0, 0],
    );
    frame::encode(&mut message, FrameKind::Body, 1, &[b'x'; 10_000]);
    for _ in 0..40 {
        let mut client = Client::with_channel();
        let cut = rubbish.below(message.len());
        client.send_bytes(&message[..cut]);
        client.reset();
    }
    witness.undisturbed();
    assert!(watcher.get(1, queue, true).is_none());
    watcher.fill(queue, &["whole"]);
    assert_eq!(watcher.drain(1, queue), ["whole"]);
}

#[test]
fn one_error_after_another_harms_nobody() {
    let mut witness = Witness::new();
    let mut client = Client::with_channel();
    let missing = QueueDeclare {
        queue: "nowhere",
        passive: true,
        ..QueueDeclare::default()
    };
    for _ in 0..300 {
        client.refused(
            1,
            &missing,
            404,
            "NOT_FOUND - no queue 'nowhere' in vhost '/'",
        );
    }
    witness.undisturbed();
}

#[test]
fn connections_that_come_and_go_harm_nobody() {
    let mut witness = Witness::new();
    for _ in 0..50 {
        let mut client = Client::with_channel();
        let queue = client.temp_queue(1);
        client.consume(1, queue, false);
        client.publish(1, "", queue, "x");
        client.reset();
    }
    witness.undisturbed();
}

#[test]
fn a_consumer_that_does_not_read_keeps_nobody_waiting() {
    let mut witness = Witness::new();
    let mut idle = Client::with_channel();
    let mut busy = Client::with_channel();
    let exchange = busy.temp_exchange(1, "fanout");
    let ignored = idle.bound_queue(1, exchange, "");
    let read = busy.bound_queue(1, exchange, "");
    idle.send(
        1,
        &BasicConsume {
            queue: ignored,
            no_ack: true,
            ..BasicConsume::default()
        },
    );
    busy.consume(1, read, true);
    let mut publisher = Client::with_channel();
    let body = "x".repeat(20_000);
    for _ in 0..1_000 {
        publisher.publish(1, exchange, "", &body);
    }
    for _ in 0..1_000 {
        assert_eq!(busy.delivery(1).content.body.len(), body.len());
    }
    witness.undisturbed();
    // It may change its mind.
    matched!(idle.next_method(1), Method::BasicConsumeOk(_) => ());
    for _ in 0..1_000 {
        assert_eq!(idle.delivery(1).content.body.len(), body.len());
    }
}

#[test]
fn many_unsettled_deliveries_of_a_lost_connection_come_back() {
    // RELIABILITY.md, bug museum 42.
    let mut witness = Witness::new();
    let mut watcher = Client::confirming();
    let queue = crate::support::broker::unique("unsettled");
    watcher.declare(
        1,
        &QueueDeclare {
            queue,
            ..QueueDeclare::default()
        },
    );
    for _ in 0..20_000 {
        watcher.publish(1, "", queue, "x");
    }
    watcher.expect_acks(1, 20_000);
    let mut client = Client::with_channel();
    client.consume(1, queue, false);
    for tag in 1..=20_000 {
        assert_eq!(client.delivery(1).tag, tag);
    }
    client.reset();
    watcher.await_ready(queue, 20_000);
    assert!(watcher.get(1, queue, true).expect("a message").redelivered);
    watcher.delete_queue(1, queue);
    witness.undisturbed();
}

#[test]
fn a_publisher_that_does_not_read_its_confirms_harms_nobody() {
    let mut witness = Witness::new();
    let mut client = Client::confirming();
    let publish = BasicPublish {
        exchange: "amq.direct",
        routing_key: "nobody",
        mandatory: true,
        ..BasicPublish::default()
    };
    for _ in 0..2_000 {
        client.publish_with(1, &publish, &Properties::default(), &[b'x'; 1_000]);
    }
    witness.undisturbed();
    let mut returned = 0;
    while returned < 2_000 {
        if matches!(client.next_method(1), Method::BasicReturn(_)) {
            returned += 1;
        }
    }
}
