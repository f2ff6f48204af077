//! Accepts connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::Node;
use crate::session::SessionSettings;

use super::connection;

/// What a listener needs to know beyond its address.
#[derive(Clone, Debug)]
pub struct AmqpSettings {
    /// What sessions offer and allow.
    pub session: SessionSettings,
    /// From accept to `connection.open`, all of it.
    pub handshake_timeout: Duration,
    /// Connections that have not logged in yet.
    pub handshakes_max: usize,
    /// Deliveries that a channel may hold unsettled; 0 is unlimited.
    pub unsettled_max: u32,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    node: Arc<Node>,
    settings: Arc<AmqpSettings>,
    handshakes: Arc<Semaphore>,
}

impl Listener {
    /// Binds; clients can connect from now on, and are served by
    /// [`Listener::serve`].
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        node: Arc<Node>,
        settings: Arc<AmqpSettings>,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let handshakes = Arc::new(Semaphore::new(settings.handshakes_max));
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            node,
            settings,
            handshakes,
        })
    }

    /// Where it listens, with the port that it was given.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves clients for as long as it is polled.
    pub async fn serve(self) {
        while let Some(permit) = self.handshake_permit().await {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: they come back as
                    // connections end, and a busy loop would not hasten it.
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let outbox = match self.node.connect(peer.ip()) {
                Ok(outbox) => outbox,
                Err(reason) => {
                    tracing::warn!(%peer, reason, "connection refused");
                    continue;
                }
            };
            let (node, settings) = (Arc::clone(&self.node), Arc::clone(&self.settings));
            tokio::spawn(connection::serve(
                stream, peer, outbox, node, settings, permit,
            ));
        }
    }

    /// Leave for one more handshake. Who comes while there is none waits in the
    /// system's backlog.
    async fn handshake_permit(&self) -> Option<OwnedSemaphorePermit> {
        if self.handshakes.available_permits() == 0 {
            let limit = self.settings.handshakes_max;
            tracing::warn!(limit, "too many handshakes at once: new connections wait");
        }
        Arc::clone(&self.handshakes).acquire_owned().await.ok()
    }
}

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
