//! The headers of dead letters, table by table.

use super::*;

const NOON: u64 = 1_700_000_000;

fn strings(texts: &[&str]) -> FieldValue {
    FieldValue::Array(texts.iter().map(|text| (*text).into()).collect())
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldValue {
    FieldValue::Table(FieldTable::from_iter(entries))
}

/// An entry of `x-death` as the broker makes it.
fn entry(queue: &str, reason: &str, count: i64, exchange: &str, keys: &[&str]) -> FieldValue {
    table([
        ("count", count.into()),
        ("reason", reason.into()),
        ("queue", queue.into()),
        ("time", FieldValue::Timestamp(NOON)),
        ("exchange", exchange.into()),
        ("routing-keys", strings(keys)),
    ])
}

fn message(exchange: &str, key: &str, properties: &Properties) -> Message {
    let mut octets = Vec::new();
    properties.encode(&mut octets);
    let mut header = Vec::new();
    let content = ContentHeader {
        class_id: BASIC_CLASS_ID,
        body_bytes: 4,
        properties: &octets,
    };
    content.encode(&mut header);
    Message::single(exchange, key, &header, b"body")
}

/// A message with these headers, published to `orders` with the key `new`.
fn with_headers(headers: FieldTable) -> Message {
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    message("orders", "new", &properties)
}

fn death(queue: &str, reason: DeathReason) -> Death<'_> {
    Death {
        queue,
        reason,
        seconds: NOON,
        routing_key: None,
    }
}

/// The properties of a copy, as a client reads them.
fn read(copy: &Forwarded) -> Properties {
    let header = ContentHeader::decode(&copy.header).expect("a header");
    assert_eq!((header.class_id, header.body_bytes), (BASIC_CLASS_ID, 4));
    let properties =
        Properties::decode(header.properties, &Limits::default()).expect("they can be read");
    assert_eq!(properties.headers.as_ref(), Some(&copy.headers));
    properties
}

/// Dies again, as what it has become.
fn again(copy: &Forwarded, exchange: &str, death: &Death<'_>) -> Forwarded {
    let message = message(exchange, &copy.routing_keys[0], &read(copy));
    Forwarded::new(&message, death)
}

fn deaths(copy: &Forwarded) -> &[FieldValue] {
    match copy.headers.get("x-death") {
        Some(FieldValue::Array(deaths)) => deaths,
        other => panic!("x-death is {other:?}"),
    }
}

#[test]
fn the_first_death_says_where_and_why_and_takes_the_ttl_away() {
    let properties = Properties {
        content_type: Some("text/plain".to_owned()),
        headers: Some(FieldTable::from_iter([("trace", "t-1")])),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some("c".to_owned()),
        expiration: Some("60000".to_owned()),
        message_id: Some("m".to_owned()),
        timestamp: Some(5),
        user_id: Some("guest".to_owned()),
        ..Properties::default()
    };
    let letter = message("orders", "new", &properties);
    let copy = Forwarded::new(&letter, &death("in", DeathReason::Expired));
    let died = table([
        ("count", 1.into()),
        ("reason", "expired".into()),
        ("queue", "in".into()),
        ("time", FieldValue::Timestamp(NOON)),
        ("exchange", "orders".into()),
        ("routing-keys", strings(&["new"])),
        ("original-expiration", "60000".into()),
    ]);
    let headers = FieldTable::from_iter([
        ("trace", "t-1".into()),
        ("x-first-death-reason", "expired".into()),
        ("x-first-death-queue", "in".into()),
        ("x-first-death-exchange", "orders".into()),
        ("x-death", FieldValue::Array(vec![died])),
        ("x-last-death-reason", "expired".into()),
        ("x-last-death-queue", "in".into()),
        ("x-last-death-exchange", FieldValue::from("orders")),
    ]);
    let expected = Properties {
        headers: Some(headers),
        expiration: None,
        ..properties
    };
    assert_eq!(read(&copy), expected);
    assert_eq!(copy.routing_keys, ["new"]);
}

