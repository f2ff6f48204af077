//! Generated topologies, written as TOML and read back.

use std::fmt::Write;

use leveret_protocol::SmolStr;
use proptest::prelude::*;

use crate::model::FieldValue;

use super::*;

/// A name that any client could choose.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[^\\r\\n]{1,20}",].prop_filter("the broker's own", |name| {
        !name.starts_with("amq.") && name.len() <= 255
    })
}

fn value() -> impl Strategy<Value = FieldValue> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(FieldValue::I32),
        any::<i64>()
            .prop_filter("fits in 32 bits", |number| i32::try_from(*number).is_err())
            .prop_map(FieldValue::I64),
        any::<bool>().prop_map(FieldValue::Bool),
        any::<String>().prop_map(|text| FieldValue::from(text.as_str())),
        (-1e300..1e300).prop_map(FieldValue::F64),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(FieldValue::Array),
            prop::collection::btree_map(name(), inner, 0..3)
                .prop_map(|entries| FieldValue::Table(entries.into_iter().collect())),
        ]
    })
}

fn arguments() -> impl Strategy<Value = Arc<FieldTable>> {
    // Names that nobody gives a meaning, so that no value is wrong for them.
    let name = "[a-z]{3,6}-[a-z]{3,6}";
    prop::collection::btree_map(name, value(), 0..3)
        .prop_map(|entries| Arc::new(entries.into_iter().collect()))
}

prop_compose! {
    fn exchange_settings()(
        kind in prop::sample::select(vec![
            ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers,
            ExchangeKind::Random, ExchangeKind::ModulusHash, ExchangeKind::RecentHistory,
        ]),
        (durable, auto_delete, internal) in any::<(bool, bool, bool)>(),
        alternate in prop::option::of(name()),
        arguments in arguments(),
    ) -> ExchangeSettings {
        let mut arguments = FieldTable::clone(&arguments);
        if let Some(alternate) = &alternate {
            arguments.insert("alternate-exchange", alternate.as_str());
        }
        ExchangeSettings {
            durable, auto_delete, internal,
            alternate: alternate.map(ExchangeName::from),
            arguments: Arc::new(arguments),
            ..ExchangeSettings::new(kind)
        }
    }
}

prop_compose! {
    fn queue_settings()(
        (durable, auto_delete) in any::<(bool, bool)>(),
        arguments in arguments(),
    ) -> QueueSettings {
        QueueSettings { durable, auto_delete, arguments, ..QueueSettings::default() }
    }
}

/// Which names are bound: indexes into what there is, a key and arguments.
type Wiring = Vec<(usize, usize, bool, String, Arc<FieldTable>)>;

fn topology_of(
    vhosts: Vec<String>,
    exchanges: Vec<(usize, String, ExchangeSettings)>,
    queues: Vec<(usize, String, QueueSettings)>,
    wiring: Wiring,
) -> Topology {
    let mut topology = Topology::default();
    for vhost in vhosts.into_iter().map(VhostName::from) {
        if !topology.vhosts.contains(&vhost) {
            topology.vhosts.push(vhost);
        }
    }
    let vhost = |index: usize| topology.vhosts[index % topology.vhosts.len()].clone();
    let mut this = topology.clone();
    for (index, name, settings) in exchanges {
        let (vhost, name) = (vhost(index), ExchangeName::from(name));
        if this.exchange(&vhost, &name).is_none() {
            this.exchanges.push(somewhere(ExchangeDefinition {
                vhost,
                name,
                settings,
            }));
        }
    }
    for (index, name, settings) in queues {
        let (vhost, name) = (vhost(index), QueueName::from(name));
        if this.queue(&vhost, &name).is_none() {
            this.queues.push(somewhere(QueueDefinition {
                vhost,
                name,
                settings,
            }));
        }
    }
    for (source, destination, to_queue, key, arguments) in wiring {
        let Some(source) = pick(&this.exchanges, source) else {
            continue;
        };
        let vhost = source.vhost.clone();
        let queues: Vec<_> = this
            .queues
            .iter()
            .filter(|queue| queue.value.vhost == vhost)
            .cloned()
            .collect();
        let exchanges: Vec<_> = this
            .exchanges
            .iter()
            .filter(|exchange| exchange.value.vhost == vhost)
            .cloned()
            .collect();
        let destination = match pick(&queues, destination).filter(|_| to_queue) {
            Some(queue) => Destination::Queue(queue.name.clone()),
            None => match pick(&exchanges, destination) {
                Some(exchange) => Destination::Exchange(exchange.name.clone()),
                None => continue,
            },
        };
        let binding = BindingDefinition {
            vhost,
            binding: Binding {
                source: source.name.clone(),
                destination,
                routing_key: SmolStr::from(key),
                arguments,
            },
        };
        if this
            .bindings
            .iter()
            .all(|other| other.value.identity() != binding.identity())
        {
            this.bindings.push(somewhere(binding));
        }
    }
    this
}

fn pick<T>(all: &[Located<T>], index: usize) -> Option<&T> {
    all.get(index.checked_rem(all.len())?).map(|one| &one.value)
}

fn somewhere<T>(value: T) -> Located<T> {
    let position = crate::config::Position { line: 1, column: 1 };
    Located { value, position }
}

prop_compose! {
    pub(super) fn topologies()(
        vhosts in prop::collection::vec(name(), 0..3),
        exchanges in prop::collection::vec((any::<usize>(), name(), exchange_settings()), 0..5),
        queues in prop::collection::vec((any::<usize>(), name(), queue_settings()), 0..5),
        wiring in prop::collection::vec(
            (any::<usize>(), any::<usize>(), any::<bool>(), "[^\\r\\n]{0,12}", arguments()),
            0..8,
        ),
    ) -> Topology {
        topology_of(vhosts, exchanges, queues, wiring)
    }
}

