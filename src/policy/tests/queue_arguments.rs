//! Which values are refused, and with what words.

use super::*;
use crate::model::ConnectionId;

/// What follows the argument's name and the queue's; `""` is fine.
fn check(name: &str, value: impl Into<FieldValue>, expected: &str) {
    let value = value.into();
    let shows = format!("{name} = {value:?}");
    let answer = declare_queue(one(name, value)).map(|_| ());
    let expected = match expected {
        "" => Ok(()),
        why => Err(format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/'{why}"
        )),
    };
    assert_eq!(answer, expected, "{shows}");
}

/// The texts are RabbitMQ 3.10's, read off the wire.
#[test]
fn queue_arguments_are_checked() {
    let good: Result<(), &str> = Ok(());
    let int = FieldValue::I32;
    for (name, value, expected) in [
        ("x-queue-type", "classic".into(), good),
        ("x-queue-type", "quorum".into(), good),
        (
            "x-queue-type",
            "stream".into(),
            Err("\"unsupported queue type 'stream'\""),
        ),
        (
            "x-queue-type",
            "foo".into(),
            Err("\"unsupported queue type 'foo'\""),
        ),
        ("x-queue-type", int(5), Err("{unacceptable_type,signedint}")),
        ("x-queue-type", true.into(), Err("{unacceptable_type,bool}")),
        ("x-queue-mode", "lazy".into(), good),
        ("x-queue-mode", "default".into(), good),
        (
            "x-queue-mode",
            "foo".into(),
            Err("\"unsupported queue mode 'foo'\""),
        ),
        ("x-queue-mode", int(5), Err("{unacceptable_type,signedint}")),
        ("x-queue-version", int(1), good),
        ("x-queue-version", FieldValue::U8(2), good),
        (
            "x-queue-version",
            int(3),
            Err("\"unsupported queue version '3'\""),
        ),
        (
            "x-queue-version",
            "1".into(),
            Err("\"expected integer, got longstr\""),
        ),
        ("x-queue-master-locator", "min-masters".into(), good),
        ("x-queue-master-locator", int(5), good),
        ("x-queue-leader-locator", "client-local".into(), good),
        ("x-queue-leader-locator", "balanced".into(), good),
        (
            "x-queue-leader-locator",
            "foo".into(),
            Err("invalid_queue_locator_arg"),
        ),
        (
            "x-queue-leader-locator",
            int(5),
            Err("{unacceptable_type,signedint}"),
        ),
        ("x-quorum-initial-group-size", int(3), good),
        ("x-quorum-initial-group-size", int(0), Err("{value_zero,0}")),
        (
            "x-quorum-initial-group-size",
            int(-1),
            Err("{value_negative,-1}"),
        ),
        ("x-initial-cluster-size", int(3), good),
        (
            "x-initial-cluster-size",
            "a".into(),
            Err("\"expected integer, got longstr\""),
        ),
        ("x-max-in-memory-length", int(0), good),
        (
            "x-max-in-memory-length",
            int(-1),
            Err("{value_negative,-1}"),
        ),
        ("x-max-in-memory-bytes", FieldValue::I64(1 << 40), good),
        (
            "x-max-in-memory-bytes",
            FieldValue::Void,
            Err("\"expected integer, got void\""),
        ),
        ("x-foo", int(-1), good),
    ] {
        let shows = format!("{name} = {value:?}");
        let answer = declare_queue(one(name, value)).map(|_| ());
        let expected = expected.map_err(|why| {
            format!("PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {why}")
        });
        assert_eq!(answer, expected, "{shows}");
    }
}

