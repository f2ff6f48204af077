//! The tables `[[policy]]` and `[[operator_policy]]`.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{
    Document, Integer, Kind, Located, Name, OneOf, TableReader, did_you_mean, parse_duration,
    parse_size, shown,
};
use crate::model::{FieldTable, FieldValue, VhostName};
use crate::policy::{ApplyTo, POLICY_KEYS, Pattern, Policies, Policy, PolicyKey, Unit};

use super::Topology;
use super::arguments::field_value;
use super::read::vhost;

/// The policies of a file, each with its place.
#[derive(Debug)]
pub(super) struct Written {
    user: Vec<Located<Policy>>,
    operator: Vec<Located<Policy>>,
}

impl Written {
    /// Reads them; what is wrong is noted.
    pub(super) fn read(root: &mut TableReader<'_>, vhosts: &[VhostName]) -> Self {
        Self {
            user: policies(root, "policy", vhosts),
            operator: policies(root, "operator_policy", vhosts),
        }
    }

    /// Without their places.
    pub(super) fn policies(&self) -> Policies {
        let of = |policies: &[Located<Policy>]| {
            let policies = policies.iter().map(|policy| policy.value.clone());
            policies.collect()
        };
        Policies {
            user: of(&self.user),
            operator: of(&self.operator),
        }
    }

    /// Warns of policies of which it is only their order in the file that says
    /// which applies. What they match is told by the queues of the file, as
    /// nobody knows those of the clients.
    pub(super) fn check(&self, topology: &Topology, document: &Document<'_>) {
        for policies in [&self.user, &self.operator] {
            for (index, second) in policies.iter().enumerate() {
                let firsts = policies.iter().take(index);
                let rivals = firsts.filter(|first| first.value.priority == second.value.priority);
                for first in rivals {
                    let matches = |policy: &Policy, queue: &super::QueueDefinition| {
                        policy.matches_queue(&queue.vhost, &queue.name, &queue.settings)
                    };
                    let mut queues = topology.queues.iter().map(|queue| &queue.value);
                    let both = queues.find(|queue| {
                        matches(&first.value, queue) && matches(&second.value, queue)
                    });
                    let Some(queue) = both else { continue };
                    document.warn(
                        second.position,
                        format!(
                            "policies '{}' and '{}' both match queue '{}' and have the same \
                             priority, so the first one applies",
                            first.value.name, second.value.name, queue.name
                        ),
                    );
                }
            }
        }
    }
}

fn policies(
    root: &mut TableReader<'_>,
    key: &'static str,
    vhosts: &[VhostName],
) -> Vec<Located<Policy>> {
    let mut found: Vec<Located<Policy>> = Vec::new();
    let mut lines = BTreeMap::new();
    for mut table in root.sections(key) {
        let position = table.position();
        if let Some(value) = policy(&mut table, key, vhosts) {
            let identity = (value.vhost.clone(), value.name.clone());
            if let Some(line) = lines.insert(identity, position.line) {
                let text = format!("policy '{}' is already defined in line {line}", value.name);
                table.error(text);
            }
            found.push(Located { value, position });
        }
        table.finish();
    }
    found
}

fn policy(table: &mut TableReader<'_>, key: &str, vhosts: &[VhostName]) -> Option<Policy> {
    let vhost = vhost(table, vhosts);
    let name = table.required("name", Name);
    let pattern = table.required("pattern", Regular);
    let apply_to = table.read("apply_to", OneOf(APPLY_TO), ApplyTo::default());
    let priority = table.read("priority", Integer(i32::MIN..=i32::MAX), 0);
    let definition = definition(table, key);
    let pattern = pattern?;
    let regex = Pattern::new(&pattern.value)
        .map_err(|why| {
            let text = format!("{}: {why}", table.key_in_table("pattern"));
            table.document().error(pattern.position, text);
        })
        .ok();
    Some(Policy {
        vhost: vhost?,
        name: name?.value,
        pattern: regex?,
        apply_to,
        priority,
        definition: definition?,
    })
}

fn definition(table: &mut TableReader<'_>, header: &str) -> Option<FieldTable> {
    let Some(value) = table.raw("definition") else {
        table.error(format!("[[{header}]] needs a key 'definition'"));
        return None;
    };
    let entries = value.get_ref().as_table();
    let Some(entries) = entries.filter(|entries| !entries.is_empty()) else {
        let text = format!(
            "{}: expected a table with something in it, such as {{ max-length = 1000 }}",
            table.key_in_table("definition")
        );
        let position = table.position_of(value.span());
        table.document().error(position, text);
        return None;
    };
    Some(settings(table, entries, header))
}

fn settings<'d>(table: &TableReader<'d>, entries: &'d DeTable<'d>, header: &str) -> FieldTable {
    let mut settings = FieldTable::new();
    for (name, value) in TableReader::in_file_order(entries) {
        let name_text = name.get_ref().as_ref();
        let Some(key) = PolicyKey::named(name_text) else {
            let known = || POLICY_KEYS.iter().map(|key| key.name);
            let hint = match did_you_mean(name_text, known()) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("known here are {}", known().collect::<Vec<_>>().join(", ")),
            };
            let text =
                format!("unknown key '{name_text}' in the definition of [[{header}]], {hint}");
            let position = table.position_of(name.span());
            table.document().error(position, text);
            continue;
        };
        match setting(key, value) {
            Ok(setting) => settings.insert(key.argument, setting),
            Err(why) => {
                let text = format!("'{name_text}' in the definition of [[{header}]]: {why}");
                let position = table.position_of(value.span());
                table.document().error(position, text);
            }
        }
    }
    settings
}

fn setting(key: &PolicyKey, value: &Spanned<DeValue<'_>>) -> Result<FieldValue, String> {
    let value = value.get_ref();
    let (counted, expected) = match key.unit {
        Unit::Time => (
            value.as_str().map(milliseconds),
            "milliseconds, or a duration such as \"10s\"",
        ),
        Unit::Size => (
            value.as_str().map(parse_size),
            "octets, or a size such as \"16MiB\"",
        ),
        Unit::None => (None, ""),
    };
    let field = match counted {
        Some(count) => {
            let count = count.and_then(|count| i64::try_from(count).ok());
            let wrong = || format!("expected {expected}, found {}", shown(value));
            FieldValue::I64(count.ok_or_else(wrong)?)
        }
        None => field_value(value).ok_or_else(|| format!("{} is not allowed", shown(value)))?,
    };
    key.check(&field)
        .map_err(|why| format!("{} is not allowed: {why}", shown(value)))?;
    Ok(field)
}

fn milliseconds(text: &str) -> Option<u64> {
    parse_duration(text).and_then(|time| u64::try_from(time.as_millis()).ok())
}

/// A regular expression; whether it is one is told in its own words.
struct Regular;

impl Kind for Regular {
    type Value = String;

    fn expected(&self) -> String {
        "a regular expression in quotes, such as \"^orders\\\\.\"".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

const APPLY_TO: &[(&str, ApplyTo)] = &[
    ("all", ApplyTo::All),
    ("queues", ApplyTo::Queues),
    ("classic_queues", ApplyTo::ClassicQueues),
    ("quorum_queues", ApplyTo::QuorumQueues),
    ("exchanges", ApplyTo::Exchanges),
];
