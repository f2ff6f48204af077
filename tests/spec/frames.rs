//! Frames and the order in which they are due (WIRE.md section 2).

use leveret_protocol::frame::{self, HEADER_BYTES, PROTOCOL_HEADER};
use leveret_protocol::method::*;
use leveret_protocol::{ContentHeader, FrameKind, Method, Properties};

use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::witness::Witness;
use crate::support::{leveret_only, matched};

/// A method frame of `exchange.declare` for `amq.direct`, to be spoilt.
fn passive_declare() -> Vec<u8> {
    let mut wire = Vec::new();
    let declare = ExchangeDeclare {
        exchange: "amq.direct",
        kind: "direct",
        passive: true,
        ..ExchangeDeclare::default()
    };
    frame::encode_method(&mut wire, 1, &declare);
    wire
}

/// Starts a publish whose header announces that many octets.
fn begin_publish(client: &mut Client, body_bytes: u64) -> &'static str {
    let queue = client.temp_queue(1);
    client.send(
        1,
        &BasicPublish {
            routing_key: queue,
            ..BasicPublish::default()
        },
    );
    client.send_header(1, &Properties::default(), body_bytes);
    queue
}

#[test]
fn frames_may_arrive_octet_by_octet() {
    let mut client = Client::with_channel();
    for octet in passive_declare() {
        client.send_bytes(&[octet]);
    }
    matched!(client.next_method(1), Method::ExchangeDeclareOk(_) => ());
}

#[test]
fn many_frames_may_arrive_at_once() {
    let mut client = Client::with_channel();
    client.send_bytes(&passive_declare().repeat(100));
    for _ in 0..100 {
        matched!(client.next_method(1), Method::ExchangeDeclareOk(_) => ());
    }
}

#[test]
fn a_wrong_end_octet_is_501() {
    let mut witness = Witness::new();
    let mut client = Client::with_channel();
    let mut wire = passive_declare();
    *wire.last_mut().expect("an end octet") = 0xCD;
    client.send_bytes(&wire);
    assert_eq!(
        client.expect_connection_close(501, "FRAME_ERROR - *"),
        (0, 0)
    );
    witness.undisturbed();
}

#[test]
fn an_unknown_frame_type_is_501() {
    let mut witness = Witness::new();
    let mut client = Client::with_channel();
    client.send_bytes(&[9, 0, 1, 0, 0, 0, 0, frame::FRAME_END]);
    assert_eq!(
        client.expect_connection_close(501, "FRAME_ERROR - *"),
        (0, 0)
    );
    witness.undisturbed();
}

#[test]
fn a_protocol_header_in_the_midst_is_501() {
    let mut client = Client::with_channel();
    client.send_bytes(&PROTOCOL_HEADER);
    client.expect_connection_close(501, "FRAME_ERROR - *");
}

#[test]
fn a_frame_above_the_negotiated_size_is_501_before_its_payload_comes() {
    let mut witness = Witness::new();
    std::thread::scope(|scope| {
        for announced in [8_192 + 1, 1 << 20, u32::MAX] {
            scope.spawn(move || {
                let login = Login {
                    frame_max: Some(8_192),
                    ..Login::default()
                };
                let mut client = Client::connect_with(&login);
                client.open_channel(1);
                let mut wire = Vec::new();
                frame::encode_header(&mut wire, FrameKind::Body, 1, announced);
                client.send_bytes(&wire);
                client.expect_connection_close(501, "FRAME_ERROR - *");
            });
        }
    });
    witness.undisturbed();
}

#[test]
fn eight_octets_above_the_negotiated_size_are_forgiven() {
    let login = Login {
        frame_max: Some(4_096),
        ..Login::default()
    };
    let mut client = Client::connect_with(&login);
    client.open_channel(1);
    let queue = begin_publish(&mut client, 4_096);
    client.send_frame(FrameKind::Body, 1, &[b'x'; 4_096]);
    client.consume(1, queue, true);
    let delivery = client.delivery(1);
    assert_eq!(
        delivery.content.frame_sizes,
        [4_088, 8],
        "the way back is exact"
    );
}