/// The texts are RabbitMQ 3.10's, read off the wire.
#[test]
fn whole_numbers_have_bounds() {
    let ten_years: i64 = 315_360_000_000;
    let too_large = ": {value_too_large,315360000001}";
    for (name, least, most, above) in [
        ("x-message-ttl", 0, ten_years, too_large),
        ("x-expires", 1, ten_years, too_large),
        ("x-consumer-timeout", 1, ten_years, too_large),
        ("x-delayed-retry-min", 0, ten_years, too_large),
        ("x-delayed-retry-max", 0, ten_years, too_large),
        ("x-cache-ttl", 1, ten_years, too_large),
        ("x-max-length", 0, i64::MAX, ""),
        ("x-max-length-bytes", 0, i64::MAX, ""),
        ("x-cache-size", 1, i64::MAX, ""),
        ("x-max-priority", 0, 255, ": {max_value_exceeded,256}"),
    ] {
        check(name, least, "");
        check(name, FieldValue::U8(1), "");
        check(name, FieldValue::I16(100), "");
        check(name, most, "");
        if let Some(beyond) = most.checked_add(1) {
            check(name, beyond, above);
        }
        if least == 1 {
            check(name, 0, ": {value_zero,0}");
        }
        check(name, -1, ": {value_negative,-1}");
        for (value, found) in [
            ("10".into(), "longstr"),
            (FieldValue::F64(1.0), "double"),
            (FieldValue::Void, "void"),
            (FieldValue::Timestamp(10), "timestamp"),
            (FieldValue::Bytes(vec![1]), "binary"),
        ] {
            let text = format!(": \"expected integer, got {found}\"");
            check(name, value, &text);
        }
    }
}

/// The texts are RabbitMQ 3.10's, read off the wire.
#[test]
fn words_and_flags_are_the_ones_that_are_known() {
    let number = ": {unacceptable_type,signedint}";
    for (name, good, bad, refused) in [
        (
            "x-overflow",
            &["drop-head", "reject-publish", "reject-publish-dlx"][..],
            "Drop-Head",
            ": invalid_overflow",
        ),
        (
            "x-dead-letter-strategy",
            &["at-most-once", "at-least-once"],
            "sometimes",
            ": invalid_dlx_strategy",
        ),
        (
            "x-delayed-retry-type",
            &["all", "failed", "returned", "disabled"],
            "",
            ": invalid_delayed_retry_type",
        ),
    ] {
        for word in good {
            check(name, *word, "");
        }
        check(name, bad, refused);
        check(name, FieldValue::I32(1), number);
    }
    for name in ["x-single-active-consumer", "x-message-deduplication"] {
        check(name, true, "");
        check(name, false, "");
        check(name, FieldValue::I32(1), number);
        check(name, "true", ": {unacceptable_type,longstr}");
    }
}

/// The texts are RabbitMQ 3.10's, read off the wire.
#[test]
fn dead_letters_go_to_an_exchange_before_they_have_a_key() {
    let name = "x-dead-letter-exchange";
    for exchange in ["", "amq.x", "nowhere", &"x".repeat(300)] {
        check(name, exchange, "");
    }
    check(name, FieldValue::LongStr(vec![0xff]), "");
    assert_eq!(
        declare_queue(one(name, FieldValue::I32(1))).map(|_| ()),
        Err(format!(
            "PRECONDITION_FAILED - invalid type 'signedint' for arg '{name}' in queue 'q' in vhost '/'"
        ))
    );
    let name = "x-dead-letter-routing-key";
    check(name, "key", ": routing_key_but_no_dlx_defined");
    check(name, true, ": {unacceptable_type,bool}");
    // A key that no message could carry, which RabbitMQ takes and then cannot
    // deliver.
    let text = ": \"expected at most 255 octets, got 256 octets\"";
    check(name, "k".repeat(256).as_str(), text);
    let text = ": \"expected UTF-8, got octets\"";
    check(name, FieldValue::LongStr(vec![0xff]), text);
    for key in ["", "key"] {
        let both = [(name, key), ("x-dead-letter-exchange", "x")];
        assert!(declare_queue(both.into_iter().collect()).is_ok(), "{key:?}");
    }
}

