//! Declaring and deleting queues.

use std::sync::Arc;

use crate::model::{
    BrokerError, ConnectionId, Destination, FieldTable, Now, QueueId, QueueName, QueueRules,
    QueueSettings, UserName,
};
use crate::policy;
use crate::queue::Restored;

use super::ledger::queue_declared;
use super::notices::{Event, broker_user};
use super::vhost::{Catalog, clean_name};
use super::{QueueHost, Requester, Vhost, Wakes, queue_name};

/// What a client wants a queue to be.
#[derive(Clone, Debug)]
pub struct QueueRequest<'a> {
    /// Its name; empty for one that the broker makes up.
    pub name: &'a str,
    /// It survives a restart.
    pub durable: bool,
    /// Only this connection may use it.
    pub exclusive: bool,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// The `x-` arguments.
    pub arguments: FieldTable,
}

/// What a declare answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueueStatus {
    /// Its name, made up or not.
    pub name: QueueName,
    /// Ready messages.
    pub ready: u64,
    /// Consumers.
    pub consumers: u32,
}

impl Vhost {
    /// Creates a queue, or checks that the one that is there is the same.
    ///
    /// # Errors
    /// 403 for a reserved name, 405 for another connection's queue, 406 for
    /// bad or different arguments and for one queue too many.
    pub fn declare_queue(
        &self,
        request: QueueRequest<'_>,
        requester: &Requester,
    ) -> Result<QueueStatus, BrokerError> {
        let name = match clean_name(request.name) {
            name if name.is_empty() => queue_name(),
            name if name.starts_with("amq.") => {
                return Err(BrokerError::Forbidden(format!(
                    "queue name '{name}' contains reserved prefix 'amq.*'"
                )));
            }
            name => QueueName::from(&*name),
        };
        let mut catalog = self.catalog.lock();
        let mut settings = QueueSettings {
            // It goes with its connection, whatever it was declared as.
            durable: request.durable && !request.exclusive,
            auto_delete: request.auto_delete,
            exclusive: request.exclusive.then_some(requester.connection),
            rules: QueueRules::default(),
            arguments: Arc::new(request.arguments),
        };
        if let Some(host) = self.find_queue(name.as_str()) {
            host.check_owner(requester.connection)?;
            policy::queue_equivalent(&name, &self.name, host.settings(), &settings)?;
            host.touch(self.ledger.clock().now());
            return Ok(status(&host));
        }
        self.check_queue_limit(&catalog, &name)?;
        settings.rules = policy::queue_rules(&name, &self.name, &settings)?;
        let id = self.ledger.queue_id();
        let host = self.add_queue(&mut catalog, id, name, settings, None);
        let put = queue_declared(self, &host);
        self.record(&mut catalog, Vec::from_iter(put));
        self.tell(|node| Event::queue_created(&host, node, &requester.user));
        Ok(status(&host))
    }

    /// The queue of that name, for a passive declare.
    ///
    /// # Errors
    /// 404 if there is none, 405 if it is another connection's.
    pub fn check_queue(
        &self,
        name: &QueueName,
        requester: &Requester,
    ) -> Result<QueueStatus, BrokerError> {
        let host = self.queue(name, requester)?;
        host.touch(self.ledger.clock().now());
        Ok(status(&host))
    }

    /// Deletes a queue with its messages and bindings; how many messages were
    /// ready. A missing one is fine.
    ///
    /// # Errors
    /// 405 if it is another connection's, 406 if a condition does not hold.
    pub fn delete_queue(
        &self,
        name: &QueueName,
        if_unused: bool,
        if_empty: bool,
        requester: &Requester,
        wakes: &mut Wakes,
    ) -> Result<u64, BrokerError> {
        let mut catalog = self.catalog.lock();
        let Some(host) = self.find_queue(name.as_str()) else {
            return Ok(0);
        };
        host.check_owner(requester.connection)?;
        let ready = host.delete(if_unused, if_empty, wakes)?;
        self.forget_queue(&mut catalog, &host, &requester.user);
        Ok(ready)
    }

