//! Octets written by hand from the specification (AMQP 0-9-1 §4.2, its XML, and
//! RabbitMQ's extensions), never by our own encoder: both directions must give
//! exactly these.
//!
//! A vector is text: hexadecimal octets, blanks between them as one likes, and
//! characters in single quotes standing for themselves.

use leveret_protocol::method::*;
use leveret_protocol::{
    ContentHeader, FieldTable, FieldValue, Frame, FrameKind, Limits, Method, Properties, frame,
    table,
};

/// Every method of the table, with fields that differ from one another, so that
/// two swapped ones show.
#[test]
fn methods_are_as_the_specification_has_them() {
    let vectors = methods();
    let limits = Limits::default();
    for (wire, method) in &vectors {
        let (wire, name) = (octets(wire), method.name());
        assert_eq!(
            Method::decode(&wire, &limits).as_ref(),
            Ok(method),
            "{name}"
        );
        let mut encoded = Vec::new();
        method.encode(&mut encoded);
        assert_eq!(encoded, wire, "{name}");
        let (class_id, method_id) = method.ids();
        assert_eq!(wire[..2], class_id.to_be_bytes(), "{name}");
        assert_eq!(wire[2..4], method_id.to_be_bytes(), "{name}");
    }
    let covered: Vec<_> = vectors.iter().map(|(_, method)| method.name()).collect();
    let all: Vec<_> = Method::TABLE.iter().map(|spec| spec.name).collect();
    assert_eq!(
        covered, all,
        "one vector for each row, in the table's order"
    );
}

#[test]
fn only_four_methods_carry_content() {
    let with_content: Vec<_> = methods()
        .into_iter()
        .filter(|(_, method)| method.has_content())
        .map(|(_, method)| method.name())
        .collect();
    assert_eq!(
        with_content,
        [
            "basic.publish",
            "basic.return",
            "basic.deliver",
            "basic.get-ok"
        ]
    );
}

fn arguments() -> FieldTable {
    FieldTable::from_iter([("a", FieldValue::Bool(true))])
}

