//! The exchange types of RabbitMQ's plugins: how evenly they spread messages,
//! and which ones stay where they are when bindings come and go.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::model::HashOn;
use crate::routing::{BindRefused, Identifiers, Needs};

use ExchangeKind::{ConsistentHash, Delayed, Fanout, ModulusHash, Random, RecentHistory, Topic};

const KEYS: usize = 20_000;

fn key(number: usize) -> String {
    format!("order-{number}")
}

/// Where each key goes: to exactly one queue.
fn places(table: &RoutingTable, exchange: &str) -> Vec<String> {
    let mut routed = Routed::default();
    let none = FieldTable::new();
    let place = |number| {
        table.route(exchange, &Publish::new(&[&key(number)], &none), &mut routed);
        assert_eq!(routed.queues.len(), 1, "{:?}", routed.queues);
        routed.queues[0].to_string()
    };
    (0..KEYS).map(place).collect()
}

fn counts(places: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for place in places {
        *counts.entry(place.as_str()).or_default() += 1;
    }
    counts
}

/// Six standard deviations of what chance alone does.
fn assert_near(count: usize, share: f64) {
    let expected = KEYS as f64 * share;
    let deviation = (expected * (1.0 - share)).sqrt();
    let off = (count as f64 - expected).abs();
    assert!(off < 6.0 * deviation, "{count} where {expected} are due");
}

/// How many keys are elsewhere than before; `allowed` says who may move.
fn moved(before: &[String], after: &[String], allowed: impl Fn(&str, &str) -> bool) -> usize {
    let moves = before.iter().zip(after).filter(|(one, other)| one != other);
    moves
        .inspect(|(from, to)| assert!(allowed(from, to), "a key went from {from} to {to}"))
        .count()
}

fn consistent(weights: &[(&str, &str)]) -> RoutingTable {
    let mut table = table_of(&[("x", ConsistentHash)]);
    for (name, weight) in weights {
        bind(&mut table, "x", queue(name), weight);
    }
    table
}

#[test]
fn consistent_hash_spreads_keys_by_weight() {
    let table = consistent(&[("a", "1"), ("b", "1"), ("c", "2"), ("d", "10")]);
    let places = places(&table, "x");
    let counts = counts(&places);
    for (name, weight) in [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 10.0)] {
        assert_near(counts[name], weight / 14.0);
    }
}

#[test]
fn consistent_hash_spreads_keys_evenly_over_many() {
    let names: Vec<_> = (0..50).map(|number| format!("q{number}")).collect();
    let weights: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let places = places(&consistent(&weights), "x");
    let counts = counts(&places);
    assert_eq!(counts.len(), 50);
    counts.values().for_each(|count| assert_near(*count, 0.02));
}

#[test]
fn a_binding_that_comes_to_a_consistent_hash_takes_keys_for_itself_only() {
    let mut table = consistent(&[("a", "1"), ("b", "2"), ("c", "2")]);
    let before = places(&table, "x");
    bind(&mut table, "x", queue("new"), "1");
    let after = places(&table, "x");
    assert_near(moved(&before, &after, |_, to| to == "new"), 1.0 / 6.0);

    table.unbind(&binding("x", queue("new"), "1"));
    assert_eq!(places(&table, "x"), before, "as if it had never been");
    table.unbind(&binding("x", queue("a"), "1"));
    let after = places(&table, "x");
    assert_near(moved(&before, &after, |from, _| from == "a"), 0.2);
}

#[test]
fn consistent_hash_does_not_depend_on_the_order_of_bindings() {
    let one = consistent(&[("a", "1"), ("b", "3"), ("c", "1")]);
    let other = consistent(&[("c", "1"), ("b", "3"), ("a", "1")]);
    assert_eq!(places(&one, "x"), places(&other, "x"));
}

#[test]
fn a_destination_counts_once_in_a_consistent_hash_with_its_highest_weight() {
    let once = places(&consistent(&[("a", "3"), ("b", "1")]), "x");
    let mut twice = consistent(&[("a", "1"), ("b", "1"), ("a", "3")]);
    assert_eq!(places(&twice, "x"), once);
    twice.unbind(&binding("x", queue("a"), "3"));
    let left = places(&twice, "x");
    assert_eq!(left, places(&consistent(&[("a", "1"), ("b", "1")]), "x"));
}

#[test]
fn consistent_hash_gives_exchanges_their_share_too() {
    let mut table = table_of(&[("x", ConsistentHash), ("inner", ConsistentHash)]);
    bind(&mut table, "x", queue("a"), "1");
    bind(&mut table, "x", exchange("inner"), "1");
    bind(&mut table, "inner", queue("b"), "1");
    bind(&mut table, "inner", queue("c"), "1");
    let places = places(&table, "x");
    let counts = counts(&places);
    for (name, share) in [("a", 0.5), ("b", 0.25), ("c", 0.25)] {
        assert_near(counts[name], share);
    }
}

