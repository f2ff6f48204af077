//! The exchanges and bindings of one virtual host, and what changes them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::Needs;
use super::binding::{BindRefused, Binding, Bound, Identity, Removed};
use super::exchange_type::{ExchangeType, Matcher};
use super::persistent::{HashTrie, List, hash_of};
use super::walk::IdSet;
use crate::model::{Destination, ExchangeKind, ExchangeName, ExchangeSettings, VhostName};

/// The exchanges and bindings of one virtual host. A clone costs a few
/// reference counts and stays what it is.
#[derive(Clone)]
pub struct RoutingTable {
    exchanges: HashTrie<Arc<Exchange>>,
    /// Destinations that something is bound to.
    targets: HashTrie<Arc<Target>>,
    /// Numbers bindings, destinations and exchanges in the order of coming.
    last_number: u64,
}

/// An exchange with the bindings that it is the source of.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub name: ExchangeName,
    pub settings: ExchangeSettings,
    /// No other exchange's, even of the same name later.
    pub id: u64,
    pub bindings: List<Arc<Bound>>,
    pub exchange_type: &'static ExchangeType,
    pub needs: Needs,
    pub matcher: Box<dyn Matcher>,
    /// Those that lead to exchanges.
    to_exchanges: List<Arc<Bound>>,
    by_identity: HashTrie<Arc<Bound>>,
}

/// The bindings that lead to one destination.
#[derive(Clone, Debug)]
struct Target {
    destination: Destination,
    id: u64,
    bindings: List<Arc<Bound>>,
}

impl RoutingTable {
    /// A table with the exchanges that every virtual host has from the start.
    #[must_use]
    pub fn new() -> Self {
        let mut table = Self {
            exchanges: HashTrie::default(),
            targets: HashTrie::default(),
            last_number: 0,
        };
        for (name, kind, internal) in PREDECLARED {
            let mut settings = ExchangeSettings::new(*kind);
            settings.internal = *internal;
            table.declare_exchange((*name).into(), settings);
        }
        table
    }

    /// The table that a virtual host of that name begins with: the default one
    /// also has the exchange of the broker's events.
    #[must_use]
    pub fn of_vhost(name: &VhostName) -> Self {
        let mut table = Self::new();
        if name.as_str() == EVENT_VHOST {
            let mut settings = ExchangeSettings::new(ExchangeKind::Topic);
            settings.internal = true;
            table.declare_exchange(EVENT_EXCHANGE.into(), settings);
        }
        table
    }

