//! Which policy applies, and what is left of it beside arguments and another.

use super::*;
use crate::model::{ExchangeKind, ExchangeSettings, Growth, Overflow, QueueRules, RetryOf};

type Fields<'a> = &'a [(&'a str, FieldValue)];

fn policy(name: &str, pattern: &str, priority: i32, definition: Fields<'_>) -> Policy {
    let settings = definition.iter().map(|(name, value)| {
        let key = PolicyKey::named(name).expect("a key of policies");
        assert_eq!(key.check(value), Ok(()), "{name}");
        (key.argument, value.clone())
    });
    Policy {
        name: name.to_owned(),
        vhost: "/".into(),
        pattern: Pattern::new(pattern).expect("a regular expression"),
        apply_to: ApplyTo::All,
        priority,
        definition: settings.collect(),
    }
}

fn queue(arguments: Fields<'_>) -> QueueSettings {
    declare_queue(arguments.iter().cloned().collect()).expect("the arguments are fine")
}

fn merged(arguments: Fields<'_>, user: Fields<'_>, operator: Fields<'_>) -> QueueRules {
    let all = |definition: Fields<'_>| match definition {
        [] => Vec::new(),
        some => vec![policy("p", "", 0, some)],
    };
    let policies = Policies {
        user: all(user),
        operator: all(operator),
    };
    policies.queue_rules(&"/".into(), &"q".into(), &queue(arguments))
}

/// What each of the three asks for, and what is left.
#[test]
fn the_smaller_limit_counts_whoever_asks_for_it() {
    let int = FieldValue::I64;
    type Read = fn(&QueueRules) -> Option<u64>;
    let rules: [(&str, &str, Read); 6] = [
        ("x-message-ttl", "message-ttl", |rules| rules.message_ttl),
        ("x-expires", "expires", |rules| rules.expires),
        ("x-max-length", "max-length", |rules| rules.max_length),
        ("x-max-length-bytes", "max-length-bytes", |rules| {
            rules.max_length_bytes
        }),
        ("x-delivery-limit", "delivery-limit", |rules| {
            rules.delivery_limit.map(u64::from)
        }),
        ("x-consumer-timeout", "consumer-timeout", |rules| {
            rules.consumer_timeout
        }),
    ];
    for (argument, key, read) in rules {
        for (own, user, operator, expected) in [
            (None, None, None, None),
            (Some(5), None, None, Some(5)),
            (None, Some(5), None, Some(5)),
            (None, None, Some(5), Some(5)),
            (Some(5), Some(9), None, Some(5)),
            (Some(9), Some(5), None, Some(5)),
            (None, Some(5), Some(9), Some(5)),
            (None, Some(9), Some(5), Some(5)),
            (Some(5), Some(7), Some(9), Some(5)),
            (Some(9), Some(7), Some(5), Some(5)),
            (Some(9), Some(5), Some(7), Some(5)),
        ] {
            let field = |name, value: Option<i64>| value.map(|value| (name, int(value)));
            let found = merged(
                field(argument, own).as_slice(),
                field(key, user).as_slice(),
                field(key, operator).as_slice(),
            );
            let shows = format!("{key}: {own:?}, {user:?}, {operator:?}");
            assert_eq!(read(&found), expected, "{shows}");
        }
    }
}

#[test]
fn no_delivery_limit_is_the_largest() {
    let limit = |own: i64, user: i64| {
        let own = [("x-delivery-limit", FieldValue::I64(own))];
        merged(&own, &[("delivery-limit", FieldValue::I64(user))], &[]).delivery_limit
    };
    assert_eq!(limit(-1, 5), Some(5));
    assert_eq!(limit(5, -1), Some(5));
    assert_eq!(limit(-1, -1), None);
    assert_eq!(limit(0, 5), Some(0));
}

#[test]
fn of_what_is_no_limit_the_argument_counts_then_the_operator() {
    let rules = |own: Fields<'_>, user: Fields<'_>, operator: Fields<'_>| {
        let rules = merged(own, user, operator);
        (
            rules.overflow,
            rules.dead_letter_exchange.map(|name| name.to_string()),
            rules.dead_letter_routing_key.map(|key| key.to_string()),
        )
    };
    let own = [
        ("x-overflow", "reject-publish".into()),
        ("x-dead-letter-exchange", "own".into()),
    ];
    let user = [
        ("overflow", "drop-head".into()),
        ("dead-letter-exchange", "user".into()),
        ("dead-letter-routing-key", "user-key".into()),
    ];
    let operator = [
        ("overflow", "reject-publish-dlx".into()),
        ("dead-letter-exchange", "operator".into()),
    ];
    let some = |text: &str| Some(text.to_owned());
    for (found, overflow, exchange, key) in [
        (
            rules(&own, &user, &operator),
            Overflow::RejectPublish,
            some("own"),
            some("user-key"),
        ),
        (
            rules(&[], &user, &operator),
            Overflow::RejectPublishDeadLetter,
            some("operator"),
            some("user-key"),
        ),
        (
            rules(&[], &user, &[]),
            Overflow::DropHead,
            some("user"),
            some("user-key"),
        ),
        (
            rules(&[], &[], &operator),
            Overflow::RejectPublishDeadLetter,
            some("operator"),
            None,
        ),
        (
            rules(&own, &[], &[]),
            Overflow::RejectPublish,
            some("own"),
            None,
        ),
    ] {
        assert_eq!(found, (overflow, exchange, key));
    }
}

