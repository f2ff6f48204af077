//! Which bindings of one exchange take which messages.

use super::*;
use crate::routing::BindRefused;

#[test]
fn default_exchange_takes_keys_as_queue_names() {
    let table = RoutingTable::new();
    assert_eq!(queues(&table, "", "tasks"), ["tasks"]);
    let keys = ["b", "a", "b"];
    assert_eq!(queues_of(&table, "", &keys, &FieldTable::new()), ["a", "b"]);
}

#[test]
fn direct_compares_keys() {
    let mut table = RoutingTable::new();
    bind(&mut table, "amq.direct", queue("q1"), "a");
    bind(&mut table, "amq.direct", queue("q2"), "a");
    bind(&mut table, "amq.direct", queue("q1"), "b");
    bind(&mut table, "amq.direct", queue("q3"), "");
    for (shows, keys, reached) in [
        (
            "an equal key, in the order of binding",
            &["a"][..],
            &["q1", "q2"][..],
        ),
        ("case counts", &["A"], &[]),
        ("no prefix", &["a.b"], &[]),
        ("the empty key is a key", &[""], &["q3"]),
        (
            "CC keys add up, each queue once",
            &["b", "", "a"],
            &["q1", "q3", "q2"],
        ),
    ] {
        assert_eq!(
            queues_of(&table, "amq.direct", keys, &FieldTable::new()),
            reached,
            "{shows}"
        );
    }
}

#[test]
fn fanout_takes_all() {
    let mut table = RoutingTable::new();
    for name in ["q2", "q1", "q3"] {
        bind(&mut table, "amq.fanout", queue(name), name);
    }
    bind(&mut table, "amq.fanout", queue("q1"), "again");
    assert_eq!(queues(&table, "amq.fanout", "x"), ["q2", "q1", "q3"]);
}

const TOPIC: &[(&str, &str, &str, bool)] = &[
    ("a word stands for itself", "stock", "stock", true),
    ("a word is not a prefix", "stock", "stocks", false),
    ("case counts", "stock", "Stock", false),
    (
        "* stands for exactly one word",
        "stock.*",
        "stock.nyse",
        true,
    ),
    ("* does not stand for none", "stock.*", "stock", false),
    (
        "* does not stand for two",
        "stock.*",
        "stock.nyse.ibm",
        false,
    ),
    ("* stands for an empty word", "stock.*", "stock.", true),
    ("* in the middle", "*.nyse.*", "stock.nyse.ibm", true),
    ("# stands for none", "stock.#", "stock", true),
    ("# stands for one", "stock.#", "stock.nyse", true),
    ("# stands for many", "stock.#", "stock.nyse.ibm.eur", true),
    ("# stands for none in the middle", "a.#.b", "a.b", true),
    ("# stands for many in the middle", "a.#.b", "a.x.y.b", true),
    ("what follows # must come last", "a.#.b", "a.b.c", false),
    ("# at the start", "#.error", "db.auth.error", true),
    ("# takes less than all", "#.b.c", "a.b.b.c", true),
    ("# alone takes all", "#", "a.b.c", true),
    ("# alone takes the empty key", "#", "", true),
    ("two # may both stand for none", "#.#", "", true),
    ("# then * needs one word", "#.*", "", false),
    ("# then * takes more", "#.*", "a.b.c", true),
    ("* then # then * needs two words", "*.#.*", "a", false),
    ("* then # then * takes three", "*.#.*", "a.b.c", true),
    ("the empty key has no word for *", "*", "", false),
    ("the empty pattern takes the empty key", "", "", true),
    ("the empty pattern takes no other", "", "a", false),
    ("a dot has an empty word on each side", "*.*", ".", true),
    ("an empty word is a word", "a..b", "a..b", true),
    ("an empty word does not go away", "a..b", "a.b", false),
    ("an empty word is no wildcard", "a..b", "a.x.b", false),
    ("* in a word is no wildcard", "a*", "ab", false),
    ("# in a word is no wildcard", "a.b#", "a.bc", false),
    ("** is a word", "**", "**", true),
    ("a key's * is a word", "a.b", "a.*", false),
    ("a key's * meets a pattern's", "a.*", "a.*", true),
    ("a key's # is a word", "a", "a.#", false),
];

/// RELIABILITY.md, bug museum row 29; each row holds for RabbitMQ 3.10, too.
#[test]
fn museum_29_topic_wildcards_empty_keys_and_empty_words() {
    for (shows, pattern, key, matches) in TOPIC {
        let mut table = RoutingTable::new();
        bind(&mut table, "amq.topic", queue("q"), pattern);
        let reached = !queues(&table, "amq.topic", key).is_empty();
        assert_eq!(reached, *matches, "{shows}: {pattern} and {key}");
    }
}

