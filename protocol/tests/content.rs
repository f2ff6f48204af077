//! Whole messages: the frames that `content` writes are those a reader gets,
//! and its fast ways write the same octets as the plain one.

use leveret_protocol::method::{BasicDeliver, BasicGetOk, BasicPublish, BasicReturn, EncodeMethod};
use leveret_protocol::{ContentHeader, FrameKind, Limits, Method, Properties, content, frame};
use proptest::collection::vec;
use proptest::prelude::*;

/// The frames on `wire`, each checked against `frame_max`.
fn frames(mut wire: &[u8], frame_max: u32) -> Vec<(FrameKind, u16, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((frame, size)) = frame::decode(wire, 1 << 30).expect("frames") {
        assert!(frame_max == 0 || frame.kind != FrameKind::Body || size <= frame_max as usize);
        frames.push((frame.kind, frame.channel, frame.payload.to_vec()));
        wire = &wire[size..];
    }
    assert!(wire.is_empty(), "octets behind the last frame");
    frames
}

fn properties() -> Vec<u8> {
    let mut octets = Vec::new();
    Properties {
        content_type: Some("text/plain".into()),
        delivery_mode: Some(2),
        ..Properties::default()
    }
    .encode(&mut octets);
    octets
}

#[test]
fn a_body_is_cut_at_frame_max_and_an_empty_one_has_no_frame() {
    for (shows, body_bytes, frame_max, expected) in [
        ("empty: no frame", 0, 4096, &[][..]),
        ("one octet", 1, 4096, &[(0, 1)][..]),
        ("just fits", 4088, 4096, &[(0, 4088)]),
        ("one octet too many", 4089, 4096, &[(0, 4088), (4088, 1)]),
        ("twice", 8176, 4096, &[(0, 4088), (4088, 4088)]),
        ("no limit", 1 << 20, 0, &[(0, 1 << 20)]),
        ("a limit below an envelope", 2, 7, &[(0, 1), (1, 1)]),
    ] {
        let plan = content::body_frames(body_bytes, frame_max);
        assert_eq!(plan.len(), expected.len(), "{shows}");
        let wire_bytes = body_bytes + 8 * expected.len();
        assert_eq!(plan.wire_bytes(), wire_bytes, "{shows}");
        let cuts: Vec<_> = plan.map(|piece| (piece.offset, piece.bytes)).collect();
        assert_eq!(cuts, expected, "{shows}");
    }
}

#[test]
fn every_content_method_comes_back() {
    let methods = [
        Method::from(BasicPublish {
            exchange: "x",
            routing_key: "k",
            mandatory: true,
            ..Default::default()
        }),
        BasicReturn {
            reply_code: 312,
            reply_text: "NO_ROUTE",
            exchange: "x",
            routing_key: "k",
        }
        .into(),
        BasicDeliver {
            consumer_tag: "c",
            delivery_tag: 7,
            redelivered: true,
            exchange: "x",
            routing_key: "k",
        }
        .into(),
        BasicGetOk {
            delivery_tag: 9,
            redelivered: false,
            exchange: "",
            routing_key: "q",
            message_count: 3,
        }
        .into(),
    ];
    let body = vec![0xAB; 9_000];
    for method in methods {
        let mut wire = Vec::new();
        content::encode(&mut wire, 5, &method, &properties(), &body, 4_096);
        let frames = frames(&wire, 4_096);
        assert!(frames.iter().all(|(_, channel, _)| *channel == 5));
        assert_eq!(Method::decode(&frames[0].2, &Limits::default()), Ok(method));
        let header = ContentHeader::decode(&frames[1].2).expect("a header");
        assert_eq!((header.class_id, header.body_bytes), (60, 9_000));
        assert_eq!(header.properties, properties());
        let pieces: Vec<u8> = frames[2..]
            .iter()
            .flat_map(|(_, _, piece)| piece.clone())
            .collect();
        assert_eq!(pieces, body);
        assert_eq!(frames.len(), 2 + 3);
    }
}

#[test]
fn one_growth_of_the_buffer_is_enough() {
    let method = BasicDeliver {
        consumer_tag: "amq.ctag-1",
        delivery_tag: 1,
        redelivered: false,
        exchange: "amq.direct",
        routing_key: "key",
    };
    for body_bytes in [0, 16, 5_000] {
        let mut wire = Vec::new();
        content::encode(
            &mut wire,
            1,
            &method,
            &properties(),
            &vec![1; body_bytes],
            4_096,
        );
        assert!(
            wire.capacity() <= wire.len() + 8,
            "{} for {}",
            wire.capacity(),
            wire.len()
        );
    }
}

