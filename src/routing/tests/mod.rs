//! The rules of routing as tables and stories, and the whole table against a
//! naive model.

mod against_model;
mod exchange_types;
mod model;
mod plugin_types;
mod topology;

use std::sync::Arc;

use super::{Binding, Publish, Routed, RoutingTable};
use crate::model::{Destination, ExchangeKind, ExchangeSettings, FieldTable, FieldValue};

fn queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

fn exchange(name: &str) -> Destination {
    Destination::Exchange(name.into())
}

fn headers(entries: &[(&str, FieldValue)]) -> FieldTable {
    entries
        .iter()
        .map(|(name, value)| (*name, value.clone()))
        .collect()
}

fn binding(source: &str, destination: Destination, key: &str) -> Binding {
    binding_with(source, destination, key, FieldTable::new())
}

fn binding_with(source: &str, to: Destination, key: &str, arguments: FieldTable) -> Binding {
    Binding {
        source: source.into(),
        destination: to,
        routing_key: key.into(),
        arguments: Arc::new(arguments),
    }
}

/// A table with these exchanges beside the predeclared ones.
fn table_of(exchanges: &[(&str, ExchangeKind)]) -> RoutingTable {
    let mut table = RoutingTable::new();
    for (name, kind) in exchanges {
        table.declare_exchange((*name).into(), ExchangeSettings::new(*kind));
    }
    table
}

fn with_alternate(kind: ExchangeKind, alternate: &str) -> ExchangeSettings {
    ExchangeSettings {
        alternate: Some(alternate.into()),
        ..ExchangeSettings::new(kind)
    }
}

fn auto_delete(kind: ExchangeKind) -> ExchangeSettings {
    ExchangeSettings {
        auto_delete: true,
        ..ExchangeSettings::new(kind)
    }
}

fn bind(table: &mut RoutingTable, source: &str, destination: Destination, key: &str) {
    let new = table.bind(binding(source, destination, key));
    assert_eq!(new, Ok(true), "{source} is bound by {key}");
}

/// The queues that one key reaches; checks that the explanation agrees.
fn queues(table: &RoutingTable, exchange: &str, key: &str) -> Vec<String> {
    queues_of(table, exchange, &[key], &FieldTable::new())
}

fn queues_of(
    table: &RoutingTable,
    exchange: &str,
    keys: &[&str],
    headers: &FieldTable,
) -> Vec<String> {
    queues_for(table, exchange, &Publish::new(keys, headers))
}

fn queues_for(table: &RoutingTable, exchange: &str, publish: &Publish<'_>) -> Vec<String> {
    let mut routed = Routed::default();
    table.route(exchange, publish, &mut routed);
    assert_eq!(table.explain(exchange, publish).queues, routed.queues);
    let needs = table.needs(exchange);
    assert_eq!(needs | routed.needs, needs, "all of them were told");
    routed.queues.iter().map(ToString::to_string).collect()
}
