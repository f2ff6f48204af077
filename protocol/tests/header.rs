//! Content headers: what rewriting one property does to the rest.

use leveret_protocol::{FieldTable, FieldValue, Limits, Properties, PropertyScan, header};

fn with(change: impl FnOnce(&mut Properties)) -> Vec<u8> {
    let mut properties = Properties {
        content_type: Some("a/b".into()),
        delivery_mode: Some(1),
        correlation_id: Some("c".into()),
        message_id: Some("m".into()),
        app_id: Some("app".into()),
        ..Properties::default()
    };
    change(&mut properties);
    let mut octets = Vec::new();
    properties.encode(&mut octets);
    octets
}

#[test]
fn reply_to_is_replaced_or_added_between_its_neighbours() {
    for (shows, old) in [
        ("there was one", Some("amq.rabbitmq.reply-to")),
        ("there was none", None),
    ] {
        let before = with(|properties| properties.reply_to = old.map(Into::into));
        let mut out = vec![1];
        header::replace_reply_to(&before, "new", &mut out).expect(shows);
        let after = with(|properties| properties.reply_to = Some("new".into()));
        assert_eq!(out[1..], after, "{shows}");
        assert_eq!(
            PropertyScan::new(&out[1..]).expect(shows).reply_to,
            Some("new")
        );
    }
}

#[test]
fn a_header_is_taken_out_and_the_rest_stays() {
    let table =
        |names: &[&str]| -> FieldTable { names.iter().map(|name| (*name, *name)).collect() };
    for (shows, old, new, found) in [
        (
            "in the middle",
            Some(table(&["CC", "BCC", "z"])),
            Some(table(&["CC", "z"])),
            true,
        ),
        (
            "twice",
            Some(table(&["BCC", "a", "BCC"])),
            Some(table(&["a"])),
            true,
        ),
        (
            "alone: the table stays, empty",
            Some(table(&["BCC"])),
            Some(table(&[])),
            true,
        ),
        (
            "not there",
            Some(table(&["CC"])),
            Some(table(&["CC"])),
            false,
        ),
        ("no headers", None, None, false),
    ] {
        let before = with(|properties| properties.headers = old);
        let mut out = vec![1];
        assert_eq!(
            header::without_header(&before, "BCC", &mut out),
            Ok(found),
            "{shows}"
        );
        assert_eq!(
            out[1..],
            with(|properties| properties.headers = new),
            "{shows}"
        );
    }
}

#[test]
fn rewriting_a_malformed_list_leaves_the_buffer_alone() {
    let whole = with(|properties| properties.headers = Some(FieldTable::from_iter([("BCC", "x")])));
    // Both read up to the property they change; what is behind is copied.
    let headers_ends = 2 + 4 + 4 + (1 + 3 + 1 + 4 + 1);
    for cut in 0..whole.len() {
        let mut out = vec![1];
        let refused = header::without_header(&whole[..cut], "BCC", &mut out).is_err();
        assert!(refused || cut >= headers_ends, "cut at {cut}");
        assert_eq!(refused, out == [1], "cut at {cut}");
    }
    // A header cut off within a table of the right length.
    let mut damaged =
        with(|properties| properties.headers = Some(FieldTable::from_iter([("BCC", "x")])));
    let letter = damaged
        .iter()
        .position(|octet| *octet == b'S')
        .expect("the value's letter");
    damaged[letter] = b'l';
    let mut out = vec![1];
    assert!(header::without_header(&damaged, "BCC", &mut out).is_err());
    assert_eq!(out, [1]);
}

#[test]
fn one_header_is_looked_up_in_place() {
    let limits = Limits::default();
    let headers = FieldTable::from_iter([("x", 1i64), ("y", 2), ("x", 3)]);
    let list = with(|properties| properties.headers = Some(headers));
    let scan = PropertyScan::new(&list).expect("properties");
    for (name, value) in [("x", Some(1)), ("y", Some(2)), ("z", None)] {
        assert_eq!(scan.header(name, &limits), Ok(value.map(FieldValue::I64)));
    }
    let none = PropertyScan::new(&[0, 0]).expect("properties");
    assert_eq!(none.header("x", &limits), Ok(None));
}
