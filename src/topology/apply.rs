//! Changes of the file, carried to a running broker.

use crate::broker::{Definition, Node};
use crate::model::{BrokerError, VhostName};

use super::Change;

/// Brings the changes about, all or none.
///
/// # Errors
/// If the broker has something that stands against one of them, such as an
/// exchange that a client declared with other settings.
pub fn apply(changes: &[Change], node: &Node) -> Result<(), BrokerError> {
    let definitions = changes.iter().filter_map(definition).collect();
    node.define(definitions)?;
    for change in changes {
        if let Change::AddVhost(name) = change {
            node.ensure_vhost(name);
        }
    }
    Ok(())
}

fn definition(change: &Change) -> Option<(VhostName, Definition)> {
    match change {
        Change::AddExchange(exchange) => {
            let definition = Definition::Exchange(exchange.name.clone(), exchange.settings.clone());
            Some((exchange.vhost.clone(), definition))
        }
        Change::AddQueue(queue) => {
            let definition = Definition::Queue(queue.name.clone(), queue.settings.clone());
            Some((queue.vhost.clone(), definition))
        }
        Change::AddBinding(defined) => {
            let definition = Definition::Bind(defined.binding.clone());
            Some((defined.vhost.clone(), definition))
        }
        Change::RemoveBinding(defined) => {
            let definition = Definition::Unbind(defined.binding.clone());
            Some((defined.vhost.clone(), definition))
        }
        Change::AddVhost(_)
        | Change::KeepVhost(_)
        | Change::KeepExchange(..)
        | Change::KeepQueue(..) => None,
    }
}
