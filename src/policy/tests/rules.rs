//! What rules a queue's arguments give it.

use super::*;
use crate::model::{Deduplication, Growth, Overflow, QueueRules, Retry, RetryOf};

fn rules(arguments: impl IntoIterator<Item = (&'static str, FieldValue)>) -> QueueRules {
    let settings = declare_queue(arguments.into_iter().collect());
    settings.expect("all of them are fine").rules
}

#[test]
fn arguments_become_rules() {
    let int = FieldValue::I64;
    let all = rules([
        ("x-message-ttl", int(60_000)),
        ("x-expires", int(1_000)),
        ("x-max-length", int(10)),
        ("x-max-length-bytes", int(1 << 40)),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-dead-letter-routing-key", "dead".into()),
        ("x-dead-letter-exchange", "graves".into()),
        ("x-max-priority", int(255)),
        ("x-single-active-consumer", true.into()),
        ("x-delivery-limit", int(20)),
        ("x-consumer-timeout", int(30_000)),
        ("x-group-header", "customer".into()),
    ]);
    let expected = QueueRules {
        message_ttl: Some(60_000),
        expires: Some(1_000),
        max_length: Some(10),
        max_length_bytes: Some(1 << 40),
        overflow: Overflow::RejectPublishDeadLetter,
        dead_letter_exchange: Some("graves".into()),
        dead_letter_routing_key: Some("dead".into()),
        max_priority: Some(255),
        single_active_consumer: true,
        delivery_limit: Some(20),
        consumer_timeout: Some(30_000),
        retry: None,
        group_header: Some("customer".into()),
        deduplication: None,
    };
    assert_eq!(all, expected);
    for plain in [
        ("x-overflow", "drop-head".into()),
        ("x-single-active-consumer", false.into()),
        ("x-delivery-limit", int(-1)),
        ("x-message-deduplication", false.into()),
        ("x-cache-size", int(5)),
        ("x-delayed-retry-type", "disabled".into()),
        ("x-delayed-retry-min", int(5)),
        ("x-retry-delay", int(0)),
        ("x-queue-type", "quorum".into()),
    ] {
        let shows = format!("{plain:?}");
        assert!(rules([plain]).is_plain(), "{shows}");
    }
}

#[test]
fn retries_grow_by_a_factor_or_as_rabbitmqs_do() {
    let ten_years = 315_360_000_000;
    let growing = Retry {
        delay: 1_000,
        growth: Growth::Factor(2.0),
        max_delay: ten_years,
        jitter: 0.0,
        of: RetryOf::All,
    };
    let retry = |arguments: &[(&'static str, FieldValue)]| rules(arguments.to_vec()).retry;
    let delay = ("x-retry-delay", FieldValue::from("1s"));
    assert_eq!(retry(std::slice::from_ref(&delay)), Some(growing));
    for (jitter, part) in [
        (FieldValue::from("20%"), 0.2),
        (FieldValue::F64(0.2), 0.2),
        (FieldValue::I32(1), 1.0),
        (FieldValue::Decimal { scale: 2, value: 5 }, 0.05),
    ] {
        let found = retry(&[
            ("x-retry-jitter", jitter),
            ("x-retry-factor", FieldValue::I32(3)),
            ("x-retry-max-delay", FieldValue::I32(90_000)),
            delay.clone(),
        ]);
        let expected = Retry {
            growth: Growth::Factor(3.0),
            max_delay: 90_000,
            jitter: part,
            ..growing
        };
        assert_eq!(found, Some(expected));
    }
    let linear = Retry {
        growth: Growth::Linear,
        of: RetryOf::Failed,
        ..growing
    };
    let min = ("x-delayed-retry-min", FieldValue::I32(1_000));
    let failed = ("x-delayed-retry-type", FieldValue::from("failed"));
    assert_eq!(retry(&[min.clone(), failed.clone()]), Some(linear));
    assert_eq!(
        retry(std::slice::from_ref(&failed)),
        None,
        "there is nothing to wait for"
    );
    let max = ("x-delayed-retry-max", FieldValue::I32(15_000));
    let bounded = Retry {
        max_delay: 15_000,
        ..linear
    };
    assert_eq!(retry(&[min, max, failed]), Some(bounded));
}

#[test]
fn deduplication_has_the_names_of_rabbitmqs_plugin() {
    let on = ("x-message-deduplication", FieldValue::from(true));
    let plain = Deduplication {
        header: "x-deduplication-header".into(),
        count: 100_000,
        time: None,
    };
    assert_eq!(rules([on.clone()]).deduplication, Some(plain));
    let found = rules([
        ("x-deduplication-header", "order".into()),
        ("x-cache-size", FieldValue::I32(5)),
        ("x-cache-ttl", FieldValue::I32(1_000)),
        on,
    ]);
    let expected = Deduplication {
        header: "order".into(),
        count: 5,
        time: Some(1_000),
    };
    assert_eq!(found.deduplication, Some(expected));
}
