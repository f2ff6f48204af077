//! Random tables and messages: the table does what the naive model does.
//! `PROPTEST_CASES=100000` looks longer.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::model::{Model, topic_matches, words};
use super::*;
use crate::model::HashOn;
use crate::routing::{Identifiers, Needs};

#[derive(Clone, Debug)]
enum Change {
    Declare(&'static str, ExchangeSettings),
    DeleteExchange(&'static str),
    DeleteQueue(&'static str),
    Bind(Binding),
    Unbind(Binding),
}

#[derive(Clone, Debug)]
struct Sent {
    exchange: &'static str,
    keys: Vec<String>,
    headers: FieldTable,
    message_id: Option<String>,
    random: u64,
}

/// Few names, so that bindings meet and cycles come about.
const EXCHANGES: &[&str] = &["a", "b", "c", "d", "e", "amq.topic"];
const QUEUES: &[&str] = &["q1", "q2", "q3", "a"];

fn kind() -> impl Strategy<Value = ExchangeKind> {
    select(&ExchangeKind::ALL[..])
}

fn settings() -> impl Strategy<Value = ExchangeSettings> {
    let alternate = option::of(select(EXCHANGES));
    let hash_on = select(vec![
        HashOn::RoutingKey,
        HashOn::Header("a".into()),
        HashOn::MessageId,
    ]);
    (kind(), kind(), any::<bool>(), alternate, hash_on).prop_map(
        |(kind, delayed_kind, auto_delete, alternate, hash_on)| ExchangeSettings {
            auto_delete,
            alternate: alternate.map(Into::into),
            hash_on,
            delayed_kind: Some(delayed_kind),
            ..ExchangeSettings::new(kind)
        },
    )
}

fn key(words: &'static [&'static str], length: usize) -> impl Strategy<Value = String> {
    vec(select(words), 0..=length).prop_map(|words| words.join("."))
}

fn pattern(length: usize) -> impl Strategy<Value = String> {
    key(&["x", "y", "", "*", "#", "#"], length)
}

fn binding_key() -> impl Strategy<Value = String> {
    let number = select(&["1", "2", "5", "0", "-3"][..]).prop_map(str::to_owned);
    prop_oneof![2 => pattern(3), 1 => number]
}

fn routing_key(length: usize) -> impl Strategy<Value = String> {
    key(&["x", "x", "y", "y", "", "*", "#"], length)
}

fn header_values() -> impl Strategy<Value = FieldTable> {
    let values = [
        FieldValue::Void,
        FieldValue::I8(1),
        FieldValue::I64(1),
        FieldValue::I32(2),
        FieldValue::Bool(true),
        "1".into(),
        FieldValue::Array(vec![FieldValue::I8(1)]),
    ];
    let entry = (select(&["a", "b", "c", "x-a"][..]), select(values.to_vec()));
    vec(entry, 0..4).prop_map(|entries| {
        let mut table = FieldTable::new();
        entries
            .into_iter()
            .for_each(|(name, value)| table.insert(name, value));
        table
    })
}

fn arguments() -> impl Strategy<Value = FieldTable> {
    let mode = option::of(select(&["all", "any", "all-with-x", "any-with-x"][..]));
    (mode, header_values()).prop_map(|(mode, mut table)| {
        if let Some(mode) = mode {
            table.insert("x-match", mode);
        }
        table
    })
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let destination = prop_oneof![
        select(QUEUES).prop_map(queue),
        select(EXCHANGES).prop_map(exchange),
    ];
    (select(EXCHANGES), destination, binding_key(), arguments())
        .prop_map(|(source, to, key, arguments)| binding_with(source, to, &key, arguments))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (select(EXCHANGES), settings()).prop_map(|(name, it)| Change::Declare(name, it)),
        1 => select(EXCHANGES).prop_map(Change::DeleteExchange),
        1 => select(QUEUES).prop_map(Change::DeleteQueue),
        8 => any_binding().prop_map(Change::Bind),
        1 => any_binding().prop_map(Change::Unbind),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let message_id = option::of(select(&["1", "2"][..]).prop_map(str::to_owned));
    (
        select(EXCHANGES),
        vec(routing_key(4), 1..3),
        header_values(),
        message_id,
        any::<u64>(),
    )
        .prop_map(|(exchange, keys, headers, message_id, random)| Sent {
            exchange,
            keys,
            headers,
            message_id,
            random,
        })
}

/// Makes the change in both and compares what they say of it.
fn apply(change: Change, table: &mut RoutingTable, model: &mut Model) -> Result<(), TestCaseError> {
    let names = |names: Vec<crate::model::ExchangeName>| -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    };
    match change {
        Change::Declare(name, settings) => {
            model.exchanges.insert(name.to_owned(), settings.clone());
            table.declare_exchange(name.into(), settings);
        }
        Change::DeleteExchange(name) => {
            let existed = model.exchanges.contains_key(name);
            let removed = table.delete_exchange(name);
            prop_assert_eq!(removed.existed, existed);
            prop_assert_eq!(names(removed.auto_deleted), model.delete_exchange(name));
        }
        Change::DeleteQueue(name) => {
            let gone = model.remove_bindings(|it| it.destination == queue(name));
            prop_assert_eq!(names(table.delete_queue(name)), gone);
        }
        Change::Bind(binding) => {
            prop_assert_eq!(table.bind(binding.clone()), model.bind(binding));
        }
        Change::Unbind(binding) => {
            let existed = model.bindings.contains(&binding);
            let gone = model.remove_bindings(|it| *it == binding);
            let removed = table.unbind(&binding);
            prop_assert_eq!(removed.existed, existed);
            prop_assert_eq!(names(removed.auto_deleted), gone);
        }
    }
    Ok(())
}

fn compare_listings(table: &RoutingTable, model: &Model) -> Result<(), TestCaseError> {
    let exchanges: Vec<_> = table
        .exchanges()
        .map(|(name, it)| (name.to_string(), it.clone()))
        .collect();
    let expected: Vec<_> = model.exchanges.clone().into_iter().collect();
    prop_assert_eq!(exchanges, expected);

    let mut sorted: Vec<&Binding> = model.bindings.iter().collect();
    sorted.sort_by_key(|binding| &binding.source);
    prop_assert_eq!(table.bindings().collect::<Vec<_>>(), sorted);
    for name in EXCHANGES {
        let from: Vec<_> = model
            .bindings
            .iter()
            .filter(|it| it.source.as_str() == *name)
            .collect();
        prop_assert_eq!(table.exchange_in_use(name), !from.is_empty());
        prop_assert_eq!(table.bindings_of_source(name).collect::<Vec<_>>(), from);
    }
    let queues = QUEUES.iter().map(|name| queue(name));
    for destination in queues.chain(EXCHANGES.iter().map(|name| exchange(name))) {
        let to: Vec<_> = model
            .bindings
            .iter()
            .filter(|it| it.destination == destination)
            .collect();
        prop_assert_eq!(table.bindings_to(&destination).collect::<Vec<_>>(), to);
    }
    Ok(())
}

fn compare_route(
    table: &RoutingTable,
    model: &Model,
    sent: &Sent,
    routed: &mut Routed,
) -> Result<(), TestCaseError> {
    let keys: Vec<&str> = sent.keys.iter().map(String::as_str).collect();
    let exchange = sent.exchange;
    let publish = Publish {
        identifiers: Identifiers {
            message_id: sent.message_id.as_deref(),
            ..Identifiers::default()
        },
        random: sent.random,
        ..Publish::new(&keys, &sent.headers)
    };
    table.route(exchange, &publish, routed);

    let reached: BTreeSet<_> = routed.queues.iter().map(ToString::to_string).collect();
    prop_assert_eq!(
        reached.len(),
        routed.queues.len(),
        "a queue twice in {:?}",
        routed.queues
    );
    let expected = model.route(exchange, &publish);
    prop_assert_eq!(&reached, &expected.queues);
    let histories = routed.histories.iter().map(ToString::to_string);
    prop_assert_eq!(histories.collect::<BTreeSet<_>>(), expected.histories);

    let needs = table.needs(exchange);
    prop_assert_eq!(needs | routed.needs, needs);
    let none = FieldTable::new();
    let mut other = publish;
    if !routed.needs.any(Needs::HEADERS) {
        other.headers = &none;
    }
    if !routed.needs.any(Needs::IDENTIFIERS) {
        other.identifiers = Identifiers::default();
    }
    if !routed.needs.any(Needs::RANDOM) {
        other.random = !publish.random;
    }
    prop_assert_eq!(&reached, &model.route(exchange, &other).queues);

    let explanation = table.explain(exchange, &publish);
    prop_assert_eq!(&explanation.queues, &routed.queues);
    for step in &explanation.steps {
        prop_assert!(!step.picks_one || step.matched.len() <= 1);
    }
    let explained: BTreeSet<_> = explanation
        .steps
        .iter()
        .flat_map(|step| &step.matched)
        .filter_map(|it| match &it.binding.destination {
            Destination::Queue(name) => Some(name),
            Destination::Exchange(_) => None,
        })
        .collect();
    prop_assert_eq!(explained, routed.queues.iter().collect::<BTreeSet<_>>());
    Ok(())
}

proptest! {
    /// RELIABILITY.md, bug museum row 29.
    #[test]
    fn museum_29_topic_agrees_with_the_rule_word_by_word(
        patterns in vec(pattern(6), 1..8),
        keys in vec(routing_key(8), 1..8),
    ) {
        let mut table = RoutingTable::new();
        for pattern in &patterns {
            let _ = table.bind(binding("amq.topic", queue(pattern), pattern));
        }
        let mut routed = Routed::default();
        let none = FieldTable::new();
        for key in &keys {
            table.route("amq.topic", &Publish::new(&[key], &none), &mut routed);
            let reached: BTreeSet<_> = routed.queues.iter().map(|name| name.as_str()).collect();
            let matching = patterns.iter().map(String::as_str)
                .filter(|pattern| topic_matches(&words(pattern), &words(key)));
            prop_assert_eq!(reached, matching.collect::<BTreeSet<_>>(), "key {:?}", key);
        }
        for step in table.explain("amq.topic", &Publish::new(&[&keys[0]], &none)).steps {
            for found in step.matched {
                let begin = format!("pattern `{}` matches `{}`", found.binding.routing_key, keys[0]);
                prop_assert!(found.reason.starts_with(&begin), "{}", found.reason);
            }
        }
    }

    #[test]
    fn table_agrees_with_the_naive_model(
        steps in vec((change(), sent()), 1..40),
    ) {
        let mut table = RoutingTable::new();
        let mut model = Model::default();
        for (name, settings) in table.exchanges() {
            model.exchanges.insert(name.to_string(), settings.clone());
        }
        let mut routed = Routed::default();
        let mut snapshot = table.clone();
        for (at, (change, sent)) in steps.into_iter().enumerate() {
            let before: Vec<_> = snapshot.bindings().cloned().collect();
            apply(change, &mut table, &mut model)?;
            compare_listings(&table, &model)?;
            compare_route(&table, &model, &sent, &mut routed)?;
            prop_assert_eq!(snapshot.bindings().cloned().collect::<Vec<_>>(), before);
            if at % 3 == 0 {
                snapshot = table.clone();
            }
        }
    }
}