#[test]
fn a_message_without_properties_gets_headers() {
    let letter = message("", "in", &Properties::default());
    let copy = Forwarded::new(&letter, &death("in", DeathReason::MaxLength));
    assert_eq!(deaths(&copy), [entry("in", "maxlen", 1, "", &["in"])]);
    assert_eq!(read(&copy).delivery_mode, None);
}

#[test]
fn reasons_have_rabbitmqs_names() {
    for (reason, name) in [
        (DeathReason::Rejected, "rejected"),
        (DeathReason::Expired, "expired"),
        (DeathReason::MaxLength, "maxlen"),
        (DeathReason::DeliveryLimit, "delivery_limit"),
    ] {
        let letter = message("orders", "new", &Properties::default());
        let copy = Forwarded::new(&letter, &death("in", reason));
        assert_eq!(deaths(&copy), [entry("in", name, 1, "orders", &["new"])]);
    }
}

#[test]
fn further_deaths_come_in_front_and_repeated_ones_are_counted() {
    let letter = message("orders", "new", &Properties::default());
    let first = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
    let second = again(&first, "dlx", &death("wait", DeathReason::Expired));
    assert_eq!(
        deaths(&second),
        [
            entry("wait", "expired", 1, "dlx", &["new"]),
            entry("in", "rejected", 1, "orders", &["new"]),
        ]
    );
    // Its time, exchange and keys stay those of the first time.
    let later = Death {
        seconds: NOON + 60,
        ..death("in", DeathReason::Rejected)
    };
    let third = again(&second, "back", &later);
    assert_eq!(
        deaths(&third),
        [
            entry("in", "rejected", 2, "orders", &["new"]),
            entry("wait", "expired", 1, "dlx", &["new"]),
        ]
    );
    // Another reason in the same queue is another death.
    let fourth = again(&third, "back", &death("in", DeathReason::Expired));
    assert_eq!(
        deaths(&fourth),
        [
            entry("in", "expired", 1, "back", &["new"]),
            entry("in", "rejected", 2, "orders", &["new"]),
            entry("wait", "expired", 1, "dlx", &["new"]),
        ]
    );
    let text = |name: &str| fourth.headers.get(name).and_then(FieldValue::as_str);
    for (what, first, last) in [
        ("reason", "rejected", "expired"),
        ("queue", "in", "in"),
        ("exchange", "orders", "back"),
    ] {
        assert_eq!(text(&format!("x-first-death-{what}")), Some(first));
        assert_eq!(text(&format!("x-last-death-{what}")), Some(last));
    }
}

#[test]
fn a_ttl_of_a_later_publish_is_not_entered_into_a_death_that_is_known() {
    let known = entry("in", "expired", 1, "orders", &["new"]);
    let properties = Properties {
        headers: Some(FieldTable::from_iter([(
            "x-death",
            FieldValue::Array(vec![known]),
        )])),
        expiration: Some("5".to_owned()),
        ..Properties::default()
    };
    let letter = message("orders", "new", &properties);
    let copy = Forwarded::new(&letter, &death("in", DeathReason::Expired));
    assert_eq!(
        deaths(&copy),
        [entry("in", "expired", 2, "orders", &["new"])]
    );
    assert_eq!(read(&copy).expiration, None);
}

#[test]
fn carbon_copies_are_keys_of_it_unless_there_is_one_for_dead_letters() {
    let letter = with_headers(FieldTable::from_iter([("CC", strings(&["a", "b"]))]));
    let copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
    assert_eq!(copy.routing_keys, ["new", "a", "b"]);
    let died = entry("in", "rejected", 1, "orders", &["new", "a", "b"]);
    assert_eq!(deaths(&copy), std::slice::from_ref(&died));
    assert_eq!(copy.headers.get("CC"), Some(&strings(&["a", "b"])));

    let rerouted = Death {
        routing_key: Some("dead"),
        ..death("in", DeathReason::Rejected)
    };
    let copy = Forwarded::new(&letter, &rerouted);
    assert_eq!(copy.routing_keys, ["dead"]);
    assert_eq!(deaths(&copy), [died]);
    assert_eq!(copy.headers.get("CC"), None);
}