#[test]
fn a_header_frame_where_a_method_is_due_is_505() {
    let mut client = Client::with_channel();
    client.send_header(1, &Properties::default(), 3);
    client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
    );
}

#[test]
fn a_body_frame_where_a_method_is_due_is_505() {
    let mut client = Client::with_channel();
    client.send_frame(FrameKind::Body, 1, b"out of the blue");
    client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
    );
}

#[test]
fn a_body_frame_where_a_header_is_due_is_505() {
    let mut client = Client::with_channel();
    client.send(1, &BasicPublish::default());
    client.send_frame(FrameKind::Body, 1, b"no header");
    let ids = client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
    );
    assert_eq!(ids, (60, 40));
}

#[test]
fn a_method_where_a_header_is_due_is_505() {
    let mut client = Client::with_channel();
    client.send(1, &BasicPublish::default());
    client.send_bytes(&passive_declare());
    let ids = client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
    );
    assert_eq!(ids, (60, 40));
}

#[test]
fn a_method_where_a_body_is_due_is_505() {
    let mut client = Client::with_channel();
    begin_publish(&mut client, 10);
    client.send_frame(FrameKind::Body, 1, b"12345");
    client.send_bytes(&passive_declare());
    let ids = client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
    );
    assert_eq!(ids, (60, 40));
}

#[test]
fn a_header_of_another_class_is_505() {
    let mut client = Client::with_channel();
    client.send(1, &BasicPublish::default());
    let mut payload = Vec::new();
    ContentHeader {
        class_id: 50,
        body_bytes: 0,
        properties: &[0, 0],
    }
    .encode(&mut payload);
    client.send_frame(FrameKind::Header, 1, &payload);
    let ids = client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
    );
    assert_eq!(ids, (60, 40));
}

#[test]
fn a_body_longer_than_announced_is_501_at_once() {
    leveret_only!("RabbitMQ 3.10 takes body octets beyond the announced size");
    let mut witness = Witness::new();
    for (shows, announced, frames) in [
        ("in its only frame", 10, &[11][..]),
        ("in its second frame", 10, &[6, 5]),
        ("by far", 10, &[100_000]),
    ] {
        let mut client = Client::with_channel();
        begin_publish(&mut client, announced);
        for size in frames {
            client.send_frame(FrameKind::Body, 1, &vec![b'x'; *size]);
        }
        let close = matched!(client.next_method(0), Method::ConnectionClose(close) => close);
        assert_eq!(close.reply_code, 501, "{shows}: {}", close.reply_text);
        assert!(
            close.reply_text.starts_with("FRAME_ERROR - "),
            "{}",
            close.reply_text
        );
    }
    witness.undisturbed();
}

#[test]
fn a_body_frame_behind_a_complete_body_is_505() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.publish(1, "", queue, "whole");
    client.send_frame(FrameKind::Body, 1, b"more");
    client.expect_connection_close(
        505,
        "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
    );
}

#[test]
fn a_zero_length_body_has_no_body_frame() {
    let mut client = Client::with_channel();
    let queue = begin_publish(&mut client, 0);
    client.sync(1);
    client.consume(1, queue, true);
    let delivery = client.delivery(1);
    assert_eq!(
        (delivery.text(), delivery.content.frame_sizes.len()),
        ("", 0)
    );
}

#[test]
fn a_body_may_come_in_frames_of_any_size() {
    let mut client = Client::with_channel();
    let queue = begin_publish(&mut client, 10);
    for piece in ["a", "bcd", "", "efghi", "j"] {
        client.send_frame(FrameKind::Body, 1, piece.as_bytes());
    }
    client.consume(1, queue, true);
    assert_eq!(client.delivery(1).text(), "abcdefghij");
}

#[test]
fn channels_may_take_turns_in_the_midst_of_their_messages() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    let queue = client.temp_queue(1);
    for channel in [1, 2] {
        client.send(
            channel,
            &BasicPublish {
                routing_key: queue,
                ..BasicPublish::default()
            },
        );
    }
    for channel in [2, 1] {
        client.send_header(channel, &Properties::default(), 4);
    }
    for (channel, piece) in [(1, "on"), (2, "tw"), (2, "o2"), (1, "e1")] {
        client.send_frame(FrameKind::Body, channel, piece.as_bytes());
    }
    client.consume(1, queue, true);
    let mut texts = client.texts(1, 2);
    texts.sort();
    assert_eq!(texts, ["one1", "two2"]);
}

