//! A node as it was before the restart: its durable definitions.

use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{BrokerError, Destination, VhostName};
use crate::policy;
use crate::routing::BindRefused;
use crate::store::metadata::{Change, Definitions, Metadata, VhostDefinitions};

use super::ledger::Ledger;
use super::{Access, ConnectionLimits, Durability, Node, Vhost};

#[cfg(test)]
mod tests;

impl Node {
    /// A broker with what was stored, and with these virtual hosts as well.
    /// From now on, what its catalogs change about durable things goes to
    /// `metadata`.
    ///
    /// # Errors
    /// If something was stored that this version refuses.
    pub fn recover(
        access: Access,
        limits: ConnectionLimits,
        vhosts: impl IntoIterator<Item = VhostName>,
        metadata: Arc<Metadata>,
        durability: Arc<dyn Durability>,
        definitions: Definitions,
    ) -> Result<Arc<Self>, BrokerError> {
        let ledger = Ledger::new(Some(metadata), definitions.next_queue_id);
        let mut recovered: HashMap<_, _> = HashMap::default();
        for stored in definitions.vhosts {
            let name = stored.name.clone();
            let vhost = Vhost::new(name.clone(), Arc::clone(&ledger));
            vhost.restore(stored)?;
            recovered.insert(name, vhost);
        }
        for name in vhosts {
            let vhost = recovered.entry(name.clone());
            vhost.or_insert_with(|| Vhost::new(name, Arc::clone(&ledger)));
        }
        Ok(Self::with(access, limits, ledger, recovered, durability))
    }
}

impl Vhost {
    fn restore(&self, stored: VhostDefinitions) -> Result<(), BrokerError> {
        let catalog = &mut *self.catalog.lock();
        catalog.is_stored = true;
        for (name, settings) in stored.exchanges {
            let settings = policy::exchange_settings(
                &name,
                &self.name,
                settings.kind.name(),
                settings.durable,
                settings.auto_delete,
                settings.internal,
                Arc::unwrap_or_clone(settings.arguments),
            )?;
            catalog.routing.declare_exchange(name, settings);
        }
        for (name, id, settings) in stored.queues {
            let settings = policy::queue_settings(
                &name,
                &self.name,
                settings.durable,
                settings.auto_delete,
                None,
                Arc::unwrap_or_clone(settings.arguments),
            )?;
            self.add_queue(catalog, id, name, settings);
        }
        let mut dangling = Vec::new();
        for binding in stored.bindings {
            let ends = match &binding.destination {
                Destination::Queue(name) if self.find_queue(name.as_str()).is_none() => {
                    Err(BindRefused::DestinationMissing)
                }
                _ => catalog.routing.bind(binding.clone()),
            };
            let Err(refused) = ends else { continue };
            let is_argument = matches!(refused, BindRefused::Arguments(_));
            let error = self.bind_refused(refused, &binding.source, &binding.destination);
            if is_argument {
                return Err(error);
            }
            // Kept, it would come to life with the next queue of that name.
            tracing::warn!("a stored binding is removed: {error}");
            dangling.push(Change::Unbind(self.name.clone(), binding));
        }
        self.ledger.submit(dangling);
        self.changed();
        Ok(())
    }
}