#[test]
fn blind_copies_are_keys_that_no_death_shows() {
    let headers = FieldTable::from_iter([("CC", strings(&["a"])), ("BCC", strings(&["b"]))]);
    let letter = with_headers(headers);
    let mut builder = crate::model::BlockBuilder::default();
    let traits = Traits::default().with_blind_copies();
    builder.push(letter.envelope(), letter.header(), letter.body(), traits);
    let letter = Message::new(std::sync::Arc::new(builder.finish()), 0);
    let copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
    assert_eq!(copy.routing_keys, ["new", "a", "b"]);
    let died = entry("in", "rejected", 1, "orders", &["new", "a"]);
    assert_eq!(deaths(&copy), [died]);
    assert!(copy.traits.has_blind_copies(), "they go on with it");

    let rerouted = Death {
        routing_key: Some("dead"),
        ..death("in", DeathReason::Rejected)
    };
    let copy = Forwarded::new(&letter, &rerouted);
    assert_eq!(copy.routing_keys, ["dead"]);
    assert!(!copy.traits.has_blind_copies());
    assert_eq!(copy.headers.get("BCC"), None);
}

#[test]
fn many_carbon_copies_do_not_make_a_header_that_no_client_takes() {
    let keys: Vec<String> = (0..1_000).map(|number| format!("{number:060}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let letter = with_headers(FieldTable::from_iter([("CC", strings(&keys))]));
    let mut copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
    for round in 0..20 {
        let queue = format!("queue {}", round % 10);
        copy = again(&copy, "dlx", &death(&queue, DeathReason::Expired));
        assert!(copy.header.len() < 128 * 1024);
    }
    assert_eq!(copy.routing_keys.len(), 1_001);
    let counts = deaths(&copy).iter().map(|death| match death {
        FieldValue::Table(death) => count(death),
        _ => None,
    });
    let expected = [vec![Some(2); 10], vec![Some(1)]].concat();
    assert_eq!(counts.collect::<Vec<_>>(), expected);
}

#[test]
fn whatever_publishers_put_into_x_death_it_becomes_sound() {
    let new = entry("in", "rejected", 1, "orders", &["new"]);
    let known = |count: FieldValue| {
        table([
            ("reason", "rejected".into()),
            ("queue", "in".into()),
            ("count", count),
        ])
    };
    let uncounted = table([("reason", "rejected".into()), ("queue", "in".into())]);
    let stranger = table([("queue", FieldValue::I64(7))]);
    for (shows, found, becomes) in [
        ("a string", "[...]".into(), vec![new.clone()]),
        (
            "a table",
            table([("queue", "in".into())]),
            vec![new.clone()],
        ),
        ("an empty array", strings(&[]), vec![new.clone()]),
        ("strings", strings(&["in", "rejected"]), vec![new.clone()]),
        (
            "a table that is no death",
            FieldValue::Array(vec![stranger.clone()]),
            vec![
                new.clone(),
                table([("queue", FieldValue::I64(7)), ("count", 1.into())]),
            ],
        ),
        (
            "a count of another width",
            FieldValue::Array(vec![known(FieldValue::U8(9))]),
            vec![known(10.into())],
        ),
        (
            "a count that is none",
            FieldValue::Array(vec![known("many".into())]),
            vec![known(2.into())],
        ),
        (
            "a count that is as high as it gets",
            FieldValue::Array(vec![known(i64::MAX.into())]),
            vec![known(i64::MAX.into())],
        ),
        (
            "one death many times, as old brokers had it",
            FieldValue::Array(vec![uncounted.clone(), uncounted.clone(), uncounted]),
            vec![known(4.into())],
        ),
    ] {
        let letter = with_headers(FieldTable::from_iter([("x-death", found)]));
        let copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
        assert_eq!(deaths(&copy), becomes, "{shows}");
        read(&copy);
    }
}

#[test]
fn a_client_that_turns_headers_into_strings_does_not_change_the_first_death() {
    let headers = |deaths: FieldValue| {
        FieldTable::from_iter([
            ("x-first-death-queue", "elsewhere".into()),
            ("x-death", deaths),
        ])
    };
    let first = |headers: FieldTable| {
        let letter = with_headers(headers);
        let copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
        let text = |name| copy.headers.get(name).and_then(FieldValue::as_str);
        let (queue, reason) = (text("x-first-death-queue"), text("x-first-death-reason"));
        (queue.map(str::to_owned), reason.map(str::to_owned))
    };
    let some = |text: &str| Some(text.to_owned());
    let garbled = headers("[{}]".into());
    assert_eq!(first(garbled), (some("elsewhere"), some("rejected")));
    let mut alone = headers(FieldValue::Void);
    alone.remove("x-death");
    assert_eq!(first(alone), (some("in"), some("rejected")));
}

#[test]
fn several_headers_of_one_name_become_one() {
    let mut octets = Vec::new();
    let mut writer = leveret_protocol::Writer::new(&mut octets);
    writer.short(0b0010_0000_0000_0000);
    let mut entries = Vec::new();
    for _ in 0..2 {
        leveret_protocol::Writer::new(&mut entries).shortstr("x-death");
        entries.extend_from_slice(b"V");
    }
    leveret_protocol::Writer::new(&mut octets).longstr(&entries);
    let mut header = Vec::new();
    let content = ContentHeader {
        class_id: BASIC_CLASS_ID,
        body_bytes: 4,
        properties: &octets,
    };
    content.encode(&mut header);
    let letter = Message::single("orders", "new", &header, b"body");
    let copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
    let names = copy.headers.iter().map(|(name, _)| name.as_str());
    assert_eq!(names.filter(|name| *name == "x-death").count(), 1);
}

#[test]
fn properties_that_cannot_be_read_are_replaced() {
    for header in [&[][..], &[0; 5], &[0xFF; 40]] {
        let letter = Message::single("orders", "new", header, b"body");
        let copy = Forwarded::new(&letter, &death("in", DeathReason::Rejected));
        assert_eq!(
            deaths(&copy),
            [entry("in", "rejected", 1, "orders", &["new"])]
        );
    }
}

#[test]
fn a_way_back_without_a_reject_is_a_cycle() {
    use DeathReason::{DeliveryLimit, Expired, MaxLength, Rejected};
    for (shows, way, target, is_cycle) in [
        ("elsewhere", &[("a", Expired)][..], "b", false),
        ("into itself", &[("a", Expired)], "a", true),
        ("into itself, rejected", &[("a", Rejected)], "a", false),
        ("back", &[("a", Expired), ("b", MaxLength)], "a", true),
        (
            "back, too often",
            &[("a", DeliveryLimit), ("b", Expired)],
            "a",
            true,
        ),
        (
            "rejected there",
            &[("a", Rejected), ("b", Expired)],
            "a",
            false,
        ),
        (
            "rejected on the way",
            &[("a", Expired), ("b", Rejected)],
            "a",
            false,
        ),
        (
            "rejected before",
            &[("c", Rejected), ("a", Expired), ("b", Expired)],
            "a",
            true,
        ),
        (
            "rejected since, but not for the last round",
            &[
                ("a", Expired),
                ("b", Rejected),
                ("a", Expired),
                ("c", Expired),
            ],
            "a",
            true,
        ),
    ] {
        let mut copy: Option<Forwarded> = None;
        for (queue, reason) in way {
            copy = Some(match &copy {
                None => Forwarded::new(&with_headers(FieldTable::new()), &death(queue, *reason)),
                Some(copy) => again(copy, "dlx", &death(queue, *reason)),
            });
        }
        let copy = copy.expect("it died");
        assert_eq!(copy.is_cycle(target), is_cycle, "{shows}");
    }
}
