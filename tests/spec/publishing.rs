//! What a publisher sends, where it goes, and what comes back (WIRE.md section 5).

use leveret_protocol::method::*;
use leveret_protocol::{ContentHeader, FieldTable, FieldValue, FrameKind, Method, Properties};

use crate::support::client::Client;
use crate::support::{leveret_only, matched};

/// Every property set, none to its neighbour's value.
fn every_property() -> Properties {
    Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("identity".into()),
        headers: Some([("key", "value")].into_iter().collect()),
        delivery_mode: Some(1),
        priority: Some(7),
        correlation_id: Some("correlation".into()),
        reply_to: Some("answers".into()),
        expiration: None,
        message_id: Some("message".into()),
        timestamp: Some(1_700_000_000),
        kind: Some("kind".into()),
        user_id: Some("guest".into()),
        app_id: Some("app".into()),
        cluster_id: Some("cluster".into()),
    }
}

/// A message through a queue and back: what a consumer gets of the properties.
fn there_and_back(client: &mut Client, properties: &Properties) -> (Vec<u8>, Properties) {
    let queue = client.temp_queue(1);
    client.publish_properties(1, "", queue, properties, "body");
    client.consume(1, queue, true);
    let content = client.delivery(1).content;
    (content.raw_properties, content.properties)
}

fn strings(values: &[&str]) -> FieldValue {
    FieldValue::Array(
        values
            .iter()
            .map(|value| FieldValue::from(*value))
            .collect(),
    )
}

fn with_headers(headers: FieldTable) -> Properties {
    Properties {
        headers: Some(headers),
        ..Properties::default()
    }
}

#[test]
fn a_message_arrives_as_it_was_sent() {
    let mut client = Client::with_channel();
    for properties in [every_property(), Properties::default()] {
        let mut sent = Vec::new();
        properties.encode(&mut sent);
        let (octets, received) = there_and_back(&mut client, &properties);
        assert_eq!(received, properties);
        assert_eq!(octets, sent, "octet for octet");
    }
}

#[test]
fn headers_of_every_type_arrive_as_they_were_sent() {
    let mut client = Client::with_channel();
    let inner: FieldTable = [("a", FieldValue::Void), ("", FieldValue::from("no name"))]
        .into_iter()
        .collect();
    let headers: FieldTable = [
        (
            "S",
            FieldValue::LongStr("text with ümlaut and \u{1F407}".as_bytes().to_vec()),
        ),
        ("S empty", FieldValue::LongStr(Vec::new())),
        ("S octets", FieldValue::LongStr(vec![0, 255, 254, 128])),
        ("I", FieldValue::I32(i32::MIN)),
        (
            "D",
            FieldValue::Decimal {
                scale: 2,
                value: 31_415,
            },
        ),
        ("T", FieldValue::Timestamp(1_700_000_000)),
        ("F", FieldValue::Table(inner.clone())),
        ("F empty", FieldValue::Table(FieldTable::new())),
        (
            "A",
            FieldValue::Array(vec![
                FieldValue::I32(1),
                "two".into(),
                FieldValue::Table(inner),
            ]),
        ),
        ("A empty", FieldValue::Array(Vec::new())),
        ("b", FieldValue::I8(-1)),
        ("B", FieldValue::U8(255)),
        ("s", FieldValue::I16(i16::MIN)),
        ("u", FieldValue::U16(u16::MAX)),
        ("i", FieldValue::U32(u32::MAX)),
        ("l", FieldValue::I64(i64::MIN)),
        ("f", FieldValue::F32(1.5)),
        ("d", FieldValue::F64(-2.25)),
        ("t", FieldValue::Bool(true)),
        ("x", FieldValue::Bytes(vec![0, 1, 2, 255])),
        ("V", FieldValue::Void),
    ]
    .into_iter()
    .collect();
    let (_, received) = there_and_back(&mut client, &with_headers(headers.clone()));
    assert_eq!(received.headers, Some(headers));
}

#[test]
fn a_channel_keeps_the_order_of_its_messages() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "topic");
    let queue = client.bound_queue(1, exchange, "#");
    client.consume(1, queue, true);
    let sent: Vec<_> = (0..1_000).map(|at| at.to_string()).collect();
    for body in &sent {
        client.publish(1, exchange, "one.key", body);
    }
    assert_eq!(client.texts(1, sent.len()), sent);
}

#[test]
fn a_large_message_to_several_queues_is_whole_in_each() {
    // RELIABILITY.md, bug museum 7: more than one frame, more than one queue.
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    let queues = [(); 3].map(|()| client.bound_queue(1, exchange, ""));
    let body: String = (0..140_000)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    client.publish_confirmed(&[(exchange, "", &body)]);
    for queue in queues {
        assert_eq!(client.get(1, queue, true).expect("a message").text(), body);
    }
}

#[test]
fn an_unroutable_mandatory_message_comes_back_whole() {
    let mut client = Client::with_channel();
    let publish = BasicPublish {
        exchange: "amq.direct",
        routing_key: "to nobody",
        mandatory: true,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &every_property(), b"come back");
    let returned = client.next(1);
    let method = matched!(returned.method, Method::BasicReturn(method) => method);
    assert_eq!((method.reply_code, method.reply_text), (312, "NO_ROUTE"));
    assert_eq!(
        (method.exchange, method.routing_key),
        ("amq.direct", "to nobody")
    );
    let content = returned.content.expect("its content");
    assert_eq!(
        (content.properties, content.body),
        (every_property(), b"come back".to_vec())
    );
}