#[test]
fn topic_patterns_do_not_disturb_each_other() {
    let mut table = RoutingTable::new();
    for (_, pattern, _, _) in TOPIC {
        let _ = table.bind(binding("amq.topic", queue(pattern), pattern));
    }
    for (shows, pattern, key, matches) in TOPIC {
        let reached = queues(&table, "amq.topic", key)
            .iter()
            .any(|name| name == pattern);
        assert_eq!(reached, *matches, "{shows}: {pattern} and {key}");
    }
    for (_, pattern, _, _) in TOPIC {
        table.delete_queue(pattern);
    }
    assert_eq!(table.bindings().count(), 0);
    assert!(queues(&table, "amq.topic", "").is_empty());
}

/// RELIABILITY.md, bug museum row 37 (CVE-2026-67419): sharing out the words
/// among the `#` one by one would take longer than the universe has.
#[test]
fn museum_37_many_hashes_against_a_long_key() {
    let key = ["a"; 128].join(".");
    let mut table = RoutingTable::new();
    bind(
        &mut table,
        "amq.topic",
        queue("only #"),
        &["#"; 128].join("."),
    );
    bind(
        &mut table,
        "amq.topic",
        queue("# and a"),
        &["#.a"; 63].join("."),
    );
    bind(
        &mut table,
        "amq.topic",
        queue("never"),
        &format!("{}.b", ["#.a"; 62].join(".")),
    );
    assert_eq!(queues(&table, "amq.topic", &key), ["only #", "# and a"]);
}

#[test]
fn headers_compare_arguments() {
    use FieldValue::{
        Array, Bool, Bytes, Decimal, F32, F64, I8, I16, I32, I64, Timestamp, U8, Void,
    };
    let text = |text: &str| FieldValue::from(text);
    let mode = |mode: &str| ("x-match", text(mode));
    let (one, two) = (("a", I32(1)), ("b", I32(2)));
    for (shows, arguments, sent, matches) in [
        (
            "all is the default",
            vec![one.clone(), two.clone()],
            vec![one.clone()],
            false,
        ),
        (
            "all of them",
            vec![one.clone(), two.clone()],
            vec![two.clone(), one.clone()],
            true,
        ),
        (
            "more headers do no harm",
            vec![one.clone()],
            vec![two.clone(), one.clone()],
            true,
        ),
        ("all of none", vec![], vec![], true),
        (
            "all of none, whatever comes",
            vec![mode("all")],
            vec![one.clone()],
            true,
        ),
        (
            "any of them",
            vec![mode("any"), one.clone(), two.clone()],
            vec![two.clone()],
            true,
        ),
        (
            "any is not none",
            vec![mode("any"), one.clone()],
            vec![two.clone()],
            false,
        ),
        ("any of none", vec![mode("any")], vec![one.clone()], false),
        ("all leaves out x-", vec![("x-b", I32(2))], vec![], true),
        (
            "any leaves out x-",
            vec![mode("any"), ("x-b", I32(2))],
            vec![("x-b", I32(2))],
            false,
        ),
        (
            "all-with-x does not",
            vec![mode("all-with-x"), ("x-b", I32(2))],
            vec![],
            false,
        ),
        (
            "any-with-x does not",
            vec![mode("any-with-x"), ("x-b", I32(2))],
            vec![("x-b", I32(2))],
            true,
        ),
        (
            "x-match is never compared",
            vec![mode("all-with-x")],
            vec![mode("any")],
            true,
        ),
        (
            "a header called x-match is no trouble",
            vec![mode("all-with-x"), one.clone()],
            vec![one.clone(), mode("q")],
            true,
        ),
        (
            "void asks for presence",
            vec![("a", Void)],
            vec![one.clone()],
            true,
        ),
        (
            "void is not met by absence",
            vec![("a", Void)],
            vec![two.clone()],
            false,
        ),
        (
            "a void header is present",
            vec![("a", Void)],
            vec![("a", Void)],
            true,
        ),
        (
            "a void header has no value",
            vec![one.clone()],
            vec![("a", Void)],
            false,
        ),
        (
            "integers of all widths",
            vec![("a", I8(1))],
            vec![("a", I64(1))],
            true,
        ),
        (
            "unsigned ones",
            vec![("a", U8(1))],
            vec![("a", I16(1))],
            true,
        ),
        (
            "other integers",
            vec![one.clone()],
            vec![("a", I32(2))],
            false,
        ),
        (
            "timestamps are numbers",
            vec![("a", Timestamp(1))],
            vec![one.clone()],
            true,
        ),
        (
            "whole floats are numbers",
            vec![("a", F64(1.0))],
            vec![one.clone()],
            true,
        ),
        (
            "zero has no sign",
            vec![("a", F64(-0.0))],
            vec![("a", I32(0))],
            true,
        ),
        (
            "fractions",
            vec![("a", F32(0.5))],
            vec![("a", F64(0.5))],
            true,
        ),
        (
            "text is no number",
            vec![one.clone()],
            vec![("a", text("1"))],
            false,
        ),
        (
            "text and binary",
            vec![("a", text("x"))],
            vec![("a", Bytes(b"x".to_vec()))],
            true,
        ),
        (
            "case counts in values",
            vec![("a", text("x"))],
            vec![("a", text("X"))],
            false,
        ),
        (
            "case counts in names",
            vec![("a", text("x"))],
            vec![("A", text("x"))],
            false,
        ),
        (
            "truth",
            vec![("a", Bool(true))],
            vec![("a", Bool(true))],
            true,
        ),
        (
            "true is not 1",
            vec![("a", Bool(true))],
            vec![one.clone()],
            false,
        ),
        (
            "true is not a text",
            vec![("a", Bool(true))],
            vec![("a", text("true"))],
            false,
        ),
        (
            "arrays",
            vec![("a", Array(vec![I32(1)]))],
            vec![("a", Array(vec![I32(1)]))],
            true,
        ),
        (
            "arrays have types",
            vec![("a", Array(vec![I32(1)]))],
            vec![("a", Array(vec![I64(1)]))],
            false,
        ),
        (
            "decimals",
            vec![(
                "a",
                Decimal {
                    scale: 1,
                    value: 15,
                },
            )],
            vec![(
                "a",
                Decimal {
                    scale: 1,
                    value: 15,
                },
            )],
            true,
        ),
    ] {
        let mut table = RoutingTable::new();
        let arguments = headers(&arguments);
        let new = table.bind(binding_with(
            "amq.headers",
            queue("q"),
            "",
            arguments.clone(),
        ));
        assert_eq!(new, Ok(true), "{shows}");
        let mut sent = headers(&sent);
        for crowd in ["alone", "among many headers"] {
            let reached = queues_of(&table, "amq.headers", &[""], &sent);
            assert_eq!(!reached.is_empty(), matches, "{shows}, {crowd}");
            (0..20).for_each(|n| sent.insert(format!("other {n}"), I64(n)));
        }
        table.unbind(&binding_with("amq.headers", queue("q"), "", arguments));
        assert!(
            queues_of(&table, "amq.headers", &[""], &sent).is_empty(),
            "{shows}, unbound"
        );
    }
}

