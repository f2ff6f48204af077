//! Routing as one would write it who has all the time in the world: lists that
//! are looked through, and the rules word by word.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::HashOn;
use crate::routing::BindRefused;
use crate::routing::fixed_hash::{hash_octets, hash_parts, mix};

/// Exchanges by name, and the bindings in the order in which they came.
#[derive(Debug, Default)]
pub struct Model {
    pub exchanges: BTreeMap<String, ExchangeSettings>,
    pub bindings: Vec<Binding>,
}

/// Where a message goes.
#[derive(Debug, Default)]
pub struct Reached {
    pub queues: BTreeSet<String>,
    /// The exchanges on its way that keep it.
    pub histories: BTreeSet<String>,
}

impl Model {
    pub fn delete_exchange(&mut self, name: &str) -> BTreeSet<String> {
        self.exchanges.remove(name);
        self.bindings.retain(|it| it.source.as_str() != name);
        self.remove_bindings(|it| it.destination == exchange(name))
    }

    pub fn bind(&mut self, binding: Binding) -> Result<bool, BindRefused> {
        let missing = |name: &str| !self.exchanges.contains_key(name);
        if missing(binding.source.as_str()) {
            return Err(BindRefused::SourceMissing);
        }
        if matches!(&binding.destination, Destination::Exchange(name) if missing(name.as_str())) {
            return Err(BindRefused::DestinationMissing);
        }
        let source = &self.exchanges[binding.source.as_str()];
        if source.routes_as() == ExchangeKind::ConsistentHash {
            let key = binding.routing_key.as_str();
            let text = match key.parse::<i64>() {
                Ok(1..) => None,
                Ok(_) => Some("The binding key must be greater than 0".to_owned()),
                Err(_) if key.is_empty() => {
                    Some("The binding key must be an integer: <<>>".to_owned())
                }
                Err(_) => Some(format!("The binding key must be an integer: <<\"{key}\">>")),
            };
            if let Some(text) = text {
                return Err(BindRefused::Arguments(text));
            }
        }
        let new = !self.bindings.contains(&binding);
        if new {
            self.bindings.push(binding);
        }
        Ok(new)
    }

    /// Removes bindings and returns the auto-delete exchanges that go with them.
    pub fn remove_bindings(&mut self, doomed: impl Fn(&Binding) -> bool) -> BTreeSet<String> {
        let mut sources: Vec<_> = self
            .bindings
            .iter()
            .filter(|it| doomed(it))
            .cloned()
            .collect();
        self.bindings.retain(|it| !doomed(it));
        let mut gone = BTreeSet::new();
        while let Some(binding) = sources.pop() {
            let source = binding.source.as_str();
            let unused = self.bindings.iter().all(|it| it.source.as_str() != source);
            if unused && self.exchanges.get(source).is_some_and(|it| it.auto_delete) {
                gone.insert(source.to_owned());
                gone.extend(self.delete_exchange(source));
            }
        }
        gone
    }

    pub fn route(&self, from: &str, publish: &Publish<'_>) -> Reached {
        let mut out = Reached::default();
        let mut reached = vec![from];
        let mut visited = 0;
        while let Some(name) = reached.get(visited).copied() {
            visited += 1;
            let Some(settings) = self.exchanges.get(name) else {
                continue;
            };
            if settings.routes_as() == ExchangeKind::RecentHistory {
                out.histories.insert(name.to_owned());
            }
            let bindings = self.bindings.iter().filter(|it| it.source.as_str() == name);
            let matched = matching(name, settings, bindings.collect(), publish);
            let mut next: Vec<&str> = Vec::new();
            for binding in &matched {
                match &binding.destination {
                    Destination::Queue(name) => drop(out.queues.insert(name.to_string())),
                    Destination::Exchange(name) => next.push(name.as_str()),
                }
            }
            if matched.is_empty() {
                next.extend(settings.alternate.as_ref().map(|name| name.as_str()));
            }
            for name in next {
                if !reached.contains(&name) {
                    reached.push(name);
                }
            }
        }
        out
    }
}

