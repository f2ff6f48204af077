//! A whole broker, in this process: what `leveret serve` runs, and what tests
//! of other programs embed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret_protocol::Limits;
use tokio::task::JoinHandle;

use crate::broker::{
    Access, Alarm, ConnectionLimits, InMemory, MonitorSettings, Node, Storage, StorageError,
    announce, forward_dead_letters, keep_time, monitor, relieve,
};
use crate::config::Config;
use crate::gateway::amqp::{AmqpSettings, Listener};
use crate::model::BrokerError;
use crate::session::SessionSettings;
use crate::store::StoreSettings;
use crate::topology::{self, Topology};

/// A running broker. Dropping it stops it at once; [`Broker::shutdown`] closes
/// its connections first.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), leveret::StartError> {
/// let broker = leveret::Broker::start_on("127.0.0.1:0").await?;
/// println!("connect to {}", broker.uri());
/// broker.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Broker {
    node: Arc<Node>,
    addresses: Vec<SocketAddr>,
    listeners: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// No address at all.
    #[error("'{0}' is not an address with a port, such as 127.0.0.1:5672")]
    Address(String),
    /// The topology asks for what cannot be.
    #[error("the file's definitions: {0}")]
    Topology(BrokerError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It holds what this version refuses.
    #[error("the definitions in the data directory: {0}")]
    Recovery(BrokerError),
    /// Opening the data directory has panicked.
    #[error("opening the data directory has panicked")]
    Panicked,
}

impl Broker {
    /// Starts a broker with default settings on one address; port 0 takes a
    /// free one.
    ///
    /// # Errors
    /// If the address is malformed or taken.
    pub async fn start_on(address: &str) -> Result<Self, StartError> {
        let mut config = Config::default();
        let parsed = address
            .parse()
            .map_err(|_| StartError::Address(address.to_owned()))?;
        config.amqp.addresses = vec![parsed];
        Self::start_in_memory(&config, &Topology::default()).await
    }

    /// Starts a broker that keeps what is durable in the configured data
    /// directory, and recovers what is there. Once this returns, clients can
    /// connect, and what the topology defines is there. It runs on the runtime
    /// that this is called on.
    ///
    /// # Errors
    /// If the data directory cannot be used, an address cannot be bound or the
    /// topology cannot be applied.
    pub async fn start(config: &Config, topology: &Topology) -> Result<Self, StartError> {
        let started = Instant::now();
        let directory = config.server.data_dir.clone();
        let settings = store_settings(config);
        let hot_bytes = config.store.hot_bytes;
        let opened =
            tokio::task::spawn_blocking(move || Storage::open(&directory, &settings, hot_bytes));
        let (storage, found) = opened.await.map_err(|_| StartError::Panicked)??;
        let report = found.report.clone();
        let node = Node::recover(
            Access::new(config.users.clone()),
            connection_limits(config),
            topology.rulebook.clone(),
            topology.vhosts.iter().cloned(),
            storage,
            found,
        )
        .map_err(StartError::Recovery)?;
        let broker = Self::serve(config, topology, node)?;
        tracing::info!(
            directory = %config.server.data_dir.display(),
            fsync = %config.store.fsync,
            messages = report.messages,
            log_bytes = report.log_bytes,
            clean = report.clean,
            milliseconds = started.elapsed().as_millis() as u64,
            "the store is open"
        );
        Ok(broker)
    }

    /// Starts a broker that keeps everything in memory: what is durable lives as
    /// long as the broker, as tests of other programs want it.
    ///
    /// # Errors
    /// If an address cannot be bound or the topology cannot be applied.
    #[allow(clippy::unused_async, reason = "to be started as the other one is")]
    pub async fn start_in_memory(config: &Config, topology: &Topology) -> Result<Self, StartError> {
        let node = Node::new(
            Access::new(config.users.clone()),
            connection_limits(config),
            topology.vhosts.iter().cloned(),
            Arc::new(InMemory::default()),
        );
        Self::serve(config, topology, node)
    }

