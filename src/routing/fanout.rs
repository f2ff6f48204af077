//! Fanout: every binding takes every message (AMQP 0-9-1 §3.1.3.2).

use std::sync::Arc;

use super::binding::Bound;
use super::exchange_type::{ExchangeType, Matcher};
use super::persistent::List;
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::Fanout,
    doc: "Takes every message, whatever its routing key.",
    picks_one: false,
    needs: |_| Needs::NOTHING,
    matcher: |_, _| Box::new(Everything("fanout")),
};

/// What is left of a message's way once it is known to be no copy, as the
/// plugin for RabbitMQ has it.
pub(super) const DEDUPLICATING: ExchangeType = ExchangeType {
    kind: ExchangeKind::Deduplicating,
    doc: "Takes every message that it has not had before, whatever its routing key.",
    ..TYPE
};

/// Takes every message; the name is that of the exchange type.
#[derive(Clone, Debug)]
pub(super) struct Everything(pub(super) &'static str);

impl Matcher for Everything {
    fn matches(
        &self,
        bindings: &List<Arc<Bound>>,
        _publish: &Publish<'_>,
        _scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    ) {
        bindings.iter().for_each(found);
    }

    fn reason(&self, _bound: &Bound, _publish: &Publish<'_>) -> String {
        format!("a {} exchange takes every message", self.0)
    }
}
