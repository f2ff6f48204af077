//! What is at its limit still works (RELIABILITY.md section 1, bug museum 49).

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, FrameKind, Method, Properties};

use crate::support::broker::{leak, unique};
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::{leveret_only, matched};

/// Texts at the edges of a short string's length.
fn edges() -> [&'static str; 4] {
    [0, 1, 254, 255].map(|length| leak("k".repeat(length)))
}

/// The payload of a `queue.declare` with an argument nested that deep, its own
/// table being level 1.
fn declare_nested(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 1..depth {
        let mut outer = b"\x01kF".to_vec();
        outer.extend_from_slice(&(table.len() as u32).to_be_bytes());
        outer.extend_from_slice(&table);
        table = outer;
    }
    declare_with_arguments(&table)
}

fn declare_with_arguments(table: &[u8]) -> Vec<u8> {
    let exclusive = 0b100;
    let mut payload = vec![0, 50, 0, 10, 0, 0, 0, exclusive];
    payload.extend_from_slice(&(table.len() as u32).to_be_bytes());
    payload.extend_from_slice(table);
    payload
}

#[test]
fn routing_keys_of_any_length_are_routed() {
    let mut client = Client::with_channel();
    for kind in ["direct", "topic", "fanout"] {
        for key in edges() {
            let exchange = client.temp_exchange(1, kind);
            let queue = client.bound_queue(1, exchange, key);
            client.publish_confirmed(&[(exchange, key, "x")]);
            let delivery = client.get(1, queue, true).expect("a message");
            assert_eq!(delivery.routing_key, key, "{kind}");
            client.delete_queue(1, queue);
        }
    }
}

#[test]
fn line_breaks_in_a_routing_key_are_part_of_it() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    let queue = client.bound_queue(1, exchange, "a\r\nb");
    client.publish_confirmed(&[(exchange, "a\r\nb", "with"), (exchange, "ab", "without")]);
    assert_eq!(client.drain(1, queue), ["with"]);
}

#[test]
fn consumer_tags_of_any_length_are_kept() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    for tag in edges().into_iter().skip(1) {
        let consume = BasicConsume {
            queue,
            consumer_tag: tag,
            no_ack: true,
            ..BasicConsume::default()
        };
        assert_eq!(client.consume_with(1, &consume), tag);
        client.fill(queue, &["x"]);
        assert_eq!(client.delivery(1).consumer_tag, tag);
        client.cancel(1, tag);
    }
}

#[test]
fn properties_and_header_names_of_any_length_are_kept() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.consume(1, queue, true);
    for text in edges() {
        let headers: FieldTable = [(text, FieldValue::from(text))].into_iter().collect();
        let properties = Properties {
            content_type: Some(text.into()),
            correlation_id: Some(text.into()),
            message_id: Some(text.into()),
            headers: Some(headers),
            ..Properties::default()
        };
        client.publish_properties(1, "", queue, &properties, "x");
        assert_eq!(client.delivery(1).content.properties, properties);
    }
}

#[test]
fn exchange_names_may_have_255_octets() {
    let mut client = Client::with_channel();
    let exchange = unique("long");
    let exchange = leak(
        exchange
            .chars()
            .chain("x".repeat(255).chars())
            .take(255)
            .collect(),
    );
    client.ok(
        1,
        &ExchangeDeclare {
            exchange,
            kind: "fanout",
            auto_delete: true,
            ..ExchangeDeclare::default()
        },
    );
    let queue = client.bound_queue(1, exchange, "");
    client.publish_confirmed(&[(exchange, "", "x")]);
    assert_eq!(
        client.get(1, queue, true).expect("a message").exchange,
        exchange
    );
}

#[test]
fn names_may_be_any_text() {
    let mut client = Client::with_channel();
    for name in [
        "with blanks and 'quotes'",
        "<img src=x onerror=alert(1)>",
        "ünï/cödé\u{1F407}",
        "a\tb\0c",
    ] {
        let queue = leak(format!("{name} {}", unique("text")));
        assert_eq!(
            client
                .declare(
                    1,
                    &QueueDeclare {
                        queue,
                        exclusive: true,
                        ..QueueDeclare::default()
                    }
                )
                .0,
            queue
        );
        client.fill(queue, &["x"]);
        assert_eq!(client.drain(1, queue), ["x"]);
    }
}

