//! What is kept of a declaration, and what exchanges and consumers are asked.

use super::*;
use crate::model::{ExchangeKind, ExchangeSettings};

fn declare_exchange(kind: &str, arguments: FieldTable) -> Result<ExchangeSettings, String> {
    exchange_settings(
        &"x".into(),
        &"/".into(),
        kind,
        true,
        false,
        false,
        arguments,
    )
    .map_err(|error| error.reply_text().to_string())
}

fn consume(arguments: FieldTable) -> Result<i32, String> {
    consumer_arguments(&"q".into(), &"/".into(), &arguments)
        .map_err(|error| error.reply_text().to_string())
}

#[test]
fn arguments_are_kept_as_declared() {
    let arguments: FieldTable = [("x-foo", "kept"), ("x-queue-type", "classic")]
        .into_iter()
        .collect();
    let settings = declare_queue(arguments.clone()).expect("all of them are fine");
    assert_eq!(*settings.arguments, arguments);
    assert!(settings.durable && !settings.auto_delete);
}

#[test]
fn exchange_types_are_known_or_refused() {
    for kind in ExchangeKind::ALL {
        let settings = declare_exchange(kind.name(), one("x-delayed-type", "topic"));
        assert_eq!(settings.map(|settings| settings.kind), Ok(kind));
    }
    for kind in ["", "Direct", "x-jms-topic", "x-local-random"] {
        assert_eq!(
            declare_exchange(kind, FieldTable::new()),
            Err(format!(
                "PRECONDITION_FAILED - unknown exchange type '{kind}'"
            ))
        );
    }
}

#[test]
fn an_alternate_exchange_is_a_name() {
    let settings = declare_exchange("direct", one("alternate-exchange", "other"));
    let alternate = settings.map(|settings| settings.alternate);
    assert_eq!(alternate, Ok(Some("other".into())));
    for (value, found) in [
        (FieldValue::I32(5), "signedint"),
        (true.into(), "bool"),
        (FieldValue::Void, "void"),
    ] {
        assert_eq!(
            declare_exchange("direct", one("alternate-exchange", value)),
            Err(format!(
                "PRECONDITION_FAILED - invalid type '{found}' for arg 'alternate-exchange' \
                 in exchange 'x' in vhost '/'"
            ))
        );
    }
    let others = declare_exchange("direct", one("x-delayed-type", "direct"));
    assert!(others.is_ok(), "it means nothing to a direct exchange");
}

#[test]
fn consumer_arguments_are_checked() {
    let refused = |name: &str, ending: &str| {
        Err(format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/'{ending}"
        ))
    };
    assert_eq!(consume(FieldTable::new()), Ok(0));
    for (name, value, expected) in [
        ("x-priority", FieldValue::I8(-5), Ok(-5)),
        ("x-priority", FieldValue::I64(1 << 40), Ok(i32::MAX)),
        ("x-priority", FieldValue::I64(-1 << 40), Ok(i32::MIN)),
        (
            "x-priority",
            "5".into(),
            refused("x-priority", ": \"expected integer, got longstr\""),
        ),
        (
            "x-priority",
            true.into(),
            refused("x-priority", ": \"expected integer, got bool\""),
        ),
        ("x-cancel-on-ha-failover", true.into(), Ok(0)),
        (
            "x-cancel-on-ha-failover",
            "a".into(),
            refused("x-cancel-on-ha-failover", ": {unacceptable_type,longstr}"),
        ),
        (
            "x-credit",
            FieldTable::new().into(),
            refused("x-credit", ": not supported yet"),
        ),
        (
            "x-stream-offset",
            "first".into(),
            refused("x-stream-offset", " of queue type rabbit_classic_queue"),
        ),
        ("x-foo", 1.into(), Ok(0)),
    ] {
        let shows = format!("{name} = {value:?}");
        assert_eq!(consume(one(name, value)), expected, "{shows}");
    }
}