#[test]
fn what_policies_do_not_speak_of_stays_as_declared() {
    let own = [
        ("x-max-priority", FieldValue::I32(5)),
        ("x-single-active-consumer", true.into()),
        ("x-group-header", "customer".into()),
        ("x-message-deduplication", true.into()),
        ("x-queue-mode", "lazy".into()),
    ];
    let found = merged(&own, &[("max-length", FieldValue::I32(5))], &[]);
    let expected = QueueRules {
        max_length: Some(5),
        ..queue(&own).rules
    };
    assert_eq!(found, expected);
}

#[test]
fn retries_are_those_of_the_arguments_or_of_the_policy() {
    let factor = [
        ("retry-delay", FieldValue::from("1s")),
        ("retry-factor", FieldValue::F64(3.0)),
    ];
    let retry = |own: Fields<'_>, user: Fields<'_>| {
        let retry = merged(own, user, &[]).retry;
        retry.map(|retry| (retry.delay, retry.growth, retry.of))
    };
    let all = RetryOf::All;
    let three = Growth::Factor(3.0);
    assert_eq!(retry(&[], &factor), Some((1_000, three, all)));
    let own = [("x-retry-delay", FieldValue::from("5s"))];
    assert_eq!(retry(&own, &factor), Some((5_000, three, all)));
    let never = [("x-retry-delay", FieldValue::I32(0))];
    assert_eq!(retry(&never, &factor), None);

    let linear = [
        ("x-delayed-retry-type", FieldValue::from("failed")),
        ("x-delayed-retry-min", FieldValue::I32(10)),
    ];
    let expected = Some((10, Growth::Linear, RetryOf::Failed));
    assert_eq!(retry(&linear, &factor), expected);
    let typed = [("delayed-retry-type", FieldValue::from("all"))];
    let two = Growth::Factor(2.0);
    assert_eq!(retry(&own, &typed), Some((5_000, two, all)));
    let both = [&factor[..], &typed[..]].concat();
    assert_eq!(retry(&[], &both), Some((1_000, three, all)));
}