    /// Deletes an auto-delete queue whose last consumer has gone, unless
    /// another has come meanwhile.
    pub fn delete_unused_queue(&self, host: &QueueHost, wakes: &mut Wakes) {
        let mut catalog = self.catalog.lock();
        let is_same = self
            .find_queue(host.name().as_str())
            .is_some_and(|found| found.id() == host.id());
        if is_same && host.is_unused() && host.delete(true, false, wakes).is_ok() {
            self.forget_queue(&mut catalog, host, &broker_user());
        }
    }

    /// Deletes a queue that was unused for as long as it may be, unless it is
    /// in use by now.
    pub(super) fn delete_expired_queue(&self, host: &Arc<QueueHost>, now: Now, wakes: &mut Wakes) {
        let mut catalog = self.catalog.lock();
        let found = self.find_queue(host.name().as_str());
        if found.is_some_and(|found| found.id() == host.id())
            && host.tick(now, wakes)
            && host.delete(true, false, wakes).is_ok()
        {
            self.forget_queue(&mut catalog, host, &broker_user());
        }
    }

    /// Deletes all exclusive queues of a connection that ends.
    pub fn delete_exclusive_queues(&self, connection: ConnectionId, wakes: &mut Wakes) {
        let mut catalog = self.catalog.lock();
        for name in catalog.exclusive.remove(&connection).unwrap_or_default() {
            let Some(host) = self.find_queue(name.as_str()) else {
                continue;
            };
            if host.settings().exclusive == Some(connection)
                && host.delete(false, false, wakes).is_ok()
            {
                self.forget_queue(&mut catalog, &host, &broker_user());
            }
        }
    }

    /// The one place where queues come from, new ones and stored ones.
    pub(super) fn add_queue(
        &self,
        catalog: &mut Catalog,
        id: QueueId,
        name: QueueName,
        settings: QueueSettings,
        restored: Option<Restored>,
    ) -> Arc<QueueHost> {
        if let Some(owner) = settings.exclusive {
            catalog
                .exclusive
                .entry(owner)
                .or_default()
                .push(name.clone());
        }
        let policies = &self.rulebook.load().policies;
        let rules = policies.queue_rules(&self.name, &name, &settings);
        let host = QueueHost::new(
            id,
            name.clone(),
            self.name.clone(),
            settings,
            rules,
            restored,
            &self.ledger,
        );
        self.queues.write().insert(name, Arc::clone(&host));
        self.changed(catalog);
        host
    }

    fn forget_queue(&self, catalog: &mut Catalog, host: &QueueHost, user: &UserName) {
        self.queues.write().remove(host.name().as_str());
        let entries = self.entries(&catalog.routing, &[]);
        let before = self.before_events(&catalog.routing);
        let auto_deleted = catalog.routing.delete_queue(host.name().as_str());
        if let Some(before) = before {
            let queue = Destination::Queue(host.name().clone());
            let bindings: Vec<_> = before.bindings_to(&queue).collect();
            // Whoever deletes a queue is not who unbinds it, as RabbitMQ has it.
            self.tell_gone(&before, &auto_deleted, &bindings, &broker_user());
            self.tell(|_| Event::queue_deleted(host, user));
        }
        if let Some(entries) = entries {
            self.record(catalog, entries.queue_deleted(host, &auto_deleted));
        }
        self.forget_names(&auto_deleted);
        if let Some(storage) = self.ledger.storage() {
            storage.forget(host.id(), host.settings().durable);
        }
        if let Some(owner) = host.settings().exclusive
            && let Some(names) = catalog.exclusive.get_mut(&owner)
        {
            names.retain(|name| name != host.name());
        }
        self.changed(catalog);
        if !auto_deleted.is_empty() {
            self.exchanges_gone(&catalog.routing);
        }
    }
}

fn status(host: &QueueHost) -> QueueStatus {
    let counts = host.counts();
    QueueStatus {
        name: host.name().clone(),
        ready: counts.ready,
        consumers: counts.consumers,
    }
}
