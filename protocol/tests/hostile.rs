//! What a hostile peer may send: lengths that lie, nesting without end, octets
//! cut off anywhere. Each row is refused with its reply code or waits for more.

mod support;

use leveret_protocol::method::{Domain, EncodeMethod, QueueDeclare};
use leveret_protocol::{
    ContentHeader, DecodeError, FieldTable, FieldValue, Limits, Method, Properties, PropertyScan,
    ReplyCode, Writer, frame, table,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const LENGTHS: [u32; 6] = [
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    u32::MAX - 8,
    u32::MAX - 1,
    u32::MAX,
];

#[test]
fn a_frame_above_the_limit_is_refused_before_its_payload_comes() {
    for (shows, size, frame_max, waits) in [
        ("far below", 100, 4096, true),
        ("at the limit with its envelope", 4088, 4096, true),
        ("the envelope is forgiven", 4096, 4096, true),
        ("one octet above", 4097, 4096, false),
        ("1 MiB before tune", 1 << 20, 8192, false),
        ("2 GiB before tune", 1 << 31, 8192, false),
        ("all bits set", u32::MAX, 131_072, false),
        ("all bits set and no limit", u32::MAX, u32::MAX, true),
    ] {
        let mut wire = vec![3, 0, 1];
        wire.extend_from_slice(&size.to_be_bytes());
        for extra in [0, 1, 50] {
            wire.resize(7 + extra, 0xCE);
            match frame::decode(&wire, frame_max) {
                Ok(None) => assert!(waits, "{shows}"),
                Err(error) => {
                    assert_eq!(
                        error,
                        DecodeError::FrameTooLarge { size, frame_max },
                        "{shows}"
                    );
                    assert_eq!(error.reply_code(), ReplyCode::FrameError);
                    assert!(!waits, "{shows}");
                }
                other => panic!("{shows}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_frame_cut_off_anywhere_waits_for_the_rest() {
    let mut wire = Vec::new();
    frame::encode_method(
        &mut wire,
        1,
        &QueueDeclare {
            queue: "q",
            ..Default::default()
        },
    );
    for cut in 0..wire.len() {
        assert_eq!(frame::decode(&wire[..cut], 4096), Ok(None), "cut at {cut}");
    }
    assert!(frame::decode(&wire, 4096).is_ok_and(|frame| frame.is_some()));
}

#[test]
fn what_is_no_frame_is_refused_at_its_first_wrong_octet() {
    for (shows, wire) in [
        ("HTTP", &b"G"[..]),
        ("a TLS ClientHello", b"\x16\x03"),
        ("the protocol header again", b"AMQP\x00\x00\x09\x01"),
        ("type 0", b"\x00"),
        ("type 4, once out-of-band", b"\x04\x00\x01"),
        (
            "a heartbeat that ends wrong",
            b"\x08\x00\x00\x00\x00\x00\x00\xCD",
        ),
    ] {
        let error = frame::decode(wire, 4096).expect_err(shows);
        assert_eq!(error.reply_code(), ReplyCode::FrameError, "{shows}");
    }
}

#[test]
fn short_strings_hold_up_to_255_octets() {
    let limits = Limits::default();
    for (text, kept) in [
        (String::new(), 0),
        ("x".to_owned(), 1),
        ("x".repeat(254), 254),
        ("x".repeat(255), 255),
        ("x".repeat(256), 255),
        ("x".repeat(300), 255),
        // The last character of two octets does not fit in half.
        ("ä".repeat(127), 254),
        ("ä".repeat(128), 254),
        (format!("x{}", "ä".repeat(127)), 255),
    ] {
        let mut payload = Vec::new();
        QueueDeclare {
            queue: &text,
            nowait: true,
            ..Default::default()
        }
        .encode(&mut payload);
        let expected = QueueDeclare {
            queue: &text[..kept],
            nowait: true,
            ..Default::default()
        };
        assert_eq!(Method::decode(&payload, &limits), Ok(expected.into()));
    }
    for claimed in [1, 127, 128, 254, 255] {
        let mut payload = vec![0, 50, 0, 10, 0, 0, claimed];
        payload.resize(payload.len() + usize::from(claimed) - 1, b'x');
        assert!(
            syntax_error(Method::decode(&payload, &limits)),
            "one octet short of {claimed}"
        );
    }
    assert!(
        syntax_error(Method::decode(b"\0\x14\0\x0a\x01\xFF", &limits)),
        "not UTF-8"
    );
}

#[test]
fn long_lengths_are_not_believed() {
    let limits = Limits::default();
    for length in LENGTHS {
        let claim = length.to_be_bytes();
        let method = |head: &[u8]| [head, &claim, b"abc"].concat();
        for (shows, payload) in [
            ("long string", method(&[0, 10, 0, 20])),
            ("table", method(&[0, 50, 0, 10, 0, 0, 0, 0])),
            ("table behind others", method(&[0, 10, 0, 10, 0, 9])),
        ] {
            assert!(
                syntax_error(Method::decode(&payload, &limits)),
                "{shows} of {length}"
            );
        }
        for letter in *b"SxAF" {
            let entries = [&[1, b'n', letter][..], &claim, b"abc"].concat();
            assert!(syntax_error(table::decode(&entries, &limits)));
            assert!(syntax_error(table::validate(&entries, &limits)));
            assert!(syntax_error(table::find(&entries, "n", &limits)));
            assert!(syntax_error(table::find(&entries, "other", &limits)));
        }
        let properties = [&[0x20, 0][..], &claim, b"abc"].concat();
        assert!(syntax_error(PropertyScan::new(&properties)));
        assert!(syntax_error(Properties::decode(&properties, &limits)));
    }
}

#[test]
fn nesting_ten_thousand_deep_is_refused() {
    let limits = Limits::default();
    for letter in *b"FA" {
        let entries = nested(letter, 10_000);
        for refusal in [
            table::decode(&entries, &limits).map(drop),
            table::validate(&entries, &limits),
            table::find(&entries, "", &limits).map(drop),
        ] {
            assert_eq!(refusal, Err(DecodeError::TableLimit("nested tables")));
        }
        // Passing over it costs nothing, and says nothing about it.
        assert_eq!(table::find(&entries, "other", &limits), Ok(None));
    }
}

#[test]
fn nesting_is_counted_from_the_outermost_table() {
    for letter in *b"FA" {
        for (depth, depth_max) in [(0, 1), (1, 2), (63, 64), (254, 255)] {
            let entries = nested(letter, depth);
            let limits = Limits {
                table_depth_max: depth_max,
                ..Limits::default()
            };
            assert!(
                table::decode(&entries, &limits).is_ok(),
                "{depth} within {depth_max}"
            );
            assert!(table::validate(&entries, &limits).is_ok());
            assert!(table::find(&entries, "", &limits).is_ok());
            let tighter = Limits {
                table_depth_max: depth_max - 1,
                ..limits
            };
            assert!(syntax_error(table::decode(&entries, &tighter)));
            assert!(syntax_error(table::validate(&entries, &tighter)));
        }
    }
}

#[test]
fn values_without_width_are_counted() {
    let limits = Limits {
        table_entries_max: 65_536,
        ..Limits::default()
    };
    // The array is a value of the table itself.
    for (voids, fits) in [(1, true), (65_535, true), (65_536, false), (100_000, false)] {
        let mut entries = vec![0, b'A'];
        Writer::new(&mut entries).longstr(&vec![b'V'; voids]);
        assert_eq!(table::decode(&entries, &limits).is_ok(), fits, "{voids}");
        assert_eq!(table::validate(&entries, &limits).is_ok(), fits, "{voids}");
        assert_eq!(table::find(&entries, "", &limits).is_ok(), fits, "{voids}");
    }
    let entries = b"\x00V".repeat(100_000);
    assert_eq!(
        table::decode(&entries, &limits),
        Err(DecodeError::TableLimit("entries"))
    );
    assert_eq!(
        table::validate(&entries, &limits),
        Err(DecodeError::TableLimit("entries"))
    );
}

#[test]
fn a_limit_of_nothing_still_allows_the_empty_table() {
    let limits = Limits {
        table_depth_max: 1,
        table_entries_max: 0,
        ..Limits::default()
    };
    assert_eq!(table::decode(&[], &limits), Ok(FieldTable::new()));
    assert!(syntax_error(table::decode(b"\x00V", &limits)));
}

#[test]
fn every_method_cut_off_or_too_long_is_refused() {
    let limits = Limits::default();
    let mut runner = TestRunner::deterministic();
    for row in Method::TABLE {
        for _ in 0..4 {
            let (_, payload) = support::payload_of(row)
                .new_tree(&mut runner)
                .expect("a payload")
                .current();
            for cut in 0..payload.len() {
                assert!(
                    syntax_error(Method::decode(&payload[..cut], &limits)),
                    "{} cut at {cut}",
                    row.name
                );
            }
            let longer = [&payload[..], &[0]].concat();
            assert!(
                syntax_error(Method::decode(&longer, &limits)),
                "{} with an octet more",
                row.name
            );
        }
        // Bits that the specification leaves unused are not looked at.
        if row
            .fields
            .last()
            .is_some_and(|(_, domain)| *domain == Domain::Bit)
        {
            let (_, mut payload) = support::payload_of(row)
                .new_tree(&mut runner)
                .expect("a payload")
                .current();
            *payload.last_mut().expect("the bits") |= 0b1110_0000;
            assert!(Method::decode(&payload, &limits).is_ok(), "{}", row.name);
        }
    }
}

#[test]
fn unknown_methods_are_named() {
    for (class_id, method_id) in [
        (0, 0),
        (10, 12),
        (40, 41),
        (60, 200),
        (61, 40),
        (85, 12),
        (u16::MAX, u16::MAX),
    ] {
        let payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
        let error = Method::decode(&payload, &Limits::default()).expect_err("no such method");
        assert_eq!(
            error,
            DecodeError::MethodUnknown {
                class_id,
                method_id
            }
        );
        assert_eq!(error.reply_code(), ReplyCode::CommandInvalid);
    }
}

#[test]
fn content_headers_cut_off_are_refused() {
    let list = Properties {
        content_type: Some("a".into()),
        headers: Some(FieldTable::from_iter([("k", FieldValue::Void)])),
        timestamp: Some(1),
        cluster_id: Some("z".into()),
        ..Properties::default()
    };
    let (mut properties, mut payload) = (Vec::new(), Vec::new());
    list.encode(&mut properties);
    ContentHeader {
        class_id: 60,
        body_bytes: u64::MAX,
        properties: &properties,
    }
    .encode(&mut payload);
    for cut in 0..payload.len() {
        match ContentHeader::decode(&payload[..cut]) {
            Err(_) => assert!(cut < 12),
            Ok(header) => {
                assert!(
                    syntax_error(PropertyScan::new(header.properties)),
                    "cut at {cut}"
                );
                assert!(syntax_error(Properties::decode(
                    header.properties,
                    &Limits::default()
                )));
            }
        }
    }
}

#[test]
fn unused_property_flags_are_refused() {
    for flags in [1u16, 2, 3, 0x8001, 0xFFFF] {
        let octets = [&flags.to_be_bytes()[..], &[0; 64]].concat();
        assert!(syntax_error(PropertyScan::new(&octets)), "{flags:#x}");
        assert!(
            syntax_error(Properties::decode(&octets, &Limits::default())),
            "{flags:#x}"
        );
    }
}

fn syntax_error<T>(result: Result<T, DecodeError>) -> bool {
    result.is_err_and(|error| error.reply_code() == ReplyCode::SyntaxError)
}

/// The entries of a table in which tables or arrays are nested `depth` deep.
fn nested(letter: u8, depth: usize) -> Vec<u8> {
    // From the inside out, reversed at the end: the lengths are known then.
    let mut reversed = Vec::new();
    for level in (0..depth).rev() {
        let length = reversed.len() as u32;
        reversed.extend(length.to_be_bytes().iter().rev());
        reversed.push(letter);
        if letter == b'F' || level == 0 {
            reversed.push(0); // an empty name
        }
    }
    reversed.reverse();
    reversed
}
