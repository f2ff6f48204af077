//! The way of one message through the exchanges.
//!
//! From the exchange that it was published to, the walk follows bindings to
//! queues, to further exchanges, and where no binding of an exchange matched,
//! to its alternate. As in RabbitMQ, a binding that leads to an exchange counts
//! as a match even if no queue is reached from there. Each exchange is visited
//! once, in the order in which they are reached.
//!
//! A [`Trace`] overhears the walk; `route` has one that is compiled away.

use std::collections::HashSet;

use super::binding::Bound;
use super::table::Exchange;
use super::topic::TopicScratch;
use super::{Needs, Publish, RoutingTable};
use crate::model::{Destination, ExchangeName, QueueName};

/// Where a message goes. Keep it and give it to the next `route`, which then
/// does not allocate.
#[derive(Debug, Default)]
pub struct Routed {
    /// The queues, each once, in the order in which they were reached; the
    /// names of the default exchange are sorted, and need not exist. None: the
    /// message is unroutable.
    pub queues: Vec<QueueName>,
    /// What the exchanges that it visited look at. The same exchange and keys
    /// lead to the same queues as long as that is the same.
    pub needs: Needs,
    /// The exchanges that it visited and that keep it for later bindings.
    pub histories: Vec<ExchangeName>,
    queues_seen: IdSet,
    exchanges_seen: IdSet,
    /// Exchanges reached and not visited yet.
    pending: Vec<ExchangeName>,
    scratch: Scratch,
}

/// Memory of the exchange types, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub topic: TopicScratch,
}

/// What is told about a walk.
pub(super) trait Trace {
    /// The matching begins.
    fn visit(&mut self, _exchange: &Exchange) {}
    /// A binding took the message, perhaps not for the first time.
    fn matched(&mut self, _exchange: &Exchange, _bound: &Bound, _publish: &Publish<'_>) {}
    /// A binding or an alternate leads to an exchange.
    fn follow(&mut self, _from: &Exchange, _to: &ExchangeName, _way: Way, _followed: Followed) {}
}

/// How an exchange was reached from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    Binding,
    Alternate,
}

/// What came of a way to an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Followed {
    Reached,
    /// The walk has been there.
    Already,
    Missing,
}

impl RoutingTable {
    /// Finds the queues that a message published to `exchange` goes to. An
    /// exchange that does not exist leads nowhere.
    pub fn route(&self, exchange: &str, publish: &Publish<'_>, out: &mut Routed) {
        struct Untraced;
        impl Trace for Untraced {}
        self.walk(exchange, publish, out, &mut Untraced);
    }

    pub(super) fn walk(
        &self,
        exchange: &str,
        publish: &Publish<'_>,
        out: &mut Routed,
        trace: &mut impl Trace,
    ) {
        out.clear();
        if exchange.is_empty() {
            out.queues
                .extend(publish.keys.iter().map(|key| QueueName::from(*key)));
            out.queues.sort_unstable();
            out.queues.dedup();
            return;
        }
        let Some(first) = self.exchange_named(exchange) else {
            return;
        };
        out.exchanges_seen.insert(first.id);
        self.visit(first, publish, out, trace);
        let mut visited = 0;
        while let Some(exchange) = out.pending.get(visited) {
            visited += 1;
            if let Some(exchange) = self.exchange_named(exchange.as_str()) {
                self.visit(exchange, publish, out, trace);
            }
        }
    }

    fn visit(
        &self,
        exchange: &Exchange,
        publish: &Publish<'_>,
        out: &mut Routed,
        trace: &mut impl Trace,
    ) {
        trace.visit(exchange);
        out.needs |= exchange.needs;
        if exchange.needs.any(Needs::HISTORY) {
            out.histories.push(exchange.name.clone());
        }
        let mut matched = false;
        // The parts of `out` that the closure changes, beside the scratch.
        let (queues, queues_seen) = (&mut out.queues, &mut out.queues_seen);
        let (pending, exchanges_seen) = (&mut out.pending, &mut out.exchanges_seen);
        exchange.matcher.matches(
            &exchange.bindings,
            publish,
            &mut out.scratch,
            &mut |bound| {
                matched = true;
                trace.matched(exchange, bound, publish);
                match &bound.binding.destination {
                    Destination::Queue(name) => {
                        if queues_seen.insert(bound.destination_id) {
                            queues.push(name.clone());
                        }
                    }
                    Destination::Exchange(name) => {
                        let followed = self.follow(name, pending, exchanges_seen);
                        trace.follow(exchange, name, Way::Binding, followed);
                    }
                }
            },
        );
        if !matched && let Some(name) = &exchange.settings.alternate {
            let followed = self.follow(name, pending, exchanges_seen);
            trace.follow(exchange, name, Way::Alternate, followed);
        }
    }

    fn follow(
        &self,
        name: &ExchangeName,
        pending: &mut Vec<ExchangeName>,
        seen: &mut IdSet,
    ) -> Followed {
        let Some(exchange) = self.exchange_named(name.as_str()) else {
            return Followed::Missing;
        };
        if !seen.insert(exchange.id) {
            return Followed::Already;
        }
        pending.push(name.clone());
        Followed::Reached
    }
}

impl Routed {
    /// Whether the message reaches no queue.
    #[must_use]
    pub fn is_unroutable(&self) -> bool {
        self.queues.is_empty()
    }

    fn clear(&mut self) {
        self.queues.clear();
        self.needs = Needs::NOTHING;
        self.histories.clear();
        self.queues_seen.clear();
        self.exchanges_seen.clear();
        self.pending.clear();
    }
}

/// Numbers seen. Most messages reach a few queues, for which comparing beats
/// hashing.
#[derive(Debug, Default)]
pub(super) struct IdSet {
    few: Vec<u64>,
    many: HashSet<u64, foldhash::fast::RandomState>,
}

impl IdSet {
    /// False if it was there.
    pub fn insert(&mut self, id: u64) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(id);
        }
        if self.few.contains(&id) {
            return false;
        }
        self.few.push(id);
        if self.few.len() > FEW {
            self.many.extend(self.few.drain(..));
        }
        true
    }

    fn clear(&mut self) {
        self.few.clear();
        self.many.clear();
    }
}

/// Ids that are compared one by one.
const FEW: usize = 16;
