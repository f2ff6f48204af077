//! Routing as one would write it who has all the time in the world: lists that
//! are looked through, and the rules word by word.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::routing::BindRefused;

/// Exchanges by name, and the bindings in the order in which they came.
#[derive(Debug, Default)]
pub struct Model {
    pub exchanges: BTreeMap<String, ExchangeSettings>,
    pub bindings: Vec<Binding>,
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

    pub fn route(&self, from: &str, keys: &[&str], headers: &FieldTable) -> BTreeSet<String> {
        let mut queues = BTreeSet::new();
        let mut reached = vec![from];
        let mut visited = 0;
        while let Some(name) = reached.get(visited).copied() {
            visited += 1;
            let Some(settings) = self.exchanges.get(name) else {
                continue;
            };
            let bindings = self.bindings.iter().filter(|it| it.source.as_str() == name);
            let matched = bindings.filter(|it| matches(settings.kind, it, keys, headers));
            let mut next: Vec<&str> = Vec::new();
            let mut unmatched = true;
            for binding in matched {
                unmatched = false;
                match &binding.destination {
                    Destination::Queue(name) => drop(queues.insert(name.to_string())),
                    Destination::Exchange(name) => next.push(name.as_str()),
                }
            }
            if unmatched {
                next.extend(settings.alternate.as_ref().map(|name| name.as_str()));
            }
            for name in next {
                if !reached.contains(&name) {
                    reached.push(name);
                }
            }
        }
        queues
    }
}

fn matches(kind: ExchangeKind, binding: &Binding, keys: &[&str], headers: &FieldTable) -> bool {
    let binding_key = binding.routing_key.as_str();
    match kind {
        ExchangeKind::Direct => keys.contains(&binding_key),
        ExchangeKind::Fanout => true,
        ExchangeKind::Topic => keys
            .iter()
            .any(|key| topic_matches(&words(binding_key), &words(key))),
        ExchangeKind::Headers => headers_match(&binding.arguments, headers),
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