#[test]
fn a_large_body_comes_back_whole_in_frames_that_fit() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let body: String = (0..300_000)
        .map(|at| char::from(b'a' + (at % 26) as u8))
        .collect();
    client.publish(1, "", queue, &body);
    client.consume(1, queue, true);
    let delivery = client.delivery(1);
    assert_eq!(delivery.text(), body);
    assert!(
        delivery
            .content
            .frame_sizes
            .iter()
            .all(|size| *size <= 131_072 - 8)
    );
}

#[test]
fn an_unknown_method_is_503() {
    leveret_only!("RabbitMQ loses the connection over unknown ids without a word");
    let mut witness = Witness::new();
    for (class, method) in [(60_u16, 199_u16), (99, 10), (0, 0)] {
        let mut client = Client::with_channel();
        let payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        client.send_frame(FrameKind::Method, 1, &payload);
        client.expect_connection_close(503, "COMMAND_INVALID - *");
    }
    witness.undisturbed();
}

#[test]
fn unreadable_fields_are_502() {
    leveret_only!("RabbitMQ calls malformed fields a frame error, 501");
    let mut witness = Witness::new();
    let whole = passive_declare();
    let payload = &whole[HEADER_BYTES..whole.len() - 1];
    for (shows, payload) in [
        ("fields cut off", payload[..payload.len() - 1].to_vec()),
        ("no fields", payload[..4].to_vec()),
        ("half of the ids", payload[..3].to_vec()),
        ("nothing at all", Vec::new()),
        ("octets left over", [payload, b"x"].concat()),
    ] {
        eprintln!("{shows}");
        let mut client = Client::with_channel();
        client.send_frame(FrameKind::Method, 1, &payload);
        client.expect_connection_close(502, "SYNTAX_ERROR - *");
    }
    witness.undisturbed();
}

#[test]
fn unreadable_properties_are_502() {
    leveret_only!("RabbitMQ answers malformed properties with 541 or takes them");
    for (shows, properties) in [
        ("a property cut off", &[0x80, 0x00, 5, b'a'][..]),
        ("octets left over", &[0x00, 0x00, 1]),
        ("an unknown flag", &[0x00, 0x02]),
    ] {
        eprintln!("{shows}");
        let mut client = Client::with_channel();
        let queue = client.temp_queue(1);
        client.send(
            1,
            &BasicPublish {
                routing_key: queue,
                ..BasicPublish::default()
            },
        );
        let mut payload = Vec::new();
        ContentHeader {
            class_id: 60,
            body_bytes: 0,
            properties,
        }
        .encode(&mut payload);
        client.send_frame(FrameKind::Header, 1, &payload);
        client.expect_connection_close(502, "SYNTAX_ERROR - *");
    }
}

#[test]
fn what_only_a_server_may_say_is_503() {
    let client = Client::with_channel();
    client.fatal(
        1,
        &QueueDeclareOk::default(),
        503,
        "COMMAND_INVALID - unimplemented method",
    );
}

#[test]
fn channel_methods_on_channel_0_are_504() {
    const TEXT: &str = "CHANNEL_ERROR - unexpected method in connection state running";
    Client::connect().fatal(0, &QueueDeclare::default(), 504, TEXT);
    Client::connect().fatal(0, &ChannelOpen::default(), 504, TEXT);
    Client::connect().fatal(0, &ConnectionTune::default(), 504, TEXT);
}

#[test]
fn connection_methods_on_a_channel_are_503() {
    let client = Client::with_channel();
    let open = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    client.fatal(1, &open, 503, "COMMAND_INVALID - unimplemented method");
}

#[test]
fn content_frames_on_channel_0_are_505() {
    let mut client = Client::connect();
    client.send_frame(FrameKind::Body, 0, b"content");
    client.expect_connection_close(505, "UNEXPECTED_FRAME - *");
    let mut client = Client::connect();
    client.send_header(0, &Properties::default(), 7);
    client.expect_connection_close(505, "UNEXPECTED_FRAME - *");
}
