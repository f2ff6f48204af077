//! The broker as a whole: its virtual hosts, users and connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::model::{BrokerError, ConnectionId, Now, UserName, VhostName};

use super::ledger::Ledger;
use super::notices::Event;
use super::rulebook::SharedRulebook;
use super::{
    Access, Alarms, Clock, DeadLetters, Durability, Notices, Outbox, ReplyTargets, Storage, Vhost,
    Wakes,
};

/// One running broker.
#[derive(Debug)]
pub struct Node {
    clock: Clock,
    access: Access,
    pub(super) vhosts: RwLock<HashMap<VhostName, Arc<Vhost>>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rulebook: SharedRulebook,
    reply_targets: Arc<ReplyTargets>,
    durability: Arc<dyn Durability>,
    alarms: Alarms,
    limits: ConnectionLimits,
    connections: Mutex<HashMap<ConnectionId, Registration>>,
    last_connection: AtomicU64,
    connection_ended: Notify,
}

/// How many connections there may be; `None` is without limit.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: Option<u32>,
    /// From one address.
    pub per_address: Option<u32>,
    /// Of one user.
    pub per_user: Option<u32>,
    /// To one virtual host that has no limit of its own.
    pub per_vhost: Option<u32>,
    /// Octets that may wait in one connection's outbox.
    pub outbox_bytes: usize,
}

/// No limits, and outboxes of 1 MiB.
impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: None,
            per_address: None,
            per_user: None,
            per_vhost: None,
            outbox_bytes: 1 << 20,
        }
    }
}

/// One connection as the node knows it.
#[derive(Debug)]
struct Registration {
    outbox: Arc<Outbox>,
    address: IpAddr,
    opened: Option<(UserName, VhostName)>,
}

impl Node {
    /// A broker with these users and virtual hosts, whose definitions live in
    /// memory only.
    #[must_use]
    pub fn new(
        access: Access,
        limits: ConnectionLimits,
        vhosts: impl IntoIterator<Item = VhostName>,
        durability: Arc<dyn Durability>,
    ) -> Arc<Self> {
        let ledger = Ledger::in_memory();
        let rulebook = SharedRulebook::default();
        let vhost = |name: VhostName| {
            let vhost = Vhost::new(name.clone(), Arc::clone(&ledger), Arc::clone(&rulebook));
            (name, vhost)
        };
        let vhosts = vhosts.into_iter().map(vhost).collect();
        Self::with(access, limits, ledger, rulebook, vhosts, durability)
    }

