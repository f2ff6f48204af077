//! A routing decision in words, made by listening to the walk that `route`
//! takes.

use std::collections::BTreeSet;
use std::fmt;

use super::binding::{Binding, Bound};
use super::table::Exchange;
use super::walk::{Followed, Routed, Trace, Way};
use super::{Publish, RoutingTable};
use crate::model::{Destination, ExchangeKind, ExchangeName, QueueName};

/// Why a message goes where it goes. Its `Display` is the text for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The exchange that it is published to.
    pub exchange: ExchangeName,
    /// Whether that exists.
    pub exchange_exists: bool,
    /// The exchanges visited, in order. None for the default exchange, which
    /// takes the keys as the names of queues.
    pub steps: Vec<Step>,
    /// The queues reached, as `route` gives them.
    pub queues: Vec<QueueName>,
}

/// What happened at one exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which.
    pub exchange: ExchangeName,
    /// Its type.
    pub kind: ExchangeKind,
    /// The type by whose rule it matches: another one if it is delayed.
    pub routes_as: ExchangeKind,
    /// Whether one of its bindings takes a message, and never several.
    pub picks_one: bool,
    /// How it was reached.
    pub via: Via,
    /// The bindings that took the message, in the order in which they were found.
    pub matched: Vec<Match>,
    /// How many of its bindings did not.
    pub unmatched: usize,
    /// What became of its alternate exchange.
    pub alternate: Alternate,
}

/// A binding that took the message.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Which.
    pub binding: Binding,
    /// Why, as a sentence without its full stop.
    pub reason: String,
}

/// How an exchange was reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Via {
    /// The message was published to it.
    Published,
    /// It is bound to another, that a binding of which matched.
    Binding(ExchangeName),
    /// It is the alternate of another, none of whose bindings matched.
    AlternateOf(ExchangeName),
}

/// What became of an exchange's alternate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Alternate {
    /// A binding matched, so that it was not asked for.
    NotNeeded,
    /// No binding matched, and there is no alternate.
    None,
    /// No binding matched, and the alternate is visited next.
    Taken(ExchangeName),
    /// No binding matched, but the alternate has been visited already.
    AlreadyVisited(ExchangeName),
    /// No binding matched, and the alternate does not exist.
    Missing(ExchangeName),
}

impl RoutingTable {
    /// Says which way a message goes and why; `route` takes the same.
    #[must_use]
    pub fn explain(&self, exchange: &str, publish: &Publish<'_>) -> Explanation {
        let mut routed = Routed::default();
        let mut listener = Listener::default();
        self.walk(exchange, publish, &mut routed, &mut listener);
        Explanation {
            exchange: exchange.into(),
            exchange_exists: self.exchange(exchange).is_some(),
            steps: listener.steps,
            queues: routed.queues,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.exchange_exists {
            return writeln!(f, "there is no exchange '{}'", self.exchange);
        }
        if self.exchange.is_default() {
            writeln!(
                f,
                "the default exchange takes each key as the name of a queue"
            )?;
        }
        self.steps.iter().try_for_each(|step| step.fmt(f))?;
        match self.queues.as_slice() {
            [] => writeln!(f, "reaches no queue"),
            queues => {
                let queues: Vec<_> = queues.iter().map(|name| format!("'{name}'")).collect();
                writeln!(f, "reaches {}", queues.join(", "))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exchange '{}' ({}", self.exchange, self.kind)?;
        if self.routes_as != self.kind {
            write!(f, " as {}", self.routes_as)?;
        }
        f.write_str("), ")?;
        match &self.via {
            Via::Published => writeln!(f, "published to:")?,
            Via::Binding(from) => writeln!(f, "bound to '{from}':")?,
            Via::AlternateOf(from) => writeln!(f, "the alternate of '{from}':")?,
        }
        for Match { binding, reason } in &self.matched {
            match &binding.destination {
                Destination::Queue(name) => writeln!(f, "  to queue '{name}': {reason}")?,
                Destination::Exchange(name) => writeln!(f, "  to exchange '{name}': {reason}")?,
            }
        }
        match (self.matched.len(), self.unmatched) {
            (1, 1) if self.picks_one => writeln!(f, "  1 other binding is not picked")?,
            (1, others @ 2..) if self.picks_one => {
                writeln!(f, "  {others} other bindings are not picked")?;
            }
            (0, 0) => writeln!(f, "  it has no bindings")?,
            (_, 0) => {}
            (0, 1) => writeln!(f, "  its only binding does not match")?,
            (0, others) => writeln!(f, "  none of its {others} bindings matches")?,
            (_, 1) => writeln!(f, "  1 other binding does not match")?,
            (_, others) => writeln!(f, "  {others} other bindings do not match")?,
        }
        match &self.alternate {
            Alternate::NotNeeded => Ok(()),
            Alternate::None => writeln!(f, "  and it has no alternate exchange"),
            Alternate::Taken(name) => writeln!(f, "  so its alternate '{name}' is taken"),
            Alternate::AlreadyVisited(name) => {
                writeln!(f, "  and its alternate '{name}' has been visited already")
            }
            Alternate::Missing(name) => writeln!(f, "  and its alternate '{name}' does not exist"),
        }
    }
}

#[derive(Default)]
struct Listener {
    steps: Vec<Step>,
    /// How the exchanges were reached that are still to come.
    ways: Vec<(ExchangeName, Via)>,
    /// Bindings of the exchange being visited that have been reported.
    matched: BTreeSet<u64>,
}

impl Trace for Listener {
    fn visit(&mut self, exchange: &Exchange) {
        let way = self.ways.iter().find(|(name, _)| *name == exchange.name);
        self.matched.clear();
        self.steps.push(Step {
            exchange: exchange.name.clone(),
            kind: exchange.settings.kind,
            routes_as: exchange.exchange_type.kind,
            picks_one: exchange.exchange_type.picks_one,
            via: way.map_or(Via::Published, |(_, via)| via.clone()),
            matched: Vec::new(),
            unmatched: exchange.bindings.len(),
            alternate: Alternate::None,
        });
    }

    fn matched(&mut self, exchange: &Exchange, bound: &Bound, publish: &Publish<'_>) {
        let Some(step) = self.steps.last_mut() else {
            return;
        };
        if self.matched.insert(bound.sequence) {
            step.alternate = Alternate::NotNeeded;
            step.unmatched = step.unmatched.saturating_sub(1);
            step.matched.push(Match {
                binding: bound.binding.clone(),
                reason: exchange.matcher.reason(bound, publish),
            });
        }
    }

    fn follow(&mut self, from: &Exchange, to: &ExchangeName, way: Way, followed: Followed) {
        let via = match way {
            Way::Binding => Via::Binding(from.name.clone()),
            Way::Alternate => Via::AlternateOf(from.name.clone()),
        };
        if let (Way::Alternate, Some(step)) = (way, self.steps.last_mut()) {
            step.alternate = match followed {
                Followed::Reached => Alternate::Taken(to.clone()),
                Followed::Already => Alternate::AlreadyVisited(to.clone()),
                Followed::Missing => Alternate::Missing(to.clone()),
            };
        }
        if followed == Followed::Reached {
            self.ways.push((to.clone(), via));
        }
    }
}
