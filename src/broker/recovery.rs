//! A node as it was before the restart: its durable definitions.

use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::HashMap;

use crate::model::{BrokerError, Destination, QueueId, VhostName};
use crate::policy;
use crate::queue::{Restored, RestoredContent, RestoredRun};
use crate::routing::BindRefused;
use crate::store::metadata::{Change, VhostDefinitions};
use crate::store::{RecoveredContent, RecoveredQueue};

use super::ledger::Ledger;
use super::rulebook::SharedRulebook;
use super::{Access, ConnectionLimits, Durability, Node, Recovered, Rulebook, Storage, Vhost};

#[cfg(test)]
mod tests;

impl Node {
    /// A broker with what was stored, and with these virtual hosts as well, all
    /// of which go by `rulebook` from the start: a message that is too old is a
    /// dead letter of its policy. From now on, what its catalogs change about durable things goes to
    /// `storage`, and so do the messages of durable queues.
    ///
    /// # Errors
    /// If something was stored that this version refuses.
    pub fn recover(
        access: Access,
        limits: ConnectionLimits,
        rulebook: Rulebook,
        vhosts: impl IntoIterator<Item = VhostName>,
        storage: Arc<Storage>,
        found: Recovered,
    ) -> Result<Arc<Self>, BrokerError> {
        let Recovered {
            definitions,
            mut queues,
            ..
        } = found;
        let durability: Arc<dyn Durability> = Arc::clone(&storage) as _;
        let ledger = Ledger::new(Some(storage), definitions.next_queue_id);
        let rulebook = SharedRulebook::new(ArcSwap::from_pointee(rulebook));
        let vhost = |name| Vhost::new(name, Arc::clone(&ledger), Arc::clone(&rulebook));
        let mut recovered: HashMap<_, _> = HashMap::default();
        for stored in definitions.vhosts {
            let name = stored.name.clone();
            let vhost = vhost(name.clone());
            vhost.restore(stored, &mut queues)?;
            recovered.insert(name, vhost);
        }
        for name in vhosts {
            let entry = recovered.entry(name.clone());
            entry.or_insert_with(|| vhost(name));
        }
        Ok(Self::with(
            access, limits, ledger, rulebook, recovered, durability,
        ))
    }
}

impl Vhost {
    fn restore(
        &self,
        stored: VhostDefinitions,
        queues: &mut HashMap<QueueId, RecoveredQueue>,
    ) -> Result<(), BrokerError> {
        let catalog = &mut *self.catalog.lock();
        catalog.is_stored = true;
        for (name, settings) in stored.exchanges {
            let names_id = settings.names_id;
            let mut settings = policy::exchange_settings(
                &name,
                &self.name,
                settings.kind.name(),
                settings.durable,
                settings.auto_delete,
                settings.internal,
                Arc::unwrap_or_clone(settings.arguments),
            )?;
            settings.names_id = names_id;
            let names = names_id.and_then(|id| queues.remove(&id));
            let names = names.map(|found| found.names).unwrap_or_default();
            self.remember_names(&name, &settings, names);
            let settings = self.ruled_exchange(&name, settings);
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
            let restored = queues.remove(&id).map(restored);
            self.add_queue(catalog, id, name, settings, restored);
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
        self.changed(catalog);
        Ok(())
    }
}

/// A queue's content as the queue takes it.
fn restored(found: RecoveredQueue) -> Restored {
    let run = |run: crate::store::RecoveredRun| RestoredRun {
        tag: run.tag,
        places: run.places,
        first: run.first,
        count: run.count,
        stored_bytes: run.stored_bytes,
        content: match run.content {
            RecoveredContent::Resident(messages) => RestoredContent::Resident(messages),
            RecoveredContent::Paged(page) => RestoredContent::Paged(page),
        },
    };
    Restored {
        next: found.next,
        redelivered_below: found.redelivered_below,
        deliveries: found.deliveries,
        runs: found.runs.into_iter().map(run).collect(),
        names: found.names,
    }
}