#[test]
fn a_text_that_is_not_utf_8_is_502() {
    leveret_only!("RabbitMQ calls malformed UTF-8 a frame error, 501");
    let mut client = Client::with_channel();
    let mut payload = vec![0, 50, 0, 10, 0, 0, 2, 0xC3, 0x28, 0];
    payload.extend_from_slice(&[0; 4]);
    client.send_frame(FrameKind::Method, 1, &payload);
    client.expect_connection_close(502, "SYNTAX_ERROR - *");
}

#[test]
fn bodies_around_the_frame_size_are_whole() {
    let mut client = Client::connect_with(&Login {
        frame_max: Some(4_096),
        ..Login::default()
    });
    client.open_channel(1);
    let queue = client.temp_queue(1);
    client.consume(1, queue, true);
    for size in [1, 4_087, 4_088, 4_089, 8_175, 8_176, 8_177] {
        client.publish(1, "", queue, &"x".repeat(size));
        let content = client.delivery(1).content;
        assert_eq!(content.body.len(), size);
        assert!(
            content.frame_sizes.iter().all(|size| *size <= 4_088),
            "{:?}",
            content.frame_sizes
        );
    }
}

#[test]
fn a_message_from_large_frames_fits_into_small_ones() {
    let mut large = Client::with_channel();
    let mut small = Client::connect_with(&Login {
        frame_max: Some(4_096),
        ..Login::default()
    });
    small.open_channel(1);
    let queue = small.temp_queue(1);
    small.consume(1, queue, true);
    let body = "0123456789".repeat(10_000);
    large.publish(1, "", queue, &body);
    let delivery = small.delivery(1);
    assert_eq!(delivery.text(), body);
    assert!(
        delivery
            .content
            .frame_sizes
            .iter()
            .all(|size| *size <= 4_088)
    );
}

#[test]
fn tables_may_nest_deep_but_not_without_end() {
    let mut client = Client::with_channel();
    client.send_frame(FrameKind::Method, 1, &declare_nested(60));
    matched!(client.next_method(1), Method::QueueDeclareOk(_) => ());
}

#[test]
fn tables_beyond_the_limits_are_502() {
    leveret_only!("RabbitMQ has no such limits");
    let mut array = b"\x01kA".to_vec();
    array.extend_from_slice(&100_000_u32.to_be_bytes());
    array.extend_from_slice(&[b'V'; 100_000]);
    for (shows, payload) in [
        ("one level too many", declare_nested(65)),
        ("10,000 levels", declare_nested(10_000)),
        ("100,000 voids", declare_with_arguments(&array)),
    ] {
        eprintln!("{shows}");
        let mut client = Client::with_channel();
        client.send_frame(FrameKind::Method, 1, &payload);
        client.expect_connection_close(502, "SYNTAX_ERROR - *");
    }
}

#[test]
fn a_connection_may_have_all_its_channels_open() {
    let mut client = Client::connect();
    for channel in 1..=2_047 {
        client.send(channel, &ChannelOpen::default());
    }
    for channel in 1..=2_047 {
        matched!(client.next_method(channel), Method::ChannelOpenOk(_) => ());
    }
    client.send(2_048, &ChannelOpen::default());
    client.expect_connection_close(530, "NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)");
}

#[test]
fn a_hundred_connections_work_side_by_side() {
    std::thread::scope(|scope| {
        for at in 0..100 {
            scope.spawn(move || {
                let mut client = Client::confirming();
                let queue = client.temp_queue(1);
                let body = at.to_string();
                client.publish(1, "", queue, &body);
                client.expect_ack(1);
                assert_eq!(client.drain(1, queue), [body]);
                client.close();
            });
        }
    });
}
