//! What is written is read, and what is read is written, for anything that the
//! codec can carry; what it cannot is refused alike by all that read it.

mod support;

use bytes::BytesMut;
use leveret_protocol::method::{Domain, EncodeMethod};
use leveret_protocol::{
    ContentHeader, FieldTable, FrameKind, Limits, Method, OwnedFrame, Properties, PropertyScan,
    frame, header, table,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{damage, damaged, field_table, method_payload, properties, value};

const LIMITS: Limits = Limits {
    frame_max: 131_072,
    table_depth_max: 64,
    table_entries_max: 65_536,
};

#[test]
fn no_two_rows_are_the_same_method() {
    let mut ids: Vec<_> = Method::TABLE
        .iter()
        .map(|row| (row.class_id, row.method_id))
        .collect();
    assert!(ids.is_sorted(), "the table is in the order of its ids");
    ids.dedup();
    assert_eq!(ids.len(), Method::TABLE.len());
    let mut names: Vec<_> = Method::TABLE.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Method::TABLE.len());
}

#[test]
fn every_row_round_trips() {
    use proptest::test_runner::{Config, TestRunner};
    for row in Method::TABLE {
        let mut runner = TestRunner::new(Config::with_cases(64));
        runner
            .run(&support::payload_of(row), |(spec, payload)| {
                let method = Method::decode(&payload, &LIMITS)
                    .map_err(|error| TestCaseError::fail(format!("{}: {error}", spec.name)))?;
                prop_assert_eq!(method.name(), spec.name);
                prop_assert_eq!(method.ids(), (spec.class_id, spec.method_id));
                let mut encoded = Vec::new();
                method.encode(&mut encoded);
                prop_assert_eq!(&encoded, &payload);
                if !spec
                    .fields
                    .iter()
                    .any(|(_, domain)| *domain == Domain::Table)
                {
                    prop_assert!(method.bytes_hint() >= encoded.len());
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{}: {error}", row.name));
    }
}

proptest! {
    #[test]
    fn tables_come_back(expected in field_table()) {
        let mut wire = Vec::new();
        table::encode(&mut wire, &expected);
        let (length, entries) = wire.split_at(4);
        prop_assert_eq!(length, (entries.len() as u32).to_be_bytes());
        prop_assert_eq!(table::decode(entries, &LIMITS), Ok(expected.clone()));
        prop_assert_eq!(table::validate(entries, &LIMITS), Ok(()));
        for (name, _) in expected.iter() {
            prop_assert_eq!(table::find(entries, name, &LIMITS), Ok(expected.get(name).cloned()));
        }
    }

    #[test]
    fn values_are_read_in_place_as_they_are_decoded(expected in vec(value(), 1..6)) {
        let mut wire = Vec::new();
        table::encode(&mut wire, &FieldTable::from_iter([("a", leveret_protocol::FieldValue::Array(expected.clone()))]));
        let (_, array) = table::entries(&wire[4..]).next().expect("one entry").expect("whole");
        let items: Vec<_> = array.items().expect("an array").map(|item| item.expect("whole")).collect();
        prop_assert_eq!(items.len(), expected.len());
        for (item, expected) in items.iter().zip(&expected) {
            prop_assert_eq!(item.decode(&LIMITS), Ok(expected.clone()));
            prop_assert_eq!(item.as_str(), expected.as_str());
        }
    }

    #[test]
    fn properties_come_back(expected in properties(), body_bytes: u64) {
        let mut octets = Vec::new();
        expected.encode(&mut octets);
        let header = ContentHeader { class_id: 60, body_bytes, properties: &octets };
        let mut payload = Vec::new();
        header.encode(&mut payload);
        prop_assert_eq!(ContentHeader::decode(&payload), Ok(header));
        prop_assert_eq!(Properties::decode(&octets, &LIMITS), Ok(expected.clone()));
    }

    #[test]
    fn the_scan_agrees_with_the_whole_list(list in properties(), damage in damage()) {
        let mut octets = Vec::new();
        list.encode(&mut octets);
        scan_agrees(&damaged(octets, damage))?;
    }

    #[test]
    fn the_scan_agrees_on_anything(flags: u16, octets in vec(0u8..20, 0..60)) {
        scan_agrees(&[&(flags & 0xFFFC).to_be_bytes(), &octets[..]].concat())?;
        scan_agrees(&octets)?;
    }

    #[test]
    fn all_readers_of_a_table_agree(table in field_table(), damage in damage(), tight: bool) {
        let limits = if tight { Limits { table_depth_max: 2, table_entries_max: 5, ..LIMITS } } else { LIMITS };
        let mut wire = Vec::new();
        table::encode(&mut wire, &table);
        let entries = damaged(wire.split_off(4), damage);
        let decoded = table::decode(&entries, &limits);
        prop_assert_eq!(table::validate(&entries, &limits).is_ok(), decoded.is_ok());
        if let Ok(decoded) = decoded {
            let names: Vec<_> = table::entries(&entries).map(|entry| entry.expect("whole").0.to_owned()).collect();
            prop_assert!(names.iter().eq(decoded.iter().map(|(name, _)| name.as_str())));
            let mut again = Vec::new();
            table::encode(&mut again, &decoded);
            prop_assert_eq!(again.len() - 4, entries.len());
        }
    }

    #[test]
    fn one_property_changes_and_the_rest_stays(list in properties(), new in support::short_string(), name in "[a-c]{0,2}") {
        let mut octets = Vec::new();
        list.encode(&mut octets);

        let mut out = Vec::new();
        header::replace_reply_to(&octets, &new, &mut out).expect("properties");
        let expected = Properties { reply_to: Some(new), ..list.clone() };
        prop_assert_eq!(Properties::decode(&out, &LIMITS), Ok(expected.clone()));

        out.clear();
        let found = header::without_header(&octets, &name, &mut out).expect("properties");
        let mut expected = list;
        let removed = expected.headers.as_mut().and_then(|headers| headers.remove(&name));
        prop_assert_eq!(found, removed.is_some());
        prop_assert_eq!(Properties::decode(&out, &LIMITS), Ok(expected.clone()));
    }

    #[test]
    fn identifiers_are_found_among_all_properties(list in properties(), cut in any::<prop::sample::Index>()) {
        let mut octets = Vec::new();
        list.encode(&mut octets);
        let found = header::IdentifierScan::new(&octets).expect("properties");
        prop_assert_eq!(found.message_id, list.message_id.as_deref());
        prop_assert_eq!(found.correlation_id, list.correlation_id.as_deref());
        prop_assert_eq!(found.timestamp, list.timestamp);
        // Cut off, they are not those of the whole, and nothing panics.
        let _ = header::IdentifierScan::new(&octets[..cut.index(octets.len())]);
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_frames(
        frames in vec(any_frame(), 1..8),
        cuts in vec(1usize..40, 1..40),
    ) {
        let mut wire = Vec::new();
        for frame in &frames {
            frame::encode(&mut wire, frame.kind, frame.channel, &frame.payload);
        }
        let (mut buffer, mut taken, mut fed) = (BytesMut::new(), Vec::new(), 0);
        for size in cuts.iter().cycle() {
            let piece = &wire[fed..wire.len().min(fed + size)];
            buffer.extend_from_slice(piece);
            fed += piece.len();
            loop {
                // The borrowed reader sees what the owned one takes.
                let borrowed = frame::decode(&buffer, 4096).expect("frames").map(|(frame, _)| frame.payload.to_vec());
                let owned = frame::take(&mut buffer, 4096).expect("frames");
                prop_assert_eq!(borrowed.as_deref(), owned.as_ref().map(|frame| &frame.payload[..]));
                match owned {
                    Some(frame) => taken.push(frame),
                    None => break,
                }
            }
            if fed == wire.len() {
                break;
            }
        }
        prop_assert_eq!(taken, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in vec(any::<u8>(), 0..200)) {
        let _ = frame::decode(&octets, 4096);
        let _ = frame::take(&mut BytesMut::from(&octets[..]), 4096);
        let _ = Method::decode(&octets, &LIMITS);
        let _ = ContentHeader::decode(&octets);
        let _ = table::decode(&octets, &LIMITS);
        let _ = table::find(&octets, "a", &LIMITS);
        let _ = leveret_protocol::content::scan_publish(&octets);
        scan_agrees(&octets)?;
    }

    #[test]
    fn damaged_methods_never_panic((_, payload) in method_payload(), damage in damage()) {
        let payload = damaged(payload, damage);
        if let Ok(method) = Method::decode(&payload, &LIMITS) {
            let mut once = Vec::new();
            method.encode(&mut once);
            prop_assert_eq!(once.len(), payload.len());
            let again = Method::decode(&once, &LIMITS).expect("our own octets");
            let mut twice = Vec::new();
            again.encode(&mut twice);
            prop_assert_eq!(twice, once);
        }
    }
}

fn any_frame() -> impl Strategy<Value = OwnedFrame> {
    let kind = prop::sample::select(vec![
        FrameKind::Method,
        FrameKind::Header,
        FrameKind::Body,
        FrameKind::Heartbeat,
    ]);
    (kind, any::<u16>(), vec(any::<u8>(), 0..100)).prop_map(|(kind, channel, payload)| OwnedFrame {
        kind,
        channel,
        payload: payload.into(),
    })
}

/// The scan does not look into the headers table; else it takes and refuses
/// what the whole decoder does, and finds the same.
fn scan_agrees(octets: &[u8]) -> Result<(), TestCaseError> {
    let scan = PropertyScan::new(octets);
    let whole = Properties::decode(octets, &LIMITS);
    match (&scan, &whole) {
        (Err(_), Err(_)) => {}
        (Ok(scan), Err(_)) => {
            let headers = scan.headers.expect("only headers are not looked into");
            prop_assert!(header::decode_headers(headers, &LIMITS).is_err());
        }
        (Err(error), Ok(_)) => prop_assert!(false, "only the scan refuses: {error}"),
        (Ok(scan), Ok(whole)) => {
            prop_assert_eq!(scan.delivery_mode, whole.delivery_mode);
            prop_assert_eq!(scan.priority, whole.priority);
            prop_assert_eq!(scan.reply_to, whole.reply_to.as_deref());
            prop_assert_eq!(scan.expiration, whole.expiration.as_deref());
            prop_assert_eq!(scan.user_id, whole.user_id.as_deref());
            prop_assert_eq!(scan.persistent(), whole.delivery_mode == Some(2));
            let (mut headers, mut expected) = (Vec::new(), Vec::new());
            if let Some(entries) = scan.headers {
                table::encode(
                    &mut headers,
                    &header::decode_headers(entries, &LIMITS).expect("as before"),
                );
            }
            if let Some(table) = &whole.headers {
                table::encode(&mut expected, table);
            }
            prop_assert_eq!(headers, expected);
        }
    }
    Ok(())
}
