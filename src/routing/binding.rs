//! One binding, as listed and as kept.

use std::sync::Arc;

use leveret_protocol::{SmolStr, table};

use super::persistent::{Sequenced, hash_of};
use crate::model::{Destination, ExchangeName, FieldTable};

/// A way from an exchange to a queue or to another exchange. All four parts
/// make its identity: the same source and destination can be bound by several
/// keys, and by one key with several arguments.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Where messages come from.
    pub source: ExchangeName,
    /// Where they go.
    pub destination: Destination,
    /// What a direct exchange compares and a topic exchange takes as a
    /// pattern; at most 255 octets, being a short string.
    pub routing_key: SmolStr,
    /// What a headers exchange compares. Their order has no meaning.
    pub arguments: Arc<FieldTable>,
}

/// Why a binding is not made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BindRefused {
    /// Every queue is bound to the default exchange already, and no other way.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// The source does not exist.
    #[error("the source exchange does not exist")]
    SourceMissing,
    /// The destination is an exchange that does not exist.
    #[error("the destination exchange does not exist")]
    DestinationMissing,
    /// The exchange type does not take these arguments; the text is RabbitMQ's.
    #[error("{0}")]
    Arguments(String),
}

/// What a removal took with it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    /// Whether there was something to remove.
    pub existed: bool,
    /// Auto-delete exchanges that lost their last binding and went too, in
    /// the order in which they went.
    pub auto_deleted: Vec<ExchangeName>,
}

/// A binding in the table.
#[derive(Debug)]
pub(super) struct Bound {
    pub binding: Binding,
    /// Grows with each bind; orders the bindings of an exchange.
    pub sequence: u64,
    /// The same for all bindings to one destination, and no other's.
    pub destination_id: u64,
    pub identity: Identity,
}

/// What tells bindings of one source apart.
#[derive(Debug, Eq, Hash, PartialEq)]
pub(super) struct Identity {
    destination: Destination,
    routing_key: SmolStr,
    /// In wire form and sorted, which compares what field values cannot (NaN).
    arguments: Box<[u8]>,
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && Identity::of(self) == Identity::of(other)
    }
}

impl Eq for Binding {}

impl Identity {
    pub fn of(binding: &Binding) -> Self {
        let mut arguments = Vec::new();
        if !binding.arguments.is_empty() {
            let mut sorted: Vec<_> = binding.arguments.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            let sorted = sorted.into_iter().map(|(k, v)| (k.clone(), v.clone()));
            table::encode(&mut arguments, &sorted.collect());
        }
        Self {
            destination: binding.destination.clone(),
            routing_key: binding.routing_key.clone(),
            arguments: arguments.into(),
        }
    }

    pub fn hash(&self) -> u64 {
        hash_of(self)
    }
}

impl Sequenced for Arc<Bound> {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}