/// A topology as a file has it.
fn to_toml(topology: &Topology) -> String {
    let mut text = String::new();
    for vhost in topology.vhosts.iter().skip(1) {
        let _ = writeln!(text, "[[vhost]]\nname = {}", quoted(vhost.as_str()));
    }
    for Located {
        value: exchange, ..
    } in &topology.exchanges
    {
        let ExchangeSettings {
            kind,
            durable,
            auto_delete,
            internal,
            arguments,
            ..
        } = &exchange.settings;
        let _ = writeln!(
            text,
            "[[exchange]]\nvhost = {}\nname = {}\ntype = \"{kind}\"\ndurable = {durable}\n\
             auto_delete = {auto_delete}\ninternal = {internal}\narguments = {}",
            quoted(exchange.vhost.as_str()),
            quoted(exchange.name.as_str()),
            table(arguments),
        );
    }
    for Located { value: queue, .. } in &topology.queues {
        let QueueSettings {
            durable,
            auto_delete,
            arguments,
            ..
        } = &queue.settings;
        let _ = writeln!(
            text,
            "[[queue]]\nvhost = {}\nname = {}\ndurable = {durable}\nauto_delete = {auto_delete}\n\
             arguments = {}",
            quoted(queue.vhost.as_str()),
            quoted(queue.name.as_str()),
            table(arguments),
        );
    }
    for Located { value: binding, .. } in &topology.bindings {
        let (key, name) = match &binding.binding.destination {
            Destination::Queue(name) => ("to_queue", name.as_str()),
            Destination::Exchange(name) => ("to_exchange", name.as_str()),
        };
        let _ = writeln!(
            text,
            "[[binding]]\nvhost = {}\nfrom = {}\n{key} = {}\nkey = {}\narguments = {}",
            quoted(binding.vhost.as_str()),
            quoted(binding.binding.source.as_str()),
            quoted(name),
            quoted(&binding.binding.routing_key),
            table(&binding.binding.arguments),
        );
    }
    text
}

fn table(fields: &FieldTable) -> String {
    let entries: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{} = {}", quoted(name), toml_value(value)))
        .collect();
    format!("{{ {} }}", entries.join(", "))
}

fn toml_value(value: &FieldValue) -> String {
    match value {
        FieldValue::Bool(flag) => flag.to_string(),
        FieldValue::I32(number) => number.to_string(),
        FieldValue::I64(number) => number.to_string(),
        FieldValue::F64(number) => format!("{number:?}"),
        FieldValue::LongStr(octets) => {
            quoted(std::str::from_utf8(octets).expect("generated as text"))
        }
        FieldValue::Array(values) => {
            let values: Vec<String> = values.iter().map(toml_value).collect();
            format!("[{}]", values.join(", "))
        }
        FieldValue::Table(fields) => table(fields),
        other => panic!("{other:?} is not generated"),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read(expected in topologies()) {
        let text = to_toml(&expected);
        let file = BrokerFile::parse("generated.toml", &text);
        let file = file.map_err(|errors| TestCaseError::fail(format!("{errors}\n{text}")))?;
        prop_assert_eq!(file.topology, expected, "{}", text);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,200}") {
        let _ = BrokerFile::parse("noise.toml", &text);
    }

    #[test]
    fn the_steps_lead_from_one_to_the_other(old in topologies(), new in topologies()) {
        let Ok(changes) = diff(&old, &new) else {
            return Ok(());
        };
        let mut reached = old.clone();
        for change in &changes {
            match change.clone() {
                Change::AddVhost(vhost) => reached.vhosts.push(vhost),
                Change::AddExchange(exchange) => {
                    prop_assert!(reached.vhosts.contains(&exchange.vhost));
                    reached.exchanges.push(somewhere(exchange));
                }
                Change::AddQueue(queue) => {
                    prop_assert!(reached.vhosts.contains(&queue.vhost));
                    reached.queues.push(somewhere(queue));
                }
                Change::AddBinding(binding) => reached.bindings.push(somewhere(binding)),
                Change::RemoveBinding(gone) => {
                    reached.bindings.retain(|binding| binding.value.identity() != gone.identity());
                }
                Change::KeepVhost(_) | Change::KeepExchange(..) | Change::KeepQueue(..) => {}
            }
        }
        let identities = |topology: &Topology| {
            let bindings = topology.bindings.iter().map(|binding| binding.value.identity());
            bindings.collect::<std::collections::BTreeSet<_>>()
        };
        prop_assert_eq!(identities(&reached), identities(&new));
        let exchange = |wanted: &Located<ExchangeDefinition>| {
            let there = reached.exchange(&wanted.value.vhost, &wanted.value.name);
            there.is_some_and(|there| wanted.value.redeclares(there).is_ok())
        };
        prop_assert!(new.exchanges.iter().all(exchange));
        let queue = |wanted: &Located<QueueDefinition>| {
            let there = reached.queue(&wanted.value.vhost, &wanted.value.name);
            there.is_some_and(|there| wanted.value.redeclares(there).is_ok())
        };
        prop_assert!(new.queues.iter().all(queue));
        prop_assert!(old.queues.iter().all(|queue| reached.queues.contains(queue)));
        prop_assert_eq!(diff(&new, &new), Ok(vec![]));
    }
}
