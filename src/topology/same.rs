//! When two definitions are the same: whatever the order of their arguments.

use leveret_protocol::SmolStr;

use crate::model::{
    Destination, ExchangeName, ExchangeSettings, FieldTable, QueueSettings, VhostName,
};

use super::BindingDefinition;

/// What makes a binding the binding that it is; its arguments in an order that
/// does not depend on the file's.
pub(super) type BindingIdentity = (VhostName, ExchangeName, Destination, SmolStr, String);

impl BindingDefinition {
    pub(super) fn identity(&self) -> BindingIdentity {
        (
            self.vhost.clone(),
            self.source.clone(),
            self.destination.clone(),
            self.routing_key.clone(),
            in_order(&self.arguments),
        )
    }
}

pub(super) fn same_exchange(left: &ExchangeSettings, right: &ExchangeSettings) -> bool {
    let rest = |settings: &ExchangeSettings| ExchangeSettings {
        arguments: Default::default(),
        ..settings.clone()
    };
    rest(left) == rest(right) && in_order(&left.arguments) == in_order(&right.arguments)
}

pub(super) fn same_queue(left: &QueueSettings, right: &QueueSettings) -> bool {
    let rest = |settings: &QueueSettings| QueueSettings {
        arguments: Default::default(),
        ..settings.clone()
    };
    rest(left) == rest(right) && in_order(&left.arguments) == in_order(&right.arguments)
}

fn in_order(arguments: &FieldTable) -> String {
    let mut entries: Vec<_> = arguments.iter().collect();
    entries.sort_by_key(|(name, _)| name.as_str());
    format!("{entries:?}")
}
