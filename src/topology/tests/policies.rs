//! Policies and limits of virtual hosts: how they are read and refused.

use crate::broker::VhostLimits;
use crate::model::{FieldValue, QueueSettings};
use crate::policy::{ApplyTo, POLICY_KEYS};

use super::*;

#[test]
fn a_file_has_policies_and_limits() {
    let topology = topology(
        r#"
        [[vhost]]
        name = "shop"
        max_queues = 10
        max_connections = 0

        [[policy]]
        name = "short"
        vhost = "shop"
        pattern = "^short\\."
        apply_to = "quorum_queues"
        priority = -3
        definition = { message-ttl = "10s", max-length-bytes = "1MiB", max-length = 5 }

        [[policy]]
        name = "retries"
        pattern = ""
        [policy.definition]
        retry-delay = 500
        retry-jitter = "20%"
        retry-factor = 1.5
        dead-letter-exchange = ""

        [[operator_policy]]
        name = "short"
        vhost = "shop"
        pattern = "."
        definition = { expires = "7d" }
        "#,
    );
    let limits = VhostLimits {
        queues: Some(10),
        connections: Some(0),
    };
    let rulebook = &topology.rulebook;
    assert_eq!(rulebook.limits, [("shop".into(), limits)].into());
    let [short, retries] = &rulebook.policies.user[..] else {
        panic!("{:?}", rulebook.policies);
    };
    assert_eq!(
        (short.name.as_str(), short.vhost.as_str()),
        ("short", "shop")
    );
    assert_eq!(short.pattern.as_str(), "^short\\.");
    assert_eq!(
        (short.apply_to, short.priority),
        (ApplyTo::QuorumQueues, -3)
    );
    let int = FieldValue::I64;
    let definition: FieldTable = [
        ("x-message-ttl", int(10_000)),
        ("x-max-length-bytes", int(1 << 20)),
        ("x-max-length", FieldValue::I32(5)),
    ]
    .into_iter()
    .collect();
    assert_eq!(short.definition, definition);
    assert_eq!((retries.apply_to, retries.priority), (ApplyTo::All, 0));
    assert_eq!(retries.vhost.as_str(), "/");
    assert_eq!(retries.definition.len(), 4);
    let queue = QueueSettings::default();
    let rules = |vhost: &str| {
        let policies = &rulebook.policies;
        policies.queue_rules(&vhost.into(), &"q".into(), &queue)
    };
    assert_eq!(rules("shop").expires, Some(604_800_000));
    assert_eq!(rules("/").retry.map(|retry| retry.delay), Some(500));
}

/// Findings of a policy's tables; the first line of `text` is the third.
const CASES: &[(&str, &[&str])] = &[
    (
        "definition = { max-length = 5 }",
        &["1:1: error: [[policy]] needs a key 'pattern'"],
    ),
    (
        "pattern = \"a\"",
        &["1:1: error: [[policy]] needs a key 'definition'"],
    ),
    (
        "pattern = 5\ndefinition = {}",
        &[
            "3:11: error: 'pattern' in [[policy]]: expected a regular expression in quotes, such as \"^orders\\\\.\", found 5",
            "4:14: error: 'definition' in [[policy]]: expected a table with something in it, such as { max-length = 1000 }",
        ],
    ),
    (
        "pattern = \"(\"\ndefinition = { max-length = 5 }",
        &["3:11: error: 'pattern' in [[policy]]: unclosed group"],
    ),
    (
        "pattern = \"a\"\napply-to = \"queues\"\npriority = \"high\"\ndefinition = { max-length = 5 }",
        &[
            "4:1: error: unknown key 'apply-to' in [[policy]], did you mean 'apply_to'?",
            "5:12: error: 'priority' in [[policy]]: expected a whole number from -2147483648 to 2147483647, found \"high\"",
        ],
    ),
    (
        "pattern = \"a\"\napply_to = \"streams\"\ndefinition = { max-length = 5 }",
        &[
            "4:12: error: 'apply_to' in [[policy]]: expected \"all\", \"queues\", \"classic_queues\", \"quorum_queues\" or \"exchanges\", found \"streams\"",
        ],
    ),
    (
        "pattern = \"a\"\n[policy.definition]\nmessage_ttl = 5\nmax-length = -1\noverflow = \"drop\"\nexpires = \"soon\"\nmax-length-bytes = \"5\"\nretry-jitter = 2\nalternate-exchange = 5",
        &[
            "5:1: error: unknown key 'message_ttl' in the definition of [[policy]], did you mean 'message-ttl'?",
            "6:14: error: 'max-length' in the definition of [[policy]]: -1 is not allowed: {value_negative,-1}",
            "7:12: error: 'overflow' in the definition of [[policy]]: \"drop\" is not allowed: invalid_overflow",
            "8:11: error: 'expires' in the definition of [[policy]]: expected milliseconds, or a duration such as \"10s\", found \"soon\"",
            "9:20: error: 'max-length-bytes' in the definition of [[policy]]: expected octets, or a size such as \"16MiB\", found \"5\"",
            "10:16: error: 'retry-jitter' in the definition of [[policy]]: 2 is not allowed: \"expected a part from 0 to 1, got 2\"",
            "11:22: error: 'alternate-exchange' in the definition of [[policy]]: 5 is not allowed: invalid type 'signedint'",
        ],
    ),
    (
        "pattern = \"a\"\nvhost = \"shop\"\ndefinition = { max-length = 5 }",
        &["4:9: error: no [[vhost]] 'shop' is defined"],
    ),
    (
        "pattern = \"a\"\ndefinition = { max-length = 5 }\n[[policy]]\nname = \"p\"\npattern = \"b\"\ndefinition = { expires = 5 }",
        &["5:1: error: policy 'p' is already defined in line 1"],
    ),
    // Another name space.
    (
        "pattern = \"a\"\ndefinition = { max-length = 5 }\n[[operator_policy]]\nname = \"p\"\npattern = \"b\"\ndefinition = { expires = 5 }",
        &[],
    ),
];

