use std::sync::Arc;

use super::super::super::Requester;
use super::super::properties::encode;
use super::*;
use crate::model::ConnectionId;

fn message(exchange: &str, routing_key: &str, properties: Properties) -> Message {
    Message::single(exchange, routing_key, &encode(properties, 4), b"body")
}

fn trace(message: Message, traced: Traced) -> Trace {
    Trace {
        vhost: "v".into(),
        by: Requester {
            connection: ConnectionId(3),
            user: "guest".into(),
            connection_name: Arc::from("127.0.0.1:1 -> 127.0.0.1:2"),
        },
        channel: 7,
        traced,
        message,
    }
}

fn strings(values: &[&str]) -> FieldValue {
    FieldValue::Array(values.iter().map(|value| (*value).into()).collect())
}

/// What RabbitMQ 3.10 made of the same message, in its order.
#[test]
fn a_publish_has_the_headers_that_rabbitmq_gives_it() {
    let headers = FieldTable::from_iter([
        ("h", FieldValue::I32(1)),
        ("CC", strings(&["cc"])),
        ("BCC", strings(&["bcc"])),
    ]);
    let properties = Properties {
        content_type: Some("t/p".to_owned()),
        content_encoding: Some("e".to_owned()),
        headers: Some(headers),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some("c".to_owned()),
        reply_to: Some("r".to_owned()),
        expiration: Some("60000".to_owned()),
        message_id: Some("m".to_owned()),
        timestamp: Some(1_700_000_000),
        kind: Some("ty".to_owned()),
        user_id: Some("guest".to_owned()),
        app_id: Some("ap".to_owned()),
        cluster_id: Some("cl".to_owned()),
    };
    let queues = vec!["q".into(), "q2".into()];
    let trace = trace(
        message("x", "a.b", properties),
        Traced::Published { queues },
    );
    assert_eq!(trace.routing_key(), "publish.x");
    let headers = FieldTable::from_iter([("h", FieldValue::I32(1)), ("CC", strings(&["cc"]))]);
    let properties: [(&str, FieldValue); 14] = [
        ("cluster_id", "cl".into()),
        ("app_id", "ap".into()),
        ("user_id", "guest".into()),
        ("type", "ty".into()),
        ("timestamp", FieldValue::I32(1_700_000_000)),
        ("message_id", "m".into()),
        ("expiration", "60000".into()),
        ("reply_to", "r".into()),
        ("correlation_id", "c".into()),
        ("priority", FieldValue::I32(3)),
        ("delivery_mode", FieldValue::I32(2)),
        ("headers", headers.into()),
        ("content_encoding", "e".into()),
        ("content_type", "t/p".into()),
    ];
    let expected: [(&str, FieldValue); 9] = [
        ("exchange_name", "x".into()),
        ("routing_keys", strings(&["a.b", "cc", "bcc"])),
        ("properties", FieldTable::from_iter(properties).into()),
        ("node", "n".into()),
        ("vhost", "v".into()),
        ("connection", "127.0.0.1:1 -> 127.0.0.1:2".into()),
        ("channel", FieldValue::I32(7)),
        ("user", "guest".into()),
        ("routed_queues", strings(&["q", "q2"])),
    ];
    assert_eq!(trace.headers("n"), FieldTable::from_iter(expected));
}

#[test]
fn a_delivery_says_whether_it_was_redelivered() {
    for (redelivered, shown) in [(false, 0), (true, 1)] {
        let queue = "q".into();
        let traced = Traced::Delivered { queue, redelivered };
        let trace = trace(message("x", "a.b", Properties::default()), traced);
        assert_eq!(trace.routing_key(), "deliver.q");
        let expected: [(&str, FieldValue); 9] = [
            ("exchange_name", "x".into()),
            ("routing_keys", strings(&["a.b"])),
            ("properties", FieldTable::new().into()),
            ("node", "n".into()),
            ("redelivered", FieldValue::I32(shown)),
            ("vhost", "v".into()),
            ("connection", "127.0.0.1:1 -> 127.0.0.1:2".into()),
            ("channel", FieldValue::I32(7)),
            ("user", "guest".into()),
        ];
        assert_eq!(trace.headers("n"), FieldTable::from_iter(expected));
    }
}

#[test]
fn the_default_exchange_names_queues_by_the_keys() {
    let headers = FieldTable::from_iter([("CC", strings(&["b", "z", "b"]))]);
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    let queues = Vec::new();
    let trace = trace(
        message("", "nowhere", properties),
        Traced::Published { queues },
    );
    assert_eq!(trace.routing_key(), "publish.");
    let headers = trace.headers("n");
    let routed = strings(&["b", "nowhere", "z"]);
    assert_eq!(headers.get("routed_queues"), Some(&routed));
}

#[test]
fn what_a_client_wrote_amiss_is_passed_over() {
    for copies in [
        FieldValue::I32(1),
        FieldValue::Array(vec![FieldValue::Void]),
        FieldValue::Table(FieldTable::new()),
    ] {
        let properties = Properties {
            headers: Some(FieldTable::from_iter([("CC", copies)])),
            timestamp: Some(u64::MAX),
            ..Properties::default()
        };
        let queue = "q".into();
        let redelivered = false;
        let traced = Traced::Delivered { queue, redelivered };
        let headers = trace(message("x", "k", properties), traced).headers("n");
        assert_eq!(headers.get("routing_keys"), Some(&strings(&["k"])));
        let Some(FieldValue::Table(properties)) = headers.get("properties") else {
            panic!("there are properties");
        };
        let timestamp = FieldValue::Timestamp(u64::MAX);
        assert_eq!(properties.get("timestamp"), Some(&timestamp));
    }
}
