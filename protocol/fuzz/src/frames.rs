//! Any octets through every reader of the codec.
//!
//! The first octet chooses the reader and the limits, the rest is its input.
//! What is read must be written the same, and all readers of one thing must
//! agree. `protocol/tests/fuzz_regressions.rs` runs this over the inputs kept in
//! `protocol/fuzz/regressions/frames/`; an input that found a fault goes there.

use bytes::BytesMut;
use leveret_protocol::method::{BasicPublish, EncodeMethod};
use leveret_protocol::{
    ContentHeader, FieldTable, FrameKind, Limits, Method, Properties, PropertyScan, content, frame,
    header, table,
};

/// One input of the fuzz target; panics where the codec breaks its word.
pub fn run(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let limits = match choice & 0x80 {
        0 => Limits::default(),
        _ => Limits {
            frame_max: 64,
            table_depth_max: 3,
            table_entries_max: 8,
        },
    };
    match choice & 0x07 {
        0 => method(data, &limits),
        1 => properties(data, &limits),
        2 => entries(data, &limits),
        3 => content_header(data, &limits),
        4 => message(data),
        _ => stream(data, &limits),
    }
}

/// Frames, borrowed and taken, and what is in them.
fn stream(data: &[u8], limits: &Limits) {
    let mut buffer = BytesMut::from(data);
    let mut rest = data;
    loop {
        let decoded = frame::decode(rest, limits.frame_max);
        let taken = frame::take(&mut buffer, limits.frame_max);
        let (frame, size) = match (decoded, taken) {
            (Ok(Some((frame, size))), Ok(Some(taken))) => {
                assert_eq!(frame, taken.as_frame());
                (frame, size)
            }
            (Ok(None), Ok(None)) => return,
            (Err(one), Err(other)) => return assert_eq!(one, other),
            (one, other) => panic!("decode says {one:?}, take says {other:?}"),
        };
        let (whole, behind) = rest.split_at(size);
        let mut written = Vec::new();
        frame::encode(&mut written, frame.kind, frame.channel, frame.payload);
        assert_eq!(written, whole);
        match frame.kind {
            FrameKind::Method => method(frame.payload, limits),
            FrameKind::Header => content_header(frame.payload, limits),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
        rest = behind;
        assert_eq!(rest, &buffer[..]);
    }
}

fn method(payload: &[u8], limits: &Limits) {
    let scan = content::scan_publish(payload);
    let Ok(method) = Method::decode(payload, limits) else {
        // Only what is no UTF-8 passes the scan and not the decoder.
        if let Some(scan) = scan {
            let (exchange, key) = scan.envelope[1..].split_at(scan.envelope[0].into());
            assert!(
                [exchange, &key[1..]]
                    .iter()
                    .any(|text| std::str::from_utf8(text).is_err())
            );
        }
        return;
    };
    if let Method::BasicPublish(publish) = &method {
        let scan = scan.expect("a whole publish");
        let mut envelope = Vec::new();
        content::encode_envelope(&mut envelope, publish.exchange, publish.routing_key);
        assert_eq!(scan.envelope, envelope);
        assert_eq!(
            (scan.mandatory, scan.immediate),
            (publish.mandatory, publish.immediate)
        );
    } else {
        assert_eq!(scan, None);
    }
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    method.encode(&mut once);
    assert_eq!(once.len(), payload.len());
    Method::decode(&once, limits)
        .expect("what we wrote")
        .encode(&mut twice);
    assert_eq!(once, twice);
}

fn content_header(payload: &[u8], limits: &Limits) {
    let Ok(header) = ContentHeader::decode(payload) else {
        return assert!(payload.len() < header::PROPERTIES_OFFSET);
    };
    let mut written = Vec::new();
    header.encode(&mut written);
    assert_eq!(ContentHeader::decode(&written), Ok(header));
    properties(header.properties, limits);
}

fn properties(octets: &[u8], limits: &Limits) {
    let scan = PropertyScan::new(octets);
    let whole = Properties::decode(octets, limits);
    let mut out = Vec::new();
    let Ok(scan) = scan else {
        assert!(whole.is_err(), "only the scan refuses");
        let _ = header::replace_reply_to(octets, "r", &mut out);
        let _ = header::without_header(octets, "BCC", &mut out);
        return;
    };
    if let Some(headers) = scan.headers {
        entries(headers, limits);
        let valid = table::validate(headers, limits).is_ok();
        assert_eq!(valid, whole.is_ok());
    }
    header::replace_reply_to(octets, "r", &mut out).expect("a list that was scanned");
    let changed = PropertyScan::new(&out).expect("what we wrote");
    assert_eq!(
        changed,
        PropertyScan {
            reply_to: Some("r"),
            ..scan
        }
    );

    let Ok(whole) = whole else { return };
    assert_eq!(scan.delivery_mode, whole.delivery_mode);
    assert_eq!(scan.priority, whole.priority);
    assert_eq!(scan.reply_to, whole.reply_to.as_deref());
    assert_eq!(scan.expiration, whole.expiration.as_deref());
    assert_eq!(scan.user_id, whole.user_id.as_deref());
    out.clear();
    whole.encode(&mut out);
    assert_eq!(out.len(), octets.len());

    let name = whole
        .headers
        .as_ref()
        .and_then(|headers| headers.iter().next());
    let name = name.map_or("BCC", |(name, _)| name.as_str());
    out.clear();
    let found = header::without_header(octets, name, &mut out).expect("a list that was decoded");
    let left = Properties::decode(&out, limits).expect("what we wrote");
    assert_eq!(
        found,
        whole
            .headers
            .as_ref()
            .is_some_and(|headers| headers.get(name).is_some())
    );
    assert!(
        left.headers
            .is_none_or(|headers| headers.get(name).is_none())
    );
}

fn entries(octets: &[u8], limits: &Limits) {
    let decoded = table::decode(octets, limits);
    assert_eq!(table::validate(octets, limits).is_ok(), decoded.is_ok());
    let Ok(decoded) = decoded else {
        let _ = table::find(octets, "", limits);
        return;
    };
    let once = written(&decoded);
    assert_eq!(once.len() - 4, octets.len());
    let again = table::decode(&once[4..], limits).expect("what we wrote");
    assert_eq!(written(&again), once);
    for ((name, value), entry) in decoded.iter().zip(table::entries(octets)) {
        let (raw_name, raw_value) = entry.expect("a table that was decoded");
        assert_eq!(raw_name, name);
        let one = FieldTable::from_iter([("", value.clone())]);
        let other = FieldTable::from_iter([("", raw_value.decode(limits).expect("as before"))]);
        assert_eq!(
            written(&one),
            written(&other),
            "compared as octets: NaN is not NaN"
        );
        assert!(table::find(octets, name, limits).is_ok_and(|found| found.is_some()));
    }
}

/// A whole message written and read again: the octets are its body, cut by a
/// limit that the first two choose.
fn message(data: &[u8]) {
    let Some((&[high, low], body)) = data.split_first_chunk() else {
        return;
    };
    let frame_max = u32::from(u16::from_be_bytes([high, low]));
    let mut wire = Vec::new();
    content::encode(
        &mut wire,
        1,
        &BasicPublish::default(),
        &[0, 0],
        body,
        frame_max,
    );
    let (mut rest, mut read, mut frames) = (&wire[..], Vec::new(), 0);
    while let Some((frame, size)) = frame::decode(rest, 1 << 24).expect("our frames") {
        if frame.kind == FrameKind::Body {
            assert!(frame_max == 0 || size <= (frame_max as usize).max(9));
            read.extend_from_slice(frame.payload);
            frames += 1;
        }
        rest = &rest[size..];
    }
    assert_eq!(read, body);
    assert_eq!(frames, content::body_frames(body.len(), frame_max).len());
}

fn written(table: &FieldTable) -> Vec<u8> {
    let mut octets = Vec::new();
    table::encode(&mut octets, table);
    octets
}
