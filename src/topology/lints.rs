//! How the definitions of a file fit together: references to what is not there
//! are errors, and what is legal but can hardly be meant is a warning.

mod circles;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Document, Located, Position, did_you_mean};
use crate::model::{BrokerError, Destination, ExchangeKind, ExchangeName, QueueName, VhostName};

use crate::policy::{EXCHANGE_ARGUMENTS, QUEUE_ARGUMENTS};
use crate::routing::{BindRefused, Binding, RoutingTable};

use super::{BindingDefinition, Topology};

use circles::{Graph, circles};

/// Takes out what is defined twice: a warning if both are equal, else an error.
pub(super) fn merge_duplicates(topology: &mut Topology, document: &Document<'_>) {
    keep_firsts(
        &mut topology.exchanges,
        document,
        |exchange| (exchange.vhost.clone(), exchange.name.clone()),
        |first, second| second.redeclares(first),
        |exchange| format!("exchange '{}'", exchange.name),
    );
    keep_firsts(
        &mut topology.queues,
        document,
        |queue| (queue.vhost.clone(), queue.name.clone()),
        |first, second| second.redeclares(first),
        |queue| format!("queue '{}'", queue.name),
    );
    keep_firsts(
        &mut topology.bindings,
        document,
        BindingDefinition::identity,
        |_, _| Ok(()),
        |_| "this binding".to_owned(),
    );
}

/// Notes what is wrong or doubtful about a topology as a whole.
pub(super) fn check(topology: &Topology, document: &Document<'_>) {
    let known = Known::new(topology, document);
    for binding in &topology.bindings {
        check_ends(binding, &known, document);
        check_match(binding, &known, document);
    }
    check_exchanges(topology, &known, document);
    check_limits(topology, document);
    check_arguments(topology, document);
    check_circles(topology, document);
}

/// What a binding or an alternate can lead to.
struct Known<'t> {
    tables: BTreeMap<&'t VhostName, RoutingTable>,
    queues: BTreeMap<&'t VhostName, BTreeSet<&'t str>>,
}

impl<'t> Known<'t> {
    fn new(topology: &'t Topology, document: &Document<'_>) -> Self {
        let refused = |binding: &Located<BindingDefinition>, cause| match cause {
            BindRefused::Arguments(text) => document.error(binding.position, text),
            // Told by check_ends, with what may be meant.
            BindRefused::SourceMissing | BindRefused::DestinationMissing => {}
            // The default exchange has no name that a file could give.
            BindRefused::DefaultExchange => {}
        };
        let vhosts = topology.vhosts.iter();
        let tables = vhosts.map(|vhost| (vhost, topology.route_with(vhost, refused)));
        let mut queues: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for queue in topology.queues.iter().map(|queue| &queue.value) {
            let names = queues.entry(&queue.vhost).or_default();
            names.insert(queue.name.as_str());
        }
        Self {
            tables: tables.collect(),
            queues,
        }
    }

    /// As which kind an exchange matches.
    fn exchange(&self, vhost: &VhostName, name: &ExchangeName) -> Option<ExchangeKind> {
        let settings = self.tables.get(vhost)?.exchange(name.as_str())?;
        Some(settings.routes_as())
    }

    fn has_queue(&self, vhost: &VhostName, name: &QueueName) -> bool {
        self.queues
            .get(vhost)
            .is_some_and(|queues| queues.contains(name.as_str()))
    }

    /// What to say about an exchange that is not there.
    fn no_exchange(&self, vhost: &VhostName, name: &ExchangeName) -> String {
        let tables = self.tables.get(vhost).into_iter();
        let names = tables.flat_map(|table| table.exchanges().map(|(name, _)| name.as_str()));
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        missing("exchange", name.as_str(), vhost, names.into_iter())
    }

    fn no_queue(&self, vhost: &VhostName, name: &QueueName) -> String {
        let names = self.queues.get(vhost).into_iter().flatten();
        missing("queue", name.as_str(), vhost, names.copied())
    }
}

