//! The tables `[[vhost]]`, `[[exchange]]`, `[[queue]]` and `[[binding]]`, each
//! on its own; how they fit together is for [`super::lints`].

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_protocol::SmolStr;
use toml::de::DeValue;

use crate::broker::VhostLimits;
use crate::config::{
    Flag, Integer, Kind, List, Located, NAME_BYTES_MAX, Name, OneOf, Parsed, TableReader,
    alternatives, did_you_mean,
};
use crate::model::{
    BrokerError, Destination, ExchangeKind, ExchangeName, FieldTable, FieldValue, QueueName,
    VhostName,
};
use crate::policy;
use crate::routing::Binding;

use super::arguments::{common_names, read_table};
use super::{BindingDefinition, ExchangeDefinition, QueueDefinition, Topology};

/// Reads the virtual hosts, `/` first, and the limits that some have.
pub(super) fn vhosts(
    root: &mut TableReader<'_>,
) -> (Vec<VhostName>, BTreeMap<VhostName, VhostLimits>) {
    let mut vhosts = vec![VhostName::from("/")];
    let mut limited = BTreeMap::new();
    for mut table in root.sections("vhost") {
        let name = table.required("name", Name);
        let mut limit = |key| table.optional(key, COUNT).map(|limit| limit.value);
        let limits = VhostLimits {
            queues: limit("max_queues"),
            connections: limit("max_connections"),
        };
        if let Some(name) = name {
            let vhost = VhostName::from(name.value);
            if !vhosts.contains(&vhost) {
                vhosts.push(vhost.clone());
            }
            if limits != VhostLimits::default() && limited.insert(vhost.clone(), limits).is_some() {
                table.error(format!("vhost '{vhost}' already has limits"));
            }
        }
        table.finish();
    }
    (vhosts, limited)
}

/// Reads what these virtual hosts contain.
pub(super) fn topology(root: &mut TableReader<'_>, vhosts: Vec<VhostName>) -> Topology {
    let mut topology = Topology {
        vhosts,
        ..Topology::default()
    };
    for mut table in root.sections("exchange") {
        let position = table.position();
        let exchange = exchange(&mut table, &topology.vhosts);
        topology
            .exchanges
            .extend(exchange.map(|value| Located { value, position }));
        table.finish();
    }
    for mut table in root.sections("queue") {
        let position = table.position();
        let queue = queue(&mut table, &topology.vhosts);
        topology
            .queues
            .extend(queue.map(|value| Located { value, position }));
        table.finish();
    }
    for table in root.sections("binding") {
        topology.bindings.extend(bindings(table, &topology.vhosts));
    }
    topology
}

fn exchange(table: &mut TableReader<'_>, vhosts: &[VhostName]) -> Option<ExchangeDefinition> {
    let vhost = vhost(table, vhosts);
    let name = own_name(table).map(ExchangeName::from);
    let kind = table.required("type", ExchangeType);
    let durable = table.read("durable", Flag, true);
    let auto_delete = table.read("auto_delete", Flag, false);
    let internal = table.read("internal", Flag, false);
    let alternate = table.optional("alternate", Name);
    let mut arguments = read_table(table, "arguments");
    if let Some(alternate) = alternate {
        if arguments.get(ALTERNATE_EXCHANGE).is_some() {
            let text = format!("'arguments' have a second '{ALTERNATE_EXCHANGE}'");
            table.document().error(alternate.position, text);
        }
        arguments.insert(ALTERNATE_EXCHANGE, alternate.value.as_str());
    }
    let (vhost, name, kind) = (vhost?, name?, kind?.value.name());
    let settings = policy::exchange_settings(
        &name,
        &vhost,
        kind,
        durable,
        auto_delete,
        internal,
        arguments,
    );
    Some(ExchangeDefinition {
        settings: accepted(settings, table)?,
        vhost,
        name,
    })
}

fn queue(table: &mut TableReader<'_>, vhosts: &[VhostName]) -> Option<QueueDefinition> {
    let vhost = vhost(table, vhosts);
    let name = own_name(table).map(QueueName::from);
    let durable = table.read("durable", Flag, true);
    let auto_delete = table.read("auto_delete", Flag, false);
    let arguments = read_table(table, "arguments");
    let (vhost, name) = (vhost?, name?);
    let settings = policy::queue_settings(&name, &vhost, durable, auto_delete, None, arguments);
    Some(QueueDefinition {
        settings: accepted(settings, table)?,
        vhost,
        name,
    })
}

/// What the broker would answer a client that declared the same.
fn accepted<T>(settings: Result<T, BrokerError>, table: &TableReader<'_>) -> Option<T> {
    settings
        .map_err(|error| table.error(error.to_string()))
        .ok()
}

fn bindings(mut table: TableReader<'_>, vhosts: &[VhostName]) -> Vec<Located<BindingDefinition>> {
    let position = table.position();
    let vhost = vhost(&mut table, vhosts);
    let source = table.required("from", BOUND_EXCHANGE);
    let destination = destination(&mut table);
    let keys = keys(&mut table);
    let arguments = Arc::new(binding_arguments(&mut table));
    table.finish();
    let (Some(vhost), Some(source), Some(destination)) = (vhost, source, destination) else {
        return Vec::new();
    };
    let binding = |routing_key| BindingDefinition {
        vhost: vhost.clone(),
        binding: Binding {
            source: ExchangeName::from(source.value.as_str()),
            destination: destination.clone(),
            routing_key,
            arguments: Arc::clone(&arguments),
        },
    };
    let keys = keys.into_iter();
    keys.map(|key| Located {
        value: binding(key),
        position,
    })
    .collect()
}