#[rustfmt::skip]
fn methods() -> Vec<(&'static str, Method<'static>)> {
    vec![
        ("000a 000a 00 09 00000004 01'a' 't'01 00000005'PLAIN' 00000005'en_US'", ConnectionStart {
            version_major: 0, version_minor: 9, server_properties: arguments(),
            mechanisms: b"PLAIN", locales: b"en_US" }.into()),
        ("000a 000b 00000000 05'PLAIN' 00000006 00'me'00'pw' 05'en_US'", ConnectionStartOk {
            client_properties: FieldTable::new(), mechanism: "PLAIN", response: b"\0me\0pw",
            locale: "en_US" }.into()),
        ("000a 0014 00000002 'ch'", ConnectionSecure { challenge: b"ch" }.into()),
        ("000a 0015 00000002 're'", ConnectionSecureOk { response: b"re" }.into()),
        ("000a 001e 07ff 00020000 003c", ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }.into()),
        ("000a 001f 0001 00001000 000a", ConnectionTuneOk { channel_max: 1, frame_max: 4096, heartbeat: 10 }.into()),
        ("000a 0028 01'/' 03'cap' 01", ConnectionOpen { virtual_host: "/", capabilities: "cap", insist: true }.into()),
        ("000a 0029 01'h'", ConnectionOpenOk { known_hosts: "h" }.into()),
        ("000a 0032 01f7 03'bad' 003c 0028", ConnectionClose { reply_code: 503, reply_text: "bad", class_id: 60, method_id: 40 }.into()),
        ("000a 0033", ConnectionCloseOk {}.into()),
        ("000a 003c 0d'low on memory'", ConnectionBlocked { reason: "low on memory" }.into()),
        ("000a 003d", ConnectionUnblocked {}.into()),
        ("000a 0046 00000003'new' 03'why'", ConnectionUpdateSecret { new_secret: b"new", reason: "why" }.into()),
        ("000a 0047", ConnectionUpdateSecretOk {}.into()),

        ("0014 000a 00", ChannelOpen { out_of_band: "" }.into()),
        ("0014 000b 00000001'1'", ChannelOpenOk { channel_id: b"1" }.into()),
        ("0014 0014 01", ChannelFlow { active: true }.into()),
        ("0014 0015 00", ChannelFlowOk { active: false }.into()),
        ("0014 0028 0194 02'no' 0032 000a", ChannelClose { reply_code: 404, reply_text: "no", class_id: 50, method_id: 10 }.into()),
        ("0014 0029", ChannelCloseOk {}.into()),

        // Five bits: exclusive 1, passive 2, active 4, write 8, read 16.
        ("001e 000a 05'/data' 16", AccessRequest { realm: "/data", exclusive: false, passive: true, active: true, write: false, read: true }.into()),
        ("001e 000b 0001", AccessRequestOk { ticket: 1 }.into()),

        // passive 1, durable 2, auto-delete 4, internal 8, no-wait 16.
        ("0028 000a 0001 01'x' 06'direct' 0a 00000004 01'a' 't'01", ExchangeDeclare {
            ticket: 1, exchange: "x", kind: "direct", passive: false, durable: true,
            auto_delete: false, internal: true, nowait: false, arguments: arguments() }.into()),
        ("0028 000b", ExchangeDeclareOk {}.into()),
        ("0028 0014 0002 01'x' 01", ExchangeDelete { ticket: 2, exchange: "x", if_unused: true, nowait: false }.into()),
        ("0028 0015", ExchangeDeleteOk {}.into()),
        ("0028 001e 0000 02'to' 04'from' 03'key' 01 00000000", ExchangeBind {
            ticket: 0, destination: "to", source: "from", routing_key: "key", nowait: true, arguments: FieldTable::new() }.into()),
        ("0028 001f", ExchangeBindOk {}.into()),
        ("0028 0028 0000 02'to' 04'from' 03'key' 00 00000004 01'a' 't'01", ExchangeUnbind {
            ticket: 0, destination: "to", source: "from", routing_key: "key", nowait: false, arguments: arguments() }.into()),
        // 51, not 41: RabbitMQ's number, and every client's.
        ("0028 0033", ExchangeUnbindOk {}.into()),

        // passive 1, durable 2, exclusive 4, auto-delete 8, no-wait 16.
        ("0032 000a 0000 01'q' 1a 00000000", QueueDeclare {
            ticket: 0, queue: "q", passive: false, durable: true, exclusive: false, auto_delete: true,
            nowait: true, arguments: FieldTable::new() }.into()),
        ("0032 000b 01'q' 00000007 00010000", QueueDeclareOk { queue: "q", message_count: 7, consumer_count: 65_536 }.into()),
        ("0032 0014 0000 01'q' 01'x' 03'a.*' 01 00000000", QueueBind {
            ticket: 0, queue: "q", exchange: "x", routing_key: "a.*", nowait: true, arguments: FieldTable::new() }.into()),
        ("0032 0015", QueueBindOk {}.into()),
        ("0032 001e 0000 01'q' 01", QueuePurge { ticket: 0, queue: "q", nowait: true }.into()),
        ("0032 001f 00000102", QueuePurgeOk { message_count: 258 }.into()),
        ("0032 0028 0000 01'q' 06", QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: true, nowait: true }.into()),
        ("0032 0029 ffffffff", QueueDeleteOk { message_count: u32::MAX }.into()),
        // No no-wait bit here.
        ("0032 0032 0000 01'q' 01'x' 01'k' 00000004 01'a' 't'01", QueueUnbind {
            ticket: 0, queue: "q", exchange: "x", routing_key: "k", arguments: arguments() }.into()),
        ("0032 0033", QueueUnbindOk {}.into()),

        ("003c 000a 00000001 0064 01", BasicQos { prefetch_size: 1, prefetch_count: 100, global: true }.into()),
        ("003c 000b", BasicQosOk {}.into()),
        // no-local 1, no-ack 2, exclusive 4, no-wait 8.
        ("003c 0014 0000 01'q' 01'c' 06 00000000", BasicConsume {
            ticket: 0, queue: "q", consumer_tag: "c", no_local: false, no_ack: true, exclusive: true,
            nowait: false, arguments: FieldTable::new() }.into()),
        ("003c 0015 01'c'", BasicConsumeOk { consumer_tag: "c" }.into()),
        ("003c 001e 01'c' 01", BasicCancel { consumer_tag: "c", nowait: true }.into()),
        ("003c 001f 01'c'", BasicCancelOk { consumer_tag: "c" }.into()),
        ("003c 0028 0000 01'x' 03'key' 01", BasicPublish { ticket: 0, exchange: "x", routing_key: "key", mandatory: true, immediate: false }.into()),
        ("003c 0032 0138 08'NO_ROUTE' 01'x' 01'k'", BasicReturn { reply_code: 312, reply_text: "NO_ROUTE", exchange: "x", routing_key: "k" }.into()),
        ("003c 003c 01'c' 0102030405060708 01 01'x' 01'k'", BasicDeliver {
            consumer_tag: "c", delivery_tag: 0x0102_0304_0506_0708, redelivered: true, exchange: "x", routing_key: "k" }.into()),
        ("003c 0046 0000 01'q' 01", BasicGet { ticket: 0, queue: "q", no_ack: true }.into()),
        ("003c 0047 0000000000000001 00 01'x' 01'k' 00000005", BasicGetOk {
            delivery_tag: 1, redelivered: false, exchange: "x", routing_key: "k", message_count: 5 }.into()),
        ("003c 0048 00", BasicGetEmpty { cluster_id: "" }.into()),
        ("003c 0050 0000000000000009 01", BasicAck { delivery_tag: 9, multiple: true }.into()),
        ("003c 005a 0000000000000009 01", BasicReject { delivery_tag: 9, requeue: true }.into()),
        ("003c 0064 01", BasicRecoverAsync { requeue: true }.into()),
        ("003c 006e 01", BasicRecover { requeue: true }.into()),
        ("003c 006f", BasicRecoverOk {}.into()),
        ("003c 0078 0000000000000009 02", BasicNack { delivery_tag: 9, multiple: false, requeue: true }.into()),

        ("0055 000a 01", ConfirmSelect { nowait: true }.into()),
        ("0055 000b", ConfirmSelectOk {}.into()),

        ("005a 000a", TxSelect {}.into()),
        ("005a 000b", TxSelectOk {}.into()),
        ("005a 0014", TxCommit {}.into()),
        ("005a 0015", TxCommitOk {}.into()),
        ("005a 001e", TxRollback {}.into()),
        ("005a 001f", TxRollbackOk {}.into()),
    ]
}