fn check_ends(binding: &Located<BindingDefinition>, known: &Known<'_>, document: &Document<'_>) {
    let vhost = &binding.value.vhost;
    let Binding {
        source,
        destination,
        ..
    } = &binding.value.binding;
    if known.exchange(vhost, source).is_none() {
        document.error(binding.position, known.no_exchange(vhost, source));
    }
    match destination {
        Destination::Queue(queue) if !known.has_queue(vhost, queue) => {
            let exchange = known.exchange(vhost, &ExchangeName::from(queue.as_str()));
            let text = match exchange {
                Some(_) => format!("'{queue}' is an exchange, did you mean 'to_exchange'?"),
                None => known.no_queue(vhost, queue),
            };
            document.error(binding.position, text);
        }
        Destination::Exchange(exchange) if known.exchange(vhost, exchange).is_none() => {
            let text = if known.has_queue(vhost, &QueueName::from(exchange.as_str())) {
                format!("'{exchange}' is a queue, did you mean 'to_queue'?")
            } else {
                known.no_exchange(vhost, exchange)
            };
            document.error(binding.position, text);
        }
        _ => {}
    }
}

/// Notes what a binding says that its exchange's type does not look at.
fn check_match(binding: &Located<BindingDefinition>, known: &Known<'_>, document: &Document<'_>) {
    let vhost = &binding.value.vhost;
    let Binding {
        source,
        routing_key,
        arguments,
        ..
    } = &binding.value.binding;
    let Some(kind) = known.exchange(vhost, source) else {
        return;
    };
    let warn = |text: String| document.warn(binding.position, text);
    match kind {
        ExchangeKind::Direct
            if routing_key
                .split('.')
                .any(|word| word == "*" || word == "#") =>
        {
            warn(format!(
                "'{routing_key}' looks like a topic pattern, but '{source}' is a direct exchange \
                 and takes it literally"
            ));
        }
        ExchangeKind::Direct | ExchangeKind::Topic if routing_key.is_empty() => warn(format!(
            "without a key only messages with an empty routing key take this binding of '{source}', \
             a {kind} exchange"
        )),
        ExchangeKind::Fanout | ExchangeKind::Headers | ExchangeKind::RecentHistory
            if !routing_key.is_empty() =>
        {
            warn(format!(
                "the key '{routing_key}' has no effect, '{source}' is {} exchange",
                with_article(kind)
            ));
        }
        _ => {}
    }
    let mode = arguments.get("x-match").and_then(|mode| mode.as_str());
    let counts_x = mode.is_some_and(|mode| mode.ends_with("-with-x"));
    let mut headers = arguments.iter().filter(|(name, _)| *name != "x-match");
    if kind != ExchangeKind::Headers {
        if !arguments.is_empty() {
            warn(format!(
                "headers have no effect, '{source}' is {} exchange",
                with_article(kind)
            ));
        }
    } else if let Some((name, _)) = headers.find(|(name, _)| name.starts_with("x-"))
        && !counts_x
    {
        warn(format!(
            "header '{name}' is not compared, only match \"all-with-x\" and \"any-with-x\" look at \
             names that begin with 'x-'"
        ));
    }
}