fn destination(table: &mut TableReader<'_>) -> Option<Destination> {
    let queue = table.optional("to_queue", Name);
    let exchange = table.optional("to_exchange", BOUND_EXCHANGE);
    match (table.contains("to_queue"), table.contains("to_exchange")) {
        (true, true) => {
            table.error("[[binding]] leads to a queue or to an exchange, not to both".to_owned());
        }
        (false, false) => {
            table.error("[[binding]] needs a key 'to_queue' or 'to_exchange'".to_owned());
        }
        _ => {}
    }
    let queue = queue.map(|name| Destination::Queue(QueueName::from(name.value)));
    queue.or_else(|| Some(Destination::Exchange(ExchangeName::from(exchange?.value))))
}

/// The binding keys; without any the empty one.
fn keys(table: &mut TableReader<'_>) -> Vec<SmolStr> {
    let one = table.optional("key", BINDING_KEY);
    let several = table.optional("keys", List(BINDING_KEY));
    if table.contains("key") && table.contains("keys") {
        table.error("[[binding]] has 'key' and 'keys', one is enough".to_owned());
    }
    match several {
        Some(several) => {
            if several.value.is_empty() {
                let text = "'keys' in [[binding]] is empty, so nothing is bound".to_owned();
                table.document().warn(several.position, text);
            }
            several.value
        }
        None => vec![one.map(|key| key.value).unwrap_or_default()],
    }
}

/// `arguments`, with what `headers`, `present` and `match` say in readable form.
fn binding_arguments(table: &mut TableReader<'_>) -> FieldTable {
    let mut arguments = read_table(table, "arguments");
    let mut headers = read_table(table, "headers");
    for name in table.read("present", List(Name), Vec::new()) {
        if headers.get(&name).is_some() {
            table.error(format!("header '{name}' is in 'headers' and in 'present'"));
        }
        headers.insert(name, FieldValue::Void);
    }
    let mode = table.optional("match", OneOf(MATCH_MODES));
    for name in common_names(&arguments, &headers) {
        table.error(format!(
            "'{name}' is an argument and a header of this [[binding]]"
        ));
    }
    if headers.get(X_MATCH).is_some() || (mode.is_some() && arguments.get(X_MATCH).is_some()) {
        table.error(format!("write 'match' instead of a header '{X_MATCH}'"));
    }
    if let Some(mode) = &mode
        && headers.is_empty()
    {
        let text = "'match' in [[binding]] needs 'headers' or 'present'".to_owned();
        table.document().error(mode.position, text);
    }
    for (name, value) in headers.iter() {
        arguments.insert(name.clone(), value.clone());
    }
    if let Some(mode) = mode {
        arguments.insert(X_MATCH, mode.value);
    }
    arguments
}

/// The virtual host of a table: `/` unless it says another that is defined.
pub(super) fn vhost(table: &mut TableReader<'_>, vhosts: &[VhostName]) -> Option<VhostName> {
    let present = table.contains("vhost");
    let name = table.optional("vhost", Name);
    if !present {
        return Some(VhostName::from("/"));
    }
    let name = name?;
    let vhost = VhostName::from(name.value);
    if vhosts.contains(&vhost) {
        return Some(vhost);
    }
    let meant = did_you_mean(vhost.as_str(), vhosts.iter().map(VhostName::as_str));
    let text = match meant {
        Some(meant) => format!("no [[vhost]] '{vhost}', did you mean '{meant}'?"),
        None => format!("no [[vhost]] '{vhost}' is defined"),
    };
    table.document().error(name.position, text);
    None
}

/// The name of something that is to be created, which the broker must not have
/// for itself.
fn own_name(table: &mut TableReader<'_>) -> Option<String> {
    let name = table.required("name", Name)?;
    if name.value.starts_with("amq.") {
        let text = format!(
            "'{}': names that begin with 'amq.' are the broker's own",
            name.value
        );
        table.document().error(name.position, text);
        return None;
    }
    Some(name.value)
}

/// The name of an exchange type.
struct ExchangeType;

impl Kind for ExchangeType {
    type Value = ExchangeKind;

    fn expected(&self) -> String {
        alternatives(ExchangeKind::ALL.into_iter().map(ExchangeKind::name))
    }

    fn read(&self, value: &DeValue<'_>) -> Option<ExchangeKind> {
        ExchangeKind::from_name(value.as_str()?)
    }
}

const COUNT: Integer<u32> = Integer(0..=u32::MAX);

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
const X_MATCH: &str = "x-match";

const MATCH_MODES: &[(&str, &str)] = &[
    ("all", "all"),
    ("any", "any"),
    ("all-with-x", "all-with-x"),
    ("any-with-x", "any-with-x"),
];

const BOUND_EXCHANGE: Parsed<fn(&str) -> Option<String>> = Parsed {
    expected: "the name of an exchange other than the default exchange, which cannot be bound",
    read: |text| Name.read(&DeValue::String(text.into())),
};

const BINDING_KEY: Parsed<fn(&str) -> Option<SmolStr>> = Parsed {
    expected: "a key in quotes of at most 255 octets",
    read: |text| (text.len() <= NAME_BYTES_MAX).then(|| SmolStr::new(text)),
};