#[test]
fn one_policy_applies_and_that_is_the_one_with_the_highest_priority() {
    let length = |length| [("max-length", FieldValue::I32(length))];
    let policies = Policies {
        user: vec![
            policy("low", "^orders", 0, &length(1)),
            policy(
                "high",
                "orders",
                7,
                &[("message-ttl", FieldValue::I32(1_000))],
            ),
            policy("equal", "orders", 7, &length(2)),
            policy("negative", "", -1, &length(3)),
        ],
        operator: Vec::new(),
    };
    for (name, max_length, ttl) in [
        ("orders.new", None, Some(1_000)),
        ("old.orders", None, Some(1_000)),
        ("Orders", Some(3), None),
        ("other", Some(3), None),
    ] {
        let found = policies.queue_rules(&"/".into(), &name.into(), &queue(&[]));
        assert_eq!(
            (found.max_length, found.message_ttl),
            (max_length, ttl),
            "{name}"
        );
        let elsewhere = policies.queue_rules(&"v".into(), &name.into(), &queue(&[]));
        assert!(elsewhere.is_plain(), "{name}");
    }
}

#[test]
fn a_policy_applies_to_what_it_says() {
    let ttl = [
        ("message-ttl", FieldValue::I32(1_000)),
        ("alternate-exchange", "lost".into()),
    ];
    let classic = queue(&[]);
    let quorum = queue(&[("x-queue-type", "quorum".into())]);
    let exchange = ExchangeSettings::new(ExchangeKind::Direct);
    for (apply_to, expected) in [
        (ApplyTo::All, [true, true, true]),
        (ApplyTo::Queues, [true, true, false]),
        (ApplyTo::ClassicQueues, [true, false, false]),
        (ApplyTo::QuorumQueues, [false, true, false]),
        (ApplyTo::Exchanges, [false, false, true]),
    ] {
        let policies = Policies {
            user: vec![Policy {
                apply_to,
                ..policy("p", "^q$", 0, &ttl)
            }],
            operator: Vec::new(),
        };
        let rules = |settings| policies.queue_rules(&"/".into(), &"q".into(), settings);
        let alternate = policies.alternate(&"/".into(), &"q".into(), &exchange);
        let found = [
            !rules(&classic).is_plain(),
            !rules(&quorum).is_plain(),
            alternate.is_some(),
        ];
        assert_eq!(found, expected, "{apply_to:?}");
    }
}

#[test]
fn an_exchanges_own_alternate_counts_before_a_policys() {
    let to = |name: &str| [("alternate-exchange", FieldValue::from(name))];
    let policies = Policies {
        user: vec![policy("u", "", 0, &to("user"))],
        operator: vec![policy("o", "^ruled", 0, &to("operator"))],
    };
    let alternate = |name: &str, arguments: FieldTable| {
        let settings = exchange_settings(
            &name.into(),
            &"/".into(),
            "direct",
            true,
            false,
            false,
            arguments,
        );
        let settings = settings.expect("the arguments are fine");
        let alternate = policies.alternate(&"/".into(), &name.into(), &settings);
        alternate.map(|name| name.to_string())
    };
    let own = one("alternate-exchange", "own");
    assert_eq!(alternate("ruled", own).as_deref(), Some("own"));
    assert_eq!(
        alternate("ruled", FieldTable::new()).as_deref(),
        Some("operator")
    );
    assert_eq!(alternate("x", FieldTable::new()).as_deref(), Some("user"));
}

#[test]
fn every_key_has_an_argument_with_checks() {
    for key in POLICY_KEYS {
        assert_ne!(
            key.check(&FieldValue::Void),
            Ok(()),
            "{} takes anything",
            key.name
        );
    }
    let refused = PolicyKey::named("max-length").map(|key| key.check(&FieldValue::I32(-1)));
    assert_eq!(refused, Some(Err("{value_negative,-1}".to_owned())));
    assert!(PolicyKey::named("x-max-length").is_none());
}

#[test]
fn a_pattern_that_is_none_says_why() {
    assert_eq!(Pattern::new("(").err().as_deref(), Some("unclosed group"));
    let backwards = Pattern::new("(?<=a)b").err();
    assert_eq!(
        backwards.as_deref(),
        Some("look-around, including look-ahead and look-behind, is not supported")
    );
}