    fn serve(config: &Config, topology: &Topology, node: Arc<Node>) -> Result<Self, StartError> {
        // First, so that what the topology defines goes by it from the start.
        node.rule_by(topology.rulebook.clone());
        node.notices().set_node_name(&config.server.cluster_name);
        let changes = topology::diff(&Topology::default(), topology).unwrap_or_default();
        topology::apply(&changes, &node).map_err(StartError::Topology)?;
        let settings = Arc::new(amqp_settings(config));
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for &address in &config.amqp.addresses {
            let failed = |cause| StartError::Listen { address, cause };
            let listener = Listener::bind(address, Arc::clone(&node), Arc::clone(&settings))
                .map_err(failed)?;
            addresses.push(listener.address().map_err(failed)?);
            listeners.push(listener);
        }
        let listeners = listeners
            .into_iter()
            .map(|listener| tokio::spawn(listener.serve()))
            .collect();
        let watchers = vec![
            tokio::spawn(monitor(Arc::clone(&node), monitor_settings(config))),
            tokio::spawn(relieve(Arc::clone(&node))),
            tokio::spawn(keep_time(Arc::clone(&node))),
            tokio::spawn(forward_dead_letters(Arc::clone(&node))),
            tokio::spawn(announce(Arc::clone(&node))),
        ];
        Ok(Self {
            node,
            addresses,
            listeners,
            watchers,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A URI of its first address for the default user and virtual host.
    #[must_use]
    pub fn uri(&self) -> String {
        let address = self
            .addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// What it runs on, for changes while it runs.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Accepts nobody any more, closes all connections with 320 and waits for
    /// them, for a while.
    pub async fn shutdown(mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            listener.abort();
            // Until it has ended, it could still accept somebody who would
            // then not be told.
            let _ = listener.await;
        }
        self.node
            .close_connections("broker forced connection closure with reason 'shutdown'");
        if tokio::time::timeout(DRAIN_TIMEOUT, self.node.drained())
            .await
            .is_err()
        {
            let left = self.node.connection_count();
            tracing::warn!(left, "connections did not close in time");
        }
        if let Some(storage) = self.node.storage().cloned() {
            let closed = tokio::task::spawn_blocking(move || storage.close());
            if closed.await.is_err() {
                tracing::error!("closing the store has panicked");
            }
        }
    }

    /// Completes if nothing can be stored any more, with the cause. Publishers
    /// are blocked from then on and what they wait for is refused; all that is
    /// left is to shut down and to start anew.
    pub async fn failed(&self) -> String {
        let mut ticks = tokio::time::interval(FAILURE_CHECK);
        loop {
            ticks.tick().await;
            let failure = self.node.storage().and_then(|storage| storage.failure());
            if let Some(cause) = failure {
                self.node.alarms().raise(Alarm::Disk);
                return cause;
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
        for watcher in &self.watchers {
            watcher.abort();
        }
        self.node.close_connections("broker stopped");
    }
}

fn amqp_settings(config: &Config) -> AmqpSettings {
    let (server, amqp, limits) = (&config.server, &config.amqp, &config.limits);
    AmqpSettings {
        session: SessionSettings {
            limits: Limits {
                frame_max: amqp.frame_max,
                table_depth_max: limits.table_depth_max,
                table_entries_max: limits.table_entries_max,
            },
            channel_max: amqp.channel_max,
            heartbeat_seconds: amqp.heartbeat_seconds,
            message_bytes_max: limits.message_bytes_max,
            server_properties: SessionSettings::server_properties(
                &server.product,
                &server.version,
                &server.cluster_name,
            ),
        },
        handshake_timeout: amqp.handshake_timeout,
        handshakes_max: amqp.handshakes_max as usize,
        unsettled_max: limits.unsettled_per_channel_max.unwrap_or(0),
    }
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    let limits = &config.limits;
    ConnectionLimits {
        total: limits.connections_max,
        per_address: limits.connections_per_address_max,
        per_user: limits.connections_per_user_max,
        per_vhost: limits.connections_per_vhost_max,
        outbox_bytes: usize::try_from(limits.outbox_bytes_max).unwrap_or(usize::MAX),
    }
}

fn store_settings(config: &Config) -> StoreSettings {
    let store = &config.store;
    StoreSettings {
        fsync: store.fsync,
        log_bytes: store.log_bytes,
        segment_bytes: store.segment_bytes,
    }
}

fn monitor_settings(config: &Config) -> MonitorSettings {
    MonitorSettings {
        data_dir: config.server.data_dir.clone(),
        disk_free_min: config.store.disk_free_min,
        memory_max: config.limits.memory_max,
    }
}

/// How often it is looked at whether the store has failed.
const FAILURE_CHECK: Duration = Duration::from_millis(50);
/// How long connections may take to close at a shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