#[test]
fn what_rabbitmq_does_not_have_on_a_classic_queue_is_checked_as_well() {
    for (name, value, expected) in [
        ("x-delivery-limit", FieldValue::I32(0), ""),
        ("x-delivery-limit", FieldValue::I64(1 << 40), ""),
        ("x-delivery-limit", FieldValue::I32(-1), ""),
        (
            "x-delivery-limit",
            FieldValue::I32(-2),
            ": {value_negative,-2}",
        ),
        (
            "x-delivery-limit",
            "5".into(),
            ": \"expected integer, got longstr\"",
        ),
        ("x-retry-delay", FieldValue::I32(0), ""),
        ("x-retry-delay", "500ms".into(), ""),
        ("x-retry-delay", "7d".into(), ""),
        (
            "x-retry-delay",
            FieldValue::I32(-1),
            ": {value_negative,-1}",
        ),
        (
            "x-retry-delay",
            "4000d".into(),
            ": {value_too_large,345600000000}",
        ),
        (
            "x-retry-delay",
            "soon".into(),
            ": \"expected milliseconds or a duration such as 10s, got 'soon'\"",
        ),
        (
            "x-retry-max-delay",
            "1h".into(),
            ": \"has no effect without x-retry-delay\"",
        ),
        (
            "x-retry-factor",
            FieldValue::F64(2.0),
            ": \"has no effect without x-retry-delay\"",
        ),
        (
            "x-retry-factor",
            FieldValue::F64(0.5),
            ": \"expected 1 or more, got 0.5\"",
        ),
        (
            "x-retry-factor",
            FieldValue::F64(f64::NAN),
            ": \"expected 1 or more, got NaN\"",
        ),
        (
            "x-retry-factor",
            "2".into(),
            ": \"expected number, got longstr\"",
        ),
        (
            "x-retry-jitter",
            FieldValue::F32(1.5),
            ": \"expected a part from 0 to 1, got 1.5\"",
        ),
        (
            "x-retry-jitter",
            "110%".into(),
            ": \"expected a part from 0 to 1, got 1.1\"",
        ),
        (
            "x-retry-jitter",
            "0.2".into(),
            ": \"expected per cent such as 20%, got '0.2'\"",
        ),
        ("x-group-header", "customer".into(), ""),
        (
            "x-group-header",
            "".into(),
            ": \"expected the name of a header, got ''\"",
        ),
        ("x-group-header", true.into(), ": {unacceptable_type,bool}"),
        ("x-deduplication-header", "id".into(), ""),
    ] {
        check(name, value, expected);
    }
}

#[test]
fn the_two_kinds_of_retries_exclude_each_other() {
    let both = [("x-delayed-retry-type", "all"), ("x-retry-delay", "1s")];
    assert_eq!(
        declare_queue(both.into_iter().collect()).map(|_| ()),
        Err(
            "PRECONDITION_FAILED - invalid arg 'x-delayed-retry-type' for queue 'q' in vhost '/': \
             \"x-retry-delay and x-delayed-retry-type exclude each other\""
                .to_owned()
        )
    );
}

#[test]
fn what_only_streams_and_clusters_have_is_refused() {
    for name in [
        "x-quorum-target-group-size",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",
    ] {
        check(name, 1, " of queue type rabbit_classic_queue");
    }
}

#[test]
fn of_several_bad_arguments_rabbitmqs_first_is_told() {
    // In RabbitMQ's order; the client's is the other way round.
    let order = [
        "x-dead-letter-exchange",
        "x-queue-type",
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-max-age",
    ];
    for (index, first) in order.iter().enumerate() {
        let all = order.iter().skip(index).rev();
        let arguments = all.map(|name| (*name, FieldValue::Void)).collect();
        let refused = declare_queue(arguments).expect_err("all of them are bad");
        let named = format!("arg '{first}'");
        assert!(refused.contains(&named), "{named}: {refused}");
    }
}

/// The texts are RabbitMQ 3.10's, read off the wire.
#[test]
fn a_quorum_queue_is_durable_and_shared() {
    let declare = |durable, auto_delete, exclusive: Option<u64>, arguments| {
        let exclusive = exclusive.map(ConnectionId);
        queue_settings(
            &"q".into(),
            &"/".into(),
            durable,
            auto_delete,
            exclusive,
            arguments,
        )
        .map_err(|error| error.reply_text().to_string())
    };
    let quorum = || one("x-queue-type", "quorum");
    for (durable, auto_delete, exclusive, property) in [
        (false, false, None, "non-durable"),
        (true, true, None, "auto-delete"),
        (false, false, Some(1), "exclusive-owner"),
        (false, true, Some(1), "auto-delete"),
    ] {
        assert_eq!(
            declare(durable, auto_delete, exclusive, quorum()).map(|_| ()),
            Err(format!(
                "PRECONDITION_FAILED - invalid property '{property}' for queue 'q' in vhost '/'"
            ))
        );
    }
    let settings = declare(true, false, None, quorum()).expect("it is as it should be");
    assert!(is_quorum(&settings));
    assert!(!is_quorum(&QueueSettings::default()));
}