#[test]
fn deliver_head_is_deliver_without_its_body_frames() {
    let mut envelope = Vec::new();
    content::encode_envelope(&mut envelope, "x", "key");
    let body = vec![3; 10_000];
    let mut header = Vec::new();
    ContentHeader {
        class_id: 60,
        body_bytes: 10_000,
        properties: &properties(),
    }
    .encode(&mut header);

    let mut whole = Vec::new();
    content::encode_deliver(
        &mut whole, 2, "tag", 77, true, &envelope, &header, &body, 4_096,
    );
    let mut pieces = Vec::new();
    content::encode_deliver_head(&mut pieces, 2, "tag", 77, true, &envelope, &header);
    for piece in content::body_frames(body.len(), 4_096) {
        pieces.extend_from_slice(&piece.header(2));
        pieces.extend_from_slice(&body[piece.range()]);
        pieces.push(frame::FRAME_END);
    }
    assert_eq!(whole, pieces);
}

#[test]
fn the_publish_envelope_is_a_slice_of_the_publish() {
    let publish = BasicPublish {
        ticket: 1,
        exchange: "logs",
        routing_key: "a.b",
        mandatory: true,
        immediate: false,
    };
    let mut payload = Vec::new();
    publish.encode(&mut payload);
    let mut envelope = Vec::new();
    content::encode_envelope(&mut envelope, "logs", "a.b");
    assert_eq!(content::publish_envelope(&payload), Some(&envelope[..]));

    payload[3] = 50;
    assert_eq!(content::publish_envelope(&payload), None, "another method");
    assert_eq!(content::publish_envelope(&payload[..4]), None, "cut off");
}

proptest! {
    #[test]
    fn deliver_writes_what_the_plain_way_writes(
        channel: u16, delivery_tag: u64, redelivered: bool,
        consumer_tag in ".{0,100}", exchange in ".{0,80}", routing_key in ".{0,80}",
        body in vec(any::<u8>(), 0..300), frame_max in 9u32..200,
    ) {
        let method = BasicDeliver { consumer_tag: &consumer_tag, delivery_tag, redelivered, exchange: &exchange, routing_key: &routing_key };
        let mut plain = vec![9];
        content::encode(&mut plain, channel, &method, &properties(), &body, frame_max);

        let (mut envelope, mut header) = (Vec::new(), Vec::new());
        content::encode_envelope(&mut envelope, &exchange, &routing_key);
        ContentHeader { class_id: 60, body_bytes: body.len() as u64, properties: &properties() }.encode(&mut header);
        let mut fast = vec![9];
        content::encode_deliver(&mut fast, channel, &consumer_tag, delivery_tag, redelivered, &envelope, &header, &body, frame_max);
        prop_assert_eq!(fast, plain);
    }
}

#[test]
fn a_publish_is_scanned_as_it_is_decoded() {
    let limits = Limits::default();
    let mut payload = Vec::new();
    BasicPublish {
        ticket: 1,
        exchange: "logs",
        routing_key: "a.b",
        mandatory: false,
        immediate: true,
    }
    .encode(&mut payload);
    for cut in 0..payload.len() {
        assert_eq!(content::scan_publish(&payload[..cut]), None, "cut at {cut}");
    }
    for position in 0..payload.len() {
        for octet in 0..128 {
            let mut changed = payload.clone();
            changed[position] = octet;
            let decoded = match Method::decode(&changed, &limits) {
                Ok(Method::BasicPublish(publish)) => Some(publish),
                _ => None,
            };
            let scanned = content::scan_publish(&changed);
            assert_eq!(
                scanned.is_some(),
                decoded.is_some(),
                "{octet} at {position}"
            );
            if let (Some(scanned), Some(publish)) = (scanned, decoded) {
                let mut envelope = Vec::new();
                content::encode_envelope(&mut envelope, publish.exchange, publish.routing_key);
                assert_eq!(scanned.envelope, envelope);
                assert_eq!(
                    (scanned.mandatory, scanned.immediate),
                    (publish.mandatory, publish.immediate)
                );
            }
        }
    }
}
