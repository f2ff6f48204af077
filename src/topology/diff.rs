//! What a new version of the file changes about a running broker.
//!
//! What is new is created, and bindings that the file no longer has are taken
//! away. A file never deletes an exchange or a queue, because a queue may hold
//! messages and clients may use both: these stay until a client deletes them.
//! What exists cannot become something else, so such a file is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::{Located, Position};
use crate::model::{BrokerError, Destination, ExchangeName, QueueName, VhostName};

use super::{BindingDefinition, ExchangeDefinition, QueueDefinition, Topology};

/// One step from an old version of the file to a new one. Shows as a line of
/// the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Create a virtual host.
    AddVhost(VhostName),
    /// Create an exchange.
    AddExchange(ExchangeDefinition),
    /// Create a queue.
    AddQueue(QueueDefinition),
    /// Bind.
    AddBinding(BindingDefinition),
    /// Unbind.
    RemoveBinding(BindingDefinition),
    /// Nothing is done: the virtual host is no longer in the file.
    KeepVhost(VhostName),
    /// Nothing is done: the exchange is no longer in the file.
    KeepExchange(VhostName, ExchangeName),
    /// Nothing is done: the queue is no longer in the file.
    KeepQueue(VhostName, QueueName),
}

/// Something that exists and is defined differently now, which cannot be
/// applied to a running broker.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("what exists cannot be changed: {cause}")]
pub struct Conflict {
    /// What a client would be told that declared the same.
    pub cause: BrokerError,
    /// Where the new file defines it.
    pub position: Position,
}

/// The steps from `old` to `new`, in an order in which each can be done: first
/// all that is added, so that no message meets a gap, then what is removed.
///
/// # Errors
/// All that cannot be changed.
pub fn diff(old: &Topology, new: &Topology) -> Result<Vec<Change>, Vec<Conflict>> {
    let mut conflicts = Vec::new();
    let mut added = Vec::new();
    let mut kept = Vec::new();

    let vhosts = new
        .vhosts
        .iter()
        .filter(|vhost| !old.vhosts.contains(vhost));
    added.extend(vhosts.cloned().map(Change::AddVhost));
    let vhosts = old
        .vhosts
        .iter()
        .filter(|vhost| !new.vhosts.contains(vhost));
    kept.extend(vhosts.cloned().map(Change::KeepVhost));

    let mut before: BTreeMap<_, _> = old
        .exchanges
        .iter()
        .map(|Located { value, .. }| ((&value.vhost, &value.name), value))
        .collect();
    for Located { value, position } in &new.exchanges {
        match before.remove(&(&value.vhost, &value.name)) {
            None => added.push(Change::AddExchange(value.clone())),
            Some(current) => {
                let conflict = |cause| Conflict {
                    cause,
                    position: *position,
                };
                conflicts.extend(value.redeclares(current).map_err(conflict).err());
            }
        }
    }
    let gone = before.into_keys();
    kept.extend(gone.map(|(vhost, name)| Change::KeepExchange(vhost.clone(), name.clone())));

    let mut before: BTreeMap<_, _> = old
        .queues
        .iter()
        .map(|Located { value, .. }| ((&value.vhost, &value.name), value))
        .collect();
    for Located { value, position } in &new.queues {
        match before.remove(&(&value.vhost, &value.name)) {
            None => added.push(Change::AddQueue(value.clone())),
            Some(current) => {
                let conflict = |cause| Conflict {
                    cause,
                    position: *position,
                };
                conflicts.extend(value.redeclares(current).map_err(conflict).err());
            }
        }
    }
    let gone = before.into_keys();
    kept.extend(gone.map(|(vhost, name)| Change::KeepQueue(vhost.clone(), name.clone())));

    added.extend(missing_in(old, new).map(Change::AddBinding));
    added.extend(missing_in(new, old).map(Change::RemoveBinding));
    added.extend(kept);
    if conflicts.is_empty() {
        Ok(added)
    } else {
        Err(conflicts)
    }
}

/// The bindings of `there` that are not `here`.
fn missing_in<'t>(
    here: &Topology,
    there: &'t Topology,
) -> impl Iterator<Item = BindingDefinition> + use<'t> {
    let identities: BTreeSet<_> = here
        .bindings
        .iter()
        .map(|binding| binding.value.identity())
        .collect();
    let bindings = there.bindings.iter().map(|binding| &binding.value);
    bindings
        .filter(move |binding| !identities.contains(&binding.identity()))
        .cloned()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVhost(vhost) => write!(f, "added vhost '{vhost}'"),
            Self::AddExchange(ExchangeDefinition {
                vhost,
                name,
                settings,
            }) => {
                write!(
                    f,
                    "added {} exchange '{name}' in vhost '{vhost}'",
                    settings.kind
                )
            }
            Self::AddQueue(QueueDefinition { vhost, name, .. }) => {
                write!(f, "added queue '{name}' in vhost '{vhost}'")
            }
            Self::AddBinding(binding) => write!(f, "added {binding}"),
            Self::RemoveBinding(binding) => write!(f, "removed {binding}"),
            Self::KeepVhost(vhost) => {
                write!(f, "vhost '{vhost}' is no longer in the file and stays")
            }
            Self::KeepExchange(vhost, name) => {
                write!(
                    f,
                    "exchange '{name}' in vhost '{vhost}' is no longer in the file and stays"
                )
            }
            Self::KeepQueue(vhost, name) => {
                write!(
                    f,
                    "queue '{name}' in vhost '{vhost}' is no longer in the file and stays"
                )
            }
        }
    }
}

impl fmt::Display for BindingDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vhost, binding } = self;
        write!(f, "binding '{}' -> ", binding.source)?;
        match &binding.destination {
            Destination::Queue(name) => write!(f, "queue '{name}'")?,
            Destination::Exchange(name) => write!(f, "exchange '{name}'")?,
        }
        write!(f, " with key '{}'", binding.routing_key)?;
        match binding.arguments.len() {
            0 => {}
            1 => f.write_str(" and 1 argument")?,
            count => write!(f, " and {count} arguments")?,
        }
        write!(f, " in vhost '{vhost}'")
    }
}