#[test]
fn consistent_hash_looks_at_what_it_was_told() {
    let hashing = |hash_on| {
        let mut table = RoutingTable::new();
        let settings = ExchangeSettings {
            hash_on,
            ..ExchangeSettings::new(ConsistentHash)
        };
        table.declare_exchange("x".into(), settings);
        for name in ["a", "b", "c", "d"] {
            bind(&mut table, "x", queue(name), "1");
        }
        table
    };
    let (none, keys) = (FieldTable::new(), ["k", "cc"]);
    let region = |text: &str| headers(&[("region", text.into())]);
    let regions: Vec<_> = (0..40).map(|number| region(&key(number))).collect();
    let texts: Vec<_> = (0..40).map(key).collect();
    let others: Vec<[&str; 1]> = texts.iter().map(|text| [text.as_str()]).collect();

    let plain = Publish::new(&keys, &none);
    let by_key: Vec<_> = others
        .iter()
        .map(|keys| Publish { keys, ..plain })
        .collect();
    let by_header: Vec<_> = regions
        .iter()
        .map(|headers| Publish { headers, ..plain })
        .collect();
    let identified = |identifiers| Publish {
        identifiers,
        ..plain
    };
    let by_message_id: Vec<_> = texts
        .iter()
        .map(|text| {
            identified(Identifiers {
                message_id: Some(text.as_str()),
                ..Identifiers::default()
            })
        })
        .collect();
    let by_correlation_id: Vec<_> = texts
        .iter()
        .map(|text| {
            identified(Identifiers {
                correlation_id: Some(text.as_str()),
                ..Identifiers::default()
            })
        })
        .collect();
    let by_timestamp: Vec<_> = (0..40)
        .map(|seconds| {
            identified(Identifiers {
                timestamp: Some(seconds),
                ..Identifiers::default()
            })
        })
        .collect();

    let all = [
        (HashOn::RoutingKey, Needs::NOTHING, by_key),
        (HashOn::Header("region".into()), Needs::HEADERS, by_header),
        (HashOn::MessageId, Needs::IDENTIFIERS, by_message_id),
        (HashOn::CorrelationId, Needs::IDENTIFIERS, by_correlation_id),
        (HashOn::Timestamp, Needs::IDENTIFIERS, by_timestamp),
    ];
    for (hash_on, needs, _) in &all {
        let table = hashing(hash_on.clone());
        assert_eq!(table.needs("x"), *needs);
        for (varied, _, messages) in &all {
            let reached = messages
                .iter()
                .flat_map(|message| queues_for(&table, "x", message));
            let mut reached: Vec<_> = reached.collect();
            assert_eq!(reached.len(), 40, "each goes to one");
            reached.sort();
            reached.dedup();
            let expected = if varied == hash_on { 4 } else { 1 };
            assert_eq!(reached.len(), expected, "{hash_on:?}, varied {varied:?}");
        }
    }
}

#[test]
fn integers_are_hashed_alike_whatever_their_width() {
    let mut table = RoutingTable::new();
    let settings = ExchangeSettings {
        hash_on: HashOn::Header("n".into()),
        ..ExchangeSettings::new(ConsistentHash)
    };
    table.declare_exchange("x".into(), settings);
    for number in 0..20 {
        bind(&mut table, "x", queue(&format!("q{number}")), "1");
    }
    let reached = |value| queues_of(&table, "x", &["k"], &headers(&[("n", value)]));
    let narrow = reached(FieldValue::I8(7));
    assert_eq!(narrow, reached(FieldValue::U32(7)));
    assert_eq!(narrow, reached(FieldValue::I64(7)));
}

#[test]
fn a_consistent_hash_refuses_keys_that_are_no_weights() {
    let mut table = table_of(&[("x", ConsistentHash)]);
    for (key, text) in [
        ("a", "The binding key must be an integer: <<\"a\">>"),
        ("0", "The binding key must be greater than 0"),
    ] {
        let refused = BindRefused::Arguments(text.to_owned());
        assert_eq!(table.bind(binding("x", queue("q"), key)), Err(refused));
    }
    assert!(!table.exchange_in_use("x"));
}

#[test]
fn random_gives_each_binding_its_share() {
    let mut table = table_of(&[("x", Random), ("inner", Random)]);
    for (destination, key) in [
        (queue("a"), "1"),
        (queue("a"), "2"),
        (queue("b"), ""),
        (exchange("inner"), ""),
    ] {
        bind(&mut table, "x", destination, key);
    }
    bind(&mut table, "inner", queue("c"), "");
    bind(&mut table, "inner", queue("d"), "");
    assert_eq!(table.needs("x"), Needs::RANDOM);
    let none = FieldTable::new();
    let reached: Vec<_> = (0..KEYS as u64)
        .map(|number| {
            let publish = Publish {
                // Numbers that follow one another must do, as must any others.
                random: number,
                ..Publish::new(&["same"], &none)
            };
            let mut reached = queues_for(&table, "x", &publish);
            assert_eq!(reached.len(), 1);
            reached.remove(0)
        })
        .collect();
    let counts = counts(&reached);
    for (name, share) in [("a", 0.5), ("b", 0.25), ("c", 0.125), ("d", 0.125)] {
        assert_near(counts[name], share);
    }
}

