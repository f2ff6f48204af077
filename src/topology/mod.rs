//! Exchanges, queues, bindings and policies from the TOML file.
//!
//! [`BrokerFile`] reads a whole file: the configuration and the topology. A
//! [`Topology`] is valid: names obey the rules that clients obey, and every
//! binding leads from one thing that is defined to another. What is legal but
//! probably not meant is a warning, and what a new version of the file changes
//! is a list of steps ([`diff`]).

mod apply;
mod arguments;
mod diff;
mod file;
mod lints;
mod policies;
mod read;
mod same;

#[cfg(test)]
mod tests;

use crate::broker::Rulebook;
use crate::config::Located;
use crate::model::{ExchangeName, ExchangeSettings, QueueName, QueueSettings, VhostName};
use crate::routing::{BindRefused, Binding, RoutingTable};

pub use apply::apply;
pub(crate) use arguments::field_value;
pub use diff::{Change, Conflict, diff};
pub use file::BrokerFile;

/// What a file defines, each with its place in the file, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// The virtual hosts; `/` is always the first.
    pub vhosts: Vec<VhostName>,
    /// The exchanges.
    pub exchanges: Vec<Located<ExchangeDefinition>>,
    /// The queues.
    pub queues: Vec<Located<QueueDefinition>>,
    /// The bindings.
    pub bindings: Vec<Located<BindingDefinition>>,
    /// What of it applies to whatever has the right name, clients' included.
    pub rulebook: Rulebook,
}

/// `[[exchange]]`
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDefinition {
    /// Where it lives.
    pub vhost: VhostName,
    /// What it is called.
    pub name: ExchangeName,
    /// What it is declared as.
    pub settings: ExchangeSettings,
}

/// `[[queue]]`
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDefinition {
    /// Where it lives.
    pub vhost: VhostName,
    /// What it is called.
    pub name: QueueName,
    /// What it is declared as.
    pub settings: QueueSettings,
}

/// `[[binding]]`, one for each of its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingDefinition {
    /// Where it lives.
    pub vhost: VhostName,
    /// From where to where, by what key and arguments.
    pub binding: Binding,
}

impl Topology {
    /// The exchange of that name, if the file defines it.
    #[must_use]
    pub fn exchange(&self, vhost: &VhostName, name: &ExchangeName) -> Option<&ExchangeDefinition> {
        let mut exchanges = self.exchanges.iter().map(|exchange| &exchange.value);
        exchanges.find(|exchange| exchange.vhost == *vhost && exchange.name == *name)
    }

    /// The queue of that name, if the file defines it.
    #[must_use]
    pub fn queue(&self, vhost: &VhostName, name: &QueueName) -> Option<&QueueDefinition> {
        let mut queues = self.queues.iter().map(|queue| &queue.value);
        queues.find(|queue| queue.vhost == *vhost && queue.name == *name)
    }

    /// The router of a virtual host as it is when the broker has created all
    /// that the file defines.
    #[must_use]
    pub fn routing_table(&self, vhost: &VhostName) -> RoutingTable {
        // What the router refuses was an error when the file was read.
        self.route_with(vhost, |_, _| ())
    }

    /// Where what no binding of an exchange matches goes, policies included.
    fn alternate(&self, exchange: &ExchangeDefinition) -> Option<ExchangeName> {
        let policies = &self.rulebook.policies;
        policies.alternate(&exchange.vhost, &exchange.name, &exchange.settings)
    }

    fn route_with(
        &self,
        vhost: &VhostName,
        mut refused: impl FnMut(&Located<BindingDefinition>, BindRefused),
    ) -> RoutingTable {
        let mut table = RoutingTable::of_vhost(vhost);
        let exchanges = self.exchanges.iter().map(|exchange| &exchange.value);
        for exchange in exchanges.filter(|exchange| exchange.vhost == *vhost) {
            let mut settings = exchange.settings.clone();
            settings.alternate = self.alternate(exchange);
            table.declare_exchange(exchange.name.clone(), settings);
        }
        let bindings = self.bindings.iter();
        for binding in bindings.filter(|binding| binding.value.vhost == *vhost) {
            if let Err(cause) = table.bind(binding.value.binding.clone()) {
                refused(binding, cause);
            }
        }
        table
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            vhosts: vec![VhostName::from("/")],
            exchanges: Vec::new(),
            queues: Vec::new(),
            bindings: Vec::new(),
            rulebook: Rulebook::default(),
        }
    }
}
