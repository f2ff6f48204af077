//! What is written and what is found again.

use crate::model::{ExchangeName, ExchangeSettings, QueueId, QueueName, QueueSettings, VhostName};
use crate::routing::Binding;

/// One step of the definitions on disk. To put what is there replaces it; to
/// delete what is missing changes nothing. Nothing is removed along with
/// something else: whoever deletes a queue says which bindings went with it.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there are few, for a moment")]
pub enum Change {
    /// A virtual host is there; it goes before all that is in it.
    PutVhost(VhostName),
    /// A durable exchange is there.
    PutExchange(VhostName, ExchangeName, ExchangeSettings),
    /// An exchange is gone.
    DeleteExchange(VhostName, ExchangeName),
    /// A durable queue is there. No queue gets its id, or one below it, again.
    PutQueue(VhostName, QueueName, QueueId, QueueSettings),
    /// A queue is gone.
    DeleteQueue(VhostName, QueueName),
    /// A binding between durable things is there.
    Bind(VhostName, Binding),
    /// A binding is gone.
    Unbind(VhostName, Binding),
    /// No queue gets an id below this one any more.
    ReserveQueueIds(QueueId),
}

/// Everything that was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Definitions {
    /// The virtual hosts, by name.
    pub vhosts: Vec<VhostDefinitions>,
    /// The first id that no durable queue ever had. Queues with this id or a
    /// later one were transient, and what is left of them is nobody's.
    pub next_queue_id: QueueId,
}

/// What was stored of one virtual host.
///
/// Settings are as declared, that is flags and arguments; what follows from
/// the arguments is for `policy` to say again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VhostDefinitions {
    /// Its name.
    pub name: VhostName,
    /// Its exchanges, by name, without those that every virtual host has.
    pub exchanges: Vec<(ExchangeName, ExchangeSettings)>,
    /// Its queues, by name.
    pub queues: Vec<(QueueName, QueueId, QueueSettings)>,
    /// Its bindings, in the order in which they were made.
    pub bindings: Vec<Binding>,
}

impl VhostDefinitions {
    /// By what ids the store knows what is here: queues, and exchanges that
    /// remember names.
    pub fn store_ids(&self) -> impl Iterator<Item = QueueId> {
        let queues = self.queues.iter().map(|(_, id, _)| *id);
        let exchanges = self.exchanges.iter();
        queues.chain(exchanges.filter_map(|(_, settings)| settings.names_id))
    }
}

impl Default for Definitions {
    fn default() -> Self {
        Self {
            vhosts: Vec::new(),
            next_queue_id: FIRST_QUEUE_ID,
        }
    }
}

/// Ids are counted from 1.
const FIRST_QUEUE_ID: QueueId = QueueId(1);