    /// What an exchange was declared as.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<&ExchangeSettings> {
        self.exchange_named(name).map(|exchange| &exchange.settings)
    }

    /// All exchanges, sorted by name.
    pub fn exchanges(&self) -> impl Iterator<Item = (&ExchangeName, &ExchangeSettings)> {
        let exchanges = self.exchanges_sorted().into_iter();
        exchanges.map(|exchange| (&exchange.name, &exchange.settings))
    }

    /// All bindings: by source, and those of one in the order in which they
    /// came. Those of the default exchange are not kept and not listed.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        let exchanges = self.exchanges_sorted().into_iter();
        let bindings = exchanges.flat_map(|exchange| exchange.bindings.iter());
        bindings.map(|bound| &bound.binding)
    }

    /// What an exchange is bound to, in the order in which it was.
    pub fn bindings_of_source(&self, name: &str) -> impl Iterator<Item = &Binding> {
        let exchange = self.exchange_named(name).into_iter();
        let bindings = exchange.flat_map(|exchange| exchange.bindings.iter());
        bindings.map(|bound| &bound.binding)
    }

    /// What is bound to a destination, in the order in which it was.
    pub fn bindings_to(&self, destination: &Destination) -> impl Iterator<Item = &Binding> {
        let target = self.target(destination).into_iter();
        let bindings = target.flat_map(|target| target.bindings.iter());
        bindings.map(|bound| &bound.binding)
    }

    /// Adds an exchange. One of that name gets the new settings and keeps its
    /// bindings; whether the two are equivalent was for the caller to check.
    pub fn declare_exchange(&mut self, name: ExchangeName, settings: ExchangeSettings) {
        if let Some(exchange) = self.exchange_mut(name.as_str()) {
            exchange.set(settings);
            return;
        }
        let exchange_type = ExchangeType::of(&settings);
        let exchange = Exchange {
            exchange_type,
            needs: (exchange_type.needs)(&settings),
            matcher: (exchange_type.matcher)(&name, &settings),
            settings,
            id: self.next_number(),
            bindings: List::Empty,
            to_exchanges: List::Empty,
            by_identity: HashTrie::default(),
            name,
        };
        let hash = hash_of(exchange.name.as_str());
        self.exchanges.insert(hash, Arc::new(exchange));
    }

    /// Whether anything is bound to the exchange as a source, which
    /// `if-unused` asks.
    #[must_use]
    pub fn exchange_in_use(&self, name: &str) -> bool {
        self.exchange_named(name)
            .is_some_and(|exchange| !exchange.bindings.is_empty())
    }

    /// Removes an exchange with all bindings from and to it. Auto-delete
    /// exchanges whose last binding was one to it go as well, and so on.
    pub fn delete_exchange(&mut self, name: &str) -> Removed {
        let is_it = |exchange: &Arc<Exchange>| exchange.name.as_str() == name;
        let Some(exchange) = self.exchanges.remove(hash_of(name), is_it) else {
            return Removed::default();
        };
        for bound in exchange.bindings.iter() {
            self.forget_at_target(bound);
        }
        let incoming = self.take_target(&Destination::Exchange(exchange.name.clone()));
        Removed {
            existed: true,
            auto_deleted: self.forget_at_sources(incoming),
        }
    }

    /// Removes the bindings to a queue that is gone; returns the auto-delete
    /// exchanges that went with them.
    pub fn delete_queue(&mut self, queue: &str) -> Vec<ExchangeName> {
        let bindings = self.take_target(&Destination::Queue(queue.into()));
        self.forget_at_sources(bindings)
    }

    /// Adds a binding. False if it was there already, which changes nothing.
    ///
    /// # Errors
    /// If one of its ends is missing or is the default exchange, or if the
    /// exchange type does not take the arguments. Whether a destination queue
    /// exists is for the caller to check.
    pub fn bind(&mut self, binding: Binding) -> Result<bool, BindRefused> {
        let destination = match &binding.destination {
            Destination::Exchange(name) => Some(name),
            Destination::Queue(_) => None,
        };
        if binding.source.is_default() || destination.is_some_and(ExchangeName::is_default) {
            return Err(BindRefused::DefaultExchange);
        }
        let source = self
            .exchange_named(binding.source.as_str())
            .ok_or(BindRefused::SourceMissing)?;
        if destination.is_some_and(|name| self.exchange_named(name.as_str()).is_none()) {
            return Err(BindRefused::DestinationMissing);
        }
        source
            .matcher
            .check(&binding)
            .map_err(BindRefused::Arguments)?;
        let identity = Identity::of(&binding);
        if source.find(&identity).is_some() {
            return Ok(false);
        }
        self.add(binding, identity);
        Ok(true)
    }

    /// Removes a binding, and its source if that is an auto-delete exchange
    /// and this was its last one.
    pub fn unbind(&mut self, binding: &Binding) -> Removed {
        let source = self.exchange_named(binding.source.as_str());
        let Some(bound) = source.and_then(|source| source.find(&Identity::of(binding))) else {
            return Removed::default();
        };
        let bound = Arc::clone(bound);
        self.forget_at_target(&bound);
        Removed {
            existed: true,
            auto_deleted: self.forget_at_sources(List::One(bound)),
        }
    }

    /// What, beside the routing keys, can decide where a message goes from this
    /// exchange: what the exchanges look at that it may reach, by bindings or as
    /// an alternate.
    #[must_use]
    pub fn needs(&self, exchange: &str) -> Needs {
        let mut needs = Needs::NOTHING;
        let mut seen = IdSet::default();
        let mut pending: Vec<&Exchange> = self.exchange_named(exchange).into_iter().collect();
        while let Some(exchange) = pending.pop() {
            needs |= exchange.needs;
            let bound = exchange.to_exchanges.iter();
            let destinations = bound.filter_map(|bound| match &bound.binding.destination {
                Destination::Exchange(name) => Some(name),
                Destination::Queue(_) => None,
            });
            for name in destinations.chain(&exchange.settings.alternate) {
                let next = self.exchange_named(name.as_str());
                pending.extend(next.filter(|next| seen.insert(next.id)));
            }
        }
        needs
    }

    pub(super) fn exchange_named(&self, name: &str) -> Option<&Exchange> {
        let is_it = |exchange: &Arc<Exchange>| exchange.name.as_str() == name;
        self.exchanges.find(hash_of(name), is_it).map(Arc::as_ref)
    }

    fn exchanges_sorted(&self) -> Vec<&Exchange> {
        let mut sorted: Vec<&Exchange> = self.exchanges.iter().map(Arc::as_ref).collect();
        sorted.sort_unstable_by_key(|exchange| &exchange.name);
        sorted
    }

    fn exchange_mut(&mut self, name: &str) -> Option<&mut Exchange> {
        let is_it = |exchange: &Arc<Exchange>| exchange.name.as_str() == name;
        let exchange = self.exchanges.find_mut(hash_of(name), is_it);
        exchange.map(Arc::make_mut)
    }

    fn target(&self, destination: &Destination) -> Option<&Target> {
        let is_it = |target: &Arc<Target>| target.destination == *destination;
        let target = self.targets.find(hash_of(destination), is_it);
        target.map(Arc::as_ref)
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn add(&mut self, binding: Binding, identity: Identity) {
        let sequence = self.next_number();
        let hash = hash_of(&binding.destination);
        let known = self.target(&binding.destination).map(|target| target.id);
        let bound = Arc::new(Bound {
            sequence,
            destination_id: known.unwrap_or(sequence),
            binding,
            identity,
        });
        let destination = &bound.binding.destination;
        let is_it = |target: &Arc<Target>| target.destination == *destination;
        if let Some(target) = self.targets.find_mut(hash, is_it) {
            Arc::make_mut(target).bindings.push(Arc::clone(&bound));
        } else {
            let target = Target {
                destination: destination.clone(),
                id: sequence,
                bindings: List::One(Arc::clone(&bound)),
            };
            self.targets.insert(hash, Arc::new(target));
        }
        if let Some(source) = self.exchange_mut(bound.binding.source.as_str()) {
            source.add(&bound);
        }
    }

    fn take_target(&mut self, destination: &Destination) -> List<Arc<Bound>> {
        let is_it = |target: &Arc<Target>| target.destination == *destination;
        let target = self.targets.remove(hash_of(destination), is_it);
        target.map_or(List::Empty, |target| target.bindings.clone())
    }

    fn forget_at_target(&mut self, bound: &Bound) {
        let destination = &bound.binding.destination;
        let hash = hash_of(destination);
        let is_it = |target: &Arc<Target>| target.destination == *destination;
        if let Some(target) = self.targets.find_mut(hash, is_it) {
            let target = Arc::make_mut(target);
            target.bindings.remove(bound.sequence);
            if target.bindings.is_empty() {
                self.targets.remove(hash, is_it);
            }
        }
    }

    /// Removes bindings that no target knows any more from their sources, and
    /// the auto-delete exchanges that are left without one.
    fn forget_at_sources(&mut self, bindings: List<Arc<Bound>>) -> Vec<ExchangeName> {
        let mut auto_deleted = Vec::new();
        let mut pending = VecDeque::from([bindings]);
        while let Some(bindings) = pending.pop_front() {
            for bound in bindings.iter() {
                let name = &bound.binding.source;
                // A binding of a deleted exchange to itself has no source left.
                let Some(source) = self.exchange_mut(name.as_str()) else {
                    continue;
                };
                source.remove(bound);
                if source.settings.auto_delete && source.bindings.is_empty() {
                    let is_it = |exchange: &Arc<Exchange>| exchange.name == *name;
                    self.exchanges.remove(hash_of(name.as_str()), is_it);
                    auto_deleted.push(name.clone());
                    pending.push_back(self.take_target(&Destination::Exchange(name.clone())));
                }
            }
        }
        auto_deleted
    }
}

