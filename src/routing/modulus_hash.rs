//! Modulus hash (RabbitMQ's `x-modulus-hash`): one binding takes the message,
//! the one whose number is the hash of the routing keys modulo how many there
//! are. They are numbered in the order in which they were made, which a restart
//! keeps. A destination that is bound twice takes twice as many keys.

use std::sync::Arc;

use super::binding::Bound;
use super::exchange_type::{ExchangeType, Matcher};
use super::fixed_hash::hash_parts;
use super::persistent::List;
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::ModulusHash,
    doc: "Gives each message to one binding, by a hash of the routing key modulo their number.",
    picks_one: true,
    needs: |_| Needs::NOTHING,
    matcher: |_, _| Box::new(ModulusHash),
};

#[derive(Clone, Debug)]
struct ModulusHash;

impl Matcher for ModulusHash {
    fn matches(
        &self,
        bindings: &List<Arc<Bound>>,
        publish: &Publish<'_>,
        _scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    ) {
        let keys: Vec<&[u8]> = publish.keys.iter().map(|key| key.as_bytes()).collect();
        let number = hash_parts(&keys).checked_rem(bindings.len() as u64);
        if let Some(bound) = number.and_then(|number| bindings.get(number as usize)) {
            found(bound);
        }
    }

    fn reason(&self, _bound: &Bound, publish: &Publish<'_>) -> String {
        format!("the hash of `{}` falls to it", publish.keys.join("`, `"))
    }
}
