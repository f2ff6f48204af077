//! When two definitions are the same, which clients must agree with.

use leveret_protocol::SmolStr;

use crate::model::{BrokerError, Destination, ExchangeName, FieldTable, VhostName};
use crate::policy::{exchange_equivalent, queue_equivalent};

use super::{BindingDefinition, ExchangeDefinition, QueueDefinition};

/// What makes a binding the binding that it is; its arguments in an order that
/// does not depend on the file's.
pub(super) type BindingIdentity = (VhostName, ExchangeName, Destination, SmolStr, String);

impl BindingDefinition {
    pub(super) fn identity(&self) -> BindingIdentity {
        (
            self.vhost.clone(),
            self.binding.source.clone(),
            self.binding.destination.clone(),
            self.binding.routing_key.clone(),
            in_order(&self.binding.arguments),
        )
    }
}

impl ExchangeDefinition {
    /// Whether a declaration of this is fine with what exists as `current`.
    pub(super) fn redeclares(&self, current: &Self) -> Result<(), BrokerError> {
        exchange_equivalent(&self.name, &self.vhost, &current.settings, &self.settings)
    }
}

impl QueueDefinition {
    /// Whether a declaration of this is fine with what exists as `current`.
    pub(super) fn redeclares(&self, current: &Self) -> Result<(), BrokerError> {
        queue_equivalent(&self.name, &self.vhost, &current.settings, &self.settings)
    }
}

fn in_order(arguments: &FieldTable) -> String {
    let mut entries: Vec<_> = arguments.iter().collect();
    entries.sort_by_key(|(name, _)| name.as_str());
    format!("{entries:?}")
}