    pub(super) fn with(
        access: Access,
        limits: ConnectionLimits,
        ledger: Arc<Ledger>,
        rulebook: SharedRulebook,
        vhosts: HashMap<VhostName, Arc<Vhost>>,
        durability: Arc<dyn Durability>,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock: ledger.clock(),
            access,
            alarms: Alarms::new(Arc::clone(ledger.notices())),
            ledger,
            rulebook,
            limits,
            vhosts: RwLock::new(vhosts),
            reply_targets: Arc::default(),
            durability,
            connections: Mutex::default(),
            last_connection: AtomicU64::new(0),
            connection_ended: Notify::new(),
        })
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The moment, for the pure layers.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Users and how they log in.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Where durable things are kept; `None` if they live in memory only.
    #[must_use]
    pub fn storage(&self) -> Option<&Arc<Storage>> {
        self.ledger.storage()
    }

    /// The dead letters that are on their way.
    #[must_use]
    pub fn dead_letters(&self) -> &Arc<DeadLetters> {
        self.ledger.dead_letters()
    }

    /// What it tells about itself.
    #[must_use]
    pub fn notices(&self) -> &Arc<Notices> {
        self.ledger.notices()
    }

    /// Who waits for direct replies.
    #[must_use]
    pub fn reply_targets(&self) -> &Arc<ReplyTargets> {
        &self.reply_targets
    }

    /// How far the store has come.
    #[must_use]
    pub fn durability(&self) -> &dyn Durability {
        &*self.durability
    }

    /// What there is too little of.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// A virtual host.
    #[must_use]
    pub fn vhost(&self, name: &VhostName) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// The virtual host of that name, created if it is missing.
    pub fn ensure_vhost(&self, name: &VhostName) -> Arc<Vhost> {
        let created = || {
            self.notices().tell(|_| Event::vhost_created(name));
            self.new_vhost(name.clone())
        };
        let mut vhosts = self.vhosts.write();
        Arc::clone(vhosts.entry(name.clone()).or_insert_with(created))
    }

    /// One that is not in the list yet.
    pub(super) fn new_vhost(&self, name: VhostName) -> Arc<Vhost> {
        Vhost::new(name, Arc::clone(&self.ledger), Arc::clone(&self.rulebook))
    }

    /// Opens the virtual host that a connection asks for.
    ///
    /// # Errors
    /// 530 if it is missing, not for this user, or a limit is reached.
    pub fn open_vhost(
        &self,
        connection: ConnectionId,
        name: &VhostName,
        user: &UserName,
    ) -> Result<Arc<Vhost>, BrokerError> {
        let vhost = self
            .vhost(name)
            .ok_or_else(|| BrokerError::NotAllowed(format!("vhost {name} not found")))?;
        if !self.access.may_open(user, name) {
            let text = format!("access to vhost '{name}' refused for user '{user}'");
            return Err(BrokerError::NotAllowed(text));
        }
        let of_vhost = self.rulebook.load().limits_of(name).connections;
        let per_vhost = of_vhost.or(self.limits.per_vhost);
        let mut connections = self.connections.lock();
        let reached = |limit: Option<u32>, counts: &dyn Fn(&(UserName, VhostName)) -> bool| {
            limit.filter(|limit| {
                let opened = connections.values().filter_map(|one| one.opened.as_ref());
                opened.filter(|opened| counts(opened)).count() >= *limit as usize
            })
        };
        if let Some(limit) = reached(per_vhost, &|(_, vhost)| vhost == name) {
            return Err(BrokerError::NotAllowed(format!(
                "access to vhost '{name}' refused for user '{user}': connection limit ({limit}) is reached"
            )));
        }
        if let Some(limit) = reached(self.limits.per_user, &|(of, _)| of == user) {
            return Err(BrokerError::NotAllowed(format!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            )));
        }
        if let Some(registration) = connections.get_mut(&connection) {
            registration.opened = Some((user.clone(), name.clone()));
        }
        Ok(vhost)
    }

    /// A connection begins: its mailbox, with its id.
    ///
    /// # Errors
    /// Which limit is reached, for the log: there is nobody to tell yet.
    pub fn connect(&self, address: IpAddr) -> Result<Arc<Outbox>, &'static str> {
        let mut connections = self.connections.lock();
        let address = address.to_canonical();
        if self
            .limits
            .total
            .is_some_and(|limit| connections.len() >= limit as usize)
        {
            return Err("too many connections");
        }
        if self.limits.per_address.is_some_and(|limit| {
            connections
                .values()
                .filter(|one| one.address == address)
                .count()
                >= limit as usize
        }) {
            return Err("too many connections from this address");
        }
        let id = ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
        let outbox = Outbox::new(id, self.limits.outbox_bytes);
        let registration = Registration {
            outbox: Arc::clone(&outbox),
            address,
            opened: None,
        };
        connections.insert(id, registration);
        Ok(outbox)
    }

    /// A connection has ended.
    pub fn disconnect(&self, id: ConnectionId) {
        self.alarms.remove_publisher(id);
        self.connections.lock().remove(&id);
        self.connection_ended.notify_waiters();
    }

    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.lock().len()
    }

    /// Tells every connection to end, and why.
    pub fn close_connections(&self, reason: &str) {
        let reason: Arc<str> = reason.into();
        let mut wakes = Wakes::default();
        for registration in self.connections.lock().values() {
            registration.outbox.close(Arc::clone(&reason), &mut wakes);
        }
        wakes.fire();
    }

    /// Completes when no connection is left.
    pub async fn drained(&self) {
        loop {
            let ended = self.connection_ended.notified();
            tokio::pin!(ended);
            // Enabled before the look, so that an end in between is not missed.
            ended.as_mut().enable();
            if self.connection_count() == 0 {
                return;
            }
            ended.await;
        }
    }
}