#[test]
fn what_is_wrong_with_a_policy_is_told_where_it_stands() {
    for (text, expected) in CASES {
        let (_, findings) = read(&format!("[[policy]]\nname = \"p\"\n{text}\n"));
        let expected: Vec<_> = expected
            .iter()
            .map(|finding| format!("leveret.toml:{finding}"))
            .collect();
        assert_eq!(findings, expected, "{text}");
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_known_ones() {
    let (_, findings) =
        read("[[policy]]\nname = \"p\"\npattern = \"\"\ndefinition = { ha-mode = \"all\" }\n");
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    let keys: Vec<_> = POLICY_KEYS.iter().map(|key| key.name).collect();
    let expected = format!(
        "leveret.toml:4:16: error: unknown key 'ha-mode' in the definition of [[policy]], known here are {}",
        keys.join(", ")
    );
    assert_eq!(*finding, expected);
}

#[test]
fn policies_between_which_only_their_order_decides_are_told() {
    let policy = |name: &str, pattern: &str, priority: i32| {
        format!(
            "[[policy]]\nname = \"{name}\"\npattern = \"{pattern}\"\npriority = {priority}\n\
             definition = {{ max-length = 5 }}\n"
        )
    };
    let file = format!(
        "{}{}{}[[queue]]\nname = \"ab\"\n",
        policy("one", "a", 1),
        policy("two", "b", 1),
        policy("three", "a", 2)
    );
    let (_, findings) = read(&file);
    assert_eq!(
        findings,
        [
            "leveret.toml:6:1: warning: policies 'one' and 'two' both match queue 'ab' and have \
             the same priority, so the first one applies"
        ]
    );
}

#[test]
fn a_file_does_not_define_more_queues_than_it_allows() {
    let limited = |limit: u32| {
        format!(
            "[[vhost]]\nname = \"/\"\nmax_queues = {limit}\n\
             [[queue]]\nname = \"a\"\n[[queue]]\nname = \"b\"\n[[queue]]\nname = \"c\"\n"
        )
    };
    let (_, findings) = read(&limited(2));
    assert_eq!(
        findings,
        ["leveret.toml:8:1: error: queue 'c' is more than vhost '/' may have, its max_queues is 2"]
    );
    topology(&limited(3));
    let (_, findings) = read(&format!(
        "{}[[vhost]]\nname = \"/\"\nmax_connections = -1\n[[vhost]]\nname = \"/\"\nmax_connections = 5\n",
        limited(3)
    ));
    assert_eq!(
        findings,
        [
            "leveret.toml:12:19: error: 'max_connections' in [[vhost]]: expected a whole number from 0 to 4294967295, found -1",
            "leveret.toml:13:1: error: vhost '/' already has limits"
        ]
    );
}

#[test]
fn the_alternate_of_a_policy_counts_where_alternates_are_checked() {
    let exchange = "[[exchange]]\nname = \"x\"\ntype = \"fanout\"\n";
    let policy = |alternate: &str| {
        format!(
            "{exchange}[[policy]]\nname = \"p\"\npattern = \"^x$\"\n\
             definition = {{ alternate-exchange = \"{alternate}\" }}\n"
        )
    };
    let file = topology(&policy("amq.fanout"));
    let table = file.routing_table(&VhostName::from("/"));
    let alternate = table.exchange("x").and_then(|it| it.alternate.as_ref());
    assert_eq!(alternate.map(ExchangeName::as_str), Some("amq.fanout"));
    let (_, findings) = read(&policy("lost"));
    assert_eq!(
        findings,
        [
            "leveret.toml:1:1: warning: the alternate of 'x' is missing: no exchange 'lost' in vhost '/' is defined"
        ]
    );
}
