//! What the virtual hosts of a node share, above all what is written down of the
//! catalogs' changes, and the queues' numbers.
//!
//! A change of a catalog is submitted while its lock is held, so that the
//! order on disk is the order of the changes; nobody waits for the disk there.
//! Whoever answers a client waits for [`Durability::definitions_ticket`]. Durable
//! are exchanges and queues that were declared so, and a binding if both its
//! ends are: the rest is gone after a restart and is not written.
//!
//! [`Durability::definitions_ticket`]: super::Durability::definitions_ticket

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{
    Destination, ExchangeName, ExchangeSettings, QueueId, QueueName, QueueSettings, VhostName,
};
use crate::routing::{Binding, RoutingTable};
use crate::store::metadata::{Change, Definitions};

use super::publish::SharedRoom;
use super::timers::Timers;
use super::vhost::Catalog;
use super::{Clock, DeadLetters, Notices, QueueHost, Storage, Vhost};

/// Shared by all virtual hosts of a node.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `None` if everything lives in memory only.
    storage: Option<Arc<Storage>>,
    clock: Clock,
    timers: Arc<Timers>,
    next_queue_id: AtomicU64,
    dead_letters: Arc<DeadLetters>,
    notices: Arc<Notices>,
    route_room: Arc<SharedRoom>,
}

/// Says which changes of one virtual host go to disk, from how it was before.
pub(super) struct Entries<'a> {
    vhost: &'a Vhost,
    before: RoutingTable,
    /// Queues that are about to be there.
    planned: &'a [(QueueName, QueueSettings)],
}

impl Ledger {
    pub fn new(storage: Option<Arc<Storage>>, next_queue_id: QueueId) -> Arc<Self> {
        let clock = storage
            .as_ref()
            .map_or_else(Clock::start, |storage| storage.clock());
        Arc::new(Self {
            clock,
            notices: Arc::new(Notices::new(clock)),
            timers: Arc::default(),
            storage,
            next_queue_id: AtomicU64::new(next_queue_id.0),
            dead_letters: Arc::default(),
            route_room: Arc::default(),
        })
    }

    /// Nothing is written.
    pub fn in_memory() -> Arc<Self> {
        Self::new(None, Definitions::default().next_queue_id)
    }

    /// Where it is written.
    pub fn storage(&self) -> Option<&Arc<Storage>> {
        self.storage.as_ref()
    }

    /// The node's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Who wakes queues.
    pub fn timers(&self) -> &Arc<Timers> {
        &self.timers
    }

    /// The dead letters that are on their way.
    pub fn dead_letters(&self) -> &Arc<DeadLetters> {
        &self.dead_letters
    }

    /// Room for the routes of connections that need many.
    pub fn route_room(&self) -> &Arc<SharedRoom> {
        &self.route_room
    }

    /// What the node tells about itself.
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// The number of a new queue. A durable one's goes to disk with it; the
    /// others' may be given again after a restart, when nothing is left of
    /// them.
    pub fn queue_id(&self) -> QueueId {
        QueueId(self.next_queue_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Writes all of this or nothing.
    pub fn submit(&self, changes: Vec<Change>) {
        if let Some(storage) = &self.storage {
            storage.metadata().submit(changes);
        }
    }
}

impl Vhost {
    /// To be asked before the table is changed; `None` if nobody is to know.
    pub(super) fn entries<'a>(
        &'a self,
        routing: &RoutingTable,
        planned: &'a [(QueueName, QueueSettings)],
    ) -> Option<Entries<'a>> {
        self.ledger.storage().map(|_| Entries {
            vhost: self,
            before: routing.clone(),
            planned,
        })
    }

    /// Writes down what has changed in the catalog, which is still locked.
    pub(super) fn record(&self, catalog: &mut Catalog, mut changes: Vec<Change>) {
        self.introduce(catalog, &mut changes);
        self.ledger.submit(changes);
    }

    /// Puts this virtual host in front of the first changes to it.
    pub(super) fn introduce(&self, catalog: &mut Catalog, changes: &mut Vec<Change>) {
        if !changes.is_empty() && !catalog.is_stored {
            catalog.is_stored = true;
            changes.insert(0, Change::PutVhost(self.name.clone()));
        }
    }
}