impl Default for RoutingTable {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RoutingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingTable")
            .field("exchanges", &self.exchanges().collect::<Vec<_>>())
            .field("bindings", &self.bindings().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Exchange {
    fn set(&mut self, settings: ExchangeSettings) {
        let is_other = settings.routes_as() != self.settings.routes_as();
        if is_other || settings.hash_on != self.settings.hash_on {
            self.exchange_type = ExchangeType::of(&settings);
            self.needs = (self.exchange_type.needs)(&settings);
            self.matcher = (self.exchange_type.matcher)(&self.name, &settings);
            for bound in self.bindings.iter() {
                self.matcher.insert(bound);
            }
        }
        self.settings = settings;
    }

    fn find(&self, identity: &Identity) -> Option<&Arc<Bound>> {
        let is_it = |bound: &Arc<Bound>| bound.identity == *identity;
        self.by_identity.find(identity.hash(), is_it)
    }

    fn add(&mut self, bound: &Arc<Bound>) {
        self.matcher.insert(bound);
        let hash = bound.identity.hash();
        self.by_identity.insert(hash, Arc::clone(bound));
        if matches!(bound.binding.destination, Destination::Exchange(_)) {
            self.to_exchanges.push(Arc::clone(bound));
        }
        self.bindings.push(Arc::clone(bound));
    }

    fn remove(&mut self, bound: &Bound) {
        self.matcher.remove(bound);
        let is_it = |other: &Arc<Bound>| other.sequence == bound.sequence;
        self.by_identity.remove(bound.identity.hash(), is_it);
        self.to_exchanges.remove(bound.sequence);
        self.bindings.remove(bound.sequence);
    }
}

/// Name, type, and whether only other exchanges may publish to it.
const PREDECLARED: &[(&str, ExchangeKind, bool)] = &[
    ("", ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    (TRACE_EXCHANGE, ExchangeKind::Topic, true),
    ("amq.topic", ExchangeKind::Topic, false),
];

/// Where copies of a virtual host's messages go.
pub const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";
/// Where the broker's events go.
pub const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";
/// The virtual host that has the exchange of events.
pub const EVENT_VHOST: &str = "/";