#[test]
fn frames_are_as_the_specification_has_them() {
    for (wire, kind, channel, payload) in [
        ("08 0000 00000000 ce", FrameKind::Heartbeat, 0, ""),
        (
            "01 0001 00000005 0014 000a 00 ce",
            FrameKind::Method,
            1,
            "0014 000a 00",
        ),
        (
            "02 0102 0000000e 003c 0000 0000000000000003 0000 ce",
            FrameKind::Header,
            258,
            "003c 0000 0000000000000003 0000",
        ),
        (
            "03 ffff 00000003 'abc' ce",
            FrameKind::Body,
            65_535,
            "'abc'",
        ),
    ] {
        let (wire, payload) = (octets(wire), octets(payload));
        let expected = Frame {
            kind,
            channel,
            payload: &payload,
        };
        assert_eq!(frame::decode(&wire, 4096), Ok(Some((expected, wire.len()))));
        let mut encoded = Vec::new();
        frame::encode(&mut encoded, kind, channel, &payload);
        assert_eq!(encoded, wire);
    }
    assert_eq!(frame::HEARTBEAT[..], octets("08 0000 00000000 ce"));
    assert_eq!(frame::PROTOCOL_HEADER[..], octets("'AMQP' 00 00 09 01"));
}

/// The letters are RabbitMQ's, which differ from the specification's for
/// 16-bit and 64-bit integers (`s`, `l`) and add `x`.
#[rustfmt::skip]
fn values() -> Vec<(&'static str, FieldValue)> {
    vec![
        ("'t' 01", FieldValue::Bool(true)),
        ("'b' fe", FieldValue::I8(-2)),
        ("'B' fe", FieldValue::U8(254)),
        ("'s' fffe", FieldValue::I16(-2)),
        ("'u' fffe", FieldValue::U16(65_534)),
        ("'I' fffffffe", FieldValue::I32(-2)),
        ("'i' fffffffe", FieldValue::U32(4_294_967_294)),
        ("'l' fffffffffffffffe", FieldValue::I64(-2)),
        ("'f' 3fc00000", FieldValue::F32(1.5)),
        ("'d' bff8000000000000", FieldValue::F64(-1.5)),
        ("'D' 02 0000013a", FieldValue::Decimal { scale: 2, value: 314 }),
        ("'S' 00000003 'abc'", FieldValue::LongStr(b"abc".to_vec())),
        ("'x' 00000002 00ff", FieldValue::Bytes(vec![0, 255])),
        ("'A' 00000003 't'00 'V'", FieldValue::Array(vec![FieldValue::Bool(false), FieldValue::Void])),
        ("'T' 000000006553f100", FieldValue::Timestamp(1_700_000_000)),
        ("'F' 00000003 01'n' 'V'", FieldValue::Table(FieldTable::from_iter([("n", FieldValue::Void)]))),
        ("'V'", FieldValue::Void),
    ]
}

