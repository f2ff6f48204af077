//! One virtual host: its catalog of exchanges, queues and bindings.
//!
//! The catalog is changed under one lock; publishers read snapshots. A change
//! only marks the snapshot stale, and the next reader takes a new one, so that
//! ten thousand declares in a row cost one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::model::{BrokerError, ConnectionId, ExchangeName, QueueName, UserName, VhostName};
use crate::routing::RoutingTable;

use super::QueueHost;
use super::exchange_memory::ExchangeMemory;
use super::histories::Histories;
use super::ledger::Ledger;
use super::rulebook::SharedRulebook;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The connection, which owns its exclusive queues.
    pub connection: ConnectionId,
    /// The user that it logged in as.
    pub user: UserName,
    /// The connection as traces and events name it:
    /// `127.0.0.1:50001 -> 127.0.0.1:5672`.
    pub connection_name: Arc<str>,
}

/// One virtual host.
#[derive(Debug)]
pub struct Vhost {
    pub(super) name: VhostName,
    pub(super) catalog: Mutex<Catalog>,
    pub(super) histories: Mutex<Histories>,
    pub(super) queues: RwLock<HashMap<QueueName, Arc<QueueHost>>>,
    /// Of exchanges that know copies of messages.
    pub(super) memories: RwLock<HashMap<ExchangeName, Arc<ExchangeMemory>>>,
    snapshot: ArcSwap<RoutingTable>,
    snapshot_stale: AtomicBool,
    version: AtomicU64,
    /// Whether something is bound to its exchange of traces.
    pub(super) traced: AtomicBool,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rulebook: SharedRulebook,
}

/// What only one may change at a time.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) routing: RoutingTable,
    pub(super) exclusive: HashMap<ConnectionId, Vec<QueueName>>,
    /// The definitions on disk know the virtual host.
    pub(super) is_stored: bool,
}

impl Vhost {
    /// A virtual host with the predeclared exchanges.
    #[must_use]
    pub(super) fn new(name: VhostName, ledger: Arc<Ledger>, rulebook: SharedRulebook) -> Arc<Self> {
        let catalog = Catalog {
            routing: RoutingTable::of_vhost(&name),
            ..Catalog::default()
        };
        let vhost = Arc::new(Self {
            name,
            snapshot: ArcSwap::default(),
            catalog: Mutex::new(catalog),
            histories: Mutex::default(),
            queues: RwLock::default(),
            memories: RwLock::default(),
            snapshot_stale: AtomicBool::new(true),
            version: AtomicU64::new(1),
            traced: AtomicBool::new(false),
            ledger,
            rulebook,
        });
        vhost.set_alternates(&mut vhost.catalog.lock().routing);
        vhost
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &VhostName {
        &self.name
    }

    /// Grows with every change of exchanges, queues or bindings: a route that
    /// was found at the same version is still right.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Exchanges and bindings as they are now.
    #[must_use]
    pub fn routing(&self) -> Arc<RoutingTable> {
        if self.snapshot_stale.load(Ordering::Acquire) {
            let catalog = self.catalog.lock();
            // Whoever finds the mark gone must find the new snapshot, so that
            // is there first. Changes mark under the lock: none gets lost.
            if self.snapshot_stale.load(Ordering::Acquire) {
                self.snapshot.store(Arc::new(catalog.routing.clone()));
                self.snapshot_stale.store(false, Ordering::Release);
            }
        }
        self.snapshot.load_full()
    }

    /// The queue of that name.
    #[must_use]
    pub fn find_queue(&self, name: &str) -> Option<Arc<QueueHost>> {
        self.queues.read().get(name).cloned()
    }

    /// The queue of that name, if this connection may use it.
    ///
    /// # Errors
    /// 404 if there is none, 405 if it is another connection's.
    pub fn queue(
        &self,
        name: &QueueName,
        requester: &Requester,
    ) -> Result<Arc<QueueHost>, BrokerError> {
        let host = self
            .find_queue(name.as_str())
            .ok_or_else(|| BrokerError::no_queue(name, &self.name))?;
        host.check_owner(requester.connection)?;
        Ok(host)
    }

    /// To be called with the catalog locked, after it was changed.
    pub(super) fn changed(&self, catalog: &Catalog) {
        self.note_listeners(&catalog.routing);
        self.snapshot_stale.store(true, Ordering::Release);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// To be called with the catalog locked, after exchanges went.
    pub(super) fn exchanges_gone(&self, routing: &RoutingTable) {
        self.histories.lock().prune(routing);
    }
}

/// Names lose CR and LF, as RabbitMQ has it.
pub(super) fn clean_name(name: &str) -> std::borrow::Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        name.replace(['\r', '\n'], "").into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use crate::model::{ExchangeKind, ExchangeSettings};

    /// A publisher that reads the version and then the table keeps both until
    /// the next version: an older table would be used for who knows how long.
    #[test]
    fn the_table_is_never_behind_a_version_that_was_read_before() {
        const CHANGES: usize = 300_000;
        let vhost = Vhost::new("/".into(), Ledger::in_memory(), SharedRulebook::default());
        let first = vhost.version();
        // Its number is that of the change that made it.
        let change = |number| {
            let mut catalog = vhost.catalog.lock();
            let settings = ExchangeSettings {
                history_length: number,
                ..ExchangeSettings::new(ExchangeKind::RecentHistory)
            };
            catalog.routing.declare_exchange("x".into(), settings);
            vhost.changed(&catalog);
        };
        change(1);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut late = 0;
                        while !done.load(Ordering::Acquire) {
                            let changes = (vhost.version() - first) as usize;
                            let table = vhost.routing();
                            let known = table.exchange("x").map(|it| it.history_length);
                            late += usize::from(known < Some(changes));
                        }
                        late
                    })
                })
                .collect();
            (2..=CHANGES).for_each(change);
            done.store(true, Ordering::Release);
            for reader in readers {
                assert_eq!(reader.join().ok(), Some(0), "tables that were behind");
            }
        });
    }
}