/// The bindings of one exchange that take the message.
fn matching<'b>(
    exchange: &str,
    settings: &ExchangeSettings,
    bindings: Vec<&'b Binding>,
    publish: &Publish<'_>,
) -> Vec<&'b Binding> {
    let Publish { keys, headers, .. } = publish;
    let key = |it: &&Binding| it.routing_key.to_string();
    match settings.routes_as() {
        ExchangeKind::Direct => {
            let equal = |it: &&Binding| keys.contains(&key(it).as_str());
            bindings.into_iter().filter(equal).collect()
        }
        ExchangeKind::Fanout | ExchangeKind::RecentHistory | ExchangeKind::Deduplicating => {
            bindings
        }
        ExchangeKind::Topic => {
            let fits = |it: &&Binding, to: &&str| topic_matches(&words(&key(it)), &words(to));
            let matches = |it: &&Binding| keys.iter().any(|to| fits(it, to));
            bindings.into_iter().filter(matches).collect()
        }
        ExchangeKind::Headers => {
            let matches = |it: &&Binding| headers_match(&it.arguments, headers);
            bindings.into_iter().filter(matches).collect()
        }
        ExchangeKind::Random => {
            let drawn = mix(publish.random ^ hash_octets(exchange.as_bytes()));
            let place = u128::from(drawn) * bindings.len() as u128 / (1 << 64);
            bindings.get(place as usize).copied().into_iter().collect()
        }
        ExchangeKind::ModulusHash => {
            let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
            let place = hash_parts(&keys).checked_rem(bindings.len() as u64);
            let bound = place.and_then(|place| bindings.get(place as usize));
            bound.copied().into_iter().collect()
        }
        ExchangeKind::ConsistentHash => {
            let message = consistent_hash(settings, publish);
            let weighed = bindings.into_iter().filter_map(|it| {
                let weight = it.routing_key.parse::<u32>().ok().filter(|it| *it > 0)?;
                let destination = match &it.destination {
                    Destination::Queue(name) => hash_parts(&[b"queue", name.as_str().as_bytes()]),
                    Destination::Exchange(name) => {
                        hash_parts(&[b"exchange", name.as_str().as_bytes()])
                    }
                };
                let drawn = (mix(message ^ destination) >> 11) as f64 + 0.5;
                Some((-(drawn / (1u64 << 53) as f64).ln() / f64::from(weight), it))
            });
            let best = weighed.min_by(|one, other| one.0.total_cmp(&other.0));
            best.map(|(_, it)| it).into_iter().collect()
        }
        ExchangeKind::Delayed => unreachable!("it routes as another"),
    }
}

/// What a consistent-hash exchange makes of a message.
fn consistent_hash(settings: &ExchangeSettings, publish: &Publish<'_>) -> u64 {
    match &settings.hash_on {
        HashOn::RoutingKey => hash_octets(publish.keys[0].as_bytes()),
        HashOn::MessageId => match publish.identifiers.message_id {
            Some(id) => hash_octets(id.as_bytes()),
            None => 0,
        },
        HashOn::Header(name) => match publish.headers.get(name) {
            None => 0,
            Some(FieldValue::LongStr(text)) => hash_octets(text),
            Some(value) => match value.as_integer() {
                Some(integer) => hash_parts(&[b"integer", &integer.to_be_bytes()]),
                None => {
                    let mut wire = Vec::new();
                    let table = FieldTable::from_iter([("", value.clone())]);
                    leveret_protocol::table::encode(&mut wire, &table);
                    hash_parts(&[b"value", &wire])
                }
            },
        },
        other => unreachable!("{other:?} is not among those that are generated"),
    }
}

pub fn words(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

/// The rule, word by word; exponential in the number of `#`.
pub fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match pattern {
        [] => key.is_empty(),
        ["#", rest @ ..] => (0..=key.len()).any(|taken| topic_matches(rest, &key[taken..])),
        [word, rest @ ..] => key.split_first().is_some_and(|(first, key)| {
            (*word == "*" || word == first) && topic_matches(rest, key)
        }),
    }
}

fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = arguments
        .get("x-match")
        .and_then(FieldValue::as_str)
        .unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let considered = |name: &str| {
        if with_x {
            name != "x-match"
        } else {
            !name.starts_with("x-")
        }
    };
    let mut met = arguments
        .iter()
        .filter(|(name, _)| considered(name))
        .map(|(name, wanted)| {
            headers
                .get(name)
                .is_some_and(|value| match (wanted, value) {
                    (FieldValue::Void, _) => true,
                    (wanted, value) => match (wanted.as_integer(), value.as_integer()) {
                        (Some(wanted), Some(value)) => wanted == value,
                        _ => wanted == value,
                    },
                })
        });
    if mode.starts_with("any") {
        met.any(|met| met)
    } else {
        met.all(|met| met)
    }
}
