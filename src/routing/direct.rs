//! Direct: the binding key equals the routing key (AMQP 0-9-1 §3.1.3.1).

use std::sync::Arc;

use leveret_protocol::SmolStr;

use super::binding::Bound;
use super::exchange_type::{ExchangeType, Matcher};
use super::persistent::{HashTrie, List, hash_of};
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::Direct,
    doc: "Takes messages whose routing key equals the binding key.",
    picks_one: false,
    needs: |_| Needs::NOTHING,
    matcher: |_, _| Box::new(Direct::default()),
};

#[derive(Clone, Debug, Default)]
struct Direct {
    keys: HashTrie<Key>,
}

/// The bindings of one binding key.
#[derive(Clone, Debug)]
struct Key {
    key: SmolStr,
    bindings: List<Arc<Bound>>,
}

impl Matcher for Direct {
    fn insert(&mut self, bound: &Arc<Bound>) {
        let key = &bound.binding.routing_key;
        let hash = hash_of(key.as_str());
        if let Some(found) = self.keys.find_mut(hash, |other| other.key == *key) {
            found.bindings.push(Arc::clone(bound));
        } else {
            let (key, bindings) = (key.clone(), List::One(Arc::clone(bound)));
            self.keys.insert(hash, Key { key, bindings });
        }
    }

    fn remove(&mut self, bound: &Bound) {
        let key = &bound.binding.routing_key;
        let hash = hash_of(key.as_str());
        let is_key = |other: &Key| other.key == *key;
        if let Some(found) = self.keys.find_mut(hash, is_key) {
            found.bindings.remove(bound.sequence);
            if found.bindings.is_empty() {
                self.keys.remove(hash, is_key);
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
        for key in publish.keys {
            if let Some(key) = self.keys.find(hash_of(*key), |other| other.key == *key) {
                key.bindings.iter().for_each(&mut *found);
            }
        }
    }

    fn reason(&self, bound: &Bound, _publish: &Publish<'_>) -> String {
        format!(
            "binding key `{}` equals the routing key",
            bound.binding.routing_key
        )
    }
}