#[test]
fn a_mandatory_message_that_is_routed_does_not_come_back() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let publish = BasicPublish {
        routing_key: queue,
        mandatory: true,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &Properties::default(), b"stay");
    client.sync(1);
    client.expect_nothing(1);
}

#[test]
fn an_unroutable_message_that_is_not_mandatory_is_dropped_in_silence() {
    let mut client = Client::with_channel();
    client.publish(1, "amq.direct", "to nobody", "lost");
    client.sync(1);
    client.expect_nothing(1);
}

#[test]
fn immediate_is_540() {
    let mut client = Client::with_channel();
    let publish = BasicPublish {
        immediate: true,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &Properties::default(), b"now");
    assert_eq!(
        client.expect_connection_close(540, "NOT_IMPLEMENTED - immediate=true"),
        (60, 40)
    );
}

#[test]
fn cc_and_bcc_add_routing_keys_and_bcc_is_not_shown() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    let queues = ["key", "cc1", "cc2", "bcc"].map(|key| client.bound_queue(1, exchange, key));
    let headers: FieldTable = [
        ("CC", strings(&["cc1", "cc2", "key"])),
        ("BCC", strings(&["bcc"])),
        ("other", "stays".into()),
    ]
    .into_iter()
    .collect();
    client.publish_properties(1, exchange, "key", &with_headers(headers), "copies");
    client.sync(1);
    for queue in queues {
        client.consume(1, queue, true);
        let delivery = client.delivery(1);
        assert_eq!(
            (delivery.exchange, delivery.routing_key, delivery.text()),
            (exchange, "key", "copies")
        );
        assert_eq!(
            delivery.header("CC"),
            Some(&strings(&["cc1", "cc2", "key"]))
        );
        assert_eq!(delivery.header("BCC"), None);
        assert_eq!(delivery.header("other"), Some(&"stays".into()));
    }
}

#[test]
fn cc_works_on_the_default_exchange() {
    let mut client = Client::with_channel();
    let (first, second) = (client.temp_queue(1), client.temp_queue(1));
    let headers: FieldTable = [("CC", strings(&[second]))].into_iter().collect();
    client.publish_properties(1, "", first, &with_headers(headers), "both");
    for queue in [first, second] {
        client.consume(1, queue, true);
        assert_eq!(client.delivery(1).text(), "both");
    }
}

#[test]
fn cc_and_bcc_must_be_arrays_of_strings() {
    let mut client = Client::with_channel();
    for name in ["CC", "BCC"] {
        let headers: FieldTable = [(name, "not an array")].into_iter().collect();
        client.publish_properties(1, "amq.direct", "k", &with_headers(headers), "x");
        let ids = client.expect_channel_close(1, 406, "PRECONDITION_FAILED - *");
        assert_eq!(ids, (60, 40));
        client.open_channel(1);
    }
}

#[test]
fn another_users_id_is_406() {
    let mut client = Client::with_channel();
    let properties = Properties {
        user_id: Some("mallory".into()),
        ..Properties::default()
    };
    client.publish_properties(1, "amq.direct", "k", &properties, "x");
    client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - user_id property set to 'mallory' but authenticated user was 'guest'",
    );
}

#[test]
fn an_expiration_that_is_no_number_is_406() {
    let mut client = Client::with_channel();
    for expiration in ["soon", "-1", "1.5", ""] {
        let properties = Properties {
            expiration: Some(expiration.into()),
            ..Properties::default()
        };
        client.publish_properties(1, "amq.direct", "k", &properties, "x");
        client.expect_channel_close(1, 406, "PRECONDITION_FAILED - invalid expiration *");
        client.open_channel(1);
    }
}

#[test]
fn a_message_above_the_size_limit_is_406_before_its_body_comes() {
    leveret_only!("RabbitMQ 3.10 takes 128 MiB and counts only a whole body");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.send(
        1,
        &BasicPublish {
            routing_key: queue,
            ..BasicPublish::default()
        },
    );
    client.send_header(1, &Properties::default(), (16 << 20) + 1);
    client.send_frame(FrameKind::Body, 1, b"the beginning of too much");
    let ids = client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - message size 16777217 is larger than *",
    );
    assert_eq!(ids, (60, 40));
    client.open_channel(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn a_message_of_exactly_the_size_limit_is_taken() {
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    let publish = BasicPublish {
        routing_key: queue,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &Properties::default(), &vec![b'x'; 16 << 20]);
    client.expect_ack(1);
    let delivery = client.get(1, queue, true).expect("a message");
    assert_eq!(delivery.content.body.len(), 16 << 20);
}

#[test]
fn the_header_frames_weight_is_ignored() {
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
        properties: &[0, 0],
    }
    .encode(&mut payload);
    client.send_frame(FrameKind::Header, 1, &payload);
    client.consume(1, queue, true);
    assert_eq!(client.delivery(1).text(), "");
}
