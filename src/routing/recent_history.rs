//! Recent history (RabbitMQ's `x-recent-history`): every binding takes every
//! message. That the last ones are kept for later bindings is for the broker,
//! which hears of it by [`Needs::HISTORY`] and `Routed::histories`.

use std::sync::Arc;

use super::binding::Bound;
use super::exchange_type::{ExchangeType, Matcher};
use super::persistent::List;
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::RecentHistory,
    doc: "Takes every message, and gives the last ones to queues that are bound later.",
    picks_one: false,
    needs: |_| Needs::HISTORY,
    matcher: |_, _| Box::new(RecentHistory),
};

#[derive(Clone, Debug)]
struct RecentHistory;

impl Matcher for RecentHistory {
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
        "a recent-history exchange takes every message".to_owned()
    }
}