/// The texts are those of RabbitMQ 3.10.
#[test]
fn headers_refuse_a_wrong_x_match() {
    use FieldValue::{Array, Bool, Bytes, I32, Void};
    for (value, text) in [
        (
            "some".into(),
            "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            "All".into(),
            "Invalid x-match field value <<\"All\">>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            "".into(),
            "Invalid x-match field value <<>>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            "a \"q\" é".into(),
            "Invalid x-match field value <<\"a \\\"q\\\" é\">>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            "bin\0".into(),
            "Invalid x-match field value <<98,105,110,0>>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            I32(5),
            "Invalid x-match field type signedint (value 5); expected longstr",
        ),
        (
            Bool(true),
            "Invalid x-match field type bool (value true); expected longstr",
        ),
        (
            Void,
            "Invalid x-match field type void (value undefined); expected longstr",
        ),
        (
            Bytes(b"all".to_vec()),
            "Invalid x-match field type binary (value <<\"all\">>); expected longstr",
        ),
        (
            Array(vec![I32(1)]),
            "Invalid x-match field type array (value [{signedint,1}]); expected longstr",
        ),
        (
            headers(&[("a", I32(1))]).into(),
            "Invalid x-match field type table (value [{<<\"a\">>,signedint,1}]); expected longstr",
        ),
    ] {
        let arguments = headers(&[("x-match", value)]);
        let wrong = |source| binding_with(source, queue("q"), "", arguments.clone());
        let mut table = RoutingTable::new();
        let refused = table.bind(wrong("amq.headers"));
        assert_eq!(refused, Err(BindRefused::Arguments(text.to_owned())));
        assert_eq!(table.bindings().count(), 0, "nothing is left of it");
        assert_eq!(
            table.bind(wrong("amq.topic")),
            Ok(true),
            "other types do not care"
        );
    }
}