#[test]
fn modulus_hash_keeps_a_key_with_its_binding() {
    let mut table = table_of(&[("x", ModulusHash)]);
    for (name, key) in [("a", "1"), ("b", ""), ("a", "2"), ("c", "")] {
        bind(&mut table, "x", queue(name), key);
    }
    assert_eq!(table.needs("x"), Needs::NOTHING);
    let before = places(&table, "x");
    let counts = counts(&before);
    for (name, share) in [("a", 0.5), ("b", 0.25), ("c", 0.25)] {
        assert_near(counts[name], share);
    }
    assert_eq!(places(&table, "x"), before);
    // CC counts: it is the list of keys that is hashed.
    let all_alike = (0..40).all(|number| {
        let cc = key(number);
        queues_of(&table, "x", &["k", &cc], &FieldTable::new()) == queues(&table, "x", "k")
    });
    assert!(!all_alike);
}

#[test]
fn recent_history_takes_all_and_says_who_keeps_it() {
    let mut table = table_of(&[("x", RecentHistory), ("front", Fanout)]);
    bind(&mut table, "x", queue("q2"), "");
    bind(&mut table, "x", queue("q1"), "k");
    bind(&mut table, "front", exchange("x"), "");
    assert_eq!(queues(&table, "front", "any"), ["q2", "q1"]);
    assert_eq!(table.needs("front"), Needs::HISTORY);
    let mut routed = Routed::default();
    let none = FieldTable::new();
    table.route("front", &Publish::new(&["any"], &none), &mut routed);
    assert_eq!(routed.histories, ["x".into()]);
    table.route("amq.fanout", &Publish::new(&["any"], &none), &mut routed);
    assert!(routed.histories.is_empty());
}

#[test]
fn what_is_bound_to_nothing_goes_to_the_alternate() {
    for kind in [ConsistentHash, Random, ModulusHash, RecentHistory] {
        let mut table = RoutingTable::new();
        table.declare_exchange("x".into(), with_alternate(kind, "amq.fanout"));
        bind(&mut table, "amq.fanout", queue("lost"), "");
        assert_eq!(queues(&table, "x", "k"), ["lost"], "{kind}");
    }
}

#[test]
fn a_delayed_exchange_matches_as_it_says() {
    let mut table = RoutingTable::new();
    let settings = ExchangeSettings {
        delayed_kind: Some(Topic),
        ..ExchangeSettings::new(Delayed)
    };
    table.declare_exchange("x".into(), settings);
    bind(&mut table, "x", queue("q"), "a.*");
    assert_eq!(queues(&table, "x", "a.b"), ["q"]);
    assert!(queues(&table, "x", "b").is_empty());
}

#[test]
fn explanations_say_what_was_picked() {
    let mut table = consistent(&[("a", "1"), ("b", "1"), ("c", "2")]);
    let settings = ExchangeSettings {
        delayed_kind: Some(Random),
        ..ExchangeSettings::new(Delayed)
    };
    table.declare_exchange("later".into(), settings);
    bind(&mut table, "later", queue("d"), "");
    let none = FieldTable::new();
    let explained = |exchange: &str| {
        let explanation = table.explain(exchange, &Publish::new(&["order-1"], &none));
        explanation.to_string()
    };
    let taken = queues(&table, "x", "order-1").remove(0);
    let weight = if taken == "c" { "2" } else { "1" };
    assert_eq!(
        explained("x"),
        format!(
            "exchange 'x' (x-consistent-hash), published to:\n  \
               to queue '{taken}': the hash of `order-1` falls to it, its weight is {weight}\n  \
               2 other bindings are not picked\n\
             reaches '{taken}'\n"
        )
    );
    assert_eq!(
        explained("later"),
        "exchange 'later' (x-delayed-message as x-random), published to:\n  \
           to queue 'd': drawn at random, the next message may go elsewhere\n\
         reaches 'd'\n"
    );
}

proptest! {
    /// Whatever comes and goes, only the keys of that destination move.
    #[test]
    fn consistent_hash_moves_no_key_without_need(
        weights in proptest::collection::btree_map("[a-z]{1,3}", 1u32..50, 2..20),
        gone in any::<Index>(),
    ) {
        let weights: Vec<_> = weights
            .into_iter()
            .map(|(name, weight)| (name, weight.to_string()))
            .collect();
        let bindings: Vec<_> = weights
            .iter()
            .map(|(name, weight)| (name.as_str(), weight.as_str()))
            .collect();
        let mut table = consistent(&bindings);
        let (name, weight) = bindings[gone.index(bindings.len())];
        let reached = |table: &RoutingTable| -> Vec<_> {
            (0..200).map(|number| queues(table, "x", &key(number)).concat()).collect()
        };
        let before = reached(&table);
        table.unbind(&binding("x", queue(name), weight));
        let without = reached(&table);
        for (before, without) in before.iter().zip(&without) {
            prop_assert!(before == without || before == name);
            prop_assert_ne!(without, name);
        }
        bind(&mut table, "x", queue(name), weight);
        prop_assert_eq!(reached(&table), before);
    }
}
