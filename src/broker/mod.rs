//! Owns every state: virtual hosts with their catalogs and queue hosts, users,
//! the publish path. It carries out what the pure layers decide and knows no
//! wire format beyond the messages' own.
//!
//! Locks are taken in one order and held for a few lines, never across an
//! await: catalog, then histories, then one queue, then one outbox.

mod access;
mod alarms;
mod clock;
mod dead_letters;
mod definitions;
mod durability;
mod exchange_memory;
mod exchanges;
mod histories;
mod ledger;
mod monitor;
mod node;
mod notices;
mod outbox;
mod properties;
mod publish;
mod queue_host;
mod queues;
mod random;
mod recovery;
mod relief;
mod reply_to;
mod rulebook;
mod storage;
mod timers;
mod vhost;

pub use crate::store::Settled;
pub use access::{Access, LoginRefused};
pub use alarms::{Alarm, AlarmSet, Alarms};
pub use clock::Clock;
pub use dead_letters::{DeadLetterCounts, DeadLetters, forward_dead_letters};
pub use definitions::Definition;
pub use durability::{Durability, InMemory, Waiters};
pub use exchanges::{BindRequest, ExchangeRequest};
pub use monitor::{MonitorSettings, monitor};
pub use node::{ConnectionLimits, Node};
pub use notices::{ConnectionFacts, ConsumerFacts, Notices, announce};
pub use outbox::{Outbox, Outgoing, Wakes};
pub use publish::{Incoming, Publisher};
pub use queue_host::{Cancelled, QueueHost};
pub use queues::{QueueRequest, QueueStatus};
pub use random::{consumer_tag, queue_name};
pub use relief::relieve;
pub use reply_to::{REPLY_TO, ReplyTargets};
pub use rulebook::{Rulebook, VhostLimits};
pub use storage::{Recovered, Storage, StorageError};
pub use timers::keep_time;
pub use vhost::{Requester, Vhost};