#[test]
fn tables_hold_all_seventeen_types() {
    let (mut wire, mut expected) = (Vec::new(), FieldTable::new());
    for (index, (octets_of_value, value)) in values().into_iter().enumerate() {
        wire.extend_from_slice(&[2, b'k', b'a' + index as u8]);
        wire.extend_from_slice(&octets(octets_of_value));
        expected.insert(format!("k{}", (b'a' + index as u8) as char), value);
    }
    assert_eq!(expected.len(), 17);
    let limits = Limits::default();
    assert_eq!(table::decode(&wire, &limits).as_ref(), Ok(&expected));
    assert_eq!(table::validate(&wire, &limits), Ok(()));
    for (name, value) in expected.iter() {
        assert_eq!(
            table::find(&wire, name, &limits).as_ref(),
            Ok(&Some(value.clone()))
        );
    }
    let mut encoded = Vec::new();
    table::encode(&mut encoded, &expected);
    assert_eq!(encoded[..4], (wire.len() as u32).to_be_bytes());
    assert_eq!(encoded[4..], wire);
}

#[test]
fn other_spellings_are_read_but_not_written() {
    for (shows, wire, value) in [
        (
            "L, as some clients write a 64-bit integer",
            "01'n' 'L' 0000000000000005",
            FieldValue::I64(5),
        ),
        (
            "any octet but 0 is true",
            "01'n' 't' 02",
            FieldValue::Bool(true),
        ),
    ] {
        let table = table::decode(&octets(wire), &Limits::default()).expect(shows);
        assert_eq!(table.get("n"), Some(&value), "{shows}");
    }
}

#[test]
fn a_content_header_with_all_properties() {
    let wire = octets(
        "003c 0000 0000000000000400 fffc
         0a'text/plain' 04'gzip' 00000004 01'a' 't'01 02 09 03'cor' 03'rep' 04'6000' 03'mid'
         000000006553f100 03'typ' 03'usr' 03'app' 03'clu'",
    );
    let header = ContentHeader::decode(&wire).expect("a header");
    assert_eq!((header.class_id, header.body_bytes), (60, 1024));
    let expected = Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        headers: Some(arguments()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some("cor".into()),
        reply_to: Some("rep".into()),
        expiration: Some("6000".into()),
        message_id: Some("mid".into()),
        timestamp: Some(1_700_000_000),
        kind: Some("typ".into()),
        user_id: Some("usr".into()),
        app_id: Some("app".into()),
        cluster_id: Some("clu".into()),
    };
    let limits = Limits::default();
    assert_eq!(
        Properties::decode(header.properties, &limits).as_ref(),
        Ok(&expected)
    );
    let mut properties = Vec::new();
    expected.encode(&mut properties);
    assert_eq!(properties, header.properties);
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    assert_eq!(encoded, wire);
}

#[test]
fn each_property_has_its_flag() {
    for (wire, expected) in [
        (
            "8000 01'c'",
            Properties {
                content_type: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "4000 01'c'",
            Properties {
                content_encoding: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "2000 00000000",
            Properties {
                headers: Some(FieldTable::new()),
                ..Default::default()
            },
        ),
        (
            "1000 02",
            Properties {
                delivery_mode: Some(2),
                ..Default::default()
            },
        ),
        (
            "0800 05",
            Properties {
                priority: Some(5),
                ..Default::default()
            },
        ),
        (
            "0400 01'c'",
            Properties {
                correlation_id: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0200 01'c'",
            Properties {
                reply_to: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0100 01'c'",
            Properties {
                expiration: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0080 01'c'",
            Properties {
                message_id: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0040 0000000000000001",
            Properties {
                timestamp: Some(1),
                ..Default::default()
            },
        ),
        (
            "0020 01'c'",
            Properties {
                kind: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0010 01'c'",
            Properties {
                user_id: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0008 01'c'",
            Properties {
                app_id: Some("c".into()),
                ..Default::default()
            },
        ),
        (
            "0004 01'c'",
            Properties {
                cluster_id: Some("c".into()),
                ..Default::default()
            },
        ),
        ("0000", Properties::default()),
    ] {
        let octets = octets(wire);
        assert_eq!(
            Properties::decode(&octets, &Limits::default()).as_ref(),
            Ok(&expected),
            "{wire}"
        );
        let mut encoded = Vec::new();
        expected.encode(&mut encoded);
        assert_eq!(encoded, octets, "{wire}");
    }
}

fn octets(vector: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for (index, part) in vector.split('\'').enumerate() {
        if index % 2 == 1 {
            octets.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part
            .chars()
            .filter(|character| !character.is_whitespace())
            .map(|character| character.to_digit(16).expect("a hexadecimal digit") as u8)
            .collect();
        assert_eq!(digits.len() % 2, 0, "half an octet in {vector}");
        octets.extend(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    octets
}
