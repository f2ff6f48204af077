//! Recent history (RabbitMQ's `x-recent-history`): every binding takes every
//! message. That the last ones are kept for later bindings is for the broker,
//! which hears of it by [`Needs::HISTORY`] and `Routed::histories`.

use super::Needs;
use super::exchange_type::ExchangeType;
use super::fanout::Everything;
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::RecentHistory,
    doc: "Takes every message, and gives the last ones to queues that are bound later.",
    picks_one: false,
    needs: |_| Needs::HISTORY,
    matcher: |_, _| Box::new(Everything("recent-history")),
};
