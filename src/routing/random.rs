//! Random (RabbitMQ's `x-random`): one binding takes the message, whichever its
//! number falls to. A destination that is bound twice has two chances.

use std::sync::Arc;

use super::binding::Bound;
use super::exchange_type::{ExchangeType, Matcher};
use super::fixed_hash::{hash_octets, mix, place};
use super::persistent::List;
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::Random,
    doc: "Gives each message to one binding, at random.",
    picks_one: true,
    needs: |_| Needs::RANDOM,
    matcher: |name, _| {
        Box::new(Random {
            exchange: hash_octets(name.as_str().as_bytes()),
        })
    },
};

#[derive(Clone, Debug)]
struct Random {
    /// Makes exchanges draw differently where a message visits several.
    exchange: u64,
}

impl Matcher for Random {
    fn matches(
        &self,
        bindings: &List<Arc<Bound>>,
        publish: &Publish<'_>,
        _scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    ) {
        let drawn = mix(publish.random ^ self.exchange);
        if let Some(bound) = bindings.get(place(drawn, bindings.len())) {
            found(bound);
        }
    }

    fn reason(&self, _bound: &Bound, _publish: &Publish<'_>) -> String {
        "drawn at random, the next message may go elsewhere".to_owned()
    }
}
