//! Consistent hash (RabbitMQ's `x-consistent-hash`): one binding takes the
//! message, chosen by a hash of its routing key, a header or a property, and
//! the more often the higher the binding's weight, which is its key.
//!
//! Each message is a lottery among the destinations (weighted rendezvous
//! hashing): from the hash of the message and that of its name each draws a
//! number, weighs it, and the best one wins. So a new destination takes keys
//! only for itself, and the keys of one that goes are spread over the others,
//! while all other keys stay where they are. Nothing but names and weights
//! counts: neither the order of the bindings nor a restart moves a key.
//!
//! A destination that is bound several times counts once, with its highest
//! weight. Destinations of one weight are compared without weighing, so what
//! they cost is a multiplication or two each.

mod weight;

use std::sync::Arc;

use leveret_protocol::table;

use self::weight::Weight;
use super::binding::{Binding, Bound};
use super::exchange_type::{ExchangeType, Matcher};
use super::fixed_hash::{hash_octets, hash_parts, mix};
use super::persistent::{HashTrie, List, Sequenced, hash_of};
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::{Destination, ExchangeKind, FieldTable, FieldValue, HashOn};

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::ConsistentHash,
    doc: "Gives each message to one binding, by a hash and the bindings' weights.",
    picks_one: true,
    needs: |settings| match settings.hash_on {
        HashOn::RoutingKey => Needs::NOTHING,
        HashOn::Header(_) => Needs::HEADERS,
        HashOn::MessageId | HashOn::CorrelationId | HashOn::Timestamp => Needs::IDENTIFIERS,
    },
    matcher: |_, settings| {
        Box::new(ConsistentHash {
            hash_on: settings.hash_on.clone(),
            classes: HashTrie::default(),
        })
    },
};

#[derive(Clone, Debug)]
struct ConsistentHash {
    hash_on: HashOn,
    classes: HashTrie<Class>,
}

/// The bindings of one weight.
#[derive(Clone, Debug)]
struct Class {
    weight: Weight,
    entrants: List<Entrant>,
}

#[derive(Clone, Debug)]
struct Entrant {
    /// The hash of the destination.
    destination: u64,
    bound: Arc<Bound>,
}

impl Matcher for ConsistentHash {
    fn check(&self, binding: &Binding) -> Result<(), String> {
        Weight::of(&binding.routing_key).map(|_| ())
    }

    fn insert(&mut self, bound: &Arc<Bound>) {
        // One that was made while the exchange had another type may have no weight.
        let Ok(weight) = Weight::of(&bound.binding.routing_key) else {
            return;
        };
        let entrant = Entrant {
            destination: hash_of_destination(&bound.binding.destination),
            bound: Arc::clone(bound),
        };
        let hash = hash_of(&weight);
        if let Some(class) = self.classes.find_mut(hash, |class| class.weight == weight) {
            class.entrants.push(entrant);
        } else {
            let entrants = List::One(entrant);
            self.classes.insert(hash, Class { weight, entrants });
        }
    }

    fn remove(&mut self, bound: &Bound) {
        let Ok(weight) = Weight::of(&bound.binding.routing_key) else {
            return;
        };
        let hash = hash_of(&weight);
        let is_it = |class: &Class| class.weight == weight;
        if let Some(class) = self.classes.find_mut(hash, is_it) {
            class.entrants.remove(bound.sequence);
            if class.entrants.is_empty() {
                self.classes.remove(hash, is_it);
            }
        }
    }

    fn matches(
        &self,
        _bindings: &List<Arc<Bound>>,
        publish: &Publish<'_>,
        _scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    ) {
        let message = self.hash(publish);
        let winners = self.classes.iter().filter_map(|class| {
            let (draw, entrant) = class.best(message)?;
            Some((class.weight.score(draw), class.weight, entrant))
        });
        // Equal scores fall to the higher weight, so that the order in which the
        // classes come says nothing.
        let best = winners.min_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
        if let Some((_, _, entrant)) = best {
            found(&entrant.bound);
        }
    }

    fn reason(&self, bound: &Bound, publish: &Publish<'_>) -> String {
        let what = match &self.hash_on {
            HashOn::RoutingKey => format!("`{}`", first_key(publish)),
            HashOn::Header(name) => format!("header `{name}`"),
            HashOn::MessageId => "the message id".to_owned(),
            HashOn::CorrelationId => "the correlation id".to_owned(),
            HashOn::Timestamp => "the timestamp".to_owned(),
        };
        let weight = &bound.binding.routing_key;
        format!("the hash of {what} falls to it, its weight is {weight}")
    }
}

impl ConsistentHash {
    /// The hash of what counts; all messages that do not have it are alike.
    fn hash(&self, publish: &Publish<'_>) -> u64 {
        let text = |text: Option<&str>| text.map(|text| hash_octets(text.as_bytes()));
        let hash = match &self.hash_on {
            // CC and BCC do not count, as in RabbitMQ.
            HashOn::RoutingKey => text(Some(first_key(publish))),
            HashOn::Header(name) => publish.headers.get(name).map(hash_of_value),
            HashOn::MessageId => text(publish.identifiers.message_id),
            HashOn::CorrelationId => text(publish.identifiers.correlation_id),
            HashOn::Timestamp => {
                let timestamp = publish.identifiers.timestamp;
                timestamp.map(|seconds| hash_octets(&seconds.to_be_bytes()))
            }
        };
        hash.unwrap_or(MISSING)
    }
}

impl Class {
    /// The best draw and whose it is; the oldest binding's of a destination.
    fn best(&self, message: u64) -> Option<(u64, &Entrant)> {
        let draws = self
            .entrants
            .iter()
            .map(|entrant| (mix(message ^ entrant.destination), entrant));
        draws.reduce(|best, next| if next.0 > best.0 { next } else { best })
    }
}

impl Sequenced for Entrant {
    fn sequence(&self) -> u64 {
        self.bound.sequence
    }
}

fn first_key<'a>(publish: &Publish<'a>) -> &'a str {
    publish.keys.first().copied().unwrap_or_default()
}

fn hash_of_destination(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(name) => hash_parts(&[b"queue", name.as_str().as_bytes()]),
        Destination::Exchange(name) => hash_parts(&[b"exchange", name.as_str().as_bytes()]),
    }
}

/// Integers are alike whatever their width.
fn hash_of_value(value: &FieldValue) -> u64 {
    match (value, value.as_integer()) {
        (FieldValue::LongStr(octets), _) => hash_octets(octets),
        (_, Some(integer)) => hash_parts(&[b"integer", &integer.to_be_bytes()]),
        _ => {
            let mut octets = Vec::new();
            table::encode(&mut octets, &FieldTable::from_iter([("", value.clone())]));
            hash_parts(&[b"value", &octets])
        }
    }
}

/// The hash of what is not there.
const MISSING: u64 = 0;