fn with_article(kind: ExchangeKind) -> String {
    let article = if kind.name().starts_with('x') {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

fn check_exchanges(topology: &Topology, known: &Known<'_>, document: &Document<'_>) {
    let exchanges = || topology.exchanges.iter();
    let bindings = || topology.bindings.iter().map(|binding| &binding.value);
    let sources: BTreeSet<_> = bindings()
        .map(|binding| (&binding.vhost, &binding.binding.source))
        .collect();
    let bound = bindings().filter_map(|binding| match &binding.binding.destination {
        Destination::Exchange(exchange) => Some((&binding.vhost, exchange)),
        Destination::Queue(_) => None,
    });
    let alternates: Vec<_> = exchanges()
        .filter_map(|exchange| {
            let alternate = topology.alternate(&exchange.value)?;
            Some((&exchange.value.vhost, alternate))
        })
        .collect();
    let alternates = alternates.iter().map(|(vhost, name)| (*vhost, name));
    let reached: BTreeSet<_> = bound.chain(alternates).collect();

    for exchange in exchanges() {
        let place = (&exchange.value.vhost, &exchange.value.name);
        let internal = exchange.value.settings.internal;
        let alternate = topology.alternate(&exchange.value);
        let (vhost, name) = place;
        let warn = |text: String| document.warn(exchange.position, text);
        if internal && !reached.contains(&place) {
            warn(format!(
                "nothing leads to the internal exchange '{name}', no message can reach it"
            ));
        }
        match &alternate {
            Some(alternate) if known.exchange(vhost, alternate).is_none() => {
                let missing = known.no_exchange(vhost, alternate);
                warn(format!("the alternate of '{name}' is missing: {missing}"));
            }
            None if !sources.contains(&place) => warn(format!(
                "nothing is bound to exchange '{name}', messages published to it are dropped"
            )),
            _ => {}
        }
    }
}

/// A file may not define more than it allows.
fn check_limits(topology: &Topology, document: &Document<'_>) {
    for (vhost, limits) in &topology.rulebook.limits {
        let Some(limit) = limits.queues else { continue };
        let queues = topology.queues.iter();
        let mut queues = queues.filter(|queue| queue.value.vhost == *vhost);
        if let Some(queue) = queues.nth(limit as usize) {
            let name = &queue.value.name;
            let text = format!(
                "queue '{name}' is more than vhost '{vhost}' may have, its max_queues is {limit}"
            );
            document.error(queue.position, text);
        }
    }
}

/// Arguments that are in no table have no effect, which is no surprise unless
/// they look like one that has.
fn check_arguments(topology: &Topology, document: &Document<'_>) {
    let exchange_arguments: Vec<_> = EXCHANGE_ARGUMENTS.iter().map(|row| row.name).collect();
    let queue_arguments: Vec<_> = QUEUE_ARGUMENTS.iter().map(|row| row.name).collect();
    let exchanges = topology.exchanges.iter().map(|exchange| {
        (
            exchange.position,
            &exchange.value.settings.arguments,
            &exchange_arguments,
        )
    });
    let queues = topology.queues.iter().map(|queue| {
        (
            queue.position,
            &queue.value.settings.arguments,
            &queue_arguments,
        )
    });
    for (position, arguments, known) in exchanges.chain(queues) {
        for (name, _) in arguments.iter() {
            let meant = did_you_mean(name, known.iter().copied());
            if let Some(meant) = meant.filter(|meant| name != meant) {
                let text = format!("argument '{name}' has no effect, did you mean '{meant}'?");
                document.warn(position, text);
            }
        }
    }
}

fn check_circles(topology: &Topology, document: &Document<'_>) {
    let led: Vec<_> = topology
        .exchanges
        .iter()
        .map(|exchange| (exchange, topology.alternate(&exchange.value)))
        .collect();
    let mut alternates: Graph<(&VhostName, &ExchangeName)> = Graph::new();
    for (Located { value, position }, alternate) in &led {
        if let Some(alternate) = alternate {
            let edges = alternates.entry((&value.vhost, &value.name)).or_default();
            edges.push(((&value.vhost, alternate), *position));
        }
    }
    let mut bound: Graph<(&VhostName, &ExchangeName)> = Graph::new();
    for Located { value, position } in &topology.bindings {
        if let Destination::Exchange(destination) = &value.binding.destination {
            let edges = bound
                .entry((&value.vhost, &value.binding.source))
                .or_default();
            edges.push(((&value.vhost, destination), *position));
        }
    }
    for (graph, what, effect) in [
        (
            alternates,
            "alternate exchanges form a circle",
            "what none of them routes is dropped",
        ),
        (
            bound,
            "exchanges are bound in a circle",
            "a message passes each of them once",
        ),
    ] {
        for circle in circles(&graph) {
            let names: Vec<String> = circle
                .nodes
                .iter()
                .map(|(_, name)| format!("'{name}'"))
                .collect();
            let text = format!("{what}, {effect}: {}", names.join(" -> "));
            document.warn(circle.closed_at, text);
        }
    }
}

fn keep_firsts<T: Clone, K: Ord>(
    definitions: &mut Vec<Located<T>>,
    document: &Document<'_>,
    key: impl Fn(&T) -> K,
    redeclares: impl Fn(&T, &T) -> Result<(), BrokerError>,
    describe: impl Fn(&T) -> String,
) {
    let mut firsts: BTreeMap<K, (T, Position)> = BTreeMap::new();
    definitions.retain(
        |Located { value, position }| match firsts.entry(key(value)) {
            Entry::Vacant(entry) => {
                entry.insert((value.clone(), *position));
                true
            }
            Entry::Occupied(entry) => {
                let (first, Position { line, .. }) = entry.get();
                let text = format!("{} is already defined in line {line}", describe(value));
                match redeclares(first, value) {
                    Ok(()) => document.warn(*position, text),
                    Err(cause) => document.error(*position, format!("{text}: {cause}")),
                }
                false
            }
        },
    );
}

fn missing<'n>(
    what: &str,
    name: &str,
    vhost: &VhostName,
    known: impl Iterator<Item = &'n str> + Clone,
) -> String {
    match did_you_mean(name, known) {
        Some(meant) => format!("no {what} '{name}' in vhost '{vhost}', did you mean '{meant}'?"),
        None => format!("no {what} '{name}' in vhost '{vhost}' is defined"),
    }
}