impl Entries<'_> {
    /// An exchange is new.
    pub fn exchange_declared(
        &self,
        name: &ExchangeName,
        settings: &ExchangeSettings,
    ) -> Option<Change> {
        let put = || Change::PutExchange(self.vhost(), name.clone(), settings.clone());
        settings.durable.then(put)
    }

    /// A binding is new.
    pub fn bound(&self, binding: &Binding) -> Option<Change> {
        let put = || Change::Bind(self.vhost(), binding.clone());
        self.binding_is_durable(binding).then(put)
    }

    /// A binding is gone, and auto-delete exchanges with it.
    pub fn unbound(&self, binding: &Binding, auto_deleted: &[ExchangeName]) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.binding_is_durable(binding) {
            changes.push(Change::Unbind(self.vhost(), binding.clone()));
        }
        self.exchanges_gone(auto_deleted, &mut changes);
        changes
    }

    /// An exchange is gone, and auto-delete exchanges with it.
    pub fn exchange_deleted(
        &self,
        name: &ExchangeName,
        auto_deleted: &[ExchangeName],
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        self.exchanges_gone(std::slice::from_ref(name), &mut changes);
        self.exchanges_gone(auto_deleted, &mut changes);
        changes
    }

    /// A queue is gone, and auto-delete exchanges with it.
    pub fn queue_deleted(&self, host: &QueueHost, auto_deleted: &[ExchangeName]) -> Vec<Change> {
        let mut changes = Vec::new();
        if host.settings().durable {
            let queue = Destination::Queue(host.name().clone());
            let bindings = self.before.bindings_to(&queue);
            let durable = bindings.filter(|binding| self.exchange_is_durable(&binding.source));
            changes.extend(durable.map(|binding| self.unbind(binding)));
            changes.push(Change::DeleteQueue(self.vhost(), host.name().clone()));
        }
        self.exchanges_gone(auto_deleted, &mut changes);
        changes
    }

    /// Durable exchanges with the durable bindings at either end. A binding
    /// between two of them is removed twice, which is no harm.
    fn exchanges_gone(&self, gone: &[ExchangeName], changes: &mut Vec<Change>) {
        for name in gone {
            if !self.exchange_is_durable(name) {
                continue;
            }
            let exchange = Destination::Exchange(name.clone());
            let outgoing = self.before.bindings_of_source(name.as_str());
            let bindings = outgoing.chain(self.before.bindings_to(&exchange));
            let durable = bindings.filter(|binding| self.binding_is_durable(binding));
            changes.extend(durable.map(|binding| self.unbind(binding)));
            changes.push(Change::DeleteExchange(self.vhost(), name.clone()));
        }
    }

    fn unbind(&self, binding: &Binding) -> Change {
        Change::Unbind(self.vhost(), binding.clone())
    }

    fn vhost(&self) -> VhostName {
        self.vhost.name.clone()
    }

    fn binding_is_durable(&self, binding: &Binding) -> bool {
        self.exchange_is_durable(&binding.source)
            && match &binding.destination {
                Destination::Queue(name) => self.queue_is_durable(name),
                Destination::Exchange(name) => self.exchange_is_durable(name),
            }
    }

    fn exchange_is_durable(&self, name: &ExchangeName) -> bool {
        let settings = self.before.exchange(name.as_str());
        settings.is_some_and(|settings| settings.durable)
    }

    fn queue_is_durable(&self, name: &QueueName) -> bool {
        match self.vhost.find_queue(name.as_str()) {
            Some(host) => host.settings().durable,
            None => self
                .planned
                .iter()
                .any(|(planned, settings)| planned == name && settings.durable),
        }
    }
}

/// A queue is new.
pub(super) fn queue_declared(vhost: &Vhost, host: &QueueHost) -> Option<Change> {
    let settings: &QueueSettings = host.settings();
    let name = host.name().clone();
    let put = || Change::PutQueue(vhost.name.clone(), name, host.id(), settings.clone());
    (settings.durable && vhost.ledger.storage().is_some()).then(put)
}
